//! Outside: waits for the program, passes signals on, stops with it and goes on with it.

use std::{io, mem, os::fd::OwnedFd, time::Duration};

use nix::sys::{
    signal::SigSet,
    signalfd::{SfdFlags, SignalFd, siginfo},
};
use rustix::{
    io::Errno,
    process::{Pid, WaitOptions, setpgid, waitpid},
};

use super::{
    super::{
        failure::{failure, refusal},
        init::exit_status,
    },
    entrant::{ends, open_main},
    terminal::{Lease, stop_our_group},
    words::{Hearer, Word},
};
use crate::{
    manager::Process,
    protocol::{Failure, Stage},
    sys::{
        process::{exit_info, kill, pidfd_kill, pidfd_open, wait_end},
        session::{disown_children, kill_group},
    },
};

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Its exit status, or 128 and the number of the signal that ended it.
    pub status: u8,
    /// Whether it was killed because its container ended.
    pub with_container: bool,
}

/// The program, once it is born.
#[derive(Debug)]
struct Program {
    /// As the host numbers it, and its process group.
    pid: u32,
    /// Itself.
    process: OwnedFd,
    /// The container's main process.
    main: Process,
}

/// Who waits.
#[derive(Debug)]
pub(super) struct Attendant {
    /// What the entrant and the program tell.
    words: Hearer,
    /// The entrant, which goes when the program is born.
    entrant: u32,
    /// The program.
    program: Option<Program>,
    /// Signals that came before it, and whether they were meant for a group.
    early: Vec<(i32, bool)>,
    /// What the program has of the terminal.
    lease: Lease,
}

/// Has every signal wait until it is read. An ignored SIGCHLD is taken back, or nobody could be waited for.
pub(super) fn block_signals() -> io::Result<SignalFd> {
    disown_children(false)?;
    SigSet::all().thread_set_mask()?;
    Ok(SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC)?)
}

impl Attendant {
    /// Who waits for what `entrant` makes.
    pub fn new(words: Hearer, entrant: u32, lease: Lease) -> Self {
        Self { words, entrant, program: None, early: Vec::new(), lease }
    }

    /// Waits for the program's end.
    pub fn attend(mut self, signals: &SignalFd) -> Result<End, Failure> {
        let outcome = loop {
            let news = match signals.read_signal() {
                Ok(Some(signal)) => self.on_signal(&signal),
                Ok(None) | Err(nix::errno::Errno::EINTR) => Ok(None),
                Err(errno) => Err(failure(Stage::Prepare, "read signals", None, &errno.into(), "please report it")),
            };
            if let Some(outcome) = news.transpose() {
                break outcome;
            }
        };
        self.lease.pause();
        outcome
    }

    /// A signal came; the end, if it was of that.
    fn on_signal(&mut self, signal: &siginfo) -> Result<Option<End>, Failure> {
        let number = signal.ssi_signo.cast_signed();
        match number {
            libc::SIGCHLD => return self.look(),
            libc::SIGCONT => self.resume(),
            // What the kernel itself sends comes from the terminal, and is meant for a group (sigaction(2), si_code).
            _ => self.pass_on(number, signal.ssi_code > libc::SI_USER),
        }
        Ok(None)
    }

    /// Passes a signal on. Who is gone already needs none.
    fn pass_on(&mut self, number: i32, to_group: bool) {
        match &self.program {
            Some(program) if to_group => drop(kill_group(program.pid, number)),
            Some(program) => drop(pidfd_kill(&program.process, number)),
            None => {
                // One that comes too late for the entrant is the program's.
                self.early.push((number, to_group));
                // What was meant for a group it has had already: it is in ours.
                if !to_group {
                    drop(kill(self.entrant, number));
                }
            }
        }
    }

    /// Looks what has become of the entrant, and then of the program.
    fn look(&mut self) -> Result<Option<End>, Failure> {
        loop {
            let child = self.program.as_ref().map_or(self.entrant, |program| program.pid);
            let status = match waitpid(Pid::from_raw(child.cast_signed()), WaitOptions::NOHANG | WaitOptions::UNTRACED)
            {
                Ok(Some((_, status))) => status,
                Ok(None) => return Ok(None),
                Err(Errno::INTR) => continue,
                // Reaped by the kernel while we were stopped.
                Err(_) => return self.lost(),
            };
            match (status.stopping_signal(), &self.program) {
                (Some(signal), _) => self.halt(signal),
                (None, Some(program)) => {
                    let main = program.main;
                    return self.finish(main, status.exit_status(), status.terminating_signal()).map(Some);
                }
                (None, None) => {
                    if let Some(end) = self.entered(status.terminating_signal())? {
                        return Ok(Some(end));
                    }
                }
            }
        }
    }

