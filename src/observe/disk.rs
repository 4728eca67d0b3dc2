//! What of the disk is in use, and what was passed, in Mesos's names (mesos.proto).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Mesos's `DiskStatistics`, and the same in inodes. What is absent is not known, or not limited.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DiskStatistics {
    /// Which volume; none: the sandbox, with what was changed of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence: Option<Persistence>,
    /// In bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
    /// In bytes of allocated blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_bytes: Option<u64>,
    /// In inodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_inodes: Option<u64>,
    /// In inodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_inodes: Option<u64>,
}

/// Mesos's `DiskInfo.Persistence`: a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persistence {
    /// The volume's `host_path`, relative to the sandbox.
    pub id: String,
    /// Where the container sees it.
    pub container_path: PathBuf,
}

/// Mesos's `ContainerLimitation`: what a container was ended for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Limitation {
    /// The resource.
    pub reason: LimitReason,
    /// In a sentence.
    pub message: String,
    /// The limits that were passed.
    pub limited_resources: Vec<LimitedResource>,
}

/// Which kind of resource was used up (Mesos: `REASON_CONTAINER_LIMITATION_DISK`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LimitReason {
    /// The disk.
    Disk,
}

/// Mesos's `Resource`, as far as it is one of the disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LimitedResource {
    /// `disk`, in units of 2^20 bytes, or `inodes`.
    pub name: String,
    /// Always `SCALAR`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The limit.
    pub scalar: Scalar,
    /// The volume that it is of; none: the sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskInfo>,
}

/// Mesos's `Value.Scalar`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scalar {
    /// The number.
    pub value: f64,
}

/// Mesos's `Resource.DiskInfo`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskInfo {
    /// Which volume.
    pub persistence: Persistence,
}
