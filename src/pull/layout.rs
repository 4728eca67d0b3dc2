//! The OCI layout in the making, in the present directory: whole blobs by digest, parts of others beside them.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde_json::json;

use super::{PullError, digest, digest::Hasher, manifest::Descriptor, words::Cause};

/// Where whole blobs are.
pub const BLOBS: &str = "blobs/sha256";
/// Where parts of blobs are.
pub const PARTS: &str = "parts";

/// A blob that is being written.
#[derive(Debug)]
pub struct Part {
    /// The file, at its end.
    pub file: File,
    /// How many bytes it has.
    pub length: u64,
    /// Their digest.
    pub hasher: Hasher,
}

/// Makes the directories.
///
/// # Errors
/// They cannot be made.
pub fn prepare() -> Result<(), PullError> {
    for directory in [BLOBS, PARTS] {
        fs::create_dir_all(directory).map_err(|error| PullError::local(&format!("make {directory}"), &error))?;
    }
    Ok(())
}

/// Opens what is there of a blob, be it part or whole, and reads it: a file that a crash spoilt has another digest.
/// What is longer than the blob is thrown away.
///
/// # Errors
/// It cannot be read or written.
pub fn open(blob: &Descriptor) -> Result<Part, PullError> {
    let part = path(PARTS, blob)?;
    let whole = path(BLOBS, blob)?;
    let opened = || -> io::Result<Part> {
        match fs::rename(&whole, &part) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o644).custom_flags(libc::O_NOFOLLOW);
        let mut part = Part { file: options.open(&part)?, length: 0, hasher: Hasher::default() };
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = match part.file.read(&mut buffer) {
                Ok(0) => return Ok(part),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            part.hasher.update(&buffer[..count]);
            part.length += count as u64;
            if part.length > blob.size {
                part.clear()?;
                return Ok(part);
            }
        }
    };
    opened().map_err(|error| PullError::local(&format!("open {}", part.display()), &error))
}

impl Part {
    /// Begins anew.
    ///
    /// # Errors
    /// ftruncate(2).
    pub fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        (self.length, self.hasher) = (0, Hasher::default());
        Ok(())
    }
}

/// Makes a part a whole, if it is the blob; else it is thrown away and the answer is false.
///
/// # Errors
/// It cannot be renamed.
pub fn finish(blob: &Descriptor, part: Part) -> Result<bool, PullError> {
    let (from, to) = (path(PARTS, blob)?, path(BLOBS, blob)?);
    let failed = |error: io::Error| PullError::local(&format!("finish {}", to.display()), &error);
    if part.length != blob.size || part.hasher.finish() != blob.digest {
        fs::remove_file(&from).map_err(failed)?;
        return Ok(false);
    }
    fs::rename(&from, &to).map_err(failed)?;
    Ok(true)
}

/// Puts a small document into the layout.
///
/// # Errors
/// It cannot be written.
pub fn put(digest: &str, bytes: &[u8]) -> Result<(), PullError> {
    write_whole(&Path::new(BLOBS).join(name(digest)?), bytes)
}

/// Writes what makes the directory a layout of one image. It comes last.
///
/// # Errors
/// It cannot be written.
pub fn seal(image: &Descriptor, tag: Option<&str>) -> Result<(), PullError> {
    let mut entry = json!({ "mediaType": image.media_type, "digest": image.digest, "size": image.size });
    if let Some(tag) = tag {
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
    }
    write_whole(Path::new("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]
    });
    write_whole(Path::new("index.json"), index.to_string().as_bytes())?;
    // Nothing is left of what other tags began.
    fs::remove_dir_all(PARTS).map_err(|error| PullError::local("remove the parts", &error))
}

/// Writes a file beside its place and moves it there.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), PullError> {
    let aside = path.with_extension("new");
    fs::write(&aside, bytes)
        .and_then(|()| fs::rename(&aside, path))
        .map_err(|error| PullError::local(&format!("write {}", path.display()), &error))
}

/// The file of a blob.
fn path(directory: &str, blob: &Descriptor) -> Result<PathBuf, PullError> {
    Ok(Path::new(directory).join(name(&blob.digest)?))
}

/// The name of a blob's file.
fn name(digest: &str) -> Result<&str, PullError> {
    let none = || PullError::lasting(Cause::Unsupported, format!("{digest:?} is not a sha256 digest"));
    digest::digits(digest).ok_or_else(none)
}

/// Refuses what the disk has no room for, before the first byte.
///
/// # Errors
/// There is no room.
pub fn check_space(blobs: &[&Descriptor]) -> Result<(), PullError> {
    let mut missing = 0_u64;
    for blob in blobs {
        let here = [path(PARTS, blob)?, path(BLOBS, blob)?]
            .iter()
            .filter_map(|path| path.metadata().ok())
            .map(|data| data.len())
            .max();
        missing = missing.saturating_add(blob.size.saturating_sub(here.unwrap_or_default()));
    }
    // A disk that cannot be asked says it when it is full.
    let Ok(disk) = rustix::fs::statvfs(".") else { return Ok(()) };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if missing <= free {
        return Ok(());
    }
    let message = format!("the image needs {missing} bytes more, and {free} are free; make space: berthctl prune");
    Err(PullError::lasting(Cause::Local, message))
}
