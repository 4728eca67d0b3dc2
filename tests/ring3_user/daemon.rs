//! berthd as a service, and berthctl.

use serde_json::{Value, json};

use crate::support::berth::{Berth, SLEEP, options};
use crate::support::host::Suite;
use crate::support::ring::Test;

pub const TRIALS: &[Test] = &[
    ("berthd_says_how_it_is", berthd_says_how_it_is),
    ("the_watchdog_is_fed_by_the_loop", the_watchdog_is_fed_by_the_loop),
    ("a_start_needs_no_berthd_that_runs", a_start_needs_no_berthd_that_runs),
    ("the_socket_activates_berthd", the_socket_activates_berthd),
    ("a_rejected_reload_keeps_the_old", a_rejected_reload_keeps_the_old),
    ("a_broken_configuration_at_start_is_told", a_broken_configuration_at_start_is_told),
    ("configuration_layers_have_their_precedence", configuration_layers_have_their_precedence),
    ("berthctl_lists_and_shows", berthctl_lists_and_shows),
    ("berthctl_starts_and_stops", berthctl_starts_and_stops),
    ("berthctl_plans_and_cats", berthctl_plans_and_cats),
    ("berthctl_shows_logs", berthctl_shows_logs),
    ("berthctl_checks_offline_and_unprivileged", berthctl_checks_offline_and_unprivileged),
    ("berthctl_reads_with_berthd_down", berthctl_reads_with_berthd_down),
    ("berthctl_examines_the_host", berthctl_examines_the_host),
    ("the_socket_is_for_the_group", the_socket_is_for_the_group),
];

fn berthd_says_how_it_is(suite: Suite) {
    let host = Berth::boot(suite);
    host.run("one", SLEEP);
    host.run("two", SLEEP);
    host.drop_spec("bad", "comand = 1\n");
    host.drop_spec("lost", "command = [\"/no/such\"]\n[service]\nrestart = \"no\"\n");
    host.ok("systemctl stop berth@two");
    let wanted = [
        "2 stopped",
        "1 running",
        "1 failed (lost: cannot run /no/such",
        "1 with mistakes (bad: /etc/berth/containers/bad.toml:1:1: comand",
    ];
    let status = host.wait_for("the status line", super::SOON, || {
        let status = host.show("berthd", "StatusText");
        wanted[1..].iter().all(|part| status.contains(part)).then_some(status)
    });
    assert!(status.contains("stopped") && !status.contains('\n'), "{status}");
    assert_eq!(host.state()["daemon"]["status"], *status);
    assert!(host.ok("systemctl status --full --no-pager berthd").contains(&format!("Status: \"{status}\"")));
    assert_eq!(host.show("berthd", "Type"), "notify");
    assert_eq!(host.show("berthd", "WatchdogUSec"), "30s");
    let state = host.state();
    assert_eq!(state["schema"], 1);
    assert_eq!(state["boot_id"], host.read("/proc/sys/kernel/random/boot_id").trim());
    assert_eq!(state["daemon"]["manager"], "systemd");
    assert_eq!(state["daemon"]["manager_away"], Value::Null);
    let all = [
        "filesystem/shared",
        "filesystem/linux",
        "docker/runtime",
        "linux/capabilities",
        "linux/nnp",
        "posix/rlimits",
        "namespaces/ipc",
        "namespaces/pid",
        "volume/sandbox_path",
        "volume/host_path",
        "volume/image",
        "disk/du",
    ];
    assert_eq!(state["daemon"]["isolation"], json!(all));
    assert_eq!(host.ok("stat -c '%a %U' /run/berth/state.json"), "644 root");
    assert_eq!(host.ok("stat -c %a /run/berth /var/lib/berth").lines().collect::<Vec<_>>(), ["755", "755"]);
}

