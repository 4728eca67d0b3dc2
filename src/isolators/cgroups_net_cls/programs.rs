//! The backend `bpf`: three small programs on the container's cgroup2 cgroup, and one for interfaces.
//!
//! - at the birth of a socket: its mark and its priority become the handle (bpf-cgroup `sock_create`);
//! - at each packet that goes out: its priority becomes the handle again, since any program may change that of its
//!   sockets (socket(7), `SO_PRIORITY` 0 to 6) and HTB takes the priority for the class; bytes and packets are counted;
//! - at each packet that comes in: bytes and packets are counted;
//! - on the host's end of a container's interface: mark and priority of what comes out of it (tc(8), `clsact`).
//!
//! They are written here in the kernel's own instructions, so neither building nor running berth needs a compiler for
//! them. They belong to the cgroup: they outlive berthd and go with it. Their name carries the handle, which is how the
//! next berthd reads it back and how `bpftool cgroup tree` shows it to people.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
};

use crate::{
    spec::Handle,
    sys::bpf::{self, Hook, Instruction, Kind, Name},
};

/// What a name begins with; the handle follows in eight digits.
const PREFIX: &str = "berth_";

/// The hooks of a container's cgroup.
const HOOKS: [Hook; 3] = [Hook::InetSockCreate, Hook::InetEgress, Hook::InetIngress];

/// Bytes and packets that a container has sent and received since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Bytes sent, IP headers included.
    pub tx_bytes: u64,
    /// Packets sent; one that is cut into segments later counts as these.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
}

/// Where in the array of counters a direction begins, in bytes.
const SENT: i32 = 0;
/// See [`SENT`].
const RECEIVED: i32 = 16;

/// Makes the programs of a cgroup those of `handle`. What is so already is left alone.
///
/// # Errors
/// open(2) or bpf(2).
pub fn tag(cgroup: &Path, handle: Handle) -> io::Result<()> {
    let cgroup = open(cgroup)?;
    let present = HOOKS.map(|hook| ours(&cgroup, hook));
    let is_tagged = |found: &io::Result<Vec<Ours>>| {
        found.as_ref().is_ok_and(|ours| matches!(ours.as_slice(), [one] if one.handle == handle))
    };
    if present.iter().all(is_tagged) {
        return Ok(());
    }
    let counters = bpf::array(name(handle), 32)?;
    for (hook, present) in HOOKS.into_iter().zip(present) {
        let (kind, program) = match hook {
            Hook::InetSockCreate => (Kind::CgroupSock, sock_create(handle)),
            Hook::InetEgress => (Kind::CgroupSkb, egress(handle, &counters)),
            Hook::InetIngress => (Kind::CgroupSkb, ingress(&counters)),
        };
        // The new one first: there is no moment without a tag.
        bpf::attach(&cgroup, hook, bpf::load(kind, Some(hook), name(handle), &program)?)?;
        for old in present? {
            bpf::detach(&cgroup, hook, old.program)?;
        }
    }
    Ok(())
}

/// The handle whose programs a cgroup has; none where it has none of ours, or is gone.
///
/// # Errors
/// open(2) or bpf(2).
pub fn tagged(cgroup: &Path) -> io::Result<Option<Handle>> {
    Ok(first(cgroup)?.map(|ours| ours.handle))
}

/// What a container has sent and received; none where its cgroup has no programs of ours.
///
/// # Errors
/// open(2) or bpf(2).
pub fn traffic(cgroup: &Path) -> io::Result<Option<Traffic>> {
    let Some(map) = first(cgroup)?.and_then(|ours| ours.map) else { return Ok(None) };
    let [tx_bytes, tx_packets, rx_bytes, rx_packets] = bpf::read_array(bpf::map(map)?)?;
    Ok(Some(Traffic { tx_bytes, tx_packets, rx_bytes, rx_packets }))
}

/// The program for the host's end of an interface, for tc(8)'s classifier `bpf` in direct action.
///
/// # Errors
/// bpf(2).
pub fn classifier(handle: Handle) -> io::Result<OwnedFd> {
    let program = [
        set32(W, handle.0),
        store32(CONTEXT, W, skb::MARK),
        store32(CONTEXT, W, skb::PRIORITY),
        // TC_ACT_UNSPEC: whoever else looks at the packet goes on.
        set64(RESULT, -1),
        EXIT,
    ];
    bpf::load(Kind::SchedCls, None, name(handle), &program)
}

/// The name of everything that is of a handle.
#[must_use]
pub fn label(handle: Handle) -> String {
    format!("{PREFIX}{:08x}", handle.0)
}

/// The same as the kernel takes it.
fn name(handle: Handle) -> Name {
    let mut name = Name::default();
    for (place, byte) in name.iter_mut().zip(label(handle).bytes()) {
        *place = byte;
    }
    name
}

/// A program of ours on a cgroup.
#[derive(Debug)]
struct Ours {
    /// Of which handle.
    handle: Handle,
    /// The program.
    program: OwnedFd,
    /// The kernel's number of its counters.
    map: Option<u32>,
}

/// Those that are attached to a cgroup at a hook.
fn ours(cgroup: &OwnedFd, hook: Hook) -> io::Result<Vec<Ours>> {
    let mut found = Vec::new();
    for program in bpf::attached(cgroup, hook)? {
        let info = bpf::info(&program)?;
        let handle = info.name.strip_prefix(PREFIX).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        found.extend(handle.map(|handle| Ours { handle: Handle(handle), program, map: info.map }));
    }
    Ok(found)
}

/// Ours at the way out, where all that is asked for is known.
fn first(cgroup: &Path) -> io::Result<Option<Ours>> {
    match open(cgroup) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(cgroup) => Ok(ours(&cgroup, Hook::InetEgress)?.into_iter().next()),
    }
}

