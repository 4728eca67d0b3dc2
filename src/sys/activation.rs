//! Sockets that systemd made for us (sd_listen_fds(3)).

#![allow(unsafe_code)]

use std::os::fd::{FromRawFd as _, OwnedFd};

/// The first descriptor of a socket activation, if this process was activated so. To be called once.
#[must_use]
pub fn first_listen_fd() -> Option<OwnedFd> {
    let first = sd_notify::listen_fds().ok()?.next()?;
    // SAFETY: systemd passed this descriptor to this process (`LISTEN_PID` was checked), and nobody else takes it.
    Some(unsafe { OwnedFd::from_raw_fd(first) })
}
