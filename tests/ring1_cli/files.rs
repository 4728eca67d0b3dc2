//! `check`, `cat` and `plan`: the containers' files without berthd.

use serde_json::{Value, json};

use crate::world::World;

/// A world with a spec of this text.
fn world(spec: &str) -> World {
    let world = World::with(&[]);
    world.write("/etc/berth/containers/web.toml", spec);
    for kind in ["mnt", "pid", "ipc"] {
        world.write(&format!("/proc/self/ns/{kind}"), "");
    }
    world.write("/dev/shm/x", "");
    world
}

#[test]
fn check_finds_mistakes() {
    let good = world("command = ['/bin/true']\n").run(&["check"]);
    assert_eq!((good.code, good.err.as_str()), (0, ""), "{}", good.out);
    let bad = world("comand = ['/bin/true']\n");
    let run = bad.run(&["check"]);
    assert!(run.code == 2 && run.out.contains("web.toml:1:1"), "{}", run.out);
    let json: Value = serde_json::from_str(&bad.run(&["check", "--json"]).out).unwrap();
    assert!(json["diagnostics"].as_array().is_some_and(|all| !all.is_empty()), "{json}");
}

#[test]
fn cat_shows_the_merged_spec() {
    let world = world("command = ['/bin/true']\n");
    let run = world.run(&["cat", "web"]);
    assert!(run.code == 0 && run.out.contains("/bin/true"), "{}", run.out);
    let run = world.run(&["cat", "wbe"]);
    assert_eq!(run.code, 4);
    assert!(run.err.contains("did you mean 'web'?"), "{}", run.err);
}

#[test]
fn plan_shows_every_deed() {
    let world = world("command = ['/bin/echo', 'a b']\nenvironment = { TZ = 'UTC' }\nservice.restart = 'always'\n");
    let run = world.run(&["plan", "web"]);
    for line in [
        "web: berth@web.service\n",
        "      Restart=always\n",
        "is born into new namespaces: mount, pid, ipc\n",
        "execve of /bin/echo\n",
        "      argv[1] = \"a b\"\n",
        "      TZ=\"UTC\"\n",
    ] {
        assert!(run.out.contains(line), "{line} in {}{}", run.out, run.err);
    }
    let plan: Value = serde_json::from_str(&world.run(&["plan", "web", "--json"]).out).unwrap();
    assert_eq!(plan["program"]["argv"], json!(["/bin/echo", "a b"]));
}

#[test]
fn plan_says_why_there_is_none() {
    let run = world("comand = 'x'\ncolour = 1\ncommand = ['/bin/true']\n").run(&["plan", "web"]);
    assert_eq!((run.code, run.out.as_str(), run.err.lines().count()), (1, "", 2), "{}", run.err);
    assert!(run.err.lines().all(|line| line.starts_with("berthctl: ") && line.contains("web.toml:")), "{}", run.err);
    let run = world("").run(&["plan", "web"]);
    assert!(run.code == 1 && run.err.contains("'web' is masked by "), "{}", run.err);
    let disabled = world("command = ['/bin/true']\nnamespaces.pid = 'private'\n");
    disabled.write("/etc/berth/berthd.toml", "isolation = []\n");
    let run = disabled.run(&["plan", "web"]);
    assert!(run.err.contains("'web' could not start: at config: namespaces.pid needs the isolator"), "{}", run.err);
    assert_eq!(disabled.run(&["plan", "nothing"]).code, 4);
}
