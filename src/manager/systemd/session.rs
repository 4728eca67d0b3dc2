//! One connection to the bus.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use zbus::{Connection, MatchRule, Message, MessageStream, fdo, message};

use super::{
    drop_in,
    proxy::ManagerProxy,
    unit::{self, Properties},
};
use crate::{
    manager::{Batch, Event, Events, Job, JobError, JobVerb, Order, Unit},
    root::Root,
    spec::Name,
};

/// How long signals that belong together take to come in. Reading a unit costs systemd more than this costs us.
const TOGETHER: Duration = Duration::from_millis(5);

/// systemd's name on the bus.
const SYSTEMD: &str = "org.freedesktop.systemd1";

/// A connection, subscribed.
pub struct Session<'a> {
    /// Where drop-ins lie.
    root: &'a Root,
    /// To berthd.
    events: &'a Events,
    /// The bus.
    bus: Connection,
    /// PID 1.
    manager: ManagerProxy<'static>,
    /// Signals, drained by a task of their own so that a method call never waits behind them.
    signals: mpsc::UnboundedReceiver<zbus::Result<Message>>,
    /// Jobs under way, by object path.
    jobs: HashMap<String, (Name, u64)>,
    /// Units that systemd keeps loaded for us.
    held: BTreeSet<Name>,
    /// Units that were not at rest when they were last read.
    busy: BTreeSet<Name>,
}

impl std::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("jobs", &self.jobs).finish_non_exhaustive()
    }
}

impl<'a> Session<'a> {
    /// Connects, subscribes and reports every unit.
    pub async fn open(root: &'a Root, events: &'a Events) -> zbus::Result<Self> {
        let bus = Connection::system().await?;
        let signals = listen(&bus).await?;
        let manager = ManagerProxy::builder(&bus).cache_properties(zbus::proxy::CacheProperties::No).build().await?;
        manager.subscribe().await?;
        let (jobs, held, busy) = (HashMap::new(), BTreeSet::new(), BTreeSet::new());
        let mut session = Self { root, events, bus, manager, signals, jobs, held, busy };
        session.snapshot().await?;
        Ok(session)
    }

    /// Serves orders and signals until the connection is lost (an error) or berthd ends.
    pub async fn run(mut self, orders: &mut mpsc::UnboundedReceiver<Order>) -> zbus::Result<()> {
        loop {
            tokio::select! {
                biased;
                signal = self.signals.recv() => match signal {
                    Some(Ok(first)) => self.digest(first).await?,
                    Some(Err(error)) => return Err(error),
                    None => return Err(zbus::Error::Failure("the bus closed the connection".to_owned())),
                },
                order = orders.recv() => match order {
                    Some(first) => self.obey(first, orders).await?,
                    None => return Ok(()),
                },
            }
        }
    }

    /// Reports every unit that systemd has loaded or that has a drop-in.
    async fn snapshot(&mut self) -> zbus::Result<()> {
        let rows = self.manager.list_units_by_patterns(&[], &["berth@*.service"]).await?;
        let mut units: BTreeMap<Name, Unit> =
            drop_in::existing(self.root).into_iter().map(|name| (name, Unit::default())).collect();
        for row in rows {
            let Some(name) = Name::from_unit(&row.0) else { continue };
            self.hold(&name).await?;
            units.insert(name.clone(), self.unit(&name).await?);
        }
        self.report(Event::Snapshot(units));
        Ok(())
    }

    /// Everything that has come in by now, each changed unit read once. A step of a unit is several signals, so a
    /// moment is given to the others.
    async fn digest(&mut self, first: Message) -> zbus::Result<()> {
        tokio::time::sleep(TOGETHER).await;
        let mut changed = BTreeSet::new();
        let mut ended = Vec::new();
        let mut resync = self.sort(&first, &mut changed, &mut ended);
        while let Ok(signal) = self.signals.try_recv() {
            resync |= self.sort(&signal?, &mut changed, &mut ended);
        }
        if resync {
            self.manager.subscribe().await.or_else(already_subscribed)?;
            self.snapshot().await?;
        }
        for name in changed {
            let unit = self.unit(&name).await?;
            self.report(Event::Changed(name, Box::new(unit)));
        }
        for (name, token, result) in ended {
            // What the job brought about is told before its end is.
            let unit = self.unit(&name).await?;
            self.report(Event::Changed(name.clone(), Box::new(unit)));
            self.report(Event::JobDone { name, token, result });
        }
        Ok(())
    }

