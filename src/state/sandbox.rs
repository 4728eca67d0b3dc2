//! Sandboxes: the directory that is a container's own (Mesos: the executor's work directory).
//!
//! `/var/lib/berth/sandboxes/NAME/RUN`, mode 0750, owned by the container's user; `latest` points to the newest.
//! The container's user can write in it, so nothing below is resolved without [`Beneath`].

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt as _, MetadataExt as _, chown, symlink},
    },
    path::{Component, Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, fchmod, fchown, mkdirat, openat2};

use crate::spec::SandboxMode;

/// The directory that runs with `sandbox = "persistent"` share.
const PERSISTENT: &str = "persistent";

/// The link to the newest run.
const LATEST: &str = "latest";

/// Where a container with a root of its own sees its sandbox.
pub const INSIDE: &str = "/mnt/berth/sandbox";

/// Where volumes of an image's own lie in the sandbox.
const IMAGE_VOLUMES: &str = "volumes";

/// Longest name of one there.
const LONGEST_VOLUME: usize = 200;

/// What the directory of a run's root is called beside its sandbox.
const ROOT_SUFFIX: &str = ".root";

/// Where what belongs to the root of a run lies: beside its sandbox, whose owner could tamper with what is in it.
#[must_use]
pub fn root_of(sandbox: &Path) -> PathBuf {
    let mut name = sandbox.as_os_str().to_owned();
    name.push(ROOT_SUFFIX);
    PathBuf::from(name)
}

/// Makes the directory of a run's root, empty: `upper` and `work` of an overlay, and `root` to put it on. The overlay's
/// `/` has owner and mode of its highest layer's, which is `model`.
///
/// # Errors
/// Whatever mkdir(2) and chown(2) say.
pub fn make_root(root: &Path, model: Option<&Path>) -> io::Result<()> {
    match fs::remove_dir_all(root) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let make = |path: &Path| fs::DirBuilder::new().mode(0o700).create(path);
    make(root)?;
    make(&root.join("root"))?;
    if let Some(model) = model {
        let model = fs::metadata(model)?;
        let upper = root.join("upper");
        make(&root.join("work"))?;
        make(&upper)?;
        chown(&upper, Some(model.uid()), Some(model.gid()))?;
        fs::set_permissions(&upper, model.permissions())?;
    }
    Ok(())
}

/// Where a volume of an image's own lies in the sandbox: by its place in the container, as systemd-escape(1) writes it.
#[must_use]
pub fn image_volume(target: &Path) -> PathBuf {
    let text = target.as_os_str().as_encoded_bytes();
    let text = text.strip_prefix(b"/").unwrap_or(text);
    let mut name = String::new();
    for (index, byte) in text.iter().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if index == 0 => name.push_str("\\x2e"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b':' | b'_' | b'.' => name.push(char::from(*byte)),
            byte => name.push_str(&format!("\\x{byte:02x}")),
        }
    }
    // A name of a file takes 255 bytes, and the volume has a longer one until it is whole.
    if name.len() > LONGEST_VOLUME {
        name = crate::spec::short_hash(text);
    }
    Path::new(IMAGE_VOLUMES).join(name)
}

/// Whether a sandbox is the one that its container's runs share.
#[must_use]
pub fn is_persistent(sandbox: &Path) -> bool {
    sandbox.file_name().is_some_and(|name| name == PERSISTENT)
}

/// How long sandboxes of ended runs stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// How many of a container's runs.
    pub keep: usize,
    /// How old the oldest may be.
    pub max_age: Duration,
}

/// Where the sandbox of a run lies, or will: preparing twice for one invocation is one sandbox.
#[must_use]
pub fn locate(all: &Path, mode: SandboxMode, invocation: &str) -> PathBuf {
    let fresh = || format!("{}-{invocation}", crate::clock::compact(SystemTime::now()));
    all.join(match mode {
        SandboxMode::Persistent => PERSISTENT.to_owned(),
        SandboxMode::Fresh => find(all, invocation).unwrap_or_else(fresh),
    })
}

/// Makes a sandbox that [`locate`] gave, for its user; that it is there is success.
///
/// # Errors
/// Whatever mkdir(2), chown(2) or symlink(2) say.
pub fn make(sandbox: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let Some((all, run)) = sandbox.parent().zip(sandbox.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    fs::create_dir_all(all)?;
    match fs::DirBuilder::new().mode(0o750).create(sandbox) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => chown(sandbox, Some(uid), Some(gid))?,
    }
    point_latest(all, Path::new(run))
}

