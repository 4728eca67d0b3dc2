//! Tells what is so: the state file, and the line that `systemctl status berthd` shows.

use std::{rc::Rc, time::Duration};

use super::{
    Supervisor,
    decide::{self, Wanted},
    process::notify,
    slot::Slot,
};
use crate::{
    isolators::{ORDER, Recorded},
    manager::{Active, Kind, Unit},
    observe::{self, Container, ContainerStatus, Daemon, ImageStatus, IsolatorStatus, Lifecycle, SpecStatus, State},
    protocol::{Failure, Stage},
    spec::{self, Outcome},
    state::write_atomically,
};

/// How long changes gather before the file is written, and for each container that it holds: a thousand starts are a
/// few writes, and the file is true within half a second.
const GATHER: Duration = Duration::from_millis(50);

/// See [`GATHER`].
const GATHER_EACH: Duration = Duration::from_micros(500);

/// See [`GATHER`].
const GATHER_MOST: Duration = Duration::from_millis(400);

/// How long nothing must happen before memory is given back.
const REST: Duration = Duration::from_secs(2);

/// How soon a write that failed (a full disk) is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Writes the state file after every change, for ever.
pub(super) async fn serve(supervisor: Rc<Supervisor>) {
    loop {
        supervisor.changed.notified().await;
        while tell(&supervisor).await {}
        // What a crowd of starts took of the heap is not needed until the next.
        crate::sys::memory::trim();
    }
}

/// Writes the state file once changes have gathered. True if more have come before all was at rest.
async fn tell(supervisor: &Supervisor) -> bool {
    let containers = u32::try_from(supervisor.slots.borrow().len()).unwrap_or(u32::MAX);
    tokio::time::sleep((GATHER + GATHER_EACH.saturating_mul(containers)).min(GATHER_MOST)).await;
    while !write(supervisor) {
        tokio::time::sleep(RETRY).await;
    }
    tokio::time::timeout(REST, supervisor.changed.notified()).await.is_ok()
}

/// Writes the state file now, and the records that could not be written before. False if something could not be.
pub(super) fn write(supervisor: &Supervisor) -> bool {
    let recorded = supervisor.save_again();
    let mut state = supervisor.state();
    let path = supervisor.root().state_file();
    let outcome = serde_json::to_vec_pretty(&state)
        .map_err(std::io::Error::other)
        .and_then(|text| write_atomically(&path, &text, 0o644));
    if let Err(error) = &outcome {
        state.daemon.status =
            format!("cannot write {}: {}; {}", path.display(), crate::error::reason(error), state.daemon.status);
    }
    notify(&[sd_notify::NotifyState::Status(&state.daemon.status)]);
    outcome.is_ok() && recorded
}

impl Supervisor {
    /// Tries the records again that could not be written. False if one still cannot.
    fn save_again(&self) -> bool {
        let slots = self.slots.borrow();
        for slot in slots.values().filter(|slot| slot.unsaved.get()) {
            slot.unsaved.set(self.store.save(&slot.record.borrow()).is_err());
        }
        !slots.values().any(|slot| slot.unsaved.get())
    }

    /// All that is known, as the state file has it.
    fn state(&self) -> State {
        let slots: Vec<Rc<Slot>> = self.slots.borrow().values().cloned().collect();
        let containers: Vec<Container> =
            slots.iter().filter(|slot| self.is_container(slot)).map(|slot| self.container(slot)).collect();
        let catalog = self.catalog.borrow();
        let mut problems: Vec<String> = self.rejected.borrow().iter().cloned().collect();
        problems.extend(catalog.strays.iter().map(ToString::to_string));
        State {
            schema: observe::SCHEMA,
            boot_id: self.host.boot_id.clone(),
            written: crate::clock::now(),
            daemon: Daemon {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                manager: self.manager.kind(),
                manager_away: self.away.borrow().clone(),
                status: summary(&containers, &problems, self.away.borrow().as_deref()),
                isolation: self.enabled().iter().map(|isolator| isolator.name().to_owned()).collect(),
            },
            containers,
            problems,
        }
    }

