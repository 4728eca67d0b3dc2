//! From a form that others made to layers and a tag.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::SystemTime,
};

use sha2::{Digest as _, Sha256};

use super::{LayerFacts, Progress, SCHEMA, Store, Tag, Version, durable};
use crate::{
    clock,
    image::{
        Digest, Error, Image, Source,
        open::Opened,
        unpack::{self, Spent},
    },
};

/// Former versions of a tag that are kept for a way back.
const FORMER: usize = 1;

/// A layer of the image that is imported.
#[derive(Debug)]
struct Wanted {
    /// Which of the image's.
    at: usize,
    /// Of its tar.
    diff_id: Digest,
    /// Of it and those below.
    chain: Digest,
}

/// A layer unpacked and not yet in its place.
#[derive(Debug)]
struct Fresh {
    /// Where it goes.
    wanted: usize,
    /// Directories that it only implies.
    implied: Vec<PathBuf>,
}

impl Store {
    /// Imports an image that lies on this host: unpacks what is not here and notes what the source is now.
    ///
    /// # Errors
    /// It cannot be read, is damaged or refused, or the disk would not. Nothing is left half.
    pub fn import(&self, source: &Source, progress: &dyn Progress) -> Result<Image, Error> {
        self.import_as(source, source, progress)
    }

    /// As [`Self::import`], where the source is another image now than `than`; none where it is the same.
    ///
    /// # Errors
    /// As of [`Self::import`].
    pub fn import_newer(
        &self,
        source: &Source,
        than: &Digest,
        progress: &dyn Progress,
    ) -> Result<Option<Image>, Error> {
        if Opened::open(source)?.digest == *than {
            return Ok(None);
        }
        self.import(source, progress).map(Some)
    }

    /// Imports under the name of one source what lies at another: what a registry's image was fetched to.
    ///
    /// # Errors
    /// As of [`Self::import`].
    pub fn import_as(&self, source: &Source, at: &Source, progress: &dyn Progress) -> Result<Image, Error> {
        let _hold = self.hold()?;
        let opened = Opened::open(at)?;
        let wanted = chain(&opened.config.diff_ids);
        self.layers(&opened, &wanted, progress)?;
        let version = Version {
            digest: opened.digest,
            config: opened.config,
            layers: wanted.into_iter().map(|layer| layer.chain).collect(),
            imported: clock::rfc3339(SystemTime::now()),
        };
        self.note(source, &version)?;
        Ok(self.image(source, &version))
    }

    /// Brings all layers here. Locks are taken from the lowest up, which two imports cannot do crosswise.
    fn layers(&self, opened: &Opened, wanted: &[Wanted], progress: &dyn Progress) -> Result<(), Error> {
        let mut locks = Vec::new();
        let mut missing = Vec::new();
        for (index, layer) in wanted.iter().enumerate() {
            if !self.has(&layer.chain) {
                locks.push(durable::lock(&self.lock_file(&layer.chain), durable::Kind::Alone)?);
            }
            // Another may have brought it while this waited.
            if self.has(&layer.chain) { progress.shared(&layer.diff_id) } else { missing.push(index) }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let done = self.unpack(opened, wanted, &missing, progress).and_then(|fresh| self.settle(wanted, fresh));
        if done.is_err() {
            for index in missing {
                durable::remove_tree(&self.temporary(&wanted[index].chain))?;
            }
        }
        done
    }

    /// Unpacks layers beside each other, as many as there are processors.
    fn unpack(
        &self,
        opened: &Opened,
        wanted: &[Wanted],
        missing: &[usize],
        progress: &dyn Progress,
    ) -> Result<Vec<Fresh>, Error> {
        let spent = Spent::default();
        let next = AtomicUsize::new(0);
        let failed = AtomicUsize::new(0);
        let work = || -> Result<Vec<Fresh>, Error> {
            let mut fresh = Vec::new();
            while let Some(&index) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                if failed.load(Ordering::Relaxed) > 0 {
                    break;
                }
                let implied = self.unpack_one(opened, &wanted[index], &spent, progress);
                let implied = implied.inspect_err(|_| failed.store(1, Ordering::Relaxed))?;
                fresh.push(Fresh { wanted: index, implied });
            }
            Ok(fresh)
        };
        let workers = thread::available_parallelism().map_or(1, usize::from).min(missing.len());
        thread::scope(|scope| {
            let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            let mut all = Vec::new();
            let mut outcome = Ok(());
            for thread in threads {
                match thread.join().unwrap_or_else(|_| Err(Error::bad("a layer", "could not be unpacked"))) {
                    Ok(fresh) => all.extend(fresh),
                    Err(error) => outcome = outcome.and(Err(error)),
                }
            }
            outcome.map(|()| all)
        })
    }

    /// Unpacks a layer to its temporary place.
    fn unpack_one(
        &self,
        opened: &Opened,
        layer: &Wanted,
        spent: &Spent,
        progress: &dyn Progress,
    ) -> Result<Vec<PathBuf>, Error> {
        let temporary = self.temporary(&layer.chain);
        // Left by one who was killed: this holds the lock.
        durable::remove_tree(&temporary)?;
        let fs = temporary.join("fs");
        let make = |path: &Path, mode| fs::DirBuilder::new().mode(mode).create(path);
        make(&temporary, 0o700).and_then(|()| make(&fs, 0o755)).map_err(Error::io(format!("make {}", fs.display())))?;
        progress.begin(&layer.diff_id, opened.size(layer.at));
        let told = |bytes| progress.advance(&layer.diff_id, bytes);
        let trust = unpack::Trust { limits: &self.limits, spent };
        let implied = unpack::unpack(opened.layer(layer.at)?, &layer.diff_id, &fs, trust, &told)?;
        let facts = LayerFacts { schema: SCHEMA, diff_id: layer.diff_id.clone(), bytes: disk_usage(&fs) };
        let text = serde_json::to_vec(&facts).map_err(|error| Error::bad("a layer", error.to_string()))?;
        let path = temporary.join("layer.json");
        fs::write(&path, text).map_err(Error::io(format!("write {}", path.display())))?;
        progress.end(&layer.diff_id);
        Ok(implied)
    }

