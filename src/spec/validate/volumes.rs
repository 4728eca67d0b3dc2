//! Rules for volumes.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::{
    disk,
    report::Report,
    text::{absolute, path},
};
use crate::{
    image,
    source::Complaint,
    spec::{
        Bytes, MountOption, Owner, Ownership, Propagation, Tmpfs, Volume, VolumeMode, VolumeSource, VolumeType,
        fragment::VolumeFragment, words::UserWord,
    },
    state::sandbox,
};

/// Trees of the kernel's own, and why nothing may be laid over them.
const KERNEL: [(&str, &str); 3] = [
    ("/proc", "it belongs to the pid namespace"),
    ("/sys", "it is the kernel's view of the devices and the cgroups"),
    ("/dev", "devices and /dev/shm are the isolators' business"),
];

/// Most volumes of one container; each is a mount, and each is compared with each.
const MOST_VOLUMES: usize = 1000;

/// Mode of a directory that is made.
const DIRECTORY_MODE: u32 = 0o755;

/// Mode of a tmpfs: everybody's, as the kernel has it.
const TMPFS_MODE: u32 = 0o1777;

/// All volumes, in the order written. Which of them can be mounted with `image` or without is told too.
pub fn volumes(fragments: Vec<VolumeFragment>, image: Option<bool>, report: &mut Report<'_>) -> Vec<Volume> {
    if fragments.len() > MOST_VOLUMES {
        report.error("volumes", Complaint::new(format!("more than {MOST_VOLUMES} volumes")));
        return Vec::new();
    }
    let (mut volumes, mut places) = (Vec::new(), BTreeMap::<PathBuf, Vec<usize>>::new());
    for (index, fragment) in fragments.into_iter().enumerate() {
        let mut one = One { index, report };
        let target = one.target(&fragment, image);
        if let Some(target) = &target {
            places.entry(Path::new(sandbox::INSIDE).join(target)).or_default().push(index);
        }
        let source = one.source(&fragment);
        if let Some((container_path, source)) = target.zip(source) {
            let limit = one.limit(&fragment, &source, &volumes);
            volumes.extend(one.volume(container_path, source, fragment).map(|volume| Volume { limit, ..volume }));
        }
    }
    for (path, indices) in places.into_iter().filter(|(_, indices)| indices.len() > 1) {
        for index in &indices {
            let complaint = Complaint::new(format!("{} volumes are to be seen at {}", indices.len(), path.display()));
            report.error(&format!("volumes.{index}.container_path"), complaint.help("keep one of them"));
        }
    }
    volumes
}

/// The tree of the kernel's own that a path lies in, and why nothing may be laid over that.
pub fn kernel_tree(path: &Path) -> Option<(&'static str, &'static str)> {
    KERNEL.into_iter().find(|(tree, _)| path.starts_with(tree))
}

/// One volume, while it is checked.
struct One<'r, 'a> {
    /// Which.
    index: usize,
    /// Where what is wrong goes.
    report: &'r mut Report<'a>,
}

impl One<'_, '_> {
    /// An error about one of its keys.
    fn error(&mut self, key: &str, complaint: Complaint) {
        self.report.error(&format!("volumes.{}.{key}", self.index), complaint);
    }

    /// The value of a key, by its rule.
    fn text<T>(&mut self, key: &str, text: &str, rule: impl Fn(&str) -> Result<T, Complaint>) -> Option<T> {
        rule(text).map_err(|wrong| self.error(key, wrong)).ok()
    }

    /// The value of a key that must be there.
    fn needed<T>(
        &mut self,
        key: &str,
        text: &Option<String>,
        missing: &str,
        rule: impl Fn(&str) -> Result<T, Complaint>,
    ) -> Option<T> {
        match text {
            Some(text) => self.text(key, text, rule),
            None => {
                self.error(key, Complaint::new(format!("{key} is missing")).help(missing));
                None
            }
        }
    }

    /// Where the container sees it. `image` is whether there is one, and whether it is read-only.
    fn target(&mut self, fragment: &VolumeFragment, image: Option<bool>) -> Option<PathBuf> {
        let path = self.needed("container_path", &fragment.container_path, "where the container sees it", target)?;
        let in_sandbox = Path::new(sandbox::INSIDE);
        let complaint = match image {
            Some(true) if path.is_relative() => {
                Complaint::new("a relative path lies in the sandbox, which a `read_only` root does not show")
                    .help("write an absolute path that the image has")
            }
            Some(false) if path.is_absolute() && in_sandbox.starts_with(&path) => {
                Complaint::new(format!("this would hide the sandbox, {}", in_sandbox.display()))
                    .help("choose a path that does not contain it")
            }
            _ => return Some(path),
        };
        self.error("container_path", complaint);
        None
    }

