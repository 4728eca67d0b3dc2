//! Starts that cannot be and specs that are wrong: said at once, everywhere, with the place; what runs is left alone.

use serde_json::{Value, json};

use crate::support::berth::{Berth, SLEEP, options, spec, unit};
use crate::support::host::Suite;
use crate::support::ring::Test;

pub const TRIALS: &[Test] = &[
    ("a_missing_program_fails_the_start", a_missing_program_fails_the_start),
    ("a_program_that_is_none_fails_the_start", a_program_that_is_none_fails_the_start),
    ("a_bad_interpreter_fails_the_start", a_bad_interpreter_fails_the_start),
    ("a_missing_volume_source_fails_the_start", a_missing_volume_source_fails_the_start),
    ("a_missing_container_path_fails_the_start", a_missing_container_path_fails_the_start),
    ("an_unknown_user_or_group_fails_the_start", an_unknown_user_or_group_fails_the_start),
    ("a_missing_working_directory_fails_the_start", a_missing_working_directory_fails_the_start),
    ("a_disabled_isolator_fails_the_start", a_disabled_isolator_fails_the_start),
    ("a_failed_start_leaves_nothing", a_failed_start_leaves_nothing),
    ("a_failed_start_is_retried_by_policy", a_failed_start_is_retried_by_policy),
    ("a_fixed_spec_starts", a_fixed_spec_starts),
    ("an_invalid_edit_leaves_what_runs_alone", an_invalid_edit_leaves_what_runs_alone),
    ("a_spec_that_was_never_good_cannot_start", a_spec_that_was_never_good_cannot_start),
    ("the_last_good_spec_is_started", the_last_good_spec_is_started),
    ("a_name_that_is_not_allowed_is_a_problem", a_name_that_is_not_allowed_is_a_problem),
    ("there_is_no_such_container", there_is_no_such_container),
];

/// A start that has to fail.
pub struct Refusal<'a> {
    pub name: &'a str,
    pub toml: &'a str,
    pub stage: &'a str,
    pub status: u8,
    pub errno: Option<i32>,
    pub path: Option<&'a str>,
    pub text: &'a str,
}

/// Starts it by hand and looks at every place where the reason has to be.
#[track_caller]
pub fn is_refused(host: &Berth, refusal: &Refusal<'_>) -> Value {
    let Refusal { name, toml, stage, status, errno, path, text } = *refusal;
    let service = if toml.contains("[service]") { "" } else { "[service]\nrestart = \"no\"\n" };
    host.drop_spec(name, &format!("autostart = false\n{toml}\n{service}"));
    host.wait_state(name, "inactive");
    host.barrier();
    let unit = unit(name);
    let output = host.sh(&format!("systemctl start {unit}"));
    assert!(!output.status.success(), "{name}: {output}");
    let state = host.wait_state(name, "failed");
    assert_eq!(host.property(name, "ExecMainStatus"), status.to_string(), "{name}");
    assert_eq!(host.property(name, "ExecMainCode"), "1", "{name}");
    assert_eq!(state["error"]["stage"], stage, "{name}: {state:#}");
    assert_eq!(state["error"]["errno"], json!(errno), "{name}: {state:#}");
    assert_eq!(state["error"]["path"], json!(path), "{name}: {state:#}");
    let message = state["error"]["message"].as_str().unwrap();
    assert!(message.contains(text), "{name}: {message}");
    assert_eq!(state["exit"], json!(null), "{name}: the launcher's exit is not the program's");
    let shown = host.sh(&format!("systemctl status --full --no-pager {unit}")).stdout;
    assert!(shown.contains(message), "{name}: {message} is not in {shown}");
    let event = host.entries(&format!("MESSAGE_ID=2355a4ef6a364d1385484e245c519300 BERTH_CONTAINER={name}"));
    assert_eq!(event.len(), 1, "{name}: {event:#?}");
    assert!(event[0]["MESSAGE"].as_str().unwrap().contains(message), "{name}: {event:#?}");
    assert_eq!(event[0]["UNIT"], *unit);
    assert!(host.journal(&unit).contains(message), "{name}");
    let shown = host.berthctl(&format!("status {name}"));
    assert_eq!(shown.status.code(), Some(3), "{shown}");
    assert!(shown.stdout.contains(text), "{shown}");
    state
}

