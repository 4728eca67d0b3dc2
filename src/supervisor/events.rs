//! What the service manager says, and what follows.

use std::{collections::BTreeMap, rc::Rc};

use super::{
    Supervisor,
    slot::{self, PendingJob, Slot},
};
use crate::{
    journal,
    manager::{self, Event, Job, JobError, JobVerb, Order},
    spec::Name,
};

impl Supervisor {
    /// What the manager says.
    pub(super) fn on_event(self: &Rc<Self>, event: Event) {
        match event {
            Event::Snapshot(units) => self.on_snapshot(units),
            Event::Changed(name, unit) => {
                self.on_unit(&name, *unit);
                self.reconcile(&name);
            }
            Event::JobDone { name, token, result } => self.on_job_done(&name, token, result),
            Event::SettingsApplied => {
                self.settled.notify_waiters();
                self.tell_ready();
            }
            Event::SettingsFailed(reason) => {
                tracing::error!("settings of units wait: {reason}");
                self.forget_applied();
                self.settled.notify_waiters();
            }
            Event::Away(reason) => {
                if self.away.borrow().is_none() {
                    let kind = "unit changes wait until it is back; what runs goes on";
                    journal::Event::ManagerAway.log(&format!("the service manager is away: {reason}; {kind}"));
                }
                *self.away.borrow_mut() = Some(reason);
                self.drop_jobs();
            }
        }
        self.changed.notify_one();
    }

    /// The manager is there (again) and has told of everything.
    pub(super) fn on_snapshot(self: &Rc<Self>, units: BTreeMap<Name, manager::Unit>) {
        if self.away.borrow_mut().take().is_some() {
            journal::Event::ManagerBack.log("the service manager is back");
        }
        self.drop_jobs();
        self.forget_applied();
        let known: Vec<Name> = self.slots.borrow().keys().cloned().collect();
        for name in known.iter().filter(|name| !units.contains_key(*name)) {
            self.on_unit(name, manager::Unit::default());
        }
        for (name, unit) in units {
            self.on_unit(&name, unit);
        }
        self.synced.set(true);
        self.reconcile_all();
        self.slots.borrow().values().for_each(|slot| slot.news.notify_one());
        // Behind whatever that ordered, so that it is answered when all of it is in force.
        self.manager.order(Order::Apply(manager::Batch::default()));
    }

    /// A job ended.
    pub(super) fn on_job_done(self: &Rc<Self>, name: &Name, token: u64, result: Result<(), JobError>) {
        let slot = self.slot(name);
        let Some(job) = slot.job.borrow_mut().take_if(|job| job.token == token) else { return };
        if let Err(error) = &result {
            tracing::info!(BERTH_CONTAINER = name.as_str(), "{name}: {:?}: {error}", job.verb);
        }
        if let Some(digest) = job.digest {
            self.acted_on(&slot, digest);
        }
        if let Some(waiter) = job.waiter {
            // The operator may have gone.
            let _ = waiter.send(result);
        }
        slot.news.notify_one();
        self.reconcile(name);
    }

    /// Jobs that a lost connection swallowed: asked for again once the manager is back.
    pub(super) fn drop_jobs(&self) {
        for slot in self.slots.borrow().values() {
            if let Some(waiter) = slot.job.borrow_mut().take().and_then(|job| job.waiter) {
                let _ = waiter.send(Err(JobError::Refused("the service manager went away".to_owned())));
            }
        }
    }

    /// All settings are to be handed over again.
    pub(super) fn forget_applied(&self) {
        for slot in self.slots.borrow().values() {
            *slot.applied.borrow_mut() = None;
        }
    }

    /// A job of a container, entered as under way.
    pub(super) fn job(&self, slot: &Slot, verb: JobVerb, digest: Option<String>, waiter: Option<slot::Waiter>) -> Job {
        let token = self.token.get() + 1;
        self.token.set(token);
        *slot.job.borrow_mut() = Some(PendingJob { token, verb, digest, waiter });
        Job { verb, name: slot.name.clone(), token }
    }
}