    /// One container.
    fn container(&self, slot: &Slot) -> Container {
        let (record, unit) = (slot.record.borrow(), slot.unit.borrow());
        let state = self.lifecycle(slot);
        let resting = unit.active.is_at_rest();
        let last = record.last.as_ref();
        let sandbox = record.run.as_ref().map(|run| run.sandbox.clone());
        let direct = self.manager.kind() == Kind::Direct;
        let (isolators, container_status) = self.isolator_status(slot);
        Container {
            name: slot.name.clone(),
            state,
            unit: slot.name.unit(),
            main_pid: unit.main_pid.filter(|_| !resting),
            since: unit.since.clone().or_else(|| slot.reported.borrow().since.clone()),
            exit: unit.exit.or_else(|| last.and_then(|last| last.exit)).filter(|_| record.failure.is_none()),
            result: [Some(&unit.result), last.map(|last| &last.result)]
                .into_iter()
                .flatten()
                .find(|result| !result.is_empty() && *result != "success")
                .filter(|_| state != Lifecycle::Stopped)
                .cloned(),
            error: record.failure.clone().or_else(|| unstarted(&unit).filter(|_| direct)),
            limitation: match &record.run {
                Some(run) => run.limitation.clone(),
                None => last.and_then(|last| last.limitation.clone()),
            },
            restarts: unit.restarts,
            spec: self.spec_status(slot),
            sandbox: sandbox.or_else(|| last.and_then(|last| last.sandbox.clone())),
            log: direct.then(|| self.root().log(&slot.name)),
            cgroup: unit.cgroup.clone().filter(|_| !resting),
            image: self.image_status(slot),
            isolators,
            container_status,
        }
    }

    /// The image of a container that runs.
    fn image_status(&self, slot: &Slot) -> Option<ImageStatus> {
        let record = slot.record.borrow();
        let base = record.run.as_ref()?.plan.image.as_ref()?;
        let versions = slot.versions.borrow();
        let versions = versions.as_ref().filter(|versions| versions.source == base.source);
        let former = versions.and_then(|versions| versions.former.as_ref()).map(|version| version.digest.to_string());
        Some(ImageStatus {
            source: base.source.to_string(),
            digest: base.digest.as_ref().map(ToString::to_string),
            pending: self.pending_image(slot).map(|digest| digest.to_string()),
            former,
            held_back: versions.and_then(|versions| versions.held_back.as_ref()).map(ToString::to_string),
            exposed_ports: base.exposed_ports.clone(),
            labels: base.labels.clone(),
        })
    }

    /// The files of a container.
    fn spec_status(&self, slot: &Slot) -> SpecStatus {
        let (record, unit) = (slot.record.borrow(), slot.unit.borrow());
        let pending = self.wanted(&slot.name, |wanted| match wanted {
            Wanted::Good(spec, digest) => decide::pending(spec, digest, &record, &unit),
            _ => Vec::new(),
        });
        let catalog = self.catalog.borrow();
        let loaded = catalog.containers.get(&slot.name);
        let lines = |all: &[spec::Diagnostic]| all.iter().map(ToString::to_string).collect();
        SpecStatus {
            files: loaded.map(|loaded| loaded.files.clone()).unwrap_or_default(),
            layer: loaded.map(|loaded| loaded.layer),
            autostart: matches!(loaded.map(|loaded| &loaded.outcome), Some(Outcome::Good(spec)) if spec.autostart),
            digest: record.spec.as_ref().map(|last_good| {
                match loaded.map(|loaded| (&loaded.outcome, &loaded.digest)) {
                    Some((Outcome::Good(spec), digest)) if **spec == *last_good => digest.clone(),
                    _ => spec::digest(last_good),
                }
            }),
            running: record.run.as_ref().map(|run| run.digest.clone()),
            pending: pending.into_iter().map(str::to_owned).collect(),
            errors: match loaded.map(|loaded| &loaded.outcome) {
                Some(Outcome::Bad(errors)) => lines(errors),
                _ => Vec::new(),
            },
            warnings: [
                loaded.map(|loaded| lines(&loaded.warnings)).unwrap_or_default(),
                record.run.as_ref().map(|run| run.plan.warnings.clone()).unwrap_or_default(),
            ]
            .concat(),
        }
    }

