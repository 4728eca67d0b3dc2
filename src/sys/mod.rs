//! System calls that no crate wraps, and the kernel's text files.
//!
//! All unsafe code of the program is in here: one system call a block, and `OwnedFd`, `io::Result` and plain
//! numbers outside. Where nix or rustix has a safe call, it is used, here or at its place.

pub mod activation;
pub mod bpf;
pub mod dquot;
pub mod memory;
pub mod mount;
pub mod netlink;
pub mod priority;
pub mod proc;
pub mod process;
pub mod quota;
pub mod seccomp;
pub mod session;
