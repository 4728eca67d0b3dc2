//! Ring 1: the real `berthctl` in worlds made by hand, with a berthd and a systemctl that only pretend.

/// A world and the tool in it.
#[cfg(test)]
#[path = "ring1_cli/world.rs"]
mod world;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use world::{World, container, since};

/// A container that failed to start, a running one with an edit that is wrong, and one that is masked.
fn fleet() -> Vec<Value> {
    let mut web = container("web", "running");
    web["main_pid"] = json!(1234);
    web["since"] = json!(since(125));
    web["cgroup"] = json!("/berth.slice/berth@web.service");
    web["sandbox"] = json!("/var/lib/berth/sandboxes/web/1");
    web["spec"]["digest"] = json!("aaaa");
    web["spec"]["running"] = json!("bbbb");
    web["spec"]["pending"] = json!(["command", "volumes"]);
    web["isolators"] = json!([
        { "name": "namespaces/pid", "detail": "private, pid:[4026532201]", "error": null },
        { "name": "disk/du", "detail": null, "error": "cannot read /x" },
    ]);
    let mut db = container("db", "failed");
    db["since"] = json!(since(7200));
    db["error"] = json!({
        "stage": "program", "errno": 2, "path": "/bin/db",
        "message": "cannot execute /bin/db: No such file or directory; install it or correct command.value",
    });
    db["exit"] = json!({ "exited": 203 });
    db["result"] = json!("exit-code");
    db["restarts"] = json!(2);
    let mut cache = container("cache", "invalid");
    cache["spec"]["errors"] = json!([
        "/etc/berth/containers/cache.toml:3:1: comand: unknown key; did you mean 'command'?",
        "/etc/berth/containers/cache.toml:7:5: namespaces.pid: \"own\" is not one of private, host",
    ]);
    vec![cache, db, container("old", "masked"), web]
}

#[test]
fn list_shows_all() {
    let world = World::with(&fleet());
    let run = world.run(&["list"]);
    let expected = "\
NAME   STATE    PID   SINCE     DETAIL
cache  invalid  -     -         /etc/berth/containers/cache.toml:3:1: comand: unknown key; did you mean 'command'?
db     failed   -     2h ago    at program: cannot execute /bin/db: No such file or directory; install it or correct command.value
old    masked   -     -         masked by /etc/berth/containers/old.toml
web    running  1234  2min ago  pending: command, volumes; disk/du: cannot read /x
";
    assert_eq!(run.out, expected);
    assert_eq!((run.code, run.err.as_str()), (0, ""));
}

#[test]
fn list_fits_the_terminal() {
    let world = World::with(&fleet());
    let text = world.on_terminal(&["list", "--color=never"], 60);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 5, "{text}");
    assert!(lines.iter().all(|line| line.trim_end().chars().count() <= 60), "{text}");
    assert!(lines[1].trim_end().ends_with('…'), "{text}");
    let coloured = world.on_terminal(&["list"], 200);
    assert!(coloured.contains("\x1b[32mrunning"), "{coloured}");
}

#[test]
fn colours_obey() {
    let world = World::with(&fleet());
    assert!(!world.run(&["list"]).out.contains('\x1b'));
    assert!(world.run(&["list", "--color=always"]).out.contains('\x1b'));
}

#[test]
fn list_as_json_is_the_state_files() {
    let fleet = fleet();
    let world = World::with(&fleet);
    let parse = |args: &[&str]| serde_json::from_str::<Value>(&world.run(args).out).unwrap();
    assert_eq!(parse(&["list", "--json"]), json!(fleet));
    assert_eq!(parse(&["--json", "status", "web"]), fleet[3]);
    assert_eq!(parse(&["status", "--json"])["containers"], json!(fleet));
}

#[test]
fn status_of_one() {
    let world = World::with(&fleet());
    let time = since(125);
    world.edit(|state| state["containers"][3]["since"] = json!(time.clone()));
    let run = world.run(&["status", "web"]);
    assert_eq!(
        run.out,
        format!(
            "\
● web
     State: running since {time}; 2min ago
      Unit: berth@web.service
  Main PID: 1234
    CGroup: /berth.slice/berth@web.service
   Sandbox: /var/lib/berth/sandboxes/web/1
 Isolators: namespaces/pid  private, pid:[4026532201]
            disk/du         error: cannot read /x
      Spec: /etc/berth/containers/web.toml
   Started: by berthd
    Digest: aaaa (runs with bbbb)
   Pending: command, volumes; 'berthctl restart web' applies
      Logs: berthctl logs web
"
        )
    );
    assert_eq!(run.code, 0);
}

