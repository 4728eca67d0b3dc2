//! A test host: a real systemd as PID 1 of namespaces and on a root filesystem of its own.
//!
//! [`Host::boot`] takes well under a second. Each host has a pristine disk in memory and
//! vanishes when dropped, also when the test is killed. The recipe itself is the script
//! `tests/host/boot`, the root filesystems come from `tests/host/build-rootfs`.
//!
//! In a VM the machine itself is the host ([`super::here`]).

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::str::FromStr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::Signal;

use super::cgroup::{self, HostCgroup};
use super::here;
use super::inside::{self, Output, Running};
use super::tree::Tree;

/// What can go wrong with a host, in words.
pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// After this long a boot or a shutdown has failed. It takes a fraction of a second.
const PATIENCE: Duration = Duration::from_secs(60);

/// After this long a foreground command hangs.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);

/// How many times more time everything may take: `BERTH_TEST_SLOWNESS`, for machines that are
/// emulated. All waiting goes by it.
pub fn slowness() -> u32 {
    static SLOWNESS: LazyLock<u32> = LazyLock::new(|| {
        let value = env::var("BERTH_TEST_SLOWNESS").ok();
        value.and_then(|value| value.parse().ok()).unwrap_or(1)
    });
    *SLOWNESS
}

/// A Debian suite, for the generation of systemd in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Suite {
    /// systemd 252, the floor.
    Bookworm,
    /// systemd 257.
    Trixie,
    /// The newest there is.
    Sid,
}

impl Suite {
    /// The suites to test on: `BERTH_TEST_SUITES`, a list with commas, or else the oldest
    /// and the newest.
    pub fn from_env_list() -> Result<Vec<Suite>> {
        let list = env::var("BERTH_TEST_SUITES").unwrap_or_else(|_| "bookworm,sid".into());
        list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::parse).collect()
    }

    pub fn name(self) -> &'static str {
        match self {
            Suite::Bookworm => "bookworm",
            Suite::Trixie => "trixie",
            Suite::Sid => "sid",
        }
    }

    /// Its root filesystem, made at the first call on a machine (half a minute, and a mirror
    /// of Debian is needed), found at the others.
    pub fn rootfs(self) -> Result<PathBuf> {
        let output = Command::new(script("build-rootfs"))
            .arg(self.name())
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()?;
        if !output.status.success() {
            return Err(format!("tests/host/build-rootfs {self}: {}", output.status).into());
        }
        Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim_end()))
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Suite {
    type Err = Box<dyn Error + Send + Sync>;

    fn from_str(name: &str) -> Result<Suite> {
        let suites = [Suite::Bookworm, Suite::Trixie, Suite::Sid];
        let found = suites.into_iter().find(|suite| suite.name() == name);
        found.ok_or_else(|| format!("{name:?} is no suite: bookworm, trixie or sid").into())
    }
}

/// Says why this machine can not have hosts, if it can not.
pub fn check_machine() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err("not root".into());
    }
    if here::is_the_host() {
        return here::check_machine();
    }
    let probe = HostCgroup::new()?;
    fs::create_dir(probe.path()).map_err(|error| format!("can not make {}: {error}", probe.path().display()))?;
    let unshare = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "setpriv", "true"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("unshare: {error}"))?;
    if !unshare.status.success() {
        let said = String::from_utf8_lossy(&unshare.stderr);
        return Err(format!("no namespaces here: {}", said.trim_end()).into());
    }
    Ok(())
}

/// Whether the machine's kernel has the v1 controller net_cls.
pub fn has_net_cls() -> bool {
    let controllers = fs::read_to_string("/proc/cgroups").unwrap_or_default();
    controllers.lines().any(|line| line.starts_with("net_cls\t"))
}

/// What a host has that its root filesystem has not.
///
/// ```ignore
/// BootOptions::default()
///     .bind(env!("CARGO_BIN_EXE_berthctl"), "/usr/bin/berthctl")
///     .copy("units/berth@.service", "/usr/lib/systemd/system/berth@.service")
///     .file("/etc/berth/berthd.toml", "manager = \"systemd\"\n")
///     .tmpfs("/var/lib/berth", "4m")
/// ```
#[derive(Debug, Clone, Default)]
pub struct BootOptions {
    /// Source on the machine, target in the host, read-only. Mounted at each boot.
    pub binds: Vec<(PathBuf, PathBuf, bool)>,
    /// Files on the disk before the first boot.
    pub files: Vec<FileToBe>,
    /// Targets and sizes of small tmpfs, to be filled up. A reboot keeps their content.
    pub tmpfs: Vec<(PathBuf, String)>,
    /// Whether the host can mount the v1 hierarchy net_cls. Needs a kernel with
    /// [`has_net_cls`].
    pub net_cls: bool,
}

