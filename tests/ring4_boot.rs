//! Ring 4: what ring 3 sees over the boots of a host in namespaces, over those of a machine with a kernel of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::missing_docs_in_private_items,
    reason = "a test says what it expects; its name is its sentence"
)]

mod support;

#[path = "ring3_user/boots.rs"]
#[allow(dead_code, reason = "ring 3 has ways of its own through the boots")]
mod boots;
#[path = "ring3_net/world.rs"]
#[allow(dead_code, reason = "ring 3 asks for more")]
mod net;
#[path = "ring3_recovery/power.rs"]
#[allow(dead_code, reason = "ring 3 has ways of its own through the boots")]
mod power;
#[path = "ring3_recovery/world.rs"]
#[allow(dead_code, reason = "ring 3 asks for more")]
mod world;

use std::process::ExitCode;

use support::berth::{Berth, SOON, options};
use support::host::{Host, Suite};
use support::ring::{self, Boots};
use world::World;

/// How the machine goes down after the first, the second and the third boot.
const DOWNS: [&str; 3] = ["reboot", "power-cycle", "reboot"];

/// The first boot is of a machine on which berth was just installed. Old records, which `power` tries at its end, are
/// nobody else's: it comes last.
const TESTS: [Boots; 4] = [
    (
        "vendor_specs_wait_for_enable",
        &[
            |suite| boots::VENDOR[0](&install(suite)),
            |suite| boots::VENDOR[1](&Berth::as_it_is(suite)),
            |suite| boots::VENDOR[2](&Berth::as_it_is(suite)),
            |suite| boots::VENDOR[3](&Berth::as_it_is(suite)),
        ],
    ),
    (
        "boot_keeps_the_order_of_containers",
        &[
            |suite| boots::ORDER[0](&Berth::as_it_is(suite)),
            |suite| boots::ORDER[1](&Berth::as_it_is(suite)),
            |suite| boots::ORDER[2](&Berth::as_it_is(suite)),
        ],
    ),
    ("a_handle_is_there_from_a_boot_on", &[tagged, tagged, tagged, tagged]),
    (
        "what_is_to_run_comes_back",
        &[
            |suite| power::before(&machine(suite), "shut-"),
            |suite| {
                power::after(&machine(suite), "shut-");
                power::before(&machine(suite), "lost-");
            },
            |suite| power::after(&machine(suite), "lost-"),
        ],
    ),
];

fn main() -> ExitCode {
    ring::main_boots(&TESTS, &DOWNS)
}

/// berth on the disk, as a distribution brings it.
fn install(suite: Suite) -> Berth {
    Berth::boot_with(suite, net::programs(options()).on_the_disk().file("/etc/berth/berthd.toml", net::config("")))
}

/// The machine as it is, for those who ask as the tests of recovery do.
fn machine(suite: Suite) -> World {
    World::of(Host::as_it_is(suite, None).unwrap())
}

/// The hierarchy is berthd's own, and after each boot it is mounted again before any container starts.
fn tagged(suite: Suite) {
    let world = net::World::of(Berth::as_it_is(suite), "/run/berth/net_cls");
    let spec = format!("{}environment = {{ HOLD = \"1\" }}\n", net::with_handle("0012:0f00"));
    let spec = net::Packets { v4: 7, v6: 2, tcp: false, spec: &spec }.spec();
    if world.container("tagged").is_none() {
        world.drop_spec("tagged", &spec);
    }
    world.wait_state("tagged", "running");
    assert_eq!(world.class("tagged"), Some(0x0012_0f00));
    world.count("sent", &format!("meta cgroup 0x00120f00 udp dport {}", net::UDP));
    world.ok("systemctl restart berth@tagged");
    world.wait_for("its packets", SOON, || (world.counted()["sent"] == 9).then_some(()));
    assert_eq!(world.ok("findmnt --noheadings --raw --types cgroup --output TARGET"), "/run/berth/net_cls");
}
