//! Project IDs: which are free, whose the others are, and when they are free again.
//!
//! Put right against Mesos (`isolators/xfs/disk.cpp`), which reads the IDs of the directories that it knows: here the
//! kernel is asked, which counts every inode. An ID is in use as long as anything of it is on the disk or anybody has set
//! a limit for it, wherever that is and whoever made it; one of berth's is free when its directory has gone and all else
//! with it.

use std::{
    fmt,
    fs::{self, File},
    io,
    ops::RangeInclusive,
    os::fd::AsFd,
    path::Path,
    sync::{Mutex, PoisonError},
    thread::sleep,
    time::Duration,
};

use super::label;
use crate::{
    root::Root,
    state::Projects,
    sys::quota::{self, Limits},
};

/// How often, and how long in between, the kernel is asked again where IDs are about to be free: XFS takes its time over
/// files that were removed.
const PATIENCE: (u32, Duration) = (25, Duration::from_millis(40));

/// What berthd keeps of projects while it lives.
#[derive(Debug)]
pub struct Pool {
    /// Where things lie.
    root: Root,
    /// The map; opened when it is first needed.
    projects: Mutex<Option<Projects>>,
}

/// There is no ID left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    /// IDs in the ranges that are berth's directories'.
    pub ours: usize,
    /// IDs in the ranges that others use.
    pub others: usize,
}

impl Pool {
    /// Knows nothing yet.
    pub fn new(root: &Root) -> Self {
        Self { root: root.clone(), projects: Mutex::default() }
    }

    /// Locks the map and works with it.
    ///
    /// # Errors
    /// It cannot be read, or what `work` says.
    pub fn with<T>(&self, work: impl FnOnce(&mut Projects) -> io::Result<T>) -> io::Result<T> {
        let mut projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        let open = match projects.take() {
            Some(open) => open,
            None => Projects::open(&self.root.durable())?,
        };
        work(projects.insert(open))
    }

    /// The ID of a directory; none where it has been given none.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn of(&self, path: &Path) -> io::Result<Option<u32>> {
        self.with(|projects| Ok(projects.of(path)))
    }

    /// Gives a directory, open as `fd`, an ID: the one that it has, else the lowest that is free. It is written down.
    ///
    /// # Errors
    /// The kernel cannot be asked, or the map not be written.
    pub fn give(
        &self,
        fd: impl AsFd + Copy,
        path: &Path,
        ranges: &[RangeInclusive<u32>],
    ) -> io::Result<Result<u32, Exhausted>> {
        self.with(|projects| {
            if let Some(id) = projects.of(path) {
                return Ok(Ok(id));
            }
            let (times, pause) = PATIENCE;
            for time in 0.. {
                let awaited = reclaim(fd, projects)?;
                match lowest(fd, projects, ranges)? {
                    Ok(id) => return projects.claim(id, path).map(|()| Ok(id)),
                    Err(exhausted) if awaited == 0 || time == times => return Ok(Err(exhausted)),
                    Err(_) => {}
                }
                // Whoever asks for the first project hurries XFS along.
                quota::record(fd, 0)?;
                sleep(pause);
            }
            Err(io::ErrorKind::TimedOut.into())
        })
    }

    /// Takes back the IDs of directories that have gone.
    ///
    /// # Errors
    /// The kernel cannot be asked, or the map not be written.
    pub fn reclaim(&self) -> io::Result<()> {
        self.with(|projects| {
            if projects.entries().next().is_none() {
                return Ok(());
            }
            let sandboxes = File::open(self.root.durable().join("sandboxes"))?;
            reclaim(&sandboxes, projects).map(drop)
        })
    }

    /// Takes up IDs of sandboxes that the map has lost, so that they too are taken back some day.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn adopt(&self) -> io::Result<()> {
        let below = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        self.with(|projects| {
            for all in below(&self.root.durable().join("sandboxes")) {
                let inherited = present(&all);
                for run in below(&all) {
                    let Some(id) = present(&run).filter(|id| Some(*id) != inherited) else { continue };
                    if projects.of(&run).is_none() && projects.entry(id).is_none() {
                        // Whether all of it is labelled nobody knows.
                        projects.claim(id, &run)?;
                    }
                }
            }
            Ok(())
        })
    }
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ours, others } = self;
        write!(f, "{ours} are those of directories under /var/lib/berth, and {others} are used by others")
    }
}

/// The project that a sandbox has on the disk.
fn present(path: &Path) -> Option<u32> {
    let project = quota::project(label::open_directory(path).ok()?).ok()?;
    (project.id != 0).then_some(project.id)
}

/// Takes back the IDs of directories that have gone; how many more will be free in a moment.
fn reclaim(fd: impl AsFd + Copy, projects: &mut Projects) -> io::Result<usize> {
    let is_gone =
        |path: &Path| fs::symlink_metadata(path).is_err_and(|error| matches!(error.kind(), io::ErrorKind::NotFound));
    let gone: Vec<u32> = projects.entries().filter(|(_, entry)| is_gone(&entry.path)).map(|(id, _)| id).collect();
    let mut awaited = 0;
    for id in gone {
        let record = quota::record(fd, id)?.unwrap_or_default();
        if record.inodes > 0 || record.bytes > 0 {
            awaited += 1;
            continue;
        }
        if !record.is_blank() {
            quota::set_limits(fd, id, Limits::default())?;
        }
        projects.forget(id)?;
    }
    Ok(awaited)
}

/// The lowest ID that nobody uses.
fn lowest(
    fd: impl AsFd + Copy,
    projects: &Projects,
    ranges: &[RangeInclusive<u32>],
) -> io::Result<Result<u32, Exhausted>> {
    let mut exhausted = Exhausted { ours: 0, others: 0 };
    for range in ranges {
        let mut from = *range.start();
        while from <= *range.end() {
            let next = quota::next_record(fd, from)?.filter(|(id, _)| id <= range.end());
            let until = next.map_or(range.end().saturating_add(1), |(id, _)| id);
            for id in from..until {
                match projects.entry(id) {
                    None => return Ok(Ok(id)),
                    Some(_) => exhausted.ours += 1,
                }
            }
            let Some((id, record)) = next else { break };
            match projects.entry(id) {
                None if record.is_blank() => return Ok(Ok(id)),
                None => exhausted.others += 1,
                Some(_) => exhausted.ours += 1,
            }
            from = id + 1;
        }
    }
    Ok(Err(exhausted))
}
