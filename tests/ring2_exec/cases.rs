//! The cases: what a program that comes in is, what it has, and what comes of it.
#![allow(clippy::missing_docs_in_private_items, reason = "the name of a case is its sentence")]

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::AsRawFd,
        unix::{
            fs::{OpenOptionsExt, PermissionsExt},
            process::{CommandExt, ExitStatusExt},
        },
    },
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use berth::{
    plan::Action,
    sys::process::{kill as signal, pidfd_open, wait_end},
};

use crate::{
    container::{Act, BERTHCTL, Container, Done},
    world::{INVOCATION, PATH, PATIENCE, World, kill, tool, until},
};

/// All cases by name; a case that returns is good.
pub const ALL: &[(&str, fn())] = &[
    ("place/namespaces_are_those_of_the_first_process", namespaces_are_those_of_the_first_process),
    ("place/without_a_pid_namespace", without_a_pid_namespace),
    ("place/the_working_directory_is_inside", the_working_directory_is_inside),
    ("place/only_what_is_the_containers_is_seen", only_what_is_the_containers_is_seen),
    ("who/identity_is_exact", identity_is_exact),
    ("who/another_user_has_his_own_groups_and_home", another_user_has_his_own_groups_and_home),
    ("who/environment_is_exact", environment_is_exact),
    ("who/descriptors_are_exact", descriptors_are_exact),
    ("who/a_directory_is_no_input", a_directory_is_no_input),
    ("who/keys_stay_behind", keys_stay_behind),
    ("who/every_later_step_of_the_plan_holds", every_later_step_of_the_plan_holds),
    ("who/projects_of_files_stay_as_they_are", projects_of_files_stay_as_they_are),
    ("end/statuses_are_exact", statuses_are_exact),
    ("end/what_is_not_run_is_said", what_is_not_run_is_said),
    ("end/whatever_the_caller_ignores", whatever_the_caller_ignores),
    ("end/with_the_container", it_ends_with_the_container),
    ("signals/are_passed_on_once", signals_are_passed_on_once),
    ("signals/end_the_entrant", signals_end_the_entrant),
    ("signals/at_any_moment", signals_at_any_moment),
    ("streams/are_the_callers", streams_are_the_callers),
    ("hostile/nobody_looks_into_who_enters", nobody_looks_into_who_enters),
    ("hostile/the_program_file_is_out_of_reach", the_program_file_is_out_of_reach),
    ("hostile/a_script_of_proc_self_exe", a_script_of_proc_self_exe),
    ("hostile/a_magic_link_leads_nowhere", a_magic_link_leads_nowhere),
    ("berthd/answers_that_are_none", answers_that_are_none),
    ("berthd/dies_on_the_way", berthd_dies_on_the_way),
    ("berthd/is_away", berthd_is_away),
    ("main/ends_on_the_way", main_ends_on_the_way),
    ("main/is_another_by_now", main_is_another_by_now),
];

fn namespaces_are_those_of_the_first_process() {
    let container = Container::new();
    let script = "cd /proc/self/ns; for n in ipc mnt pid net uts user cgroup; do readlink $n; done";
    let theirs: Vec<_> = ["ipc", "mnt", "pid", "net", "uts", "user", "cgroup"]
        .map(|kind| fs::read_link(format!("/proc/{}/ns/{kind}", container.main)).unwrap().display().to_string())
        .into();
    assert_eq!(container.script(script).lines().collect::<Vec<_>>(), theirs);
    let done = container.run(&["web", "--", "ps", "-e", "-o", "pid=,ppid=,comm="]);
    let lines: Vec<Vec<&str>> = done.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines.len(), 2, "{done:?}");
    assert_eq!((lines[0][0], lines[0][2]), ("1", "sleep"));
    // Its parent is berthctl, outside.
    assert_eq!((lines[1][1], lines[1][2]), ("0", "ps"));
}

fn without_a_pid_namespace() {
    let container = Container::in_place();
    let mnt = fs::read_link(format!("/proc/{}/ns/mnt", container.main)).unwrap();
    let pid = fs::read_link("/proc/self/ns/pid").unwrap();
    let expected = format!("{}\n{}\n", mnt.display(), pid.display());
    assert_eq!(container.script("readlink /proc/self/ns/mnt /proc/self/ns/pid"), expected);
    assert_eq!(container.run(&["web", "sh", "-c", "exit 42"]).code, 42);
}

