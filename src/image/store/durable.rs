//! Files that are there whole after a loss of power, and locks that end with their process.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

use crate::image::Error;

/// A lock's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// With others of this kind.
    Shared,
    /// Alone.
    Alone,
}

/// Takes a lock alone, if nobody has it now.
pub fn try_lock(path: &Path) -> Result<Option<File>, Error> {
    let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = open.map_err(Error::io(format!("lock {}", path.display())))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => Ok(None),
        Err(error) => Err(Error::io(format!("lock {}", path.display()))(error)),
    }
}

/// Waits for a lock and takes it.
pub fn lock(path: &Path, kind: Kind) -> Result<File, Error> {
    let operation = if kind == Kind::Shared { FlockOperation::LockShared } else { FlockOperation::LockExclusive };
    let take = || -> io::Result<File> {
        loop {
            let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
            while let Err(error) = flock(&file, operation) {
                if error != rustix::io::Errno::INTR {
                    return Err(error.into());
                }
            }
            // Whoever removed it while this waited holds the one of the name no longer.
            if fs::metadata(path).is_ok_and(|meta| file.metadata().is_ok_and(|own| own.ino() == meta.ino())) {
                return Ok(file);
            }
        }
    };
    take().map_err(Error::io(format!("lock {}", path.display())))
}

/// Replaces a file in one step that a loss of power cannot halve. The caller holds the lock of its name.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_parent(path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&temporary)))
}

/// Puts the names of a directory on the disk.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// Removes a directory with all in it; that there is none is success.
pub fn remove_tree(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(format!("remove {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}
