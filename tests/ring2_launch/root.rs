//! A root of the container's own: what is in it, what is not, and what a hostile one can do.
#![allow(clippy::missing_docs_in_private_items, reason = "the name of a case is its sentence")]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use berth::{
    plan::{Action, Base, Bind, EtcFile, Namespace, Phase, Source, Top},
    state::sandbox,
    sys::mount::{self, LayerOptions},
};
use nix::sched::{CloneFlags, unshare};

use super::world::{World, step, tool};

/// All cases by name; a case that returns is good.
pub const ALL: &[(&str, fn())] = &[
    ("root/the_container_sees_its_own", the_container_sees_its_own),
    ("root/nothing_of_the_host_is_left", nothing_of_the_host_is_left),
    ("root/changes_are_the_runs", changes_are_the_runs),
    ("root/writable_is_the_directory_itself", writable_is_the_directory_itself),
    ("root/read_only_takes_no_change", read_only_takes_no_change),
    ("root/layers_are_stacked", layers_are_stacked),
    ("root/as_many_layers_as_overlayfs_takes_are_stacked", as_many_layers_as_overlayfs_takes_are_stacked),
    ("root/an_older_kernel_stacks_as_many", an_older_kernel_stacks_as_many),
    ("root/the_kernels_paths_are_masked", the_kernels_paths_are_masked),
    ("root/volumes_cover_what_they_should", volumes_cover_what_they_should),
    ("root/a_hostile_image_reaches_nothing", a_hostile_image_reaches_nothing),
    ("root/links_for_the_kernels_trees_are_refused", links_for_the_kernels_trees_are_refused),
    ("root/in_place_without_a_pid_namespace", in_place_without_a_pid_namespace),
];

/// Programs of every root here.
const PROGRAMS: [&str; 10] = ["sh", "cat", "ls", "mkdir", "touch", "stat", "readlink", "uname", "mount", "id"];

/// A root with a few programs and what they are linked to.
fn tree(directory: &Path) {
    for program in PROGRAMS {
        let program = PathBuf::from(tool(&["sh", "-c", &format!("command -v {program}")]).trim());
        copy(&program, directory);
        let linked = Command::new("ldd").arg(&program).output().unwrap();
        for word in String::from_utf8(linked.stdout).unwrap().split_whitespace().filter(|word| word.starts_with('/')) {
            copy(Path::new(word), directory);
        }
    }
}

/// Copies a file to the same place below `directory`.
fn copy(file: &Path, directory: &Path) {
    let target = directory.join(file.strip_prefix("/").unwrap());
    fs::create_dir_all(target.parent().unwrap()).unwrap();
    fs::copy(file, target).unwrap();
}

/// A world whose container runs a script in a root of its own, which `spoil` has had in its hands.
pub fn world(script: &str, top: Top, binds: Vec<Bind>, spoil: impl Fn(&Path)) -> World {
    let mut world = World::script(script);
    let disk = world.at("disk");
    fs::create_dir(&disk).unwrap();
    tool(&["mount", "-t", "tmpfs", "disk", disk.to_str().unwrap()]);
    let (image, outer) = (disk.join("image"), disk.join("sandbox"));
    fs::create_dir(&image).unwrap();
    fs::create_dir(&outer).unwrap();
    tree(&image);
    spoil(&image);
    world.plan.sandbox = Some(outer.clone());
    let layers = vec![image.clone()];
    sandbox::make_root(&sandbox::root_of(&outer), (top == Top::Upper).then_some(image.as_path())).unwrap();
    let file = |name: &str, text: &str| EtcFile { name: name.to_owned(), text: text.to_owned() };
    let files =
        vec![file("hosts", "127.0.0.1 localhost\n"), file("hostname", "inner\n"), file("resolv.conf", "# own\n")];
    let inner = (top != Top::ReadOnly).then(|| PathBuf::from(sandbox::INSIDE));
    world.plan.image = Some(Base {
        source: format!("rootfs:{}", image.display()).parse().unwrap(),
        digest: None,
        layers: layers.clone(),
        stop_signal: None,
        exposed_ports: Vec::new(),
        labels: BTreeMap::new(),
    });
    world.plan.namespaces.extend([Namespace::Uts, Namespace::Cgroup]);
    let steps = &mut world.plan.steps;
    steps.retain(|step| step.action != Action::MountProc);
    let enter = Action::EnterRoot { layers, top, sandbox: inner.clone(), files, binds };
    steps.insert(1, step(Phase::Namespaces, enter));
    steps.insert(2, step(Phase::Namespaces, Action::SetHostname { name: "inner".to_owned() }));
    let identity = steps.iter().position(|step| step.phase == Phase::Identity).unwrap();
    steps.insert(identity, step(Phase::Root, Action::MaskPaths));
    for step in steps {
        if let Action::ChangeDirectory { path } = &mut step.action {
            *path = Some(inner.clone().unwrap_or_else(|| PathBuf::from("/")));
        }
    }
    world
}

