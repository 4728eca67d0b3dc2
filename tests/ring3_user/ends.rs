//! How programs end: exact exit statuses, restarts, stops.

use serde_json::json;

use crate::support::berth::{Berth, SLEEP, unit};
use crate::support::host::Suite;
use crate::support::ring::Test;

pub const TRIALS: &[Test] = &[
    ("exit_42_is_42", exit_42_is_42),
    ("a_segfault_is_sigsegv", a_segfault_is_sigsegv),
    ("a_kill_is_sigkill", a_kill_is_sigkill),
    ("the_first_millisecond_counts", the_first_millisecond_counts),
    ("a_clean_exit_is_exited", a_clean_exit_is_exited),
    ("restart_policies_are_systemds", restart_policies_are_systemds),
    ("the_start_limit_holds", the_start_limit_holds),
    ("settings_are_what_systemctl_shows", settings_are_what_systemctl_shows),
    ("a_deaf_program_stops_at_once", a_deaf_program_stops_at_once),
    ("a_program_that_listens_gets_its_time", a_program_that_listens_gets_its_time),
    ("a_program_that_will_not_end_is_killed", a_program_that_will_not_end_is_killed),
    ("the_stop_signal_is_the_spec_s", the_stop_signal_is_the_spec_s),
    ("a_minimal_init_reaps_and_forwards", a_minimal_init_reaps_and_forwards),
    ("an_edit_ends_a_restart_loop", an_edit_ends_a_restart_loop),
];

/// The memory controller is not on every machine; see `main`.
pub const OOM: Test = ("out_of_memory_is_oom_kill", out_of_memory_is_oom_kill);

const ONCE: &str = "[service]\nrestart = \"no\"\n";

fn how(host: &Berth, name: &str) -> (String, String, String) {
    let show = |property| host.property(name, property);
    (show("ExecMainCode"), show("ExecMainStatus"), show("Result"))
}

fn exit_42_is_42(suite: Suite) {
    let host = Berth::shared(suite);
    host.drop_spec("exit42", &format!("command = \"exit 42\"\n{ONCE}"));
    let state = host.wait_state("exit42", "failed");
    assert_eq!(how(&host, "exit42"), ("1".into(), "42".into(), "exit-code".into()));
    assert_eq!(state["exit"], json!({"exited": 42}));
    assert_eq!(state["result"], "exit-code");
    assert_eq!(state["error"], json!(null));
    let failed = host.entries("MESSAGE_ID=c3a68fa452b7407c9912c99d70e82e86 BERTH_CONTAINER=exit42").pop().unwrap();
    assert!(failed["MESSAGE"].as_str().unwrap().contains("status 42"), "{failed}");
    assert!(host.berthctl("status exit42").stdout.contains("exit status 42"));
}

/// A segfault of PID 1 of a namespace (no signal from inside could do it), and a signal to one of the host's.
fn a_segfault_is_sigsegv(suite: Suite) {
    let host = Berth::shared(suite);
    let private = "command = [\"perl\", \"-e\", \"print unpack('p', pack('J', 8))\"]\n";
    let hosts = "command = \"kill -SEGV $$\"\nnamespaces = { pid = \"host\" }\n";
    for (name, toml) in [("segv-private", private), ("segv-host", hosts)] {
        host.drop_spec(name, &format!("{toml}{ONCE}"));
        let state = host.wait_state(name, "failed");
        let (code, status, result) = how(&host, name);
        assert_eq!(status, "11", "{name}");
        // Whether there is a dump is the machine's rule (core(5)); nobody may disagree about it.
        let (exit, expected) = match code.as_str() {
            "3" => (json!({"dumped": 11}), "core-dump"),
            _ => (json!({"killed": 11}), "signal"),
        };
        assert!(code == "2" || code == "3", "{name}: {code}");
        assert_eq!(result, expected, "{name}");
        assert_eq!(state["exit"], exit, "{name}");
    }
}

fn a_kill_is_sigkill(suite: Suite) {
    let host = Berth::shared(suite);
    let pid = host.run("killed", &format!("{SLEEP}{ONCE}"));
    host.ok(&format!("kill -KILL {pid}"));
    let state = host.wait_state("killed", "failed");
    assert_eq!(how(&host, "killed"), ("2".into(), "9".into(), "signal".into()));
    assert_eq!(state["exit"], json!({"killed": 9}));
}

