//! Ring 3: what a user of a systemd host sees of berth, sentence by sentence, with systemd's own tools as the judges.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::missing_docs_in_private_items,
    clippy::too_many_lines,
    reason = "a test says what it expects; its name is its sentence"
)]

mod support;

#[path = "ring3_user/boots.rs"]
mod boots;
#[path = "ring3_user/capabilities.rs"]
mod capabilities;
#[path = "ring3_user/daemon.rs"]
mod daemon;
#[path = "ring3_user/disk.rs"]
mod disk;
#[path = "ring3_user/ends.rs"]
mod ends;
#[path = "ring3_user/exec.rs"]
mod exec;
#[path = "ring3_user/fetch.rs"]
mod fetch;
#[path = "ring3_user/files.rs"]
mod files;
#[path = "ring3_user/identity.rs"]
mod identity;
#[path = "ring3_user/image.rs"]
mod image;
#[path = "ring3_user/isolation.rs"]
mod isolation;
#[path = "ring3_user/mesos.rs"]
mod mesos;
#[path = "ring3_user/native.rs"]
mod native;
#[path = "ring3_user/refusals.rs"]
mod refusals;
#[path = "ring3_user/rlimits.rs"]
mod rlimits;
#[path = "ring3_user/update.rs"]
mod update;
#[path = "ring3_user/volumes.rs"]
mod volumes;

use std::process::ExitCode;

use support::berth::SOON;
use support::{berth, cgroup, ring};

fn main() -> ExitCode {
    let mut trials = [
        files::TRIALS,
        native::TRIALS,
        ends::TRIALS,
        refusals::TRIALS,
        isolation::TRIALS,
        image::TRIALS,
        update::TRIALS,
        mesos::TRIALS,
        volumes::TRIALS,
        identity::TRIALS,
        capabilities::TRIALS,
        rlimits::TRIALS,
        disk::TRIALS,
        daemon::TRIALS,
        exec::TRIALS,
        fetch::TRIALS,
    ]
    .concat();
    trials.push(("boot_keeps_the_order_where_the_bus_is_slow", boots::boot_keeps_the_order_where_the_bus_is_slow));
    trials.push(("vendor_specs_wait_for_enable", boots::vendor_specs_wait_for_enable));
    trials.push(("boot_keeps_the_order_of_containers", boots::boot_keeps_the_order_of_containers));
    let mut lacking = Vec::new();
    match without_memory_controller() {
        None => trials.push(ends::OOM),
        Some(reason) => lacking.push((ends::OOM, reason)),
    }
    ring::not_here(&mut trials, &mut lacking, &NOT_HERE);
    let code = ring::main_but(&trials, &lacking);
    berth::end_shared();
    code
}

/// What a test does not survive that runs on the host itself.
const NOT_HERE: [(&str, &str); 4] = [
    ("boot_keeps_the_order_where_the_bus_is_slow", "it reboots the host"),
    ("a_container_moves_between_images_and_is_taken_back", "it reboots the host, and umoci makes its images beside it"),
    ("vendor_specs_wait_for_enable", "it reboots the host; ring4_boot does"),
    ("boot_keeps_the_order_of_containers", "it reboots the host; ring4_boot does"),
];

/// Why no host here can limit memory, if so: its cgroup is a child of the machine's, which has to hand it on.
fn without_memory_controller() -> Option<String> {
    let file = cgroup::mount_point().ok()?.join("cgroup.subtree_control");
    let controllers = std::fs::read_to_string(&file).unwrap_or_default();
    let has = controllers.split_whitespace().any(|controller| controller == "memory");
    (!has).then(|| format!("no memory controller for hosts ({} says {:?})", file.display(), controllers.trim()))
}
