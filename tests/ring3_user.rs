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

#[path = "ring3_user/daemon.rs"]
mod daemon;
#[path = "ring3_user/ends.rs"]
mod ends;
#[path = "ring3_user/files.rs"]
mod files;
#[path = "ring3_user/identity.rs"]
mod identity;
#[path = "ring3_user/isolation.rs"]
mod isolation;
#[path = "ring3_user/native.rs"]
mod native;
#[path = "ring3_user/refusals.rs"]
mod refusals;

use std::process::ExitCode;

use support::berth::SOON;
use support::{berth, ring};

fn main() -> ExitCode {
    let trials = [
        files::TRIALS,
        native::TRIALS,
        ends::TRIALS,
        refusals::TRIALS,
        isolation::TRIALS,
        identity::TRIALS,
        daemon::TRIALS,
    ]
    .concat();
    let code = ring::main(&trials);
    berth::end_shared();
    code
}
