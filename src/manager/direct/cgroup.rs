//! The cgroups of containers on a host without systemd: `berth/NAME`, wherever one can be made.
//!
//! cgroups-rs makes them and freezes them; what it cannot do, or does through a hierarchy of its own guessing
//! (moves, removal without sleeping, cgroup2 beside v1), is done here on the files.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use cgroups_rs::{
    CgroupPid,
    fs::{
        Cgroup, Hierarchy,
        freezer::FreezerController,
        hierarchies::{V1, V2},
    },
};

use super::process;
use crate::{
    host::{cgroups, mounts::mounts},
    root::Root,
    spec::Name,
};

/// The v1 controllers that hold a container together.
const V1_CONTROLLERS: [&str; 2] = ["freezer", "pids"];

/// The place of cgroup2 that cgroups-rs knows.
const V2_MOUNT: &str = "/sys/fs/cgroup";

/// What cgroups this host has, and where containers go in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroups {
    /// The cgroup above all containers.
    parent: String,
    /// Mount points of v1 controllers.
    v1: Vec<PathBuf>,
    /// The mount point of cgroup2.
    v2: Option<PathBuf>,
}

/// The cgroup of one container.
#[derive(Debug)]
pub struct Home {
    /// As the kernel names it, below each mount point.
    path: String,
    /// Where it is. The directory of cgroup2 is the first.
    directories: Vec<PathBuf>,
    /// The v1 part, or on a pure v2 host the whole.
    made: Vec<Cgroup>,
}

impl Cgroups {
    /// The cgroups of this host.
    pub fn of(root: &Root) -> Self {
        let mut found = Self { parent: root.cgroup(), v1: Vec::new(), v2: None };
        for mount in mounts(root) {
            if mount.kind == "cgroup2" && found.v2.is_none() {
                found.v2 = Some(mount.target);
            } else if V1_CONTROLLERS.iter().any(|controller| mount.has_controller(controller)) {
                found.v1.push(mount.target);
            }
        }
        found
    }

    /// Makes the cgroup of a container in every hierarchy that lets itself be written.
    pub fn make(&self, name: &Name) -> Result<Home, String> {
        let path = format!("{}/{name}", self.parent);
        let mut home = Home { path: format!("/{path}"), directories: Vec::new(), made: Vec::new() };
        let mut refusals = Vec::new();
        if let Some(mount) = &self.v2 {
            let result = if mount == Path::new(V2_MOUNT) { make_v2(&path).map(Some) } else { make_plain(mount, &path) };
            match result {
                Ok(made) => {
                    home.made.extend(made);
                    home.directories.push(mount.join(&path));
                }
                Err(reason) => refusals.push(format!("{}: {reason}", mount.display())),
            }
        }
        if !self.v1.is_empty() {
            match make_v1(&path) {
                Ok(made) => {
                    home.made.push(made);
                    home.directories.extend(self.v1.iter().map(|mount| mount.join(&path)));
                }
                Err(reason) => refusals.push(format!("{}: {reason}", V1_CONTROLLERS.join(", "))),
            }
        }
        match (home.directories.is_empty(), refusals.is_empty()) {
            (false, _) => Ok(home),
            (true, true) => Err("no cgroup hierarchy is mounted".into()),
            (true, false) => Err(refusals.join("; ")),
        }
    }

    /// The cgroup of a container that an earlier berthd made, if it is there.
    pub fn find(&self, name: &Name) -> Option<Home> {
        let path = format!("{}/{name}", self.parent);
        let mounts = self.v2.iter().chain(&self.v1);
        let directories: Vec<_> = mounts.map(|mount| mount.join(&path)).filter(|place| place.is_dir()).collect();
        (!directories.is_empty()).then(|| {
            let v1 = self.v1.iter().any(|mount| mount.join(&path).is_dir());
            let made = v1.then(|| Cgroup::load_with_specified_controllers(v1_hierarchy(), &path, v1_controllers()));
            Home { path: format!("/{path}"), directories, made: made.into_iter().collect() }
        })
    }

    /// Removes what earlier runs left and nobody is in.
    pub fn sweep(&self) {
        for parent in self.v2.iter().chain(&self.v1).map(|mount| mount.join(&self.parent)) {
            for child in cgroups::children(&parent) {
                cgroups::remove(&child).ok(); // busy: somebody is in it
            }
        }
    }
}

