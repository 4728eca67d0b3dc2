//! How `berthctl` ends. The numbers are those of systemctl(1) and LSB, so scripts read them alike.

use std::process::ExitCode;

/// Exit status, from good to bad; of several outcomes the greatest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Done; `status`: it runs; `doctor`: all is well.
    Ok = 0,
    /// Not done, or something is not well; stderr says what. `check --strict`: there are warnings.
    Failed = 1,
    /// What was given is wrong: the command line, or what `check` and `cat` were to read.
    Wrong = 2,
    /// `status`: the container, or without a name berthd, does not run.
    NotRunning = 3,
    /// There is no such container.
    NoSuch = 4,
}

/// The same, for `--help` and the man page.
pub const HELP: &str = "Exit status:
  0  done; 'status': it runs; 'doctor': all is well
  1  not done, or something is not well; 'check --strict': there are warnings
  2  the command line is wrong; 'check', 'cat': a spec or the configuration is
  3  'status': the container, or without a name berthd, does not run
  4  there is no such container";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Exit {
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
            assert!(HELP.contains(&format!("\n  {}  ", exit as u8)), "{exit:?}");
        }
    }
}
