//! The vocabulary of a spec. Each type carries its rule, so that a [`Spec`] that exists is valid.

use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Capabilities, Rlimits, Volume, VolumeSource};
use crate::image::Source;

/// A container, as merged and checked from its files.
///
/// Its serialized form is what records and `berthctl --json` hold; the TOML that people write is read by the
/// fragment types of this module's siblings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// One line for people. Defaults to none.
    pub description: Option<String>,
    /// Whether berthd starts it on its own. Defaults to true under `/etc` and `/run`, false elsewhere.
    pub autostart: bool,
    /// What an edit that cannot be applied live does. Defaults to `restart`.
    pub on_change: OnChange,
    /// What runs.
    pub command: Command,
    /// As whom it runs. Defaults to root.
    pub identity: Identity,
    /// Where it starts. Defaults to the sandbox, as in Mesos.
    pub working_directory: Option<PathBuf>,
    /// Added to the default environment, overriding it.
    pub environment: BTreeMap<String, String>,
    /// File mode creation mask, 0..=0o777. Defaults to 0o022.
    pub umask: u32,
    /// Whether each run has a sandbox of its own. Defaults to `fresh`.
    pub sandbox: SandboxMode,
    /// Its own root, in place of the host's filesystem. Without one left out, so that older specs keep their digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    /// What it calls itself. Defaults to its name where it has an image, else it is the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// What `/etc/machine-id` of its image says. Defaults to what the image has.
    #[serde(default, skip_serializing_if = "MachineId::is_image")]
    pub machine_id: MachineId,
    /// Parts of the filesystem that the container sees differently, in the order written.
    pub volumes: Vec<Volume>,
    /// What it may take of the disk. Without a word on it left out, so that older specs keep their digest.
    #[serde(default, skip_serializing_if = "Disk::is_unset")]
    pub disk: Disk,
    /// Namespaces.
    pub namespaces: Namespaces,
    /// The network.
    pub network: Network,
    /// What of root's power it has. Without a word on it left out, so that older specs keep their digest.
    #[serde(default, skip_serializing_if = "Capabilities::is_unset")]
    pub capabilities: Capabilities,
    /// Whether nothing that it executes gives it privileges. Defaults to true where `linux/nnp` is enabled. Unset it is
    /// left out, so that older specs keep their digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_new_privileges: Option<bool>,
    /// Resource limits. Without one left out, so that older specs keep their digest.
    #[serde(default, skip_serializing_if = "Rlimits::is_empty")]
    pub rlimits: Rlimits,
    /// What systemd decides: restarts, stops, order.
    pub service: Service,
}

impl Spec {
    /// Every image that it needs, and when its source is asked for it: its root's, then those that volumes show.
    pub fn images(&self) -> impl Iterator<Item = (&Source, Pull)> {
        let volumes = self.volumes.iter().filter_map(|volume| match &volume.source {
            VolumeSource::Image(source) => Some((source, volume.pull)),
            _ => None,
        });
        self.image.iter().map(|image| (&image.source, image.pull)).chain(volumes)
    }
}

/// What an edit that cannot be applied live does to a running container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnChange {
    /// Restart it.
    #[default]
    Restart,
    /// Leave it; the change is shown as pending until the operator restarts it.
    Manual,
}

/// Mesos's CommandInfo (mesos.proto): `shell` with `value`, or `value` with `arguments`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Whether `value` is given to `/bin/sh -c`.
    pub shell: bool,
    /// The program, or the shell's command line.
    pub value: Option<String>,
    /// With `value`: the whole argv, `arguments[0]` included.
    pub arguments: Vec<String>,
}

/// Who the program is. Names are resolved at each start.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Identity {
    /// A name or a uid. Defaults to root.
    pub user: Option<UserName>,
    /// A name or a gid. Defaults to the user's primary group.
    pub group: Option<UserName>,
    /// Names or gids beside the user's own supplementary groups.
    pub supplementary_groups: Vec<UserName>,
}

/// A user or group as written: digits are an ID, all else is a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserName {
    /// A numeric uid or gid.
    Id(u32),
    /// A name for the user database.
    Name(String),
}

