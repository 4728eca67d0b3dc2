//! Processes by file descriptor: clone3(2), pidfds, close_range(2), signals by number.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
    time::Duration,
};

use nix::sched::{CloneFlags, unshare};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Highest signal number of the kernel (`_NSIG`).
pub const LAST_SIGNAL: i32 = 64;

/// Both sides of a birth.
#[derive(Debug)]
pub enum Born {
    /// This is the new process.
    Child,
    /// This is the old one.
    Parent {
        /// The new process, as this one numbers it.
        pid: u32,
        /// The new process itself.
        pidfd: OwnedFd,
    },
}

/// Makes a process in new namespaces (`CLONE_NEW*`) that is a sibling: its parent is the caller's parent, which
/// alone gets its SIGCHLD and its exit status (`CLONE_PARENT`). Memory is copied as by fork(2).
///
/// # Errors
/// clone3(2), and `EDEADLK` in a process of several threads, where the copy could stand in another's lock forever.
pub fn clone_sibling(namespaces: libc::c_int) -> io::Result<Born> {
    require_one_thread()?;
    let mut pidfd: RawFd = -1;
    let flags = libc::CLONE_PARENT | libc::CLONE_PIDFD | namespaces;
    let pid = match clone3(flags, &mut pidfd) {
        // A filter that cannot see the flags of clone3 hides it, and can see those of clone (`sys::seccomp`).
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => clone(flags, &mut pidfd),
        other => other,
    };
    match pid? {
        0 => Ok(Born::Child),
        pid => {
            // SAFETY: the kernel has just made this descriptor for us; nobody else has its number.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Born::Parent { pid: u32::try_from(pid).map_err(io::Error::other)?, pidfd })
        }
    }
}

/// clone3(2), without CLONE_VM and in a process of one thread: the new PID, 0 in the child.
fn clone3(flags: libc::c_int, pidfd: &mut RawFd) -> io::Result<libc::c_long> {
    // clone3 wants no exit signal beside CLONE_PARENT: the child takes its sibling's.
    let arguments = libc::clone_args {
        flags: u64::from(flags.cast_unsigned()),
        pidfd: (&raw mut *pidfd).expose_provenance() as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: 0,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    // SAFETY: the arguments are live and of the size given; without CLONE_VM the child has its own copy of memory
    // and stack, and with one thread no lock is held by anyone who is not copied.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>()) };
    if pid == -1 { Err(io::Error::last_os_error()) } else { Ok(pid) }
}

/// clone(2), as [`clone3`]. Its third argument takes the pidfd; s390 alone has the first two the other way round.
fn clone(flags: libc::c_int, pidfd: &mut RawFd) -> io::Result<libc::c_long> {
    if cfg!(target_arch = "s390x") {
        return Err(io::Error::from_raw_os_error(libc::ENOSYS));
    }
    let (flags, no_stack, nobody) = (libc::c_long::from(flags), 0 as libc::c_long, 0 as libc::c_long);
    // SAFETY: as in clone3; a stack of 0 means the copy of the caller's.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, no_stack, &raw mut *pidfd, nobody, nobody) };
    if pid == -1 { Err(io::Error::last_os_error()) } else { Ok(pid) }
}

/// fork(2): the child's PID, or none in the child.
///
/// # Errors
/// fork(2), and `EDEADLK` in a process of several threads.
pub fn fork() -> io::Result<Option<u32>> {
    require_one_thread()?;
    // SAFETY: with one thread no lock is held by anyone who is not copied, so the child may do what it likes.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => Ok(Some(pid.unsigned_abs())),
    }
}

/// Refuses in a process of several threads. unshare(2) tells: with this flag it does nothing, and does it only for a
/// process of one thread. It needs no `/proc`, which a process that enters a container no longer has.
fn require_one_thread() -> io::Result<()> {
    unshare(CloneFlags::CLONE_THREAD).map_err(|_| io::Error::from_raw_os_error(libc::EDEADLK))
}

/// The process that has `pid` now.
///
/// # Errors
/// pidfd_open(2); `ESRCH` where there is none.
pub fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    let none = || io::Error::from_raw_os_error(libc::ESRCH);
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).ok_or_else(none)?;
    Ok(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?)
}