    /// What each isolator says of a container that runs. One that cannot tell hides no other.
    fn isolator_status(&self, slot: &Slot) -> (Vec<IsolatorStatus>, ContainerStatus) {
        let (record, mut status) = (slot.record.borrow(), ContainerStatus::default());
        let Some(run) = &record.run else { return (Vec::new(), status) };
        let cx = Recorded { root: self.root(), shared: &self.shared, name: &slot.name, run };
        let said = ORDER.iter().filter_map(|isolator| {
            let (detail, error) = match isolator.status(&cx, &mut status) {
                Ok(None) => return None,
                Ok(detail) => (detail, None),
                Err(error) => (None, Some(error)),
            };
            Some(IsolatorStatus { name: isolator.name().to_owned(), detail, error })
        });
        (said.collect(), status)
    }
}

/// Why a launcher could not even be started, where berthd itself starts them.
fn unstarted(unit: &Unit) -> Option<Failure> {
    let message = unit.status.clone().filter(|_| unit.active == Active::Failed && unit.result == "resources")?;
    Some(Failure { stage: Stage::Prepare, errno: None, path: None, message })
}

/// `7 running, 1 failed (web: the reason), 1 invalid (db: the mistake)`.
fn summary(containers: &[Container], problems: &[String], away: Option<&str>) -> String {
    let mut parts = Vec::new();
    let count = |wanted: &[Lifecycle]| containers.iter().filter(|c| wanted.contains(&c.state)).count();
    let words: [(&str, &[Lifecycle]); 4] = [
        ("running", &[Lifecycle::Running]),
        ("starting", &[Lifecycle::Starting, Lifecycle::Restarting]),
        ("stopped", &[Lifecycle::Stopped, Lifecycle::Exited, Lifecycle::Inactive, Lifecycle::Stopping]),
        ("masked", &[Lifecycle::Masked]),
    ];
    for (word, states) in words {
        let number = count(states);
        if number > 0 || word == "running" {
            parts.push(format!("{number} {word}"));
        }
    }
    parts.extend(named(containers, "failed", |c| (c.state == Lifecycle::Failed).then(|| reason(c))));
    parts.extend(named(containers, "with mistakes", |c| c.spec.errors.first().cloned()));
    parts.extend(problems.first().map(|problem| format!("problem: {problem}")));
    parts.extend(away.map(|reason| format!("the service manager is away ({reason})")));
    parts.join(", ")
}

/// `2 failed (web: why, db: why)`, the first three by name.
fn named(containers: &[Container], word: &str, why: impl Fn(&Container) -> Option<String>) -> Option<String> {
    let all: Vec<String> = containers.iter().filter_map(|c| why(c).map(|why| format!("{}: {why}", c.name))).collect();
    let shown = all.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    let more = if all.len() > 3 { ", …" } else { "" };
    (!all.is_empty()).then(|| format!("{} {word} ({shown}{more})", all.len()))
}

/// Why a container failed, in a few words.
fn reason(container: &Container) -> String {
    match (&container.error, &container.limitation, &container.result) {
        (Some(error), ..) => error.message.clone(),
        (None, Some(limitation), _) => limitation.message.clone(),
        (None, None, Some(result)) => result.clone(),
        (None, None, None) => "unknown".to_owned(),
    }
}
