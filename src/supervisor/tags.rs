//! What sources of images are now in the store, whoever has put it there: news by inotify(7), no look without one.

use std::{io, rc::Rc, sync::Arc, time::Duration};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::sync::mpsc;

use super::{Supervisor, slot::Slot};
use crate::{
    image::{Digest, Source, Store},
    journal,
};

/// How long changes gather.
const GATHER: Duration = Duration::from_millis(50);

/// How soon it is tried again where the store cannot be watched.
const RETRY: Duration = Duration::from_secs(60);

/// Follows the store for ever.
pub(super) async fn watch(supervisor: Rc<Supervisor>) {
    let store = Store::open(supervisor.root());
    let (inotify, mut news) = match start() {
        Ok(started) => started,
        Err(error) => return complain(&error),
    };
    let changes = AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_ONLYDIR;
    loop {
        // Anew each time, since somebody may have removed the directory, and before it is read.
        let watched = store.prepare().map_err(io::Error::other);
        match watched.and_then(|()| Ok(inotify.add_watch(&store.tags_directory(), changes)?)) {
            Ok(_) => {
                supervisor.read_tags(&store).await;
                if news.recv().await.is_none() {
                    return;
                }
            }
            Err(error) => {
                complain(&error);
                tokio::time::sleep(RETRY).await;
            }
        }
        tokio::time::sleep(GATHER).await;
        while news.try_recv().is_ok() {}
    }
}

/// Begins to listen: one thread waits for the kernel, each batch of events is one message.
fn start() -> io::Result<(Arc<Inotify>, mpsc::UnboundedReceiver<()>)> {
    let inotify = Arc::new(Inotify::init(InitFlags::IN_CLOEXEC)?);
    let (sender, news) = mpsc::unbounded_channel();
    let theirs = Arc::clone(&inotify);
    let listen = move || while theirs.read_events().is_ok() && sender.send(()).is_ok() {};
    std::thread::Builder::new().name("images".to_owned()).spawn(listen)?;
    Ok((inotify, news))
}

/// The store cannot be watched.
fn complain(error: &io::Error) {
    let why = crate::error::reason(error);
    tracing::warn!("cannot watch the store of images: {why}; what is pending there is not told");
}

impl Supervisor {
    /// Reads what sources are now, and tells of those containers that run with something else.
    async fn read_tags(&self, store: &Store) {
        let store = store.clone();
        let tags = match tokio::task::spawn_blocking(move || store.tags()).await {
            Ok(Ok((tags, damaged))) => {
                damaged.iter().for_each(|error| tracing::debug!("{error}"));
                tags
            }
            Ok(Err(error)) => return tracing::warn!("{error}"),
            Err(error) => return tracing::warn!("reading the store of images broke off: {error}"),
        };
        *self.tags.borrow_mut() = tags.into_iter().map(|tag| (tag.source, tag.current.digest)).collect();
        let slots: Vec<Rc<Slot>> = self.slots.borrow().values().cloned().collect();
        slots.iter().for_each(|slot| self.tell_pending(slot));
        self.imported.notify_one();
        self.changed.notify_one();
    }

    /// Which image the next start of a container takes that runs, where it is another one.
    pub(super) fn pending_image(&self, slot: &Slot) -> Option<Digest> {
        let (source, digest) = running_image(slot)?;
        let tags = self.tags.borrow();
        let present = tags.get(&source).filter(|present| **present != digest)?;
        let versions = slot.versions.borrow();
        let kept = versions.as_ref().is_some_and(|versions| versions.prescribed(&source, Some(present)).is_some());
        (!kept).then(|| present.clone())
    }

    /// Logs that an image is pending, once.
    pub(super) fn tell_pending(&self, slot: &Slot) {
        let pending = self.pending_image(slot);
        if let Some(digest) = pending.as_ref().filter(|_| *slot.pending.borrow() != pending) {
            let cure = format!("'berthctl update {}' moves to it", slot.name);
            journal::Event::ImagePending.log_for(&slot.name, &format!("its image is {digest} now; {cure}"));
        }
        *slot.pending.borrow_mut() = pending;
    }
}

/// The image of the present run.
pub(super) fn running_image(slot: &Slot) -> Option<(Source, Digest)> {
    let record = slot.record.borrow();
    let base = record.run.as_ref()?.plan.image.as_ref()?;
    Some((base.source.clone(), base.digest.clone()?))
}
