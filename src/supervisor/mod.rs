//! Joins ①–⑧: files come in, orders go out, records are kept, the state is told.
//!
//! Everything runs on one thread. What may take long (user databases, mkdir, cleanups) runs on the blocking pool
//! under the container's turn; the loop itself only waits on events, so the watchdog it feeds tells the truth.

/// What is to be done.
pub mod decide;
/// The end of a run.
mod end;
/// A start, seen from berthd.
mod launch;
/// The socket.
mod listen;
/// The state file.
mod publish;
/// Files to deeds.
mod reconcile;
/// One container.
mod slot;
/// Changes of files.
mod watch;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    io,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Notify, mpsc, oneshot},
};

use crate::{
    config::{Config, ManagerChoice, Overrides},
    host::Host,
    isolators::{self, Isolator},
    journal,
    manager::{self, Event, Job, JobError, JobVerb, Kind, Order, Process, ServiceManager},
    plan::UnitSettings,
    protocol::Verb,
    root::Root,
    spec::{Catalog, Name},
    state::{Damaged, Record, Store},
};
use slot::{PendingJob, Slot};

/// How long files must be quiet before they are read: an editor's write is several events, and a thousand files
/// dropped at once are one batch.
const QUIET: Duration = Duration::from_millis(25);

/// How long a batch may gather at most.
const GATHER: Duration = Duration::from_millis(250);

/// How often, and how far apart, the lock is tried.
const LOCK_ATTEMPTS: u32 = 20;

/// See [`LOCK_ATTEMPTS`].
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// How long berthd's readiness waits for the manager.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a file that is gone or empty all of a sudden is given to come back: editors move a file away, or empty
/// it, before they write it anew, and that is not the operator's wish to stop a container.
const SECOND_LOOK: Duration = Duration::from_millis(200);

/// What berthd was started with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Where things lie.
    pub root: Root,
    /// Flags of the command line.
    pub overrides: Overrides,
    /// The launcher that the direct manager runs.
    pub launcher: std::path::PathBuf,
}

/// berthd.
#[derive(Debug)]
pub struct Supervisor {
    /// How it was started.
    setup: Setup,
    /// The host.
    host: Host,
    /// Its configuration; replaced by a reload.
    config: RefCell<Arc<Config>>,
    /// Why the last reload was rejected.
    rejected: RefCell<Option<String>>,
    /// What the files say.
    catalog: RefCell<Catalog>,
    /// All containers that have a file, a record or a unit.
    slots: RefCell<BTreeMap<Name, Rc<Slot>>>,
    /// Records.
    store: Store,
    /// systemd, or the direct manager.
    manager: Box<dyn ServiceManager>,
    /// Whether the manager has told of every unit.
    synced: Cell<bool>,
    /// Whether files that vanished are to be looked at a second time.
    doubt: Cell<bool>,
    /// Whether berthd has said that it is ready.
    ready: Cell<bool>,
    /// Why the manager is away.
    away: RefCell<Option<String>>,
    /// The last token given to a job.
    token: Cell<u64>,
    /// Something that the state file shows has changed.
    changed: Notify,
    /// Sandboxes may be due.
    collect: Notify,
}

/// berthd cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another berthd serves these directories.
    #[error("another berthd holds {0}; stop it first")]
    Held(std::path::PathBuf),
    /// The configuration has mistakes.
    #[error("{0}")]
    Config(String),
    /// A directory or socket cannot be made.
    #[error("cannot {act} {}", path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Runs berthd until it is told to end.
