//! `filesystem/linux`: a root of the container's own.
//!
//! Mesos: `isolators/filesystem/linux.cpp`. Put right here: nothing is resolved in the host's root, read-only is
//! honoured recursively, a path that cannot be masked fails the start, and a sandbox is its container's alone.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{Check, Container, Isolator, Recorded, Refusal, Support, docker_runtime};
use crate::{
    error::reason,
    host::Host,
    image,
    inside::Inside,
    observe::ContainerStatus,
    plan::{Action, Base, Bind, EtcFile, Namespace, Phase, Plan, Source, Step, Top},
    protocol::{Failure, Stage},
    spec::{Image, MachineId, Pull, Spec, Volume, VolumeMode},
    state::sandbox::{self, Beneath},
    sys::mount,
};

/// See the module.
#[derive(Debug)]
pub struct FilesystemLinux;

/// Its name.
const NAME: &str = "filesystem/linux";

/// Mode of a private directory that covers nothing of the image's.
const PRIVATE_MODE: u32 = 0o755;

impl Isolator for FilesystemLinux {
    fn name(&self) -> &'static str {
        NAME
    }

    fn probe(&self, host: &Host) -> Support {
        match ["mnt", "uts", "cgroup"].into_iter().find(|kind| !host.has_namespace(kind)) {
            None => Support::Yes,
            Some(kind) => Support::No(format!("the kernel has no {kind} namespaces")),
        }
    }

    fn wanted_by(&self, spec: &Spec) -> Option<&'static str> {
        spec.image.as_ref().map(|_| "image")
    }

    fn check(&self, cx: &Check<'_>, plan: &mut Plan) -> Result<(), Refusal> {
        let Some((image, found @ Found { layers, .. })) = cx.spec.image.as_ref().zip(cx.found) else { return Ok(()) };
        for volume in &cx.spec.volumes {
            check_volume(cx.host, volume)?;
        }
        check_layers(layers)?;
        let top = match (image.read_only, image.writable) {
            (true, _) => Top::ReadOnly,
            (_, true) => Top::Writable,
            _ => Top::Upper,
        };
        plan.namespaces.extend([Namespace::Mount, Namespace::Uts, Namespace::Cgroup]);
        plan.image = Some(found.base(image));
        let name = cx.spec.hostname.clone().unwrap_or_else(|| plan.container.to_string());
        let mut binds: Vec<Bind> = cx.spec.volumes.iter().map(bind_of).collect();
        binds.sort_by_key(|bind| bind.target.components().count());
        let sandbox = (top != Top::ReadOnly).then(|| PathBuf::from(sandbox::INSIDE));
        let files = files(cx.host, &name, cx.spec.machine_id);
        let mut step = |phase, action| plan.steps.push(Step { isolator: NAME.to_owned(), phase, action });
        step(Phase::Namespaces, Action::EnterRoot { layers: layers.clone(), top, sandbox, files, binds });
        // 64 bytes are all that the kernel takes; what is longer is the file's name.
        let name = name.chars().take(64).collect();
        step(Phase::Namespaces, Action::SetHostname { name });
        step(Phase::Root, Action::MaskPaths);
        Ok(())
    }

    fn prepare(&self, cx: &Container<'_>) -> Result<(), Failure> {
        let Some((layers, top, binds)) = enter_root(cx.plan) else { return Ok(()) };
        let failed = |act: &str, path: &Path, error: &io::Error| Failure {
            stage: Stage::Prepare,
            errno: error.raw_os_error(),
            message: format!("cannot {act} {}: {}", path.display(), reason(error)),
            path: Some(path.to_owned()),
        };
        let root = sandbox::root_of(cx.sandbox);
        sandbox::make_root(&root, layers.last().filter(|_| top == Top::Upper).map(PathBuf::as_path))
            .map_err(|error| failed("make the directory of the root", &root, &error))?;
        for bind in binds {
            if let Source::Sandbox(relative) = &bind.source {
                let made = make_private(cx, layers, relative, &bind.target);
                made.map_err(|error| failed("make the private directory", &cx.sandbox.join(relative), &error))?;
            }
        }
        Ok(())
    }

    fn needs_restart(&self, old: &Spec, new: &Spec) -> Vec<&'static str> {
        let differs = [
            ("image", !same_root(old.image.as_ref(), new.image.as_ref())),
            ("hostname", old.hostname != new.hostname),
            ("machine_id", old.machine_id != new.machine_id),
        ];
        differs.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
    }

    fn status(&self, cx: &Recorded<'_>, _out: &mut ContainerStatus) -> Result<Option<String>, String> {
        let Some((base, (_, top, binds))) = cx.run.plan.image.as_ref().zip(enter_root(&cx.run.plan)) else {
            return Ok(None);
        };
        let how = match top {
            Top::Upper => "changes are the run's",
            Top::ReadOnly => "read-only",
            Top::Writable => "writable",
        };
        let volumes: String = binds
            .iter()
            .map(|bind| {
                let mode = if bind.read_only { " (read-only)" } else { "" };
                format!(", {} from {}{mode}", bind.target.display(), bind.source.path().display())
            })
            .collect();
        Ok(Some(format!("root {} ({how}){volumes}", base.source)))
    }

    fn cleanup(&self, cx: &Recorded<'_>) -> Result<(), String> {
        if cx.run.plan.image.is_none() {
            return Ok(());
        }
        let root = sandbox::root_of(&cx.run.sandbox);
        match fs::remove_dir_all(&root) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(format!("cannot remove {}: {}", root.display(), reason(&error)))
            }
            _ => Ok(()),
        }
    }
}

