//! Control groups as directories, of v1 and v2.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use crate::root::Root;

/// The cgroups in a cgroup.
#[must_use]
pub fn children(cgroup: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(cgroup).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

/// The processes in a cgroup and in those below. 0 is a process that our namespace cannot name.
#[must_use]
pub fn members(cgroup: &Path) -> Vec<u32> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let own = text.lines().filter_map(|line| line.trim().parse().ok()).filter(|&pid| pid != 0);
    own.chain(children(cgroup).iter().flat_map(|child| members(child))).collect()
}

/// Removes a cgroup and those below. Absence is success.
///
/// # Errors
/// rmdir(2); `EBUSY` while a process is in one of them.
pub fn remove(cgroup: &Path) -> io::Result<()> {
    for child in children(cgroup) {
        remove(&child)?;
    }
    match fs::remove_dir(cgroup) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The cgroup2 cgroup of a process, below the mount: the line `0::PATH` of `/proc/PID/cgroup` (cgroups(7)).
///
/// # Errors
/// read(2); `NotFound` where the process is in no cgroup2 hierarchy.
pub fn of_process(root: &Root, pid: u32) -> io::Result<String> {
    of(root, &pid.to_string())
}

/// The same of this process, which in a new pid namespace does not know how `/proc` numbers it.
///
/// # Errors
/// As [`of_process`].
pub fn of_self(root: &Root) -> io::Result<String> {
    of(root, "self")
}

/// The cgroups of a process in all hierarchies, by the controllers of each (`memory`, `cpu,cpuacct`, `name=systemd`);
/// cgroup2 has none.
///
/// # Errors
/// read(2).
pub fn all_of_process(root: &Root, pid: u32) -> io::Result<BTreeMap<String, String>> {
    let text = fs::read_to_string(root.at(&format!("/proc/{pid}/cgroup")))?;
    let parts = text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    Ok(parts.map(|(controllers, path)| (controllers.to_owned(), path.to_owned())).collect())
}

/// What the processes of a cgroup2 cgroup, and of those below, have run up to now, in microseconds. Any of them that has run
/// since, however short, has made it grow.
///
/// # Errors
/// read(2); `NotFound` where there is no cgroup2 or the kernel does not count.
pub fn cpu_time(root: &Root, cgroup: &str) -> io::Result<u64> {
    let mount = super::mounts::cgroup2(root).ok_or(io::ErrorKind::NotFound)?;
    let file = root.at(&mount.to_string_lossy()).join(cgroup.trim_start_matches('/')).join("cpu.stat");
    let text = fs::read_to_string(file)?;
    let number = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
    number.and_then(|number| number.trim().parse().ok()).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// [`of_process`] of a directory in `/proc`.
fn of(root: &Root, process: &str) -> io::Result<String> {
    let text = fs::read_to_string(root.at(&format!("/proc/{process}/cgroup")))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"));
    path.map(str::to_owned).ok_or_else(|| io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_walked_and_removed() {
        let world = tempfile::tempdir().unwrap();
        let top = world.path().join("top");
        fs::create_dir_all(top.join("a/b")).unwrap();
        assert_eq!(children(&top), [top.join("a")]);
        remove(&top).unwrap();
        remove(&top).unwrap();
        assert!(!top.exists());
    }

    #[test]
    fn the_cgroup_of_a_process_is_that_of_v2() {
        let world = tempfile::tempdir().unwrap();
        let root = Root::new(world.path());
        fs::create_dir_all(root.at("/proc/7")).unwrap();
        let write = |text: &str| fs::write(root.at("/proc/7/cgroup"), text).unwrap();
        write("10:net_cls:/berth/web\n0::/berth.slice/berth@web.service\n");
        assert_eq!(of_process(&root, 7).unwrap(), "/berth.slice/berth@web.service");
        let all = all_of_process(&root, 7).unwrap();
        assert_eq!(
            all,
            BTreeMap::from(
                [("net_cls", "/berth/web"), ("", "/berth.slice/berth@web.service")]
                    .map(|(controllers, path)| (controllers.to_owned(), path.to_owned()))
            )
        );
        write("5:cpu,cpuacct:/a:b\nwhat\n1:cpu:/\n");
        assert_eq!(all_of_process(&root, 7).unwrap()["cpu,cpuacct"], "/a:b");
        write("1:cpu:/\n");
        assert_eq!(of_process(&root, 7).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(of_process(&root, 8).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_processes_have_run_is_the_kernels_count() {
        let world = tempfile::tempdir().unwrap();
        let root = Root::new(world.path());
        let write = |path: &str, text: &str| {
            let path = root.at(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("/proc/self/mountinfo", "31 30 0:27 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw\n");
        assert_eq!(cpu_time(&root, "/berth/web").unwrap_err().kind(), io::ErrorKind::NotFound);
        write("/sys/fs/cgroup/berth/web/cpu.stat", "usage_usec 1234\nuser_usec 1000\n");
        assert_eq!(cpu_time(&root, "/berth/web").unwrap(), 1234);
        write("/sys/fs/cgroup/berth/web/cpu.stat", "user_usec 1000\n");
        assert!(cpu_time(&root, "/berth/web").is_err(), "no count is not a count of 0");
    }
}
