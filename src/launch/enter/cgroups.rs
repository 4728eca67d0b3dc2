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
    protocol::{Failure, Stage},
    sys::proc,
};

/// Where this process reads of itself and others.
const PROC: &str = "/proc";

/// Joins the groups of the process `main` in every hierarchy that is mounted here.
pub(super) fn join(main: u32) -> Result<(), Failure> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(|error| unreadable(&error))?;
    for (controllers, path) in differences(main)? {
        let Some(directory) = mounts.lines().find_map(|line| place(line, &controllers, &path)) else { continue };
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
    let read = |pid| proc::cgroups(Path::new(PROC), pid).map_err(|error| unreadable(&error));
    let (ours, theirs) = (read(std::process::id())?, read(main)?);
    Ok(theirs.into_iter().filter(|(controllers, path)| ours.get(controllers) != Some(path)).collect())
}

/// The directory of a cgroup, if this line of mountinfo (proc_pid_mountinfo(5)) mounts its hierarchy.
fn place(line: &str, controllers: &str, path: &str) -> Option<PathBuf> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut filesystem = filesystem.split(' ');
    let (kind, options) = (filesystem.next()?, filesystem.nth(1)?);
    let is_its = match controllers {
        "" => kind == "cgroup2",
        _ => kind == "cgroup" && controllers.split(',').all(|wanted| options.split(',').any(|has| has == wanted)),
    };
    let mut mount = mount.split(' ').skip(3);
    let (root, point) = (mount.next()?, mount.next()?);
    // In a cgroup namespace, or bound from further down, the mount shows a part only.
    let below = Path::new(path).strip_prefix(root).ok().filter(|_| is_its)?;
    Some(Path::new(point).join(below))
}

/// What it is in could not be read.
fn unreadable(error: &io::Error) -> Failure {
    failure(Stage::Prepare, "read the control groups of the container", None, error, "is /proc mounted?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_found_below_the_mount_of_its_hierarchy() {
        let unified = "31 30 0:27 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw,nsdelegate";
        let cpu = "32 30 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct";
        let part = "33 30 0:29 /box /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids";
        let named = "34 30 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd";
        let table = [
            (unified, "", "/a/b", Some("/sys/fs/cgroup/unified/a/b")),
            (unified, "", "/", Some("/sys/fs/cgroup/unified")),
            (unified, "cpu", "/a", None),
            (cpu, "cpu,cpuacct", "/a", Some("/sys/fs/cgroup/cpu/a")),
            (cpu, "cpuset", "/a", None),
            (cpu, "", "/a", None),
            (part, "pids", "/box/a", Some("/sys/fs/cgroup/pids/a")),
            (part, "pids", "/boxes/a", None),
            (named, "name=systemd", "/a", Some("/sys/fs/cgroup/systemd/a")),
            ("what", "", "/a", None),
        ];
        for (line, controllers, path, expected) in table {
            assert_eq!(
                place(line, controllers, path).as_deref(),
                expected.map(Path::new),
                "{line} {controllers} {path}"
            );
        }
    }
}
