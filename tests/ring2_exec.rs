//! Ring 2: the real `berthctl exec` as root on this machine's own kernel, into containers of the real `berth-launch`,
//! with a pretended berthd and, for the terminal's part, a real shell on a terminal of its own.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test that cannot go on fails")]

#[path = "ring2_exec/cases.rs"]
mod cases;
#[path = "ring2_exec/container.rs"]
mod container;
#[path = "ring2_exec/jobs.rs"]
mod jobs;
#[path = "ring2_exec/shell.rs"]
mod shell;
#[path = "ring2_launch/world.rs"]
#[allow(dead_code, reason = "a launch has more ways to go wrong than are needed here")]
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
    let trials = cases::ALL.iter().chain(jobs::ALL);
    let trials = trials
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
