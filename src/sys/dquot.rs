//! Warnings of the kernel's that a limit of a quota is passed (the family `VFS_DQUOT` of generic netlink,
//! `CONFIG_QUOTA_NETLINK_INTERFACE`). They are heard in the first network namespace alone.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket},
};

use super::netlink::Message;

/// Its number, and that of its one group: both fixed, as no other family's (`GENL_ID_VFS_DQUOT`).
const FAMILY: u16 = 17;
/// The controller of families (`GENL_ID_CTRL`).
const CONTROLLER: u16 = 16;
/// `CTRL_CMD_GETFAMILY`.
const GET_FAMILY: u8 = 3;
/// `CTRL_ATTR_FAMILY_NAME`.
const FAMILY_NAME: u16 = 2;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;
/// Header of a message and that of generic netlink (`struct nlmsghdr`, `struct genlmsghdr`).
const HEADERS: usize = 20;

/// `QUOTA_NL_A_QTYPE`.
const TYPE: u16 = 1;
/// `QUOTA_NL_A_EXCESS_ID`.
const ID: u16 = 2;
/// `PRJQUOTA`.
const PROJECT: u32 = 2;

/// A socket that hears the warnings.
#[derive(Debug)]
pub struct Warnings(OwnedFd);

impl Warnings {
    /// Begins to listen.
    ///
    /// # Errors
    /// `NotFound` where the kernel has no such warnings, or not in this network namespace; socket(2), bind(2).
    pub fn listen() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkGeneric)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 1 << (FAMILY - 1)))?;
        let question = Message::new(CONTROLLER, &[GET_FAMILY, 1, 0, 0]).text(FAMILY_NAME, "VFS_DQUOT");
        send(socket.as_raw_fd(), &question.finish(REQUEST, 1)?, MsgFlags::empty())?;
        let mut answer = [0; 4096];
        loop {
            // The answer is there when the question was sent; a warning may have come before it.
            let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
            match kind(&answer[..length]) {
                Some(CONTROLLER) => break,
                Some(FAMILY) => {}
                _ => return Err(io::ErrorKind::NotFound.into()),
            }
        }
        Ok(Self(socket))
    }

    /// Waits until a project has passed a limit.
    ///
    /// # Errors
    /// recv(2).
    pub fn wait(&self) -> io::Result<()> {
        let mut message = [0; 4096];
        loop {
            match recv(self.0.as_raw_fd(), &mut message, MsgFlags::empty()) {
                Ok(length) if project(&message[..length]).is_some() => return Ok(()),
                // More was said than the socket holds.
                Err(Errno::ENOBUFS) => return Ok(()),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The type of a message.
fn kind(message: &[u8]) -> Option<u16> {
    Some(u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?))
}

/// The project that a warning is about.
fn project(message: &[u8]) -> Option<u32> {
    (kind(message)? == FAMILY).then_some(())?;
    let number = |wanted: u16| {
        let value = attributes(message.get(HEADERS..)?).find_map(|(kind, value)| (kind == wanted).then_some(value))?;
        let mut bytes = [0; 8];
        let at = if cfg!(target_endian = "big") { 8 - value.len().min(8) } else { 0 };
        bytes[at..].get_mut(..value.len())?.copy_from_slice(value);
        Some(u64::from_ne_bytes(bytes))
    };
    (number(TYPE)? == u64::from(PROJECT)).then_some(())?;
    u32::try_from(number(ID)?).ok()
}

/// Attributes and their values.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let number = |at: usize| Some(u16::from_ne_bytes(rest.get(at..at + 2)?.try_into().ok()?));
        let (length, kind) = (usize::from(number(0)?), number(2)?);
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & 0x3fff, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A warning as the kernel writes it.
    fn warning(family: u16, quota: u32, id: u64) -> Vec<u8> {
        let mut message = Message::new(family, &[1, 1, 0, 0]).number(TYPE, quota).finish(0, 0).unwrap();
        message.extend([12_u16.to_ne_bytes(), ID.to_ne_bytes()].concat());
        message.extend(id.to_ne_bytes());
        message
    }

    #[test]
    fn warnings_of_projects_are_read() {
        assert_eq!(project(&warning(FAMILY, PROJECT, 5000)), Some(5000));
        assert_eq!(project(&warning(FAMILY, 0, 5000)), None, "a user's");
        assert_eq!(project(&warning(FAMILY + 1, PROJECT, 5000)), None);
        assert_eq!(project(&warning(FAMILY, PROJECT, 1 << 40)), None);
        let whole = warning(FAMILY, PROJECT, 5000);
        for length in 0..whole.len() {
            assert_eq!(project(&whole[..length]), None, "{length}");
        }
    }

    #[test]
    fn a_kernel_without_warnings_says_so() {
        if let Err(error) = Warnings::listen() {
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
        }
    }
}