#[test]
fn status_of_one_that_failed() {
    let world = World::with(&fleet());
    let run = world.run(&["status", "berth@db.service"]);
    for line in [
        "  Restarts: 2\n",
        " Last exit: exit status 203\n",
        "   Failure: at program: cannot execute /bin/db: No such file or directory; install it or correct command.value\n",
        "            errno ENOENT (No such file or directory)\n",
        "            path /bin/db\n",
    ] {
        assert!(run.out.contains(line), "{line} in {}", run.out);
    }
    assert_eq!(run.code, 3);
    let run = world.run(&["status", "cache"]);
    assert!(run.out.contains("    Errors: /etc/berth/containers/cache.toml:3:1: comand"), "{}", run.out);
    assert!(run.out.contains("\n            /etc/berth/containers/cache.toml:7:5: "), "{}", run.out);
    assert_eq!(run.code, 3);
}

#[test]
fn status_of_none() {
    let world = World::with(&fleet());
    let run = world.run(&["status", "wbe"]);
    assert_eq!(run.code, 4);
    assert_eq!(
        run.err,
        "berthctl: there is no container 'wbe' (did you mean 'web'?); 'berthctl list' names them all\n"
    );
    assert_eq!(world.run(&["status", "no/name"]).code, 2);
}

#[test]
fn status_of_all() {
    let world = World::with(&fleet());
    world.edit(|state| state["problems"] = json!(["/etc/berth/containers/a b.toml: ' ' is not allowed"]));
    let run = world.run(&["status"]);
    assert!(run.out.starts_with("● berthd 0.1.0, running\n  Main PID: 4711\n"), "{}", run.out);
    assert!(run.out.contains("● web: running: pending: command, volumes"), "{}", run.out);
    assert!(run.out.contains("● /etc/berth/containers/a b.toml: ' ' is not allowed\n"), "{}", run.out);
    assert!(!run.out.contains("● old"), "{}", run.out);
    assert_eq!(run.code, 1);
    let well = World::with(&[container("web", "running")]);
    assert_eq!(well.run(&["status"]).code, 0);
}

#[test]
fn a_dead_daemon_is_said() {
    let world = World::with(&fleet());
    world.kill_daemon();
    let run = world.run(&["list"]);
    assert!(run.err.starts_with("berthctl: berthd is not running; this was true at 20"), "{}", run.err);
    assert_eq!((run.code, run.out.lines().count()), (0, 5));
    assert_eq!(world.run(&["status"]).code, 3);
    assert_eq!(world.run(&["status", "web"]).code, 0);
    world.write("/proc/4711/comm", "bash\n");
    assert!(world.run(&["list"]).err.contains("is not running"), "another process has its number");
}

#[test]
fn an_earlier_boot_is_said() {
    let world = World::with(&fleet());
    world.write("/proc/sys/kernel/random/boot_id", "another\n");
    let run = world.run(&["status", "web"]);
    assert!(run.err.contains("has not run since the last boot"), "{}", run.err);
    assert_eq!(run.code, 3);
}

#[test]
fn bad_state_files_are_refused() {
    let world = World::with(&[]);
    let whole = world.read("/run/berth/state.json");
    for (text, says) in [
        (String::new(), "is damaged (EOF while parsing"),
        (whole[..whole.len() / 2].to_owned(), "is damaged ("),
        ("{\"schema\": 1}".to_owned(), "missing field `boot_id`"),
        ("{\"schema\": 7, \"new\": []}".to_owned(), "has form 7, and this berthctl knows 1; use the berthctl of"),
        ("\u{0}\u{1b}[2J".to_owned(), "is damaged ("),
    ] {
        world.write("/run/berth/state.json", &text);
        for verb in [&["list"][..], &["status"], &["status", "web"]] {
            let run = world.run(verb);
            assert_eq!((run.code, run.out.as_str()), (1, ""), "{says}");
            assert!(run.err.starts_with("berthctl: cannot tell how the containers are: "), "{}", run.err);
            assert!(run.err.contains(says), "{says} in {}", run.err);
        }
    }
    std::fs::File::create(world.path("/run/berth/state.json")).unwrap().set_len((256 << 20) + 1).unwrap();
    assert!(world.run(&["list"]).err.contains("is longer than 256 MiB"));
    std::fs::remove_file(world.path("/run/berth/state.json")).unwrap();
    assert!(world.run(&["list"]).err.contains("start it ('systemctl start berthd')"));
}

#[test]
fn nothing_in_the_state_file_commands_the_terminal() {
    let world = World::with(&fleet());
    world.edit(|state| state["containers"][0]["spec"]["errors"] = json!(["\x1b[2Jgone\nnext"]));
    for verb in [&["list"][..], &["status"], &["status", "cache"]] {
        let run = world.run(verb);
        assert!(!run.out.contains('\x1b') && run.out.contains("\\u{1b}[2Jgone"), "{}", run.out);
    }
}

