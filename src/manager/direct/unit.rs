//! One unit as a state machine: what happened goes in, what is to be done comes out. Nothing in here acts, and
//! the time is a parameter.
//!
//! ```text
//!            start                 launcher left, child armed
//!   ┌─ Dead ───────▶ Start ───────────────────────────────▶ Running
//!   │   ▲              │ failed, timeout, stop                 │ stop           │ main process ended
//!   │   │              ▼                                       ▼                ▼
//!   │   └──────── Ending(Kill) ◀──────── ended, timeout ── Ending(Signal)   Ending(Kill)
//!   │                  │ nothing left, and the policy says so
//!   └───────────── AutoRestart
//! ```

use std::time::{Duration, Instant};

use super::policy::{self, Backoff, Limiter, result};
use crate::{
    manager::{Active, Exit, JobError, Unit},
    plan::UnitSettings,
    spec::{Service, StartLimit},
};

/// A job of the manager's, with or without a token of its caller's.
pub type JobId = u64;

/// What happens to a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// It shall run.
    Start(JobId),
    /// It shall not run.
    Stop(JobId),
    /// It shall stop, if it runs, and start.
    Restart(JobId),
    /// Its failure shall be forgotten.
    ResetFailed,
    /// Its launcher runs.
    Spawned {
        /// The ID of this start.
        invocation: String,
        /// Where its processes are.
        cgroup: Option<String>,
    },
    /// Its launcher could not be started.
    SpawnFailed(String),
    /// Its main process exists.
    Armed {
        /// Its number.
        pid: u32,
        /// Whether the launcher becomes it.
        in_place: bool,
    },
    /// It runs since before this berthd.
    Adopted {
        /// The ID of that start.
        invocation: String,
        /// Where its processes are.
        cgroup: Option<String>,
        /// The main process, as the record has it.
        pid: Option<u32>,
    },
    /// The launcher ended.
    LauncherEnded(Option<Exit>),
    /// The main process ended.
    MainEnded(Option<Exit>),
    /// The main process would not notice the stop signal.
    Deaf,
    /// None of its processes is left.
    Empty,
    /// The deadline is past.
    Expired,
}

/// What is to be done about it, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Start the launcher.
    Spawn,
    /// Send the stop signal to the main process, or say that it is [`Input::Deaf`].
    Signal,
    /// Kill every process, and say when it is [`Input::Empty`].
    Kill,
    /// Remove its cgroup.
    Clean,
    /// Show this state: a later effect reports on it, or ends it.
    Show(Box<Unit>),
    /// The job ended so.
    Done(JobId, Result<(), JobError>),
}

/// Where a unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing of it runs.
    Dead,
    /// The launcher runs.
    Start {
        /// Whether the child waits at the gate.
        armed: bool,
        /// How the child ended, if it was faster than the launcher.
        ended: Option<Option<Exit>>,
    },
    /// The main process runs.
    Running,
    /// The main process has its stop signal.
    Signalled,
    /// All of it is being killed.
    Killed,
    /// It waits for its automatic restart.
    AutoRestart,
}

/// One unit.
#[derive(Debug)]
pub struct Machine {
    /// What the operator wants of it.
    pub settings: UnitSettings,
    /// What the world sees.
    pub view: Unit,
    /// Where it is.
    phase: Phase,
    /// When [`Input::Expired`] is due.
    deadline: Option<Instant>,
    /// When it began to run.
    began: Option<Instant>,
    /// Whether a stop was asked for.
    stopping: bool,
    /// Whether it starts as soon as it is dead.
    again: bool,
    /// Jobs that end when it runs.
    starts: Vec<JobId>,
    /// Jobs that end when it is dead.
    stops: Vec<JobId>,
    /// Counts its starts.
    limiter: Limiter,
    /// Counts its failures.
    backoff: Backoff,
}

impl Machine {
    /// A unit that was never started.
    pub fn new(settings: UnitSettings) -> Self {
        let view = Unit { sub: "dead".into(), result: result::SUCCESS.into(), ..Unit::default() };
        Self {
            settings,
            view,
            phase: Phase::Dead,
            deadline: None,
            began: None,
            stopping: false,
            again: false,
            starts: Vec::new(),
            stops: Vec::new(),
            limiter: Limiter::default(),
            backoff: Backoff::default(),
        }
    }