/// Where a container's own root comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// What it is made from.
    pub source: Source,
    /// Whether nothing in it can be changed. Defaults to false: what is changed is the run's own.
    pub read_only: bool,
    /// Whether changes go to the directory of a `rootfs:` itself. Defaults to false.
    pub writable: bool,
    /// When its source is asked for it. Defaults to `missing`; a directory is used as it is.
    #[serde(default, skip_serializing_if = "Pull::is_missing")]
    pub pull: Pull,
}

impl Image {
    /// Whether both give one root: `pull` counts at the next start, whichever that is.
    #[must_use]
    pub fn gives_the_same(&self, other: &Self) -> bool {
        let Self { source, read_only, writable, pull: _ } = self;
        (source, read_only, writable) == (&other.source, &other.read_only, &other.writable)
    }
}

/// When the source of an image is asked for it: by a start, of the registry or of the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pull {
    /// When it is not on this host.
    #[default]
    Missing,
    /// At every start, which fails where it cannot be had.
    Always,
    /// At every start; what is on this host serves where it cannot be had.
    Newer,
    /// Never.
    Never,
}

impl Pull {
    /// Whether it is the default.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        *self == Self::Missing
    }
}

/// What `/etc/machine-id` (machine-id(5)) of a container with an image says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MachineId {
    /// What the image has there.
    #[default]
    Image,
    /// The host's.
    Host,
    /// One of the container's own, the same at each start on this host.
    Own,
}

impl MachineId {
    /// Whether the image's stays.
    #[must_use]
    pub fn is_image(&self) -> bool {
        *self == Self::Image
    }
}

/// Whether a run starts with an empty sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SandboxMode {
    /// A new directory for each run; old ones follow the retention rule.
    #[default]
    Fresh,
    /// One directory that all runs share.
    Persistent,
}

/// What a container may take of the disk: its sandbox, with what it changes of its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Disk {
    /// In bytes, above 0. Defaults to no limit.
    pub limit: Option<Bytes>,
    /// In files, directories and all else that has an inode, above 0. Defaults to no limit.
    pub inodes: Option<u64>,
    /// What happens at a limit. Unset: `account`, unless `berthd.toml` enforces quotas.
    pub enforce: Option<Enforce>,
}

impl Disk {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_unset(&self) -> bool {
        *self == Self::default()
    }
}

/// What happens to a container that takes more of the disk than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enforce {
    /// The write fails with ENOSPC or EDQUOT, and the container lives.
    Hard,
    /// The container is ended.
    Kill,
    /// It is shown.
    Account,
}

impl Enforce {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hard => "hard",
            Self::Kill => "kill",
            Self::Account => "account",
        }
    }
}

/// The namespaces of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Namespaces {
    /// Unset: private where `namespaces/pid` is enabled, else the host's.
    pub pid: Option<Share>,
    /// Unset: private where `namespaces/ipc` is enabled, else the host's.
    pub ipc: Option<Share>,
    /// Size of `/dev/shm`; only with a private ipc namespace. Defaults to the kernel's (half of RAM).
    pub shm_size: Option<Bytes>,
}

/// Whose namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Share {
    /// The container's own.
    Private,
    /// The host's.
    Host,
}

/// How the container uses the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Network {
    /// Unset: `auto` where `cgroups/net_cls` is enabled, else none.
    pub handle: Option<HandleChoice>,
}

/// Which handle tags the container's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HandleChoice {
    /// One that berthd chooses under the host's primary; without a primary, whatever the operator sets.
    Auto,
    /// No tag.
    None,
    /// This one.
    Fixed(Handle),
}

/// A net_cls handle (`net_cls.classid`): a primary of 16 bits above a secondary of 16 bits, as major and minor of a
/// tc(8) class. Zero is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Handle(pub u32);

impl Handle {
    /// From its halves.
    #[must_use]
    pub fn of(primary: u16, secondary: u16) -> Self {
        Self(u32::from(primary) << 16 | u32::from(secondary))
    }