fn a_missing_program_fails_the_start(suite: Suite) {
    let host = Berth::shared(suite);
    let (errno, status) = (Some(libc::ENOENT), 203);
    let absolute = "command = [\"/opt/no/such\"]";
    let refusal = Refusal {
        name: "np-absolute",
        toml: absolute,
        stage: "program",
        status,
        errno,
        path: Some("/opt/no/such"),
        text: "cannot run /opt/no/such: No such file or directory",
    };
    is_refused(&host, &refusal);
    let searched = "command = [\"no-such-program\"]";
    let refusal = Refusal {
        name: "np-path",
        toml: searched,
        path: Some("no-such-program"),
        text: "not found in PATH",
        ..refusal
    };
    is_refused(&host, &refusal);
    let in_place = "command = [\"/opt/no/such\"]\n[namespaces]\npid = \"host\"\n";
    is_refused(
        &host,
        &Refusal {
            name: "np-in-place",
            toml: in_place,
            path: Some("/opt/no/such"),
            text: "cannot run /opt/no/such",
            ..refusal
        },
    );
}

fn a_program_that_is_none_fails_the_start(suite: Suite) {
    let host = Berth::shared(suite);
    host.write("/opt/not-executable", "#!/bin/sh\n");
    let (stage, errno, status) = ("program", Some(libc::EACCES), 203);
    is_refused(
        &host,
        &Refusal {
            name: "ne-file",
            toml: "command = [\"/opt/not-executable\"]",
            stage,
            status,
            errno,
            path: Some("/opt/not-executable"),
            text: "not executable",
        },
    );
    is_refused(
        &host,
        &Refusal {
            name: "ne-directory",
            toml: "command = [\"/usr/lib\"]",
            stage,
            status,
            errno,
            path: Some("/usr/lib"),
            text: "it is a directory",
        },
    );
    // Executable, but not by this user.
    host.files().write_with_mode("/opt/root-only", "#!/bin/sh\n", 0o700).unwrap();
    is_refused(
        &host,
        &Refusal {
            name: "ne-user",
            toml: "command = [\"/opt/root-only\"]\nuser = \"nobody\"",
            stage,
            status,
            errno,
            path: Some("/opt/root-only"),
            text: "not executable by user 65534",
        },
    );
}

fn a_bad_interpreter_fails_the_start(suite: Suite) {
    let host = Berth::shared(suite);
    host.files().write_with_mode("/opt/bad-script", "#!/opt/no/interpreter\n", 0o755).unwrap();
    is_refused(
        &host,
        &Refusal {
            name: "badinterp",
            toml: "command = [\"/opt/bad-script\"]",
            stage: "program",
            status: 203,
            errno: Some(libc::ENOENT),
            path: Some("/opt/bad-script"),
            text: "#! interpreter /opt/no/interpreter cannot run",
        },
    );
}

fn a_missing_volume_source_fails_the_start(suite: Suite) {
    let host = Berth::shared(suite);
    let toml = "command = [\"true\"]\n[[volumes]]\ncontainer_path = \"/mnt\"\nhost_path = \"/srv/no/such\"\n";
    is_refused(
        &host,
        &Refusal {
            name: "novolume",
            toml,
            stage: "mounts",
            status: 226,
            errno: Some(libc::ENOENT),
            path: Some("/srv/no/such"),
            text: "/srv/no/such",
        },
    );
}

fn a_missing_container_path_fails_the_start(suite: Suite) {
    let host = Berth::shared(suite);
    let toml = "command = [\"true\"]\n[[volumes]]\ncontainer_path = \"/no/such\"\nhost_path = \"private\"\n";
    is_refused(
        &host,
        &Refusal {
            name: "notarget",
            toml,
            stage: "mounts",
            status: 226,
            errno: Some(libc::ENOENT),
            path: Some("/no/such"),
            text: "must exist",
        },
    );
}

