//! The pretended world of one launch: berthd, the service manager, a sandbox.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, IoSliceMut, Write},
    mem::MaybeUninit,
    os::unix::net::{UnixDatagram, UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use berth::{
    plan::{Action, Bind, CapabilityWishes, Namespace, Phase, Plan, Program, Source, Step, UnitSettings},
    protocol::{Failure, Reply, Request},
    sys::process::{pidfd_open, wait_end},
};
use nix::{
    sys::wait::{WaitStatus, waitpid},
    unistd::Pid,
};
use rustix::net::{RecvAncillaryBuffer, RecvFlags, recvmsg};

/// Longer than anything takes, but for a test that fails.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// The PATH of every container here.
pub const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// The ID of every start here.
pub const INVOCATION: &str = "0123456789abcdef0123456789abcdef";
/// The launcher under test.
pub const LAUNCHER: &str = env!("CARGO_BIN_EXE_berth-launch");

/// What the pretended berthd does with a launcher that connects.
#[derive(Debug, Clone)]
pub enum Act {
    /// Hangs up at once.
    HangUp,
    /// Says `Working` first, then as the next act.
    Working,
    /// Gives the plan, listens, and says `Go` to an armed child while it may.
    Serve {
        /// Whether it says `Go`.
        go: bool,
    },
    /// Gives the plan and is gone: connection and socket.
    Die,
    /// Gives the plan and hangs up, but hears the next connection.
    GiveAndHangUp,
    /// Refuses.
    Refuse(Failure),
}

/// A line heard, by whom it does not matter.
pub type Heard = Arc<Mutex<Vec<String>>>;

/// One pretended host.
pub struct World {
    /// Everything below goes away with it.
    pub directory: tempfile::TempDir,
    /// What the launcher is told to do.
    pub plan: Plan,
    /// What berthd does, connection by connection; the last act is repeated.
    pub acts: Vec<Act>,
    /// Whether there is a service manager with the notify protocol.
    pub systemd: bool,
    /// Whether it answers barriers.
    pub answers: bool,
    /// Prepared to run before the launcher, in a shell: `exec "$0" web` follows.
    pub prelude: String,
    /// How much later than the launcher berthd starts.
    pub late: Duration,
    /// What berthd has heard.
    pub berthd: Heard,
    /// What the service manager has heard.
    pub manager: Heard,
    /// Descriptors of barriers that are not answered.
    held: Arc<Mutex<Vec<std::os::fd::OwnedFd>>>,
}

impl World {
    /// A world whose container runs `argv`.
    pub fn new(argv: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let sandbox = directory.path().join("sandbox");
        fs::create_dir(&sandbox).unwrap();
        Self {
            plan: plan(argv, &sandbox),
            directory,
            acts: vec![Act::Serve { go: true }],
            systemd: true,
            answers: true,
            prelude: String::new(),
            late: Duration::ZERO,
            berthd: Heard::default(),
            manager: Heard::default(),
            held: Arc::default(),
        }
    }

    /// A world whose container runs a shell script.
    pub fn script(script: &str) -> Self {
        Self::new(&["sh", "-c", script])
    }

    /// A path in this world.
    pub fn at(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    /// Adds a step of the mounts' phase, after those there are.
    pub fn mount(&mut self, action: Action) {
        let place = self.plan.steps.iter().position(|step| step.phase > Phase::Mounts).unwrap();
        self.plan.steps.insert(place, step(Phase::Mounts, action));
    }

    /// Adds a bind mount.
    pub fn bind(&mut self, source: Source, target: &Path, read_only: bool) {
        self.mount(Action::Bind { binds: vec![Bind::new(source, target, read_only)] });
    }

    /// Starts berthd, the service manager and the launcher.
    pub fn launch(&self) -> Run<'_> {
        if self.systemd {
            self.start_manager();
        }
        if self.late.is_zero() {
            self.start_berthd();
        }
        let launcher = self.command().spawn().unwrap();
        if !self.late.is_zero() {
            thread::sleep(self.late);
            self.start_berthd();
        }
        Run { world: self, launcher: Some(launcher) }
    }

    /// The launcher's command line.
    fn command(&self) -> Command {
        let mut command = Command::new("/bin/sh");
        let script = format!("{}\nexec \"$0\" web", self.prelude);
        command
            .args(["-c", &script, LAUNCHER])
            .env_clear()
            .env("INVOCATION_ID", INVOCATION)
            .env("BERTH_SOCKET", self.at("berthd.sock"))
            .env("NOT_FOR_THE_CONTAINER", "1")
            .stdin(Stdio::null())
            .stdout(File::create(self.at("stdout")).unwrap())
            .stderr(File::create(self.at("stderr")).unwrap());
        if self.systemd {
            command.env("NOTIFY_SOCKET", self.at("notify.sock"));
        }
        command
    }

    /// berthd, until the process ends.
    fn start_berthd(&self) {
        let socket = self.at("berthd.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (plan, mut acts, heard) = (self.plan.clone(), self.acts.clone(), self.berthd.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let act = if acts.len() > 1 { acts.remove(0) } else { acts[0].clone() };
                let dies = matches!(act, Act::Die);
                serve(act, stream.unwrap(), &plan, &mut acts, &heard);
                if dies {
                    return fs::remove_file(&socket).unwrap();
                }
            }
        });
    }

    /// The service manager, until the process ends.
    fn start_manager(&self) {
        let socket = UnixDatagram::bind(self.at("notify.sock")).unwrap();
        let (heard, held, answers) = (self.manager.clone(), self.held.clone(), self.answers);
        thread::spawn(move || {
            loop {
                let mut bytes = [0; 4096];
                let mut space = [MaybeUninit::uninit(); 64];
                let mut control = RecvAncillaryBuffer::new(&mut space);
                let buffers = &mut [IoSliceMut::new(&mut bytes)];
                let message = recvmsg(&socket, buffers, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
                let fds: Vec<_> = control
                    .drain()
                    .filter_map(|message| match message {
                        rustix::net::RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                        _ => None,
                    })
                    .flatten()
                    .collect();
                let text = String::from_utf8_lossy(&bytes[..message.bytes]).into_owned();
                heard.lock().unwrap().extend(text.lines().map(str::to_owned));
                if !answers {
                    held.lock().unwrap().extend(fds);
                }
            }
        });
    }
}

