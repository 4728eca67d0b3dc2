//! There and back.

use std::{fs, process::Stdio, thread, time::Duration};

use super::{Case, world::World};

pub const ALL: &[Case] = &[
    ("an_update_moves_and_a_rollback_goes_back", there_and_back),
    ("what_was_pulled_is_pending_until_a_restart", pending),
    ("an_update_that_does_not_start_is_taken_back", taken_back),
    ("a_failure_without_an_update_is_rolled_back_to_what_ran", failed_restart),
    ("what_cannot_be_moved_is_refused", refused),
    ("what_does_not_run_is_moved_for_its_next_start", at_rest),
    ("two_updates_at_once_are_one", at_once),
    ("a_client_that_is_killed_changes_nothing", killed_client),
    ("a_berthd_that_is_killed_leaves_one_or_the_other", killed_berthd),
    ("a_container_that_is_removed_meanwhile_is_gone", removed_meanwhile),
    ("a_move_that_a_reboot_broke_off_has_failed", reboot),
];

/// A program that sleeps after a word.
fn good(world: &World, tag: &str) {
    world.image(tag, &format!("echo {tag}; exec sleep infinity"));
}

fn there_and_back() {
    let world = World::new();
    world.sleeper("v1", 10);
    world.sleeper("v2", 10);
    world.web("v1");
    world.runs("v1");
    assert!(world.fails(&["rollback", "web"]).contains("no former image"));
    assert!(world.succeeds(&["update", "web"]).contains("nothing to do"));
    world.tag("v2");
    let said = world.succeeds(&["update", "--watch", "100ms", "web"]);
    assert!(said.contains("web: moved from image"), "{said}");
    world.runs("v2");
    let image = world.state("web")["image"].clone();
    assert_eq!(image["former"], world.digest("v1").as_str());
    assert!(image.get("pending").is_none() && image.get("held_back").is_none(), "{image}");
    // The way back stays, whatever is removed.
    assert!(world.succeeds(&["prune"]).contains("0 layers removed"));
    world.succeeds(&["rollback", "--watch", "100ms", "web"]);
    world.runs("v1");
    let image = world.state("web")["image"].clone();
    assert_eq!((&image["held_back"], &image["former"]), (&world.digest("v2").into(), &world.digest("v2").into()));
    assert!(image.get("pending").is_none(), "{image}");
    assert!(world.succeeds(&["list"]).contains("held back: image"));
    // It holds for every start, though the source is the other one.
    world.succeeds(&["restart", "web"]);
    world.runs("v1");
    world.succeeds(&["pull", &world.source("t")]);
    world.succeeds(&["restart", "web"]);
    world.runs("v1");
    // And for the tag's removal: berthctl rmi refuses it, a hand does not.
    world.sh(&format!("rm {}/*", world.path("/var/lib/berth/images/tags").display()));
    world.succeeds(&["restart", "web"]);
    world.runs("v1");
    world.succeeds(&["pull", &world.source("t")]);
    // Forth again.
    world.succeeds(&["--json", "rollback", "--watch", "100ms", "web"]);
    world.runs("v2");
    assert!(world.state("web")["image"].get("held_back").is_none());
    // The container's end is the end of what is kept for it.
    fs::remove_file(world.path("/etc/berth/containers/web.toml")).unwrap();
    world.until("the end of the note", |world| world.versions("web").is_none().then_some(()));
    world.succeeds(&["prune"]);
    assert_eq!(fs::read_dir(world.path("/var/lib/berth/images/layers")).unwrap().count(), 0);
}

