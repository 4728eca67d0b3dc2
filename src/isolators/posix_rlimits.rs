//! `posix/rlimits`: resource limits of the program (setrlimit(2)).
//!
//! Mesos: `isolators/posix/rlimits.cpp`. Put right here: limits that cannot be are refused when they are read, the start
//! fails where one cannot be set, and only the program is bound, not what starts it or stands between.

use std::fs;

use super::{Check, Isolator, Recorded, Refusal, Support};
use crate::{
    error::reason,
    host::Host,
    observe::ContainerStatus,
    plan::{Action, Phase, Plan, Step},
    spec::Spec,
    sys::proc,
};

/// See the module.
#[derive(Debug)]
pub struct PosixRlimits;

/// Its name.
const NAME: &str = "posix/rlimits";

impl Isolator for PosixRlimits {
    fn name(&self) -> &'static str {
        NAME
    }

    fn probe(&self, _host: &Host) -> Support {
        Support::Yes
    }

    fn wanted_by(&self, spec: &Spec) -> Option<&'static str> {
        (!spec.rlimits.is_empty()).then_some("rlimits")
    }

    fn check(&self, cx: &Check<'_>, plan: &mut Plan) -> Result<(), Refusal> {
        if !cx.spec.rlimits.is_empty() {
            let action = Action::SetRlimits { limits: cx.spec.rlimits.clone() };
            plan.steps.push(Step { isolator: NAME.to_owned(), phase: Phase::Limits, action });
        }
        Ok(())
    }

    fn needs_restart(&self, old: &Spec, new: &Spec) -> Vec<&'static str> {
        if old.rlimits == new.rlimits { Vec::new() } else { vec!["rlimits"] }
    }

    fn status(&self, cx: &Recorded<'_>, _out: &mut ContainerStatus) -> Result<Option<String>, String> {
        let (Some(process), Some(limits)) = (cx.run.process, cx.run.plan.rlimits()) else { return Ok(None) };
        let path = cx.root.at(&format!("/proc/{}/limits", process.pid));
        let text =
            fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {}", path.display(), reason(&error)))?;
        // What holds, and not what was asked: the program may have changed it.
        let said = limits.keys().map(|resource| match proc::limit(&text, resource.title()) {
            Some(limit) => format!("{resource} {limit}"),
            None => format!("{resource} unknown"),
        });
        Ok(Some(said.collect::<Vec<_>>().join(", ")))
    }
}
