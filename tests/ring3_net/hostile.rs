//! A container cannot change its handle, nor leave the cgroup that carries it, though it is root.

use crate::support::berth::SLEEP;
use crate::support::host::Suite;
use crate::support::ring::Test;
use crate::world::{HIERARCHY, World, with_handle};

pub const TRIALS: &[Test] = &[
    ("root_of_a_container_cannot_change_its_handle", root_cannot),
    ("root_of_a_container_cannot_leave_its_cgroup", root_cannot_leave),
    ("a_container_divides_its_own_cgroup", its_own_can_be_divided),
    ("a_plan_says_what_is_taken_and_who_insists_is_warned", insisted),
    ("a_process_that_enters_is_tagged_too", entered),
];

/// Runs a script as the program of a container, with a handle, whatever it says on its way.
fn run(world: &World, name: &str, script: &str, spec: &str) -> String {
    world.write(format!("/srv/{name}"), script);
    let spec = format!("command = [\"/bin/sh\", \"/srv/{name}\"]\n{spec}[service]\nrestart = \"no\"\n");
    world.drop_spec(name, &format!("{}{spec}", with_handle("0012:0011")));
    world.wait_until(name, "at its end", |container| matches!(container["state"].as_str(), Some("exited" | "failed")));
    let said = world.said(name);
    world.remove_spec(name);
    world.wait_gone(name);
    said
}

fn root_cannot(suite: Suite) {
    let world = World::new(suite, "backend = \"both\"\nreuse_delay = \"0s\"");
    // Through the mount that is there; through one of its own; as root of a user namespace of its own, by each of the
    // two ways of making one (the numbers are those of x86-64, on which these rings run).
    let script = format!(
        "exec 2>&1\n\
         own=$(sed -n 's/.*:net_cls://p' /proc/self/cgroup)\n\
         echo 7 >{HIERARCHY}$own/net_cls.classid && echo WROTE\n\
         chmod 0666 {HIERARCHY}$own/net_cls.classid && echo CHANGED\n\
         mount -o remount,rw {HIERARCHY} && echo REMOUNTED\n\
         mkdir -p /tmp/mine && mount -t cgroup -o net_cls mine /tmp/mine && echo MOUNTED\n\
         umount {HIERARCHY} && echo UNMOUNTED\n\
         unshare --user --map-root-user --mount --cgroup sh -c \
         'mount -t cgroup -o net_cls mine /tmp/mine && echo 7 >/tmp/mine/net_cls.classid && echo REWROTE'\n\
         perl -e 'my $r = syscall(56, 0x12000000 | 17, 0, 0, 0, 0); print $r < 0 ? \"clone: $!\\n\" : \"CLONED\\n\"'\n\
         perl -e 'my $a = pack(\"Q8\", 0x10000000, 0, 0, 0, 17, 0, 0, 0); my $r = syscall(435, $a, 64); \
         print $r < 0 ? \"clone3: $!\\n\" : \"CLONED\\n\"'\n\
         cat {HIERARCHY}$own/net_cls.classid\n"
    );
    let said = run(&world, "hostile", &script, "");
    for word in ["WROTE", "CHANGED", "REMOUNTED", "MOUNTED", "UNMOUNTED", "REWROTE", "CLONED"] {
        assert!(!said.contains(word), "{said}");
    }
    assert!(said.contains("unshare failed: Operation not permitted"), "{said}");
    assert!(
        said.contains("clone: Operation not permitted") && said.contains("clone3: Function not implemented"),
        "{said}"
    );
    assert!(said.ends_with(&0x0012_0011.to_string()), "{said}");
    // What needs no such thing goes on.
    let honest = "unshare --ipc true 2>/dev/null; (echo forked); setpriv --reuid 33 --clear-groups id -u\n";
    assert!(run(&world, "honest", honest, "").ends_with("forked\n33"));
    // Nor does who becomes root on his way.
    let user = "unshare --user true 2>&1 || id -nu\n";
    let said = run(&world, "user", user, "user = \"www-data\"\n");
    assert!(said.contains("Operation not permitted") && said.ends_with("www-data"), "{said}");
    drop(world);
    let world = World::new(suite, "backend = \"bpf\"\nreuse_delay = \"0s\"");
    assert_eq!(run(&world, "user", "unshare --user true && echo made\n", "user = \"www-data\"\n"), "made");
}

