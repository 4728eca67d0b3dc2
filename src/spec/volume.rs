//! `[[volumes]]`: parts of the filesystem that the container sees differently.

use std::{collections::BTreeSet, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{Bytes, Identity, Pull, UserName};
use crate::image;

/// A part of the filesystem that the container sees at another place (Mesos's Volume).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Normalized; where the container sees it. Absolute: without an image it must exist on the host. Relative: in the
    /// sandbox, made where it is not.
    pub container_path: PathBuf,
    /// What it sees there.
    #[serde(flatten)]
    pub source: VolumeSource,
    /// Defaults to `RW`; an image is always `RO`.
    pub mode: VolumeMode,
    /// The part of the source that is seen, resolved beneath it. Defaults to all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subpath: Option<PathBuf>,
    /// How a source is made that the host does not have. Defaults to not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<Ownership>,
    /// Of an image: when its source is asked for it. Defaults to `missing`.
    #[serde(default, skip_serializing_if = "Pull::is_missing")]
    pub pull: Pull,
    /// What it denies beyond what the mounts of the source do.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub options: BTreeSet<MountOption>,
    /// Defaults to `host_to_container`, as in Mesos; with `RO` to `private`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagation: Option<Propagation>,
    /// What may lie in it, in bytes; only of one in the sandbox. Without, it counts to the sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Bytes>,
}

/// What a volume shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeSource {
    /// Absolute: on the host. Relative: inside the sandbox, created with owner and mode of what it covers.
    #[serde(rename = "host_path")]
    Path(PathBuf),
    /// A filesystem in memory that ends with the run.
    #[serde(rename = "tmpfs")]
    Tmpfs(Tmpfs),
    /// What is in an image.
    #[serde(rename = "image")]
    Image(image::Source),
}

/// A filesystem in memory (tmpfs(5)); nosuid and nodev.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    /// Defaults to the kernel's: half of RAM.
    pub size: Option<Bytes>,
    /// Of its directory. Defaults to mode 1777.
    pub ownership: Ownership,
}

/// What is made for a volume: mode and owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ownership {
    /// 0..=0o7777.
    pub mode: u32,
    /// As the container knows it: with an image by its users. Defaults to the program's user.
    pub owner: Option<Owner>,
}

/// A user and perhaps a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// A name or a uid.
    pub user: UserName,
    /// A name or a gid. Defaults to the user's primary group.
    pub group: Option<UserName>,
}

impl From<Owner> for Identity {
    fn from(Owner { user, group }: Owner) -> Self {
        Self { user: Some(user), group, supplementary_groups: Vec::new() }
    }
}

/// Whether a volume may be written; honoured recursively.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum VolumeMode {
    /// Read and write.
    #[default]
    RW,
    /// Read only, with every mount below it.
    RO,
}

/// What a volume is. Defaults to `bind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeType {
    /// A part of the host or of the sandbox.
    #[default]
    Bind,
    /// A filesystem in memory.
    Tmpfs,
    /// An image.
    Image,
}

/// What a mount denies (mount(8)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountOption {
    /// Set-user-ID bits and capabilities of files count for nothing.
    Nosuid,
    /// Device nodes cannot be opened.
    Nodev,
    /// Programs cannot be executed.
    Noexec,
}

/// Which mounts made later are seen where (mount_namespaces(7)); the words are Mesos's and Kubernetes's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Propagation {
    /// None.
    Private,
    /// The container sees what the host mounts below the source.
    #[default]
    HostToContainer,
    /// And the host sees what the container mounts there.
    Bidirectional,
}

impl Volume {
    /// Whether the container sees the same of both, whatever their limits are; `pull` counts at the next start, whichever
    /// that is.
    #[must_use]
    pub fn shows_as(&self, other: &Self) -> bool {
        *self == Self { limit: self.limit, pull: self.pull, ..other.clone() }
    }

    /// The path in the sandbox that it shows, if it does.
    #[must_use]
    pub fn in_sandbox(&self) -> Option<&PathBuf> {
        match &self.source {
            VolumeSource::Path(path) if path.is_relative() => Some(path),
            _ => None,
        }
    }

    /// Which mounts made later are seen where. Below what is read-only none are: they would arrive writable.
    #[must_use]
    pub fn propagation(&self) -> Propagation {
        match self.mode {
            VolumeMode::RO => Propagation::Private,
            VolumeMode::RW => self.propagation.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_older_versions_are_read_and_keep_their_digest() {
        let old = r#"{"container_path":"/data","host_path":"/srv","mode":"RO"}"#;
        let volume: Volume = serde_json::from_str(old).unwrap();
        assert_eq!(volume.source, VolumeSource::Path("/srv".into()));
        assert_eq!(volume.propagation(), Propagation::Private);
        assert_eq!(serde_json::to_string(&volume).unwrap(), old);
    }
}