///
/// # Errors
/// It cannot begin; nothing was changed.
pub async fn run(setup: Setup, config: Config) -> Result<(), StartError> {
    let root = setup.root.clone();
    let _lock = lock(&root)?;
    let io_error = |act, path: std::path::PathBuf| move |source| StartError::Io { act, path, source };
    let store = Store::open(root.records()).map_err(io_error("make", root.records()))?;
    let (records, damaged) = store.load().map_err(io_error("read", root.records()))?;
    let listener = listen::bind(&root.socket()).map_err(io_error("listen on", root.socket()))?;
    let (events, mut inbox) = mpsc::unbounded_channel();
    let (touched, mut touches) = mpsc::unbounded_channel();
    let watch = watch::Watch::start(touched).map_err(io_error("watch", root.containers(crate::root::Layer::Etc)))?;
    let _ = std::fs::create_dir_all(root.containers(crate::root::Layer::Run));
    let supervisor = Rc::new(Supervisor::new(setup, config, store, events));
    supervisor.remember(records, &damaged);
    supervisor.read_files(&watch);
    tokio::task::spawn_local(be_ready_at_last(Rc::clone(&supervisor)));
    tokio::task::spawn_local(publish::serve(Rc::clone(&supervisor)));
    tokio::task::spawn_local(end::collect_sandboxes(Rc::clone(&supervisor)));
    supervisor.changed.notify_one();

    let (mut hangup, mut terminate, mut interrupt) =
        signals().map_err(io_error("handle signals of", root.runtime()))?;
    let mut watchdog = watchdog();
    loop {
        tokio::select! {
            Some(event) = inbox.recv() => supervisor.on_event(event),
            Some(()) = touches.recv() => {
                gather(&mut touches).await;
                if supervisor.read_files(&watch) {
                    tokio::time::sleep(SECOND_LOOK).await;
                    while touches.try_recv().is_ok() {}
                    supervisor.read_files(&watch);
                }
                supervisor.reconcile_all();
            }
            Ok((stream, _)) = listener.accept() => {
                tokio::task::spawn_local(listen::serve(Rc::clone(&supervisor), stream));
            }
            _ = watchdog.tick() => notify(&[sd_notify::NotifyState::Watchdog]),
            _ = hangup.recv() => drop(supervisor.reload()),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    notify(&[sd_notify::NotifyState::Stopping]);
    publish::write(&supervisor);
    Ok(())
}

impl Supervisor {
    /// berthd, knowing nothing yet.
    fn new(setup: Setup, config: Config, store: Store, events: manager::Events) -> Self {
        let root = setup.root.clone();
        let host = Host::read(&root);
        let manager: Box<dyn ServiceManager> = match choose(config.manager, host.systemd) {
            Kind::Systemd => Box::new(manager::systemd::spawn(root, events)),
            Kind::Direct => {
                let setup = manager::direct::Setup { socket: root.socket(), launcher: setup.launcher.clone(), root };
                Box::new(manager::direct::spawn(setup, events))
            }
        };
        Self {
            setup,
            host,
            config: RefCell::new(Arc::new(config)),
            rejected: RefCell::default(),
            catalog: RefCell::default(),
            slots: RefCell::default(),
            store,
            manager,
            synced: Cell::new(false),
            doubt: Cell::new(false),
            ready: Cell::new(false),
            away: RefCell::default(),
            token: Cell::new(0),
            changed: Notify::new(),
            collect: Notify::new(),
        }
    }

    /// Where things lie.
    fn root(&self) -> &Root {
        &self.setup.root
    }

    /// The configuration in force.
    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    /// The isolators in force.
    fn enabled(&self) -> Vec<&'static dyn Isolator> {
        isolators::enabled(self.config().isolation.as_deref(), &self.host)
    }

    /// The container of that name, made up if it is new.
    fn slot(&self, name: &Name) -> Rc<Slot> {
        let mut slots = self.slots.borrow_mut();
        let slot = slots
            .entry(name.clone())
            .or_insert_with(|| Rc::new(Slot::new(Record::new(name.clone(), &self.host.boot_id))));
        Rc::clone(slot)
    }

    /// Takes up records. One of another boot is of what no longer runs; a damaged one is as if everything had
    /// been acted on, so that nothing is started that an operator may have stopped.
    fn remember(&self, records: BTreeMap<Name, Record>, damaged: &[Damaged]) {
        let count = records.len();
        for (name, mut record) in records {
            if record.boot_id != self.host.boot_id {
                record = Record { spec: None, acted_on: None, ..Record::new(name.clone(), &self.host.boot_id) };
            }
            self.adopt(&record);
            self.slots.borrow_mut().insert(name, Rc::new(Slot::new(record)));
        }
        for record in damaged {
            match &record.name {
                Some(name) => {
                    journal::Event::RecordDamaged.log_for(name, &record.message);
                    self.slot(name).record.borrow_mut().acted_on = Some(Record::UNKNOWN.to_owned());
                }
                None => journal::Event::RecordDamaged.log(&record.message),
            }
        }
        if count > 0 {
            journal::Event::Recovered.log(&format!("recovered the records of {count} containers"));
        }
    }

    /// Hands a run that may still be alive to a manager that does not know it.
    fn adopt(&self, record: &Record) {
        let run = record.run.as_ref().map(|run| (run.invocation.clone(), run.process));
        let again = record.restarting.clone().map(|invocation| (invocation, None));
        let Some((invocation, process)) = run.or(again) else { return };
        let settings = Box::new(record.spec.as_ref().map(UnitSettings::of).unwrap_or_default());
        self.manager.order(Order::Adopt { name: record.name.clone(), invocation, process, settings });
    }

    /// What the manager says.
    fn on_event(self: &Rc<Self>, event: Event) {
        match event {
            Event::Snapshot(units) => self.on_snapshot(units),
            Event::Changed(name, unit) => {
                self.on_unit(&name, *unit);
                self.reconcile(&name);
            }
            Event::JobDone { name, token, result } => self.on_job_done(&name, token, result),
            Event::SettingsApplied => self.tell_ready(),
            Event::SettingsFailed(reason) => {
                tracing::error!("settings of units wait: {reason}");
                self.forget_applied();
            }
            Event::Away(reason) => {
                if self.away.borrow().is_none() {
                    let kind = "unit changes wait until it is back; what runs goes on";
                    journal::Event::ManagerAway.log(&format!("the service manager is away: {reason}; {kind}"));
                }
                *self.away.borrow_mut() = Some(reason);
                self.drop_jobs();
            }
        }
        self.changed.notify_one();
    }

    /// The manager is there (again) and has told of everything.
    fn on_snapshot(self: &Rc<Self>, units: BTreeMap<Name, manager::Unit>) {
        if self.away.borrow_mut().take().is_some() {
            journal::Event::ManagerBack.log("the service manager is back");
        }
        self.drop_jobs();
        self.forget_applied();
        let known: Vec<Name> = self.slots.borrow().keys().cloned().collect();
        for name in known.iter().filter(|name| !units.contains_key(*name)) {
            self.on_unit(name, manager::Unit::default());
        }
        for (name, unit) in units {
            self.on_unit(&name, unit);
        }
        self.synced.set(true);
        self.reconcile_all();
        // Behind whatever that ordered, so that it is answered when all of it is in force.
        self.manager.order(Order::Apply(manager::Batch::default()));
    }

    /// A job ended.
    fn on_job_done(self: &Rc<Self>, name: &Name, token: u64, result: Result<(), JobError>) {
        let slot = self.slot(name);
        let Some(job) = slot.job.borrow_mut().take_if(|job| job.token == token) else { return };
        if let Err(error) = &result {
            tracing::info!(BERTH_CONTAINER = name.as_str(), "{name}: {:?}: {error}", job.verb);
        }
        if let Some(digest) = job.digest {
            self.acted_on(&slot, digest);
        }
        if let Some(waiter) = job.waiter {
            // The operator may have gone.
            let _ = waiter.send(result);
        }
        self.reconcile(name);
    }

    /// Jobs that a lost connection swallowed: asked for again once the manager is back.
    fn drop_jobs(&self) {
        for slot in self.slots.borrow().values() {
            if let Some(waiter) = slot.job.borrow_mut().take().and_then(|job| job.waiter) {
                let _ = waiter.send(Err(JobError::Refused("the service manager went away".to_owned())));
            }
        }
    }

    /// All settings are to be handed over again.
    fn forget_applied(&self) {
        for slot in self.slots.borrow().values() {
            *slot.applied.borrow_mut() = None;
        }
    }

    /// A job of a container, entered as under way.
    fn job(&self, slot: &Slot, verb: JobVerb, digest: Option<String>, waiter: Option<slot::Waiter>) -> Job {
        let token = self.token.get() + 1;
        self.token.set(token);
        *slot.job.borrow_mut() = Some(PendingJob { token, verb, digest, waiter });
        Job { verb, name: slot.name.clone(), token }
    }

    /// Carries out an operator's order, where berthd is the service manager.
    async fn control(self: &Rc<Self>, verb: Verb, name: &Name) -> Result<(), String> {
        if self.manager.kind() == Kind::Systemd {
            return Err(format!("systemd manages the containers here; use 'systemctl' on {}", name.unit()));
        }
        let known = self.slots.borrow().contains_key(name);
        if !known {
            return Err(self.no_such_container(name));
        }
        let slot = self.slot(name);
        let verb = match verb {
            Verb::Start => JobVerb::Start,
            Verb::Stop => JobVerb::Stop,
            Verb::Restart => JobVerb::Restart,
        };
        let (sender, receiver) = oneshot::channel();
        let jobs = vec![self.job(&slot, verb, None, Some(sender))];
        self.manager.order(Order::Apply(manager::Batch { jobs, ..manager::Batch::default() }));
        match receiver.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.why_not(&slot, &error)),
            Err(_) => Err("another order took its place".to_owned()),
        }
    }

    /// Why a job was not done, in the container's own words if it has any.
    fn why_not(&self, slot: &Slot, error: &JobError) -> String {
        let failure = slot.record.borrow().failure.clone();
        failure.map_or_else(|| error.to_string(), |failure| failure.message)
    }

    /// Reads the configuration again. A configuration with mistakes changes nothing.
    fn reload(self: &Rc<Self>) -> Result<(), String> {
        notify(&[
            sd_notify::NotifyState::Reloading,
            sd_notify::NotifyState::monotonic_usec_now().unwrap_or(sd_notify::NotifyState::Ready),
        ]);
        let outcome = load_config(self.root(), &self.setup.overrides);
        let result = outcome.map(|config| {
            *self.config.borrow_mut() = Arc::new(config);
            *self.catalog.borrow_mut() = crate::spec::load_all(self.root(), &self.config().defaults);
        });
        if let Err(problems) = &result {
            journal::Event::ReloadRejected.log(&format!("the old configuration stays: {problems}"));
        }
        *self.rejected.borrow_mut() = result.clone().err();
        self.enroll();
        self.reconcile_all();
        notify(&[sd_notify::NotifyState::Ready]);
        self.changed.notify_one();
        result
    }

    /// Tells systemd, once, that berthd is ready: enabled containers, which wait for this at boot, have their
    /// settings, and whoever starts berthd finds a state file that is true.
    fn tell_ready(&self) {
        if self.synced.get() {
            self.be_ready();
        }
    }

    /// Is ready, once.
    fn be_ready(&self) {
        if !self.ready.replace(true) {
            publish::write(self);
            notify(&[sd_notify::NotifyState::Ready]);
        }
    }

    /// A main process as the host knows it, told from later ones of its number.
    fn process(&self, pid: u32) -> io::Result<Process> {
        let start_time = crate::sys::proc::start_time(&self.root().at("/proc"), pid)?;
        Ok(Process { pid, start_time })
    }
}

