//! Who is at the other end of a unix socket.
#![allow(unsafe_code)]

use std::{
    io, mem,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
};

use super::process::pidfd_open;

/// The process that connected.
#[derive(Debug)]
pub struct Peer {
    /// Its PID, as this process numbers it.
    pub pid: u32,
    /// Its effective user at connect(2).
    pub uid: u32,
    /// Its effective group at connect(2).
    pub gid: u32,
    /// The process itself; a PID may be another's by now, this never is.
    pub pidfd: OwnedFd,
}

/// Who connected `socket`.
///
/// # Errors
/// `SO_PEERCRED`, or `ESRCH` where the peer has ended. On kernels without `SO_PEERPIDFD` (before 6.5) the pidfd is
/// that of whoever has the PID now.
pub fn peer(socket: impl AsFd) -> io::Result<Peer> {
    let credentials = rustix::net::sockopt::socket_peercred(&socket)?;
    let pid = credentials.pid.as_raw_nonzero().get().unsigned_abs();
    let pidfd = match peer_pidfd(&socket) {
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => pidfd_open(pid)?,
        other => other?,
    };
    Ok(Peer { pid, uid: credentials.uid.as_raw(), gid: credentials.gid.as_raw(), pidfd })
}

/// `SO_PEERPIDFD` (kernel 6.5).
fn peer_pidfd(socket: impl AsFd) -> io::Result<OwnedFd> {
    let mut fd: libc::c_int = -1;
    let mut length = libc::socklen_t::try_from(mem::size_of_val(&fd)).map_err(io::Error::other)?;
    // SAFETY: the socket is borrowed for the call; value and length are live, and length is the value's size.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERPIDFD,
            (&raw mut fd).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us; nobody else has its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_pair_knows_its_own_process() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = peer(&one).unwrap();
        assert_eq!((peer.pid, peer.uid), (std::process::id(), nix::unistd::geteuid().as_raw()));
    }
}
