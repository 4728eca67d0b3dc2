//! berth runs containers on one Linux host from TOML files.
//!
//! The modules in the order of the flow, from a file in `/etc/berth/containers` to a running container and back.
//! `docs/architecture.md` tells the same in prose.

/// Where things lie.
pub mod root;

/// TOML files with the place of every key; what specs and configuration share.
mod source;

/// ① Files to `Spec`.
pub mod spec;

/// berthd's own configuration.
pub mod config;

/// Images: where they come from, what they say, how they lie on disk.
pub mod image;

/// Images from registries: `berth-pull`.
pub mod pull;

/// Facts about the host.
pub mod host;

/// Files and users inside a root that is not the host's.
pub mod inside;

/// ② `Spec` and host to `Plan`.
pub mod plan;

/// ② ③ ⑤ ⑦ ⑧ The concerns of isolation.
pub mod isolators;

/// ③ ④ Who starts and stops.
pub mod manager;

/// What berthd, the launcher and the operator's tool say to each other.
pub mod protocol;

/// ⑤ ⑥ From the plan to the program: `berth-launch`.
pub mod launch;

/// ⑦ What is so, for people and programs.
pub mod observe;

/// ⑧ What survives us.
pub mod state;

/// Joins ①–⑧: `berthd`.
pub mod supervisor;

/// The operator's tool: `berthctl`.
pub mod cli;

/// Events with their IDs.
pub mod journal;

/// Times as text.
pub mod clock;

/// Errors as people read them.
pub mod error;

/// System calls that no crate wraps; the only unsafe code.
pub mod sys;
