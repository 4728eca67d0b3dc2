//! What a process has from whoever started it, beside its descriptors: children, a process group, keys.
#![allow(unsafe_code)]

use std::io;

/// Whether children that end are reaped by the kernel itself, with their statuses lost: for a process that is about to
/// be stopped, and whose zombies somebody may wait for. Also takes back what a parent ignored: execve(2) keeps it, and
/// then wait(2) finds no child.
///
/// # Errors
/// sigaction(2).
pub fn disown_children(disown: bool) -> io::Result<()> {
    let action = if disown { libc::SIG_IGN } else { libc::SIG_DFL };
    // SAFETY: neither of the two runs code of ours.
    let before = unsafe { libc::signal(libc::SIGCHLD, action) };
    if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sends a signal by number to all of a process group, whose leader the caller has not reaped yet.
///
/// # Errors
/// kill(2).
pub fn kill_group(group: u32, signal: i32) -> io::Result<()> {
    let group = libc::pid_t::try_from(group).ok().filter(|group| *group > 1);
    let group = group.ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
    // SAFETY: two numbers.
    let result = unsafe { libc::kill(-group, signal) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Leaves the session keyring for a new, empty one (session-keyring(7)): an operator's keys are his. A kernel without
/// keys has none to leave.
///
/// # Errors
/// keyctl(2).
pub fn leave_keyring() -> io::Result<()> {
    let nameless = std::ptr::null::<libc::c_char>();
    // SAFETY: a null name is allowed: it asks for a keyring without one.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, nameless) };
    let error = io::Error::last_os_error();
    if result != -1 || error.raw_os_error() == Some(libc::ENOSYS) { Ok(()) } else { Err(error) }
}
