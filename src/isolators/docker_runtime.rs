//! `docker/runtime`: what runs in a root of the container's own, where, and as whom.
//!
//! Mesos: `isolators/docker/runtime.cpp`. Put right here: users and groups are those of the root's own files, and a
//! working directory that cannot be made fails the start with its reason.

use super::{Check, Isolator, Refusal, Support};
use crate::{
    host::Host,
    plan::{Action, Phase, Plan, Step},
    spec::Spec,
};

/// See the module.
#[derive(Debug)]
pub struct DockerRuntime;

/// Its name.
const NAME: &str = "docker/runtime";

impl Isolator for DockerRuntime {
    fn name(&self) -> &'static str {
        NAME
    }

    fn probe(&self, _host: &Host) -> Support {
        Support::Yes
    }

    fn wanted_by(&self, spec: &Spec) -> Option<&'static str> {
        spec.image.as_ref().map(|_| "image")
    }

    fn check(&self, cx: &Check<'_>, plan: &mut Plan) -> Result<(), Refusal> {
        let Some(image) = &cx.spec.image else { return Ok(()) };
        if let Some(path) = cx.spec.working_directory.clone().filter(|_| !image.read_only) {
            let action = Action::MakeDirectory { path };
            plan.steps.push(Step { isolator: NAME.to_owned(), phase: Phase::Root, action });
        }
        Ok(())
    }
}
