//! How a main process is stopped: asked where it listens, killed where the kernel would not even tell it.
//!
//! The init of a pid namespace gets no signal that it has no handler for (pid_namespaces(7)): a SIGTERM to
//! `sleep infinity` as PID 1 is lost, and everybody waits for the timeout.

use std::{io, path::Path, thread, time::Duration};

use crate::{
    spec::Signal,
    sys::{
        proc::ProcStatus,
        process::{pidfd_kill, pidfd_open, wait_end},
    },
};

/// How long a killed process may take to end; one that waits for a disk takes what the disk takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a process is looked at.
const LOOKS: u32 = 12;
/// How often in a row it is deaf before it is called so.
const DEAF_LOOKS: u32 = 3;
/// How long between two looks.
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// What stops a main process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopAction {
    /// Send the stop signal, and wait.
    Signal,
    /// The stop signal would be dropped: kill at once.
    Kill,
}

/// What stops the process of which `status` was read.
///
/// A signal that it blocks counts as one that it takes: that is how signalfd(2) works. See [`observe`] for a program
/// that merely blocks for a moment.
#[must_use]
pub fn decide(status: &ProcStatus, signal: Signal) -> StopAction {
    if status.is_namespace_init() && !status.takes(signal.0) { StopAction::Kill } else { StopAction::Signal }
}

/// What stops the process `pid`, which the caller holds a pidfd of. Takes at most 25 ms.
///
/// One look is not enough where there is no handler. A shell blocks all signals for a moment whenever it forks; a
/// program that waits for signals may be seen between two waits. So it is killed only when it was deaf three times
/// in a row, and asked when that never happens.
///
/// # Errors
/// As [`ProcStatus::read`].
pub fn observe(pid: u32, signal: Signal) -> io::Result<StopAction> {
    let mut deaf = 0;
    for _ in 0..LOOKS {
        let status = ProcStatus::read(Path::new("/proc"), pid)?;
        match decide(&status, signal) {
            StopAction::Signal if status.catches(signal.0) || !status.is_namespace_init() => break,
            StopAction::Signal => deaf = 0,
            StopAction::Kill => deaf += 1,
        }
        if deaf == DEAF_LOOKS {
            return Ok(StopAction::Kill);
        }
        thread::sleep(BETWEEN_LOOKS);
    }
    Ok(StopAction::Signal)
}

/// Kills the main process of a service, while it has one, if the stop signal would be lost on it; whom the signal
/// reaches the service manager asks itself. That a stop had to kill can be read off the unit: its `ExecStop=` began
/// before its main process ended.
///
/// # Errors
/// Where the process cannot be looked at or killed.
pub fn run(main_pid: Option<u32>, signal: Signal) -> io::Result<()> {
    let Some(pid) = main_pid.filter(|pid| *pid != 0) else { return Ok(()) };
    match kill_deaf(pid, signal) {
        // It ended on its own meanwhile.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENOENT)) => Ok(()),
        other => other,
    }
}

/// Kills `pid` if the stop signal would be lost on it.
fn kill_deaf(pid: u32, signal: Signal) -> io::Result<()> {
    let process = pidfd_open(pid)?;
    if observe(pid, signal)? == StopAction::Signal {
        return Ok(());
    }
    // Still there after it was looked at: so it was this one.
    pidfd_kill(&process, 0)?;
    pidfd_kill(&process, libc::SIGKILL)?;
    wait_end(&process, PATIENCE).map(drop)
}

/// A signal by name or number: `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`, `RTMAX-1`.
#[must_use]
pub fn parse_signal(text: &str) -> Option<Signal> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(Signal(number));
    }
    let name = text.strip_prefix("SIG").unwrap_or(text);
    let realtime = |base: i32, rest: &str, sign: char| {
        let offset = if rest.is_empty() { 0 } else { rest.strip_prefix(sign)?.parse::<i32>().ok()? };
        let number = if sign == '+' { base.checked_add(offset)? } else { base.checked_sub(offset)? };
        (34..=64).contains(&number).then_some(Signal(number))
    };
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return realtime(34, rest, '+');
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        return realtime(64, rest, '-');
    }
    format!("SIG{name}").parse::<nix::sys::signal::Signal>().ok().map(|signal| Signal(signal as i32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_deaf_init_is_killed() {
        let term = 1 << 14;
        let table = [
            (vec![7, 1], 0, 0, StopAction::Kill),
            (vec![7, 1], term, 0, StopAction::Signal),
            (vec![7, 1], 0, term, StopAction::Signal),
            (vec![7], 0, 0, StopAction::Signal),
            (vec![7, 3], 0, 0, StopAction::Signal),
        ];
        for (ns_pids, caught, blocked, expected) in table {
            let status = ProcStatus { ns_pids, caught, blocked, awaited: 0 };
            assert_eq!(decide(&status, Signal::TERM), expected, "{status:?}");
        }
        let deaf_to_quit = ProcStatus { ns_pids: vec![7, 1], caught: term, ..ProcStatus::default() };
        assert_eq!(decide(&deaf_to_quit, Signal(3)), StopAction::Kill);
        assert_eq!(decide(&deaf_to_quit, Signal::KILL), StopAction::Kill);
    }

    #[test]
    fn signals_have_names_and_numbers() {
        let table = [
            ("SIGTERM", Some(15)),
            ("TERM", Some(15)),
            ("15", Some(15)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMIN", Some(34)),
            ("SIGRTMAX-1", Some(63)),
            ("0", None),
            ("65", None),
            ("RTMIN+31", None),
            ("RTMAX-99", None),
            ("term", None),
            ("", None),
        ];
        for (text, number) in table {
            assert_eq!(parse_signal(text), number.map(Signal), "{text:?}");
        }
    }

    #[test]
    fn no_main_process_is_nothing_to_stop() {
        for main_pid in [None, Some(0), Some(u32::MAX)] {
            assert!(run(main_pid, Signal::TERM).is_ok());
        }
    }
}