fn the_working_directory_is_inside() {
    let container = Container::new();
    let sandbox = container.world.at("sandbox").display().to_string();
    assert_eq!(container.script("pwd; readlink /proc/self/cwd"), format!("{sandbox}\n{sandbox}\n"));
    assert_eq!(container.run(&["-w", "/usr/lib", "web", "pwd"]).out, "/usr/lib\n");
    let done = container.run(&["--workdir=/no/such", "web", "pwd"]);
    assert_eq!(done.code, 125);
    assert!(done.err.starts_with("berthctl: cannot change to /no/such: No such file or directory"), "{done:?}");
}

fn only_what_is_the_containers_is_seen() {
    let mut world = World::new(&["sleep", "1000"]);
    let private = world.at("private");
    fs::create_dir(&private).unwrap();
    fs::create_dir(world.at("sandbox/mine")).unwrap();
    fs::write(world.at("sandbox/mine/file"), "inside\n").unwrap();
    world.bind(berth::plan::Source::Sandbox("mine".into()), &private, false);
    let container = Container::of(world, Act::Admit);
    assert_eq!(container.script(&format!("cat {}/file; ls /dev/shm | wc -l", private.display())), "inside\n0\n");
}

/// Makes the plan's program another's.
fn become_user(world: &mut World, uid: u32, gid: u32, groups: &[u32]) {
    fs::set_permissions(world.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for step in &mut world.plan.steps {
        match &mut step.action {
            action @ Action::SetIdentity { .. } => *action = Action::SetIdentity { uid, gid, groups: groups.to_vec() },
            Action::SetUmask { mask } => *mask = 0o027,
            _ => {}
        }
    }
}

/// The lines of `/proc/PID/status` that say who a process is.
fn who(status: &str) -> Vec<String> {
    let wanted = ["Umask:", "Uid:", "Gid:", "Groups:", "SigBlk:", "SigIgn:", "NoNewPrivs:"];
    let caps = ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"];
    let lines = status.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.filter(|line| wanted.iter().chain(&caps).any(|field| line.starts_with(field))).collect()
}

fn identity_is_exact() {
    for (uid, gid, groups) in [(12345, 54321, vec![7, 4242]), (0, 0, vec![]), (0, 3, vec![9])] {
        let container = Container::with(|world| become_user(world, uid, gid, &groups));
        let mut exec = container.exec(&["web", "cat", "/proc/self/status"]);
        // What a shell or cron leaves to those it starts is none of the container's.
        exec.uid(0).gid(0);
        let done: Done = exec.output().unwrap().into();
        let main = fs::read_to_string(format!("/proc/{}/status", container.main)).unwrap();
        assert_eq!(who(&done.out), who(&main), "{done:?}");
        assert!(who(&main).contains(&format!("Uid: {uid} {uid} {uid} {uid}")), "{main}");
        assert!(who(&main).contains(&"Umask: 0027".to_owned()), "{main}");
    }
}

fn another_user_has_his_own_groups_and_home() {
    let container = Container::with(|world| become_user(world, 12345, 12345, &[7]));
    let script = "id -u; id -g; id -G; echo $USER $LOGNAME $HOME";
    let done = container.run(&["--user", "daemon", "--workdir", "/", "web", "sh", "-c", script]);
    assert_eq!((done.code, done.out.as_str()), (0, "1\n1\n1\ndaemon daemon /usr/sbin\n"), "{done:?}");
    let done = container.run(&["-u", "0:4", "-w", "/", "web", "sh", "-c", script]);
    assert_eq!((done.code, done.out.as_str()), (0, "0\n4\n4\nroot root /root\n"), "{done:?}");
    // A number needs no name, and who has no name has no home.
    let done = container.run(&["-u", "4321", "-w", "/", "web", "sh", "-c", script]);
    assert_eq!((done.code, done.out.as_str()), (0, "4321\n4321\n4321\n\n"), "{done:?}");
    let done = container.run(&["-u", "nosuchuser", "web", "true"]);
    assert_eq!(done.code, 125);
    assert!(done.err.contains("there is no user 'nosuchuser' on this host"), "{done:?}");
}

fn environment_is_exact() {
    let container = Container::with(|world| {
        world
            .plan
            .program
            .environment
            .extend([("TERM", "dumb"), ("A", "1")].map(|(k, v)| (k.to_owned(), v.to_owned())));
    });
    let done = container.run(&["web", "env"]);
    assert_eq!(done.out, format!("PATH={PATH}\nA=1\nTERM=vt220\nINVOCATION_ID={INVOCATION}\n"), "{done:?}");
    let done = container.run(&["-e", "A=2=3", "--env", "B=", "-e", "TERM=x", "-e", "PATH=/bin", "web", "env"]);
    assert_eq!(done.out, format!("A=2=3\nB=\nTERM=x\nPATH=/bin\nINVOCATION_ID={INVOCATION}\n"), "{done:?}");
    let bare: Done = container.exec(&["web", "env"]).env_clear().output().unwrap().into();
    assert_eq!(bare.out, format!("PATH={PATH}\nTERM=dumb\nA=1\nINVOCATION_ID={INVOCATION}\n"), "{bare:?}");
}

fn descriptors_are_exact() {
    let container = Container::new();
    // A stray file and a stray directory of whoever calls.
    let strays = |arguments: &[&str]| -> Done {
        let exec = container.exec(arguments);
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec \"$@\" 7</etc 9</etc/passwd", "sh"]).arg(exec.get_program()).args(exec.get_args());
        shell.stdin(Stdio::null()).output().unwrap().into()
    };
    let done = strays(&["web", "sh", "-c", "ls -l /proc/$$/fd; ls -l /proc/1/fd >/dev/null"]);
    let names: Vec<&str> = done.out.lines().skip(1).filter_map(|line| line.split_whitespace().nth(8)).collect();
    assert_eq!(names, ["0", "1", "2"], "{done:?}");
    assert!(done.out.contains("-> /dev/null"), "{done:?}");
}

