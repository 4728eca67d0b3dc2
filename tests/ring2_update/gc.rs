//! A store that stays small by itself. Clocks are not waited for: the files' times are moved.

use std::{
    fs::{self, File, FileTimes},
    time::{Duration, SystemTime},
};

use super::{Case, world::World};

pub const ALL: &[Case] = &[
    ("what_was_unused_for_long_is_removed", by_age),
    ("the_longest_unused_goes_first_when_the_store_is_large", by_size),
    ("a_full_disk_is_made_room_on", by_share),
];

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Has berthd read this as its configuration.
fn configure(world: &World, gc: &str) {
    fs::write(world.path("/etc/berth/berthd.toml"), format!("[images.gc]\n{gc}")).unwrap();
    world.succeeds(&["reload"]);
}

/// Makes all times in the store older.
fn age(world: &World, by: Duration) {
    for directory in ["tags", "used"] {
        for entry in fs::read_dir(world.path("/var/lib/berth/images").join(directory)).unwrap().flatten() {
            let file = File::options().write(true).open(entry.path()).unwrap();
            let time = entry.metadata().unwrap().modified().unwrap() - by;
            file.set_times(FileTimes::new().set_modified(time)).unwrap();
        }
    }
}

/// Whether an image is in the store.
fn is_here(world: &World, tag: &str) -> bool {
    world.ctl(&["image", &world.source(tag)]).0 == 0
}

/// Waits until an image is gone.
fn gone(world: &World, tag: &str) {
    world.until(&format!("the end of {tag}"), |world| (!is_here(world, tag)).then_some(()));
}

/// Has berthd look: when it has, something that was put there for it to find is gone.
fn looked(world: &World) {
    world.sh("umoci tag --image l:base bait");
    world.succeeds(&["pull", &world.source("bait")]);
    let path = world.path("/var/lib/berth/images");
    let newest =
        fs::read_dir(path.join("tags")).unwrap().flatten().max_by_key(|e| e.metadata().unwrap().modified().unwrap());
    let long_ago = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH);
    File::options().write(true).open(newest.unwrap().path()).unwrap().set_times(long_ago).unwrap();
    world.succeeds(&["reload"]);
    gone(world, "bait");
}

fn by_age() {
    let world = World::new();
    for tag in ["runs", "old", "young", "named"] {
        world.sleeper(tag, 100);
    }
    world.web("runs");
    world.run("named", &format!("[image]\nsource = \"{}\"\n", world.source("named")));
    world.succeeds(&["stop", "named"]);
    world.succeeds(&["pull", &world.source("old")]);
    // Without a rule nothing is removed.
    age(&world, DAY * 400);
    world.succeeds(&["pull", &world.source("young")]);
    assert!(is_here(&world, "old") && world.said("removed") == 0);
    configure(&world, "max_age = \"30d\"\n");
    gone(&world, "old");
    assert!(is_here(&world, "young") && is_here(&world, "named") && is_here(&world, "t"));
    world.until("the event", |world| (world.said(&format!("removed {}", world.source("old"))) == 1).then_some(()));
    assert!(world.log().contains(": 1 layers, "), "{}", world.log());
    world.succeeds(&["restart", "web"]);
    world.runs("runs");
    world.succeeds(&["start", "named"]);
    // What has been in use until now is as young as can be, however old its import is.
    fs::remove_file(world.path("/etc/berth/containers/named.toml")).unwrap();
    world.until("its end", |world| world.state("named").is_null().then_some(()));
    looked(&world);
    assert!(is_here(&world, "named") && is_here(&world, "young"));
    age(&world, DAY * 31);
    world.succeeds(&["reload"]);
    gone(&world, "young");
    gone(&world, "named");
    // What a container can go back to is in use.
    world.sleeper("next", 100);
    world.tag("next");
    world.succeeds(&["update", "--watch", "0s", "web"]);
    age(&world, DAY * 400);
    looked(&world);
    world.succeeds(&["rollback", "--watch", "0s", "web"]);
    world.runs("runs");
}

fn by_size() {
    let world = World::new();
    for tag in ["runs", "a", "b", "c"] {
        world.sleeper(tag, 3000);
    }
    world.web("runs");
    for tag in ["a", "b", "c"] {
        world.succeeds(&["pull", &world.source(tag)]);
        age(&world, DAY);
    }
    // Some 2 MiB of all, and 3 MiB of each.
    configure(&world, "max_age = \"10000d\"\nhigh_water = \"20MiB\"\n");
    looked(&world);
    assert!(["a", "b", "c", "t"].iter().all(|tag| is_here(&world, tag)));
    configure(&world, "high_water = \"13MiB\"\nlow_water = \"9MiB\"\n");
    gone(&world, "b");
    assert!(!is_here(&world, "a") && is_here(&world, "c") && is_here(&world, "t"));
    // There is no way below what is in use.
    configure(&world, "high_water = \"2MiB\"\nlow_water = \"1MiB\"\n");
    gone(&world, "c");
    assert!(is_here(&world, "t"));
    world.succeeds(&["restart", "web"]);
    world.runs("runs");
}

fn by_share() {
    let world = World::new();
    for tag in ["runs", "a", "b"] {
        world.sleeper(tag, 3000);
    }
    let mount = |world: &World, options: &str| {
        let mut command = world.inside("mount");
        let status = command.args(["-t", "tmpfs", "-o", options, "berth", "/var/lib/berth"]).status();
        assert!(status.unwrap().success());
    };
    mount(&world, "remount,size=20m");
    world.web("runs");
    world.succeeds(&["pull", &world.source("a")]);
    age(&world, DAY);
    configure(&world, "high_water = \"60%\"\nlow_water = \"50%\"\n");
    world.succeeds(&["pull", &world.source("b")]);
    assert!(is_here(&world, "a") && is_here(&world, "b"));
    fs::create_dir_all(world.path("/var/lib/berth/images/pulls/0/parts")).unwrap();
    fs::write(world.path("/var/lib/berth/somebody-elses"), vec![1; 4 << 20]).unwrap();
    world.succeeds(&["reload"]);
    gone(&world, "a");
    assert!(is_here(&world, "t"));
    assert!(!world.path("/var/lib/berth/images/pulls/0").exists());
    world.succeeds(&["restart", "web"]);
    world.runs("runs");
}