    /// Sorts one signal. True if systemd itself was restarted and all must be read again.
    fn sort(
        &mut self,
        signal: &Message,
        changed: &mut BTreeSet<Name>,
        ended: &mut Vec<(Name, u64, Result<(), JobError>)>,
    ) -> bool {
        let header = signal.header();
        let path = header.path().map(ToString::to_string).unwrap_or_default();
        match header.member().map(|member| member.as_str()) {
            // To look at a unit loads it, which one that was let go is not worth, unless it was just started again.
            Some("PropertiesChanged") => {
                let worth = |name: &Name| self.held.contains(name) || unit::says_busy(signal);
                changed.extend(unit::name_of(&path).filter(worth));
            }
            Some("UnitNew") => changed.extend(named(signal)),
            // systemd introduces again, after a reload, even what it is about to unload; to look at it would load it.
            Some("UnitRemoved") => {
                named(signal).filter(|name| !self.held.contains(name)).map(|name| changed.remove(&name));
            }
            Some("JobRemoved") => ended.extend(self.job_removed(signal)),
            Some("NameOwnerChanged") => return true,
            _ => {}
        }
        false
    }

    /// The end of one of our jobs.
    fn job_removed(&mut self, signal: &Message) -> Option<(Name, u64, Result<(), JobError>)> {
        let body = signal.body();
        let (_, path, _, result): (u32, zbus::zvariant::OwnedObjectPath, String, String) = body.deserialize().ok()?;
        let (name, token) = self.jobs.remove(path.as_str())?;
        let result = if result == "done" || result == "skipped" { Ok(()) } else { Err(JobError::Ended(result)) };
        Some((name, token, result))
    }

    /// Carries out all orders that have come in by now, as one batch: while systemd reloads, more gather, and a
    /// hundred containers that end together are not a hundred reloads.
    async fn obey(&mut self, first: Order, orders: &mut mpsc::UnboundedReceiver<Order>) -> zbus::Result<()> {
        let mut all: Option<Batch> = None;
        let mut next = Some(first);
        while let Some(order) = next {
            match order {
                Order::Apply(batch) => {
                    let all = all.get_or_insert_default();
                    all.settings.extend(batch.settings);
                    all.jobs.extend(batch.jobs);
                }
                Order::ResetFailed(name) => heard(self.manager.reset_failed_unit(&name.unit()).await)?,
                Order::KillMain(name) => heard(self.manager.kill_unit(&name.unit(), "main", libc::SIGKILL).await)?,
                // systemd knows its processes itself.
                Order::Armed { .. } | Order::Extend { .. } | Order::Adopt { .. } => {}
            }
            next = orders.try_recv().ok();
        }
        match all {
            Some(batch) => self.apply(batch).await,
            None => Ok(()),
        }
    }

    /// Settings first, one reload if any file changed, then the jobs. What is gone is let go before the reload, so that
    /// systemd does not load it again; what somebody starts at this very moment is still to be heard of.
    async fn apply(&mut self, batch: Batch) -> zbus::Result<()> {
        let mut reload = false;
        for (name, settings) in &batch.settings {
            if settings.is_none() && !self.busy.contains(name) && self.held.remove(name) {
                heard(self.manager.unref_unit(&name.unit()).await)?;
            }
            match drop_in::apply(self.root, name, settings.as_ref()) {
                Ok(changed) => reload |= changed,
                Err(error) => {
                    let path = self.root.unit_drop_in(&name.unit());
                    let reason = crate::error::reason(&error);
                    self.report(Event::SettingsFailed(format!("cannot write {}: {reason}", path.display())));
                }
            }
        }
        if reload {
            match self.manager.reload().await {
                Err(error) if is_lost(&error) => return Err(error),
                Err(error) => self.report(Event::SettingsFailed(format!("systemd cannot reload: {error}"))),
                Ok(()) => {}
            }
        }
        self.report(Event::SettingsApplied);
        for job in batch.jobs {
            self.enqueue(job).await?;
        }
        Ok(())
    }

    /// Hands one job to systemd.
    async fn enqueue(&mut self, job: Job) -> zbus::Result<()> {
        let unit = job.name.unit();
        if job.verb != JobVerb::Stop {
            self.hold(&job.name).await?;
        }
        let mode = "replace";
        let answer = match job.verb {
            JobVerb::Start => self.manager.start_unit(&unit, mode).await,
            JobVerb::Stop => self.manager.stop_unit(&unit, mode).await,
            JobVerb::Restart => self.manager.restart_unit(&unit, mode).await,
            JobVerb::TryRestart => self.manager.try_restart_unit(&unit, mode).await,
        };
        match answer {
            Ok(path) => drop(self.jobs.insert(path.to_string(), (job.name, job.token))),
            Err(error) if is_lost(&error) => return Err(error),
            Err(error) => {
                let result = Err(refusal(&error));
                self.report(Event::JobDone { name: job.name, token: job.token, result });
            }
        }
        Ok(())
    }

