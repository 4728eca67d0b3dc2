//! A root of the container's own: built detached, entered by pivot_root(2), filled in.
//!
//! What comes of the host (volumes, the sandbox, files of `/etc`) is opened before the change of root, so nothing of an
//! image has a say in it. Everything after it happens where no host is left: a link in an image leads to the image.

use std::{
    fs::{DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    },
    path::{Component, Path, PathBuf},
};

use nix::{
    mount::{MntFlags, umount2},
    unistd::{chdir, fchdir, pivot_root},
};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, fchmod, mkdirat, mknodat, openat, symlinkat, unlinkat};

use super::{
    bind::{self, Peers, Places},
    failure::{failure, refusal},
    populate::Populated,
    view,
};
use crate::{
    inside::resolve,
    plan::{Bind, EtcFile, Namespace, Plan, Source, Top},
    protocol::{Failure, Stage},
    state::sandbox,
    sys::mount::{self, Denied, Depth, LayerOptions},
};

/// What a root is made of; see `Action::EnterRoot`.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    /// Its directories, lowest first.
    pub layers: &'a [PathBuf],
    /// What lies on top.
    pub top: Top,
    /// Where the sandbox is seen.
    pub sandbox: Option<&'a Path>,
    /// Files of `/etc`.
    pub files: &'a [EtcFile],
    /// Volumes.
    pub binds: &'a [Bind],
}

/// Makes the root and goes there.
pub(super) fn enter(parts: &Parts<'_>, plan: &Plan, peers: &mut Peers) -> Result<(), Failure> {
    let Some(outer) = plan.sandbox.as_deref() else {
        let message = "the plan has a root and no sandbox; this is a bug of berthd, please report it";
        return Err(refusal(Stage::Mounts, None, message));
    };
    let own = sandbox::root_of(outer);
    let files = parts.files.iter().map(|file| write(&own, file)).collect::<Result<Vec<_>, _>>()?;
    let open = |bind| Volume::open(bind, outer, plan, peers);
    let volumes = parts.binds.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let sandbox = parts.sandbox.map(|_| clone(outer)).transpose()?;
    let host = view::Host::open(plan.namespaces.contains(&Namespace::Ipc))?;
    let tree = tree(parts, &own)?;
    change_root(tree, &own.join("root"))?;
    let root = Root::open()?;
    view::show(&root, host)?;
    // All of them before the first is seen: what they are filled from is the image's.
    for volume in &volumes {
        if let Volume::Own(volume) = volume {
            volume.fill(&root, plan.owner())?;
        }
    }
    for (file, tree) in parts.files.iter().zip(files) {
        root.cover_file(&Path::new("/etc").join(&file.name), tree)?;
    }
    if let Some((target, tree)) = parts.sandbox.zip(sandbox.as_ref()) {
        root.attach(tree, target, true)?;
    }
    let trees: Vec<&OwnedFd> = volumes.iter().map(Volume::tree).collect();
    let places = Places { binds: parts.binds, trees: &trees, sandbox: sandbox.as_ref(), inside: parts.sandbox };
    parts.binds.iter().zip(&trees).try_for_each(|(bind, tree)| root.bind(bind, tree, &places))
}

/// What will be seen of a volume.
#[derive(Debug)]
enum Volume {
    /// This.
    Tree(OwnedFd),
    /// A volume of the image's own, which may have to be filled.
    Own(Populated),
}

impl Volume {
    /// Opens it.
    fn open(bind: &Bind, sandbox: &Path, plan: &Plan, peers: &mut Peers) -> Result<Self, Failure> {
        match &bind.source {
            Source::Populated(relative) => Populated::open(sandbox, relative, &bind.target).map(Self::Own),
            _ => bind::open_source(bind, plan, peers).map(Self::Tree),
        }
    }

    /// The tree of mounts.
    fn tree(&self) -> &OwnedFd {
        match self {
            Self::Tree(tree) => tree,
            Self::Own(volume) => &volume.tree,
        }
    }
}

/// The mounted layers, detached.
fn tree(parts: &Parts<'_>, own: &Path) -> Result<OwnedFd, Failure> {
    let overlay = |upper: Option<&Path>| {
        let layers: Vec<&Path> = parts.layers.iter().map(PathBuf::as_path).collect();
        let work = own.join("work");
        mount::overlay(
            &layers,
            upper.map(|upper| (upper, work.as_path())),
            &own.join("root"),
            LayerOptions::of_kernel(),
        )
    };
    let made = match (parts.top, parts.layers) {
        (Top::Upper, _) => overlay(Some(&own.join("upper"))),
        (Top::ReadOnly | Top::Writable, [layer]) => open(layer).and_then(mount::clone_one),
        _ => overlay(None),
    };
    let cure = "see dmesg; an overlay lies on a filesystem that can hold one (ext4, xfs, btrfs, tmpfs)";
    let closed = made.and_then(|tree| {
        // Before anybody sees it: what is not there cannot be made for berth either.
        if parts.top == Top::ReadOnly {
            mount::set_read_only(&tree, Depth::One)?;
        }
        Ok(tree)
    });
    closed.map_err(|error| failure(Stage::Mounts, "mount the layers of the root", Some(own), &error, cure))
}

