//! The cases: what an operator and a program see.
#![allow(clippy::missing_docs_in_private_items, reason = "the name of a case is its sentence")]

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use berth::{
    plan::{Action, Bind, Namespace, Phase, Source},
    protocol::{Failure, Stage},
    spec::Bytes,
    sys::process::{pidfd_kill, pidfd_open, wait_end},
};
use nix::sys::{signal::Signal, wait::WaitStatus};

use super::world::{Act, INVOCATION, LAUNCHER, PATH, World, end_of, kill, step, tool, until};

/// All cases by name; a case that returns is good.
pub const ALL: &[(&str, fn())] = &[
    ("isolation/the_program_is_pid_1_and_alone", the_program_is_pid_1_and_alone),
    ("isolation/ipc_is_private", ipc_is_private),
    ("isolation/shm_sizes_are_exact", shm_sizes_are_exact),
    ("isolation/mqueue_where_there_is_a_directory", mqueue_where_there_is_a_directory),
    ("exit/statuses_are_exact", exit_statuses_are_exact),
    ("exit/a_fault_is_a_fault", a_fault_is_a_fault),
    ("volume/relative_is_in_the_sandbox", relative_volume_is_in_the_sandbox),
    ("volume/files_can_be_bound", files_can_be_bound),
    ("volume/read_only_is_recursive_and_keeps_flags", read_only_is_recursive_and_keeps_flags),
    ("volume/read_only_stays_so_when_the_host_mounts_below", read_only_stays_so_when_the_host_mounts_below),
    ("volume/no_bind_sees_another", no_bind_sees_another),
    ("volume/failures_name_stage_errno_and_path", bind_failures_name_stage_errno_and_path),
    ("program/failures_name_stage_errno_and_path", program_failures_name_stage_errno_and_path),
    ("program/is_judged_as_its_user", the_program_is_judged_as_its_user),
    ("program/unknown_directory_is_a_failure", unknown_directory_is_a_failure),
    ("program/identity_is_exact", identity_is_exact),
    ("program/environment_is_exact", environment_is_exact),
    ("program/descriptors_are_exact", descriptors_are_exact),
    ("program/listening_sockets_are_passed", listening_sockets_are_passed),
    ("program/that_the_kernel_refuses_is_said", a_program_that_the_kernel_refuses_is_said),
    ("in_place/the_launcher_becomes_the_program", the_launcher_becomes_the_program),
    ("in_place/failures_are_told", failures_in_place_are_told),
    ("in_place/waits_for_go", in_place_waits_for_go),
    ("init/reaps_forwards_and_exits_as_its_program", init_reaps_forwards_and_exits_as_its_program),
    ("init/passes_listening_sockets", init_passes_listening_sockets),
    ("hand_over/one_message_then_the_gate", one_message_then_the_gate),
    ("hand_over/dead_launcher_shuts_the_gate", dead_launcher_shuts_the_gate),
    ("berthd/hangs_up_and_is_asked_again", berthd_hangs_up_and_is_asked_again),
    ("berthd/starts_late", berthd_starts_late),
    ("berthd/works_long", berthd_works_long),
    ("berthd/dies_after_the_plan", berthd_dies_after_the_plan),
    ("berthd/refuses", berthd_refuses),
    ("berthd/hears_of_failures_on_a_new_connection", failures_are_told_on_a_new_connection),
    ("direct/the_gate_waits_for_go", the_gate_waits_for_go),
    ("direct/no_go_no_program", no_go_no_program),
    ("stop/a_deaf_init_is_killed", a_deaf_init_is_killed),
    ("stop/a_listening_init_is_left", a_listening_init_is_left),
    ("stop/an_init_that_waits_for_signals_is_left", an_init_that_waits_for_signals_is_left),
    ("stop/others_are_left", others_are_left),
    ("command_line/usage", usage),
];

