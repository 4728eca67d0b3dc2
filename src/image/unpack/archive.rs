//! A tar archive as a stream of entries: ustar, GNU and pax, with sparse files in all their forms.
//!
//! The tar crate reads the fields of a header. The order of headers is read here, since the crate keeps a long name or
//! a pax header of any size in memory, cuts binary pax values at newlines, and knows only the oldest sparse form.

use std::io::{self, Read};

use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

/// Unit of an archive.
const BLOCK: u64 = 512;

/// The most that a long name, a pax header or a sparse map may take.
const MOST_META: u64 = 1 << 20;

/// The most pieces that a sparse file may have.
const MOST_PIECES: usize = 1 << 17;

/// What can be passed over without reading it.
pub trait Input: Read {
    /// Passes over bytes.
    ///
    /// # Errors
    /// It ends before.
    fn skip(&mut self, bytes: u64) -> io::Result<()>;
}

/// What an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// Another name of an entry before.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// What is no file.
    Other,
}

/// One entry, its data still to be read.
#[derive(Debug, Clone)]
pub struct Entry {
    /// As written.
    pub path: Vec<u8>,
    /// Where a link leads.
    pub link: Vec<u8>,
    /// What it makes.
    pub kind: Kind,
    /// Permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Major and minor.
    pub device: (u32, u32),
    /// Length of the file.
    pub size: u64,
    /// Where its data lies in the file, as offset and length; none: it is not sparse.
    pub pieces: Option<Vec<(u64, u64)>>,
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where its data begins in the archive.
    pub offset: u64,
}

/// Reads an archive.
#[derive(Debug)]
pub struct Archive<R> {
    /// The bytes.
    input: R,
    /// How many of them are read.
    offset: u64,
    /// Data of the entry that is not read yet.
    left: u64,
    /// What fills its last block.
    padding: u64,
}

/// What headers before an entry say of it.
#[derive(Debug, Default)]
struct Ahead {
    /// GNU's long name.
    path: Option<Vec<u8>>,
    /// GNU's long link.
    link: Option<Vec<u8>>,
    /// pax keys in order.
    pax: Vec<(Vec<u8>, Vec<u8>)>,
}

/// An archive that is not well formed.
pub fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the archive is damaged: {what}"))
}

impl<R: Input> Archive<R> {
    /// An archive from its first byte.
    pub fn new(input: R) -> Self {
        Self { input, offset: 0, left: 0, padding: 0 }
    }

    /// The next entry; what was not read of the one before is passed over.
    ///
    /// # Errors
    /// The archive cannot be read or is damaged.
    pub fn advance(&mut self) -> io::Result<Option<Entry>> {
        let mut ahead = Ahead::default();
        loop {
            self.pass_over()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let kind = header.entry_type();
            let size = match ahead.number(b"size") {
                Some(size) if !is_meta(kind) => size?,
                _ => header.entry_size()?,
            };
            self.left = size;
            self.padding =
                size.next_multiple_of(BLOCK).checked_sub(size).ok_or_else(|| malformed("a size overflows"))?;
            match kind {
                EntryType::GNULongName => ahead.path = Some(self.meta()?),
                EntryType::GNULongLink => ahead.link = Some(self.meta()?),
                EntryType::XHeader => ahead.pax.extend(pax(&self.meta()?)?),
                EntryType::XGlobalHeader => {}
                _ => return self.entry(&header, ahead, size).map(Some),
            }
        }
    }

