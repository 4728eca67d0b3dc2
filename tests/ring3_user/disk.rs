//! Limits of the disk, by `disk/du` and systemd. The tests of Mesos are `disk_quota_tests.cpp`'s.

use serde_json::{Value, json};

use crate::SOON;
use crate::support::berth::{Berth, spec};
use crate::support::host::Suite;
use crate::support::ring::Test;

pub const TRIALS: &[Test] = &[
    ("mesos_disk_quota_disk_usage_exceeds_quota", exceeds),
    ("mesos_disk_quota_volume_usage_exceeds_quota", volume_exceeds),
    ("mesos_disk_quota_no_quota_enforcement", no_enforcement),
    ("mesos_disk_quota_resource_statistics_and_slave_recovery", statistics_and_recovery),
    ("a_restart_policy_is_heeded_after_a_limit", restarts),
    ("limits_of_the_disk_change_live", live),
    ("a_wall_that_is_none_is_refused", hard),
];

/// Looked at every second.
fn begin(suite: Suite) -> impl std::ops::Deref<Target = Berth> {
    let host = Berth::shared(suite);
    look_often(&host);
    host
}

/// Has berthd look at every second.
fn look_often(host: &Berth) {
    host.write("/etc/berth/berthd.toml.d/disk.toml", "disk.watch_interval = \"1s\"\nstatistics.interval = \"1s\"\n");
    host.ok("systemctl reload berthd");
}

/// A program that writes so many MiB and stays.
fn writes(mib: u32, to: &str) -> String {
    format!("command = \"head -c {}M /dev/zero > {to}; exec sleep infinity\"\n", mib)
}

const ONCE: &str = "[service]\nrestart = \"no\"\n";

fn exceeds(suite: Suite) {
    let host = begin(suite);
    let toml = format!("{}{ONCE}[disk]\nlimit = \"1MiB\"\nenforce = \"kill\"\n", writes(2, "file"));
    host.drop_spec("over", &toml);
    let state = host.wait_state("over", "failed");
    let limitation = &state["limitation"];
    assert_eq!(limitation["reason"], "disk");
    let message = limitation["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("Disk usage (") && message.ends_with(") exceeds quota (1MiB)"), "{message}");
    let resource = json!([{"name": "disk", "type": "SCALAR", "scalar": {"value": 1.0}}]);
    assert_eq!(limitation["limited_resources"], resource);
    assert_eq!(host.property("over", "Result"), "signal");
    assert_eq!(host.property("over", "ExecMainStatus"), "9");
    let events = host.entries("MESSAGE_ID=8bc404bfb5d74eee950504d500c3cc96 BERTH_CONTAINER=over");
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0]["MESSAGE"].as_str().unwrap().contains(&message), "{events:?}");
    assert!(host.berthctl("status over").stdout.contains(&message));
    // What it wrote is there to be looked at.
    let sandbox = state["sandbox"].as_str().unwrap();
    assert_eq!(host.ok(&format!("stat -c %s {sandbox}/file")).trim(), (2 << 20).to_string());
}

fn volume_exceeds(suite: Suite) {
    let host = begin(suite);
    let volume = "[[volumes]]\ncontainer_path = \"/srv\"\nhost_path = \"data\"\nlimit = \"1MiB\"\n";
    let disk = "[disk]\nlimit = \"100MiB\"\nenforce = \"kill\"\n";
    host.drop_spec("vol", &format!("{}{ONCE}{disk}{volume}", writes(2, "/srv/file")));
    let state = host.wait_state("vol", "failed");
    let message = state["limitation"]["message"].as_str().unwrap();
    assert!(message.ends_with(") exceeds quota (1MiB) of the volume /srv"), "{message}");
    assert_eq!(state["limitation"]["limited_resources"][0]["disk"]["persistence"]["id"], "data");
}

/// What is said of a container, once it holds.
fn statistics(host: &Berth, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
    host.wait_for("the statistics", SOON, || {
        let all: Value = serde_json::from_str(&host.find("/run/berth/statistics.json")?).ok()?;
        let one = all["containers"].as_array()?.iter().find(|one| one["name"] == name)?.clone();
        holds(&one).then_some(one)
    })
}

fn no_enforcement(suite: Suite) {
    let host = begin(suite);
    host.drop_spec("account", &format!("{}[disk]\nlimit = \"1MiB\"\n", writes(2, "file")));
    host.wait_state("account", "running");
    let over = |one: &Value| one["disk_used_bytes"].as_u64() >= Some(2 << 20);
    let one = statistics(&host, "account", over);
    assert_eq!(one["disk_limit_bytes"], 1 << 20);
    let state = host.wait_state("account", "running");
    assert_eq!((&state["restarts"], &state["limitation"]), (&json!(0), &Value::Null));
}