/// The configuration as the files, the environment and the flags have it.
///
/// # Errors
/// Every mistake, a line each.
pub fn load_config(root: &Root, overrides: &Overrides) -> Result<Config, String> {
    let names: Vec<&str> = isolators::ORDER.iter().map(|isolator| isolator.name()).collect();
    let environment =
        std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
    Config::load(root, overrides, environment, &names)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

/// The manager that the configuration means on this host.
fn choose(choice: ManagerChoice, systemd: bool) -> Kind {
    match choice {
        ManagerChoice::Systemd => Kind::Systemd,
        ManagerChoice::Auto if systemd => Kind::Systemd,
        ManagerChoice::Auto | ManagerChoice::Direct => Kind::Direct,
    }
}

/// Says something to systemd, if it is there to listen.
fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("cannot notify systemd: {error}");
    }
}

/// Is ready without the manager, if that stays away: launches are served all the same.
async fn be_ready_at_last(supervisor: Rc<Supervisor>) {
    tokio::time::sleep(PATIENCE).await;
    supervisor.be_ready();
}

/// Lets more changes come in until they pause.
async fn gather(touches: &mut mpsc::UnboundedReceiver<()>) {
    let end = tokio::time::Instant::now() + GATHER;
    while let Ok(Some(())) = tokio::time::timeout_at(end.min(tokio::time::Instant::now() + QUIET), touches.recv()).await
    {
    }
}

