//! The launcher is killed with SIGKILL at every system call that it makes once it has begun to talk, and the process that
//! becomes the program at those that make its root.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    support::host::{Suite, slowness},
    world::World,
};

/// The rest of a container's spec: started by hand, once.
const SPEC: &str = "autostart = false\nvolumes = [{ container_path = \"/tmp\", host_path = \"tmp\", mode = \"RW\" }]\n\
                    [service]\nrestart = \"no\"\n";

/// The same in a root of its own, whose program notes its start in the host's directory too.
const SPEC_IN_ROOT: &str = "autostart = false\n[image]\nsource = \"rootfs:/srv/tree\"\n[service]\nrestart = \"no\"\n\
                            [[volumes]]\ncontainer_path = \"/srv/starts\"\nhost_path = \"/srv/starts\"\n";

/// Makes `/srv/tree`, a root for the program that counts.
pub const TREE: &str = "for program in sh sleep; do path=$(readlink -f $(command -v $program)); \
                    mkdir -p /srv/tree/bin; cp $path /srv/tree/bin/$program; \
                    for lib in $(ldd $path | grep -o '/[^ )]*'); do mkdir -p /srv/tree${lib%/*}; cp -L $lib /srv/tree$lib; \
                    done; done; mkdir -p /srv/tree/usr/local/bin; cp /usr/local/bin/counted /srv/tree/usr/local/bin/";

/// The most system calls that a root's maker is killed at.
const MOST: usize = 48;

/// Puts strace before the launcher of a container.
fn under_strace(world: &World, name: &str, options: &str) {
    let text = format!(
        "[Service]\nExecStart=\nExecStart=/usr/bin/strace -DDD -qq {options} /usr/libexec/berth/berth-launch %i\n"
    );
    world.host.write(format!("/run/systemd/system/berth@{name}.service.d/90-strace.conf"), text);
}

