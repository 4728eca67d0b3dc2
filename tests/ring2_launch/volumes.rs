//! Volumes of every kind, with a root of the container's own and without; findmnt(8) and stat(1) are the judges.
#![allow(clippy::missing_docs_in_private_items, reason = "the name of a case is its sentence")]

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use berth::{
    plan::{Action, Bind, Made, Source, Top},
    protocol::{Failure, Stage},
    spec::{Bytes, MountOption, Propagation},
};
use nix::sys::wait::WaitStatus;

use super::{
    root::{bind, world},
    world::{World, end_of, tool},
};

/// All cases by name; a case that returns is good.
pub const ALL: &[(&str, fn())] = &[
    ("volumes/tmpfs_has_size_mode_and_owner", tmpfs_has_size_mode_and_owner),
    ("volumes/options_are_added_recursively", options_are_added_recursively),
    ("volumes/read_only_covers_itself", read_only_covers_itself),
    ("volumes/an_image_is_seen_and_not_changed", an_image_is_seen_and_not_changed),
    ("volumes/a_part_of_an_image_stays_in_it", a_part_of_an_image_stays_in_it),
    ("volumes/a_part_of_the_host_stays_in_it", a_part_of_the_host_stays_in_it),
    ("volumes/relative_places_are_in_the_sandbox", relative_places_are_in_the_sandbox),
    ("volumes/what_lies_in_another_comes_after_it", what_lies_in_another_comes_after_it),
    ("volumes/nothing_is_made_on_the_host", nothing_is_made_on_the_host),
    ("volumes/links_of_an_image_lead_to_itself", links_of_an_image_lead_to_itself),
    ("volumes/planted_links_are_not_followed", planted_links_are_not_followed),
    ("volumes/mounts_of_the_host_arrive_where_wanted", mounts_of_the_host_arrive_where_wanted),
    ("volumes/mounts_of_the_container_reach_the_host_where_wanted", mounts_reach_the_host_where_wanted),
];

/// A world without a root of its own, whose script finds the directory of the world in `$W`.
fn plain(script: &str, binds: impl Fn(&World) -> Vec<Bind>) -> World {
    let mut world = World::script(script);
    let here = world.directory.path().display().to_string();
    world.plan.program.environment.push(("W".to_owned(), here));
    let volumes = binds(&world);
    world.mount(Action::Bind { binds: Vec::new() });
    volumes.into_iter().for_each(|bind| world.plan.show(bind));
    world
}

/// A host's directory.
fn directory(path: PathBuf) -> PathBuf {
    fs::create_dir_all(&path).unwrap();
    path
}

/// All that a tree is, as find(1) sees it.
fn whole(tree: &Path) -> String {
    tool(&["find", tree.to_str().unwrap(), "-printf", "%p %y %m %U:%G %s %T@ %l\n"])
}

/// The start fails at its mounts.
fn refused(world: &World) -> Failure {
    let (status, failure) = world.launch().failure();
    assert_eq!((status, failure.stage), (226, Stage::Mounts), "{failure:?}");
    failure
}

/// What findmnt(8) says of a mount, by a table that the container has written down.
fn options(table: &str, target: &str) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), table).unwrap();
    tool(&["findmnt", "--tab-file", file.path().to_str().unwrap(), "-no", "OPTIONS,FS-OPTIONS", target])
}

fn tmpfs(size: Option<u64>, mode: u32, owner: Option<(u32, u32)>, target: &str) -> Bind {
    let ownership = Made { mode, owner };
    bind(Source::Tmpfs { size: size.map(Bytes), ownership }, target, false)
}