fn an_unknown_user_or_group_fails_the_start(suite: Suite) {
    let host = Berth::shared(suite);
    let refusal = Refusal {
        name: "nouser",
        toml: "command = [\"true\"]\nuser = \"nosuchuser\"",
        stage: "user",
        status: 217,
        errno: None,
        path: None,
        text: "nosuchuser",
    };
    is_refused(&host, &refusal);
    let toml = "command = [\"true\"]\nuser = \"nobody:nosuchgroup\"";
    is_refused(&host, &Refusal { name: "nogroup", toml, stage: "group", status: 216, text: "nosuchgroup", ..refusal });
    let toml = "command = [\"true\"]\nsupplementary_groups = [\"nosuchgroup\"]";
    is_refused(&host, &Refusal { name: "nosupp", toml, stage: "group", status: 216, text: "nosuchgroup", ..refusal });
}

fn a_missing_working_directory_fails_the_start(suite: Suite) {
    let host = Berth::shared(suite);
    is_refused(
        &host,
        &Refusal {
            name: "nodir",
            toml: "command = [\"true\"]\nworking_directory = \"/srv/no/such\"",
            stage: "directory",
            status: 200,
            errno: Some(libc::ENOENT),
            path: Some("/srv/no/such"),
            text: "/srv/no/such",
        },
    );
}

fn a_disabled_isolator_fails_the_start(suite: Suite) {
    let config = "isolation = [\"namespaces/pid\"]\n[namespaces]\nallow_host_pid = false\n";
    let host = Berth::boot_with(suite, options().file("/etc/berth/berthd.toml", config));
    let refusal = Refusal {
        name: "off-volume",
        toml: "command = [\"true\"]\n[[volumes]]\ncontainer_path = \"/tmp\"\nhost_path = \"tmp\"\n",
        stage: "config",
        status: 78,
        errno: None,
        path: None,
        text: "volumes needs the isolator filesystem/shared",
    };
    is_refused(&host, &refusal);
    let toml = "command = [\"true\"]\n[namespaces]\nshm_size = \"64M\"\n";
    let text = "namespaces.shm_size needs the isolator namespaces/ipc";
    is_refused(&host, &Refusal { name: "off-shm", toml, text, ..refusal });
    let toml = "command = [\"true\"]\n[namespaces]\npid = \"host\"\n";
    is_refused(&host, &Refusal { name: "host-pid", toml, text: "allow_host_pid = false", ..refusal });
    let pid = host.run("ipc-is-the-hosts", SLEEP);
    assert_eq!(host.ns(pid, "ipc"), host.ns(1, "ipc"));
    assert_ne!(host.ns(pid, "pid"), host.ns(1, "pid"));
    assert_eq!(host.state()["daemon"]["isolation"], json!(["namespaces/pid"]));
    // A configuration error is as wrong at the next attempt: no retry.
    host.drop_spec(
        "off-retry",
        "command = [\"true\"]\n[namespaces]\nshm_size = \"64M\"\n[service]\nrestart_delay = \"1ms\"\n",
    );
    host.wait_state("off-retry", "failed");
    host.barrier();
    assert_eq!(host.property("off-retry", "NRestarts"), "0");
}

fn a_failed_start_leaves_nothing(suite: Suite) {
    let host = Berth::boot(suite);
    let mounts = host.ok("cat /proc/1/mountinfo");
    is_refused(
        &host,
        &Refusal {
            name: "halfway",
            toml: "command = [\"/no/such\"]\n[[volumes]]\ncontainer_path = \"/tmp\"\nhost_path = \"tmp\"\n",
            stage: "program",
            status: 203,
            errno: Some(libc::ENOENT),
            path: Some("/no/such"),
            text: "cannot run /no/such",
        },
    );
    assert_eq!(host.ok("cat /proc/1/mountinfo"), mounts);
    assert_eq!(host.ok("find /sys/fs/cgroup/berth.slice -mindepth 1 -type d 2>/dev/null || true"), "");
    assert_eq!(host.sh("pgrep -x berth-launch").stdout, "");
    host.remove_spec("halfway");
    host.wait_gone("halfway");
    assert_eq!(host.files().list("/run/berth/records").unwrap(), [] as [&str; 0]);
}

