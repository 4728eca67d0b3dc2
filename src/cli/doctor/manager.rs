//! Who starts and stops containers here, and where their output goes.

use std::process::Command;

use super::Finding;
use crate::host::Host;

/// The group of these findings.
const GROUP: &str = "Service manager";

/// Oldest systemd that has all that is relied on.
const FLOOR: u32 = 252;

/// Looks at the service manager and the journal.
pub fn examine(host: &Host) -> Vec<Finding> {
    if !host.systemd {
        let detail = "not the service manager here (no /run/systemd/system): berthd itself starts, stops and restarts";
        return vec![
            Finding::note(GROUP, "systemd", detail, None),
            Finding::note(GROUP, "journal", "none: output goes to /var/log/berth/NAME.log", None),
        ];
    }
    vec![systemd(version().as_deref()), journal(host)]
}

/// The first line of `systemctl --version`: `systemd 252 (252.30-1~deb12u2)`.
fn version() -> Option<String> {
    let output = Command::new("systemctl").arg("--version").output().ok()?;
    String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned)
}

/// Whether systemd is new enough.
fn systemd(line: Option<&str>) -> Finding {
    let number = line.and_then(|line| line.split_whitespace().nth(1)).and_then(|word| {
        word.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse::<u32>().ok())
    });
    match (line, number) {
        (Some(line), Some(number)) if number >= FLOOR => Finding::good(GROUP, "systemd", line),
        (Some(line), Some(_)) => Finding::missing(
            GROUP,
            "systemd",
            format!("{line}: too old"),
            &format!("berth needs systemd {FLOOR} or later"),
        ),
        _ => Finding::missing(
            GROUP,
            "systemd",
            "it is the service manager, and 'systemctl --version' does not say which",
            "put systemctl into PATH",
        ),
    }
}

/// Whether the journal takes what containers write.
fn journal(host: &Host) -> Finding {
    if host.root.at("/run/systemd/journal/stdout").exists() {
        Finding::good(GROUP, "journal", "takes what containers write")
    } else {
        Finding::missing(
            GROUP,
            "journal",
            "systemd-journald does not run: what containers write is lost",
            "systemctl start systemd-journald.service",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn versions_of_systemd() {
        for (line, verdict) in [
            (Some("systemd 252 (252.30-1~deb12u2)"), Verdict::Good),
            (Some("systemd 261~rc1 (261~rc1-1)"), Verdict::Good),
            (Some("systemd 251.4-1.fc37"), Verdict::Missing),
            (Some("what"), Verdict::Missing),
            (None, Verdict::Missing),
        ] {
            assert_eq!(systemd(line).verdict, verdict, "{line:?}");
        }
    }
}