fn tmpfs_has_size_mode_and_owner() {
    let mut limited = tmpfs(Some(1 << 20), 0o2770, Some((7, 8)), "/run/own");
    limited.options.insert(MountOption::Noexec);
    let binds = vec![tmpfs(None, 0o700, None, "/tmp"), limited];
    let script = "stat -c '%a %u:%g' /run/own /tmp; (cat /dev/zero > /run/own/full) 2>/dev/null; \
                  stat -c %s /run/own/full; cat /proc/self/mountinfo";
    let mut world = world(script, Top::Upper, binds, |_| ());
    for step in &mut world.plan.steps {
        if let Action::SetIdentity { .. } = &step.action {
            step.action = Action::SetIdentity { uid: 9, gid: 10, groups: vec![8] };
        }
    }
    // Of the sandbox, which the script starts in.
    tool(&["chown", "9:10", world.at("disk/sandbox").to_str().unwrap()]);
    let said = world.launch().output();
    let table = said.strip_prefix("2770 7:8\n700 9:10\n1048576\n").unwrap_or_else(|| panic!("{said}"));
    let found = options(table, "/run/own");
    for option in ["nosuid", "nodev", "noexec", "size=1024k", "mode=2770", "uid=7", "gid=8"] {
        assert!(found.contains(option), "{option}: {found}");
    }
    let found = options(table, "/tmp");
    assert!(found.contains("nosuid,nodev") && !found.contains("noexec") && !found.contains("size="), "{found}");
}

fn options_are_added_recursively() {
    let world = plain("cat /proc/self/mountinfo", |world| {
        let source = directory(world.at("source"));
        tool(&["mount", "-t", "tmpfs", "-o", "nodev", "x", source.to_str().unwrap()]);
        let below = directory(source.join("below"));
        tool(&["mount", "-t", "tmpfs", "-o", "noexec", "x", below.to_str().unwrap()]);
        let mut volume = bind(Source::Host(source), directory(world.at("target")).to_str().unwrap(), false);
        volume.options.insert(MountOption::Nosuid);
        vec![volume]
    });
    let said = world.launch().output();
    let target = world.at("target");
    assert!(options(&said, target.to_str().unwrap()).starts_with("rw,nosuid,nodev,relatime"), "{said}");
    let below = options(&said, target.join("below").to_str().unwrap());
    assert!(below.starts_with("rw,nosuid,noexec,relatime"), "{below}");
    // The host's own mounts are as they were.
    let host = tool(&["findmnt", "-no", "OPTIONS", world.at("source").to_str().unwrap()]);
    assert!(host.starts_with("rw,nodev"), "{host}");
    tool(&["umount", "-R", world.at("source").to_str().unwrap()]);
}

/// Mesos left a read-only volume writable whose two paths were one.
fn read_only_covers_itself() {
    let world = plain("(echo x > $W/data/file) 2>/dev/null && echo wrote; cat $W/data/there", |world| {
        let source = directory(world.at("data"));
        fs::write(source.join("there"), "here\n").unwrap();
        vec![bind(Source::Host(source.clone()), source.to_str().unwrap(), true)]
    });
    assert_eq!(world.launch().output(), "here\n");
    fs::write(world.at("data/file"), "of the host").unwrap();
}

/// Two layers of an image, with a link in it.
fn image(at: &Path) -> Source {
    let (lower, upper) = (directory(at.join("layers/lower")), directory(at.join("layers/upper")));
    for (layer, name) in [(&lower, "lower"), (&upper, "upper")] {
        directory(layer.join("usr/share"));
        fs::write(layer.join("usr/share/which"), name).unwrap();
        fs::write(layer.join("usr/share").join(name), "").unwrap();
    }
    symlink("/usr/share", lower.join("share")).unwrap();
    symlink("/../../../../../../../etc", lower.join("out")).unwrap();
    let source = format!("rootfs:{}", lower.display()).parse().unwrap();
    Source::Image { source, digest: None, layers: vec![lower, upper] }
}

fn an_image_is_seen_and_not_changed() {
    for (layers, seen) in [(2, "lower\nupper\nwhich\nupper"), (1, "lower\nwhich\nlower")] {
        let outside = tempfile::tempdir().unwrap();
        let mut image = image(outside.path());
        if let Source::Image { layers: all, .. } = &mut image {
            all.truncate(layers);
        }
        let script = "ls /made/assets/usr/share; cat /made/assets/usr/share/which; \
                      (echo x > /made/assets/usr/share/which) 2>/dev/null && echo wrote; touch /beside";
        // It is read-only whatever the plan says.
        let world = world(script, Top::Upper, vec![bind(image, "/made/assets", false)], |_| ());
        let before = whole(outside.path());
        assert_eq!(world.launch().output(), seen);
        assert_eq!(whole(outside.path()), before);
    }
}

