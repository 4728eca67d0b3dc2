//! Volumes without races: each source is opened once, cloned detached, completed, attached.

use std::{
    ffi::OsStr,
    fs::OpenOptions,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    path::{Component, Path, PathBuf},
};

use nix::mount::{MntFlags, umount2};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fchmod, fstat, mkdirat, openat, openat2};

use super::failure::{failure, refusal};
use crate::{
    inside::{resolve, resolve_beneath},
    plan::{Bind, Made, Plan, Source},
    protocol::{Failure, Stage},
    spec::{Bytes, MountOption, Propagation},
    sys::mount::{self, Denied, Depth, LayerOptions},
};

/// The volumes whose mounts the host sees too: opened while the mounts of this namespace are still peers of the host's.
#[derive(Debug, Default)]
pub(super) struct Peers(Vec<(PathBuf, OwnedFd)>);

impl Peers {
    /// Opens them, before anything is isolated.
    pub fn open(plan: &Plan) -> Result<Self, Failure> {
        let shared = plan.binds().iter().filter(|bind| bind.propagation == Propagation::Bidirectional);
        shared.map(|bind| Ok((bind.target.clone(), tree(bind, plan)?))).collect::<Result<_, _>>().map(Self)
    }

    /// The one of a volume.
    fn take(&mut self, bind: &Bind) -> Option<OwnedFd> {
        let index = self.0.iter().position(|(target, _)| *target == bind.target)?;
        Some(self.0.swap_remove(index).1)
    }
}

/// Binds all. Every source is opened before the first target is covered, so none sees another.
pub(super) fn bind_all(binds: &[Bind], plan: &Plan, peers: &mut Peers) -> Result<(), Failure> {
    let trees = binds.iter().map(|bind| open_source(bind, plan, peers)).collect::<Result<Vec<_>, _>>()?;
    let sandbox = plan.sandbox.as_deref().map(open_path).transpose();
    let sandbox = sandbox.map_err(|error| {
        failure(Stage::Mounts, "open the sandbox", plan.sandbox.as_deref(), &error, "does something remove it?")
    })?;
    let refs: Vec<&OwnedFd> = trees.iter().collect();
    let places = Places { binds, trees: &refs, sandbox: sandbox.as_ref(), inside: None };
    binds.iter().zip(&trees).try_for_each(|(bind, tree)| attach(bind, tree, &places))
}

/// The source as a detached tree, complete with its attributes.
pub(super) fn open_source(bind: &Bind, plan: &Plan, peers: &mut Peers) -> Result<OwnedFd, Failure> {
    let tree = peers.take(bind).map_or_else(|| tree(bind, plan), Ok)?;
    // An image is others' too, whatever a plan says.
    let closed = bind.read_only || matches!(bind.source, Source::Image { .. });
    let read_only = if closed { libc::MOUNT_ATTR_RDONLY } else { 0 };
    let attributes = bind.options.iter().fold(read_only, |all, option| all | attribute(*option));
    let private = bind.propagation == Propagation::Private;
    mount::restrict(&tree, Depth::All, attributes, private).map_err(|error| unusable(bind, &error))?;
    Ok(tree)
}

/// An option as the kernel has it.
fn attribute(option: MountOption) -> u64 {
    match option {
        MountOption::Nosuid => libc::MOUNT_ATTR_NOSUID,
        MountOption::Nodev => libc::MOUNT_ATTR_NODEV,
        MountOption::Noexec => libc::MOUNT_ATTR_NOEXEC,
    }
}

/// The source as a detached tree.
fn tree(bind: &Bind, plan: &Plan) -> Result<OwnedFd, Failure> {
    let sandbox = plan.sandbox.as_deref();
    let opened = match (&bind.source, &bind.subpath) {
        (Source::Tmpfs { size, ownership }, _) => {
            return tmpfs(*size, *ownership, plan).map_err(|error| unusable(bind, &error));
        }
        (Source::Image { layers, .. }, None) => return image(layers, sandbox).map_err(|error| unusable(bind, &error)),
        (Source::Image { layers, .. }, Some(subpath)) => {
            let whole = image(layers, sandbox).map_err(|error| unusable(bind, &error))?;
            return part_of(&whole, subpath, sandbox).map_err(|error| unopened(bind, &error));
        }
        (Source::Host(path) | Source::Created { path, .. }, None) => open_path(path),
        (Source::Host(path) | Source::Created { path, .. }, Some(subpath)) => {
            open_path(path).and_then(|whole| resolve_beneath(whole, subpath))
        }
        (Source::Sandbox(path) | Source::Populated(path), _) => open_beneath(sandbox, path),
    };
    let source = opened.map_err(|error| unopened(bind, &error))?;
    mount::clone_tree(source).map_err(|error| unusable(bind, &error))
}

