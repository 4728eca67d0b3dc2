//! From files to deeds.

use std::{collections::BTreeSet, rc::Rc};

use super::{
    Supervisor,
    decide::{self, Deed, Wanted},
    slot::{Reported, Slot},
    watch::Watch,
};
use crate::{
    journal,
    launch::stop::{self, StopAction},
    manager::{Active, Batch, JobVerb, Kind, Order, Unit},
    observe::Lifecycle,
    spec::{self, Name, Outcome, Signal},
    state::Record,
};

impl Supervisor {
    /// Reads all files again. True if a file that was there is gone or empty: that needs a second look, which
    /// always believes what it sees.
    pub(super) fn read_files(&self, watch: &Watch) -> bool {
        watch.renew(self.root());
        let fresh = spec::load_all(self.root(), &self.config().defaults);
        let vanished = vanished(&self.catalog.borrow(), &fresh);
        if vanished && !self.doubt.replace(true) {
            return true;
        }
        self.doubt.set(false);
        self.tell_changes(&fresh);
        *self.catalog.borrow_mut() = fresh;
        self.shared.note_specs(&self.catalog.borrow());
        self.enroll();
        self.changed.notify_one();
        false
    }

    /// Gives every container that has a file its slot.
    pub(super) fn enroll(&self) {
        for name in self.catalog.borrow().containers.keys() {
            let slot = self.slot(name);
            slot.had_file.set(true);
            if self.synced.get() && slot.reported.borrow().state.is_none() {
                slot.reported.borrow_mut().state = Some(Lifecycle::Inactive);
            }
        }
    }

    /// Logs what is new in the files.
    fn tell_changes(&self, fresh: &spec::Catalog) {
        let old = self.catalog.borrow();
        for (name, loaded) in &fresh.containers {
            let before = old.containers.get(name);
            match &loaded.outcome {
                Outcome::Bad(errors) if before.map(|before| &before.outcome) != Some(&loaded.outcome) => {
                    for error in errors {
                        journal::Event::SpecInvalid.log_for(name, &error.to_string());
                    }
                }
                Outcome::Good(_) if before.is_some_and(|before| before.outcome != loaded.outcome) => {
                    journal::Event::SpecChanged.log_for(name, "its spec has changed");
                }
                _ => {}
            }
        }
        for name in old.containers.keys().filter(|name| !fresh.containers.contains_key(*name)) {
            journal::Event::SpecRemoved.log_for(name, "its spec was removed");
        }
        for stray in fresh.strays.iter().filter(|stray| !old.strays.contains(stray)) {
            journal::Event::SpecInvalid.log(&stray.to_string());
        }
    }

    /// What is to be done about every container, in one batch.
    pub(super) fn reconcile_all(self: &Rc<Self>) {
        let names: Vec<Name> = self.slots.borrow().keys().cloned().collect();
        self.reconcile_these(&names);
    }

    /// What is to be done about one container.
    pub(super) fn reconcile(self: &Rc<Self>, name: &Name) {
        self.reconcile_these(std::slice::from_ref(name));
    }

    /// Decides about some containers and hands the manager one batch.
    fn reconcile_these(self: &Rc<Self>, names: &[Name]) {
        if !self.synced.get() || self.away.borrow().is_some() {
            return;
        }
        let mut batch = Batch::default();
        for name in names {
            let slot = self.slot(name);
            self.settle(&slot, &mut batch);
        }
        batch.jobs = in_order(batch.jobs, |name| self.wanted(name, after));
        if !batch.settings.is_empty() || !batch.jobs.is_empty() {
            self.manager.order(Order::Apply(batch));
        }
    }

    /// Decides about one container.
    fn settle(self: &Rc<Self>, slot: &Rc<Slot>, batch: &mut Batch) {
        let name = &slot.name;
        let (deed, settings, digest) = self.wanted(name, |wanted| {
            let deed = decide::deed(wanted, &slot.record.borrow(), &slot.unit.borrow(), slot.is_busy());
            match wanted {
                Wanted::Good(spec, digest) => (deed, Some(self.settings(slot, spec)), Some(digest.to_owned())),
                _ => (deed, None, None),
            }
        });
        if let Some(settings) = settings {
            Self::refresh(slot, settings, batch);
        }
        match deed {
            Deed::Wait => {}
            Deed::Rest => self.bring_up_to_date(slot),
            Deed::Acknowledge => {
                self.acted_on(slot, digest.unwrap_or_default());
                self.bring_up_to_date(slot);
            }
            Deed::Job(verb) => {
                if verb == JobVerb::Stop {
                    self.disown(slot);
                }
                if verb == JobVerb::Start {
                    self.introduce(slot);
                    // What an edit starts is a new beginning, also for the start limit. Whether that was hit is not to be
                    // seen: the result is that of the first failure.
                    if slot.unit.borrow().active == Active::Failed {
                        self.manager.order(Order::ResetFailed(name.clone()));
                    }
                }
                batch.jobs.push(self.job(slot, verb, digest, None));
            }
            Deed::Forget if self.leaves_failed_unit(slot) => self.manager.order(Order::ResetFailed(name.clone())),
            Deed::Forget => {
                batch.settings.insert(name.clone(), None);
                self.forget(slot);
            }
        }
    }

