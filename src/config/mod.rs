//! berthd's own configuration.

use crate::spec::Bytes;

/// The administrator's word on namespaces.
#[derive(Debug, Clone)]
pub struct NamespacePolicy {
    /// Whether a spec may share the host's pid namespace.
    pub allow_host_pid: bool,
    /// Whether a spec may share the host's ipc namespace.
    pub allow_host_ipc: bool,
    /// Default size of a private `/dev/shm`.
    pub shm_size: Option<Bytes>,
}
