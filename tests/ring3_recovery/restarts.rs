//! Everything below and beside the containers is restarted.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    support::host::Suite,
    world::{PATIENCE, World},
};

/// `ManagerAway` and `ManagerBack` of `src/journal.rs`: frozen.
const AWAY: &str = "d755003703b6490bbae2025abfb90277";
const BACK: &str = "6932dc28732244ca889142d7ace7e5cb";

/// Not `restart`: systemd 252 takes that for two jobs of which the first may fail.
const STOP_AND_START: &str = "stop berthd.socket berthd; systemctl start berthd.socket berthd";

/// berthd still hears of files, and systemd of berthd.
fn still_works(world: &World, name: &str) {
    world.drop_counted(name, "");
    world.wait_running(&[name]);
    world.drop_counted(name, "environment = { V = \"2\" }\n[service]\nstop_timeout = \"33s\"\n");
    world.host.wait_for("the edit", PATIENCE, || (world.starts(name) == 2).then_some(()));
    world.wait_running(&[name]);
    assert_eq!(world.host.show(&format!("berth@{name}"), "TimeoutStopUSec"), "33s");
    world.delete(name);
    world.wait_word(name, "");
    world.settle();
}

pub fn of_systemd(suite: Suite) {
    let world = World::new(suite);
    let names = ["one", "two", "three"];
    names.iter().for_each(|name| world.drop_counted(name, "[service]\nstop_timeout = \"20s\"\n"));
    world.wait_running(&names);
    world.settle();
    let before = world.all_facts(&names);
    let mut berthd = world.berthd();
    for (number, command) in
        ["restart berthd", "daemon-reload", "daemon-reexec", STOP_AND_START].into_iter().enumerate()
    {
        let output = world.host.sh(&format!("systemctl {command}"));
        assert!(output.status.success(), "{command}: {output}\n{}", world.host.journal_tail());
        if command.contains("start") {
            assert_ne!(std::mem::replace(&mut berthd, world.berthd()), world.berthd(), "{command}");
        }
        world.be_true_within(Duration::from_secs(1));
        still_works(&world, &format!("after{number}"));
        assert_eq!((world.all_facts(&names), world.berthd()), (before.clone(), berthd), "{command}");
        world.phase(command);
    }
    names.iter().for_each(|name| assert_eq!(world.starts(name), 1));
    assert_eq!(world.leftovers(&names.map(String::from).into(), &BTreeSet::new()), [] as [&str; 0]);
}

pub fn of_the_bus(suite: Suite) {
    let world = World::new(suite);
    let names = ["one", "two", "removed", "edited", "stopped", "restarted"];
    names.iter().for_each(|name| world.drop_counted(name, ""));
    world.drop_counted("byhand", "autostart = false\n");
    world.wait_running(&names);
    world.settle();
    let before = world.all_facts(&names);
    let berthd = world.berthd();
    world.phase("six run");

    world.host.ok("systemctl stop dbus.socket dbus.service");
    world.host.wait_for("berthd to say that the bus is away", PATIENCE, || {
        let away = !world.state()?["daemon"]["manager_away"].is_null();
        (away && world.host.show("berthd", "StatusText").contains("away")).then_some(())
    });
    assert_eq!(world.all_facts(&names), before);
    // systemctl as root needs no bus, and neither does a launch.
    world.host.ok("systemctl start berth@byhand && systemctl stop berth@stopped && systemctl restart berth@restarted");
    world.host.wait_for("the two", PATIENCE, || {
        ((world.starts("byhand"), world.starts("restarted")) == (1, 2)).then_some(())
    });
    world.delete("removed");
    world.drop_counted("edited", "environment = { V = \"2\" }\n");
    world.drop_counted("added", "[service]\nstop_timeout = \"33s\"\n");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(world.facts("edited"), before["edited"], "unit changes wait");
    world.phase("the bus is away");

    world.host.ok("systemctl start dbus.socket dbus.service");
    world.wait_running(&["added", "edited", "byhand"]);
    world.host.wait_for("berthd to catch up", PATIENCE, || {
        let back = world.state()?["daemon"]["manager_away"].is_null();
        (back && world.word("removed").is_empty() && world.starts("edited") == 2).then_some(())
    });
    world.settle();
    world.phase("the bus is back");
    assert_eq!(world.berthd(), berthd, "berthd waited");
    assert_eq!((world.events(AWAY), world.events(BACK)), (1, 1));
    let after = world.all_facts(&names);
    ["one", "two"].iter().for_each(|name| assert_eq!(after[*name], before[*name], "{name}"));
    assert_eq!(["stopped", "byhand", "added"].map(|name| world.word(name)), ["stopped", "running", "running"]);
    assert_eq!(["added", "byhand", "restarted", "stopped"].map(|name| world.starts(name)), [1, 1, 2, 1]);
    assert_eq!(world.host.show("berth@added", "TimeoutStopUSec"), "33s");

    world.host.ok("systemctl restart dbus");
    still_works(&world, "after");
    assert_eq!((world.facts("one"), world.berthd()), (before["one"].clone(), berthd));
    world.phase("the bus restarted");
}

pub fn without_berthd(suite: Suite) {
    let world = World::new(suite);
    ["waits", "fails", "runs"].iter().for_each(|name| world.drop_counted(name, "[service]\nrestart = \"no\"\n"));
    world.wait_running(&["waits", "fails", "runs"]);
    world.host.ok("systemctl stop berth@waits berth@fails");
    world.settle();
    let before = world.facts("runs");

    // Stopped, berthd comes when it is needed.
    world.host.ok("systemctl stop berthd.socket berthd.service && systemctl start berth@waits");
    assert_eq!(world.host.show("berthd", "ActiveState"), "active");
    world.host.ok("systemctl stop berth@waits");
    world.settle();

    // Masked, it does not. A launch waits, and works when it is back.
    world.host.ok("systemctl -q mask --runtime --now berthd.socket berthd.service");
    let mut waits = world.host.spawn("systemctl start berth@waits");
    world.host.wait_for("the launcher to say that it waits", PATIENCE, || {
        (world.host.show("berth@waits", "StatusText") == "Waiting for berthd").then_some(())
    });
    world.host.ok("systemctl -q unmask --runtime berthd.socket berthd.service && systemctl start berthd.socket berthd");
    let output = waits.wait(PATIENCE).unwrap().unwrap();
    assert!(output.status.success(), "{output}");
    world.settle();
    assert_eq!(world.starts("waits"), 3);
    world.phase("a launch waited");

    // For ever away: it fails, with the reason.
    world.host.ok("systemctl -q mask --runtime --now berthd.socket berthd.service");
    let mut fails = world.host.spawn("systemctl start berth@fails");
    let output = fails.wait(Duration::from_secs(60)).unwrap().unwrap();
    assert!(!output.status.success(), "{output}");
    let status = world.host.sh("systemctl status berth@fails").stdout;
    assert!(status.contains("connect: cannot get the plan from berthd: "), "{status}");
    assert!(status.contains("is it running? systemctl start berthd"), "{status}");
    assert_eq!(world.facts("runs"), before);
    world.phase("a launch failed");
}
