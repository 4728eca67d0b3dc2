//! The task: orders, ends of processes and deadlines in; effects of the state machines out.

/// What the state machines want done.
mod effects;
/// What is ordered.
mod orders;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::{
    Setup,
    cgroup::{Cgroups, Home},
    jobs::{Job, Jobs, Wish},
    kernel::{self, Reaped},
    process::{self, Handle},
    unit::{Input, Machine},
    watch::Watcher,
};
use crate::{
    manager::{self, Event, Events, Exit, JobError, Order, Process, Unit},
    plan::UnitSettings,
    spec::Name,
};

/// How often the removal of a cgroup is tried; the delay doubles from [`FIRST_RETRY`], two and a half seconds in all.
const REMOVALS: u32 = 8;

/// The delay before the second try.
const FIRST_RETRY: Duration = Duration::from_millis(10);

/// How often a second look is taken for processes without a cgroup.
const LOOKS: u32 = 5;

/// What a watched process is to its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Its launcher.
    Launcher,
    /// Its main process.
    Main,
    /// One that is left over, and was killed.
    Left,
}

/// A process whose end is waited for.
#[derive(Debug)]
struct Watched {
    /// Whose.
    name: Name,
    /// As what.
    role: Role,
    /// Which.
    handle: Handle,
}

/// A unit and what it has in the world.
#[derive(Debug)]
struct Entry {
    /// Its state.
    machine: Machine,
    /// What was last told of it.
    told: Unit,
    /// Whether its settings are gone; it is forgotten when it is dead.
    gone: bool,
    /// Its cgroup, where one could be made.
    home: Option<Home>,
    /// When its cgroup is tried to be removed again, and which try that is.
    removal: Option<(Instant, u32)>,
    /// When it is looked again for who is left of it.
    look: Option<Instant>,
    /// How often that was.
    looks: u32,
}

impl Entry {
    /// A unit that never ran.
    fn new(settings: UnitSettings) -> Self {
        let machine = Machine::new(settings);
        let told = machine.view.clone();
        Self { machine, told, gone: false, home: None, removal: None, look: None, looks: 0 }
    }

    /// When something is due.
    fn due(&self) -> Option<Instant> {
        [self.machine.deadline(), self.removal.map(|(at, _)| at), self.look].into_iter().flatten().min()
    }
}

/// The direct manager.
#[derive(Debug)]
pub struct Actor {
    /// Where things are.
    setup: Setup,
    /// To whom it reports.
    events: Events,
    /// The host's cgroups.
    cgroups: Cgroups,
    /// Whether it was said that there are none.
    homeless: bool,
    /// Tells when a process has ended.
    watcher: Watcher,
    /// The processes whose end is waited for.
    watched: BTreeMap<u64, Watched>,
    /// The last number given to one.
    last: u64,
    /// All units.
    units: BTreeMap<Name, Entry>,
    /// What is not done yet.
    jobs: Jobs,
    /// Units of systemd's that specs speak of, said once.
    strangers: BTreeSet<String>,
}

impl Actor {
    /// Runs until the last handle is dropped. Containers stay.
    pub async fn run(setup: Setup, mut orders: mpsc::UnboundedReceiver<Order>, events: Events) {
        let (sender, mut ended) = mpsc::unbounded_channel();
        let watcher = match Watcher::new(sender) {
            Ok(watcher) => watcher,
            Err(error) => return refuse_all(&mut orders, &events, &error.to_string()).await,
        };
        let mut actor = Self::new(setup, events, watcher);
        actor.cgroups.sweep();
        while let Ok(order) = orders.try_recv() {
            actor.order(order);
        }
        actor.snapshot();
        loop {
            tokio::select! {
                biased; // what a launcher reported comes before the launcher's end
                order = orders.recv() => match order {
                    Some(order) => actor.order(order),
                    None => return,
                },
                Some(number) = ended.recv() => actor.ended(number),
                () = sleep_until(actor.due()) => actor.expire(),
            }
        }
    }

    /// Nothing runs yet.
    fn new(setup: Setup, events: Events, watcher: Watcher) -> Self {
        let cgroups = Cgroups::of(&setup.root);
        Self {
            setup,
            events,
            cgroups,
            homeless: false,
            watcher,
            watched: BTreeMap::new(),
            last: 0,
            units: BTreeMap::new(),
            jobs: Jobs::default(),
            strangers: BTreeSet::new(),
        }
    }

