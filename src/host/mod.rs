//! Facts about the host, read once: what isolators may count on.

use std::{fs, path::PathBuf};

use serde::Serialize;

use crate::{root::Root, spec::CapabilitySet};

/// Control groups.
pub mod cgroups;
/// Mounts.
pub mod mounts;
/// The network.
pub mod network;
/// Users and groups.
pub mod users;

/// What this host is.
#[derive(Debug, Clone, Serialize)]
pub struct Host {
    /// Where things lie.
    #[serde(skip)]
    pub root: Root,
    /// `uname -r`.
    pub kernel: String,
    /// Whether systemd is the service manager (sd_booted(3)).
    pub systemd: bool,
    /// Whether this process is root: only root can isolate.
    pub privileged: bool,
    /// Namespaces that the kernel offers, by their names in `/proc/self/ns`.
    pub namespaces: Vec<String>,
    /// `/proc/sys/kernel/cap_last_cap`.
    pub last_capability: Option<u8>,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
}

impl Host {
    /// Reads the facts below `root`. What cannot be read is absent, never guessed.
    #[must_use]
    pub fn read(root: &Root) -> Self {
        let text = |path: &str| fs::read_to_string(root.at(path)).unwrap_or_default().trim().to_owned();
        let mut namespaces: Vec<String> = fs::read_dir(root.at("/proc/self/ns"))
            .map(|entries| entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect())
            .unwrap_or_default();
        namespaces.sort();
        Self {
            kernel: text("/proc/sys/kernel/osrelease"),
            systemd: root.systemd_booted(),
            privileged: nix::unistd::geteuid().is_root(),
            namespaces,
            last_capability: text("/proc/sys/kernel/cap_last_cap").parse().ok(),
            boot_id: text("/proc/sys/kernel/random/boot_id"),
            root: root.clone(),
        }
    }

    /// Whether the kernel offers a kind of namespace.
    #[must_use]
    pub fn has_namespace(&self, kind: &str) -> bool {
        self.namespaces.iter().any(|name| name == kind)
    }

    /// All capabilities of the kernel; where it does not tell, all that berth knows.
    #[must_use]
    pub fn capabilities(&self) -> CapabilitySet {
        self.last_capability.map_or(CapabilitySet::NAMED, CapabilitySet::up_to)
    }

    /// Where a path of the host lies below the root.
    #[must_use]
    pub fn path(&self, path: &std::path::Path) -> PathBuf {
        self.root.at(&path.to_string_lossy())
    }
}