fn a_part_of_an_image_stays_in_it() {
    // What a subpath is, and what is seen: links lead where they would in the image.
    for (subpath, seen) in [("usr/share", "lower\nupper\nwhich\n"), ("share", "lower\nupper\nwhich\n")] {
        let world = plain("ls $W/target", |world| {
            let target = directory(world.at("target"));
            let part = Bind { subpath: Some(subpath.into()), ..Bind::new(image(world.directory.path()), target, true) };
            vec![part]
        });
        assert_eq!(world.launch().output(), seen, "{subpath}");
        assert_eq!(fs::read_dir(world.at("sandbox")).unwrap().count(), 0, "nothing is left over the sandbox");
    }
    // The image has no /etc, and the host's is out of reach.
    let world = plain("true", |world| {
        let target = directory(world.at("target"));
        vec![Bind { subpath: Some("out".into()), ..Bind::new(image(world.directory.path()), target, true) }]
    });
    let failure = refused(&world);
    assert_eq!(failure.errno, Some(libc::ENOENT), "{failure:?}");
}

fn a_part_of_the_host_stays_in_it() {
    let make = |subpath: &str| {
        let subpath = PathBuf::from(subpath);
        plain("cat $W/target/name", move |world| {
            let source = directory(world.at("source"));
            fs::write(directory(source.join("deep/er")).join("name"), "deep\n").unwrap();
            symlink("deep/er", source.join("inner")).unwrap();
            symlink("/etc", source.join("absolute")).unwrap();
            symlink("../../..", source.join("deep/upward")).unwrap();
            let target = directory(world.at("target"));
            vec![Bind { subpath: Some(subpath.clone()), ..Bind::new(Source::Host(source), target, false) }]
        })
    };
    for inside in ["deep/er", "inner"] {
        assert_eq!(make(inside).launch().output(), "deep\n", "{inside}");
    }
    for (outside, errno) in [("absolute", libc::EXDEV), ("deep/upward/etc", libc::EXDEV), ("nothing", libc::ENOENT)] {
        let failure = refused(&make(outside));
        assert_eq!(failure.errno, Some(errno), "{outside}: {failure:?}");
        assert!(failure.message.contains("subpath") && failure.message.contains(outside), "{failure:?}");
    }
}

/// Mesos's `ROOT_VolumeFromHostSandboxMountPoint` and `ROOT_FileVolumeFromHostSandboxMountPoint`, with a root and without.
fn relative_places_are_in_the_sandbox() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("file"), "host\n").unwrap();
    let volumes = || {
        let whole = Source::Host(outside.path().to_owned());
        let file = Source::Host(outside.path().join("file"));
        vec![bind(file, "one/file", true), bind(whole, "deep/er", true)]
    };
    let script = "cat deep/er/file one/file $BERTH_SANDBOX/deep/er/file; (echo x > one/file) 2>/dev/null && echo wrote; \
                  true";
    let mut with = world(script, Top::Upper, volumes(), |_| ());
    with.plan.program.environment.push(("BERTH_SANDBOX".to_owned(), "/mnt/berth/sandbox".to_owned()));
    assert_eq!(with.launch().output(), "host\nhost\nhost\n");
    assert!(with.at("disk/sandbox/deep/er").is_dir() && with.at("disk/sandbox/one/file").is_file());
    let without = plain(&script.replace("$BERTH_SANDBOX", "$W/sandbox"), |_| volumes());
    assert_eq!(without.launch().output(), "host\nhost\nhost\n");
    assert!(without.at("sandbox/deep/er").is_dir() && without.at("sandbox/one/file").is_file());
    assert_eq!(fs::read_to_string(outside.path().join("file")).unwrap(), "host\n");
}

