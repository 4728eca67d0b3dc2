//! berth's own parts: the daemon, its socket, its units, the launcher.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::Finding;
use crate::{
    cli::{
        client::{Client, ClientError},
        files,
        known::{self, StateError, Truth},
    },
    config::Config,
    host::Host,
    root::Root,
};

/// The group of these findings.
const GROUP: &str = "berth";

/// Where systemd looks for units of a package (systemd.unit(5)), highest precedence first.
const UNIT_DIRECTORIES: [&str; 4] =
    ["/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];

/// The units that berth consists of.
const UNITS: [&str; 6] =
    ["berthd.service", "berthd.socket", "berth@.service", "berth.slice", "berth-pull.socket", "berth-pull@.service"];

/// Where the launcher lies where no unit says it.
const LAUNCHER_DIRECTORIES: [&str; 2] = ["/usr/libexec/berth", "/usr/local/libexec/berth"];

/// Looks at all parts.
pub fn examine(host: &Host) -> Vec<Finding> {
    let mut findings = daemon(host);
    if host.systemd {
        findings.push(units(&host.root));
    }
    findings.push(launcher(&host.root));
    findings.push(configuration(&host.root));
    findings
}

/// Whether berthd would take its configuration.
fn configuration(root: &Root) -> Finding {
    let shown = |config: Config| config.files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>();
    match files::config(root).map(shown) {
        Ok(files) if files.is_empty() => Finding::good(GROUP, "configuration", "no berthd.toml: the defaults"),
        Ok(files) => Finding::good(GROUP, "configuration", files.join(" ")),
        Err(error) => {
            Finding::missing(GROUP, "configuration", error.lines().join("; "), "'berthctl check' shows it whole")
        }
    }
}

/// The daemon; its socket is only tried where it runs, since a connection would start it.
fn daemon(host: &Host) -> Vec<Finding> {
    let cure = if host.systemd { "systemctl enable --now berthd.socket berthd.service" } else { "start berthd" };
    let dead = |detail: String| vec![Finding::missing(GROUP, "berthd", detail, cure)];
    match known::read(&host.root) {
        Err(StateError::Missing(_)) => dead("has not run since the last boot".to_owned()),
        Err(error) => {
            let cure = if host.systemd { "systemctl restart berthd" } else { "restart berthd" };
            vec![Finding::missing(GROUP, "berthd", error.to_string(), cure)]
        }
        Ok(known) if known.truth == Truth::Current => {
            let daemon = &known.state.daemon;
            let detail = format!("{} runs as process {}: {}", daemon.version, daemon.pid, daemon.status);
            let mut findings = vec![Finding::good(GROUP, "berthd", detail), socket(&host.root)];
            findings.extend(daemon.manager_away.as_ref().map(|why| {
                Finding::missing(
                    GROUP,
                    "bus",
                    format!("berthd cannot reach systemd: {why}"),
                    "systemctl start dbus.socket",
                )
            }));
            findings
        }
        Ok(known) => dead(format!("is not running; last seen {}", known.state.written)),
    }
}

/// Whether the socket is there for us.
fn socket(root: &Root) -> Finding {
    match Client::connect(root) {
        Ok(_) => Finding::good(GROUP, "socket", format!("{} answers", root.socket().display())),
        Err(error @ ClientError::NotPermitted(_)) => Finding::note(GROUP, "socket", error.to_string(), None),
        Err(error) => {
            Finding::missing(GROUP, "socket", error.to_string(), "systemctl restart berthd.socket berthd.service")
        }
    }
}

/// Where systemd finds a unit.
fn unit(root: &Root, name: &str) -> Option<PathBuf> {
    UNIT_DIRECTORIES.iter().map(|directory| root.at(directory).join(name)).find(|path| path.exists())
}

/// Whether the units are installed.
fn units(root: &Root) -> Finding {
    let (there, absent): (Vec<&str>, Vec<&str>) = UNITS.into_iter().partition(|name| unit(root, name).is_some());
    if absent.is_empty() {
        Finding::good(GROUP, "units", there.join(" "))
    } else {
        let cure = "install them from the package, or 'make install'; then systemctl daemon-reload";
        Finding::missing(GROUP, "units", format!("not installed: {}", absent.join(" ")), cure)
    }
}

/// Whether the launcher is where the template unit says, or else where packages put it.
fn launcher(root: &Root) -> Finding {
    let told = unit(root, "berth@.service").and_then(|path| fs::read_to_string(path).ok()).and_then(|t| exec_start(&t));
    let beside = || env::current_exe().ok().and_then(|exe| exe.parent().map(|parent| parent.join("berth-launch")));
    let places: Vec<PathBuf> = match told {
        Some(path) => vec![root.at(&path)],
        None => {
            let usual = LAUNCHER_DIRECTORIES.iter().map(|directory| root.at(directory).join("berth-launch"));
            usual.chain(beside()).collect()
        }
    };
    match places.iter().find(|path| is_executable(path)) {
        Some(path) => Finding::good(GROUP, "berth-launch", path.display().to_string()),
        None => {
            let places = places.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
            let cure = "install it from the package, or 'make install'";
            Finding::missing(GROUP, "berth-launch", format!("no executable at {places}"), cure)
        }
    }
}

/// The program of a unit's `ExecStart=`, without the prefixes of systemd.service(5).
fn exec_start(unit: &str) -> Option<String> {
    let line = unit.lines().find_map(|line| line.trim().strip_prefix("ExecStart="))?;
    line.split_whitespace().next().map(|word| word.trim_start_matches(['@', '-', ':', '+', '!']).to_owned())
}

/// Whether it is a file that somebody may execute.
fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_of_a_unit() {
        let unit = "[Service]\nType=notify\nExecStart=-!/usr/lib/berth/berth-launch %i\n";
        assert_eq!(exec_start(unit).as_deref(), Some("/usr/lib/berth/berth-launch"));
        assert_eq!(exec_start("[Unit]\n"), None);
    }
}
