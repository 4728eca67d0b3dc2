//! `berthctl exec`: a program that comes into a running container later, by the same steps as the container's own.
//!
//! Two processes and a program, in the order of what happens:
//!
//! 1. `berthctl` moves itself out of the container's reach before anything of it can be seen there ([`seal`]), and
//!    stays outside to the end: it waits, forwards signals and minds the terminal ([`attend`]);
//! 2. its child, the *entrant*, asks berthd for the run, joins the control groups of the container's main process
//!    ([`cgroups`]), is attached by every isolator, enters the namespaces, does the plan's steps that are a process's
//!    own, and finds the program, all without being seen: it is in no pid namespace of the container's ([`entrant`]);
//! 3. the program is born as the entrant's sibling, so that `berthctl` gets its exit status and nothing of berth stays
//!    in the container's control group. It is seen in the container from its birth; by then it is who it will be. It
//!    runs when `berthctl` has heard of it: without anybody to attend to it, it ends.
//!
//! What the container could do to one who enters: reach `/proc/PID/exe`, `fd` or `environ` of a process that is still
//! berth's (CVE-2019-5736: none is dumpable, and the program file is on a read-only mount of its own), or have it start
//! in a directory of the host that it has open (CVE-2024-21626: it has none open at execve(2), and a working directory
//! outside the container's root is refused). What the program could do to its caller, whose terminal it has: type into
//! it what a shell of the host then reads (CVE-2017-5226: it cannot call what types, `sys::seccomp`).

mod attend;
mod cgroups;
mod entrant;
mod plan;
mod seal;
mod terminal;
mod words;

use std::{
    ffi::OsString,
    io::{self, IsTerminal as _},
    os::fd::AsFd,
    path::PathBuf,
    process,
};

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

pub use attend::End;

use super::failure::{failure, refusal};
use crate::{
    host::users::Account,
    protocol::{Failure, Stage},
    spec::{Identity, Name},
    sys::process::{close_inherited, fork},
};
use attend::Attendant;
use terminal::{Lease, Terminal};

/// The first descriptor that is not standard input, output or error.
const FIRST_STRAY: u32 = 3;

/// What is to be run, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// In which container.
    pub container: Name,
    /// Where berthd listens.
    pub socket: PathBuf,
    /// The program and its arguments; at least the program.
    pub command: Vec<OsString>,
    /// As whom, if not as the container's user: by the files of its own root, where it has one.
    pub identity: Option<Identity>,
    /// The same, resolved.
    pub account: Option<Account>,
    /// Where, if not in the container's working directory. Absolute.
    pub directory: Option<PathBuf>,
    /// Variables beside the container's, or in place of them.
    pub environment: Vec<(String, String)>,
}

/// Takes this process out of the reach of whoever it is going to meet. Comes first, before anything is opened.
///
/// # Errors
/// The kernel does not let it.
pub fn withdraw() -> Result<(), Failure> {
    seal::seal()?;
    // Strays of whoever started this process: nothing of this program's is open yet.
    close_inherited(FIRST_STRAY, u32::MAX)
        .map_err(|error| failure(Stage::Config, "close stray files", None, &error, "berth needs Linux 5.11"))?;
    refuse_directories()?;
    conceal()
}

/// Keeps others than root from this process's memory, program file and descriptors (PR_SET_DUMPABLE(2const)).
fn conceal() -> Result<(), Failure> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|errno| failure(Stage::Confine, "protect this process", None, &errno.into(), "please report it"))
}

/// Refuses a directory as standard input, output or error: with fchdir(2) the program would be out of the container.
fn refuse_directories() -> Result<(), Failure> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    for (name, fd) in [("input", stdin.as_fd()), ("output", stdout.as_fd()), ("error", stderr.as_fd())] {
        if rustix::fs::fstat(fd).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFDIR) {
            let message = format!("standard {name} is a directory, by which the program could leave the container");
            return Err(refusal(Stage::Directory, None, message));
        }
    }
    Ok(())
}

/// Runs a program in a running container and waits for its end. To be called after [`withdraw`].
///
/// # Errors
/// The program was not started.
pub fn run(entry: &Entry) -> Result<End, Failure> {
    let cannot =
        |act: &'static str| move |error: io::Error| failure(Stage::Prepare, act, None, &error, "please report it");
    let terminal = Terminal::open();
    let interactive = io::stdin().is_terminal() && io::stdout().is_terminal();
    let (hearer, teller) = words::channel().map_err(cannot("make a socket"))?;
    let signals = attend::block_signals().map_err(cannot("block signals"))?;
    match fork().map_err(cannot("make a process"))? {
        None => {
            drop(hearer);
            // Never back into the caller's code: this is another process.
            process::exit(i32::from(entrant::live(entry, teller, terminal.is_some())));
        }
        Some(entrant) => {
            drop(teller);
            Attendant::new(hearer, entrant, Lease::new(terminal, interactive)).attend(&signals)
        }
    }
}