/// Plays one act.
fn serve(act: Act, stream: UnixStream, plan: &Plan, acts: &mut [Act], heard: &Heard) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    let say = |reader: &mut BufReader<UnixStream>, reply: &Reply| {
        let line = serde_json::to_string(reply).unwrap() + "\n";
        drop(reader.get_mut().write_all(line.as_bytes()));
    };
    let mut hear = |reader: &mut BufReader<UnixStream>| {
        line.clear();
        let some = reader.read_line(&mut line).is_ok_and(|length| length > 0);
        if some {
            heard.lock().unwrap().push(line.trim_end().to_owned());
        }
        some.then(|| line.clone())
    };
    if matches!(act, Act::HangUp) {
        return;
    }
    let Some(request) = hear(&mut reader) else { return };
    if let Ok(Request::LaunchFailed { .. }) = serde_json::from_str(&request) {
        return say(&mut reader, &Reply::Done);
    }
    let give = Reply::Launch { plan: Box::new(plan.clone()) };
    match act {
        Act::Working => {
            say(&mut reader, &Reply::Working { extend_ms: None, status: None });
            say(&mut reader, &give);
            acts[0] = Act::Serve { go: true };
            while hear(&mut reader).is_some() {}
        }
        Act::Refuse(failure) => say(&mut reader, &Reply::Refused { failure }),
        Act::Die | Act::GiveAndHangUp => say(&mut reader, &give),
        Act::Serve { go } => {
            say(&mut reader, &give);
            while let Some(report) = hear(&mut reader) {
                if report.contains("armed") && go {
                    say(&mut reader, &Reply::Go);
                }
                if report.contains("armed") && !go {
                    // An operator's berthd that is killed between record and answer.
                    thread::sleep(Duration::from_millis(300));
                    return;
                }
            }
        }
        Act::HangUp => {}
    }
}

/// One launch.
pub struct Run<'a> {
    /// Where.
    pub world: &'a World,
    /// The launcher, until it was waited for.
    launcher: Option<Child>,
}