    /// Data of the entry.
    ///
    /// # Errors
    /// The archive ends before its entry does.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.input.read(&mut buffer[..most])?;
        if count == 0 && most > 0 {
            return Err(malformed("it ends within a file"));
        }
        self.left -= count as u64;
        self.offset += count as u64;
        Ok(count)
    }

    /// The bytes behind the last entry.
    pub fn into_rest(self) -> R {
        self.input
    }

    /// Goes to the next header.
    fn pass_over(&mut self) -> io::Result<()> {
        let rest = self.left.checked_add(self.padding).ok_or_else(|| malformed("a size overflows"))?;
        self.input.skip(rest)?;
        self.offset = self.offset.saturating_add(rest);
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    /// The next header, checked; none at the end.
    fn header(&mut self) -> io::Result<Option<Header>> {
        let mut header = Header::new_old();
        if !self.block(header.as_mut_bytes())? || header.as_bytes().iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum: u32 = header
            .as_bytes()
            .iter()
            .enumerate()
            .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
            .sum();
        if header.cksum().ok() == Some(sum) { Ok(Some(header)) } else { Err(malformed("a header's checksum is wrong")) }
    }

    /// One block; false at the end.
    fn block(&mut self, block: &mut [u8]) -> io::Result<bool> {
        let mut filled = 0;
        while filled < block.len() {
            match self.input.read(&mut block[filled..])? {
                0 if filled == 0 => return Ok(false),
                0 => return Err(malformed("it ends within a header")),
                count => filled += count,
            }
        }
        self.offset += filled as u64;
        Ok(true)
    }

    /// Data that describes the next entry, without the NUL that ends it.
    fn meta(&mut self) -> io::Result<Vec<u8>> {
        if self.left > MOST_META {
            return Err(malformed("a name or a pax header has more than 1 MiB"));
        }
        let mut data = vec![0; usize::try_from(self.left).unwrap_or(0)];
        let mut filled = 0;
        while filled < data.len() {
            filled += self.read(&mut data[filled..])?;
        }
        if data.last() == Some(&0) {
            data.pop();
        }
        Ok(data)
    }

    /// The entry of a header and of what stood ahead of it.
    fn entry(&mut self, header: &Header, ahead: Ahead, size: u64) -> io::Result<Entry> {
        let id = |pax: &[u8], header: io::Result<u64>| -> io::Result<u32> {
            let id = ahead.number(pax).unwrap_or(header)?;
            u32::try_from(id).map_err(|_| malformed("an owner has more than 32 bits"))
        };
        let mtime = match ahead.text(b"mtime") {
            Some(text) => seconds(text).ok_or_else(|| malformed("a time cannot be read"))?,
            None => (i64::try_from(header.mtime()?).unwrap_or(i64::MAX), 0),
        };
        let mut entry = Entry {
            path: ahead.path.clone().unwrap_or_else(|| header.path_bytes().into_owned()),
            link: ahead
                .link
                .clone()
                .or_else(|| header.link_name_bytes().map(|link| link.into_owned()))
                .unwrap_or_default(),
            kind: kind(header.entry_type()),
            mode: header.mode()? & 0o7777,
            uid: id(b"uid", header.uid())?,
            gid: id(b"gid", header.gid())?,
            mtime,
            device: (
                header.device_major().ok().flatten().unwrap_or(0),
                header.device_minor().ok().flatten().unwrap_or(0),
            ),
            size,
            pieces: None,
            xattrs: ahead.xattrs(),
            offset: self.offset,
        };
        if let Some(path) = ahead.text(b"path") {
            entry.path = path.to_vec();
        }
        if let Some(link) = ahead.text(b"linkpath") {
            entry.link = link.to_vec();
        }
        if entry.kind == Kind::File && entry.path.ends_with(b"/") {
            // Before ustar, a directory was a file whose name ends so.
            entry.kind = Kind::Directory;
        }
        self.sparse(header, &ahead, &mut entry)?;
        entry.offset = self.offset;
        Ok(entry)
    }

    /// Makes an entry sparse where it is in one of four forms.
    fn sparse(&mut self, header: &Header, ahead: &Ahead, entry: &mut Entry) -> io::Result<()> {
        let mut pieces = Vec::new();
        if header.entry_type() == EntryType::GNUSparse {
            entry.size = self.old_sparse(header, &mut pieces)?;
        } else if let Some(size) = ahead.number(b"GNU.sparse.realsize").or_else(|| ahead.number(b"GNU.sparse.size")) {
            entry.size = size?;
            if let Some(name) = ahead.text(b"GNU.sparse.name") {
                entry.path = name.to_vec();
            }
            match (ahead.text(b"GNU.sparse.major"), ahead.text(b"GNU.sparse.map")) {
                (Some(b"1"), _) => self.map_in_data(&mut pieces)?,
                (_, Some(map)) => pairs(map.split(|byte| *byte == b','), &mut pieces)?,
                (_, None) => {
                    let keys: [&[u8]; 2] = [b"GNU.sparse.offset", b"GNU.sparse.numbytes"];
                    pairs(
                        ahead.pax.iter().filter(|(key, _)| keys.contains(&&**key)).map(|(_, value)| &**value),
                        &mut pieces,
                    )?;
                }
            }
        } else {
            return Ok(());
        }
        check(&pieces, entry.size, self.left)?;
        entry.pieces = Some(pieces);
        Ok(())
    }

    /// The oldest form: four pieces in the header, more in blocks after it. Returns the length of the file.
    fn old_sparse(&mut self, header: &Header, pieces: &mut Vec<(u64, u64)>) -> io::Result<u64> {
        let gnu = header.as_gnu().ok_or_else(|| malformed("a sparse file has no GNU header"))?;
        let add = |all: &[GnuSparseHeader], pieces: &mut Vec<(u64, u64)>| -> io::Result<()> {
            for piece in all.iter().filter(|piece| !piece.is_empty()) {
                pieces.push((piece.offset()?, piece.length()?));
            }
            if pieces.len() > MOST_PIECES { Err(malformed("a sparse file has too many pieces")) } else { Ok(()) }
        };
        add(&gnu.sparse, pieces)?;
        let mut more = gnu.is_extended();
        while more {
            let mut block = GnuExtSparseHeader::new();
            if !self.block(block.as_mut_bytes())? {
                return Err(malformed("it ends within a header"));
            }
            add(block.sparse(), pieces)?;
            more = block.is_extended();
        }
        gnu.real_size()
    }

    /// The newest form: the map stands before the data, in decimal lines, and fills whole blocks.
    fn map_in_data(&mut self, pieces: &mut Vec<(u64, u64)>) -> io::Result<()> {
        let (mut numbers, mut number, mut wanted) = (Vec::new(), Vec::new(), None);
        let mut block = [0; BLOCK as usize];
        while wanted.is_none_or(|wanted| numbers.len() < wanted) {
            if self.left < BLOCK || !self.block(&mut block)? {
                return Err(malformed("the map of a sparse file is cut"));
            }
            self.left -= BLOCK;
            for byte in block {
                match byte {
                    b'\n' if wanted.is_some_and(|wanted| numbers.len() >= wanted) => {}
                    b'\n' => {
                        numbers.push(std::mem::take(&mut number));
                        if wanted.is_none() {
                            let count = decimal(&numbers.pop().unwrap_or_default())?;
                            let count = usize::try_from(count).ok().filter(|count| *count <= MOST_PIECES);
                            wanted = Some(2 * count.ok_or_else(|| malformed("a sparse file has too many pieces"))?);
                        }
                    }
                    byte if number.len() < 20 => number.push(byte),
                    _ if wanted.is_some_and(|wanted| numbers.len() >= wanted) => {}
                    _ => return Err(malformed("the map of a sparse file cannot be read")),
                }
            }
        }
        pairs(numbers.iter().map(Vec::as_slice), pieces)
    }
}