    /// What the container sees there, by its type.
    fn source(&mut self, fragment: &VolumeFragment) -> Option<VolumeSource> {
        let kind = fragment.kind.unwrap_or_default();
        let alien = [
            ("host_path", fragment.host_path.is_some(), VolumeType::Bind),
            ("source", fragment.source.is_some(), VolumeType::Image),
            ("pull", fragment.pull.is_some(), VolumeType::Image),
            ("size", fragment.size.is_some(), VolumeType::Tmpfs),
        ];
        let mut wrong = false;
        for (key, _, of) in alien.into_iter().filter(|(_, there, of)| *there && *of != kind) {
            wrong = true;
            let complaint = Complaint::new(format!("`{key}` belongs to a volume of the type \"{}\"", word(of)));
            self.error(key, complaint.help(format!("write type = \"{}\", or leave it out", word(of))));
        }
        if wrong {
            return None;
        }
        match kind {
            VolumeType::Bind => {
                let help = "relative: in the sandbox; absolute: on the host; or write type = \"tmpfs\" or \"image\"";
                self.needed("host_path", &fragment.host_path, help, source).map(VolumeSource::Path)
            }
            VolumeType::Tmpfs => {
                if fragment.size.is_some_and(|size| size.0 == 0) {
                    let complaint = Complaint::new("zero would mean no limit");
                    self.error("size", complaint.help("write a size, or nothing"));
                }
                let ownership = ownership(fragment, TMPFS_MODE);
                Some(VolumeSource::Tmpfs(Tmpfs { size: fragment.size, ownership }))
            }
            VolumeType::Image => {
                let rule = |text: &str| {
                    text.parse::<image::Source>().map_err(|error| Complaint::new(error.message).help(error.help))
                };
                let help = "write source = \"docker://NAME:TAG\", \"oci:/PATH\" or \"rootfs:/PATH\"";
                self.needed("source", &fragment.source, help, rule).map(VolumeSource::Image)
            }
        }
    }

    /// All of it, if what is said of it goes together.
    fn volume(&mut self, container_path: PathBuf, source: VolumeSource, fragment: VolumeFragment) -> Option<Volume> {
        let on_host = matches!(&source, VolumeSource::Path(path) if path.is_absolute());
        let in_sandbox = matches!(&source, VolumeSource::Path(path) if path.is_relative());
        let image = matches!(source, VolumeSource::Image(_));
        let made = matches!(source, VolumeSource::Tmpfs(_)) || (on_host && fragment.create == Some(true));
        if in_sandbox && container_path.is_relative() {
            let complaint = Complaint::new("what is in the sandbox is seen there already")
                .help("write an absolute container_path, or an absolute host_path");
            self.error("container_path", complaint);
        }
        if fragment.create.is_some() && !on_host {
            let complaint = match in_sandbox {
                true => Complaint::new("a directory of the sandbox is always made").help("leave it out"),
                false => Complaint::new("only an absolute host_path can be created").help("leave it out"),
            };
            self.error("create", complaint);
        }
        let help = "write create = true with an absolute host_path, or type = \"tmpfs\"";
        for (key, there) in [("directory_mode", fragment.directory_mode.is_some()), ("owner", fragment.owner.is_some())]
        {
            if there && !made {
                self.error(key, Complaint::new(format!("`{key}` is of a directory that is made")).help(help));
            }
        }
        let mode = fragment.mode.unwrap_or(if image { VolumeMode::RO } else { VolumeMode::RW });
        if image && mode == VolumeMode::RW {
            let complaint = Complaint::new("an image is shared and cannot be changed");
            self.error("mode", complaint.help("write \"RO\", or leave it out"));
        }
        if fragment.pull.is_some() && matches!(source, VolumeSource::Image(image::Source::Rootfs { .. })) {
            let complaint = Complaint::new("a directory is used as it is; there is nothing to pull");
            self.error("pull", complaint.help("leave it out"));
        }
        Some(Volume {
            pull: fragment.pull.unwrap_or_default(),
            subpath: self.subpath(&fragment, on_host || image),
            create: (on_host && made).then(|| ownership(&fragment, DIRECTORY_MODE)),
            options: self.options(&fragment),
            propagation: self.propagation(&fragment, on_host, in_sandbox, mode),
            container_path,
            source,
            mode,
            limit: None,
        })
    }

