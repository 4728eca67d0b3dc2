//! Who gets which handle, for how long, and what stands in the way.

use serde_json::json;

use crate::support::berth::{SLEEP, SOON, options};
use crate::support::host::{Suite, slowness};
use crate::support::ring::Test;
use crate::world::{HIERARCHY, Packets, World, with_handle};

pub const TRIALS: &[Test] = &[
    ("the_isolate_test_of_mesos", mesos_isolate),
    ("the_container_status_test_of_mesos", mesos_container_status),
    ("the_unprivileged_user_test_of_mesos", mesos_unprivileged_user),
    ("a_handle_is_stable_over_restarts", stable),
    ("a_handle_rests_before_another_gets_it", rests),
    ("exhaustion_names_the_range_and_the_holders", exhausted),
    ("a_handle_can_be_asked_for", fixed),
    ("one_handle_asked_for_twice_is_refused", doubles),
    ("a_handle_of_another_cgroup_is_reported_and_not_taken", foreign),
    ("without_a_primary_the_operator_sets_the_class", unmanaged),
    ("a_container_can_do_without", opted_out),
    ("without_the_isolator_a_handle_is_refused_by_name", refused_without_the_isolator),
    ("a_changed_primary_breaks_nothing_that_runs", changed_primary),
    ("a_double_is_resolved_aloud", double_at_recovery),
    ("what_is_left_of_nobody_is_swept", swept),
    ("a_churn_leaves_no_cgroup_and_no_handle", churn),
    ("handles_work_without_systemd", direct),
];

/// `ROOT_CGROUPS_NET_CLS_Isolate`: the handle of a range of one, its processes, and nothing after the kill.
fn mesos_isolate(suite: Suite) {
    let world = World::new(suite, "secondary_handles = \"0xffff\"");
    let pid = world.run("web", SLEEP);
    assert_eq!(world.class("web"), Some(0x0012_ffff));
    assert_eq!(world.ok(&format!("cat {HIERARCHY}/berth/web/cgroup.procs")), pid.to_string());
    world.ok("systemctl kill --signal=KILL berth@web; systemctl stop berth@web");
    world.wait_free();
}

/// `ROOT_CGROUPS_NET_CLS_ContainerStatus`: the first of a range of two, in the state.
fn mesos_container_status(suite: Suite) {
    let world = World::new(suite, "secondary_handles = \"0x11-0x12\"");
    world.run("web", SLEEP);
    let status = world.container("web").unwrap()["container_status"].clone();
    let expected = json!({"classid": 0x0012_0011, "hex": "0x00120011", "class": "12:11", "backends": ["net_cls"]});
    assert_eq!(status["cgroup_info"]["net_cls"], expected);
}

/// `ROOT_CGROUPS_PERF_NET_CLS_UNPRIVILEGED_USER_UserCgroup`: whoever is not root writes no control file.
fn mesos_unprivileged_user(suite: Suite) {
    let world = World::new(suite, "backend = \"net_cls\"");
    let script = format!(
        "for file in net_cls.classid tasks cgroup.procs; do \
         (echo 0 >{HIERARCHY}/berth/web/$file) 2>/dev/null && echo wrote $file; \
         (echo 0 >{HIERARCHY}/$file) 2>/dev/null && echo wrote above $file; done; \
         cat {HIERARCHY}/berth/web/net_cls.classid"
    );
    let spec = format!("command = \"{script}\"\nuser = \"www-data\"\n[service]\nrestart = \"no\"\n");
    assert_eq!(world.output_of("web", &spec), 0x0012_0001.to_string());
}

