//! Resource limits, with prlimit(1) as the judge.

use crate::support::berth::Berth;
use crate::support::host::Suite;
use crate::support::ring::Test;

pub const TRIALS: &[Test] =
    &[("limits_hold_and_are_shown", limits_hold_and_are_shown), ("mesos_rlimits_isolator", mesos_rlimits_isolator)];

/// What prlimit(1) says of this process.
const SHOW: &str = "prlimit --raw --noheadings -o RESOURCE,SOFT,HARD --pid $$";

fn limits_hold_and_are_shown(suite: Suite) {
    let host = Berth::shared(suite);
    let limits = "[rlimits]\nLimitNOFILE = \"100:200\"\nRLIMIT_CORE = 0\nstack = \"1MiB\"\ncpu = \"1h\"\n";
    let pid = host.run("limits", &format!("command = \"exec sleep infinity\"\n{limits}"));
    let shown = |pid: &str| {
        let all = host.ok(&format!("prlimit --raw --noheadings -o RESOURCE,SOFT,HARD --pid {pid}"));
        let named = ["CORE", "CPU", "NOFILE", "STACK"];
        let lines = all.lines().filter(|line| named.iter().any(|name| line.starts_with(&format!("{name} "))));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let expected = ["CORE 0 0", "CPU 3600 3600", "NOFILE 100 200", "STACK 1048576 1048576"];
    assert_eq!(shown(&pid.to_string()), expected);
    // Who enters has them too, whatever the shell had.
    let entered = host.ok(&format!("ulimit -c unlimited; berthctl exec limits -- sh -c '{SHOW}'"));
    for line in expected {
        assert!(entered.lines().any(|has| has == line), "{line}: {entered}");
    }
    // What is shown is what holds.
    host.ok(&format!("prlimit --pid {pid} --nofile=50:200"));
    host.barrier();
    let detail = host.container("limits").unwrap()["isolators"].to_string();
    assert!(detail.contains("core 0, cpu 3600, nofile 50:200, stack 1048576"), "{detail}");
    // An edit restarts it.
    host.drop_spec("limits", "command = \"exec sleep infinity\"\n[rlimits]\nnofile = 77\n");
    host.wait_for("the new limit", crate::SOON, || {
        let pid = host.property("limits", "MainPID");
        let open = host.sh(&format!("prlimit --raw --noheadings -o SOFT,HARD --nofile --pid {pid}")).stdout;
        (open.trim() == "77 77").then_some(())
    });
}

/// Mesos's `posix_rlimits_isolator_tests.cpp`: `InvalidLimits`, `BothSoftAndHardLimitSet`, `UnsetLimits`,
/// `TaskExceedingLimit`.
fn mesos_rlimits_isolator(suite: Suite) {
    let host = Berth::shared(suite);
    for (name, limit, words) in [
        ("rl-invalid", "core = \"100B:1B\"", "the soft limit of core is above the hard one: 100:1"),
        ("rl-half", "core = { soft = 0 }", "`hard` is missing"),
    ] {
        host.drop_spec(name, &format!("command = \"true\"\n[rlimits]\n{limit}\n"));
        let state = host.wait_state(name, "invalid");
        assert!(state["spec"]["errors"][0].as_str().unwrap().contains(words), "{state}");
    }
    let once = "[service]\nrestart = \"no\"\n";
    let said = host.output_of("rl-unset", &format!("command = \"ulimit -c\"\n{once}[rlimits]\ncore = \"unlimited\"\n"));
    assert_eq!(said, "unlimited");
    host.drop_spec("rl-cpu", &format!("command = \"while :; do :; done\"\n{once}[rlimits]\ncpu = \"1s\"\n"));
    let state = host.wait_state("rl-cpu", "failed");
    assert_eq!(state["result"], "signal", "{state}");
}
