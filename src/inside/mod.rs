//! Looking into a root that is not the host's: no path in it leads out of it, whatever links an image holds.

mod users;

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, Stat, fstat, openat2};

/// Longest file that is read of an image; a user database is far shorter.
const MAX_FILE: u64 = 16 << 20;

/// A root, opened.
#[derive(Debug)]
pub struct Inside {
    /// Its directory.
    root: OwnedFd,
}

impl Inside {
    /// Opens the directory of a root.
    ///
    /// # Errors
    /// open(2)'s.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { root: rustix::fs::openat(CWD, directory, flags, Mode::empty())? })
    }

    /// What is at `path`, links followed as the container will; none where nothing is.
    ///
    /// # Errors
    /// openat2(2)'s.
    pub fn look(&self, path: &Path) -> io::Result<Option<Stat>> {
        match resolve(&self.root, path, OFlags::PATH) {
            Ok(found) => Ok(Some(fstat(found)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The text of a file; none where there is none. Bytes that are no UTF-8 are replaced.
    ///
    /// # Errors
    /// It cannot be read, is no regular file, or is too long to be what it should be.
    pub fn read(&self, path: &Path) -> io::Result<Option<String>> {
        // A FIFO would block, and a device do what devices do.
        let file = match resolve(&self.root, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if fstat(&file)?.st_mode & libc::S_IFMT != libc::S_IFREG {
            return Err(io::Error::other("it is no regular file"));
        }
        let mut bytes = Vec::new();
        File::from(file).take(MAX_FILE + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }
}

/// Opens `path` as a process whose root is `root` would; no magic link of `/proc` is followed.
///
/// # Errors
/// openat2(2)'s.
pub fn resolve(root: impl AsFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let rules = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), rules)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_stay_inside() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join("etc/inner"), "inner").unwrap();
        symlink("/etc/inner", root.path().join("absolute")).unwrap();
        symlink("../../../../etc/inner", root.path().join("etc/upward")).unwrap();
        symlink("/etc/hostname", root.path().join("etc/outward")).unwrap();
        symlink("/proc/self/root/etc/passwd", root.path().join("magic")).unwrap();
        let inside = Inside::open(root.path()).unwrap();
        for (path, text) in [
            ("/absolute", Some("inner")),
            ("etc/upward", Some("inner")),
            ("/../etc/inner", Some("inner")),
            ("/etc/outward", None),
            ("/magic", None),
        ] {
            assert_eq!(inside.read(Path::new(path)).unwrap().as_deref(), text, "{path}");
            assert_eq!(inside.look(Path::new(path)).unwrap().is_some(), text.is_some(), "{path}");
        }
        assert!(inside.read(Path::new("/etc")).is_err());
    }
}