    /// Whether a container that is to be forgotten has a failed unit to be reset before: its record goes only then, so
    /// that a berthd that is killed in between leaves none. A name that never had a file keeps its failed unit: whoever
    /// tried to start it wants to see why not.
    fn leaves_failed_unit(&self, slot: &Slot) -> bool {
        self.is_container(slot) && slot.unit.borrow().active == Active::Failed
    }

    /// Whether a name is a container's: it has or had a file, something was done for it, or its unit runs. A name that
    /// somebody mistyped for `systemctl start` has a unit too, and is none.
    pub(super) fn is_container(&self, slot: &Slot) -> bool {
        slot.had_file.get()
            || !slot.record.borrow().is_blank()
            || self.catalog.borrow().containers.contains_key(&slot.name)
            || matches!(slot.unit.borrow().active, Active::Active | Active::Reloading)
    }

    /// Calls with what the files say of a container.
    pub(super) fn wanted<T>(&self, name: &Name, with: impl FnOnce(Wanted<'_>) -> T) -> T {
        let catalog = self.catalog.borrow();
        match catalog.containers.get(name).map(|loaded| (&loaded.outcome, &loaded.digest)) {
            Some((Outcome::Good(spec), digest)) => with(Wanted::Good(spec, digest)),
            Some((Outcome::Bad(_), _)) => with(Wanted::Bad),
            Some((Outcome::Masked, _)) => with(Wanted::Masked),
            None => with(Wanted::Gone),
        }
    }

    /// Notes that berthd has done what a spec asks.
    pub(super) fn acted_on(&self, slot: &Slot, digest: String) {
        let mut record = slot.record.borrow().clone();
        self.wanted(&slot.name, |wanted| match wanted {
            Wanted::Good(spec, present) if present == digest => record.spec = Some(spec.clone()),
            _ => {}
        });
        record.acted_on = Some(digest);
        self.keep(slot, record);
    }

    /// Notes that a container is about to be started for the first time, so that whatever comes of it is known for
    /// ours, by a later berthd too.
    fn introduce(&self, slot: &Slot) {
        let mut record = slot.record.borrow().clone();
        if record.is_blank() {
            self.wanted(&slot.name, |wanted| {
                if let Wanted::Good(spec, _) = wanted {
                    record.spec = Some(spec.clone());
                }
            });
            self.keep(slot, record);
        }
    }

    /// Notes that a container without files is about to be stopped. Should they be back before it is forgotten, it is
    /// a new one: this stop was no operator's.
    fn disown(&self, slot: &Slot) {
        let mut record = slot.record.borrow().clone();
        if record.acted_on.take().is_some() {
            self.keep(slot, record);
        }
    }

    /// Writes a record, then holds it. A full disk spoils the file and not what berthd knows, and the file is tried
    /// again.
    pub(super) fn keep(&self, slot: &Slot, record: Record) {
        let saved = self.store.save(&record);
        if let Err(error) = &saved {
            tracing::error!("cannot write the record of {}: {}", slot.name, crate::error::reason(error));
        }
        slot.unsaved.set(saved.is_err());
        *slot.record.borrow_mut() = record;
        self.changed.notify_one();
    }

    /// A container without file that does not run: cleans up and forgets it.
    fn forget(self: &Rc<Self>, slot: &Rc<Slot>) {
        let (this, slot) = (Rc::clone(self), Rc::clone(slot));
        tokio::task::spawn_local(async move { this.forgotten(&slot).await });
    }

    /// What the manager says of a unit.
    pub(super) fn on_unit(self: &Rc<Self>, name: &Name, unit: Unit) {
        let slot = self.slot(name);
        let killed = decide::killed_by_stop(&unit);
        *slot.unit.borrow_mut() = unit;
        slot.news.notify_one();
        self.tell_transition(&slot);
        self.note_restart(&slot);
        if killed {
            self.manager.order(Order::ResetFailed(name.clone()));
        }
        self.help_masked_stop(&slot);
        if let Some(invocation) = self.ended_run(&slot).filter(|_| !slot.launching.get()) {
            let (this, unit) = (Rc::clone(self), slot.unit.borrow().clone());
            tokio::task::spawn_local(async move { this.finish(&slot, &invocation, &unit).await });
        }
    }

    /// `systemctl mask --now` takes the unit its `ExecStop=` and its time limit before it stops it. What hears no
    /// SIGTERM is killed here then, as `ExecStop=` would.
    fn help_masked_stop(&self, slot: &Slot) {
        let unit = slot.unit.borrow();
        let Some(pid) = unit.main_pid.filter(|_| unit.masked && unit.active == Active::Deactivating) else { return };
        if matches!(stop::observe(pid, Signal::TERM), Ok(StopAction::Kill)) {
            self.manager.order(Order::KillMain(slot.name.clone()));
        }
    }

    /// Keeps in the record that a restart is due, where nobody but us would know after a crash of ours.
    fn note_restart(&self, slot: &Slot) {
        let due = {
            let unit = slot.unit.borrow();
            let waits = unit.active == Active::Activating && unit.sub == "auto-restart";
            unit.invocation.clone().filter(|_| waits && self.manager.kind() == Kind::Direct)
        };
        if slot.record.borrow().restarting != due {
            let record = Record { restarting: due, ..slot.record.borrow().clone() };
            self.keep(slot, record);
        }
    }

    /// Logs a change of state, once.
    fn tell_transition(&self, slot: &Slot) {
        let now = self.lifecycle(slot);
        let (unit, name) = (slot.unit.borrow(), &slot.name);
        let present =
            Reported { state: Some(now), since: Some(crate::clock::now()), invocation: unit.invocation.clone() };
        let before = slot.reported.replace(present);
        // A restart that was over before it was seen: two runs and nothing in between.
        let again = now == Lifecycle::Running && unit.invocation != before.invocation;
        if before.state.is_none() || (before.state == Some(now) && !again) {
            slot.reported.borrow_mut().since = before.since;
            return;
        }
        if before.state == Some(now) {
            journal::Event::Restarting.log_for(name, "was restarted");
        }
        match now {
            Lifecycle::Running => journal::Event::Started.log_for(name, "runs"),
            Lifecycle::Stopped => journal::Event::Stopped.log_for(name, "was stopped"),
            Lifecycle::Exited => journal::Event::Exited.log_for(name, "has exited"),
            Lifecycle::Restarting => {
                journal::Event::Restarting.log_for(name, &format!("waits for its restart ({})", ending(&unit)));
            }
            Lifecycle::Failed if slot.record.borrow().failure.is_none() => {
                journal::Event::Failed.log_for(name, &format!("has failed ({})", ending(&unit)));
            }
            _ => {}
        }
    }

    /// The state of a container in one word.
    pub(super) fn lifecycle(&self, slot: &Slot) -> Lifecycle {
        let (record, unit) = (slot.record.borrow(), slot.unit.borrow());
        self.wanted(&slot.name, |wanted| decide::lifecycle(wanted, &record, &unit))
    }

    /// The complaint about a name that no file has.
    pub(super) fn no_such_container(&self, name: &Name) -> String {
        let catalog = self.catalog.borrow();
        let names = catalog.containers.keys().map(Name::as_str);
        let hint = crate::source::nearest(name.as_str(), names).map(|near| format!("; did you mean '{near}'?"));
        format!(
            "there is no spec for '{name}' under /etc/berth/containers or the vendor directories{}",
            hint.unwrap_or_default()
        )
    }
}

/// Whether a file that said something before is gone, or says nothing.
fn vanished(old: &spec::Catalog, fresh: &spec::Catalog) -> bool {
    let said = |loaded: &&spec::Loaded| loaded.outcome != Outcome::Masked;
    old.containers.iter().any(|(name, loaded)| said(&loaded) && fresh.containers.get(name).filter(said).is_none())
}

/// How a run ended, in a few words.
pub(super) fn ending(unit: &Unit) -> String {
    use crate::manager::Exit;
    let how = match unit.exit {
        Some(Exit::Exited(status)) => format!("status {status}"),
        Some(Exit::Killed(signal) | Exit::Dumped(signal)) => format!("signal {signal}"),
        None => return unit.result.clone(),
    };
    format!("{}, {how}", unit.result)
}

/// The units that a spec starts after.
fn after(wanted: Wanted<'_>) -> Vec<Name> {
    match wanted {
        Wanted::Good(spec, _) => {
            let units = spec.service.after.iter().chain(&spec.service.requires);
            units.filter_map(|unit| Name::from_unit(unit)).collect()
        }
        _ => Vec::new(),
    }
}

/// Jobs in such an order that what others start after comes first: systemd orders only jobs that it has. A circle
/// keeps the order of names; systemd breaks it and says so.
fn in_order(jobs: Vec<crate::manager::Job>, after: impl Fn(&Name) -> Vec<Name>) -> Vec<crate::manager::Job> {
    let mut waiting: std::collections::BTreeMap<Name, crate::manager::Job> =
        jobs.into_iter().map(|job| (job.name.clone(), job)).collect();
    let mut ordered = Vec::with_capacity(waiting.len());
    let mut seen = BTreeSet::new();
    while let Some(name) = waiting.keys().next().cloned() {
        let mut path = vec![name];
        while let Some(top) = path.last().cloned() {
            let next = after(&top).into_iter().find(|name| waiting.contains_key(name) && !seen.contains(name));
            seen.insert(top.clone());
            match next {
                Some(next) => path.push(next),
                None => {
                    ordered.extend(waiting.remove(&top));
                    path.pop();
                }
            }
        }
    }
    ordered
}
