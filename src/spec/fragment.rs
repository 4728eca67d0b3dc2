//! One TOML file of a spec as it stands: every key optional, every value in an operator's words.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    Bytes, Capabilities, Enforce, HandleChoice, MachineId, MountOption, OnChange, Propagation, Pull, Resource, Restart,
    SandboxMode, Share, Signal, VolumeMode, VolumeType,
    words::{
        self, CapabilityWord, Choice, CommandWord, FileMode, GroupWord, RlimitWord, Timespan, Umask, UserWord, choice,
        optional,
    },
};
use crate::source::{Shape, keys};

/// A spec file, a drop-in, `[defaults]`, or all of them merged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct Fragment {
    /// One line for people. Defaults to none.
    pub description: Option<String>,
    /// Whether berthd starts it on its own. Defaults to true under `/etc` and `/run`, false elsewhere.
    pub autostart: Option<bool>,
    /// What an edit that cannot be applied live does. Defaults to `restart`.
    #[serde(default, deserialize_with = "choice")]
    pub on_change: Option<OnChange>,
    /// What runs.
    pub command: Option<CommandWord>,
    /// As whom it runs. Defaults to root.
    pub user: Option<UserWord>,
    /// Groups beside the user's own. Defaults to none.
    pub supplementary_groups: Option<Vec<GroupWord>>,
    /// Where it starts. Defaults to the sandbox.
    pub working_directory: Option<String>,
    /// Added to the default environment. Defaults to nothing.
    pub environment: Option<BTreeMap<String, String>>,
    /// File mode creation mask. Defaults to `"0022"`.
    pub umask: Option<Umask>,
    /// Whether each run has a sandbox of its own. Defaults to `fresh`.
    #[serde(default, deserialize_with = "choice")]
    pub sandbox: Option<SandboxMode>,
    /// Its own root. Defaults to the host's filesystem.
    pub image: Option<ImageFragment>,
    /// What it calls itself. Defaults to its name where it has an image.
    pub hostname: Option<String>,
    /// What `/etc/machine-id` says. Defaults to `image`.
    #[serde(default, deserialize_with = "choice")]
    pub machine_id: Option<MachineId>,
    /// Parts of the filesystem seen differently. Defaults to none.
    pub volumes: Option<Vec<VolumeFragment>>,
    /// What it may take of the disk.
    pub disk: Option<DiskFragment>,
    /// Namespaces.
    pub namespaces: Option<NamespacesFragment>,
    /// The network.
    pub network: Option<NetworkFragment>,
    /// What of root's power it has.
    pub capabilities: Option<CapabilitiesFragment>,
    /// Whether nothing that it executes gives it privileges. Defaults to true where the isolator is enabled.
    pub no_new_privileges: Option<bool>,
    /// Resource limits, by name. Defaults to what the service manager gives.
    pub rlimits: Option<BTreeMap<String, RlimitWord>>,
    /// What the service manager decides.
    pub service: Option<ServiceFragment>,
}

/// `[image]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct ImageFragment {
    /// What the root is made from: `docker://`, `oci:`, `oci-archive:`, `docker-archive:` or `rootfs:`.
    pub source: Option<String>,
    /// Whether nothing in it can be changed. Defaults to false.
    pub read_only: Option<bool>,
    /// Whether changes go to the directory itself. Defaults to false.
    pub writable: Option<bool>,
    /// When its source is asked for it. Defaults to `missing`.
    #[serde(default, deserialize_with = "choice")]
    pub pull: Option<Pull>,
}

/// `[[volumes]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct VolumeFragment {
    /// Where the container sees it.
    pub container_path: Option<String>,
    /// What it is. Defaults to `bind`.
    #[serde(rename = "type", default, deserialize_with = "choice")]
    pub kind: Option<VolumeType>,
    /// What it sees there: relative to the sandbox, or absolute on the host.
    pub host_path: Option<String>,
    /// Of an image: which.
    pub source: Option<String>,
    /// Of an image: when its source is asked for it. Defaults to `missing`.
    #[serde(default, deserialize_with = "choice")]
    pub pull: Option<Pull>,
    /// The part of the source that is seen. Defaults to all of it.
    pub subpath: Option<String>,
    /// Defaults to `RW`; an image is always `RO`.
    #[serde(default, deserialize_with = "choice")]
    pub mode: Option<VolumeMode>,
    /// Whether a source that the host does not have is made. Defaults to false.
    pub create: Option<bool>,
    /// Mode of what is made. Defaults to `"0755"`, of a tmpfs to `"1777"`.
    pub directory_mode: Option<FileMode>,
    /// Owner of what is made. Defaults to the program's user.
    pub owner: Option<UserWord>,
    /// Of a tmpfs. Defaults to half of RAM.
    #[serde(default, deserialize_with = "optional")]
    pub size: Option<Bytes>,
    /// What it denies. Defaults to nothing more than the source does.
    pub options: Option<Vec<Choice<MountOption>>>,
    /// Which mounts made later are seen where. Defaults to `host_to_container`, with `RO` to `private`.
    #[serde(default, deserialize_with = "choice")]
    pub propagation: Option<Propagation>,
    /// What may lie in it, of one in the sandbox. Defaults to none of its own: it counts to the sandbox.
    #[serde(default, deserialize_with = "optional")]
    pub limit: Option<Bytes>,
}

