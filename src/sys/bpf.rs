//! bpf(2): programs and maps by file descriptor.
//!
//! Each command has a structure of its own here, of the fields that berth uses; the kernel takes those that are not
//! given for zero.
#![allow(unsafe_code)]

use std::{
    ffi::CStr,
    io, mem,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
};

/// Commands (`enum bpf_cmd`).
const MAP_CREATE: i32 = 0;
/// See [`MAP_CREATE`].
const MAP_LOOKUP_ELEM: i32 = 1;
/// See [`MAP_CREATE`].
const PROG_LOAD: i32 = 5;
/// See [`MAP_CREATE`].
const PROG_ATTACH: i32 = 8;
/// See [`MAP_CREATE`].
const PROG_DETACH: i32 = 9;
/// See [`MAP_CREATE`].
const PROG_GET_FD_BY_ID: i32 = 13;
/// See [`MAP_CREATE`].
const MAP_GET_FD_BY_ID: i32 = 14;
/// See [`MAP_CREATE`].
const OBJ_GET_INFO_BY_FD: i32 = 15;
/// See [`MAP_CREATE`].
const PROG_QUERY: i32 = 16;

/// Several programs may be attached to one cgroup, and to those above and below it.
const ALLOW_MULTI: u32 = 2;

/// `BPF_MAP_TYPE_ARRAY`.
const ARRAY: u32 = 2;

/// More programs than this on one cgroup are nobody's, and are not looked at.
const MOST_PROGRAMS: usize = 64;

/// A name that the kernel keeps for a program or map: 15 letters, digits, `_` or `.`, and a NUL.
pub type Name = [u8; 16];

/// What a program is for (`enum bpf_prog_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// A classifier of tc(8).
    SchedCls = 3,
    /// Packets of a cgroup.
    CgroupSkb = 8,
    /// Sockets of a cgroup.
    CgroupSock = 9,
}

/// Where on a cgroup a program is attached (`enum bpf_attach_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Hook {
    /// Each packet that comes in.
    InetIngress = 0,
    /// Each packet that goes out.
    InetEgress = 1,
    /// Each socket that is made.
    InetSockCreate = 2,
}

/// One instruction (`struct bpf_insn`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Class, size and mode.
    pub code: u8,
    /// Destination and source, four bits each, in the machine's own order.
    pub registers: u8,
    /// Distance in memory or in instructions.
    pub offset: i16,
    /// A constant.
    pub immediate: i32,
}

/// A program's name and its maps, as the kernel tells them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramInfo {
    /// Its name, up to the NUL.
    pub name: String,
    /// The kernel's number of its first map, if it has one.
    pub map: Option<u32>,
}

/// One bpf(2) call; its result where it is not negative.
///
/// Not public: the structures below hold addresses, and only their makers know that those are live.
fn bpf<T>(command: i32, attributes: &mut T) -> io::Result<RawFd> {
    let size = mem::size_of::<T>();
    // SAFETY: the structure is live and of the size given; every address in it is that of a local of the caller, live
    // until the call is over and as long as the length beside it says.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { RawFd::try_from(result).map_err(io::Error::other) }
}

/// The descriptor that a command has just made.
fn descriptor(result: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us; nobody else has its number.
    unsafe { OwnedFd::from_raw_fd(result) }
}

/// A descriptor as bpf(2) takes it. It is borrowed, so that it is open for as long as the caller's is.
fn number(fd: &impl AsFd) -> u32 {
    fd.as_fd().as_raw_fd().cast_unsigned()
}

/// The address of a slice or a value, as bpf(2) takes it.
fn address<T: ?Sized>(what: *const T) -> u64 {
    what.cast::<u8>().expose_provenance() as u64
}

/// Loads a program; the verifier's last words are the error's where it refuses.
///
/// # Errors
/// `EPERM` without `CAP_BPF` and `CAP_NET_ADMIN`; the verifier's.
pub fn load(kind: Kind, hook: Option<Hook>, name: Name, program: &[Instruction]) -> io::Result<OwnedFd> {
    /// The first fields of `struct bpf_attr` for this command.
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
        name: Name,
        interface: u32,
        hook: u32,
    }
    // No function of the kernel is called that would ask for another.
    let license: &CStr = c"Apache-2.0";
    let mut load = Load {
        kind: kind as u32,
        count: u32::try_from(program.len()).map_err(io::Error::other)?,
        instructions: address(program),
        license: address(license.as_ptr()),
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name,
        interface: 0,
        hook: hook.map_or(0, |hook| hook as u32),
    };
    bpf(PROG_LOAD, &mut load).map(descriptor)
}

/// Makes an array of one value of `size` bytes, all zero.
///
/// # Errors
/// bpf(2).
pub fn array(name: Name, size: u32) -> io::Result<OwnedFd> {
    /// The first fields of `struct bpf_attr` for this command.
    #[repr(C)]
    struct Create {
        kind: u32,
        key_size: u32,
        value_size: u32,
        entries: u32,
        flags: u32,
        inner: u32,
        node: u32,
        name: Name,
    }
    let (kind, key_size, entries) = (ARRAY, 4, 1);
    let mut create = Create { kind, key_size, value_size: size, entries, flags: 0, inner: 0, node: 0, name };
    bpf(MAP_CREATE, &mut create).map(descriptor)
}

