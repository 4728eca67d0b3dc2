//! The launcher is killed with SIGKILL at every system call that it makes once it has begun to talk.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    support::host::{Suite, slowness},
    world::World,
};

/// The rest of a container's spec: started by hand, once.
const SPEC: &str = "autostart = false\nvolumes = [{ container_path = \"/tmp\", host_path = \"tmp\", mode = \"RW\" }]\n\
                    [service]\nrestart = \"no\"\n";

/// Puts strace before the launcher of a container.
fn under_strace(world: &World, name: &str, options: &str) {
    let text = format!(
        "[Service]\nExecStart=\nExecStart=/usr/bin/strace -DDD -qq {options} /usr/libexec/berth/berth-launch %i\n"
    );
    world.host.write(format!("/run/systemd/system/berth@{name}.service.d/90-strace.conf"), text);
}

/// The launcher's system calls, in order, from its first words to its end: the name, and the how manieth of it.
fn calls(world: &World, name: &str) -> Vec<(String, u32)> {
    under_strace(world, name, "-o /srv/trace");
    world.host.ok(&format!("systemctl daemon-reload; systemctl start berth@{name}"));
    world.settle();
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    let mut calls = Vec::new();
    for line in world.host.read("/srv/trace").lines() {
        let Some((call, _)) =
            line.split_once('(').filter(|(call, _)| call.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
        else {
            continue;
        };
        let count = counts.entry(call.to_owned()).or_default();
        *count += 1;
        calls.push((call.to_owned(), *count));
    }
    let first = calls.iter().position(|(call, _)| call == "connect").expect("the launcher connects");
    calls.split_off(first)
}

pub fn killed_everywhere(suite: Suite) {
    let world = World::new(suite);
    world.drop_counted("traced", SPEC);
    world.settle();
    // An emulated machine takes every third.
    let every = slowness().div_ceil(2) as usize;
    let calls: Vec<_> = calls(&world, "traced").into_iter().step_by(every).collect();
    world.phase("traced");
    let names: Vec<String> = (0..calls.len()).map(|number| format!("k{number:03}")).collect();
    for (name, (call, count)) in names.iter().zip(&calls) {
        world.drop_counted(name, SPEC);
        under_strace(&world, name, &format!("-o /dev/null -e trace={call} -e inject={call}:signal=KILL:when={count}"));
    }
    world.host.ok("systemctl daemon-reload");
    world.settle();
    world.phase(&format!("{} system calls to be killed at", calls.len()));

    for some in names.chunks(8) {
        let units: Vec<String> = some.iter().map(|name| format!("berth@{name}")).collect();
        world.host.sh(&format!("systemctl start {}", units.join(" ")));
    }
    world.settle();
    world.phase("killed");

    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let facts = world.all_facts(&all);
    let processes = world.all_processes();
    let mut wrong = Vec::new();
    let (mut running, mut failed) = (BTreeSet::from(["traced".to_owned()]), BTreeSet::new());
    for (name, (call, count)) in names.iter().zip(&calls) {
        let what = format!("{name}, killed at {call} {count}");
        let (starts, alive) = (world.starts(name), processes.get(name).map_or(0, Vec::len));
        match facts[name].active.as_str() {
            "active" if starts == 1 && alive == 1 => drop(running.insert(name.clone())),
            // The gate was shut.
            "failed" if starts == 0 && alive == 0 => drop(failed.insert(name.clone())),
            _ => wrong.push(format!("{what}: {:?}, {starts} starts, {alive} processes", facts[name])),
        }
        let word = world.word(name);
        if word != if running.contains(name) { "running" } else { "failed" } {
            wrong.push(format!("{what}: is called {word}"));
        }
    }
    let first = names.iter().zip(&calls).find(|(name, _)| running.contains(*name)).map(|(_, call)| call);
    eprintln!("  {suite}: {} failed, {} run, from {first:?} on", failed.len(), running.len() - 1);
    wrong.extend(world.leftovers(&running, &failed));
    assert!(wrong.is_empty(), "{wrong:#?}\n{}", world.host.journal_tail());
    assert!(failed.len() >= 12 / every && running.len() >= 2 / every, "strace kills");

    // Each of them is as good as new.
    world.host.ok("rm /run/systemd/system/berth@*.service.d/90-strace.conf; systemctl daemon-reload");
    let again: Vec<String> = failed.iter().map(|name| format!("berth@{name}")).collect();
    world.host.ok(&format!("systemctl start {}", again.join(" ")));
    world.settle();
    for name in &failed {
        assert_eq!((world.starts(name), world.word(name).as_str()), (1, "running"), "{name}");
        assert!(world.sandboxes(name).len() <= 2, "{name}: {:?}", world.sandboxes(name));
    }
    let all: BTreeSet<String> = running.union(&failed).cloned().collect();
    assert_eq!(world.leftovers(&all, &BTreeSet::new()), [] as [&str; 0]);
    world.phase("started again");
}
