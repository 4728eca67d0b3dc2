//! Volumes of an image's own: what they hold, and that they are whole or not there.
#![allow(clippy::missing_docs_in_private_items, reason = "the name of a case is its sentence")]

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, symlink},
    path::Path,
};

use berth::{
    plan::{Bind, Source, Top},
    state::sandbox,
};

use super::{
    cases::become_user,
    root::{bind, world},
    world::tool,
};

/// All cases by name; a case that returns is good.
pub const ALL: &[(&str, fn())] = &[
    ("populate/a_volume_holds_what_the_image_has", a_volume_holds_what_the_image_has),
    ("populate/what_the_image_lacks_is_the_users", what_the_image_lacks_is_the_users),
    ("populate/a_volume_that_is_there_stays", a_volume_that_is_there_stays),
    ("populate/a_volume_left_half_is_made_anew", a_volume_left_half_is_made_anew),
    ("populate/a_full_disk_leaves_none_half", a_full_disk_leaves_none_half),
    ("populate/a_file_is_no_volume", a_file_is_no_volume),
    ("populate/traps_in_a_sandbox_are_not_followed", traps_in_a_sandbox_are_not_followed),
];

/// A volume of the image's own.
fn own(target: &str) -> Bind {
    bind(Source::Populated(sandbox::image_volume(Path::new(target))), target, false)
}

/// All that a tree is, as find(1), getfattr(1) and du(1) see it.
fn whole(tree: &Path) -> String {
    let script = "cd \"$0\" && find . -printf '%p %y %m %U %G %T@ %l\\n' | sort && \
                  find . ! -type d -printf '%n %p\\n' | sort && find . -type f -exec sha256sum {} + | sort && \
                  getfattr -R -h -d -m - . | sort && du -k holes && stat -c '%t %T' null";
    tool(&["sh", "-ec", script, tree.to_str().unwrap()])
}

/// Makes a directory with everything that a tree can have.
fn everything(directory: &Path) {
    let script = "mkdir -p \"$0/deep/er\"; cd \"$0\"; echo text > deep/er/file; ln deep/er/file other; \
                  ln -s ../deep deep/link; ln -s nowhere dangling; mkfifo pipe; mknod null c 1 3; \
                  truncate -s 64M holes; printf x | dd of=holes bs=1 seek=40M conv=notrunc status=none; \
                  cp /bin/true tool; chown 9:9 tool; chmod 4755 tool; setfattr -n user.note -v yes deep; \
                  chown 4321:1234 deep/er/file; setcap cap_net_raw+ep deep/er/file; chown -h 7:8 dangling; \
                  chown 1:2 deep; chmod 1770 deep; chmod 700 .; chown 70:71 .; \
                  touch -h -d '2001-02-03 04:05:06.789' dangling deep/er/file deep/er deep/link deep tool pipe .";
    tool(&["sh", "-ec", script, directory.to_str().unwrap()]);
}

fn a_volume_holds_what_the_image_has() {
    // What lies above it does not change what it is filled with.
    let binds = vec![bind(Source::Sandbox("above".into()), "/var", false), own("/var/lib/a-b")];
    let world = world("cat /var/lib/a-b/other", Top::Upper, binds, |image| {
        everything(&image.join("data"));
        fs::create_dir_all(image.join("var/lib")).unwrap();
        symlink("../../data", image.join("var/lib/a-b")).unwrap();
    });
    fs::create_dir(world.at("disk/sandbox/above")).unwrap();
    assert_eq!(world.launch().output(), "text\n");
    let volume = world.at("disk/sandbox/volumes/var-lib-a\\x2db");
    assert_eq!(whole(&volume), whole(&world.at("disk/image/data")));
    let [file, other] = ["deep/er/file", "other"].map(|path| fs::metadata(volume.join(path)).unwrap().ino());
    assert_eq!(file, other);
}

fn what_the_image_lacks_is_the_users() {
    let mut world = world("echo new > /none/new; stat -c '%u %g %a' /none", Top::Upper, vec![own("/none")], |_| ());
    become_user(&mut world, 4321, 4321, &[]);
    tool(&["chmod", "755", world.at("disk/image").to_str().unwrap()]);
    assert_eq!(world.launch().output(), "4321 4321 755\n");
    assert_eq!(fs::read_to_string(world.at("disk/sandbox/volumes/none/new")).unwrap(), "new\n");
}

fn a_volume_that_is_there_stays() {
    let world = world("touch /data/new && ls /data", Top::ReadOnly, vec![own("/data")], |image| {
        ["proc", "sys", "dev", "data"].into_iter().for_each(|name| fs::create_dir(image.join(name)).unwrap());
        fs::write(image.join("data/of-the-image"), "").unwrap();
    });
    fs::create_dir_all(world.at("disk/sandbox/volumes/data")).unwrap();
    fs::write(world.at("disk/sandbox/volumes/data/kept"), "").unwrap();
    // A root that is read-only has volumes that are not.
    assert_eq!(world.launch().output(), "kept\nnew\n");
}

fn a_volume_left_half_is_made_anew() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("kept"), "").unwrap();
    let world = world("ls -A /data", Top::Upper, vec![own("/data")], |image| {
        fs::create_dir(image.join("data")).unwrap();
        fs::write(image.join("data/whole"), "").unwrap();
    });
    let half = world.at("disk/sandbox/volumes/data~");
    fs::create_dir_all(half.join("deep")).unwrap();
    symlink(outside.path(), half.join("deep/link")).unwrap();
    assert_eq!(world.launch().output(), "whole\n");
    assert_eq!(fs::read_dir(world.at("disk/sandbox/volumes")).unwrap().count(), 1);
    assert!(outside.path().join("kept").exists());
}

fn a_full_disk_leaves_none_half() {
    let world = world("true", Top::Upper, vec![own("/data")], |image| {
        fs::create_dir(image.join("data")).unwrap();
        fs::write(image.join("data/large"), vec![1; 4 << 20]).unwrap();
    });
    let sandbox = world.at("disk/sandbox");
    tool(&["mount", "-t", "tmpfs", "-o", "size=1m", "small", sandbox.to_str().unwrap()]);
    let (_, failure) = world.launch().failure();
    tool(&["sh", "-c", "ls -A \"$0/volumes\" | grep -qx 'data~' && rm -r \"$0/volumes\"", sandbox.to_str().unwrap()]);
    tool(&["umount", sandbox.to_str().unwrap()]);
    assert!(failure.message.contains("cannot fill the image's volume /data: No space left"), "{failure:?}");
    assert!(failure.message.contains("make room"), "{failure:?}");
}

fn a_file_is_no_volume() {
    let world = world("true", Top::Upper, vec![own("/file")], |image| fs::write(image.join("file"), "").unwrap());
    let (_, failure) = world.launch().failure();
    assert!(failure.message.contains("the image has a file there"), "{failure:?}");
}

fn traps_in_a_sandbox_are_not_followed() {
    let outside = tempfile::tempdir().unwrap();
    for trap in ["volumes", "volumes/data"] {
        let world = world("true", Top::Upper, vec![own("/data")], |_| ());
        let path = world.at("disk/sandbox").join(trap);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(outside.path(), path).unwrap();
        let (_, failure) = world.launch().failure();
        assert!(failure.message.contains("cannot make the image's volume /data"), "{failure:?}");
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}
