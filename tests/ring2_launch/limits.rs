//! Resource limits: whom they bind, and when they cannot be had.
#![allow(clippy::missing_docs_in_private_items, reason = "the name of a case is its sentence")]

use berth::{
    plan::{Action, Phase},
    protocol::Stage,
    spec::{Resource, Rlimit, Rlimits},
};

use super::{
    cases::become_user,
    world::{World, step},
};

/// All cases by name; a case that returns is good.
pub const ALL: &[(&str, fn())] = &[
    ("limits/they_hold_for_the_program", they_hold_for_the_program),
    ("limits/a_users_program_has_them_too", a_users_program_has_them_too),
    ("limits/an_init_is_not_bound", an_init_is_not_bound),
    ("limits/the_launcher_is_not_bound", the_launcher_is_not_bound),
    ("limits/exceeding_one_ends_the_program", exceeding_one_ends_the_program),
    ("limits/what_cannot_be_had_fails_the_start", what_cannot_be_had_fails_the_start),
];

/// A world whose program has these limits.
fn world(script: &str, limits: &[(Resource, u64, u64)]) -> World {
    let mut world = World::script(script);
    let limit =
        |(resource, soft, hard): &(Resource, u64, u64)| (*resource, Rlimit { soft: Some(*soft), hard: Some(*hard) });
    let limits: Rlimits = limits.iter().map(limit).collect();
    let place = world.plan.steps.iter().position(|step| step.phase > Phase::Limits).unwrap();
    world.plan.steps.insert(place, step(Phase::Limits, Action::SetRlimits { limits }));
    world
}

/// What prlimit(1) says of a process.
const SHOW: &str = "prlimit --raw --noheadings -o RESOURCE,SOFT,HARD --pid $$ | grep -E 'CORE|CPU|NOFILE|STACK'";

const LIMITS: [(Resource, u64, u64); 4] = [
    (Resource::Core, 0, 0),
    (Resource::Cpu, 60, 90),
    (Resource::Nofile, 100, 200),
    (Resource::Stack, 1 << 20, 2 << 20),
];

const SHOWN: &str = "CORE 0 0\nCPU 60 90\nNOFILE 100 200\nSTACK 1048576 2097152\n";

fn they_hold_for_the_program() {
    assert_eq!(world(SHOW, &LIMITS).launch().output(), SHOWN);
}

fn a_users_program_has_them_too() {
    let mut world = world(SHOW, &LIMITS);
    become_user(&mut world, 12345, 12345, &[]);
    assert_eq!(world.launch().output(), SHOWN);
}

fn an_init_is_not_bound() {
    let mut world = world("grep 'open files' /proc/1/limits | grep -c ' 200 '; ulimit -Hn", &LIMITS);
    world.plan.program.init = true;
    assert_eq!(world.launch().output(), "0\n200\n");
}

fn the_launcher_is_not_bound() {
    // It has more files open than that, and the init makes a process.
    let limits = [(Resource::Nofile, 4, 4), (Resource::Nproc, 1, 1)];
    let mut world = world("ulimit -n; ulimit -p", &limits);
    world.plan.program.init = true;
    assert_eq!(world.launch().output(), "4\n1\n");
}

fn exceeding_one_ends_the_program() {
    let world = world("while :; do :; done", &[(Resource::Cpu, 1, 1)]);
    // At the hard limit it is SIGKILL (setrlimit(2)), and that is where both are.
    let ended = format!("{:?}", world.launch().finish());
    assert!(ended.contains("SIGKILL") || ended.contains("SIGXCPU"), "{ended}");
}

fn what_cannot_be_had_fails_the_start() {
    let mut low = world("true", &[(Resource::Nofile, 100, 600)]);
    low.prelude = "ulimit -n 512".to_owned();
    // Whoever has CAP_SYS_RESOURCE may raise it; nobody may beyond fs.nr_open.
    let has_resource =
        super::world::tool(&["sh", "-c", "capsh --has-p=cap_sys_resource 2>/dev/null && echo yes; true"]);
    let mut worlds = vec![world("true", &[(Resource::Nofile, 100, 1 << 40)])];
    if has_resource.is_empty() {
        worlds.push(low);
    } else {
        low.launch().output();
    }
    for world in worlds {
        let (status, failure) = world.launch().failure();
        assert_eq!((status, failure.stage, failure.errno), (205, Stage::Limits, Some(libc::EPERM)), "{failure:?}");
        assert!(failure.message.contains("cannot set the limit of nofile to 100:"), "{failure:?}");
        assert!(failure.message.contains("CAP_SYS_RESOURCE"), "{failure:?}");
    }
}