fn a_directory_is_no_input() {
    let container = Container::new();
    let exec = |stdin: Stdio| -> Done { container.exec(&["web", "true"]).stdin(stdin).output().unwrap().into() };
    let done = exec(File::open("/etc").unwrap().into());
    assert_eq!(done.code, 125);
    assert!(done.err.contains("standard input is a directory"), "{done:?}");
    assert_eq!(exec(File::open("/etc/passwd").unwrap().into()).code, 0);
}

fn keys_stay_behind() {
    let container = Container::new();
    // KEYCTL_GET_KEYRING_ID of KEY_SPEC_SESSION_KEYRING.
    let script = format!("print syscall({}, 0, -3, 0)", libc::SYS_keyctl);
    let ours = tool(&["perl", "-e", &script]);
    let theirs = container.run(&["web", "perl", "-e", &script]);
    assert_eq!(theirs.code, 0, "{theirs:?}");
    assert!(ours.trim() == "-1" || ours.trim() != theirs.out.trim(), "{ours} {theirs:?}");
}

/// Whatever comes into the phases from the limits on holds for who enters, without a word about it here.
fn every_later_step_of_the_plan_holds() {
    use berth::plan::Phase;
    for phase in [Phase::Limits, Phase::Identity, Phase::Confine] {
        let container = Container::with(|world| {
            world.plan.steps.retain(|step| !matches!(step.action, Action::SetUmask { .. }));
            world.plan.steps.push(crate::world::step(phase, Action::SetUmask { mask: 0o123 }));
        });
        assert_eq!(container.script("umask"), "0123\n", "{phase:?}");
    }
    // A filter that hides clone3(2) comes before the program is born.
    let container = Container::with(|world| {
        let place = world.plan.steps.iter().position(|step| step.phase > Phase::Mounts).unwrap();
        world.plan.steps.insert(place, crate::world::step(Phase::Limits, Action::DenyUserNamespaces));
    });
    let done = container.run(&["web", "unshare", "--user", "true"]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.err.contains("Operation not permitted"), "{done:?}");
}

/// The calls, and what each says where it is not filtered: on the file system of a pipe it is unknown.
fn projects_of_files_stay_as_they_are() {
    use berth::plan::Phase;
    let script = "pipe(R, W); for (0x401c5820, 0x40086602, 0x40046602) { $! = 0; ioctl(R, $_, my $buffer = ' ' x 28); \
                  print 0 + $!, ' ' } $! = 0; syscall(469, fileno R, my $path = '', 0, 0, 0); print 0 + $!, ' '; \
                  $! = 0; ioctl(R, 0x801c581f, my $seen = ' ' x 28); print 0 + $!";
    let answers = |container: &Container| container.run(&["web", "perl", "-e", script]).out;
    let free = answers(&Container::new());
    assert!(!free.split(' ').any(|errno| errno == libc::EPERM.to_string()), "{free}");
    let container = Container::with(|world| {
        let place = world.plan.steps.iter().position(|step| step.phase > Phase::Mounts).unwrap();
        world.plan.steps.insert(place, crate::world::step(Phase::Limits, Action::DenyProjects));
    });
    assert_eq!(answers(&container), format!("1 1 1 1 {}", free.split(' ').next_back().unwrap()));
}

