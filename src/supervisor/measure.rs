//! The statistics: measured at the configured interval, as long as there is something to measure.

use std::{
    rc::Rc,
    time::{Duration, SystemTime},
};

use super::{Supervisor, slot::Slot};
use crate::{
    isolators::{ORDER, Recorded},
    observe::{ContainerStatistics, STATISTICS_SCHEMA, Statistics, Usage},
    state::write_atomically,
};

/// Writes the statistics for ever. Where nothing is measured it sleeps until something may be.
pub(super) async fn serve(supervisor: Rc<Supervisor>) {
    loop {
        let interval = supervisor.config().statistics.interval;
        if interval == Duration::MAX || !supervisor.measures() {
            supervisor.forget_statistics();
            supervisor.measured.notified().await;
            continue;
        }
        supervisor.write_statistics();
        // A reload may have changed the interval.
        let _ = tokio::time::timeout(interval, supervisor.reloaded.notified()).await;
    }
}

impl Supervisor {
    /// Whether an isolator measures something of a container that runs.
    fn measures(&self) -> bool {
        let measured = |slot: &Rc<Slot>| match &slot.record.borrow().run {
            Some(run) => ORDER.iter().any(|isolator| isolator.measures(&run.plan)),
            None => false,
        };
        self.slots.borrow().values().any(measured)
    }

    /// Measures and writes. A full disk is no reason to say so at every interval: the state file says it.
    fn write_statistics(&self) {
        let statistics = self.statistics();
        let text = serde_json::to_vec_pretty(&statistics).unwrap_or_default();
        let root = self.root();
        for (path, content) in [
            (root.statistics_file(), text.as_slice()),
            (root.statistics_file().with_extension("prom"), statistics.exposition().as_bytes()),
        ] {
            if let Err(error) = write_atomically(&path, content, 0o644) {
                tracing::debug!("cannot write {}: {}", path.display(), crate::error::reason(&error));
            }
        }
    }

    /// Removes statistics that nobody keeps true any more.
    fn forget_statistics(&self) {
        let path = self.root().statistics_file();
        for path in [path.with_extension("prom"), path] {
            let _ = std::fs::remove_file(path); // absent, as a rule
        }
    }

    /// What every running container has used. An isolator that cannot tell hides no other.
    fn statistics(&self) -> Statistics {
        let slots: Vec<Rc<Slot>> = self.slots.borrow().values().cloned().collect();
        Statistics {
            schema: STATISTICS_SCHEMA,
            boot_id: self.host.boot_id.clone(),
            written: crate::clock::now(),
            containers: slots.iter().filter_map(|slot| self.usage(slot)).collect(),
        }
    }

    /// What one container has used, if it runs and anything of it is known.
    fn usage(&self, slot: &Slot) -> Option<ContainerStatistics> {
        let record = slot.record.borrow();
        let cx = Recorded { root: self.root(), shared: &self.shared, name: &slot.name, run: record.run.as_ref()? };
        let mut usage = Usage::default();
        for isolator in ORDER {
            if let Err(error) = isolator.usage(&cx, &mut usage) {
                tracing::debug!("{}: {}: {error}", slot.name, isolator.name());
            }
        }
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let known = usage != Usage::default();
        known.then(|| ContainerStatistics { name: slot.name.clone(), timestamp: since.as_secs_f64(), usage })
    }
}
