//! The control groups of a container's main process, joined by one who enters.
//!
//! Where it is now, and not where its unit began: a delegated cgroup is the program's to divide, and cgroup2 takes no
//! process into one that has been divided. All hierarchies, since under the direct manager, and on hosts with v1
//! controllers, a container has a group in several.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::super::failure::{failure, refusal};
use crate::{
    host::{
        cgroups,
        mounts::{Mount, mounts},
    },
    protocol::{Failure, Stage},
    root::Root,
};

/// Joins the groups of the process `main` in every hierarchy that is mounted here.
pub(super) fn join(main: u32) -> Result<(), Failure> {
    let mounts = mounts(&Root::default());
    for (controllers, path) in differences(main)? {
        let Some(directory) = mounts.iter().find_map(|mount| place(mount, &controllers, &path)) else { continue };
        // "0" is who writes it.
        fs::write(directory.join("cgroup.procs"), "0").map_err(|error| {
            let cure = match error.raw_os_error() {
                Some(libc::EROFS) => "the cgroup filesystem is read-only here; run berthctl elsewhere",
                Some(libc::EOPNOTSUPP) => "the container has made it a threaded one, which takes threads only",
                Some(libc::EBUSY) => "the container is just dividing it; try again",
                _ => "berthctl must be able to write there",
            };
            let act = format_args!("join the control group {}", directory.display());
            failure(Stage::Prepare, act, Some(&directory), &error, cure)
        })?;
    }
    Ok(())
}

/// Refuses where a hierarchy is left in which this process is elsewhere than `main`.
pub(super) fn check(main: u32) -> Result<(), Failure> {
    let Some((controllers, path)) = differences(main)?.pop() else { return Ok(()) };
    let hierarchy = if controllers.is_empty() { "cgroup2" } else { &controllers };
    let message = format!(
        "cannot join the control group {path} of the hierarchy {hierarchy}: it is mounted nowhere here; mount it, or \
         run berthctl elsewhere"
    );
    Err(refusal(Stage::Prepare, None, message))
}

/// The groups of `main`, by controllers, that are not this process's.
fn differences(main: u32) -> Result<Vec<(String, String)>, Failure> {
    let unreadable = |error: io::Error| {
        failure(Stage::Prepare, "read the control groups of the container", None, &error, "is /proc mounted?")
    };
    let read = |pid| cgroups::all_of_process(&Root::default(), pid).map_err(unreadable);
    let (ours, theirs) = (read(std::process::id())?, read(main)?);
    Ok(theirs.into_iter().filter(|(controllers, path)| ours.get(controllers) != Some(path)).collect())
}

/// The directory of a cgroup, if it is one of this mount's hierarchy.
fn place(mount: &Mount, controllers: &str, path: &str) -> Option<PathBuf> {
    let is_its = match controllers {
        "" => mount.kind == "cgroup2",
        _ => controllers.split(',').all(|controller| mount.has_controller(controller)),
    };
    // In a cgroup namespace, or bound from further down, a mount shows a part only.
    let below = Path::new(path).strip_prefix(&mount.top).ok().filter(|_| is_its)?;
    Some(mount.target.join(below))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_found_below_the_mount_of_its_hierarchy() {
        let mount = |top: &str, target: &str, kind: &str, options: &str| Mount {
            top: top.into(),
            target: target.into(),
            shared: false,
            kind: kind.to_owned(),
            options: options.to_owned(),
        };
        let unified = mount("/", "/sys/fs/cgroup/unified", "cgroup2", "rw,nsdelegate");
        let cpu = mount("/", "/sys/fs/cgroup/cpu", "cgroup", "rw,cpu,cpuacct");
        let part = mount("/box", "/sys/fs/cgroup/pids", "cgroup", "rw,pids");
        let named = mount("/", "/sys/fs/cgroup/systemd", "cgroup", "rw,xattr,name=systemd");
        let table = [
            (&unified, "", "/a/b", Some("/sys/fs/cgroup/unified/a/b")),
            (&unified, "", "/", Some("/sys/fs/cgroup/unified")),
            (&unified, "cpu", "/a", None),
            (&cpu, "cpu,cpuacct", "/a", Some("/sys/fs/cgroup/cpu/a")),
            (&cpu, "cpuset", "/a", None),
            (&cpu, "", "/a", None),
            (&part, "pids", "/box/a", Some("/sys/fs/cgroup/pids/a")),
            (&part, "pids", "/boxes/a", None),
            (&named, "name=systemd", "/a", Some("/sys/fs/cgroup/systemd/a")),
        ];
        for (mount, controllers, path, expected) in table {
            assert_eq!(
                place(mount, controllers, path).as_deref(),
                expected.map(Path::new),
                "{mount:?} {controllers} {path}"
            );
        }
    }
}
