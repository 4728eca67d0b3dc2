//! The mount API of file descriptors (fsopen(2), open_tree(2), mount_setattr(2), move_mount(2)).
//!
//! A mount is made, or cloned, detached; gets its attributes; and is attached last. So nobody ever sees a mount
//! half made, such as a read-only one that is writable for a moment.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString},
    io, mem,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount, mount_change, move_mount, open_tree,
    unmount,
};
use rustix::process::{chdir, fchdir};

/// Makes `/` a recursive slave: mounts of the host still arrive, none made here reaches the host.
///
/// # Errors
/// mount(2).
pub fn isolate() -> io::Result<()> {
    Ok(mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?)
}

/// A detached copy of the mounts at and below what `at` (`O_PATH`) refers to.
///
/// # Errors
/// open_tree(2).
pub fn clone_tree(at: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    Ok(open_tree(at, c"", flags)?)
}

/// A detached copy of the mount of what `at` (`O_PATH`) refers to, from there on, without those below.
///
/// # Errors
/// open_tree(2).
pub fn clone_one(at: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(open_tree(at, c"", flags)?)
}

/// How far a change of mounts goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// This mount.
    One,
    /// This mount and all below.
    All,
}

/// Makes the mount of a descriptor, or every mount of a tree, read-only and keeps the other attributes. It also becomes
/// private: a filesystem that the host mounts below it later would arrive writable.
///
/// # Errors
/// mount_setattr(2).
pub fn set_read_only(mount: impl AsFd, depth: Depth) -> io::Result<()> {
    restrict(mount, depth, libc::MOUNT_ATTR_RDONLY, true)
}

/// Adds attributes (`MOUNT_ATTR_*`) to the mount of a descriptor, or to every mount of a tree, and keeps those that it
/// has; and makes it private, if wanted.
///
/// # Errors
/// mount_setattr(2).
pub fn restrict(mount: impl AsFd, depth: Depth, attributes: u64, private: bool) -> io::Result<()> {
    let recursive = if depth == Depth::All { libc::AT_RECURSIVE } else { 0 };
    let attributes = libc::mount_attr {
        attr_set: attributes,
        attr_clr: 0,
        propagation: if private { libc::MS_PRIVATE } else { 0 },
        userns_fd: 0,
    };
    let path: &CStr = c"";
    // SAFETY: the descriptor is borrowed for the call; path and attributes are live, of the sizes given, and only
    // read.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            path.as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw const attributes,
            mem::size_of_val(&attributes),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What a new filesystem denies: `nosuid`, `nodev` and perhaps `noexec`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// `nosuid,nodev,noexec`: for what holds no programs.
    Programs,
    /// `nosuid,nodev,strictatime`: shared memory, which some programs map executable.
    Devices,
    /// `nosuid,strictatime`: a `/dev` with its nodes.
    Setuid,
    /// `nosuid,noexec`: nodes alone.
    NoPrograms,
}

/// A new filesystem of `kind`, detached.
///
/// # Errors
/// fsopen(2), fsconfig(2) or fsmount(2); `ENODEV` where the kernel has no such filesystem.
pub fn new_filesystem(kind: &CStr, options: &[(&str, &str)], denied: Denied) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        fsconfig_set_string(&context, *key, *value)?;
    }
    fsconfig_create(&context)?;
    let setuid = MountAttrFlags::MOUNT_ATTR_NOSUID;
    let common = setuid | MountAttrFlags::MOUNT_ATTR_NODEV;
    let attributes = match denied {
        Denied::Programs => common | MountAttrFlags::MOUNT_ATTR_NOEXEC,
        Denied::Devices => common | MountAttrFlags::MOUNT_ATTR_STRICTATIME,
        Denied::Setuid => setuid | MountAttrFlags::MOUNT_ATTR_STRICTATIME,
        Denied::NoPrograms => setuid | MountAttrFlags::MOUNT_ATTR_NOEXEC,
    };
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// The most directories that overlayfs stacks (`OVL_MAX_STACK`).
pub const MOST_LAYERS: usize = 500;