/// The system calls of the launcher and of what it begets, process by process, in order: the name, and the how manieth of
/// it.
fn calls(world: &World, name: &str) -> Vec<Vec<(String, u32)>> {
    under_strace(world, name, "-f -o /srv/trace");
    world.host.ok(&format!("systemctl daemon-reload; systemctl start berth@{name}"));
    world.settle();
    let (mut order, mut all) = (Vec::new(), BTreeMap::<&str, Vec<(String, u32)>>::new());
    let trace = world.host.read("/srv/trace");
    for line in trace.lines() {
        let Some((pid, call)) = line.split_once(' ') else { continue };
        let Some((call, _)) = call
            .trim_start()
            .split_once('(')
            .filter(|(call, _)| call.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
        else {
            continue;
        };
        let calls = all.entry(pid).or_insert_with(|| {
            order.push(pid);
            Vec::new()
        });
        let count = calls.iter().filter(|(name, _)| name == call).count() + 1;
        calls.push((call.to_owned(), u32::try_from(count).unwrap()));
    }
    order.into_iter().map(|pid| all.remove(pid).unwrap()).collect()
}

pub fn killed_everywhere(suite: Suite) {
    let world = World::new(suite);
    world.drop_counted("traced", SPEC);
    world.settle();
    // An emulated machine takes every third.
    let every = slowness().div_ceil(2) as usize;
    let mut calls = calls(&world, "traced").swap_remove(0);
    let first = calls.iter().position(|(call, _)| call == "connect").expect("the launcher connects");
    let calls: Vec<_> = calls.split_off(first).into_iter().step_by(every).collect();
    stop_traced(&world);
    let names = kill_at(&world, &calls, SPEC, "");

    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let facts = world.all_facts(&all);
    let processes = world.all_processes();
    let mut wrong = Vec::new();
    let (mut running, mut failed) = (BTreeSet::new(), BTreeSet::new());
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
    eprintln!("  {suite}: {} failed, {} run, from {first:?} on", failed.len(), running.len());
    wrong.extend(world.leftovers(&running, &failed));
    assert!(wrong.is_empty(), "{wrong:#?}\n{}", world.host.journal_tail());
    assert!(failed.len() >= 12 / every && running.len() >= 2 / every, "strace kills");
    start_again(&world, &failed, &running);
}

/// Ends the traced container and its tracer.
fn stop_traced(world: &World) {
    world.delete("traced");
    world.host.ok("systemctl stop berth@traced; rm /run/systemd/system/berth@traced.service.d/90-strace.conf");
    world.settle();
    world.phase("traced");
}

/// Starts a container of this spec for each system call, to be killed at it; their names.
fn kill_at(world: &World, calls: &[(String, u32)], spec: &str, options: &str) -> Vec<String> {
    let names: Vec<String> = (0..calls.len()).map(|number| format!("k{number:03}")).collect();
    let all: Vec<_> = names.iter().zip(calls).collect();
    for some in all.chunks(16) {
        for (name, (call, count)) in some {
            world.drop_counted(name, spec);
            let inject = format!("-e trace={call} -e inject={call}:signal=KILL:when={count}");
            under_strace(world, name, &format!("{options} -o /dev/null {inject}"));
        }
        world.host.ok("systemctl daemon-reload");
        world.settle();
        for some in some.chunks(8) {
            let units: Vec<String> = some.iter().map(|(name, _)| format!("berth@{name}")).collect();
            world.host.sh(&format!("systemctl start {}", units.join(" ")));
        }
        world.settle();
        world.phase(&format!("killed at {} system calls", some.len()));
    }
    names
}

/// Each of those that failed is as good as new.
fn start_again(world: &World, failed: &BTreeSet<String>, running: &BTreeSet<String>) {
    world.host.ok("rm /run/systemd/system/berth@*.service.d/90-strace.conf; systemctl daemon-reload");
    let again: Vec<String> = failed.iter().map(|name| format!("berth@{name}")).collect();
    world.host.ok(&format!("systemctl start {}", again.join(" ")));
    world.settle();
    for name in failed {
        assert_eq!((world.starts(name), world.word(name).as_str()), (1, "running"), "{name}");
        assert!(world.sandboxes(name).len() <= 2, "{name}: {:?}", world.sandboxes(name));
    }
    let all: BTreeSet<String> = running.union(failed).cloned().collect();
    assert_eq!(world.leftovers(&all, &BTreeSet::new()), [] as [&str; 0]);
    world.phase("started again");
}

pub fn killed_while_a_root_is_made(suite: Suite) {
    let world = World::new(suite);
    world.host.ok(TREE);
    world.drop_counted("traced", SPEC_IN_ROOT);
    world.settle();
    let mut processes = calls(&world, "traced");
    let (launcher, mut child) = (processes.remove(0), processes.remove(0));
    let program = child.iter().position(|(call, _)| call == "execve").expect("the child becomes the program");
    child.truncate(program + 1);
    for call in ["fsopen", "fsmount", "move_mount", "pivot_root", "umount2", "mknodat", "mount_setattr"] {
        assert!(child.iter().any(|(name, _)| name == call), "no {call} among {child:?}");
    }
    // Those that the launcher does not come to as often as that: they are counted for each process.
    child.retain(|(call, count)| !launcher.iter().any(|(name, other)| name == call && other >= count));
    let every = child.len().div_ceil(MOST) * slowness() as usize;
    let calls: Vec<_> = child.into_iter().rev().step_by(every).collect();
    stop_traced(&world);
    let names = kill_at(&world, &calls, SPEC_IN_ROOT, "-f");

    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let (facts, processes) = (world.all_facts(&all), world.all_processes());
    let mut wrong = Vec::new();
    for (name, (call, count)) in names.iter().zip(&calls) {
        let alive = processes.get(name).map_or(0, Vec::len);
        let found = (facts[name].active.as_str(), world.word(name), world.starts(name), alive);
        if found != ("failed", "failed".to_owned(), 0, 0) {
            wrong.push(format!("{name}, killed at {call} {count}: {found:?}"));
        }
    }
    let failed: BTreeSet<String> = names.into_iter().collect();
    wrong.extend(world.leftovers(&BTreeSet::new(), &failed));
    assert!(wrong.is_empty(), "{wrong:#?}\n{}", world.host.journal_tail());
    start_again(&world, &failed, &BTreeSet::new());
}
