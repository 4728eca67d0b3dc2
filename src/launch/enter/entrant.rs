//! Who goes in: asks, joins, enters, becomes the container's user, finds the program, and lets it be born.

use std::{
    fs, io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use rustix::{
    process::getcwd,
    thread::{ThreadNameSpaceType, move_into_thread_name_spaces},
};

use super::{
    Entry, cgroups, conceal,
    plan::plan_of,
    words::{Teller, Word},
};
use crate::{
    error::reason,
    host::users,
    inside::Inside,
    launch::{
        ListenFds,
        berthd::Berthd,
        child::{self, Armed},
        failure::{failure, refusal},
    },
    manager::Process,
    plan::Plan,
    protocol::{Entrance, Failure, Reply, Report, Request, Stage},
    sys::{
        proc,
        process::{Born, clone_sibling, pidfd_open, reset_signals, wait_end},
        seccomp::deny_typing,
        session::leave_keyring,
    },
};

/// How long berthd may take for an answer; isolators that attach a process take a moment.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a container that ends in this moment may take to be gone.
const LAST_BREATH: Duration = Duration::from_millis(200);

/// The namespaces in which whoever enters is where the container's main process is, by their names in `/proc/PID/ns`.
/// One more is one more line; setns(2) takes all at once and knows the order.
const NAMESPACES: [(&str, ThreadNameSpaceType); 7] = [
    ("user", ThreadNameSpaceType::USER),
    ("cgroup", ThreadNameSpaceType::CONTROL_GROUP),
    ("ipc", ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION),
    ("uts", ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME),
    ("net", ThreadNameSpaceType::NETWORK),
    ("pid", ThreadNameSpaceType::PROCESS_ID),
    ("mnt", ThreadNameSpaceType::MOUNT),
];

/// The entrant's life. What comes of it, it tells; its exit status says no more.
pub(super) fn live(entry: &Entry, mut teller: Teller, on_terminal: bool) -> u8 {
    match enter(entry, &mut teller, on_terminal) {
        Ok(()) => 0,
        Err(failure) => {
            teller.tell(&Word::Failed(failure));
            1
        }
    }
}

/// All of it, in its order.
fn enter(entry: &Entry, teller: &mut Teller, on_terminal: bool) -> Result<(), Failure> {
    let bug = "please report it";
    reset_signals().map_err(|error| failure(Stage::Prepare, "reset signals", None, &error, bug))?;
    let mut berthd = Berthd::connect(&entry.socket).map_err(|error| away(entry, &error))?;
    let Entrance { plan, invocation, main } = knock(&mut berthd, entry)?;
    let process = open_main(main).map_err(|_| gone(entry))?;
    let entry = &with_account(entry, &plan, main)?;
    let or_gone = |failure: Failure| if ends(&process) { gone(entry) } else { failure };
    // The control groups before the isolators: some act on the cgroup that they find a process in.
    cgroups::join(main.pid).map_err(or_gone)?;
    be_attached(&mut berthd, entry)?;
    drop(berthd);
    cgroups::check(main.pid).map_err(or_gone)?;
    leave_keyring().map_err(|error| failure(Stage::Confine, "leave the caller's keyring", None, &error, bug))?;
    if on_terminal {
        let cure = "berthctl needs CAP_SYS_ADMIN; or run it without a terminal (setsid)";
        deny_typing().map_err(|error| failure(Stage::Confine, "protect the terminal", None, &error, cure))?;
    }
    // After this nothing may be asked that the C library answers with the container's files, such as a user's name.
    join_namespaces(&process, main).map_err(|error| or_gone(not_joined(entry, &error)))?;
    let program = arm(entry, &plan, &invocation)?;
    // Once more: with a change of user the kernel may have undone it (proc_sys_fs(5), suid_dumpable).
    conceal()?;
    match clone_sibling(0).map_err(|error| or_gone(not_born(entry, &error)))? {
        Born::Child => process::exit(i32::from(become_program(&program, teller))),
        Born::Parent { pid, .. } => {
            teller.tell(&Word::Born { pid, main });
            Ok(())
        }
    }
}

/// The entry with whom it means. The main process's root is what its number leads to as long as that is held.
fn with_account(entry: &Entry, plan: &Plan, main: Process) -> Result<Entry, Failure> {
    let Some(identity) = &entry.identity else { return Ok(entry.clone()) };
    let account = if plan.image.is_some() {
        let root = PathBuf::from(format!("/proc/{}/root", main.pid));
        let inside = Inside::open(&root).map_err(|error| {
            failure(Stage::User, "open the container's root", Some(&root), &error, "berthctl needs CAP_SYS_PTRACE")
        })?;
        inside.account(identity)?
    } else {
        users::resolve(identity)?
    };
    Ok(Entry { account: Some(account), ..entry.clone() })
}

/// Asks berthd for the run.
fn knock(berthd: &mut Berthd, entry: &Entry) -> Result<Entrance, Failure> {
    let request = Request::Enter { container: entry.container.clone() };
    let asked = berthd.limit(PATIENCE).and_then(|()| berthd.say(&request));
    match asked.and_then(|()| berthd.hear()).map_err(|error| away(entry, &error))? {
        Reply::Enter { entrance } => Ok(*entrance),
        other => Err(refused(entry, other)),
    }
}

/// Has the isolators attach this process.
fn be_attached(berthd: &mut Berthd, entry: &Entry) -> Result<(), Failure> {
    match berthd.say(&Report::Joined).and_then(|()| berthd.hear()).map_err(|error| away(entry, &error))? {
        Reply::Go => Ok(()),
        other => Err(refused(entry, other)),
    }
}

/// The process that is meant, and no later one of its number.
pub(super) fn open_main(main: Process) -> io::Result<OwnedFd> {
    let process = pidfd_open(main.pid)?;
    // Read after it was opened: what is opened has this time or is gone.
    let present = proc::start_time(Path::new("/proc"), main.pid)?;
    if present == main.start_time { Ok(process) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) }
}

