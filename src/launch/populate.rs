//! A volume of an image's own (`Volumes`): a directory of the sandbox that first holds what the image has at its place.
//!
//! It is filled under another name and renamed when it is whole, so a launcher that is killed leaves none half.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, fchmod, fchown, mkdirat, openat, renameat, statat, syncfs};

use super::{copy, failure::failure, root::Root};
use crate::{
    protocol::{Failure, Stage},
    state::sandbox::{self, Beneath},
    sys::mount,
};

/// What is put behind the name of a volume that is not whole yet. No volume's own name has it.
const UNFINISHED: &str = "~";

/// Mode of a volume whose place the image does not have.
const EMPTY_MODE: u32 = 0o755;

/// A volume, opened before the change of root.
#[derive(Debug)]
pub(super) struct Populated {
    /// What will be seen.
    pub tree: OwnedFd,
    /// Where the container sees it.
    target: PathBuf,
    /// What is still to be done.
    unfinished: Option<Unfinished>,
}

/// A volume that holds nothing yet.
#[derive(Debug)]
struct Unfinished {
    /// The directory that holds it.
    parent: OwnedFd,
    /// It itself.
    directory: OwnedFd,
    /// What it will be called there.
    name: PathBuf,
    /// What it is called there.
    present: PathBuf,
    /// Whether it is to outlive a loss of power.
    lasting: bool,
}

impl Populated {
    /// Opens the volume `relative` of a sandbox, or makes it.
    pub fn open(sandbox: &Path, relative: &Path, target: &Path) -> Result<Self, Failure> {
        let opened = || -> io::Result<Self> {
            let (Some(above), Some(name)) = (relative.parent(), relative.file_name()) else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            let parent = Beneath::open(sandbox)?.make_dir(above, 0o755, 0, 0)?;
            let directory = |name: &Path| -> io::Result<OwnedFd> {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                Ok(openat(&parent, name, flags, Mode::empty())?)
            };
            let target = target.to_owned();
            match directory(Path::new(name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                there => return Ok(Self { tree: mount::clone_tree(there?)?, target, unfinished: None }),
            }
            let mut present = name.to_owned();
            present.push(UNFINISHED);
            let present = PathBuf::from(present);
            clear(&parent, &present)?;
            mkdirat(&parent, &present, Mode::from_raw_mode(0o700))?;
            let directory = directory(&present)?;
            let tree = mount::clone_tree(&directory)?;
            let lasting = sandbox::is_persistent(sandbox);
            let unfinished = Unfinished { parent, directory, name: name.into(), present, lasting };
            Ok(Self { tree, target, unfinished: Some(unfinished) })
        };
        opened().map_err(|error| fail("make", target, &error))
    }

    /// Fills it from the root, which is entered and not covered yet. Where the root has nothing, `owner` gets it.
    pub fn fill(&self, root: &Root, owner: (u32, u32)) -> Result<(), Failure> {
        let Some(Unfinished { parent, directory, name, present, lasting }) = &self.unfinished else { return Ok(()) };
        let filled = || -> io::Result<()> {
            match root.read_directory(&self.target) {
                Ok(model) => {
                    copy::tree(&model, directory)?;
                    if *lasting {
                        syncfs(directory)?;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    fchown(directory, Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)))?;
                    fchmod(directory, Mode::from_raw_mode(EMPTY_MODE))?;
                }
                Err(error) => return Err(error),
            }
            Ok(renameat(parent, present, parent, name)?)
        };
        filled().map_err(|error| fail("fill", &self.target, &error))
    }
}

/// Removes what a launcher that was killed has left.
fn clear(parent: &OwnedFd, name: &Path) -> io::Result<()> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(rustix::io::Errno::NOENT) => Ok(()),
        // A link is removed itself, and none below is followed.
        Ok(_) => std::fs::remove_dir_all(Path::new(&format!("/proc/self/fd/{}", parent.as_raw_fd())).join(name)),
        Err(errno) => Err(errno.into()),
    }
}

/// The image's volume cannot be had.
fn fail(act: &str, target: &Path, error: &io::Error) -> Failure {
    let cure = match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => "make room where the sandboxes are, or give [[volumes]] for that path",
        Some(libc::ENOTDIR) => "the image has a file there; give [[volumes]] for that path",
        _ => "give [[volumes]] for that path",
    };
    failure(Stage::Mounts, format_args!("{act} the image's volume {}", target.display()), Some(target), error, cure)
}