fn the_program_is_pid_1_and_alone() {
    let world = World::script("echo $$ /proc/[0-9]*; exec sleep 1000");
    let mut run = world.launch();
    assert!(run.launched().success(), "{}", run.stderr());
    let pid = run.main_pid();
    until("output", || (!run.stdout().is_empty()).then_some(()));
    assert_eq!(run.stdout(), "1 /proc/1\n");
    let host = pid.to_string();
    until("exec", || (tool(&["ps", "-o", "args=", "-p", &host]).trim() == "sleep 1000").then_some(()));
    let inside = tool(&["nsenter", "-t", &host, "-p", "-m", "ps", "-e", "-o", "pid=,comm="]);
    let lines: Vec<_> = inside.lines().map(str::trim).collect();
    assert_eq!((lines.len(), lines[0]), (2, "1 sleep"), "{inside}");
    let mine = tool(&["ps", "-o", "ppid=", "-p", &host]);
    assert_eq!(mine.trim(), std::process::id().to_string(), "the service manager is its parent");
    kill(pid);
}

fn ipc_is_private() {
    let world = World::script("readlink /proc/self/ns/ipc; ipcs -q | wc -l; findmnt -no OPTIONS /dev/shm | tail -n1");
    let before = tool(&["ls", "/dev/shm"]);
    let output = world.launch().output();
    let lines: Vec<_> = output.lines().collect();
    assert_ne!(lines[0], tool(&["readlink", "/proc/self/ns/ipc"]).trim());
    assert!(lines[2].contains("nosuid,nodev"), "{output}");
    assert_eq!(tool(&["ls", "/dev/shm"]), before);
    assert!(!findmnt("/proc").contains("web"));
}

/// The mounts of this process at a place.
fn findmnt(target: &str) -> String {
    tool(&["findmnt", "-no", "TARGET,FSTYPE,OPTIONS", target])
}

fn shm_sizes_are_exact() {
    for size in [64 << 20, 2 << 30, 4 << 30, 5 << 30_u64] {
        let mut world = World::script("df -B1 --output=size /dev/shm | tail -n1; stat -c %a /dev/shm");
        world.plan.steps.retain(|step| !matches!(step.action, Action::MountShm { .. }));
        world.mount(Action::MountShm { size: Some(Bytes(size)) });
        let output = world.launch().output();
        assert_eq!(output.split_whitespace().collect::<Vec<_>>(), [&size.to_string(), "1777"], "{size}");
    }
}

fn mqueue_where_there_is_a_directory() {
    let world = World::script("findmnt -no FSTYPE /dev/mqueue || echo none");
    let expected = if Path::new("/dev/mqueue").is_dir() { "mqueue\n" } else { "none\n" };
    assert_eq!(world.launch().output(), expected);
}

fn exit_statuses_are_exact() {
    for code in [0, 1, 42, 255] {
        for _ in 0..5 {
            let status = World::script(&format!("exit {code}")).launch().finish();
            assert!(matches!(status, WaitStatus::Exited(_, found) if found == code), "{code}: {status:?}");
        }
    }
}

fn a_fault_is_a_fault() {
    // A PID 1 cannot send itself a signal: this one reads address 1.
    let world = World::new(&["perl", "-e", "print unpack('p', pack('J', 1))"]);
    let status = world.launch().finish();
    assert!(matches!(status, WaitStatus::Signaled(_, Signal::SIGSEGV, _)), "{status:?}");
}

fn relative_volume_is_in_the_sandbox() {
    let mut world = World::script("echo hello > \"$TARGET/file\"");
    let target = world.at("target");
    fs::create_dir(&target).unwrap();
    fs::create_dir_all(world.at("sandbox/deep/tmp")).unwrap();
    world.plan.program.environment.push(("TARGET".to_owned(), target.display().to_string()));
    world.bind(Source::Sandbox("deep/tmp".into()), &target, false);
    world.launch().output();
    assert_eq!(fs::read_to_string(world.at("sandbox/deep/tmp/file")).unwrap(), "hello\n");
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0, "the host's directory is as it was");
}

fn files_can_be_bound() {
    let mut world = World::new(&["cat", "/etc/hostname"]);
    fs::write(world.at("name"), "contained\n").unwrap();
    world.bind(Source::Host(world.at("name")), Path::new("/etc/hostname"), true);
    assert_eq!(world.launch().output(), "contained\n");
    assert_ne!(fs::read_to_string("/etc/hostname").unwrap_or_default(), "contained\n");
}

