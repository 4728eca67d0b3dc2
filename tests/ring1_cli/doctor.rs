//! `doctor`: hosts that lack something and one that does not.

use serde_json::{Value, json};

use crate::{fleet, world::World};

#[test]
fn doctor_says_what_is_missing() {
    let world = World::with(&fleet());
    world.edit(|state| state["daemon"]["isolation"] = json!(["namespaces/pid", "no/such"]));
    world.write("/proc/sys/kernel/osrelease", "5.4.0-generic\n");
    let run = world.run(&["doctor"]);
    for line in [
        "NO socket",
        "mount_setattr Linux has it since 5.12",
        "→ boot Linux 5.12 or later",
        "no/such enabled, and this berth does not have it",
        "→ take it out of 'isolation' in berthd.toml",
    ] {
        // However wide the columns are.
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(run.out.lines().any(|said| words(said).contains(line)), "{line} in {}", run.out);
    }
    assert_eq!(run.code, 1);
    let report: Value = serde_json::from_str(&world.run(&["doctor", "--json"]).out).unwrap();
    assert_eq!(report["well"], json!(false));
    assert!(report["findings"].as_array().unwrap().iter().any(|f| f["verdict"] == "missing" && f["cure"].is_string()));
}

#[test]
fn doctor_is_content() {
    let world = World::with(&[]);
    world.edit(|state| state["daemon"]["manager"] = json!("systemd"));
    for unit in ["berthd.service", "berthd.socket", "berth.slice", "berth-pull.socket", "berth-pull@.service"] {
        world.write(&format!("/usr/lib/systemd/system/{unit}"), "");
    }
    world.write("/usr/lib/systemd/system/berth@.service", "[Service]\nExecStart=/usr/lib/berth/berth-launch %i\n");
    world.program("/usr/lib/berth/berth-launch", "");
    for file in ["/run/systemd/system/x", "/run/systemd/journal/stdout", "/var/lib/berth/x"] {
        world.write(file, "");
    }
    for kind in ["mnt", "pid", "ipc", "net"] {
        world.write(&format!("/proc/self/ns/{kind}"), "");
    }
    world.write("/proc/sys/kernel/cap_last_cap", "40\n");
    world.write("/proc/sys/kernel/osrelease", "6.1.0-18-amd64\n");
    world.write("/proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    world.write("/sys/fs/cgroup/cgroup.controllers", "cpu io memory pids\n");
    world.tool("systemctl", "echo 'systemd 252 (252.30-1)'");
    let berthd = world.berthd(&[""]);
    let run = world.run(&["doctor"]);
    assert!(run.out.ends_with("All that berth needs is there.\n"), "{}", run.out);
    assert_eq!(run.code, 0, "{}", run.out);
    berthd.join().unwrap();
}
