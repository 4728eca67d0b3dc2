//! What survives us: records of what was done, written before it is done.
//!
//! A record is one JSON file a container under `/run/berth/records`. It is replaced atomically, carries the boot
//! it belongs to, and an unreadable one spoils only itself.

/// Numbers that containers hold.
pub mod ledger;
/// Project IDs of directories.
pub mod projects;
/// Sandboxes: one directory a run, and their retention.
pub mod sandbox;
/// The files.
mod store;
/// Which images containers have been started from.
pub mod versions;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use ledger::Ledger;
pub use projects::Projects;
pub use store::{Damaged, Store, write_atomically};
pub use versions::Versions;

use crate::{
    manager::{Exit, Process},
    observe::Limitation,
    plan::Plan,
    protocol::Failure,
    spec::{Name, Spec},
};

/// Version of a record's form. A record of a greater version is left alone and said.
pub const SCHEMA: u32 = 1;

/// All that berthd knows of a container and could not read elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The boot it belongs to; no PID in it means anything in another.
    pub boot_id: String,
    /// Whose.
    pub name: Name,
    /// The last good spec: what a start uses while the files are wrong.
    pub spec: Option<Spec>,
    /// Digest of the spec on which berthd has acted; a difference from the present one is an edit.
    pub acted_on: Option<String>,
    /// The present run, until it is cleaned up.
    pub run: Option<Run>,
    /// How the last run ended.
    pub last: Option<Ended>,
    /// Why the last start failed before the program began.
    pub failure: Option<Failure>,
    /// The start that ended and is to be repeated, where berthd itself is the service manager: a berthd that
    /// comes back carries on with it.
    #[serde(default)]
    pub restarting: Option<String>,
}

/// One run of a container: from its preparation to its cleanup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The service manager's ID of the start.
    pub invocation: String,
    /// What it was started with.
    pub spec: Spec,
    /// Digest of that.
    pub digest: String,
    /// What was done.
    pub plan: Plan,
    /// Its sandbox.
    pub sandbox: PathBuf,
    /// Its main process, once armed.
    pub process: Option<Process>,
    /// The cgroup2 cgroup that it was started in, below the mount; none where there is no cgroup2.
    #[serde(default)]
    pub cgroup: Option<String>,
    /// What berthd ends it for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limitation: Option<Limitation>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// Whether an operator or a dependency stopped it.
    pub stopped: bool,
    /// systemd's `Result`.
    pub result: String,
    /// How the main process ended.
    pub exit: Option<Exit>,
    /// When it was noticed, RFC 3339, UTC.
    pub at: String,
    /// Its sandbox, which outlives it.
    pub sandbox: Option<PathBuf>,
    /// What berthd ended it for, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limitation: Option<Limitation>,
}

impl Record {
    /// Stands for the digest of a spec that was acted on, where it is not known which.
    pub const UNKNOWN: &str = "unknown";

    /// Whether it tells of nothing that was done.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.spec.is_none() && self.acted_on.is_none() && self.run.is_none()
    }

    /// A record of a container that this boot has not seen.
    #[must_use]
    pub fn new(name: Name, boot_id: &str) -> Self {
        Self {
            schema: SCHEMA,
            boot_id: boot_id.to_owned(),
            name,
            spec: None,
            acted_on: None,
            run: None,
            last: None,
            failure: None,
            restarting: None,
        }
    }
}