/// Mounts a tmpfs in this process's namespace; it goes away with it, and before with the world's directory.
fn tmpfs(at: &Path, options: &str) {
    fs::create_dir_all(at).unwrap();
    tool(&["mount", "-t", "tmpfs", "-o", options, "tmpfs", at.to_str().unwrap()]);
}

/// Unmounts all at and below `at`.
fn unmount(at: &Path) {
    tool(&["umount", "-R", at.to_str().unwrap()]);
}

fn read_only_is_recursive_and_keeps_flags() {
    let mut world = World::script(
        "cd $T; for d in . below; do echo x > $d/file && echo written; findmnt -no OPTIONS -T $d; done 2>/dev/null",
    );
    let (source, target) = (world.at("source"), world.at("target"));
    tmpfs(&source, "nosuid,nodev,noexec");
    tmpfs(&source.join("below"), "nosuid");
    fs::create_dir(&target).unwrap();
    world.plan.program.environment.push(("T".to_owned(), target.display().to_string()));
    world.bind(Source::Host(source.clone()), &target, true);
    let output = world.launch().output();
    let options: Vec<_> = output.lines().collect();
    assert_eq!(options.len(), 2, "nothing is written: {output}");
    assert!(options[0].starts_with("ro,nosuid,nodev,noexec"), "{output}");
    assert!(options[1].starts_with("ro,nosuid,relatime"), "{output}");
    fs::write(source.join("below/host"), "").unwrap();
    unmount(&source);
}

fn read_only_stays_so_when_the_host_mounts_below() {
    let mut world =
        World::script("while ! [ -e $S/go ]; do sleep 0.01; done; echo x > $T/late/file; ls $T/late | wc -l");
    let (source, target) = (world.at("source"), world.at("target"));
    tmpfs(&source, "mode=755");
    tool(&["mount", "--make-shared", source.to_str().unwrap()]);
    fs::create_dir(source.join("late")).unwrap();
    fs::create_dir(&target).unwrap();
    let variable = |name: &str, path: &Path| (name.to_owned(), path.display().to_string());
    world.plan.program.environment.extend([variable("S", &source), variable("T", &target)]);
    world.bind(Source::Host(source.clone()), &target, true);
    let mut run = world.launch();
    assert!(run.launched().success(), "{}", run.stderr());
    tmpfs(&source.join("late"), "mode=755");
    fs::write(source.join("go"), "").unwrap();
    let status = end_of(run.main_pid());
    assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
    assert_eq!(run.stdout(), "0\n", "{}", run.stderr());
    assert_eq!(fs::read_dir(source.join("late")).unwrap().count(), 0);
    unmount(&source);
}

fn no_bind_sees_another() {
    let mut world = World::script("cat $A/name $B/name");
    let (a, b) = (world.at("a"), world.at("b"));
    for (directory, name) in [(&a, "a\n"), (&b, "b\n")] {
        fs::create_dir(directory).unwrap();
        fs::write(directory.join("name"), name).unwrap();
    }
    let variable = |name: &str, path: &Path| (name.to_owned(), path.display().to_string());
    world.plan.program.environment.extend([variable("A", &a), variable("B", &b)]);
    let bind = |source: &Path, target: &Path| Bind::new(Source::Host(source.to_owned()), target, false);
    world.mount(Action::Bind { binds: vec![bind(&a, &b), bind(&b, &a)] });
    assert_eq!(world.launch().output(), "b\na\n", "they change places");
}