/// A file on the disk before the first boot.
#[derive(Debug, Clone)]
pub struct FileToBe {
    pub path: PathBuf,
    pub content: Vec<u8>,
    pub mode: u32,
}

impl BootOptions {
    /// Shows a file or directory of the machine, read-only.
    pub fn bind(mut self, source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        self.binds.push((source.into(), target.into(), true));
        self
    }

    /// Shows a file or directory of the machine, writable.
    pub fn bind_writable(mut self, source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        self.binds.push((source.into(), target.into(), false));
        self
    }

    /// Copies instead of what it shows: for a machine that is booted without this test.
    pub fn on_the_disk(mut self) -> Self {
        for (source, target, _) in std::mem::take(&mut self.binds) {
            self = self.copy(source, target);
        }
        self
    }

    /// A file with this content, mode 0644.
    pub fn file(self, path: impl Into<PathBuf>, content: impl Into<Vec<u8>>) -> Self {
        self.file_with_mode(path, content, 0o644)
    }

    /// A file with this content and these permissions.
    pub fn file_with_mode(mut self, path: impl Into<PathBuf>, content: impl Into<Vec<u8>>, mode: u32) -> Self {
        self.files.push(FileToBe { path: path.into(), content: content.into(), mode });
        self
    }

    /// A copy of a file of the machine with its permissions, for what is to be replaced or
    /// changed in the host. A missing file is the test's mistake, hence the panic.
    #[track_caller]
    pub fn copy(self, source: impl AsRef<Path>, path: impl Into<PathBuf>) -> Self {
        let source = source.as_ref();
        let read =
            fs::read(source).and_then(|content| Ok((content, fs::metadata(source)?.permissions().mode() & 0o7777)));
        match read {
            Ok((content, mode)) => self.file_with_mode(path, content, mode),
            Err(error) => panic!("{}: {error}", source.display()),
        }
    }

    /// A file system of this size (`4m`, `512k`), to be filled up.
    pub fn tmpfs(mut self, target: impl Into<PathBuf>, size: impl Into<String>) -> Self {
        self.tmpfs.push((target.into(), size.into()));
        self
    }

    /// Lets the host mount the v1 hierarchy net_cls, in which it is alone:
    /// `mount -t cgroup -o net_cls net_cls DIRECTORY`.
    pub fn net_cls(mut self) -> Self {
        self.net_cls = true;
        self
    }

    /// The arguments of `tests/host/boot` that say the same.
    fn to_arguments(&self) -> Vec<PathBuf> {
        let mut arguments = Vec::new();
        if self.net_cls {
            arguments.push("--net-cls".into());
        }
        for (target, size) in &self.tmpfs {
            arguments.extend(["--tmpfs".into(), target.clone(), size.into()]);
        }
        for (source, target, read_only) in &self.binds {
            let access = if *read_only { "ro" } else { "rw" };
            arguments.extend(["--bind".into(), source.clone(), target.clone(), access.into()]);
        }
        arguments
    }
}

/// A booted host. The fields are dropped in their order: systemd, the disk, the cgroup.
#[derive(Debug)]
pub struct Host {
    suite: Suite,
    systemd: Option<Systemd>,
    place: Place,
    boot_time: Duration,
}

/// Where a host is.
#[derive(Debug)]
enum Place {
    /// In namespaces.
    Namespaces(Box<Keeper>, HostCgroup),
    /// The machine itself, made new for the so manieth time; of a test that is alone, its turn.
    Here { generation: u64, _turn: Option<here::Turn> },
}

impl Host {
    /// Boots a host and waits until systemd says that it is `running`.
    pub fn boot(suite: Suite) -> Result<Host> {
        Host::boot_with(suite, &BootOptions::default())
    }

