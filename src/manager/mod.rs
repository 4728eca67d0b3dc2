//! ③ ④ Who starts and stops: systemd where it is PID 1's, berthd itself elsewhere.
//!
//! Both are one trait; nothing above it knows which is in use. An [`Order`] goes in, an [`Event`] comes out
//! whenever the world changes, asked for or not.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::{plan::UnitSettings, spec::Name};

/// Hosts with systemd.
pub mod systemd;

/// Hosts without systemd.
pub mod direct;

/// A service manager, running as a task of berthd's event loop; this is its handle.
pub trait ServiceManager: std::fmt::Debug {
    /// Which one.
    fn kind(&self) -> Kind;

    /// Hands it an order; the outcome comes as events.
    fn order(&self, order: Order);
}

/// The two managers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// systemd, over D-Bus.
    Systemd,
    /// berthd itself.
    Direct,
}

/// Where a manager's events go.
pub type Events = mpsc::UnboundedSender<Event>;

/// What a manager is asked to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// Makes the settings true (`None`: the container is gone), with at most one reload, then does the jobs in
    /// their order.
    Apply(Batch),
    /// The launcher of a container has its child at the gate. systemd learns this from `MAINPID=`, the direct
    /// manager here.
    Armed {
        /// Whose.
        name: Name,
        /// Of which start.
        invocation: String,
        /// The child.
        process: Process,
    },
    /// A start takes longer, and may take `by` from now. systemd learns this from `EXTEND_TIMEOUT_USEC=`, the direct
    /// manager here.
    Extend {
        /// Whose.
        name: Name,
        /// How long.
        by: std::time::Duration,
    },
    /// A container that an earlier berthd started and that may still run.
    Adopt {
        /// Whose.
        name: Name,
        /// Of which start.
        invocation: String,
        /// Its main process; none if it was never armed.
        process: Option<Process>,
        /// Its settings at the time.
        settings: Box<UnitSettings>,
    },
    /// Forgets that a unit failed.
    ResetFailed(Name),
    /// Kills the main process of a unit, and nothing else: what follows is what follows when a program is killed.
    KillMain(Name),
}

/// Settings and jobs that belong together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Batch {
    /// Wanted settings of the units named; `None` removes them.
    pub settings: BTreeMap<Name, Option<UnitSettings>>,
    /// In order.
    pub jobs: Vec<Job>,
}

/// One job of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// What.
    pub verb: JobVerb,
    /// To whom.
    pub name: Name,
    /// Comes back in [`Event::JobDone`].
    pub token: u64,
}

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobVerb {
    /// Starts what does not run.
    Start,
    /// Stops what runs.
    Stop,
    /// Stops what runs, then starts.
    Restart,
    /// As `Restart`, but leaves alone what does not run: an operator's stop is not undone.
    TryRestart,
}

/// What a manager reports.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Every unit of berth's that it knows: after connecting, and after reconnecting.
    Snapshot(BTreeMap<Name, Unit>),
    /// A unit changed.
    Changed(Name, Box<Unit>),
    /// A job ended.
    JobDone {
        /// Whose.
        name: Name,
        /// As given.
        token: u64,
        /// Done, or why not.
        result: Result<(), JobError>,
    },
    /// The settings of a batch are in force, as far as they could be; its jobs follow.
    SettingsApplied,
    /// Settings could not be applied; they are tried again with the next batch.
    SettingsFailed(String),
    /// The manager cannot be reached; orders wait.
    Away(String),
}

/// Why a job was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// The administrator masked the unit.
    #[error("the unit is masked; 'systemctl unmask' it")]
    Masked,
    /// The job ended so: `failed`, `canceled`, `timeout`, `dependency`, `skipped`.
    #[error("the job ended as '{0}'")]
    Ended(String),
    /// The manager did not take it.
    #[error("{0}")]
    Refused(String),
}

/// A unit, as its manager sees it, in systemd's words (org.freedesktop.systemd1(5)).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Unit {
    /// Whether the administrator masked it.
    pub masked: bool,
    /// `ActiveState`.
    pub active: Active,
    /// `SubState`.
    pub sub: String,
    /// Whether a job for it waits its turn.
    pub queued: bool,
    /// `InvocationID` of the present or last start, 32 hex digits.
    pub invocation: Option<String>,
    /// `MainPID`.
    pub main_pid: Option<u32>,
    /// `ControlGroup`.
    pub cgroup: Option<String>,
    /// `Result`: `success`, `exit-code`, `signal`, `core-dump`, `timeout`, `oom-kill`, `start-limit-hit` …
    pub result: String,
    /// How the main process ended, if it did.
    pub exit: Option<Exit>,
    /// Whether it ended because the unit was being stopped.
    pub stopped: bool,
    /// `StateChangeTimestamp`, RFC 3339, UTC; none if the manager does not keep it.
    pub since: Option<String>,
    /// `StatusText`.
    pub status: Option<String>,
    /// `NRestarts`: automatic restarts since the last start by hand.
    pub restarts: u32,
}

/// `ActiveState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Active {
    /// Runs.
    Active,
    /// Takes up a new configuration.
    Reloading,
    /// Does not run.
    #[default]
    Inactive,
    /// Does not run, and should not have ended so.
    Failed,
    /// Is on its way up, or waits for its automatic restart.
    Activating,
    /// Is on its way down.
    Deactivating,
}

impl Active {
    /// Whether nothing of the unit runs, nor is about to.
    #[must_use]
    pub fn is_at_rest(self) -> bool {
        matches!(self, Self::Inactive | Self::Failed)
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// By exit(2), with this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// By this signal, with a core dump.
    Dumped(i32),
}

/// A process that cannot be mistaken for a later one of the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// As the host numbers it.
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat`, in clock ticks since boot.
    pub start_time: u64,
}
