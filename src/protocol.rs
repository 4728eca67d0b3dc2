//! What is said on berthd's socket: one JSON object a line, a request and its replies.
//!
//! `berth-launch` asks for its plan here and `berthctl` asks for deeds, and to enter a container. Reading needs no
//! socket: that is the state file's.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{error::reason, image::Digest, manager::Process, plan::Plan, spec::Name};

/// Longest line either side accepts, in bytes; a plan of a thousand volumes is a tenth of it.
pub const MAX_LINE: usize = 4 << 20;

/// The first line of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// The launcher of `container` asks for its plan. Answered by [`Reply::Working`] now and then, and
    /// [`Reply::Launch`] or [`Reply::Refused`]. Asking twice with one invocation gives the same run.
    Launch {
        /// Whose.
        container: Name,
        /// The service manager's ID of this start (`$INVOCATION_ID`), 32 hex digits.
        invocation: String,
    },
    /// A launcher that lost its connection says how its launch failed. Answered by [`Reply::Done`].
    LaunchFailed {
        /// Whose.
        container: Name,
        /// Of which start.
        invocation: String,
        /// How.
        failure: Failure,
    },
    /// A process of root's asks to enter `container`. Answered by [`Reply::Enter`]; the process then joins the control
    /// groups and says [`Report::Joined`]. [`Reply::Error`] where it may not.
    Enter {
        /// Which.
        container: Name,
    },
    /// `berthctl start|stop|restart` where berthd is the service manager. Answered by [`Reply::Done`] or
    /// [`Reply::Error`] when the deed is done.
    Control {
        /// What.
        verb: Verb,
        /// To whom.
        container: Name,
    },
    /// `berthctl update|rollback`: move a container to another version of its image. Answered by [`Reply::Switched`] when
    /// it is certain that it runs, and by [`Reply::Error`] when it has been taken back, or nothing was done. It goes on
    /// where nobody waits for the answer any more.
    Switch {
        /// Which.
        container: Name,
        /// To what.
        target: Target,
        /// How long it must run to count as started, in milliseconds.
        watch_ms: u64,
    },
    /// Read configuration and specs again. Answered by [`Reply::Done`] or [`Reply::Error`].
    Reload,
}

/// A version of a container's image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// What its source is in the store now.
    Present,
    /// What it was started from before.
    Former,
}

/// What came of a move to another version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switched {
    /// What it had, if that is known.
    pub from: Option<Digest>,
    /// What it has.
    pub to: Digest,
    /// Since when.
    pub how: How,
}

/// Since when a container has a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// It was so before: nothing was done.
    Already,
    /// From its next start on: it does not run, and was not started.
    NextStart,
    /// It runs with it.
    Runs,
    /// It has run with it, and ended as it should or was stopped.
    Ended,
}

/// What an operator asks of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Start it, if it does not run.
    Start,
    /// Stop it.
    Stop,
    /// Stop it and start it.
    Restart,
}

/// berthd's answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// Not done yet; the launcher extends its start timeout.
    Working {
        /// By how much from now, in milliseconds. An older berthd does not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        extend_ms: Option<u64>,
        /// What is done meanwhile, for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<String>,
    },
    /// What to do. The container is isolated as far as the host's side goes.
    Launch {
        /// Sandbox filled in.
        plan: Box<Plan>,
    },
    /// Where to enter.
    Enter {
        /// The present run.
        entrance: Box<Entrance>,
    },
    /// The start cannot be.
    Refused {
        /// Why.
        failure: Failure,
    },
    /// The record of the armed child is written: open the gate. To a process that enters: every isolator has it.
    Go,
    /// The container was moved, or need not be.
    Switched {
        /// What came of it.
        switched: Switched,
    },
    /// Done.
    Done,
    /// Not done.
    Error {
        /// The whole chain, for people.
        message: String,
    },
}

/// What an entering process must know of the run that it enters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entrance {
    /// What was done for it.
    pub plan: Plan,
    /// The service manager's ID of its start.
    pub invocation: String,
    /// Its main process, whose namespaces and control groups are the container's.
    pub main: Process,
}

/// What a launcher says after its plan, and an entering process after its [`Entrance`]. [`Report::Armed`] and
/// [`Report::Joined`] are answered by [`Reply::Go`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "snake_case")]
pub enum Report {
    /// All steps are done and the program is found; the child waits at the gate.
    Armed {
        /// The child, as the host numbers it.
        pid: u32,
    },
    /// The entering process is in the control groups of the container's main process: isolators may act on it.
    Joined,
    /// A step failed.
    Failed {
        /// How.
        failure: Failure,
    },
}

/// Why a start failed before the program's first instruction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Where.
    pub stage: Stage,
    /// The kernel's reason, where it gave one.
    pub errno: Option<i32>,
    /// On what.
    pub path: Option<PathBuf>,
    /// One line for people: act, object, reason, cure.
    pub message: String,
}

impl Failure {
    /// A failure of the host's side on a path, which the kernel gave the reason of: `cannot ACT PATH: REASON`.
    #[must_use]
    pub fn prepare(act: &str, path: &Path, error: &io::Error) -> Self {
        Self {
            stage: Stage::Prepare,
            errno: error.raw_os_error(),
            message: format!("cannot {act} {}: {}", path.display(), reason(error)),
            path: Some(path.to_owned()),
        }
    }
}

/// The stage of a start at which it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// berthd could not be reached.
    Connect,
    /// The spec is invalid, or asks for what is not enabled or not there.
    Config,
    /// The host's side of an isolator.
    Prepare,
    /// clone3(2) or unshare(2).
    Namespaces,
    /// Mounts.
    Mounts,
    /// Resource limits.
    Limits,
    /// User unknown or not permitted.
    User,
    /// Group unknown or not permitted.
    Group,
    /// Working directory.
    Directory,
    /// The last privileges.
    Confine,
    /// The program is missing or not executable.
    Program,
    /// The hand-over to the service manager.
    HandOver,
}

impl Stage {
    /// The exit status of a launcher that failed here, with systemd's meanings (systemd.exec(5), "Process exit
    /// codes"), so that `systemctl status` names the stage. 78 is not retried (`RestartPreventExitStatus=78`).
    #[must_use]
    pub fn exit_status(self) -> u8 {
        match self {
            Self::Connect | Self::Prepare => 1,
            Self::Config => 78,
            Self::Namespaces | Self::Mounts => 226,
            Self::Limits => 205,
            Self::User => 217,
            Self::Group => 216,
            Self::Directory => 200,
            Self::Confine => 218,
            Self::Program => 203,
            Self::HandOver => 232,
        }
    }

    /// Its name, as in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Config => "config",
            Self::Prepare => "prepare",
            Self::Namespaces => "namespaces",
            Self::Mounts => "mounts",
            Self::Limits => "limits",
            Self::User => "user",
            Self::Group => "group",
            Self::Directory => "directory",
            Self::Confine => "confine",
            Self::Program => "program",
            Self::HandOver => "hand-over",
        }
    }
}
