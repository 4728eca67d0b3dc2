//! Facts as a few words.

use std::time::{Duration, SystemTime};

use super::style::Hue;
use crate::{
    manager::Exit,
    observe::{Container, Lifecycle},
    protocol::Failure,
};

/// A state in one word.
pub fn state(state: Lifecycle) -> &'static str {
    match state {
        Lifecycle::Inactive => "inactive",
        Lifecycle::Starting => "starting",
        Lifecycle::Running => "running",
        Lifecycle::Stopping => "stopping",
        Lifecycle::Restarting => "restarting",
        Lifecycle::Stopped => "stopped",
        Lifecycle::Exited => "exited",
        Lifecycle::Failed => "failed",
        Lifecycle::Invalid => "invalid",
        Lifecycle::Masked => "masked",
    }
}

/// A state's colour.
pub fn hue(state: Lifecycle) -> Hue {
    match state {
        Lifecycle::Running => Hue::Good,
        Lifecycle::Starting | Lifecycle::Stopping | Lifecycle::Restarting => Hue::Busy,
        Lifecycle::Failed | Lifecycle::Invalid => Hue::Bad,
        Lifecycle::Inactive | Lifecycle::Stopped | Lifecycle::Exited | Lifecycle::Masked => Hue::Quiet,
    }
}

/// How long ago: `2min ago`; the time itself where it is not readable or lies ahead.
pub fn ago(time: &str, now: SystemTime) -> String {
    let age = humantime::parse_rfc3339(time).ok().and_then(|then| now.duration_since(then).ok());
    age.map_or_else(|| time.to_owned(), |age| format!("{} ago", span(age)))
}

/// A span in its greatest unit.
fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}min"),
        3600..172_800 => format!("{hours}h"),
        172_800..1_209_600 => format!("{days} days"),
        1_209_600..5_184_000 => format!("{} weeks", days / 7),
        5_184_000..63_072_000 => format!("{} months", days / 30),
        _ => format!("{} years", days / 365),
    }
}

/// A signal's name, `SIGKILL`.
pub fn signal(number: i32) -> String {
    nix::sys::signal::Signal::try_from(number).map_or_else(|_| format!("signal {number}"), |s| s.as_str().to_owned())
}

/// How a process ended.
pub fn exit(exit: Exit) -> String {
    match exit {
        Exit::Exited(status) => format!("exit status {status}"),
        Exit::Killed(number) => format!("killed by {}", signal(number)),
        Exit::Dumped(number) => format!("killed by {}, core dumped", signal(number)),
    }
}

/// A failed start: `at prepare: cannot …`.
pub fn failure(failure: &Failure) -> String {
    format!("at {}: {}", stage(failure), failure.message)
}

/// The stage, as the state file writes it.
pub fn stage(failure: &Failure) -> String {
    serde_json::to_value(failure.stage).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

/// How the last run ended: `oom-kill, killed by SIGKILL`.
pub fn ended(container: &Container) -> Option<String> {
    // `exit-code` and `signal` say nothing that the exit itself does not.
    let result =
        container.result.clone().filter(|r| !["exit-code", "signal", "core-dump", "success"].contains(&r.as_str()));
    match (result, container.exit.map(exit)) {
        (Some(result), Some(exit)) => Some(format!("{result}, {exit}")),
        (result, exit) => result.or(exit),
    }
}

/// What is most worth knowing of a container, in one phrase.
pub fn detail(container: &Container) -> String {
    let faulty = matches!(container.state, Lifecycle::Failed | Lifecycle::Invalid | Lifecycle::Restarting);
    let spec = &container.spec;
    if let (true, Some(error)) = (faulty, &container.error) {
        return failure(error);
    }
    if let Some(error) = spec.errors.first() {
        let edit = if container.state == Lifecycle::Invalid { "" } else { "invalid edit: " };
        return format!("{edit}{error}");
    }
    let limitation = container.limitation.as_ref().filter(|_| faulty || container.state == Lifecycle::Exited);
    let parts = [
        limitation.map(|limitation| limitation.message.clone()),
        ended(container).filter(|_| faulty || container.state == Lifecycle::Exited),
        masked(container),
        (!spec.pending.is_empty()).then(|| format!("pending: {}", spec.pending.join(", "))),
        image(container),
        container.isolators.iter().find_map(|i| Some(format!("{}: {}", i.name, i.error.as_ref()?))),
        (container.restarts > 0).then(|| count(container.restarts, "restart")),
        (!spec.warnings.is_empty()).then(|| count(spec.warnings.len(), "warning")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// What is to be known of a container's image: what its next start takes, or does not.
fn image(container: &Container) -> Option<String> {
    let image = container.image.as_ref()?;
    let pending = image.pending.as_ref().map(|digest| format!("pending: image {}", short(digest)));
    pending.or_else(|| image.held_back.as_ref().map(|digest| format!("held back: image {}", short(digest))))
}

/// The first digits of a digest.
pub fn short(digest: &str) -> &str {
    let digits = digest.rsplit(':').next().unwrap_or(digest);
    digits.get(..12).unwrap_or(digits)
}

/// By what a container is masked.
fn masked(container: &Container) -> Option<String> {
    let by = || container.spec.files.first().map_or_else(|| container.unit.clone(), |f| f.display().to_string());
    (container.state == Lifecycle::Masked).then(|| format!("masked by {}", by()))
}

/// `1 restart`, `2 restarts`.
pub fn count(number: impl TryInto<u64>, noun: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// `1.5 GiB`.
pub fn bytes(bytes: u64) -> String {
    let mut unit = 0;
    let mut scaled = bytes;
    while scaled >= 1024 && unit < 6 {
        scaled /= 1024;
        unit += 1;
    }
    let name = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"][unit];
    let whole = 1_u64 << (10 * unit);
    let tenths =
        (bytes % whole).checked_mul(10).map_or_else(|| bytes % whole / (whole / 10), |tenfold| tenfold / whole);
    if tenths == 0 { format!("{scaled} {name}") } else { format!("{scaled}.{tenths} {name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_humane() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1min"),
            (3599, "59min"),
            (3600, "1h"),
            (172_799, "47h"),
            (172_800, "2 days"),
            (1_209_600, "2 weeks"),
            (5_184_000, "2 months"),
            (63_072_000, "2 years"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_time_ahead_or_unreadable_is_shown_as_it_is() {
        let now = humantime::parse_rfc3339("2026-01-31T12:02:05Z").unwrap();
        assert_eq!(ago("2026-01-31T12:00:00.000Z", now), "2min ago");
        assert_eq!(ago("2026-01-31T13:00:00.000Z", now), "2026-01-31T13:00:00.000Z");
        assert_eq!(ago("yesterday", now), "yesterday");
    }

    #[test]
    fn ends_of_processes() {
        assert_eq!(exit(Exit::Exited(3)), "exit status 3");
        assert_eq!(exit(Exit::Killed(9)), "killed by SIGKILL");
        assert_eq!(exit(Exit::Dumped(11)), "killed by SIGSEGV, core dumped");
        assert_eq!(exit(Exit::Killed(37)), "killed by signal 37");
    }

    #[test]
    fn sizes() {
        for (number, text) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (64 << 20, "64 MiB"), (u64::MAX, "15.9 EiB")]
        {
            assert_eq!(bytes(number), text);
        }
    }
}
