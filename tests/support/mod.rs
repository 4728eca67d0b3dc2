//! What the test rings share. Every test file takes of it what it needs: `mod support;`.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::missing_docs_in_private_items,
    reason = "a test says what it expects"
)]

pub mod berth;
pub mod cgroup;
pub mod here;
pub mod host;
pub mod inside;
pub mod ring;
pub mod tree;
