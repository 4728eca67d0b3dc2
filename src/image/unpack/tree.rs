//! The tree of one layer, written by names that nobody vouches for.
//!
//! Every name is resolved by the kernel from the layer's own directory, with no way up and through no link. Owners, modes
//! and times of directories are set at the end, when nothing more is made in them.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags, chownat,
        fchmod, fchown, fsetxattr, ftruncate, futimens, linkat, makedev, mkdirat, mknodat, openat, openat2, statat,
        symlinkat, unlinkat, utimensat,
    },
    io::Errno,
};

use super::{
    Devices,
    archive::{Archive, Entry, Input, Kind, malformed},
};
use crate::sys::mount::knows_whiteout_attributes;

/// What hides a directory of the layers below (Linux `Documentation/filesystems/overlayfs`).
const OPAQUE: &str = "trusted.overlay.opaque";

/// A whiteout where devices cannot be made.
const WHITEOUT: &str = "trusted.overlay.whiteout";

/// Before the name of what a layer removes (OCI image specification, layers).
const REMOVED: &[u8] = b".wh.";

/// Of a directory that hides what is below it.
const REMOVED_ALL: &[u8] = b".wh..wh..opq";

/// What a directory will be.
#[derive(Debug, Clone)]
struct Directory {
    /// Permissions.
    mode: u32,
    /// Owner and group.
    owner: (u32, u32),
    /// Time of change.
    mtime: (i64, u32),
    /// Extended attributes.
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A layer's tree while it is written.
#[derive(Debug)]
pub struct Tree {
    /// Its directory.
    root: OwnedFd,
    /// Which devices are made.
    devices: Devices,
    /// The directory that was written to last.
    parent: Option<(PathBuf, OwnedFd)>,
    /// Directories that the archive names.
    named: BTreeMap<PathBuf, Directory>,
    /// Directories that it only implies.
    implied: BTreeSet<PathBuf>,
    /// What it removes from the layers below.
    removed: BTreeSet<PathBuf>,
    /// Directories that hide what is below.
    opaque: BTreeSet<PathBuf>,
    /// For data.
    buffer: Vec<u8>,
}

/// A name of an archive as a path below the root: no `.`, no leading `/`, and no `..`.
pub fn clean(name: &[u8]) -> io::Result<PathBuf> {
    let mut path = PathBuf::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(io::Error::other("'..' in a name of an image is refused")),
            part if part.contains(&0) => return Err(malformed("a name has a NUL")),
            part => path.push(OsStr::from_bytes(part)),
        }
    }
    Ok(path)
}

impl Tree {
    /// A tree in an empty directory.
    pub fn new(root: OwnedFd, devices: Devices) -> Self {
        Self {
            root,
            devices,
            parent: None,
            named: BTreeMap::new(),
            implied: BTreeSet::from([PathBuf::new()]),
            removed: BTreeSet::new(),
            opaque: BTreeSet::new(),
            buffer: vec![0; 128 << 10],
        }
    }

    /// Makes an entry.
    pub fn make<R: Input>(&mut self, entry: &Entry, archive: &mut Archive<R>) -> io::Result<()> {
        let path = clean(&entry.path)?;
        let Some(name) = path.file_name().map(OsStr::to_owned) else {
            return if entry.kind == Kind::Directory { self.directory(PathBuf::new(), entry) } else { Ok(()) };
        };
        let above = path.parent().unwrap_or(Path::new("")).to_owned();
        if let Some(removed) = name.as_bytes().strip_prefix(REMOVED) {
            return self.whiteout(above, name.as_bytes(), removed);
        }
        match entry.kind {
            Kind::Directory => self.directory(path, entry),
            Kind::File => self.file(&path, &above, &name, entry, archive),
            Kind::HardLink => self.hard_link(&path, &above, &name, entry),
            Kind::Symlink => {
                let link = OsStr::from_bytes(&entry.link).to_owned();
                self.node(&path, &above, &name, entry, |at, name| symlinkat(&link, at, name))
            }
            Kind::Fifo => self.special(&path, &above, &name, entry, FileType::Fifo),
            Kind::Char if self.makes_devices(entry) => {
                self.special(&path, &above, &name, entry, FileType::CharacterDevice)
            }
            Kind::Block if self.makes_devices(entry) => {
                self.special(&path, &above, &name, entry, FileType::BlockDevice)
            }
            Kind::Char | Kind::Block if self.devices == Devices::Refuse => {
                Err(io::Error::other("it is a device node, and berthd.toml refuses those (images.devices)"))
            }
            Kind::Char | Kind::Block | Kind::Other => Ok(()),
        }
    }

