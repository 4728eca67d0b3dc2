//! Removing what has not been used for long, and what the disk has no room for: the longest unused first.

use std::{
    fs::{self, File, FileTimes, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    time::{Duration, SystemTime},
};

use super::{Removed, Store, Tag, durable, names, remove::InUse};
use crate::image::{Error, Source};

/// When images that nothing uses are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// When they have not been used for longer than this.
    pub max_age: Duration,
    /// When there is more than the first, until there is no more than the second.
    pub water: Option<(Mark, Mark)>,
}

/// How much there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Percent of the filesystem that the store is on, whoever has filled it.
    Share(u8),
    /// Bytes that the layers of the store take.
    Bytes(u64),
}

/// What may be removed.
struct Candidate {
    /// The tag.
    tag: Tag,
    /// Whether its source stays, and only what it was before goes.
    former: bool,
    /// When it was last known to be in use.
    used: SystemTime,
}

impl Store {
    /// Notes that a source is in use.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn touch(&self, source: &Source) -> Result<(), Error> {
        self.touch_at(source, SystemTime::now())
    }

    /// Removes what a rule says, of what is not in use. `in_use` is asked when nobody can begin to use an image any more.
    /// None where somebody is about to: then it is not waited, and nothing is removed.
    ///
    /// # Errors
    /// Something cannot be read or removed.
    pub fn collect(
        &self,
        rule: &Rule,
        now: SystemTime,
        in_use: &dyn Fn() -> Result<InUse, Error>,
    ) -> Result<Option<Removed>, Error> {
        self.prepare()?;
        let Some(_alone) = durable::try_lock(&self.directory.join("locks/store"))? else { return Ok(None) };
        let in_use = &in_use()?;
        let mut removed = Removed::default();
        let mut kept = Vec::new();
        for candidate in self.candidates(in_use, now)? {
            let age = now.duration_since(candidate.used).unwrap_or_default();
            if age > rule.max_age { self.let_go(candidate, &mut removed)? } else { kept.push(candidate) }
        }
        self.swept(in_use, &mut removed)?;
        let Some((high, low)) = rule.water else { return Ok(Some(removed)) };
        if self.is_above(high)? {
            for candidate in kept {
                if !self.is_above(low)? {
                    break;
                }
                self.let_go(candidate, &mut removed)?;
                self.swept(in_use, &mut removed)?;
            }
        }
        Ok(Some(removed))
    }

    /// Whether there is more than a mark says.
    ///
    /// # Errors
    /// It cannot be told.
    pub fn is_above(&self, mark: Mark) -> Result<bool, Error> {
        match mark {
            Mark::Bytes(most) => Ok(self.layers_bytes()? > most),
            Mark::Share(percent) => {
                let stat = rustix::fs::statvfs(&self.directory)
                    .map_err(Error::io(format!("tell how full the disk of {} is", self.directory.display())))?;
                // As df(1): what is kept for root is neither used nor free.
                let used = u128::from(stat.f_blocks - stat.f_bfree);
                Ok(used * 100 > u128::from(percent) * (used + u128::from(stat.f_bavail)))
            }
        }
    }

    /// Bytes that all layers take.
    fn layers_bytes(&self) -> Result<u64, Error> {
        let chains = names(&self.directory.join("layers"))?;
        let chains = chains.iter().filter_map(|name| format!("sha256:{name}").parse().ok());
        Ok(chains.filter_map(|chain| self.layer(&chain)).map(|facts| facts.bytes).sum())
    }

    /// What may be removed, the longest unused first. What is in use is noted as that.
    fn candidates(&self, in_use: &InUse, now: SystemTime) -> Result<Vec<Candidate>, Error> {
        let mut all = Vec::new();
        for tag in self.tags_whole()? {
            let runs_former = tag.former.iter().any(|version| in_use.runs(version));
            if in_use.sources.contains(&tag.source) || in_use.runs(&tag.current) || runs_former {
                self.touch_at(&tag.source, now)?;
                if !runs_former && !tag.former.is_empty() {
                    let used = self.imported(&tag);
                    all.push(Candidate { tag, former: true, used });
                }
            } else {
                let used = self.used(&tag);
                all.push(Candidate { tag, former: false, used });
            }
        }
        all.sort_by_key(|candidate| candidate.used);
        Ok(all)
    }

    /// Removes a candidate's names; its layers are swept later.
    fn let_go(&self, Candidate { tag, former, .. }: Candidate, removed: &mut Removed) -> Result<(), Error> {
        if !former {
            self.forget(&tag)?;
            removed.images.push(tag.source);
            return Ok(());
        }
        let path = self.tag_file(&tag.source);
        removed.former.extend(tag.former.iter().map(|version| (tag.source.clone(), version.digest.clone())));
        let text = serde_json::to_vec(&Tag { former: Vec::new(), ..tag.clone() })
            .map_err(|error| Error::bad(&tag.source, error.to_string()))?;
        durable::write(&path, &text).map_err(Error::io(format!("write {}", path.display())))
    }

    /// Removes the layers that nothing names any more.
    fn swept(&self, in_use: &InUse, removed: &mut Removed) -> Result<(), Error> {
        let swept = self.sweep(in_use)?;
        removed.layers += swept.layers;
        removed.bytes += swept.bytes;
        Ok(())
    }

    /// When an image was last in use; one that never was counts from its import.
    fn used(&self, tag: &Tag) -> SystemTime {
        let used = fs::metadata(self.used_file(&tag.source)).and_then(|meta| meta.modified()).ok();
        used.into_iter().chain([self.imported(tag)]).max().unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// When a source became what it is. What cannot be told counts as long ago.
    fn imported(&self, tag: &Tag) -> SystemTime {
        let modified = fs::metadata(self.tag_file(&tag.source)).and_then(|meta| meta.modified());
        modified.unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// Notes that a source was in use at a time.
    fn touch_at(&self, source: &Source, time: SystemTime) -> Result<(), Error> {
        let path = self.used_file(source);
        let open = || OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let touched = open().and_then(|file: File| file.set_times(FileTimes::new().set_modified(time)));
        touched.map_err(Error::io(format!("note the use of {source} in {}", path.display())))
    }
}
