//! Notices that files of specs changed.
//!
//! One thread waits on inotify(7) and says "something changed"; what did is found by reading the files. Directories
//! that do not exist yet are awaited by watching the nearest one above.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::sync::mpsc;

use crate::root::{Layer, Root};

/// The watches.
#[derive(Debug)]
pub struct Watch {
    /// The kernel's side, shared with the thread.
    inotify: Arc<Inotify>,
    /// What is watched and which names matter there.
    table: Arc<Mutex<Table>>,
}

/// Watched directories by the kernel's number for them.
#[derive(Debug, Default)]
struct Table {
    /// The names in a directory that matter; empty: all.
    by_descriptor: BTreeMap<WatchDescriptor, BTreeSet<OsString>>,
}

/// Everything that can change what a directory's files say.
fn changes() -> AddWatchFlags {
    AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_ATTRIB
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_ONLYDIR
}

impl Watch {
    /// Begins to watch; each change sends one message.
    ///
    /// # Errors
    /// The kernel gives no inotify instance (`fs.inotify.max_user_instances`), or no thread.
    pub fn start(notify: mpsc::UnboundedSender<()>) -> std::io::Result<Self> {
        let inotify = Arc::new(Inotify::init(InitFlags::IN_CLOEXEC)?);
        let table = Arc::new(Mutex::new(Table::default()));
        let (theirs, shared) = (Arc::clone(&inotify), Arc::clone(&table));
        std::thread::Builder::new().name("watch".to_owned()).spawn(move || {
            while let Ok(events) = theirs.read_events() {
                let relevant = {
                    let table = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    events.iter().any(|event| table.matters(event.wd, event.name.as_ref()))
                };
                if relevant && notify.send(()).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { inotify, table })
    }

    /// Watches what there is now: directories of specs and their drop-ins, or the nearest ones above. Called
    /// before each reading, so that a change during it is noticed.
    pub fn renew(&self, root: &Root) {
        let mut fresh = BTreeMap::new();
        for (directory, names) in wanted(root) {
            if let Ok(descriptor) = self.inotify.add_watch(&directory, changes()) {
                fresh.insert(descriptor, names);
            }
        }
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        for stale in table.by_descriptor.keys().filter(|descriptor| !fresh.contains_key(descriptor)) {
            // The directory may be gone, and its watch with it.
            let _ = self.inotify.rm_watch(*stale);
        }
        table.by_descriptor = fresh;
    }
}

impl Table {
    /// Whether an event is about us. An overflow of the queue is about everybody.
    fn matters(&self, descriptor: WatchDescriptor, name: Option<&OsString>) -> bool {
        match (self.by_descriptor.get(&descriptor), name) {
            (Some(names), Some(name)) => names.is_empty() || names.contains(name),
            (Some(_), None) | (None, None) => true,
            (None, Some(_)) => false,
        }
    }
}

/// Directories to watch, each with the names that matter in it; empty: all.
fn wanted(root: &Root) -> BTreeMap<PathBuf, BTreeSet<OsString>> {
    let mut all: BTreeMap<PathBuf, BTreeSet<OsString>> = BTreeMap::new();
    for layer in Layer::ALL {
        let containers = root.containers(layer);
        if containers.is_dir() {
            let entries = std::fs::read_dir(&containers).into_iter().flatten().flatten().map(|entry| entry.path());
            let is_drop_in = |path: &PathBuf| path.extension().is_some_and(|ext| ext == "d") && path.is_dir();
            all.extend(entries.filter(is_drop_in).map(|path| (path, BTreeSet::new())));
            all.insert(containers, BTreeSet::new());
        } else if let Some((directory, name)) = nearest(&containers) {
            all.entry(directory).or_default().insert(name);
        }
    }
    all
}

/// The nearest directory above `path` that exists, and the name in it that leads to `path`.
fn nearest(path: &Path) -> Option<(PathBuf, OsString)> {
    let parent = path.ancestors().skip(1).find(|ancestor| ancestor.is_dir())?;
    let next = path.strip_prefix(parent).ok()?.components().next()?;
    Some((parent.to_owned(), next.as_os_str().to_owned()))
}
