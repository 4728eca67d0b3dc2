//! What is to be done about one container, and how its state is called: pure, from what is wanted, what was done
//! and what the service manager sees.
//!
//! A running container is compared with its spec each time (so an edit that a crash of berthd interrupted is still
//! carried out). A container that does not run is started only when its files changed since berthd last acted, or
//! were never seen in this boot: an operator's stop is not undone.

use crate::{
    manager::{Active, Exit, JobVerb, Unit},
    observe::Lifecycle,
    plan,
    spec::{OnChange, Spec},
    state::Record,
};

/// What the files say.
#[derive(Debug, Clone, Copy)]
pub enum Wanted<'a> {
    /// A good spec, and its digest.
    Good(&'a Spec, &'a str),
    /// Mistakes: what runs is left alone.
    Bad,
    /// Masked by an empty file or a link to `/dev/null`.
    Masked,
    /// No file.
    Gone,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Nothing, and nothing is owed.
    Rest,
    /// Nothing now: a job or a transition is under way, and its end asks again.
    Wait,
    /// A job; when it is done the spec has been acted on.
    Job(JobVerb),
    /// Nothing, but the spec counts as acted on.
    Acknowledge,
    /// Clean up what is left and forget the container.
    Forget,
}

/// Decides. `busy`: a job or a launch of this container is under way.
#[must_use]
pub fn deed(wanted: Wanted<'_>, record: &Record, unit: &Unit, busy: bool) -> Deed {
    if busy {
        return Deed::Wait;
    }
    match wanted {
        Wanted::Bad => Deed::Rest,
        Wanted::Gone | Wanted::Masked => unwanted(wanted, record, unit),
        Wanted::Good(spec, digest) => {
            let edited = record.acted_on.as_deref() != Some(digest);
            let deed = good(spec, digest, edited, record, unit);
            if deed == Deed::Rest && edited { Deed::Acknowledge } else { deed }
        }
    }
}

/// Decides for a container without a spec of its own.
fn unwanted(wanted: Wanted<'_>, record: &Record, unit: &Unit) -> Deed {
    match unit.active {
        Active::Inactive | Active::Failed if matches!(wanted, Wanted::Gone) || !record.is_blank() => Deed::Forget,
        Active::Inactive | Active::Failed => Deed::Rest,
        Active::Deactivating => Deed::Wait,
        // Somebody starts what has no spec: its launcher is about to be refused, with the reason.
        Active::Activating if unit.sub != "auto-restart" && record.run.is_none() => Deed::Wait,
        _ => Deed::Job(JobVerb::Stop),
    }
}

/// Decides for a good spec.
fn good(spec: &Spec, digest: &str, edited: bool, record: &Record, unit: &Unit) -> Deed {
    if unit.masked {
        return Deed::Rest;
    }
    match unit.active {
        Active::Active | Active::Reloading => {
            if spec.on_change == OnChange::Restart && !pending(spec, digest, record, unit).is_empty() {
                Deed::Job(JobVerb::TryRestart)
            } else {
                Deed::Rest
            }
        }
        Active::Activating if unit.sub == "auto-restart" => {
            if edited && record.acted_on.is_some() {
                Deed::Job(JobVerb::Restart)
            } else {
                Deed::Rest
            }
        }
        Active::Activating | Active::Deactivating => Deed::Wait,
        Active::Inactive | Active::Failed => {
            let state = lifecycle(Wanted::Good(spec, digest), record, unit);
            let first = record.acted_on.is_none();
            // A start that systemd queued at boot, before the unit had its settings, is asked for again so that
            // `requires` and `wants` are heeded.
            let asked = spec.autostart || (first && unit.queued);
            if asked && edited && (first || state != Lifecycle::Stopped) {
                Deed::Job(JobVerb::Start)
            } else {
                Deed::Rest
            }
        }
    }
}

/// The keys in which a running container differs from its spec and that only a restart applies.
#[must_use]
pub fn pending(spec: &Spec, digest: &str, record: &Record, unit: &Unit) -> Vec<&'static str> {
    let running = match &record.run {
        Some(run) if unit.invocation.as_ref() == Some(&run.invocation) && run.digest != digest => Some(&run.spec),
        // The record was lost, and what it runs counts as what its files said when it was found.
        None if matches!(unit.active, Active::Active | Active::Reloading) => record.spec.as_ref(),
        _ => None,
    };
    running.map(|running| plan::needs_restart(running, spec)).unwrap_or_default()
}

