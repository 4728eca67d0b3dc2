//! ⑤⑥ `berth-launch`: from a plan to a program that is the service manager's own child.
//!
//! A fresh process for each start, with one thread, so it may do in its copy what it likes. The order of a start:
//!
//! 1. ask berthd for the plan, and ask again while berthd restarts ([`berthd`]);
//! 2. with a pid namespace: make the container's first process as a *sibling* in its namespaces, so that its exit
//!    status is the service manager's and nobody has to stay ([`sibling`]); without one: this process becomes the
//!    program ([`in_place`]);
//! 3. do the plan's steps, and find the program ([`child`]);
//! 4. tell berthd, hand the process to the service manager, open the gate ([`gate`]), end.
//!
//! Everything that can fail has failed before `READY=1`, and is said with its stage, errno and path ([`failure`]).

mod berthd;
mod bind;
mod capabilities;
mod child;
mod copy;
pub mod enter;
mod environment;
mod failure;
mod gate;
mod guard;
mod in_place;
mod init;
mod interpreter;
mod limits;
mod manager;
mod populate;
mod program;
mod root;
mod session;
mod sibling;
mod steps;
pub mod stop;
mod view;

use std::path::PathBuf;

pub use environment::ListenFds;

use crate::{
    plan::Namespace,
    protocol::{Failure, Stage},
    spec::Name,
    sys::process::close_inherited,
};
use session::Session;

/// One start, as the service manager asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Of which container.
    pub container: Name,
    /// The service manager's ID of this start.
    pub invocation: String,
    /// Where berthd listens.
    pub socket: PathBuf,
    /// Descriptors that the service manager passes to the program.
    pub listen: ListenFds,
}

/// Launches; the exit status. Returns only where this process did not become the program.
///
/// The first deed of its process, which has opened nothing yet: strays of whoever started it are closed here, so
/// that neither the program nor an init holds them.
#[must_use]
pub fn run(launch: &Launch) -> u8 {
    if let Err(error) = close_inherited(ListenFds::FIRST + launch.listen.count, u32::MAX) {
        let failure = failure::failure(Stage::Config, "close stray files", None, &error, "berth needs Linux 5.11");
        return failure::say(&launch.container, &failure);
    }
    let mut session = match Session::open(launch) {
        Ok(session) => session,
        Err(failure) => return failure::say(&launch.container, &failure),
    };
    match start(&mut session) {
        Ok(()) => 0,
        Err(failure) => {
            session.tell_failure(&failure);
            failure::say(&launch.container, &failure)
        }
    }
}

/// The start itself.
fn start(session: &mut Session<'_>) -> Result<(), Failure> {
    if session.launch.invocation.is_empty() {
        let message = "INVOCATION_ID is not set; a service manager starts this program: systemctl start berth@NAME";
        return Err(failure::refusal(Stage::Config, None, message));
    }
    let plan = berthd::fetch_plan(session)?;
    steps::check(&plan)?;
    if plan.namespaces.contains(&Namespace::Pid) {
        sibling::start(session, &plan)
    } else {
        in_place::start(session, &plan)
    }
}
