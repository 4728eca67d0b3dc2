//! A layer's archive to a directory: two threads, one that decompresses and hashes, one that writes.

pub mod archive;
mod stream;
mod tree;

use std::{
    io,
    path::{Path, PathBuf},
    sync::mpsc::sync_channel,
    thread,
};

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::{Digest, Error};
use archive::Archive;
use stream::Chunks;
use tree::Tree;

pub use stream::{Blob, Hashing};
pub use tree::adopt;

/// Chunks that wait between the two threads.
const AHEAD: usize = 8;

/// What becomes of device nodes. A container's /dev is made for it, so that an image's are of no use to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Devices {
    /// They are left out.
    #[default]
    LeaveOut,
    /// They are made.
    Make,
}

/// How far an image is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that a layer may unpack to.
    pub bytes: u64,
    /// Entries that a layer may have.
    pub entries: u64,
    /// Its devices.
    pub devices: Devices,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 64 << 30, entries: 4_000_000, devices: Devices::default() }
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
    limits: &Limits,
    told: &(dyn Fn(u64) + Sync),
) -> Result<Vec<PathBuf>, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = openat(CWD, into, flags, Mode::empty()).map_err(Error::io(format!("open {}", into.display())))?;
    let name = blob.digest.clone().unwrap_or_else(|| diff_id.clone());
    let (sender, receiver) = sync_channel(AHEAD);
    thread::scope(|scope| {
        let sending = scope.spawn(move || stream::send(blob, diff_id, limits.bytes, &sender, told));
        let written = write(Tree::new(root, limits.devices), Chunks::new(receiver), limits, &name);
        let sent = sending.join().unwrap_or_else(|_| Err(Error::bad(format!("layer {name}"), "could not be read")));
        // An archive that is cut because the blob could not be read says less than the reason.
        sent.and(written)
    })
}

/// Writes what comes.
fn write(mut tree: Tree, chunks: Chunks, limits: &Limits, layer: &Digest) -> Result<Vec<PathBuf>, Error> {
    let mut archive = Archive::new(chunks);
    let mut entries = 0_u64;
    while let Some(entry) = archive.advance().map_err(Error::io(format!("unpack layer {layer}")))? {
        entries += 1;
        if entries > limits.entries {
            return Err(Error::bad(
                format!("layer {layer}"),
                format!("has more than {} entries, which is the limit", limits.entries),
            ));
        }
        let act = || format!("unpack '{}' of layer {layer}", String::from_utf8_lossy(&entry.path).escape_debug());
        tree.make(&entry, &mut archive).map_err(|error: io::Error| Error::io(act())(error))?;
    }
    archive.into_rest().drain();
    tree.finish().map_err(Error::io(format!("unpack layer {layer}")))
}
