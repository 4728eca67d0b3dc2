//! A container in the host's pid namespace: the launcher itself becomes its program.

use nix::sched::{CloneFlags, unshare};
use sd_notify::NotifyState;
use std::{io, process};

use super::{child, environment, failure::failure, session::Session, sibling::clone_flags};
use crate::{
    plan::Plan,
    protocol::{Failure, Reply, Report, Stage},
};

/// Leaves the host's namespaces, does the steps, becomes the program. Returns only on failure.
pub(super) fn start(session: &mut Session<'_>, plan: &Plan) -> Result<(), Failure> {
    unshare(CloneFlags::from_bits_retain(clone_flags(plan))).map_err(|errno| {
        let cure = "the launcher needs CAP_SYS_ADMIN, and the kernel mount and ipc namespaces";
        failure(Stage::Namespaces, "leave the host's namespaces", None, &errno.into(), cure)
    })?;
    let program = child::arm(plan, &session.launch.listen, environment::from_manager)?;
    let pid = process::id();
    if session.manager.listens() {
        if let Some(berthd) = &mut session.berthd {
            // The next berthd learns it from the service manager.
            drop(berthd.say(&Report::Armed { pid }));
        }
        session.manager.tell(&[NotifyState::Ready]).map_err(|error| {
            failure(Stage::HandOver, "tell the service manager", None, &error, "the unit needs Type=notify")
        })?;
    } else {
        await_go(session, pid)?;
    }
    let status = program.run()?;
    // There was an init, and its program has ended.
    session.leave();
    process::exit(i32::from(status))
}

/// Where berthd is the service manager: tells it and waits until its record is written.
pub(super) fn await_go(session: &mut Session<'_>, pid: u32) -> Result<(), Failure> {
    let mut told = || -> io::Result<()> {
        let berthd = session.berthd.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        berthd.say(&Report::Armed { pid })?;
        loop {
            match berthd.hear()? {
                Reply::Go => return Ok(()),
                Reply::Working { .. } => {}
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    };
    told().map_err(|error| {
        let cure = "berthd ended during the start, and starts it again when it is back";
        failure(Stage::Connect, "hear berthd's go", Some(&session.launch.socket), &error, cure)
    })
}