fn bind_failures_name_stage_errno_and_path() {
    // (source, target, errno, which of the two is at fault, words)
    let table: [(&str, &str, i32, usize, &str); 7] = [
        ("host:nowhere", "target", libc::ENOENT, 0, "create it, or correct host_path"),
        ("sandbox:nowhere", "target", libc::ENOENT, 0, "No such file"),
        ("sandbox:link", "target", libc::ELOOP, 0, "symbolic link"),
        ("sandbox:link/etc", "target", libc::ELOOP, 0, "symbolic link"),
        ("sandbox:../target", "target", libc::EXDEV, 0, "leads out of the sandbox"),
        ("host:sandbox", "nowhere", libc::ENOENT, 1, "container_path must exist"),
        ("host:sandbox", "file", libc::ENOTDIR, 1, "a directory cannot be bound over a file"),
    ];
    for (source, target, errno, at_fault, words) in table {
        let mut world = World::new(&["true"]);
        symlink("/", world.at("sandbox/link")).unwrap();
        fs::create_dir(world.at("target")).unwrap();
        fs::write(world.at("file"), "").unwrap();
        let source = match source.split_once(':').unwrap() {
            ("host", path) => Source::Host(world.at(path)),
            (_, path) => Source::Sandbox(path.into()),
        };
        let (Source::Host(path) | Source::Sandbox(path)) = source.clone() else { unreachable!("none other is here") };
        let target = world.at(target);
        world.bind(source, &target, false);
        let mut run = world.launch();
        let (status, failure) = run.failure();
        assert_eq!((status, failure.stage, failure.errno), (226, Stage::Mounts, Some(errno)), "{failure:?}");
        assert_eq!(failure.path, Some([path, target][at_fault].clone()), "{failure:?}");
        assert!(failure.message.contains(words), "{failure:?}");
        let told = [format!("ERRNO={errno}"), format!("STATUS={}", failure.message)];
        until("status", || (world.manager.lock().unwrap()[..] == told).then_some(()));
    }
}

fn program_failures_name_stage_errno_and_path() {
    let table = [
        ("no-such-program", libc::ENOENT, "not found in PATH"),
        ("/no/such/program", libc::ENOENT, "No such file"),
        ("/etc/passwd", libc::EACCES, "not executable by user 0"),
        ("/etc", libc::EACCES, "is a directory"),
        ("./lost", libc::ENOENT, "#! interpreter /no/such/shell"),
        ("./flat/program", libc::EACCES, "mounted noexec"),
    ];
    for (program, errno, words) in table {
        let world = World::new(&[program]);
        let lost = world.at("sandbox/lost");
        fs::write(&lost, "#!/no/such/shell\n").unwrap();
        fs::set_permissions(&lost, fs::Permissions::from_mode(0o755)).unwrap();
        let flat = world.at("sandbox/flat");
        tmpfs(&flat, "noexec");
        fs::copy("/bin/true", flat.join("program")).unwrap();
        let (status, failure) = world.launch().failure();
        assert_eq!((status, failure.stage, failure.errno), (203, Stage::Program, Some(errno)), "{failure:?}");
        assert_eq!(failure.path.as_deref(), Some(Path::new(program)), "{failure:?}");
        assert!(failure.message.contains(words), "{failure:?}");
        unmount(&flat);
    }
}

