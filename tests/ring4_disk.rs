//! Ring 4: quotas that the kernel keeps, on an XFS and an ext4 of a machine's own. Their own tools are the judges.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::missing_docs_in_private_items,
    reason = "a test says what it expects; its name is its sentence"
)]

mod support;

#[path = "ring4_disk/ids.rs"]
mod ids;
#[path = "ring4_disk/limits.rs"]
mod limits;
#[path = "ring4_disk/walls.rs"]
mod walls;
#[path = "ring4_disk/world.rs"]
mod world;

use std::process::ExitCode;

use support::ring::{self, Test};

/// Whoever changes nothing else than the disk shares what it boots with others of its kind.
const TRIALS: &[Test] = &[
    ("a_limit_is_the_containers_disk_on_xfs", |suite| limits::hard(suite, world::Face::Xfs)),
    ("a_limit_is_the_containers_disk_on_ext4", |suite| limits::hard(suite, world::Face::Ext4)),
    ("who_passes_a_limit_of_xfs_is_ended", |suite| limits::kill(suite, world::Face::Xfs)),
    ("who_passes_a_limit_of_ext4_is_ended", |suite| limits::kill(suite, world::Face::Ext4)),
    ("nobody_leaves_a_project_of_xfs", |suite| walls::closed(suite, world::Face::Xfs)),
    ("nobody_leaves_a_project_of_ext4", |suite| walls::closed(suite, world::Face::Ext4)),
    ("project_ids_are_given_once_on_xfs", |suite| ids::given_once(suite, world::Face::Xfs)),
    ("project_ids_are_given_once_on_ext4", |suite| ids::given_once(suite, world::Face::Ext4)),
];

fn main() -> ExitCode {
    ring::main_on_a_machine(TRIALS)
}
