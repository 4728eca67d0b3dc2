//! `filesystem/shared`: the host's filesystem, with parts of it exchanged for the container's own.
//!
//! Mesos: `isolators/filesystem/shared.cpp`. Put right here: read-only is honoured (recursively), prefixes are
//! compared by components, `..` never leaves the sandbox, and the sandbox is never followed through symlinks.

use std::{fs, path::Path};

use super::{Check, Container, Isolator, Recorded, Refusal, Support, volume};
use crate::{
    host::Host,
    observe::ContainerStatus,
    plan::{Action, Bind, Namespace, Phase, Plan, Source, Step},
    protocol::Failure,
    spec::{Spec, Volume, VolumeSource},
};

/// See the module.
#[derive(Debug)]
pub struct FilesystemShared;

/// Its name.
const NAME: &str = "filesystem/shared";

impl Isolator for FilesystemShared {
    fn name(&self) -> &'static str {
        NAME
    }

    fn probe(&self, host: &Host) -> Support {
        if host.has_namespace("mnt") {
            Support::Yes
        } else {
            Support::No("the kernel has no mount namespaces; it needs CONFIG_NAMESPACES".to_owned())
        }
    }

    fn wanted_by(&self, spec: &Spec) -> Option<&'static str> {
        (spec.image.is_none() && !spec.volumes.is_empty()).then_some("volumes")
    }

    fn check(&self, cx: &Check<'_>, plan: &mut Plan) -> Result<(), Refusal> {
        // With a root of the container's own, they are others'.
        if cx.spec.volumes.is_empty() || cx.spec.image.is_some() {
            return Ok(());
        }
        plan.namespaces.insert(Namespace::Mount);
        let action = Action::Bind { binds: Vec::new() };
        plan.steps.push(Step { isolator: NAME.to_owned(), phase: Phase::Mounts, action });
        for spec in &cx.spec.volumes {
            let is_image = matches!(spec.source, VolumeSource::Image(_));
            check_target(cx, spec)?;
            if !is_image {
                let bind = volume::bind_of(cx, spec)?;
                check_kinds(cx, spec, &bind)?;
                plan.show(bind);
            }
        }
        Ok(())
    }

    fn prepare(&self, cx: &Container<'_>) -> Result<(), Failure> {
        if cx.plan.image.is_some() {
            return Ok(());
        }
        volume::host_path::create(cx)?;
        volume::make_private(cx)
    }

    fn needs_restart(&self, old: &Spec, new: &Spec) -> Vec<&'static str> {
        let same = old.volumes.len() == new.volumes.len();
        let same = same && old.volumes.iter().zip(&new.volumes).all(|(old, new)| old.shows_as(new));
        if same { Vec::new() } else { vec!["volumes"] }
    }

    fn status(&self, cx: &Recorded<'_>, _out: &mut ContainerStatus) -> Result<Option<String>, String> {
        let plan = &cx.run.plan;
        if plan.image.is_some() {
            return Ok(None);
        }
        Ok(volume::status(plan, |source| !matches!(source, Source::Image { .. })))
    }
}

/// Whether a volume's place is inside another's, where the host's tree says nothing about it.
fn is_covered(cx: &Check<'_>, volume: &Volume) -> bool {
    let above = |other: &Volume| {
        volume.container_path != other.container_path && volume.container_path.starts_with(&other.container_path)
    };
    cx.spec.volumes.iter().any(above)
}

/// What only the host can tell about the place of a volume; its form was checked with the spec.
fn check_target(cx: &Check<'_>, volume: &Volume) -> Result<(), Refusal> {
    let target = &volume.container_path;
    if target.is_relative() || is_covered(cx, volume) {
        return Ok(());
    }
    if cx.sandboxes.starts_with(target) {
        let message = format!(
            "the volume at {} would hide the sandbox {}; choose a container_path that does not contain it",
            target.display(),
            cx.sandboxes.display()
        );
        return Err(Refusal::config(NAME, "volumes.container_path", message));
    }
    kind_at(cx.host, target).map(drop)
}

/// What is at a place of the host's.
fn kind_at(host: &Host, target: &Path) -> Result<fs::FileType, Refusal> {
    fs::metadata(host.path(target)).map(|found| found.file_type()).map_err(|error| {
        let message = format!(
            "the container path {} of a volume cannot be used: {}; it must exist on the host, since the container has \
             no image",
            target.display(),
            crate::error::reason(&error)
        );
        volume::refusal(NAME, "volumes.container_path", target, error.raw_os_error(), message)
    })
}

/// That what is seen can lie on what is there.
fn check_kinds(cx: &Check<'_>, volume: &Volume, bind: &Bind) -> Result<(), Refusal> {
    let source = volume::host_path::check_source(cx.host, bind, NAME)?;
    let target = &volume.container_path;
    if target.is_relative() || is_covered(cx, volume) {
        return Ok(());
    }
    let is_directory = kind_at(cx.host, target)?.is_dir();
    match (&bind.source, source) {
        (Source::Sandbox(_), _) if !is_directory => {
            let message = format!(
                "the container path {} is not a directory, so it cannot be private to the container; give the \
                 volume an absolute host_path",
                target.display()
            );
            Err(Refusal::config(NAME, "volumes.container_path", message))
        }
        (_, source) if source.is_none_or(|kind| kind.is_dir()) == is_directory => Ok(()),
        _ => {
            let message = format!(
                "the volume source {} and the container path {} are not of one kind: a directory covers a directory, a \
                 file covers a file",
                bind.source,
                target.display()
            );
            Err(Refusal::config(NAME, "volumes.host_path", message))
        }
    }
}
