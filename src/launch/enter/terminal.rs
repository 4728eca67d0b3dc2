//! The caller's terminal, lent to the program: what a shell does for its jobs (credentials(7), "Sessions and process
//! groups"), once more, for a shell cannot see into the container.
//!
//! The program has a process group of its own, so no signal reaches it twice: those of the terminal reach the group
//! in the foreground, a shell's reach `berthctl` and are passed on. The terminal is lent where the program's input
//! and output are both terminals, and else when the program asks for it by reading or setting it: in a pipeline,
//! others of the caller's group may be reading it.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
};

use nix::sys::{
    signal::{SigSet, Signal, kill},
    signalfd::{SfdFlags, SignalFd},
};
use rustix::{
    process::{Pid, getpgrp},
    termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr, tcsetpgrp},
};

/// The controlling terminal of this process.
#[derive(Debug)]
pub(super) struct Terminal {
    /// It.
    tty: File,
    /// The group that this process is in, and its caller's shell knows.
    ours: Pid,
    /// How it was found.
    modes: Termios,
}

impl Terminal {
    /// The controlling terminal, if there is one.
    pub fn open() -> Option<Self> {
        let tty = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open("/dev/tty").ok()?;
        let modes = tcgetattr(&tty).ok()?;
        Some(Self { tty, ours: getpgrp(), modes })
    }

    /// Whether our group is in the foreground.
    pub fn is_ours(&self) -> bool {
        tcgetpgrp(&self.tty).is_ok_and(|foreground| foreground == self.ours)
    }

    /// Puts a group into the foreground. One that has ended meanwhile cannot be, nor need be. SIGTTOU is blocked in all
    /// that call this, or the kernel would stop them.
    pub fn give(&self, group: Pid) {
        let _ = tcsetpgrp(&self.tty, group);
    }
}

/// What the program has of the terminal.
#[derive(Debug)]
pub(super) struct Lease {
    /// The terminal, if there is one.
    terminal: Option<Terminal>,
    /// Whether the program has it.
    held: bool,
    /// Whether it gets it, also again, when it goes on in the foreground.
    wanted: bool,
}

impl Lease {
    /// The beginning: nothing yet, and whether the program gets it as soon as it is born.
    pub fn new(terminal: Option<Terminal>, wanted: bool) -> Self {
        Self { terminal, held: false, wanted }
    }

    /// Whether there is something to lend.
    pub fn has_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    /// Whether a program that this signal stopped wants the terminal, and we have it.
    pub fn is_asked_for(&self, signal: i32) -> bool {
        matches!(signal, libc::SIGTTIN | libc::SIGTTOU) && self.terminal.as_ref().is_some_and(Terminal::is_ours)
    }

    /// Lends it to a group.
    pub fn grant(&mut self, group: u32) {
        if let (Some(terminal), Some(group)) = (&self.terminal, Pid::from_raw(group.cast_signed())) {
            terminal.give(group);
            (self.held, self.wanted) = (true, true);
        }
    }

    /// Takes it back for as long as the program is stopped.
    pub fn pause(&mut self) {
        if let Some(terminal) = self.terminal.as_ref().filter(|_| self.held) {
            terminal.give(terminal.ours);
            self.held = false;
        }
    }

    /// Lends it, if it is wanted and the caller's shell has put us into the foreground.
    pub fn renew(&mut self, group: u32) {
        if self.wanted && self.terminal.as_ref().is_some_and(Terminal::is_ours) {
            self.grant(group);
        }
    }

    /// Makes it as it was found, after a program that had no time to: raw mode does not even echo.
    pub fn restore(&self) {
        if let Some(terminal) = self.terminal.as_ref().filter(|_| self.held) {
            let _ = tcsetattr(&terminal.tty, OptionalActions::Drain, &terminal.modes);
        }
    }
}

/// Stops our group as Ctrl-Z does, and comes back when it goes on; at once where nobody could have it go on (an
/// orphaned process group is not stopped so, setpgid(2)). All signals are blocked, before and after.
pub(super) fn stop_our_group() {
    let stop = SigSet::from(Signal::SIGTSTP);
    // Waits until the next line, on which it is acted.
    let _ = kill(nix::unistd::Pid::from_raw(0), Signal::SIGTSTP);
    let _ = stop.thread_unblock();
    let _ = stop.thread_block();
    // What woke us is no news to anybody any more.
    let awake = SignalFd::with_flags(&SigSet::from(Signal::SIGCONT), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
    let _ = awake.and_then(|awake| awake.read_signal());
}
