//! The store: killed, crowded, full, and cleaned up.

use std::{fs, os::unix::process::CommandExt as _, path::Path, process::Stdio, thread, time::Duration};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::{
    Case,
    world::{World, assert_same, tree},
};

pub const ALL: &[Case] = &[
    ("an_import_that_is_killed_leaves_nothing_half", killed),
    ("imports_at_once_unpack_once", at_once),
    ("a_full_disk_leaves_nothing_half", full),
    ("nothing_in_use_is_removed", in_use),
    ("a_moved_tag_keeps_the_way_back", moved),
    ("images_are_shown", shown),
    ("a_check_knows_what_an_image_runs", checked),
];

/// An image of three layers, of some megabytes and some thousand files.
fn build(world: &World) {
    world.sh(r#"umoci init --layout l; umoci new --image l:t; umoci unpack --image l:t b >/dev/null
        for layer in 1 2 3; do
            mkdir -p b/rootfs/d$layer; head -c 3000000 /dev/urandom >b/rootfs/d$layer/big
            for i in $(seq 300); do echo $i >b/rootfs/d$layer/$i; done
            umoci repack --refresh-bundle --image l:t b >/dev/null
        done"#);
}

fn killed() {
    let world = World::new();
    build(&world);
    for delay in (0..120).step_by(4) {
        let mut child =
            world.berthctl(&["pull", "oci:l:t"]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_millis(delay));
        child.kill().unwrap();
        child.wait().unwrap();
        // Whatever is found is whole.
        if let Some(image) = world.store().find(&world.source("oci:l:t")).unwrap() {
            assert_eq!(world.shown(&image).len(), 1 + 3 * 302);
            world.succeeds(&["rmi", "oci:l:t"]);
        }
    }
    let image = world.pull("oci:l:t");
    world.sh("umoci unpack --image l:t theirs >/dev/null");
    assert_same(&world.shown(&image), &tree(&world.at("theirs/rootfs")));
    world.succeeds(&["prune"]);
    assert!(world.leftovers().is_empty(), "{:?}", world.leftovers());
    assert_eq!(fs::read_dir(world.at("host/var/lib/berth/images/layers")).unwrap().count(), 0);
}

fn at_once() {
    let world = World::new();
    build(&world);
    let spawn = |_| world.berthctl(&["pull", "oci:l:t"]).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let all: Vec<_> = (0..6).map(spawn).collect();
    let words: Vec<String> = all
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            let words = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.success(), "{words}");
            words
        })
        .collect();
    let count = |what: &str| words.iter().flat_map(|words| words.lines()).filter(|line| line.ends_with(what)).count();
    assert_eq!((count(" unpacked"), count(" here already")), (3, 15), "{words:#?}");
}

fn full() {
    let world = World::new();
    build(&world);
    let store = world.at("host/var/lib/berth/images");
    fs::create_dir_all(&store).unwrap();
    mount("tmpfs", &store, "tmpfs", MountFlags::empty(), Some(c"size=5m")).unwrap();
    let error = world.fails(&["pull", "oci:l:t"]);
    assert!(error.contains("unpack '") && error.contains("make room"), "{error}");
    assert!(world.leftovers().is_empty(), "{:?}", world.leftovers());
    assert_eq!(fs::read_dir(store.join("layers")).unwrap().count(), 0);
    rustix::mount::mount_remount(&store, MountFlags::empty(), c"size=50m").unwrap();
    world.pull("oci:l:t");
    unmount(&store, UnmountFlags::empty()).unwrap();
}

fn in_use() {
    let world = World::new();
    build(&world);
    world.sh("skopeo copy -q oci:l:t oci-archive:a.tar:x");
    let image = world.pull("oci:l:t");
    world.pull("oci-archive:a.tar");
    let record = world.at("host/run/berth/records/web.json");
    fs::create_dir_all(record.parent().unwrap()).unwrap();
    let spec = world.at("host/etc/berth/containers/web.toml");
    fs::create_dir_all(spec.parent().unwrap()).unwrap();

    fs::write(&spec, format!("[image]\nsource = \"{}\"\n", image.source)).unwrap();
    let error = world.fails(&["rmi", "oci:l:t"]);
    assert!(error.contains("a container's file names it"), "{error}");
    let gone = world.succeeds(&["prune"]);
    assert!(gone.contains("a.tar") && gone.contains("0 layers removed"), "{gone}");

    fs::remove_file(&spec).unwrap();
    fs::write(&record, format!("{{\"image\":\"{}\"", image.digest)).unwrap();
    let error = world.fails(&["rmi", "oci:l:t"]);
    assert!(error.contains("a container runs with it"), "{error}");
    assert!(world.succeeds(&["prune"]).contains("0 layers"));

    fs::write(&record, format!("{{\"lower\":\"{}\"", image.layers[1].display())).unwrap();
    assert!(world.succeeds(&["rmi", "oci:l:t"]).contains("2 layers removed"));
    assert!(image.layers[1].is_dir() && !image.layers[0].exists());
    fs::remove_file(&record).unwrap();
    assert!(world.succeeds(&["prune"]).contains("1 layer removed"));
    let error = world.fails(&["rmi", "oci:l:t"]);
    assert!(error.contains("there is no image"), "{error}");

    // Whoever is about to use an image is waited for.
    world.pull("oci:l:t");
    let hold = world.store().hold().unwrap();
    let mut prune = world.berthctl(&["prune"]).stdout(Stdio::null()).process_group(0).spawn().unwrap();
    thread::sleep(Duration::from_millis(300));
    assert!(prune.try_wait().unwrap().is_none());
    drop(hold);
    assert!(prune.wait().unwrap().success());
    assert!(world.store().tags().unwrap().0.is_empty());
}

