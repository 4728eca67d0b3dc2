//! The launcher's side of sd_notify(3).

use std::{
    env,
    fmt::Write,
    io::{self, IoSlice},
    os::{
        fd::AsRawFd,
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sd_notify::NotifyState;

/// The service manager, where it wants to hear from its services.
///
/// The socket is connected at the start, since a container's mounts may cover its path later (sd-notify's own
/// sender connects at each message, and sends no descriptors without its `fdstore`).
#[derive(Debug)]
pub(super) struct Manager {
    /// None under a manager without the protocol: berthd's own.
    socket: Option<UnixDatagram>,
}

impl Manager {
    /// The one that `$NOTIFY_SOCKET` names: a path, or an abstract name after `@`.
    pub fn from_environment() -> io::Result<Self> {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Self::none());
        };
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name)?,
            None => SocketAddr::from_pathname(&name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        Ok(Self { socket: Some(socket) })
    }

    /// Nobody.
    pub fn none() -> Self {
        Self { socket: None }
    }

    /// Whether it listens.
    pub fn listens(&self) -> bool {
        self.socket.is_some()
    }

    /// Tells it all of `states` in one message; nothing where it does not listen.
    pub fn tell(&self, states: &[NotifyState<'_>]) -> io::Result<()> {
        let Some(socket) = &self.socket else { return Ok(()) };
        let mut message = String::new();
        for state in states {
            writeln!(message, "{state}").map_err(io::Error::other)?;
        }
        socket.send(message.as_bytes()).map(drop)
    }

    /// Tells it what it can do without.
    pub fn hint(&self, states: &[NotifyState<'_>]) {
        drop(self.tell(states));
    }

    /// Waits until it has taken in all that was told (sd_notify_barrier(3)): it closes the pipe that it is sent.
    pub fn barrier(&self, patience: Duration) -> io::Result<()> {
        let Some(socket) = &self.socket else { return Ok(()) };
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let fds = [write.as_raw_fd()];
        let control = [ControlMessage::ScmRights(&fds)];
        sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(b"BARRIER=1")], &control, MsgFlags::empty(), None)?;
        drop(write);
        let timeout = Timespec::try_from(patience).map_err(io::Error::other)?;
        loop {
            match poll(&mut [PollFd::new(&read, PollFlags::empty())], Some(&timeout)) {
                Ok(0) => return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT)),
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
