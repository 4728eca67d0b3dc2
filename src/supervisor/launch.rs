//! A start, seen from berthd: a launcher asks, its container is made ready, it says how it went.

use std::{io, rc::Rc, sync::Arc, time::Duration};

use super::{Supervisor, listen::Peer, provide::Provide, slot::Slot};
use crate::{
    config::Config,
    host::Host,
    image::{self, Source},
    isolators::{Container, Isolator, Shared},
    journal,
    manager::{Kind, Order},
    plan::{self, Plan},
    protocol::{Failure, Reply, Report, Stage},
    pull::{End, Means, Watch},
    spec::{self, Name, Outcome, Pull, Spec},
    state::{Record, Run, Store, Versions, sandbox},
};

/// How often a launcher that waits is told so.
const WORKING: Duration = Duration::from_secs(5);
/// How much more time the service manager is asked for than berthd gives a pull: berthd's end of it says why.
const GRACE: Duration = Duration::from_secs(10);

/// Marks a container as being launched, for as long as it lives.
struct Launching<'a>(&'a Slot);

impl<'a> Launching<'a> {
    /// Begins.
    fn begin(slot: &'a Slot) -> Self {
        slot.launching.set(true);
        Self(slot)
    }
}

impl Drop for Launching<'_> {
    fn drop(&mut self) {
        self.0.launching.set(false);
        self.0.news.notify_one();
    }
}

/// Marks a container as about to have a child, for as long as its launcher is there.
struct Expecting<'a>(&'a Slot, String);

impl<'a> Expecting<'a> {
    /// Begins.
    fn begin(slot: &'a Slot, invocation: &str) -> Self {
        *slot.expected.borrow_mut() = Some(invocation.to_owned());
        Self(slot, invocation.to_owned())
    }
}

impl Drop for Expecting<'_> {
    fn drop(&mut self) {
        // A later launcher may be there already.
        self.0.expected.borrow_mut().take_if(|present| *present == self.1);
    }
}

impl Supervisor {
    /// Serves a launcher from its request to its end.
    pub(super) async fn launch(self: &Rc<Self>, peer: &mut Peer, name: Name, invocation: String) -> io::Result<()> {
        let spec = match self.spec_to_launch(&name) {
            Ok(spec) => spec,
            Err(failure) => return self.refuse(peer, &name, failure).await,
        };
        let slot = self.slot(&name);
        let prepared = {
            let _launching = Launching::begin(&slot);
            self.prepare(peer, &slot, spec, &invocation).await
        };
        match prepared {
            Ok(plan) => {
                self.apply_settings(&slot, &plan).await;
                let _expecting = Expecting::begin(&slot, &invocation);
                peer.say(&Reply::Launch { plan: Box::new(plan) }).await?;
                self.hear_reports(peer, &slot, &invocation).await
            }
            // Whoever stopped the start knows, and nobody is left to be told.
            Err(_) if peer.is_gone() => {
                tracing::info!("{name}: the start was ended before it was ready");
                Ok(())
            }
            Err(failure) => self.refuse(peer, &name, failure).await,
        }
    }

    /// The spec that a start uses now: what the files say at this moment, or the last good one.
    fn spec_to_launch(&self, name: &Name) -> Result<Spec, Failure> {
        match self.read_again(name) {
            Some(Outcome::Good(spec)) => Ok(*spec),
            Some(Outcome::Bad(errors)) => {
                let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
                let last_good = self.slot(name).record.borrow().spec.clone();
                let last_good = last_good.ok_or_else(|| config_failure(text.join("; ")))?;
                journal::Event::SpecInvalid.log_for(name, "its files have mistakes; starting with its last good spec");
                Ok(last_good)
            }
            Some(Outcome::Masked) => Err(config_failure(format!("the spec of '{name}' is masked"))),
            None => Err(config_failure(self.no_such_container(name))),
        }
    }

    /// What a container's files say at this moment. It is kept, so that nothing acts on older files.
    fn read_again(&self, name: &Name) -> Option<Outcome> {
        let loaded = spec::load(self.root(), &self.config().defaults, name)?;
        let mut catalog = self.catalog.borrow_mut();
        catalog.insert(loaded);
        self.shared.note_specs(&catalog);
        catalog.containers.get(name).map(|loaded| loaded.outcome.clone())
    }

