//! The host is shut down, or loses its power. What comes before and what after are functions of their own, so that ring 4
//! can go through them too.

use std::collections::BTreeSet;

use crate::{support::host::Suite, world::World};

pub fn rebooted(suite: Suite) {
    let mut world = World::new(suite);
    before(&world, "");
    world.host.reboot().unwrap();
    after(&world, "");
}

pub fn powered_off(suite: Suite) {
    let mut world = World::new(suite);
    before(&world, "");
    world.host.power_cycle().unwrap();
    after(&world, "");
}

/// A container, what is in its spec, whether it is a vendor's, its starts before and after, its state after.
const CONTAINERS: [(&str, &str, bool, usize, usize, &str); 7] = [
    ("auto", "", false, 1, 2, "running"),
    ("stopped", "", false, 1, 2, "running"),
    ("enabled", "autostart = false\n", false, 0, 1, "running"),
    ("enabled-and-stopped", "autostart = false\n", false, 1, 2, "running"),
    ("byhand", "autostart = false\n", false, 1, 1, "inactive"),
    ("vendor", "", true, 0, 0, "inactive"),
    ("vendor-enabled", "", true, 0, 1, "running"),
];

/// The names of [`CONTAINERS`], which begin so, that these are true for.
fn names(prefix: &str, which: impl Fn(&str) -> bool) -> Vec<String> {
    CONTAINERS.iter().filter(|row| which(row.0)).map(|row| format!("{prefix}{}", row.0)).collect()
}

/// Containers of every kind, their names with a prefix, and what is to be known of them after the boot.
pub fn before(world: &World, prefix: &str) {
    for (name, more, vendor, ..) in CONTAINERS {
        let directory = if vendor { "/usr/lib/berth/containers" } else { "/etc/berth/containers" };
        let name = format!("{prefix}{name}");
        world.host.write(format!("{directory}/{name}.toml"), crate::world::counted(&name, more));
    }
    let unit = format!("berth@{prefix}");
    let first = names(prefix, |name| matches!(name, "auto" | "stopped"));
    world.wait_running(&refs(&first));
    world.host.ok(&format!(
        "systemctl -q enable {unit}enabled {unit}enabled-and-stopped {unit}vendor-enabled; \
         systemctl start {unit}byhand {unit}enabled-and-stopped; systemctl stop {unit}stopped {unit}enabled-and-stopped"
    ));
    world.settle();
    for (name, .., before, _, _) in CONTAINERS {
        assert_eq!(world.starts(&format!("{prefix}{name}")), before, "{name}, before");
    }
    let boot_id = world.state().unwrap()["boot_id"].as_str().unwrap().to_owned();
    let sandbox = world.sandboxes(&format!("{prefix}auto"));
    world.host.write(format!("/srv/before-{prefix}"), format!("{boot_id}\n{}\n", sandbox[0]));
    world.phase("before");
}

/// What is so of them after a boot.
pub fn after(world: &World, prefix: &str) {
    world.phase("booted again");
    world.wait_running(&refs(&names(prefix, |name| !matches!(name, "byhand" | "vendor"))));
    world.settle();

    for (name, .., after, word) in CONTAINERS {
        let name = format!("{prefix}{name}");
        assert_eq!((world.starts(&name), world.word(&name).as_str()), (after, word), "{name}, after");
    }
    let known = world.host.read(format!("/srv/before-{prefix}"));
    let (boot_id, sandbox) = known.trim_end().split_once('\n').unwrap();
    assert_ne!(world.state().unwrap()["boot_id"], boot_id);
    let sandboxes = world.sandboxes(&format!("{prefix}auto"));
    assert!(sandboxes.len() == 2 && sandboxes.iter().any(|one| one == sandbox), "{sandboxes:?}, {sandbox}");
    // There may be others' containers. What the state file says of all is true: the world has settled.
    let mut left = world.leftovers(&of_state(world, "running"), &of_state(world, "inactive"));
    // A test host's cgroups outlive its power; a machine's do not.
    left.retain(|what| !what.starts_with("the cgroup of"));
    assert_eq!(left, [] as [&str; 0]);
    assert_eq!(world.host.ok("systemctl --failed --no-legend"), "");
    world.phase("all is back");

    old_records(world, &names(prefix, |name| matches!(name, "auto" | "stopped" | "enabled")), boot_id);
    world.phase("old records");
}

/// The containers of which the state file says so.
fn of_state(world: &World, word: &str) -> BTreeSet<String> {
    let state = world.state().unwrap();
    let all = state["containers"].as_array().unwrap().iter().filter(|container| container["state"] == word);
    all.map(|container| container["name"].as_str().unwrap().to_owned()).collect()
}

fn refs(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

/// Records of an earlier boot that are still there (a /run that was kept): no PID in them means anything.
fn old_records(world: &World, names: &[String], boot_id: &str) {
    let present = world.host.read("/proc/sys/kernel/random/boot_id");
    let before = world.all_facts(&refs(names));
    world.while_dead(|| {
        for name in names {
            let path = format!("/run/berth/records/{name}.json");
            let record = world.host.read(&path).replace(present.trim(), boot_id);
            world.host.write(&path, record);
        }
    });
    world.settle();
    assert_eq!(world.all_facts(&refs(names)), before);
    let record = world.host.read(format!("/run/berth/records/{}.json", names[0]));
    assert!(record.contains(present.trim()) && !record.contains(boot_id), "{record}");
}
