//! Files over the four layers, and how they are read: whatever lies there, nobody hangs and nothing is guessed.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::{
    diagnostic::{Diagnostic, ordinal},
    document::Document,
};

/// Largest file that is read, in bytes; a spec with a thousand volumes is a tenth of it.
const MAX: u64 = 1 << 20;

/// What a file holds.
#[derive(Debug)]
pub enum Content {
    /// Text.
    Text(String),
    /// Nothing, or it is `/dev/null`: it hides files of its name in lower layers.
    Mask,
    /// It is not there (any more).
    Absent,
}

/// A name in a directory of one layer.
#[derive(Debug)]
pub struct Entry {
    /// The name, without its directory.
    pub name: String,
    /// The whole path.
    pub path: PathBuf,
}

/// The entries of a directory that matter, by name. An absent directory has none.
///
/// Hidden files do not matter, and callers take names in `.toml` and `.toml.d` only: what editors and package
/// managers leave behind (`.#web.toml`, `web.toml~`, `web.toml.dpkg-new`) is among neither.
pub fn entries(directory: &Path) -> Result<Vec<Entry>, Diagnostic> {
    let complain = |error: io::Error| Diagnostic::error(directory, format!("cannot read this directory: {error}"));
    let listing = match fs::read_dir(directory) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(complain(error)),
    };
    let mut entries = Vec::new();
    for entry in listing {
        let entry = entry.map_err(complain)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            entries.push(Entry { name, path: entry.path() });
        }
    }
    entries.sort_by(|a, b| (&a.name, &a.path).cmp(&(&b.name, &b.path)));
    Ok(entries)
}

/// The drop-ins of some directories, given highest precedence first: sorted by file name over all of them, a higher
/// one's file replacing a lower one's of its name.
pub fn drop_ins(directories: &[PathBuf], errors: &mut Vec<Diagnostic>) -> Vec<PathBuf> {
    let mut found = BTreeMap::new();
    for directory in directories.iter().rev() {
        match entries(directory) {
            Ok(entries) => {
                let files = entries.into_iter().filter(|entry| entry.name.ends_with(".toml"));
                found.extend(files.map(|entry| (entry.name, entry.path)));
            }
            Err(error) => errors.push(error),
        }
    }
    found.into_values().collect()
}

/// The part of a file's name before `.toml`.
pub fn toml_name(path: &Path) -> Option<&str> {
    path.file_name().and_then(OsStr::to_str)?.strip_suffix(".toml")
}

/// Reads a file of configuration through any symbolic links.
pub fn read(path: &Path) -> Result<Content, Diagnostic> {
    let complain = |what: &str| Diagnostic::error(path, what);
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match fs::symlink_metadata(path) {
                Ok(_) => Err(complain("this link leads nowhere").with_help(Some("to mask, link to /dev/null"))),
                Err(_) => Ok(Content::Absent),
            };
        }
        Err(error) => return Err(complain(&format!("cannot look at this file: {error}"))),
    };
    if let Some(decided) = judge(path, &metadata)? {
        return Ok(decided);
    }
    match open(path).and_then(slurp) {
        Ok(bytes) if bytes.is_empty() => Ok(Content::Mask),
        Ok(bytes) if bytes.len() as u64 > MAX => Err(too_large(path)),
        Ok(bytes) => text(path, bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Content::Absent),
        Err(error) => Err(complain(&format!("cannot read this file: {error}"))),
    }
}

/// What can be said of a file before it is opened; opening a device or a pipe would be a deed.
fn judge(path: &Path, metadata: &Metadata) -> Result<Option<Content>, Diagnostic> {
    let kind = metadata.file_type();
    if kind.is_char_device() && metadata.rdev() == rustix::fs::makedev(1, 3) {
        return Ok(Some(Content::Mask));
    }
    if kind.is_dir() {
        return Err(Diagnostic::error(path, "this is a directory, not a file"));
    }
    if !kind.is_file() {
        return Err(Diagnostic::error(path, "this is not a regular file"));
    }
    match metadata.len() {
        0 => Ok(Some(Content::Mask)),
        length if length > MAX => Err(too_large(path)),
        _ => Ok(None),
    }
}

/// Opens a file without waiting for a writer, should it have become a pipe meanwhile.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
}

/// Reads a file, one byte further than is allowed.
fn slurp(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The complaint about a file that is no configuration.
fn too_large(path: &Path) -> Diagnostic {
    Diagnostic::error(path, "this file is larger than 1 MiB")
}

/// Bytes as text.
fn text(path: &Path, bytes: Vec<u8>) -> Result<Content, Diagnostic> {
    String::from_utf8(bytes).map(Content::Text).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = &error.as_bytes()[..valid];
        let line = before.iter().filter(|byte| **byte == b'\n').count();
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        let column = String::from_utf8_lossy(&before[start..]).chars().count();
        let mut diagnostic = Diagnostic::error(path, "this file is not UTF-8").with_help(Some("TOML is UTF-8"));
        (diagnostic.line, diagnostic.column) = (ordinal(line), ordinal(column));
        diagnostic
    })
}

/// Reads and parses a file; `None` where it is masked or absent.
pub fn parse(path: &Path) -> (Option<Document>, Vec<Diagnostic>) {
    match read(path) {
        Ok(Content::Text(text)) => {
            let (document, found) = Document::parse(path, &text);
            (Some(document), found)
        }
        Ok(Content::Mask | Content::Absent) => (None, Vec::new()),
        Err(diagnostic) => (None, vec![diagnostic]),
    }
}
