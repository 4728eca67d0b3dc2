//! Ring 3: the handle of a container's packets, with the kernel's own counters as the judges: `nft`, `iptables`, `tc`.

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

#[path = "ring3_net/deaths.rs"]
mod deaths;
#[path = "ring3_net/handles.rs"]
mod handles;
#[path = "ring3_net/hostile.rs"]
mod hostile;
#[path = "ring3_net/tags.rs"]
mod tags;
#[path = "ring3_net/world.rs"]
mod world;

use std::process::ExitCode;

use support::ring;

fn main() -> ExitCode {
    ring::main(&[tags::TRIALS, handles::TRIALS, hostile::TRIALS, deaths::TRIALS].concat())
}