    /// What may lie in it. What is the host's is not the container's alone, and what two limits hold for would have to
    /// be counted twice.
    fn limit(&mut self, fragment: &VolumeFragment, source: &VolumeSource, before: &[Volume]) -> Option<Bytes> {
        let limit = fragment.limit?;
        let path = match source {
            VolumeSource::Path(path) if path.is_relative() => Some(path),
            _ => None,
        };
        let limited = before.iter().filter(|other| other.limit.is_some()).filter_map(Volume::in_sandbox);
        let other = path.and_then(|path| limited.into_iter().find(|other| overlap(path, other)));
        let complaint = match (disk::refused(limit), source, path, other) {
            (Some(complaint), ..) => complaint,
            (None, VolumeSource::Tmpfs(_), ..) => {
                Complaint::new("what is in memory takes nothing of the disk").help("write `size`")
            }
            (None, _, None, _) => Complaint::new("what is not in the sandbox is not the container's to fill")
                .help("give the volume a relative host_path"),
            (None, _, Some(path), Some(other)) => {
                let (path, other) = (path.display(), other.display());
                Complaint::new(format!("{path} and {other} of another volume with a limit lie in one another"))
            }
            (None, _, Some(_), None) => return Some(limit),
        };
        self.error("limit", complaint);
        None
    }

    /// The part of the source that is seen.
    fn subpath(&mut self, fragment: &VolumeFragment, possible: bool) -> Option<PathBuf> {
        let text = fragment.subpath.as_ref()?;
        let complaint = if !possible {
            Complaint::new("only an absolute host_path and an image have a `subpath`")
                .help("in the sandbox, write it into host_path")
        } else if fragment.create == Some(true) {
            Complaint::new("`create` makes host_path itself, and nothing below it")
                .help("write the whole path into host_path, without a subpath")
        } else {
            return self.text("subpath", text, relative);
        };
        self.error("subpath", complaint);
        None
    }

    /// What it denies.
    fn options(&mut self, fragment: &VolumeFragment) -> BTreeSet<MountOption> {
        fragment.options.iter().flatten().map(|option| option.0).collect()
    }

    /// Which mounts are seen where.
    fn propagation(
        &mut self,
        fragment: &VolumeFragment,
        on_host: bool,
        in_sandbox: bool,
        mode: VolumeMode,
    ) -> Option<Propagation> {
        let propagation = fragment.propagation?;
        let complaint = match propagation {
            _ if !on_host && !in_sandbox => {
                Complaint::new("nothing of the host's is ever mounted there").help("leave it out")
            }
            Propagation::Private => return Some(propagation),
            _ if mode == VolumeMode::RO => {
                Complaint::new("what is mounted below a read-only volume later would arrive writable")
                    .help("write propagation = \"private\", or mode = \"RW\"")
            }
            Propagation::Bidirectional if in_sandbox => {
                Complaint::new("the sandbox is no place for mounts of the host's").help("give it an absolute host_path")
            }
            _ => return Some(propagation),
        };
        self.error("propagation", complaint);
        None
    }
}

/// Whether one path is the other or lies in it, by whole components.
fn overlap(a: &Path, b: &Path) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

/// A type as it is written.
fn word(kind: VolumeType) -> &'static str {
    match kind {
        VolumeType::Bind => "bind",
        VolumeType::Tmpfs => "tmpfs",
        VolumeType::Image => "image",
    }
}

/// Mode and owner of what is made.
fn ownership(fragment: &VolumeFragment, mode: u32) -> Ownership {
    let owner = fragment.owner.clone().map(|UserWord { user, group }| Owner { user, group });
    Ownership { mode: fragment.directory_mode.map_or(mode, |mode| mode.0), owner }
}

/// Where a volume may be seen.
fn target(text: &str) -> Result<PathBuf, Complaint> {
    let path = path(text)?;
    if path == Path::new("/") {
        return Err(Complaint::new("the whole filesystem cannot be a volume"));
    }
    if path.as_os_str().is_empty() {
        return Err(Complaint::new("a volume cannot cover the sandbox itself").help("name a directory in it"));
    }
    match kernel_tree(&path) {
        Some((tree, reason)) => Err(Complaint::new(format!("nothing may be mounted over {tree}: {reason}"))),
        None => Ok(path),
    }
}

/// What a volume may show.
fn source(text: &str) -> Result<PathBuf, Complaint> {
    let path = path(text)?;
    if path.as_os_str().is_empty() {
        return Err(Complaint::new("the sandbox itself cannot be a volume").help("name a directory in it"));
    }
    Ok(path)
}

/// A path in a source.
fn relative(text: &str) -> Result<PathBuf, Complaint> {
    if absolute(text).is_ok() {
        let complaint = Complaint::new("a subpath is relative to its source");
        return Err(complaint.help(format!("write \"{}\"", text.trim_start_matches('/'))));
    }
    let path = path(text)?;
    if path.as_os_str().is_empty() {
        return Err(Complaint::new("this is the source itself").help("leave it out"));
    }
    Ok(path)
}
