//! What follows from how a unit ended: systemd.service(5) as pure functions.

use std::time::{Duration, Instant};

use crate::{
    manager::Exit,
    spec::{Restart, StartLimit},
};

/// systemd's words for how a unit ended (`Result` of org.freedesktop.systemd1(5)).
pub mod result {
    /// As it should.
    pub const SUCCESS: &str = "success";
    /// With an exit status that is not 0.
    pub const EXIT_CODE: &str = "exit-code";
    /// By a signal.
    pub const SIGNAL: &str = "signal";
    /// By a signal, with a core dump.
    pub const CORE_DUMP: &str = "core-dump";
    /// It took too long to start or to stop.
    pub const TIMEOUT: &str = "timeout";
    /// The launcher could not be started.
    pub const RESOURCES: &str = "resources";
    /// Not in the way agreed: a launcher that left without a container, or an end that nobody saw.
    pub const PROTOCOL: &str = "protocol";
    /// It was started too often.
    pub const START_LIMIT: &str = "start-limit-hit";
}

/// EX_CONFIG of sysexits(3): `RestartPreventExitStatus=` of the template unit.
const NOT_RETRIED: i32 = 78;

/// The longest delay that failures add up to.
const LONGEST_DELAY: Duration = Duration::from_secs(5 * 60);

/// The shortest run that ends a series of failures.
const SHORTEST_GOOD_RUN: Duration = Duration::from_secs(10);

/// The result of a unit whose main process ended so.
///
/// Nobody knows how the child of an earlier berthd ended (`None`). That counts as an abnormal end: a container
/// that should run and does not is started again by every policy that says so of failures.
pub fn result_of(exit: Option<Exit>) -> &'static str {
    match exit {
        None => result::PROTOCOL,
        Some(Exit::Exited(0 | TERMINATED)) => result::SUCCESS,
        Some(Exit::Exited(_)) => result::EXIT_CODE,
        Some(Exit::Killed(1 | 2 | 13 | 15)) => result::SUCCESS, // SIGHUP, SIGINT, SIGPIPE, SIGTERM
        Some(Exit::Killed(_)) => result::SIGNAL,
        Some(Exit::Dumped(_)) => result::CORE_DUMP,
    }
}

/// What an init or a shell makes of a program that SIGTERM ended (`SuccessExitStatus=143` of the template unit).
const TERMINATED: i32 = 128 + 15;

/// Whether a unit that ended on its own is started again (the table at `Restart=`).
pub fn restarts(policy: Restart, ended: &str, exit: Option<Exit>) -> bool {
    if ended == result::START_LIMIT || exit == Some(Exit::Exited(NOT_RETRIED)) {
        return false;
    }
    match policy {
        Restart::No => false,
        Restart::Always => true,
        Restart::OnSuccess => ended == result::SUCCESS,
        Restart::OnFailure => ended != result::SUCCESS,
        Restart::OnAbnormal => !matches!(ended, result::SUCCESS | result::EXIT_CODE),
        Restart::OnAbort => matches!(ended, result::SIGNAL | result::CORE_DUMP),
    }
}

/// `StartLimitBurst=` in `StartLimitIntervalSec=`: a window that opens with the first start, as systemd counts.
#[derive(Debug, Default)]
pub struct Limiter {
    /// When the window opened.
    opened: Option<Instant>,
    /// Starts in it.
    starts: u32,
}

impl Limiter {
    /// Counts a start, and says whether it may be.
    pub fn admit(&mut self, limit: StartLimit, now: Instant) -> bool {
        if limit.burst == 0 || limit.interval.is_zero() {
            return true;
        }
        match self.opened {
            Some(opened) if now.saturating_duration_since(opened) < limit.interval => {
                self.starts = self.starts.saturating_add(1);
                self.starts <= limit.burst
            }
            _ => {
                *self = Self { opened: Some(now), starts: 1 };
                true
            }
        }
    }
}

/// How long the next automatic restart waits: twice as long after each failure that follows a failure.
#[derive(Debug, Default)]
pub struct Backoff {
    /// Failures in a row.
    failures: u32,
    /// The delay before the present run.
    waited: Duration,
}

