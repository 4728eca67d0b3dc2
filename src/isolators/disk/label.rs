//! Giving a directory, and all that is in it, to a project.
//!
//! As `xfs_quota -x -c 'project -s'`, but for what may be hostile: nothing is followed, other mounts are left alone, and
//! what cannot be labelled (links, devices, sockets) is passed over. A directory is labelled before it is read, so what
//! is made in it meanwhile inherits.

use std::{
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd, AsRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, open, openat, openat2};

use crate::sys::quota::{self, Project};

/// How deep a tree may be: each level takes a descriptor.
const MOST_LEVELS: usize = 512;

/// What is opened to be labelled and read. A FIFO would wait for a writer.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// Opens a directory to ask or tell the kernel of its project.
///
/// # Errors
/// open(2); a symlink is `ELOOP`.
pub fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(open(path, READ | OFlags::DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?)
}

/// The same for one in a directory in which others write: nothing leads out of it.
///
/// # Errors
/// openat2(2); a symlink on the way is `ELOOP`.
pub fn open_beneath(top: impl AsFd, relative: &Path) -> io::Result<OwnedFd> {
    let rules = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(top, relative, READ | OFlags::DIRECTORY, Mode::empty(), rules)?)
}

/// Whether a directory has been given to a project, with what will be made in it.
///
/// # Errors
/// The kernel cannot be asked.
pub fn is_of(directory: impl AsFd, id: u32) -> io::Result<bool> {
    Ok(quota::project(directory)? == Project { id, inherits: true })
}

/// Gives a directory, which is called `path` in messages, and all below to the project `id`, but for the directories
/// `except` and all below those.
///
/// # Errors
/// What could not be labelled, with its path in the message; a tree deeper than [`MOST_LEVELS`].
pub fn label(directory: OwnedFd, path: &Path, id: u32, except: &[&OwnedFd]) -> io::Result<()> {
    let identity = |directory: &&OwnedFd| fstat(directory).map(|stat| (stat.st_dev, stat.st_ino));
    let except = except.iter().map(identity).collect::<Result<_, _>>()?;
    let walk = Walk { id, except };
    quota::set_project(&directory, Project { id, inherits: true }).map_err(|error| at(path, &error))?;
    let mut levels = vec![Level::of(directory, path.to_owned())?];
    while let Some(level) = levels.last_mut() {
        let Some(entry) = level.entries.read() else {
            levels.pop();
            continue;
        };
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let path = level.path.join(name);
        if let Some(directory) = walk.entry(level, name).map_err(|error| at(&path, &error))? {
            if levels.len() >= MOST_LEVELS {
                return Err(at(&path, &io::Error::other(format!("it lies deeper than {MOST_LEVELS} directories"))));
            }
            levels.push(Level::of(directory, path)?);
        }
    }
    Ok(())
}

/// What holds for all of one walk.
struct Walk {
    /// The project.
    id: u32,
    /// Device and inode of what is left out.
    except: Vec<(u64, u64)>,
}

/// A directory that is being read.
struct Level {
    /// For what is opened in it.
    directory: OwnedFd,
    /// Its entries.
    entries: Dir,
    /// For messages.
    path: PathBuf,
}

impl Level {
    /// Begins to read.
    fn of(directory: OwnedFd, path: PathBuf) -> io::Result<Self> {
        Ok(Self { entries: Dir::read_from(&directory)?, directory, path })
    }
}

impl Walk {
    /// Labels one entry; a directory is given back, to go on in it.
    fn entry(&self, level: &Level, name: &OsStr) -> io::Result<Option<OwnedFd>> {
        let rules =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = match openat2(&level.directory, name, flags, Mode::empty(), rules) {
            Ok(found) => found,
            // It went meanwhile, or is a link, or a mount point.
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP | rustix::io::Errno::XDEV) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let stat = fstat(&found)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if self.except.contains(&(stat.st_dev, stat.st_ino)) => Ok(None),
            FileType::Directory => {
                let directory = openat(&found, ".", READ | OFlags::DIRECTORY, Mode::empty())?;
                quota::set_project(&directory, Project { id: self.id, inherits: true })?;
                Ok(Some(directory))
            }
            FileType::RegularFile => {
                // The very file that was looked at, whatever has its name by now.
                let file = openat(CWD, format!("/proc/self/fd/{}", found.as_raw_fd()), READ, Mode::empty())?;
                quota::set_project(&file, Project { id: self.id, inherits: false })?;
                Ok(None)
            }
            _ => Ok(None),
        }
    }
}

/// An error and where it was.
fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {}", path.display(), crate::error::reason(error)))
}