fn pending() {
    let world = World::new();
    good(&world, "v1");
    good(&world, "v2");
    world.web("v1");
    world.tag("v2");
    for _ in 0..2 {
        world.succeeds(&["pull", &world.source("t")]);
    }
    let digest = world.digest("v2");
    world.until("the news", |world| (world.state("web")["image"]["pending"] == digest.as_str()).then_some(()));
    world.runs("v1");
    assert!(world.succeeds(&["list"]).contains("pending: image"));
    let (status, sheet) = world.ctl(&["status", "web"]);
    assert!(status == 0 && sheet.contains(&format!("pending: {digest}; 'berthctl update web'")), "{sheet}");
    world.succeeds(&["restart", "web"]);
    world.runs("v2");
    world.until("its end", |world| world.state("web")["image"].get("pending").is_none().then_some(()));
    assert_eq!(world.said(&format!("its image is {digest} now")), 1, "{}", world.log());
    // Also what nobody has updated can be taken back.
    world.until("the note", |world| (world.versions("web")?["former"]["digest"].is_string()).then_some(()));
    world.succeeds(&["rollback", "--watch", "0s", "web"]);
    world.runs("v1");
}

fn taken_back() {
    let world = World::new();
    good(&world, "v1");
    good(&world, "v2");
    world.sh("umoci config --image l:base --tag gone --config.entrypoint /bin/nothing");
    world.image("dies", "echo dies; exit 3");
    world.image("later", "echo later; sleep 0.5; exit 3");
    world.web("v1");
    world.tag("v2");
    world.succeeds(&["update", "--watch", "0s", "web"]);
    for (tag, why) in [("gone", "/bin/nothing"), ("dies", "status 3"), ("later", "status 3")] {
        world.tag(tag);
        for word in ["update", "again"] {
            let said = world.fails(&["update", "--watch", "3s", "web"]);
            let digest = &world.digest(tag)[7..19];
            assert!(said.contains(&format!("with image {digest} it does not run")) && said.contains(why), "{said}");
            assert!(said.contains("it was taken back and runs with image"), "{word}: {said}");
            world.runs("v2");
            let image = world.state("web")["image"].clone();
            assert_eq!(image["held_back"], world.digest(tag).as_str(), "{image}");
            assert_eq!(image["former"], world.digest("v1").as_str(), "{image}");
            assert!(image.get("pending").is_none(), "{image}");
        }
        world.succeeds(&["restart", "web"]);
        world.runs("v2");
    }
    // A third image is another matter: the next start takes it.
    world.image("v3", "echo v3; exec sleep infinity");
    world.tag("v3");
    world.succeeds(&["pull", &world.source("t")]);
    world.until("the news", |world| world.state("web")["image"]["pending"].is_string().then_some(()));
    world.succeeds(&["restart", "web"]);
    world.runs("v3");
    world.until("the end of it", |world| world.state("web")["image"].get("held_back").is_none().then_some(()));
    // What ends as it should has started.
    world.image("once", "echo once; exit 0");
    world.tag("once");
    assert!(world.succeeds(&["update", "--watch", "2s", "web"]).contains("has ended since"));
}

fn failed_restart() {
    let world = World::new();
    good(&world, "v1");
    world.sh("umoci config --image l:base --tag gone --config.entrypoint /bin/nothing");
    world.tag("v1");
    let once = "[service]\nrestart = \"no\"\n";
    world.run("web", &format!("[image]\nsource = \"{}\"\n{once}", world.source("t")));
    world.until("the note", |world| world.versions("web").is_some().then_some(()));
    world.tag("gone");
    world.succeeds(&["pull", &world.source("t")]);
    world.fails(&["restart", "web"]);
    assert_eq!(world.state("web")["state"], "failed");
    world.succeeds(&["rollback", "--watch", "100ms", "web"]);
    world.runs("v1");
    world.succeeds(&["restart", "web"]);
    world.runs("v1");
    // A first image that does not start has nothing to go back to.
    world.sh("umoci tag --image l:gone u");
    let spec = format!("[image]\nsource = \"{}\"\n{once}", world.source("u"));
    fs::write(world.path("/etc/berth/containers/db.toml"), spec).unwrap();
    world.until("its failure", |world| (world.state("db")["state"] == "failed").then_some(()));
    assert!(world.fails(&["rollback", "db"]).contains("no former image"));
    assert!(world.fails(&["update", "db"]).contains("it stays as it is"));
    assert!(world.versions("db").is_none());
    world.sh("umoci tag --image l:v1 u");
    world.succeeds(&["update", "--watch", "0s", "db"]);
    assert_eq!(world.state("db")["image"]["digest"], world.digest("v1").as_str());
}

