//! Removing what nothing uses.

use std::{collections::BTreeSet, fs, io};

use super::{Store, Tag, Version, durable, names};
use crate::image::{Digest, Error, Source};

/// What must stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InUse {
    /// Sources that specs name.
    pub sources: BTreeSet<Source>,
    /// Images and layers that records name, by the digits of their digests.
    pub digests: BTreeSet<String>,
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Images, by source.
    pub images: Vec<Source>,
    /// What sources were before and no container can go back to, where the source itself stays.
    pub former: Vec<(Source, Digest)>,
    /// How many layers.
    pub layers: usize,
    /// How many bytes of the disk those took.
    pub bytes: u64,
}

impl InUse {
    /// Whether a container runs with it, or can go back to it.
    pub(super) fn runs(&self, version: &Version) -> bool {
        self.digests.contains(version.digest.hex())
    }
}

impl Store {
    /// Removes an image and what only it has. None where there is no such image. `in_use` is asked when nobody can begin
    /// to use one any more.
    ///
    /// # Errors
    /// It is in use, or cannot be removed.
    pub fn remove(&self, source: &Source, in_use: &dyn Fn() -> Result<InUse, Error>) -> Result<Option<Removed>, Error> {
        self.prepare()?;
        let _alone = durable::lock(&self.directory.join("locks/store"), durable::Kind::Alone)?;
        let in_use = &in_use()?;
        let Some(tag) = self.tag(source)? else { return Ok(None) };
        if in_use.sources.contains(source) {
            return Err(Error::InUse(format!("{source} stays: a container's file names it; remove that file first")));
        }
        if std::iter::once(&tag.current).chain(&tag.former).any(|version| in_use.runs(version)) {
            return Err(Error::InUse(format!(
                "{source} stays: a container runs with it or can go back to it; remove its file first"
            )));
        }
        self.forget(&tag)?;
        let mut removed = self.sweep(in_use)?;
        removed.images.push(source.clone());
        Ok(Some(removed))
    }

    /// Removes all images that nothing uses, and what an import that was killed has left. Of an image in use, the former
    /// version stays as a way back.
    ///
    /// # Errors
    /// Something cannot be read or removed.
    pub fn prune(&self, in_use: &dyn Fn() -> Result<InUse, Error>) -> Result<Removed, Error> {
        self.prepare()?;
        let _alone = durable::lock(&self.directory.join("locks/store"), durable::Kind::Alone)?;
        let in_use = &in_use()?;
        let mut images = Vec::new();
        for tag in self.tags_whole()? {
            let runs = std::iter::once(&tag.current).chain(&tag.former).any(|version| in_use.runs(version));
            if !runs && !in_use.sources.contains(&tag.source) {
                self.forget(&tag)?;
                images.push(tag.source);
            }
        }
        Ok(Removed { images, ..self.sweep(in_use)? })
    }

    /// All tags. One that cannot be read may name any layer, so nothing is removed then.
    pub(super) fn tags_whole(&self) -> Result<Vec<Tag>, Error> {
        let (tags, mut errors) = self.tags()?;
        if errors.is_empty() { Ok(tags) } else { Err(errors.swap_remove(0)) }
    }

    /// Removes a tag.
    pub(super) fn forget(&self, tag: &Tag) -> Result<(), Error> {
        let path = self.tag_file(&tag.source);
        remove_file(&self.used_file(&tag.source))?;
        let removed = fs::remove_file(&path).and_then(|()| durable::sync_parent(&path));
        removed.map_err(Error::io(format!("remove {}", path.display())))
    }

    /// Removes layers that no tag and nothing in use names, and what is left half. The caller holds the store alone.
    pub(super) fn sweep(&self, in_use: &InUse) -> Result<Removed, Error> {
        let tags = self.tags_whole()?;
        let versions = tags.iter().flat_map(|tag| std::iter::once(&tag.current).chain(&tag.former));
        let kept: BTreeSet<&str> = versions.flat_map(|version| &version.layers).map(Digest::hex).collect();
        let mut removed = Removed::default();
        for name in names(&self.directory.join("layers"))? {
            if kept.contains(name.as_str()) || in_use.digests.contains(&name) {
                continue;
            }
            if let Ok(chain) = format!("sha256:{name}").parse() {
                removed.layers += 1;
                removed.bytes += self.layer(&chain).map_or(0, |facts| facts.bytes);
            }
            // Out of its place in one step: a part of a layer is none.
            let (from, aside) = (self.directory.join("layers").join(&name), self.directory.join("tmp").join(&name));
            durable::remove_tree(&aside)?;
            fs::rename(&from, &aside).map_err(Error::io(format!("remove {}", from.display())))?;
        }
        for name in names(&self.directory.join("tmp"))? {
            durable::remove_tree(&self.directory.join("tmp").join(name))?;
        }
        for name in names(&self.directory.join("locks"))? {
            if name != "store" && name != "tags" && !self.is_layer(&name) {
                remove_file(&self.directory.join("locks").join(name))?;
            }
        }
        for name in names(&self.tags_directory())?.into_iter().filter(|name| name.ends_with(".tmp")) {
            remove_file(&self.tags_directory().join(name))?;
        }
        Ok(removed)
    }

    /// Whether a name is that of a layer that is here.
    fn is_layer(&self, name: &str) -> bool {
        self.directory.join("layers").join(name).is_dir()
    }
}

/// Removes a file; that there is none is success.
fn remove_file(path: &std::path::Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(format!("remove {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}