/// The status of a program that ends at once is not lost on the way to systemd.
fn the_first_millisecond_counts(suite: Suite) {
    let host = Berth::shared(suite);
    host.drop_spec(
        "quick",
        &format!(
            "autostart = false\ncommand = [\"/bin/false\"]\n{ONCE}\
                                      start_limit = {{ burst = 0 }}\n"
        ),
    );
    host.wait_state("quick", "inactive");
    host.barrier();
    let script = "for i in $(seq 20); do systemctl start berth@quick; \
                  while [ $(systemctl is-active berth@quick) = active ]; do :; done; \
                  systemctl show -p ExecMainCode,ExecMainStatus --value berth@quick | paste -sd' '; done | sort | uniq -c";
    assert_eq!(host.ok(script).trim(), "20 1 1");
}

fn a_clean_exit_is_exited(suite: Suite) {
    let host = Berth::shared(suite);
    assert_eq!(host.output_of("clean", "command = \"echo done\"\n"), "done");
    assert_eq!(host.property("clean", "ActiveState"), "inactive");
    assert_eq!(host.property("clean", "NRestarts"), "0", "on-failure is the default");
    let state = host.container("clean").unwrap();
    assert_eq!(state["exit"], json!({"exited": 0}));
    assert_eq!(state["result"], json!(null));
    host.barrier();
    assert_eq!(host.property("clean", "ActiveState"), "inactive", "its end is its own affair");
}

fn restart_policies_are_systemds(suite: Suite) {
    let host = Berth::shared(suite);
    // Says how often it was started: the sandbox is the one thing that stays.
    let toml = |status: u8, restart: &str| {
        format!(
            "command = \"echo x >>runs; if [ $(wc -l <runs) -ge 3 ]; then exec sleep infinity; fi; exit {status}\"\n\
             sandbox = \"persistent\"\n[service]\nrestart = \"{restart}\"\nrestart_delay = \"10ms\"\n"
        )
    };
    let table = [
        ("rp-no", 1, "no", "failed", "0"),
        ("rp-failure", 1, "on-failure", "running", "2"),
        ("rp-failure-clean", 0, "on-failure", "exited", "0"),
        ("rp-success", 0, "on-success", "running", "2"),
        ("rp-abnormal", 1, "on-abnormal", "failed", "0"),
        ("rp-always", 0, "always", "running", "2"),
    ];
    for (name, status, restart, ..) in table {
        host.drop_spec(name, &toml(status, restart));
    }
    for (name, _, restart, state, restarts) in table {
        let runs = if restarts == "2" { 3 } else { 1 };
        let container = host.wait_until(name, state, |container| {
            container["state"] == state && container["restarts"] == restarts.parse::<u32>().unwrap()
        });
        assert_eq!(host.property(name, "NRestarts"), restarts, "{name}");
        assert_eq!(host.property(name, "Restart"), restart, "{name}");
        let sandbox = container["sandbox"].as_str().unwrap();
        assert_eq!(host.read(format!("{sandbox}/runs")).lines().count(), runs, "{name}");
    }
}

/// Alone on its host: a daemon-reload makes older systemd forget how often it has started what.
fn the_start_limit_holds(suite: Suite) {
    let host = Berth::boot(suite);
    let limit = "restart = \"always\"\nrestart_delay = \"10ms\"\nstart_limit = { burst = 3, interval = \"10m\" }\n";
    host.drop_spec("limited", &format!("command = \"echo started\"\n[service]\n{limit}"));
    let state = host.wait_state("limited", "failed");
    assert_eq!(host.property("limited", "Result"), "start-limit-hit");
    assert_eq!(state["result"], "start-limit-hit");
    assert_eq!(host.said("limited").lines().filter(|line| *line == "started").count(), 3);
    assert!(!host.sh("systemctl start berth@limited").status.success());
    // An edit is a new beginning.
    host.drop_spec("limited", &format!("command = [\"sleep\", \"infinity\"]\n[service]\n{limit}"));
    host.wait_state("limited", "running");
}