fn refused() {
    let world = World::new();
    good(&world, "v1");
    world.web("v1");
    world.run("host", "command = [\"/bin/sleep\", \"infinity\"]\n");
    assert!(world.fails(&["update", "host"]).contains("no [image]"));
    let spec =
        format!("command = \"exec sleep infinity\"\n[image]\nsource = \"rootfs:{}\"\n", world.at("b/rootfs").display());
    world.run("tree", &spec);
    assert!(world.fails(&["rollback", "tree"]).contains("is a directory"));
    let (status, said) = world.ctl(&["update", "wbe"]);
    assert!(status == 4 && said.contains("did you mean 'web'"), "{status} {said}");
    assert_eq!(world.ctl(&["rollback", "wbe"]).0, 4);
    assert_eq!(world.ctl(&["update"]).0, 2);
    assert_eq!(world.ctl(&["update", "--watch", "5", "web"]).0, 2);
    // One that is refused does not keep the others.
    world.image("v2", "echo v2; exec sleep infinity");
    world.tag("v2");
    let (status, said) = world.ctl(&["update", "--watch", "0s", "host", "web"]);
    assert!(status == 1 && said.contains("web: moved"), "{said}");
    world.runs("v2");
    // What the spec names now is not what runs: that is an edit, and no update.
    world.sh("umoci tag --image l:v1 u");
    let spec = format!("on_change = \"manual\"\n[image]\nsource = \"{}\"\n", world.source("u"));
    fs::write(world.path("/etc/berth/containers/web.toml"), spec).unwrap();
    world.succeeds(&["reload"]);
    assert!(world.fails(&["update", "web"]).contains("'berthctl restart web' applies that"));
    world.runs("v2");
    // The source cannot be had: nothing is touched.
    world.sh("mv l away");
    assert!(world.fails(&["update", "--all"]).contains("cannot"));
    world.sh("mv away l");
    world.runs("v2");
}

fn at_rest() {
    let world = World::new();
    good(&world, "v1");
    good(&world, "v2");
    world.web("v1");
    world.tag("v2");
    world.succeeds(&["stop", "web"]);
    let said = world.succeeds(&["update", "web"]);
    assert!(said.contains("does not run; starts with image"), "{said}");
    assert_eq!(world.state("web")["state"], "stopped");
    world.succeeds(&["start", "web"]);
    world.runs("v2");
    world.until("the note", |world| world.versions("web")?["former"]["digest"].is_string().then_some(()));
    world.succeeds(&["stop", "web"]);
    world.succeeds(&["rollback", "web"]);
    assert_eq!(world.state("web")["state"], "stopped");
    world.succeeds(&["start", "web"]);
    world.runs("v1");
}