    /// A device 0:0 is overlayfs's whiteout and nothing that an archive may make.
    fn makes_devices(&self, entry: &Entry) -> bool {
        self.devices == Devices::Make && entry.device != (0, 0)
    }

    /// Does what has to wait for the last entry. Returns directories that were only implied.
    pub fn finish(mut self) -> io::Result<Vec<PathBuf>> {
        self.parent = None;
        for path in std::mem::take(&mut self.opaque) {
            self.hide(&path, b"y")?;
        }
        for path in std::mem::take(&mut self.removed) {
            self.remove_below(&path).map_err(|error| about(&path, &error))?;
        }
        for (path, directory) in &self.named {
            directory.apply(&self.open(path)?)?;
        }
        Ok(self.implied.into_iter().collect())
    }

    /// Notes a whiteout; its sibling of the same layer may stand before or after it.
    fn whiteout(&mut self, above: PathBuf, name: &[u8], removed: &[u8]) -> io::Result<()> {
        // umoci says so of what was in a directory that this layer makes a file or a link: that hides it already.
        if let Err(Errno::NOTDIR | Errno::LOOP) = resolve(&self.root, &above) {
            return Ok(());
        }
        self.directory_at(&above)?;
        match removed {
            _ if name == REMOVED_ALL => drop(self.opaque.insert(above)),
            // Of aufs, whose own files these are.
            removed if removed.starts_with(REMOVED) => {}
            b"" | b"." | b".." => return Err(malformed("a whiteout has no name")),
            removed => drop(self.removed.insert(above.join(OsStr::from_bytes(removed)))),
        }
        Ok(())
    }

