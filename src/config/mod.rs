//! berthd's own configuration: `berthd.toml`, drop-ins, `BERTHD_*`, flags, in rising precedence.

mod capabilities;
mod disk;
mod fragment;
mod images;
mod load;

use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

pub use disk::{DiskConfig, XfsConfig};
pub(crate) use fragment::ConfigFragment;
pub use images::{GcConfig, ImagesConfig, Insecure, LimitsConfig, RegistryConfig};

use crate::spec::{Bytes, Capabilities, Defaults, words::Timespan};

/// What berthd is told.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Config {
    /// Who runs containers.
    pub manager: ManagerChoice,
    /// Names of the isolators that are enabled; unset: all that this host can do.
    pub isolation: Option<Vec<String>>,
    /// A spec that lies under every spec.
    #[serde(skip)]
    pub defaults: Defaults,
    /// What specs may ask of namespaces.
    pub namespaces: NamespacesConfig,
    /// Handles for containers' packets.
    pub net_cls: NetClsConfig,
    /// What specs get of capabilities that say nothing of them; `bounding` is the ceiling of all.
    pub capabilities: Capabilities,
    /// Where images are fetched from, and as whom; how far they are trusted; how long they are kept.
    pub images: ImagesConfig,
    /// How the disk is watched.
    pub disk: DiskConfig,
    /// Project quotas.
    pub xfs: XfsConfig,
    /// How long sandboxes are kept.
    pub sandbox: SandboxConfig,
    /// What is measured.
    pub statistics: StatisticsConfig,
    /// What berthd says.
    pub log: LogConfig,
    /// The files that it was read from, in rising precedence.
    #[serde(skip)]
    pub files: Vec<PathBuf>,
}

/// Who runs containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ManagerChoice {
    /// systemd where it is this host's service manager, else berthd.
    #[default]
    Auto,
    /// systemd.
    Systemd,
    /// berthd itself.
    Direct,
}

/// What specs may ask of namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct NamespacesConfig {
    /// Whether a spec may say `pid = "host"`.
    pub allow_host_pid: bool,
    /// Whether a spec may say `ipc = "host"`.
    pub allow_host_ipc: bool,
    /// Size of a private `/dev/shm` whose spec names none.
    #[serde(serialize_with = "shown")]
    pub shm_size: Option<Bytes>,
}

/// Handles for containers' packets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetClsConfig {
    /// The upper half of every handle; none: the operator sets the handles.
    pub primary_handle: Option<u16>,
    /// What berthd chooses the lower half from: ascending, without zero.
    pub secondary_handles: Vec<RangeInclusive<u16>>,
    /// What tags.
    pub backend: NetClsBackend,
    /// How long a handle rests before another container gets it.
    #[serde(serialize_with = "span")]
    pub reuse_delay: Duration,
    /// Whether `net_cls` may be used though it ends matching by cgroup2 on this kernel.
    pub accept_v2_match_loss: bool,
}

/// What tags a container's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetClsBackend {
    /// `net_cls` where the host can, else `bpf`.
    #[default]
    Auto,
    /// The v1 controller: `net_cls.classid`.
    NetCls,
    /// eBPF programs on the cgroup2 cgroup: mark and priority.
    Bpf,
    /// Both.
    Both,
}

/// How long sandboxes of past runs are kept; the first limit that is reached counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SandboxConfig {
    /// How many past runs of a container.
    pub keep: u32,
    /// How long; [`Duration::MAX`] is for ever.
    #[serde(serialize_with = "span")]
    pub max_age: Duration,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StatisticsConfig {
    /// How often; [`Duration::MAX`] is never.
    #[serde(serialize_with = "span")]
    pub interval: Duration,
}

/// What berthd says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct LogConfig {
    /// Least important level that is said.
    pub level: Level,
}

/// How important a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// What failed.
    Error,
    /// What will.
    Warn,
    /// What changed.
    #[default]
    Info,
    /// Why.
    Debug,
    /// Everything.
    Trace,
}

/// Flags of the command line, highest of all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Overrides {
    /// `--manager`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manager: Option<String>,
    /// `--isolation`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Vec<String>>,
    /// `[log]`.
    pub log: LogOverrides,
}

/// Flags about the log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LogOverrides {
    /// `--log-level`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
}

impl Default for NamespacesConfig {
    fn default() -> Self {
        Self { allow_host_pid: true, allow_host_ipc: true, shm_size: None }
    }
}

impl Default for NetClsConfig {
    fn default() -> Self {
        Self {
            primary_handle: None,
            secondary_handles: vec![1..=u16::MAX],
            backend: NetClsBackend::Auto,
            reuse_delay: Duration::from_secs(60),
            accept_v2_match_loss: false,
        }
    }
}

impl Default for SandboxConfig {
    fn default() -> Self {
        Self { keep: 5, max_age: Duration::from_secs(7 * 24 * 60 * 60) }
    }
}

impl Default for StatisticsConfig {
    fn default() -> Self {
        Self { interval: Duration::from_secs(15) }
    }
}

/// A size as it is written in TOML.
#[allow(clippy::ref_option, reason = "serde gives references")]
fn shown<S: serde::Serializer>(size: &Option<Bytes>, serializer: S) -> Result<S::Ok, S::Error> {
    size.map(|size| size.to_string()).serialize(serializer)
}

/// A span as it is written in TOML.
fn span<S: serde::Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    Timespan(*span).serialize(serializer)
}
