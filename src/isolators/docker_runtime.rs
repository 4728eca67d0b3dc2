//! `docker/runtime`: what runs in a root of the container's own, where, and as whom.
//!
//! Mesos: `isolators/docker/runtime.cpp`. Put right here: users and groups are those of the root's own files, and a
//! working directory that cannot be made fails the start with its reason.

use std::path::Path;

use super::{Check, Isolator, Refusal, Support, filesystem_linux::Found};
use crate::{
    host::Host,
    image,
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
        let Some((image, Found { config, .. })) = cx.spec.image.as_ref().zip(cx.found) else { return Ok(()) };
        plan.warnings.extend(warnings(config));
        let said = config.working_dir.as_deref().map(|path| Path::new("/").join(path));
        if let Some(path) = cx.spec.working_directory.clone().or(said).filter(|_| !image.read_only) {
            let action = Action::MakeDirectory { path };
            plan.steps.push(Step { isolator: NAME.to_owned(), phase: Phase::Root, action });
        }
        Ok(())
    }
}

/// What the image says and berth does not do.
fn warnings(config: &image::Config) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(signal) = &config.stop_signal {
        all.push(format!("the image's StopSignal {signal} is not heeded; write service.stop_signal = \"{signal}\""));
    }
    if !config.volumes.is_empty() {
        let paths = config.volumes.join(", ");
        all.push(format!("the image's Volumes {paths} are part of the root, and end with the run; write [[volumes]]"));
    }
    all.extend(config.healthcheck.iter().map(|check| format!("the image's Healthcheck is not run: {check}")));
    all.extend(config.not_understood.iter().map(|key| format!("the image says {key}, which berth does not heed")));
    all
}
