//! How `berthctl` ends. The numbers are those of systemctl(1) and LSB, so scripts read them alike.

use std::process::ExitCode;

/// Exit status, from good to bad; of several outcomes the greatest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Done; `status`: it runs; `doctor`: all is well.
    Ok = 0,
    /// Not done, or something is not well; stderr says what.
    Failed = 1,
    /// The command line is wrong; `check`, `cat` and `plan`: a spec or the configuration is.
    Usage = 2,
    /// `status`: the container, or without a name berthd, does not run.
    NotRunning = 3,
    /// There is no such container.
    NoSuch = 4,
}

/// The same, for `--help` and the man page.
pub const HELP: &str = "Exit status:
  0  done; 'status': it runs; 'doctor': all is well
  1  not done, or something is not well; 'check --strict': there are warnings
  2  the command line is wrong; 'check', 'cat', 'plan': a spec or the configuration is
  3  'status': the container, or without a name berthd, does not run
  4  there is no such container";

impl Exit {
    /// What `check` and `cat` answer: 0, 1 with warnings that count, 2 with errors.
    #[must_use]
    pub fn of_check(status: u8) -> Self {
        match status {
            0 => Self::Ok,
            1 => Self::Failed,
            _ => Self::Usage,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_has_every_status() {
        for exit in [Exit::Ok, Exit::Failed, Exit::Usage, Exit::NotRunning, Exit::NoSuch] {
            assert!(HELP.contains(&format!("\n  {}  ", exit as u8)), "{exit:?}");
        }
    }
}