fn stable(suite: Suite) {
    let world = World::new(suite, "");
    for name in ["first", "second", "third"] {
        world.run(name, SLEEP);
    }
    let handles = |at: &str| {
        let all = ["first", "second", "third"].map(|name| world.class(name));
        assert_eq!(all, [Some(0x0012_0001), Some(0x0012_0002), Some(0x0012_0003)], "{at}");
    };
    handles("at first");
    world.ok("systemctl restart berth@second");
    handles("after a restart of a container");
    world.ok("systemctl kill --signal=KILL --kill-whom=main berth@first");
    world.wait_until("first", "restarted", |container| container["restarts"] == 1 && container["state"] == "running");
    handles("after its automatic restart");
    world.ok("systemctl stop berth@first berth@third; systemctl start berth@third; systemctl start berth@first");
    handles("after a stop and a start in another order");
    world.restart_berthd();
    handles("after a restart of berthd");
    let before = world.main_pid("second");
    world.drop_spec("second", "command = [\"/bin/sleep\", \"100000\"]\n");
    world.wait_until("second", "restarted", |container| {
        container["state"] == "running" && container["main_pid"] != before
    });
    handles("after an edit");
}

fn rests(suite: Suite) {
    let world = World::new(suite, "reuse_delay = \"3s\"");
    world.run("gone", SLEEP);
    world.remove_spec("gone");
    world.wait_gone("gone");
    world.run("next", SLEEP);
    assert_eq!(world.class("next"), Some(0x0012_0002), "the handle of what is gone rests");
    let list = world.ok("readlink /run/berth/handles/00120001");
    assert!(list.starts_with("gone@"), "{list}");
    // One that is stopped may come back: its handle is given last, though it has rested longest.
    world.run("stopped", SLEEP);
    world.ok("systemctl stop berth@stopped");
    std::thread::sleep(std::time::Duration::from_millis(3200)); // what is tested is time itself
    world.run("later", SLEEP);
    assert_eq!(world.class("later"), Some(0x0012_0001), "it has rested");
    world.run("last", SLEEP);
    assert_eq!(world.class("last"), Some(0x0012_0004));
    world.ok("systemctl start berth@stopped");
    assert_eq!(world.class("stopped"), Some(0x0012_0003));
}

fn exhausted(suite: Suite) {
    let world = World::new(suite, "secondary_handles = [\"1\", \"3-4\"]");
    for (name, class) in [("a", 0x0012_0001), ("b", 0x0012_0003)] {
        world.run(name, SLEEP);
        assert_eq!(world.class(name), Some(class));
    }
    world.run("asked", &format!("{}{SLEEP}", with_handle("0012:0004")));
    world.drop_spec("one-more", &format!("autostart = false\n{SLEEP}"));
    world.barrier_without_handle();
    assert!(!world.sh("systemctl start berth@one-more").status.success());
    let text = "no handle is free in 0012:0001, 0012:0003 to 0012:0004: held by a, asked, b";
    world.wait_until("one-more", "refused", |container| {
        container["error"]["message"].as_str().is_some_and(|message| message.starts_with(text))
    });
    assert!(world.ok("systemctl status --full --no-pager berth@one-more || true").contains(text));
    assert!(world.journal("berth@one-more").contains("widen net_cls.secondary_handles"));
    world.ok("systemctl stop berth@a; systemctl reset-failed berth@one-more");
    assert!(!world.sh("systemctl start berth@one-more").status.success(), "a's handle rests");
    world.configure("secondary_handles = [\"1\", \"3-4\"]\nreuse_delay = \"0s\"");
    world.ok("systemctl reset-failed berth@one-more; systemctl start berth@one-more");
    assert_eq!(world.class("one-more"), Some(0x0012_0001));
}

