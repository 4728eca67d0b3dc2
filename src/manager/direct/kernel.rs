//! What the direct manager asks of the kernel, one call a function, all of it safe.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, WaitIdStatus};

use crate::manager::Exit;

/// What waitid(2) said of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaped {
    /// It had ended, and is gone now.
    Ended(Exit),
    /// It runs.
    Running,
    /// Its parent is another process, which learns how it ends.
    Foreign,
}

/// A file descriptor of the process that has the number `pid` now.
pub fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// Sends a signal to exactly that process, a realtime one too.
pub fn send(process: impl AsFd, signal: i32) -> io::Result<()> {
    crate::sys::process::pidfd_kill(process, signal)
}

/// Takes the exit status of a child that has ended.
pub fn reap(process: impl AsFd) -> io::Result<Reaped> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    match rustix::process::waitid(WaitId::PidFd(process.as_fd()), options) {
        Ok(Some(status)) => Ok(exit(&status).map_or(Reaped::Running, Reaped::Ended)),
        Ok(None) => Ok(Reaped::Running),
        Err(rustix::io::Errno::CHILD) => Ok(Reaped::Foreign),
        Err(error) => Err(error.into()),
    }
}

/// How a process ended that was started by an earlier berthd, so that its status goes to another parent.
///
/// The kernel tells it from 6.15 on, and only once that parent has taken it, which it does at once or never: so it is
/// asked a few times. Before 6.15 nobody knows.
pub fn exit_of_foreign(process: impl AsFd) -> Option<Exit> {
    for attempt in 0..FOREIGN_LOOKS {
        if attempt > 0 {
            std::thread::sleep(FOREIGN_PAUSE);
        }
        if let Some(status) = crate::sys::process::exit_info(&process).ok()? {
            return wait_status(status);
        }
    }
    None
}

/// How often the end of another's child is asked for.
const FOREIGN_LOOKS: u32 = 5;

/// How long between two of these.
const FOREIGN_PAUSE: std::time::Duration = std::time::Duration::from_millis(2);

/// A wait status (wait(2)) in the words of this crate.
fn wait_status(status: i32) -> Option<Exit> {
    if libc::WIFEXITED(status) {
        return Some(Exit::Exited(libc::WEXITSTATUS(status)));
    }
    let signal = libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status))?;
    Some(if libc::WCOREDUMP(status) { Exit::Dumped(signal) } else { Exit::Killed(signal) })
}

/// The status in the words of this crate.
fn exit(status: &WaitIdStatus) -> Option<Exit> {
    if let Some(code) = status.exit_status() {
        return Some(Exit::Exited(code));
    }
    let signal = status.terminating_signal()?;
    Some(if status.dumped() { Exit::Dumped(signal) } else { Exit::Killed(signal) })
}
