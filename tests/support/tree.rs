//! Files of another root, reached from outside.
//!
//! `/proc/PID/root/var/run/x` looks like a way in, but an absolute link on it leads back to
//! the *machine's* root, and a test would read, or worse write, there. A [`Tree`] resolves
//! every link as the process in that root would.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

/// A directory that is the root of all paths given to it; `/etc` and `etc` are the same.
#[derive(Debug)]
pub struct Tree(OwnedFd);

impl Tree {
    /// The tree below `root`, which itself may be a magic link such as `/proc/1/root`.
    pub fn at(root: impl AsRef<Path>) -> io::Result<Tree> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Tree(rustix::fs::openat(CWD, root.as_ref(), flags, Mode::empty())?))
    }

    /// The whole file.
    pub fn read(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        self.open(path.as_ref(), OFlags::RDONLY, 0)?.read_to_end(&mut content)?;
        Ok(content)
    }

    /// Writes in place, as `>` of a shell does: a reader may see a half of it. Directories
    /// on the way are made.
    pub fn write(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> io::Result<()> {
        self.write_with_mode(path, content, 0o644)
    }

    /// [`Tree::write`] with the permissions that the file is to have, new or not.
    pub fn write_with_mode(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>, mode: u32) -> io::Result<()> {
        let path = path.as_ref();
        self.make_dir(path.parent().unwrap_or(Path::new("/")))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        let mut file = self.open(path, flags, mode)?;
        file.write_all(content.as_ref())?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        Ok(())
    }

    /// Writes beside and renames over, as a careful editor or a package manager does.
    pub fn write_atomic(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> io::Result<()> {
        let path = path.as_ref();
        self.make_dir(path.parent().unwrap_or(Path::new("/")))?;
        let (directory, name) = self.parent(path)?;
        let temporary = format!(".{}.new~", name.to_string_lossy());
        let temporary = outside(&directory, OsStr::new(&temporary));
        fs::write(&temporary, content)?;
        fs::rename(&temporary, outside(&directory, name))
    }

    /// Renames within the tree.
    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        let (old, new) = (self.parent(from.as_ref())?, self.parent(to.as_ref())?);
        fs::rename(outside(&old.0, old.1), outside(&new.0, new.1))
    }

    /// Makes `path` a link that says `target`.
    pub fn symlink(&self, target: impl AsRef<Path>, path: impl AsRef<Path>) -> io::Result<()> {
        let (directory, name) = self.parent(path.as_ref())?;
        std::os::unix::fs::symlink(target, outside(&directory, name))
    }

    /// Removes a file, a link (not what it leads to), or a directory with all that is in it.
    pub fn remove(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let (directory, name) = self.parent(path.as_ref())?;
        let path = outside(&directory, name);
        if fs::symlink_metadata(&path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
    }

    /// Whether there is such a file, a dangling link being none.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.open(path.as_ref(), OFlags::PATH, 0).is_ok()
    }

    /// What stands in a directory, sorted.
    pub fn list(&self, path: impl AsRef<Path>) -> io::Result<Vec<String>> {
        let directory = self.open(path.as_ref(), OFlags::RDONLY | OFlags::DIRECTORY, 0)?;
        let mut names = fs::read_dir(outside(&directory, OsStr::new("")))?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    /// Makes the directory and those above it, as far as they are missing.
    pub fn make_dir(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = path.as_ref();
        if self.exists(path) {
            return Ok(());
        }
        if let Some(above) = path.parent() {
            self.make_dir(above)?;
        }
        let (directory, name) = self.parent(path)?;
        match fs::create_dir(outside(&directory, name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    /// Opens with every link resolved inside of the tree. `EAGAIN` is the kernel's word for
    /// a rename that it met on the way and could not rule out as an escape.
    fn open(&self, path: &Path, flags: OFlags, mode: u32) -> io::Result<File> {
        let path = if path.as_os_str().is_empty() { Path::new("/") } else { path };
        let flags = flags | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode);
        loop {
            match rustix::fs::openat2(&self.0, path, flags, mode, ResolveFlags::IN_ROOT) {
                Err(rustix::io::Errno::AGAIN) => continue,
                other => return Ok(File::from(other?)),
            }
        }
    }

    /// The directory that holds `path`, and the name in it.
    fn parent<'a>(&self, path: &'a Path) -> io::Result<(File, &'a OsStr)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let above = path.parent().unwrap_or(Path::new("/"));
        Ok((self.open(above, OFlags::PATH | OFlags::DIRECTORY, 0)?, name))
    }
}

/// A name in an open directory, for calls that know paths only.
fn outside(directory: &File, name: &OsStr) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name)
}