fn fixed(suite: Suite) {
    let world = World::new(suite, "");
    world.run("web", &format!("{}{SLEEP}", with_handle("0012:0001")));
    world.run("db", SLEEP);
    assert_eq!([world.class("web"), world.class("db")], [Some(0x0012_0001), Some(0x0012_0002)]);
    // Asked for by one that does not run: nobody else gets it.
    world.drop_spec("later", &format!("autostart = false\n{}{SLEEP}", with_handle("0x00120003")));
    world.barrier_without_handle();
    world.run("other", SLEEP);
    assert_eq!(world.class("other"), Some(0x0012_0004));
    // Asked for while another has it, who did not ask.
    world.drop_spec("thief", &format!("autostart = false\n{}{SLEEP}", with_handle("0012:0002")));
    world.barrier();
    assert!(!world.sh("systemctl start berth@thief").status.success());
    let text = "the handle 0012:0002 is held by 'db' until its cgroup is gone";
    assert!(world.journal("berth@thief").contains(text));
    // An edit is a restart.
    world.drop_spec("web", &format!("{}{SLEEP}", with_handle("0012:0100")));
    world.wait_for("the new handle", SOON, || (world.class("web") == Some(0x0012_0100)).then_some(()));
    world.wait_until("web", "of the new handle", |container| {
        container["container_status"]["cgroup_info"]["net_cls"]["class"] == "12:100"
    });
    assert_eq!(world.held().get("00120001"), None, "the old one rests");
}

fn doubles(suite: Suite) {
    let world = World::new(suite, "");
    let pid = world.run("one", &format!("{}{SLEEP}", with_handle("0012:0011")));
    world.drop_spec("two", &format!("{}{SLEEP}", with_handle("0012:0011")));
    let text = "/etc/berth/containers/two.toml:1:18: network.handle: the handle 0012:0011 is asked for by one too";
    world.wait_until("two", "refused", |container| {
        container["spec"]["errors"][0].as_str().is_some_and(|error| error.starts_with(text))
    });
    let errors = world.container("one").unwrap()["spec"]["errors"].clone();
    assert!(errors[0].as_str().is_some_and(|error| error.contains("asked for by two too")), "{errors}");
    assert_eq!((world.main_pid("one"), world.class("one")), (pid, Some(0x0012_0011)), "what runs goes on");
    assert!(!world.sh("systemctl start berth@two").status.success());
    assert!(world.journal("berth@two").contains(text));
    world.drop_spec("two", SLEEP);
    world.wait_state("two", "running");
    assert_eq!(world.container("one").unwrap()["spec"]["errors"], json!([]));
    assert_eq!(world.main_pid("one"), pid);
}

fn foreign(suite: Suite) {
    let world = World::new(suite, "");
    world.ok(&format!("mkdir {HIERARCHY}/other; echo 0x00120001 >{HIERARCHY}/other/net_cls.classid"));
    world.run("web", SLEEP);
    assert_eq!(world.class("web"), Some(0x0012_0002));
    let events = world.entries("--unit=berthd");
    let text = format!("the handle 0012:0001 is in use by the cgroup {HIERARCHY}/other, which is not berth's");
    let is_report =
        |entry: &&serde_json::Value| entry["MESSAGE"].as_str().is_some_and(|message| message.contains(&text));
    let reports: Vec<_> = events.iter().filter(is_report).collect();
    assert_eq!(reports.len(), 1, "{events:#?}");
    assert_eq!(reports[0]["MESSAGE_ID"].as_str().map(str::len), Some(32));
    world.drop_spec("wants", &format!("autostart = false\n{}{SLEEP}", with_handle("0012:0001")));
    world.barrier();
    assert!(!world.sh("systemctl start berth@wants").status.success());
    assert!(world.journal("berth@wants").contains(&text));
    assert_eq!(world.read(format!("{HIERARCHY}/other/net_cls.classid")), "1179649\n", "it is left alone");
    world.ok(&format!("rmdir {HIERARCHY}/other; systemctl start berth@wants"));
    assert_eq!(world.class("wants"), Some(0x0012_0001));
}

