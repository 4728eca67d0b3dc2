//! A proxy that counts what a registry sends, and breaks off.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// A proxy on a port of its own.
pub struct Proxy {
    pub host: String,
    sent: Arc<AtomicU64>,
}

impl Proxy {
    /// Passes on to `target`; each connection ends after `most` bytes, and takes a rest of `rest` each 64 KiB.
    pub fn start(target: &str, most: u64, rest: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (host, sent) = (listener.local_addr().unwrap().to_string(), Arc::new(AtomicU64::new(0)));
        let (target, count) = (target.to_owned(), sent.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A client of a registry that is gone hears nothing.
                let Ok(server) = TcpStream::connect(&target) else { continue };
                let count = count.clone();
                let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || {
                    let _ = std::io::copy(&mut from_client, &mut to_server);
                    let _ = to_server.shutdown(Shutdown::Both);
                });
                thread::spawn(move || pass(server, client, most, rest, &count));
            }
        });
        Self { host, sent }
    }

    /// Bytes that went to clients.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }
}

fn pass(mut server: TcpStream, mut client: TcpStream, most: u64, rest: Duration, count: &AtomicU64) {
    let mut buffer = vec![0; 64 << 10];
    let mut own = 0;
    while own < most {
        let Ok(length @ 1..) = server.read(&mut buffer) else { break };
        if client.write_all(&buffer[..length]).is_err() {
            break;
        }
        own += length as u64;
        count.fetch_add(length as u64, Ordering::SeqCst);
        thread::sleep(rest);
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}
