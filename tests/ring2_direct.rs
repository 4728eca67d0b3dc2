//! Ring 2: the direct manager with real processes and cgroups, and a stand-in for `berth-launch`.
//!
//! The stand-in, `fake_launcher.pl`, makes its child with CLONE_PARENT as the real one does, and this test plays
//! berthd's side of the socket. Every wait is for an event.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // a test panics where it fails

use std::{
    collections::BTreeMap,
    fs,
    future::Future,
    os::unix::fs::{PermissionsExt, symlink},
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use berth::{
    manager::{
        Active, Batch, Event, Exit, Job, JobError, JobVerb, Order, Process, ServiceManager, Unit,
        direct::{self, DirectManager, Setup},
    },
    plan::UnitSettings,
    root::Root,
    spec::{Name, Restart, StartLimit},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream, unix::pipe},
    sync::mpsc,
};

/// The stand-in for berth-launch.
const LAUNCHER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fake_launcher.pl");

/// Longest wait for anything: only a failure takes so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A world with a direct manager in it.
struct Host {
    /// Where all is.
    world: tempfile::TempDir,
    /// The manager.
    manager: DirectManager,
    /// What it tells.
    events: mpsc::UnboundedReceiver<Event>,
    /// What it told.
    told: Vec<Event>,
    /// Numbers of all containers' main processes.
    pids: Vec<u32>,
    /// The last token.
    token: u64,
    /// What every container has beside what its test says.
    base: UnitSettings,
}

/// A container's name.
fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// Field 22 of `/proc/PID/stat`.
fn start_time(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap()
}

/// The process that has the number now.
fn process(pid: u32) -> Process {
    Process { pid, start_time: start_time(pid) }
}

/// Whether a process of that number runs, or is a zombie of ours: others' zombies are for others to reap.
fn exists(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[0] != "Z" || fields[1] == std::process::id().to_string()
}

/// Our zombies. Tests run side by side, so some may be another's, who is about to reap them.
fn zombies() -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let zombie = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") Z ").is_some_and(|(_, rest)| rest.starts_with(&format!("{} ", std::process::id())))
    };
    pids.filter(zombie).collect()
}

/// Runs a test on its own event loop, if this machine lets it.
fn ring2<F: Future<Output = ()>>(test: impl FnOnce(Host) -> F) {
    if !rustix::process::geteuid().is_root() {
        assert_ne!(std::env::var("BERTH_REQUIRE_RINGS").as_deref(), Ok("1"), "ring 2 NOT RUN: needs root");
        return println!("ring 2 NOT RUN: needs root");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async {
        let host = Host::new().await;
        test(host).await;
    });
}

/// Answers launchers as berthd does: the order first, then the word.
async fn serve(stream: UnixStream, manager: DirectManager) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if line == "launch" {
            write.write_all(b"plan\n").await.ok();
            continue;
        }
        let [whose, invocation, pid] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let process = process(pid.parse().unwrap());
        manager.order(Order::Armed { name: name(whose), invocation: invocation.into(), process });
        write.write_all(b"go\n").await.ok();
    }
}