    /// Makes a container ready, telling the launcher now and then that it goes on.
    async fn prepare(
        self: &Rc<Self>,
        peer: &mut Peer,
        slot: &Rc<Slot>,
        spec: Spec,
        invocation: &str,
    ) -> Result<Plan, Failure> {
        let _turn = slot.turn.lock().await;
        self.end_run_before(slot, invocation).await;
        let watch = Arc::new(Watch::default());
        let patience = spec.service.start_timeout;
        let task = Task {
            name: slot.name.clone(),
            spec,
            invocation: invocation.to_owned(),
            launcher: peer.pid.unwrap_or_default(),
            record: slot.record.borrow().clone(),
            store: self.store.clone(),
            host: self.host.clone(),
            config: self.config(),
            enabled: self.enabled(),
            shared: Arc::clone(&self.shared),
            means: match self.manager.kind() {
                Kind::Systemd => Means::Service(self.root().pull_socket()),
                Kind::Direct => Means::Child,
            },
            watch: Arc::clone(&watch),
        };
        let mut work = tokio::task::spawn_blocking(move || task.run());
        let beat = WORKING.min(patience / 4).max(Duration::from_millis(50));
        let (record, outcome) = loop {
            tokio::select! {
                done = &mut work => match done {
                    Ok(done) => break done,
                    Err(error) => return Err(prepare_failure(format!("preparing broke off: {error}"))),
                },
                () = tokio::time::sleep(beat) => self.attend(peer, &slot.name, &watch, patience, beat).await,
                // What is half done otherwise is done and then cleaned up; a pull may take its time.
                () = peer.leave(), if !peer.is_gone() => watch.end(End::Unwanted),
            }
        };
        *slot.record.borrow_mut() = record;
        self.changed.notify_one();
        outcome
    }

    /// Tells a launcher and the service manager that it goes on; or ends a pull that does not.
    async fn attend(&self, peer: &mut Peer, name: &Name, watch: &Watch, patience: Duration, beat: Duration) {
        if let Some((idle, own)) = watch.idle() {
            if idle >= own.map_or(patience, |own| own.min(patience)) {
                watch.end(End::Stalled);
            }
            // No byte, no more time. What came just after the last look counts at this one.
            if idle > beat * 2 {
                return;
            }
        }
        let by = patience.saturating_add(GRACE);
        let extend_ms = u64::try_from(by.as_millis()).ok();
        self.manager.order(Order::Extend { name: name.clone(), by });
        // A launcher that is gone is noticed elsewhere.
        drop(peer.say(&Reply::Working { extend_ms, status: watch.status() }).await);
    }

    /// Tells a launcher why not, after everybody else can know it.
    async fn refuse(self: &Rc<Self>, peer: &mut Peer, name: &Name, failure: Failure) -> io::Result<()> {
        match self.container_of(name) {
            Some(slot) => self.note_failure(&slot, failure.clone()),
            None => journal::Event::FailedToStart.log_for(name, &failure.message),
        }
        super::publish::write(self);
        peer.say(&Reply::Refused { failure }).await
    }