    /// Puts layers in their places, when all of them are on the disk.
    fn settle(&self, wanted: &[Wanted], mut fresh: Vec<Fresh>) -> Result<(), Error> {
        fresh.sort_by_key(|fresh| fresh.wanted);
        let place = |index: usize, fresh: &BTreeSet<usize>| match fresh.contains(&index) {
            true => self.temporary(&wanted[index].chain).join("fs"),
            false => self.layer_directory(&wanted[index].chain).join("fs"),
        };
        let new: BTreeSet<usize> = fresh.iter().map(|fresh| fresh.wanted).collect();
        for layer in &fresh {
            let lower: Vec<PathBuf> = (0..layer.wanted).rev().map(|index| place(index, &new)).collect();
            let adopted = unpack::adopt(&place(layer.wanted, &new), &layer.implied, &lower);
            adopted.map_err(Error::io(format!("unpack layer {}", wanted[layer.wanted].diff_id)))?;
        }
        let layers = self.directory.join("layers");
        let sync = File::open(&layers).and_then(|directory| Ok(rustix::fs::syncfs(directory)?));
        sync.map_err(Error::io(format!("write {} to the disk", layers.display())))?;
        for layer in &fresh {
            let chain = &wanted[layer.wanted].chain;
            let to = self.layer_directory(chain);
            // Of an older berth or a damaged disk: without its facts it is no layer.
            durable::remove_tree(&to)?;
            fs::rename(self.temporary(chain), &to).map_err(Error::io(format!("make {}", to.display())))?;
        }
        durable::sync_parent(&layers.join("x")).map_err(Error::io(format!("write {} to the disk", layers.display())))
    }

    /// Notes what a source is now, and what it was.
    fn note(&self, source: &Source, version: &Version) -> Result<(), Error> {
        let path = self.tag_file(source);
        let _lock = durable::lock(&self.directory.join("locks/tags"), durable::Kind::Alone)?;
        let mut former = Vec::new();
        // A damaged one is replaced: this is the cure that its error names.
        if let Ok(Some(before)) = self.read_tag(&path) {
            let all = std::iter::once(before.current).chain(before.former);
            former.extend(all.filter(|one| one.digest != version.digest).take(FORMER));
        }
        let tag = Tag { schema: SCHEMA, source: source.clone(), current: version.clone(), former };
        let text = serde_json::to_vec(&tag).map_err(|error| Error::bad(source, error.to_string()))?;
        durable::write(&path, &text).map_err(Error::io(format!("write {}", path.display())))
    }

    /// Whether a layer is here.
    fn has(&self, chain: &Digest) -> bool {
        self.layer(chain).is_some()
    }

    /// A layer on its way.
    fn temporary(&self, chain: &Digest) -> PathBuf {
        self.directory.join("tmp").join(chain.hex())
    }

    /// The lock of a layer.
    fn lock_file(&self, chain: &Digest) -> PathBuf {
        self.directory.join("locks").join(chain.hex())
    }
}

/// Chain IDs: of the lowest its own digest, of each above the digest of the chain below and its own.
fn chain(diff_ids: &[Digest]) -> Vec<Wanted> {
    let mut below: Option<Digest> = None;
    let mut wanted = Vec::new();
    for (at, diff_id) in diff_ids.iter().enumerate() {
        let chain = match &below {
            Some(below) => Digest::of_hash(&Sha256::digest(format!("{below} {diff_id}")).into()),
            None => diff_id.clone(),
        };
        below = Some(chain.clone());
        wanted.push(Wanted { at, diff_id: diff_id.clone(), chain });
    }
    wanted
}

/// Bytes that a tree takes; what cannot be read counts nothing.
fn disk_usage(path: &Path) -> u64 {
    let (mut bytes, mut left) = (0, vec![path.to_owned()]);
    let mut seen = BTreeSet::new();
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                left.push(entry.path());
            } else if meta.nlink() == 1 || seen.insert(meta.ino()) {
                bytes += meta.blocks() * 512;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the OCI image specification has no numbers; these are of `printf 'sha256:1… sha256:2…' | sha256sum`.
    #[test]
    fn a_chain_names_all_below() {
        let ids: Vec<Digest> =
            ["1", "2", "3"].iter().map(|c| format!("sha256:{}", c.repeat(64)).parse().unwrap()).collect();
        let chains: Vec<String> = chain(&ids).into_iter().map(|layer| layer.chain.to_string()).collect();
        assert_eq!(chains[0], ids[0].to_string());
        let second = Digest::of_hash(&Sha256::digest(format!("{} {}", ids[0], ids[1])).into());
        assert_eq!(chains[1], second.to_string());
        assert_eq!(chains[2], Digest::of_hash(&Sha256::digest(format!("{second} {}", ids[2])).into()).to_string());
    }
}