fn moved() {
    let world = World::new();
    build(&world);
    let first = world.pull("oci:l:t");
    for round in 0..2 {
        world.sh(&format!("echo {round} >b/rootfs/new; umoci repack --refresh-bundle --image l:t b >/dev/null"));
        world.pull("oci:l:t");
    }
    let tag = world.store().tag(&first.source).unwrap().unwrap();
    assert_eq!((tag.former.len(), tag.current.layers.len()), (1, 5));
    assert!(tag.former[0].digest != tag.current.digest && tag.former[0].digest != first.digest);
    world.pull("oci:l:t");
    assert_eq!(world.store().tag(&first.source).unwrap().unwrap().former, tag.former, "the same again moves nothing");
}

fn shown() {
    let world = World::new();
    build(&world);
    world.sh("umoci config --image l:t --config.user www --config.entrypoint /bin/x --config.env A=b");
    let image = world.pull("oci:l:t");
    let table = world.succeeds(&["images"]);
    assert!(table.contains(image.digest.short()) && table.contains(&image.source.to_string()), "{table}");
    let sheet = world.succeeds(&["image", "oci:l:t"]);
    for part in ["Entrypoint  \"/bin/x\"", "User  www", "Env  A=b", &image.digest.to_string()] {
        assert!(sheet.contains(part), "{part}: {sheet}");
    }
    let sheet: serde_json::Value = serde_json::from_str(&world.succeeds(&["--json", "image", "oci:l:t"])).unwrap();
    assert_eq!(sheet["layers"].as_array().unwrap().len(), 3);
    assert!(sheet["bytes"].as_u64().unwrap() > 9_000_000);
    let error = world.fails(&["image", "oci:l:u"]);
    assert!(error.contains("did you mean") && error.contains("l:t"), "{error}");
    let error = world.fails(&["pull", "ocl:l"]);
    assert!(error.contains("did you mean \"oci:\""), "{error}");
    assert!(Path::new(&world.at("host/var/lib/berth/images/layers")).is_dir());
}

/// A spec that leaves its command to an image: a note where that is not here, an error where it names no program.
fn checked() {
    let world = World::new();
    world.sh("umoci init --layout l; umoci new --image l:silent; umoci new --image l:says
        umoci config --image l:says --config.cmd /bin/x");
    let write = |name: &str, command: &str| {
        let source = world.source(&format!("oci:l:{name}"));
        let spec = world.at(&format!("host/etc/berth/containers/{name}.toml"));
        fs::create_dir_all(spec.parent().unwrap()).unwrap();
        fs::write(&spec, format!("{command}[image]\nsource = \"{source}\"\n")).unwrap();
    };
    write("silent", "");
    write("says", "");
    let said = world.succeeds(&["check", "--strict"]);
    for name in ["silent", "says"] {
        assert!(said.contains(&format!("l:{name} is not in the store")), "{said}");
        assert!(said.contains(&format!("containers/{name}.toml:2:10")), "{said}");
    }
    world.pull("oci:l:says");
    world.pull("oci:l:silent");
    for (command, missing) in [
        ("", "the image has neither Entrypoint nor Cmd"),
        ("command = { shell = false, arguments = [\"a\"] }\n", "`command.arguments` alone name none"),
    ] {
        write("silent", command);
        let output = world.output(&["--json", "check"]);
        assert_eq!(output.status.code(), Some(2));
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let found = found["diagnostics"].as_array().unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((&found[0]["severity"], &found[0]["key"]), (&"error".into(), &"image.source".into()));
        assert_eq!(found[0]["line"], if command.is_empty() { 2 } else { 3 });
        assert!(found[0]["message"].as_str().unwrap().contains(missing), "{found:?}");
    }
    write("silent", "command = [\"/bin/true\"]\n");
    assert!(world.succeeds(&["check"]).contains("2 specs, 0 errors, 0 warnings"));
}