fn the_watchdog_is_fed_by_the_loop(suite: Suite) {
    let fast = "[Service]\nWatchdogSec=1s\nWatchdogSignal=SIGKILL\n";
    let host = Berth::boot_with(suite, options().file("/etc/systemd/system/berthd.service.d/fast.conf", fast));
    assert_eq!(host.show("berthd", "WatchdogUSec"), "1s");
    let fed = || host.show("berthd", "WatchdogTimestampMonotonic");
    let (first, pid) = (fed(), host.show("berthd", "MainPID"));
    host.wait_for("the watchdog to be fed", super::SOON, || (fed() != first).then_some(()));
    let web = host.run("web", SLEEP);
    assert_eq!(host.show("berthd", "MainPID"), pid);
    // A loop that hangs is ended and started anew; what runs is not touched.
    host.ok(&format!("kill -STOP {pid}"));
    host.wait_for("a new berthd", super::SOON, || {
        (host.state()["daemon"]["pid"].as_u64() != pid.parse().ok()).then_some(())
    });
    assert!(host.journal("berthd").contains("watchdog"));
    host.barrier();
    assert_eq!(host.main_pid("web"), web);
}

fn a_start_needs_no_berthd_that_runs(suite: Suite) {
    let host = Berth::boot(suite);
    host.drop_spec("late", &format!("autostart = false\n{SLEEP}"));
    host.wait_state("late", "inactive");
    let other = host.run("other", SLEEP);
    host.ok("systemctl stop berthd.service");
    assert_eq!(host.main_pid("other"), other, "the end of berthd is nobody else's");
    host.ok("systemctl start berth@late");
    assert_eq!(host.show("berthd", "ActiveState"), "active");
    host.wait_state("late", "running");
    host.wait_program("late");
}

fn the_socket_activates_berthd(suite: Suite) {
    let host = Berth::boot(suite);
    host.ok("systemctl stop berthd.service");
    assert_eq!(host.show("berthd.socket", "ActiveState"), "active");
    let output = host.berthctl("reload");
    assert!(output.status.success(), "{output}");
    assert_eq!(host.show("berthd", "ActiveState"), "active");
    assert_eq!(host.ok("stat -c '%a %U:%G' /run/berth/berthd.sock"), "660 root:berth");
}

fn a_rejected_reload_keeps_the_old(suite: Suite) {
    let host = Berth::boot_with(suite, options().file("/etc/berth/berthd.toml", "[defaults]\numask = \"0027\"\n"));
    let umask = |name: &str| host.output_of(name, "command = \"umask\"\n[service]\nrestart = \"no\"\n");
    assert_eq!(umask("before"), "0027");
    let web = host.run("web", SLEEP);
    host.write("/etc/berth/berthd.toml", "isolaton = []\n[defaults]\numask = \"0077\"\n");
    let text = "/etc/berth/berthd.toml:1:1: isolaton: unknown key (did you mean `isolation`?)";
    let output = host.sh("systemctl reload berthd");
    assert!(!output.status.success(), "{output}");
    assert_eq!(host.show("berthd", "ActiveState"), "active");
    let event = host.entries("MESSAGE_ID=98b4b152da744cddae3de7046700b69c");
    assert!(event[0]["MESSAGE"].as_str().unwrap().contains(text), "{event:#?}");
    assert!(host.journal("berthd").contains(text));
    host.wait_for("the problem", super::SOON, || {
        host.state()["problems"]
            .as_array()?
            .iter()
            .any(|problem| problem.as_str().unwrap().contains(text))
            .then_some(())
    });
    assert!(host.ok("systemctl status --full --no-pager berthd").contains(text));
    let output = host.berthctl("reload");
    assert_eq!(output.status.code(), Some(1), "{output}");
    assert!(output.stderr.contains(text), "{output}");
    let check = host.berthctl("check");
    assert_eq!(check.status.code(), Some(2), "{check}");
    assert!(check.stdout.contains("did you mean `isolation`?"), "{check}");
    assert_eq!(umask("during"), "0027", "the old configuration stays");
    host.write("/etc/berth/berthd.toml", "[defaults]\numask = \"0077\"\n");
    host.ok("systemctl kill --signal=HUP berthd.service");
    host.wait_for("no problem", super::SOON, || (host.state()["problems"] == json!([])).then_some(()));
    assert_eq!(umask("after"), "0077", "SIGHUP does the same");
    host.ok("systemctl reload berthd");
    host.wait_until("web", "restarted with the new defaults", |container| {
        container["state"] == "running" && container["main_pid"] != web
    });
}

