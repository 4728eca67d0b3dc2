//! What can go wrong in a verb. Every message says what to do.

use std::io;

use super::{Exit, client::ClientError, known::StateError};
use crate::{error::reason, protocol, spec::Name};

/// Why a verb did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The state file.
    #[error("cannot tell how the containers are")]
    State(#[from] StateError),
    /// The socket.
    #[error("cannot speak with berthd")]
    Client(#[from] ClientError),
    /// A name that nobody has.
    #[error("there is no container '{name}'{}; 'berthctl list' names them all", meant(.nearest.as_ref()))]
    NoSuch {
        /// As asked.
        name: Name,
        /// What was probably meant.
        nearest: Option<Name>,
    },
    /// An image or the store of images.
    #[error(transparent)]
    Image(crate::image::Error),
    /// An image's name.
    #[error(transparent)]
    Source(#[from] crate::image::SourceError),
    /// An image that is not here.
    #[error("there is no image {name} here{}; 'berthctl images' names them all", near(.nearest.as_deref()))]
    NoImage {
        /// As asked.
        name: String,
        /// What was probably meant.
        nearest: Option<String>,
    },
    /// What fetches have left could not be removed.
    #[error("cannot tidy up after fetches: {0}")]
    Sweep(String),
    /// A deed on a container failed.
    #[error("cannot {} '{name}': {message}", word(*.verb))]
    Control {
        /// The deed.
        verb: protocol::Verb,
        /// Whose.
        name: Name,
        /// The reason, whole.
        message: String,
    },
    /// A container was not moved to another image.
    #[error("cannot {verb} '{name}': {message}")]
    Switch {
        /// As the operator wrote it.
        verb: &'static str,
        /// Whose.
        name: Name,
        /// The reason, whole.
        message: String,
    },
    /// systemctl(1) failed and nobody knows more.
    #[error("systemctl ended with {0}; 'berthctl logs NAME' and 'journalctl -xe' may say why")]
    Systemctl(String),
    /// berthd would not.
    #[error("berthd refused: {0}")]
    Refused(String),
    /// A tool could not be run.
    #[error("cannot run '{program}': {}{}", reason(.error), cure_of_tool(.error))]
    Tool {
        /// Which.
        program: &'static str,
        /// Why.
        error: io::Error,
    },
    /// A log file could not be read.
    #[error("cannot read {path}: {}{}", reason(.error), cure_of_log(.error))]
    Log {
        /// Which.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// Asked of a log file what only the journal can do.
    #[error("--since needs the journal, and without systemd the log is a file without times; use -n")]
    SinceWithoutJournal,
    /// Asked for JSON of what is not ours to write.
    #[error(
        "exec writes nothing of its own, so there is no --json for it; give it after COMMAND if it is the program's"
    )]
    ExecJson,
    /// A program was not run in a container.
    #[error("{message}")]
    Exec {
        /// How the tool ends.
        status: u8,
        /// The reason, whole.
        message: String,
    },
    /// A spec or the configuration is wrong, or a spec is masked.
    #[error("{}", .0.join("\n"))]
    Files(Vec<String>),
    /// A spec asks for what cannot be.
    #[error("'{name}' could not start: {message}")]
    Plan {
        /// Whose.
        name: Name,
        /// Why not.
        message: String,
    },
    /// An image could not be fetched.
    #[error("cannot fetch {image}: {message}")]
    Fetch {
        /// As asked.
        image: String,
        /// The reason, whole.
        message: String,
    },
    /// Several deeds failed.
    #[error("{} errors", .0.len())]
    Several(Vec<CliError>),
    /// The output could not be written.
    #[error("cannot write the output: {}", reason(.0))]
    Output(io::Error),
}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl CliError {
    /// How the tool ends with it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::NoSuch { .. } => Exit::NoSuch,
            Self::ExecJson | Self::Source(_) => Exit::Wrong,
            Self::NoImage { .. } => Exit::NoSuch,
            Self::Exec { status, .. } => Exit::Program(*status),
            Self::Several(all) => all.iter().map(Self::exit).max().unwrap_or(Exit::Failed),
            _ => Exit::Failed,
        }
    }

    /// Each error with its chain whole, in one line unless a message has more.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Several(all) => all.iter().flat_map(Self::lines).collect(),
            // Nobody reads any more: `berthctl list | head`.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Vec::new(),
            other => crate::error::chain(other).lines().map(str::to_owned).collect(),
        }
    }

    /// The outcome of several deeds.
    ///
    /// # Errors
    /// One error as it is, more as [`Self::Several`].
    pub fn of_all(mut errors: Vec<Self>) -> Result<Exit, Self> {
        match errors.len() {
            0 => Ok(Exit::Ok),
            1 => Err(errors.swap_remove(0)),
            _ => Err(Self::Several(errors)),
        }
    }
}

/// `; did you mean …?`
fn near(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!(" (did you mean {name}?)"))
}

/// The verb as the operator wrote it.
#[must_use]
pub fn word(verb: protocol::Verb) -> &'static str {
    match verb {
        protocol::Verb::Start => "start",
        protocol::Verb::Stop => "stop",
        protocol::Verb::Restart => "restart",
    }
}

/// `; did you mean 'web'?`
fn meant(nearest: Option<&Name>) -> String {
    nearest.map_or_else(String::new, |name| format!(" (did you mean '{name}'?)"))
}

/// What to do about a tool that does not run.
fn cure_of_tool(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::NotFound { "; it comes with the package 'systemd'" } else { "" }
}

/// What to do about a log that cannot be read.
fn cure_of_log(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; the container has not been started yet",
        io::ErrorKind::PermissionDenied => "; you need to be root or in group berth",
        _ => "",
    }
}
