//! A container with a pid namespace: its first process is born as a sibling of the launcher.

use std::{io, os::fd::OwnedFd, process, time::Duration};

use sd_notify::NotifyState;

use super::{
    child, environment,
    failure::{self, failure, refusal},
    gate::{Keeper, Waiter, gate},
    in_place::await_go,
    session::Session,
};
use crate::{
    plan::{Namespace, Plan},
    protocol::{Failure, Report, Stage},
    sys::process::{Born, clone_sibling, pidfd_kill, wait_end},
};

/// How long the service manager may take to take in `MAINPID=`; it does nothing else for a while when it reloads.
const PATIENCE_WITH_MANAGER: Duration = Duration::from_secs(30);

/// How long a killed child may take to end.
const PATIENCE_WITH_CHILD: Duration = Duration::from_secs(2);

/// Makes the process, hands it over, opens its gate.
pub(super) fn start(session: &mut Session<'_>, plan: &Plan) -> Result<(), Failure> {
    let (keeper, waiter) = gate().map_err(|error| no_process(&error))?;
    match clone_sibling(clone_flags(plan)).map_err(|error| no_process(&error))? {
        Born::Child => {
            drop(keeper);
            session.leave();
            // Never back into the launcher's code: this is another process.
            process::exit(i32::from(live(session, plan, waiter)));
        }
        Born::Parent { pid, pidfd } => {
            drop(waiter);
            let done = armed(&keeper)
                .and_then(|()| hand_over(session, pid))
                .and_then(|()| keeper.open().map_err(|error| gone(&error)));
            if done.is_err() {
                end(&pidfd);
            }
            done
        }
    }
}

/// Ends the child of a failed launch, if it has not ended on its own, before the launcher ends: so the service
/// manager finds nothing left over to kill and to log.
fn end(child: &OwnedFd) {
    drop(pidfd_kill(child, libc::SIGKILL));
    drop(wait_end(child, PATIENCE_WITH_CHILD));
}

/// The child's life until it is the program: the exit status if it never is.
fn live(session: &Session<'_>, plan: &Plan, mut waiter: Waiter) -> u8 {
    let program = match child::arm(plan, &session.launch.listen, environment::from_manager) {
        Ok(program) => program,
        Err(failure) => {
            // The launcher says it; without a launcher nobody wants to know.
            drop(waiter.report(Err(&failure)));
            return failure.stage.exit_status();
        }
    };
    if waiter.report(Ok(())).is_err() || !waiter.pass() {
        return Stage::HandOver.exit_status();
    }
    match program.run() {
        Ok(status) => status,
        Err(failure) => failure::say(&session.launch.container, &failure),
    }
}

/// Waits until the child is armed.
fn armed(keeper: &Keeper) -> Result<(), Failure> {
    match keeper.hear() {
        Ok(Some(verdict)) => verdict,
        Ok(None) => Err(refusal(
            Stage::Namespaces,
            None,
            "the container's first process was killed during its steps; is there enough memory? see dmesg",
        )),
        Err(error) => Err(gone(&error)),
    }
}

/// Makes the child the service's main process. Under a service manager with a protocol berthd is told and not waited
/// for: a container starts though berthd has just died.
fn hand_over(session: &mut Session<'_>, pid: u32) -> Result<(), Failure> {
    if !session.manager.listens() {
        return await_go(session, pid);
    }
    if let Some(berthd) = &mut session.berthd {
        // The next berthd learns it from the service manager.
        drop(berthd.say(&Report::Armed { pid }));
    }
    let told = session.manager.tell(&[NotifyState::MainPid(pid), NotifyState::Ready]);
    // Before the gate: a program that ends at once must already be the main process, or its status is lost.
    told.and_then(|()| session.manager.barrier(PATIENCE_WITH_MANAGER)).map_err(|error| {
        let cure = "the unit needs Type=notify and NotifyAccess=main";
        failure(Stage::HandOver, "hand the container to the service manager", None, &error, cure)
    })
}

/// The plan's namespaces, as clone3(2) and unshare(2) number them.
pub(super) fn clone_flags(plan: &Plan) -> i32 {
    plan.namespaces.iter().fold(0, |flags, namespace| {
        flags
            | match namespace {
                Namespace::Mount => libc::CLONE_NEWNS,
                Namespace::Pid => libc::CLONE_NEWPID,
                Namespace::Ipc => libc::CLONE_NEWIPC,
                Namespace::Uts => libc::CLONE_NEWUTS,
                Namespace::Cgroup => libc::CLONE_NEWCGROUP,
            }
    })
}

/// clone3(2) failed.
fn no_process(error: &io::Error) -> Failure {
    let cure = match error.raw_os_error() {
        Some(libc::EPERM) => "the launcher needs CAP_SYS_ADMIN",
        Some(libc::ENOSPC) => "raise /proc/sys/user/max_pid_namespaces, max_mnt_namespaces and max_ipc_namespaces",
        Some(libc::EAGAIN | libc::ENOMEM) => "raise resources.pids or resources.memory, or the host's limits",
        _ => "does this kernel have pid, mount and ipc namespaces?",
    };
    failure(Stage::Namespaces, "make a process in new namespaces", None, error, cure)
}

/// The child went away while it waited.
fn gone(error: &io::Error) -> Failure {
    failure(Stage::HandOver, "open the container's gate", None, error, "it was killed while it waited; start it again")
}