/// A filesystem in memory. The size is a decimal u64 of bytes, as that of `/dev/shm`.
fn tmpfs(size: Option<Bytes>, Made { mode, owner }: Made, plan: &Plan) -> io::Result<OwnedFd> {
    let (uid, gid) = owner.unwrap_or_else(|| plan.owner());
    let (mode, uid, gid) = (format!("{mode:o}"), uid.to_string(), gid.to_string());
    let size = size.map(|Bytes(bytes)| bytes.to_string());
    let mut options = vec![("mode", mode.as_str()), ("uid", uid.as_str()), ("gid", gid.as_str())];
    options.extend(size.as_deref().map(|size| ("size", size)));
    mount::new_filesystem(c"tmpfs", &options, Denied::Devices)
}

/// The layers of an image, which nobody can write to.
fn image(layers: &[PathBuf], sandbox: Option<&Path>) -> io::Result<OwnedFd> {
    let layers: Vec<&Path> = layers.iter().map(PathBuf::as_path).collect();
    match layers.as_slice() {
        [layer] => open_path(layer).and_then(mount::clone_one),
        layers => {
            let place = sandbox.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
            mount::overlay(layers, None, place, LayerOptions::of_kernel())
        }
    }
}

/// A part of a detached tree; links in it lead to itself. A kernel older than 6.15 clones no part of what is nowhere
/// attached, so it is put over the sandbox for a moment, in a namespace that nobody else is in.
fn part_of(tree: &OwnedFd, subpath: &Path, sandbox: Option<&Path>) -> io::Result<OwnedFd> {
    let place = sandbox.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
    mount::attach(tree, open_path(place)?)?;
    let part = resolve(tree, subpath, OFlags::PATH).and_then(mount::clone_tree);
    umount2(place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
    part
}

/// A source that is not there.
fn unopened(bind: &Bind, error: &io::Error) -> Failure {
    let cure = match (error.raw_os_error(), &bind.source, &bind.subpath) {
        (Some(libc::EXDEV), _, Some(_)) => "a link in its subpath leads out of the source; name a path inside",
        (Some(libc::ENOENT), _, Some(_)) => "see that the source has its subpath",
        (Some(libc::ELOOP), ..) => "a symbolic link in the sandbox is not followed; use a directory",
        (Some(libc::EXDEV), ..) => "it leads out of the sandbox; use a path inside",
        (Some(libc::ENOENT), Source::Host(_), _) => "create it, or correct host_path",
        _ => "see that host_path is there and that it can be opened",
    };
    failure(Stage::Mounts, act(bind), Some(&source_path(bind)), error, cure)
}

/// A source of which there is no mount.
fn unusable(bind: &Bind, error: &io::Error) -> Failure {
    let cure = match &bind.source {
        Source::Image { .. } => "see dmesg; overlayfs stacks layers of filesystems such as ext4, xfs, btrfs and tmpfs",
        Source::Tmpfs { .. } => "the launcher needs CAP_SYS_ADMIN, and the kernel CONFIG_TMPFS",
        _ => "the launcher needs CAP_SYS_ADMIN, and the source must not be unbindable",
    };
    failure(Stage::Mounts, act(bind), Some(&source_path(bind)), error, cure)
}

/// The path that a source is known by.
fn source_path(bind: &Bind) -> PathBuf {
    let path = match &bind.source {
        Source::Host(path) | Source::Created { path, .. } | Source::Sandbox(path) | Source::Populated(path) => path,
        Source::Tmpfs { .. } => &bind.target,
        Source::Image { source, .. } => source.path().unwrap_or(&bind.target),
    };
    bind.subpath.as_ref().map_or_else(|| path.to_owned(), |subpath| path.join(subpath))
}

/// Where volumes lie that do not lie in the root itself: in others, and in the sandbox. Whoever can write there may have
/// left links, of which none is followed.
#[derive(Debug)]
pub(super) struct Places<'a> {
    /// All volumes, those above before those below.
    pub binds: &'a [Bind],
    /// Their trees.
    pub trees: &'a [&'a OwnedFd],
    /// The sandbox.
    pub sandbox: Option<&'a OwnedFd>,
    /// Where that is seen, in a root of the container's own.
    pub inside: Option<&'a Path>,
}

