//! What a run may take of the disk, and who sees to it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::spec::{Bytes, Enforce};

/// What is counted of a run, and up to where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskPlan {
    /// The isolator that counts.
    pub isolator: String,
    /// What happens at a limit.
    pub enforce: Enforce,
    /// The sandbox first, then volumes that have a limit of their own.
    pub tracked: Vec<Tracked>,
}

/// Directories that one limit holds for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracked {
    /// Which volume; none: the sandbox, but for such volumes, and what the run has changed of its image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<TrackedVolume>,
    /// In bytes of allocated blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Bytes>,
    /// In inodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inodes: Option<u64>,
}

/// A volume that has a limit of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackedVolume {
    /// Where the container sees it.
    pub container_path: PathBuf,
    /// Where it lies, relative to the sandbox.
    pub path: PathBuf,
}

impl DiskPlan {
    /// Whether there is a limit of any kind.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.tracked.iter().any(|tracked| tracked.limit.is_some() || tracked.inodes.is_some())
    }

    /// What does not count to the sandbox, relative to it.
    pub fn excluded(&self) -> impl Iterator<Item = &Path> {
        self.tracked.iter().filter_map(|tracked| tracked.volume.as_ref()).map(|volume| volume.path.as_path())
    }
}
