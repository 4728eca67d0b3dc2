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

/// ⑤⑥ From the plan to the program: `berth-launch`.
pub mod launch;

/// System calls that no crate wraps; the only unsafe code.
pub mod sys;
