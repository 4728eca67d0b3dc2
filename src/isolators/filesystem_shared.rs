//! `filesystem/shared`: the host's filesystem, with parts of it exchanged for the container's own.
//!
//! Mesos: `isolators/filesystem/shared.cpp`. Put right here: read-only is honoured (recursively), prefixes are
//! compared by components, `..` never leaves the sandbox, and the sandbox is never followed through symlinks.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use super::{Check, Container, Isolator, Recorded, Refusal, Support};
use crate::{
    host::Host,
    observe::ContainerStatus,
    plan::{Action, Bind, Namespace, Phase, Plan, Source, Step},
    protocol::{Failure, Stage},
    spec::{Spec, Volume, VolumeMode},
    state::sandbox::Beneath,
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
        let volumes = &cx.spec.volumes;
        // With a root of the container's own, they are `filesystem/linux`'s.
        if volumes.is_empty() || cx.spec.image.is_some() {
            return Ok(());
        }
        for volume in volumes {
            check_volume(cx, volume)?;
        }
        plan.namespaces.insert(Namespace::Mount);
        let binds = volumes.iter().map(bind_of).collect();
        plan.steps.push(Step { isolator: NAME.to_owned(), phase: Phase::Mounts, action: Action::Bind { binds } });
        Ok(())
    }

    fn prepare(&self, cx: &Container<'_>) -> Result<(), Failure> {
        for bind in binds(cx.plan) {
            if let Source::Sandbox(relative) = &bind.source {
                make_private(cx, relative, &bind.target)?;
            }
        }
        Ok(())
    }

    fn needs_restart(&self, old: &Spec, new: &Spec) -> Vec<&'static str> {
        let same = old.volumes.len() == new.volumes.len();
        let same = same && old.volumes.iter().zip(&new.volumes).all(|(old, new)| old.shows_as(new));
        if same { Vec::new() } else { vec!["volumes"] }
    }

    fn status(&self, cx: &Recorded<'_>, _out: &mut ContainerStatus) -> Result<Option<String>, String> {
        let all: Vec<String> = binds(&cx.run.plan)
            .map(|bind| {
                let mode = if bind.read_only { " (read-only)" } else { "" };
                match &bind.source {
                    Source::Host(path) => format!("{} from {}{mode}", bind.target.display(), path.display()),
                    Source::Sandbox(_) | Source::Populated(_) => format!("{} private{mode}", bind.target.display()),
                }
            })
            .collect();
        Ok((!all.is_empty()).then(|| all.join(", ")))
    }
}

/// The binds that this isolator planned.
fn binds(plan: &Plan) -> impl Iterator<Item = &Bind> {
    plan.steps.iter().filter(|step| step.isolator == NAME).flat_map(|step| match &step.action {
        Action::Bind { binds } => binds.as_slice(),
        _ => &[],
    })
}

/// The bind that shows a volume.
fn bind_of(volume: &Volume) -> Bind {
    let source = if volume.host_path.is_absolute() {
        Source::Host(volume.host_path.clone())
    } else {
        Source::Sandbox(volume.host_path.clone())
    };
    Bind { source, target: volume.container_path.clone(), read_only: volume.mode == VolumeMode::RO }
}

/// What only the host can tell about a volume; its form was checked with the spec.
fn check_volume(cx: &Check<'_>, volume: &Volume) -> Result<(), Refusal> {
    let target = &volume.container_path;
    if cx.sandboxes.starts_with(target) {
        let message = format!(
            "the volume at {} would hide the sandbox {}; choose a container_path that does not contain it",
            target.display(),
            cx.sandboxes.display()
        );
        return Err(Refusal::config(NAME, "volumes.container_path", message));
    }
    let target_kind = existing(cx.host, target, "volumes.container_path", |reason| {
        format!(
            "the container path {} of a volume cannot be used: {reason}; it must exist on the host, since the \
             container has no image",
            target.display()
        )
    })?;
    if volume.host_path.is_relative() {
        return if target_kind.is_dir() {
            Ok(())
        } else {
            let message = format!(
                "the container path {} is not a directory, so it cannot be private to the container; give the \
                 volume an absolute host_path",
                target.display()
            );
            Err(Refusal::config(NAME, "volumes.container_path", message))
        };
    }
    let source_kind = existing(cx.host, &volume.host_path, "volumes.host_path", |reason| {
        format!("the volume source {} cannot be used: {reason}; create it first", volume.host_path.display())
    })?;
    if source_kind.is_dir() == target_kind.is_dir() {
        return Ok(());
    }
    let message = format!(
        "the volume source {} and the container path {} are not of one kind: a directory covers a directory, a \
         file covers a file",
        volume.host_path.display(),
        target.display()
    );
    Err(Refusal::config(NAME, "volumes.host_path", message))
}

/// The kind of what exists at `path`, or a refusal that carries the kernel's reason.
fn existing(
    host: &Host,
    path: &Path,
    key: &'static str,
    message: impl Fn(String) -> String,
) -> Result<fs::FileType, Refusal> {
    fs::metadata(host.path(path)).map(|meta| meta.file_type()).map_err(|error| Refusal {
        isolator: NAME,
        key: Some(key),
        failure: Failure {
            stage: Stage::Mounts,
            errno: error.raw_os_error(),
            path: Some(path.to_owned()),
            message: message(crate::error::reason(&error)),
        },
    })
}

/// Makes `relative` inside the sandbox, with owner and mode of what it will cover (`/tmp` gives 1777).
fn make_private(cx: &Container<'_>, relative: &Path, target: &Path) -> Result<(), Failure> {
    let failed = |path: PathBuf, act: &str, error: &std::io::Error| Failure {
        stage: Stage::Prepare,
        errno: error.raw_os_error(),
        message: format!("cannot {act} {}: {}", path.display(), crate::error::reason(error)),
        path: Some(path),
    };
    let model = fs::metadata(cx.host.path(target)).map_err(|e| failed(target.to_owned(), "look at", &e))?;
    let inside = || cx.sandbox.join(relative);
    let sandbox = Beneath::open(cx.sandbox).map_err(|e| failed(cx.sandbox.to_owned(), "open the sandbox", &e))?;
    sandbox
        .make_dir(relative, model.permissions().mode() & 0o7777, model.uid(), model.gid())
        .map(drop)
        .map_err(|e| failed(inside(), "make the private directory", &e))
}
