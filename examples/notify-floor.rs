//! The least that a `Type=notify` service can be: says `READY=1`, then waits to be killed.
//!
//! `make bench` measures berth against units of this program, and runs the same program in its containers. With an
//! argument it also sends a byte to that datagram socket, for whoever counts what has come up.

use std::{env, io, os::unix::net::UnixDatagram, thread};

fn main() -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    if let Some(manager) = env::var_os("NOTIFY_SOCKET") {
        socket.send_to(b"READY=1", manager)?;
    }
    if let Some(counter) = env::args_os().nth(1) {
        // Nobody counts where single starts are measured.
        let _ = socket.send_to(b"1", counter);
    }
    drop(socket);
    loop {
        thread::park();
    }
}
