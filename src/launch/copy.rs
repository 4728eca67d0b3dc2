//! Copies a tree with all that it is: owners, modes, times, extended attributes, hard links, holes.
//!
//! Both sides are walked by descriptors and no link is followed.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, SeekFrom, Stat, Timespec, Timestamps, Uid, XattrFlags,
        chmodat, chownat, fstat, ftruncate, lgetxattr, linkat, llistxattr, lsetxattr, mkdirat, mknodat, openat,
        openat2, readlinkat, seek, statat, symlinkat, utimensat,
    },
    io::Errno,
};

/// Attributes that are not the tree's to have: the label is the host's business.
const LABEL: &[u8] = b"security.selinux";

/// Most bytes of a list of attributes, and of one (xattr(7)).
const LARGEST_XATTR: usize = 1 << 16;

/// Files of more than one name, by device and inode, and where the first one is.
type Links = HashMap<(u64, u64), PathBuf>;

/// Copies what is in the directory `from`, and what it is itself, to the directory `to`, which is empty.
///
/// # Errors
/// Whatever the kernel says to it; the copy is not whole then.
pub(super) fn tree(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    let (mut links, mut done) = (Links::new(), Vec::new());
    let mut waiting = vec![PathBuf::from(".")];
    // By paths and not by recursion: neither descriptors nor the stack grow with the depth.
    while let Some(path) = waiting.pop() {
        let pair = Pair { from: &directory(from, &path)?, to: &directory(to, &path)? };
        for entry in Dir::read_from(pair.from)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let stat = statat(pair.from, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let at = path.join(name);
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                mkdirat(pair.to, name, Mode::from_raw_mode(0o700))?;
                waiting.push(at);
            } else {
                pair.file(name, &stat, to, at, &mut links)?;
            }
        }
        done.push(path);
    }
    // A directory is finished when nothing is made in it any more: its time would change.
    for path in done.iter().rev() {
        let pair = Pair { from: &directory(from, path)?, to: &directory(to, path)? };
        pair.attributes(OsStr::new("."), &fstat(pair.from)?)?;
    }
    Ok(())
}

/// One directory on both sides.
#[derive(Debug, Clone, Copy)]
struct Pair<'a> {
    /// The model.
    from: &'a OwnedFd,
    /// The copy.
    to: &'a OwnedFd,
}

impl Pair<'_> {
    /// Copies what is no directory.
    fn file(self, name: &OsStr, stat: &Stat, top: &OwnedFd, at: PathBuf, links: &mut Links) -> io::Result<()> {
        if stat.st_nlink > 1 {
            if let Some(first) = links.get(&(stat.st_dev, stat.st_ino)) {
                return Ok(linkat(top, first, self.to, name, AtFlags::empty())?);
            }
            links.insert((stat.st_dev, stat.st_ino), at);
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.content(name, stat)?,
            FileType::Symlink => symlinkat(readlinkat(self.from, name, Vec::new())?, self.to, name)?,
            kind => mknodat(self.to, name, kind, Mode::from_raw_mode(0o600), stat.st_rdev)?,
        }
        self.attributes(name, stat)
    }

    /// Copies the content of a file, and leaves its holes.
    fn content(self, name: &OsStr, stat: &Stat) -> io::Result<()> {
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut from = File::from(openat(self.from, name, flags | OFlags::RDONLY, Mode::empty())?);
        let made = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let mut to = File::from(openat(self.to, name, made, Mode::from_raw_mode(0o600))?);
        let mut end = 0;
        loop {
            let start = match seek(&from, SeekFrom::Data(end)) {
                Ok(start) => start,
                Err(Errno::NXIO) => break,
                Err(errno) => return Err(errno.into()),
            };
            end = seek(&from, SeekFrom::Hole(start))?;
            seek(&from, SeekFrom::Start(start))?;
            seek(&to, SeekFrom::Start(start))?;
            io::copy(&mut io::Read::take(&mut from, end - start), &mut to)?;
        }
        Ok(ftruncate(&to, stat.st_size.unsigned_abs())?)
    }

    /// Gives the copy owner, mode, attributes and times of its model.
    fn attributes(self, name: &OsStr, stat: &Stat) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        chownat(self.to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            // After the owner: chown(2) takes set-user-ID away.
            chmodat(self.to, name, Mode::from_raw_mode(stat.st_mode), AtFlags::empty())?;
        }
        copy_xattrs(&below(self.from.as_fd(), name), &below(self.to.as_fd(), name))?;
        let time = |seconds: i64, nanoseconds: u64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds.cast_signed() };
        let times = Timestamps {
            last_access: time(stat.st_atime, stat.st_atime_nsec),
            last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
        };
        Ok(utimensat(self.to, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

/// A directory below `top`, by a path that holds no link.
fn directory(top: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let rules = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    Ok(openat2(top, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), rules)?)
}

/// A name in a directory for calls that take no descriptor: links have attributes, and cannot be opened.
fn below(directory: BorrowedFd<'_>, name: &OsStr) -> PathBuf {
    Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name)
}

/// Copies extended attributes; what the other filesystem cannot hold is left.
fn copy_xattrs(from: &Path, to: &Path) -> io::Result<()> {
    let mut names = vec![0_u8; LARGEST_XATTR];
    let length = match llistxattr(from, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    let names = names.get(..length).unwrap_or_default();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty() && *name != LABEL) {
        let name = OsString::from(OsStr::from_bytes(name));
        let mut value = vec![0_u8; LARGEST_XATTR];
        let length = lgetxattr(from, &name, &mut value[..])?;
        match lsetxattr(to, &name, value.get(..length).unwrap_or_default(), XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