fn settings_are_what_systemctl_shows(suite: Suite) {
    let host = Berth::shared(suite);
    host.run(
        "shown",
        &format!(
            "description = \"100% shown\"\n{SLEEP}[service]\nrestart = \"on-abnormal\"\nrestart_delay = \"1500ms\"\n\
         start_limit = {{ burst = 7, interval = \"70s\" }}\nstart_timeout = \"infinity\"\nstop_timeout = \"2m 5s\"\n\
         stop_signal = \"SIGRTMIN+3\"\nafter = [\"network.target\"]\nbefore = [\"shutdown.target\"]\n\
         wants = [\"basic.target\"]\nrequires = [\"sysinit.target\"]\n"
        ),
    );
    let table = [
        ("Description", "100% shown"),
        ("Restart", "on-abnormal"),
        ("RestartUSec", "1.500000s"),
        ("StartLimitBurst", "7"),
        ("StartLimitIntervalUSec", "1min 10s"),
        ("TimeoutStartUSec", "infinity"),
        ("TimeoutStopUSec", "2min 5s"),
        ("KillSignal", "37"),
        ("Slice", "berth.slice"),
        ("Delegate", "yes"),
        ("KillMode", "mixed"),
        ("Type", "notify"),
    ];
    for (property, value) in table {
        assert_eq!(host.property("shown", property), value, "{property}");
    }
    for (property, unit) in [
        ("After", "network.target"),
        ("Before", "shutdown.target"),
        ("Wants", "basic.target"),
        ("Requires", "sysinit.target"),
    ] {
        assert!(host.property("shown", property).split(' ').any(|named| named == unit), "{property}");
    }
    host.run("defaults", SLEEP);
    let defaults = [("Restart", "on-failure"), ("RestartUSec", "1s"), ("TimeoutStopUSec", "10s"), ("KillSignal", "15")];
    for (property, value) in defaults {
        assert_eq!(host.property("defaults", property), value, "{property}");
    }
    assert_eq!(host.property("defaults", "DropInPaths"), "", "defaults need no drop-in");
}

/// How long a stop takes, in milliseconds, measured inside.
fn stop_takes(host: &Berth, name: &str) -> u64 {
    let took = host.ok(&format!(
        "before=$(date +%s%N); systemctl stop {}; echo $((($(date +%s%N) - before) / 1000000))",
        unit(name)
    ));
    took.parse().unwrap()
}

fn a_deaf_program_stops_at_once(suite: Suite) {
    let host = Berth::shared(suite);
    let pid = host.run("deaf", SLEEP);
    assert_eq!(host.property("deaf", "TimeoutStopUSec"), "10s");
    let took = stop_takes(&host, "deaf");
    eprintln!("{suite}: stopping a deaf program takes {took} ms");
    assert!(took < 5000, "{took} ms");
    assert!(!host.files().exists(format!("/proc/{pid}")));
    let state = host.wait_state("deaf", "stopped");
    assert_eq!(state["result"], json!(null));
    // SIGKILL leaves a unit failed; a stop is none, and berthd says so to systemd.
    host.wait_for("the failed state to be reset", super::SOON, || {
        (host.property("deaf", "ActiveState") == "inactive").then_some(())
    });
    assert_eq!(host.property("deaf", "Result"), "success");
    assert_eq!(host.ok("systemctl list-units --failed --no-legend 'berth@deaf*'"), "");
    assert!(!host.entries("MESSAGE_ID=692d260755cd4566bf9486dfe7a00b03 BERTH_CONTAINER=deaf").is_empty());
    host.ok("systemctl start berth@deaf");
    host.wait_state("deaf", "running");
}

fn a_program_that_listens_gets_its_time(suite: Suite) {
    let host = Berth::shared(suite);
    let toml = "command = '''trap 'echo asked; sleep 1; echo finished; exit 0' TERM; echo ready; \
                while :; do sleep infinity & wait; done'''\n";
    host.run("polite", toml);
    host.wait_said("polite", "ready");
    host.ok("systemctl stop berth@polite");
    assert_eq!(host.said("polite"), "ready\nasked\nfinished");
    assert_eq!(how(&host, "polite"), ("1".into(), "0".into(), "success".into()));
    host.wait_state("polite", "stopped");
}