/// Opens a cgroup.
fn open(cgroup: &Path) -> io::Result<OwnedFd> {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    Ok(rustix::fs::open(cgroup, flags, rustix::fs::Mode::empty())?)
}

/// Mark and priority of a new socket.
fn sock_create(handle: Handle) -> Vec<Instruction> {
    vec![
        set32(W, handle.0),
        store32(CONTEXT, W, sock::MARK),
        store32(CONTEXT, W, sock::PRIORITY),
        set64(RESULT, ALLOW),
        EXIT,
    ]
}

/// Priority of a packet that goes out, counted.
fn egress(handle: Handle, counters: &OwnedFd) -> Vec<Instruction> {
    let tag = [set32(W, handle.0), store32(CONTEXT, W, skb::PRIORITY)];
    [tag.as_slice(), &count(counters, SENT), &[set64(RESULT, ALLOW), EXIT]].concat()
}

/// A packet that comes in, counted.
fn ingress(counters: &OwnedFd) -> Vec<Instruction> {
    [count(counters, RECEIVED).as_slice(), &[set64(RESULT, ALLOW), EXIT]].concat()
}

/// Adds length and segments of the packet to the counters of a direction.
fn count(counters: &OwnedFd, direction: i32) -> [Instruction; 8] {
    let [low, high] = value_of(COUNTERS, counters, direction);
    [
        low,
        high,
        load32(W, CONTEXT, skb::LENGTH),
        add64(COUNTERS, W, 0),
        load32(W, CONTEXT, skb::SEGMENTS),
        // No segments is one packet.
        skip_unless_zero(W, 1),
        set32(W, 1),
        add64(COUNTERS, W, 8),
    ]
}

/// What a program of a cgroup returns to let pass.
const ALLOW: i32 = 1;

/// Registers: the result, the context that the kernel gives, one for work, the counters.
const RESULT: u8 = 0;
/// See [`RESULT`].
const CONTEXT: u8 = 1;
/// See [`RESULT`].
const W: u8 = 3;
/// See [`RESULT`].
const COUNTERS: u8 = 2;

/// Distances in `struct bpf_sock`.
mod sock {
    /// `mark`.
    pub const MARK: i16 = 16;
    /// `priority`.
    pub const PRIORITY: i16 = 20;
}

/// Distances in `struct __sk_buff`.
mod skb {
    /// `len`.
    pub const LENGTH: i16 = 0;
    /// `mark`.
    pub const MARK: i16 = 8;
    /// `priority`.
    pub const PRIORITY: i16 = 32;
    /// `gso_segs`.
    pub const SEGMENTS: i16 = 164;
}

/// The end of a program.
const EXIT: Instruction = instruction(0x95, 0, 0, 0, 0);

/// One instruction.
const fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    let registers = if cfg!(target_endian = "little") { source << 4 | destination } else { destination << 4 | source };
    Instruction { code, registers, offset, immediate }
}

/// `w = number`, the upper half zero.
const fn set32(register: u8, number: u32) -> Instruction {
    instruction(0xb4, register, 0, 0, number.cast_signed())
}

/// `r = number`, its sign extended.
const fn set64(register: u8, number: i32) -> Instruction {
    instruction(0xb7, register, 0, 0, number)
}

/// `w = *(u32 *)(base + offset)`.
const fn load32(register: u8, base: u8, offset: i16) -> Instruction {
    instruction(0x61, register, base, offset, 0)
}

/// `*(u32 *)(base + offset) = w`.
const fn store32(base: u8, register: u8, offset: i16) -> Instruction {
    instruction(0x63, base, register, offset, 0)
}

/// `lock *(u64 *)(base + offset) += r`.
const fn add64(base: u8, register: u8, offset: i16) -> Instruction {
    instruction(0xdb, base, register, offset, 0)
}

/// Jumps over `count` instructions where the register is not zero: `if r != 0 goto +count`.
const fn skip_unless_zero(register: u8, count: i16) -> Instruction {
    instruction(0x55, register, 0, count, 0)
}

/// `r = &value[offset]` of the one value of an array (`BPF_PSEUDO_MAP_VALUE`).
fn value_of(register: u8, map: &OwnedFd, offset: i32) -> [Instruction; 2] {
    const PSEUDO_MAP_VALUE: u8 = 2;
    let map = map.as_fd().as_raw_fd();
    [instruction(0x18, register, PSEUDO_MAP_VALUE, 0, map), instruction(0, 0, 0, 0, offset)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_the_handle() {
        assert_eq!(label(Handle(0x0012_0011)), "berth_00120011");
        assert_eq!(&name(Handle(0x0012_0011))[..], b"berth_00120011\0\0");
    }

    #[test]
    fn instructions_are_the_kernels() {
        // What the kernel's own assembler macros give (linux/filter.h), on a little-endian machine.
        if cfg!(target_endian = "big") {
            return;
        }
        let bytes = |i: Instruction| (i.code, i.registers, i.offset, i.immediate);
        assert_eq!(bytes(set32(3, 0xffff_ffff)), (0xb4, 0x03, 0, -1));
        assert_eq!(bytes(set64(0, 1)), (0xb7, 0x00, 0, 1));
        assert_eq!(bytes(load32(3, 1, 164)), (0x61, 0x13, 164, 0));
        assert_eq!(bytes(store32(1, 3, 32)), (0x63, 0x31, 32, 0));
        assert_eq!(bytes(add64(2, 3, 8)), (0xdb, 0x32, 8, 0));
        assert_eq!(bytes(skip_unless_zero(3, 1)), (0x55, 0x03, 1, 0));
        assert_eq!(bytes(EXIT), (0x95, 0, 0, 0));
    }
}
