//! systemctl, journalctl and systemd-cgls on a container, as on any other service.

use crate::support::berth::{Berth, SLEEP, unit};
use crate::support::host::{Suite, slowness};
use crate::support::ring::Test;

pub const TRIALS: &[Test] = &[
    ("start_stop_restart_status", start_stop_restart_status),
    ("the_cgroup_holds_the_program_alone", the_cgroup_holds_the_program_alone),
    ("journalctl_shows_what_the_program_says", journalctl_shows_what_the_program_says),
    ("a_masked_unit_stays_down", a_masked_unit_stays_down),
    ("masking_stops_now", masking_stops_now),
    ("systemctl_edit_holds", systemctl_edit_holds),
    ("set_property_holds", set_property_holds),
    ("another_unit_can_start_after_a_container", another_unit_can_start_after_a_container),
    ("a_stop_is_never_undone", a_stop_is_never_undone),
    ("requires_starts_and_stops_together", requires_starts_and_stops_together),
    ("all_units_verify", all_units_verify),
];

fn start_stop_restart_status(suite: Suite) {
    let host = Berth::shared(suite);
    let unit = unit("native");
    host.drop_spec("native", &format!("autostart = false\n{SLEEP}"));
    host.wait_state("native", "inactive");
    host.barrier();
    assert_eq!(host.property("native", "ActiveState"), "inactive", "autostart = false");
    host.ok(&format!("systemctl start {unit}"));
    let first = host.main_pid("native");
    let status = host.ok(&format!("systemctl status {unit}"));
    assert!(status.contains("active (running)") && status.contains(&format!("{first} (sleep)")), "{status}");
    host.ok(&format!("systemctl restart {unit}"));
    let second = host.main_pid("native");
    assert_ne!(first, second);
    host.ok(&format!("systemctl stop {unit}"));
    assert_eq!(host.sh(&format!("systemctl is-active {unit}")).status.code(), Some(3));
    host.wait_state("native", "stopped");
    assert!(!host.files().exists(format!("/proc/{second}")));
    // The kill that ends a PID 1 which heeds no SIGTERM leaves a `failed`, and berthd takes it back.
    host.wait_for("an end that is no failure", super::SOON, || {
        (host.sh(&format!("systemctl is-failed {unit}")).stdout.trim() == "inactive").then_some(())
    });
}

fn the_cgroup_holds_the_program_alone(suite: Suite) {
    let host = Berth::shared(suite);
    let pid = host.run("alone", SLEEP);
    let tree = host.ok("systemd-cgls --no-pager --unit berth@alone.service");
    let processes: Vec<&str> = tree.lines().filter(|line| line.contains('─')).collect();
    assert_eq!(processes.len(), 1, "{tree}");
    assert!(processes[0].ends_with(&format!("{pid} /bin/sleep infinity")), "{tree}");
    let cgroup = host.property("alone", "ControlGroup");
    assert_eq!(cgroup, "/berth.slice/berth@alone.service");
    assert_eq!(host.container("alone").unwrap()["cgroup"], *cgroup);
    assert_eq!(host.ok(&format!("cat /sys/fs/cgroup{cgroup}/cgroup.procs")), pid.to_string());
    assert_eq!(host.read(format!("/proc/{pid}/status")).matches("NSpid:").count(), 1);
}

fn journalctl_shows_what_the_program_says(suite: Suite) {
    let host = Berth::shared(suite);
    let toml = "command = \"echo to stdout; echo to stderr >&2; exec sleep infinity\"\n";
    host.run("talker", toml);
    host.wait_said("talker", "to stderr");
    let entries = host.entries("-u berth@talker -t talker");
    let said: Vec<&str> = entries.iter().map(|entry| entry["MESSAGE"].as_str().unwrap()).collect();
    assert_eq!(said, ["to stdout", "to stderr"]);
    assert!(entries.iter().all(|entry| entry["_SYSTEMD_UNIT"] == "berth@talker.service"));
    let started = host.wait_for("the event", super::SOON, || {
        host.entries("MESSAGE_ID=806db91c2bd7467ba44e175d1f917c11 BERTH_CONTAINER=talker").pop()
    });
    assert_eq!(started["UNIT"], "berth@talker.service");
    let explained = host.ok("journalctl -x -b MESSAGE_ID=806db91c2bd7467ba44e175d1f917c11 BERTH_CONTAINER=talker");
    assert!(explained.contains("Subject: Container talker has started"), "{explained}");
}

