//! berth runs containers on one Linux host from TOML files.
//!
//! The modules in the order of the flow, from a file in `/etc/berth/containers` to a running container and back:

/// Where things lie.
pub mod root;

/// TOML files with the place of every key; what specs and configuration share.
mod source;

/// berthd's own configuration.
pub mod config;

/// ① Files to `Spec`.
pub mod spec;

/// ② `Spec` and host to `Plan`.
pub mod plan;

/// What berthd, the launcher and the operator's tool say to each other.
pub mod protocol;

/// What `berthctl` does.
pub mod cli;