/// The parts of the step that this isolator's host side serves.
fn enter_root(plan: &Plan) -> Option<(&[PathBuf], Top, &[Bind])> {
    plan.steps.iter().find_map(|step| match &step.action {
        Action::EnterRoot { layers, top, binds, .. } => Some((layers.as_slice(), *top, binds.as_slice())),
        _ => None,
    })
}

/// The image of a spec, found.
#[derive(Debug, Clone)]
pub struct Found {
    /// Which it is; a directory is none.
    pub digest: Option<image::Digest>,
    /// What it says; a directory says nothing.
    pub config: image::Config,
    /// The directories that it is made of, lowest first.
    pub layers: Vec<PathBuf>,
}

impl Found {
    /// What a plan keeps of it.
    fn base(&self, image: &Image) -> Base {
        Base {
            source: image.source.clone(),
            digest: self.digest.clone(),
            layers: self.layers.clone(),
            stop_signal: docker_runtime::stop_signal(&self.config),
            exposed_ports: self.config.exposed_ports.clone(),
            labels: self.config.labels.clone(),
        }
    }
}

/// Finds an image. Reads only.
///
/// # Errors
/// It is not here.
pub fn find(host: &Host, image: &Image) -> Result<Found, Failure> {
    let fail = |errno, path: Option<&Path>, message| Failure {
        stage: Stage::Mounts,
        errno,
        path: path.map(Path::to_owned),
        message,
    };
    let source = &image.source;
    let image::Source::Rootfs { dir } = source else {
        let found = image::Store::open(&host.root).find(source);
        let found = found.map_err(|error| fail(None, None, error.to_string()))?;
        let missing = || {
            let why = match image.pull {
                Pull::Never => "is not on this host, and pull = \"never\"; get it with",
                _ => "is not on this host yet; a start gets it, and so does",
            };
            fail(None, None, format!("the image {source} {why} 'berthctl pull {source}'"))
        };
        let image::Image { digest, config, layers, .. } = found.ok_or_else(missing)?;
        return Ok(Found { digest: Some(digest), config, layers });
    };
    let there = host.path(dir);
    match fs::metadata(&there) {
        Ok(found) if found.is_dir() => {
            Ok(Found { digest: None, config: image::Config::default(), layers: vec![there] })
        }
        Ok(_) => Err(fail(
            Some(libc::ENOTDIR),
            Some(dir),
            format!("{} is no directory; image.source must name one", dir.display()),
        )),
        Err(error) => {
            let why = reason(&error);
            let message =
                format!("cannot take {} for a root: {why}; create it, or correct image.source", dir.display());
            Err(fail(error.raw_os_error(), Some(dir), message))
        }
    }
}

