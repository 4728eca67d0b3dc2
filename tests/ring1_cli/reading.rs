//! `list` and `status`: the state file as people and programs see it.

use serde_json::{Value, json};

use crate::{
    fleet,
    world::{World, container, since},
};

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
