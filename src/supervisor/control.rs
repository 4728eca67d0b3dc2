//! What an operator asks of berthd itself: a container's start or stop where there is no systemd, and a reload.

use std::{rc::Rc, sync::Arc};

use tokio::sync::oneshot;

use super::{Supervisor, load_config, process::notify, slot::Slot};
use crate::{
    journal,
    manager::{self, JobError, JobVerb, Kind, Order},
    protocol::Verb,
    spec::Name,
};

impl Supervisor {
    /// Carries out an operator's order, where berthd is the service manager.
    pub(super) async fn control(self: &Rc<Self>, verb: Verb, name: &Name) -> Result<(), String> {
        if self.manager.kind() == Kind::Systemd {
            return Err(format!("systemd manages the containers here; use 'systemctl' on {}", name.unit()));
        }
        let known = self.slots.borrow().contains_key(name);
        if !known {
            return Err(self.no_such_container(name));
        }
        let slot = self.slot(name);
        let verb = match verb {
            Verb::Start => JobVerb::Start,
            Verb::Stop => JobVerb::Stop,
            Verb::Restart => JobVerb::Restart,
        };
        let (sender, receiver) = oneshot::channel();
        let jobs = vec![self.job(&slot, verb, None, Some(sender))];
        self.manager.order(Order::Apply(manager::Batch { jobs, ..manager::Batch::default() }));
        match receiver.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.why_not(&slot, &error)),
            Err(_) => Err("another order took its place".to_owned()),
        }
    }

    /// Why a job was not done, in the container's own words if it has any.
    pub(super) fn why_not(&self, slot: &Slot, error: &JobError) -> String {
        let failure = slot.record.borrow().failure.clone();
        failure.map_or_else(|| error.to_string(), |failure| failure.message)
    }

    /// Reads the configuration again. A configuration with mistakes changes nothing.
    pub(super) fn reload(self: &Rc<Self>) -> Result<(), String> {
        notify(&[
            sd_notify::NotifyState::Reloading,
            sd_notify::NotifyState::monotonic_usec_now().unwrap_or(sd_notify::NotifyState::Ready),
        ]);
        let outcome = load_config(self.root(), &self.setup.overrides);
        let result = outcome.map(|config| {
            *self.config.borrow_mut() = Arc::new(config);
            *self.catalog.borrow_mut() = crate::spec::load_all(self.root(), &self.config().defaults);
            self.shared.note_specs(&self.catalog.borrow());
        });
        if let Err(problems) = &result {
            journal::Event::ReloadRejected.log(&format!("the old configuration stays: {problems}"));
        }
        *self.rejected.borrow_mut() = result.clone().err();
        self.reloaded.notify_one();
        self.measured.notify_one();
        self.imported.notify_one();
        self.enroll();
        self.reconcile_all();
        notify(&[sd_notify::NotifyState::Ready]);
        self.changed.notify_one();
        result
    }
}
