//! Capabilities: what the kernel says of the program that the launcher has become.
#![allow(clippy::missing_docs_in_private_items, reason = "the name of a case is its sentence")]

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use berth::{
    config::{Config, Overrides},
    host::Host,
    isolators,
    plan::{Action, Build, CapabilitySets, Namespace, Phase, build},
    protocol::{Failure, Stage},
    root::Root,
    spec::{Capability, CapabilitySet, Outcome, load},
    sys::process::kill,
};
use nix::sys::wait::WaitStatus;

use super::{
    cases::become_user,
    world::{World, end_of, step, tool, until},
};

/// All cases by name; a case that returns is good.
pub const ALL: &[(&str, fn())] = &[
    ("capabilities/are_what_the_kernels_rule_makes_of_them", sets_are_what_the_kernels_rule_makes_of_them),
    ("capabilities/without_a_step_are_the_launchers", without_a_step_they_are_the_launchers),
    ("capabilities/are_read_the_same_by_capsh_and_getpcaps", capsh_and_getpcaps_read_the_same),
    ("capabilities/bind_an_init_too", an_init_is_bound_too),
    ("capabilities/that_an_init_lacks_do_not_end_it", an_init_outlives_a_signal_that_it_may_not_send),
    ("capabilities/bind_in_place", in_place_is_bound),
    ("capabilities/strays_of_the_launcher_are_gone", strays_of_the_launcher_are_gone),
    ("capabilities/hold_for_set_user_id_programs", set_user_id_programs_are_bound),
    ("capabilities/of_files_work_within_the_bounding_set", file_capabilities_work_within_the_bounding_set),
    ("capabilities/are_used", they_are_used),
    ("capabilities/of_spec_and_berthd_toml_are_as_mesos_has_them", spec_and_berthd_toml_are_as_mesos_has_them),
    ("capabilities/that_the_launcher_lacks_are_a_failure", what_the_launcher_lacks_is_a_failure),
    ("capabilities/that_are_gone_need_not_be_dropped", what_is_gone_need_not_be_dropped),
    ("capabilities/come_after_the_directory", the_directory_is_entered_without_them),
];

const NONE: CapabilitySet = CapabilitySet::NONE;
const RAW: CapabilitySet = CapabilitySet::of(&[Capability::NET_RAW]);
const FEW: CapabilitySet = CapabilitySet::of(&[Capability::NET_RAW, Capability::NET_ADMIN, Capability::DAC_OVERRIDE]);
const USER: u32 = 12345;

/// `CapInh`, `CapPrm`, `CapEff`, `CapBnd` and `CapAmb` of a text of `/proc/PID/status`.
fn read(status: &str) -> [CapabilitySet; 5] {
    ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(|name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        CapabilitySet::from_bits(
            u64::from_str_radix(line.unwrap_or_else(|| panic!("{name} in {status}")).trim(), 16).unwrap(),
        )
    })
}

/// What this process, and so the launcher, can have at most.
fn ours() -> CapabilitySet {
    read(&fs::read_to_string("/proc/self/status").unwrap())[3]
}

/// A world whose program, of this user, has these sets.
fn confined(argv: &[&str], uid: u32, bounding: CapabilitySet, effective: CapabilitySet) -> World {
    let mut world = World::new(argv);
    become_user(&mut world, uid, uid, &[]);
    let ambient = if uid == 0 { NONE } else { effective };
    let required = NONE;
    let sets = CapabilitySets { bounding, effective, inheritable: ambient, ambient, required, without: vec![] };
    world.plan.steps.push(step(Phase::Confine, Action::SetCapabilities(sets)));
    world
}

/// The sets in the world's plan.
fn sets(world: &mut World) -> &mut CapabilitySets {
    match &mut world.plan.steps.last_mut().unwrap().action {
        Action::SetCapabilities(sets) => sets,
        other => panic!("{other:?}"),
    }
}

