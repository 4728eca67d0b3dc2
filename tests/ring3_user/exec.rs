//! `berthctl exec`: what comes into a running container, under systemd and without.

use crate::support::berth::{Berth, SLEEP};
use crate::support::host::Suite;
use crate::support::ring::Test;

pub const TRIALS: &[Test] = &[
    ("exec_is_in_the_container", exec_is_in_the_container),
    ("exec_is_who_the_container_is", exec_is_who_the_container_is),
    ("exec_is_in_the_units_cgroup", exec_is_in_the_units_cgroup),
    ("exec_follows_into_a_delegated_cgroup", exec_follows_into_a_delegated_cgroup),
    ("exec_ends_as_its_program", exec_ends_as_its_program),
    ("exec_leaks_nothing", exec_leaks_nothing),
    ("exec_ends_with_the_container", exec_ends_with_the_container),
    ("exec_that_is_suspended_keeps_no_stop_waiting", exec_that_is_suspended_keeps_no_stop_waiting),
    ("exec_works_right_after_a_start", exec_works_right_after_a_start),
    ("exec_names_the_state_of_what_does_not_run", exec_names_the_state),
    ("exec_is_for_root", exec_is_for_root),
    ("exec_outlives_berthd", exec_outlives_berthd),
    ("exec_needs_berthd_and_no_memory_of_it", exec_needs_berthd_and_no_memory_of_it),
    ("exec_on_a_terminal", exec_on_a_terminal),
    ("exec_without_systemd", exec_without_systemd),
];

/// Namespaces of a process that is asked for its own, as `readlink` gives them.
const NAMESPACES: &str = "for n in cgroup ipc mnt net pid user uts; do readlink /proc/self/ns/$n; done";

/// A script in a container, well; what it prints.
#[track_caller]
fn inside(host: &Berth, name: &str, script: &str) -> String {
    host.ok(&format!("berthctl exec {name} -- sh -c '{script}'"))
}

fn exec_is_in_the_container(suite: Suite) {
    let host = Berth::shared(suite);
    for (name, toml) in [
        ("in-private", ""),
        ("in-host", "[namespaces]\npid = \"host\"\nipc = \"host\"\n"),
        ("in-init", "[service]\ninit = true\n"),
        ("in-volume", "[[volumes]]\ncontainer_path = \"/var/tmp\"\nhost_path = \"tmp\"\n"),
    ] {
        let pid = host.run(name, &format!("{SLEEP}{toml}"));
        let theirs = host.ok(&NAMESPACES.replace("self", &pid.to_string()));
        assert_eq!(inside(&host, name, NAMESPACES), theirs, "{name}");
    }
    let seen = host.ok("berthctl exec in-private -- ps ax -o pid=,args=");
    let lines: Vec<&str> = seen.lines().map(str::trim).collect();
    assert!(
        lines.len() == 2 && lines[0] == "1 /bin/sleep infinity" && lines[1].ends_with(" ps ax -o pid=,args="),
        "{seen}"
    );
    inside(&host, "in-volume", "echo inside >/var/tmp/by-exec");
    assert!(!host.files().exists("/var/tmp/by-exec"));
    assert_eq!(host.read("/var/lib/berth/sandboxes/in-volume/latest/tmp/by-exec"), "inside\n");
    // A shell of the container's own init is reaped by it, and so is what exec leaves behind.
    inside(&host, "in-init", "sleep 0.2 & exit 0");
    host.wait_for("no zombie", super::SOON, || {
        (!inside(&host, "in-init", "ps -e -o stat=,comm=").contains("Z ")).then_some(())
    });
}

