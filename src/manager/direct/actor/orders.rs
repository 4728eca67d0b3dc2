//! What is ordered: settings, and jobs in their order.

use super::{
    super::{
        graph::{self, Graph},
        jobs::{Job, Wish},
        unit::Input,
    },
    Actor, Entry,
};
use crate::{
    manager::{self, Active, Batch, Event, JobError, JobVerb},
    plan::UnitSettings,
    spec::Name,
};

impl Actor {
    /// New settings, then jobs.
    pub(super) fn apply(&mut self, batch: Batch) {
        for (name, settings) in batch.settings {
            match settings {
                Some(settings) => self.settle(&name, settings),
                None => self.forget(&name),
            }
        }
        for manager::Job { verb, name, token } in batch.jobs {
            match verb {
                JobVerb::Start => self.want_up(&name, Wish::Up, token),
                JobVerb::Restart => self.want_again(&name, token),
                JobVerb::TryRestart if self.is_up(&name) => self.want_again(&name, token),
                JobVerb::TryRestart => self.tell(Event::JobDone { name, token, result: Ok(()) }),
                JobVerb::Stop => self.want_down(&name, token),
            }
        }
    }

    /// Takes settings; they hold from the next decision on.
    pub(super) fn settle(&mut self, name: &Name, settings: UnitSettings) {
        for unit in graph::strangers(&settings) {
            if self.strangers.insert(unit.clone()) {
                tracing::info!("{unit} is not available here: without systemd only containers wait for each other");
            }
        }
        let entry = self.units.entry(name.clone()).or_insert_with(|| Entry::new(UnitSettings::default()));
        entry.machine.settings = settings;
        entry.gone = false;
    }

    /// The container is gone; a unit that runs is known until it has ended.
    pub(super) fn forget(&mut self, name: &Name) {
        if let Some(entry) = self.units.get_mut(name) {
            entry.gone = true;
        }
        self.bury(name);
    }

    /// Forgets a unit that is gone and dead.
    pub(super) fn bury(&mut self, name: &Name) {
        let over = |entry: &Entry| entry.gone && entry.machine.is_dead() && entry.removal.is_none();
        if self.units.get(name).is_some_and(over) && !self.has_jobs(name) {
            self.units.remove(name);
        }
    }

    /// Whether jobs of a unit are under way.
    pub(super) fn has_jobs(&self, name: &Name) -> bool {
        [Wish::Up, Wish::Down, Wish::Again].iter().any(|&wish| self.jobs.has(name, wish))
    }

    /// A start, and those of what it requires and wants.
    pub(super) fn want_up(&mut self, name: &Name, wish: Wish, token: u64) {
        let mut pulled = graph::pulled_in(&self.graph(), name);
        pulled.remove(name);
        for other in pulled {
            if !self.is_running(&other) && !self.jobs.has(&other, Wish::Up) {
                self.add(&other, Wish::Up, None);
            }
        }
        self.add(name, wish, Some(token));
    }

    /// A stop, and those of what requires it.
    pub(super) fn want_down(&mut self, name: &Name, token: u64) {
        for other in self.living_dependents(name) {
            self.add(&other, Wish::Down, None);
        }
        self.add(name, Wish::Down, Some(token));
    }

    /// A restart, and those of what requires it.
    pub(super) fn want_again(&mut self, name: &Name, token: u64) {
        let dependents = self.living_dependents(name);
        self.want_up(name, Wish::Again, token);
        for other in dependents {
            self.add(&other, Wish::Again, None);
        }
    }

    /// Those that require a unit and are up, or about to be.
    pub(super) fn living_dependents(&self, name: &Name) -> Vec<Name> {
        let mut dependents = graph::dependents(&self.graph(), name);
        dependents.remove(name);
        dependents.into_iter().filter(|other| self.is_up(other) || self.jobs.has(other, Wish::Up)).collect()
    }

    /// Takes a job; one that it contradicts and that still waits is canceled.
    pub(super) fn add(&mut self, name: &Name, wish: Wish, token: Option<u64>) {
        let canceled = self.jobs.add(name, wish, token);
        self.end_jobs(canceled, "canceled");
    }

    /// Whether a unit runs, or is about to.
    pub(super) fn is_up(&self, name: &Name) -> bool {
        let up = |entry: &Entry| matches!(entry.machine.view.active, Active::Active | Active::Activating);
        self.units.get(name).is_some_and(up)
    }

    /// Whether a unit runs.
    pub(super) fn is_running(&self, name: &Name) -> bool {
        self.units.get(name).is_some_and(|entry| entry.machine.view.active == Active::Active)
    }

    /// All settings.
    pub(super) fn graph(&self) -> Graph<'_> {
        self.units.iter().map(|(name, entry)| (name, &entry.machine.settings)).collect()
    }

    /// Hands out the jobs that nothing stands before.
    pub(super) fn advance(&mut self) {
        loop {
            let graph = self.units.iter().map(|(name, entry)| (name, &entry.machine.settings)).collect();
            let Some((id, job)) = self.jobs.next(&graph) else { return };
            self.units.entry(job.name.clone()).or_insert_with(|| Entry::new(UnitSettings::default()));
            self.feed(
                &job.name,
                match job.wish {
                    Wish::Up => Input::Start(id),
                    Wish::Down => Input::Stop(id),
                    Wish::Again => Input::Restart(id),
                },
            );
        }
    }

    /// Ends jobs that nobody began.
    pub(super) fn end_jobs(&self, jobs: Vec<Job>, word: &str) {
        for Job { name, token, .. } in jobs {
            if let Some(token) = token {
                self.tell(Event::JobDone { name, token, result: Err(JobError::Ended(word.into())) });
            }
        }
    }
}
