//! A layer's archive to a directory: two threads, one that decompresses and hashes, one that writes.

pub mod archive;
mod stream;
mod tree;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::sync_channel,
    },
    thread,
};

use rustix::fs::{CWD, Mode, OFlags, openat};
use serde::{Deserialize, Serialize};

use super::{Digest, Error};
use archive::Archive;
use stream::Chunks;
use tree::Tree;

pub use stream::{Blob, Hashing};
pub use tree::adopt;

/// Chunks that wait between the two threads.
const AHEAD: usize = 8;

/// Bytes from which on a layer is measured by how much larger than its blob it is.
const RATIO_FROM: u64 = 16 << 20;

/// What becomes of device nodes. A container's /dev is made for it, so that an image's are of no use to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Devices {
    /// They are left out.
    #[default]
    Skip,
    /// They are made.
    Make,
    /// An image that has some is refused.
    Refuse,
}

/// How far an image is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that the layers of an image may unpack to, all together; those that are here already do not count.
    pub bytes: u64,
    /// Entries that they may have.
    pub entries: u64,
    /// How many times as large as its blob a layer may be, once it has some megabytes; none: as large as `bytes` allows.
    pub ratio: Option<u64>,
    /// Their devices.
    pub devices: Devices,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 64 << 30, entries: 4_000_000, ratio: None, devices: Devices::default() }
    }
}

/// What has been unpacked of an image so far.
#[derive(Debug, Default)]
pub struct Spent {
    /// Bytes.
    bytes: AtomicU64,
    /// Entries.
    entries: AtomicU64,
}

/// How far an image is trusted, and how much of that is used up: shared by the layers that are unpacked side by side.
#[derive(Debug, Clone, Copy)]
pub struct Trust<'a> {
    /// How far.
    pub limits: &'a Limits,
    /// How much.
    pub spent: &'a Spent,
}

impl Trust<'_> {
    /// Counts bytes of a layer, of which there are now `total`, out of a blob of `blob` bytes.
    ///
    /// # Errors
    /// They are too many; what is wrong with the layer.
    fn bytes(self, count: u64, total: u64, blob: u64) -> Result<(), String> {
        let Limits { bytes, ratio, .. } = *self.limits;
        if self.spent.bytes.fetch_add(count, Ordering::Relaxed) + count > bytes {
            return Err(format!("unpacks to more than {bytes} bytes, which is the limit (images.limits.size)"));
        }
        match ratio.filter(|ratio| total > RATIO_FROM && total / ratio > blob) {
            Some(ratio) => {
                Err(format!("unpacks to more than {ratio} times its size, which is the limit (images.limits.ratio)"))
            }
            None => Ok(()),
        }
    }

    /// Counts an entry.
    ///
    /// # Errors
    /// They are too many.
    fn entry(self) -> Result<(), String> {
        let most = self.limits.entries;
        if self.spent.entries.fetch_add(1, Ordering::Relaxed) >= most {
            return Err(format!("has more than {most} entries, which is the limit (images.limits.entries)"));
        }
        Ok(())
    }
}

/// Unpacks a layer into an empty directory. Returns directories that its archive only implies.
///
/// # Errors
/// The blob is not what its names say, is over a limit, or holds what is refused; or the disk would not.
pub fn unpack(
    blob: Blob,
    diff_id: &Digest,
    into: &Path,
    trust: Trust<'_>,
    told: &(dyn Fn(u64) + Sync),
) -> Result<Vec<PathBuf>, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = openat(CWD, into, flags, Mode::empty()).map_err(Error::io(format!("open {}", into.display())))?;
    let name = blob.digest.clone().unwrap_or_else(|| diff_id.clone());
    let (sender, receiver) = sync_channel(AHEAD);
    thread::scope(|scope| {
        let sending = scope.spawn(move || stream::send(blob, diff_id, trust, &sender, told));
        let written = write(Tree::new(root, trust.limits.devices), Chunks::new(receiver), trust, &name);
        let sent = sending.join().unwrap_or_else(|_| Err(Error::bad(format!("layer {name}"), "could not be read")));
        // An archive that is cut because the blob could not be read says less than the reason.
        sent.and(written)
    })
}

/// Writes what comes.
fn write(mut tree: Tree, chunks: Chunks, trust: Trust<'_>, layer: &Digest) -> Result<Vec<PathBuf>, Error> {
    let mut archive = Archive::new(chunks);
    while let Some(entry) = archive.advance().map_err(Error::io(format!("unpack layer {layer}")))? {
        trust.entry().map_err(|what| Error::bad(format!("layer {layer}"), what))?;
        let act = || format!("unpack '{}' of layer {layer}", String::from_utf8_lossy(&entry.path).escape_debug());
        tree.make(&entry, &mut archive).map_err(|error: io::Error| Error::io(act())(error))?;
    }
    archive.into_rest().drain();
    tree.finish().map_err(Error::io(format!("unpack layer {layer}")))
}
