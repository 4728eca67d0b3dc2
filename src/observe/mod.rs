//! ⑦ What is so, for people and programs: the state file and those who read it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    manager::{Exit, Kind},
    protocol::Failure,
    root::Layer,
    spec::Name,
};

/// Version of the state file's form; a reader refuses a greater one.
pub const SCHEMA: u32 = 1;

/// `/run/berth/state.json`: replaced atomically, readable by everybody, true as of `written`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// [`SCHEMA`].
    pub schema: u32,
    /// `/proc/sys/kernel/random/boot_id` when it was written: a reader can tell yesterday's truth.
    pub boot_id: String,
    /// When, in RFC 3339, UTC.
    pub written: String,
    /// The daemon.
    pub daemon: Daemon,
    /// All containers, by name.
    pub containers: Vec<Container>,
    /// Problems of files that belong to no container: misnamed specs, the configuration.
    pub problems: Vec<String>,
}

/// berthd itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Daemon {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Its service manager.
    pub manager: Kind,
    /// Why the service manager cannot be reached, if so.
    pub manager_away: Option<String>,
    /// The one line that `systemctl status berthd` shows.
    pub status: String,
    /// Enabled isolators, in order.
    pub isolation: Vec<String>,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// Its name.
    pub name: Name,
    /// In one word.
    pub state: Lifecycle,
    /// Its unit.
    pub unit: String,
    /// Its main process, as the host numbers it.
    pub main_pid: Option<u32>,
    /// Since when it is in this state, RFC 3339, UTC; none if unknown.
    pub since: Option<String>,
    /// How its program ended last.
    pub exit: Option<Exit>,
    /// systemd's `Result` of the last run, where it was not `success`.
    pub result: Option<String>,
    /// Why the last start failed before the program began.
    pub error: Option<Failure>,
    /// Automatic restarts since the last start by hand.
    pub restarts: u32,
    /// Its files.
    pub spec: SpecStatus,
    /// The sandbox of the present or last run.
    pub sandbox: Option<PathBuf>,
    /// Its log, where the journal does not have it.
    pub log: Option<PathBuf>,
    /// Its control group, below the cgroup mount.
    pub cgroup: Option<String>,
    /// What each isolator says.
    pub isolators: Vec<IsolatorStatus>,
}

/// The state of a container in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lifecycle {
    /// Never started in this boot.
    Inactive,
    /// On its way up.
    Starting,
    /// Runs.
    Running,
    /// On its way down.
    Stopping,
    /// Ended, waits for its automatic restart.
    Restarting,
    /// Stopped by an operator or a dependency.
    Stopped,
    /// Ended by itself, cleanly.
    Exited,
    /// Could not start, or ended as it should not.
    Failed,
    /// Its spec has never been valid; it cannot start.
    Invalid,
    /// Its spec or its unit is masked.
    Masked,
}

/// The spec of a container, as berthd sees its files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpecStatus {
    /// The spec, then its drop-ins.
    pub files: Vec<PathBuf>,
    /// Where the spec lies.
    pub layer: Option<Layer>,
    /// Whether berthd starts it on its own.
    pub autostart: bool,
    /// Digest of the last good spec.
    pub digest: Option<String>,
    /// Digest of the spec that the present run was started with.
    pub running: Option<String>,
    /// Keys in which the two differ and that only a restart applies.
    pub pending: Vec<String>,
    /// Mistakes, `file:line:column: key: message`, one each.
    pub errors: Vec<String>,
    /// Doubts, in the same form.
    pub warnings: Vec<String>,
}

/// What one isolator says of one container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IsolatorStatus {
    /// Which.
    pub name: String,
    /// In a few words; none if it could not tell.
    pub detail: Option<String>,
    /// Why it could not tell.
    pub error: Option<String>,
}
