//! `docker/runtime`: what runs in a root of the container's own, where, and as whom.
//!
//! Mesos: `isolators/docker/runtime.cpp`. Put right here: users and groups are those of the root's own files, and a
//! working directory that cannot be made fails the start with its reason.

use std::path::{Component, Path, PathBuf};

use super::{Check, Isolator, Refusal, Support, filesystem_linux::Found};
use crate::{
    host::Host,
    image,
    plan::{Action, Bind, Phase, Plan, Source, Step},
    spec::{self, Signal, Spec},
    state::sandbox,
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
        plan.warnings.extend(warnings(cx.spec, config));
        add_volumes(cx.spec, config, plan);
        let said = config.working_dir.as_deref().map(|path| Path::new("/").join(path));
        if let Some(path) = cx.spec.working_directory.clone().or(said).filter(|_| !image.read_only) {
            let action = Action::MakeDirectory { path };
            plan.steps.push(Step { isolator: NAME.to_owned(), phase: Phase::Root, action });
        }
        Ok(())
    }
}

/// Adds the image's `Volumes`, each a directory of the sandbox; a volume of the spec at
/// the same place, or above, takes it.
fn add_volumes(spec: &Spec, config: &image::Config, plan: &mut Plan) {
    let mut own = Vec::<Bind>::new();
    for written in &config.volumes {
        let target = Path::new("/").join(written);
        let is_plain = target.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        if !is_plain || target.parent().is_none() || spec::kernel_tree(&target).is_some() {
            plan.warnings.push(format!("the image's volume {written} is no place for one, and there is none"));
            continue;
        }
        // Spelled as its components are, so that one path is one volume.
        let target: PathBuf = target.components().collect();
        let is_taken = spec.volumes.iter().any(|volume| target.starts_with(&volume.container_path));
        if !is_taken && !own.iter().any(|bind| bind.target == target) {
            own.push(Bind::new(Source::Populated(sandbox::image_volume(&target)), target, false));
        }
    }
    own.into_iter().for_each(|bind| plan.show(bind));
}

/// The image's `StopSignal`; one that is no signal is none.
#[must_use]
pub fn stop_signal(config: &image::Config) -> Option<Signal> {
    config.stop_signal.as_ref().and_then(|signal| signal.parse().ok())
}

/// What the image says and berth does not do.
fn warnings(spec: &Spec, config: &image::Config) -> Vec<String> {
    let mut all = Vec::new();
    if let (Some(signal), None, None) = (&config.stop_signal, stop_signal(config), spec.service.stop_signal) {
        all.push(format!("the image's StopSignal {signal} is no signal, SIGTERM is sent; write service.stop_signal"));
    }
    all.extend(config.healthcheck.iter().map(|check| format!("the image's Healthcheck is not run: {check}")));
    all.extend(config.not_understood.iter().map(|key| format!("the image says {key}, which berth does not heed")));
    all
}
