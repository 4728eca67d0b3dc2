//! The backend `net_cls`: the v1 hierarchy, wherever it is, and the cgroups of containers in it.
//!
//! systemd neither makes nor removes anything in it (CGROUP_DELEGATION, "Controller Support"), so all of it is berth's.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use cgroups_rs::{
    CgroupPid,
    fs::{Controller as _, net_cls::NetClsController},
};
use nix::mount::{MsFlags, mount};

use crate::{
    host::{cgroups, mounts::mounts},
    root::Root,
    spec::{Handle, Name},
};

/// The hierarchy, and berth's part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    mount: PathBuf,
    /// The cgroup above all containers.
    parent: PathBuf,
}

impl Hierarchy {
    /// The hierarchy that is mounted, whatever it is co-mounted with: a controller is in one hierarchy only.
    #[must_use]
    pub fn find(root: &Root) -> Option<Self> {
        let found = mounts(root).into_iter().find(|mount| mount.has_controller("net_cls"))?;
        Some(Self { parent: found.target.join(root.cgroup()), mount: found.target })
    }

    /// The same, mounted at `/run/berth/net_cls` where it is not mounted yet: below `/sys/fs/cgroup` other software
    /// takes it for a host of the old layout.
    ///
    /// # Errors
    /// mkdir(2) or mount(2).
    pub fn find_or_mount(root: &Root) -> io::Result<Self> {
        if let Some(found) = Self::find(root) {
            return Ok(found);
        }
        let place = root.net_cls();
        fs::create_dir_all(&place)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("net_cls"), &place, Some("cgroup"), flags, Some(controllers(root).as_str()))?;
        Ok(Self { parent: place.join(root.cgroup()), mount: place })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// The cgroup of a container.
    #[must_use]
    pub fn cgroup(&self, name: &Name) -> PathBuf {
        self.parent.join(name.as_str())
    }

    /// Makes the cgroup of a container; that it is there is success.
    ///
    /// # Errors
    /// mkdir(2).
    pub fn make(&self, name: &Name) -> io::Result<()> {
        fs::create_dir_all(self.cgroup(name))
    }

    /// The class of a container's packets; none where there is no cgroup, or nobody has set one.
    ///
    /// # Errors
    /// read(2).
    pub fn class(&self, name: &Name) -> io::Result<Option<Handle>> {
        class_of(&self.cgroup(name))
    }

    /// Sets the class of a container's packets, those of its open sockets too.
    ///
    /// # Errors
    /// write(2).
    pub fn set_class(&self, name: &Name, handle: Handle) -> io::Result<()> {
        self.controller(name).set_class(handle.0.into()).map_err(io::Error::other)
    }

    /// Puts a process, with all its threads, into the cgroup of a container.
    ///
    /// # Errors
    /// write(2).
    pub fn place(&self, name: &Name, pid: u32) -> io::Result<()> {
        self.controller(name).add_task_by_tgid(&CgroupPid::from(u64::from(pid))).map_err(io::Error::other)
    }

    /// Removes the cgroup of a container and those below. Absence is success.
    ///
    /// # Errors
    /// rmdir(2); `EBUSY` while a process is in it.
    pub fn remove(&self, name: &Name) -> io::Result<()> {
        cgroups::remove(&self.cgroup(name))
    }

    /// The containers that have a cgroup, whoever made it.
    #[must_use]
    pub fn containers(&self) -> Vec<Name> {
        cgroups::children(&self.parent).iter().filter_map(|path| path.file_name()?.to_str()?.parse().ok()).collect()
    }

    /// The classes of all cgroups but ours, with one that has it.
    #[must_use]
    pub fn others(&self) -> BTreeMap<Handle, PathBuf> {
        let mut found = BTreeMap::new();
        let mut waiting = vec![self.mount.clone()];
        while let Some(directory) = waiting.pop() {
            if directory == self.parent {
                continue;
            }
            if let Ok(Some(handle)) = class_of(&directory) {
                found.entry(handle).or_insert_with(|| directory.clone());
            }
            waiting.extend(cgroups::children(&directory));
        }
        found
    }

    /// The controller of a container's cgroup.
    fn controller(&self, name: &Name) -> NetClsController {
        NetClsController::new(self.cgroup(name), self.mount.clone())
    }
}

/// The controllers to mount: net_cls, with those that share its hierarchy. One may live on that is mounted nowhere, or not
/// here, and the kernel gives it to nobody who does not name all of them.
fn controllers(root: &Root) -> String {
    let text = fs::read_to_string(root.at("/proc/cgroups")).unwrap_or_default();
    // "net_cls  3  12  1": the hierarchy's number, 0 for that of cgroup2, is the second word.
    let rows: Vec<(&str, &str)> =
        text.lines().filter_map(|line| line.split_whitespace().next().zip(line.split_whitespace().nth(1))).collect();
    let number = rows.iter().find(|row| row.0 == "net_cls").map_or("0", |row| row.1);
    let shared = rows.iter().filter(|row| row.1 == number && number != "0" && row.0 != "net_cls").map(|row| row.0);
    let all: Vec<&str> = std::iter::once("net_cls").chain(shared).collect();
    all.join(",")
}

/// The class of a cgroup; none where there is no such cgroup, or the class is 0: unset.
fn class_of(cgroup: &Path) -> io::Result<Option<Handle>> {
    match fs::read_to_string(cgroup.join("net_cls.classid")) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => Ok(None),
        Err(error) => Err(error),
        Ok(text) => {
            let class = text.trim().parse::<u32>().map_err(io::Error::other)?;
            Ok((class != 0).then_some(Handle(class)))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects")]
mod tests {
    use super::*;

    #[test]
    fn a_hierarchy_is_mounted_with_all_that_it_has() {
        let world = tempfile::tempdir().unwrap();
        let root = Root::new(world.path());
        assert_eq!(controllers(&root), "net_cls");
        fs::create_dir(world.path().join("proc")).unwrap();
        let head = "#subsys_name\thierarchy\tnum_cgroups\tenabled\n";
        for (rows, all) in [
            ("cpu\t0\t9\t1\nnet_cls\t0\t9\t1\nnet_prio\t0\t9\t1\n", "net_cls"),
            ("cpu\t2\t9\t1\nnet_cls\t3\t1\t1\nperf_event\t0\t9\t1\nnet_prio\t3\t1\t1\n", "net_cls,net_prio"),
            ("net_cls\t3\t1\t1\nnet_prio\t4\t1\t1\n", "net_cls"),
        ] {
            fs::write(world.path().join("proc/cgroups"), format!("{head}{rows}")).unwrap();
            assert_eq!(controllers(&root), all, "{rows}");
        }
    }
}