fn statuses_are_exact() {
    for container in [Container::new(), Container::in_place()] {
        for code in [0, 1, 42, 125, 255] {
            let done = container.run(&["web", "sh", "-c", &format!("exit {code}")]);
            assert_eq!((done.code, done.err.as_str()), (code, ""));
        }
        for number in [libc::SIGHUP, libc::SIGKILL, libc::SIGSEGV, libc::SIGTERM, 40] {
            let done = container.run(&["web", "perl", "-e", &format!("kill {number}, $$; sleep 1 while 1")]);
            assert_eq!((done.code, done.err.as_str()), (128 + number, ""));
        }
    }
}

fn what_is_not_run_is_said() {
    let container = Container::new();
    let executable = |name: &str, mode: u32, text: &str| {
        let path = container.world.at("sandbox").join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    executable("plain", 0o644, "text");
    executable("text", 0o755, "echo no interpreter\n");
    executable("lost", 0o755, "#!/no/such/shell\n");
    for (program, code, says) in [
        ("nosuchprogram", 127, "cannot run 'nosuchprogram': not found in PATH"),
        ("/no/such/program", 127, "cannot run /no/such/program: No such file or directory"),
        ("./lost", 127, "its #! interpreter /no/such/shell cannot run"),
        ("./plain", 126, "it exists but is not executable by user 0"),
        ("./text", 126, "cannot run ./text: Exec format error"),
        ("/etc", 126, "it is a directory"),
        ("/etc/passwd/x", 126, "Not a directory"),
    ] {
        let done = container.run(&["web", program]);
        assert_eq!((done.code, done.out.as_str()), (code, ""), "{done:?}");
        assert!(done.err.starts_with("berthctl: ") && done.err.contains(says), "{says}: {done:?}");
        assert_eq!(done.err.lines().count(), 1, "{done:?}");
    }
}

/// A parent's ignored signals, blocked ones and forgotten children.
fn whatever_the_caller_ignores() {
    let container = Container::new();
    let exec = container.exec(&["web", "sh", "-c", "grep -e SigIgn -e SigBlk /proc/self/status; exit 42"]);
    let mut shell = Command::new("perl");
    let script = "use POSIX; $SIG{$_} = 'IGNORE' for qw(CHLD HUP PIPE TERM INT); \
                  sigprocmask(SIG_BLOCK, POSIX::SigSet->new(SIGCHLD, SIGUSR1)); \
                  if (!fork) { sleep 1; exit 7 } exec @ARGV";
    shell.args(["-e", script]).arg(exec.get_program()).args(exec.get_args()).stdin(Stdio::null());
    let done: Done = shell.output().unwrap().into();
    let zero = "0000000000000000";
    assert_eq!((done.code, done.out), (42, format!("SigBlk:\t{zero}\nSigIgn:\t{zero}\n")), "{}", done.err);
}

/// A program in the container that has said so.
fn ready(container: &Container, script: &str) -> (Child, impl Read) {
    let script = format!("$| = 1; {script}; print \"ready\\n\"; sleep 1 while 1");
    let mut child = container.exec(&["web", "perl", "-e", &script]).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut line = [0; 6];
    out.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"ready\n");
    (child, out)
}

/// How a child ends that must end.
fn end(child: Child) -> Done {
    let pidfd = pidfd_open(child.id()).unwrap();
    assert!(wait_end(&pidfd, PATIENCE).unwrap(), "it hangs");
    child.wait_with_output().unwrap().into()
}

fn it_ends_with_the_container() {
    let container = Container::new();
    let (child, _out) = ready(&container, "");
    kill(container.main);
    let done = end(child);
    assert_eq!((done.code, done.err.as_str()), (137, "berthctl: 'web' has ended, and the program with it\n"));
}