fn what_lies_in_another_comes_after_it() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(directory(outside.path().join("cache")).join("host"), "").unwrap();
    let before = whole(outside.path());
    let volumes = |at: &Path| {
        let target = |path: &str| at.join(path).display().to_string();
        vec![
            tmpfs(None, 0o755, None, &target("data/cache")),
            bind(Source::Sandbox("deepest".into()), &target("data/cache/made/here"), false),
            bind(Source::Host(outside.path().to_owned()), &target("data"), false),
        ]
    };
    let script = "ls $W/data $W/data/cache; echo x > $W/data/cache/made/here/file; ls $W/data/cache/made";
    let without = plain(script, |world| {
        directory(world.at("data"));
        directory(world.at("sandbox/deepest"));
        volumes(world.directory.path())
    });
    let said = without.launch().output();
    let here = without.directory.path().display().to_string();
    assert_eq!(said.replace(&here, ""), "/data:\ncache\n\n/data/cache:\nmade\nhere\n");
    assert!(without.at("sandbox/deepest/file").is_file());
    let mut with = world(script, Top::Upper, vec![], |_| ());
    with.plan.program.environment.push(("W".to_owned(), String::new()));
    directory(with.at("disk/sandbox/deepest"));
    volumes(Path::new("/")).into_iter().for_each(|bind| with.plan.show(bind));
    assert_eq!(with.launch().output(), said.replace(&here, ""));
    assert_eq!(whole(outside.path()), before);
}

fn nothing_is_made_on_the_host() {
    let outside = tempfile::tempdir().unwrap();
    let before = whole(outside.path());
    for read_only in [true, false] {
        let volumes = vec![
            bind(Source::Host(outside.path().to_owned()), "/data", read_only),
            tmpfs(None, 0o755, None, "/data/none"),
        ];
        let failure = refused(&world("true", Top::Upper, volumes, |_| ()));
        let words = format!("make none in {}", outside.path().display());
        assert!(failure.errno == Some(libc::ENOENT) && failure.message.contains(&words), "{failure:?}");
    }
    // Nor in a root that is read-only.
    let volumes = vec![bind(Source::Host(outside.path().to_owned()), "/none", false)];
    let kernels = |image: &Path| {
        for name in ["proc", "sys", "dev"] {
            directory(image.join(name));
        }
    };
    let failure = refused(&world("true", Top::ReadOnly, volumes, kernels));
    assert!(failure.errno == Some(libc::EROFS) && failure.message.contains("make it in the image"), "{failure:?}");
    assert_eq!(whole(outside.path()), before);
}

fn planted_links_are_not_followed() {
    // In the sandbox and in a volume, which earlier runs and others can write to: as places of volumes.
    let plant = |at: PathBuf| symlink("/etc", directory(at).join("trap")).unwrap();
    let before = whole(Path::new("/etc"));
    let outside = tempfile::tempdir().unwrap();
    plant(outside.path().to_owned());
    for target in ["trap", "trap/new", "/mnt/berth/sandbox/trap", "/data/trap", "/own/trap/new"] {
        let mut with = world("true", Top::Upper, vec![], |_| ());
        plant(with.at("disk/sandbox"));
        plant(with.at("disk/sandbox/own"));
        let host = Source::Host(outside.path().to_owned());
        with.plan.show(bind(host, "/data", false));
        with.plan.show(bind(Source::Sandbox("own".into()), "/own", false));
        with.plan.show(tmpfs(None, 0o755, None, target));
        let failure = refused(&with);
        assert!(failure.errno == Some(libc::ELOOP) && failure.message.contains("not followed"), "{failure:?}");
    }
    for target in ["trap", "target/trap"] {
        let without = plain("true", |world| {
            plant(world.at("sandbox"));
            let over = directory(world.at("target"));
            let target = if target == "trap" { PathBuf::from(target) } else { world.at(target) };
            vec![
                bind(Source::Host(outside.path().to_owned()), over.to_str().unwrap(), false),
                tmpfs(None, 0o755, None, target.to_str().unwrap()),
            ]
        });
        let failure = refused(&without);
        assert!(failure.errno == Some(libc::ELOOP) && failure.message.contains("not followed"), "{failure:?}");
    }
    assert_eq!(whole(Path::new("/etc")), before);
}

