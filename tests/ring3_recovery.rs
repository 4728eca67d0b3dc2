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

#[path = "ring3_recovery/deaths.rs"]
mod deaths;
#[path = "ring3_recovery/world.rs"]
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    support::ring::main(&[
        ("a_killed_berthd_is_missed_by_nobody", deaths::missed_by_nobody),
        ("what_changed_while_berthd_was_dead_is_done_once", deaths::caught_up_once),
        ("who_ended_while_berthd_was_dead_is_cleaned_up", deaths::ended_meanwhile),
        ("a_dead_berthd_is_told_from_a_living_one", deaths::stale_is_said),
    ])
}