fn exec_is_who_the_container_is(suite: Suite) {
    let host = Berth::shared(suite);
    let report = "id; umask; pwd; env | grep -v ^PWD= | sort; grep -e ^Cap -e ^NoNew -e ^Sig[BI] /proc/self/status";
    let toml = format!(
        "command = \"{report}; exec sleep infinity\"\nuser = \"www-data:games\"\numask = \"0027\"\n\
         supplementary_groups = [\"audio\", \"video\"]\nenvironment = {{ FOO = \"a b\", PATH = \"/usr/bin:/bin\" }}\n"
    );
    host.run("who", &toml);
    let own = host.wait_said("who", "SigIgn:");
    let own: String = own
        .lines()
        .filter(|line| !line.starts_with("JOURNAL_STREAM="))
        .fold(String::new(), |all, line| all + line + "\n");
    let exec =
        host.ok(&format!("cd /etc; umask 0077; ulimit -c 0; SECRET=1 LANG=x berthctl exec who -- sh -c '{report}'"));
    assert_eq!(format!("{exec}\n"), own, "stdin is /dev/null here, so there is no TERM either");
    assert!(
        own.contains("uid=33(www-data) gid=60(games)") && own.contains("\n0027\n") && own.contains("FOO=a b\n"),
        "{own}"
    );
    let root =
        host.ok("TERM=vt220 berthctl exec --user root --workdir /srv -e FOO=1 -e NEW=2 who -- sh -c 'id; pwd; env'");
    for line in ["uid=0(root) gid=0(root) groups=0(root)", "/srv", "FOO=1", "NEW=2", "HOME=/root", "TERM=vt220"] {
        assert!(root.lines().any(|has| has == line), "{line}: {root}");
    }
}

fn exec_is_in_the_units_cgroup(suite: Suite) {
    let host = Berth::shared(suite);
    let pid = host.run("cg", SLEEP);
    let cgroup = "/berth.slice/berth@cg.service";
    assert_eq!(inside(&host, "cg", "cat /proc/self/cgroup"), host.ok(&format!("cat /proc/{pid}/cgroup")));
    assert_eq!(inside(&host, "cg", "grep ^0 /proc/self/cgroup"), format!("0::{cgroup}"));
    let procs = || host.read(format!("/sys/fs/cgroup{cgroup}/cgroup.procs")).lines().count();
    let running = host.spawn("exec berthctl exec cg -- sleep 12345");
    host.wait_for("the program", super::SOON, || {
        host.ok("systemd-cgls -u berth@cg.service").contains("sleep 12345").then_some(())
    });
    host.wait_for("the program to be alone", super::SOON, || (procs() == 2).then_some(()));
    let listed = host.ok("systemd-cgls -u berth@cg.service");
    assert!(!listed.contains("berthctl") && host.ok("systemctl status berth@cg").contains("sleep 12345"), "{listed}");
    running.signal(rustix::process::Signal::TERM).unwrap();
    host.wait_for("it to be gone", super::SOON, || (procs() == 1).then_some(()));
    assert_eq!(host.main_pid("cg"), pid);
}

/// The cgroup is the program's to divide, and then no process can be in its own.
fn exec_follows_into_a_delegated_cgroup(suite: Suite) {
    let host = Berth::shared(suite);
    let toml = "command = \"cd /sys/fs/cgroup/berth.slice/berth@deleg.service && mkdir inner && echo $$ >inner/cgroup.procs; \
                echo moved; exec sleep infinity\"\n[namespaces]\npid = \"host\"\n";
    host.run("deleg", toml);
    host.wait_said("deleg", "moved");
    assert_eq!(inside(&host, "deleg", "grep ^0 /proc/self/cgroup"), "0::/berth.slice/berth@deleg.service/inner");
    host.ok("systemctl stop berth@deleg");
    host.wait_state("deleg", "stopped");
}

fn exec_ends_as_its_program(suite: Suite) {
    let host = Berth::shared(suite);
    host.run("ends", SLEEP);
    for (command, code, says) in [
        ("true", 0, ""),
        ("sh -c 'exit 42'", 42, ""),
        ("sh -c 'kill -TERM $$'", 143, ""),
        ("sh -c 'kill -KILL $$'", 137, ""),
        ("nosuchprogram", 127, "not found in PATH"),
        ("/etc/passwd", 126, "not executable by user 0"),
    ] {
        let output = host.berthctl(&format!("exec ends -- {command}"));
        assert_eq!(output.status.code(), Some(code), "{command}: {output}");
        assert!(output.stderr.contains(says) && (output.stderr.is_empty() == says.is_empty()), "{command}: {output}");
    }
    assert_eq!(host.ok("seq 100000 | berthctl exec ends -- tail -1"), "100000");
    let said = host.ok("timeout --signal=TERM 1 berthctl exec ends -- \
                        sh -c 'trap \"echo got TERM; exit 7\" TERM; while :; do sleep 0.05; done'; echo $?");
    assert_eq!(said, "got TERM\n124", "timeout says so itself, and the program was asked");
    assert_eq!(host.property("ends", "ActiveState"), "active");
}