    /// What the launcher says after its plan.
    async fn hear_reports(self: &Rc<Self>, peer: &mut Peer, slot: &Rc<Slot>, invocation: &str) -> io::Result<()> {
        while let Some(report) = peer.hear::<Report>().await? {
            match report {
                Report::Armed { pid } => {
                    self.armed(slot, invocation, pid)?;
                    // Under systemd the launcher does not wait for this and may be gone.
                    let _ = peer.say(&Reply::Go).await;
                }
                Report::Failed { failure } => self.launch_failed(&slot.name, invocation, failure).await,
                Report::Joined => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
        Ok(())
    }

    /// The child of a launcher waits at the gate.
    fn armed(self: &Rc<Self>, slot: &Rc<Slot>, invocation: &str, pid: u32) -> io::Result<()> {
        let process = self.process(pid)?;
        let mut record = slot.record.borrow().clone();
        if let Some(run) = record.run.as_mut().filter(|run| run.invocation == invocation) {
            run.process = Some(process);
        }
        record.failure = None;
        self.keep(slot, record);
        self.measured.notify_one();
        self.watched.notify_one();
        self.note_version_later(slot);
        let (name, invocation) = (slot.name.clone(), invocation.to_owned());
        self.manager.order(Order::Armed { name, invocation, process });
        Ok(())
    }

    /// A launcher failed after it had its plan.
    pub(super) async fn launch_failed(self: &Rc<Self>, name: &Name, invocation: &str, failure: Failure) {
        let Some(slot) = self.container_of(name) else { return };
        let is_news = {
            let record = slot.record.borrow();
            match &record.run {
                Some(run) => run.invocation == invocation,
                // What berthd refused comes back from the launcher.
                None => record.failure.as_ref() != Some(&failure),
            }
        };
        if is_news {
            self.note_failure(&slot, failure);
            super::publish::write(self);
        }
    }

    /// The container of that name, if there is one.
    pub(super) fn container_of(&self, name: &Name) -> Option<Rc<Slot>> {
        let known = self.slots.borrow().get(name).cloned();
        known.filter(|slot| self.is_container(slot))
    }

    /// Why the last start failed.
    fn note_failure(&self, slot: &Slot, failure: Failure) {
        journal::Event::FailedToStart.log_for(&slot.name, &failure.message);
        let mut record = slot.record.borrow().clone();
        record.failure = Some(failure);
        self.keep(slot, record);
    }
}

/// Everything that making a container ready needs, on a thread of its own.
struct Task {
    /// Whose.
    name: Name,
    /// From what.
    spec: Spec,
    /// For which start.
    invocation: String,
    /// The launcher's process.
    launcher: u32,
    /// What is known.
    record: Record,
    /// Where records go.
    store: Store,
    /// The host.
    host: Host,
    /// The configuration.
    config: Arc<Config>,
    /// The isolators in force.
    enabled: Vec<&'static dyn Isolator>,
    /// What they keep between calls.
    shared: Arc<Shared>,
    /// How berth-pull is started.
    means: Means,
    /// Who looks at a pull.
    watch: Arc<Watch>,
}

impl Task {
    /// Plans, records, then does; what was done is undone if the rest fails.
    fn run(mut self) -> (Record, Result<Plan, Failure>) {
        let outcome = self.provide().and_then(|_hold| self.plan().and_then(|plan| self.carry_out(plan)));
        (self.record, outcome)
    }

    /// The plan, with the sandbox of this run.
    fn plan(&self) -> Result<Plan, Failure> {
        let mut plan = plan::build(plan::Build {
            name: &self.name,
            spec: &self.spec,
            host: &self.host,
            enabled: &self.enabled,
            config: &self.config,
        })?;
        let all = self.host.root.sandboxes(&self.name);
        plan.place(&sandbox::locate(&all, self.spec.sandbox, &self.invocation));
        Ok(plan)
    }

    /// Has all images here. Until the record names them, nobody may remove them.
    fn provide(&self) -> Result<Vec<image::Hold>, Failure> {
        let all: Vec<(&Source, Pull)> = self.spec.images().collect();
        let several = all.len() > 1;
        if several {
            // Nothing is held while another comes, which may take long; what is removed meanwhile comes again.
            all.iter().try_for_each(|&(source, pull)| self.bring(source, pull).map(drop))?;
        }
        let again = |pull| if several && pull != Pull::Never { Pull::Missing } else { pull };
        let holds = all.iter().map(|&(source, pull)| self.bring(source, again(pull)));
        holds.filter_map(Result::transpose).collect()
    }

    /// Has one image here.
    fn bring(&self, source: &Source, pull: Pull) -> Result<Option<image::Hold>, Failure> {
        let kept = Versions::kept(&self.host.root, &self.name, source);
        // Of a container that was moved, or taken back, it is not asked what the source is now.
        if kept.map_err(|error| prepare_failure(error.to_string()))?.is_some() {
            let hold = image::Store::open(&self.host.root).hold();
            return hold.map(Some).map_err(|error| prepare_failure(error.to_string()));
        }
        let provide = Provide {
            name: &self.name,
            source,
            pull,
            root: &self.host.root,
            config: &self.config.images,
            patience: self.spec.service.start_timeout,
            means: &self.means,
            watch: &self.watch,
        };
        provide.run().map_err(prepare_failure)
    }

    /// The record first, then the sandbox, then the isolators down their order.
    fn carry_out(&mut self, plan: Plan) -> Result<Plan, Failure> {
        let sandbox = plan.sandbox.clone().unwrap_or_default();
        let run = Run {
            invocation: self.invocation.clone(),
            spec: self.spec.clone(),
            digest: spec::digest(&self.spec),
            plan: plan.clone(),
            sandbox: sandbox.clone(),
            process: None,
            cgroup: crate::host::cgroups::of_process(&self.host.root, self.launcher).ok(),
            limitation: None,
        };
        let before = self.record.clone();
        self.record.spec = Some(self.spec.clone());
        // Not only when the job has ended: were berthd killed until then, the next one would start again what an
        // operator has stopped meanwhile.
        self.record.acted_on = Some(run.digest.clone());
        self.record.run = Some(run);
        self.store.save(&self.record).map_err(|error| {
            self.record = before.clone();
            let record = self.host.root.records().join(format!("{}.json", self.name));
            Failure::prepare("write the record", &record, &error)
        })?;
        self.isolate(&plan, &sandbox).inspect_err(|_| self.undo(before))?;
        Ok(plan)
    }

    /// The host's side of the isolation.
    fn isolate(&self, plan: &Plan, sandbox: &std::path::Path) -> Result<(), Failure> {
        let (uid, gid) = plan.owner();
        sandbox::make(sandbox, uid, gid).map_err(|error| Failure::prepare("make the sandbox", sandbox, &error))?;
        let container = Container {
            name: &self.name,
            plan,
            sandbox,
            host: &self.host,
            config: &self.config,
            shared: &self.shared,
            cgroup: self.record.run.as_ref().and_then(|run| run.cgroup.as_deref()),
        };
        for isolator in &self.enabled {
            isolator.prepare(&container)?;
        }
        for isolator in &self.enabled {
            isolator.attach(&container, self.launcher)?;
        }
        Ok(())
    }

    /// Takes back a start that failed halfway; what cannot be taken back stays in the record and is tried again.
    fn undo(&mut self, before: Record) {
        let Some(run) = self.record.run.clone() else { return };
        if super::end::clean_up(&self.host.root, &self.shared, &self.name, &run).is_empty() {
            self.record = before;
        }
        if let Err(error) = self.store.save(&self.record) {
            tracing::error!("cannot write the record of {}: {}", self.name, crate::error::reason(&error));
        }
    }
}

/// A failure that only an edit mends.
fn config_failure(message: String) -> Failure {
    Failure { stage: Stage::Config, errno: None, path: None, message }
}

/// A failure of the host's side.
fn prepare_failure(message: String) -> Failure {
    Failure { stage: Stage::Prepare, errno: None, path: None, message }
}