fn signals_are_passed_on_once() {
    let counts = "$n = 0; $SIG{$_} = sub { print \"$_[0]\\n\" } for qw(TERM HUP USR1 WINCH QUIT NUM40)";
    for container in [Container::new(), Container::in_place()] {
        let (child, mut out) = ready(&container, counts);
        let numbers = [
            (libc::SIGHUP, "HUP"),
            (libc::SIGUSR1, "USR1"),
            (libc::SIGWINCH, "WINCH"),
            (libc::SIGQUIT, "QUIT"),
            (40, "NUM40"),
        ];
        for (number, name) in numbers {
            signal(child.id(), number).unwrap();
            let mut line = vec![0; name.len() + 1];
            out.read_exact(&mut line).unwrap();
            assert_eq!(String::from_utf8(line).unwrap(), format!("{name}\n"));
        }
        signal(child.id(), libc::SIGINT).unwrap();
        assert_eq!(end(child).code, 130);
        let mut rest = String::new();
        out.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "", "each came once");
    }
}

fn signals_end_the_entrant() {
    let container = Container::of(World::new(&["sleep", "1000"]), Act::Hang);
    let child = container.exec(&["web", "true"]).spawn().unwrap();
    until("berthd to be asked", || (container.heard.lock().unwrap().len() == 2).then_some(()));
    signal(child.id(), libc::SIGTERM).unwrap();
    assert_eq!(end(child), Done { code: 143, out: String::new(), err: String::new() });
}

/// None is lost between the entrant and the program, and no program is left that nobody attends to.
fn signals_at_any_moment() {
    let container = Container::new();
    let mut codes = Vec::new();
    for moment in 0..100 {
        let child = container.exec(&["web", "sleep", "1000"]).spawn().unwrap();
        thread::sleep(Duration::from_micros(150 * moment));
        signal(child.id(), libc::SIGTERM).unwrap();
        // The first may come before berthctl itself is there.
        let pidfd = pidfd_open(child.id()).unwrap();
        assert!(wait_end(&pidfd, PATIENCE).unwrap(), "it hangs after {moment}");
        codes.push(child.wait_with_output().unwrap().status);
    }
    let ended =
        |status: &std::process::ExitStatus| status.code() == Some(143) || status.signal() == Some(libc::SIGTERM);
    assert!(codes.iter().all(ended), "{codes:?}");
    assert!(codes.iter().any(|status| status.code() == Some(143)), "{codes:?}");
    until("the container to be alone", || {
        (container.run(&["web", "ps", "-e", "-o", "comm="]).out == "sleep\nps\n").then_some(())
    });
}

fn streams_are_the_callers() {
    let container = Container::new();
    let mut child =
        container.exec(&["web", "sh", "-c", "wc -c; echo complaint >&2"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&vec![b'x'; 1 << 20]).unwrap();
    assert_eq!(end(child), Done { code: 0, out: "1048576\n".to_owned(), err: "complaint\n".to_owned() });
}

/// What a root without CAP_SYS_PTRACE can do is what a container's root can.
fn nobody_looks_into_who_enters() {
    const BOUNDED: [&str; 2] = ["--bounding-set", "-sys_ptrace"];
    let mut world = World::new(&["sleep", "1000"]);
    world.prelude = format!("exec setpriv {} {} \"$0\" web", BOUNDED[0], BOUNDED[1]);
    let container = Container::of(world, Act::Hang);
    let exec = container.exec(&["web", "true"]);
    let mut bounded = Command::new("setpriv");
    bounded.args(BOUNDED).arg(exec.get_program()).args(exec.get_args()).stdin(Stdio::null()).stderr(Stdio::piped());
    let child = bounded.spawn().unwrap();
    until("berthd to be asked", || (container.heard.lock().unwrap().len() == 2).then_some(()));
    let entrant = tool(&["ps", "-o", "pid=", "--ppid", &child.id().to_string()]).trim().to_owned();
    let look = |pid: &str, file: &str| {
        let path = format!("/proc/{pid}/{file}");
        let look = Command::new("setpriv").args(BOUNDED).args(["ls", "-lL", &path]).output().unwrap();
        look.status.success()
    };
    for file in ["exe", "fd/0"] {
        assert!(look(&container.main.to_string(), file), "{file} of the container's own");
        assert!(!look(&entrant, file), "{file} of the entrant");
        assert!(!look(&child.id().to_string(), file), "{file} of berthctl");
    }
    signal(child.id(), libc::SIGTERM).unwrap();
    assert_eq!(end(child).code, 143);
}

fn the_program_file_is_out_of_reach() {
    // One of its own: those of other cases are busy.
    let container = Container::with(|world| drop(tool(&["cp", BERTHCTL, world.at("berthctl").to_str().unwrap()])));
    let mut exec = Command::new(container.world.at("berthctl"));
    exec.args(container.exec(&["web", "sh", "-c", "echo ready; exec sleep 1000"]).get_args());
    let mut child = exec.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    let exe = format!("/proc/{}/exe", child.id());
    assert_eq!(fs::read(&exe).unwrap(), fs::read(BERTHCTL).unwrap());
    assert_eq!(fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap(), "berthctl\n");
    let held = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(exe).unwrap();
    signal(child.id(), libc::SIGTERM).unwrap();
    assert_eq!(end(child).code, 143);
    // While it ran, "text file busy" would have been the answer.
    let again = format!("/proc/self/fd/{}", held.as_raw_fd());
    let error = OpenOptions::new().write(true).open(again).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem, "{error}");
}

