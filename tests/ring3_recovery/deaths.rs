//! berthd is killed with SIGKILL.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    support::host::{Suite, slowness},
    world::{PATIENCE, World, counted},
};

/// How soon the state file has to be true once berthd has said that it is back.
const SOON: Duration = Duration::from_secs(1);

/// What holds berthd back for a while.
const STAYS: &str = "/run/systemd/system/berthd.service.d/for-all.conf";

/// The last line that the ticker logged.
fn last_tick(world: &World) -> u32 {
    let tail = "journalctl --sync; journalctl -q -b -u berth@ticker -t ticker -o cat -n 1";
    world.host.ok(tail).trim_start_matches("tick ").parse().unwrap()
}

pub fn missed_by_nobody(suite: Suite) {
    let world = World::new(suite);
    let names = ["one", "two", "three", "ticker", "host"];
    for name in ["one", "two", "three"] {
        world.drop_counted(name, "volumes = [{ container_path = \"/tmp\", host_path = \"tmp\", mode = \"RW\" }]\n");
    }
    world.drop_counted("host", "[namespaces]\npid = \"host\"\nipc = \"host\"\n");
    world.drop_spec("ticker", "command = [\"/usr/local/bin/ticker\"]\n");
    world.wait_running(&names);
    world.phase("five run");
    let before = world.all_facts(&names);
    assert!(before.values().all(|facts| facts.born.is_some()), "{before:?}");
    let (daemon, tick) = (world.berthd(), last_tick(&world));

    let meanwhile = world.while_dead(|| {
        world.host.wait_for("the log to go on", PATIENCE, || (last_tick(&world) > tick + 5).then_some(()));
        assert_eq!(world.all_facts(&names), before);
        last_tick(&world)
    });
    world.be_true_within(SOON);
    world.phase("killed and back");

    assert_ne!(world.berthd(), daemon);
    assert_eq!(world.all_facts(&names), before);
    assert_eq!(world.state().unwrap()["containers"].as_array().unwrap().len(), names.len());
    world.host.wait_for("the log to go on", PATIENCE, || (last_tick(&world) > meanwhile + 5).then_some(()));

    // Again, and by the unit's own Restart= this time.
    for _ in 0..5 {
        let daemon = world.berthd();
        world.host.ok("systemctl kill -s KILL --kill-whom=main berthd");
        world.host.wait_for("berthd to be back", PATIENCE, || {
            let now = world.berthd();
            (now != 0 && now != daemon && world.host.show("berthd", "ActiveState") == "active").then_some(())
        });
        world.be_true_within(SOON);
    }
    assert_eq!(world.all_facts(&names), before);
    for name in ["one", "two", "three", "host"] {
        assert_eq!(world.starts(name), 1, "{name}");
        assert_eq!(world.processes(name), [before[name].pid], "{name}");
    }
    assert_eq!(world.leftovers(&names.map(String::from).into(), &BTreeSet::new()), [] as [&str; 0]);
    world.phase("five times more");
}

/// What is done with each container while berthd is dead; its program's starts when berthd is back; its state then.
const MEANWHILE: [(&str, usize, &str); 12] = [
    ("untouched", 1, "running"),
    ("edited", 2, "running"),
    ("commented", 1, "running"),
    ("manual", 1, "running"),
    ("broken", 1, "running"),
    ("added", 1, "running"),
    ("removed", 1, ""),
    ("stopped", 1, "stopped"),
    ("stopped-and-edited", 1, "stopped"),
    ("stopped-before", 1, "stopped"),
    ("restarted", 2, "running"),
    ("started", 2, "running"),
];