impl Ahead {
    /// The last value of a pax key.
    fn text(&self, key: &[u8]) -> Option<&[u8]> {
        self.pax.iter().rev().find(|(name, _)| name == key).map(|(_, value)| &**value).filter(|value| !value.is_empty())
    }

    /// The same as a number.
    fn number(&self, key: &[u8]) -> Option<io::Result<u64>> {
        self.text(key).map(decimal)
    }

    /// `SCHILY.xattr.NAME`.
    fn xattrs(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let own =
            |(key, value): &(Vec<u8>, Vec<u8>)| Some((key.strip_prefix(b"SCHILY.xattr.")?.to_vec(), value.clone()));
        self.pax.iter().filter_map(own).collect()
    }
}

/// Whether a header describes the next one.
fn is_meta(kind: EntryType) -> bool {
    matches!(kind, EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader | EntryType::XGlobalHeader)
}

/// In our words.
fn kind(kind: EntryType) -> Kind {
    match kind {
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
        EntryType::Link => Kind::HardLink,
        EntryType::Symlink => Kind::Symlink,
        EntryType::Directory => Kind::Directory,
        EntryType::Fifo => Kind::Fifo,
        EntryType::Char => Kind::Char,
        EntryType::Block => Kind::Block,
        _ => Kind::Other,
    }
}

