//! The machine itself as the host, for programs that run in a VM which is there for nothing else (`tests/vm`).
//!
//! A host of namespaces is new for each test that boots one. There is one machine only, so here tests take turns, and
//! "boot" means: everything that was not there when the machine came up is stopped, unmounted and removed, and the
//! journal begins anew. What can not be had so (a reboot, first of all) a test program leaves out, by name.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::host::{BootOptions, Result};

/// The file that only the image of a test VM has: nobody's own machine is cleaned by mistake.
const MARK: &str = "/etc/berth-test-vm";

/// Where the machine keeps, from its first boot on, what was there before any test.
const PRISTINE: &str = "/var/lib/berth-test-vm/pristine";

/// Where tests, berth and systemd on their behalf leave files.
const PLACES: [&str; 20] = [
    "/etc",
    "/home",
    "/mnt",
    "/opt",
    "/root",
    "/run/berth",
    "/run/systemd/system",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/srv",
    "/usr/bin",
    "/usr/lib/berth",
    "/usr/lib/systemd",
    "/usr/lib/sysusers.d",
    "/usr/lib/tmpfiles.d",
    "/usr/libexec",
    "/usr/local",
    "/usr/sbin",
    "/var/lib/berth",
    "/var/log/berth",
];

/// Whose mounts come and go by themselves.
const OTHERS_MOUNTS: [&str; 5] = ["/dev/", "/proc/", "/run/credentials/", "/run/user/", "/sys/"];

/// Whether tests are to use this machine.
pub fn is_the_host() -> bool {
    std::env::var_os("BERTH_TEST_HOST").is_some_and(|value| value == "here")
}

/// Says why this machine must not be used, if so.
pub fn check_machine() -> Result<()> {
    if !Path::new(MARK).exists() {
        return Err(format!("BERTH_TEST_HOST=here is for VMs of tests/vm; this is none: no {MARK}").into());
    }
    Ok(())
}

// ---------------------------------------------------------------- turns

/// Who uses the machine: tests that share it, a few at once, and when none is left of those, each of the others alone.
#[derive(Debug)]
struct Turns {
    /// Tests that share, or have not yet said that they do not.
    running: usize,
    /// Tests that have not begun.
    waiting: usize,
    /// Whether a test is alone.
    alone: bool,
    /// When the last test came.
    last: Option<Instant>,
}

static TURNS: Mutex<Turns> = Mutex::new(Turns { running: 0, waiting: 0, alone: false, last: None });
static CHANGED: Condvar = Condvar::new();

/// All tests begin within this time, each in a thread of its own.
const ALL_HAVE_COME: Duration = Duration::from_millis(500);

thread_local! {
    /// Whether this thread's test is counted as running.
    static COUNTED: Cell<bool> = const { Cell::new(false) };
    /// Whether this thread's test is alone.
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

fn turns() -> MutexGuard<'static, Turns> {
    TURNS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a test when there is a place for it, of `places` altogether.
pub fn take_turns<T>(places: usize, test: impl FnOnce() -> T) -> T {
    let mut turns = turns();
    turns.waiting += 1;
    turns.last = Some(Instant::now());
    let mut turns = CHANGED
        .wait_while(turns, |turns| turns.alone || turns.running >= places)
        .unwrap_or_else(PoisonError::into_inner);
    turns.waiting -= 1;
    turns.running += 1;
    drop(turns);
    COUNTED.set(true);
    let _place = Place;
    test()
}

/// A test's place among those that share, given back when it ends, also by a panic.
#[derive(Debug)]
struct Place;

impl Drop for Place {
    fn drop(&mut self) {
        if COUNTED.replace(false) {
            turns().running -= 1;
            CHANGED.notify_all();
        }
    }
}

/// The turn of a test that is alone, until it is dropped.
#[derive(Debug)]
pub struct Turn(());

impl Turn {
    /// Waits until no test that shares is left, and nobody is alone.
    pub fn alone() -> Turn {
        assert!(!ALONE.get(), "there is one machine, and this test has booted it: a second host can not be beside it");
        drop(Place);
        let mut turns = turns();
        loop {
            let idle = turns.running == 0 && turns.waiting == 0 && !turns.alone;
            if idle && turns.last.is_none_or(|last| last.elapsed() >= ALL_HAVE_COME) {
                break;
            }
            turns = CHANGED.wait_timeout(turns, ALL_HAVE_COME).unwrap_or_else(PoisonError::into_inner).0;
        }
        turns.alone = true;
        ALONE.set(true);
        Turn(())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        ALONE.set(false);
        turns().alone = false;
        CHANGED.notify_all();
    }
}

// ---------------------------------------------------------------- as good as new

/// How often the machine was made new.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// A number that changes when the machine is made new.
pub fn generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}