/// `[disk]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct DiskFragment {
    /// Of the sandbox and what is changed of the image. Defaults to none.
    #[serde(default, deserialize_with = "optional")]
    pub limit: Option<Bytes>,
    /// The same in files. Defaults to none.
    pub inodes: Option<u64>,
    /// Defaults to `account`, unless `berthd.toml` enforces quotas.
    #[serde(default, deserialize_with = "choice")]
    pub enforce: Option<Enforce>,
}

/// `[namespaces]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct NamespacesFragment {
    /// Defaults to private where the isolator is enabled.
    #[serde(default, deserialize_with = "choice")]
    pub pid: Option<Share>,
    /// Defaults to private where the isolator is enabled.
    #[serde(default, deserialize_with = "choice")]
    pub ipc: Option<Share>,
    /// Size of a private `/dev/shm`. Defaults to `berthd.toml`'s, else half of RAM.
    #[serde(default, deserialize_with = "optional")]
    pub shm_size: Option<Bytes>,
}

/// `[network]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct NetworkFragment {
    /// The net_cls handle. Defaults to `auto` where `cgroups/net_cls` is enabled.
    #[serde(default, deserialize_with = "optional")]
    pub handle: Option<HandleChoice>,
}

/// `[capabilities]`, of a spec and of `berthd.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct CapabilitiesFragment {
    /// What the program has. Defaults to `berthd.toml`'s; else a user's has none, and root's all of `bounding`.
    pub effective: Option<Vec<CapabilityWord>>,
    /// What it and all that it executes can have at most. Defaults to `berthd.toml`'s, else to `effective`, else to
    /// the OCI default.
    pub bounding: Option<Vec<CapabilityWord>>,
}

impl From<CapabilitiesFragment> for Capabilities {
    fn from(fragment: CapabilitiesFragment) -> Self {
        let set = |words: Option<Vec<CapabilityWord>>| words.map(|words| CapabilityWord::set(&words));
        Self { effective: set(fragment.effective), bounding: set(fragment.bounding) }
    }
}

/// `[service]`, in systemd's words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct ServiceFragment {
    /// `Restart=`. Defaults to `on-failure`.
    #[serde(default, deserialize_with = "choice")]
    pub restart: Option<Restart>,
    /// `RestartSec=`. Defaults to `1s`.
    pub restart_delay: Option<Timespan>,
    /// `StartLimitBurst=` and `StartLimitIntervalSec=`. Defaults to 5 in `10s`.
    pub start_limit: Option<StartLimitFragment>,
    /// `TimeoutStartSec=`. Defaults to `1m 30s`.
    pub start_timeout: Option<Timespan>,
    /// `KillSignal=`. Defaults to the image's `StopSignal`, else `SIGTERM`.
    #[serde(default, deserialize_with = "optional")]
    pub stop_signal: Option<Signal>,
    /// `TimeoutStopSec=`. Defaults to `10s`.
    pub stop_timeout: Option<Timespan>,
    /// `After=`. Defaults to none.
    pub after: Option<Vec<String>>,
    /// `Before=`. Defaults to none.
    pub before: Option<Vec<String>>,
    /// `Requires=`. Defaults to none.
    pub requires: Option<Vec<String>>,
    /// `Wants=`. Defaults to none.
    pub wants: Option<Vec<String>>,
    /// Whether a minimal init is PID 1. Defaults to false.
    pub init: Option<bool>,
}

/// `service.start_limit`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct StartLimitFragment {
    /// Starts; 0 switches the limit off. Defaults to 5.
    pub burst: Option<u32>,
    /// In this time. Defaults to `10s`.
    pub interval: Option<Timespan>,
}

impl Shape for Fragment {
    fn tables() -> Vec<(String, &'static [&'static str])> {
        [
            ("", keys::<Self>()),
            ("command", keys::<words::CommandTable>()),
            ("image", keys::<ImageFragment>()),
            ("volumes", keys::<VolumeFragment>()),
            ("disk", keys::<DiskFragment>()),
            ("namespaces", keys::<NamespacesFragment>()),
            ("network", keys::<NetworkFragment>()),
            ("capabilities", keys::<CapabilitiesFragment>()),
            ("rlimits", Resource::NAMES),
            ("service", keys::<ServiceFragment>()),
            ("service.start_limit", keys::<StartLimitFragment>()),
        ]
        .map(|(table, keys)| (table.to_owned(), keys))
        .into()
    }
}
