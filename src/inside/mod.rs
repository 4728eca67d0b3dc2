//! Looks into a root that is not mounted: the layers of an image, as an overlay of them would show them.
//!
//! Whoever made the image chose every name and link in it. A path is walked component by component, each opened without
//! following anything, and a symbolic link is followed by text, inside the root: there is no way out to walk.

mod users;

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read as _},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStringExt as _,
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fgetxattr, fstat, openat, openat2, readlinkat, statat,
    },
    io::Errno,
};

/// As many links as the kernel follows (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// Largest file that is read.
const LARGEST: u64 = 16 << 20;

/// The layers of a root, opened.
#[derive(Debug)]
pub struct Inside {
    /// The topmost first.
    layers: Vec<OwnedFd>,
}

/// What one component of a path is.
enum Found {
    /// Nothing, in no layer.
    Nothing,
    /// A directory, in these layers, the topmost first.
    Directory(Vec<OwnedFd>),
    /// A symbolic link, and where to.
    Link(PathBuf),
    /// A file, in this directory.
    File(OwnedFd),
}

/// What is at the end of a path.
enum Walked {
    /// Nothing.
    Nothing,
    /// A directory, in the topmost layer that has it.
    Directory(OwnedFd),
    /// A file of this name in this directory.
    File(OwnedFd, OsString),
}

impl Inside {
    /// Opens a root that is one directory.
    ///
    /// # Errors
    /// open(2).
    pub fn open(directory: &Path) -> io::Result<Self> {
        Self::of_layers(&[directory])
    }

    /// Opens the root that layers make, the lowest first.
    ///
    /// # Errors
    /// open(2), of a layer.
    pub fn of_layers(layers: &[impl AsRef<Path>]) -> io::Result<Self> {
        let open =
            |path: &_| Ok(openat(CWD, AsRef::<Path>::as_ref(path), DIRECTORY - OFlags::NOFOLLOW, Mode::empty())?);
        Ok(Self { layers: layers.iter().rev().map(open).collect::<io::Result<_>>()? })
    }

    /// The text of a file; none where there is none. Bytes that are no UTF-8 are replaced.
    ///
    /// # Errors
    /// It is no file, it is too large, its links go in circles, or it cannot be read.
    pub fn read(&self, path: &Path) -> io::Result<Option<String>> {
        match self.walk(path)? {
            Walked::Nothing => Ok(None),
            Walked::Directory(_) => Err(Errno::ISDIR.into()),
            Walked::File(directory, name) => {
                read_in(&directory, &name).map(|bytes| Some(String::from_utf8_lossy(&bytes).into_owned()))
            }
        }
    }

    /// Walks a path to its end.
    fn walk(&self, path: &Path) -> io::Result<Walked> {
        let mut names = names(path);
        let (mut links, mut walked) = (0, PathBuf::new());
        let mut at = self.tops()?;
        while let Some(name) = names.pop_front() {
            match find(&at, &name)? {
                Found::Nothing => return Ok(Walked::Nothing),
                Found::Directory(next) => {
                    at = next;
                    walked.push(name);
                }
                Found::Link(target) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(Errno::LOOP.into());
                    }
                    let rest: PathBuf = names.iter().collect();
                    names = self::names(&walked.join(target).join(rest));
                    at = self.tops()?;
                    walked = PathBuf::new();
                }
                Found::File(directory) if names.is_empty() => return Ok(Walked::File(directory, name)),
                Found::File(_) => return Err(Errno::NOTDIR.into()),
            }
        }
        Ok(at.into_iter().next().map_or(Walked::Nothing, Walked::Directory))
    }

    /// What is at a path, links followed; none where nothing is.
    ///
    /// # Errors
    /// Its links go in circles, or it cannot be looked at.
    pub fn look(&self, path: &Path) -> io::Result<Option<Stat>> {
        Ok(match self.walk(path)? {
            Walked::Nothing => None,
            Walked::Directory(directory) => Some(fstat(&directory)?),
            Walked::File(directory, name) => Some(statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW)?),
        })
    }

    /// The root in every layer.
    fn tops(&self) -> io::Result<Vec<OwnedFd>> {
        self.layers.iter().map(|layer| layer.try_clone()).collect()
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

/// Opens a part of a source: `path` beneath `root`. A symbolic link on the way is followed as long as it stays inside.
///
/// # Errors
/// openat2(2)'s; `EXDEV` where the path leads out.
pub fn resolve_beneath(root: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let rules = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), rules)?)
}

/// How directories of layers are opened.
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The components of a path inside a root: `..` goes up as far as the root.
fn names(path: &Path) -> VecDeque<OsString> {
    let mut names = VecDeque::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push_back(name.to_owned()),
            Component::ParentDir => drop(names.pop_back()),
            Component::RootDir => names.clear(),
            Component::CurDir | Component::Prefix(_) => {}
        }
    }
    names
}

