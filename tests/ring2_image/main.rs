//! Ring 2: images that umoci and skopeo made, and images that nobody should make, through the real `berthctl` and the real
//! store, as root, in a mount namespace of its own.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test that cannot go on fails")]
#![allow(
    clippy::missing_docs_in_private_items,
    missing_debug_implementations,
    reason = "a trial's name says what it tries"
)]

mod hostile;
mod store;
mod trees;
mod world;

use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Trial};
use nix::sched::{CloneFlags, unshare};

/// A trial's name and what it does.
type Case = (&'static str, fn());

fn main() -> ExitCode {
    let has = |tool: &str| Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success());
    let root = nix::unistd::geteuid().is_root()
        && unshare(CloneFlags::CLONE_NEWNS).is_ok()
        && berth::sys::mount::isolate().is_ok();
    let able = root && has("umoci") && has("skopeo") && has("strace");
    let required = std::env::var_os("BERTH_REQUIRE_RINGS").is_some_and(|value| value == "1");
    if !able {
        eprintln!("ring 2 NOT RUN: needs root with CAP_SYS_ADMIN, umoci, skopeo and strace (tests/install-needs test)");
    }
    let all: Vec<Case> = [trees::ALL, hostile::ALL, store::ALL].concat();
    let trials = all
        .into_iter()
        .map(|(name, case)| {
            Trial::test(name, move || {
                assert!(able, "ring 2 is required (BERTH_REQUIRE_RINGS=1) and cannot run here");
                case();
                Ok(())
            })
            .with_ignored_flag(!able && !required)
        })
        .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