fn root_cannot_leave(suite: Suite) {
    for backend in ["net_cls", "bpf"] {
        let world = World::new(suite, &format!("backend = \"{backend}\"\nreuse_delay = \"0s\""));
        let script = format!(
            "exec 2>&1\n\
             for cgroup in {HIERARCHY} /sys/fs/cgroup /sys/fs/cgroup/berth.slice /sys/fs/cgroup/init.scope; do\n\
             echo 0 >$cgroup/cgroup.procs && echo LEFT $cgroup\n\
             echo 0 >$cgroup/tasks && echo LEFT $cgroup\n\
             mkdir $cgroup/mine && echo MADE $cgroup/mine\n\
             done\n\
             mkdir -p /tmp/mine && mount -t cgroup2 mine /tmp/mine && echo MOUNTED\n\
             cat /proc/self/cgroup\n"
        );
        let said = run(&world, "hostile", &script, "");
        assert!(!["LEFT", "MADE", "MOUNTED"].iter().any(|word| said.contains(word)), "{backend}: {said}");
        assert!(said.ends_with("0::/berth.slice/berth@hostile.service"), "{backend}: {said}");
    }
}

fn its_own_can_be_divided(suite: Suite) {
    let world = World::new(suite, "backend = \"both\"");
    let script = "set -e; own=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup); mkdir $own/part; \
                  echo 0 >$own/part/cgroup.procs; cat /proc/self/cgroup | tail -n1\n";
    assert_eq!(run(&world, "divides", script, ""), "0::/berth.slice/berth@divides.service/part");
    assert!(world.held().is_empty());
}

fn insisted(suite: Suite) {
    let world = World::new(suite, "backend = \"both\"");
    world.drop_spec("web", &format!("autostart = false\n{SLEEP}"));
    world.drop_spec("insists", &format!("{SLEEP}[capabilities]\nbounding = [\"NET_ADMIN\", \"SYS_ADMIN\"]\n"));
    world.wait_state("insists", "running");
    let plan = world.ok("berthctl plan web");
    for line in [
        "tags its packets, by net_cls and bpf, with the lowest free handle of 0012:0001 to 0012:ffff  [cgroups/net_cls]",
        "makes control groups read-only, but for its own  [cgroups/net_cls]",
        "makes no user namespaces from here on (seccomp)  [cgroups/net_cls]",
        "without NET_RAW, by which it could give its packets another mark (cgroups/net_cls)",
    ] {
        assert!(plan.contains(line), "{line} in {plan}");
    }
    let warnings = world.container("insists").unwrap()["spec"]["warnings"].clone();
    for text in [
        "keeps NET_ADMIN, which [capabilities] names, though cgroups/net_cls forbids it: it could give its packets",
        "keeps SYS_ADMIN, which [capabilities] names, though cgroups/net_cls forbids it: it could mount control groups",
    ] {
        assert!(warnings.to_string().contains(text), "{warnings}");
    }
    let pid = world.main_pid("insists");
    let caps = world.ok(&format!("getpcaps {pid}"));
    assert!(caps.ends_with("cap_net_admin,cap_sys_admin=ep"), "{caps}");
}

fn entered(suite: Suite) {
    let world = World::new(suite, "backend = \"both\"");
    world.run("web", &format!("{}{SLEEP}", with_handle("0012:0011")));
    world.count("class", "meta cgroup 0x00120011 udp dport 7002");
    world.count("mark", "meta mark 0x00120011 udp dport 7002");
    let output = world.berthctl("exec web -- perl /srv/send.pl 0 7002 6 0");
    assert!(output.status.success() && output.stdout == "sent\n", "{output}");
    assert_eq!((world.counted()["class"], world.counted()["mark"]), (6, 6));
    assert_eq!(world.ok(&format!("wc -l <{HIERARCHY}/berth/web/cgroup.procs")), "1", "it has left again");
    world.run("users", &format!("user = \"www-data\"\n{}{SLEEP}", with_handle("0012:0012")));
    let output = world
        .berthctl("exec --user root users -- sh -c 'id -u; unshare --user true; grep -E ^Cap[IA] /proc/self/status'");
    assert!(output.stdout.starts_with("0\nCapInh:\t0000000000000000\nCapAmb:\t0000000000000000"), "{output}");
    assert!(output.stderr.contains("Operation not permitted"), "{output}");
}