pub fn caught_up_once(suite: Suite) {
    let world = World::new(suite);
    let there: Vec<&str> = MEANWHILE.iter().map(|row| row.0).filter(|name| *name != "added").collect();
    there.iter().for_each(|name| world.drop_counted(name, ""));
    world.drop_counted("manual", "on_change = \"manual\"\n");
    world.wait_running(&there);
    world.host.ok("systemctl stop berth@stopped-before berth@started");
    world.wait_word("started", "stopped");
    world.phase("all run");
    let before = world.all_facts(&there);

    world.while_dead(|| {
        let edit = "environment = { A = \"1\" }\n";
        world.drop_counted("edited", edit);
        world.drop_counted("stopped-and-edited", edit);
        world.drop_counted("manual", &format!("on_change = \"manual\"\n{edit}"));
        world.drop_spec("commented", &format!("# nothing\n{}", counted("commented", "")));
        world.drop_spec("broken", "comand = 1\n");
        world.drop_counted("added", "");
        world.delete("removed");
        world.host.ok("systemctl stop berth@stopped berth@stopped-and-edited");
        world.host.ok("berth_dead=$(systemctl show -P SubState berthd); test $berth_dead = auto-restart");
    });
    world.wait_running(&["edited", "added"]);
    world.host.ok("systemctl restart berth@restarted; systemctl start berth@started");
    world.settle();
    world.phase("killed, changed and back");

    let check = |when: &str| {
        for (name, starts, word) in MEANWHILE {
            assert_eq!((world.starts(name), world.word(name).as_str()), (starts, word), "{name}, {when}");
        }
        let after = world.all_facts(&there);
        for name in ["untouched", "commented", "manual", "broken"] {
            assert_eq!(after[name], before[name], "{name}, {when}");
        }
    };
    check("back");
    assert_eq!(world.container("manual").unwrap()["spec"]["pending"].to_string(), "[\"environment\"]");
    assert!(world.container("broken").unwrap()["spec"]["errors"].to_string().contains("did you mean"), "the reason");

    world.while_dead(|| ());
    world.settle();
    check("back again");
    world.phase("killed and back");
}

pub fn ended_meanwhile(suite: Suite) {
    let world = World::new(suite);
    let waits = |name: &str, end: &str| {
        let script = format!("echo started >>/srv/starts/{name}; while [ ! -e /srv/end ]; do sleep 0.02; done; {end}");
        world.drop_spec(name, &format!("command = '{script}'\n"));
    };
    waits("well", "exit 0");
    waits("badly", "exit 42");
    waits("gone", "exit 0");
    waits("segv", "kill -SEGV $$");
    let all = ["well", "badly", "gone", "segv"];
    for name in ["badly", "segv"] {
        let text = world.host.read(World::path(name));
        // The kernel keeps a PID 1 from killing itself.
        world.drop_spec(name, &format!("{text}\n[service]\nrestart = \"no\"\n[namespaces]\npid = \"host\"\n"));
    }
    world.wait_running(&all);
    world.settle();
    world.phase("four run");
    let starts = all.map(|name| world.starts(name));

    world.while_dead(|| {
        world.host.write("/srv/end", "");
        world.host.wait_for("the ends", PATIENCE, || {
            let facts = world.all_facts(&all);
            facts.values().all(|facts| matches!(facts.active.as_str(), "inactive" | "failed")).then_some(())
        });
        world.delete("gone");
    });
    world.be_true_within(SOON);
    world.settle();
    world.phase("ended, killed and back");

    assert_eq!(all.map(|name| world.starts(name)), starts, "nobody is started again");
    assert_eq!(["badly", "segv", "gone"].map(|name| world.word(name)), ["failed", "failed", ""]);
    // systemd has unloaded a unit that ended cleanly and that nobody held: how it ended is not known.
    assert!(["exited", "stopped"].contains(&world.word("well").as_str()), "{}", world.word("well"));
    assert_eq!(world.container("badly").unwrap()["exit"].to_string(), "{\"exited\":42}");
    assert_eq!(world.container("segv").unwrap()["exit"].to_string(), "{\"killed\":11}");
    let stopped = ["well", "badly", "segv"].map(String::from).into();
    assert_eq!(world.leftovers(&BTreeSet::new(), &stopped), [] as [&str; 0]);
    for name in all {
        assert_eq!(world.sandboxes(name).len(), 1, "{name}: retention keeps it");
    }
    ["well", "badly", "segv"].iter().for_each(|name| world.delete(name));
    world.host.wait_for("them to be forgotten", PATIENCE, || {
        world.host.ok("systemctl list-units --all --plain --no-legend 'berth@*'").is_empty().then_some(())
    });
    world.settle();
    assert_eq!(world.leftovers(&BTreeSet::new(), &BTreeSet::new()), [] as [&str; 0]);
}

