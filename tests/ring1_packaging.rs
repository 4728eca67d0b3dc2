//! What stands in two places says the same in both: the template unit and the defaults of a spec, the catalog and
//! the MESSAGE_IDs, the manual and the exit statuses.

#![allow(clippy::expect_used, clippy::panic)] // a test panics where it fails

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use berth::{
    clock,
    journal::Event,
    protocol::Stage,
    spec::{CapabilitySet, Service},
};

/// A file of the project.
fn file(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path)
}

/// The one value of a setting in the template unit.
fn setting(key: &str) -> String {
    let unit = file("units/berth@.service");
    let mut values = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let value = values.next().unwrap_or_else(|| panic!("{key}= is not in the template unit"));
    assert_eq!(values.next(), None, "{key}= is there twice");
    value.to_owned()
}

/// A span as units have it.
fn span(key: &str) -> Duration {
    humantime::parse_duration(&setting(key)).expect(key)
}

#[test]
fn the_template_unit_has_the_defaults_of_a_spec() {
    let standard = Service::default();
    assert_eq!(format!("\"{}\"", setting("Restart")), serde_json::to_string(&standard.restart).unwrap());
    assert_eq!(span("RestartSec"), standard.restart_delay);
    assert_eq!(setting("StartLimitBurst"), standard.start_limit.burst.to_string());
    assert_eq!(span("StartLimitIntervalSec"), standard.start_limit.interval);
    assert_eq!(span("TimeoutStartSec"), standard.start_timeout);
    assert_eq!(span("TimeoutStopSec"), standard.stop_timeout);
    assert!(!file("units/berth@.service").contains("\nKillSignal="), "{:?} is systemd's default", standard.stop_signal);
    assert_eq!(setting("RestartPreventExitStatus"), Stage::Config.exit_status().to_string());
    assert_eq!(clock::span(span("TimeoutStartSec")), "1m 30s");
}

#[test]
fn the_catalog_explains_every_event_once() {
    let catalog = file("packaging/berth.catalog");
    let explained: Vec<&str> = catalog.lines().filter_map(|line| line.strip_prefix("-- ")).collect();
    let unique: BTreeSet<&str> = explained.iter().copied().collect();
    assert_eq!(unique.len(), explained.len(), "an ID stands twice in the catalog");
    assert_eq!(unique, Event::ALL.map(Event::id).into());
    for id in unique {
        assert!(id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{id} is no 128-bit ID");
    }
}

#[test]
fn the_manual_has_every_exit_status_of_a_failed_start() {
    let stages = [
        Stage::Connect,
        Stage::Config,
        Stage::Prepare,
        Stage::Namespaces,
        Stage::Mounts,
        Stage::Limits,
        Stage::User,
        Stage::Group,
        Stage::Directory,
        Stage::Confine,
        Stage::Program,
        Stage::HandOver,
    ];
    let (page, operations) = (file("packaging/man/berth-launch.8"), file("docs/operations.md"));
    for stage in stages {
        let (name, status) = (serde_json::to_string(&stage).unwrap().replace('"', ""), stage.exit_status());
        assert!(page.contains(&format!("\n.B {status}\n")), "berth-launch(8) lacks {status} ({name})");
        assert!(operations.contains(&format!("| {name} | {status} |")), "docs/operations.md lacks {name} {status}");
    }
}

#[test]
fn what_root_has_by_default_is_written_down() {
    let names = CapabilitySet::OCI_DEFAULT.names();
    for path in ["etc/berthd.toml", "etc/containers/reference.toml", "docs/operations.md"] {
        // Over the ends of lines, and in a comment too.
        let text = file(path).split_whitespace().filter(|word| *word != "#").collect::<Vec<_>>().join(" ");
        assert!(text.contains(&names.join(" ")), "{path} lacks {}", names.join(" "));
    }
    let page = file("packaging/man/berth.container.5");
    let list = page.split("The OCI default is").nth(1).and_then(|rest| rest.split(".PP").next()).unwrap_or_default();
    let listed: Vec<&str> = list.lines().filter_map(|line| line.strip_prefix(".BR ")?.split(' ').next()).collect();
    assert_eq!(listed, names, "berth.container(5)");
}

#[test]
fn the_examples_have_no_mistake() {
    let berthctl = env!("CARGO_BIN_EXE_berthctl");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/containers");
    for entry in fs::read_dir(examples).unwrap() {
        let path = entry.unwrap().path();
        let output = std::process::Command::new(berthctl).args(["check", "--strict"]).arg(&path).output().unwrap();
        assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stdout));
    }
}
