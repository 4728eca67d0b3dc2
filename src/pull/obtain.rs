//! An image of a registry in the store: what is there, or what the registry has.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::PathBuf,
};

use super::{
    digest,
    fetch::{Fetch, FetchError, Fetched, failed, fetch, local},
    words::Event,
};
use crate::{
    config::ImagesConfig,
    image::{Image, Progress, Reference, Source, Store},
    root::Root,
};

/// What is to be had.
#[derive(Debug)]
pub struct Obtain<'a> {
    /// Where the store is.
    pub root: &'a Root,
    /// What is special about registries.
    pub config: &'a ImagesConfig,
    /// The image.
    pub reference: &'a Reference,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obtained {
    /// It was fetched.
    Fetched(Image),
    /// The registry has what was here.
    Unchanged(Image),
}

/// Has the image that the registry has now in the store. Blocks until the end; of several at a time one fetches, and the
/// others find what it has fetched. What came of a fetch that fails stays for the next one.
///
/// # Errors
/// It cannot be had, or the store will not have it.
pub fn obtain(
    order: &Obtain<'_>,
    heard: &mut dyn FnMut(&Event),
    progress: &dyn Progress,
) -> Result<Obtained, FetchError> {
    let source = Source::Docker(order.reference.clone());
    let staging = Staging::begin(order)?;
    let store = Store::open(order.root).with_limits(order.config.limits());
    let present = store.find(&source).map_err(|error| local(crate::error::chain(&error)))?;
    let fetched = fetch(
        &Fetch {
            root: order.root,
            config: order.config,
            reference: order.reference,
            known: present.as_ref().map(|image| &image.digest),
            directory: &staging.directory,
        },
        heard,
    )?;
    let image = match (fetched, present) {
        (Fetched::Unchanged, Some(image)) => Obtained::Unchanged(image),
        (Fetched::Unchanged, None) => return Err(local("berth-pull has compared with what is not here")),
        (Fetched::Image { .. }, _) => {
            let layout = Source::Oci { dir: staging.directory.clone(), tag: None };
            let image = store.import_as(&source, &layout, progress);
            // What the store refuses it will refuse again: fetched anew it may be better.
            image.map(Obtained::Fetched).map_err(|error| local(crate::error::chain(&error)))
        }
        .inspect_err(|_| drop(fs::remove_dir_all(&staging.directory)))?,
    };
    staging.end()?;
    Ok(image)
}

/// Where a fetch works, and the lock by which it works there alone.
struct Staging {
    /// The layout in the making.
    directory: PathBuf,
    /// Held as long as it is open.
    _lock: File,
}

impl Staging {
    /// Waits until nobody else fetches this image.
    fn begin(order: &Obtain<'_>) -> Result<Self, FetchError> {
        let pulls = order.root.images().join("pulls");
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&pulls);
        made.map_err(|error| failed("make", &pulls, &error))?;
        let name = digest::of(order.reference.to_string().as_bytes());
        let directory = pulls.join(digest::digits(&name).unwrap_or(&name));
        let path = directory.with_extension("lock");
        let lock = File::create(&path).and_then(|file| file.lock().map(|()| file));
        Ok(Self { _lock: lock.map_err(|error| failed("lock", &path, &error))?, directory })
    }

    /// Removes what was fetched: it is in the store. The lock's file stays, others may wait at it.
    fn end(self) -> Result<(), FetchError> {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &self.directory, &error)),
            _ => Ok(()),
        }
    }
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
        let Ok(lock) = File::create(directory.with_extension("lock")) else { continue };
        if lock.try_lock().is_ok() {
            Staging { directory, _lock: lock }.end()?;
        }
    }
    Ok(())
}