    /// Has systemd keep a unit loaded, so that how it ended can still be read afterwards.
    async fn hold(&mut self, name: &Name) -> zbus::Result<()> {
        if self.held.contains(name) {
            return Ok(());
        }
        match self.manager.ref_unit(&name.unit()).await {
            Err(error) if is_lost(&error) => return Err(error),
            Err(_) => {}
            Ok(()) => drop(self.held.insert(name.clone())),
        }
        Ok(())
    }

    /// A unit as it is now.
    async fn unit(&mut self, name: &Name) -> zbus::Result<Unit> {
        self.hold(name).await?;
        let path = unit::path_of(name);
        // An empty interface name asks for those of all (sd_bus_add_object_vtable(3) serves it so).
        let answer = self
            .bus
            .call_method(Some(SYSTEMD), path.as_str(), Some("org.freedesktop.DBus.Properties"), "GetAll", &(""))
            .await;
        let unit = match answer {
            Ok(reply) => unit::read(&reply.body().deserialize::<Properties>()?),
            Err(error) if is_lost(&error) => return Err(error),
            Err(_) => Unit::default(),
        };
        if unit.active.is_at_rest() {
            self.busy.remove(name);
        } else {
            self.busy.insert(name.clone());
        }
        Ok(unit)
    }

    /// Tells berthd.
    fn report(&self, event: Event) {
        // berthd's end is this task's end too.
        let _ = self.events.send(event);
    }
}

/// Asks the bus for the signals that matter and drains them into a queue without bound.
async fn listen(bus: &Connection) -> zbus::Result<mpsc::UnboundedReceiver<zbus::Result<Message>>> {
    let signals = || MatchRule::builder().msg_type(message::Type::Signal).sender(SYSTEMD);
    let units = signals()?
        .interface("org.freedesktop.DBus.Properties")?
        .member("PropertiesChanged")?
        .path_namespace("/org/freedesktop/systemd1/unit")?
        .build();
    let jobs = signals()?.interface("org.freedesktop.systemd1.Manager")?.member("JobRemoved")?.build();
    let news = signals()?.interface("org.freedesktop.systemd1.Manager")?.member("UnitNew")?.build();
    let farewells = signals()?.interface("org.freedesktop.systemd1.Manager")?.member("UnitRemoved")?.build();
    let owner = MatchRule::builder()
        .msg_type(message::Type::Signal)
        .sender("org.freedesktop.DBus")?
        .member("NameOwnerChanged")?
        .arg(0, SYSTEMD)?
        .build();
    let dbus = fdo::DBusProxy::new(bus).await?;
    let mut stream = MessageStream::from(bus);
    for rule in [units, jobs, news, farewells, owner] {
        dbus.add_match_rule(rule).await?;
    }
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::task::spawn_local(async move {
        while let Some(message) = stream.next().await {
            let wanted = message.as_ref().map_or(true, |m| m.message_type() == message::Type::Signal);
            if wanted && sender.send(message).is_err() {
                break;
            }
        }
    });
    Ok(receiver)
}

/// The container that `UnitNew` or `UnitRemoved` is about, if it is about one.
fn named(signal: &Message) -> Option<Name> {
    let body = signal.body();
    let (unit, _): (String, zbus::zvariant::OwnedObjectPath) = body.deserialize().ok()?;
    Name::from_unit(&unit)
}

/// A deed that may come too late: only a lost connection is an error.
fn heard(answer: zbus::Result<()>) -> zbus::Result<()> {
    answer.or_else(|error| if is_lost(&error) { Err(error) } else { Ok(()) })
}

/// Whether an error means that the connection is gone, rather than that systemd said no.
fn is_lost(error: &zbus::Error) -> bool {
    match error {
        zbus::Error::MethodError(name, ..) => matches!(
            name.as_str(),
            "org.freedesktop.DBus.Error.NoReply"
                | "org.freedesktop.DBus.Error.Disconnected"
                | "org.freedesktop.DBus.Error.ServiceUnknown"
                | "org.freedesktop.DBus.Error.NameHasNoOwner"
        ),
        _ => true,
    }
}

/// Subscribing twice is no mistake after systemd was restarted in place.
fn already_subscribed(error: zbus::Error) -> zbus::Result<()> {
    match &error {
        zbus::Error::MethodError(name, ..) if name.as_str().ends_with(".AlreadySubscribed") => Ok(()),
        _ => Err(error),
    }
}

/// systemd's no.
fn refusal(error: &zbus::Error) -> JobError {
    match error {
        zbus::Error::MethodError(name, ..) if name.as_str() == "org.freedesktop.systemd1.UnitMasked" => {
            JobError::Masked
        }
        zbus::Error::MethodError(_, Some(text), _) => JobError::Refused(text.clone()),
        other => JobError::Refused(other.to_string()),
    }
}