#[test]
fn reload_over_the_socket() {
    let world = World::with(&[]);
    let berthd = world.berthd(&["{\"reply\":\"working\"}\n{\"reply\":\"done\"}\n"]);
    let run = world.run(&["reload"]);
    assert_eq!((run.code, run.out.as_str()), (0, "reloaded\n"));
    assert_eq!(berthd.join().unwrap(), ["{\"request\":\"reload\"}\n"]);
}

#[test]
fn answers_that_are_none() {
    for (answer, says) in [
        (
            "{\"reply\":\"error\",\"message\":\"berthd.toml:1:1: no\"}\n",
            "berthctl: berthd refused: berthd.toml:1:1: no\n",
        ),
        ("", "it ended before it answered"),
        ("{\"reply\":\"done\"}", "it ended before it answered"),
        ("what\n", "its answer is not understood"),
        ("{\"reply\":\"go\"}\n", "unexpected reply \"go\""),
    ] {
        let world = World::with(&[]);
        let berthd = world.berthd(&[answer]);
        let run = world.run(&["reload"]);
        assert_eq!(run.code, 1);
        assert!(run.err.contains(says), "{says} in {}", run.err);
        berthd.join().unwrap();
    }
    let world = World::with(&[]);
    let endless = "x".repeat(berth::protocol::MAX_LINE + 10);
    let berthd = world.berthd(&[&endless]);
    assert!(world.run(&["reload"]).err.contains("a line without end"));
    drop(berthd);
    let run = World::with(&[]).run(&["reload"]);
    assert!(run.err.contains("it is not running (nobody listens on"), "{}", run.err);
}

#[test]
fn control_by_berthd() {
    let world = World::with(&fleet());
    let berthd = world.berthd(&[
        "{\"reply\":\"done\"}\n",
        "{\"reply\":\"error\",\"message\":\"its program is missing\"}\n",
        "{\"reply\":\"done\"}\n",
    ]);
    let run = world.run(&["restart", "web", "db", "wbe", "cache"]);
    assert_eq!(
        run.err,
        "berthctl: there is no container 'wbe' (did you mean 'web'?); 'berthctl list' names them all\n\
         berthctl: cannot restart 'db': its program is missing\n"
    );
    assert_eq!(run.code, 4);
    let requests = berthd.join().unwrap();
    assert_eq!(requests[0], "{\"request\":\"control\",\"verb\":\"restart\",\"container\":\"web\"}\n");
    assert_eq!(requests.len(), 3);
}

#[test]
fn a_spec_just_dropped_is_known() {
    let world = World::with(&[]);
    world.write("/etc/berth/containers/new.toml", "command = 'true'\n");
    let berthd = world.berthd(&["{\"reply\":\"done\"}\n"]);
    assert_eq!(world.run(&["start", "new"]).code, 0);
    berthd.join().unwrap();
}

#[test]
fn control_by_systemd() {
    let world = World::with(&fleet());
    world.edit(|state| state["daemon"]["manager"] = json!("systemd"));
    world.tool("systemctl", "echo \"$@\" >> \"$LOG\"\nexit 0");
    let run = world.run(&["start", "web", "db"]);
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    assert_eq!(world.read("/log"), "start berth@web.service berth@db.service\n");
    world.tool("systemctl", "echo 'Job for berth@db.service failed.' >&2\nexit 1");
    let run = world.run(&["restart", "web", "db"]);
    assert_eq!(run.code, 1);
    assert_eq!(
        run.err,
        "Job for berth@db.service failed.\n\
         berthctl: cannot restart 'db': at program: cannot execute /bin/db: No such file or directory; install it or \
         correct command.value\n"
    );
    world.kill_daemon();
    let run = world.run(&["stop", "unheard"]);
    assert!(run.err.contains("systemctl ended with exit status: 1"), "{}", run.err);
}

#[test]
fn control_without_a_state_file() {
    let world = World::with(&[]);
    std::fs::remove_file(world.path("/run/berth/state.json")).unwrap();
    world.write("/run/systemd/system/x", "");
    world.tool("systemctl", "echo \"$@\" >> \"$LOG\"");
    assert_eq!(world.run(&["stop", "web"]).code, 0);
    assert_eq!(world.read("/log"), "stop berth@web.service\n");
}

#[test]
fn logs_from_the_journal() {
    let world = World::with(&fleet());
    world.edit(|state| state["daemon"]["manager"] = json!("systemd"));
    world.tool("journalctl", "echo \"$@\"");
    assert_eq!(world.run(&["logs", "web"]).out, "-u berth@web.service\n");
    let run = world.run(&["logs", "web", "-f", "-n", "5", "--since", "1h ago", "--json"]);
    assert_eq!(run.out, "-u berth@web.service -f -n 5 --since=1h ago -o json\n");
    assert_eq!(world.run(&["logs", "wbe"]).code, 4);
}

