//! Waits for the end of processes: one thread in epoll_wait(2), which wakes only when one has ended.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    thread,
};

use rustix::{
    event::{EventfdFlags, epoll, eventfd},
    io::Errno,
};
use tokio::sync::mpsc;

/// The number of the event that ends the thread.
const QUIT: u64 = u64::MAX;

/// Tells the number under which a process was added, once, when that process has ended.
#[derive(Debug)]
pub struct Watcher {
    /// What the thread waits on.
    epoll: Arc<OwnedFd>,
    /// Ends the thread when written to.
    quit: OwnedFd,
}

impl Watcher {
    /// A watcher that reports to `ended`.
    pub fn new(ended: mpsc::UnboundedSender<u64>) -> io::Result<Self> {
        let epoll = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        let quit = eventfd(0, EventfdFlags::CLOEXEC)?;
        epoll::add(&*epoll, &quit, epoll::EventData::new_u64(QUIT), epoll::EventFlags::IN)?;
        let waiting = Arc::clone(&epoll);
        thread::Builder::new().name("berth-pidfds".into()).spawn(move || wait(&waiting, &ended))?;
        Ok(Self { epoll, quit })
    }

    /// Reports `number` when `process`, a pidfd, has ended. Closing the pidfd ends the interest.
    pub fn add(&self, process: impl AsFd, number: u64) -> io::Result<()> {
        let once = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
        Ok(epoll::add(&*self.epoll, process, epoll::EventData::new_u64(number), once)?)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Err(error) = rustix::io::write(&self.quit, &1u64.to_ne_bytes()) {
            tracing::debug!("the watching thread stays: {error}");
        }
    }
}

/// The thread: until told to quit, or nobody listens any more.
fn wait(epoll: &OwnedFd, ended: &mpsc::UnboundedSender<u64>) {
    let mut events = Vec::with_capacity(64);
    loop {
        events.clear();
        match epoll::wait(epoll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return tracing::error!("processes are not watched any more: {error}"),
        }
        for event in &events {
            let number = event.data.u64();
            if number == QUIT || ended.send(number).is_err() {
                return;
            }
        }
    }
}
