//! Disks that are full.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    support::host::{BootOptions, Suite},
    world::{PATIENCE, World},
};

/// Waits until berthd's `STATUS=` has all of these words.
fn wait_status(world: &World, words: &[&str]) {
    world.host.wait_for(&format!("STATUS= with {words:?}"), PATIENCE, || {
        let status = world.host.show("berthd", "StatusText");
        words.iter().all(|word| status.contains(word)).then_some(())
    });
}

/// A start has to fail at once, and `systemctl status` has to say all of these words.
fn start_fails(world: &World, name: &str, words: &[&str]) {
    let output = world.host.sh(&format!("systemctl start berth@{name}"));
    assert!(!output.status.success(), "{name}: {output}");
    let status = world.host.sh(&format!("systemctl status -l --no-pager berth@{name}")).stdout;
    words.iter().for_each(|word| assert!(status.contains(word), "{word:?} is not in:\n{status}"));
}

pub fn durable(suite: Suite) {
    let world = World::with(suite, BootOptions::default().tmpfs("/var/lib/berth", "1m"));
    let private = "volumes = [{ container_path = \"/tmp\", host_path = \"tmp\", mode = \"RW\" }]\n";
    world.drop_counted("runs", private);
    world.drop_counted("later", &format!("autostart = false\n{private}[service]\nrestart = \"no\"\n"));
    world.wait_running(&["runs"]);
    world.settle();
    let (before, berthd) = (world.facts("runs"), world.berthd());

    // A file system in memory runs out of inodes for what is no data.
    world.host.sh("head -c 4M /dev/zero >/var/lib/berth/filler");
    world.host.ok("mount -o remount,nr_inodes=$(($(df --output=iused /var/lib/berth | tail -n1))) /var/lib/berth");
    start_fails(&world, "later", &["No space left on device", "/var/lib/berth/sandboxes/later"]);
    wait_status(&world, &["1 running", "1 failed (later: ", "No space left on device"]);
    world.be_true_within(Duration::from_secs(1));
    assert_eq!(world.container("later").unwrap()["error"]["errno"], 28);
    // A dropped one fails too, and a restart of berthd changes nothing.
    world.drop_counted("dropped", "[service]\nrestart = \"no\"\n");
    world.wait_word("dropped", "failed");
    world.while_dead(|| ());
    world.settle();
    assert_eq!((world.facts("runs"), world.starts("dropped")), (before.clone(), 0));
    assert_ne!(world.berthd(), berthd);
    world.phase("full");

    world.host.ok("mount -o remount,nr_inodes=0 /var/lib/berth; rm /var/lib/berth/filler");
    world.host.ok("systemctl start berth@later berth@dropped");
    world.settle();
    assert_eq!(["runs", "later", "dropped"].map(|name| world.word(name)), ["running"; 3]);
    assert_eq!(world.facts("runs"), before);
    assert_eq!(
        world.leftovers(&["runs", "later", "dropped"].map(String::from).into(), &BTreeSet::new()),
        [] as [&str; 0]
    );
    world.phase("free again");
}

pub fn runtime(suite: Suite) {
    let world = World::new(suite);
    world
        .host
        .ok("systemctl stop berthd.socket berthd.service; mount -t tmpfs -o size=512k,mode=755 small /run/berth; \
                   systemctl start berthd.socket berthd.service");
    for name in ["runs", "stopped", "removed"] {
        world.drop_counted(name, "");
    }
    world.drop_counted("later", "autostart = false\n[service]\nrestart = \"no\"\n");
    world.wait_running(&["runs", "stopped", "removed"]);
    world.settle();
    let (before, berthd) = (world.facts("runs"), world.berthd());
    world.phase("three run");

    world.host.sh("cat /dev/zero >/run/berth/filler");
    start_fails(&world, "later", &["No space left on device", "/run/berth/records/later.json"]);
    wait_status(&world, &["cannot write /run/berth/state.json", "No space left on device"]);
    world.host.ok("systemctl stop berth@stopped");
    world.delete("removed");
    world.wait_active("removed", "inactive");
    assert_eq!((world.facts("runs"), world.berthd()), (before.clone(), berthd), "berthd goes on");
    world.phase("full");

    world.host.ok("rm /run/berth/filler");
    world.host.wait_for("the state file to be fresh", Duration::from_secs(3), || {
        (world.lies().is_empty() && world.word("removed").is_empty()).then_some(())
    });
    assert_eq!(world.berthd(), berthd, "without a restart");
    world.host.ok("systemctl start berth@later");
    world.settle();
    assert_eq!(["runs", "later", "stopped"].map(|name| world.word(name)), ["running", "running", "stopped"]);
    // What could not be written then is not missing now.
    world.while_dead(|| ());
    world.settle();
    assert_eq!(["runs", "later", "stopped"].map(|name| world.word(name)), ["running", "running", "stopped"]);
    assert_eq!((world.facts("runs"), world.starts("stopped")), (before, 1));
    let left = world.leftovers(&["runs", "later"].map(String::from).into(), &BTreeSet::from(["stopped".to_owned()]));
    assert_eq!(left, [] as [&str; 0]);
    world.phase("free again");
}

pub fn all_of_run(suite: Suite) {
    let world = World::new(suite);
    world.drop_counted("runs", "");
    world.wait_running(&["runs"]);
    world.settle();
    let (before, berthd) = (world.facts("runs"), world.berthd());

    world.host.ok("mount -o remount,size=$(($(df --output=used -k /run | tail -n1) + 64))k /run");
    world.host.sh("cat /dev/zero >/run/filler");
    world.drop_counted("settings", "[service]\nstop_timeout = \"33s\"\nrestart = \"no\"\n");
    world.drop_counted("runs", "[service]\nstop_timeout = \"44s\"\n");
    wait_status(&world, &["No space left on device"]);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!((world.facts("runs"), world.berthd()), (before.clone(), berthd));
    world.phase("full");

    world.host.ok("rm /run/filler; mount -o remount,size=64m /run");
    world.host.wait_for("the settings to be caught up with", PATIENCE, || {
        (world.host.show("berth@runs", "TimeoutStopUSec") == "44s").then_some(())
    });
    world.host.wait_for("the state file to be fresh", PATIENCE, || world.lies().is_empty().then_some(()));
    world.host.ok("systemctl start berth@settings");
    assert_eq!(world.host.show("berth@settings", "TimeoutStopUSec"), "33s");
    world.settle();
    assert_eq!((world.facts("runs"), world.berthd()), (before, berthd));
    world.phase("free again");
}