    /// Removes something of the layers below; what this layer has at its place stays.
    fn remove_below(&mut self, path: &Path) -> io::Result<()> {
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
        let parent = match resolve(&self.root, above) {
            // This layer has put something else there.
            Err(Errno::NOTDIR | Errno::NOENT | Errno::LOOP) => return Ok(()),
            other => other?,
        };
        match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() => self.hide(path, b"y"),
            Ok(_) => Ok(()),
            Err(_) => match mknodat(&parent, name, FileType::CharacterDevice, Mode::empty(), makedev(0, 0)) {
                // Where even this device is refused, a file with an attribute stands for it.
                Err(Errno::PERM) if knows_whiteout_attributes() => {
                    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                    fsetxattr(openat(&parent, name, flags, Mode::empty())?, WHITEOUT, b"y", XattrFlags::empty())?;
                    // "x": whiteouts of this form are to be looked for. A directory that hides all needs none.
                    match fsetxattr(&parent, OPAQUE, b"x", XattrFlags::CREATE) {
                        Err(Errno::EXIST) => Ok(()),
                        other => Ok(other?),
                    }
                }
                other => Ok(other?),
            },
        }
    }

    /// Marks a directory.
    fn hide(&self, path: &Path, value: &[u8]) -> io::Result<()> {
        Ok(fsetxattr(self.open(path)?, OPAQUE, value, XattrFlags::empty())?)
    }

    /// Makes a directory, or says anew what one will be.
    fn directory(&mut self, path: PathBuf, entry: &Entry) -> io::Result<()> {
        if let (Some(above), Some(name)) = (path.parent().map(Path::to_owned), path.file_name()) {
            let parent = self.directory_at(&above)?;
            if let Err(Errno::EXIST) = mkdirat(parent, name, Mode::RWXU) {
                let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
                if !FileType::from_raw_mode(stat.st_mode).is_dir() {
                    unlinkat(parent, name, AtFlags::empty())?;
                    mkdirat(parent, name, Mode::RWXU)?;
                }
            }
        }
        self.implied.remove(&path);
        let directory = Directory {
            mode: entry.mode,
            owner: (entry.uid, entry.gid),
            mtime: entry.mtime,
            xattrs: entry.xattrs.iter().filter(|(name, _)| is_kept(name)).cloned().collect(),
        };
        self.named.insert(path, directory);
        Ok(())
    }

    /// Makes a regular file.
    fn file<R: Input>(
        &mut self,
        path: &Path,
        above: &Path,
        name: &OsStr,
        entry: &Entry,
        archive: &mut Archive<R>,
    ) -> io::Result<()> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let make = |at: &OwnedFd| openat(at, name, flags, Mode::RUSR | Mode::WUSR);
        let file = match make(self.directory_at(above)?) {
            Err(Errno::EXIST) => {
                self.make_way(path, above, name)?;
                make(self.directory_at(above)?)?
            }
            other => other?,
        };
        let file = std::fs::File::from(file);
        self.fill(&file, entry, archive)?;
        fchown(&file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))?;
        fchmod(&file, Mode::from_raw_mode(entry.mode))?;
        // After the owner, with which the kernel takes capabilities away.
        set_xattrs(&file, &entry.xattrs)?;
        Ok(futimens(&file, &timestamps(entry.mtime))?)
    }

    /// Writes the data of a file, or its pieces.
    fn fill<R: Input>(&mut self, file: &std::fs::File, entry: &Entry, archive: &mut Archive<R>) -> io::Result<()> {
        use std::os::unix::fs::FileExt as _;
        let whole = [(0, entry.size)];
        for (offset, length) in entry.pieces.as_deref().unwrap_or(&whole) {
            let (mut at, end) = (*offset, offset + length);
            while at < end {
                let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(self.buffer.len());
                let count = archive.read(&mut self.buffer[..most])?;
                file.write_all_at(&self.buffer[..count], at)?;
                at += count as u64;
            }
        }
        if entry.pieces.is_some() { Ok(ftruncate(file, entry.size)?) } else { Ok(()) }
    }

    /// Makes another name of a file of this layer.
    fn hard_link(&mut self, path: &Path, above: &Path, name: &OsStr, entry: &Entry) -> io::Result<()> {
        let target = clean(&entry.link)?;
        let (Some(from), Some(old)) = (target.parent(), target.file_name()) else {
            return Err(malformed("a hard link leads to the root"));
        };
        if target == path {
            return Ok(());
        }
        let missing = || {
            io::Error::other(format!(
                "its hard link leads to '{}', which its own layer does not have",
                target.display()
            ))
        };
        let source =
            self.open(from).map_err(|error| if error.kind() == io::ErrorKind::NotFound { missing() } else { error })?;
        let link = |at: &OwnedFd| linkat(&source, old, at, name, AtFlags::empty());
        match link(self.directory_at(above)?) {
            Err(Errno::NOENT) => Err(missing()),
            Err(Errno::EXIST) => {
                self.make_way(path, above, name)?;
                Ok(link(self.directory_at(above)?)?)
            }
            other => Ok(other?),
        }
    }

    /// Makes a pipe or a device.
    fn special(&mut self, path: &Path, above: &Path, name: &OsStr, entry: &Entry, kind: FileType) -> io::Result<()> {
        let device = if kind == FileType::Fifo { 0 } else { makedev(entry.device.0, entry.device.1) };
        self.node(path, above, name, entry, |at, name| mknodat(at, name, kind, Mode::empty(), device))?;
        let parent = self.directory_at(above)?;
        rustix::fs::chmodat(parent, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
        Ok(utimensat(parent, name, &timestamps(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Makes what is no file and no directory.
    fn node(
        &mut self,
        path: &Path,
        above: &Path,
        name: &OsStr,
        entry: &Entry,
        make: impl Fn(&OwnedFd, &OsStr) -> rustix::io::Result<()>,
    ) -> io::Result<()> {
        if let Err(error) = make(self.directory_at(above)?, name) {
            if error != Errno::EXIST {
                return Err(error.into());
            }
            self.make_way(path, above, name)?;
            make(self.directory_at(above)?, name)?;
        }
        let parent = self.directory_at(above)?;
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(utimensat(parent, name, &timestamps(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Removes what an entry replaces.
    fn make_way(&mut self, path: &Path, above: &Path, name: &OsStr) -> io::Result<()> {
        let parent = self.directory_at(above)?;
        match unlinkat(parent, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => remove_tree(parent, name)?,
            other => return Ok(other?),
        }
        self.parent = None;
        self.named.retain(|named, _| !named.starts_with(path));
        self.implied.retain(|implied| !implied.starts_with(path));
        self.opaque.retain(|opaque| !opaque.starts_with(path));
        Ok(())
    }

    /// A directory of the tree, made with those above it where the archive has not named it.
    fn directory_at(&mut self, path: &Path) -> io::Result<&OwnedFd> {
        if self.parent.as_ref().is_none_or(|(last, _)| last != path) {
            let opened = match self.open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.imply(path)?,
                other => other?,
            };
            self.parent = Some((path.to_owned(), opened));
        }
        match &self.parent {
            Some((_, parent)) => Ok(parent),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Makes the directories of a path that are not there.
    fn imply(&mut self, path: &Path) -> io::Result<OwnedFd> {
        let mut whole = PathBuf::new();
        let mut at = self.open(&whole)?;
        for part in path.components() {
            whole.push(part);
            match mkdirat(&at, part.as_os_str(), Mode::from_raw_mode(0o755)) {
                Err(Errno::EXIST) => {}
                other => {
                    other?;
                    self.implied.insert(whole.clone());
                }
            }
            at = self.open(&whole)?;
        }
        Ok(at)
    }

    /// Opens a directory of the tree.
    fn open(&self, path: &Path) -> io::Result<OwnedFd> {
        open_beneath(&self.root, path)
    }
}

/// Opens a directory below another, through no link.
pub fn open_beneath(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    resolve(root, path).map_err(|error| match error {
        Errno::LOOP => {
            io::Error::other(format!("'{}' leads through a symbolic link, which is refused", path.display()))
        }
        other => other.into(),
    })
}

/// The same, with the kernel's word on why not.
fn resolve(root: &OwnedFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    // Without O_NOFOLLOW, which would make a link at the end "not a directory".
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let rules = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    openat2(root, path, flags, Mode::empty(), rules)
}

/// Removes a directory of the tree with all in it.
fn remove_tree(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(parent, name, flags, Mode::empty())?;
    for entry in rustix::fs::Dir::read_from(&directory)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        match unlinkat(&directory, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => remove_tree(&directory, name)?,
            other => other?,
        }
    }
    Ok(unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

impl Directory {
    /// Sets all of it.
    fn apply(&self, directory: &OwnedFd) -> io::Result<()> {
        let (uid, gid) = self.owner;
        fchown(directory, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        fchmod(directory, Mode::from_raw_mode(self.mode))?;
        set_xattrs(directory, &self.xattrs)?;
        Ok(futimens(directory, &timestamps(self.mtime))?)
    }
}

/// Which extended attributes an image may set: those of the host's own (labels, measures, overlayfs) it may not.
fn is_kept(name: &[u8]) -> bool {
    let posix = [&b"security.capability"[..], b"system.posix_acl_access", b"system.posix_acl_default"];
    posix.contains(&name) || name.starts_with(b"user.") && !name.starts_with(b"user.overlay.")
}

/// Sets those that are kept.
fn set_xattrs(file: impl std::os::fd::AsFd, xattrs: &[(Vec<u8>, Vec<u8>)]) -> io::Result<()> {
    for (name, value) in xattrs.iter().filter(|(name, _)| is_kept(name)) {
        match fsetxattr(&file, OsStr::from_bytes(name), value, XattrFlags::empty()) {
            // The file system has none of this kind. A capability is not given up silently.
            Err(Errno::OPNOTSUPP) if name != b"security.capability" => {}
            other => other?,
        }
    }
    Ok(())
}

/// A time for utimensat(2).
fn timestamps((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// An error with what it is about.
pub fn about(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("'{}': {}", path.display(), crate::error::reason(error)))
}

/// Gives directories that a layer only implies what the layers below say of them; overlayfs shows the uppermost.
///
/// `lower` are the layers below, uppermost first.
pub fn adopt(layer: &Path, implied: &[PathBuf], lower: &[PathBuf]) -> io::Result<()> {
    let open = |path: &Path| openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let own = open(layer)?;
    for path in implied.iter().filter(|path| !is_hidden(&own, path)) {
        for below in lower {
            let below = open(below)?;
            let stat = match path.parent().map(|parent| open_beneath(&below, parent)).transpose() {
                Ok(None) => rustix::fs::fstat(&below),
                Ok(Some(parent)) => statat(parent, path.file_name().unwrap_or_default(), AtFlags::SYMLINK_NOFOLLOW),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Errno::NOENT),
                // A file, or a whiteout: what is below it does not show.
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => break,
                Err(error) => return Err(error),
            };
            let stat = match stat {
                Err(Errno::NOENT) if is_hidden(&below, path) => break,
                Err(Errno::NOENT) => continue,
                other => other?,
            };
            let kind = FileType::from_raw_mode(stat.st_mode);
            if kind.is_symlink() {
                return Err(io::Error::other(format!(
                    "'{}' is a symbolic link in a layer below and a directory without an entry in this one, which is refused",
                    path.display()
                )));
            }
            if kind.is_dir() {
                copy(&open_beneath(&own, path)?, &open_beneath(&below, path)?, &stat)?;
            }
            // The uppermost that has it counts; below a file nothing shows.
            break;
        }
    }
    Ok(())
}

/// Makes one directory like another.
fn copy(to: &OwnedFd, from: &OwnedFd, stat: &rustix::fs::Stat) -> io::Result<()> {
    let mut names = vec![0_u8; 64 << 10];
    let count = rustix::fs::flistxattr(from, &mut names[..])?;
    let mut xattrs = Vec::new();
    for name in names[..count].split(|byte| *byte == 0).filter(|name| is_kept(name)) {
        let mut value = vec![0_u8; 64 << 10];
        let count = rustix::fs::fgetxattr(from, OsStr::from_bytes(name), &mut value[..])?;
        value.truncate(count);
        xattrs.push((name.to_vec(), value));
    }
    let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    let mode = stat.st_mode & 0o7777;
    Directory { mode, owner: (stat.st_uid, stat.st_gid), mtime: (stat.st_mtime, nanos), xattrs }.apply(to)
}

/// Whether a directory, or one above it, hides the layers below.
fn is_hidden(root: &OwnedFd, path: &Path) -> bool {
    path.ancestors().any(|path| {
        let mut value = [0; 1];
        let found = open_beneath(root, path).map(|directory| rustix::fs::fgetxattr(directory, OPAQUE, &mut value[..]));
        matches!(found, Ok(Ok(1))) && value == *b"y"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_up() {
        for (name, path) in
            [("./a/b", "a/b"), ("/etc/passwd", "etc/passwd"), ("a//b/.", "a/b"), ("/", ""), ("..a", "..a")]
        {
            assert_eq!(clean(name.as_bytes()).unwrap(), Path::new(path));
        }
        for name in ["..", "a/../b", "/..", "a\0b"] {
            assert!(clean(name.as_bytes()).is_err(), "{name:?}");
        }
    }

    #[test]
    fn the_hosts_own_attributes_are_not_an_images_to_set() {
        for name in ["security.capability", "user.x", "system.posix_acl_access"] {
            assert!(is_kept(name.as_bytes()), "{name}");
        }
        for name in
            ["trusted.overlay.opaque", "security.selinux", "security.ima", "user.overlay.opaque", "trusted.x", "x"]
        {
            assert!(!is_kept(name.as_bytes()), "{name}");
        }
    }
}