fn a_failed_start_is_retried_by_policy(suite: Suite) {
    let host = Berth::shared(suite);
    host.drop_spec(
        "retried",
        "command = [\"/opt/appears-later\"]\n[service]\nrestart_delay = \"100ms\"\n\
                               start_limit = { burst = 0 }\n",
    );
    host.wait_until("retried", "tried again", |container| container["restarts"].as_u64() > Some(1));
    host.files().symlink("/bin/sleep", "/opt/appears-later.new").unwrap();
    host.ok("printf '#!/bin/sh\\nexec sleep infinity\\n' >/opt/a.new && chmod +x /opt/a.new && mv /opt/a.new /opt/appears-later");
    let state = host.wait_state("retried", "running");
    assert_eq!(state["error"], json!(null));
}

fn a_fixed_spec_starts(suite: Suite) {
    let host = Berth::shared(suite);
    host.drop_spec("fixme", "command = [\"/no/such\"]\n[service]\nrestart = \"no\"\n");
    host.wait_state("fixme", "failed");
    host.drop_spec("fixme", SLEEP);
    host.wait_state("fixme", "running");
    host.drop_spec("fixme2", "comand = [\"sleep\"]\n");
    host.wait_state("fixme2", "invalid");
    host.drop_spec("fixme2", SLEEP);
    let state = host.wait_state("fixme2", "running");
    assert_eq!(state["spec"]["errors"], json!([]));
}

/// Mistakes of every kind: the file, the place, the key, a word of the message.
const MISTAKES: &[(&str, &str, &str)] = &[
    ("command = [\"a\"\nuser = \"x\"\n", ":2:1", "expected `,`"),
    ("comand = [\"a\"]\n", ":1:1: comand", "did you mean `command`?"),
    ("command = [\"a\"]\nvolumes = 3\n", ":2:11: volumes", "expected a list"),
    ("command = [\"a\"]\n[service]\nrestart = \"allways\"\n", ":3:11: service.restart", "did you mean \"always\"?"),
    (
        "command = [\"a\"]\n[[volumes]]\ncontainer_path = \"/tmp\"\nhost_path = \"a\"\n\
         [[volumes]]\ncontainer_path = \"/tmp/\"\nhost_path = \"b\"\n",
        ":6:18: volumes.1.container_path",
        "2 volumes are to be seen at /tmp",
    ),
    (
        "command = [\"a\"]\n[[volumes]]\ncontainer_path = \"/mnt\"\nhost_path = \"../x\"\n",
        ":4:13: volumes.0.host_path",
        "`..`",
    ),
    (
        "command = [\"a\"]\n[service]\nafter = [\"x.service\"]\nbefore = [\"x.service\"]\n",
        ":4:11: service.before.0",
        "cannot be both",
    ),
    ("command = [\"a\"]\n[namespaces]\nshm_size = \"0M\"\n", ":3:12: namespaces.shm_size", ""),
    ("command = [\"a\"]\n[namespaces]\nipc = \"host\"\nshm_size = \"64M\"\n", ":4:12: namespaces.shm_size", "ipc"),
];

fn an_invalid_edit_leaves_what_runs_alone(suite: Suite) {
    let host = Berth::boot(suite);
    let pid = host.run("web", SLEEP);
    let file = spec("web").display().to_string();
    for (toml, place, text) in MISTAKES {
        host.drop_spec("web", toml);
        let state = host.wait_until("web", "wrong", |container| {
            let errors = container["spec"]["errors"].as_array().unwrap();
            errors.iter().any(|error| error.as_str().unwrap().contains(place))
        });
        let errors = state["spec"]["errors"].as_array().unwrap();
        let error = errors.iter().map(|error| error.as_str().unwrap()).find(|error| error.contains(place)).unwrap();
        assert!(error.starts_with(&file) && error.contains(text), "{toml}: {error}");
        assert_eq!((&state["state"], &state["main_pid"]), (&json!("running"), &json!(pid)), "{toml}");
        let check = host.berthctl("check");
        assert_eq!(check.status.code(), Some(2), "{toml}: {check}");
        assert!(check.stdout.contains(&format!("{file}{}", place.split(": ").next().unwrap())), "{toml}: {check}");
        assert!(check.stdout.contains(text), "{toml}: {check}");
        let shown = host.berthctl("status web").stdout;
        assert!(shown.contains(error), "{toml}: {shown}");
        let entries = host.entries("MESSAGE_ID=02497ee0765c43f4aa53269f4fe0f6cc BERTH_CONTAINER=web");
        assert!(entries.iter().any(|entry| entry["MESSAGE"].as_str().unwrap().contains(error)), "{toml}: {entries:#?}");
        assert!(host.journal("berth@web").contains(error), "{toml}");
        let first = errors[0].as_str().unwrap();
        let daemon = host.wait_for("systemctl status berthd", super::SOON, || {
            Some(host.ok("systemctl status --full --no-pager berthd")).filter(|daemon| daemon.contains(first))
        });
        assert!(daemon.contains("1 running") && daemon.contains("Status: "), "{toml}: {daemon}");
    }
    host.barrier();
    assert_eq!(host.main_pid("web"), pid);
    host.drop_spec("web", SLEEP);
    host.wait_until("web", "right", |container| container["spec"]["errors"] == json!([]));
    host.barrier();
    assert_eq!(host.main_pid("web"), pid, "back to what runs: nothing to do");
}