/// What such a script says.
fn said(script: &str, top: Top) -> String {
    world(script, top, vec![], |_| ()).launch().output()
}

/// One bind.
pub fn bind(source: Source, target: &str, read_only: bool) -> Bind {
    Bind::new(source, target, read_only)
}

fn the_container_sees_its_own() {
    let script = "set -e; echo $$; uname -n; cat /etc/hostname /etc/resolv.conf; readlink /dev/fd /dev/ptmx; \
                  for node in null zero full random urandom tty; do stat -c '%F %t:%T %a' /dev/$node; done; \
                  echo x > /dev/null; readlink /proc/self > /dev/null; ls /dev/pts/ptmx; \
                  stat -c %a /dev/shm; readlink /proc/self/cwd; stat -c %a /; touch file";
    let world = world(script, Top::Upper, vec![], |image| {
        fs::set_permissions(image, fs::Permissions::from_mode(0o751)).unwrap();
    });
    let said = world.launch().output();
    let node = |number: &str| format!("character special file {number} 666\n");
    let nodes: String = ["1:3", "1:5", "1:7", "1:8", "1:9", "5:0"].map(node).concat();
    let expected = format!(
        "1\ninner\ninner\n# own\n/proc/self/fd\npts/ptmx\n{nodes}/dev/pts/ptmx\n1777\n/mnt/berth/sandbox\n751\n"
    );
    assert_eq!(said, expected);
    assert!(world.at("disk/sandbox/file").exists());
}

fn nothing_of_the_host_is_left() {
    let script = "while read -r line; do set -- $line; echo \"$5\"; done < /proc/self/mountinfo; ls /";
    let said = said(script, Top::Upper);
    let allowed = ["/", "/proc", "/sys", "/dev", "/etc", "/mnt/berth/sandbox"];
    let known = |line: &str| {
        allowed.contains(&line) || ["/proc/", "/sys/", "/dev/", "/etc/"].iter().any(|above| line.starts_with(above))
    };
    let names = ["bin", "dev", "etc", "lib", "lib64", "mnt", "proc", "sbin", "sys", "usr"];
    for line in said.lines() {
        assert!(known(line) || names.contains(&line), "{line} in {said}");
    }
}

fn changes_are_the_runs() {
    let world = world("mkdir /new && echo changed > /etc/changed && ls /new /etc", Top::Upper, vec![], |_| ());
    world.launch().output();
    assert!(!world.at("disk/image/new").exists() && !world.at("disk/image/etc").exists());
    assert_eq!(fs::read_to_string(world.at("disk/sandbox.root/upper/etc/changed")).unwrap(), "changed\n");
}

fn writable_is_the_directory_itself() {
    let world = world("echo changed > /changed", Top::Writable, vec![], |_| ());
    world.launch().output();
    assert_eq!(fs::read_to_string(world.at("disk/image/changed")).unwrap(), "changed\n");
}

fn read_only_takes_no_change() {
    let script =
        "touch /bin/x 2>/dev/null && echo wrote; cat /etc/hostname; touch /etc/hostname && touch /dev/shm/x && echo ok";
    let world = world(script, Top::ReadOnly, vec![], |image| {
        for directory in ["proc", "sys", "dev", "etc"] {
            fs::create_dir_all(image.join(directory)).unwrap();
        }
        fs::write(image.join("etc/hostname"), "image\n").unwrap();
    });
    assert_eq!(world.launch().output(), "inner\nok\n");
    assert_eq!(fs::read_dir(world.at("disk/image/etc")).unwrap().count(), 1, "nothing was made in the image");
}