impl Host {
    /// A world and its manager.
    async fn new() -> Self {
        let world = tempfile::tempdir().unwrap();
        for (link, target) in [("proc", "/proc"), ("sys", "/sys")] {
            symlink(target, world.path().join(link)).unwrap();
        }
        symlink(LAUNCHER, world.path().join("berth-launch")).unwrap(); // a copy would be busy while others fork
        let (manager, events) = Self::manage(&world);
        let listener = UnixListener::bind(world.path().join("sock")).unwrap();
        let answering = manager.clone();
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::task::spawn_local(serve(stream, answering.clone()));
            }
        });
        let base = UnitSettings { restart: Some(Restart::No), ..UnitSettings::default() };
        let (told, pids) = (Vec::new(), Vec::new());
        let mut host = Self { world, manager, events, told, pids, token: 0, base };
        host.until("the first snapshot", |event| matches!(event, Event::Snapshot(_))).await;
        host
    }

    /// A manager in a world.
    fn manage(world: &tempfile::TempDir) -> (DirectManager, mpsc::UnboundedReceiver<Event>) {
        let (sender, events) = mpsc::unbounded_channel();
        let at = |file: &str| world.path().join(file);
        let setup = Setup { root: Root::new(world.path()), launcher: at("berth-launch"), socket: at("sock") };
        (direct::spawn(setup, sender), events)
    }

    /// Waits for an event.
    async fn until(&mut self, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let event = self.events.recv().await.unwrap();
                if let Event::Changed(_, unit) = &event {
                    self.pids.extend(unit.main_pid);
                }
                self.told.push(event.clone());
                if wanted(&event) {
                    return event;
                }
            }
        })
        .await;
        found.unwrap_or_else(|_| panic!("{what} does not come after {:#?}", self.told))
    }

    /// Waits until a unit is so.
    async fn unit(&mut self, whose: &str, what: &str, wanted: impl Fn(&Unit) -> bool) -> Unit {
        let whose = name(whose);
        let event = self.until(what, |e| matches!(e, Event::Changed(n, unit) if *n == whose && wanted(unit))).await;
        let Event::Changed(_, unit) = event else { unreachable!() };
        *unit
    }

    /// Waits until a unit has ended and nothing more comes of it on its own.
    async fn end(&mut self, whose: &str) -> Unit {
        self.unit(whose, "the end", |unit| matches!(unit.active, Active::Inactive | Active::Failed)).await
    }

    /// Waits for the end of a job.
    async fn done(&mut self, job: u64) -> Result<(), JobError> {
        let event =
            self.until("the end of a job", |e| matches!(e, Event::JobDone { token, .. } if *token == job)).await;
        let Event::JobDone { result, .. } = event else { unreachable!() };
        result
    }

    /// Writes a program: lines with `#` are for the launcher.
    fn program(&mut self, whose: &str, script: &str, change: impl FnOnce(&mut UnitSettings)) {
        fs::write(self.world.path().join(format!("{whose}.sh")), script).unwrap();
        let mut settings = self.base.clone();
        change(&mut settings);
        let settings = BTreeMap::from([(name(whose), Some(settings))]);
        self.manager.order(Order::Apply(Batch { settings, jobs: Vec::new() }));
    }

    /// Gives a job.
    fn job(&mut self, verb: JobVerb, whose: &str) -> u64 {
        self.token += 1;
        let jobs = vec![Job { verb, name: name(whose), token: self.token }];
        self.manager.order(Order::Apply(Batch { settings: BTreeMap::new(), jobs }));
        self.token
    }

    /// Starts a container and waits for it.
    async fn start(&mut self, whose: &str) {
        let job = self.job(JobVerb::Start, whose);
        assert_eq!(self.done(job).await, Ok(()), "after {:#?}", self.told);
    }

    /// Stops a container and returns how it ended.
    async fn stop(&mut self, whose: &str) -> Unit {
        let job = self.job(JobVerb::Stop, whose);
        assert_eq!(self.done(job).await, Ok(()));
        self.last(whose)
    }

    /// How a unit was last.
    fn last(&self, whose: &str) -> Unit {
        let whose = name(whose);
        let changed = self.told.iter().rev().find_map(|event| match event {
            Event::Changed(name, unit) if *name == whose => Some((**unit).clone()),
            _ => None,
        });
        changed.unwrap()
    }

    /// The states told so far, each once.
    fn states(&self) -> Vec<String> {
        let states = self.told.iter().filter_map(|event| match event {
            Event::Changed(name, unit) => Some(format!("{name} {}", unit.sub)),
            _ => None,
        });
        let mut states: Vec<_> = states.collect();
        states.retain(|state| !state.ends_with("sigkill")); // only if it takes a moment
        states.dedup(); // the main process of a start is news too
        states
    }

    /// A pipe by which programs speak to the test.
    fn pipe(&self) -> (PathBuf, pipe::Receiver) {
        let path = self.world.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        let receiver = pipe::OpenOptions::new().read_write(true).open_receiver(&path).unwrap();
        (path, receiver)
    }

    /// The cgroup directories of this world.
    fn cgroups(&self) -> Vec<PathBuf> {
        let parent = format!(
            "berth{}",
            self.world.path().display().to_string().replace(|c: char| !c.is_ascii_alphanumeric(), "-")
        );
        let places =
            ["", "freezer", "pids", "unified"].map(|mount| PathBuf::from("/sys/fs/cgroup").join(mount).join(&parent));
        places.into_iter().filter(|place| place.is_dir()).collect()
    }

    /// The test is over: nothing may be left.
    async fn leaves_nothing(mut self) {
        let busy: Vec<_> = self
            .told
            .iter()
            .filter_map(|e| if let Event::Changed(n, _) = e { Some(n.clone()) } else { None })
            .collect();
        for whose in busy {
            let job = self.job(JobVerb::Stop, whose.as_str());
            self.done(job).await.unwrap();
        }
        let began = Instant::now();
        let children = |place: &PathBuf| fs::read_dir(place).unwrap().flatten().filter(|e| e.path().is_dir()).count();
        while self.cgroups().iter().any(|place| children(place) > 0) {
            assert!(began.elapsed() < PATIENCE, "cgroups are left");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for zombie in zombies() {
            while exists(zombie) {
                assert!(began.elapsed() < PATIENCE, "zombie {zombie} is left");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        for pid in &self.pids {
            assert!(!exists(*pid), "process {pid} is left");
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for place in self.cgroups() {
            for child in fs::read_dir(&place).into_iter().flatten().flatten().map(|entry| entry.path()) {
                let members = fs::read_to_string(child.join("cgroup.procs")).unwrap_or_default();
                for pid in members.lines().filter_map(|line| rustix::process::Pid::from_raw(line.parse().ok()?)) {
                    rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
                }
                fs::remove_dir(child).ok();
            }
            fs::remove_dir(place).ok();
        }
    }
}

/// Reads a line that a program wrote.
async fn line(receiver: &mut pipe::Receiver) -> String {
    let mut text = Vec::new();
    tokio::time::timeout(PATIENCE, async {
        while text.last() != Some(&b'\n') {
            text.push(receiver.read_u8().await.unwrap());
        }
    })
    .await
    .unwrap();
    String::from_utf8(text).unwrap().trim().to_owned()
}

#[test]
fn forty_two_is_forty_two() {
    ring2(|mut host| async move {
        host.program("a", "echo out; echo err >&2; exit 42", |_| {});
        host.start("a").await;
        let unit = host.end("a").await;
        assert_eq!((unit.active, unit.sub.as_str(), unit.result.as_str()), (Active::Failed, "failed", "exit-code"));
        assert_eq!((unit.exit, unit.stopped, unit.main_pid), (Some(Exit::Exited(42)), false, None));
        let log = host.world.path().join("var/log/berth/a.log");
        assert_eq!(fs::read_to_string(&log).unwrap(), "out\nerr\n");
        assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o640);
        host.leaves_nothing().await;
    });
}

#[test]
fn states_come_in_order_with_identity() {
    ring2(|mut host| async move {
        host.program("a", "env > \"$DIR/env\"; exit 0", |_| {});
        host.start("a").await;
        let unit = host.end("a").await;
        assert_eq!(host.states(), ["a start", "a running", "a dead"]);
        let invocation = unit.invocation.unwrap();
        assert!(invocation.len() == 32 && invocation.bytes().all(|b| b.is_ascii_hexdigit()), "{invocation}");
        let environment = fs::read_to_string(host.world.path().join("env")).unwrap();
        assert!(environment.contains(&format!("INVOCATION_ID={invocation}\n")), "{environment}");
        assert!(!environment.contains("CARGO"), "a clean environment: {environment}");
        assert_eq!((unit.result.as_str(), unit.active), ("success", Active::Inactive));
        host.leaves_nothing().await;
    });
}

#[test]
fn a_signal_is_a_signal() {
    ring2(|mut host| async move {
        host.program("a", "kill -SEGV $$", |_| {});
        host.start("a").await;
        let unit = host.end("a").await;
        match unit.exit.unwrap() {
            Exit::Killed(11) => assert_eq!(unit.result, "signal"),
            Exit::Dumped(11) => assert_eq!(unit.result, "core-dump"),
            other => panic!("{other:?}"),
        }
        host.leaves_nothing().await;
    });
}

#[test]
fn an_init_that_would_ignore_the_signal_is_killed_at_once() {
    ring2(|mut host| async move {
        host.program("a", "# pidns\nexec sleep 1000", |s| s.stop_timeout = Some(Duration::from_secs(900)));
        host.start("a").await;
        let unit = host.stop("a").await;
        assert_eq!((unit.active, unit.sub.as_str(), unit.result.as_str()), (Active::Inactive, "dead", "success"));
        assert_eq!((unit.exit, unit.stopped), (Some(Exit::Killed(9)), true));
        host.leaves_nothing().await;
    });
}

#[test]
fn a_caught_signal_is_waited_for() {
    ring2(|mut host| async move {
        let (pipe, mut receiver) = host.pipe();
        let script = format!("# pidns\ntrap 'exit 7' TERM; sleep 1000 & echo ready > {}; wait", pipe.display());
        host.program("a", &script, |s| s.stop_timeout = Some(Duration::from_secs(900)));
        host.start("a").await;
        line(&mut receiver).await;
        let unit = host.stop("a").await;
        assert_eq!(
            (unit.active, unit.result.as_str(), unit.exit),
            (Active::Inactive, "exit-code", Some(Exit::Exited(7)))
        );
        assert!(unit.stopped);
        host.leaves_nothing().await;
    });
}

#[test]
fn without_a_pid_namespace_the_signal_is_always_sent() {
    ring2(|mut host| async move {
        host.program("a", "exec sleep 1000", |s| s.stop_timeout = Some(Duration::from_secs(900)));
        host.start("a").await;
        let unit = host.stop("a").await;
        assert_eq!((unit.result.as_str(), unit.exit, unit.stopped), ("success", Some(Exit::Killed(15)), true));
        host.leaves_nothing().await;
    });
}

#[test]
fn who_does_not_stop_in_time_is_killed() {
    ring2(|mut host| async move {
        let (pipe, mut receiver) = host.pipe();
        let script =
            format!("# pidns\ntrap : TERM; echo ready > {}; while :; do sleep 1000 & wait; done", pipe.display());
        host.program("a", &script, |s| s.stop_timeout = Some(Duration::from_millis(200)));
        host.start("a").await;
        line(&mut receiver).await;
        let unit = host.stop("a").await;
        assert_eq!(
            (unit.active, unit.result.as_str(), unit.exit),
            (Active::Inactive, "timeout", Some(Exit::Killed(9)))
        );
        assert!(unit.stopped);
        host.leaves_nothing().await;
    });
}

#[test]
fn restarts_back_off_until_the_limit() {
    ring2(|mut host| async move {
        host.program("a", "exit 1", |s| {
            s.restart = Some(Restart::OnFailure);
            s.restart_delay = Some(Duration::from_millis(30));
            s.start_limit = Some(StartLimit { burst: 3, interval: Duration::from_secs(600) });
        });
        let began = Instant::now();
        host.start("a").await;
        let waits = |unit: &Unit| unit.sub == "auto-restart" && unit.active == Active::Activating;
        let first = host.unit("a", "a first wait", waits).await;
        let second = host.unit("a", "a second wait", |unit| waits(unit) && unit.restarts == 1).await;
        assert_ne!(first.invocation, second.invocation);
        assert_eq!(second.exit, Some(Exit::Exited(1)));
        let unit = host.unit("a", "the limit", |unit| unit.result == "start-limit-hit").await;
        assert_eq!((unit.active, unit.restarts), (Active::Failed, 2));
        assert!(began.elapsed() >= Duration::from_millis(30 + 60 + 120), "the delays double");
        let job = host.job(JobVerb::Start, "a");
        assert_eq!(host.done(job).await, Err(JobError::Ended("failed".into())));
        host.manager.order(Order::ResetFailed(name("a")));
        assert_eq!(host.end("a").await.active, Active::Inactive);
        host.start("a").await;
        host.leaves_nothing().await;
    });
}

#[test]
fn a_stop_ends_the_wait_for_a_restart() {
    ring2(|mut host| async move {
        host.program("a", "exit 1", |s| {
            s.restart = Some(Restart::Always);
            s.restart_delay = Some(Duration::from_secs(900));
        });
        host.start("a").await;
        host.unit("a", "the wait", |unit| unit.sub == "auto-restart").await;
        let unit = host.stop("a").await;
        assert_eq!((unit.active, unit.stopped), (Active::Inactive, true));
        host.leaves_nothing().await;
    });
}

#[test]
fn errors_of_configuration_are_not_retried() {
    ring2(|mut host| async move {
        host.program("a", "# fail 78", |s| s.restart = Some(Restart::Always));
        let job = host.job(JobVerb::Start, "a");
        assert_eq!(host.done(job).await, Err(JobError::Ended("failed".into())));
        let unit = host.last("a");
        assert_eq!(
            (unit.active, unit.result.as_str(), unit.exit),
            (Active::Failed, "exit-code", Some(Exit::Exited(78)))
        );
        host.leaves_nothing().await;
    });
}

#[test]
fn a_child_that_was_never_armed_leaves_no_trace() {
    ring2(|mut host| async move {
        let (pipe, mut receiver) = host.pipe();
        host.program("a", &format!("# unarmed {}\nexec sleep 1000", pipe.display()), |_| {});
        let job = host.job(JobVerb::Start, "a");
        assert_eq!(host.done(job).await, Err(JobError::Ended("failed".into())));
        host.pids.push(line(&mut receiver).await.parse().unwrap());
        assert_eq!(host.last("a").exit, Some(Exit::Exited(1)));
        host.leaves_nothing().await;
    });
}

#[test]
fn a_start_that_hangs_ends_by_its_timeout() {
    ring2(|mut host| async move {
        host.program("a", "# hang", |s| s.start_timeout = Some(Duration::from_millis(200)));
        let job = host.job(JobVerb::Start, "a");
        assert_eq!(host.done(job).await, Err(JobError::Ended("failed".into())));
        let unit = host.last("a");
        assert_eq!((unit.active, unit.result.as_str(), unit.stopped), (Active::Failed, "timeout", false));
        host.leaves_nothing().await;
    });
}

#[test]
fn a_stop_while_starting_cancels_the_start() {
    ring2(|mut host| async move {
        host.program("a", "# hang", |_| {});
        let start = host.job(JobVerb::Start, "a");
        let stop = host.job(JobVerb::Stop, "a");
        assert_eq!(host.done(start).await, Err(JobError::Ended("canceled".into())));
        assert_eq!(host.done(stop).await, Ok(()));
        let unit = host.last("a");
        assert_eq!((unit.active, unit.result.as_str(), unit.stopped), (Active::Inactive, "success", true));
        host.leaves_nothing().await;
    });
}

#[test]
fn a_restart_is_a_new_run_and_an_attempt_leaves_the_dead_alone() {
    ring2(|mut host| async move {
        host.program("a", "# pidns\nexec sleep 1000", |_| {});
        let job = host.job(JobVerb::TryRestart, "a");
        assert_eq!(host.done(job).await, Ok(()));
        assert!(!host.told.iter().any(|event| matches!(event, Event::Changed(..))));
        host.start("a").await;
        let first = host.last("a");
        for verb in [JobVerb::Restart, JobVerb::TryRestart] {
            let job = host.job(verb, "a");
            assert_eq!(host.done(job).await, Ok(()));
        }
        let last = host.last("a");
        assert_eq!(last.active, Active::Active);
        assert_ne!((first.invocation, first.main_pid), (last.invocation, last.main_pid));
        host.leaves_nothing().await;
    });
}

#[test]
fn a_launcher_may_become_the_program() {
    ring2(|mut host| async move {
        host.program("a", "# inplace\nexit 5", |_| {});
        host.start("a").await;
        assert_eq!(host.end("a").await.exit, Some(Exit::Exited(5)));
        host.leaves_nothing().await;
    });
}

#[test]
fn what_is_left_over_is_killed() {
    ring2(|mut host| async move {
        let (pipe, mut receiver) = host.pipe();
        host.program("a", &format!("setsid sleep 1000 & echo $! > {}; exit 0", pipe.display()), |_| {});
        host.start("a").await;
        let left: u32 = line(&mut receiver).await.parse().unwrap();
        let unit = host.end("a").await;
        assert_eq!((unit.result.as_str(), unit.exit), ("success", Some(Exit::Exited(0))));
        assert!(!exists(left));
        host.leaves_nothing().await;
    });
}

#[test]
fn many_at_once() {
    ring2(|mut host| async move {
        let names: Vec<_> = (0..20).map(|n| format!("c{n}")).collect();
        for (n, whose) in names.iter().enumerate() {
            let namespace = if n % 2 == 0 { "# pidns\n" } else { "" };
            host.program(whose, &format!("{namespace}exec sleep 1000"), |_| {});
        }
        let batch = |verb: JobVerb, base: u64| Batch {
            settings: BTreeMap::new(),
            jobs: (base..).zip(&names).map(|(token, whose)| Job { verb, name: name(whose), token }).collect(),
        };
        for (verb, base) in [(JobVerb::Start, 100), (JobVerb::Stop, 200)] {
            host.manager.order(Order::Apply(batch(verb, base)));
            let mut open: Vec<u64> = (base..base + 20).collect();
            while !open.is_empty() {
                let event = host.until("a job", |event| matches!(event, Event::JobDone { .. })).await;
                let Event::JobDone { token, result, .. } = event else { unreachable!() };
                assert_eq!(result, Ok(()));
                open.retain(|&job| job != token);
            }
        }
        assert!(names.iter().all(|whose| host.last(whose).stopped));
        host.leaves_nothing().await;
    });
}

#[test]
fn what_is_required_comes_first_and_goes_last() {
    ring2(|mut host| async move {
        host.program("db", "exec sleep 1000", |_| {});
        host.program("web", "exec sleep 1000", |s| {
            s.requires = vec!["berth@db.service".into(), "data.mount".into()];
            s.after = vec!["berth@db.service".into(), "network-online.target".into()];
        });
        host.start("web").await;
        host.stop("db").await;
        assert_eq!(
            host.states(),
            [
                "db start",
                "db running",
                "web start",
                "web running",
                "web stop-sigterm",
                "web dead",
                "db stop-sigterm",
                "db dead"
            ]
        );
        host.leaves_nothing().await;
    });
}

#[test]
fn what_requires_a_failure_is_not_started() {
    ring2(|mut host| async move {
        host.program("db", "# fail 1", |_| {});
        host.program("web", "exec sleep 1000", |s| {
            s.requires = vec!["berth@db.service".into()];
            s.after = vec!["berth@db.service".into()];
        });
        host.program("log", "exec sleep 1000", |s| {
            s.wants = vec!["berth@db.service".into()];
            s.after = vec!["berth@db.service".into()];
        });
        let web = host.job(JobVerb::Start, "web");
        assert_eq!(host.done(web).await, Err(JobError::Ended("dependency".into())));
        host.start("log").await;
        host.leaves_nothing().await;
    });
}

#[test]
fn containers_outlive_their_manager_and_are_adopted() {
    ring2(|mut host| async move {
        host.program("a", "# pidns\nexec sleep 1000", |_| {});
        host.start("a").await;
        let before = host.last("a");
        let pid = before.main_pid.unwrap();
        let (manager, events) = Host::manage(&host.world);
        let mut settings = host.base.clone();
        settings.stop_timeout = Some(Duration::from_secs(900));
        manager.order(Order::Adopt {
            name: name("a"),
            invocation: before.invocation.clone().unwrap(),
            process: Some(process(pid)),
            settings: Box::new(settings),
        });
        (host.manager, host.events) = (manager, events);
        host.told.clear();
        let snapshot = host.until("a snapshot", |event| matches!(event, Event::Snapshot(_))).await;
        let Event::Snapshot(units) = snapshot else { unreachable!() };
        assert_eq!(units.get(&name("a")), Some(&before), "the adopted is as it was");
        let unit = host.stop("a").await;
        assert_eq!((unit.active, unit.stopped, unit.cgroup), (Active::Inactive, true, None));
        host.leaves_nothing().await;
    });
}

#[test]
fn the_end_of_a_foreign_process_is_seen_and_counts_as_a_failure() {
    ring2(|mut host| async move {
        let output = Command::new("sh").args(["-c", "sleep 1000 >/dev/null 2>&1 & echo $!"]).output().unwrap();
        let pid: u32 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        let settings = UnitSettings {
            restart: Some(Restart::OnFailure),
            restart_delay: Some(Duration::from_secs(900)),
            ..UnitSettings::default()
        };
        let adopt = |name: Name, process| Order::Adopt {
            name,
            invocation: "0".repeat(32),
            process,
            settings: Box::new(settings.clone()),
        };
        host.manager.order(adopt(name("a"), Some(process(pid))));
        host.unit("a", "adoption", |unit| unit.active == Active::Active && unit.main_pid == Some(pid)).await;
        let other = Process { pid, start_time: start_time(pid) + 1 };
        for (gone, process) in [("b", Some(other)), ("c", None)] {
            host.manager.order(adopt(name(gone), process));
            let unit = host.unit(gone, "a wait", |unit| unit.sub == "auto-restart").await;
            assert_eq!((unit.result.as_str(), unit.exit), ("protocol", None));
        }
        assert!(exists(pid), "another process of that number is left alone");
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(pid.cast_signed()).unwrap(),
            rustix::process::Signal::TERM,
        )
        .unwrap();
        let unit = host.unit("a", "a wait", |unit| unit.sub == "auto-restart").await;
        assert_eq!((unit.result.as_str(), unit.exit), ("protocol", None));
        host.leaves_nothing().await;
    });
}

#[test]
fn a_missing_launcher_is_said() {
    ring2(|mut host| async move {
        host.program("a", "exit 0", |_| {});
        fs::remove_file(host.world.path().join("berth-launch")).unwrap();
        let job = host.job(JobVerb::Start, "a");
        assert_eq!(host.done(job).await, Err(JobError::Ended("failed".into())));
        let unit = host.last("a");
        assert_eq!((unit.active, unit.result.as_str()), (Active::Failed, "resources"));
        assert!(unit.status.unwrap().contains("berth-launch: No such file"));
        host.leaves_nothing().await;
    });
}

#[test]
fn what_is_gone_from_the_configuration_runs_until_it_is_stopped() {
    ring2(|mut host| async move {
        host.program("a", "exec sleep 1000", |_| {});
        host.start("a").await;
        host.manager.order(Order::Apply(Batch { settings: BTreeMap::from([(name("a"), None)]), jobs: Vec::new() }));
        assert!(host.stop("a").await.stopped);
        host.leaves_nothing().await;
    });
}

#[test]
fn a_program_is_in_a_cgroup_of_its_own_where_there_can_be_one() {
    ring2(|mut host| async move {
        host.program("a", "exec sleep 1000", |_| {});
        host.start("a").await;
        let unit = host.last("a");
        let membership = fs::read_to_string(format!("/proc/{}/cgroup", unit.main_pid.unwrap())).unwrap();
        let of_its_own: Vec<_> = membership.lines().filter(|line| line.ends_with("/a")).collect();
        match std::env::var(ELSEWHERE).as_deref() {
            Ok(NONE) => assert_eq!((of_its_own, unit.cgroup), (Vec::<&str>::new(), None)),
            Ok(hierarchy) => {
                assert!(of_its_own.iter().all(|line| line.ends_with(&unit.cgroup.clone().unwrap())), "{membership}");
                let is_there = |line: &&str| if hierarchy == V2 { line.starts_with("0::") } else { line.contains(V1) };
                assert!(of_its_own.iter().any(is_there), "{hierarchy}: {membership}");
            }
            Err(_) => assert_eq!(of_its_own.is_empty(), unit.cgroup.is_none(), "{membership}"),
        }
        host.leaves_nothing().await;
    });
}

/// Hierarchies in which a container has its cgroup, as `/proc/PID/cgroup` names them.
const V1: &str = "freezer";

/// See [`V1`].
const V2: &str = "";

/// No hierarchy.
const NONE: &str = "none";

/// Set in a run of [`elsewhere`]: in which hierarchy containers have their cgroups there.
const ELSEWHERE: &str = "BERTH_TEST_ELSEWHERE";

/// Runs all other tests once more in a mount namespace that `script` has changed.
fn elsewhere(script: &str, hierarchy: &str) {
    if !rustix::process::geteuid().is_root() || std::env::var_os(ELSEWHERE).is_some() {
        return;
    }
    let inner = format!("{script} && exec \"$0\" --test-threads=2");
    let status = Command::new("unshare")
        .args(["--mount", "sh", "-c", &inner])
        .arg(std::env::current_exe().unwrap())
        .env(ELSEWHERE, hierarchy)
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn all_of_it_on_a_host_with_cgroup2_alone() {
    let script = "umount -R -l /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup";
    elsewhere(script, V2);
}

#[test]
fn all_of_it_with_the_v1_freezer() {
    if !PathBuf::from("/sys/fs/cgroup/freezer").exists() {
        return println!("NOT RUN: this host has no v1 freezer");
    }
    elsewhere("if [ -e /sys/fs/cgroup/unified ]; then umount /sys/fs/cgroup/unified; fi", V1);
}

#[test]
fn all_of_it_with_cgroups_that_cannot_be_written() {
    let script = "for m in /sys/fs/cgroup /sys/fs/cgroup/*; do mount -o remount,bind,ro $m 2>/dev/null || true; done";
    elsewhere(script, NONE);
}

#[test]
fn all_of_it_without_cgroups() {
    elsewhere("umount -R -l /sys/fs/cgroup", NONE);
}