/// Records of a pax header: `LENGTH KEY=VALUE\n`, where the value may be any bytes.
fn pax(mut data: &[u8]) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut records = Vec::new();
    while !data.is_empty() {
        let record = (|| {
            let space = data.iter().position(|byte| *byte == b' ')?;
            let length = usize::try_from(decimal(&data[..space]).ok()?).ok()?;
            let body = data.get(space + 1..length)?.strip_suffix(b"\n")?;
            let equals = body.iter().position(|byte| *byte == b'=')?;
            Some((length, (body[..equals].to_vec(), body[equals + 1..].to_vec())))
        })();
        // `meta` took a last NUL away; a record ends with a newline, so none was of it.
        let (length, record) = record.ok_or_else(|| malformed("a pax header cannot be read"))?;
        records.push(record);
        data = &data[length..];
    }
    Ok(records)
}

/// A number in decimal.
fn decimal(text: &[u8]) -> io::Result<u64> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    text.and_then(|text| text.parse().ok()).ok_or_else(|| malformed("a number cannot be read"))
}

/// `-12.345` as seconds and nanoseconds.
fn seconds(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanos: u32 = format!("{fraction:0<9.9}").parse().ok()?;
    let seconds: i64 = whole.parse().ok()?;
    match text.starts_with('-') && nanos > 0 {
        true => Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos)),
        false => Some((seconds, nanos)),
    }
}

/// Offsets and lengths in turn.
fn pairs<'a>(mut numbers: impl Iterator<Item = &'a [u8]>, pieces: &mut Vec<(u64, u64)>) -> io::Result<()> {
    while let Some(offset) = numbers.next() {
        let length = numbers.next().ok_or_else(|| malformed("the map of a sparse file is cut"))?;
        pieces.push((decimal(offset)?, decimal(length)?));
    }
    Ok(())
}

/// Whether pieces are in order, within the file, and as long as the data.
fn check(pieces: &[(u64, u64)], size: u64, data: u64) -> io::Result<()> {
    let (mut end, mut sum) = (0, 0_u64);
    for (offset, length) in pieces {
        let next = offset.checked_add(*length).filter(|next| *offset >= end && *next <= size);
        end = next.ok_or_else(|| malformed("the pieces of a sparse file are out of order"))?;
        sum = sum.saturating_add(*length);
    }
    if sum == data { Ok(()) } else { Err(malformed("a sparse file is not as long as its pieces")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Input for &[u8] {
        fn skip(&mut self, bytes: u64) -> io::Result<()> {
            let bytes = usize::try_from(bytes).unwrap();
            *self = self.get(bytes..).ok_or_else(|| malformed("it ends within a file"))?;
            Ok(())
        }
    }

    #[test]
    fn times_have_nanoseconds_on_both_sides_of_zero() {
        for (text, time) in [
            ("1", Some((1, 0))),
            ("1.5", Some((1, 500_000_000))),
            ("1.1234567891", Some((1, 123_456_789))),
            ("-1.25", Some((-2, 750_000_000))),
            ("-0.25", Some((-1, 750_000_000))),
            ("x", None),
            ("1.x", None),
        ] {
            assert_eq!(seconds(text.as_bytes()), time, "{text}");
        }
    }

    #[test]
    fn a_pax_value_may_hold_a_newline() {
        let records = pax(b"10 a=b\nc=\n6 d=e\n").unwrap();
        assert_eq!(records, [(b"a".to_vec(), b"b\nc=".to_vec()), (b"d".to_vec(), b"e".to_vec())]);
        for wrong in ["9 a=b\n", "x", "5 a=b\n", "6 a=b", "6 abc\n", "99999999999999999999 a=b\n"] {
            assert!(pax(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn pieces_are_in_order_and_inside() {
        assert!(check(&[(0, 2), (4, 1), (9, 0)], 9, 3).is_ok());
        for (pieces, size, data) in [
            (&[(4, 1), (0, 2)][..], 9, 3),
            (&[(0, 2), (1, 1)], 9, 3),
            (&[(8, 2)], 9, 2),
            (&[(0, 2)], 9, 3),
            (&[(u64::MAX, 1)], 9, 1),
        ] {
            assert!(check(pieces, size, data).is_err(), "{pieces:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..2000)) {
            let mut archive = Archive::new(&bytes[..]);
            while let Ok(Some(_)) = archive.advance() {}
            let _answer = pax(&bytes);
        }
    }
}
