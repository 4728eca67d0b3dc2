//! Records as files.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::{Record, SCHEMA};
use crate::spec::Name;

/// The directory of records.
#[derive(Debug, Clone)]
pub struct Store {
    /// `/run/berth/records`.
    directory: PathBuf,
}

/// A record that could not be read. Its file is kept beside, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// The container, if the file's name tells.
    pub name: Option<Name>,
    /// One line for people.
    pub message: String,
}

impl Store {
    /// Records in `directory`, which is made if need be.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open(directory: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        Ok(Self { directory })
    }

    /// All records, and what was wrong with the others.
    ///
    /// # Errors
    /// The directory itself cannot be read.
    pub fn load(&self) -> io::Result<(BTreeMap<Name, Record>, Vec<Damaged>)> {
        let (mut records, mut damaged) = (BTreeMap::new(), Vec::new());
        for entry in fs::read_dir(&self.directory)?.flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|ext| ext != "json") {
                discard_temporary(&path);
                continue;
            }
            match read(&path) {
                Ok(record) => drop(records.insert(record.name.clone(), record)),
                Err(reason) => damaged.push(set_aside(&path, &reason)),
            }
        }
        Ok((records, damaged))
    }

    /// Writes a record in place of the one before.
    ///
    /// # Errors
    /// It could not be written; the one before stands.
    pub fn save(&self, record: &Record) -> io::Result<()> {
        let text = serde_json::to_vec(record).map_err(io::Error::other)?;
        write_atomically(&self.path(&record.name), &text, 0o600)
    }

    /// Forgets a container; that there is no record is success.
    ///
    /// # Errors
    /// The file is there and cannot be removed.
    pub fn remove(&self, name: &Name) -> io::Result<()> {
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Where a record lies.
    fn path(&self, name: &Name) -> PathBuf {
        self.directory.join(format!("{name}.json"))
    }
}

/// One record, whose file's name, schema and content agree.
fn read(path: &Path) -> Result<Record, String> {
    let text = fs::read(path).map_err(|error| crate::error::reason(&error))?;
    let record: Record = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    if record.schema != SCHEMA {
        return Err(format!("its form is version {}, this berthd knows {SCHEMA}", record.schema));
    }
    if path.file_stem().and_then(|stem| stem.to_str()) != Some(record.name.as_str()) {
        return Err(format!("it is the record of '{}'", record.name));
    }
    Ok(record)
}

/// Moves a damaged record out of the way, keeping it for people.
fn set_aside(path: &Path, reason: &str) -> Damaged {
    let name = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
    let aside = path.with_extension("damaged");
    let kept = match fs::rename(path, &aside) {
        Ok(()) => format!("kept as {}", aside.display()),
        Err(error) => format!("and it cannot be moved aside: {}", crate::error::reason(&error)),
    };
    Damaged { name, message: format!("the record {} cannot be used: {reason}; {kept}", path.display()) }
}

/// A writer that was killed leaves its temporary file; nobody else makes files of that name.
fn discard_temporary(path: &Path) {
    if path.extension().is_some_and(|ext| ext == "tmp") {
        let _ = fs::remove_file(path);
    }
}

/// Replaces the file at `path` in one step: a reader sees the old content or the new, never a part.
///
/// # Errors
/// It could not be written; the old content stands and no temporary file is left.
pub fn write_atomically(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let write = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        file.write_all(content)?;
        fs::rename(&temporary, path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&temporary)))
}