/// CVE-2019-5736: the container's program is the one that enters.
fn a_script_of_proc_self_exe() {
    for (container, code) in [(Container::new(), 127), (Container::in_place(), 2)] {
        let path = container.world.at("sandbox/trap");
        fs::write(&path, "#!/proc/self/exe\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let done = container.run(&["web", "./trap"]);
        // Where /proc shows it, berthctl is what runs: in the container, and from its sealed file.
        assert_eq!(done.code, code, "{done:?}");
    }
}

/// CVE-2024-21626: a working directory by way of another process or descriptor.
fn a_magic_link_leads_nowhere() {
    let container = Container::in_place();
    let host = format!("/proc/{}", std::process::id());
    let directory = File::open("/etc").unwrap();
    for path in [format!("{host}/root"), format!("{host}/cwd"), format!("{host}/fd/{}", directory.as_raw_fd())] {
        let done = container.run(&["-w", &path, "web", "pwd"]);
        assert_eq!(done.code, 125, "{done:?}");
        assert!(done.err.contains("the working directory is not inside the container"), "{done:?}");
    }
    let container = Container::new();
    for path in ["/proc/self/root", "/proc/self/fd/3", "/proc/self/cwd"] {
        let done = container.run(&["-w", path, "web", "pwd"]);
        assert_eq!(done.code, 125, "{done:?}");
        assert!(done.err.contains("No such file or directory"), "{done:?}");
    }
}

fn answers_that_are_none() {
    for (answer, says) in [
        ("{\"reply\":\"error\",\"message\":\"it is stopped\"}", "berthctl: cannot enter 'web': it is stopped\n"),
        ("{\"reply\":\"done\"}", "berthd's answer is not understood"),
        ("{\"reply\":\"go\"}", "berthd's answer is not understood"),
        ("nonsense", "cannot speak with berthd"),
    ] {
        let container = Container::of(World::new(&["sleep", "1000"]), Act::Answer(answer));
        let done = container.run(&["web", "true"]);
        assert_eq!((done.code, done.out.as_str()), (125, ""), "{done:?}");
        assert!(done.err.contains(says), "{done:?}");
        assert_eq!(container.heard.lock().unwrap()[0], "{\"request\":\"enter\",\"container\":\"web\"}");
    }
}

fn berthd_dies_on_the_way() {
    let container = Container::of(World::new(&["sleep", "1000"]), Act::Die);
    let done = container.run(&["web", "true"]);
    assert_eq!(done.code, 125);
    assert_eq!(done.err, "berthctl: cannot enter 'web': berthd ended before it answered; try again\n");
}

fn berthd_is_away() {
    let container = Container::new();
    fs::remove_file(container.world.at("run/berth/berthd.sock")).unwrap();
    let done = container.run(&["web", "true"]);
    assert_eq!(done.code, 125);
    assert!(done.err.contains("berthd is not running (nobody listens on "), "{done:?}");
    assert!(done.err.ends_with("start it ('systemctl start berthd')\n"), "{done:?}");
}

fn main_ends_on_the_way() {
    let container = Container::of(World::new(&["sleep", "1000"]), Act::Kill);
    let began = Instant::now();
    let done = container.run(&["web", "true"]);
    assert_eq!((done.code, done.err.as_str()), (125, "berthctl: cannot enter 'web': it has just ended\n"));
    assert!(began.elapsed() < Duration::from_secs(5));
}

fn main_is_another_by_now() {
    let container = Container::of(World::new(&["sleep", "1000"]), Act::Mistake);
    let done = container.run(&["web", "true"]);
    assert_eq!((done.code, done.err.as_str()), (125, "berthctl: cannot enter 'web': it has just ended\n"));
    let heard = || container.heard.lock().unwrap().clone();
    until("it to hang up", || (heard().len() == 2).then_some(()));
    assert_eq!(heard()[1], "", "it has not joined");
}
