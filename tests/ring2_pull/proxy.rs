//! A proxy that counts what a registry sends, and breaks off or falls silent.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// A proxy on a port of its own.
pub struct Proxy {
    pub host: String,
    line: Arc<Line>,
}

/// When a proxy sends no more and keeps all connections.
#[derive(Clone, Copy)]
pub enum Stall {
    Never,
    /// When it has sent so many bytes altogether.
    After(u64),
}

/// What all connections have in common.
struct Line {
    sent: AtomicU64,
    stall: Mutex<Stall>,
    changed: Condvar,
    most: u64,
    rest: Duration,
}

impl Proxy {
    /// Passes on to `target`; each connection ends after `most` bytes, and takes a rest of `rest` each 64 KiB.
    pub fn start(target: &str, most: u64, rest: Duration) -> Self {
        Self::new(target, most, rest, Stall::Never)
    }

    /// Passes `most` bytes on altogether, and then none.
    pub fn stalling(target: &str, most: u64) -> Self {
        Self::new(target, u64::MAX, Duration::ZERO, Stall::After(most))
    }

    fn new(target: &str, most: u64, rest: Duration, stall: Stall) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (stall, changed) = (Mutex::new(stall), Condvar::new());
        let line = Arc::new(Line { sent: AtomicU64::new(0), stall, changed, most, rest });
        let (target, shared) = (target.to_owned(), Arc::clone(&line));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A client of a registry that is gone hears nothing.
                let Ok(server) = TcpStream::connect(&target) else { continue };
                let line = Arc::clone(&shared);
                let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || {
                    let _ = std::io::copy(&mut from_client, &mut to_server);
                    let _ = to_server.shutdown(Shutdown::Both);
                });
                thread::spawn(move || line.pass(server, client));
            }
        });
        Self { host, line }
    }

    /// Bytes that went to clients.
    pub fn sent(&self) -> u64 {
        self.line.sent.load(Ordering::SeqCst)
    }

    /// Falls silent, or speaks again.
    pub fn set(&self, stall: Stall) {
        *self.line.stall.lock().unwrap() = stall;
        self.line.changed.notify_all();
    }
}

impl Line {
    fn pass(&self, mut server: TcpStream, mut client: TcpStream) {
        let mut buffer = vec![0; 64 << 10];
        let mut own = 0;
        while own < self.most {
            let Ok(length @ 1..) = server.read(&mut buffer) else { break };
            let silent =
                |stall: &mut Stall| matches!(stall, Stall::After(most) if self.sent.load(Ordering::SeqCst) >= *most);
            drop(self.changed.wait_while(self.stall.lock().unwrap(), silent).unwrap());
            if client.write_all(&buffer[..length]).is_err() {
                break;
            }
            own += length as u64;
            self.sent.fetch_add(length as u64, Ordering::SeqCst);
            thread::sleep(self.rest);
        }
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
    }
}