pub fn stale_is_said(suite: Suite) {
    let world = World::new(suite);
    world.drop_counted("web", "");
    world.wait_running(&["web"]);
    world.settle();
    let boot_id = world.host.read("/proc/sys/kernel/random/boot_id");
    assert_eq!(world.state().unwrap()["boot_id"], boot_id.trim());
    let alive = world.host.sh("berthctl list; berthctl status");
    assert!(!alive.stderr.contains("not running"), "{alive}");

    world.while_dead(|| {
        let dead = world.host.sh("berthctl list");
        assert!(dead.stdout.contains("web"), "{dead}");
        assert!(dead.stderr.contains("berthd is not running; this was true at"), "{dead}");
        // A PID that is somebody else's by now is no berthd.
        let state = world.host.read("/run/berth/state.json");
        let daemon = world.state().unwrap()["daemon"]["pid"].to_string();
        world.host.write("/run/berth/state.json", state.replacen(&format!("\"pid\": {daemon}"), "\"pid\": 1", 1));
        let other = world.host.sh("berthctl list");
        assert!(other.stderr.contains("berthd is not running"), "{other}");
    });
    world.be_true_within(SOON);
    world.phase("said");
}

/// berthd is killed while it starts something, and before it is back an operator stops that.
pub fn stopped_after_a_broken_start(suite: Suite) {
    let world = World::new(suite);
    for (number, delay) in [0, 10, 20, 35].into_iter().enumerate() {
        let name = format!("c{number}");
        world.host.write(STAYS, "[Unit]\nStartLimitBurst=0\n[Service]\nRestartSec=600ms\n");
        world.host.ok("systemctl daemon-reload");
        world.drop_counted(&name, "");
        world.host.wait_for("the record", PATIENCE, || {
            world.host.files().exists(format!("/run/berth/records/{name}.json")).then_some(())
        });
        std::thread::sleep(Duration::from_millis(delay));
        world.kill();
        world.wait_running(&[&name]);
        world.host.ok(&format!("systemctl stop berth@{name}"));
        world.host.wait_for("berthd to be back", PATIENCE, || {
            (world.host.show("berthd", "ActiveState") == "active").then_some(())
        });
        world.settle();
        assert_eq!((world.starts(&name), world.word(&name).as_str()), (1, "stopped"), "killed after {delay} ms");
    }
    world.phase("four broken starts");
}

/// A spec that goes and comes back, as some editors and all package managers have it, is not an operator's stop.
pub fn gone_and_back(suite: Suite) {
    let world = World::new(suite);
    let names = ["same", "other", "crash"];
    names.iter().for_each(|name| world.drop_spec(name, &slow(name, "")));
    world.wait_running(&names);
    world.settle();
    let stopping = |name: &str| {
        world.delete(name);
        world.wait_active(name, "deactivating");
    };
    stopping("same");
    world.drop_spec("same", &slow("same", ""));
    stopping("other");
    world.drop_spec("other", &slow("other", "environment = { V = \"2\" }\n"));
    stopping("crash");
    world.while_dead(|| world.drop_spec("crash", &slow("crash", "")));
    world
        .host
        .wait_for("them to run again", PATIENCE, || names.iter().all(|name| world.starts(name) == 2).then_some(()));
    world.settle();
    for name in names {
        assert_eq!((world.word(name).as_str(), world.starts(name)), ("running", 2), "{name}");
    }
    world.phase("gone and back");
}

/// A container that takes its time to stop.
fn slow(name: &str, more: &str) -> String {
    let time = 0.3 * f64::from(slowness());
    let script = format!("trap 'sleep {time}; exit 0' TERM; echo started >>/srv/starts/{name}; sleep infinity & wait");
    format!("command = \"{script}\"\n{more}")
}