fn unmanaged(suite: Suite) {
    let isolation = "isolation = [\"cgroups/net_cls\", \"namespaces/pid\", \"namespaces/ipc\"]\n";
    let world = World::with(suite, isolation, options());
    let pid = world.run("web", SLEEP);
    assert_eq!(world.class("web"), Some(0), "its class is left alone");
    assert_eq!(world.ok(&format!("cat {HIERARCHY}/berth/web/cgroup.procs")), pid.to_string());
    assert_eq!(world.handle("web"), None);
    world.ok(&format!("echo 0x00200007 >{HIERARCHY}/berth/web/net_cls.classid"));
    world.restart_berthd();
    assert_eq!(world.class("web"), Some(0x0020_0007), "a new berthd leaves it alone too");
    assert_eq!(world.handle("web"), Some(0x0020_0007), "and tells what it finds");
    world.remove_spec("web");
    world.wait_gone("web");
    world.wait_free();
}

fn opted_out(suite: Suite) {
    let world = World::new(suite, "");
    let pid = world.run("web", &format!("{}{SLEEP}", with_handle("none")));
    assert_eq!(world.class("web"), None);
    let cgroup = world.ok(&format!("cat /proc/{pid}/cgroup"));
    assert!(cgroup.lines().any(|line| line.ends_with(":net_cls:/")), "{cgroup}");
    assert_eq!(world.container("web").unwrap()["container_status"], json!({}));
    assert!(world.berthctl("net web").stderr.contains("'web' has no handle"));
}

fn refused_without_the_isolator(suite: Suite) {
    let world = World::with(suite, "isolation = [\"namespaces/pid\"]\n", options());
    world.drop_spec("web", &format!("{}{SLEEP}", with_handle("auto")));
    world.wait_state("web", "failed");
    let message = world.container("web").unwrap()["error"]["message"].clone();
    assert!(message.as_str().is_some_and(|text| text.contains("network.handle needs the isolator cgroups/net_cls")));
}

fn changed_primary(suite: Suite) {
    let world = World::new(suite, "");
    let pid = world.run("web", SLEEP);
    world.run("asked", &format!("{}{SLEEP}", with_handle("0012:0005")));
    world.write("/etc/berth/berthd.toml", "[net_cls]\nprimary_handle = 0x34\nsecondary_handles = \"1-9\"\n");
    world.restart_berthd();
    assert_eq!((world.main_pid("web"), world.class("web")), (pid, Some(0x0012_0001)), "what runs keeps its handle");
    assert_eq!(world.handle("web"), Some(0x0012_0001));
    assert_eq!(world.held()["00120001"], "web", "and it is reserved");
    world.run("new", SLEEP);
    assert_eq!(world.class("new"), Some(0x0034_0001));
    let errors = world.container("asked").unwrap()["spec"]["errors"].clone();
    assert!(errors[0].as_str().is_some_and(|error| error.contains("outside this host's primary handle 0x0034")));
    assert_eq!(world.class("asked"), Some(0x0012_0005), "an error of configuration ends nothing");
    world.ok("systemctl restart berth@web");
    assert_eq!(world.class("web"), Some(0x0034_0002), "a restart takes a handle of the new range");
}

fn double_at_recovery(suite: Suite) {
    let world = World::new(suite, "");
    let pids = [world.run("one", SLEEP), world.run("two", SLEEP)];
    // berthd dies, and somebody plays tricks meanwhile: the same class for both, and nothing is written down.
    world.ok(&format!(
        "systemctl kill --signal=STOP --kill-whom=main berthd; echo 0x00120001 >{HIERARCHY}/berth/two/net_cls.classid; \
         rm -r /run/berth/handles; systemctl kill --signal=KILL --kill-whom=main berthd"
    ));
    world.wait_for("a new handle", SOON, || (world.class("two") != Some(0x0012_0001)).then_some(()));
    assert_eq!([world.class("one"), world.class("two")], [Some(0x0012_0001), Some(0x0012_0002)]);
    world.wait_for("its report", SOON, || {
        world.journal("berth@two").contains("had the handle 0012:0001 of 'one'; it has 0012:0002 now").then_some(())
    });
    assert_eq!([world.main_pid("one"), world.main_pid("two")], pids);
    assert_eq!(world.held().into_values().collect::<Vec<_>>(), ["one", "two"]);
}

