//! Bind mounts without races: each source is opened once, cloned detached, completed, attached.

use std::{
    fs::OpenOptions,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    path::Path,
};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstat, openat2};

use super::failure::{failure, refusal};
use crate::{
    plan::{Bind, Source},
    protocol::{Failure, Stage},
    sys::mount::{self, Depth},
};

/// Binds all. Every source is opened before the first target is covered, so none sees another.
pub(super) fn bind_all(binds: &[Bind], sandbox: Option<&Path>) -> Result<(), Failure> {
    let trees = binds.iter().map(|bind| open_source(bind, sandbox)).collect::<Result<Vec<_>, _>>()?;
    binds.iter().zip(trees).try_for_each(|(bind, tree)| attach(bind, &tree))
}

/// The source as a detached tree, read-only where wanted.
pub(super) fn open_source(bind: &Bind, sandbox: Option<&Path>) -> Result<OwnedFd, Failure> {
    let (path, opened) = match &bind.source {
        Source::Host(path) => (path, open_path(path)),
        Source::Sandbox(path) | Source::Populated(path) => (path, open_beneath(sandbox, path)),
    };
    let source = opened.map_err(|error| {
        let cure = match (error.raw_os_error(), &bind.source) {
            (Some(libc::ELOOP), _) => "a symbolic link in the sandbox is not followed; use a directory",
            (Some(libc::EXDEV), _) => "it leads out of the sandbox; use a path inside",
            (Some(libc::ENOENT), Source::Host(_)) => "create it, or correct host_path",
            _ => "see that host_path is there and that it can be opened",
        };
        failure(Stage::Mounts, act(bind, path), Some(path), &error, cure)
    })?;
    let cloned = mount::clone_tree(source).and_then(|tree| {
        if bind.read_only {
            mount::set_read_only(&tree, Depth::All)?;
        }
        Ok(tree)
    });
    cloned.map_err(|error| {
        let cure = "the launcher needs CAP_SYS_ADMIN, and the source must not be unbindable";
        failure(Stage::Mounts, act(bind, path), Some(path), &error, cure)
    })
}

/// Puts the tree over its target.
fn attach(bind: &Bind, tree: &OwnedFd) -> Result<(), Failure> {
    let source = bind.source.path();
    let target = &bind.target;
    let fail = |error: io::Error, cure: &str| failure(Stage::Mounts, act(bind, source), Some(target), &error, cure);
    let opened = open_path(target).map_err(|error| {
        fail(error, "container_path must exist: without an image nothing is created on the host's filesystem")
    })?;
    let kinds = is_directory(tree).and_then(|tree| Ok((tree, is_directory(&opened)?)));
    match kinds.map_err(|error| fail(error, "see that both can be read"))? {
        (true, false) => Err(mismatch(bind, source, "a directory cannot be bound over a file")),
        (false, true) => Err(mismatch(bind, source, "a file cannot be bound over a directory")),
        _ => mount::attach(tree, opened).map_err(|error| fail(error, "the launcher needs CAP_SYS_ADMIN")),
    }
}

/// Opens what an absolute path of the operator's leads to, symbolic links included.
fn open_path(path: &Path) -> io::Result<OwnedFd> {
    Ok(OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?.into())
}

/// Opens a path inside the sandbox, which the container's earlier runs may have filled with traps.
fn open_beneath(sandbox: Option<&Path>, path: &Path) -> io::Result<OwnedFd> {
    let sandbox = sandbox.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, sandbox, flags | OFlags::DIRECTORY, Mode::empty())?;
    let rules = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(root, path, flags, Mode::empty(), rules)?)
}

/// Whether it is one.
pub(super) fn is_directory(fd: impl AsFd) -> io::Result<bool> {
    Ok(fstat(fd)?.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

/// What was being done.
fn act(bind: &Bind, source: &Path) -> String {
    format!("bind {} over {}", source.display(), bind.target.display())
}

/// A file against a directory.
fn mismatch(bind: &Bind, source: &Path, why: &str) -> Failure {
    let message = format!("cannot {}: {why}; make both a file or both a directory", act(bind, source));
    Failure { errno: Some(libc::ENOTDIR), ..refusal(Stage::Mounts, Some(&bind.target), message) }
}
