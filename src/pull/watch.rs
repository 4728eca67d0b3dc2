//! A pull as whoever waits for it sees it: whether bytes come, how far it is, and a way to end it.

use std::{
    collections::BTreeMap,
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::words::Event;

/// Why a pull is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Nobody wants it any more.
    Unwanted,
    /// No byte came for too long.
    Stalled,
}

/// Shared by the thread that pulls and whoever may want to end it.
#[derive(Debug, Default)]
pub struct Watch(Mutex<State>);

/// What is known.
#[derive(Debug, Default)]
struct State {
    /// The image.
    what: Option<String>,
    /// Since when no byte has come, while some are waited for.
    since: Option<Instant>,
    /// The least time without a byte that ends the pull, if it is not the start's own.
    patience: Option<Duration>,
    /// Bytes that are here, by blob.
    done: BTreeMap<String, u64>,
    /// Bytes that were found where the image comes to, which another may have brought.
    others: u64,
    /// Bytes of the image, once they are known.
    all: Option<u64>,
    /// What was said last.
    note: Option<String>,
    /// Why it is to end, if it is.
    end: Option<End>,
    /// The line to berth-pull.
    line: Option<UnixStream>,
}

impl State {
    /// Something came.
    fn moved(&mut self) {
        self.since = Some(Instant::now());
    }
}

impl Watch {
    /// What is known.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of `what` are waited for from now on. A `patience` ends the pull when none came for so long.
    pub fn begin(&self, what: &str, patience: Option<Duration>) {
        let mut state = self.state();
        state.what = Some(what.to_owned());
        state.patience = patience;
        state.moved();
    }

    /// No byte is waited for any more.
    pub fn rest(&self) {
        self.state().since = None;
    }

    /// Takes in what berth-pull says.
    pub(super) fn hear(&self, event: &Event) {
        let mut state = self.state();
        match event {
            Event::Resolved { bytes, .. } => {
                state.all = Some(*bytes);
                state.moved();
            }
            Event::Blob { digest, done, .. } => {
                let before = state.done.insert(digest.clone(), *done).unwrap_or_default();
                if *done > before {
                    state.moved();
                }
            }
            Event::Note { message } => state.note = Some(message.clone()),
            Event::Unchanged { .. } | Event::Done { .. } | Event::Failed { .. } => {}
        }
    }

    /// Another pulls this image and has so many bytes; none: it has them all.
    pub(super) fn see(&self, bytes: Option<u64>) {
        let mut state = self.state();
        match bytes {
            None => state.since = None,
            Some(bytes) if bytes != state.others => {
                state.others = bytes;
                state.moved();
            }
            Some(_) => {}
        }
    }

    /// So many bytes were found where the image comes to.
    pub(super) fn count(&self, bytes: u64) {
        self.state().others = bytes;
    }

    /// How long no byte has come, while some are waited for, and how long at least that may be.
    pub fn idle(&self) -> Option<(Duration, Option<Duration>)> {
        let state = self.state();
        state.since.map(|since| (since.elapsed(), state.patience))
    }

    /// How far it is, for people.
    pub fn far(&self) -> String {
        let state = self.state();
        let done = state.done.values().sum::<u64>().max(state.others);
        match state.all {
            Some(all) => format!("{done} of {all} bytes are here"),
            None if done > 0 => format!("{done} bytes are here"),
            None => "nothing has come".to_owned(),
        }
    }

    /// What is done, where bytes are waited for.
    pub fn status(&self) -> Option<String> {
        let state = self.state();
        state.since?;
        let what = state.what.clone()?;
        drop(state);
        Some(format!("Pulling {what}: {}", self.far()))
    }

    /// What was said last.
    pub fn note(&self) -> Option<String> {
        self.state().note.clone()
    }

    /// Ends the pull, now or when it begins. What came stays for the next one.
    pub fn end(&self, why: End) {
        let mut state = self.state();
        state.end.get_or_insert(why);
        state.line.iter().for_each(hang_up);
    }

    /// Whether it is to end.
    pub fn is_ended(&self) -> bool {
        self.state().end.is_some()
    }

    /// Why it is to end.
    pub fn why(&self) -> Option<End> {
        self.state().end
    }

    /// This line is hung up when the pull is to end.
    pub(super) fn attach(&self, line: Option<UnixStream>) {
        let mut state = self.state();
        if state.end.is_some() {
            line.iter().for_each(hang_up);
        }
        state.line = line;
    }
}

/// berth-pull ends when its line does, and whoever reads of it reads its end.
fn hang_up(line: &UnixStream) {
    // One that is down already is what is wanted.
    let _ = line.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// A blob of which so much is here.
    fn blob(digest: &str, done: u64) -> Event {
        Event::Blob { digest: digest.to_owned(), done, size: 100 }
    }

    #[test]
    fn only_bytes_count_as_movement() {
        let watch = Watch::default();
        assert_eq!(watch.idle(), None);
        watch.begin("docker://x/y", None);
        let resolved = |bytes| Event::Resolved { digest: String::new(), manifest: String::new(), blobs: 2, bytes };
        let since = |event: &Event| {
            let before = watch.state().since;
            watch.hear(event);
            watch.state().since > before
        };
        assert!(since(&resolved(200)));
        assert!(since(&blob("a", 10)) && !since(&blob("a", 10)) && since(&blob("b", 1)) && since(&blob("a", 11)));
        assert!(!since(&Event::Note { message: "trying again".to_owned() }));
        assert_eq!(watch.far(), "12 of 200 bytes are here");
        assert_eq!(watch.note().as_deref(), Some("trying again"));
        watch.rest();
        assert_eq!(watch.idle(), None);
    }

    #[test]
    fn a_line_is_hung_up_whenever_the_end_comes() {
        for before in [true, false] {
            let (watch, (ours, mut theirs)) = (Watch::default(), UnixStream::pair().unwrap());
            if before {
                watch.end(End::Stalled);
            }
            watch.attach(Some(ours));
            watch.end(End::Stalled);
            assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
        }
    }
}
