//! The host is shut down, or loses its power.

use crate::{
    support::host::{Host, Suite},
    world::World,
};

pub fn rebooted(suite: Suite) {
    comes_back(suite, |host| host.reboot().unwrap());
}

pub fn powered_off(suite: Suite) {
    comes_back(suite, |host| host.power_cycle().unwrap());
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

fn comes_back(suite: Suite, again: fn(&mut Host)) {
    let mut world = World::new(suite);
    for (name, more, vendor, ..) in CONTAINERS {
        let directory = if vendor { "/usr/lib/berth/containers" } else { "/etc/berth/containers" };
        world.host.write(format!("{directory}/{name}.toml"), crate::world::counted(name, more));
    }
    world.wait_running(&["auto", "stopped"]);
    world.host.ok("systemctl -q enable berth@enabled berth@enabled-and-stopped berth@vendor-enabled; \
                   systemctl start berth@byhand berth@enabled-and-stopped; \
                   systemctl stop berth@stopped berth@enabled-and-stopped");
    world.settle();
    for (name, .., before, _, _) in CONTAINERS {
        assert_eq!(world.starts(name), before, "{name}, before");
    }
    let boot_id = world.state().unwrap()["boot_id"].clone();
    let sandbox = world.sandboxes("auto");
    world.phase("before");

    again(&mut world.host);
    world.phase("booted again");
    world.wait_running(&["auto", "stopped", "enabled", "enabled-and-stopped", "vendor-enabled"]);
    world.settle();

    for (name, .., after, word) in CONTAINERS {
        assert_eq!((world.starts(name), world.word(name).as_str()), (after, word), "{name}, after");
    }
    assert_ne!(world.state().unwrap()["boot_id"], boot_id);
    let sandboxes = world.sandboxes("auto");
    assert!(sandboxes.len() == 2 && sandboxes.contains(&sandbox[0]), "{sandboxes:?}, {sandbox:?}");
    let names = |word: &str| CONTAINERS.iter().filter(|row| row.5 == word).map(|row| row.0.to_owned()).collect();
    let mut left = world.leftovers(&names("running"), &names("inactive"));
    // A test host's cgroups outlive its power; a machine's do not.
    left.retain(|what| !what.starts_with("the cgroup of"));
    assert_eq!(left, [] as [&str; 0]);
    assert_eq!(world.host.ok("systemctl --failed --no-legend"), "");
    world.phase("all is back");

    old_records(&world, boot_id.as_str().unwrap());
    world.phase("old records");
}

/// Records of an earlier boot that are still there (a /run that was kept): no PID in them means anything.
fn old_records(world: &World, boot_id: &str) {
    let present = world.host.read("/proc/sys/kernel/random/boot_id");
    let names = ["auto", "stopped", "enabled"];
    let before = world.all_facts(&names);
    world.while_dead(|| {
        for name in names {
            let path = format!("/run/berth/records/{name}.json");
            let record = world.host.read(&path).replace(present.trim(), boot_id);
            world.host.write(&path, record);
        }
    });
    world.settle();
    assert_eq!(world.all_facts(&names), before);
    let record = world.host.read("/run/berth/records/auto.json");
    assert!(record.contains(present.trim()) && !record.contains(boot_id), "{record}");
}