/// Makes the plan's program a user's.
pub fn become_user(world: &mut World, uid: u32, gid: u32, groups: &[u32]) {
    fs::set_permissions(world.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for step in &mut world.plan.steps {
        if matches!(step.action, Action::SetIdentity { .. }) {
            step.action = Action::SetIdentity { uid, gid, groups: groups.to_vec() };
        }
    }
}

fn the_program_is_judged_as_its_user() {
    let mut world = World::new(&["./mine"]);
    become_user(&mut world, 12345, 12345, &[]);
    let mine = world.at("sandbox/mine");
    fs::write(&mine, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&mine, fs::Permissions::from_mode(0o700)).unwrap();
    let (status, failure) = world.launch().failure();
    assert_eq!((status, failure.errno), (203, Some(libc::EACCES)));
    assert!(failure.message.contains("not executable by user 12345"), "{failure:?}");
}

fn unknown_directory_is_a_failure() {
    for (path, uid, errno) in [("/no/such/place", 0, libc::ENOENT), ("/root", 12345, libc::EACCES)] {
        let mut world = World::new(&["true"]);
        become_user(&mut world, uid, uid, &[]);
        world.plan.steps.pop();
        world.plan.steps.push(step(Phase::Identity, Action::ChangeDirectory { path: Some(path.into()) }));
        let (status, failure) = world.launch().failure();
        assert_eq!((status, failure.stage, failure.errno), (200, Stage::Directory, Some(errno)), "{failure:?}");
        assert_eq!(failure.path.as_deref(), Some(Path::new(path)));
    }
}

fn identity_is_exact() {
    // (uid, gid, groups)
    for (uid, gid, groups) in [(12345, 54321, vec![7, 4242]), (0, 0, vec![]), (0, 3, vec![9])] {
        let mut world = World::new(&["cat", "/proc/self/status"]);
        become_user(&mut world, uid, gid, &groups);
        for step in &mut world.plan.steps {
            if matches!(step.action, Action::SetUmask { .. }) {
                step.action = Action::SetUmask { mask: 0o027 };
            }
        }
        world.prelude = "trap '' PIPE HUP".to_owned();
        let output = world.launch().output();
        let wanted = ["Umask:", "Uid:", "Gid:", "Groups:", "SigBlk:", "SigIgn:", "SigCgt:"];
        let lines: Vec<_> = output
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(|words| wanted.contains(&words[0]))
            .map(|words| words.join(" "))
            .collect();
        let list = groups.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
        let zero = "0000000000000000";
        let expected = [
            "Umask: 0027".to_owned(),
            format!("Uid: {uid} {uid} {uid} {uid}"),
            format!("Gid: {gid} {gid} {gid} {gid}"),
            format!("Groups: {list}").trim_end().to_owned(),
            format!("SigBlk: {zero}"),
            format!("SigIgn: {zero}"),
            format!("SigCgt: {zero}"),
        ];
        assert_eq!(lines, expected);
    }
}

fn environment_is_exact() {
    let mut world = World::new(&["env"]);
    world.plan.program.environment.push(("TZ".to_owned(), "UTC".to_owned()));
    world.prelude = "export JOURNAL_STREAM=8:9 LISTEN_FDS=3 LISTEN_PID=1".to_owned();
    let output = world.launch().output();
    let expected = format!("PATH={PATH}\nTZ=UTC\nINVOCATION_ID={INVOCATION}\nJOURNAL_STREAM=8:9\n");
    assert_eq!(output, expected, "sockets for another process are not passed");
}

fn descriptors_are_exact() {
    let mut world = World::new(&["ls", "/proc/self/fd"]);
    world.prelude = "exec 7</dev/null 9</dev/null".to_owned();
    let output = world.launch().output();
    assert_eq!(output, "0\n1\n2\n3\n", "3 is the directory that ls reads");
}

/// Passes two files as sockets.
const LISTEN: &str = "exec 3<$BERTH_SOCKET.3 4<$BERTH_SOCKET.4; export LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=a:b";

fn listening_sockets_are_passed() {
    let mut world =
        World::script("echo $LISTEN_PID $$ $LISTEN_FDS $LISTEN_FDNAMES; cat <&3; cat <&4; ls /proc/self/fd");
    fs::write(world.at("berthd.sock.3"), "three\n").unwrap();
    fs::write(world.at("berthd.sock.4"), "four\n").unwrap();
    world.prelude = LISTEN.to_owned();
    assert_eq!(world.launch().output(), "1 1 2 a:b\nthree\nfour\n0\n1\n2\n3\n4\n5\n");
}

fn a_program_that_the_kernel_refuses_is_said() {
    let world = World::new(&["./text"]);
    let text = world.at("sandbox/text");
    fs::write(&text, "echo no interpreter\n").unwrap();
    fs::set_permissions(&text, fs::Permissions::from_mode(0o755)).unwrap();
    let mut run = world.launch();
    let status = run.finish();
    assert!(matches!(status, WaitStatus::Exited(_, 203)), "{status:?}");
    assert!(run.stderr().starts_with("berth: web: program: cannot run ./text: Exec format error"), "{}", run.stderr());
}

/// A world without a pid namespace.
fn in_place(script: &str) -> World {
    let mut world = World::script(script);
    world.plan.namespaces.remove(&Namespace::Pid);
    world.plan.steps.retain(|step| step.action != Action::MountProc);
    world
}

fn the_launcher_becomes_the_program() {
    let world =
        in_place("echo $$; readlink /proc/self/ns/mnt; readlink /proc/self/ns/pid; ls /proc/self/fd | wc -l; exit 42");
    let mut run = world.launch();
    let pid = run.launcher();
    assert_eq!(run.launched().code(), Some(42), "{}", run.stderr());
    let output = run.stdout();
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines[0], pid.to_string());
    assert_ne!(lines[1], tool(&["readlink", "/proc/self/ns/mnt"]).trim());
    assert_eq!(lines[2], tool(&["readlink", "/proc/self/ns/pid"]).trim());
    assert_eq!(lines[3], "4");
    until("ready", || (world.manager.lock().unwrap()[..] == ["READY=1"]).then_some(()));
    let armed = format!("{{\"report\":\"armed\",\"pid\":{pid}}}");
    until("armed", || world.berthd.lock().unwrap().contains(&armed).then_some(()));
}