/// Whether two specs have the same root.
fn same_root(old: Option<&Image>, new: Option<&Image>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => old.gives_the_same(new),
        (old, new) => old.is_none() && new.is_none(),
    }
}

/// A failure of one key's.
fn refusal(key: &'static str, failure: Failure) -> Refusal {
    Refusal { isolator: NAME, key: Some(key), failure }
}

/// What only the host can tell about a volume: whether its source is there.
fn check_volume(host: &Host, volume: &Volume) -> Result<(), Refusal> {
    if volume.host_path.is_relative() {
        return Ok(());
    }
    let source = volume.host_path.as_path();
    fs::metadata(host.path(source)).map(drop).map_err(|error| {
        let message =
            format!("the volume source {} cannot be used: {}; create it first", source.display(), reason(&error));
        let failure =
            Failure { stage: Stage::Mounts, errno: error.raw_os_error(), path: Some(source.to_owned()), message };
        refusal("volumes.host_path", failure)
    })
}

/// What overlayfs would only call an invalid argument.
fn check_layers(layers: &[PathBuf]) -> Result<(), Refusal> {
    let count = layers.len();
    if count <= mount::MOST_LAYERS {
        return Ok(());
    }
    let most = mount::MOST_LAYERS;
    let message =
        format!("the image has {count} layers, and overlayfs stacks no more than {most}; build it with fewer");
    Err(refusal("image.source", Failure { stage: Stage::Mounts, errno: None, path: None, message }))
}

/// The bind that shows a volume.
fn bind_of(volume: &Volume) -> Bind {
    let source = match volume.host_path.is_absolute() {
        true => Source::Host(volume.host_path.clone()),
        false => Source::Sandbox(volume.host_path.clone()),
    };
    Bind { source, target: volume.container_path.clone(), read_only: volume.mode == VolumeMode::RO }
}

/// What the run has in `/etc` in place of the image's: the host's names and resolvers, since the network is the host's.
fn files(host: &Host, name: &str, machine_id: MachineId) -> Vec<EtcFile> {
    let read = |path: &str| fs::read_to_string(host.root.at(path)).unwrap_or_default();
    let file = |name: &str, text: String| EtcFile { name: name.to_owned(), text };
    let hosts = read("/etc/hosts");
    let hosts = if hosts.is_empty() { "127.0.0.1\tlocalhost\n::1\tlocalhost\n".to_owned() } else { hosts };
    let end = if hosts.ends_with('\n') { "" } else { "\n" };
    let mut files = vec![
        file("hosts", format!("{hosts}{end}127.0.1.1\t{name}\n")),
        file("hostname", format!("{name}\n")),
        file("resolv.conf", read("/etc/resolv.conf")),
    ];
    let host_id = read("/etc/machine-id");
    match machine_id {
        MachineId::Image => {}
        MachineId::Host => files.push(file("machine-id", host_id)),
        MachineId::Own => files
            .push(file("machine-id", format!("{}\n", crate::spec::short_hash(format!("{host_id}{name}").as_bytes())))),
    }
    files
}

/// Makes `relative` inside the sandbox, with owner and mode of what it will cover in the image; where the image has
/// nothing there, it is the container's user's.
fn make_private(cx: &Container<'_>, layers: &[PathBuf], relative: &Path, target: &Path) -> io::Result<()> {
    let model = Inside::of_layers(layers)?.look(target)?;
    let (uid, gid) = cx.plan.owner();
    let (mode, uid, gid) =
        model.map_or((PRIVATE_MODE, uid, gid), |model| (model.st_mode & 0o7777, model.st_uid, model.st_gid));
    Beneath::open(cx.sandbox)?.make_dir(relative, mode, uid, gid).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_layers_than_overlayfs_stacks_are_refused() {
        let layers = |count| vec![PathBuf::from("/layer"); count];
        assert!(check_layers(&layers(mount::MOST_LAYERS)).is_ok());
        let refusal = check_layers(&layers(mount::MOST_LAYERS + 1)).unwrap_err();
        assert_eq!(refusal.key, Some("image.source"));
        assert!(refusal.failure.message.contains("501 layers"), "{refusal:?}");
    }
}