fn a_broken_configuration_at_start_is_told(suite: Suite) {
    let host = Berth::boot(suite);
    let web = host.run("web", SLEEP);
    host.write("/etc/berth/berthd.toml.d/50-mine.toml", "manager = \"sytemd\"\n");
    assert!(!host.sh("systemctl restart berthd").status.success());
    assert_eq!(host.show("berthd", "ExecMainStatus"), "78");
    assert_eq!(host.show("berthd", "NRestarts"), "0", "it is as wrong at the next attempt");
    let shown = host.sh("systemctl status --full --no-pager berthd").stdout;
    assert!(shown.contains("50-mine.toml:1:11: manager") && shown.contains("did you mean \"systemd\"?"), "{shown}");
    assert_eq!(host.main_pid("web"), web);
    host.remove("/etc/berth/berthd.toml.d");
    host.ok("systemctl restart berthd");
    host.barrier();
    assert_eq!(host.main_pid("web"), web);
}

fn configuration_layers_have_their_precedence(suite: Suite) {
    let umask = |mask: &str| format!("[defaults]\numask = \"{mask}\"\n");
    let host = Berth::boot_with(
        suite,
        options()
            .file("/usr/lib/berth/berthd.toml", umask("0001"))
            .file("/usr/lib/berth/berthd.toml.d/10-a.toml", "isolation = [\"namespaces/pid\"]\n")
            .file("/etc/systemd/system/berthd.service.d/log.conf", "[Service]\nEnvironment=BERTHD_LOG__LEVEL=debug\n"),
    );
    let said = |name: &str| host.output_of(name, "command = \"umask\"\n[service]\nrestart = \"no\"\n");
    assert_eq!(said("vendor"), "0001");
    assert_eq!(host.state()["daemon"]["isolation"], json!(["namespaces/pid"]));
    host.write("/etc/berth/berthd.toml", umask("0002"));
    host.ok("systemctl reload berthd");
    assert_eq!(said("etc"), "0002");
    host.write("/usr/lib/berth/berthd.toml.d/20-b.toml", umask("0003"));
    host.ok("systemctl reload berthd");
    assert_eq!(said("dropin"), "0003");
    host.ok("ln -s /dev/null /etc/berth/berthd.toml.d || true; mkdir -p /run/berth/berthd.toml.d; \
             ln -s /dev/null /run/berth/berthd.toml.d/20-b.toml; rm -f /etc/berth/berthd.toml.d; systemctl reload berthd");
    assert_eq!(said("masked"), "0002");
}

