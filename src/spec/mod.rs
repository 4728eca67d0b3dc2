//! ① Files to [`Spec`]: what an operator wrote, merged, checked, with its place kept for every complaint.
//!
//! Three stages: a *fragment* is one TOML file as it stands, a *draft* is all fragments merged
//! (`[defaults]`, spec, drop-ins), a [`Spec`] is valid by construction.

pub mod command;
mod types;

pub use types::{
    Bytes, Command, Identity, Name, NameError, Namespaces, OnChange, Restart, SandboxMode, Service, Share, Signal,
    Spec, StartLimit, UserName, Volume, VolumeMode,
};