/// The run that belongs to an invocation, if it was made before.
fn find(all: &Path, invocation: &str) -> Option<String> {
    let suffix = format!("-{invocation}");
    fs::read_dir(all)
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .find(|name| name.ends_with(&suffix))
}

/// Points `latest` to a run, in one step.
fn point_latest(all: &Path, run: &Path) -> io::Result<()> {
    let temporary = all.join(format!(".{LATEST}"));
    let _ = fs::remove_file(&temporary);
    symlink(run, &temporary)?;
    fs::rename(&temporary, all.join(LATEST))
}

/// Removes what retention no longer covers, sparing what is `in_use`. Gives the time at which more is due.
///
/// # Errors
/// The first that could not be removed; the others are.
pub fn collect(all: &Path, in_use: &[PathBuf], rule: Retention) -> io::Result<Option<SystemTime>> {
    let orphans = remove_orphans(all, in_use);
    let mut runs = runs(all)?;
    runs.retain(|(_, path)| !in_use.contains(path));
    runs.sort();
    runs.reverse();
    let now = SystemTime::now();
    let (mut next, mut failure) = (None::<SystemTime>, orphans.err());
    for (rank, (born, path)) in runs.into_iter().enumerate() {
        let due = born.checked_add(rule.max_age).unwrap_or(now);
        if rank < rule.keep && due > now {
            next = Some(next.map_or(due, |next| next.min(due)));
            continue;
        }
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => failure = failure.or(Some(error)),
            _ => {}
        }
    }
    failure.map_or(Ok(next), Err)
}

/// Removes roots of runs that are not `in_use`: a crash or a reboot left them.
fn remove_orphans(all: &Path, in_use: &[PathBuf]) -> io::Result<()> {
    let used: Vec<PathBuf> = in_use.iter().map(|sandbox| root_of(sandbox)).collect();
    let mut failure = None;
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_root = entry.file_name().as_encoded_bytes().ends_with(ROOT_SUFFIX.as_bytes());
        if is_root && !used.contains(&path) {
            failure = fs::remove_dir_all(&path).err().filter(|e| e.kind() != io::ErrorKind::NotFound).or(failure);
        }
    }
    failure.map_or(Ok(()), Err)
}

/// Removes the directory of a container that has no runs left.
pub fn forget(all: &Path) {
    if runs(all).is_ok_and(|runs| runs.is_empty()) && !all.join(PERSISTENT).exists() {
        let _ = fs::remove_file(all.join(LATEST));
        let _ = fs::remove_dir(all);
    }
}

/// Sandboxes of single runs, with their birth; the persistent one is the operator's to remove.
fn runs(all: &Path) -> io::Result<Vec<(SystemTime, PathBuf)>> {
    let entries = match fs::read_dir(all) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut runs = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.as_encoded_bytes().ends_with(ROOT_SUFFIX.as_bytes()) {
            continue;
        }
        let is_run = entry.file_type().is_ok_and(|kind| kind.is_dir()) && name != PERSISTENT;
        if let (true, Some(born)) = (is_run, name.to_str().and_then(crate::clock::from_compact)) {
            runs.push((born, entry.path()));
        }
    }
    Ok(runs)
}

/// A directory whose content others may write, opened so that nothing resolved in it leaves it
/// (openat2(2): `RESOLVE_BENEATH`, no symlink followed).
#[derive(Debug)]
pub struct Beneath {
    /// The directory.
    directory: OwnedFd,
}

impl Beneath {
    /// Opens the directory itself.
    ///
    /// # Errors
    /// open(2)'s.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { directory: rustix::fs::open(path, flags, Mode::empty())? })
    }

    /// Makes a directory and those above it; the last gets `mode` and owner, also if it was there, and is given back.
    ///
    /// # Errors
    /// A symlink, a `..` or something that is no directory stands in the way, or a call failed.
    pub fn make_dir(&self, relative: &Path, mode: u32, uid: u32, gid: u32) -> io::Result<OwnedFd> {
        let mut at = self.step(&self.directory, Path::new("."))?;
        for part in relative.components() {
            let Component::Normal(name) = part else { continue };
            match mkdirat(&at, name, Mode::from_raw_mode(0o755)) {
                Ok(()) => {
                    chownat(&at, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::SYMLINK_NOFOLLOW)?
                }
                Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            at = self.step(&at, Path::new(name))?;
        }
        fchown(&at, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        fchmod(&at, Mode::from_raw_mode(mode))?;
        Ok(at)
    }

    /// Opens a directory for reading, beneath `at`.
    fn step(&self, at: &OwnedFd, name: &Path) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(openat2(at, name, flags, Mode::empty(), resolve)?)
    }
}
