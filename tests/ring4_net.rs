//! Ring 4: handles where only a machine with a kernel of its own can show them: pure cgroup2, on which the v1 hierarchy
//! is berthd's to mount, and the classifier `cgroup` of tc(8).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::missing_docs_in_private_items,
    reason = "a test says what it expects; its name is its sentence"
)]

mod support;

#[path = "ring3_net/world.rs"]
#[allow(dead_code, reason = "ring 3 asks for more")]
mod world;

use std::process::ExitCode;

use support::berth::{SLEEP, SOON, options};
use support::host::{Host, Suite};
use support::ring::{self, Test};
use world::{Packets, UDP, World, config, with_handle};

const TRIALS: &[Test] = &[
    ("the_machine_is_pure_cgroup2", pure),
    ("berthd_mounts_the_hierarchy_itself", own_mount),
    ("first_containers_that_start_together_share_one_mount", together),
    ("bpf_needs_no_hierarchy", no_mount),
    ("a_hierarchy_of_more_controllers_is_reused", co_mounted),
    ("one_filter_of_tc_serves_all_containers", classified),
];

fn main() -> ExitCode {
    ring::main_on_a_machine(TRIALS)
}

/// Where berthd mounts it.
const OWN: &str = "/run/berth/net_cls";

/// A host on which nobody has mounted a v1 hierarchy.
fn world(suite: Suite, net_cls: &str) -> World {
    World::boot(suite, &config(net_cls), OWN, options())
}

/// Where v1 hierarchies are mounted, with their options.
fn v1(host: &Host) -> Vec<String> {
    let list = host.ok("findmnt --noheadings --raw --types cgroup --output TARGET,FS-OPTIONS || true");
    list.lines().map(str::to_owned).collect()
}

/// The packets that a container has sent once more.
fn counted_of(world: &World, name: &str, rule: &str) -> u64 {
    world.count(name, rule);
    assert_eq!(world.send(name, &Packets { v4: 4, v6: 3, tcp: false, spec: &with_handle("0012:0011") }), "sent");
    world.counted()[name]
}

fn pure(suite: Suite) {
    let host = Host::shared(suite);
    assert_eq!(host.ok("stat --file-system --format=%T /sys/fs/cgroup"), "cgroup2fs");
    assert_eq!(v1(&host), [] as [&str; 0]);
    let controllers = host.read("/sys/fs/cgroup/cgroup.controllers");
    for controller in ["cpu", "memory", "io", "pids"] {
        assert!(controllers.split_whitespace().any(|word| word == controller), "no {controller}: {controllers}");
    }
}

fn own_mount(suite: Suite) {
    let world = world(suite, "");
    let pid = world.run("web", SLEEP);
    let mounts = v1(&world);
    assert!(mounts.len() == 1 && mounts[0].starts_with(OWN) && mounts[0].contains("net_cls"), "{mounts:?}");
    assert_eq!(world.ok(&format!("cat {OWN}/berth/web/cgroup.procs")), pid.to_string());
    assert_eq!(counted_of(&world, "sender", &format!("meta cgroup 0x00120011 udp dport {UDP}")), 7);
    // A new berthd finds what the old one has mounted; nothing is mounted twice.
    world.restart_berthd();
    assert_eq!((v1(&world), world.main_pid("web"), world.class("web")), (mounts, pid, Some(0x0012_0001)));
    let doctor = world.berthctl("doctor").stdout;
    assert!(doctor.contains(OWN) && doctor.contains("tc filter cgroup"), "{doctor}");
}

fn together(suite: Suite) {
    let world = world(suite, "");
    let names: Vec<String> = (0..12).map(|number| format!("c{number}")).collect();
    for name in &names {
        world.drop_spec(name, &format!("autostart = false\n{SLEEP}"));
    }
    world.barrier_without_handle();
    let units: String = names.iter().map(|name| format!("berth@{name} ")).collect();
    world.ok(&format!("systemctl start {units}"));
    assert_eq!(v1(&world).len(), 1);
    assert!(names.iter().all(|name| world.class(name).is_some_and(|class| class != 0)));
}

fn no_mount(suite: Suite) {
    let world = world(suite, "backend = \"bpf\"");
    assert_eq!(counted_of(&world, "sender", &format!("meta mark 0x00120011 udp dport {UDP}")), 7);
    assert_eq!(v1(&world), [] as [&str; 0]);
}

fn co_mounted(suite: Suite) {
    let place = "/mnt/net";
    let world = {
        // The kernel forgets a hierarchy of another test at its own pace, and at an unmount only.
        let mount = format!(
            "[Unit]\nBefore=berthd.service\n[Service]\nType=oneshot\nRemainAfterExit=yes\n\
             ExecStart=/bin/sh -c 'mkdir -p {place}; until mount -t cgroup -o net_cls,net_prio net {place}; do \
             mount -t cgroup -o net_cls net {place} && umount {place}; sleep 0.1; done'\n"
        );
        let needs = "[Unit]\nRequires=net.service\nAfter=net.service\n";
        let options = options()
            .file("/etc/systemd/system/net.service", mount)
            .file("/etc/systemd/system/berthd.service.d/net.conf", needs);
        World::boot(suite, &config(""), place, options)
    };
    world.run("web", SLEEP);
    assert_eq!(world.class("web"), Some(0x0012_0001));
    assert_eq!(counted_of(&world, "sender", &format!("meta cgroup 0x00120011 udp dport {UDP}")), 7);
    let mounts = v1(&world);
    assert!(mounts.len() == 1 && mounts[0].starts_with(place) && mounts[0].contains("net_prio"), "{mounts:?}");
    world.remove_spec("sender");
    world.remove_spec("web");
    world.wait_for("the cgroups to go", SOON, || world.cgroups().is_empty().then_some(()));
}

fn classified(suite: Suite) {
    let world = world(suite, "");
    for (name, handle) in [("web", "0012:0011"), ("db", "0012:0022")] {
        world.run(name, &format!("{}{SLEEP}", with_handle(handle)));
        world.paste(name, "tc", "--rate 1gbit");
    }
    let filters = world.ok("tc filter show dev lo");
    assert!(filters.contains("cgroup") && filters.matches("handle").count() == 1, "{filters}");
    for (name, handle, v4, v6) in [("web", "0012:0011", 7, 5), ("db", "0012:0022", 3, 0)] {
        let hold = format!("{}environment = {{ HOLD = \"1\" }}\n", with_handle(handle));
        world.drop_spec(name, &Packets { v4, v6, tcp: false, spec: &hold }.spec());
        world.wait_said(name, "sent");
    }
    world.ok(&format!("perl /srv/send.pl 0 {UDP} 11 11"));
    assert_eq!((world.classes()["12:11"], world.classes()["12:22"]), (12, 3));
}