fn failures_in_place_are_told() {
    let mut world = in_place("true");
    world.plan.program.executable = "/no/such".to_owned();
    become_user(&mut world, 12345, 12345, &[]);
    let (status, failure) = world.launch().failure();
    assert_eq!((status, failure.stage), (203, Stage::Program));
    until("status", || (world.manager.lock().unwrap().len() == 2).then_some(()));
}

fn in_place_waits_for_go() {
    let mut world = in_place("echo ran");
    world.systemd = false;
    let mut run = world.launch();
    assert_eq!(run.launched().code(), Some(0), "{}", run.stderr());
    assert_eq!(run.stdout(), "ran\n");

    let mut world = in_place("echo ran");
    world.systemd = false;
    world.acts = vec![Act::Serve { go: false }];
    let mut run = world.launch();
    assert_eq!(run.launched().code(), Some(1), "{}", run.stderr());
    assert_eq!(run.stdout(), "");
}

fn init_reaps_forwards_and_exits_as_its_program() {
    // The program is PID 2; an orphan that ends leaves no zombie; TERM reaches the program.
    let script = "(sh -c 'exec sh -c true' & ) ; sleep 0.2; ps -e -o pid=,stat=,comm= | grep -c ' Z'; \
                  cat /proc/1/comm; trap 'echo term; exit 42' TERM; echo $$ ready; while :; do sleep 0.01; done";
    let mut world = World::script(script);
    world.plan.program.init = true;
    let mut run = world.launch();
    assert!(run.launched().success(), "{}", run.stderr());
    let pid = run.main_pid();
    until("ready", || run.stdout().contains("ready").then_some(()));
    assert_eq!(run.stdout(), "0\ninit\n2 ready\n");
    berth::sys::process::kill(pid, libc::SIGTERM).unwrap();
    let status = end_of(pid);
    assert!(matches!(status, WaitStatus::Exited(_, 42)), "{status:?}");
    assert!(run.stdout().ends_with("term\n"));

    let table = [("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)];
    for (script, expected) in table {
        let mut world = World::script(script);
        world.plan.program.init = true;
        let status = world.launch().finish();
        assert!(matches!(status, WaitStatus::Exited(_, found) if found == expected), "{script} {status:?}");
    }

    let mut world = in_place("(sleep 0.1 &) ; exit 7");
    world.plan.program.init = true;
    let mut run = world.launch();
    assert_eq!(run.launched().code(), Some(7), "{}", run.stderr());
}

fn init_passes_listening_sockets() {
    let mut world = World::script("echo $LISTEN_PID $$; cat <&3; ls /proc/1/fd | wc -l; ls /proc/self/fd");
    world.plan.program.init = true;
    fs::write(world.at("berthd.sock.3"), "three\n").unwrap();
    fs::write(world.at("berthd.sock.4"), "").unwrap();
    world.prelude = format!("{LISTEN}; exec 9</dev/null");
    let output = world.launch().output();
    // The init keeps stdin, stdout, stderr and its signals.
    assert_eq!(output, "2 2\nthree\n4\n0\n1\n2\n3\n4\n5\n");
}

fn one_message_then_the_gate() {
    let world = World::script("exit 3");
    let mut run = world.launch();
    let status = run.finish();
    assert!(matches!(status, WaitStatus::Exited(_, 3)), "{status:?}");
    let heard = world.manager.lock().unwrap().clone();
    assert_eq!(heard, [format!("MAINPID={}", run.main_pid()), "READY=1".to_owned(), "BARRIER=1".to_owned()]);
    assert_eq!(run.stderr(), "");
}

fn dead_launcher_shuts_the_gate() {
    let mut world = World::script("touch ran");
    world.answers = false;
    let mut run = world.launch();
    let child = run.main_pid();
    until("barrier", || world.manager.lock().unwrap().contains(&"BARRIER=1".to_owned()).then_some(()));
    thread::sleep(Duration::from_millis(100));
    assert!(!wait_end(pidfd_open(child).unwrap(), Duration::ZERO).unwrap(), "it waits");
    berth::sys::process::kill(run.launcher(), libc::SIGKILL).unwrap();
    let status = end_of(child);
    assert!(matches!(status, WaitStatus::Exited(_, 232)), "{status:?}");
    assert!(!run.launched().success());
    assert!(!world.at("sandbox/ran").exists(), "the program never ran");
}

fn berthd_hangs_up_and_is_asked_again() {
    let mut world = World::script("echo ran");
    world.acts = vec![Act::HangUp, Act::HangUp, Act::Serve { go: true }];
    assert_eq!(world.launch().output(), "ran\n");
    let heard = world.manager.lock().unwrap();
    assert_eq!(heard[..2], ["EXTEND_TIMEOUT_USEC=35000000", "STATUS=Waiting for berthd"]);
}

fn berthd_starts_late() {
    let mut world = World::script("echo ran");
    world.late = Duration::from_millis(500);
    assert_eq!(world.launch().output(), "ran\n");
    assert_eq!(world.manager.lock().unwrap()[1], "STATUS=Waiting for berthd");
}

fn berthd_works_long() {
    let mut world = World::script("echo ran");
    world.acts = vec![Act::Working];
    assert_eq!(world.launch().output(), "ran\n");
    assert_eq!(world.manager.lock().unwrap()[0], "EXTEND_TIMEOUT_USEC=35000000");
}

fn berthd_dies_after_the_plan() {
    let mut world = World::script("echo ran");
    world.acts = vec![Act::Die];
    let mut run = world.launch();
    assert_eq!(run.output(), "ran\n");
    assert_eq!(run.stderr(), "");
}

fn berthd_refuses() {
    let mut world = World::script("echo ran");
    let message = "command: is missing; add it".to_owned();
    let refusal = Failure { stage: Stage::Config, errno: None, path: Some("/etc/x".into()), message: message.clone() };
    world.acts = vec![Act::Refuse(refusal)];
    world.prelude = "export JOURNAL_STREAM=1:2".to_owned();
    let mut run = world.launch();
    assert_eq!(run.launched().code(), Some(78));
    assert_eq!(run.stderr(), format!("<3>berth: web: config: {message}\n"));
    until("status", || (world.manager.lock().unwrap()[..] == [format!("STATUS={message}")]).then_some(()));
}

fn failures_are_told_on_a_new_connection() {
    let mut world = World::new(&["/no/such"]);
    world.acts = vec![Act::GiveAndHangUp];
    let (status, failure) = world.launch().failure();
    assert_eq!((status, failure.stage), (203, Stage::Program));
    assert!(
        world.berthd.lock().unwrap().iter().any(|line| line.contains("launch_failed") && line.contains(INVOCATION))
    );
}

fn the_gate_waits_for_go() {
    let mut world = World::script("echo ran");
    world.systemd = false;
    let mut run = world.launch();
    assert!(run.launched().success(), "{}", run.stderr());
    until("output", || (run.stdout() == "ran\n").then_some(()));
}

fn no_go_no_program() {
    let mut world = World::script("echo ran");
    world.systemd = false;
    world.acts = vec![Act::Serve { go: false }];
    let mut run = world.launch();
    assert_eq!(run.launched().code(), Some(1), "{}", run.stderr());
    let heard = world.berthd.lock().unwrap().clone();
    let pid = heard.iter().find_map(|line| line.split_once("\"pid\":")?.1.trim_end_matches('}').parse().ok());
    let status = end_of(pid.unwrap());
    assert!(matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _) | WaitStatus::Exited(_, 232)), "{status:?}");
    assert_eq!(run.stdout(), "");
}

