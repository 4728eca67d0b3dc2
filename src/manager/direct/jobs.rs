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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::UnitSettings;

    /// `web` requires `db` and comes after it.
    fn units() -> BTreeMap<Name, UnitSettings> {
        let db = vec!["berth@db.service".to_owned()];
        let web = UnitSettings { requires: db.clone(), after: db, ..UnitSettings::default() };
        BTreeMap::from([(name("web"), web), (name("db"), UnitSettings::default())])
    }

    /// A name.
    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    /// All jobs that are handed out now.
    fn handed(jobs: &mut Jobs) -> Vec<(JobId, String)> {
        let units = units();
        let graph = units.iter().collect();
        std::iter::from_fn(|| jobs.next(&graph).map(|(id, job)| (id, String::from(job.name)))).collect()
    }

    #[test]
    fn a_start_waits_for_what_comes_before() {
        let mut jobs = Jobs::default();
        jobs.add(&name("web"), Wish::Up, Some(1));
        jobs.add(&name("db"), Wish::Up, None);
        assert_eq!(handed(&mut jobs), [(2, "db".into())]);
        assert_eq!(handed(&mut jobs), []);
        jobs.done(2);
        assert_eq!(handed(&mut jobs), [(1, "web".into())]);
    }

    #[test]
    fn a_stop_waits_for_what_comes_after() {
        let mut jobs = Jobs::default();
        jobs.add(&name("db"), Wish::Down, Some(1));
        jobs.add(&name("web"), Wish::Down, None);
        assert_eq!(handed(&mut jobs), [(2, "web".into())]);
        jobs.done(2);
        assert_eq!(handed(&mut jobs), [(1, "db".into())]);
    }

    #[test]
    fn the_contrary_of_what_waits_cancels_it() {
        let mut jobs = Jobs::default();
        jobs.add(&name("db"), Wish::Up, None);
        jobs.add(&name("web"), Wish::Up, Some(1));
        handed(&mut jobs);
        let canceled = jobs.add(&name("web"), Wish::Down, Some(2));
        assert_eq!(canceled.iter().map(|job| job.token).collect::<Vec<_>>(), [Some(1)]);
        assert!(jobs.add(&name("db"), Wish::Down, None).is_empty(), "what is handed out is its unit's");
    }

    #[test]
    fn a_failure_fails_who_waits_for_it() {
        let mut jobs = Jobs::default();
        jobs.add(&name("db"), Wish::Up, None);
        jobs.add(&name("web"), Wish::Up, Some(1));
        handed(&mut jobs);
        jobs.done(1);
        let units = units();
        let failed = jobs.fail_dependents(&units.iter().collect(), &name("db"));
        assert_eq!(failed.iter().map(|job| job.token).collect::<Vec<_>>(), [Some(1)]);
    }
}