    /// The upper half: the host's.
    #[must_use]
    pub fn primary(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// The lower half: the container's.
    #[must_use]
    pub fn secondary(self) -> u16 {
        (self.0 & 0xffff) as u16
    }

    /// As tc(8) writes it: hexadecimal without leading zeros.
    #[must_use]
    pub fn tc(self) -> String {
        format!("{:x}:{:x}", self.primary(), self.secondary())
    }
}

/// What the service manager decides about the container, in systemd's words (systemd.service(5)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// `Restart=`. Defaults to `on-failure`.
    pub restart: Restart,
    /// `RestartSec=`. Defaults to 1 s.
    pub restart_delay: Duration,
    /// `StartLimitBurst=` and `StartLimitIntervalSec=`. Defaults to 5 in 10 s.
    pub start_limit: StartLimit,
    /// `TimeoutStartSec=`. Defaults to 90 s.
    pub start_timeout: Duration,
    /// `KillSignal=`. Defaults to the image's `StopSignal`, and without one to SIGTERM.
    pub stop_signal: Option<Signal>,
    /// `TimeoutStopSec=`. Defaults to 10 s.
    pub stop_timeout: Duration,
    /// `After=`: units that this one starts after.
    pub after: Vec<String>,
    /// `Before=`: units that this one starts before.
    pub before: Vec<String>,
    /// `Requires=`: units that are started with it, and whose end is its end.
    pub requires: Vec<String>,
    /// `Wants=`: units that are started with it.
    pub wants: Vec<String>,
    /// Whether a minimal init is PID 1 of the container, reaping and forwarding. Defaults to false.
    pub init: bool,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            restart: Restart::OnFailure,
            restart_delay: Duration::from_secs(1),
            start_limit: StartLimit { burst: 5, interval: Duration::from_secs(10) },
            start_timeout: Duration::from_secs(90),
            stop_signal: None,
            stop_timeout: Duration::from_secs(10),
            after: Vec::new(),
            before: Vec::new(),
            requires: Vec::new(),
            wants: Vec::new(),
            init: false,
        }
    }
}

/// `Restart=` of systemd.service(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never.
    No,
    /// After a clean exit.
    OnSuccess,
    /// After an unclean exit code, a signal, a timeout or a watchdog.
    OnFailure,
    /// After a signal, a timeout or a watchdog.
    OnAbnormal,
    /// After an uncaught signal.
    OnAbort,
    /// Always.
    Always,
}

/// How often a container may start in how long a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartLimit {
    /// Starts; 0 switches the limit off.
    pub burst: u32,
    /// The time in which they are counted.
    pub interval: Duration,
}

/// A signal by its kernel number, 1..=64, written by name (`SIGTERM`, `TERM`, `SIGRTMIN+3`) or number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal(pub i32);

impl Signal {
    /// SIGTERM.
    pub const TERM: Self = Self(15);
    /// SIGKILL.
    pub const KILL: Self = Self(9);
}

/// A number of bytes; written with units of 1024 as in systemd (`64M` and `64MiB` are 64·2^20).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Bytes(pub u64);

/// A container's name: the name of its file, and the instance of its unit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Why a name is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing, or too long for a unit name (systemd.unit(5): 255 with prefix and suffix) and a file name.
    #[error("a container's name has 1 to 200 characters, this one has {0}")]
    Length(usize),
    /// A character that a unit instance, a path or a cgroup cannot carry as it is.
    #[error("'{0}' is not allowed in a container's name; use letters, digits, '-' and '_'")]
    Character(char),
    /// A first character that programs take for an option or a hidden file.
    #[error("a container's name begins with a letter or a digit")]
    First,
    /// A word that the cgroup tree or the program itself needs.
    #[error("the name '{0}' is reserved")]
    Reserved(String),
}

impl Name {
    /// Words that name something else in a cgroup tree or a directory of berth's (mesos.md §17.22).
    pub const RESERVED: [&str; 5] = ["mesos", "slave", "agent", "leaf", "latest"];

    /// Longest name: `berth@` and `.service` beside it must fit in 255.
    const MAX: usize = 200;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of its unit.
    #[must_use]
    pub fn unit(&self) -> String {
        format!("berth@{}.service", self.0)
    }

    /// The container whose unit this is, if it is one.
    #[must_use]
    pub fn from_unit(unit: &str) -> Option<Self> {
        unit.strip_prefix("berth@")?.strip_suffix(".service")?.parse().ok()
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let length = text.chars().count();
        if length == 0 || length > Self::MAX {
            return Err(NameError::Length(length));
        }
        if let Some(bad) = text.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_')) {
            return Err(NameError::Character(bad));
        }
        if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(NameError::First);
        }
        if Self::RESERVED.contains(&text) {
            return Err(NameError::Reserved(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
