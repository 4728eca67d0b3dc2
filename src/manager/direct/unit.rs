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

/// How long killed processes are waited for at least: a busy host needs a while, whatever the programs were given.
const LAST_RESORT: Duration = Duration::from_secs(10);

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
    /// The start may take so long from now.
    Extended(Duration),
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
            Input::Extended(by) => self.extended(now, by),
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
        if by_hand {
            self.backoff = Backoff::default();
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

    /// The start goes on: its deadline moves, and never nearer (systemd's `EXTEND_TIMEOUT_USEC=`).
    fn extended(&mut self, now: Instant, by: Duration) -> Vec<Effect> {
        if let (Phase::Start { .. }, Some(deadline)) = (self.phase, self.deadline) {
            self.deadline = now.checked_add(by).map(|later| later.max(deadline));
        }
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
        self.show(Phase::Running, Active::Active, "running");
        self.began = Some(now);
        Vec::new()
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
                let obeyed = self.stopping && exit == Some(Exit::Killed(self.settings.kill_signal().0));
                self.view.result = if obeyed { result::SUCCESS } else { policy::result_of(exit) }.into();
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
        self.deadline = after(now, self.stop_timeout()).map(|at| at.max(now + LAST_RESORT));
        vec![Effect::Kill]
    }

    /// Waited long enough.
    fn expired(&mut self, now: Instant) -> Vec<Effect> {
        self.deadline = None;
        match self.phase {
            Phase::Start { .. } | Phase::Signalled => {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Restart, Signal};

    /// How a program ends that fails.
    const FAILURE: Option<Exit> = Some(Exit::Exited(1));

    /// A machine with a clock, and what came out of it.
    struct Bench {
        /// The machine.
        unit: Machine,
        /// The time.
        now: Instant,
        /// What came out, in short.
        out: Vec<String>,
    }

    impl Bench {
        /// A unit with some settings.
        fn new(change: impl FnOnce(&mut UnitSettings)) -> Self {
            let mut settings = UnitSettings::default();
            change(&mut settings);
            Self { unit: Machine::new(settings), now: Instant::now(), out: Vec::new() }
        }

        /// Feeds inputs; returns what came out of them.
        fn feed(&mut self, inputs: impl IntoIterator<Item = Input>) -> Vec<String> {
            self.out.clear();
            for input in inputs {
                for effect in self.unit.step(self.now, input) {
                    self.out.push(match effect {
                        Effect::Done(job, Ok(())) => format!("{job} done"),
                        Effect::Done(job, Err(error)) => format!("{job} {error}").replace("the job ended as ", ""),
                        Effect::Show(unit) => unit.sub,
                        other => format!("{other:?}"),
                    });
                }
            }
            std::mem::take(&mut self.out)
        }

        /// Brings it up.
        fn up(&mut self) -> Vec<String> {
            self.feed([Input::Start(1), spawned(), ARMED, Input::LauncherEnded(Some(Exit::Exited(0)))])
        }

        /// Lets time pass until the deadline.
        fn wait(&mut self) -> (Duration, Vec<String>) {
            let deadline = self.unit.deadline().expect("something is due");
            let waited = deadline - self.now;
            self.now = deadline;
            (waited, self.feed([Input::Expired]))
        }

        /// `ActiveState`, `SubState` and `Result`.
        fn state(&self) -> (Active, &str, &str) {
            (self.unit.view.active, &self.unit.view.sub, &self.unit.view.result)
        }
    }

    /// A child at the gate.
    const ARMED: Input = Input::Armed { pid: 7, in_place: false };

    /// A launcher that runs.
    fn spawned() -> Input {
        Input::Spawned { invocation: "i".into(), cgroup: Some("/berth/a".into()) }
    }

    #[test]
    fn up_and_down() {
        let mut bench = Bench::new(|_| {});
        assert_eq!(bench.up(), ["Spawn", "running", "1 done"]);
        assert_eq!(bench.state(), (Active::Active, "running", "success"));
        assert_eq!((bench.unit.view.main_pid, bench.unit.deadline()), (Some(7), None), "nothing wakes it");
        assert_eq!(bench.feed([Input::Start(2)]), ["2 done"]);
        assert_eq!(bench.feed([Input::Stop(3)]), ["Signal"]);
        assert_eq!(bench.state().1, "stop-sigterm");
        assert_eq!(bench.feed([Input::MainEnded(Some(Exit::Killed(15)))]), ["Kill"]);
        assert_eq!(bench.feed([Input::Empty]), ["Clean", "dead", "3 done"]);
        assert_eq!(bench.state(), (Active::Inactive, "dead", "success"));
        assert!(bench.unit.view.stopped);
        assert_eq!(bench.feed([Input::Stop(4)]), ["dead", "4 done"]);
    }

    #[test]
    fn a_program_may_be_faster_than_its_launcher() {
        let mut bench = Bench::new(|s| s.restart = Some(Restart::No));
        let inputs = [Input::Start(1), spawned(), ARMED, Input::MainEnded(FAILURE)];
        assert_eq!(bench.feed(inputs), ["Spawn"]);
        assert_eq!(bench.feed([Input::LauncherEnded(Some(Exit::Exited(0)))]), ["running", "1 done", "Kill"]);
        assert_eq!(bench.feed([Input::Empty]), ["Clean", "failed"]);
        assert_eq!((bench.state().2, bench.unit.view.exit), ("exit-code", FAILURE));
    }

    #[test]
    fn launchers_that_fail() {
        for (inputs, result, exit) in [
            (vec![Input::LauncherEnded(FAILURE)], "exit-code", FAILURE),
            (vec![Input::LauncherEnded(Some(Exit::Exited(0)))], "protocol", Some(Exit::Exited(0))),
            (vec![Input::LauncherEnded(Some(Exit::Killed(9)))], "signal", Some(Exit::Killed(9))),
            (vec![ARMED, Input::LauncherEnded(FAILURE)], "exit-code", FAILURE),
            (vec![Input::Expired], "timeout", None),
            (vec![Input::SpawnFailed("no such file".into())], "resources", None),
        ] {
            let mut bench = Bench::new(|s| s.restart = Some(Restart::No));
            bench.feed([Input::Start(1), spawned()]);
            assert_eq!(bench.feed(inputs.clone()), ["Kill"], "{inputs:?}");
            assert_eq!(bench.feed([Input::Empty]), ["Clean", "failed", "1 'failed'"], "{inputs:?}");
            assert_eq!((bench.state(), bench.unit.view.exit), ((Active::Failed, "failed", result), exit));
        }
    }

    #[test]
    fn stops_that_kill() {
        let mut deaf = Bench::new(|_| {});
        deaf.up();
        assert_eq!(deaf.feed([Input::Stop(2), Input::Deaf]), ["Signal", "Kill"]);
        deaf.feed([Input::MainEnded(Some(Exit::Killed(9))), Input::Empty]);
        assert_eq!((deaf.state(), deaf.unit.view.stopped), ((Active::Inactive, "dead", "success"), true));

        let mut slow = Bench::new(|s| s.stop_timeout = Some(Duration::from_secs(3)));
        slow.up();
        slow.feed([Input::Stop(2)]);
        assert_eq!(slow.wait(), (Duration::from_secs(3), vec!["Kill".into()]));
        slow.feed([Input::MainEnded(Some(Exit::Killed(9))), Input::Empty]);
        assert_eq!((slow.state(), slow.unit.view.stopped), ((Active::Inactive, "dead", "timeout"), true));

        let mut stuck = Bench::new(|_| {});
        stuck.up();
        stuck.feed([Input::Stop(2), Input::Deaf]);
        assert_eq!(stuck.wait().1, ["failed", "2 'failed'"], "not even SIGKILL ends it");

        let mut obedient = Bench::new(|s| s.stop_signal = Some(Signal(3)));
        obedient.up();
        obedient.feed([Input::Stop(2), Input::MainEnded(Some(Exit::Killed(3))), Input::Empty]);
        assert_eq!(obedient.state().2, "success", "it ended by the signal that it was sent");
    }

    #[test]
    fn a_start_that_goes_on_has_more_time() {
        let mut bench = Bench::new(|s| s.start_timeout = Some(Duration::from_secs(10)));
        bench.feed([Input::Start(1), spawned(), Input::Extended(Duration::from_secs(60))]);
        assert_eq!(bench.unit.deadline(), Some(bench.now + Duration::from_secs(60)));
        bench.feed([Input::Extended(Duration::from_secs(5))]);
        assert_eq!(bench.unit.deadline(), Some(bench.now + Duration::from_secs(60)), "it never gets less");
        bench.feed([ARMED, Input::LauncherEnded(Some(Exit::Exited(0))), Input::Extended(Duration::from_secs(60))]);
        assert_eq!(bench.unit.deadline(), None, "what runs has no deadline");
        bench.feed([Input::Stop(2)]);
        let stop = bench.unit.deadline();
        bench.feed([Input::Extended(Duration::from_secs(600))]);
        assert_eq!(bench.unit.deadline(), stop, "nor does a stop get more");
    }

    #[test]
    fn zero_is_no_timeout() {
        let mut bench = Bench::new(|s| {
            s.start_timeout = Some(Duration::ZERO);
            s.stop_timeout = Some(Duration::ZERO);
        });
        bench.feed([Input::Start(1), spawned()]);
        assert_eq!(bench.unit.deadline(), None);
        bench.feed([ARMED, Input::LauncherEnded(Some(Exit::Exited(0))), Input::Stop(2)]);
        assert_eq!(bench.unit.deadline(), None);
    }

    #[test]
    fn later_jobs_win() {
        let mut bench = Bench::new(|_| {});
        bench.feed([Input::Start(1), spawned()]);
        assert_eq!(bench.feed([Input::Stop(2)]), ["1 'canceled'", "Kill"]);
        assert_eq!(bench.feed([Input::Start(3)]), ["2 'canceled'"]);
        assert_eq!(bench.feed([Input::Empty]), ["Clean", "dead", "Spawn"]);
        assert_eq!(bench.feed([Input::Restart(4)]), ["Kill"], "a start and a restart agree");
        assert_eq!(bench.feed([Input::Empty, spawned(), ARMED]), ["Clean", "dead", "Spawn"]);
        let done = bench.feed([Input::LauncherEnded(Some(Exit::Exited(0)))]);
        assert_eq!(done, ["running", "3 done", "4 done"]);
        assert_eq!(bench.feed([Input::Restart(5)]), ["Signal"]);
        assert_eq!(bench.feed([Input::Stop(6)]), ["5 'canceled'"], "the operator has the last word");
        let end = bench.feed([Input::MainEnded(Some(Exit::Exited(0))), Input::Empty]);
        assert_eq!(end, ["Kill", "Clean", "dead", "6 done"]);
        assert_eq!(bench.unit.deadline(), None);
    }

    #[test]
    fn failures_are_retried_slower_and_slower() {
        let mut bench = Bench::new(|_| {});
        let mut delays = Vec::new();
        bench.up();
        for _ in 0..3 {
            bench.feed([Input::MainEnded(FAILURE), Input::Empty]);
            assert_eq!(bench.state(), (Active::Activating, "auto-restart", "exit-code"));
            let (delay, effects) = bench.wait();
            assert_eq!(effects, ["Spawn"]);
            delays.push(delay.as_secs());
            bench.feed([spawned(), ARMED, Input::LauncherEnded(Some(Exit::Exited(0)))]);
        }
        assert_eq!((delays, bench.unit.view.restarts), (vec![1, 2, 4], 3));
        bench.now += Duration::from_secs(100);
        bench.feed([Input::MainEnded(FAILURE), Input::Empty]);
        assert_eq!(bench.wait().0.as_secs(), 1, "it had run for long");
    }

    #[test]
    fn a_wait_for_a_restart_can_be_ended_both_ways() {
        let mut bench = Bench::new(|_| {});
        bench.up();
        bench.feed([Input::MainEnded(FAILURE), Input::Empty]);
        assert_eq!(bench.feed([Input::Stop(2)]), ["dead", "2 done"]);
        assert_eq!((bench.state().0, bench.unit.deadline()), (Active::Inactive, None));
        bench.up();
        bench.feed([Input::MainEnded(FAILURE), Input::Empty]);
        assert_eq!(bench.feed([Input::Start(3)]), ["Spawn"], "whoever starts by hand does not wait");
        assert_eq!(bench.unit.view.restarts, 0);
    }

    #[test]
    fn the_start_limit_ends_it() {
        let limit = StartLimit { burst: 2, interval: Duration::from_secs(60) };
        let mut bench = Bench::new(|s| s.start_limit = Some(limit));
        bench.up();
        bench.feed([Input::MainEnded(FAILURE), Input::Empty]);
        bench.wait();
        bench.feed([spawned(), Input::LauncherEnded(FAILURE), Input::Empty]);
        assert_eq!(bench.wait().1, ["failed"]);
        assert_eq!(bench.state(), (Active::Failed, "failed", "start-limit-hit"));
        assert_eq!(bench.feed([Input::Start(2)]), ["failed", "2 'failed'"]);
        bench.feed([Input::ResetFailed]);
        assert_eq!(bench.state(), (Active::Inactive, "dead", "success"));
        assert_eq!(bench.feed([Input::Start(3)]), ["Spawn"]);
    }

    #[test]
    fn who_ended_unseen_is_started_again_by_policy() {
        for (policy, again) in [(Restart::No, false), (Restart::OnSuccess, false), (Restart::OnFailure, true)] {
            let mut bench = Bench::new(|s| s.restart = Some(policy));
            bench.feed([
                Input::Adopted { invocation: "i".into(), cgroup: None, pid: None },
                Input::MainEnded(None),
                Input::Empty,
            ]);
            assert_eq!(bench.unit.deadline().is_some(), again, "{policy:?}");
            assert_eq!(bench.state().2, "protocol");
            assert!(bench.unit.view.status.is_some());
        }
    }
}
