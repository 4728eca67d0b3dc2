//! `namespaces/pid`: processes of the container see and signal only each other, and end with its PID 1.
//!
//! Mesos: `isolators/namespaces/pid.cpp`. Without it, or with `pid = "host"`, the launcher becomes the program.

use super::{Check, Isolator, Recorded, Refusal, Support, namespace_status};
use crate::{
    host::Host,
    observe::ContainerStatus,
    plan::{Action, Namespace, Phase, Plan, Step},
    spec::{Share, Spec},
};

/// See the module.
#[derive(Debug)]
pub struct NamespacesPid;

/// Its name.
const NAME: &str = "namespaces/pid";

impl Isolator for NamespacesPid {
    fn name(&self) -> &'static str {
        NAME
    }

    fn probe(&self, host: &Host) -> Support {
        if host.has_namespace("pid") {
            Support::Yes
        } else {
            Support::No("the kernel has no pid namespaces; it needs CONFIG_PID_NS".to_owned())
        }
    }

    fn wanted_by(&self, spec: &Spec) -> Option<&'static str> {
        if spec.namespaces.pid == Some(Share::Private) {
            return Some("namespaces.pid");
        }
        spec.service.init.then_some("service.init")
    }

    fn check(&self, cx: &Check<'_>, plan: &mut Plan) -> Result<(), Refusal> {
        if cx.spec.namespaces.pid == Some(Share::Host) {
            return if cx.config.namespaces.allow_host_pid {
                Ok(())
            } else {
                let message = "sharing the host's pid namespace is not allowed here (allow_host_pid = false under \
                               [namespaces] in berthd.toml)";
                Err(Refusal::config(NAME, "namespaces.pid", message.to_owned()))
            };
        }
        plan.namespaces.extend([Namespace::Pid, Namespace::Mount]);
        if cx.spec.image.is_some() {
            // A root of the container's own has a fresh /proc anyway.
            return Ok(());
        }
        plan.steps.push(Step { isolator: NAME.to_owned(), phase: Phase::Mounts, action: Action::MountProc });
        Ok(())
    }

    fn needs_restart(&self, old: &Spec, new: &Spec) -> Vec<&'static str> {
        if old.namespaces.pid == new.namespaces.pid { Vec::new() } else { vec!["namespaces.pid"] }
    }

    fn status(&self, cx: &Recorded<'_>, _out: &mut ContainerStatus) -> Result<Option<String>, String> {
        namespace_status(cx, "pid")
    }
}
