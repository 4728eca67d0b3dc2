//! berthd is killed with SIGKILL between every two steps of giving a handle: at each system call of a start that
//! concerns it.

use std::collections::BTreeMap;

use crate::support::berth::{SLEEP, SOON};
use crate::support::host::{Suite, slowness};
use crate::support::ring::Test;
use crate::world::{HIERARCHY, World};

pub const TRIALS: &[Test] = &[("berthd_may_die_at_every_step_of_giving_a_handle", killed_everywhere)];

/// Has strace follow the berthd that runs now.
fn follow(world: &World, options: &str) -> String {
    // The one before may have died a moment ago.
    let berthd = world.wait_for("berthd", SOON, || Some(world.show("berthd", "MainPID")).filter(|pid| pid != "0"));
    world.ok(&format!(
        "systemctl stop tracer 2>/dev/null; systemctl reset-failed tracer 2>/dev/null; \
         systemd-run --quiet --unit=tracer strace -f -qq -p {berthd} {options}"
    ));
    world.wait_for("strace", SOON, || {
        let status = world.ok(&format!("cat /proc/{berthd}/task/*/status | grep TracerPid: | sort -u"));
        (!status.contains("TracerPid:\t0") && !status.is_empty()).then_some(())
    });
    berthd
}

/// Files that a handle is given by.
fn files() -> String {
    let paths = [
        "/run/berth/handles/00120001".to_owned(),
        "/run/berth/handles/.next".to_owned(),
        "/run/berth/records/web.tmp".to_owned(),
        format!("{HIERARCHY}/berth/web"),
        format!("{HIERARCHY}/berth/web/net_cls.classid"),
        format!("{HIERARCHY}/berth/web/cgroup.procs"),
    ];
    paths.map(|path| format!("-P {path}")).join(" ")
}

/// The system calls of one start and one stop, each with the how manieth of its kind in its thread it is.
fn calls(world: &World, filter: &str) -> Vec<(String, u32)> {
    follow(world, &format!("-o /srv/trace {filter}"));
    world.ok("systemctl start berth@web; systemctl stop berth@web");
    world.wait_free();
    world.ok("systemctl stop tracer");
    let mut counts: BTreeMap<(String, String), u32> = BTreeMap::new();
    let mut calls = Vec::new();
    for line in world.read("/srv/trace").lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((call, _)) = rest.trim_start().split_once('(') else { continue };
        if call.is_empty() || !call.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            continue;
        }
        let count = counts.entry((thread.to_owned(), call.to_owned())).or_default();
        *count += 1;
        if !calls.contains(&(call.to_owned(), *count)) {
            calls.push((call.to_owned(), *count));
        }
    }
    calls
}

fn killed_everywhere(suite: Suite) {
    let world = World::new(suite, "backend = \"both\"\nreuse_delay = \"0s\"");
    world.drop_spec("web", &format!("autostart = false\n{SLEEP}service.start_limit.burst = 0\n"));
    world.barrier();
    world.ok("rm /run/berth/handles/*; systemctl restart berthd"); // the barrier had the first handle
    let mut points = Vec::new();
    for filter in [files(), "-e trace=bpf".to_owned()] {
        points.extend(calls(&world, &filter).into_iter().map(|call| (filter.clone(), call)));
    }
    // An emulated machine takes every third.
    let every = slowness().div_ceil(2);
    let points: Vec<_> = points.into_iter().step_by(every as usize).collect();
    let mut deaths = 0;
    for (filter, (call, count)) in &points {
        let what = format!("killed at {call} {count}");
        let filter = if filter.contains("trace=") { "" } else { filter };
        let inject = format!("-e trace={call} -e inject={call}:signal=KILL:when={count}");
        let berthd = follow(&world, &format!("-o /dev/null {filter} {inject}"));
        world.ok("systemctl start berth@web");
        let pid = world.wait_program("web");
        assert_eq!(world.class("web"), Some(0x0012_0001), "{what}");
        assert_eq!(world.ok(&format!("cat {HIERARCHY}/berth/web/cgroup.procs")), pid.to_string(), "{what}");
        world.wait_until("web", format!("tagged, {what}"), |container| {
            container["container_status"]["cgroup_info"]["net_cls"]["backends"] == serde_json::json!(["net_cls", "bpf"])
        });
        let held: Vec<_> = world.held().into_iter().collect();
        assert_eq!(held, [("00120001".to_owned(), "web".to_owned())], "{what}");
        world.ok("systemctl stop berth@web");
        world.wait_free();
        world.ok("systemctl is-active berthd");
        deaths += u32::from(world.show("berthd", "MainPID") != berthd);
    }
    eprintln!("  {suite}: {deaths} deaths of berthd at {} system calls", points.len());
    assert!(deaths >= 20 / every && points.len() >= 25 / every as usize, "strace kills: {deaths} of {points:?}");
}
