//! Ring 2, `disk/du`: what trees take of the disk, by our walker and by GNU du(1), on the kernel's own file systems.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails is to stop")]

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{Seek as _, SeekFrom, Write as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, symlink},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::AtomicBool,
};

use berth::isolators::disk::walk::{Sum, Tree, measure, open_tree};

/// Measures one tree.
fn walk(path: &Path, excluded: &[&str]) -> Sum {
    let tree = Tree {
        directory: open_tree(path, Path::new("")).unwrap(),
        excluded: excluded.iter().map(PathBuf::from).collect(),
    };
    measure(vec![tree], &AtomicBool::new(false)).unwrap()
}

/// What du says, in KiB of blocks and in inodes.
fn du(path: &Path, more: &[&str]) -> (u64, u64) {
    let ask = |flags: &[&str]| -> u64 {
        let output = Command::new("du").args(flags).args(["-s", "-x"]).args(more).arg("--").arg(path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split_ascii_whitespace().next().unwrap().parse().unwrap()
    };
    (ask(&["-k"]), ask(&["--inodes"]))
}

/// That both say the same, and all could be read.
fn agree(path: &Path) -> Sum {
    let (sum, (kib, inodes)) = (walk(path, &[]), du(path, &[]));
    assert_eq!((sum.bytes.div_ceil(1024), sum.inodes, sum.unread), (kib, inodes, 0), "{}", path.display());
    sum
}

/// A file of so many bytes.
fn file(path: impl AsRef<Path>, bytes: usize) {
    let mut file = File::create(path).unwrap();
    file.write_all(&vec![b'x'; bytes]).unwrap();
    // Blocks are counted once they are allocated.
    file.sync_all().unwrap();
}

/// A directory for trees of many files, which take no disk's time.
fn in_memory() -> std::io::Result<tempfile::TempDir> {
    tempfile::tempdir_in("/dev/shm")
}

/// A command that works until it is dropped.
struct Busy(Child);

impl Busy {
    /// Begins.
    fn shell(script: &str, directory: &Path) -> Self {
        let child = Command::new("sh").args(["-c", script]).current_dir(directory).stderr(Stdio::null()).spawn();
        Self(child.unwrap())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Mesos: DiskUsageCollectorTest.File.
#[test]
fn mesos_disk_usage_collector_file() {
    let tree = tempfile::tempdir().unwrap();
    file(tree.path().join("file"), 8192);
    assert!(agree(tree.path()).bytes >= 8192);
}

/// Mesos: DiskUsageCollectorTest.Directory.
#[test]
fn mesos_disk_usage_collector_directory() {
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir_all(tree.path().join("a/b/c")).unwrap();
    file(tree.path().join("a/1"), 8192);
    file(tree.path().join("a/b/c/2"), 100_000);
    let sum = agree(tree.path());
    assert!(sum.bytes >= 108_192);
    assert_eq!(sum.inodes, 6);
}

/// Mesos: DiskUsageCollectorTest.SymbolicLink.
#[test]
fn mesos_disk_usage_collector_symbolic_link() {
    let (tree, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    file(other.path().join("large"), 1 << 20);
    symlink(other.path().join("large"), tree.path().join("file")).unwrap();
    symlink(other.path(), tree.path().join("directory")).unwrap();
    symlink("nowhere", tree.path().join("dangling")).unwrap();
    symlink("loop", tree.path().join("loop")).unwrap();
    assert!(agree(tree.path()).bytes < 1 << 20);
    assert!(open_tree(tree.path(), Path::new("directory")).is_err(), "a link is no tree");
}

/// Mesos: DiskUsageCollectorTest.ExcludeRelativePath; and what du takes for a pattern is a name.
#[test]
fn mesos_disk_usage_collector_exclude_relative_path() {
    let tree = tempfile::tempdir().unwrap();
    for name in ["a*[b]?", "axb", "deep/in/it"] {
        fs::create_dir_all(tree.path().join(name)).unwrap();
        file(tree.path().join(name).join("file"), 1 << 20);
    }
    let all = agree(tree.path());
    let without = walk(tree.path(), &["a*[b]?"]);
    assert_eq!(all.bytes - without.bytes, walk(&tree.path().join("a*[b]?"), &[]).bytes);
    assert_eq!(all.inodes - without.inodes, 2);
    let without = walk(tree.path(), &["deep/in"]);
    assert_eq!(all.inodes - without.inodes, 3, "in, it, and the file");
    assert_eq!(walk(tree.path(), &["in", "deep/i", "nothing", "a"]), all);
    // Of one name, du can say the same.
    assert_eq!(walk(tree.path(), &["axb"]).bytes.div_ceil(1024), du(tree.path(), &["--exclude=axb"]).0);
}

#[test]
fn a_file_of_several_names_is_one() {
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir(tree.path().join("other")).unwrap();
    file(tree.path().join("one"), 1 << 20);
    for index in 0..100 {
        fs::hard_link(tree.path().join("one"), tree.path().join(format!("other/{index}"))).unwrap();
    }
    let sum = agree(tree.path());
    assert_eq!(sum.inodes, 3);
    // Also over two trees that are counted together.
    let trees = ["", "other"].map(|part| Tree {
        directory: open_tree(tree.path(), Path::new(part)).unwrap(),
        excluded: if part.is_empty() { vec!["other".into()] } else { Vec::new() },
    });
    assert_eq!(measure(trees.into(), &AtomicBool::new(false)).unwrap(), sum);
}

#[test]
fn holes_take_nothing() {
    let tree = tempfile::tempdir().unwrap();
    let mut sparse = File::create(tree.path().join("sparse")).unwrap();
    sparse.seek(SeekFrom::Start(1 << 40)).unwrap();
    sparse.write_all(b"x").unwrap();
    sparse.sync_all().unwrap();
    File::create(tree.path().join("empty")).unwrap().set_len(1 << 30).unwrap();
    assert!(agree(tree.path()).bytes < 1 << 20);
}

#[test]
fn names_are_any_bytes() {
    let tree = tempfile::tempdir().unwrap();
    let long = "l".repeat(255);
    for name in [&b"new\nline"[..], b"*?[a]{b}", b"\xff\xfe\x80", b"-rf", b" ", b"...", long.as_bytes()] {
        let directory = tree.path().join(OsStr::from_bytes(name));
        fs::create_dir(&directory).unwrap();
        file(directory.join(OsStr::from_bytes(name)), 5000);
    }
    assert_eq!(agree(tree.path()).inodes, 15);
}

#[test]
fn what_is_no_file_counts_too() {
    let tree = tempfile::tempdir().unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(tree.path().join("socket")).unwrap();
    assert!(Command::new("mkfifo").arg(tree.path().join("pipe")).status().unwrap().success());
    assert_eq!(agree(tree.path()).inodes, 3);
}

/// Deeper than paths are long and than descriptors are many, with something to come back to at each level.
#[test]
fn depth_needs_no_descriptors() {
    let tree = in_memory().unwrap();
    let script = "use strict; my $n = 0; while ($n++ < 3000) {
        mkdir 'a'.$_ or die $! for 1 .. 3; open my $f, '>', 'f' or die $!; print $f 'x' x 100; chdir 'a2' or die $!; }";
    let status = Command::new("perl").args(["-e", script]).current_dir(tree.path()).status().unwrap();
    assert!(status.success());
    let before = fs::read_dir("/proc/self/fd").unwrap().count();
    assert_eq!(agree(tree.path()).inodes, 3000 * 4 + 1);
    assert!(fs::read_dir("/proc/self/fd").unwrap().count() < before + 50, "descriptors were left open");
    // Longer than remove_dir_all can.
    assert!(Command::new("rm").arg("-rf").arg(tree.path()).status().unwrap().success());
}

#[test]
fn many_helpers_count_nothing_twice() {
    let tree = in_memory().unwrap();
    let script = "for my $d (1 .. 300) { mkdir $d; for (1 .. 100) { open my $f, '>', \"$d/$_\"; } }";
    assert!(Command::new("perl").args(["-e", script]).current_dir(tree.path()).status().unwrap().success());
    for _ in 0..10 {
        assert_eq!(agree(tree.path()).inodes, 300 * 101 + 1);
    }
}

/// du ends with 1 and a smaller sum where a file goes away under it (mesos.md §7); here what stays is counted.
#[test]
fn what_changes_meanwhile_spoils_nothing() {
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir_all(tree.path().join("still")).unwrap();
    for index in 0..2000 {
        file_without_sync(&tree.path().join("still").join(index.to_string()));
    }
    fs::create_dir(tree.path().join("churn")).unwrap();
    let still = walk(&tree.path().join("still"), &[]);
    let script = "while :; do mkdir -p a/b/c; : > a/b/1; : > a/b/c/2; mv a z; rm -rf z; ln -s / a; rm -f a; done";
    let _busy = Busy::shell(script, &tree.path().join("churn"));
    for _ in 0..200 {
        let sum = walk(tree.path(), &[]);
        assert_eq!(sum.unread, 0);
        let churned = sum.inodes - still.inodes;
        assert!((2..=12).contains(&churned), "{churned} beside what is still");
    }
}

/// A file of one block that need not be on the disk yet.
fn file_without_sync(path: &Path) {
    fs::write(path, b"x").unwrap();
}

#[test]
fn times_of_access_stay() {
    let tree = tempfile::tempdir().unwrap();
    let inner = tree.path().join("inner");
    fs::create_dir(&inner).unwrap();
    file(inner.join("file"), 10);
    // Older than the last change: relatime would move it.
    let touch = Command::new("touch").args(["-a", "-d", "2001-01-01"]).arg(&inner).arg(inner.join("file")).status();
    assert!(touch.unwrap().success());
    let times = || (fs::metadata(&inner).unwrap().atime(), fs::metadata(inner.join("file")).unwrap().atime());
    let before = times();
    walk(tree.path(), &[]);
    assert_eq!(times(), before);
    fs::read_dir(&inner).unwrap().count();
    assert_ne!(times().0, before.0, "this file system keeps no times of access, and the test shows nothing");
}

#[test]
fn a_look_can_be_ended() {
    let tree = tempfile::tempdir().unwrap();
    let tree = Tree { directory: open_tree(tree.path(), Path::new("")).unwrap(), excluded: Vec::new() };
    assert_eq!(measure(vec![tree], &AtomicBool::new(true)), None);
}

#[test]
fn mounts_are_not_entered() {
    let tree = tempfile::tempdir().unwrap();
    let script = "set -e; mkdir mnt; mount -t tmpfs none mnt; head -c 1000000 /dev/zero > mnt/large; mkdir own bound; \
                  head -c 500000 /dev/zero > own/file; mount --bind own bound; exec \"$0\" --exact --nocapture \
                  --ignored here_is_a_mount";
    let status = Command::new("unshare")
        .args(["-m", "--propagation", "private", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .current_dir(tree.path())
        .env("BERTH_TEST_TREE", tree.path())
        .output()
        .unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stdout));
}

/// The inner half of `mounts_are_not_entered`.
#[test]
#[ignore = "run by mounts_are_not_entered, in a mount namespace"]
fn here_is_a_mount() {
    let Some(tree) = std::env::var_os("BERTH_TEST_TREE").map(PathBuf::from) else { return };
    let sum = walk(&tree, &[]);
    // The tree, own, and own/file; du goes into bound, which is of the same device.
    assert_eq!((sum.inodes, sum.unread), (3, 0));
    assert!(sum.bytes < 900_000);
}