/// capabilities(7), "Transformation of capabilities during execve()", for a file without capabilities.
fn after_execve(uid: u32, bounding: CapabilitySet, effective: CapabilitySet) -> [CapabilitySet; 5] {
    let bounding = bounding & ours();
    match uid {
        0 => [NONE, bounding, bounding, bounding, NONE],
        _ => [effective, effective, effective, bounding, effective],
    }
}

fn sets_are_what_the_kernels_rule_makes_of_them() {
    for uid in [0, USER] {
        for bounding in [NONE, RAW, FEW, CapabilitySet::OCI_DEFAULT, CapabilitySet::NAMED, CapabilitySet::ALL] {
            for effective in [NONE, RAW, FEW].into_iter().filter(|effective| effective.is_subset(bounding)) {
                let world = confined(&["cat", "/proc/self/status"], uid, bounding, effective);
                let found = read(&world.launch().output());
                assert_eq!(found, after_execve(uid, bounding, effective), "{uid}: {bounding}; {effective}");
            }
        }
    }
}

fn without_a_step_they_are_the_launchers() {
    for (uid, all) in [(0, ours()), (USER, NONE)] {
        let mut world = World::new(&["cat", "/proc/self/status"]);
        become_user(&mut world, uid, uid, &[]);
        assert_eq!(read(&world.launch().output()), [NONE, all, all, ours(), NONE], "{uid}");
    }
}

fn capsh_and_getpcaps_read_the_same() {
    let script = "capsh --print | grep -e ^Current -e '^Bounding set' -e '^Ambient set'; getpcaps --verbose $$";
    let table = [
        (0, "Current: cap_net_raw=ep\nBounding set =cap_net_raw\nAmbient set =\n", "=ep"),
        (USER, "Current: cap_net_raw=eip\nBounding set =cap_net_raw\nAmbient set =cap_net_raw\n", "=eip"),
    ];
    for (uid, printed, letters) in table {
        let output = confined(&["sh", "-c", script], uid, RAW, RAW).launch().output();
        let (capsh, getpcaps) = output
            .rsplit_once("Ambient set =")
            .map(|(head, tail)| {
                let (ambient, getpcaps) = tail.split_once('\n').unwrap();
                (format!("{head}Ambient set ={ambient}\n"), getpcaps)
            })
            .unwrap();
        assert_eq!(capsh, printed, "{output}");
        assert!(getpcaps.contains(&format!("cap_net_raw{letters}")), "{output}");
    }
}

fn an_init_is_bound_too() {
    for uid in [0, USER] {
        let script = "cat /proc/1/status; echo ---; cat /proc/self/status";
        let mut world = confined(&["sh", "-c", script], uid, FEW, RAW);
        world.plan.program.init = true;
        let output = world.launch().output();
        let (init, program) = output.split_once("---").unwrap();
        assert!(init.starts_with("Name:\tinit\n"), "{init}");
        let [inheritable, _, effective, bounding, ambient] = after_execve(uid, FEW, RAW);
        // Nothing is executed by an init, so a root's has what it was given.
        let given = if uid == 0 { RAW } else { effective };
        assert_eq!(read(init), [inheritable, given, given, bounding, ambient], "{uid}");
        assert_eq!(read(program), after_execve(uid, FEW, RAW), "{uid}");
    }
}

/// Without CAP_KILL, root's init may not signal a program that has become another user's.
fn an_init_outlives_a_signal_that_it_may_not_send() {
    let ids = CapabilitySet::of(&[Capability::SETUID, Capability::SETGID]);
    let script = "exec setpriv --reuid=12345 --regid=12345 --clear-groups sh -c 'echo ready; sleep 0.3; exit 9'";
    let mut world = confined(&["sh", "-c", script], 0, ids, ids);
    world.plan.program.init = true;
    let mut run = world.launch();
    assert!(run.launched().success(), "{}", run.stderr());
    until("ready", || run.stdout().contains("ready").then_some(()));
    kill(run.main_pid(), libc::SIGTERM).unwrap();
    let status = end_of(run.main_pid());
    assert!(matches!(status, WaitStatus::Exited(_, 9)), "{status:?} {}", run.stderr());
}

