//! The end of a run: what was done for it is taken back, its sandbox follows the retention rule.

use std::{
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{Supervisor, decide, slot::Slot};
use crate::{
    isolators::{ORDER, Recorded, Shared},
    manager::{JobError, Unit},
    root::Root,
    spec::Name,
    state::{Ended, Record, Run, sandbox},
};

/// How soon a cleanup that failed is tried again.
const RETRY: Duration = Duration::from_secs(10);

impl Supervisor {
    /// Closes the record of a run that has ended, unless a later one took its place meanwhile.
    pub(super) async fn finish(self: &Rc<Self>, slot: &Rc<Slot>, invocation: &str, unit: &Unit) {
        let _turn = slot.turn.lock().await;
        let Some(run) = self.open_run(slot, |run| run.invocation == invocation) else { return };
        self.close(slot, run, ended(unit, invocation)).await;
        self.reconcile(&slot.name);
    }

    /// The run of a container that has ended, as its unit has it.
    ///
    /// What systemd says of a unit and what a launcher says come by different ways, and on a busy host the older may
    /// come last: news of another start are not of this run while its main process lives, or is about to be born.
    pub(super) fn ended_run(&self, slot: &Slot) -> Option<String> {
        let (record, unit) = (slot.record.borrow(), slot.unit.borrow());
        let run = record.run.as_ref().filter(|run| decide::has_ended(&run.invocation, &unit))?;
        let id = &run.invocation;
        let is_expected = || slot.expected.borrow().as_ref() == Some(id);
        let goes_on = run.process.map_or_else(is_expected, |main| self.lives(main));
        (unit.invocation.as_ref() == Some(id) || !goes_on).then(|| id.clone())
    }

    /// Closes what an earlier start left, before a later one is prepared. The caller has the turn.
    pub(super) async fn end_run_before(self: &Rc<Self>, slot: &Rc<Slot>, invocation: &str) {
        if let Some(run) = self.open_run(slot, |run| run.invocation != invocation) {
            let unit = slot.unit.borrow().clone();
            let last = ended(&unit, &run.invocation);
            self.close(slot, run, last).await;
        }
    }

    /// Cleans up all that is left of a container without files, and forgets it.
    pub(super) async fn forgotten(self: &Rc<Self>, slot: &Rc<Slot>) {
        // A move to another image that its end has overtaken is noted first.
        let _switching = slot.switching.lock().await;
        let _turn = slot.turn.lock().await;
        if slot.is_busy() || !slot.unit.borrow().active.is_at_rest() {
            return; // It is back: whatever comes of that asks again.
        }
        if let Some(run) = self.open_run(slot, |_| true) {
            let unit = slot.unit.borrow().clone();
            let last = ended(&unit, &run.invocation);
            self.close(slot, run, last).await;
        }
        if slot.record.borrow().run.is_some() {
            return; // Something could not be cleaned up; it is tried again.
        }
        if let Err(error) = self.store.remove(&slot.name) {
            tracing::error!("cannot remove the record of {}: {}", slot.name, crate::error::reason(&error));
            return;
        }
        let wanted = self.catalog.borrow().containers.contains_key(&slot.name);
        if wanted {
            *slot.record.borrow_mut() = Record::new(slot.name.clone(), &self.host.boot_id);
            *slot.applied.borrow_mut() = None;
        } else {
            self.forget_versions(slot);
            self.slots.borrow_mut().remove(&slot.name);
            // Whoever was about to do something with it hears no more of it.
            if let Some(waiter) = slot.job.borrow_mut().take().and_then(|job| job.waiter) {
                let _ = waiter.send(Err(JobError::Refused("its spec was removed".to_owned())));
            }
            slot.news.notify_one();
        }
        self.collect.notify_one();
        self.changed.notify_one();
    }

    /// The open run of a container, if it is one that matters.
    fn open_run(&self, slot: &Slot, matters: impl Fn(&Run) -> bool) -> Option<Run> {
        slot.record.borrow().run.clone().filter(matters)
    }

    /// Cleans up after a run and closes its record; on failure the record stays open and the cleanup is tried
    /// again.
    async fn close(self: &Rc<Self>, slot: &Rc<Slot>, run: Run, last: Ended) {
        let (root, shared, name) = (self.root().clone(), Arc::clone(&self.shared), slot.name.clone());
        let work = {
            let run = run.clone();
            tokio::task::spawn_blocking(move || clean_up(&root, &shared, &name, &run))
        };
        let left = work.await.unwrap_or_else(|error| vec![error.to_string()]);
        if !left.is_empty() {
            for error in &left {
                tracing::error!(BERTH_CONTAINER = slot.name.as_str(), "cannot clean up after {}: {error}", slot.name);
            }
            self.try_again(slot, run.invocation);
            return;
        }
        let mut record = slot.record.borrow().clone();
        record.run = None;
        record.last = Some(Ended { sandbox: Some(run.sandbox), limitation: run.limitation, ..last });
        self.keep(slot, record);
        self.collect.notify_one();
    }

    /// Tries a cleanup again, later.
    fn try_again(self: &Rc<Self>, slot: &Rc<Slot>, invocation: String) {
        let (this, slot) = (Rc::clone(self), Rc::clone(slot));
        tokio::task::spawn_local(async move {
            tokio::time::sleep(RETRY).await;
            let unit = slot.unit.borrow().clone();
            if decide::has_ended(&invocation, &unit) {
                this.finish(&slot, &invocation, &unit).await;
            }
        });
    }
}

/// Takes back what was done for a run, up the order, going on after errors. What is left to do.
pub(super) fn clean_up(root: &Root, shared: &Shared, name: &Name, run: &Run) -> Vec<String> {
    let cx = Recorded { root, shared, name, run };
    let up = ORDER.iter().rev();
    up.filter_map(|isolator| isolator.cleanup(&cx).err().map(|error| format!("{}: {error}", isolator.name()))).collect()
}

/// How a run ended, by its unit. A unit that systemd has forgotten ended cleanly, or it would be `failed`; that
/// nobody asked it to is then not known, and it counts as stopped so that no operator is contradicted.
fn ended(unit: &Unit, invocation: &str) -> Ended {
    let its_own = unit.invocation.as_deref() == Some(invocation);
    let clean = decide::killed_by_stop(unit) || !its_own || unit.result.is_empty();
    Ended {
        stopped: unit.stopped || !its_own,
        result: if clean { "success".to_owned() } else { unit.result.clone() },
        exit: unit.exit.filter(|_| its_own),
        at: crate::clock::now(),
        sandbox: None,
        limitation: None,
    }
}

/// Removes sandboxes that are due, when a run ends and when the oldest comes of age.
pub(super) async fn collect_sandboxes(supervisor: Rc<Supervisor>) {
    loop {
        let next = supervisor.collect_due().await;
        let pause = next.map(|due| due.duration_since(SystemTime::now()).unwrap_or(Duration::from_secs(1)));
        tokio::select! {
            () = supervisor.collect.notified() => tokio::time::sleep(Duration::from_millis(100)).await,
            () = tokio::time::sleep(pause.unwrap_or(Duration::MAX)), if pause.is_some() => {}
        }
    }
}

impl Supervisor {
    /// Removes what is due; the time at which more will be.
    async fn collect_due(&self) -> Option<SystemTime> {
        let config = self.config().sandbox;
        let rule = sandbox::Retention { keep: config.keep as usize, max_age: config.max_age };
        let sandboxes = self.root().durable().join("sandboxes");
        let (in_use, unsure) = self.sandboxes_in_use();
        let work = tokio::task::spawn_blocking(move || {
            let mut next: Option<SystemTime> = None;
            let entries = std::fs::read_dir(&sandboxes).into_iter().flatten().flatten();
            for entry in entries.filter(|entry| !unsure.contains(&entry.path())) {
                match sandbox::collect(&entry.path(), &in_use, rule) {
                    Ok(due) => next = [next, due].into_iter().flatten().min(),
                    Err(error) => tracing::warn!(
                        "cannot remove a sandbox under {}: {}",
                        entry.path().display(),
                        crate::error::reason(&error)
                    ),
                }
                sandbox::forget(&entry.path());
            }
            next
        });
        work.await.ok().flatten()
    }

    /// The sandboxes of present runs, and the containers of which it is not certain which one that is: a start is
    /// under way, or the record was lost.
    fn sandboxes_in_use(&self) -> (Vec<PathBuf>, Vec<PathBuf>) {
        let (mut in_use, mut unsure) = (Vec::new(), Vec::new());
        for slot in self.slots.borrow().values() {
            let run = slot.record.borrow().run.as_ref().map(|run| run.sandbox.clone());
            let idle = slot.unit.borrow().active.is_at_rest();
            if slot.launching.get() || (run.is_none() && !idle) {
                unsure.push(self.root().sandboxes(&slot.name));
            }
            in_use.extend(run);
        }
        (in_use, unsure)
    }
}
