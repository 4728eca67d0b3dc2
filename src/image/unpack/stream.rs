//! A layer's blob as a stream of tar bytes: decompressed and hashed on a thread of its own, while another writes.

use std::{
    io::{self, BufRead, BufReader, Read},
    sync::mpsc::{Receiver, SyncSender},
};

use sha2::{Digest as _, Sha256};

use super::{
    Trust,
    archive::{Input, malformed},
};
use crate::image::{Digest, Error};

/// Bytes that go over at a time.
const CHUNK: usize = 256 << 10;

/// A blob, and what it should be.
pub struct Blob {
    /// Its bytes.
    pub reader: Box<dyn Read + Send>,
    /// Its name; none where only what is in it has one.
    pub digest: Option<Digest>,
    /// Its length.
    pub size: u64,
}

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blob").field("digest", &self.digest).field("size", &self.size).finish_non_exhaustive()
    }
}

/// Counts and hashes what is read.
pub struct Hashing<'a> {
    /// The bytes.
    reader: Box<dyn Read + Send>,
    /// Of those read.
    hash: Sha256,
    /// How many.
    count: u64,
    /// No more than this.
    most: u64,
    /// Is told of each read.
    told: &'a (dyn Fn(u64) + Sync),
}

impl std::fmt::Debug for Hashing<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hashing").field("count", &self.count).field("most", &self.most).finish_non_exhaustive()
    }
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.count += count as u64;
        (self.told)(count as u64);
        if self.count > self.most { Err(malformed("it is longer than it should be")) } else { Ok(count) }
    }
}

impl<'a> Hashing<'a> {
    /// Over a blob.
    pub fn new(reader: Box<dyn Read + Send>, size: u64, told: &'a (dyn Fn(u64) + Sync)) -> Self {
        Self { reader, hash: Sha256::new(), count: 0, most: size, told }
    }

    /// Length and name of what was read.
    pub fn finish(self) -> (u64, Digest) {
        (self.count, Digest::of_hash(&self.hash.finalize().into()))
    }
}

/// How a layer is compressed, by its first bytes.
fn decoder<'a, R: BufRead + 'a>(mut input: R) -> io::Result<Box<dyn Read + 'a>> {
    let other = |what: &str| {
        Err(io::Error::other(format!("it is compressed with {what}; berth reads gzip, zstd and plain tar")))
    };
    match input.fill_buf()? {
        [0x1f, 0x8b, ..] => Ok(Box::new(flate2::bufread::MultiGzDecoder::new(input))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            Ok(Box::new(zstd::Decoder::with_buffer(input)?))
        }
        [b'B', b'Z', b'h', ..] => other("bzip2"),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => other("xz"),
        _ => Ok(Box::new(input)),
    }
}

/// Sends the tar bytes of a blob. Ends early, without error, where nobody takes them any more.
///
/// # Errors
/// The blob cannot be read, is not what its names say, or unpacks to more than it is trusted with.
pub fn send(
    blob: Blob,
    diff_id: &Digest,
    trust: Trust<'_>,
    to: &SyncSender<Vec<u8>>,
    told: &(dyn Fn(u64) + Sync),
) -> Result<(), Error> {
    let name = blob.digest.clone().unwrap_or_else(|| diff_id.clone());
    let object = format!("layer {name}");
    let mut input = BufReader::with_capacity(CHUNK, Hashing::new(blob.reader, blob.size, told));
    let (mut hash, mut total) = (Sha256::new(), 0_u64);
    {
        let mut tar = decoder(&mut input).map_err(Error::io(format!("read {object}")))?;
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            let count =
                tar.by_ref().take(CHUNK as u64).read_to_end(&mut chunk).map_err(Error::io(format!("read {object}")))?;
            if count == 0 {
                break;
            }
            hash.update(&chunk);
            total += count as u64;
            trust.bytes(count as u64, total, blob.size).map_err(|what| Error::bad(&object, what))?;
            if to.send(chunk).is_err() {
                return Ok(());
            }
        }
    }
    io::copy(&mut input, &mut io::sink()).map_err(Error::io(format!("read {object}")))?;
    let (count, digest) = input.into_inner().finish();
    if count != blob.size {
        return Err(Error::bad(
            object,
            format!("has {count} bytes where its manifest says {}; copy the image again", blob.size),
        ));
    }
    if blob.digest.is_some_and(|expected| expected != digest) {
        return Err(Error::bad(object, format!("is damaged: its content is {digest}; copy the image again")));
    }
    let found = Digest::of_hash(&hash.finalize().into());
    if found != *diff_id {
        return Err(Error::bad(object, format!("unpacks to {found} where the image's configuration says {diff_id}")));
    }
    Ok(())
}

/// The other end.
#[derive(Debug)]
pub struct Chunks {
    /// Where they come from.
    from: Receiver<Vec<u8>>,
    /// The present one.
    chunk: Vec<u8>,
    /// How much of it is read.
    read: usize,
}

impl Chunks {
    /// What [`send`] sends.
    pub fn new(from: Receiver<Vec<u8>>) -> Self {
        Self { from, chunk: Vec::new(), read: 0 }
    }

    /// Takes what is left, so that the sender can end.
    pub fn drain(self) {
        while self.from.recv().is_ok() {}
    }

    /// What is there; empty at the end.
    fn fill(&mut self) -> &[u8] {
        while self.read >= self.chunk.len() {
            let Ok(chunk) = self.from.recv() else { return &[] };
            (self.chunk, self.read) = (chunk, 0);
        }
        &self.chunk[self.read..]
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let there = self.fill();
        let count = there.len().min(buffer.len());
        buffer[..count].copy_from_slice(&there[..count]);
        self.read += count;
        Ok(count)
    }
}

impl Input for Chunks {
    fn skip(&mut self, mut bytes: u64) -> io::Result<()> {
        while bytes > 0 {
            let count = self.fill().len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
            if count == 0 {
                return Err(malformed("it ends within a file"));
            }
            self.read += count;
            bytes -= count as u64;
        }
        Ok(())
    }
}