    /// When [`Input::Expired`] is due, if ever.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether its processes are being killed.
    pub fn is_killed(&self) -> bool {
        self.phase == Phase::Killed
    }

    /// Whether a launcher may arm a child now.
    pub fn awaits_child(&self) -> bool {
        matches!(self.phase, Phase::Start { armed: false, .. })
    }

    /// Whether nothing of it runs or will run on its own.
    pub fn is_dead(&self) -> bool {
        self.phase == Phase::Dead
    }

    /// What follows from `input`.
    pub fn step(&mut self, now: Instant, input: Input) -> Vec<Effect> {
        match input {
            Input::Start(job) => self.start(now, job),
            Input::Stop(job) => self.stop(now, job),
            Input::Restart(job) => self.restart(now, job),
            Input::ResetFailed => self.reset_failed(),
            Input::Spawned { invocation, cgroup } => self.spawned(invocation, cgroup),
            Input::SpawnFailed(reason) => self.spawn_failed(now, reason),
            Input::Armed { pid, in_place } => self.armed(now, pid, in_place),
            Input::Adopted { invocation, cgroup, pid } => self.adopted(now, invocation, cgroup, pid),
            Input::LauncherEnded(exit) => self.launcher_ended(now, exit),
            Input::MainEnded(exit) => self.main_ended(now, exit),
            Input::Deaf => self.deaf(now),
            Input::Empty if self.is_killed() => self.finish(now),
            Input::Empty => Vec::new(),
            Input::Expired => self.expired(now),
        }
    }

    /// A job to start it.
    fn start(&mut self, now: Instant, job: JobId) -> Vec<Effect> {
        if self.phase == Phase::Running {
            return vec![Effect::Done(job, Ok(()))];
        }
        self.starts.push(job);
        match self.phase {
            Phase::Dead | Phase::AutoRestart => self.begin(now, true),
            Phase::Signalled | Phase::Killed => {
                self.again = true;
                canceled(&mut self.stops)
            }
            Phase::Start { .. } | Phase::Running => Vec::new(),
        }
    }

    /// A job to stop it.
    fn stop(&mut self, now: Instant, job: JobId) -> Vec<Effect> {
        let mut effects = canceled(&mut self.starts);
        self.again = false;
        self.stops.push(job);
        effects.extend(self.end(now));
        effects
    }

    /// A job to restart it: a stop whose end is a start.
    fn restart(&mut self, now: Instant, job: JobId) -> Vec<Effect> {
        if matches!(self.phase, Phase::Dead | Phase::AutoRestart) {
            return self.start(now, job);
        }
        let mut effects = canceled(&mut self.stops);
        self.again = true;
        self.starts.push(job);
        effects.extend(self.end(now));
        effects
    }

    /// The first half of a stop, whatever it does now.
    fn end(&mut self, now: Instant) -> Vec<Effect> {
        let dead = matches!(self.phase, Phase::Dead | Phase::AutoRestart);
        if self.phase == Phase::AutoRestart {
            self.show(Phase::Dead, Active::Inactive, "dead");
            self.view.stopped = true;
        }
        if dead {
            return self.shown_then(|unit| done(&mut unit.stops, &Ok(())));
        }
        self.stopping = true;
        match self.phase {
            Phase::Start { .. } => self.kill(now, "stop-sigkill"),
            Phase::Running => {
                self.show(Phase::Signalled, Active::Deactivating, "stop-sigterm");
                self.deadline = after(now, self.stop_timeout());
                vec![Effect::Signal]
            }
            _ => Vec::new(),
        }
    }

    /// Forgets a failure, and the starts that led to it.
    fn reset_failed(&mut self) -> Vec<Effect> {
        self.limiter = Limiter::default();
        self.backoff = Backoff::default();
        if self.view.active == Active::Failed {
            self.show(Phase::Dead, Active::Inactive, "dead");
            self.view.result = result::SUCCESS.into();
            self.view.restarts = 0;
        }
        Vec::new()
    }