fn in_place_is_bound() {
    for uid in [0, USER] {
        let mut world = confined(&["cat", "/proc/self/status"], uid, FEW, RAW);
        world.plan.namespaces.remove(&Namespace::Pid);
        world.plan.steps.retain(|step| step.action != Action::MountProc);
        let mut run = world.launch();
        assert_eq!(run.launched().code(), Some(0), "{}", run.stderr());
        assert_eq!(read(&run.stdout()), after_execve(uid, FEW, RAW), "{uid}");
        until("ready", || (world.manager.lock().unwrap()[..] == ["READY=1"]).then_some(()));
    }
}

/// The lesson of CVE-2022-24769, in which engines left an inheritable set to root.
fn strays_of_the_launcher_are_gone() {
    let mut world = confined(&["cat", "/proc/self/status"], 0, FEW, FEW);
    world.prelude = "exec setpriv --inh-caps +net_raw,+kill --ambient-caps +net_raw,+kill \"$0\" web".to_owned();
    assert_eq!(read(&world.launch().output()), [NONE, FEW, FEW, FEW, NONE]);
}

/// A copy of a program in the world.
fn copy(world: &World, program: &str, mode: u32) -> String {
    let copy = world.at(&format!("sandbox/{program}"));
    fs::copy(Path::new("/usr/bin").join(program), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(mode)).unwrap();
    copy.display().to_string()
}

fn set_user_id_programs_are_bound() {
    for (bounding, effective) in [(NONE, NONE), (RAW, NONE), (FEW, RAW), (CapabilitySet::OCI_DEFAULT, NONE)] {
        let world = confined(&["sh", "-c", "./cat /proc/self/status"], USER, bounding, effective);
        copy(&world, "cat", 0o4755);
        let found = world.launch().output();
        assert!(found.contains(&format!("Uid:\t{USER}\t0\t0\t0")), "{found}");
        let [_, permitted, effective, bound, ambient] = read(&found);
        assert_eq!([permitted, effective, bound, ambient], [bounding, bounding, bounding, NONE]);
    }
}

fn file_capabilities_work_within_the_bounding_set() {
    for (bounding, has) in [(FEW, true), (CapabilitySet::OCI_DEFAULT, true), (NONE, false)] {
        let world = confined(&["sh", "-c", "./cat /proc/self/status || echo refused"], USER, bounding, NONE);
        let cat = copy(&world, "cat", 0o755);
        tool(&["setcap", "cap_net_raw+ep", &cat]);
        let found = world.launch().output();
        assert_eq!(found == "refused\n", !has, "{found}");
        if has {
            assert_eq!(read(&found)[..3], [NONE, RAW, RAW]);
        }
    }
}

/// What Mesos's tests do with ping(8), which most systems give capabilities of its own.
const RAW_SOCKET: &str = "use Socket; socket(my $s, PF_INET, SOCK_RAW, 1) or die qq($!\\n); print qq(has\\n)";

