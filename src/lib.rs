//! berth runs containers on one Linux host from TOML files.
//!
//! The modules in the order of the flow, from a file in `/etc/berth/containers` to a running container and back:

/// Where things lie.
pub mod root;

/// ① Files to `Spec`.
pub mod spec;

/// ② `Spec` and host to `Plan`.
pub mod plan;

/// What berthd, the launcher and the operator's tool say to each other.
pub mod protocol;

/// ③ ④ Who starts and stops.
pub mod manager;

/// ⑦ What is so, for people and programs.
pub mod observe;