    /// A start, by a job or by the restart policy.
    fn begin(&mut self, now: Instant, by_hand: bool) -> Vec<Effect> {
        self.again = false;
        self.stopping = false;
        self.began = None;
        if !self.limiter.admit(self.start_limit(), now) {
            self.view.result = result::START_LIMIT.into();
            self.show(Phase::Dead, Active::Failed, "failed");
            return self.shown_then(|unit| done(&mut unit.starts, &Err(failed())));
        }
        self.view = Unit {
            restarts: if by_hand { 0 } else { self.view.restarts.saturating_add(1) },
            result: result::SUCCESS.into(),
            ..Unit::default()
        };
        self.show(Phase::Start { armed: false, ended: None }, Active::Activating, "start");
        self.deadline = after(now, self.start_timeout());
        vec![Effect::Spawn]
    }

    /// The launcher runs.
    fn spawned(&mut self, invocation: String, cgroup: Option<String>) -> Vec<Effect> {
        self.view.invocation = Some(invocation);
        self.view.cgroup = cgroup;
        Vec::new()
    }

    /// The launcher could not be started.
    fn spawn_failed(&mut self, now: Instant, reason: String) -> Vec<Effect> {
        self.view.result = result::RESOURCES.into();
        self.view.status = Some(reason);
        self.kill(now, "final-sigkill")
    }

    /// The launcher has a child, or becomes the program itself.
    fn armed(&mut self, now: Instant, pid: u32, in_place: bool) -> Vec<Effect> {
        if !self.awaits_child() {
            return Vec::new();
        }
        self.view.main_pid = Some(pid);
        if in_place {
            return self.runs(now);
        }
        self.phase = Phase::Start { armed: true, ended: None };
        Vec::new()
    }

    /// It runs.
    fn runs(&mut self, now: Instant) -> Vec<Effect> {
        self.show(Phase::Running, Active::Active, "running");
        self.began = Some(now);
        self.shown_then(|unit| done(&mut unit.starts, &Ok(())))
    }

    /// It ran before this berthd did.
    fn adopted(&mut self, now: Instant, invocation: String, cgroup: Option<String>, pid: Option<u32>) -> Vec<Effect> {
        self.view.invocation = Some(invocation);
        self.view.cgroup = cgroup;
        self.view.main_pid = pid;
        self.runs(now)
    }

    /// The launcher ended: the container runs, or its start failed.
    fn launcher_ended(&mut self, now: Instant, exit: Option<Exit>) -> Vec<Effect> {
        let Phase::Start { armed, ended } = self.phase else { return Vec::new() };
        let clean = exit == Some(Exit::Exited(0));
        if clean && armed {
            let mut effects = self.runs(now);
            if let Some(exit) = ended {
                effects.extend(self.main_ended(now, exit));
            }
            return effects;
        }
        self.view.exit = exit;
        self.view.result = match policy::result_of(exit) {
            result::SUCCESS => result::PROTOCOL, // a launcher that leaves or is stopped without a container
            other => other,
        }
        .into();
        self.kill(now, "final-sigkill")
    }

    /// The main process ended, by itself or because it was told to.
    fn main_ended(&mut self, now: Instant, exit: Option<Exit>) -> Vec<Effect> {
        match self.phase {
            Phase::Start { armed, .. } => {
                self.phase = Phase::Start { armed, ended: Some(exit) };
                Vec::new()
            }
            Phase::Running | Phase::Signalled => {
                self.main_gone(exit);
                self.view.result = policy::result_of(exit).into();
                self.kill(now, "final-sigkill")
            }
            Phase::Killed => {
                self.main_gone(exit);
                Vec::new()
            }
            Phase::Dead | Phase::AutoRestart => Vec::new(),
        }
    }

    /// Keeps how the main process ended.
    fn main_gone(&mut self, exit: Option<Exit>) {
        self.view.main_pid = None;
        self.view.exit = exit;
        if exit.is_none() {
            self.view.status = Some("how it ended is not known: it is not a child of this berthd".into());
        }
    }

    /// The stop signal would be ignored: a stop that has to kill, and is clean.
    fn deaf(&mut self, now: Instant) -> Vec<Effect> {
        if self.phase == Phase::Signalled { self.kill(now, "stop-sigkill") } else { Vec::new() }
    }

    /// Begins to kill all that is left.
    fn kill(&mut self, now: Instant, sub: &str) -> Vec<Effect> {
        self.show(Phase::Killed, Active::Deactivating, sub);
        self.deadline = after(now, self.stop_timeout());
        vec![Effect::Kill]
    }

