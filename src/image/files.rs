//! Where the blobs of an image lie: in a directory, or in an archive that is read in place.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    os::{fd::OwnedFd, unix::fs::FileExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};

use super::{
    Digest, Error,
    forms::Descriptor,
    unpack::{
        Blob, Hashing,
        archive::{Archive, Input, Kind},
    },
};

/// The most that an index, a manifest or a configuration may have.
pub const MOST_JSON: u64 = 8 << 20;

/// Links in an archive that are followed.
const MOST_LINKS: usize = 8;

/// A file's bytes, and how many.
pub type Opened = (Box<dyn Read + Send>, u64);

/// Files by name.
#[derive(Debug)]
pub enum Files {
    /// Below a directory.
    Directory(OwnedFd, PathBuf),
    /// In an archive.
    Archive(Arc<File>, HashMap<Vec<u8>, Member>, PathBuf),
}

/// A file of an archive.
#[derive(Debug, Clone)]
pub enum Member {
    /// Where its data lies, as offset and length.
    Data(u64, u64),
    /// The name of another.
    Link(Vec<u8>),
}

/// Part of a file.
#[derive(Debug)]
struct Part {
    /// Of which.
    file: Arc<File>,
    /// Where the next byte is.
    at: u64,
    /// Where it ends.
    end: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Input for Part {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let at = self.at.checked_add(bytes).filter(|at| *at <= self.end);
        self.at = at.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut"))?;
        Ok(())
    }
}

impl Files {
    /// The files of a layout.
    pub fn directory(path: &Path) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory =
            openat(CWD, path, flags, Mode::empty()).map_err(Error::io(format!("open {}", path.display())))?;
        Ok(Self::Directory(directory, path.to_owned()))
    }

    /// The files of an archive.
    pub fn archive(path: &Path) -> Result<Self, Error> {
        let act = || format!("read {}", path.display());
        let file = Arc::new(File::open(path).map_err(Error::io(act()))?);
        let meta = file.metadata().map_err(Error::io(act()))?;
        if !meta.is_file() {
            return Err(Error::bad(path.display(), "is no file; a layout in a directory is oci:DIR"));
        }
        let mut magic = [0; 4];
        let _ = file.read_at(&mut magic, 0).map_err(Error::io(act()))?;
        if magic[..2] == [0x1f, 0x8b] || magic == [0x28, 0xb5, 0x2f, 0xfd] {
            let tool = if magic[0] == 0x1f { "gunzip" } else { "unzstd" };
            return Err(Error::bad(
                path.display(),
                format!("is compressed as a whole; decompress it first, with {tool}(1)"),
            ));
        }
        let mut archive = Archive::new(Part { file: Arc::clone(&file), at: 0, end: meta.len() });
        let mut members = HashMap::new();
        while let Some(entry) = archive.advance().map_err(Error::io(act()))? {
            let member = match entry.kind {
                Kind::File if entry.pieces.is_none() => Member::Data(entry.offset, entry.size),
                Kind::HardLink => Member::Link(normal(b"", &entry.link)),
                Kind::Symlink => Member::Link(normal(&entry.path, &entry.link)),
                _ => continue,
            };
            members.insert(normal(b"", &entry.path), member);
        }
        Ok(Self::Archive(file, members, path.to_owned()))
    }

    /// What is said of it.
    pub fn name(&self) -> String {
        let (Self::Directory(_, path) | Self::Archive(_, _, path)) = self;
        path.display().to_string()
    }

    /// A file and its length; none where there is no such file.
    pub fn open(&self, name: &str) -> Result<Option<Opened>, Error> {
        let act = || format!("read {name} of {}", self.name());
        match self {
            Self::Directory(directory, _) => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
                let file = match openat2(directory, name, flags, Mode::empty(), resolve) {
                    Err(rustix::io::Errno::NOENT) => return Ok(None),
                    other => other.map_err(Error::io(act()))?,
                };
                let stat = fstat(&file).map_err(Error::io(act()))?;
                if !FileType::from_raw_mode(stat.st_mode).is_file() {
                    return Err(Error::bad(format!("{name} of {}", self.name()), "is no regular file"));
                }
                Ok(Some((Box::new(File::from(file)), u64::try_from(stat.st_size).unwrap_or(0))))
            }
            Self::Archive(file, members, _) => {
                let mut name = name.as_bytes().to_vec();
                for _ in 0..MOST_LINKS {
                    match members.get(&name) {
                        Some(Member::Data(offset, length)) => {
                            let part = Part { file: Arc::clone(file), at: *offset, end: offset + length };
                            return Ok(Some((Box::new(part), *length)));
                        }
                        Some(Member::Link(next)) => name.clone_from(next),
                        None => return Ok(None),
                    }
                }
                Ok(None)
            }
        }
    }

    /// A file as a blob of this name and length.
    pub fn blob(&self, descriptor: &Descriptor) -> Result<Blob, Error> {
        let name = format!("blobs/sha256/{}", descriptor.digest.hex());
        match self.open(&name)? {
            Some((reader, size)) if size == descriptor.size => {
                Ok(Blob { reader, digest: Some(descriptor.digest.clone()), size })
            }
            Some((_, size)) => {
                let what = format!("has {size} bytes where {} are said; copy the image again", descriptor.size);
                Err(Error::bad(format!("blob {} of {}", descriptor.digest, self.name()), what))
            }
            None => Err(Error::bad(self.name(), format!("lacks the blob {}; copy the image again", descriptor.digest))),
        }
    }

    /// A small file, whole, with its digest; none where there is no such file.
    pub fn small(&self, name: &str) -> Result<Option<(Vec<u8>, Digest)>, Error> {
        self.open(name)?.map(|(reader, size)| self.whole(name, reader, size)).transpose()
    }

    /// A small blob, whole and verified.
    pub fn json(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        let blob = self.blob(descriptor)?;
        let name = format!("blob {}", descriptor.digest);
        let (data, digest) = self.whole(&name, blob.reader, blob.size)?;
        if digest == descriptor.digest {
            return Ok(data);
        }
        Err(Error::bad(
            format!("{name} of {}", self.name()),
            format!("is damaged: its content is {digest}; copy the image again"),
        ))
    }

    /// Reads to the end.
    fn whole(&self, name: &str, reader: Box<dyn Read + Send>, size: u64) -> Result<(Vec<u8>, Digest), Error> {
        if size > MOST_JSON {
            return Err(Error::bad(
                format!("{name} of {}", self.name()),
                "has more than 8 MiB, which is no description of an image",
            ));
        }
        let mut hashing = Hashing::new(reader, size, &|_| {});
        let mut data = Vec::new();
        hashing.read_to_end(&mut data).map_err(Error::io(format!("read {name} of {}", self.name())))?;
        Ok((data, hashing.finish().1))
    }
}

/// A name relative to the directory of another, without `.` and `..`.
fn normal(beside: &[u8], name: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> =
        if name.starts_with(b"/") { Vec::new() } else { beside.split(|b| *b == b'/').collect() };
    parts.pop();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.retain(|part| !part.is_empty() && *part != b".");
    parts.join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_in_an_archive_are_relative_to_themselves() {
        for (beside, name, whole) in [
            ("a/layer.tar", "../b/layer.tar", "b/layer.tar"),
            ("", "./x", "x"),
            ("a/b", "../../../c", "c"),
            ("a/b", "/c", "c"),
        ] {
            assert_eq!(normal(beside.as_bytes(), name.as_bytes()), whole.as_bytes());
        }
    }
}
