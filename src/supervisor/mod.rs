//! Joins ①–⑧: files come in, orders go out, records are kept, the state is told.
//!
//! Everything runs on one thread. What may take long (user databases, mkdir, cleanups) runs on the blocking pool
//! under the container's turn; the loop itself only waits on events, so the watchdog it feeds tells the truth.

/// Orders of an operator.
mod control;
/// What is to be done.
pub mod decide;
/// The end of a run.
mod end;
/// A process that enters, seen from berthd.
mod enter;
/// What the manager says.
mod events;
/// Images that nothing uses.
mod gc;
/// A start, seen from berthd.
mod launch;
/// What containers take of the disk.
mod limits;
/// The socket.
mod listen;
/// The statistics.
mod measure;
/// Lock, signals, watchdog.
mod process;
/// Images for starts.
mod provide;
/// The state file.
mod publish;
/// Files to deeds.
mod reconcile;
/// What the service manager is told.
mod settings;
/// One container.
mod slot;
/// Moving to another version of an image, and back.
mod switch;
/// What sources of images are now.
mod tags;
/// The images that containers were started from.
mod versions;
/// Limits that the kernel sees passed.
mod warnings;
/// Changes of files.
mod watch;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    io,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::sync::{Notify, Semaphore, mpsc};

use crate::{
    config::{Config, ManagerChoice, Overrides},
    host::Host,
    image::{Digest, Source},
    isolators::{self, Container, Isolator, ORDER, Shared, Sweep},
    journal,
    manager::{self, Kind, Order, Process, ServiceManager},
    plan::UnitSettings,
    root::Root,
    spec::{Catalog, Name},
    state::{Damaged, Record, Store},
};
use process::notify;
use slot::Slot;

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
    /// What isolators keep between calls.
    shared: Arc<Shared>,
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
    /// Settings are in force, or cannot be.
    settled: Notify,
    /// There may be something to measure.
    measured: Notify,
    /// There may be somebody to look at.
    watched: Notify,
    /// Containers that are looked at.
    looks: Semaphore,
    /// The configuration was read again.
    reloaded: Notify,
    /// What sources of images are in the store.
    tags: RefCell<BTreeMap<Source, Digest>>,
    /// There is something new in the store, or in what is to be removed from it.
    imported: Notify,
}

/// berthd cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another berthd serves these directories.
    #[error("another berthd holds {0}; stop it first")]
    Held(std::path::PathBuf),
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
    let _lock = process::lock(&root)?;
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
    supervisor.remember_versions();
    supervisor.recover_isolators();
    supervisor.read_files(&watch);
    supervisor.resume_versions();
    tokio::task::spawn_local(process::be_ready_at_last(Rc::clone(&supervisor)));
    tokio::task::spawn_local(publish::serve(Rc::clone(&supervisor)));
    tokio::task::spawn_local(end::collect_sandboxes(Rc::clone(&supervisor)));
    tokio::task::spawn_local(measure::serve(Rc::clone(&supervisor)));
    tokio::task::spawn_local(limits::serve(Rc::clone(&supervisor)));
    tokio::task::spawn_local(warnings::serve(Rc::clone(&supervisor)));
    tokio::task::spawn_local(tags::watch(Rc::clone(&supervisor)));
    tokio::task::spawn_local(gc::serve(Rc::clone(&supervisor)));
    supervisor.changed.notify_one();

    let (mut hangup, mut terminate, mut interrupt) =
        process::signals().map_err(io_error("handle signals of", root.runtime()))?;
    let mut watchdog = process::watchdog();
    loop {
        tokio::select! {
            Some(event) = inbox.recv() => supervisor.on_event(event),
            Some(()) = touches.recv() => {
                process::gather(&mut touches).await;
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
            shared: Arc::new(Shared::new(&setup.root)),
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
            settled: Notify::new(),
            measured: Notify::new(),
            watched: Notify::new(),
            looks: Semaphore::new(limits::AT_A_TIME),
            reloaded: Notify::new(),
            tags: RefCell::default(),
            imported: Notify::new(),
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
        isolators::enabled(&self.config(), &self.host)
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
                record = Record::new(name.clone(), &self.host.boot_id);
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

    /// Has the isolators adopt what runs, and take back what no record accounts for. Nothing that is wrong with one
    /// container keeps the others from it.
    fn recover_isolators(&self) {
        let config = self.config();
        let slots: Vec<Rc<Slot>> = self.slots.borrow().values().cloned().collect();
        let mut running = BTreeSet::new();
        for slot in slots {
            let Some(run) = slot.record.borrow().run.clone() else { continue };
            let container = Container {
                name: &slot.name,
                plan: &run.plan,
                sandbox: &run.sandbox,
                host: &self.host,
                config: &config,
                shared: &self.shared,
                cgroup: run.cgroup.as_deref(),
            };
            for isolator in ORDER {
                if let Err(error) = isolator.recover(&container) {
                    tracing::error!(
                        BERTH_CONTAINER = slot.name.as_str(),
                        "{}: {}: {error}",
                        slot.name,
                        isolator.name()
                    );
                }
            }
            running.insert(slot.name.clone());
        }
        let sweep = Sweep { root: self.root(), shared: &self.shared, running: &running };
        for isolator in ORDER {
            if let Err(error) = isolator.sweep(&sweep) {
                tracing::error!("{}: {error}", isolator.name());
            }
        }
    }

    /// Hands a run that may still be alive to a manager that does not know it.
    fn adopt(&self, record: &Record) {
        let run = record.run.as_ref().map(|run| (run.invocation.clone(), run.process));
        let again = record.restarting.clone().map(|invocation| (invocation, None));
        let Some((invocation, process)) = run.or(again) else { return };
        let of_run = record.run.as_ref().map(|run| run.plan.unit.clone());
        let settings = of_run.or_else(|| record.spec.as_ref().map(|spec| UnitSettings::of(spec, None)));
        let settings = Box::new(settings.unwrap_or_default());
        self.manager.order(Order::Adopt { name: record.name.clone(), invocation, process, settings });
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

    /// Whether a process is still the one that was meant.
    fn lives(&self, main: Process) -> bool {
        self.process(main.pid).is_ok_and(|present| present == main)
    }
}

/// The configuration as the files, the environment and the flags have it.
///
/// # Errors
/// Every mistake, a line each.
pub fn load_config(root: &Root, overrides: &Overrides) -> Result<Config, String> {
    let names = isolators::names();
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
