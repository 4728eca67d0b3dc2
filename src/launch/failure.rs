//! How a failed launch is said: one line for people, and its parts for programs.

use std::{
    fmt::Display,
    io::{self, Write},
    path::Path,
};

use crate::{
    error::reason,
    protocol::{Failure, Stage},
    spec::Name,
};

/// A failure that the kernel gave the reason of: `cannot ACT: REASON; CURE`.
pub(super) fn failure(
    stage: Stage,
    act: impl Display,
    path: Option<&Path>,
    error: &io::Error,
    cure: impl Display,
) -> Failure {
    Failure {
        stage,
        errno: error.raw_os_error(),
        path: path.map(Path::to_owned),
        message: format!("cannot {act}: {}; {cure}", reason(error)),
    }
}

/// A failure that this program itself found.
pub(super) fn refusal(stage: Stage, path: Option<&Path>, message: impl Into<String>) -> Failure {
    Failure { stage, errno: None, path: path.map(Path::to_owned), message: message.into() }
}

/// Says it on stderr, in one line, and gives the exit status. In the journal it is an error (sd-daemon(3), "<3>").
pub(super) fn say(container: &Name, failure: &Failure) -> u8 {
    let level = if std::env::var_os("JOURNAL_STREAM").is_some() { "<3>" } else { "" };
    let message = failure.message.replace(['\n', '\r'], " ");
    let line = format!("{level}berth: {container}: {}: {message}\n", failure.stage.as_str());
    // Nobody is left to be told that stderr is closed.
    drop(io::stderr().write_all(line.as_bytes()));
    failure.stage.exit_status()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_act_reason_and_cure() {
        let error = io::Error::from_raw_os_error(libc::ENOENT);
        let failure = failure(Stage::Mounts, "bind /a over /b", Some(Path::new("/a")), &error, "create it");
        assert_eq!(failure.message, "cannot bind /a over /b: No such file or directory; create it");
        assert_eq!((failure.errno, failure.path.as_deref()), (Some(2), Some(Path::new("/a"))));
    }
}