/// The state of a container in one word.
#[must_use]
pub fn lifecycle(wanted: Wanted<'_>, record: &Record, unit: &Unit) -> Lifecycle {
    match unit.active {
        Active::Active | Active::Reloading => Lifecycle::Running,
        Active::Activating if unit.sub == "auto-restart" => Lifecycle::Restarting,
        Active::Activating => Lifecycle::Starting,
        Active::Deactivating => Lifecycle::Stopping,
        _ if unit.masked || matches!(wanted, Wanted::Masked) => Lifecycle::Masked,
        Active::Failed if killed_by_stop(unit) => Lifecycle::Stopped,
        Active::Failed => Lifecycle::Failed,
        Active::Inactive => rest(wanted, record, unit),
    }
}

/// The state of a container whose unit is inactive.
fn rest(wanted: Wanted<'_>, record: &Record, unit: &Unit) -> Lifecycle {
    match (&record.failure, &record.last) {
        (Some(_), _) => Lifecycle::Failed,
        (None, Some(last)) if last.stopped => Lifecycle::Stopped,
        (None, Some(_)) => Lifecycle::Exited,
        // The record was lost while it ran; its unit still knows.
        (None, None) if unit.stopped => Lifecycle::Stopped,
        (None, None) if matches!(wanted, Wanted::Bad) && record.spec.is_none() => Lifecycle::Invalid,
        (None, None) => Lifecycle::Inactive,
    }
}

/// Whether a unit counts as failed for no reason but that stopping it took a SIGKILL: a clean stop, whose
/// `failed` state berthd resets. A unit that was masked has lost its `ExecStop=` and cannot tell that it was stopped;
/// whoever masks it stops it.
#[must_use]
pub fn killed_by_stop(unit: &Unit) -> bool {
    unit.active == Active::Failed
        && (unit.stopped || unit.masked)
        && unit.exit == Some(Exit::Killed(libc::SIGKILL))
        && matches!(unit.result.as_str(), "signal" | "timeout")
}

