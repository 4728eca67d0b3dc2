//! The host's end of a container's interface: what comes out of it gets the handle as mark and priority.
//!
//! A container in a network namespace of its own is not seen by the host's `meta cgroup` or socket marks: a packet that
//! changes the namespace loses its socket and its mark (`skb_scrub_packet()`). So it is tagged where it enters the
//! host: by a program on the ingress of the veth's, or whatever it is, host end (tc(8), `clsact`). The mark then holds
//! in FORWARD and on the uplink; the priority is rewritten by the kernel where it routes (`ip_forward()`), and holds
//! where it bridges.

use std::{io, os::fd::AsRawFd as _};

use nix::net::if_::if_nametoindex;

use super::programs;
use crate::{
    spec::Handle,
    sys::netlink::{Message, Route},
};

/// Message types (rtnetlink(7)).
const RTM_NEWQDISC: u16 = 36;
/// See [`RTM_NEWQDISC`].
const RTM_NEWTFILTER: u16 = 44;
/// See [`RTM_NEWQDISC`].
const RTM_DELTFILTER: u16 = 45;

/// Attributes of a traffic control message (linux/rtnetlink.h).
const TCA_KIND: u16 = 1;
/// See [`TCA_KIND`].
const TCA_OPTIONS: u16 = 2;

/// Attributes of the classifier `bpf` (linux/pkt_cls.h).
const TCA_BPF_FD: u16 = 6;
/// See [`TCA_BPF_FD`].
const TCA_BPF_NAME: u16 = 7;
/// See [`TCA_BPF_FD`].
const TCA_BPF_FLAGS: u16 = 8;

/// The program's result is the verdict.
const DIRECT_ACTION: u32 = 1;

/// The qdisc that holds filters and no queue: its handle, its parent, and the parent of filters on what comes in.
const CLSACT: u32 = 0xffff_0000;
/// See [`CLSACT`].
const CLSACT_PARENT: u32 = 0xffff_fff1;
/// See [`CLSACT`].
const INGRESS: u32 = 0xffff_fff2;

/// Our place among the filters of an interface: before those whose place the kernel chooses.
const PREFERENCE: u32 = 100;

/// `ETH_P_ALL`, as the kernel wants it: in network order.
const ALL_PROTOCOLS: u16 = 3_u16.to_be();

/// Tags everything that comes out of an interface of this network namespace. Whoever was tagged otherwise is tagged
/// anew; asking twice is asking once.
///
/// # Errors
/// There is no such interface, or netlink(7) or bpf(2) say no.
pub fn tag(interface: &str, handle: Handle) -> io::Result<()> {
    let index = index(interface)?;
    let mut route = Route::open()?;
    let qdisc = Message::new(RTM_NEWQDISC, &header(index, CLSACT, CLSACT_PARENT, 0)).text(TCA_KIND, "clsact");
    match route.create(qdisc) {
        // Ours, or another's, or its older sister "ingress": filters on what comes in have a place in each.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    let program = programs::classifier(handle)?;
    let options = |message: Message| {
        message
            .number(TCA_BPF_FD, program.as_raw_fd().cast_unsigned())
            .text(TCA_BPF_NAME, &programs::label(handle))
            .number(TCA_BPF_FLAGS, DIRECT_ACTION)
    };
    let filter = Message::new(RTM_NEWTFILTER, &filter(index)).text(TCA_KIND, "bpf").nested(TCA_OPTIONS, options);
    route.replace(filter)
}

/// Takes the tag off an interface. That there is none, or no interface, is success.
///
/// # Errors
/// netlink(7).
pub fn untag(interface: &str) -> io::Result<()> {
    let Ok(index) = index(interface) else { return Ok(()) };
    let message = Message::new(RTM_DELTFILTER, &filter(index)).text(TCA_KIND, "bpf");
    match Route::open()?.remove(message) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL | libc::ENODEV)) => Ok(()),
        other => other,
    }
}

/// The number of an interface.
fn index(interface: &str) -> io::Result<u32> {
    if_nametoindex(interface).map_err(io::Error::from)
}

/// The header of a message about our filter.
fn filter(index: u32) -> [u8; 20] {
    header(index, 1, INGRESS, PREFERENCE << 16 | u32::from(ALL_PROTOCOLS))
}

/// `struct tcmsg`.
fn header(index: u32, handle: u32, parent: u32, info: u32) -> [u8; 20] {
    let mut header = [0; 20];
    for (place, number) in header.chunks_exact_mut(4).skip(1).zip([index, handle, parent, info]) {
        place.copy_from_slice(&number.to_ne_bytes());
    }
    header
}