/// Makes the machine as good as new and puts on it what a test wants.
pub fn make_new(options: &BootOptions) -> Result<()> {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    let pristine = pristine()?;
    let mut new = Vec::new();
    for place in PLACES {
        find_new(Path::new(place), &pristine, &mut new)?;
    }
    stop_all(&new)?;
    forget_network()?;
    unmount_new(&pristine)?;
    for path in &new {
        let is_directory = fs::symlink_metadata(path).map(|metadata| metadata.is_dir());
        let removed = match is_directory {
            Ok(true) => fs::remove_dir_all(path),
            Ok(false) => fs::remove_file(path),
            Err(error) => Err(error),
        };
        absence_is_success(removed).map_err(|error| format!("removing {}: {error}", path.display()))?;
    }
    put(options, &pristine)?;
    begin_anew(options)
}

/// The paths of [`PLACES`] and the mount points that were there first.
fn pristine() -> Result<BTreeSet<PathBuf>> {
    match fs::read_to_string(PRISTINE) {
        Ok(text) => return Ok(text.lines().map(PathBuf::from).collect()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    // systemd makes this one when it is needed; what is in it is new each by itself.
    fs::create_dir_all("/run/systemd/transient")?;
    let mut paths = Vec::new();
    for place in PLACES {
        find_all(Path::new(place), &mut paths)?;
    }
    paths.extend(mount_points()?.iter().map(|point| mounted(point)));
    let mut file = fs::File::create(PRISTINE)?;
    for path in &paths {
        writeln!(file, "{}", path.display())?;
    }
    Ok(paths.into_iter().collect())
}

/// A mount point as a line of its own in the list: it is a directory of the list too.
fn mounted(point: &Path) -> PathBuf {
    PathBuf::from(format!("mount {}", point.display()))
}

/// A place and all that is below.
fn find_all(path: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    if fs::symlink_metadata(path).is_err() {
        return Ok(());
    }
    found.push(path.to_owned());
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            find_all(&entry.path(), found)?;
        } else {
            found.push(entry.path());
        }
    }
    Ok(())
}

/// What is in a place and was not there first; of a directory that is new itself not what is below.
fn find_new(path: &Path, pristine: &BTreeSet<PathBuf>, new: &mut Vec<PathBuf>) -> io::Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    if !pristine.contains(path) {
        new.push(path.to_owned());
    } else if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            find_new(&entry?.path(), pristine, new)?;
        }
    }
    Ok(())
}

/// Stops berth, its containers and every unit that a test has made. The programs of containers first, because some do
/// not end when asked.
fn stop_all(new: &[PathBuf]) -> Result<()> {
    let mut units = BTreeSet::from([
        "'berth@*'".to_owned(),
        "'berth-pull@*'".into(),
        "berth-pull.socket".into(),
        "berthd.socket".into(),
        "berthd.service".into(),
    ]);
    for path in new {
        let is_unit = path.parent().is_some_and(|above| above.ends_with("system") || above.ends_with("transient"));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if is_unit && !name.contains("@.") && [".service", ".socket", ".scope"].iter().any(|kind| name.ends_with(kind))
        {
            units.insert(format!("'{name}'"));
        }
    }
    let units: Vec<String> = units.into_iter().collect();
    let units = units.join(" ");
    // systemctl fails over what is not loaded. A container whose restart was due in this moment brings berthd back with
    // it: once more then.
    sh(&format!(
        "kill=/sys/fs/cgroup/berth.slice/cgroup.kill; [ ! -e $kill ] || echo 1 >$kill; \
         for again in 1 2 3 4 5; do \
             systemctl stop {units} berth.slice 2>/dev/null; \
             systemctl list-units --plain --no-legend --state active,activating,deactivating 'berth@*' 'berthd.*' | \
                 grep -q . || exit 0; \
         done; echo 'berth does not stop' >&2; exit 1"
    ))
}