    /// Boots a host that has more than its root filesystem.
    pub fn boot_with(suite: Suite, options: &BootOptions) -> Result<Host> {
        if here::is_the_host() {
            let turn = here::Turn::alone();
            return Host::here(suite, options, Some(turn));
        }
        cgroup::sweep()?;
        let began = Instant::now();
        let cgroup = HostCgroup::new()?;
        let mut arguments: Vec<PathBuf> = vec!["--cgroup".into(), cgroup.path().into()];
        arguments.extend(options.to_arguments());
        arguments.push(suite.rootfs()?);
        let keeper = Keeper::start(&arguments)?;
        for file in &options.files {
            keeper
                .disk
                .write_with_mode(&file.path, &file.content, file.mode)
                .map_err(|error| format!("{}: {error}", file.path.display()))?;
        }
        let place = Place::Namespaces(Box::new(keeper), cgroup);
        let mut host = Host { suite, systemd: None, place, boot_time: Duration::ZERO };
        host.start(began)?;
        Ok(host)
    }

    /// [`Host::boot_with`] for a host that several tests use at the same time.
    pub fn boot_to_share(suite: Suite, options: &BootOptions) -> Result<Host> {
        if here::is_the_host() { Host::here(suite, options, None) } else { Host::boot_with(suite, options) }
    }

    /// The machine itself, as good as new.
    fn here(suite: Suite, options: &BootOptions, turn: Option<here::Turn>) -> Result<Host> {
        let began = Instant::now();
        here::make_new(options)?;
        let mut host = Host::as_it_is(suite, turn)?;
        host.boot_time = began.elapsed();
        Ok(host)
    }

    /// The machine itself with all that is on it.
    pub fn as_it_is(suite: Suite, turn: Option<here::Turn>) -> Result<Host> {
        let place = Place::Here { generation: here::generation(), _turn: turn };
        let host = Host { suite, systemd: Some(Systemd::of(1)?), place, boot_time: Duration::ZERO };
        host.check_running()?;
        Ok(host)
    }

