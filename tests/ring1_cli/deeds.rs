//! `start`, `stop`, `restart`, `reload`: by systemd and by berthd.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    fleet,
    world::{World, since},
};

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