fn exec_leaks_nothing(suite: Suite) {
    let host = Berth::shared(suite);
    for (name, toml) in [("fds", ""), ("fds-host", "[namespaces]\npid = \"host\"\n")] {
        host.run(name, &format!("{SLEEP}user = \"nobody\"\n{toml}"));
        let listed =
            host.ok(&format!("berthctl exec {name} -- sh -c 'ls -l /proc/$$/fd' 7</etc 8</etc/passwd </dev/null"));
        let names: Vec<&str> = listed.lines().skip(1).filter_map(|line| line.split_whitespace().nth(8)).collect();
        assert_eq!(names, ["0", "1", "2"], "{listed}");
        let refused = host.sh(&format!("berthctl exec {name} -- true </etc"));
        assert_eq!(refused.status.code(), Some(125), "{refused}");
    }
    // A working directory by way of what is the host's.
    let outside = host.berthctl("exec --user root --workdir /proc/1/root/etc fds-host -- pwd");
    assert_eq!(outside.status.code(), Some(125), "{outside}");
    assert!(outside.stderr.contains("not inside the container"), "{outside}");
}

fn exec_ends_with_the_container(suite: Suite) {
    let host = Berth::shared(suite);
    for (name, toml) in [("over", ""), ("over-host", "[namespaces]\npid = \"host\"\n")] {
        for (verb, state) in [("stop", "stopped"), ("restart", "running")] {
            let pid = host.run(name, &format!("{SLEEP}{toml}"));
            host.ok(&format!("systemctl start berth@{name}"));
            let mut running = host.spawn(&format!("exec berthctl exec {name} -- sleep 54321"));
            let sleeps = || host.sh("pgrep -fx 'sleep 54321'").status.success();
            host.wait_for("the program", super::SOON, || sleeps().then_some(()));
            host.ok(&format!("systemctl {verb} berth@{name}"));
            let output = running.wait(super::SOON).unwrap().unwrap();
            assert_eq!(output.status.code(), Some(137), "{name} {verb}: {output}");
            assert_eq!(output.stderr, format!("berthctl: '{name}' has ended, and the program with it\n"), "{verb}");
            assert!(!sleeps(), "{name} {verb}");
            host.wait_state(name, state);
            assert_ne!(host.main_pid(name), pid);
            host.ok(&format!("systemctl start berth@{name}"));
            host.wait_state(name, "running");
        }
        assert_eq!(host.property(name, "Result"), "success");
    }
}

fn exec_that_is_suspended_keeps_no_stop_waiting(suite: Suite) {
    let host = Berth::shared(suite);
    host.run("away", SLEEP);
    // A shell with job control, whose job stops itself, as at Ctrl-Z.
    let script = "script -qec 'set -m; berthctl exec away -- sh -c \"kill -TSTP \\$\\$\"; jobs; echo suspended; \
                  systemctl stop berth@away; echo stopped $?; fg; echo status $?' /dev/null </dev/null";
    let said = host.ok(script);
    assert!(said.contains("suspended") && said.contains("stopped 0"), "{said}");
    host.wait_state("away", "stopped");
    host.wait_for("a clean stop", super::SOON, || (host.property("away", "ActiveState") == "inactive").then_some(()));
}

/// Whoever has started a container can enter it: nothing that berthd has yet to hear is waited for.
fn exec_works_right_after_a_start(suite: Suite) {
    let host = Berth::shared(suite);
    host.run("quickly", &format!("{SLEEP}[service]\nstart_limit = {{ burst = 0 }}\n"));
    let script =
        "for i in $(seq 40); do systemctl restart berth@quickly && berthctl exec quickly -- true || exit; done";
    let output = host.sh(script);
    assert!(output.status.success(), "{output}");
}