    /// The one host of this suite that all tests of this program use who ask for it: for
    /// tests that leave it as they found it. [`super::ring::main`] ends it.
    #[track_caller]
    pub fn shared(suite: Suite) -> Arc<Host> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = shared.get(&suite).filter(|host| host.is_up_to_date()) {
            return Arc::clone(host);
        }
        let host = Host::boot_to_share(suite, &BootOptions::default()).unwrap_or_else(|error| panic!("{error}"));
        let host = Arc::new(host);
        shared.insert(suite, Arc::clone(&host));
        host
    }

    /// Whether it is still what it was when it booted: nobody else has booted the machine that it is.
    pub fn is_up_to_date(&self) -> bool {
        match self.place {
            Place::Namespaces(..) => true,
            Place::Here { generation, .. } => generation == here::generation(),
        }
    }

    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// How long the last boot took, from the call until `running`.
    pub fn boot_time(&self) -> Duration {
        self.boot_time
    }

    /// The PID of its systemd, as the machine numbers it.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.systemd().pid
    }

    /// The directory of its root cgroup, as the machine sees it.
    pub fn cgroup(&self) -> &Path {
        match &self.place {
            Place::Namespaces(_, cgroup) => cgroup.path(),
            Place::Here { .. } => Path::new("/sys/fs/cgroup"),
        }
    }

    // ------------------------------------------------------------ commands

    /// Runs a script with `/bin/sh` as root and waits for its end. What it leaves in the
    /// background must not hold its stdout. Panics if it hangs.
    #[track_caller]
    pub fn sh(&self, script: &str) -> Output {
        let mut running = self.spawn(script);
        match running.wait(COMMAND_TIMEOUT) {
            Some(Ok(output)) => output,
            Some(Err(error)) => panic!("{script}: {error}"),
            None => {
                let said = running.kill().map(|output| output.to_string()).unwrap_or_default();
                panic!("{script}: hangs\n{said}\n{}", self.journal_tail())
            }
        }
    }

    /// [`Host::sh`] for a script that has to succeed; its stdout, without the last newline.
    #[track_caller]
    pub fn ok(&self, script: &str) -> String {
        let output = self.sh(script);
        assert!(output.status.success(), "{script}: {output}");
        output.stdout.trim_end_matches('\n').into()
    }

    /// Starts a script in the background.
    #[track_caller]
    pub fn spawn(&self, script: &str) -> Running {
        match self.start_command(self.systemd(), script) {
            Ok(running) => running,
            Err(error) => panic!("can not start {script:?}: {error}"),
        }
    }

    fn start_command(&self, systemd: &Systemd, script: &str) -> io::Result<Running> {
        match &self.place {
            Place::Namespaces(_, cgroup) => inside::spawn(&systemd.pidfd, &cgroup.path().join("init.scope"), script),
            Place::Here { .. } => inside::spawn_here(script),
        }
    }

    /// One property of a unit, as `systemctl show` gives it.
    #[track_caller]
    pub fn show(&self, unit: &str, property: &str) -> String {
        self.ok(&format!("systemctl show --property={property} --value '{unit}'"))
    }

    /// What the journal has of a unit in this boot, to the last line written until now.
    #[track_caller]
    pub fn journal(&self, unit: &str) -> String {
        self.ok(&format!("journalctl --sync; journalctl --no-pager --quiet -b --unit='{unit}'"))
    }

    // ------------------------------------------------------------ files

    /// Its files, with the errors that reading and writing them can have. Links are
    /// resolved as in the host; no process is started.
    #[track_caller]
    pub fn files(&self) -> &Tree {
        &self.systemd().root
    }

    /// The path as the machine sees it, for calls that need one. Beware of absolute links
    /// on it: they lead out of the host.
    #[track_caller]
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        let root = PathBuf::from(format!("/proc/{}/root", self.pid()));
        root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The text of a file that has to be there.
    #[track_caller]
    pub fn read(&self, path: impl AsRef<Path>) -> String {
        let path = path.as_ref();
        match self.files().read(path) {
            Ok(content) => String::from_utf8_lossy(&content).into_owned(),
            Err(error) => panic!("reading {}: {error}", path.display()),
        }
    }

    /// The text of a file, if it is there.
    #[track_caller]
    pub fn find(&self, path: impl AsRef<Path>) -> Option<String> {
        let content = self.files().read(path).ok()?;
        Some(String::from_utf8_lossy(&content).into_owned())
    }

    /// Writes a file in place, as `>` of a shell does, and the directories above it.
    #[track_caller]
    pub fn write(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        let path = path.as_ref();
        if let Err(error) = self.files().write(path, content) {
            panic!("writing {}: {error}", path.display());
        }
    }

    /// Writes a file beside and renames it over, as a careful editor does.
    #[track_caller]
    pub fn write_atomic(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        let path = path.as_ref();
        if let Err(error) = self.files().write_atomic(path, content) {
            panic!("writing {}: {error}", path.display());
        }
    }

    /// Removes a file or a whole directory that has to be there.
    #[track_caller]
    pub fn remove(&self, path: impl AsRef<Path>) {
        let path = path.as_ref();
        if let Err(error) = self.files().remove(path) {
            panic!("removing {}: {error}", path.display());
        }
    }

    // ------------------------------------------------------------ waiting

    /// Asks again and again until there is an answer. Panics with the end of the journal
    /// when the time is up; `what` says what was waited for.
    #[track_caller]
    pub fn wait_for<T>(&self, what: &str, timeout: Duration, ask: impl FnMut() -> Option<T>) -> T {
        match ask_until(timeout, ask) {
            Some(answer) => answer,
            None => panic!("waited {timeout:?} for {what}\n{}", self.journal_tail()),
        }
    }

    /// The end of the journal, for the message of a panic.
    pub fn journal_tail(&self) -> String {
        let Some(systemd) = &self.systemd else {
            return String::from("(the host is off)");
        };
        let script = "systemctl --failed --no-pager --no-legend --plain; journalctl --sync; \
                      journalctl --no-pager --quiet -b --lines=80";
        let output = self.start_command(systemd, script).and_then(|mut running| {
            running.wait(Duration::from_secs(10)).unwrap_or(Err(io::ErrorKind::TimedOut.into()))
        });
        match output {
            Ok(output) => format!("--- the end of the journal\n{}", output.stdout),
            Err(error) => format!("(no journal: {error})"),
        }
    }

    // ------------------------------------------------------------ power

    /// Shuts down in order and boots again: the disk stays, `/run`, `/tmp` and the boot ID
    /// are new.
    pub fn reboot(&mut self) -> Result<()> {
        let began = Instant::now();
        self.shut_down("reboot.target")?;
        self.start(began)
    }

    /// Power off without a word, power on: what a crash of the whole machine leaves.
    pub fn power_cycle(&mut self) -> Result<()> {
        let began = Instant::now();
        let (systemd, keeper) = self.power()?;
        drop(systemd.take());
        keeper.script.expect("down")?;
        self.start(began)
    }

    /// Shuts down in order, for good.
    pub fn power_off(mut self) -> Result<()> {
        self.shut_down("poweroff.target")
    }

    /// Its power switch, and who keeps its disk: of a host in namespaces.
    fn power(&mut self) -> Result<(&mut Option<Systemd>, &mut Keeper)> {
        match &mut self.place {
            Place::Namespaces(keeper, _) => Ok((&mut self.systemd, keeper)),
            Place::Here { .. } => Err("the host is this machine: what switches it off does not see it again".into()),
        }
    }

    fn start(&mut self, began: Instant) -> Result<()> {
        let suite = self.suite;
        let (systemd, keeper) = self.power()?;
        let ready = keeper.bind_ready_socket()?;
        keeper.script.say("boot")?;
        let up = keeper.script.expect("up");
        let pid = up.map_err(|error| format!("{error}{}", keeper.console()))?.parse()?;
        let systemd = systemd.insert(Systemd::of(pid)?);
        if !systemd.wait_until_ready(&ready)? {
            let console = keeper.console();
            return Err(format!("{suite}: systemd did not start\n{console}").into());
        }
        self.check_running()?;
        self.boot_time = began.elapsed();
        Ok(())
    }

    /// Waits until systemd has done all that there is to do; none of it may have failed.
    fn check_running(&self) -> Result<()> {
        let state = self.sh("systemctl is-system-running --wait");
        if state.stdout.trim_end() != "running" {
            return Err(format!("{}: {state}\n{}", self.suite, self.journal_tail()).into());
        }
        Ok(())
    }

    fn shut_down(&mut self, target: &str) -> Result<()> {
        self.power()?;
        let systemd = self.systemd.as_ref().ok_or("the host is off")?;
        // It may be killed by what it begins: its own end says nothing.
        self.sh(&format!("systemctl start --no-block --job-mode=replace-irreversibly {target}"));
        if !systemd.wait_until_ended()? {
            return Err(format!("{target} is not reached\n{}", self.journal_tail()).into());
        }
        let (systemd, keeper) = self.power()?;
        *systemd = None;
        keeper.script.expect("down")?;
        Ok(())
    }

    #[track_caller]
    fn systemd(&self) -> &Systemd {
        match &self.systemd {
            Some(systemd) => systemd,
            None => panic!("the host is off"),
        }
    }
}

