//! Very many at once, and two of what there should be one of.

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;

use crate::{
    support::host::{Suite, slowness},
    world::{World, counted},
};

/// How often systemd was asked to read its units again.
fn reloads(world: &World) -> usize {
    let count = "journalctl --sync; journalctl -q -b -o cat _PID=1 | grep -ciE '^reloading( finished|\\.)' || true";
    world.host.ok(count).trim().parse().unwrap()
}

/// berthd's memory, in KiB.
fn resident(world: &World) -> String {
    world.host.ok("grep VmRSS /proc/$(systemctl show -P MainPID berthd)/status").replace("VmRSS:", "").trim().to_owned()
}

/// Two hundred; of an emulated machine, less is asked.
pub fn two_hundred(suite: Suite) {
    let world = World::new(suite);
    let number = 200 / slowness();
    let names: Vec<String> = (0..number).map(|number| format!("c{number:03}")).collect();
    let (before, memory) = (reloads(&world), resident(&world));
    world.host.ok("mkdir /etc/drop");
    for name in &names {
        world.host.write(format!("/etc/drop/{name}.toml"), counted(name, ""));
    }
    world.phase("written");
    world.host.ok("mv /etc/drop/*.toml /etc/berth/containers/");
    world.host.wait_for("all of them", Duration::from_secs(60), || {
        let count = world.host.ok("systemctl list-units --plain --no-legend 'berth@*' --state=running | wc -l");
        (count.trim() == number.to_string()).then_some(())
    });
    world.phase(&format!("{number} run"));
    world.settle();
    assert_eq!(reloads(&world), before, "no setting needs a reload");
    let processes = world.all_processes();
    for name in &names {
        assert_eq!((world.starts(name), processes[name].len()), (1, 1), "{name}");
    }
    eprintln!("  {suite}: berthd's memory: {memory} without, {} with {number} containers", resident(&world));

    // The same with a setting for each: one reload for all.
    world.host.ok("for file in /etc/berth/containers/*; do \
                   { cat $file; echo '[service]'; echo 'stop_timeout = \"44s\"'; } >/etc/drop/${file##*/}; done; \
                   mv /etc/drop/*.toml /etc/berth/containers/");
    world.host.wait_for("the settings", Duration::from_secs(60), || {
        (world.host.show(&format!("berth@{}", names[names.len() - 1]), "TimeoutStopUSec") == "44s").then_some(())
    });
    world.phase("settings");
    world.settle();
    // Two, where the machine took a rest between the files.
    let more = reloads(&world) - before;
    assert!((1..=2).contains(&more), "{more} reloads for {number} settings");
    names.iter().for_each(|name| assert_eq!(world.starts(name), 1, "{name}: a setting needs no restart"));
    world.phase("quiet");

    world.host.ok("rm /etc/berth/containers/*");
    world.host.wait_for("none of them", Duration::from_secs(60), || {
        let empty = world.state()?["containers"].as_array()?.is_empty();
        empty.then_some(())
    });
    world.phase("removed");
    world.host.wait_for("nothing to be left", crate::world::PATIENCE, || {
        world.leftovers(&BTreeSet::new(), &BTreeSet::new()).is_empty().then_some(())
    });
    world.settle();
    assert_eq!(world.leftovers(&BTreeSet::new(), &BTreeSet::new()), [] as [&str; 0]);
    assert_eq!(world.host.ok("systemctl list-units --all --plain --no-legend 'berth@*'"), "");
    let more = reloads(&world) - before - more;
    assert!(more <= 10, "{more} reloads for the removal of {number}");
    world.phase("none left");
}

pub fn two_berthds(suite: Suite) {
    let world = World::new(suite);
    world.drop_counted("web", "");
    world.wait_running(&["web"]);
    let (berthd, web) = (world.berthd(), world.facts("web"));

    let second = world.host.sh("/usr/sbin/berthd");
    assert_eq!(second.status.code(), Some(78), "{second}");
    assert!(second.stderr.contains("another berthd holds /run/berth/berthd.lock; stop it first"), "{second}");

    assert_eq!((world.berthd(), world.facts("web")), (berthd, web));
    world.host.ok("berthctl reload; systemctl restart berth@web");
    world.drop_counted("later", "");
    world.wait_running(&["later"]);
    world.settle();
}

pub fn one_launch_asked_twice(suite: Suite) {
    let world = World::new(suite);
    world.drop_counted(
        "web",
        "autostart = false\nvolumes = [{ container_path = \"/tmp\", host_path = \"tmp\", mode = \"RW\" }]\n",
    );
    world.settle();
    let invocation = "0123456789abcdef0123456789abcdef";
    let ask = || world.ask(&json!({ "request": "launch", "container": "web", "invocation": invocation }));
    let first = ask();
    assert_eq!(first["reply"], "launch", "{first}");
    let again = ask();
    assert_eq!(again, first, "the same connection lost");
    // berthd dies between its deed and its answer; no launcher ever comes back: the record is closed.
    world.while_dead(|| ());
    world.settle();
    let record: serde_json::Value = serde_json::from_str(&world.host.read("/run/berth/records/web.json")).unwrap();
    assert!(record["run"].is_null(), "{record}");
    assert_eq!(world.sandboxes("web").len(), 1);
    assert_eq!(ask(), first, "the launcher asks the next berthd");
    assert_eq!(world.sandboxes("web").len(), 1);

    // The same with a launcher that waits in the socket's queue while its berthd dies.
    world.host.ok("kill -STOP $(systemctl show -P MainPID berthd)");
    let mut start = world.host.spawn("systemctl start berth@web");
    world.host.wait_for("the launcher", crate::world::PATIENCE, || (!world.processes("web").is_empty()).then_some(()));
    std::thread::sleep(Duration::from_millis(50));
    world.host.ok("systemctl kill -s KILL --kill-whom=main berthd");
    let output = start.wait(crate::world::PATIENCE).unwrap().unwrap();
    assert!(output.status.success(), "{output}");
    world.settle();
    assert_eq!((world.starts("web"), world.processes("web").len(), world.sandboxes("web").len()), (1, 1, 2));
}