/// Whether the run of a record has ended: its unit is at rest, waits for its restart, or is in a later run.
#[must_use]
pub fn has_ended(invocation: &str, unit: &Unit) -> bool {
    match unit.active {
        Active::Inactive | Active::Failed => true,
        Active::Activating if unit.sub.starts_with("auto-restart") => true,
        _ => unit.invocation.as_deref().is_some_and(|present| present != invocation),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Config,
        host::Host,
        plan::{Build, build},
        root::Root,
        spec::{Defaults, Name, Outcome, digest, load_files},
        state::{Ended, Run},
    };

    /// A spec from its text.
    fn spec(text: &str) -> Spec {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.toml");
        std::fs::write(&path, text).unwrap();
        let (mut loaded, strays) = load_files(&[path], &Defaults::default());
        assert!(strays.is_empty(), "{strays:?}");
        match loaded.remove(0).outcome {
            Outcome::Good(spec) => Spec { autostart: true, ..*spec },
            other => panic!("{other:?}"),
        }
    }

    /// A record of a run of `spec` by the invocation `a`, acted on.
    fn running(spec: &Spec) -> Record {
        let name: Name = "web".parse().unwrap();
        let host = Host::read(&Root::default());
        let config = Config::default();
        let plan = build(Build { name: &name, spec, host: &host, enabled: &[], config: &config }).unwrap();
        let run = Run {
            invocation: "a".to_owned(),
            spec: spec.clone(),
            digest: digest(spec),
            plan,
            sandbox: "/sandbox".into(),
            process: None,
            cgroup: None,
            limitation: None,
        };
        Record { acted_on: Some(digest(spec)), spec: Some(spec.clone()), run: Some(run), ..Record::new(name, "boot") }
    }

    /// A record of a container that ran and is at rest.
    fn rested(spec: &Spec, stopped: bool) -> Record {
        let last = Ended {
            stopped,
            result: "success".to_owned(),
            exit: None,
            at: String::new(),
            sandbox: None,
            limitation: None,
        };
        Record { run: None, last: Some(last), ..running(spec) }
    }

    /// A unit in this state, of the invocation `a`.
    fn unit(active: Active, sub: &str) -> Unit {
        Unit { active, sub: sub.to_owned(), invocation: Some("a".to_owned()), ..Unit::default() }
    }

    #[test]
    fn a_good_spec_is_carried_out_and_an_operator_is_not_contradicted() {
        let (old, new) = (spec("command = 'a'"), spec("command = 'b'"));
        let live = spec("command = 'a'\n[service]\nrestart = 'always'");
        let manual = spec("command = 'b'\non_change = 'manual'");
        let vendor = Spec { autostart: false, ..new.clone() };
        let fresh = Record::new("web".parse().unwrap(), "boot");
        let (up, down, dead) =
            (unit(Active::Active, "running"), unit(Active::Inactive, "dead"), unit(Active::Failed, "failed"));
        let waits = unit(Active::Activating, "auto-restart");
        let queued = Unit { queued: true, ..down.clone() };
        let masked = Unit { masked: true, ..down.clone() };
        let table = [
            ("first seen", &new, fresh.clone(), &down, Deed::Job(JobVerb::Start)),
            ("first seen, a vendor's", &vendor, fresh.clone(), &down, Deed::Acknowledge),
            ("a vendor's, enabled, at boot", &vendor, fresh.clone(), &queued, Deed::Job(JobVerb::Start)),
            ("first seen, masked", &new, fresh.clone(), &masked, Deed::Acknowledge),
            ("first seen, runs already", &new, fresh, &up, Deed::Acknowledge),
            ("runs, unchanged", &old, running(&old), &up, Deed::Rest),
            ("runs, edited", &new, running(&old), &up, Deed::Job(JobVerb::TryRestart)),
            ("runs, edited, what is live", &live, running(&old), &up, Deed::Acknowledge),
            ("runs, edited, by hand", &manual, running(&old), &up, Deed::Acknowledge),
            ("stopped, unchanged", &old, rested(&old, true), &down, Deed::Rest),
            ("stopped, edited", &new, rested(&old, true), &down, Deed::Acknowledge),
            ("exited, unchanged", &old, rested(&old, false), &down, Deed::Rest),
            ("exited, edited", &new, rested(&old, false), &down, Deed::Job(JobVerb::Start)),
            ("failed, unchanged", &old, rested(&old, false), &dead, Deed::Rest),
            ("failed, edited", &new, rested(&old, false), &dead, Deed::Job(JobVerb::Start)),
            ("waits, unchanged", &old, rested(&old, false), &waits, Deed::Rest),
            ("waits, edited", &new, rested(&old, false), &waits, Deed::Job(JobVerb::Restart)),
            ("on its way up", &new, running(&old), &unit(Active::Activating, "start"), Deed::Wait),
            ("on its way down", &new, running(&old), &unit(Active::Deactivating, "stop"), Deed::Wait),
        ];
        for (case, spec, record, unit, expected) in table {
            let digest = digest(spec);
            assert_eq!(deed(Wanted::Good(spec, &digest), &record, unit, false), expected, "{case}");
            assert_eq!(deed(Wanted::Good(spec, &digest), &record, unit, true), Deed::Wait, "{case}, busy");
        }
    }

    #[test]
    fn a_container_without_a_good_spec_is_stopped_only_if_its_file_is_gone() {
        let spec = spec("command = 'a'");
        let (up, down) = (unit(Active::Active, "running"), unit(Active::Inactive, "dead"));
        let launching = unit(Active::Activating, "start");
        let fresh = Record::new("web".parse().unwrap(), "boot");
        let table = [
            (Wanted::Bad, running(&spec), &up, Deed::Rest),
            (Wanted::Bad, rested(&spec, true), &down, Deed::Rest),
            (Wanted::Gone, running(&spec), &up, Deed::Job(JobVerb::Stop)),
            (Wanted::Gone, rested(&spec, true), &down, Deed::Forget),
            (Wanted::Gone, fresh.clone(), &launching, Deed::Wait),
            (Wanted::Masked, running(&spec), &up, Deed::Job(JobVerb::Stop)),
            (Wanted::Masked, rested(&spec, true), &down, Deed::Forget),
            (Wanted::Masked, fresh, &down, Deed::Rest),
        ];
        for (wanted, record, unit, expected) in table {
            assert_eq!(deed(wanted, &record, unit, false), expected, "{wanted:?} {unit:?}");
        }
    }

    #[test]
    fn a_kill_counts_as_a_clean_stop_only_while_stopping() {
        let killed = |stopped, result: &str, exit| Unit {
            stopped,
            result: result.to_owned(),
            exit: Some(exit),
            ..unit(Active::Failed, "failed")
        };
        assert!(killed_by_stop(&killed(true, "signal", Exit::Killed(9))));
        assert!(killed_by_stop(&killed(true, "timeout", Exit::Killed(9))));
        assert!(!killed_by_stop(&killed(false, "signal", Exit::Killed(9))), "somebody else's kill");
        assert!(!killed_by_stop(&killed(true, "core-dump", Exit::Dumped(11))), "it crashed while stopping");
        assert!(!killed_by_stop(&killed(true, "oom-kill", Exit::Killed(9))));
    }
}
