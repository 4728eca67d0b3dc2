//! The state file as a reader finds it, and how true it still is.

use std::{
    fs::File,
    io::{self, Read as _},
    path::PathBuf,
    thread,
    time::{Duration, SystemTime},
};

use super::{CliError, Context, nearest, phrase};
use crate::{
    manager::Kind,
    observe::{Container, SCHEMA, State},
    root::{Layer, Root},
    spec::Name,
};

/// Longest state file that is read: ten thousand containers are a tenth of it.
const MAX_STATE: u64 = 256 << 20;

/// How long a state file may take to follow a deed.
pub const PATIENCE: Duration = Duration::from_millis(500);

/// What the state file says, and whether somebody still keeps it true.
#[derive(Debug)]
pub struct Known {
    /// What it says.
    pub state: State,
    /// How true it is.
    pub truth: Truth,
}

/// How true a state file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// berthd runs and keeps it, or processes are hidden from us (`hidepid=`) and nothing says otherwise.
    Current,
    /// berthd does not run: true when it was written.
    Left,
    /// Of an earlier boot: nothing in it need be so.
    Past,
}

/// Why there is no state to show.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// There is none.
    #[error("there is no {}: berthd has not run since the last boot; start it ('systemctl start berthd')", .0.display())]
    Missing(PathBuf),
    /// It cannot be read.
    #[error("cannot read {}: {}", .path.display(), crate::error::reason(.reason))]
    Unreadable {
        /// Where it lies.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// Nobody writes so much.
    #[error("{} is longer than {}; it is not berthd's", .0.display(), phrase::bytes(MAX_STATE))]
    TooLong(PathBuf),
    /// It is not what berthd writes.
    #[error("{} is damaged ({reason}); berthd writes it anew when it is restarted ('systemctl restart berthd')", .path.display())]
    Damaged {
        /// Where it lies.
        path: PathBuf,
        /// Where it is wrong.
        reason: serde_json::Error,
    },
    /// A later berthd wrote it.
    #[error("{} has form {theirs}, and this berthctl knows {SCHEMA}; use the berthctl of the berthd that runs", .path.display())]
    Newer {
        /// Where it lies.
        path: PathBuf,
        /// Its form.
        theirs: u32,
    },
}

/// The one field that all forms have.
#[derive(serde::Deserialize)]
struct Form {
    /// [`State::schema`].
    schema: u32,
}

/// Reads the state file.
///
/// # Errors
/// It is not there, not readable, not whole, or of a later form.
pub fn read(root: &Root) -> Result<Known, StateError> {
    let path = root.state_file();
    let mut text = Vec::new();
    let file = File::open(&path).and_then(|file| file.take(MAX_STATE + 1).read_to_end(&mut text));
    match file {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(StateError::Missing(path)),
        Err(reason) => return Err(StateError::Unreadable { path, reason }),
        Ok(length) if length as u64 > MAX_STATE => return Err(StateError::TooLong(path)),
        Ok(_) => {}
    }
    let damaged = |reason| StateError::Damaged { path: path.clone(), reason };
    let Form { schema: theirs } = serde_json::from_slice(&text).map_err(damaged)?;
    if theirs > SCHEMA {
        return Err(StateError::Newer { path, theirs });
    }
    let state: State = serde_json::from_slice(&text).map_err(damaged)?;
    let truth = truth(root, &state);
    Ok(Known { state, truth })
}

/// How true `state` is. The socket is not asked: a connection would start berthd.
fn truth(root: &Root, state: &State) -> Truth {
    let text = |path: &str| std::fs::read_to_string(root.at(path)).map(|text| text.trim().to_owned());
    if text("/proc/sys/kernel/random/boot_id").is_ok_and(|boot| boot != state.boot_id) {
        return Truth::Past;
    }
    match text(&format!("/proc/{}/comm", state.daemon.pid)) {
        Ok(comm) if comm == "berthd" => Truth::Current,
        // Where not even PID 1 is seen, processes are hidden.
        Err(_) if text("/proc/1/comm").is_err() => Truth::Current,
        _ => Truth::Left,
    }
}

/// Reads the state file once it is younger than a deed that began at `began`, or when patience ends.
///
/// # Errors
/// As for [`read`].
pub fn read_after(root: &Root, began: SystemTime) -> Result<Known, StateError> {
    // `written` has milliseconds.
    let began = began - Duration::from_millis(1);
    let deadline = SystemTime::now() + PATIENCE;
    loop {
        let known = read(root)?;
        let young = humantime::parse_rfc3339(&known.state.written).is_ok_and(|written| written >= began);
        if young || known.truth != Truth::Current || SystemTime::now() > deadline {
            return Ok(known);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Who manages the containers: what berthd says, and before it has said anything what it would find.
#[must_use]
pub fn manager(root: &Root, known: Option<&Known>) -> Kind {
    match known {
        Some(known) if known.truth != Truth::Past => known.state.daemon.manager,
        _ if root.systemd_booted() => Kind::Systemd,
        _ => Kind::Direct,
    }
}

impl Known {
    /// Says beside the output how true it is, if that is not certain.
    pub fn caution(&self, cx: &Context) {
        let written = &self.state.written;
        let age = phrase::ago(written, cx.now);
        match self.truth {
            Truth::Current => {}
            Truth::Left => cx.note(&format!("berthd is not running; this was true at {written} ({age})")),
            Truth::Past => cx.note(&format!(
                "berthd has not run since the last boot; this is of an earlier one ({written}), nothing in it need be so"
            )),
        }
    }

    /// The container of that name.
    #[must_use]
    pub fn container(&self, name: &Name) -> Option<&Container> {
        self.state.containers.iter().find(|container| container.name == *name)
    }

    /// The error that there is none of that name.
    #[must_use]
    pub fn no_such(&self, name: &Name) -> CliError {
        let nearest = nearest(name, self.state.containers.iter().map(|container| &container.name));
        CliError::NoSuch { name: name.clone(), nearest }
    }

    /// Whether certainly nobody has that name: berthd runs and does not know it, and no spec of it was just dropped.
    #[must_use]
    pub fn is_unknown(&self, root: &Root, name: &Name) -> bool {
        let file = |layer| root.containers(layer).join(format!("{name}.toml"));
        let absent = |layer| file(layer).symlink_metadata().is_err_and(|e| e.kind() == io::ErrorKind::NotFound);
        self.truth == Truth::Current && self.container(name).is_none() && Layer::ALL.into_iter().all(absent)
    }
}
