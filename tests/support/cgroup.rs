//! The cgroup that a test host lives in: its name says whose it is, so that what a killed
//! test has left behind can be told from what a living one uses.

use std::fs;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

const PREFIX: &str = "berth-test-";

/// A name for a cgroup, `berth-test-OWNER-STARTED-SERIAL`; dropping it removes the cgroup.
#[derive(Debug)]
pub struct HostCgroup(PathBuf);

impl HostCgroup {
    /// A name that no other host has. The cgroup itself is made by `tests/host/boot`.
    pub fn new() -> io::Result<HostCgroup> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let owner = std::process::id();
        let started = start_time(owner).ok_or_else(|| io::Error::other("/proc/self/stat has no start time"))?;
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        Ok(HostCgroup(mount_point()?.join(format!("{PREFIX}{owner}-{started}-{serial}"))))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for HostCgroup {
    /// The processes are dead by now, but the kernel counts the last ones out in its own time.
    fn drop(&mut self) {
        if let Err(error) = wait_until_empty(&self.0).and_then(|()| remove(&self.0)) {
            eprintln!("{} stays behind: {error}", self.0.display());
        }
    }
}

/// Where the cgroup2 hierarchy is mounted: not at `/sys/fs/cgroup` on a hybrid machine.
pub fn mount_point() -> io::Result<PathBuf> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo")?;
    let is_cgroup2 = |line: &&str| {
        let after_options = line.split_once(" - ").map(|(_, rest)| rest);
        after_options.is_some_and(|rest| rest.starts_with("cgroup2 "))
    };
    let path = mountinfo.lines().find(is_cgroup2).and_then(|line| line.split(' ').nth(4));
    path.map(PathBuf::from).ok_or_else(|| io::Error::other("no cgroup2 is mounted"))
}

/// Removes the cgroups of hosts whose test was killed before it could. Nothing is killed
/// here: those hosts died with their test, and a cgroup that is not empty is left alone.
pub fn sweep() -> io::Result<()> {
    for entry in fs::read_dir(mount_point()?)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_orphan(&name) && is_empty(&entry.path()).unwrap_or(false) {
            // Another test may be sweeping too; what stays, the next one finds.
            let _ = remove(&entry.path());
        }
    }
    Ok(())
}

/// Whether the name records an owner that is no more. A PID may have a new bearer; the
/// time at which it started tells them apart.
fn is_orphan(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else {
        return false;
    };
    let mut fields = rest.split('-').map(str::parse::<u64>);
    let (Some(Ok(owner)), Some(Ok(started))) = (fields.next(), fields.next()) else {
        return false;
    };
    u32::try_from(owner).is_ok_and(|owner| start_time(owner) != Some(started))
}

/// Field 22 of `/proc/PID/stat`, counted from behind the name, which may hold anything.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

fn is_empty(cgroup: &Path) -> io::Result<bool> {
    Ok(fs::read_to_string(cgroup.join("cgroup.events"))?.contains("populated 0"))
}

/// Waits, for a short while, until no process is in the cgroup or below.
fn wait_until_empty(cgroup: &Path) -> io::Result<()> {
    let mut events = match fs::File::open(cgroup.join("cgroup.events")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut text = String::new();
    loop {
        text.clear();
        events.rewind()?;
        events.read_to_string(&mut text)?;
        if text.contains("populated 0") {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        rustix::event::poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&timeout))?;
    }
}

/// Removes a cgroup and those below it. "Already gone" is what was wanted.
fn remove(cgroup: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(cgroup) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    match fs::remove_dir(cgroup) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
