//! `linux/nnp`: nothing that the program executes gives it privileges that it has not (`PR_SET_NO_NEW_PRIVS`, prctl(2)).
//!
//! Mesos: `isolators/linux/nnp.cpp`, for every container. Here a spec can say no: set-user-ID programs are some images'
//! business.

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
pub struct LinuxNnp;

/// Its name.
const NAME: &str = "linux/nnp";

impl Isolator for LinuxNnp {
    fn name(&self) -> &'static str {
        NAME
    }

    fn probe(&self, _host: &Host) -> Support {
        Support::Yes
    }

    fn wanted_by(&self, spec: &Spec) -> Option<&'static str> {
        (spec.no_new_privileges == Some(true)).then_some("no_new_privileges")
    }

    fn check(&self, cx: &Check<'_>, plan: &mut Plan) -> Result<(), Refusal> {
        if cx.spec.no_new_privileges.unwrap_or(true) {
            let action = Action::SetNoNewPrivileges;
            plan.steps.push(Step { isolator: NAME.to_owned(), phase: Phase::Confine, action });
        }
        Ok(())
    }

    fn needs_restart(&self, old: &Spec, new: &Spec) -> Vec<&'static str> {
        if old.no_new_privileges == new.no_new_privileges { Vec::new() } else { vec!["no_new_privileges"] }
    }

    fn status(&self, cx: &Recorded<'_>, _out: &mut ContainerStatus) -> Result<Option<String>, String> {
        let Some(process) = cx.run.process else { return Ok(None) };
        let path = cx.root.at(&format!("/proc/{}/status", process.pid));
        let text =
            fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {}", path.display(), reason(&error)))?;
        Ok(Some(match proc::no_new_privileges(&text) {
            Some(true) => "no new privileges".to_owned(),
            Some(false) => "what it executes can give privileges".to_owned(),
            None => "unknown".to_owned(),
        }))
    }
}