fn they_are_used() {
    let oci = CapabilitySet::OCI_DEFAULT;
    let table = [
        // Mesos `CapabilitiesTest.ROOT_PingWithNoNetRawCaps`.
        (0, CapabilitySet::NAMED - RAW, NONE, false),
        // Mesos `CapabilitiesTest.ROOT_PingWithNoNetRawCapsChangeUser`.
        (USER, CapabilitySet::NAMED - RAW, NONE, false),
        // Mesos `CapabilitiesTest.ROOT_PingWithJustNetRawSysAdminCap`.
        (0, CapabilitySet::of(&[Capability::NET_RAW, Capability::SYS_ADMIN]), NONE, true),
        // Mesos `AmbientCapabilities.ROOT_SetAmbient`: with the permitted and the inheritable set it has an effect.
        (USER, RAW, RAW, true),
        (USER, oci, RAW, true),
        (USER, oci, NONE, false),
        (0, oci, NONE, true),
    ];
    for (uid, bounding, effective, has) in table {
        let script = "perl -e \"$1\" 2>&1; true";
        let output = confined(&["sh", "-c", script, "sh", RAW_SOCKET], uid, bounding, effective).launch().output();
        assert_eq!(output == "has\n", has, "{uid}: {bounding}; {effective}: {output}");
    }
}

/// The plan that this spec and this `berthd.toml` make on this kernel.
fn planned(berthd: &str, spec: &str) -> Result<CapabilitySets, Failure> {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::new(directory.path());
    let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap();
    let spec = format!("command = ['x']\n{spec}");
    let files = [
        ("/proc/sys/kernel/cap_last_cap", last.as_str()),
        ("/etc/berth/berthd.toml", berthd),
        ("/etc/berth/containers/web.toml", &spec),
    ];
    for (path, text) in files {
        fs::create_dir_all(root.at(path).parent().unwrap()).unwrap();
        fs::write(root.at(path), text).unwrap();
    }
    let name = "web".parse().unwrap();
    let config = Config::load(&root, &Overrides::default(), [], &["linux/capabilities"]).unwrap();
    let config = Config { isolation: Some(vec!["linux/capabilities".to_owned()]), ..config };
    let Outcome::Good(spec) = load(&root, &config.defaults, &name).unwrap().outcome else { panic!("{spec}") };
    let host = Host::read(&root);
    let enabled = isolators::enabled(&config, &host);
    let plan = build(Build { name: &name, spec: &spec, host: &host, enabled: &enabled, config: &config })?;
    Ok(plan.capability_sets().unwrap().clone())
}

/// Mesos `LinuxCapabilitiesIsolatorTest.ROOT_Ping`, as far as there is no executor and no image. Its ping is root's or
/// has capabilities of its own; here it is a raw socket, of root, of a user, or of a file with CAP_NET_RAW.
fn spec_and_berthd_toml_are_as_mesos_has_them() {
    const RAW_ADMIN: &str = "['NET_RAW', 'NET_ADMIN']";
    const SEARCH: &str = "['DAC_READ_SEARCH']";
    const ALL_THREE: &str = "['NET_RAW', 'NET_ADMIN', 'DAC_READ_SEARCH']";
    // The spec's sets, berthd.toml's sets, whether root, a user, and a user's file with CAP_NET_RAW have a raw socket.
    let table: [([&str; 4], Option<[bool; 3]>); 17] = [
        (["", "", "", ""], Some([true, false, true])),
        (["[]", "", "", ""], Some([false, false, false])),
        (["", "", "[]", ""], Some([false, false, false])),
        (["", "", "", "[]"], Some([false, false, false])),
        ([SEARCH, "", "", ""], Some([false, false, false])),
        (["", "", SEARCH, ""], Some([false, false, false])),
        ([RAW_ADMIN, "", "", ""], Some([true, true, true])),
        (["", RAW_ADMIN, "", ""], Some([true, false, true])),
        (["", "", RAW_ADMIN, ""], Some([true, true, true])),
        (["", "", "", RAW_ADMIN], Some([true, false, true])),
        (["[]", RAW_ADMIN, "", ""], Some([true, false, true])),
        ([SEARCH, ALL_THREE, "", ""], Some([true, false, true])),
        ([SEARCH, "", "", ALL_THREE], Some([true, false, true])),
        (["", RAW_ADMIN, RAW_ADMIN, ALL_THREE], Some([true, true, true])),
        ([RAW_ADMIN, "", SEARCH, ALL_THREE], Some([true, true, true])),
        ([RAW_ADMIN, "", "", SEARCH], None),
        (["", RAW_ADMIN, "", SEARCH], None),
    ];
    let table_of = |effective: &str, bounding: &str| {
        let line = |key: &str, set: &str| if set.is_empty() { String::new() } else { format!("{key} = {set}\n") };
        format!("[capabilities]\n{}{}", line("effective", effective), line("bounding", bounding))
    };
    for ([effective, bounding, default, ceiling], has) in table {
        for (case, user) in [0, USER, USER].into_iter().enumerate() {
            let spec = format!("user = {user}\n{}", table_of(effective, bounding));
            let said = planned(&table_of(default, ceiling), &spec);
            let Some(has) = has else {
                assert_eq!(said.unwrap_err().stage, Stage::Config, "{spec} {default} {ceiling}");
                continue;
            };
            let program = if case == 2 { "./perl" } else { "perl" };
            let mut world =
                confined(&["sh", "-c", "\"$1\" -e \"$2\" 2>&1; true", "sh", program, RAW_SOCKET], user, NONE, NONE);
            *sets(&mut world) = said.unwrap();
            tool(&["setcap", "cap_net_raw+ep", &copy(&world, "perl", 0o755)]);
            let output = world.launch().output();
            assert_eq!(output == "has\n", has[case], "{program}: {spec} {default} {ceiling}: {output}");
        }
    }
}