fn at_once() {
    let world = World::new();
    good(&world, "v1");
    good(&world, "v2");
    world.web("v1");
    world.tag("v2");
    let spawn = |_| {
        let mut command = world.berthctl(&["update", "--watch", "300ms", "web"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let all: Vec<_> = (0..3).map(spawn).collect();
    let words: Vec<String> = all
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        })
        .collect();
    let count = |what: &str| words.iter().filter(|words| words.contains(what)).count();
    assert_eq!((count("moved from"), count("nothing to do")), (1, 2), "{words:?}");
    assert_eq!(world.words(), "v1\nv2\n");
}

fn killed_client() {
    let world = World::new();
    good(&world, "v1");
    good(&world, "v2");
    world.web("v1");
    world.tag("v2");
    world.succeeds(&["pull", &world.source("t")]);
    let mut client =
        world.berthctl(&["update", "--no-pull", "--watch", "1s", "web"]).stdout(Stdio::null()).spawn().unwrap();
    world.until("the new one", |world| world.words().contains("v2").then_some(()));
    client.kill().unwrap();
    client.wait().unwrap();
    world.until("the end of the move", |world| {
        let versions = world.versions("web").unwrap();
        (versions["attempt"].is_null() && versions["current"]["digest"] == world.digest("v2").as_str()).then_some(())
    });
    world.runs("v2");
}

fn killed_berthd() {
    let mut world = World::new();
    good(&world, "v1");
    good(&world, "v2");
    world.web("v1");
    let (mut moved, mut stayed) = (0, 0);
    let delays = [0, 1, 2, 3, 5, 8, 12, 16, 20, 25, 30, 40, 60, 90, 150, 400];
    for (round, delay) in delays.into_iter().enumerate() {
        let (from, to) = if round % 2 == 0 { ("v1", "v2") } else { ("v2", "v1") };
        // Whatever came of the last round, this one begins with `from`.
        world.tag(from);
        world.succeeds(&["update", "--watch", "0s", "web"]);
        world.runs(from);
        world.tag(to);
        world.succeeds(&["pull", &world.source("t")]);
        let update = ["update", "--no-pull", "--watch", "200ms", "web"];
        let mut client = world.berthctl(&update).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_millis(delay));
        world.kill();
        client.wait().unwrap();
        world.start();
        let state = world.until("the end of the move", |world| {
            let (versions, state) = (world.versions("web").unwrap(), world.state("web"));
            let same = state["image"]["digest"] == versions["current"]["digest"];
            (versions["attempt"].is_null() && state["state"] == "running" && same).then_some(state)
        });
        let digest = state["image"]["digest"].as_str().unwrap();
        if digest == world.digest(to) {
            moved += 1;
        } else {
            assert_eq!(digest, world.digest(from), "round {round}: {state}");
            stayed += 1;
        }
    }
    assert!(moved > 0 && stayed > 0, "{moved} moved and {stayed} stayed: the delays tell nothing on this machine");
}

fn reboot() {
    let mut world = World::new();
    good(&world, "v1");
    good(&world, "v2");
    world.web("v1");
    world.tag("v2");
    world.succeeds(&["pull", &world.source("t")]);
    let mut client = world.berthctl(&["update", "--no-pull", "--watch", "1h", "web"]).spawn().unwrap();
    let digest = world.digest("v2");
    let main = world.until("the new one", |world| {
        let state = world.state("web");
        let runs = state["state"] == "running" && state["image"]["digest"] == digest.as_str();
        state["main_pid"].as_u64().filter(|_| runs)
    });
    world.until("its word", |world| world.words().contains("v2").then_some(()));
    world.kill();
    client.wait().unwrap();
    // The processes end with the host, and what lies under /run.
    assert!(world.inside("kill").args(["-9", &main.to_string()]).status().unwrap().success());
    world.sh(&format!("rm -r {0}/records {0}/state.json", world.path("/run/berth").display()));
    let file = world.path("/var/lib/berth/versions/web.json");
    let mut versions = world.versions("web").unwrap();
    versions["attempt"]["boot_id"] = "another".into();
    fs::write(file, versions.to_string()).unwrap();
    world.start();
    world.until("its start", |world| (world.state("web")["state"] == "running").then_some(()));
    world.runs("v1");
    assert_eq!(world.state("web")["image"]["held_back"], world.digest("v2").as_str());
    assert_eq!(world.said("was about to move to another image when the host went down"), 1);
}

fn removed_meanwhile() {
    let world = World::new();
    good(&world, "v1");
    world.image("slow", "trap \"\" TERM; echo slow; while :; do sleep 1; done");
    world.web("v1");
    world.tag("slow");
    world.succeeds(&["pull", &world.source("t")]);
    let words = ["update", "--no-pull", "--watch", "1h", "web"];
    let client = world.berthctl(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    world.until("the new one", |world| world.words().contains("slow").then_some(()));
    fs::remove_file(world.path("/etc/berth/containers/web.toml")).unwrap();
    // Whether it was moved before it went away is all one; that it is answered, and nothing comes back, is not.
    client.wait_with_output().unwrap();
    world.until("its end", |world| world.state("web").is_null().then_some(()));
    world.until("the end of the note", |world| world.versions("web").is_none().then_some(()));
    assert_eq!(world.ctl(&["update", "web"]).0, 4);
}
