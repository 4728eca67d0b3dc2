//! Ring 3: recovery. Whatever is killed, restarted, filled up or broken, what runs goes on, nothing is lost, nothing
//! is doubled, nothing stays behind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::missing_docs_in_private_items,
    missing_debug_implementations,
    reason = "a test that cannot go on fails, aloud"
)]

mod support;

#[path = "ring3_recovery/churn.rs"]
mod churn;
#[path = "ring3_recovery/crowd.rs"]
mod crowd;
#[path = "ring3_recovery/deaths.rs"]
mod deaths;
#[path = "ring3_recovery/disk.rs"]
mod disk;
#[path = "ring3_recovery/images.rs"]
mod images;
#[path = "ring3_recovery/launcher.rs"]
mod launcher;
#[path = "ring3_recovery/power.rs"]
mod power;
#[path = "ring3_recovery/records.rs"]
mod records;
#[path = "ring3_recovery/restarts.rs"]
mod restarts;
#[path = "ring3_recovery/world.rs"]
mod world;

use std::process::ExitCode;

use support::{host::Suite, ring};

/// What a test does not survive that runs on the host itself; ring 4 has its own way.
const NOT_HERE: [(&str, &str); 2] = [
    ("a_reboot_starts_what_is_to_run", "it reboots the host; ring4_boot does the same"),
    ("a_loss_of_power_is_as_good_as_a_reboot", "it pulls the plug; ring4_boot does the same"),
];

fn main() -> ExitCode {
    let mut trials = vec![
        ("a_killed_berthd_is_missed_by_nobody", deaths::missed_by_nobody as fn(Suite)),
        ("what_changed_while_berthd_was_dead_is_done_once", deaths::caught_up_once),
        ("who_ended_while_berthd_was_dead_is_cleaned_up", deaths::ended_meanwhile),
        ("a_dead_berthd_is_told_from_a_living_one", deaths::stale_is_said),
        ("a_stop_after_a_broken_start_is_obeyed", deaths::stopped_after_a_broken_start),
        ("a_spec_that_goes_and_comes_back_runs", deaths::gone_and_back),
        ("a_hundred_deaths_of_berthd_lose_nothing_and_double_nothing", churn::churn),
        ("a_launcher_killed_at_any_system_call_leaves_nothing", launcher::killed_everywhere),
        ("a_death_while_a_root_is_made_leaves_nothing", launcher::killed_while_a_root_is_made),
        ("a_death_of_berthd_while_it_imports_an_image_is_made_good", images::killed_while_it_imports),
        ("damaged_records_spoil_only_themselves", records::damaged),
        ("a_full_disk_under_var_fails_starts_and_nothing_else", disk::durable),
        ("a_full_runtime_directory_fails_starts_and_nothing_else", disk::runtime),
        ("a_full_run_delays_settings_and_nothing_else", disk::all_of_run),
        ("restarts_of_berthd_and_systemd_touch_no_container", restarts::of_systemd),
        ("a_bus_that_goes_and_comes_is_waited_out", restarts::of_the_bus),
        ("a_launch_without_berthd_waits_and_then_fails", restarts::without_berthd),
        ("a_reboot_starts_what_is_to_run", power::rebooted),
        ("a_loss_of_power_is_as_good_as_a_reboot", power::powered_off),
        ("two_hundred_at_once", crowd::two_hundred),
        ("a_second_berthd_is_refused", crowd::two_berthds),
        ("one_launch_asked_twice_is_one_run", crowd::one_launch_asked_twice),
    ];
    let mut lacking = Vec::new();
    ring::not_here(&mut trials, &mut lacking, &NOT_HERE);
    ring::main_but(&trials, &lacking)
}
