//! The mount API of file descriptors (fsopen(2), open_tree(2), mount_setattr(2), move_mount(2)).
//!
//! A mount is made, or cloned, detached; gets its attributes; and is attached last. So nobody ever sees a mount
//! half made, such as a read-only one that is writable for a moment.
#![allow(unsafe_code)]

use std::{
    ffi::CStr,
    io, mem,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, open_tree,
};

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
    let recursive = if depth == Depth::All { libc::AT_RECURSIVE } else { 0 };
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
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
    let common = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let attributes = match denied {
        Denied::Programs => common | MountAttrFlags::MOUNT_ATTR_NOEXEC,
        Denied::Devices => common | MountAttrFlags::MOUNT_ATTR_STRICTATIME,
    };
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Attaches a detached tree over what `target` (`O_PATH`) refers to.
///
/// # Errors
/// move_mount(2).
pub fn attach(tree: impl AsFd, target: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, c"", target, c"", flags)?)
}
