//! What the kernel shows in a root of the container's own: `/proc`, `/sys`, control groups, `/dev`; and what of it not.

use std::{
    fs::OpenOptions,
    io,
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt as _},
    path::Path,
};

use super::{failure::failure, root::Root};
use crate::{
    protocol::{Failure, Stage},
    sys::mount::{self, Denied, Depth},
};

/// The nodes that every `/dev` has (OCI runtime specification, "Default Devices").
const NODES: [(&str, (u32, u32)); 6] = [
    ("/dev/null", (1, 3)),
    ("/dev/zero", (1, 5)),
    ("/dev/full", (1, 7)),
    ("/dev/random", (1, 8)),
    ("/dev/urandom", (1, 9)),
    ("/dev/tty", (5, 0)),
];

/// The links that every `/dev` has.
const LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
    ("/proc/kcore", "/dev/core"),
];

/// What is hidden: it tells of the host or of other containers. The defaults of OCI engines, and Mesos's.
const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/key-users",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What is closed: it changes the host.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What of the host's `/dev` a container's may be made of, opened before the change of root.
#[derive(Debug)]
pub(super) struct Host {
    /// As [`NODES`].
    nodes: Vec<OwnedFd>,
    /// Shared memory and queues, where the ipc namespace is the host's.
    shared: Vec<(&'static str, OwnedFd)>,
}

impl Host {
    /// Opens it. With an ipc namespace of its own, `namespaces/ipc` mounts what belongs to that.
    pub fn open(private_ipc: bool) -> Result<Self, Failure> {
        let open = |path: &str| OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path).map(OwnedFd::from);
        let nodes = NODES.iter().map(|(path, _)| {
            open(path).map_err(|error| {
                failure(Stage::Mounts, "open", Some(Path::new(path)), &error, "does the host have it?")
            })
        });
        let mut shared = Vec::new();
        for path in ["/dev/shm", "/dev/mqueue"].into_iter().filter(|_| !private_ipc) {
            // A host without one has nothing to share.
            shared.extend(open(path).and_then(mount::clone_tree).ok().map(|tree| (path, tree)));
        }
        Ok(Self { nodes: nodes.collect::<Result<_, _>>()?, shared })
    }
}

/// Mounts all of it.
pub(super) fn show(root: &Root, host: Host) -> Result<(), Failure> {
    root.mount(Path::new("/proc"), c"proc", &[], Denied::Programs)?;
    root.mount(Path::new("/sys"), c"sysfs", &[], Denied::Programs)?;
    show_cgroups(root)?;
    close(root, "/sys")?;
    show_devices(root, host)
}

/// The container's own control group as the top of all that there are, read-only. A kernel whose controllers are all
/// of v1 may have no cgroup2: then nothing is shown.
fn show_cgroups(root: &Root) -> Result<(), Failure> {
    let path = Path::new("/sys/fs/cgroup");
    if root.at(path).is_err() {
        return Ok(());
    }
    match root.mount(path, c"cgroup2", &[], Denied::Programs) {
        Err(failure) if matches!(failure.errno, Some(libc::ENODEV | libc::EBUSY)) => Ok(()),
        Err(failure) => Err(failure),
        Ok(()) => close(root, "/sys/fs/cgroup"),
    }
}

/// Makes one mount read-only.
fn close(root: &Root, path: &str) -> Result<(), Failure> {
    let path = Path::new(path);
    root.set_read_only(path).map_err(|error| {
        let act = format!("make {} read-only", path.display());
        failure(Stage::Mounts, act, Some(path), &error, "the launcher needs CAP_SYS_ADMIN")
    })
}

/// A `/dev` of the container's own.
fn show_devices(root: &Root, host: Host) -> Result<(), Failure> {
    root.mount(Path::new("/dev"), c"tmpfs", &[("mode", "755"), ("size", "64m")], Denied::Setuid)?;
    let fail = |path: &str| {
        let path = Path::new(path).to_owned();
        move |error: io::Error| {
            failure(Stage::Mounts, format_args!("make {}", path.display()), Some(&path), &error, "please report it")
        }
    };
    for ((path, number), node) in NODES.iter().zip(&host.nodes) {
        root.device(Path::new(path), *number, node).map_err(fail(path))?;
    }
    for (target, path) in LINKS {
        root.link(target, Path::new(path)).map_err(fail(path))?;
    }
    let options = [("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")];
    root.mount(Path::new("/dev/pts"), c"devpts", &options, Denied::NoPrograms)?;
    for path in ["/dev/shm", "/dev/mqueue"] {
        root.directory(Path::new(path)).map_err(fail(path))?;
    }
    for (path, tree) in host.shared {
        root.at(Path::new(path)).and_then(|place| mount::attach(tree, place)).map_err(fail(path))?;
    }
    Ok(())
}

/// Hides what is to be hidden and closes what is to be closed; what the kernel does not have is skipped.
pub(super) fn mask() -> Result<(), Failure> {
    let root = Root::open()?;
    let each = |paths: &[&str], act: &str, cover: fn(&Root, &OwnedFd) -> io::Result<OwnedFd>| {
        for path in paths.iter().map(Path::new) {
            let covered = || -> io::Result<()> {
                let place = match root.at(path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                    place => place?,
                };
                mount::attach(cover(&root, &place)?, place)
            };
            covered().map_err(|error| {
                let act = format!("{act} {}", path.display());
                failure(Stage::Mounts, act, Some(path), &error, "the launcher needs CAP_SYS_ADMIN")
            })?;
        }
        Ok(())
    };
    each(&MASKED, "hide", nothing)?;
    each(&READ_ONLY, "close", |_, place| {
        let tree = mount::clone_tree(place)?;
        mount::set_read_only(&tree, Depth::All)?;
        Ok(tree)
    })
}

/// An empty directory for a directory, the null device for anything else; both read-only.
fn nothing(root: &Root, place: &OwnedFd) -> io::Result<OwnedFd> {
    let tree = if super::bind::is_directory(place)? {
        mount::new_filesystem(c"tmpfs", &[("mode", "755"), ("size", "4k")], Denied::Programs)?
    } else {
        mount::clone_tree(root.at(Path::new("/dev/null"))?)?
    };
    mount::set_read_only(&tree, Depth::All)?;
    Ok(tree)
}