fn exec_names_the_state(suite: Suite) {
    let host = Berth::shared(suite);
    let refused = |name: &str| {
        let output = host.berthctl(&format!("exec {name} -- true"));
        assert_eq!((output.status.code(), output.stdout.as_str()), (Some(125), ""), "{output}");
        output.stderr.strip_prefix(&format!("berthctl: cannot enter '{name}': ")).unwrap().trim_end().to_owned()
    };
    host.run("stated", SLEEP);
    host.ok("systemctl stop berth@stated");
    host.wait_state("stated", "stopped");
    assert_eq!(refused("stated"), "it is stopped; start it first ('berthctl start stated')");
    host.drop_spec("stated-idle", &format!("autostart = false\n{SLEEP}"));
    host.wait_state("stated-idle", "inactive");
    assert_eq!(refused("stated-idle"), "it is inactive; start it first ('berthctl start stated-idle')");
    host.output_of("stated-exit", "command = \"true\"\n[service]\nrestart = \"no\"\n");
    assert_eq!(refused("stated-exit"), "it is exited; start it first ('berthctl start stated-exit')");
    host.drop_spec("stated-fail", "command = \"exit 1\"\n[service]\nrestart = \"no\"\n");
    host.wait_state("stated-fail", "failed");
    assert_eq!(refused("stated-fail"), "it is failed; 'berthctl status stated-fail' says why");
    host.drop_spec("stated-bad", "comand = 1\n");
    host.wait_state("stated-bad", "invalid");
    assert_eq!(refused("stated-bad"), "it is invalid; 'berthctl status stated-bad' says why");
    host.drop_spec("stated-again", "command = \"exit 1\"\n[service]\nrestart_delay = \"1h\"\n");
    host.wait_state("stated-again", "restarting");
    assert_eq!(refused("stated-again"), "it is restarting; 'berthctl status stated-again' says why");
    let unknown = refused("statde");
    assert!(
        unknown.starts_with("there is no spec for 'statde'") && unknown.ends_with("did you mean 'stated'?"),
        "{unknown}"
    );
    // A unit is as good as a name; a path is none.
    host.ok("systemctl start berth@stated && berthctl exec berth@stated.service -- true");
    assert_eq!(host.berthctl("exec ../stated -- true").status.code(), Some(2));
    assert_eq!(host.berthctl("exec stated").status.code(), Some(2));
    assert_eq!(host.berthctl("--json exec stated -- true").status.code(), Some(2));
}

/// Also not for the group whose members may start and stop: who enters is root before he is not.
fn exec_is_for_root(suite: Suite) {
    let host = Berth::shared(suite);
    host.run("roots", SLEEP);
    for groups in ["--clear-groups", "--groups=berth"] {
        let output = host.sh(&format!("setpriv --reuid=65534 --regid=65534 {groups} berthctl exec roots -- true"));
        assert_eq!(output.status.code(), Some(125), "{output}");
        assert_eq!(output.stderr, "berthctl: cannot enter 'roots': only root can; use sudo\n");
    }
    // Nor by the socket itself.
    let ask = "exec setpriv --reuid=65534 --regid=65534 --groups=berth perl -MIO::Socket::UNIX -e \
               '$s = IO::Socket::UNIX->new(\"/run/berth/berthd.sock\"); \
               print $s \"{\\\"request\\\":\\\"enter\\\",\\\"container\\\":\\\"roots\\\"}\\n\"; print <$s>'";
    assert_eq!(host.ok(ask), "{\"reply\":\"error\",\"message\":\"only root enters containers\"}");
}

fn exec_outlives_berthd(suite: Suite) {
    let host = Berth::boot(suite);
    let pid = host.run("web", SLEEP);
    let mut running =
        host.spawn("exec berthctl exec web -- sh -c 'while ! [ -e /tmp/go ]; do sleep 0.05; done; exit 42'");
    host.wait_for("the program", super::SOON, || {
        (host.read("/sys/fs/cgroup/berth.slice/berth@web.service/cgroup.procs").lines().count() > 1).then_some(())
    });
    host.ok("systemctl kill --signal=KILL berthd.service");
    host.wait_for("a new berthd", super::SOON, || {
        (host.show("berthd", "ActiveState") == "active" && host.show("berthd", "NRestarts") == "1").then_some(())
    });
    // The next one lets in too, while the first is still there.
    assert_eq!(inside(&host, "web", "echo in"), "in");
    host.write("/tmp/go", "");
    assert_eq!(running.wait(super::SOON).unwrap().unwrap().status.code(), Some(42));
    host.barrier();
    assert_eq!(host.main_pid("web"), pid);
    assert_eq!(host.ok("cat /sys/fs/cgroup/berth.slice/berth@web.service/cgroup.procs"), pid.to_string());
}

