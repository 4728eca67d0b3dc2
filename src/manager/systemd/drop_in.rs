//! Unit settings as drop-ins of the template unit.

use std::{fmt::Write as _, fs, io, path::Path, time::Duration};

use crate::{plan::UnitSettings, root::Root, spec::Name, spec::Restart, state::write_atomically};

/// Makes the drop-in of a unit say `settings`, or go. True if a file changed, so that systemd must reload.
///
/// # Errors
/// The file could not be written or removed.
pub fn apply(root: &Root, name: &Name, settings: Option<&UnitSettings>) -> io::Result<bool> {
    let path = root.unit_drop_in(&name.unit());
    let wanted = settings.filter(|settings| !settings.is_default()).map(render);
    match (wanted, fs::read_to_string(&path)) {
        (Some(wanted), Ok(present)) if wanted == present => Ok(false),
        (Some(wanted), _) => {
            if let Some(directory) = path.parent() {
                fs::create_dir_all(directory)?;
            }
            write_atomically(&path, wanted.as_bytes(), 0o644).map(|()| true)
        }
        (None, Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        (None, _) => remove(&path).map(|()| true),
    }
}

/// The containers that have a drop-in.
#[must_use]
pub fn existing(root: &Root) -> Vec<Name> {
    let Ok(entries) = fs::read_dir(root.at("/run/systemd/system")) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| Name::from_unit(entry.file_name().to_str()?.strip_suffix(".d")?))
        .filter(|name| root.unit_drop_in(&name.unit()).exists())
        .collect()
}

/// Removes a drop-in, and its directory if nobody else put anything there.
fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    if let Some(directory) = path.parent() {
        let _ = fs::remove_dir(directory);
    }
    Ok(())
}

/// The text of a drop-in.
fn render(settings: &UnitSettings) -> String {
    let mut text = String::from("# Written by berthd from the container's spec; edits here are lost.\n");
    for (section, lines) in [("Unit", unit_lines(settings)), ("Service", service_lines(settings))] {
        if !lines.is_empty() {
            let _ = writeln!(text, "\n[{section}]");
        }
        for (key, value) in lines {
            let _ = writeln!(text, "{key}={value}");
        }
    }
    text
}

/// The `[Unit]` section.
fn unit_lines(settings: &UnitSettings) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    lines.extend(settings.description.iter().map(|text| ("Description", escape(text))));
    let lists = [
        ("After", &settings.after),
        ("Before", &settings.before),
        ("Requires", &settings.requires),
        ("Wants", &settings.wants),
    ];
    let lists = lists.into_iter().filter(|(_, units)| !units.is_empty());
    lines.extend(lists.map(|(key, units)| (key, escape(&units.join(" ")))));
    if let Some(limit) = settings.start_limit {
        lines.push(("StartLimitBurst", limit.burst.to_string()));
        lines.push(("StartLimitIntervalSec", span(limit.interval)));
    }
    lines
}

/// The `[Service]` section.
fn service_lines(settings: &UnitSettings) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    lines.extend(settings.restart.map(|restart| ("Restart", word(restart).to_owned())));
    lines.extend(settings.restart_delay.map(|value| ("RestartSec", span(value))));
    lines.extend(settings.start_timeout.map(|value| ("TimeoutStartSec", span(value))));
    lines.extend(settings.stop_timeout.map(|value| ("TimeoutStopSec", span(value))));
    if let Some(signal) = settings.stop_signal {
        lines.push(("KillSignal", signal.0.to_string()));
        // ExecStop= asks whether the container's PID 1 catches this signal.
        lines.push(("Environment", format!("BERTH_STOP_SIGNAL={}", signal.0)));
    }
    lines
}

/// systemd's word.
fn word(restart: Restart) -> &'static str {
    match restart {
        Restart::No => "no",
        Restart::OnSuccess => "on-success",
        Restart::OnFailure => "on-failure",
        Restart::OnAbnormal => "on-abnormal",
        Restart::OnAbort => "on-abort",
        Restart::Always => "always",
    }
}

/// A time span (systemd.time(7)); the longest is no limit.
fn span(duration: Duration) -> String {
    if duration == Duration::MAX { "infinity".to_owned() } else { format!("{}us", duration.as_micros()) }
}

/// Text that systemd takes as it is: no specifiers, no continued line.
fn escape(text: &str) -> String {
    text.replace('%', "%%").trim_end_matches('\\').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Signal, StartLimit};

    #[test]
    fn every_setting_has_its_line() {
        let settings = UnitSettings {
            description: Some("100% of it \\".to_owned()),
            after: vec!["a.service".to_owned(), "b.service".to_owned()],
            before: vec!["c.target".to_owned()],
            requires: vec!["a.service".to_owned()],
            wants: vec!["d.service".to_owned()],
            restart: Some(Restart::OnAbnormal),
            restart_delay: Some(Duration::from_millis(1500)),
            start_limit: Some(StartLimit { burst: 3, interval: Duration::from_secs(60) }),
            start_timeout: Some(Duration::MAX),
            stop_signal: Some(Signal(3)),
            stop_timeout: Some(Duration::from_secs(5)),
        };
        assert_eq!(
            render(&settings),
            "# Written by berthd from the container's spec; edits here are lost.\n\n[Unit]\n\
             Description=100%% of it \nAfter=a.service b.service\nBefore=c.target\nRequires=a.service\n\
             Wants=d.service\nStartLimitBurst=3\nStartLimitIntervalSec=60000000us\n\n[Service]\n\
             Restart=on-abnormal\nRestartSec=1500000us\nTimeoutStartSec=infinity\nTimeoutStopSec=5000000us\n\
             KillSignal=3\nEnvironment=BERTH_STOP_SIGNAL=3\n"
        );
    }

    #[test]
    fn a_file_is_touched_only_when_it_must_change() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        let name: Name = "web".parse().unwrap();
        let some = UnitSettings { restart: Some(Restart::No), ..UnitSettings::default() };
        assert!(!apply(&root, &name, Some(&UnitSettings::default())).unwrap());
        assert!(apply(&root, &name, Some(&some)).unwrap());
        assert!(!apply(&root, &name, Some(&some)).unwrap());
        assert_eq!(existing(&root), vec![name.clone()]);
        assert!(apply(&root, &name, None).unwrap());
        assert!(!apply(&root, &name, None).unwrap());
        assert!(existing(&root).is_empty());
    }
}
