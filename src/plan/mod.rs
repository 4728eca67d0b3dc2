//! ② Spec and host to [`Plan`]: everything that a start will do, as data.
//!
//! A plan is printed by `berthctl plan`, sent to `berth-launch`, kept in the record, and compared with the plan
//! of an edited spec. Nothing in here acts.

mod build;
mod step;

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

pub use build::{Build, DEFAULT_PATH, build, needs_restart};
pub use step::{Action, Bind, Phase, Source, Step};

use crate::spec::{Name, Restart, Signal, StartLimit};

/// Everything that a start of one container does, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Whose.
    pub container: Name,
    /// What the service manager is told.
    pub unit: UnitSettings,
    /// Namespaces that the child is born into.
    pub namespaces: BTreeSet<Namespace>,
    /// The sandbox of the run; none until the run is prepared.
    pub sandbox: Option<PathBuf>,
    /// What the child does between its birth and the program, sorted by phase, then isolator.
    pub steps: Vec<Step>,
    /// What it becomes.
    pub program: Program,
    /// What the operator should know and what does not stop the start.
    pub warnings: Vec<String>,
}

/// A namespace that a plan asks for (namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Namespace {
    /// CLONE_NEWNS.
    Mount,
    /// CLONE_NEWPID.
    Pid,
    /// CLONE_NEWIPC.
    Ipc,
}

/// The program, as execve(2) takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// A path if it holds a slash, else a name for PATH.
    pub executable: String,
    /// argv, `argv[0]` included.
    pub argv: Vec<String>,
    /// The whole environment; nothing is inherited but what the service manager hands to a service
    /// (`INVOCATION_ID`, `JOURNAL_STREAM`, `LISTEN_FDS`).
    pub environment: Vec<(String, String)>,
    /// Whether a minimal init stands between.
    pub init: bool,
}

/// What the service manager is told about one container. A value that equals the template unit's is `None`
/// or empty, so that a spec without such keys needs no drop-in and no reload.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UnitSettings {
    /// `Description=`.
    pub description: Option<String>,
    /// `After=`.
    pub after: Vec<String>,
    /// `Before=`.
    pub before: Vec<String>,
    /// `Requires=`.
    pub requires: Vec<String>,
    /// `Wants=`.
    pub wants: Vec<String>,
    /// `Restart=`.
    pub restart: Option<Restart>,
    /// `RestartSec=`.
    pub restart_delay: Option<Duration>,
    /// `StartLimitBurst=` and `StartLimitIntervalSec=`.
    pub start_limit: Option<StartLimit>,
    /// `TimeoutStartSec=`.
    pub start_timeout: Option<Duration>,
    /// `KillSignal=`.
    pub stop_signal: Option<Signal>,
    /// `TimeoutStopSec=`.
    pub stop_timeout: Option<Duration>,
}

impl UnitSettings {
    /// Whether the template unit says all of it already.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
