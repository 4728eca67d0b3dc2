//! A directory that is the whole world to a store, and trees as they can be compared.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use berth::{
    image::{Image, Source, Store},
    root::Root,
};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// A world.
pub struct World {
    directory: tempfile::TempDir,
}

/// What there is to say of a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Facts {
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    /// Of files alone; directories differ by file system.
    size: u64,
    device: u64,
    link: PathBuf,
    content: Vec<u8>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first path that is the same file.
    same_as: PathBuf,
}

impl Facts {
    pub fn is_directory(&self, mode: u32, owner: (u32, u32), seconds: i64) -> bool {
        (self.mode, self.owner, self.mtime) == (0o040_000 | mode, owner, (seconds, 0))
    }
}

impl World {
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub fn store(&self) -> Store {
        Store::open(&Root::new(self.path().join("host")))
    }

    /// A shell script in the world.
    pub fn sh(&self, script: &str) {
        let output = Command::new("bash").args(["-euo", "pipefail", "-c", script]).current_dir(self.path()).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
    }

    /// berthctl on this world.
    pub fn berthctl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_berthctl"));
        command.arg("--root").arg(self.at("host")).args(arguments).current_dir(self.path());
        command
    }

    pub fn output(&self, arguments: &[&str]) -> Output {
        self.berthctl(arguments).output().unwrap()
    }

    /// Output of a verb that succeeds.
    pub fn succeeds(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Words of a verb that fails.
    pub fn fails(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    pub fn source(&self, text: &str) -> Source {
        Source::parse_in(self.path(), text).unwrap()
    }

    /// Pulls and finds an image.
    pub fn pull(&self, text: &str) -> Image {
        self.succeeds(&["pull", text]);
        self.store().find(&self.source(text)).unwrap().unwrap()
    }

    /// The layers of an image as overlayfs shows them.
    pub fn shown(&self, image: &Image) -> BTreeMap<PathBuf, Facts> {
        let (merged, empty) = (self.at("merged"), self.at("empty"));
        fs::create_dir_all(&merged).unwrap();
        fs::create_dir_all(&empty).unwrap();
        let layers = image.layers.iter().rev().chain([&empty]).map(|path| path.display().to_string());
        let options = format!("lowerdir={}", layers.collect::<Vec<_>>().join(":"));
        let options = std::ffi::CString::new(options).unwrap();
        mount("overlay", &merged, "overlay", MountFlags::RDONLY, Some(options.as_c_str())).unwrap();
        let facts = tree(&merged);
        unmount(&merged, UnmountFlags::empty()).unwrap();
        facts
    }

    /// What is half done in the store.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        let list = |name: &str| fs::read_dir(self.at("host/var/lib/berth/images").join(name)).into_iter().flatten();
        list("tmp")
            .chain(list("tags").filter(|e| e.as_ref().unwrap().path().extension() != Some(OsStr::new("json"))))
            .map(|entry| entry.unwrap().path())
            .collect()
    }
}

/// All of a tree.
pub fn tree(root: &Path) -> BTreeMap<PathBuf, Facts> {
    let (mut found, mut left) = (BTreeMap::new(), vec![PathBuf::new()]);
    let mut paths = Vec::new();
    while let Some(path) = left.pop() {
        let full = root.join(&path);
        if fs::symlink_metadata(&full).unwrap().is_dir() {
            left.extend(fs::read_dir(&full).unwrap().map(|entry| path.join(entry.unwrap().file_name())));
        }
        paths.push(path);
    }
    paths.sort();
    let mut first = BTreeMap::new();
    for path in paths {
        let full = root.join(&path);
        let meta = fs::symlink_metadata(&full).unwrap();
        let same_as = first.entry((meta.dev(), meta.ino())).or_insert_with(|| path.clone()).clone();
        let facts = Facts {
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            size: if meta.is_file() { meta.len() } else { 0 },
            device: meta.rdev(),
            link: fs::read_link(&full).unwrap_or_default(),
            content: if meta.is_file() { fs::read(&full).unwrap() } else { Vec::new() },
            xattrs: xattrs(&full),
            same_as,
        };
        found.insert(path, facts);
    }
    found
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 65536];
    let count = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    let value = |name: &[u8]| {
        let mut value = vec![0; 65536];
        let count = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..]).unwrap();
        value.truncate(count);
        value
    };
    let own =
        |name: &&[u8]| !name.is_empty() && !name.starts_with(b"trusted.") && !name.starts_with(b"security.selinux");
    names[..count].split(|byte| *byte == 0).filter(own).map(|name| (name.to_vec(), value(name))).collect()
}

/// Fails with the first difference.
pub fn assert_same(ours: &BTreeMap<PathBuf, Facts>, theirs: &BTreeMap<PathBuf, Facts>) {
    let (own, other): (Vec<_>, Vec<_>) = (ours.keys().collect(), theirs.keys().collect());
    assert_eq!(own, other, "the names");
    for (path, facts) in theirs {
        assert!(ours[path] == *facts, "{}: {:.600?}\ninstead of {:.600?}", path.display(), ours[path], facts);
    }
}

/// Sets an attribute.
pub fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
}
