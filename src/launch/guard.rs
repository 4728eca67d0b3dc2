//! Control groups that a container sees and must not change.

use std::{fs::OpenOptions, io, os::fd::OwnedFd, os::unix::fs::OpenOptionsExt, path::Path};

use super::failure::failure;
use crate::{
    host::{
        cgroups,
        mounts::{Mount, mounts},
    },
    protocol::{Failure, Stage},
    root::Root,
    sys::mount::{self, Depth},
};

/// Makes every mount of control groups read-only, in this mount namespace alone. The container's own cgroup of cgroup2
/// stays its own to divide: it is mounted once more over itself, writable, before the rest is closed.
pub(super) fn guard_cgroups() -> Result<(), Failure> {
    let root = Root::default();
    let all: Vec<Mount> = mounts(&root).into_iter().filter(Mount::is_cgroup).collect();
    let own = cgroups::of_self(&root).unwrap_or_default();
    let own = Path::new(&own).strip_prefix("/").unwrap_or(Path::new(""));
    for mount in all {
        let target = &mount.target;
        let is_whole = mount.kind == "cgroup2" && mount.top == Path::new("/");
        let kept = if is_whole && !own.as_os_str().is_empty() { keep(&target.join(own)) } else { Ok(()) };
        let closed = kept.and_then(|()| mount::set_read_only(open(target)?, Depth::One));
        closed.map_err(|error| {
            let act = format!("make the control groups at {} read-only", target.display());
            failure(Stage::Mounts, act, Some(target), &error, "the launcher needs CAP_SYS_ADMIN")
        })?;
    }
    Ok(())
}

/// Mounts a cgroup over itself, where there is one.
fn keep(cgroup: &Path) -> io::Result<()> {
    match open(cgroup) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(place) => mount::attach(mount::clone_tree(&place)?, place),
    }
}

/// Opens a directory to be named by its descriptor.
fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(path)?.into())
}
