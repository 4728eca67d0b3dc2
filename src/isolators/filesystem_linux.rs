//! `filesystem/linux`: a root of the container's own.
//!
//! Mesos: `isolators/filesystem/linux.cpp`. Put right here: nothing is resolved in the host's root, read-only is
//! honoured recursively, a path that cannot be masked fails the start, and a sandbox is its container's alone.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{Check, Container, Isolator, Recorded, Refusal, Support, docker_runtime, volume};
use crate::{
    error::reason,
    host::Host,
    image,
    observe::ContainerStatus,
    plan::{Action, Base, EtcFile, Namespace, Phase, Plan, Source, Step, Top},
    protocol::{Failure, Stage},
    spec::{Image, MachineId, Name, Pull, Spec, VolumeSource},
    state::{Versions, sandbox},
    sys::mount,
};

/// See the module.
#[derive(Debug)]
pub struct FilesystemLinux;

/// Its name.
pub const NAME: &str = "filesystem/linux";

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
        check_layers(layers).map_err(|failure| Refusal { isolator: NAME, key: Some("image.source"), failure })?;
        let top = match (image.read_only, image.writable) {
            (true, _) => Top::ReadOnly,
            (_, true) => Top::Writable,
            _ => Top::Upper,
        };
        plan.namespaces.extend([Namespace::Mount, Namespace::Uts, Namespace::Cgroup]);
        plan.image = Some(found.base(image));
        let name = cx.spec.hostname.clone().unwrap_or_else(|| plan.container.to_string());
        let sandbox = (top != Top::ReadOnly).then(|| PathBuf::from(sandbox::INSIDE));
        let files = files(cx.host, &name, cx.spec.machine_id);
        let mut step = |phase, action| plan.steps.push(Step { isolator: NAME.to_owned(), phase, action });
        let binds = Vec::new();
        step(Phase::Namespaces, Action::EnterRoot { layers: layers.clone(), top, sandbox, files, binds });
        // 64 bytes are all that the kernel takes; what is longer is the file's name.
        let name = name.chars().take(64).collect();
        step(Phase::Namespaces, Action::SetHostname { name });
        step(Phase::Root, Action::MaskPaths);
        for volume in cx.spec.volumes.iter().filter(|volume| matches!(volume.source, VolumeSource::Tmpfs(_))) {
            plan.show(volume::bind_of(cx, volume)?);
        }
        Ok(())
    }

    fn prepare(&self, cx: &Container<'_>) -> Result<(), Failure> {
        let Some((layers, top)) = enter_root(cx.plan) else { return Ok(()) };
        let root = sandbox::root_of(cx.sandbox);
        sandbox::make_root(&root, layers.last().filter(|_| top == Top::Upper).map(PathBuf::as_path))
            .map_err(|error| Failure::prepare("make the directory of the root", &root, &error))?;
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
        let Some((base, (_, top))) = cx.run.plan.image.as_ref().zip(enter_root(&cx.run.plan)) else {
            return Ok(None);
        };
        let how = match top {
            Top::Upper => "changes are the run's",
            Top::ReadOnly => "read-only",
            Top::Writable => "writable",
        };
        let ours = |source: &Source| matches!(source, Source::Tmpfs { .. } | Source::Populated(_));
        let volumes = volume::status(&cx.run.plan, ours).map(|all| format!(", {all}")).unwrap_or_default();
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
fn enter_root(plan: &Plan) -> Option<(&[PathBuf], Top)> {
    plan.steps.iter().find_map(|step| match &step.action {
        Action::EnterRoot { layers, top, .. } => Some((layers.as_slice(), *top)),
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

/// Finds an image that is no root. Reads only.
///
/// # Errors
/// It is not here.
pub fn find_source(host: &Host, source: &image::Source, pull: Pull) -> Result<Found, Failure> {
    let found = find(host, None, source, pull)?;
    check_layers(&found.layers).map(|()| found)
}

/// What overlayfs would only call an invalid argument.
fn check_layers(layers: &[PathBuf]) -> Result<(), Failure> {
    let count = layers.len();
    if count <= mount::MOST_LAYERS {
        return Ok(());
    }
    let most = mount::MOST_LAYERS;
    let message =
        format!("the image has {count} layers, and overlayfs stacks no more than {most}; build it with fewer");
    Err(Failure { stage: Stage::Mounts, errno: None, path: None, message })
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

/// Finds an image: that of a container, which may have been moved or taken back to another version, or that of a volume.
/// Reads only.
///
/// # Errors
/// It is not here.
pub fn find(host: &Host, name: Option<&Name>, source: &image::Source, pull: Pull) -> Result<Found, Failure> {
    let fail = |errno, path: Option<&Path>, message| Failure {
        stage: Stage::Mounts,
        errno,
        path: path.map(Path::to_owned),
        message,
    };
    let image::Source::Rootfs { dir } = source else {
        let store = image::Store::open(&host.root);
        let kept = name.map_or(Ok(None), |name| Versions::kept(&host.root, name, source));
        let found = kept.and_then(|kept| match kept {
            Some(version) => Ok(store.image_of(source, &version)),
            None => store.find(source),
        });
        let found = found.map_err(|error| fail(None, None, error.to_string()))?;
        let missing = || {
            let why = match pull {
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
            format!("{} is no directory; a rootfs: must name one", dir.display()),
        )),
        Err(error) => {
            let why = reason(&error);
            let message = format!("cannot take {} for a root: {why}; create it, or correct its source", dir.display());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_layers_than_overlayfs_stacks_are_refused() {
        let layers = |count| vec![PathBuf::from("/layer"); count];
        assert!(check_layers(&layers(mount::MOST_LAYERS)).is_ok());
        let failure = check_layers(&layers(mount::MOST_LAYERS + 1)).unwrap_err();
        assert!(failure.message.contains("501 layers"), "{failure:?}");
    }
}