/// What `name` is in a directory that lies in these layers: what is above hides what is below, but directories merge.
fn find(at: &[OwnedFd], name: &OsStr) -> io::Result<Found> {
    let mut directories = Vec::new();
    for directory in at {
        let stat = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno.into()),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let found = openat(directory, name, DIRECTORY, Mode::empty())?;
                let opaque = is_opaque(&found);
                directories.push(found);
                if opaque {
                    break;
                }
            }
            _ if !directories.is_empty() || is_whiteout(&stat) => break,
            FileType::Symlink => {
                let target = readlinkat(directory, name, Vec::new())?;
                return Ok(Found::Link(OsString::from_vec(target.into_bytes()).into()));
            }
            _ => return Ok(Found::File(directory.try_clone()?)),
        }
    }
    Ok(if directories.is_empty() { Found::Nothing } else { Found::Directory(directories) })
}

/// Whether this hides what lies below (overlayfs.rst, "whiteouts and opaque directories").
fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Whether a directory hides those of its name below.
fn is_opaque(directory: &OwnedFd) -> bool {
    let mut value = [0_u8; 1];
    fgetxattr(directory, c"trusted.overlay.opaque", &mut value).is_ok_and(|length| value.get(..length) == Some(b"y"))
}

/// Reads a file that was found, as long as it is one.
fn read_in(directory: impl AsFd, name: &OsStr) -> io::Result<Vec<u8>> {
    // Not a device whose opening does something, nor a pipe that nobody writes to.
    let stat = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL.into());
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(openat(directory, name, flags, Mode::empty())?);
    let mut content = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LARGEST { Err(Errno::FBIG.into()) } else { Ok(content) }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    /// Layers of files with their content, the lowest first.
    fn layers(at: &Path, layers: &[&[(&str, &str)]]) -> Vec<PathBuf> {
        let make = |(index, files): (usize, &&[(&str, &str)])| {
            let layer = at.join(index.to_string());
            fs::create_dir(&layer).unwrap();
            for (path, content) in *files {
                let path = layer.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                match content.strip_prefix("-> ") {
                    Some(target) => symlink(target, path).unwrap(),
                    None => fs::write(path, content).unwrap(),
                }
            }
            layer
        };
        layers.iter().enumerate().map(make).collect()
    }

    /// What a file holds.
    fn read(inside: &Inside, path: &str) -> Result<Option<String>, i32> {
        inside.read(Path::new(path)).map_err(|error| error.raw_os_error().unwrap())
    }

    #[test]
    fn layers_merge_and_links_stay_inside() {
        let at = tempfile::tempdir().unwrap();
        fs::write(at.path().join("secret"), "of the host").unwrap();
        let host = at.path().join("secret");
        let host_link = format!("-> {}", host.display());
        let layers = layers(
            at.path(),
            &[
                &[("etc/a", "low"), ("etc/b", "low"), ("file/x", "low"), ("usr/etc/c", "c")],
                &[
                    ("etc/b", "high"),
                    ("file", "now a file"),
                    ("out", &host_link),
                    ("up", "-> ../../../../../../secret"),
                    ("alias", "-> /usr"),
                    ("etc/d", "-> ../alias/etc/c"),
                    ("loop", "-> pool"),
                    ("pool", "-> /loop"),
                ],
            ],
        );
        let inside = Inside::of_layers(&layers).unwrap();
        for (path, expected) in [
            ("/etc/a", Ok(Some("low"))),
            ("/etc/b", Ok(Some("high"))),
            ("/etc/../etc/./b", Ok(Some("high"))),
            ("/etc/d", Ok(Some("c"))),
            ("/alias/etc/c", Ok(Some("c"))),
            ("/file", Ok(Some("now a file"))),
            ("/file/x", Err(libc::ENOTDIR)),
            ("/out", Ok(None)),
            ("/up", Ok(None)),
            ("/none", Ok(None)),
            ("/loop", Err(libc::ELOOP)),
            ("/etc", Err(libc::EISDIR)),
        ] {
            assert_eq!(read(&inside, path), expected.map(|text| text.map(str::to_owned)), "{path}");
        }
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let at = tempfile::tempdir().unwrap();
        let layers = layers(at.path(), &[&[]]);
        nix::unistd::mkfifo(&layers[0].join("pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        fs::File::create(layers[0].join("large")).unwrap().set_len(LARGEST + 1).unwrap();
        let inside = Inside::of_layers(&layers).unwrap();
        assert_eq!(read(&inside, "/pipe"), Err(libc::EINVAL));
        assert_eq!(read(&inside, "/large"), Err(libc::EFBIG));
        assert_eq!(inside.look(Path::new("/pipe")).unwrap().unwrap().st_mode & libc::S_IFMT, libc::S_IFIFO);
        assert!(inside.look(Path::new("/none")).unwrap().is_none());
    }
}