    /// Waited long enough.
    fn expired(&mut self, now: Instant) -> Vec<Effect> {
        self.deadline = None;
        match self.phase {
            Phase::Start { .. } => {
                self.view.result = result::TIMEOUT.into();
                self.kill(now, "stop-sigkill")
            }
            Phase::Signalled => {
                self.view.result = result::TIMEOUT.into();
                self.kill(now, "stop-sigkill")
            }
            Phase::Killed => self.give_up(),
            Phase::AutoRestart => self.begin(now, false),
            Phase::Dead | Phase::Running => Vec::new(),
        }
    }

    /// Processes that not even SIGKILL ends (they wait for a disk or a server): nothing is started over them.
    fn give_up(&mut self) -> Vec<Effect> {
        self.view.result = result::TIMEOUT.into();
        self.view.stopped = self.stopping;
        self.show(Phase::Dead, Active::Failed, "failed");
        self.again = false;
        self.shown_then(|unit| {
            let mut effects = done(&mut unit.stops, &Err(failed()));
            effects.extend(done(&mut unit.starts, &Err(failed())));
            effects
        })
    }

    /// Nothing of it is left: dead, or started again.
    fn finish(&mut self, now: Instant) -> Vec<Effect> {
        self.view.main_pid = None;
        self.view.cgroup = None;
        self.view.stopped = self.stopping;
        let clean = self.stopping || self.view.result == result::SUCCESS;
        if clean {
            self.show(Phase::Dead, Active::Inactive, "dead");
        } else {
            self.show(Phase::Dead, Active::Failed, "failed");
        }
        let mut effects = vec![Effect::Clean];
        effects.extend(self.shown_then(|unit| done(&mut unit.stops, &Ok(()))));
        if self.again {
            effects.extend(self.begin(now, true));
            return effects;
        }
        effects.extend(done(&mut self.starts, &Err(failed())));
        if !self.stopping {
            self.consider_restart(now);
        }
        effects
    }

    /// Waits for the automatic restart, if the policy wants one.
    fn consider_restart(&mut self, now: Instant) {
        if !policy::restarts(self.settings.restart_policy(), &self.view.result, self.view.exit) {
            return;
        }
        let ran = self.began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
        let base = self.settings.restart_delay.unwrap_or(Service::default().restart_delay);
        let delay = self.backoff.after(&self.view.result, ran, base);
        self.show(Phase::AutoRestart, Active::Activating, "auto-restart");
        self.deadline = now.checked_add(delay);
    }

    /// Shows the present state before the word that jobs are done.
    fn shown_then(&mut self, jobs: impl FnOnce(&mut Self) -> Vec<Effect>) -> Vec<Effect> {
        let mut effects = vec![Effect::Show(Box::new(self.view.clone()))];
        effects.extend(jobs(self));
        effects
    }

    /// Enters a phase, with the words for it. Its deadline is set afterwards.
    fn show(&mut self, phase: Phase, active: Active, sub: &str) {
        self.phase = phase;
        self.deadline = None;
        self.view.active = active;
        self.view.sub = sub.into();
    }

    /// `StartLimitBurst=` and `StartLimitIntervalSec=` in force.
    fn start_limit(&self) -> StartLimit {
        self.settings.start_limit.unwrap_or(Service::default().start_limit)
    }

    /// `TimeoutStartSec=` in force.
    fn start_timeout(&self) -> Duration {
        self.settings.start_timeout.unwrap_or(Service::default().start_timeout)
    }

    /// `TimeoutStopSec=` in force.
    fn stop_timeout(&self) -> Duration {
        self.settings.stop_timeout.unwrap_or(Service::default().stop_timeout)
    }
}

/// The end of a timeout; none for one of 0, which is systemd's word for none, or beyond all calendars.
fn after(now: Instant, timeout: Duration) -> Option<Instant> {
    if timeout.is_zero() { None } else { now.checked_add(timeout) }
}

/// Ends jobs.
fn done(jobs: &mut Vec<JobId>, outcome: &Result<(), JobError>) -> Vec<Effect> {
    jobs.drain(..).map(|job| Effect::Done(job, outcome.clone())).collect()
}

/// Ends jobs that a later one contradicts.
fn canceled(jobs: &mut Vec<JobId>) -> Vec<Effect> {
    done(jobs, &Err(JobError::Ended("canceled".into())))
}

/// The end of a job whose unit failed.
fn failed() -> JobError {
    JobError::Ended("failed".into())
}
