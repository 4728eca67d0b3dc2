//! A minimal init (`init = true`): for programs that leave zombies, or have no handler for the signals they get.

use std::{io, process};

use nix::sys::{
    signal::SigSet,
    signalfd::{SfdFlags, SignalFd},
};
use rustix::process::{Pid, WaitOptions, set_child_subreaper, wait};

use super::{
    ListenFds,
    child::Armed,
    failure::{self, failure},
};
use crate::{
    protocol::{Failure, Stage},
    sys::process::{close_inherited, fork, kill},
};

/// Runs the program as a child; its exit status when it has ended. All other processes of a pid namespace end with
/// its init.
pub(super) fn run(program: &Armed) -> Result<u8, Failure> {
    attend(program).map_err(|error| {
        let cure = "raise resources.pids or resources.memory, or start without init";
        failure(Stage::Program, "run the program under an init", None, &error, cure)
    })
}

/// The same, with the bare reason.
fn attend(program: &Armed) -> io::Result<u8> {
    rustix::thread::set_name(c"init")?;
    if process::id() != 1 {
        // Outside a pid namespace orphans come to whoever asks for them.
        set_child_subreaper(Some(rustix::process::getpid()))?;
    }
    // Blocked signals wait, and a blocked signal is not dropped though PID 1 has no handler for it.
    SigSet::all().thread_set_mask()?;
    let Some(child) = fork()? else {
        let failure = program.execute();
        process::exit(i32::from(failure::say(&program.container, &failure)));
    };
    // The sockets are the program's: once it has closed one, nobody listens there.
    if program.listen.count > 0 {
        close_inherited(ListenFds::FIRST, ListenFds::FIRST + program.listen.count - 1)?;
    }
    let signals = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC)?;
    loop {
        let Some(signal) = signals.read_signal()? else { continue };
        if signal.ssi_signo == libc::SIGCHLD.cast_unsigned() {
            if let Some(status) = reap(child)? {
                return Ok(status);
            }
        } else if let Err(error) = kill(child, signal.ssi_signo.cast_signed())
            // It has just ended, or is another user's by now and this init has no CAP_KILL.
            && !matches!(error.raw_os_error(), Some(libc::ESRCH | libc::EPERM))
        {
            return Err(error);
        }
    }
}

/// Reaps all that have ended; the exit status of `child` if it is among them.
fn reap(child: u32) -> io::Result<Option<u8>> {
    let child = i32::try_from(child).ok().and_then(Pid::from_raw);
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if Some(pid) == child => {
                return Ok(Some(exit_status(status.exit_status(), status.terminating_signal())));
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(None),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A program's end as an exit status: its own code, or 128 and the signal's number as shells have it.
pub(super) fn exit_status(code: Option<i32>, signal: Option<i32>) -> u8 {
    let number = code.or_else(|| signal.map(|signal| 128 + signal));
    number.and_then(|number| u8::try_from(number).ok()).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_mapped_as_shells_do() {
        for code in [0, 42, 255] {
            assert_eq!(i32::from(exit_status(Some(code), None)), code);
        }
        for (signal, expected) in [(9, 137), (11, 139), (15, 143), (64, 192)] {
            assert_eq!(exit_status(None, Some(signal)), expected);
        }
    }
}