#[test]
fn logs_from_a_file() {
    let world = World::with(&fleet());
    assert!(world.run(&["logs", "web"]).err.contains("the container has not been started yet"));
    world.write("/var/log/berth/web.log", "a\nb\nc\n");
    assert_eq!(world.run(&["logs", "web"]).out, "a\nb\nc\n");
    assert_eq!(world.run(&["logs", "web", "-n2"]).out, "b\nc\n");
    let run = world.run(&["logs", "web", "--since=today"]);
    assert!(run.code == 1 && run.err.contains("use -n"), "{}", run.err);
}

#[test]
fn logs_are_followed() {
    let world = World::with(&fleet());
    let path = world.path("/var/log/berth/web.log");
    world.write("/var/log/berth/web.log", "first\n");
    let mut child = world.command(&["logs", "web", "-f"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert_eq!(next(), "first");
    let append = |text: &str| {
        let mut log = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        log.write_all(text.as_bytes()).unwrap();
    };
    append("second\n");
    assert_eq!(next(), "second");
    std::fs::rename(&path, path.with_extension("1")).unwrap();
    world.write("/var/log/berth/web.log", "replaced\n");
    assert_eq!(next(), "replaced");
    std::fs::write(&path, "cut\n").unwrap();
    assert_eq!(next(), "cut");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn doctor_says_what_is_missing() {
    let world = World::with(&fleet());
    world.edit(|state| state["daemon"]["isolation"] = json!(["namespaces/pid", "no/such"]));
    world.write("/proc/sys/kernel/osrelease", "5.4.0-generic\n");
    let run = world.run(&["doctor"]);
    for line in [
        "  NO   socket",
        "mount_setattr      Linux has it since 5.12\n",
        "→ boot Linux 5.12 or later\n",
        "no/such            enabled, and this berth does not have it\n",
        "→ take it out of 'isolation' in berthd.toml\n",
    ] {
        assert!(run.out.contains(line), "{line} in {}", run.out);
    }
    assert_eq!(run.code, 1);
    let report: Value = serde_json::from_str(&world.run(&["doctor", "--json"]).out).unwrap();
    assert_eq!(report["well"], json!(false));
    assert!(report["findings"].as_array().unwrap().iter().any(|f| f["verdict"] == "missing" && f["cure"].is_string()));
}

#[test]
fn doctor_is_content() {
    let world = World::with(&[]);
    world.edit(|state| state["daemon"]["manager"] = json!("systemd"));
    for unit in ["berthd.service", "berthd.socket", "berth.slice"] {
        world.write(&format!("/usr/lib/systemd/system/{unit}"), "");
    }
    world.write("/usr/lib/systemd/system/berth@.service", "[Service]\nExecStart=/usr/lib/berth/berth-launch %i\n");
    world.program("/usr/lib/berth/berth-launch", "");
    for file in ["/run/systemd/system/x", "/run/systemd/journal/stdout", "/var/lib/berth/x"] {
        world.write(file, "");
    }
    for kind in ["mnt", "pid", "ipc", "net"] {
        world.write(&format!("/proc/self/ns/{kind}"), "");
    }
    world.write("/proc/sys/kernel/osrelease", "6.1.0-18-amd64\n");
    world.write("/proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    world.write("/sys/fs/cgroup/cgroup.controllers", "cpu io memory pids\n");
    world.tool("systemctl", "echo 'systemd 252 (252.30-1)'");
    let berthd = world.berthd(&[""]);
    let run = world.run(&["doctor"]);
    assert!(run.out.ends_with("All that berth needs is there.\n"), "{}", run.out);
    assert_eq!(run.code, 0, "{}", run.out);
    berthd.join().unwrap();
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let many: Vec<Value> = (0..2000).map(|i| container(&format!("c{i}"), "running")).collect();
    let world = World::with(&many);
    let mut child = world
        .command(&["list", "--json"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let done = child.wait_with_output().unwrap();
    assert_eq!((done.status.code(), done.stderr.len()), (Some(0), 0));
}

#[test]
fn a_failed_start_waits_for_the_state_file_but_not_long() {
    let world = World::with(&fleet());
    world.edit(|state| {
        state["daemon"]["manager"] = json!("systemd");
        state["written"] = json!(since(60));
    });
    world.tool("systemctl", "exit 1");
    let began = Instant::now();
    assert_eq!(world.run(&["start", "db"]).code, 1);
    assert!(began.elapsed() >= Duration::from_millis(400));
}