/// Asks again and again until there is an answer, at short intervals at first.
/// `None` means that the time is up ([`slowness`] times the timeout); it is asked once at least.
/// Where asking takes long the intervals are longer, lest it keeps from happening what it asks for.
pub fn ask_until<T>(timeout: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + timeout * slowness();
    let mut step = Duration::from_millis(5);
    loop {
        let began = Instant::now();
        let answer = ask();
        if answer.is_some() || Instant::now() >= deadline {
            return answer;
        }
        thread::sleep(step.max(began.elapsed()));
        step = (step * 3 / 2).min(Duration::from_millis(50));
    }
}

static SHARED: Mutex<BTreeMap<Suite, Arc<Host>>> = Mutex::new(BTreeMap::new());

/// Ends the hosts of [`Host::shared`]; a static would never be dropped.
pub fn end_shared() {
    SHARED.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

/// One boot of a host, from power on to power off. Dropping it is pulling the plug, but not that of the machine itself.
#[derive(Debug)]
struct Systemd {
    pid: u32,
    pidfd: OwnedFd,
    root: Tree,
}

impl Systemd {
    fn of(pid: u32) -> Result<Systemd> {
        let pidfd = inside::pidfd(pid)?;
        let root = Tree::at(format!("/proc/{pid}/root"))?;
        Ok(Systemd { pid, pidfd, root })
    }

    /// Waits for READY=1, which systemd sends when it has started everything there is.
    fn wait_until_ready(&self, socket: &UnixDatagram) -> io::Result<bool> {
        let deadline = Instant::now() + PATIENCE;
        let mut message = [0; 4096];
        loop {
            let mut both = [PollFd::new(socket, PollFlags::IN), PollFd::new(&self.pidfd, PollFlags::IN)];
            if !poll_until(&mut both, deadline)? || !both[1].revents().is_empty() {
                return Ok(false);
            }
            let length = socket.recv(&mut message)?;
            if message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                return Ok(true);
            }
        }
    }

    fn wait_until_ended(&self) -> io::Result<bool> {
        let mut end = [PollFd::new(&self.pidfd, PollFlags::IN)];
        poll_until(&mut end, Instant::now() + PATIENCE)
    }
}

impl Drop for Systemd {
    /// The kernel kills everything else in the PID namespace before PID 1 counts as dead.
    fn drop(&mut self) {
        if self.pid == 1 {
            return;
        }
        // An error means that it is dead already.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        if !self.wait_until_ended().unwrap_or(false) {
            eprintln!("a test host's systemd, {}, does not die", self.pid);
        }
    }
}