fn links_of_an_image_lead_to_itself() {
    let outside = tempfile::tempdir().unwrap();
    let seen = outside.path().display().to_string();
    fs::write(outside.path().join("file"), "host\n").unwrap();
    let before = whole(outside.path());
    let source = tempfile::tempdir().unwrap();
    fs::write(source.path().join("file"), "volume\n").unwrap();
    let volumes = vec![
        bind(Source::Host(source.path().to_owned()), "/absolute/made", false),
        bind(image(source.path()), "/upward/image", true),
        tmpfs(None, 0o755, None, "/upward/memory"),
        bind(Source::Host(source.path().join("file")), "/absolute/one", false),
    ];
    // All of it is in the image's directory of that name, and none on the host's.
    let script = format!("ls {seen}; cat {seen}/made/file {seen}/one; ls {seen}/image; touch {seen}/memory/x");
    let world = world(&script, Top::Upper, volumes, |image| {
        directory(image.join(seen.trim_start_matches('/')));
        symlink(&seen, image.join("absolute")).unwrap();
        symlink(format!("../../../../../../../..{seen}"), image.join("upward")).unwrap();
    });
    assert_eq!(world.launch().output(), "image\nmade\nmemory\none\nvolume\nvolume\nout\nshare\nusr\n");
    assert_eq!(whole(outside.path()), before);
}

/// A shared mount with a directory in it, as a host of systemd has one.
fn shared(at: PathBuf) -> PathBuf {
    let at = directory(at);
    tool(&["mount", "-t", "tmpfs", "x", at.to_str().unwrap()]);
    tool(&["mount", "--make-shared", at.to_str().unwrap()]);
    directory(at.join("late"));
    at
}

fn mounts_of_the_host_arrive_where_wanted() {
    let outside = tempfile::tempdir().unwrap();
    for (propagation, seen) in [(Propagation::Private, ""), (Propagation::HostToContainer, "file\n")] {
        let source = shared(outside.path().join("shared"));
        nix::unistd::mkfifo(&source.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let volume = Bind { propagation, ..bind(Source::Host(source.clone()), "/data", false) };
        let world = world("cat /data/pipe; ls /data/late", Top::Upper, vec![volume], |_| ());
        let mut run = world.launch();
        assert!(run.launched().success(), "{}", run.stderr());
        tool(&["mount", "-t", "tmpfs", "x", source.join("late").to_str().unwrap()]);
        fs::write(source.join("late/file"), "").unwrap();
        fs::write(source.join("pipe"), "").unwrap();
        let status = end_of(run.main_pid());
        assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?} {}", run.stderr());
        assert_eq!(run.stdout(), seen, "{propagation:?}");
        tool(&["umount", "-R", source.to_str().unwrap()]);
    }
}

/// Mesos's `ROOT_MountPropagation`, with a root of the container's own, too.
fn mounts_reach_the_host_where_wanted() {
    let outside = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs inner $T/late && touch $T/late/inner; echo done";
    for (propagation, with_root) in [
        (Propagation::Bidirectional, true),
        (Propagation::Bidirectional, false),
        (Propagation::HostToContainer, true),
        (Propagation::Private, false),
    ] {
        let source = shared(outside.path().join("shared"));
        let volume = |target: &str| Bind { propagation, ..bind(Source::Host(source.clone()), target, false) };
        let mut world = match with_root {
            true => world(script, Top::Upper, vec![volume("/data")], |_| ()),
            false => plain(script, |world| vec![volume(directory(world.at("data")).to_str().unwrap())]),
        };
        let target = if with_root { PathBuf::from("/data") } else { world.at("data") };
        world.plan.program.environment.push(("T".to_owned(), target.display().to_string()));
        assert_eq!(world.launch().output(), "done\n");
        let reached = source.join("late/inner").exists();
        assert_eq!(reached, propagation == Propagation::Bidirectional, "{propagation:?} {with_root}");
        // The rest of the container's mounts stays its own.
        let mine = tool(&["findmnt", "-rno", "TARGET"]);
        assert!(!mine.lines().any(|target| target == world.at("data").to_str().unwrap()), "{mine}");
        tool(&["umount", "-R", source.to_str().unwrap()]);
    }
}