fn statistics_and_recovery(suite: Suite) {
    // Berthd is restarted, which other trials would notice.
    let host = Berth::boot(suite);
    look_often(&host);
    let volume = "[[volumes]]\ncontainer_path = \"/srv\"\nhost_path = \"data\"\nlimit = \"8MiB\"\n";
    let command = "command = \"head -c 3M /dev/zero > file; head -c 4M /dev/zero > /srv/file; exec sleep infinity\"\n";
    let pid = host.run("stat", &format!("{command}[disk]\nlimit = \"6MiB\"\nenforce = \"kill\"\n{volume}"));
    let whole = |one: &Value| {
        one["disk_used_bytes"].as_u64() >= Some(3 << 20)
            && one["disk_statistics"][1]["used_bytes"].as_u64() >= Some(4 << 20)
    };
    let one = statistics(&host, "stat", whole);
    // Mesos: the volume is not the sandbox's.
    assert!(one["disk_used_bytes"].as_u64() < Some(4 << 20), "{one}");
    assert_eq!(
        (&one["disk_statistics"][0]["limit_bytes"], &one["disk_limit_bytes"]),
        (&json!(6 << 20), &json!(6 << 20))
    );
    assert_eq!(one["disk_statistics"][1]["limit_bytes"], 8 << 20);
    let judge = |path: &str, more: &str| -> u64 {
        let du = host.ok(&format!("du -k -s -x {more} {path} | cut -f1"));
        du.trim().parse::<u64>().unwrap() * 1024
    };
    let sandbox = host.container("stat").unwrap()["sandbox"].as_str().unwrap().to_owned();
    assert_eq!(one["disk_used_bytes"], judge(&sandbox, "--exclude=data"));
    assert_eq!(one["disk_statistics"][1]["used_bytes"], judge(&format!("{sandbox}/data"), ""));
    // SlaveRecovery (MESOS-2452).
    host.restart_berthd();
    assert_eq!(statistics(&host, "stat", whole)["disk_statistics"], one["disk_statistics"]);
    assert_eq!(host.main_pid("stat"), pid);
}

fn restarts(suite: Suite) {
    let host = begin(suite);
    let disk = "[disk]\nlimit = \"1MiB\"\nenforce = \"kill\"\n";
    let service = "[service]\nrestart = \"on-failure\"\nrestart_delay = \"100ms\"\n";
    let command = "command = \"sleep 1; head -c 2M /dev/zero > file; exec sleep infinity\"\n";
    host.drop_spec("again", &format!("{command}{disk}{service}"));
    host.wait_until("again", "two restarts", |state| state["restarts"].as_u64() >= Some(2));
    host.remove_spec("again");
    host.wait_gone("again");
}

fn live(suite: Suite) {
    let host = begin(suite);
    let toml = |limit: &str, enforce: &str| {
        format!("{}{ONCE}[disk]\nlimit = \"{limit}\"\nenforce = \"{enforce}\"\n", writes(4, "file"))
    };
    let pid = host.run("live", &toml("10MiB", "kill"));
    statistics(&host, "live", |one| one["disk_used_bytes"].as_u64() >= Some(4 << 20));
    host.drop_spec("live", &toml("20MiB", "kill"));
    statistics(&host, "live", |one| one["disk_limit_bytes"] == 20 << 20);
    host.drop_spec("live", &toml("1MiB", "account"));
    statistics(&host, "live", |one| one["disk_limit_bytes"] == 1 << 20);
    assert_eq!(host.main_pid("live"), pid, "a limit restarts nothing");
    host.drop_spec("live", &toml("2MiB", "kill"));
    let state = host.wait_state("live", "failed");
    assert!(state["limitation"]["message"].as_str().unwrap().ends_with("exceeds quota (2MiB)"), "{state}");
}

fn hard(suite: Suite) {
    let host = begin(suite);
    host.drop_spec("hard", &format!("{}[disk]\nlimit = \"1MiB\"\nenforce = \"hard\"\n", writes(2, "file")));
    let state = host.wait_state("hard", "failed");
    assert_eq!(state["error"]["stage"], "config");
    assert!(state["error"]["message"].as_str().unwrap().contains("needs a project quota"), "{state}");
    assert!(host.files().exists(spec("hard").to_str().unwrap()));
}