fn berthctl_lists_and_shows(suite: Suite) {
    let host = Berth::shared(suite);
    let pid = host.run("listed", SLEEP);
    let list = host.berthctl("list");
    assert_eq!(list.status.code(), Some(0), "{list}");
    let row = list.stdout.lines().find(|line| line.starts_with("listed ")).unwrap();
    let words: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(words[..3], ["listed", "running", &pid.to_string()], "{row}");
    assert!(list.stdout.starts_with("NAME"), "{list}");
    assert!(!list.stdout.contains('\x1b'), "no colours where there is no terminal");
    let json: Value = serde_json::from_str(&host.berthctl("list --json").stdout).unwrap();
    assert!(json.as_array().unwrap().iter().any(|container| container["name"] == "listed"));
    let shown = host.berthctl("status listed");
    assert_eq!(shown.status.code(), Some(0), "{shown}");
    for part in ["running", &pid.to_string(), "/etc/berth/containers/listed.toml", "/var/lib/berth/sandboxes/listed/"] {
        assert!(shown.stdout.contains(part), "{part}: {shown}");
    }
    let json: Value = serde_json::from_str(&host.berthctl("status listed --json").stdout).unwrap();
    assert_eq!((&json["state"], &json["main_pid"]), (&json!("running"), &json!(pid)));
    let unknown = host.berthctl("status lsted");
    assert_eq!(unknown.status.code(), Some(4), "{unknown}");
    assert!(unknown.stderr.contains("did you mean 'listed'?"), "{unknown}");
    assert_eq!(host.berthctl("frobnicate").status.code(), Some(2));
    let colours = host.ok("script -qec 'berthctl list' /dev/null");
    assert!(colours.contains('\x1b'), "{colours}");
    let none = host.ok("NO_COLOR=1 script -qec 'berthctl list' /dev/null");
    assert!(!none.contains("\x1b["), "{none}");
}

fn berthctl_starts_and_stops(suite: Suite) {
    let host = Berth::shared(suite);
    let pid = host.run("byctl", SLEEP);
    assert_eq!(host.berthctl("stop byctl").status.code(), Some(0));
    host.wait_state("byctl", "stopped");
    assert_eq!(host.berthctl("status byctl").status.code(), Some(3));
    assert_eq!(host.berthctl("start byctl").status.code(), Some(0));
    let second = host.main_pid("byctl");
    assert_ne!(second, pid);
    assert_eq!(host.berthctl("restart berth@byctl.service").status.code(), Some(0));
    assert_ne!(host.main_pid("byctl"), second);
}

fn berthctl_plans_and_cats(suite: Suite) {
    let host = Berth::shared(suite);
    let toml = "autostart = false\ncommand = [\"/bin/sleep\", \"infinity\"]\numask = \"0027\"\n\
                [[volumes]]\ncontainer_path = \"/tmp\"\nhost_path = \"tmp\"\n[namespaces]\nshm_size = \"64M\"\n\
                [service]\nstop_timeout = \"33s\"\n";
    host.drop_spec("planned", toml);
    host.wait_state("planned", "inactive");
    let plan = host.berthctl("plan planned");
    assert_eq!(plan.status.code(), Some(0), "{plan}");
    let mut rest = plan.stdout.as_str();
    for part in [
        "TimeoutStopSec=33s",
        "new namespaces",
        "sandbox:tmp on /tmp",
        "/dev/shm",
        "64 MiB",
        "/proc",
        "umask 0027",
        "execve of /bin/sleep",
    ] {
        rest = rest.split_once(part).unwrap_or_else(|| panic!("{part} (in this order): {plan}")).1;
    }
    let json: Value = serde_json::from_str(&host.berthctl("plan planned --json").stdout).unwrap();
    // What is shown is what is done.
    host.ok("systemctl start berth@planned");
    let record: Value = serde_json::from_str(&host.read("/run/berth/records/planned.json")).unwrap();
    assert_eq!(json["steps"], record["run"]["plan"]["steps"]);
    assert_eq!(json["namespaces"], record["run"]["plan"]["namespaces"]);
    assert_eq!(json["unit"], record["run"]["plan"]["unit"]);
    let cat = host.berthctl("cat planned");
    assert_eq!(cat.status.code(), Some(0), "{cat}");
    assert!(cat.stdout.lines().any(|line| line.contains("umask = ") && line.contains("planned.toml:3")), "{cat}");
    let refused = host.berthctl("plan no-such");
    assert_eq!(refused.status.code(), Some(4), "{refused}");
    host.write("/srv/cat.toml", cat.stdout);
    assert_eq!(host.berthctl("check /srv/cat.toml").status.code(), Some(0), "what cat shows is a spec");
}

