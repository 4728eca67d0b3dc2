//! Ring 2: the real `berth-pull` against a real registry, in a network namespace that has nothing but its loopback, and
//! against servers that lie.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::missing_docs_in_private_items,
    reason = "a test that cannot go on fails"
)]

#[path = "ring2_pull/connect.rs"]
mod connect;
#[path = "ring2_pull/ctl.rs"]
mod ctl;
#[path = "ring2_pull/honest.rs"]
mod honest;
#[path = "ring2_pull/liars.rs"]
mod liars;
#[path = "ring2_pull/proxy.rs"]
mod proxy;
#[path = "ring2_pull/pull.rs"]
mod pull;
#[path = "ring2_pull/registry.rs"]
mod registry;
#[path = "ring2_pull/server.rs"]
mod server;
#[path = "ring2_pull/start.rs"]
mod start;

use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Trial};
use nix::sched::{CloneFlags, unshare};

fn main() -> ExitCode {
    let needs = ["docker-registry", "skopeo", "htpasswd", "openssl", "ip"];
    let missing: Vec<&str> =
        needs.into_iter().filter(|tool| Command::new(tool).arg("--help").output().is_err()).collect();
    let able = missing.is_empty()
        && nix::unistd::geteuid().is_root()
        && unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).is_ok()
        && berth::sys::mount::isolate().is_ok()
        && Command::new("ip").args(["link", "set", "lo", "up"]).status().is_ok_and(|status| status.success());
    let required = std::env::var_os("BERTH_REQUIRE_RINGS").is_some_and(|value| value == "1");
    if !able {
        eprintln!("ring 2 NOT RUN: needs root with CAP_SYS_ADMIN, and: {}", missing.join(" "));
    }
    let trials = honest::ALL.iter().chain(liars::ALL).chain(ctl::ALL).chain(connect::ALL).chain(start::ALL);
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