/// Reads the value of an array made by [`array`] with the size of `N` numbers.
///
/// # Errors
/// bpf(2).
pub fn read_array<const N: usize>(map: impl AsFd) -> io::Result<[u64; N]> {
    /// The fields of `struct bpf_attr` for this command.
    #[repr(C)]
    struct Lookup {
        map: u32,
        unused: u32,
        key: u64,
        value: u64,
        flags: u64,
    }
    let (key, mut value) = (0_u32, [0; N]);
    let mut lookup =
        Lookup { map: number(&map), unused: 0, key: address(&raw const key), value: address(&raw mut value), flags: 0 };
    bpf(MAP_LOOKUP_ELEM, &mut lookup)?;
    Ok(value)
}

/// The first fields of `struct bpf_attr` for attaching and detaching.
#[repr(C)]
struct Attach {
    /// The cgroup.
    target: u32,
    /// The program.
    program: u32,
    /// [`Hook`].
    hook: u32,
    /// [`ALLOW_MULTI`].
    flags: u32,
}

/// Attaches a program to a cgroup beside those that are there. It stays until it is detached or the cgroup goes.
///
/// # Errors
/// bpf(2); `EPERM` where somebody above allows no further programs.
pub fn attach(cgroup: impl AsFd, hook: Hook, program: impl AsFd) -> io::Result<()> {
    let (target, program) = (number(&cgroup), number(&program));
    bpf(PROG_ATTACH, &mut Attach { target, program, hook: hook as u32, flags: ALLOW_MULTI }).map(drop)
}

/// Takes a program off a cgroup.
///
/// # Errors
/// bpf(2); `ENOENT` where it is not there.
pub fn detach(cgroup: impl AsFd, hook: Hook, program: impl AsFd) -> io::Result<()> {
    let (target, program) = (number(&cgroup), number(&program));
    bpf(PROG_DETACH, &mut Attach { target, program, hook: hook as u32, flags: 0 }).map(drop)
}

/// The programs that are attached to this very cgroup at a hook, in the order in which they run.
///
/// # Errors
/// bpf(2).
pub fn attached(cgroup: impl AsFd, hook: Hook) -> io::Result<Vec<OwnedFd>> {
    /// The first fields of `struct bpf_attr` for this command.
    #[repr(C)]
    struct Query {
        target: u32,
        hook: u32,
        query_flags: u32,
        attach_flags: u32,
        ids: u64,
        count: u32,
        unused: u32,
    }
    let mut ids = [0_u32; MOST_PROGRAMS];
    let mut query = Query {
        target: number(&cgroup),
        hook: hook as u32,
        query_flags: 0,
        attach_flags: 0,
        ids: address(&raw mut ids),
        count: MOST_PROGRAMS as u32,
        unused: 0,
    };
    bpf(PROG_QUERY, &mut query)?;
    let count = usize::try_from(query.count).unwrap_or(0).min(MOST_PROGRAMS);
    let opened = ids[..count].iter().map(|id| by_id(PROG_GET_FD_BY_ID, *id));
    // One that goes meanwhile is no longer attached.
    opened.filter(|fd| !matches!(fd, Err(error) if error.raw_os_error() == Some(libc::ENOENT))).collect()
}

/// The program or map of the kernel's number `id`.
fn by_id(command: i32, id: u32) -> io::Result<OwnedFd> {
    /// The first fields of `struct bpf_attr` for these commands.
    #[repr(C)]
    struct ById {
        id: u32,
        next: u32,
        flags: u32,
    }
    bpf(command, &mut ById { id, next: 0, flags: 0 }).map(descriptor)
}

/// The map of the kernel's number `id`.
///
/// # Errors
/// bpf(2); `EPERM` without `CAP_SYS_ADMIN`.
pub fn map(id: u32) -> io::Result<OwnedFd> {
    by_id(MAP_GET_FD_BY_ID, id)
}

/// A program's name and map.
///
/// # Errors
/// bpf(2).
pub fn info(program: impl AsFd) -> io::Result<ProgramInfo> {
    /// The first fields of `struct bpf_prog_info`.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        kind: u32,
        id: u32,
        tag: [u8; 8],
        jited_length: u32,
        translated_length: u32,
        jited: u64,
        translated: u64,
        load_time: u64,
        uid: u32,
        maps: u32,
        map_ids: u64,
        name: Name,
    }
    /// The fields of `struct bpf_attr` for this command.
    #[repr(C)]
    struct Get {
        fd: u32,
        length: u32,
        info: u64,
    }
    let mut id = 0_u32;
    let mut info = Info { maps: 1, map_ids: address(&raw mut id), ..Info::default() };
    let length = u32::try_from(mem::size_of::<Info>()).map_err(io::Error::other)?;
    bpf(OBJ_GET_INFO_BY_FD, &mut Get { fd: number(&program), length, info: address(&raw mut info) })?;
    let name = info.name.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(ProgramInfo { name: String::from_utf8_lossy(name).into_owned(), map: (info.maps > 0).then_some(id) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_the_kernels() {
        assert_eq!(mem::size_of::<Instruction>(), 8);
        assert_eq!(mem::size_of::<Attach>(), 16);
    }
}