fn berthctl_shows_logs(suite: Suite) {
    let host = Berth::shared(suite);
    host.output_of("logged", "command = \"echo line one; echo line two >&2\"\n[service]\nrestart = \"no\"\n");
    let logs = host.berthctl("logs logged");
    assert_eq!(logs.status.code(), Some(0), "{logs}");
    assert!(logs.stdout.contains("line one") && logs.stdout.contains("line two"), "{logs}");
    let last = host.berthctl("logs logged -n 1");
    assert!(!last.stdout.contains("line one"), "{last}");
}

fn berthctl_checks_offline_and_unprivileged(suite: Suite) {
    let host = Berth::shared(suite);
    host.write("/srv/checked/good.toml", SLEEP);
    host.write("/srv/checked/wrong.toml", "command = [\"a\"]\nuser = []\n");
    let nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups env -i PATH=/usr/bin";
    let good = host.sh(&format!("{nobody} berthctl check /srv/checked/good.toml"));
    assert_eq!(good.status.code(), Some(0), "{good}");
    let bad = host.sh(&format!("{nobody} berthctl check /srv/checked"));
    assert_eq!(bad.status.code(), Some(2), "{bad}");
    assert!(bad.stdout.contains("/srv/checked/wrong.toml:2:8"), "{bad}");
    let json = host.sh(&format!("{nobody} berthctl check --json /srv/checked"));
    assert_eq!(json.status.code(), Some(2));
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["diagnostics"][0]["line"], 2);
    assert_eq!(json["diagnostics"][0]["key"], "user");
    assert_eq!(json["specs"].as_array().unwrap().len(), 2);
    // Reading is for everybody.
    host.run("everybodys", SLEEP);
    let list = host.sh(&format!("{nobody} berthctl list"));
    assert!(list.status.success() && list.stdout.contains("everybodys"), "{list}");
}

fn berthctl_reads_with_berthd_down(suite: Suite) {
    let host = Berth::boot(suite);
    let pid = host.run("web", SLEEP);
    host.ok("systemctl stop berthd.service berthd.socket");
    let list = host.berthctl("list");
    assert_eq!(list.status.code(), Some(0), "{list}");
    assert!(list.stdout.contains(&pid.to_string()) && !list.stderr.is_empty(), "{list}");
    let status = host.berthctl("status");
    assert_eq!(status.status.code(), Some(3), "{status}");
    assert!(status.stdout.contains("not running"), "{status}");
    assert_eq!(host.berthctl("status web").status.code(), Some(0));
    assert_eq!(host.berthctl("cat web").status.code(), Some(0));
    assert_eq!(host.berthctl("plan web").status.code(), Some(0));
    assert_eq!(host.berthctl("check").status.code(), Some(0));
    let reload = host.berthctl("reload");
    assert_eq!(reload.status.code(), Some(1), "{reload}");
    assert!(reload.stderr.contains("systemctl start berthd"), "{reload}");
    assert_eq!(host.main_pid("web"), pid);
}

fn berthctl_examines_the_host(suite: Suite) {
    let host = Berth::shared(suite);
    let doctor = host.berthctl("doctor");
    for part in ["filesystem/shared", "linux/capabilities", "namespaces/pid", "namespaces/ipc"] {
        assert!(doctor.stdout.contains(part), "{doctor}");
    }
    assert!(doctor.stdout.contains(&host.ok("systemctl --version | head -1 | cut -d' ' -f2")), "{doctor}");
    let json: Value = serde_json::from_str(&host.berthctl("doctor --json").stdout).unwrap();
    assert_eq!(json["well"], doctor.status.success());
}

fn the_socket_is_for_the_group(suite: Suite) {
    let host = Berth::shared(suite);
    let reload = |groups: &str| host.sh(&format!("setpriv --reuid=65534 --regid=65534 {groups} berthctl reload"));
    let refused = reload("--clear-groups");
    assert_eq!(refused.status.code(), Some(1), "{refused}");
    assert!(refused.stderr.contains("berth"), "{refused}");
    assert!(reload("--groups=berth").status.success());
}