impl Backoff {
    /// The delay after a run of the length `ran` with the result `ended`.
    ///
    /// A run longer than ten times the delay before it, and than 10 s, ends the series; so does success.
    pub fn after(&mut self, ended: &str, ran: Duration, base: Duration) -> Duration {
        if ended == result::SUCCESS || ran > (self.waited.max(base).saturating_mul(10)).max(SHORTEST_GOOD_RUN) {
            self.failures = 0;
        }
        let factor = 1u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.waited = base.saturating_mul(factor).min(LONGEST_DELAY.max(base));
        if ended != result::SUCCESS {
            self.failures = self.failures.saturating_add(1);
        }
        self.waited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A point in time, and others after it.
    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn results_follow_the_list_of_clean_exits() {
        for (exit, word) in [
            (Some(Exit::Exited(0)), "success"),
            (Some(Exit::Exited(1)), "exit-code"),
            (Some(Exit::Exited(255)), "exit-code"),
            (Some(Exit::Killed(1)), "success"),
            (Some(Exit::Killed(2)), "success"),
            (Some(Exit::Killed(13)), "success"),
            (Some(Exit::Killed(15)), "success"),
            (Some(Exit::Killed(9)), "signal"),
            (Some(Exit::Killed(11)), "signal"),
            (Some(Exit::Killed(37)), "signal"),
            (Some(Exit::Dumped(11)), "core-dump"),
            (None, "protocol"),
        ] {
            assert_eq!(result_of(exit), word, "{exit:?}");
        }
    }

    #[test]
    fn the_restart_table_is_systemds() {
        let ends = ["success", "exit-code", "signal", "core-dump", "timeout", "protocol", "resources"];
        for (policy, wanted) in [
            (Restart::No, [false; 7]),
            (Restart::Always, [true; 7]),
            (Restart::OnSuccess, [true, false, false, false, false, false, false]),
            (Restart::OnFailure, [false, true, true, true, true, true, true]),
            (Restart::OnAbnormal, [false, false, true, true, true, true, true]),
            (Restart::OnAbort, [false, false, true, true, false, false, false]),
        ] {
            for (end, wanted) in ends.into_iter().zip(wanted) {
                assert_eq!(restarts(policy, end, None), wanted, "{policy:?} after {end}");
            }
            assert!(!restarts(policy, "start-limit-hit", None));
            assert!(!restarts(policy, "exit-code", Some(Exit::Exited(78))), "78 is not retried");
        }
    }

    #[test]
    fn the_limit_counts_from_the_first_start() {
        let (start, limit) = (Instant::now(), StartLimit { burst: 3, interval: Duration::from_secs(10) });
        let mut limiter = Limiter::default();
        for (second, admitted) in [(0, true), (1, true), (9, true), (9, false), (10, true), (11, true), (12, true)] {
            assert_eq!(limiter.admit(limit, at(start, second)), admitted, "at {second} s");
        }
        assert!(!limiter.admit(limit, at(start, 19)));
        let off = StartLimit { burst: 0, ..limit };
        assert!((0..100).all(|_| limiter.admit(off, start)));
    }

    #[test]
    fn delays_double_up_to_five_minutes_and_fall_back() {
        let base = Duration::from_secs(1);
        let mut backoff = Backoff::default();
        for wanted in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            assert_eq!(backoff.after("exit-code", Duration::ZERO, base).as_secs(), wanted);
        }
        let long = Duration::from_secs(3001);
        assert_eq!(backoff.after("exit-code", Duration::from_secs(3000), base).as_secs(), 300, "not yet long");
        assert_eq!(backoff.after("exit-code", long, base), base);
        assert_eq!(backoff.after("exit-code", Duration::from_secs(10), base).as_secs(), 2, "ten seconds are not more");
        assert_eq!(backoff.after("success", Duration::ZERO, base), base);
        assert_eq!(backoff.after("exit-code", Duration::ZERO, base), base, "success is no failure to count");
        assert_eq!(Backoff::default().after("signal", Duration::ZERO, Duration::from_secs(600)).as_secs(), 600);
    }

    #[test]
    fn many_failures_do_not_overflow() {
        let mut backoff = Backoff::default();
        for _ in 0..100 {
            backoff.after("signal", Duration::ZERO, Duration::from_millis(1));
        }
        assert_eq!(backoff.after("signal", Duration::ZERO, Duration::from_millis(1)), LONGEST_DELAY);
    }
}