/// Enters all namespaces in which the main process is and this one is not. A new pid namespace is for children only.
fn join_namespaces(process: &OwnedFd, main: Process) -> io::Result<()> {
    let identity = |who: &str, kind: &str| {
        let namespace = fs::metadata(PathBuf::from(format!("/proc/{who}/ns/{kind}")))?;
        Ok::<_, io::Error>((namespace.dev(), namespace.ino()))
    };
    let mut foreign = ThreadNameSpaceType::empty();
    for (kind, flag) in NAMESPACES {
        // What the kernel does not have, nobody is in.
        let Ok(ours) = identity("self", kind) else { continue };
        if ours != identity(&main.pid.to_string(), kind)? {
            foreign |= flag;
        }
    }
    if !foreign.is_empty() {
        move_into_thread_name_spaces(process.as_fd(), foreign)?;
    }
    // Nothing of the caller's place is left where a step forgets it.
    std::env::set_current_dir("/")
}

/// Does the plan's steps and finds the program, as a launch does.
fn arm(entry: &Entry, plan: &Plan, invocation: &str) -> Result<Armed, Failure> {
    // The direct manager finds a run's processes by it where no cgroup can be made.
    let inherited = |name: &str| (name == "INVOCATION_ID").then(|| invocation.to_owned());
    let program = child::arm(&plan_of(entry, plan), &ListenFds::default(), inherited)?;
    require_inside()?;
    program.with_arguments(&entry.command)
}

/// Refuses a working directory that a magic link of `/proc` led to, outside the container's root (getcwd(3)).
fn require_inside() -> Result<(), Failure> {
    match getcwd(Vec::new()) {
        Ok(path) if path.to_bytes().starts_with(b"/") => Ok(()),
        _ => Err(refusal(Stage::Directory, None, "the working directory is not inside the container; use another")),
    }
}

/// Becomes the program, once somebody attends to it; returns only on failure.
fn become_program(program: &Armed, teller: &mut Teller) -> u8 {
    if !teller.may_run() {
        return Stage::HandOver.exit_status();
    }
    let failure = program.execute();
    let status = failure.stage.exit_status();
    teller.tell(&Word::Failed(failure));
    status
}

/// berthd gave no answer.
fn away(entry: &Entry, error: &io::Error) -> Failure {
    use io::ErrorKind::{
        BrokenPipe, ConnectionRefused, ConnectionReset, NotFound, TimedOut, UnexpectedEof, WouldBlock,
    };
    let socket = entry.socket.display();
    let why = match error.kind() {
        NotFound | ConnectionRefused => {
            format!("berthd is not running (nobody listens on {socket}); start it ('systemctl start berthd')")
        }
        UnexpectedEof | ConnectionReset | BrokenPipe => "berthd ended before it answered; try again".to_owned(),
        WouldBlock | TimedOut => "berthd does not answer; 'journalctl -u berthd' may say why".to_owned(),
        _ => format!("cannot speak with berthd: {}", reason(error)),
    };
    Failure { errno: error.raw_os_error(), ..cannot(entry, Stage::Connect, &why) }
}

/// berthd answered otherwise.
fn refused(entry: &Entry, reply: Reply) -> Failure {
    match reply {
        Reply::Error { message } => cannot(entry, Stage::Prepare, &message),
        _ => {
            cannot(entry, Stage::Connect, "berthd's answer is not understood; use the berthctl of the berthd that runs")
        }
    }
}

/// setns(2) failed.
fn not_joined(entry: &Entry, error: &io::Error) -> Failure {
    let cure = match error.raw_os_error() {
        Some(libc::EPERM) => "berthctl needs CAP_SYS_ADMIN, CAP_SYS_CHROOT and CAP_SYS_PTRACE",
        Some(libc::EINVAL) => "run berthctl where berthd runs, not in a container",
        _ => "does this kernel have setns(2) on pidfds (Linux 5.8)?",
    };
    failure(Stage::Namespaces, format_args!("enter the namespaces of '{}'", entry.container), None, error, cure)
}

/// clone3(2) failed, for want of memory too where a pid namespace ends.
fn not_born(entry: &Entry, error: &io::Error) -> Failure {
    let cure = "raise the container's limits of tasks and memory, or the host's";
    failure(Stage::Namespaces, format_args!("make a process in '{}'", entry.container), None, error, cure)
}

/// Whether a main process has ended, or does in this moment.
pub(super) fn ends(main: &OwnedFd) -> bool {
    wait_end(main, LAST_BREATH).unwrap_or(true)
}

/// The container is no more.
fn gone(entry: &Entry) -> Failure {
    cannot(entry, Stage::Namespaces, "it has just ended")
}

/// Why nobody enters.
fn cannot(entry: &Entry, stage: Stage, why: &str) -> Failure {
    refusal(stage, None, format!("cannot enter '{}': {why}", entry.container))
}