/// Puts `tree` over an empty directory and makes it the root; the host's is gone.
fn change_root(tree: OwnedFd, place: &Path) -> Result<(), Failure> {
    let changed = || -> io::Result<()> {
        mount::attach(&tree, open(place)?)?;
        fchdir(&tree)?;
        // The old root comes to lie over the new one, and is taken off it (pivot_root(2), "pivot_root(\".\", \".\")").
        pivot_root(".", ".")?;
        umount2(".", MntFlags::MNT_DETACH)?;
        chdir("/")?;
        Ok(())
    };
    changed().map_err(|error| {
        failure(Stage::Mounts, "change the root", Some(place), &error, "the launcher needs CAP_SYS_ADMIN")
    })
}

/// Writes a file of the run's and opens it as a tree.
fn write(own: &Path, file: &EtcFile) -> Result<OwnedFd, Failure> {
    let path = own.join(&file.name);
    let written = || -> io::Result<OwnedFd> {
        let mut target = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&path)?;
        target.write_all(file.text.as_bytes())?;
        // Whatever the umask of whoever started this.
        fchmod(&target, Mode::from_raw_mode(0o644))?;
        mount::clone_tree(open(&path)?)
    };
    written().map_err(|error| failure(Stage::Mounts, "write", Some(&path), &error, "see that its filesystem has room"))
}

/// A path of the host's as a tree.
fn clone(path: &Path) -> Result<OwnedFd, Failure> {
    open(path)
        .and_then(mount::clone_tree)
        .map_err(|error| failure(Stage::Mounts, "open", Some(path), &error, "the launcher needs CAP_SYS_ADMIN"))
}

/// Opens a path of the host's to be named by its descriptor.
fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?.into())
}

/// The new root, entered.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

impl Root {
    /// The root of this process.
    pub fn open() -> Result<Self, Failure> {
        let root = Path::new("/");
        let opened = open(root);
        opened
            .map(Self)
            .map_err(|error| failure(Stage::Mounts, "open the root", Some(root), &error, "please report it"))
    }

    /// What is at `path`.
    pub fn at(&self, path: &Path) -> io::Result<OwnedFd> {
        resolve(&self.0, path, OFlags::PATH)
    }

