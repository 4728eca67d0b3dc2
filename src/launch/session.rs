//! Whom a launcher talks to while it launches.

use std::{path::Path, time::Duration};

use sd_notify::NotifyState;

use super::{Launch, berthd::Berthd, failure::failure, manager::Manager};
use crate::protocol::{Failure, Report, Request, Stage};

/// How long a failure may wait for berthd to hear of it.
const PATIENCE_TO_REPORT: Duration = Duration::from_secs(2);

/// A launch with its two listeners: the service manager, and berthd while it is there.
#[derive(Debug)]
pub(super) struct Session<'a> {
    /// What is launched.
    pub launch: &'a Launch,
    /// Who started this process.
    pub manager: Manager,
    /// The connection that gave the plan.
    pub berthd: Option<Berthd>,
}

impl<'a> Session<'a> {
    /// A session with the service manager; berthd comes later.
    pub fn open(launch: &'a Launch) -> Result<Self, Failure> {
        let manager = Manager::from_environment().map_err(|error| {
            let path = std::env::var_os("NOTIFY_SOCKET");
            let cure = "the unit needs Type=notify and NotifyAccess=main";
            failure(Stage::HandOver, "reach the service manager", path.as_deref().map(Path::new), &error, cure)
        })?;
        Ok(Self { launch, manager, berthd: None })
    }

    /// Lets go of both. What a container's first process does first: neither is its business.
    pub fn leave(&mut self) {
        self.berthd = None;
        self.manager = Manager::none();
    }

    /// Tells the service manager and berthd how the launch failed, each as far as it listens.
    pub fn tell_failure(&mut self, failure: &Failure) {
        let errno = failure.errno.and_then(|errno| u32::try_from(errno).ok()).map(NotifyState::Errno);
        let status = failure.message.replace(['\n', '\r'], " ");
        let states: Vec<_> = errno.into_iter().chain([NotifyState::Status(&status)]).collect();
        // Best effort, both: the line on stderr and the exit status say it as well.
        drop(self.manager.tell(&states));
        let report = Report::Failed { failure: failure.clone() };
        let told = self.berthd.as_mut().is_some_and(|berthd| berthd.say(&report).is_ok());
        if !told && failure.stage != Stage::Connect {
            drop(self.tell_failure_anew(failure));
        }
    }

    /// The same over a new connection.
    fn tell_failure_anew(&self, failure: &Failure) -> std::io::Result<()> {
        let mut berthd = Berthd::connect(&self.launch.socket)?;
        berthd.limit(PATIENCE_TO_REPORT)?;
        berthd.say(&Request::LaunchFailed {
            container: self.launch.container.clone(),
            invocation: self.launch.invocation.clone(),
            failure: failure.clone(),
        })?;
        berthd.hear().map(drop)
    }
}
