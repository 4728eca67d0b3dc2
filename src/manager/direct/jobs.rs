//! Jobs that were asked for and are not done: each waits until those before it are done, then is its unit's.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    graph::{self, Graph},
    unit::JobId,
};
use crate::spec::Name;

/// What a job wants of its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// That it runs.
    Up,
    /// That it does not.
    Down,
    /// That it stops and runs again.
    Again,
}

/// One job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Whose.
    pub name: Name,
    /// What.
    pub wish: Wish,
    /// The caller's; none if another job pulled it in.
    pub token: Option<u64>,
    /// Whether its unit has it.
    handed: bool,
}

/// All jobs.
#[derive(Debug, Default)]
pub struct Jobs {
    /// By number, so in the order of asking.
    all: BTreeMap<JobId, Job>,
    /// The last number given.
    last: JobId,
}

impl Jobs {
    /// Takes a job. What waits for the same unit and wants the contrary is returned: it is canceled.
    pub fn add(&mut self, name: &Name, wish: Wish, token: Option<u64>) -> Vec<Job> {
        let contrary = |job: &Job| !job.handed && job.name == *name && (job.wish == Wish::Down) != (wish == Wish::Down);
        let canceled = self.take(contrary);
        self.last += 1;
        self.all.insert(self.last, Job { name: name.clone(), wish, token, handed: false });
        canceled
    }

    /// Whether a job of this kind is under way for a unit.
    pub fn has(&self, name: &Name, wish: Wish) -> bool {
        self.all.values().any(|job| job.name == *name && job.wish == wish)
    }

    /// The next job that nothing stands before; it is its unit's now.
    pub fn next(&mut self, graph: &Graph<'_>) -> Option<(JobId, Job)> {
        let up = self.busy(|wish| wish != Wish::Down);
        let down = self.busy(|wish| wish == Wish::Down);
        let free = |job: &Job| match job.wish {
            Wish::Down => graph::stops_before(graph, &job.name, &down).is_empty(),
            Wish::Up | Wish::Again => graph::starts_before(graph, &job.name, &up).is_empty(),
        };
        let (&id, job) = self.all.iter_mut().find(|(_, job)| !job.handed && free(job))?;
        job.handed = true;
        Some((id, job.clone()))
    }

    /// Ends a job.
    pub fn done(&mut self, id: JobId) -> Option<Job> {
        self.all.remove(&id)
    }

    /// Ends the starts that wait and cannot be, since `failed` did not start: those of its dependents.
    pub fn fail_dependents(&mut self, graph: &Graph<'_>, failed: &Name) -> Vec<Job> {
        let dependents = graph::dependents(graph, failed);
        self.take(|job| !job.handed && job.wish != Wish::Down && dependents.contains(&job.name))
    }

    /// The units with jobs of a kind.
    fn busy(&self, kind: impl Fn(Wish) -> bool) -> BTreeSet<Name> {
        self.all.values().filter(|job| kind(job.wish)).map(|job| job.name.clone()).collect()
    }

    /// Removes some jobs.
    fn take(&mut self, which: impl Fn(&Job) -> bool) -> Vec<Job> {
        let ids: Vec<_> = self.all.iter().filter(|(_, job)| which(job)).map(|(&id, _)| id).collect();
        ids.iter().filter_map(|id| self.all.remove(id)).collect()
    }
}