fn swept(suite: Suite) {
    let world = World::new(suite, "");
    world.run("web", SLEEP);
    let sleeper = format!("mkdir {HIERARCHY}/berth/alive; echo 0x00120002 >{HIERARCHY}/berth/alive/net_cls.classid");
    world.ok(&format!(
        "mkdir {HIERARCHY}/berth/empty; ln -s nobody /run/berth/handles/00120007; {sleeper}; \
         systemd-run --quiet sh -c 'echo 0 >{HIERARCHY}/berth/alive/cgroup.procs; exec sleep 1000'"
    ));
    world.wait_for("the sleeper", SOON, || {
        (!world.read(format!("{HIERARCHY}/berth/alive/cgroup.procs")).is_empty()).then_some(())
    });
    world.restart_berthd();
    assert_eq!(world.cgroups(), ["alive", "web"], "an empty one goes, one with processes stays");
    assert_eq!(
        world.held().into_iter().collect::<Vec<_>>(),
        [("00120001".to_owned(), "web".to_owned()), ("00120002".to_owned(), "alive".to_owned())]
    );
    world.run("next", SLEEP);
    assert_eq!(world.class("next"), Some(0x0012_0003));
}

fn churn(suite: Suite) {
    let world = World::new(suite, "backend = \"both\"\nreuse_delay = \"0s\"");
    for number in 0..10 {
        world.drop_spec(&format!("c{number}"), &format!("autostart = false\n{SLEEP}service.start_limit.burst = 0\n"));
    }
    world.barrier();
    // 500 starts and stops, ten at a time; of an emulated machine, less is asked.
    let units: String = (0..10).map(|number| format!("berth@c{number} ")).collect();
    let rounds = 50 / slowness();
    world
        .ok(&format!("set -e; for round in $(seq {rounds}); do systemctl start {units}; systemctl stop {units}; done"));
    world.wait_free();
    let given = world.ok("ls /run/berth/handles");
    assert!(given.lines().count() <= 11, "ten containers and a barrier had one each: {given}");
    let programs = world.ok("ls /sys/fs/cgroup/berth.slice 2>/dev/null | grep -c '^berth@' || true");
    assert_eq!(programs, "0", "the cgroups of v2 are gone, and the programs with them");
}

fn direct(suite: Suite) {
    let world = World::new(suite, "backend = \"both\"");
    world.ok("systemctl stop berthd.socket berthd; \
              systemd-run --quiet --unit=direct -p Delegate=yes -p KillMode=process /usr/sbin/berthd --manager direct");
    let packets = Packets { v4: 6, v6: 0, tcp: false, spec: "environment = { HOLD = \"1\" }\n" };
    world.count("class", "meta cgroup 0x00120001 udp dport 7002");
    world.count("mark", "meta mark 0x00120001 udp dport 7002");
    world.drop_spec("web", &packets.spec());
    world.wait_state("web", "running");
    world.wait_for("its packets", SOON, || (world.counted()["class"] == 6).then_some(()));
    assert_eq!(world.counted()["mark"], 6);
    assert_eq!(
        world.container("web").unwrap()["container_status"]["cgroup_info"]["net_cls"]["backends"],
        json!(["net_cls", "bpf"])
    );
    world.ok("systemctl kill --signal=KILL --kill-whom=main direct; systemctl reset-failed direct; \
              systemd-run --quiet --unit=direct2 -p Delegate=yes -p KillMode=process /usr/sbin/berthd --manager direct");
    world.wait_state("web", "running");
    assert_eq!(world.class("web"), Some(0x0012_0001));
    world.remove_spec("web");
    world.wait_gone("web");
    world.wait_free();
}