fn layers_are_stacked() {
    let mut world = world("cat /which /below; ls /gone 2>/dev/null || echo none", Top::Upper, vec![], |image| {
        fs::write(image.join("which"), "lower\n").unwrap();
        fs::write(image.join("below"), "below\n").unwrap();
        fs::write(image.join("gone"), "").unwrap();
    });
    let upper = world.at("disk/a,b:c");
    fs::create_dir(&upper).unwrap();
    fs::write(upper.join("which"), "higher\n").unwrap();
    tool(&["mknod", upper.join("gone").to_str().unwrap(), "c", "0", "0"]);
    for step in &mut world.plan.steps {
        if let Action::EnterRoot { layers, .. } = &mut step.action {
            layers.push(upper.clone());
        }
    }
    assert_eq!(world.launch().output(), "higher\nbelow\nnone\n");
}

/// Directories that all have a file `which`, and one of their own each, in a place whose name has a meaning in options.
fn many(directory: &Path, count: usize) -> Vec<PathBuf> {
    let make = |number| {
        let layer = directory.join(format!("a,b:c\\{number}"));
        fs::create_dir(&layer).unwrap();
        fs::write(layer.join("which"), format!("{number}\n")).unwrap();
        fs::write(layer.join(format!("own{number}")), "").unwrap();
        layer
    };
    (1..=count).map(make).collect()
}

fn as_many_layers_as_overlayfs_takes_are_stacked() {
    let mut world = world("cat /which; ls -d /own1 /own250 /own499", Top::Upper, vec![], |_| ());
    let more = many(&world.at("disk"), mount::MOST_LAYERS - 1);
    for step in &mut world.plan.steps {
        if let Action::EnterRoot { layers, .. } = &mut step.action {
            layers.extend(more.clone());
        }
    }
    assert_eq!(world.launch().output(), "499\n/own1\n/own250\n/own499\n");
}

fn an_older_kernel_stacks_as_many() {
    // Mounts and the change of directory are this thread's alone.
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    tool(&["mount", "-t", "tmpfs", "disk", directory.path().to_str().unwrap()]);
    fs::create_dir(at("place")).unwrap();
    fs::create_dir(at("merged")).unwrap();
    let layers = many(directory.path(), mount::MOST_LAYERS + 1);
    let stack = |count: usize, upper: bool| {
        let layers: Vec<&Path> = layers[..count].iter().map(PathBuf::as_path).collect();
        let (upperdir, work) = (at(&format!("upper{count}")), at(&format!("work{count}")));
        for path in [&upperdir, &work] {
            fs::create_dir(path).unwrap();
        }
        let upper = upper.then_some((upperdir.as_path(), work.as_path()));
        mount::overlay(&layers, upper, &at("place"), LayerOptions::List)
    };
    let before = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    for (count, upper) in [(2, false), (128, true), (mount::MOST_LAYERS, true)] {
        let tree = stack(count, upper).unwrap();
        assert_eq!(fs::read_to_string("/proc/thread-self/mountinfo").unwrap(), before, "it is detached");
        mount::attach(&tree, fs::File::open(at("merged")).unwrap()).unwrap();
        let seen = |name: &str| fs::read_to_string(at("merged").join(name));
        assert_eq!(seen("which").unwrap(), format!("{count}\n"));
        assert!((1..=count).all(|number| seen(&format!("own{number}")).is_ok()));
        let written = fs::write(at("merged/new"), "");
        assert_eq!((written.is_ok(), at(&format!("upper{count}/new")).exists()), (upper, upper), "{written:?}");
        rustix::mount::unmount(at("merged"), rustix::mount::UnmountFlags::DETACH).unwrap();
    }
    let error = stack(mount::MOST_LAYERS + 1, true).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    assert_eq!(fs::read_to_string("/proc/thread-self/mountinfo").unwrap(), before, "nothing is left");
}

