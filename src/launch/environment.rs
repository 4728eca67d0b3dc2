//! What the service manager hands to a service, and what of it goes on to the program.

use std::{env, process};

/// Names that the launcher passes on where the plan does not set them.
const INHERITED: [&str; 2] = ["INVOCATION_ID", "JOURNAL_STREAM"];

/// Sockets that the service manager opened for the program (sd_listen_fds(3)): descriptors from 3 on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListenFds {
    /// How many.
    pub count: u32,
    /// `$LISTEN_FDNAMES`.
    pub names: Option<String>,
}

impl ListenFds {
    /// The first of them.
    pub(super) const FIRST: u32 = 3;

    /// Those that are meant for this process. To be called before it becomes another.
    #[must_use]
    pub fn from_environment() -> Self {
        let number = |name| env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
        if number("LISTEN_PID") != Some(process::id()) {
            return Self::default();
        }
        let count = number("LISTEN_FDS").filter(|count| *count < 1 << 20).unwrap_or(0);
        Self { count, names: env::var("LISTEN_FDNAMES").ok() }
    }

    /// The variables of sd_listen_fds(3) for the process `pid`, as it numbers itself.
    pub(super) fn variables(&self, pid: u32) -> Vec<(String, String)> {
        if self.count == 0 {
            return Vec::new();
        }
        let mut variables =
            vec![("LISTEN_PID".to_owned(), pid.to_string()), ("LISTEN_FDS".to_owned(), self.count.to_string())];
        variables.extend(self.names.iter().map(|names| ("LISTEN_FDNAMES".to_owned(), names.clone())));
        variables
    }
}

/// A variable that the service manager gave this process.
pub(super) fn from_manager(name: &str) -> Option<String> {
    env::var(name).ok()
}

/// The program's environment but for `LISTEN_*`: the plan's, and what is inherited where the plan is silent.
pub(super) fn compose(
    planned: &[(String, String)],
    inherited: impl Fn(&str) -> Option<String>,
) -> Vec<(String, String)> {
    let mut variables: Vec<_> = planned.iter().filter(|(name, _)| !name.starts_with("LISTEN_")).cloned().collect();
    for name in INHERITED {
        if !planned.iter().any(|(planned, _)| planned == name) {
            variables.extend(inherited(name).map(|value| (name.to_owned(), value)));
        }
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pair of owned strings.
    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn the_plan_wins_and_the_rest_is_inherited() {
        let planned = [pair("A", "1"), pair("INVOCATION_ID", "mine"), pair("LISTEN_FDS", "9")];
        let inherited = |name: &str| Some(format!("manager's {name}"));
        assert_eq!(
            compose(&planned, inherited),
            [pair("A", "1"), pair("INVOCATION_ID", "mine"), pair("JOURNAL_STREAM", "manager's JOURNAL_STREAM")]
        );
        assert_eq!(compose(&[], |_| None), []);
    }

    #[test]
    fn sockets_are_announced_to_the_process_itself() {
        assert_eq!(ListenFds::default().variables(1), []);
        let fds = ListenFds { count: 2, names: Some("a:b".to_owned()) };
        assert_eq!(fds.variables(1), [pair("LISTEN_PID", "1"), pair("LISTEN_FDS", "2"), pair("LISTEN_FDNAMES", "a:b")]);
    }
}
