//! Processes: the launcher's start, and what `/proc` says of one.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::OwnedFd,
        unix::{fs::OpenOptionsExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{Setup, kernel};
use crate::{manager::Process, root::Root, spec::Name};

/// What the launcher, and so the container, finds programs by.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// From this size on a log is set aside when its container starts.
const LOG_LIMIT: u64 = 16 << 20;

/// SIGKILL.
const KILL: i32 = 9;

/// A process that stays the same one.
#[derive(Debug)]
pub struct Handle {
    /// Its number.
    pub pid: u32,
    /// The process itself.
    pub fd: OwnedFd,
}

impl Handle {
    /// The process that has the number `pid` now.
    pub fn open(pid: u32) -> io::Result<Self> {
        Ok(Self { pid, fd: kernel::pidfd(pid)? })
    }

    /// The process, if it is still the one that was meant.
    pub fn verified(root: &Root, process: Process) -> Option<Self> {
        let handle = Self::open(process.pid).ok()?; // first: from here on the number cannot be another's
        (start_time(root, process.pid)? == process.start_time).then_some(handle)
    }
}

/// A fresh ID of a start, 32 hex digits of the kernel's random.
pub fn invocation(root: &Root) -> io::Result<String> {
    let uuid = fs::read_to_string(root.at("/proc/sys/kernel/random/uuid"))?;
    Ok(uuid.trim().replace('-', ""))
}

/// Starts `berth-launch NAME` as systemd would: a clean environment, no input, its output to the log.
///
/// Nothing ties it to berthd: no pipe, no signal at the parent's death.
pub fn spawn(setup: &Setup, name: &Name, invocation: &str) -> io::Result<Handle> {
    let log = open_log(&setup.root.log(name))?;
    let child = Command::new(&setup.launcher)
        .arg(name.as_str())
        .env_clear()
        .env("PATH", PATH)
        .env("INVOCATION_ID", invocation)
        .env("BERTH_SOCKET", &setup.socket)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()?;
    Handle::open(child.id()) // not waited for yet, so the number is its own
}

/// Opens a container's log for appending; a long one is set aside first.
fn open_log(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    if fs::metadata(path).is_ok_and(|log| log.len() > LOG_LIMIT) {
        let mut aside = path.as_os_str().to_owned();
        aside.push(".1");
        fs::rename(path, PathBuf::from(aside))?;
    }
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

/// Field 22 of `/proc/PID/stat`.
pub fn start_time(root: &Root, pid: u32) -> Option<u64> {
    stat(root, pid, 22)
}

/// A numeric field of `/proc/PID/stat` after the second. That is the name and may hold anything, so fields count
/// from its end.
fn stat(root: &Root, pid: u32, field: usize) -> Option<u64> {
    let stat = fs::read_to_string(root.at(&format!("/proc/{pid}/stat"))).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(field - 3)?.parse().ok()
}

/// All processes.
fn all(root: &Root) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(root.at("/proc")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Our children in a process group, zombies too: what a launcher has made and not reported.
pub fn children_in_group(root: &Root, group: u32) -> Vec<u32> {
    let (us, group) = (Some(u64::from(std::process::id())), Some(u64::from(group)));
    all(root).filter(|&pid| stat(root, pid, 5) == group && stat(root, pid, 4) == us).collect()
}

/// Kills processes by their numbers, which the caller has just read.
pub fn kill_all(pids: &[u32]) {
    for &pid in pids {
        let result = Handle::open(pid).and_then(|process| kernel::send(&process.fd, KILL));
        if let Err(error) = result {
            tracing::debug!("process {pid} is not killed: {error}"); // most often: it has just ended
        }
    }
}

/// Processes of a start by its ID in their environment: what there is where no cgroup can be made. A process that
/// clears its environment is not found, unless the end of its PID namespace ends it.
///
/// The second value tells whether somebody has no environment just now: maybe on the way from one program to the next.
pub fn by_invocation(root: &Root, invocation: &str) -> (Vec<u32>, bool) {
    let wanted = format!("INVOCATION_ID={invocation}");
    let (mut found, mut unsure) = (Vec::new(), false);
    for pid in all(root) {
        match fs::read(root.at(&format!("/proc/{pid}/environ"))) {
            Ok(environment) if environment.is_empty() => unsure |= is_program(root, pid),
            Ok(environment) if environment.split(|&byte| byte == 0).any(|e| e == wanted.as_bytes()) => found.push(pid),
            _ => {} // another's, or gone
        }
    }
    (found, unsure)
}

/// Whether a process is neither a zombie nor the kernel's own: whether it has memory (`vsize`).
fn is_program(root: &Root, pid: u32) -> bool {
    stat(root, pid, 23).is_some_and(|size| size > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_survives_odd_names() {
        let world = tempfile::tempdir().unwrap();
        fs::create_dir_all(world.path().join("proc/7")).unwrap();
        let stat = "7 (a) S (b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 99 1";
        fs::write(world.path().join("proc/7/stat"), stat).unwrap();
        assert_eq!(start_time(&Root::new(world.path()), 7), Some(12345));
    }

    #[test]
    fn long_logs_are_set_aside() {
        let world = tempfile::tempdir().unwrap();
        let path = world.path().join("log/web.log");
        drop(open_log(&path).unwrap());
        File::options().write(true).open(&path).unwrap().set_len(LOG_LIMIT).unwrap();
        assert_eq!(open_log(&path).unwrap().metadata().unwrap().len(), LOG_LIMIT);
        File::options().write(true).open(&path).unwrap().set_len(LOG_LIMIT + 1).unwrap();
        assert_eq!(open_log(&path).unwrap().metadata().unwrap().len(), 0);
        assert!(world.path().join("log/web.log.1").exists());
    }
}