/// Sends a signal by number, real-time ones too; 0 only asks whether the process is there.
///
/// # Errors
/// pidfd_send_signal(2); `ESRCH` once it has ended and its parent knows.
pub fn pidfd_kill(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is borrowed for the call, and a null siginfo is allowed: it means kill(2)'s.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_fd().as_raw_fd(), signal, no_info, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// kill(2) by number, for the children of an init, whose PIDs cannot be another's before it reaps them.
///
/// # Errors
/// kill(2).
pub fn kill(pid: u32, signal: i32) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: two numbers.
    let result = unsafe { libc::kill(pid, signal) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Waits until the process has ended, at most `patience`; whether it has. Works on any process, not children only.
///
/// # Errors
/// poll(2).
pub fn wait_end(pidfd: impl AsFd, patience: Duration) -> io::Result<bool> {
    let timeout = Timespec::try_from(patience).map_err(io::Error::other)?;
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    loop {
        match poll(&mut fds, Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other? > 0),
        }
    }
}

/// The first 64 bytes of the kernel's `struct pidfd_info`, of which one field is wanted.
#[repr(C)]
#[derive(Debug, Default)]
struct PidfdInfo {
    /// Asked for and, after the call, given.
    mask: u64,
    /// cgroupid, pid, tgid, ppid and credentials.
    others: [u32; 13],
    /// The wait status.
    exit_code: i32,
}

/// How a process ended, as wait(2) has it, though it may be another's child (`PIDFD_GET_INFO`, kernel 6.15).
///
/// None while it runs, until its parent has reaped it, and on older kernels. The pidfd must have been opened before
/// that.
///
/// # Errors
/// ioctl(2), but for those that mean "not known".
pub fn exit_info(pidfd: impl AsFd) -> io::Result<Option<i32>> {
    let mut info = PidfdInfo { mask: u64::from(libc::PIDFD_INFO_EXIT), ..PidfdInfo::default() };
    // SAFETY: the descriptor is borrowed for the call; the structure is live and of the size in the request's number.
    let result = unsafe { libc::ioctl(pidfd.as_fd().as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info) };
    if result == 0 {
        let given = info.mask & u64::from(libc::PIDFD_INFO_EXIT) != 0;
        return Ok(given.then_some(info.exit_code));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOTTY | libc::EINVAL | libc::ESRCH) => Ok(None),
        _ => Err(error),
    }
}

/// Marks every descriptor from `first` on as close-on-exec.
///
/// # Errors
/// close_range(2).
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: closes nothing now; what exec closes, this program no longer has.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Closes the descriptors `first..=last`, which were passed in and which no object of this program owns: strays of
/// whoever started it, and sockets that are another's (sd_listen_fds(3)).
///
/// # Errors
/// close_range(2).
pub fn close_inherited(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: what was passed in has no OwnedFd; the callers name only that.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0_u32) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives every signal its default action and blocks none, as a program expects to find them; Rust's own start
/// ignores SIGPIPE, and execve(2) keeps what is ignored.
///
/// # Errors
/// rt_sigprocmask(2).
pub fn reset_signals() -> io::Result<()> {
    // The kernel's sigaction has 24 or 32 bytes; all zero is SIG_DFL, no flags, an empty mask.
    let default = [0_u64; 4];
    for signal in 1..=LAST_SIGNAL {
        let no_old = std::ptr::null_mut::<u64>();
        // By hand, since the C library refuses the two signals that it uses itself, and somebody's parent ignores them.
        // SAFETY: the action is live, no shorter than the kernel's and only read; SIG_DFL runs no code of ours.
        // KILL and STOP are refused, which is right.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), no_old, size_of::<u64>()) };
    }
    Ok(nix::sys::signal::SigSet::empty().thread_set_mask()?)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_exit_of_a_process_is_known_through_its_pidfd() {
        for (script, status) in [("exit 42", 42 << 8), ("kill -9 $$", 9)] {
            let mut child = Command::new("sh").args(["-c", script]).stdin(Stdio::null()).spawn().unwrap();
            let pidfd = pidfd_open(child.id()).unwrap();
            assert!(wait_end(&pidfd, Duration::from_secs(10)).unwrap());
            child.wait().unwrap();
            assert_eq!(exit_info(&pidfd).unwrap(), Some(status), "{script}");
            assert_eq!(pidfd_kill(&pidfd, 0).unwrap_err().raw_os_error(), Some(libc::ESRCH));
        }
    }

    #[test]
    fn a_running_process_has_no_exit() {
        let me = pidfd_open(std::process::id()).unwrap();
        assert_eq!(exit_info(&me).unwrap(), None);
        assert!(!wait_end(&me, Duration::from_millis(1)).unwrap());
        assert_eq!(pidfd_open(0).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }

    #[test]
    fn threads_and_births_do_not_mix() {
        let (end, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || wait.recv());
        assert_eq!(clone_sibling(0).unwrap_err().raw_os_error(), Some(libc::EDEADLK));
        assert_eq!(fork().unwrap_err().raw_os_error(), Some(libc::EDEADLK));
        drop(end);
        assert!(other.join().unwrap().is_err());
    }
}