fn exec_needs_berthd_and_no_memory_of_it(suite: Suite) {
    let host = Berth::boot(suite);
    host.run("web", SLEEP);
    // The socket brings it up, and it knows what runs before systemd has told.
    for _ in 0..5 {
        host.ok("systemctl stop berthd.service");
        assert_eq!(inside(&host, "web", "echo in"), "in");
    }
    // One that was killed before it heard of the armed child.
    host.ok("systemctl stop berthd.service berthd.socket");
    let record = "/run/berth/records/web.json";
    host.ok(&format!("jq '.run.process = null' {record} >/tmp/record && cat /tmp/record >{record}"));
    let away = host.berthctl("exec web -- true");
    assert_eq!(away.status.code(), Some(125), "{away}");
    assert!(away.stderr.contains("berthd is not running") && away.stderr.contains("systemctl start berthd"), "{away}");
    host.ok("systemctl start berthd.socket berthd.service");
    assert_eq!(inside(&host, "web", "echo in"), "in");
    // One that has lost the record knows that it runs, and not how.
    host.ok(&format!("systemctl stop berthd.service; echo nonsense >{record}; systemctl start berthd.service"));
    host.wait_state("web", "running");
    let lost = host.berthctl("exec web -- true");
    assert_eq!(lost.status.code(), Some(125), "{lost}");
    assert!(lost.stderr.contains("the record of its run was lost; restart it ('berthctl restart web')"), "{lost}");
    host.ok("berthctl restart web");
    assert_eq!(inside(&host, "web", "echo in"), "in");
}

fn exec_on_a_terminal(suite: Suite) {
    let host = Berth::shared(suite);
    host.run("term", SLEEP);
    let said = host.ok("script -qec 'berthctl exec term -- sh -c \"tty; stty size; ps -o stat= -p \\$\\$; exit 7\"; echo status $?' /dev/null </dev/null");
    let lines: Vec<&str> = said.lines().map(str::trim).collect();
    assert!(lines[0].starts_with("/dev/pts/") && lines[2].ends_with('+'), "in the foreground: {said}");
    assert_eq!(*lines.last().unwrap(), "status 7", "{said}");
    // Without a terminal of the caller's there is none.
    assert_eq!(host.sh("berthctl exec term -- tty").status.code(), Some(1));
}

fn exec_without_systemd(suite: Suite) {
    let host = Berth::boot(suite);
    host.ok("systemctl stop berthd.service berthd.socket");
    let _berthd = host.spawn("exec berthd --manager direct");
    host.wait_for("the direct manager", super::SOON, || (host.state()["daemon"]["manager"] == "direct").then_some(()));
    for (name, toml) in [("web", ""), ("web-host", "[namespaces]\npid = \"host\"\n")] {
        host.drop_spec(name, &format!("{SLEEP}user = \"nobody\"\n{toml}"));
        let state = host.wait_state(name, "running");
        let pid = state["main_pid"].as_u64().unwrap();
        host.wait_for("the program", super::SOON, || {
            host.read(format!("/proc/{pid}/cmdline")).starts_with("/bin/sleep").then_some(())
        });
        assert_eq!(inside(&host, name, NAMESPACES), host.ok(&NAMESPACES.replace("self", &pid.to_string())), "{name}");
        assert_eq!(inside(&host, name, "cat /proc/self/cgroup"), host.ok(&format!("cat /proc/{pid}/cgroup")), "{name}");
        assert_eq!(inside(&host, name, "grep ^0 /proc/self/cgroup"), format!("0::/berth/{name}"));
        assert_eq!(inside(&host, name, "id -un; echo $BERTH_CONTAINER"), format!("nobody\n{name}"));
        assert_eq!(host.berthctl(&format!("exec {name} -- sh -c 'exit 42'")).status.code(), Some(42));
        let mut running = host.spawn(&format!("exec berthctl exec {name} -- sleep 54321"));
        host.wait_for("the program", super::SOON, || host.sh("pgrep -fx 'sleep 54321'").status.success().then_some(()));
        host.ok(&format!("berthctl stop {name}"));
        let output = running.wait(super::SOON).unwrap().unwrap();
        assert_eq!(output.status.code(), Some(137), "{output}");
        let refused = host.berthctl(&format!("exec {name} -- true"));
        assert!(
            refused.stderr.contains(&format!("it is stopped; start it first ('berthctl start {name}')")),
            "{refused}"
        );
        host.wait_for("the cgroup to go", super::SOON, || {
            (!host.files().exists(format!("/sys/fs/cgroup/berth/{name}"))).then_some(())
        });
    }
}