/// How the kernel is told of an overlay's layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerOptions {
    /// `lowerdir+`, one after the other, of Linux 6.6 and newer.
    Append,
    /// `lowerdir=`, all in one text. fsconfig(2) takes 256 bytes, so it is for mount(2), which takes a page.
    List,
}

impl LayerOptions {
    /// What this kernel knows. An older one says only at the end that it does not know an option.
    #[must_use]
    pub fn of_kernel() -> Self {
        if kernel_version() >= (6, 6) { Self::Append } else { Self::List }
    }
}

/// Whether overlayfs takes a file with the attribute `trusted.overlay.whiteout` for a whiteout, as Linux 6.8 and newer do;
/// an older one would show an empty file.
#[must_use]
pub fn knows_whiteout_attributes() -> bool {
    kernel_version() >= (6, 8)
}

/// Major and minor number of the kernel (uname(2)).
fn kernel_version() -> (u32, u32) {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// An overlay of directories, lowest first, with those that take changes (`upperdir`, `workdir`) if any, detached.
///
/// Directories are named by descriptors, since a path may hold what has a meaning in options. With
/// [`LayerOptions::List`] it is mounted over the directory `place` for a moment, in this mount namespace.
///
/// # Errors
/// open(2), fsopen(2), fsconfig(2), fsmount(2) or mount(2); `EINVAL` where there are more than [`MOST_LAYERS`].
pub fn overlay(
    layers: &[&Path],
    upper: Option<(&Path, &Path)>,
    place: &Path,
    options: LayerOptions,
) -> io::Result<OwnedFd> {
    let lower = layers.iter().rev().map(|path| open_directory(path)).collect::<io::Result<Vec<_>>>()?;
    let upper =
        upper.map(|(upper, work)| Ok::<_, io::Error>((open_directory(upper)?, open_directory(work)?))).transpose()?;
    match options {
        LayerOptions::Append => overlay_of_context(&lower, upper.as_ref()),
        LayerOptions::List => overlay_of_list(&lower, upper.as_ref(), place),
    }
}

/// Opens a directory to be named by its descriptor.
fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// By fsconfig(2), the highest layer first.
fn overlay_of_context(lower: &[OwnedFd], upper: Option<&(OwnedFd, OwnedFd)>) -> io::Result<OwnedFd> {
    let name = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let context = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    lower.iter().try_for_each(|fd| fsconfig_set_string(&context, "lowerdir+", name(fd)))?;
    if let Some((upper, work)) = upper {
        fsconfig_set_string(&context, "upperdir", name(upper))?;
        fsconfig_set_string(&context, "workdir", name(work))?;
    }
    fsconfig_create(&context)?;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}

/// By mount(2), the highest layer first. Names are relative to `/proc/self/fd`, so that as many as overlayfs takes fit into
/// a page.
fn overlay_of_list(lower: &[OwnedFd], upper: Option<&(OwnedFd, OwnedFd)>, place: &Path) -> io::Result<OwnedFd> {
    let name = |fd: &OwnedFd| fd.as_raw_fd().to_string();
    let mut options = format!("lowerdir={}", lower.iter().map(name).collect::<Vec<_>>().join(":"));
    if let Some((upper, work)) = upper {
        options.push_str(&format!(",upperdir={},workdir={}", name(upper), name(work)));
    }
    let options = CString::new(options)?;
    let place = std::path::absolute(place)?;
    let here = open_directory(Path::new("."))?;
    chdir("/proc/self/fd")?;
    let mounted = mount(c"overlay", &place, c"overlay", MountFlags::empty(), Some(options.as_c_str()));
    fchdir(here)?;
    mounted?;
    let tree = open_directory(&place).and_then(clone_one);
    unmount(&place, UnmountFlags::DETACH)?;
    tree
}

/// Attaches a detached tree over what `target` (`O_PATH`) refers to.
///
/// # Errors
/// move_mount(2).
pub fn attach(tree: impl AsFd, target: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, c"", target, c"", flags)?)
}
