//! How `berthctl` ends. The numbers are those of systemctl(1) and LSB, so scripts read them alike.

use std::process::ExitCode;

/// Exit status, from good to bad; of several outcomes the greatest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Done; `status`: it runs; `doctor`: all is well.
    Ok,
    /// Not done, or something is not well; stderr says what. `check --strict`: there are warnings.
    Failed,
    /// What was given is wrong: the command line, or what `check` and `cat` were to read.
    Wrong,
    /// `status`: the container, or without a name berthd, does not run.
    NotRunning,
    /// There is no such container.
    NoSuch,
    /// `exec`: as the program ended, or why there was none.
    Program(u8),
}

/// The same, for `--help` and the man page.
pub const HELP: &str = "Exit status:
  0  done; 'status': it runs; 'doctor': all is well
  1  not done, or something is not well; 'check --strict': there are warnings
  2  the command line is wrong; 'check', 'cat': a spec or the configuration is
  3  'status': the container, or without a name berthd, does not run
  4  there is no such container

'exec' ends as its program does, with 128 and the number of the signal that ended it; else with
  125  the program was not run
  126  the program is there and cannot be executed
  127  there is no such program";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.status())
    }
}

impl Exit {
    /// The number.
    #[must_use]
    pub fn status(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Wrong => 2,
            Self::NotRunning => 3,
            Self::NoSuch => 4,
            Self::Program(status) => status,
        }
    }

    /// What `check` and `cat` end with.
    #[must_use]
    pub fn of_check(status: u8) -> Self {
        match status {
            super::check::OK => Self::Ok,
            super::check::WARNINGS => Self::Failed,
            _ => Self::Wrong,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_has_every_status() {
        for exit in [Exit::Ok, Exit::Failed, Exit::Wrong, Exit::NotRunning, Exit::NoSuch] {
            assert!(HELP.contains(&format!("\n  {}  ", exit.status())), "{exit:?}");
        }
    }
}