fn the_kernels_paths_are_masked() {
    let script = "cat /proc/keys /proc/kcore /proc/timer_list 2>/dev/null; for path in /sys/firmware /proc/scsi; do ls $path 2>/dev/null; done; \
                  touch /sys/x 2>/dev/null && echo sys; mkdir /sys/fs/cgroup/x 2>/dev/null && echo cgroup; \
                  (echo 1 > /proc/sys/vm/overcommit_memory) 2>/dev/null && echo sysctl; \
                  (echo h > /proc/sysrq-trigger) 2>/dev/null && echo sysrq; cat /proc/self/cgroup";
    let said = said(script, Top::Upper);
    let all_at_the_top = said.lines().filter(|line| line.starts_with("0::")).all(|line| line == "0::/");
    let groups = |line: &str| line.split(':').count() >= 3;
    assert!(all_at_the_top && said.lines().all(groups), "{said}");
}

fn volumes_cover_what_they_should() {
    let script =
        "cat /data/file /made/deep/one; touch /data/no 2>/dev/null && echo wrote; echo new > /srv/new; ls /srv/sub";
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("file"), "host\n").unwrap();
    let host = || Source::Host(outside.path().to_owned());
    let binds = vec![
        bind(Source::Sandbox("own".into()), "/srv", false),
        bind(host(), "/data", true),
        bind(host(), "/srv/sub", true),
        bind(Source::Host(outside.path().join("file")), "/made/deep/one", false),
    ];
    let world = world(script, Top::Upper, binds, |_| ());
    fs::create_dir(world.at("disk/sandbox/own")).unwrap();
    assert_eq!(world.launch().output(), "host\nhost\nfile\n");
    assert_eq!(fs::read_to_string(world.at("disk/sandbox/own/new")).unwrap(), "new\n");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

fn a_hostile_image_reaches_nothing() {
    let outside = tempfile::tempdir().unwrap();
    let before = fs::metadata(outside.path()).unwrap();
    let (target, seen) = (outside.path().to_owned(), outside.path().display().to_string());
    let up = format!("../../../../../../../..{seen}");
    let binds = vec![
        bind(Source::Sandbox("own".into()), "/absolute/made", false),
        bind(Source::Sandbox("own".into()), "/upward/made", false),
    ];
    let script = format!("ls -d {seen}/made; cat /etc/hostname; touch /absolute/made/file");
    let world = world(&script, Top::Upper, binds, |image| {
        symlink(&target, image.join("absolute")).unwrap();
        symlink(&up, image.join("upward")).unwrap();
        fs::create_dir_all(image.join(seen.trim_start_matches('/'))).unwrap();
        symlink(&target, image.join("etc")).unwrap();
        symlink("/proc/1/root/etc", image.join("mnt")).unwrap();
    });
    fs::create_dir(world.at("disk/sandbox/own")).unwrap();
    let mut run = world.launch();
    // The way to the sandbox leads over a magic link, and is refused for that.
    let (_, failure) = run.failure();
    assert!(failure.message.contains("/mnt/berth/sandbox"), "{failure:?}");
    let after = fs::metadata(outside.path()).unwrap();
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert_eq!((before.mtime(), before.mode(), before.uid()), (after.mtime(), after.mode(), after.uid()));
}

fn links_for_the_kernels_trees_are_refused() {
    for name in ["proc", "sys", "dev"] {
        let world = world("true", Top::Upper, vec![], |image| {
            fs::create_dir(image.join("real")).unwrap();
            symlink("/real", image.join(name)).unwrap();
        });
        let (_, failure) = world.launch().failure();
        assert!(failure.message.contains("symbolic link in the image"), "{failure:?}");
    }
}

fn in_place_without_a_pid_namespace() {
    let mut world = world("readlink /proc/self >/dev/null && ls -d /mnt/berth && uname -n", Top::Upper, vec![], |_| ());
    world.plan.namespaces.remove(&Namespace::Pid);
    let mut run = world.launch();
    assert_eq!(run.launched().code(), Some(0), "{}", run.stderr());
    assert_eq!(run.stdout(), "/mnt/berth\ninner\n");
}