/// `berth-launch --stop web`, as the service manager runs it.
fn stop(world: &World, pid: u32, arguments: &[&str]) -> i32 {
    let status = Command::new(LAUNCHER)
        .args(["--stop", "web"])
        .args(arguments)
        .env_clear()
        .env("MAINPID", pid.to_string())
        .env("INVOCATION_ID", INVOCATION)
        .env("BERTH_ROOT", world.directory.path())
        .status()
        .unwrap();
    status.code().unwrap()
}

fn a_deaf_init_is_killed() {
    let world = World::new(&["sleep", "1000"]);
    let mut run = world.launch();
    assert!(run.launched().success(), "{}", run.stderr());
    let pid = run.main_pid();
    assert_eq!(stop(&world, pid, &[]), 0);
    let status = end_of(pid);
    assert!(matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _)), "{status:?}");
    assert_eq!(stop(&world, pid, &[]), 0, "a second stop finds nothing to do");
}

fn a_listening_init_is_left() {
    for (signal, init) in [("TERM", false), ("SIGHUP", false), ("SIGTERM", true)] {
        let mut world = World::script("trap 'exit 5' TERM HUP; echo ready; while :; do sleep 0.01; done");
        world.plan.program.init = init;
        let mut run = world.launch();
        assert!(run.launched().success(), "{}", run.stderr());
        let pid = run.main_pid();
        until("ready", || run.stdout().contains("ready").then_some(()));
        assert_eq!(stop(&world, pid, &[signal]), 0);
        assert!(!wait_end(pidfd_open(pid).unwrap(), Duration::from_millis(100)).unwrap(), "it is left");
        pidfd_kill(pidfd_open(pid).unwrap(), libc::SIGTERM).unwrap();
        let status = end_of(pid);
        assert!(matches!(status, WaitStatus::Exited(_, 5)), "{status:?}");
    }
    let world = World::script("trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done");
    let mut run = world.launch();
    assert!(run.launched().success(), "{}", run.stderr());
    until("ready", || run.stdout().contains("ready").then_some(()));
    assert_eq!(stop(&world, run.main_pid(), &["SIGQUIT"]), 0, "deaf to this one");
    let status = end_of(run.main_pid());
    assert!(matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _)), "{status:?}");
}

