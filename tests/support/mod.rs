//! What the test rings share. Every test file takes of it what it needs: `mod support;`.
#![allow(dead_code)]

pub mod berth;
pub mod cgroup;
pub mod host;
pub mod inside;
pub mod ring;
pub mod tree;
