//! An image of a registry in the store: what is there, or what the registry has.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    digest,
    fetch::{Fetch, FetchError, Fetched, failed, fetch, local},
    line::Means,
    watch::Watch,
    words::{Cause, Event},
};
use crate::{
    config::ImagesConfig,
    image::{Image, Progress, Reference, Source, Store},
    root::Root,
};

/// How often somebody who waits for another's fetch looks how far that is.
const LOOK: Duration = Duration::from_millis(200);
/// Most bytes of the file that says what came of a fetch.
const MAX_OUTCOME: u64 = 64 << 10;

/// What is to be had.
#[derive(Debug)]
pub struct Obtain<'a> {
    /// Where the store is.
    pub root: &'a Root,
    /// What is special about registries.
    pub config: &'a ImagesConfig,
    /// The image.
    pub reference: &'a Reference,
    /// Whether one that is in the store by then will do, without asking the registry.
    pub missing: bool,
    /// How berth-pull is started.
    pub means: &'a Means,
    /// Who may end it, and sees how far it is.
    pub watch: &'a Watch,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obtained {
    /// It was fetched.
    Fetched(Image),
    /// The registry has what was here.
    Unchanged(Image),
    /// Another has fetched it, or asked for it, in the meantime.
    Shared(Image),
}

/// What came of a fetch, for those who have waited for it.
#[derive(Debug, Serialize, Deserialize)]
struct Outcome {
    /// Why nothing came.
    failed: Option<Failed>,
}

/// A [`FetchError`] on disk.
#[derive(Debug, Serialize, Deserialize)]
struct Failed {
    /// Of what kind.
    cause: Cause,
    /// In words.
    message: String,
}

/// Has the image that the registry has now in the store. Blocks until the end; of several at a time one fetches, and the
/// others find what it has fetched, or hear why it could not. What came of a fetch that fails stays for the next one.
///
/// # Errors
/// It cannot be had, or the store will not have it.
pub fn obtain(
    order: &Obtain<'_>,
    heard: &mut dyn FnMut(&Event),
    progress: &dyn Progress,
) -> Result<Obtained, FetchError> {
    let source = Source::Docker(order.reference.clone());
    let mut staging = Staging::begin(order)?;
    let present = Store::open(order.root).find(&source).map_err(|error| local(crate::error::chain(&error)))?;
    let outcome = match (staging.outcome.take(), present) {
        (Some(Outcome { failed: Some(Failed { cause, message }) }), _) => Err(FetchError { cause, message }),
        (Some(Outcome { failed: None }), Some(image)) => Ok(Obtained::Shared(image)),
        (None, Some(image)) if order.missing => Ok(Obtained::Shared(image)),
        (_, present) => fetch_here(order, &source, &staging.directory, present, heard, progress),
    };
    match &outcome {
        Ok(_) => {
            staging.leave(None);
            staging.clear()?;
        }
        // One that was ended says nothing to those who still want it. berth-pull had no time to tell how far it was.
        Err(_) if order.watch.is_ended() => order.watch.count(bytes(&staging.directory)),
        Err(FetchError { cause, message }) => staging.leave(Some(Failed { cause: *cause, message: message.clone() })),
    }
    outcome
}

/// Fetches and imports, alone.
fn fetch_here(
    order: &Obtain<'_>,
    source: &Source,
    directory: &Path,
    present: Option<Image>,
    heard: &mut dyn FnMut(&Event),
    progress: &dyn Progress,
) -> Result<Obtained, FetchError> {
    let fetched = fetch(
        &Fetch {
            root: order.root,
            config: order.config,
            reference: order.reference,
            known: present.as_ref().map(|image| &image.digest),
            directory,
            means: order.means,
            watch: order.watch,
        },
        heard,
    );
    order.watch.rest();
    match (fetched?, present) {
        (Fetched::Unchanged, Some(image)) => Ok(Obtained::Unchanged(image)),
        (Fetched::Unchanged, None) => Err(local("berth-pull has compared with what is not here")),
        (Fetched::Image { .. }, _) => {
            let layout = Source::Oci { dir: directory.to_owned(), tag: None };
            let image = Store::open(order.root).with_limits(order.config.limits()).import_as(source, &layout, progress);
            let image = image.map(Obtained::Fetched).map_err(|error| local(crate::error::chain(&error)));
            // What the store refuses it will refuse again: fetched anew it may be better.
            image.inspect_err(|_| drop(fs::remove_dir_all(directory)))
        }
    }
}