impl Run<'_> {
    /// The launcher's PID.
    pub fn launcher(&self) -> u32 {
        self.launcher.as_ref().unwrap().id()
    }

    /// Waits for the launcher's end.
    pub fn launched(&mut self) -> ExitStatus {
        let mut launcher = self.launcher.take().unwrap();
        let pidfd = pidfd_open(launcher.id()).unwrap();
        if !wait_end(&pidfd, PATIENCE).unwrap() {
            launcher.kill().unwrap();
            panic!("the launcher hangs; stderr: {}", self.stderr());
        }
        launcher.wait().unwrap()
    }

    /// Waits for the container's first process, as the service manager was told of it.
    pub fn main_pid(&self) -> u32 {
        let find = || {
            let heard = self.world.manager.lock().unwrap();
            heard.iter().find_map(|line| line.strip_prefix("MAINPID=")?.parse().ok())
        };
        until("MAINPID", find)
    }

    /// Launches to the end: the wait status of the program.
    pub fn finish(&mut self) -> WaitStatus {
        let status = self.launched();
        assert!(status.success(), "{status:?} {}", self.stderr());
        end_of(self.main_pid())
    }

    /// Launches to the end, well; what the program printed.
    pub fn output(&mut self) -> String {
        let status = self.finish();
        assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?} {}", self.stderr());
        self.stdout()
    }

    /// What has been printed.
    pub fn stdout(&self) -> String {
        fs::read_to_string(self.world.at("stdout")).unwrap()
    }

    /// What has been complained about.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.world.at("stderr")).unwrap()
    }

    /// The launch fails: exit status, and the failure that berthd heard of.
    pub fn failure(&mut self) -> (i32, Failure) {
        let status = self.launched().code().unwrap();
        let find = || {
            let heard = self.world.berthd.lock().unwrap();
            heard.iter().find_map(|line| {
                let value: serde_json::Value = serde_json::from_str(line).unwrap();
                serde_json::from_value(value.get("failure")?.clone()).ok()
            })
        };
        let failure: Failure = until("a failure", find);
        let line = format!("berth: web: {}: {}\n", failure.stage.as_str(), failure.message);
        assert_eq!(self.stderr(), line);
        (status, failure)
    }
}

/// Waits until `find` finds.
pub fn until<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "{what} never came");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for the end of a child of this process.
pub fn end_of(pid: u32) -> WaitStatus {
    let pidfd = pidfd_open(pid).unwrap();
    if !wait_end(&pidfd, PATIENCE).unwrap() {
        berth::sys::process::pidfd_kill(&pidfd, libc::SIGKILL).unwrap();
        panic!("process {pid} does not end");
    }
    waitpid(Pid::from_raw(pid.cast_signed()), None).unwrap()
}

/// Ends a container's first process.
pub fn kill(pid: u32) {
    berth::sys::process::kill(pid, libc::SIGKILL).unwrap();
    end_of(pid);
}

/// What a tool of this machine prints.
pub fn tool(argv: &[&str]) -> String {
    let output = Command::new(argv[0]).args(&argv[1..]).output().unwrap();
    assert!(output.status.success(), "{argv:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A step.
pub fn step(phase: Phase, action: Action) -> Step {
    Step { isolator: "test".to_owned(), phase, action }
}

/// A plan with private namespaces that runs `argv` as root in the sandbox.
fn plan(argv: &[&str], sandbox: &Path) -> Plan {
    let identity = Action::SetIdentity { uid: 0, gid: 0, groups: vec![] };
    Plan {
        container: "web".parse().unwrap(),
        unit: UnitSettings::default(),
        namespaces: [Namespace::Mount, Namespace::Pid, Namespace::Ipc].into(),
        sandbox: Some(sandbox.to_owned()),
        tag: None,
        image: None,
        disk: None,
        steps: vec![
            step(Phase::Namespaces, Action::IsolateMounts),
            step(Phase::Mounts, Action::MountProc),
            step(Phase::Mounts, Action::MountShm { size: None }),
            step(Phase::Mounts, Action::MountMqueue),
            step(Phase::Identity, identity),
            step(Phase::Identity, Action::SetUmask { mask: 0o022 }),
            step(Phase::Identity, Action::ChangeDirectory { path: None }),
        ],
        program: Program {
            executable: argv[0].to_owned(),
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            environment: vec![("PATH".to_owned(), PATH.to_owned())],
            init: false,
        },
        warnings: vec![],
        capabilities: CapabilityWishes::default(),
    }
}