    /// The directory at `path`, to read.
    pub fn read_directory(&self, path: &Path) -> io::Result<OwnedFd> {
        resolve(&self.0, path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// A directory, made with those above it where they are not.
    pub fn directory(&self, path: &Path) -> io::Result<OwnedFd> {
        let mut walked = PathBuf::from("/");
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            // Links are followed from the root each time, as the container would.
            let parent = resolve(&self.0, &walked, OFlags::RDONLY | OFlags::DIRECTORY)?;
            walked.push(name);
            match resolve(&self.0, &walked, OFlags::PATH) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
                    let made =
                        openat(&parent, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
                    fchmod(&made, Mode::from_raw_mode(0o755))?;
                }
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
        resolve(&self.0, path, OFlags::PATH | OFlags::DIRECTORY)
    }

    /// A file to mount on, made empty where there is none.
    fn file(&self, path: &Path) -> io::Result<OwnedFd> {
        match self.at(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found,
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        self.directory(parent)?;
        let parent = resolve(&self.0, parent, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&parent, name, flags, Mode::from_raw_mode(0o644)) {
            // A link to nowhere is in the way.
            Err(rustix::io::Errno::EXIST) => Err(io::Error::from_raw_os_error(libc::ENOENT)),
            made => made.map(drop).map_err(Into::into).and_then(|()| self.at(path)),
        }
    }

    /// Puts a file over one of the image's. Where neither that nor a place for it is there (a root that cannot be
    /// written, a link to nowhere), the image has none.
    fn cover_file(&self, path: &Path, tree: OwnedFd) -> Result<(), Failure> {
        let place = match self.file(path) {
            Ok(place) => place,
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::EROFS)) => {
                return Ok(());
            }
            Err(error) => return Err(unmade(path, &error)),
        };
        let act = format!("mount {}", path.display());
        mount::attach(tree, place).map_err(|error| {
            failure(Stage::Mounts, act, Some(path), &error, "it must be a file in the image, or nothing")
        })
    }

    /// Puts a tree over `path`, a directory that is made where it is not; a file is made for a file.
    fn attach(&self, tree: &OwnedFd, path: &Path, is_directory: bool) -> Result<(), Failure> {
        let place = if is_directory { self.directory(path) } else { self.file(path) };
        self.cover(tree, path, place.map_err(|error| unmade(path, &error))?)
    }

    /// Puts a tree over a place, which is at `path`.
    fn cover(&self, tree: &OwnedFd, path: &Path, place: OwnedFd) -> Result<(), Failure> {
        mount::attach(tree, place).map_err(|error| {
            let cure = "a directory covers a directory, a file covers a file";
            failure(Stage::Mounts, format_args!("mount {}", path.display()), Some(path), &error, cure)
        })
    }

    /// Shows a volume.
    fn bind(&self, bind: &Bind, tree: &OwnedFd, places: &Places<'_>) -> Result<(), Failure> {
        let is_directory = bind::is_directory(tree).map_err(|error| unmade(&bind.target, &error))?;
        match places.of(bind, is_directory) {
            Some(place) => self.cover(tree, &bind.target, place?),
            None => self.attach(tree, &bind.target, is_directory),
        }
    }

    /// Makes a filesystem's place and mounts a new one of `kind` there. The place must be no link: who writes an image
    /// does not choose where the kernel's own trees are.
    pub fn mount(
        &self,
        path: &Path,
        kind: &std::ffi::CStr,
        options: &[(&str, &str)],
        denied: Denied,
    ) -> Result<(), Failure> {
        let mounted = || -> io::Result<()> {
            let place = self.directory(path)?;
            if rustix::fs::readlinkat(&self.0, path.strip_prefix("/").unwrap_or(path), Vec::new()).is_ok() {
                return Err(io::Error::from_raw_os_error(libc::ELOOP));
            }
            mount::attach(mount::new_filesystem(kind, options, denied)?, place)
        };
        mounted().map_err(|error| {
            let act = format!("mount {} on {} of the root", kind.to_string_lossy(), path.display());
            let cure = match error.raw_os_error() {
                Some(libc::ELOOP) => "it is a symbolic link in the image; make it a directory there",
                Some(libc::EROFS) => "the root is read-only and has no such directory; make it there",
                Some(libc::ENODEV) => "this kernel does not have that filesystem",
                _ => "the launcher needs CAP_SYS_ADMIN",
            };
            failure(Stage::Mounts, act, Some(path), &error, cure)
        })
    }

    /// Makes the mount of `path` read-only.
    pub fn set_read_only(&self, path: &Path) -> io::Result<()> {
        mount::set_read_only(self.at(path)?, Depth::One)
    }

    /// Makes a link in a directory of berth's own.
    pub fn link(&self, target: &str, path: &Path) -> io::Result<()> {
        Ok(symlinkat(target, &self.0, path.strip_prefix("/").unwrap_or(path))?)
    }

    /// Makes a device node that everybody can use; where none can be made, `host`'s is shown.
    pub fn device(&self, path: &Path, (major, minor): (u32, u32), host: impl AsFd) -> io::Result<()> {
        let name = path.strip_prefix("/").unwrap_or(path);
        let mode = Mode::from_raw_mode(0o666);
        match mknodat(&self.0, name, FileType::CharacterDevice, mode, rustix::fs::makedev(major, minor)) {
            Ok(()) if usable(path) => return Ok(rustix::fs::chmodat(&self.0, name, mode, AtFlags::empty())?),
            Ok(()) => unlinkat(&self.0, name, AtFlags::empty())?,
            Err(rustix::io::Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
        let place = self.file(path)?;
        mount::attach(mount::clone_tree(host)?, place)
    }
}

/// Whether a node of berth's own works: a user namespace lets make some that nobody can open.
fn usable(path: &Path) -> bool {
    match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path) {
        // The terminal is nobody's here.
        Err(error) => error.raw_os_error() == Some(libc::ENXIO),
        Ok(_) => true,
    }
}

/// A place in the root that cannot be had.
fn unmade(path: &Path, error: &io::Error) -> Failure {
    let cure = match error.raw_os_error() {
        Some(libc::EROFS) => "the root is read-only and does not have it; make it in the image",
        Some(libc::ENOENT) => "a link to nowhere is in the way; correct the image",
        Some(libc::ENOTDIR | libc::EEXIST) => "something that is no directory is in the way",
        Some(libc::EXDEV | libc::ELOOP) => "a link of /proc or a circle of links is in the way; correct the image",
        _ => "see that the image has it",
    };
    failure(Stage::Mounts, format_args!("make {} in the root", path.display()), Some(path), error, cure)
}

/// Makes a directory, and those above, where it is not.
pub(super) fn make_directory(path: &Path) -> Result<(), Failure> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(|error| {
        failure(
            Stage::Directory,
            format_args!("make {}", path.display()),
            Some(path),
            &error,
            "change working_directory",
        )
    })
}