/// Whether one of them had something to say before the deadline.
fn poll_until(descriptors: &mut [PollFd<'_>], deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match rustix::event::poll(descriptors, Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => continue,
            other => return Ok(other? > 0),
        }
    }
}

/// `tests/host/boot`, which holds the disk and boots on it as often as it is told.
#[derive(Debug)]
struct Keeper {
    script: Script,
    /// Where the disk is in the script's mount namespace, and nowhere else.
    mount: PathBuf,
    disk: Tree,
}

impl Keeper {
    fn start(arguments: &[PathBuf]) -> Result<Keeper> {
        let mut script = Script::start("boot", arguments)?;
        let mount = PathBuf::from(script.expect("disk")?);
        let disk = Tree::at(script.path(&mount))?;
        Ok(Keeper { script, mount, disk })
    }

    /// The socket for systemd's READY=1, through a directory descriptor because a socket's
    /// path must be short. A new one for each boot: in the old one may be old messages.
    fn bind_ready_socket(&self) -> Result<UnixDatagram> {
        let directory = File::open(self.script.path(&self.mount.with_file_name("ready")))?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/ready", directory.as_raw_fd()));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(UnixDatagram::bind(path)?),
        }
    }

    /// What boot's later stages and systemd itself have said to nobody.
    fn console(&self) -> String {
        let console = fs::read(self.script.path(&self.mount.with_file_name("console")));
        String::from_utf8_lossy(&console.unwrap_or_default()).into_owned()
    }
}

/// A script that takes orders and makes reports, a line each, and dies with this program.
#[derive(Debug)]
struct Script {
    pid: u32,
    pidfd: OwnedFd,
    /// `None` is the end of file that ends it.
    orders: Option<ChildStdin>,
    reports: BufReader<ChildStdout>,
    errors: File,
    thread: Option<JoinHandle<()>>,
}

impl Script {
    /// The kernel takes the end of the *thread* that forked for the end of the parent, and a
    /// test's thread may end before a shared host does. So the child has a thread of its own.
    fn start(name: &str, arguments: &[PathBuf]) -> Result<Script> {
        let errors = tempfile::tempfile()?;
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(script(name))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors.try_clone()?);
        let (started, start) = mpsc::channel();
        let thread = thread::spawn(move || match command.spawn() {
            Err(error) => drop(started.send(Err(error))),
            Ok(mut child) => {
                let pipes = child.stdin.take().zip(child.stdout.take());
                let _ = started.send(inside::pidfd(child.id()).map(|fd| (child.id(), fd, pipes)));
                let _ = child.wait();
            }
        });
        let (pid, pidfd, pipes) = start.recv()??;
        let (orders, reports) = pipes.ok_or("a child without pipes")?;
        let reports = BufReader::new(reports);
        Ok(Script { pid, pidfd, orders: Some(orders), reports, errors, thread: Some(thread) })
    }

    /// A path in the script's mount namespace, seen from here.
    fn path(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.pid));
        root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn say(&mut self, order: &str) -> Result<()> {
        let orders = self.orders.as_mut().ok_or("the script was sent away")?;
        Ok(writeln!(orders, "{order}")?)
    }

    /// The next report, which has to be of this kind, without its first word.
    fn expect(&mut self, kind: &str) -> Result<String> {
        let mut line = String::new();
        self.reports.read_line(&mut line)?;
        match line.trim_end().split_once(' ') {
            Some((first, rest)) if first == kind => Ok(rest.into()),
            _ => Err(format!("{kind:?} was to come, not {line:?}\n{}", self.said()).into()),
        }
    }

    fn said(&mut self) -> String {
        let mut said = String::new();
        let rewound = self.errors.rewind();
        match rewound.and_then(|()| self.errors.read_to_string(&mut said)) {
            Ok(_) => said,
            Err(error) => format!("(unreadable: {error})"),
        }
    }
}

impl Drop for Script {
    /// At the end of file it ends by itself. In the middle of a boot that went wrong it does
    /// not; then it is killed, and the kernel kills the host that hangs on it.
    fn drop(&mut self) {
        drop(self.orders.take());
        let mut end = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let ended = poll_until(&mut end, Instant::now() + Duration::from_secs(5));
        if !ended.unwrap_or(false) {
            let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A script of `tests/host`.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/host").join(name)
}
