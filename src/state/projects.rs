//! Project IDs that berth has given, and the directory that each is for.
//!
//! A symbolic link an ID under `/var/lib/berth/projects`, named by it and leading to the directory: made in one step, on
//! the disk before the deed, and there after a reboot. While the directory is being given to the project the name ends in
//! [`UNFINISHED`], so that whoever comes after a crash begins again.
//!
//! The kernel knows which IDs are in use ([`crate::sys::quota::next_record`]); the map knows which of them are berth's.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

/// The end of the name while not all that is in the directory is the project's.
const UNFINISHED: &str = "~";

/// The map.
#[derive(Debug)]
pub struct Projects {
    /// Where it lies.
    directory: PathBuf,
    /// Below this are the directories.
    durable: PathBuf,
    /// By ID.
    entries: BTreeMap<u32, Entry>,
    /// By directory.
    by_path: BTreeMap<PathBuf, u32>,
}

/// What one ID is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The directory at the top.
    pub path: PathBuf,
    /// Whether all that is in it is the project's.
    pub finished: bool,
}

impl Projects {
    /// The map of what lies below `durable`. What is no entry is left alone.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(durable: &Path) -> io::Result<Self> {
        let directory = durable.join("projects");
        let mut projects = Self {
            directory: directory.clone(),
            durable: durable.to_owned(),
            entries: BTreeMap::new(),
            by_path: BTreeMap::new(),
        };
        let links = match fs::read_dir(&directory) {
            Ok(links) => links,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(projects),
            Err(error) => return Err(error),
        };
        for link in links.flatten() {
            let name = link.file_name();
            let Some(name) = name.to_str() else { continue };
            let (number, finished) = name.strip_suffix(UNFINISHED).map_or((name, true), |number| (number, false));
            // A stranger's link says nothing of the world outside.
            let target = fs::read_link(link.path()).ok().filter(|target| is_plain(target));
            if let (Ok(id @ 1..), Some(target)) = (number.parse(), target) {
                projects.note(id, Entry { path: durable.join(target), finished });
            }
        }
        Ok(projects)
    }

    /// The ID of a directory.
    #[must_use]
    pub fn of(&self, path: &Path) -> Option<u32> {
        self.by_path.get(path).copied()
    }

    /// What an ID is for.
    #[must_use]
    pub fn entry(&self, id: u32) -> Option<&Entry> {
        self.entries.get(&id)
    }

    /// All, ascending.
    pub fn entries(&self) -> impl Iterator<Item = (u32, &Entry)> {
        self.entries.iter().map(|(id, entry)| (*id, entry))
    }

    /// Gives an ID to a directory, whose content is not the project's yet. It is on the disk before this returns.
    ///
    /// # Errors
    /// The link cannot be made; `InvalidInput` for what does not lie below the durable directory, `AlreadyExists` for an
    /// ID that is another's.
    pub fn claim(&mut self, id: u32, path: &Path) -> io::Result<()> {
        let target = path.strip_prefix(&self.durable).ok().filter(|target| is_plain(target));
        let target = target.ok_or(io::ErrorKind::InvalidInput)?;
        match self.entries.get(&id) {
            Some(entry) if entry.path != path => return Err(io::ErrorKind::AlreadyExists.into()),
            Some(Entry { finished: true, .. }) => {
                fs::rename(self.link(id, true), self.link(id, false))?;
            }
            Some(_) => return Ok(()),
            None => {
                fs::create_dir_all(&self.directory)?;
                symlink(target, self.link(id, false))?;
            }
        }
        self.note(id, Entry { path: path.to_owned(), finished: false });
        self.sync()
    }

    /// All that is in the directory is the project's now. Where power is lost, it may be so once more.
    ///
    /// # Errors
    /// The link cannot be renamed.
    pub fn finish(&mut self, id: u32) -> io::Result<()> {
        if let Some(entry) = self.entries.get(&id).filter(|entry| !entry.finished).cloned() {
            fs::rename(self.link(id, false), self.link(id, true))?;
            self.note(id, Entry { finished: true, ..entry });
        }
        Ok(())
    }

    /// Takes an ID back; that it was not given is success.
    ///
    /// # Errors
    /// The link cannot be removed.
    pub fn forget(&mut self, id: u32) -> io::Result<()> {
        let Some(entry) = self.entries.get(&id) else { return Ok(()) };
        match fs::remove_file(self.link(id, entry.finished)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        if let Some(entry) = self.entries.remove(&id)
            && self.by_path.get(&entry.path) == Some(&id)
        {
            self.by_path.remove(&entry.path);
        }
        Ok(())
    }

    /// Where the link of an ID lies.
    fn link(&self, id: u32, finished: bool) -> PathBuf {
        self.directory.join(if finished { id.to_string() } else { format!("{id}{UNFINISHED}") })
    }

    /// Puts the links on the disk.
    fn sync(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }

    /// Holds an entry in memory.
    fn note(&mut self, id: u32, entry: Entry) {
        self.by_path.insert(entry.path.clone(), id);
        self.entries.insert(id, entry);
    }
}

/// Whether a path goes down only.
fn is_plain(path: &Path) -> bool {
    path.components().next().is_some() && path.components().all(|part| matches!(part, std::path::Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The map as the next berthd reads it.
    fn again(durable: &Path, projects: &Projects) -> Projects {
        let read = Projects::open(durable).unwrap();
        assert_eq!((&read.entries, &read.by_path), (&projects.entries, &projects.by_path));
        read
    }

    #[test]
    fn what_was_given_is_there_for_the_next() {
        let world = tempfile::tempdir().unwrap();
        let durable = world.path();
        let mut projects = Projects::open(durable).unwrap();
        assert!(!durable.join("projects").exists(), "a host without quotas has none");
        let [a, b] = ["sandboxes/a/1", "sandboxes/a/1/data"].map(|path| durable.join(path));
        projects.claim(5000, &a).unwrap();
        projects.claim(5001, &b).unwrap();
        projects.finish(5000).unwrap();
        let mut projects = again(durable, &projects);
        assert_eq!((projects.of(&a), projects.of(&b), projects.of(durable)), (Some(5000), Some(5001), None));
        assert!(projects.entry(5000).unwrap().finished && !projects.entry(5001).unwrap().finished);
        assert_eq!(projects.claim(5000, &b).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        projects.claim(5000, &a).unwrap();
        assert!(!projects.entry(5000).unwrap().finished, "to be done once more");
        projects.forget(5000).unwrap();
        projects.forget(5000).unwrap();
        let projects = again(durable, &projects);
        assert_eq!(projects.entries().map(|(id, _)| id).collect::<Vec<_>>(), [5001]);
    }

    #[test]
    fn nothing_leads_out_and_strange_files_are_no_entries() {
        let world = tempfile::tempdir().unwrap();
        let mut projects = Projects::open(world.path()).unwrap();
        for outside in [Path::new("/etc"), &world.path().join("../x"), world.path()] {
            assert_eq!(projects.claim(1, outside).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        let directory = world.path().join("projects");
        fs::create_dir(&directory).unwrap();
        for (name, target) in
            [("0", "x"), ("x", "x"), ("1", "/etc"), ("2", "../.."), ("4294967296", "x"), ("-3", "x"), ("4~~", "x")]
        {
            symlink(target, directory.join(name)).unwrap();
        }
        fs::write(directory.join("6"), "x").unwrap();
        assert_eq!(Projects::open(world.path()).unwrap().entries().count(), 0);
    }
}