/// Where a fetch works, and the lock by which it works there alone.
struct Staging {
    /// The layout in the making.
    directory: PathBuf,
    /// Held as long as it is open. While nobody holds it, it says what came of the last fetch.
    lock: File,
    /// What came of the fetch that was waited for.
    outcome: Option<Outcome>,
}

impl Staging {
    /// Waits until nobody else fetches this image.
    fn begin(order: &Obtain<'_>) -> Result<Self, FetchError> {
        let pulls = order.root.images().join("pulls");
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&pulls);
        made.map_err(|error| failed("make", &pulls, &error))?;
        let name = digest::of(order.reference.to_string().as_bytes());
        let directory = pulls.join(digest::digits(&name).unwrap_or(&name));
        let (path, lock) = open_lock(&directory)?;
        let cannot = |error: &io::Error| failed("lock", &path, error);
        let mut staging = Self { directory, lock, outcome: None };
        let waited = staging.wait(order.watch).map_err(|error| cannot(&error))?;
        if order.watch.is_ended() {
            return Err(local("it was ended"));
        }
        if waited {
            staging.outcome = staging.read();
        }
        staging.lock.set_len(0).map_err(|error| cannot(&error))?;
        Ok(staging)
    }

    /// Waits for the lock, and sees meanwhile how far its holder is; whether there was one.
    fn wait(&self, watch: &Watch) -> io::Result<bool> {
        let mut waited = false;
        loop {
            match self.lock.try_lock() {
                Ok(()) => return Ok(waited),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) if watch.is_ended() => return Ok(true),
                Err(TryLockError::WouldBlock) => {}
            }
            waited = true;
            // Once the layout is whole it is unpacked, and bytes are waited for no more.
            let whole = self.directory.join("index.json").exists();
            watch.see((!whole).then(|| bytes(&self.directory)));
            thread::sleep(LOOK);
        }
    }

    /// What the last holder has left.
    fn read(&mut self) -> Option<Outcome> {
        let mut text = Vec::new();
        self.lock.rewind().and_then(|()| (&self.lock).take(MAX_OUTCOME).read_to_end(&mut text)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Tells those who wait what came of it. Where that cannot be written, they ask for themselves.
    fn leave(&mut self, failed: Option<Failed>) {
        let text = serde_json::to_vec(&Outcome { failed }).unwrap_or_default();
        let written = self.lock.rewind().and_then(|()| (&self.lock).write_all(&text));
        if written.is_err() {
            drop(self.lock.set_len(0));
        }
    }

    /// Removes what was fetched: it is in the store. The lock's file stays, others may wait at it.
    fn clear(&self) -> Result<(), FetchError> {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &self.directory, &error)),
            _ => Ok(()),
        }
    }
}

/// The file of the lock of a directory.
fn open_lock(directory: &Path) -> Result<(PathBuf, File), FetchError> {
    let path = directory.with_extension("lock");
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(|error| failed("open", &path, &error))?;
    Ok((path, file))
}

/// Bytes of blobs that a layout in the making has.
fn bytes(layout: &Path) -> u64 {
    let of = |directory: &str| {
        let entries = fs::read_dir(layout.join(directory)).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.metadata().ok())
            .filter(fs::Metadata::is_file)
            .map(|data| data.len())
            .sum::<u64>()
    };
    of("parts") + of("blobs/sha256")
}

/// Removes what fetches that failed have left for a next time; what is being fetched stays.
///
/// # Errors
/// It cannot be removed.
pub fn sweep(root: &Root) -> Result<(), FetchError> {
    let pulls = root.images().join("pulls");
    let entries = match fs::read_dir(&pulls) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|error| failed("read", &pulls, &error))?,
    };
    let paths = entries.flatten().map(|entry| entry.path());
    for directory in paths.filter(|path| path.extension().is_none()) {
        // Who holds it is at work.
        let Ok((_, lock)) = open_lock(&directory) else { continue };
        if lock.try_lock().is_ok() {
            // This is no fetch; nobody who waits for it is told of an earlier one.
            drop(lock.set_len(0));
            Staging { directory, lock, outcome: None }.clear()?;
        }
    }
    Ok(())
}
