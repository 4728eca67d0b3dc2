//! Ring 2: the real `berth-launch` as root on this machine's own kernel, with a pretended berthd and a pretended
//! systemd, in a mount namespace of its own.
//!
//! The pretended systemd is this process: the launcher's parent, and so the parent of the container too.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test that cannot go on fails")]

#[path = "ring2_launch/capabilities.rs"]
mod capabilities;
#[path = "ring2_launch/cases.rs"]
mod cases;
#[path = "ring2_launch/limits.rs"]
mod limits;
#[path = "ring2_launch/populate.rs"]
mod populate;
#[path = "ring2_launch/root.rs"]
mod root;
#[path = "ring2_launch/volumes.rs"]
mod volumes;
#[path = "ring2_launch/world.rs"]
mod world;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use nix::sched::{CloneFlags, unshare};

fn main() -> ExitCode {
    let able = nix::unistd::geteuid().is_root()
        && unshare(CloneFlags::CLONE_NEWNS).is_ok()
        && berth::sys::mount::isolate().is_ok();
    let required = std::env::var_os("BERTH_REQUIRE_RINGS").is_some_and(|value| value == "1");
    if !able {
        eprintln!("ring 2 NOT RUN: needs root with CAP_SYS_ADMIN");
    }
    let trials = cases::ALL
        .iter()
        .chain(capabilities::ALL)
        .chain(limits::ALL)
        .chain(populate::ALL)
        .chain(root::ALL)
        .chain(volumes::ALL)
        .map(|(name, case)| {
            Trial::test(*name, move || {
                assert!(able, "ring 2 is required (BERTH_REQUIRE_RINGS=1) and cannot run here");
                case();
                Ok(())
            })
            .with_ignored_flag(!able && !required)
        })
        .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
