//! `volume/sandbox_path`: directories of the sandbox in a root of the container's own.
//!
//! Mesos: `isolators/volume/sandbox_path.cpp`, type SELF. Put right here: `..` is refused, no symbolic link in the
//! sandbox is followed, and a directory has owner and mode of what it covers.

use super::{bind_of, make_private, status};
use crate::{
    host::Host,
    isolators::{Check, Container, Isolator, Recorded, Refusal, Support},
    observe::ContainerStatus,
    plan::{Plan, Source},
    protocol::Failure,
    spec::Spec,
};

/// See the module.
#[derive(Debug)]
pub struct SandboxPath;

/// Its name.
const NAME: &str = "volume/sandbox_path";

impl Isolator for SandboxPath {
    fn name(&self) -> &'static str {
        NAME
    }

    fn probe(&self, _host: &Host) -> Support {
        Support::Yes
    }

    fn wanted_by(&self, spec: &Spec) -> Option<&'static str> {
        (spec.image.is_some() && spec.volumes.iter().any(|volume| volume.in_sandbox().is_some())).then_some("volumes")
    }

    fn check(&self, cx: &Check<'_>, plan: &mut Plan) -> Result<(), Refusal> {
        if cx.spec.image.is_none() {
            // They are `filesystem/shared`'s.
            return Ok(());
        }
        for volume in cx.spec.volumes.iter().filter(|volume| volume.in_sandbox().is_some()) {
            plan.show(bind_of(cx, volume)?);
        }
        Ok(())
    }

    fn prepare(&self, cx: &Container<'_>) -> Result<(), Failure> {
        match cx.plan.image {
            Some(_) => make_private(cx),
            None => Ok(()),
        }
    }

    fn status(&self, cx: &Recorded<'_>, _out: &mut ContainerStatus) -> Result<Option<String>, String> {
        let plan = &cx.run.plan;
        Ok(plan.image.as_ref().and_then(|_| status(plan, |source| matches!(source, Source::Sandbox(_)))))
    }
}