/// The signals that berthd heeds: reload, end, end.
fn signals() -> io::Result<(tokio::signal::unix::Signal, tokio::signal::unix::Signal, tokio::signal::unix::Signal)> {
    Ok((signal(SignalKind::hangup())?, signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
}

/// Ticks at half the time that systemd grants, or never.
fn watchdog() -> tokio::time::Interval {
    let period = sd_notify::watchdog_enabled().map_or(Duration::from_secs(u32::MAX.into()), |limit| limit / 2);
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks
}

/// One berthd a set of directories. One that was just killed may hold them for a moment yet.
fn lock(root: &Root) -> Result<nix::fcntl::Flock<std::fs::File>, StartError> {
    let path = root.runtime().join("berthd.lock");
    let io_error = |source| StartError::Io { act: "open", path: path.clone(), source };
    std::fs::create_dir_all(root.runtime()).map_err(io_error)?;
    let file = std::fs::File::options().write(true).create(true).truncate(false).open(&path).map_err(io_error)?;
    let mut attempt = (file, LOCK_ATTEMPTS);
    loop {
        match nix::fcntl::Flock::lock(attempt.0, nix::fcntl::FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err(_) if attempt.1 == 0 => return Err(StartError::Held(path)),
            Err((file, _)) => attempt = (file, attempt.1 - 1),
        }
        std::thread::sleep(LOCK_PAUSE);
    }
}