fn a_masked_unit_stays_down(suite: Suite) {
    let host = Berth::shared(suite);
    host.run("maskme", SLEEP);
    host.ok("systemctl stop berth@maskme && systemctl mask berth@maskme");
    host.wait_state("maskme", "masked");
    host.wait_for("the end", super::SOON, || (host.property("maskme", "ActiveState") == "inactive").then_some(()));
    host.drop_spec("maskme", "command = [\"/bin/sleep\", \"100000\"]\n");
    host.barrier();
    assert_eq!(host.property("maskme", "ActiveState"), "inactive");
    let output = host.sh("systemctl start berth@maskme");
    assert!(output.stderr.contains("masked"), "{output}");
    host.ok("systemctl unmask berth@maskme && systemctl start berth@maskme");
    host.wait_state("maskme", "running");
}

/// By then the unit has neither ExecStop= nor a time limit of its own.
fn masking_stops_now(suite: Suite) {
    let host = Berth::shared(suite);
    let pid = host.run("masknow", SLEEP);
    let took = host.ok("before=$(date +%s); systemctl mask --now berth@masknow; echo $(($(date +%s) - before))");
    host.wait_state("masknow", "masked");
    assert!(!host.files().exists(format!("/proc/{pid}")));
    assert!(took.parse::<u32>().unwrap() < 5 * slowness(), "took {took} s: {}", host.property("masknow", "Result"));
    // What the kill leaves, berthd takes back.
    host.wait_for("an end that is no failure", super::SOON, || {
        (host.property("masknow", "ActiveState") == "inactive").then_some(())
    });
}

fn systemctl_edit_holds(suite: Suite) {
    let host = Berth::shared(suite);
    host.run("sedit", &format!("{SLEEP}[service]\nstop_timeout = \"7s\"\n"));
    let editor = "#!/bin/sh\nfor file; do :; done\nprintf '[Service]\\nNice=7\\n' >\"$file\"\n";
    host.files().write_with_mode("/usr/local/bin/berth-test-editor", editor, 0o755).unwrap();
    // systemctl edit wants a terminal.
    host.ok("SYSTEMD_EDITOR=/usr/local/bin/berth-test-editor script -qec 'systemctl edit berth@sedit' /dev/null");
    host.ok("systemctl restart berth@sedit");
    let pid = host.main_pid("sedit");
    assert_eq!(host.ok(&format!("ps -o ni= -p {pid}")).trim(), "7");
    host.drop_spec("sedit", &format!("{SLEEP}[service]\nstop_timeout = \"8s\"\n"));
    host.wait_for("the edit of the spec", super::SOON, || {
        (host.property("sedit", "TimeoutStopUSec") == "8s").then_some(())
    });
    assert_eq!(host.property("sedit", "Nice"), "7");
}

fn set_property_holds(suite: Suite) {
    let host = Berth::shared(suite);
    let pid = host.run("setprop", SLEEP);
    host.ok("systemctl set-property berth@setprop TasksMax=77");
    assert_eq!(host.property("setprop", "TasksMax"), "77");
    host.drop_spec("setprop", &format!("{SLEEP}[service]\nstop_timeout = \"8s\"\n"));
    host.wait_for("the edit of the spec", super::SOON, || {
        (host.property("setprop", "TimeoutStopUSec") == "8s").then_some(())
    });
    assert_eq!(host.property("setprop", "TasksMax"), "77");
    assert_eq!(host.main_pid("setprop"), pid);
    host.ok("systemctl set-property --runtime berth.slice TasksMax=5000");
    assert_eq!(host.show("berth.slice", "TasksMax"), "5000");
}

