//! Project quotas: quotactl_fd(2), and the project of a directory or file (ioctl_xfs_fsgetxattr(2)).
//!
//! The commands of XFS (`Q_X…`) are the kernel's common form: it answers them on ext4 too (fs/quota/quota.c), in bytes and
//! without a device's name. Linux 5.14.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, RawFd},
};

use rustix::fs::fstatfs;

/// quotactl_fd(2), on every architecture.
const QUOTACTL_FD: libc::c_long = 443;

/// `PRJQUOTA`.
const PROJECT: u32 = 2;

/// `Q_XGETQUOTA`.
const GET: u32 = 0x5803;
/// `Q_XSETQLIM`.
const SET: u32 = 0x5804;
/// `Q_XGETQSTATV`.
const STATE: u32 = 0x5808;
/// `Q_XGETNEXTQUOTA`.
const NEXT: u32 = 0x5809;

/// `FS_DQUOT_VERSION`.
const VERSION: i8 = 1;
/// `FS_QSTATV_VERSION1`.
const STATE_VERSION: u8 = 1;
/// `FS_PROJ_QUOTA`.
const OF_PROJECT: i8 = 2;
/// `FS_DQ_ISOFT | FS_DQ_IHARD | FS_DQ_BSOFT | FS_DQ_BHARD`.
const LIMITS: u16 = 0xf;
/// `FS_QUOTA_PDQ_ACCT`.
const ACCOUNTED: u16 = 1 << 4;
/// `FS_QUOTA_PDQ_ENFD`.
const ENFORCED: u16 = 1 << 5;

/// The unit of blocks in the kernel's records, whatever the file system's (`BBSIZE`).
pub const BASIC_BLOCK: u64 = 512;

/// `FS_IOC_FSGETXATTR`.
const GET_ATTRIBUTES: libc::Ioctl = 0x801c_581f_u32 as libc::Ioctl;
/// `FS_IOC_FSSETXATTR`.
const SET_ATTRIBUTES: libc::Ioctl = 0x401c_5820_u32 as libc::Ioctl;
/// `FS_XFLAG_PROJINHERIT`.
const INHERIT: u32 = 0x200;

/// `struct fs_disk_quota` (linux/dqblk_xfs.h).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct DiskQuota {
    /// [`VERSION`].
    version: i8,
    /// [`OF_PROJECT`].
    flags: i8,
    /// What is to be set.
    fields: u16,
    /// The project.
    id: u32,
    /// In basic blocks.
    hard_blocks: u64,
    /// In basic blocks.
    soft_blocks: u64,
    /// Files, directories and the rest.
    hard_inodes: u64,
    /// The same.
    soft_inodes: u64,
    /// In basic blocks.
    blocks: u64,
    /// Files, directories and the rest.
    inodes: u64,
    /// Timers, warnings, and all of real-time volumes.
    rest: [u64; 7],
}

/// `struct fs_quota_statv`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct QuotaState {
    /// [`STATE_VERSION`].
    version: u8,
    /// Nothing.
    padding: u8,
    /// What is on.
    flags: u16,
    /// Records in memory.
    in_core: u32,
    /// Files, timers.
    rest: [u64; 19],
}

/// `struct fsxattr` (linux/fs.h).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Attributes {
    /// Flags.
    flags: u32,
    /// Of extents.
    extent_size: u32,
    /// How many there are.
    extents: u32,
    /// The project.
    project: u32,
    /// Of extents that are copied on write.
    copied_extent_size: u32,
    /// Nothing.
    padding: [u8; 8],
}

/// A file system that has project quotas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// XFS: nobody is exempt; what is too much is `ENOSPC`.
    Xfs,
    /// ext4: who has `CAP_SYS_RESOURCE` is exempt; what is too much is `EDQUOT`.
    Ext4,
}

/// What a file system does with project quotas, as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State {
    /// It counts.
    pub accounted: bool,
    /// It refuses what is beyond a limit.
    pub enforced: bool,
}

/// Which project something belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Project {
    /// The project; 0 is none.
    pub id: u32,
    /// Whether what is made in this directory belongs to it too.
    pub inherits: bool,
}

/// Limits of a project; 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Beyond this the kernel tells; in bytes, rounded up to [`BASIC_BLOCK`].
    pub soft_bytes: u64,
    /// Beyond this nobody writes; likewise.
    pub hard_bytes: u64,
    /// Beyond this the kernel tells.
    pub soft_inodes: u64,
    /// Beyond this nothing is made.
    pub hard_inodes: u64,
}

/// What the kernel has of a project on one file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Record {
    /// Bytes allocated.
    pub bytes: u64,
    /// Files, directories and the rest.
    pub inodes: u64,
    /// What it may have.
    pub limits: Limits,
}

impl Record {
    /// Whether nobody has anything under it, and nobody has set a limit.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        *self == Self::default()
    }
}

/// Which of the file systems with project quotas something lies on.
///
/// # Errors
/// fstatfs(2).
pub fn kind(fd: impl AsFd) -> io::Result<Option<Kind>> {
    Ok(match fstatfs(fd)?.f_type {
        0x5846_5342 => Some(Kind::Xfs),
        // ext2 and ext3 have the same number, and no project quotas: the kernel says so when it is asked.
        0xef53 => Some(Kind::Ext4),
        _ => None,
    })
}