    /// The entrant has ended: the program is born, or the reason why not was told.
    fn entered(&mut self, killed: Option<i32>) -> Result<Option<End>, Failure> {
        let no_word =
            |error: io::Error| failure(Stage::Prepare, "hear of the program", None, &error, "please report it");
        match self.words.hear().map_err(no_word)? {
            Some(Word::Born { pid, main }) => {
                // Ours to reap, so the number is its own.
                let process = pidfd_open(pid).map_err(no_word)?;
                self.program = Some(Program { pid, process, main });
                // It cannot fail: the program waits, and leads nothing yet.
                let _ = setpgid(Pid::from_raw(pid.cast_signed()), None);
                self.lease.renew(pid);
                for (number, to_group) in mem::take(&mut self.early) {
                    self.pass_on(number, to_group);
                }
                self.words.let_run();
                Ok(None)
            }
            Some(Word::Failed(failure)) => Err(failure),
            None if killed.is_some_and(|signal| signal != libc::SIGKILL) => {
                Ok(Some(End { status: exit_status(None, killed), with_container: false }))
            }
            None => {
                let message = "the entering process was killed on its way; is the container being stopped?";
                Err(refusal(Stage::Prepare, None, message))
            }
        }
    }

    /// The program has ended, or was never executed.
    fn finish(&mut self, main: Process, code: Option<i32>, signal: Option<i32>) -> Result<End, Failure> {
        if let Ok(Some(Word::Failed(failure))) = self.words.hear() {
            return Err(failure);
        }
        if signal.is_some() {
            self.lease.restore();
        }
        let with_container = signal == Some(libc::SIGKILL) && has_ended(main);
        Ok(End { status: exit_status(code, signal), with_container })
    }

    /// A child ended while we were stopped, and the kernel may know how (Linux 6.15). What was stopped with us was
    /// most likely killed.
    fn lost(&mut self) -> Result<Option<End>, Failure> {
        let Some(program) = &self.program else { return self.entered(None) };
        let status = exit_info(&program.process).ok().flatten().unwrap_or(libc::SIGKILL);
        let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
        let signal = libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status));
        self.finish(program.main, code, signal).map(Some)
    }

    /// The program was stopped, and so are we: then a shell sees it, and can have it go on. Where it was stopped for
    /// want of the terminal, and we have that, it gets it.
    fn halt(&mut self, signal: i32) {
        if let Some(program) = &self.program
            && self.lease.is_asked_for(signal)
        {
            self.lease.grant(program.pid);
            drop(kill_group(program.pid, libc::SIGCONT));
        } else if self.lease.has_terminal() {
            self.lease.pause();
            // A zombie of ours would keep its pid namespace, and so the container, from ending (pid_namespaces(7)).
            drop(disown_children(true));
            if !self.program.as_ref().is_some_and(|program| wait_end(&program.process, Duration::ZERO).unwrap_or(true))
            {
                stop_our_group();
            }
            drop(disown_children(false));
            self.resume();
        }
    }

    /// Goes on, and the program too.
    fn resume(&mut self) {
        match &self.program {
            // Its number is another's once the kernel has reaped it.
            Some(program) if pidfd_kill(&program.process, 0).is_ok() => {
                self.lease.renew(program.pid);
                drop(kill_group(program.pid, libc::SIGCONT));
            }
            Some(_) => {}
            None => {
                // It takes back the stops that wait (signal(7)).
                self.early.retain(|(number, _)| !matches!(*number, libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU));
                drop(kill(self.entrant, libc::SIGCONT));
            }
        }
    }
}

/// Whether a container has ended, or does so in this moment: it kills all that is in its pid namespace first.
fn has_ended(main: Process) -> bool {
    open_main(main).map_or(true, |process| ends(&process))
}