fn a_program_that_will_not_end_is_killed(suite: Suite) {
    let host = Berth::shared(suite);
    let toml = "command = '''trap 'echo no' TERM; echo ready; while :; do sleep infinity & wait; done'''\n\
                [service]\nstop_timeout = \"700ms\"\n";
    let pid = host.run("stubborn", toml);
    host.wait_said("stubborn", "ready");
    let took = stop_takes(&host, "stubborn");
    assert!((700..10_000).contains(&took), "{took} ms");
    assert!(!host.files().exists(format!("/proc/{pid}")));
    assert_eq!(host.said("stubborn"), "ready\nno");
    host.wait_state("stubborn", "stopped");
    host.wait_for("the failed state to be reset", super::SOON, || {
        (host.property("stubborn", "ActiveState") == "inactive").then_some(())
    });
}

fn the_stop_signal_is_the_spec_s(suite: Suite) {
    let host = Berth::shared(suite);
    let toml = "command = '''trap 'echo quit; exit 0' QUIT; trap 'echo term; exit 1' TERM; echo ready; \
                while :; do sleep infinity & wait; done'''\n[service]\nstop_signal = \"SIGQUIT\"\n";
    host.run("quits", toml);
    host.wait_said("quits", "ready");
    host.ok("systemctl stop berth@quits");
    assert_eq!(host.said("quits"), "ready\nquit");
    // One that listens to another signal only is deaf to this one.
    let toml = "command = '''trap 'echo term' TERM; echo ready; while :; do sleep infinity & wait; done'''\n\
                [service]\nstop_signal = \"SIGQUIT\"\n";
    host.run("deaf-to-quit", toml);
    host.wait_said("deaf-to-quit", "ready");
    let took = stop_takes(&host, "deaf-to-quit");
    assert!(took < 5000, "{took} ms");
    host.wait_state("deaf-to-quit", "stopped");
}

fn a_minimal_init_reaps_and_forwards(suite: Suite) {
    let host = Berth::shared(suite);
    let toml = "command = '''trap 'echo asked; exit 42' TERM; echo pid $$; \
                (sleep 0.05 & exec true); echo orphaned; while :; do sleep infinity & wait; done'''\n\
                [service]\ninit = true\nrestart = \"no\"\n";
    let pid = host.run("withinit", toml);
    host.wait_said("withinit", "orphaned");
    assert!(host.said("withinit").starts_with("pid 2\n"), "the program is PID 2");
    let zombies = format!("ps -o stat= --ppid {pid} | grep -c Z || true");
    let children = format!("ps -o comm= --ppid {pid} | paste -sd' '");
    host.wait_for("the orphan to be reaped", super::SOON, || {
        (host.ok(&zombies) == "0" && host.ok(&children) == "sh").then_some(())
    });
    host.ok("systemctl stop berth@withinit || true");
    assert!(host.said("withinit").ends_with("\nasked"), "{}", host.said("withinit"));
    host.wait_until("withinit", "at rest", |container| container["main_pid"].is_null());
    assert_eq!(host.property("withinit", "ExecMainStatus"), "42", "the program's status is the init's");
}

fn an_edit_ends_a_restart_loop(suite: Suite) {
    let host = Berth::shared(suite);
    let service = "[service]\nrestart = \"always\"\nrestart_delay = \"1h\"\n";
    host.drop_spec("loops", &format!("command = \"exit 1\"\n{service}"));
    host.wait_state("loops", "restarting");
    assert_eq!(host.property("loops", "SubState"), "auto-restart");
    let told = host.entries("MESSAGE_ID=2c60243ab83f4bad8f7949389737c74b BERTH_CONTAINER=loops");
    assert!(told[0]["MESSAGE"].as_str().unwrap().contains("status 1"), "{told:#?}");
    host.drop_spec("loops", &format!("{SLEEP}{service}"));
    host.wait_state("loops", "running");
}

fn out_of_memory_is_oom_kill(suite: Suite) {
    let host = Berth::shared(suite);
    host.drop_spec(
        "hungry",
        &format!("autostart = false\ncommand = [\"perl\", \"-e\", \"$x .= 'x' x 1e6 while 1\"]\n{ONCE}"),
    );
    host.wait_state("hungry", "inactive");
    host.ok(
        "systemctl set-property --runtime berth@hungry MemoryMax=32M MemorySwapMax=0; systemctl start berth@hungry",
    );
    let state = host.wait_state("hungry", "failed");
    assert_eq!(host.property("hungry", "Result"), "oom-kill");
    assert_eq!(state["result"], "oom-kill");
}