impl Places<'_> {
    /// The place of a volume, a directory or a file, if it does not lie in the root itself. What is berth's to fill (a
    /// tmpfs, the sandbox and what is in it) gets a place where it has none; in what is the host's or an image's nothing
    /// is made.
    pub fn of(&self, bind: &Bind, is_directory: bool) -> Option<Result<OwnedFd, Failure>> {
        if let Some((index, above, rest)) = bind.within(self.binds) {
            let makes = matches!(above.source, Source::Tmpfs { .. } | Source::Sandbox(_) | Source::Populated(_));
            let tree = self.trees.get(index)?;
            return Some(below(tree, &rest, is_directory, makes).map_err(|error| {
                let (rest, around) = (rest.display(), above.target.display());
                let cure = match error.raw_os_error() {
                    Some(libc::ENOENT | libc::EROFS) => {
                        format!("make {rest} in {}, since nothing is made in the volume at {around}", above.source)
                    }
                    Some(libc::ELOOP) => format!("a symbolic link in the volume at {around} is not followed"),
                    _ => format!("it lies in the volume at {around}"),
                };
                failure(Stage::Mounts, act(bind), Some(&bind.target), &error, cure)
            }));
        }
        let inside = self.inside.and_then(|inside| bind.target.strip_prefix(inside).ok());
        let rest = inside.or(Some(bind.target.as_path()).filter(|target| target.is_relative()))?;
        let made = match self.sandbox {
            Some(sandbox) => below(sandbox, rest, is_directory, true),
            None => Err(io::Error::from_raw_os_error(libc::ENOENT)),
        };
        Some(made.map_err(|error| {
            let cure = match error.raw_os_error() {
                Some(libc::ELOOP) => "a symbolic link in the sandbox is not followed; remove it",
                _ => "its place is made in the sandbox; see what is there",
            };
            failure(Stage::Mounts, act(bind), Some(&bind.target), &error, cure)
        }))
    }
}

/// What is at `path` below a directory, no symbolic link followed; where it is not, it is made if wanted.
fn below(at: &OwnedFd, path: &Path, is_directory: bool, makes: bool) -> io::Result<OwnedFd> {
    let rules = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let open = |path: &Path, flags: OFlags| openat2(at, path, flags | OFlags::CLOEXEC, Mode::empty(), rules);
    let mut walked = PathBuf::new();
    for component in path.components().filter(|_| makes) {
        let Component::Normal(name) = component else { continue };
        let parent = if walked.as_os_str().is_empty() { PathBuf::from(".") } else { walked.clone() };
        walked.push(name);
        match open(&walked, OFlags::PATH) {
            Err(rustix::io::Errno::NOENT) => {
                let parent = open(&parent, OFlags::RDONLY | OFlags::DIRECTORY)?;
                make(&parent, name, is_directory || walked != path)?;
            }
            found => drop(found?),
        }
    }
    Ok(open(path, OFlags::PATH)?)
}

/// Makes an empty directory or file to mount on.
fn make(parent: &OwnedFd, name: &OsStr, is_directory: bool) -> io::Result<()> {
    let (flags, mode) = match is_directory {
        true => {
            mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
            (OFlags::RDONLY | OFlags::DIRECTORY, 0o755)
        }
        false => (OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, 0o644),
    };
    let made = openat(parent, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::from_raw_mode(mode))?;
    // Whatever the umask of whoever started this.
    Ok(fchmod(&made, Mode::from_raw_mode(mode))?)
}

/// Puts the tree over its target.
fn attach(bind: &Bind, tree: &OwnedFd, places: &Places<'_>) -> Result<(), Failure> {
    let target = &bind.target;
    let fail = |error: io::Error, cure: &str| failure(Stage::Mounts, act(bind), Some(target), &error, cure);
    let is_a_directory = is_directory(tree).map_err(|error| fail(error, "see that it can be read"))?;
    let place = places.of(bind, is_a_directory).unwrap_or_else(|| {
        open_path(target).map_err(|error| {
            fail(error, "container_path must exist: without an image nothing is created on the host's filesystem")
        })
    })?;
    match (is_a_directory, is_directory(&place).map_err(|error| fail(error, "see that it can be read"))?) {
        (true, false) => Err(mismatch(bind, "a directory cannot be bound over a file")),
        (false, true) => Err(mismatch(bind, "a file cannot be bound over a directory")),
        _ => mount::attach(tree, place).map_err(|error| fail(error, "the launcher needs CAP_SYS_ADMIN")),
    }
}

/// Opens what an absolute path of the operator's leads to, symbolic links included.
fn open_path(path: &Path) -> io::Result<OwnedFd> {
    Ok(OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?.into())
}

/// Opens a path inside the sandbox, which the container's earlier runs may have filled with traps.
fn open_beneath(sandbox: Option<&Path>, path: &Path) -> io::Result<OwnedFd> {
    let sandbox = sandbox.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, sandbox, flags | OFlags::DIRECTORY, Mode::empty())?;
    let rules = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(root, path, flags, Mode::empty(), rules)?)
}

/// Whether it is one.
pub(super) fn is_directory(fd: impl AsFd) -> io::Result<bool> {
    Ok(fstat(fd)?.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

/// What was being done.
fn act(bind: &Bind) -> String {
    let source = match &bind.source {
        Source::Sandbox(path) | Source::Populated(path) => path.display().to_string(),
        source => source.to_string(),
    };
    let part = bind.subpath.as_ref().map(|path| format!(" ({})", path.display())).unwrap_or_default();
    format!("bind {source}{part} over {}", bind.target.display())
}

/// A file against a directory.
fn mismatch(bind: &Bind, why: &str) -> Failure {
    let message = format!("cannot {}: {why}; make both a file or both a directory", act(bind));
    Failure { errno: Some(libc::ENOTDIR), ..refusal(Stage::Mounts, Some(&bind.target), message) }
}