/// Rules, queueing disciplines and network namespaces go, and control groups of the v1 hierarchy of packets, which
/// outlive its mount.
fn forget_network() -> Result<()> {
    sh("nft flush ruleset; tc qdisc delete dev lo root 2>/dev/null; ip --all netns delete; \
        for mount in $(findmnt --noheadings --raw --types cgroup --output TARGET); do \
            find $mount -mindepth 1 -depth -type d -exec rmdir {} +; \
        done")
}

/// Takes away every mount that was not there first, the last one first.
fn unmount_new(pristine: &BTreeSet<PathBuf>) -> Result<()> {
    for point in mount_points()?.iter().rev() {
        let is_ours = !OTHERS_MOUNTS.iter().any(|others| point.starts_with(others));
        if is_ours && !pristine.contains(&mounted(point)) {
            umount2(point, MntFlags::MNT_DETACH).map_err(|error| format!("umount {}: {error}", point.display()))?;
        }
    }
    // A test may have made it small.
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    Ok(mount(None::<&str>, "/run", None::<&str>, flags, Some("size=20%,nr_inodes=800k,mode=755"))?)
}

/// Where something is mounted, in the order of the mounts.
fn mount_points() -> io::Result<Vec<PathBuf>> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).collect())
}

/// What a disk or a boot of its own would have brought.
fn put(options: &BootOptions, pristine: &BTreeSet<PathBuf>) -> Result<()> {
    let may_have = |path: &Path| {
        if pristine.contains(path) || !PLACES.iter().any(|place| path.starts_with(place)) {
            return Err(format!("{} could not be taken back here", path.display()));
        }
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).map_err(|error| error.to_string())
    };
    for (target, size) in &options.tmpfs {
        fs::create_dir_all(target)?;
        let data = format!("size={size},mode=755");
        mount(Some("berth-test-small"), target, Some("tmpfs"), MsFlags::empty(), Some(data.as_str()))?;
    }
    for (source, target, read_only) in &options.binds {
        may_have(target)?;
        if source.is_dir() {
            fs::create_dir_all(target)?
        } else {
            fs::write(target, "")?
        };
        mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        if *read_only {
            let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
            mount(None::<&str>, target, None::<&str>, flags, None::<&str>)?;
        }
    }
    for file in &options.files {
        may_have(&file.path)?;
        fs::write(&file.path, &file.content)?;
        fs::set_permissions(&file.path, fs::Permissions::from_mode(file.mode))?;
    }
    Ok(())
}

/// A new journal and new units; the bus may have been a test's to stop. Whoever puts berthd on the machine goes on to
/// enable it, and systemd reads all units then: once is enough, it takes long here.
fn begin_anew(options: &BootOptions) -> Result<()> {
    let has_berthd = options.files.iter().any(|file| file.path.ends_with("berthd.service"));
    let reload = if has_berthd { "" } else { "systemctl daemon-reload &&" };
    sh(&format!(
        "journalctl --rotate && rm -f /run/log/journal/*/*@*.journal && {reload} systemctl reset-failed && \
         systemctl start dbus.socket dbus.service"
    ))
}

fn sh(script: &str) -> Result<()> {
    let output = Command::new("/bin/sh").args(["-c", script]).output()?;
    if !output.status.success() {
        return Err(format!("{script}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(())
}

fn absence_is_success(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