    /// Does what it is told.
    fn order(&mut self, order: Order) {
        match order {
            Order::Apply(batch) => self.apply(batch),
            Order::Armed { name, invocation, process } => self.armed(&name, &invocation, process),
            Order::Extend { name, by } => self.feed_quietly(&name, Input::Extended(by)),
            Order::Adopt { name, invocation, process, settings } => self.adopt(&name, invocation, process, *settings),
            Order::ResetFailed(name) => self.feed(&name, Input::ResetFailed),
            Order::KillMain(name) => self.kill_main(&name),
        }
        self.advance();
    }

    /// Kills a main process; its end is noticed as any other.
    fn kill_main(&self, name: &Name) {
        if let Some(main) = self.find(name, Role::Main).and_then(|number| self.watched.get(&number)) {
            kernel::send(&main.handle.fd, crate::spec::Signal::KILL.0).ok(); // has just ended
        }
    }

    /// The launcher's report: from now on the main process is known.
    fn armed(&mut self, name: &Name, invocation: &str, process: Process) {
        let expected = self.units.get(name).is_some_and(|entry| {
            entry.machine.awaits_child() && entry.machine.view.invocation.as_deref() == Some(invocation)
        });
        if !expected {
            return tracing::warn!("{name}: a launcher of another start has armed process {}; ignored", process.pid);
        }
        let launcher = self.find(name, Role::Launcher).map(|number| (number, self.pid(number)));
        let in_place = launcher.is_some_and(|(_, pid)| pid == Some(process.pid));
        if let Some((number, _)) = launcher.filter(|_| in_place) {
            self.watched.entry(number).and_modify(|watched| watched.role = Role::Main);
        } else {
            let Some(handle) = Handle::verified(&self.setup.root, process) else {
                return tracing::warn!("{name}: process {} is not the one that was armed; ignored", process.pid);
            };
            self.watch(name, Role::Main, handle);
        }
        self.feed(name, Input::Armed { pid: process.pid, in_place });
    }

    /// A container of an earlier berthd's: watched if it lives, else ended in a way that nobody knows.
    fn adopt(&mut self, name: &Name, invocation: String, process: Option<Process>, settings: UnitSettings) {
        self.settle(name, settings);
        if self.units.get(name).is_some_and(|entry| !entry.machine.is_dead()) {
            return tracing::warn!("{name}: runs already; not adopted again");
        }
        let home = self.cgroups.find(name);
        let cgroup = home.as_ref().map(|home| home.path().to_owned());
        let main = process.and_then(|process| Handle::verified(&self.setup.root, process));
        if let Some(entry) = self.units.get_mut(name) {
            entry.home = home;
        }
        let pid = main.as_ref().map(|main| main.pid);
        if let Some(main) = main {
            // What an earlier berthd started is not killed for a want of ours; then only its end goes unnoticed.
            drop(self.try_watch(name, Role::Main, main));
        }
        self.feed_quietly(name, Input::Adopted { invocation, cgroup, pid });
        if pid.is_some() { self.show(name) } else { self.feed(name, Input::MainEnded(None)) }
    }

    /// A watched process has ended.
    fn ended(&mut self, number: u64) {
        let Some(Watched { name, role, handle }) = self.watched.remove(&number) else { return };
        let exit = exit_of(&handle);
        match role {
            Role::Launcher => {
                if self.awaits_child(&name) {
                    self.watch_unarmed(&name, handle.pid);
                }
                self.feed(&name, Input::LauncherEnded(exit));
            }
            Role::Main => self.feed(&name, Input::MainEnded(exit)),
            Role::Left => {}
        }
        self.look_for_more(&name);
        self.advance();
    }

    /// Waits for children of a launcher that left without a word about them: their gate is shut for ever.
    fn watch_unarmed(&mut self, name: &Name, group: u32) {
        for pid in process::children_in_group(&self.setup.root, group) {
            if let Ok(handle) = Handle::open(pid) {
                self.watch(name, Role::Left, handle);
            }
        }
    }

    /// Whether a unit's launcher has not armed its child yet.
    fn awaits_child(&self, name: &Name) -> bool {
        self.units.get(name).is_some_and(|entry| entry.machine.awaits_child())
    }

    /// When all known processes of a killed unit have ended: those that came meanwhile.
    fn look_for_more(&mut self, name: &Name) {
        let killed = self.units.get(name).is_some_and(|entry| entry.machine.is_killed());
        if killed && !self.is_watched(name) && self.kill(name) {
            self.feed(name, Input::Empty);
        }
    }

    /// Whether the end of some process of a unit is waited for.
    fn is_watched(&self, name: &Name) -> bool {
        self.watched.values().any(|watched| watched.name == *name)
    }

