//! What the direct manager asks of the kernel, one call a function, all of it safe.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus};

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

/// Sends a signal to exactly that process.
///
/// rustix names no realtime signals without unsafe code: those are refused with `Unsupported`.
pub fn send(process: impl AsFd, signal: i32) -> io::Result<()> {
    let signal = Signal::from_named_raw(signal).ok_or(io::ErrorKind::Unsupported)?;
    Ok(rustix::process::pidfd_send_signal(process, signal)?)
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
/// The place for PIDFD_GET_INFO with PIDFD_INFO_EXIT (Linux 6.15); until then nobody knows.
pub fn exit_of_foreign(_process: impl AsFd) -> Option<Exit> {
    None
}

/// The status in the words of this crate.
fn exit(status: &WaitIdStatus) -> Option<Exit> {
    if let Some(code) = status.exit_status() {
        return Some(Exit::Exited(code));
    }
    let signal = status.terminating_signal()?;
    Some(if status.dumped() { Exit::Dumped(signal) } else { Exit::Killed(signal) })
}