fn an_init_that_waits_for_signals_is_left() {
    // As tini does: the kernel shows the signal neither as caught nor, while it waits, as blocked.
    let script = format!(
        "$| = 1; $s = pack('Q', 1 << 14); syscall({}, 0, $s, 0, 8); print 'ready'; exit syscall({}, $s, 0, 0, 8)",
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigtimedwait,
    );
    for (signal, left) in [("TERM", true), ("INT", false)] {
        let world = World::new(&["perl", "-e", &script]);
        let mut run = world.launch();
        assert!(run.launched().success(), "{}", run.stderr());
        let pid = run.main_pid();
        until("ready", || run.stdout().contains("ready").then_some(()));
        assert_eq!(stop(&world, pid, &[signal]), 0);
        if left {
            pidfd_kill(pidfd_open(pid).unwrap(), libc::SIGTERM).unwrap();
        }
        let status = end_of(pid);
        let by_itself = matches!(status, WaitStatus::Exited(_, 15));
        assert_eq!(by_itself, left, "{signal}: {status:?}");
    }
}

fn others_are_left() {
    let world = World::new(&["true"]);
    let mut other = Command::new("sleep").arg("1000").spawn().unwrap();
    assert_eq!(stop(&world, other.id(), &[]), 0);
    let pidfd = pidfd_open(other.id()).unwrap();
    assert!(!wait_end(&pidfd, Duration::from_millis(100)).unwrap(), "not a container's first process");
    other.kill().unwrap();
    other.wait().unwrap();
    assert_eq!(stop(&world, 0, &[""]), 0);
    assert_eq!(stop(&world, 0, &["NOSUCH"]), 2);
}

fn usage() {
    let run = |arguments: &[&str]| Command::new(LAUNCHER).args(arguments).env_clear().output().unwrap();
    for arguments in [&[][..], &["--no-such"], &["a", "b"], &["../x"], &["--stop"], &["mesos"]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stderr.starts_with(b"berth-launch: ") && output.stderr.ends_with(b"\n"));
    }
    assert_eq!(run(&["--version"]).stdout, format!("berth-launch {}\n", env!("CARGO_PKG_VERSION")).into_bytes());
    assert!(run(&["--help"]).status.success());
    let by_hand = run(&["web"]);
    assert_eq!(by_hand.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&by_hand.stderr).contains("INVOCATION_ID is not set"));
}