fn a_spec_that_was_never_good_cannot_start(suite: Suite) {
    let host = Berth::shared(suite);
    host.drop_spec("nevergood", "comand = [\"sleep\"]\n");
    host.wait_state("nevergood", "invalid");
    assert_eq!(host.property("nevergood", "ActiveState"), "inactive");
    let output = host.sh("systemctl start berth@nevergood");
    assert!(!output.status.success());
    assert_eq!(host.property("nevergood", "ExecMainStatus"), "78");
    let shown = host.sh("systemctl status --full --no-pager berth@nevergood").stdout;
    assert!(shown.contains("nevergood.toml:1:1: comand: unknown key"), "{shown}");
    let output = host.berthctl("start nevergood");
    assert_eq!(output.status.code(), Some(1), "{output}");
    assert!(output.stderr.contains("nevergood.toml:1:1: comand: unknown key"), "{output}");
    assert_eq!(host.property("nevergood", "NRestarts"), "0");
}

fn the_last_good_spec_is_started(suite: Suite) {
    let host = Berth::shared(suite);
    host.run("lastgood", "command = [\"/bin/sleep\", \"100000\"]\n");
    host.drop_spec("lastgood", "comand = 3\n");
    host.wait_until("lastgood", "wrong", |container| container["spec"]["errors"] != json!([]));
    host.ok("systemctl restart berth@lastgood");
    assert_eq!(host.program("lastgood"), "/bin/sleep 100000");
}

fn a_name_that_is_not_allowed_is_a_problem(suite: Suite) {
    let host = Berth::boot(suite);
    for name in ["agent", "we.b", "-x", "a b"] {
        let file = spec(name);
        host.write(&file, SLEEP);
        let file = file.display().to_string();
        host.wait_for("the problem", super::SOON, || {
            let problems = host.state()["problems"].clone();
            problems.as_array()?.iter().any(|problem| problem.as_str().unwrap().starts_with(&file)).then_some(())
        });
        let check = host.berthctl("check");
        assert_eq!(check.status.code(), Some(2), "{check}");
        assert!(check.stdout.contains(&file), "{check}");
        host.wait_for("systemctl status berthd", super::SOON, || {
            host.ok("systemctl status --full --no-pager berthd").contains(&file).then_some(())
        });
        assert!(host.journal("berthd").contains(&file));
        host.remove(&file);
        host.wait_for("no problem", super::SOON, || (host.state()["problems"] == json!([])).then_some(()));
    }
}

fn there_is_no_such_container(suite: Suite) {
    let host = Berth::shared(suite);
    host.run("existing", SLEEP);
    let output = host.sh("systemctl start berth@exsting");
    assert!(!output.status.success());
    let shown = host.sh("systemctl status --full --no-pager berth@exsting").stdout;
    assert!(shown.contains("there is no spec for 'exsting'") && shown.contains("did you mean 'existing'?"), "{shown}");
    assert_eq!(host.property("exsting", "ExecMainStatus"), "78");
    assert!(host.container("exsting").is_none());
    let output = host.berthctl("start exsting");
    assert_eq!(output.status.code(), Some(4), "{output}");
    assert!(output.stderr.contains("did you mean 'existing'?"), "{output}");
    host.ok("systemctl reset-failed berth@exsting");
}