impl Home {
    /// As the kernel names it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Puts a process into it.
    pub fn add(&self, pid: u32) -> Result<(), String> {
        let mut refusals = Vec::new();
        for made in self.made.iter().filter(|made| !made.v2()) {
            made.add_task_by_tgid(CgroupPid::from(u64::from(pid))).map_err(|e| refusals.push(chain(&e))).ok();
        }
        for directory in self.directories.iter().filter(|directory| is_v2(directory)) {
            let file = directory.join("cgroup.procs");
            fs::write(&file, pid.to_string()).map_err(|e| refusals.push(format!("{}: {e}", file.display()))).ok();
        }
        if refusals.is_empty() { Ok(()) } else { Err(refusals.join("; ")) }
    }

    /// Everybody in it, and in the cgroups below.
    pub fn members(&self) -> Vec<u32> {
        let mut members: Vec<u32> = self.directories.iter().flat_map(|directory| cgroups::members(directory)).collect();
        members.sort_unstable();
        members.dedup();
        members
    }

    /// Kills everybody in it: at once where the kernel can (`cgroup.kill`, Linux 5.14), else frozen, so that nobody
    /// forks meanwhile.
    pub fn kill(&self) {
        let at_once = self.directories.iter().map(|directory| directory.join("cgroup.kill"));
        if at_once.into_iter().any(|file| file.exists() && fs::write(file, "1").is_ok()) {
            process::kill_all(&self.members()); // who left the one hierarchy and not the other
            return;
        }
        self.freeze(true);
        process::kill_all(&self.members());
        self.freeze(false);
    }

    /// Freezes or thaws it, where it can be.
    fn freeze(&self, freeze: bool) {
        for made in &self.made {
            let Some(freezer) = made.controller_of::<FreezerController>() else { continue };
            let result = if freeze { freezer.freeze() } else { freezer.thaw() };
            if let Err(error) = result {
                tracing::debug!("{}: freezer: {}", self.path, chain(&error));
            }
        }
    }

    /// Removes it; an error while somebody is, or dies, in it. Absence is success.
    pub fn remove(&self) -> io::Result<()> {
        self.directories.iter().map(|directory| cgroups::remove(directory)).fold(Ok(()), Result::and)
    }
}

/// Whether a directory is of cgroup2.
fn is_v2(directory: &Path) -> bool {
    directory.join("cgroup.events").exists()
}

/// Makes `path` in the v1 hierarchies of our controllers, and in no other (a plain `create` acts on all).
fn make_v1(path: &str) -> Result<Cgroup, String> {
    Cgroup::new_with_specified_controllers(v1_hierarchy(), path, Some(v1_controllers())).map_err(|e| chain(&e))
}

/// Makes `path` on a pure v2 host. No controller is asked for: to hold a container together needs none.
fn make_v2(path: &str) -> Result<Cgroup, String> {
    Cgroup::new_with_specified_controllers(Box::new(V2::new()), path, Some(Vec::new())).map_err(|e| chain(&e))
}

/// Makes `path` below a mount point that cgroups-rs does not know: cgroup2 beside v1.
fn make_plain(mount: &Path, path: &str) -> Result<Option<Cgroup>, String> {
    fs::create_dir_all(mount.join(path)).map(|()| None).map_err(|error| error.to_string())
}

/// The v1 hierarchies, as mounted now.
fn v1_hierarchy() -> Box<dyn Hierarchy> {
    Box::new(V1::new())
}

/// Names of our controllers.
fn v1_controllers() -> Vec<String> {
    V1_CONTROLLERS.map(String::from).to_vec()
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_wherever_they_are() {
        let world = tempfile::tempdir().unwrap();
        let proc = world.path().join("proc/self");
        fs::create_dir_all(&proc).unwrap();
        let lines = "30 25 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n\
                     31 30 0:27 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n\
                     32 30 0:28 / /elsewhere/freezer rw - cgroup cgroup rw,freezer\n\
                     33 30 0:29 / /sys/fs/cgroup/cpu,pids rw - cgroup cgroup rw,cpu,pids\n\
                     34 30 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n";
        fs::write(proc.join("mountinfo"), lines).unwrap();
        let cgroups = Cgroups::of(&Root::new(world.path()));
        assert_eq!(cgroups.v2, Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(cgroups.v1, [PathBuf::from("/elsewhere/freezer"), "/sys/fs/cgroup/cpu,pids".into()]);
        assert!(cgroups.parent.starts_with("berth-"), "{}", cgroups.parent);
    }

    #[test]
    fn the_host_has_the_plain_parent() {
        assert_eq!(Cgroups::of(&Root::default()).parent, "berth");
    }

    #[test]
    fn a_host_without_cgroups_says_so() {
        let world = tempfile::tempdir().unwrap();
        let cgroups = Cgroups::of(&Root::new(world.path()));
        assert_eq!(cgroups.make(&"web".parse().unwrap()).unwrap_err(), "no cgroup hierarchy is mounted");
    }
}