/// What the file system of something does with project quotas; nothing, where it has none. Never from mount options: a
/// remount with `prjquota` takes them, and changes nothing.
///
/// # Errors
/// quotactl_fd(2), other than that there are no quotas.
pub fn state(fd: impl AsFd) -> io::Result<State> {
    let mut state = QuotaState { version: STATE_VERSION, ..QuotaState::default() };
    match command(fd.as_fd().as_raw_fd(), STATE, 0, &mut state) {
        Ok(()) => Ok(State { accounted: state.flags & ACCOUNTED != 0, enforced: state.flags & ENFORCED != 0 }),
        Err(error) if is_none(&error) => Ok(State::default()),
        Err(error) => Err(error),
    }
}

/// What the kernel has of a project on the file system of something; none where it has nothing.
///
/// # Errors
/// quotactl_fd(2).
pub fn record(fd: impl AsFd, id: u32) -> io::Result<Option<Record>> {
    read(fd.as_fd().as_raw_fd(), GET, id).map(|found| found.map(|(_, record)| record))
}

/// The first project, from `id` on, of which the kernel has a record.
///
/// # Errors
/// quotactl_fd(2).
pub fn next_record(fd: impl AsFd, id: u32) -> io::Result<Option<(u32, Record)>> {
    read(fd.as_fd().as_raw_fd(), NEXT, id)
}

/// Sets the limits of a project on the file system of something.
///
/// # Errors
/// quotactl_fd(2); it takes `CAP_SYS_ADMIN`.
pub fn set_limits(fd: impl AsFd, id: u32, limits: Limits) -> io::Result<()> {
    let mut quota = DiskQuota {
        version: VERSION,
        flags: OF_PROJECT,
        fields: LIMITS,
        id,
        hard_blocks: limits.hard_bytes.div_ceil(BASIC_BLOCK),
        soft_blocks: limits.soft_bytes.div_ceil(BASIC_BLOCK),
        hard_inodes: limits.hard_inodes,
        soft_inodes: limits.soft_inodes,
        ..DiskQuota::default()
    };
    command(fd.as_fd().as_raw_fd(), SET, id, &mut quota)
}

/// Which project an open directory or file belongs to.
///
/// # Errors
/// `ENOTTY` where the file system has no projects; `EBADF` for what was opened with `O_PATH`.
pub fn project(fd: impl AsFd) -> io::Result<Project> {
    let attributes = attributes(fd.as_fd().as_raw_fd())?;
    Ok(Project { id: attributes.project, inherits: attributes.flags & INHERIT != 0 })
}

/// Makes an open directory or file one of a project; the rest of what it has is kept.
///
/// # Errors
/// As for [`project`]; `EPERM` where it is immutable.
pub fn set_project(fd: impl AsFd, project: Project) -> io::Result<()> {
    let fd = fd.as_fd().as_raw_fd();
    let mut attributes = attributes(fd)?;
    attributes.project = project.id;
    if project.inherits {
        attributes.flags |= INHERIT;
    } else {
        attributes.flags &= !INHERIT;
    }
    // SAFETY: the kernel reads a `struct fsxattr`, which this is.
    let result = unsafe { libc::ioctl(fd, SET_ATTRIBUTES, &raw const attributes) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The attributes of an open file.
fn attributes(fd: RawFd) -> io::Result<Attributes> {
    let mut attributes = Attributes::default();
    // SAFETY: the kernel writes a `struct fsxattr`, which this is.
    let result = unsafe { libc::ioctl(fd, GET_ATTRIBUTES, &raw mut attributes) };
    if result == 0 { Ok(attributes) } else { Err(io::Error::last_os_error()) }
}

/// A record of the kernel's. `NEXT` says whose it is.
fn read(fd: RawFd, get: u32, id: u32) -> io::Result<Option<(u32, Record)>> {
    let mut quota = DiskQuota::default();
    match command(fd, get, id, &mut quota) {
        Ok(()) => Ok(Some((quota.id, quota.record()))),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

impl DiskQuota {
    /// In bytes.
    fn record(&self) -> Record {
        let bytes = |blocks: u64| blocks.saturating_mul(BASIC_BLOCK);
        Record {
            bytes: bytes(self.blocks),
            inodes: self.inodes,
            limits: Limits {
                soft_bytes: bytes(self.soft_blocks),
                hard_bytes: bytes(self.hard_blocks),
                soft_inodes: self.soft_inodes,
                hard_inodes: self.hard_inodes,
            },
        }
    }
}

/// Whether the kernel says that there are no quotas there: it is too old, its file system has none, or they are off.
fn is_none(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EOPNOTSUPP | libc::ESRCH | libc::ENOTBLK | libc::ENODEV))
}

/// quotactl_fd(2) for projects.
fn command<T>(fd: RawFd, command: u32, id: u32, argument: &mut T) -> io::Result<()> {
    let command = libc::c_long::from(command << 8 | PROJECT);
    let (fd, id) = (libc::c_long::from(fd), libc::c_long::from(id));
    // SAFETY: each command here is called with the structure that it reads or writes.
    let result = unsafe { libc::syscall(QUOTACTL_FD, fd, command, id, &raw mut *argument) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn structures_are_the_kernels() {
        assert_eq!(size_of::<DiskQuota>(), 112);
        assert_eq!(size_of::<QuotaState>(), 160);
        assert_eq!(size_of::<Attributes>(), 28);
    }

    #[test]
    fn a_file_system_without_quotas_has_none() {
        let proc = File::open("/proc").unwrap();
        assert_eq!(kind(&proc).unwrap(), None);
        assert_eq!(state(&proc).unwrap(), State::default());
        assert!(project(&proc).is_err());
    }
}
