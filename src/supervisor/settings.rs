//! What the service manager is told of a container, and when.

use std::time::Duration;

use super::{Supervisor, slot::Slot};
use crate::{
    image::Source,
    isolators::{docker_runtime, filesystem_linux},
    manager::{Batch, Kind, Order},
    plan::{Plan, UnitSettings},
    spec::{Signal, Spec},
};

/// How long a start waits for its settings to be in force: it goes on without them, as it would where systemd is away.
const PATIENCE: Duration = Duration::from_secs(5);

/// What an image says of how its program is stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Which image, as its spec names it.
    source: Source,
    /// `StopSignal`.
    stop_signal: Option<Signal>,
}

impl Supervisor {
    /// The settings of a container.
    pub(super) fn settings(&self, slot: &Slot, spec: &Spec) -> UnitSettings {
        UnitSettings::of(spec, self.stop_signal_of_image(slot, spec))
    }

    /// Adds the settings of a container to a batch, unless the manager has them.
    pub(super) fn refresh(slot: &Slot, settings: UnitSettings, batch: &mut Batch) {
        if slot.applied.borrow().as_ref() != Some(&settings) {
            *slot.applied.borrow_mut() = Some(settings.clone());
            batch.settings.insert(slot.name.clone(), Some(settings));
        }
    }

    /// Makes the settings of a start true before its program is: only now it is known what its image says.
    pub(super) async fn apply_settings(&self, slot: &Slot, plan: &Plan) {
        *slot.said.borrow_mut() =
            plan.image.as_ref().map(|base| Said { source: base.source.clone(), stop_signal: base.stop_signal });
        let mut batch = Batch::default();
        Self::refresh(slot, plan.unit.clone(), &mut batch);
        if batch.settings.is_empty() || self.away.borrow().is_some() {
            return;
        }
        let applied = self.settled.notified();
        tokio::pin!(applied);
        applied.as_mut().enable();
        self.manager.order(Order::Apply(batch));
        // The direct manager takes its orders one by one.
        if self.manager.kind() == Kind::Systemd {
            let _ = tokio::time::timeout(PATIENCE, applied).await;
        }
    }

    /// What the image of a spec says, as far as it is needed: that of the run, then that of the last start, then that of
    /// the store.
    fn stop_signal_of_image(&self, slot: &Slot, spec: &Spec) -> Option<Signal> {
        if spec.service.stop_signal.is_some() {
            return None;
        }
        let image = spec.image.as_ref()?;
        let record = slot.record.borrow();
        let base = record.run.as_ref().and_then(|run| run.plan.image.as_ref());
        if let Some(base) = base.filter(|base| base.source == image.source) {
            return base.stop_signal;
        }
        let known = slot.said.borrow().as_ref().filter(|said| said.source == image.source).map(|said| said.stop_signal);
        known.unwrap_or_else(|| {
            let found = filesystem_linux::find(&self.host, Some(&slot.name), &image.source, image.pull).ok();
            let stop_signal = found.and_then(|found| docker_runtime::stop_signal(&found.config));
            *slot.said.borrow_mut() = Some(Said { source: image.source.clone(), stop_signal });
            stop_signal
        })
    }
}