    /// What is due.
    fn expire(&mut self) {
        let now = Instant::now();
        let due: Vec<_> = self.units.iter().filter(|(_, e)| e.due().is_some_and(|at| at <= now)).collect();
        let due: Vec<_> = due.into_iter().map(|(name, _)| name.clone()).collect();
        for name in due {
            if self.units.get(&name).is_some_and(|e| e.machine.deadline().is_some_and(|at| at <= now)) {
                self.feed(&name, Input::Expired);
            }
            if self.units.get_mut(&name).is_some_and(|e| e.look.take_if(|at| *at <= now).is_some()) {
                self.look_for_more(&name);
            }
            if self.units.get(&name).is_some_and(|e| e.removal.is_some_and(|(at, _)| at <= now)) {
                self.clean(&name);
                self.bury(&name);
            }
        }
        self.advance();
    }

    /// The next time at which something is due.
    fn due(&self) -> Option<Instant> {
        self.units.values().filter_map(Entry::due).min()
    }

    /// Gives a unit an input, does all that follows, and tells what has changed.
    fn feed(&mut self, name: &Name, input: Input) {
        self.feed_quietly(name, input);
        self.show(name);
        self.bury(name);
    }

    /// As `feed`, without telling.
    fn feed_quietly(&mut self, name: &Name, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let Some(entry) = self.units.get_mut(name) else { return };
            for effect in entry.machine.step(Instant::now(), input) {
                inputs.extend(self.perform(name, effect));
            }
        }
    }

    /// The number of a unit's launcher or main process.
    fn find(&self, name: &Name, role: Role) -> Option<u64> {
        self.watched.iter().find(|(_, watched)| watched.role == role && watched.name == *name).map(|(&n, _)| n)
    }

    /// The process behind a number.
    fn pid(&self, number: u64) -> Option<u32> {
        self.watched.get(&number).map(|watched| watched.handle.pid)
    }

    /// A job ended; a start that failed fails those that require it.
    fn job_done(&mut self, id: u64, result: Result<(), JobError>) {
        let Some(Job { name, wish, token, .. }) = self.jobs.done(id) else { return };
        if result.is_err() && wish != Wish::Down {
            let graph = self.units.iter().map(|(name, entry)| (name, &entry.machine.settings)).collect();
            let failed = self.jobs.fail_dependents(&graph, &name);
            self.end_jobs(failed, "dependency");
        }
        if let Some(token) = token {
            self.tell(Event::JobDone { name, token, result });
        }
    }

    /// Tells how a unit is, if that is news.
    fn show(&mut self, name: &Name) {
        if let Some(unit) = self.units.get(name).map(|entry| entry.machine.view.clone()) {
            self.show_as(name, unit);
        }
    }

    /// Tells that a unit is or was so.
    fn show_as(&mut self, name: &Name, unit: Unit) {
        let Some(entry) = self.units.get_mut(name).filter(|entry| entry.told != unit) else { return };
        entry.told = unit.clone();
        self.tell(Event::Changed(name.clone(), Box::new(unit)));
    }

    /// Tells all units.
    fn snapshot(&self) {
        let units = self.units.iter().map(|(name, entry)| (name.clone(), entry.machine.view.clone()));
        self.tell(Event::Snapshot(units.collect()));
    }

    /// Sends an event.
    fn tell(&self, event: Event) {
        self.events.send(event).ok(); // nobody listens: berthd ends
    }
}

/// Takes the exit status of a process that has ended, as far as it can be known.
fn exit_of(handle: &Handle) -> Option<Exit> {
    match kernel::reap(&handle.fd) {
        Ok(Reaped::Ended(exit)) => Some(exit),
        Ok(Reaped::Foreign | Reaped::Running) => kernel::exit_of_foreign(&handle.fd),
        Err(error) => {
            tracing::error!("process {}: its status cannot be had: {error}", handle.pid);
            None
        }
    }
}

/// Sleeps until then; for ever, if nothing is due.
async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// What is left to do where processes cannot be watched.
async fn refuse_all(orders: &mut mpsc::UnboundedReceiver<Order>, events: &Events, reason: &str) {
    events.send(Event::Away(format!("processes cannot be watched: {reason}"))).ok(); // nobody listens: berthd ends
    while let Some(order) = orders.recv().await {
        let Order::Apply(batch) = order else { continue };
        for manager::Job { name, token, .. } in batch.jobs {
            let result = Err(JobError::Refused(format!("processes cannot be watched: {reason}")));
            events.send(Event::JobDone { name, token, result }).ok(); // nobody listens: berthd ends
        }
    }
}