fn what_the_launcher_lacks_is_a_failure() {
    let resource = CapabilitySet::of(&[Capability::SYS_RESOURCE]);
    for uid in [0, USER] {
        let world = |required| {
            let mut world = confined(&["cat", "/proc/self/status"], uid, resource | RAW, resource | RAW);
            world.prelude = "exec setpriv --bounding-set -sys_resource \"$0\" web".to_owned();
            sets(&mut world).required = required;
            world
        };
        // Nobody has asked for it by name: there is as much as there is.
        assert_eq!(read(&world(NONE).launch().output()), after_execve(uid, RAW, RAW), "{uid}");
        let (status, failure) = world(resource).launch().failure();
        assert_eq!((status, failure.stage, failure.errno), (218, Stage::Confine, Some(libc::EPERM)), "{failure:?}");
        assert!(failure.message.contains("cannot give the program SYS_RESOURCE"), "{failure:?}");
    }
}

/// Without CAP_SETPCAP nothing can be dropped; and where nothing is to be dropped, nothing has to be.
fn what_is_gone_need_not_be_dropped() {
    let gone = CapabilitySet::of(&[Capability::SETPCAP, Capability::MAC_ADMIN]);
    let left = CapabilitySet::NAMED - gone;
    for (bounding, errno) in [(left, None), (left - RAW, Some(libc::EPERM))] {
        let mut world = confined(&["cat", "/proc/self/status"], 0, bounding, bounding);
        world.prelude = "exec setpriv --bounding-set -setpcap,-mac_admin \"$0\" web".to_owned();
        let mut run = world.launch();
        match errno {
            None => assert_eq!(read(&run.output())[3], bounding & ours()),
            Some(_) => {
                let (status, failure) = run.failure();
                assert_eq!((status, failure.stage, failure.errno), (218, Stage::Confine, errno), "{failure:?}");
                assert!(failure.message.contains("take NET_RAW out of the bounding set"), "{failure:?}");
            }
        }
    }
}

fn the_directory_is_entered_without_them() {
    let mut world = confined(&["true"], USER, CapabilitySet::NAMED, FEW);
    for step in &mut world.plan.steps {
        if matches!(step.action, Action::ChangeDirectory { .. }) {
            step.action = Action::ChangeDirectory { path: Some("/root".into()) };
        }
    }
    let (status, failure) = world.launch().failure();
    assert_eq!((status, failure.stage, failure.errno), (200, Stage::Directory, Some(libc::EACCES)), "{failure:?}");
}
