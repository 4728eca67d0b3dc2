//! Rules for volumes.

use std::path::{Path, PathBuf};

use super::{
    disk,
    report::Report,
    text::{absolute, path},
};
use crate::{
    source::Complaint,
    spec::{Bytes, Volume, fragment::VolumeFragment},
};

/// Trees of the kernel's own, and why nothing may be laid over them.
const KERNEL: [(&str, &str); 3] = [
    ("/proc", "it belongs to the pid namespace"),
    ("/sys", "it is the kernel's view of the devices and the cgroups"),
    ("/dev", "devices and /dev/shm are the isolators' business"),
];

/// Most volumes of one container; each is a mount, and each is compared with each.
const MOST_VOLUMES: usize = 1000;

/// All volumes, in the order written.
pub fn volumes(fragments: Vec<VolumeFragment>, report: &mut Report<'_>) -> Vec<Volume> {
    if fragments.len() > MOST_VOLUMES {
        report.error("volumes", Complaint::new(format!("more than {MOST_VOLUMES} volumes")));
        return Vec::new();
    }
    let (mut volumes, mut targets) = (Vec::new(), Vec::<PathBuf>::new());
    for (index, fragment) in fragments.into_iter().enumerate() {
        let (Some(container_path), host_path) = paths(index, &fragment, report) else { continue };
        if let Some(other) = targets.iter().find(|other| overlap(&container_path, other)) {
            let (path, other) = (container_path.display(), other.display());
            let complaint = Complaint::new(format!("{path} and {other} of another volume lie in one another"));
            report.error(&format!("volumes.{index}.container_path"), complaint);
        }
        targets.push(container_path.clone());
        let mode = fragment.mode.unwrap_or_default();
        let Some(host_path) = host_path else { continue };
        let limit = fragment.limit.and_then(|limit| limited(index, limit, &host_path, &volumes, report));
        volumes.push(Volume { container_path, host_path, mode, limit });
    }
    volumes
}

/// The limit of one volume. What is the host's is not the container's alone, and what two limits hold for would have to be
/// counted twice.
fn limited(index: usize, limit: Bytes, host_path: &Path, before: &[Volume], report: &mut Report<'_>) -> Option<Bytes> {
    let other = before.iter().find(|other| other.limit.is_some() && overlap(host_path, &other.host_path));
    let complaint = match (disk::refused(limit), other) {
        (Some(complaint), _) => complaint,
        _ if host_path.is_absolute() => Complaint::new("a directory of the host's is not the container's to fill")
            .help("give the volume a relative host_path, in the sandbox"),
        (_, Some(other)) => {
            let (path, other) = (host_path.display(), other.host_path.display());
            Complaint::new(format!("{path} and {other} of another volume with a limit lie in one another"))
        }
        (None, None) => return Some(limit),
    };
    report.error(&format!("volumes.{index}.limit"), complaint);
    None
}

/// The two paths of one volume, as far as they are sound.
fn paths(index: usize, fragment: &VolumeFragment, report: &mut Report<'_>) -> (Option<PathBuf>, Option<PathBuf>) {
    let mut at = |key: &str, text: &Option<String>, missing: &str, rule: Rule| match text {
        Some(text) => rule(text).map_err(|wrong| report.error(&format!("volumes.{index}.{key}"), wrong)).ok(),
        None => {
            report.error(&format!("volumes.{index}.{key}"), Complaint::new(format!("{key} is missing")).help(missing));
            None
        }
    };
    (
        at("container_path", &fragment.container_path, "where the container sees it", target),
        at("host_path", &fragment.host_path, "relative: in the sandbox; absolute: on the host", source),
    )
}

/// How a path is checked.
type Rule = fn(&str) -> Result<PathBuf, Complaint>;

/// Where a volume may be seen.
fn target(text: &str) -> Result<PathBuf, Complaint> {
    let path = absolute(text)?;
    if path == Path::new("/") {
        return Err(Complaint::new("the whole filesystem cannot be a volume"));
    }
    match kernel_tree(&path) {
        Some((tree, reason)) => Err(Complaint::new(format!("nothing may be mounted over {tree}: {reason}"))),
        None => Ok(path),
    }
}

/// The tree of the kernel's own that a path lies in, and why nothing may be laid over that.
pub fn kernel_tree(path: &Path) -> Option<(&'static str, &'static str)> {
    KERNEL.into_iter().find(|(tree, _)| path.starts_with(tree))
}

/// What a volume may show.
fn source(text: &str) -> Result<PathBuf, Complaint> {
    let path = path(text)?;
    if path.as_os_str().is_empty() {
        return Err(Complaint::new("the sandbox itself cannot be a volume").help("name a directory in it"));
    }
    Ok(path)
}

/// Whether one path is the other or lies in it, by whole components.
fn overlap(a: &Path, b: &Path) -> bool {
    a.starts_with(b) || b.starts_with(a)
}
