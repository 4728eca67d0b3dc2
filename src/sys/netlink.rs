//! rtnetlink(7): one message, one answer.

use std::{io, os::fd::OwnedFd};

use nix::{
    sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket},
    unistd::{read, write},
};

/// `NLM_F_REQUEST | NLM_F_ACK`.
const ASK: u16 = 0x5;
/// `NLM_F_REPLACE`.
const REPLACE: u16 = 0x100;
/// `NLM_F_EXCL`.
const EXCLUSIVE: u16 = 0x200;
/// `NLM_F_CREATE`.
const CREATE: u16 = 0x400;
/// `NLMSG_ERROR`: also the answer that all went well.
const ERROR: u16 = 2;

/// The length of a message's header (`struct nlmsghdr`).
const HEADER: usize = 16;

/// A message being written.
#[derive(Debug, Clone)]
pub struct Message {
    /// With its header, whose length and flags come last.
    bytes: Vec<u8>,
}

impl Message {
    /// A message of a type, that begins with the fixed part of its family.
    #[must_use]
    pub fn new(kind: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes.extend(fixed);
        Self { bytes }
    }

    /// With a text, NUL-terminated.
    #[must_use]
    pub fn text(self, kind: u16, text: &str) -> Self {
        self.attribute(kind, &[text.as_bytes(), &[0]].concat())
    }

    /// With a number of 32 bits.
    #[must_use]
    pub fn number(self, kind: u16, number: u32) -> Self {
        self.attribute(kind, &number.to_ne_bytes())
    }

    /// With attributes in an attribute.
    #[must_use]
    pub fn nested(self, kind: u16, inner: impl FnOnce(Self) -> Self) -> Self {
        let inner = inner(Self { bytes: Vec::new() });
        self.attribute(kind, &inner.bytes)
    }

    /// Its bytes, with the header complete.
    pub(super) fn finish(mut self, flags: u16, sequence: u32) -> io::Result<Vec<u8>> {
        let length = u32::try_from(self.bytes.len()).map_err(io::Error::other)?;
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        Ok(self.bytes)
    }

    /// With an attribute (`struct nlattr`), padded to four bytes.
    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }
}

/// A socket of the routing family, in the network namespace in which it was made.
#[derive(Debug)]
pub struct Route {
    /// The socket.
    socket: OwnedFd,
    /// The number of the last message.
    sequence: u32,
}

impl Route {
    /// Opens one.
    ///
    /// # Errors
    /// socket(2).
    pub fn open() -> io::Result<Self> {
        let protocol = SockProtocol::NetlinkRoute;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Makes what must not be there.
    ///
    /// # Errors
    /// The kernel's; `AlreadyExists` where it is there.
    pub fn create(&mut self, message: Message) -> io::Result<()> {
        self.ask(message, CREATE | EXCLUSIVE)
    }

    /// Makes what may be there, in its place.
    ///
    /// # Errors
    /// The kernel's.
    pub fn replace(&mut self, message: Message) -> io::Result<()> {
        self.ask(message, CREATE | REPLACE)
    }

    /// Removes something.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove(&mut self, message: Message) -> io::Result<()> {
        self.ask(message, 0)
    }

    /// Sends a message and waits for its answer.
    fn ask(&mut self, message: Message, flags: u16) -> io::Result<()> {
        self.sequence += 1;
        write(&self.socket, &message.finish(ASK | flags, self.sequence)?)?;
        let mut answer = [0; 4096];
        loop {
            let length = read(&self.socket, &mut answer)?;
            match verdict(&answer[..length]) {
                Some((sequence, 0)) if sequence == self.sequence => return Ok(()),
                Some((sequence, error)) if sequence == self.sequence => {
                    return Err(io::Error::from_raw_os_error(-error));
                }
                Some(_) => {}
                None => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }
}

/// The number and the error, 0 for none, of an answer.
fn verdict(answer: &[u8]) -> Option<(u32, i32)> {
    let word = |at: usize| Some(u32::from_ne_bytes(answer.get(at..at + 4)?.try_into().ok()?));
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    (kind == ERROR).then_some(())?;
    Some((word(8)?, word(HEADER)?.cast_signed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nested() {
        let message = Message::new(7, &[9; 4]).text(1, "abcd").nested(2, |inner| inner.number(3, 5));
        let bytes = &message.bytes[HEADER..];
        assert_eq!(bytes[..4], [9; 4]);
        assert_eq!(bytes[4..16], [9, 0, 1, 0, b'a', b'b', b'c', b'd', 0, 0, 0, 0]);
        assert_eq!(bytes[16..], [12, 0, 2, 0, 8, 0, 3, 0, 5, 0, 0, 0]);
    }

    #[test]
    fn answers_are_read() {
        let mut answer = vec![0; 20];
        answer[4] = 2;
        answer[8] = 1;
        answer[16..20].copy_from_slice(&(-17_i32).to_ne_bytes());
        assert_eq!(verdict(&answer), Some((1, -17)));
        assert_eq!(verdict(&answer[..18]), None);
        answer[4] = 3;
        assert_eq!(verdict(&answer), None);
    }
}
