//! ① Files to [`Spec`]: what an operator wrote, merged, checked, with its place kept for every complaint.
//!
//! Three stages: a *fragment* is one TOML file as it stands, a *draft* is all fragments merged
//! (`[defaults]`, spec, drop-ins), a [`Spec`] is valid by construction.

mod assemble;
mod capability;
pub mod command;
mod digest;
pub(crate) mod fragment;
mod load;
mod origins;
mod rlimit;
mod types;
mod validate;
mod volume;
pub(crate) mod words;

pub use crate::source::{Diagnostic, Severity};
pub(crate) use assemble::check_defaults;
pub use capability::{ALL_WORD, Capabilities, Capability, CapabilitySet};
pub use digest::{digest, short_hash};
pub use load::{Catalog, Claim, Defaults, Loaded, Outcome, load, load_all, load_files};
pub use origins::{Origin, origins, origins_of_file};
pub use rlimit::{Resource, Rlimit, Rlimits};
pub use types::{
    Bytes, Command, Disk, Enforce, Handle, HandleChoice, Identity, Image, MachineId, Name, NameError, Namespaces,
    Network, OnChange, Pull, Restart, SandboxMode, Service, Share, Signal, Spec, StartLimit, UserName,
};
pub(crate) use validate::{beyond_bounding, kernel_tree};
pub use volume::{MountOption, Owner, Ownership, Propagation, Tmpfs, Volume, VolumeMode, VolumeSource, VolumeType};