fn another_unit_can_start_after_a_container(suite: Suite) {
    let host = Berth::shared(suite);
    host.drop_spec("zz-db", &format!("autostart = false\n{SLEEP}"));
    host.wait_state("zz-db", "inactive");
    host.write(
        "/etc/systemd/system/aa-after.service",
        "[Unit]\nAfter=berth@zz-db.service\nRequires=berth@zz-db.service\n\
         [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n",
    );
    host.ok("systemctl daemon-reload && systemctl start aa-after.service");
    assert_eq!(host.property("zz-db", "ActiveState"), "active");
    let began: u64 = host.show("aa-after.service", "InactiveExitTimestampMonotonic").parse().unwrap();
    let up: u64 = host.property("zz-db", "ActiveEnterTimestampMonotonic").parse().unwrap();
    assert!(began >= up, "{began} {up}");
    host.ok("systemctl stop berth@zz-db");
    assert_eq!(host.show("aa-after.service", "ActiveState"), "inactive", "Requires= is heeded");
}

/// An operator's stop outlives an edit, a reload and a restart of berthd.
fn a_stop_is_never_undone(suite: Suite) {
    let host = Berth::boot(suite);
    host.run("stopped", SLEEP);
    host.ok("systemctl stop berth@stopped");
    host.wait_state("stopped", "stopped");
    let is_down = |after: &str| {
        host.barrier();
        assert_eq!(host.property("stopped", "ActiveState"), "inactive", "after {after}");
        assert_eq!(host.container("stopped").unwrap()["state"], "stopped", "after {after}");
    };
    host.drop_spec("stopped", "command = [\"/bin/sleep\", \"100000\"]\n");
    is_down("an edit");
    host.ok("systemctl reload berthd");
    is_down("a reload");
    host.ok("systemctl daemon-reload");
    is_down("a reload of systemd");
    host.restart_berthd();
    is_down("a restart of berthd");
    host.ok("systemctl kill --signal=KILL berthd.service");
    host.restart_berthd();
    host.drop_spec("stopped", "command = [\"/bin/sleep\", \"100001\"]\n");
    is_down("an edit after a restart of berthd");
    host.ok("systemctl start berth@stopped");
    assert_eq!(host.program("stopped"), "/bin/sleep 100001", "the newest spec");
}

fn requires_starts_and_stops_together(suite: Suite) {
    let host = Berth::shared(suite);
    host.drop_spec("rq-z-db", &format!("autostart = false\n{SLEEP}"));
    let db = "berth@rq-z-db.service";
    host.drop_spec(
        "rq-web",
        &format!("autostart = false\n{SLEEP}[service]\nrequires = [\"{db}\"]\nafter = [\"{db}\"]\n"),
    );
    host.wait_state("rq-web", "inactive");
    host.barrier();
    host.ok("systemctl start berth@rq-web");
    host.wait_state("rq-z-db", "running");
    host.ok(&format!("systemctl stop {db}"));
    host.wait_state("rq-web", "stopped");
    // Killed by its stop, it is `failed` for the moment that berthd takes to reset it.
    host.wait_for("the unit to be inactive", super::SOON, || {
        (host.property("rq-web", "ActiveState") == "inactive").then_some(())
    });
}

fn all_units_verify(suite: Suite) {
    let host = Berth::shared(suite);
    let units = "berthd.service berthd.socket berth.slice berth@verify.service berth-pull.socket \
                 berth-pull@verify.service";
    let output = host.sh(&format!("systemd-analyze verify --man=no {units}"));
    assert!(output.status.success(), "{output}");
    // Units of other packages, which are loaded with them, may have mistakes of their own.
    let is_ours = |line: &&str| !line.starts_with('/') || line.contains("/berth");
    let said: Vec<&str> = output.stdout.lines().chain(output.stderr.lines()).filter(is_ours).collect();
    assert_eq!(said, [] as [&str; 0], "{suite}");
    for unit in ["berthd.service", "berth-pull@verify.service"] {
        let exposure = host.ok(&format!("systemd-analyze security --no-pager {unit} | tail -1"));
        eprintln!("{suite}: {exposure}");
    }
}
