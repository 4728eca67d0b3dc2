//! What running containers take of the disk: looked at on an interval, and what is asked of those that pass a limit.
//!
//! Looks run on threads of their own, a few at a time, of low priority; each container has its own schedule, and after a
//! costly look a longer pause. What was found is judged on the event loop, by the limits of that moment.

use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    Supervisor,
    decide::Wanted,
    slot::{Slot, Watch},
};
use crate::{
    host::Host,
    isolators::{self, Container, ORDER, Recorded, Shared},
    journal,
    manager::{Active, Order},
    plan::Plan,
    root::Root,
    spec::Name,
    state::Run,
    sys::priority,
};

/// How many containers are looked at at a time.
pub(super) const AT_A_TIME: usize = 4;

/// The shortest pause between two rounds: containers that are due soon after one another share a wake-up.
const ROUND: Duration = Duration::from_millis(250);

/// Looks at containers, for ever.
pub(super) async fn serve(supervisor: Rc<Supervisor>) {
    loop {
        let next = supervisor.look_around();
        let pause = async {
            match next {
                Some(due) => tokio::time::sleep_until(due.max(Instant::now() + ROUND).into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = pause => {}
            () = supervisor.watched.notified() => {}
        }
    }
}

impl Supervisor {
    /// Begins to look at those that are due. When the next is.
    fn look_around(self: &Rc<Self>) -> Option<Instant> {
        let (now, mut next) = (Instant::now(), None::<Instant>);
        let slots: Vec<Rc<Slot>> = self.slots.borrow().values().cloned().collect();
        for slot in slots {
            let run = slot.record.borrow().run.clone().filter(|run| run.process.is_some());
            let Some(run) = run.filter(|run| ORDER.iter().any(|isolator| isolator.watches(&run.plan))) else {
                continue;
            };
            let mut watch = slot.watch.borrow_mut();
            if watch.invocation != run.invocation {
                *watch = Watch { invocation: run.invocation.clone(), due: Some(now) };
            }
            match watch.due {
                Some(due) if due <= now => {
                    watch.due = None;
                    tokio::task::spawn_local(Rc::clone(self).look_at(Rc::clone(&slot), run));
                }
                Some(due) => next = Some(next.map_or(due, |next| next.min(due))),
                None => {}
            }
        }
        next
    }

    /// Looks at one container, and draws the conclusion.
    async fn look_at(self: Rc<Self>, slot: Rc<Slot>, run: Run) {
        let invocation = run.invocation.clone();
        let least = {
            let Ok(_permit) = self.looks.acquire().await else { return };
            look(self.root().clone(), Arc::clone(&self.shared), slot.name.clone(), run).await
        };
        self.enforce_limits(&slot);
        let interval = self.config().disk.watch_interval;
        let mut watch = slot.watch.borrow_mut();
        if watch.invocation == invocation {
            watch.due = Some(Instant::now() + apart(interval, &invocation).max(least));
            self.watched.notify_one();
        }
    }

    /// Ends a container that has passed a limit and is to be ended for it.
    pub(super) fn enforce_limits(&self, slot: &Slot) {
        let Some(run) = slot.record.borrow().run.clone() else { return };
        let cx = Recorded { root: self.root(), shared: &self.shared, name: &slot.name, run: &run };
        let Some(limitation) = ORDER.iter().find_map(|isolator| isolator.limitation(&cx)) else { return };
        let is_current = {
            let unit = slot.unit.borrow();
            unit.invocation.as_ref() == Some(&run.invocation) && unit.active != Active::Deactivating
        };
        // What cannot be ended now is found again by the next look.
        if !is_current || self.away.borrow().is_some() || !run.process.is_some_and(|main| self.lives(main)) {
            return;
        }
        if run.limitation.is_none() {
            journal::Event::DiskLimit.log_for(&slot.name, &limitation.message);
            let mut record = slot.record.borrow().clone();
            if let Some(run) = record.run.as_mut() {
                run.limitation = Some(limitation);
            }
            self.keep(slot, record);
        }
        self.manager.order(Order::KillMain(slot.name.clone()));
    }

    /// Makes true for a running container what an edit or a reload changed and what needs no restart.
    pub(super) fn bring_up_to_date(self: &Rc<Self>, slot: &Rc<Slot>) {
        if self.is_outdated(slot) && !slot.updating.replace(true) {
            let (this, slot) = (Rc::clone(self), Rc::clone(slot));
            tokio::task::spawn_local(async move {
                this.update(&slot).await;
                slot.updating.set(false);
                this.enforce_limits(&slot);
                this.watched.notify_one();
            });
        }
    }

    /// Whether an isolator has something to do for a running container.
    fn is_outdated(&self, slot: &Slot) -> bool {
        let record = slot.record.borrow();
        let Some(run) = record.run.as_ref().filter(|run| run.process.is_some()) else { return false };
        let config = self.config();
        self.wanted(&slot.name, |wanted| match wanted {
            Wanted::Good(spec, _) => {
                let wants = isolators::Wanted { spec, config: &config };
                ORDER.iter().any(|isolator| isolator.is_outdated(&wants, &run.plan))
            }
            _ => false,
        })
    }

    /// Has isolators change what is outdated, and keeps what they did.
    async fn update(&self, slot: &Slot) {
        let _turn = slot.turn.lock().await;
        if !self.is_outdated(slot) {
            return;
        }
        let spec = self.wanted(&slot.name, |wanted| match wanted {
            Wanted::Good(spec, _) => Some(spec.clone()),
            _ => None,
        });
        let Some((spec, run)) = spec.zip(slot.record.borrow().run.clone()) else { return };
        let invocation = run.invocation.clone();
        let (name, host, config, shared) =
            (slot.name.clone(), self.host.clone(), self.config(), Arc::clone(&self.shared));
        let work = tokio::task::spawn_blocking(move || {
            let wants = isolators::Wanted { spec: &spec, config: &config };
            update(&name, &host, &shared, &run, &wants)
        });
        let Ok((plan, errors)) = work.await else { return };
        let news = errors.join("; ");
        if slot.not_updated.replace(news.clone()) != news && !news.is_empty() {
            journal::Event::SpecInvalid.log_for(&slot.name, &format!("an edit cannot be applied: {news}"));
        }
        let mut record = slot.record.borrow().clone();
        if let Some(run) = record.run.as_mut().filter(|run| run.invocation == invocation && run.plan != plan) {
            run.plan = plan;
            self.keep(slot, record);
        }
    }
}

/// Has every isolator change what is outdated. The plan as it is then, and what could not be changed.
fn update(name: &Name, host: &Host, shared: &Shared, run: &Run, wants: &isolators::Wanted<'_>) -> (Plan, Vec<String>) {
    let (sandbox, config) = (run.sandbox.as_path(), wants.config);
    let (mut plan, mut errors) = (run.plan.clone(), Vec::new());
    for isolator in ORDER {
        if isolator.is_outdated(wants, &plan) {
            let cx = Container { name, plan: &run.plan, sandbox, host, config, shared, cgroup: run.cgroup.as_deref() };
            errors.extend(isolator.update(&cx, wants, &mut plan).err());
        }
    }
    (plan, errors)
}

/// Has every isolator look at a run, on a thread of low priority. The least pause that they ask for.
async fn look(root: Root, shared: Arc<Shared>, name: Name, run: Run) -> Duration {
    let (sender, receiver) = oneshot::channel();
    let look = move || {
        priority::lower();
        let cx = Recorded { root: &root, shared: &shared, name: &name, run: &run };
        let pauses = ORDER.iter().filter(|isolator| isolator.watches(&run.plan)).map(|isolator| {
            isolator.watch(&cx).unwrap_or_else(|error| {
                tracing::warn!(BERTH_CONTAINER = name.as_str(), "{name}: {}: {error}", isolator.name());
                Duration::ZERO
            })
        });
        // berthd may have ended meanwhile.
        let _ = sender.send(pauses.max().unwrap_or_default());
    };
    if let Err(error) = std::thread::Builder::new().name("berth-disk".to_owned()).spawn(look) {
        tracing::error!("cannot look at what containers take of the disk: {}", crate::error::reason(&error));
    }
    receiver.await.unwrap_or_default()
}

/// An interval, up to a tenth shorter or longer: what was started together is not looked at together for ever.
fn apart(interval: Duration, invocation: &str) -> Duration {
    let digits = invocation.get(..4).and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0x8000);
    interval.saturating_mul(9) / 10 + interval.saturating_mul(digits) / 5 / 0x10000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_differ_by_a_fifth_at_most() {
        let second = Duration::from_secs(10);
        assert_eq!(apart(second, "0000"), Duration::from_secs(9));
        assert_eq!(apart(second, "8000abc"), second);
        assert!(apart(second, "ffff") < Duration::from_secs(11));
        assert_eq!(apart(second, "?"), second);
    }
}
