//! `logs`: the journal's and a file's.

use std::io::{BufRead as _, BufReader, Write as _};

use serde_json::json;

use crate::{fleet, world::World};

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
    let path = world.path("/var/log/berth/web.log");
    let absent = format!(
        "berthctl: cannot read {}: No such file or directory; the container has not been started yet\n",
        path.display()
    );
    assert_eq!(world.run(&["logs", "web"]).err, absent);
    world.edit(|state| state["containers"][3]["log"] = json!(path));
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
