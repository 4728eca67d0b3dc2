//! Commands inside of a host.
//!
//! What `nsenter` does, without its cost and without its process in between: the child is
//! the command itself, so its PID can be killed and its exit status is exact. It is put
//! into the host's `init.scope` too, where nsenter would leave it in the test's own cgroup,
//! outside of everything that the host can see.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use super::host::slowness;

/// What a command said, and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.status)?;
        writeln!(f, "--- stdout\n{}", self.stdout.trim_end())?;
        write!(f, "--- stderr\n{}", self.stderr.trim_end())
    }
}

/// A command that runs in the background. Dropping it kills it.
///
/// A thread waits for it from the start: a zombie whose parent is outside of a PID
/// namespace keeps the namespace's PID 1 from dying.
#[derive(Debug)]
pub struct Running {
    pid: u32,
    pidfd: OwnedFd,
    end: Receiver<io::Result<Output>>,
}

impl Running {
    /// Its PID as the machine numbers it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its PID as the host numbers it; `None` once it has ended.
    pub fn pid_inside(&self) -> Option<u32> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
        numbers.split_whitespace().last()?.parse().ok()
    }

    /// Sends a signal to the command alone, not to its children.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(rustix::process::pidfd_send_signal(&self.pidfd, signal)?)
    }

    /// Waits for its end, and that of everybody who holds its stdout or stderr.
    /// `None` means that the time is up ([`slowness`] times the timeout) and it still runs.
    pub fn wait(&mut self, timeout: Duration) -> Option<io::Result<Output>> {
        match self.end.recv_timeout(timeout * slowness()) {
            Ok(output) => Some(output),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Err(io::Error::other("its end has been told already"))),
        }
    }

    /// Kills it, and waits for what it had to say until then.
    pub fn kill(mut self) -> Option<Output> {
        // An error means that it has ended by itself.
        let _ = self.signal(Signal::KILL);
        self.wait(Duration::from_secs(5))?.ok()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.signal(Signal::KILL);
    }
}

/// Starts `/bin/sh -c script` in the namespaces of `systemd`, a pidfd, and in the cgroup
/// whose directory outside is `cgroup`.
pub fn spawn(systemd: &OwnedFd, cgroup: &Path, script: &str) -> io::Result<Running> {
    let systemd = systemd.try_clone()?;
    let processes = OpenOptions::new().write(true).open(cgroup.join("cgroup.procs"))?;
    let mut command = shell(script);
    enter_on_exec(&mut command, systemd.try_clone()?, processes);
    // The children of a thread that has entered a PID namespace are born in it, while the
    // thread itself stays where it is.
    let enter = move || Ok(move_into_thread_name_spaces(systemd.as_fd(), ThreadNameSpaceType::PROCESS_ID)?);
    start(command, enter)
}

/// [`spawn`] in the test's own namespaces and cgroup, where it is on the host itself.
pub fn spawn_here(script: &str) -> io::Result<Running> {
    start(shell(script), || Ok(()))
}

/// Starts a command in a thread that has done something first. It may not be able to start
/// threads any more; it ends here.
fn start(mut command: Command, first: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<Running> {
    let (started, start) = mpsc::channel();
    let (ended, end) = mpsc::channel();
    thread::spawn(move || {
        let child = first().and_then(|()| command.spawn()).and_then(|child| Ok((pidfd(child.id())?, child)));
        let child = match child {
            Ok((pidfd, child)) => {
                let _ = started.send(Ok((child.id(), pidfd)));
                child
            }
            Err(error) => {
                let _ = started.send(Err(error));
                return;
            }
        };
        // Nobody listens when the test has lost interest; the child is reaped all the same.
        let _ = ended.send(child.wait_with_output().map(Output::from));
    });
    let (pid, pidfd) = start.recv().map_err(io::Error::other)??;
    Ok(Running { pid, pidfd, end })
}

/// The descriptor of a process that nobody else can reap.
pub fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", script])
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("LANG", "C.UTF-8")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Makes the child join the cgroup and the remaining namespaces before it becomes the
/// program, which is then looked up in the host's root.
fn enter_on_exec(command: &mut Command, systemd: OwnedFd, processes: File) {
    let namespaces = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::CONTROL_GROUP
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::NETWORK;
    let enter = move || {
        rustix::io::write(&processes, b"0")?;
        move_into_thread_name_spaces(systemd.as_fd(), namespaces)?;
        Ok(())
    };
    #[allow(unsafe_code)]
    // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
    unsafe {
        command.pre_exec(enter)
    };
}

impl From<std::process::Output> for Output {
    fn from(output: std::process::Output) -> Output {
        Output {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
