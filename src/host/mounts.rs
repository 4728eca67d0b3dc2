//! What is mounted where: `/proc/self/mountinfo` (proc_pid_mountinfo(5)).

use std::{
    fs,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
};

use crate::root::Root;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The directory of the file system that is its top.
    pub top: PathBuf,
    /// Where it is seen.
    pub target: PathBuf,
    /// Whether mounts below it are seen by others, and theirs by it (mount_namespaces(7)).
    pub shared: bool,
    /// Of which type.
    pub kind: String,
    /// With which options of the file system, with commas.
    pub options: String,
}

impl Mount {
    /// Whether it is a v1 hierarchy that has this controller.
    #[must_use]
    pub fn has_controller(&self, controller: &str) -> bool {
        self.kind == "cgroup" && self.options.split(',').any(|option| option == controller)
    }

    /// Whether it shows control groups, of v1 or v2.
    #[must_use]
    pub fn is_cgroup(&self) -> bool {
        matches!(self.kind.as_str(), "cgroup" | "cgroup2")
    }
}

/// The mounts of this process, in the order in which they were made.
#[must_use]
pub fn mounts(root: &Root) -> Vec<Mount> {
    fs::read_to_string(root.at("/proc/self/mountinfo")).unwrap_or_default().lines().filter_map(mount).collect()
}

/// The mount in which a path lies, which has no symbolic links.
#[must_use]
pub fn mount_of(root: &Root, path: &Path) -> Option<Mount> {
    let around = mounts(root).into_iter().filter(|mount| path.starts_with(&mount.target));
    // Of those at one place, the last covers the others.
    around.max_by_key(|mount| mount.target.components().count())
}

/// Where cgroup2 is mounted, if it is.
#[must_use]
pub fn cgroup2(root: &Root) -> Option<PathBuf> {
    mounts(root).into_iter().find(|mount| mount.kind == "cgroup2").map(|mount| mount.target)
}

/// One line: `36 35 98:0 / /mnt rw,noatime master:1 - ext4 /dev/sda1 rw`.
fn mount(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let (mut left, mut right) = (left.split(' ').skip(3), right.split(' '));
    let (top, target) = (unescaped(left.next()?), unescaped(left.next()?));
    let shared = left.skip(1).any(|field| field.starts_with("shared:"));
    Some(Mount { top, target, shared, kind: right.next()?.to_owned(), options: right.nth(1)?.to_owned() })
}

/// A path in which the kernel writes blanks and backslashes as three octal digits.
fn unescaped(text: &str) -> PathBuf {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    Path::new(&std::ffi::OsString::from_vec(bytes)).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let line = "36 35 98:0 /a /mnt/x\\040y\\134 rw,noatime master:1 shared:2 - cgroup cgroup rw,net_cls,net_prio";
        let read = mount(line).unwrap();
        assert_eq!((read.top.to_str(), read.target.to_str()), (Some("/a"), Some("/mnt/x y\\")));
        assert!(read.has_controller("net_cls") && !read.has_controller("net") && read.is_cgroup());
        assert!(read.shared && !mount("36 35 98:0 /a /shared:1 rw master:1 - ext4 x rw").unwrap().shared);
        for broken in ["", "broken", "1 2 3 - x", "36 35 98:0 / /mnt rw -"] {
            assert_eq!(mount(broken), None, "{broken}");
        }
    }

    #[test]
    fn the_mount_of_a_path_is_the_last_of_the_nearest() {
        let world = tempfile::tempdir().unwrap();
        fs::create_dir_all(world.path().join("proc/self")).unwrap();
        let lines = "1 0 0:1 / / rw shared:1 - ext4 a rw\n2 1 0:2 / /srv rw - ext4 b rw\n\
                     3 2 0:3 / /srv rw shared:2 - ext4 c rw\n4 1 0:4 / /srv/x rw - ext4 d rw\n";
        fs::write(world.path().join("proc/self/mountinfo"), lines).unwrap();
        let root = Root::new(world.path());
        for (path, target, shared) in
            [("/srv/a/b", "/srv", true), ("/srv", "/srv", true), ("/srv/x/a", "/srv/x", false), ("/srvx", "/", true)]
        {
            let found = mount_of(&root, Path::new(path)).unwrap();
            assert_eq!((found.target.to_str().unwrap(), found.shared), (target, shared), "{path}");
        }
    }

    #[test]
    fn cgroup2_is_found_wherever_it_is() {
        let world = tempfile::tempdir().unwrap();
        let proc = world.path().join("proc/self");
        fs::create_dir_all(&proc).unwrap();
        let root = Root::new(world.path());
        assert_eq!(cgroup2(&root), None);
        let lines = "30 25 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n\
                     31 30 0:27 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n";
        fs::write(proc.join("mountinfo"), lines).unwrap();
        assert_eq!(cgroup2(&root), Some("/sys/fs/cgroup/unified".into()));
    }
}
