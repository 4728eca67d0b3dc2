//! Rules for what the service manager decides.

use std::{collections::HashSet, time::Duration};

use super::report::Report;
use crate::{
    source::{Complaint, nearest},
    spec::{
        Service, StartLimit,
        fragment::{ServiceFragment, StartLimitFragment},
        words::Timespan,
    },
};

/// What a unit's name may end in (systemd.unit(5)).
const SUFFIXES: [&str; 11] =
    ["service", "socket", "target", "device", "mount", "automount", "swap", "timer", "path", "slice", "scope"];

/// The whole table.
pub fn service(fragment: ServiceFragment, report: &mut Report<'_>) -> Service {
    let default = Service::default();
    let delay = finite("service.restart_delay", fragment.restart_delay, report);
    let mut list = |key, units: Option<Vec<String>>| units_of(key, units.unwrap_or_default(), report);
    let (after, before) = (list("after", fragment.after), list("before", fragment.before));
    let (requires, wants) = (list("requires", fragment.requires), list("wants", fragment.wants));
    let known: HashSet<&String> = after.iter().collect();
    if let Some(index) = before.iter().position(|unit| known.contains(unit)) {
        let complaint = Complaint::new(format!("{} is in `after` too; it cannot be both", before[index]));
        report.error(&format!("service.before.{index}"), complaint);
    }
    Service {
        restart: fragment.restart.unwrap_or(default.restart),
        restart_delay: delay.unwrap_or(default.restart_delay),
        start_limit: start_limit(fragment.start_limit.unwrap_or_default(), default.start_limit, report),
        start_timeout: timeout("service.start_timeout", fragment.start_timeout, report)
            .unwrap_or(default.start_timeout),
        stop_signal: fragment.stop_signal,
        stop_timeout: timeout("service.stop_timeout", fragment.stop_timeout, report).unwrap_or(default.stop_timeout),
        after,
        before,
        requires,
        wants,
        init: fragment.init.unwrap_or(default.init),
    }
}

/// The limit of starts.
fn start_limit(fragment: StartLimitFragment, default: StartLimit, report: &mut Report<'_>) -> StartLimit {
    let interval = finite("service.start_limit.interval", fragment.interval, report);
    StartLimit { burst: fragment.burst.unwrap_or(default.burst), interval: interval.unwrap_or(default.interval) }
}

/// A span that must end.
fn finite(path: &str, span: Option<Timespan>, report: &mut Report<'_>) -> Option<Duration> {
    if span == Some(Timespan::INFINITY) {
        report.error(path, Complaint::new("this cannot be \"infinity\""));
    }
    span.map(|span| span.0)
}

/// A timeout: to systemd, zero is none at all (systemd.service(5)), which is not what is read here.
fn timeout(path: &str, span: Option<Timespan>, report: &mut Report<'_>) -> Option<Duration> {
    if span == Some(Timespan(Duration::ZERO)) {
        let help = "write \"infinity\" for no limit, or a short time such as \"100ms\"";
        report.error(path, Complaint::new("a timeout of zero means none to systemd").help(help));
    }
    span.map(|span| span.0)
}

/// Checks a list of units.
fn units_of(key: &str, units: Vec<String>, report: &mut Report<'_>) -> Vec<String> {
    for (index, unit) in units.iter().enumerate() {
        if report.is_full() {
            break;
        }
        let complaint = if *unit == report.name.unit() {
            Err(Complaint::new("this is the container's own unit"))
        } else {
            unit_name(unit)
        };
        if let Err(complaint) = complaint {
            report.error(&format!("service.{key}.{index}"), complaint);
        }
    }
    units
}

/// Whether a unit can have this name (systemd's unit_name_is_valid, templates without an instance refused).
fn unit_name(unit: &str) -> Result<(), Complaint> {
    let invalid = || Complaint::new(format!("\"{unit}\" is no unit name"));
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\' | '@');
    if unit.is_empty() || unit.len() > 255 || !unit.chars().all(allowed) {
        return Err(invalid().help("use letters, digits and `:-_.\\@`; systemd-escape(1) escapes the rest"));
    }
    let (name, suffix) = unit.rsplit_once('.').unwrap_or((unit, ""));
    if !SUFFIXES.contains(&suffix) {
        let near = nearest(suffix, SUFFIXES).map_or(format!("{unit}.service"), |near| format!("{name}.{near}"));
        return Err(invalid().help(format!("did you mean \"{near}\"?")));
    }
    match name.split_once('@') {
        Some(("", _)) => Err(invalid()),
        Some((_, "")) => Err(invalid().help("a template needs an instance: name@instance.service")),
        _ if name.is_empty() => Err(invalid()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::unit_name;

    #[test]
    fn unit_names_are_systemds() {
        for valid in ["a.service", "berth@db.service", "dev-sda\\x2d1.device", "-.mount", "a.b.target", "a@b@c.service"]
        {
            assert_eq!(unit_name(valid), Ok(()), "{valid}");
        }
        let long = format!("{}.service", "a".repeat(250));
        for wrong in ["", "a", "a b.service", "@a.service", "a@.service", ".service", "a.srvice", "a/b.service", &long]
        {
            assert!(unit_name(wrong).is_err(), "{wrong}");
        }
        assert_eq!(unit_name("a.servcie").unwrap_err().help.unwrap(), "did you mean \"a.service\"?");
        assert_eq!(unit_name("nginx").unwrap_err().help.unwrap(), "did you mean \"nginx.service\"?");
    }
}
