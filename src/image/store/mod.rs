//! Images on disk, below `/var/lib/berth/images`.
//!
//! - `layers/CHAIN/fs`: a layer unpacked. CHAIN names it and all layers below it (OCI image specification, chain ID), so
//!   images share it.
//! - `tags/HASH.json`: which image a source was when it was imported last, and which it was before.
//! - `tmp/CHAIN`: a layer on its way. It is renamed when all of it is on the disk.
//! - `locks/`: one file a layer, held while it is unpacked; `locks/store`, held shared by whoever imports or is about to
//!   use an image, and alone by whoever removes.
//! - `used/HASH`: an empty file a source. Its time of change is when the source was last known to be in use.

mod collect;
mod durable;
mod import;
mod remove;

use std::{
    fs::{self, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use collect::{Mark, Rule};
pub(crate) use durable::write as write_durably;
pub use remove::{InUse, Removed};

use super::{Config, Digest, Error, Image, Source, unpack::Limits};
use crate::root::Root;

/// Version of the form of the files.
const SCHEMA: u32 = 1;

/// Hears how an import goes on. Layers are unpacked in parallel, so it is called from several threads.
pub trait Progress: Sync {
    /// A layer of this many compressed bytes is about to be unpacked.
    fn begin(&self, _layer: &Digest, _bytes: u64) {}
    /// Compressed bytes of it were read.
    fn advance(&self, _layer: &Digest, _bytes: u64) {}
    /// It is unpacked.
    fn end(&self, _layer: &Digest) {}
    /// It was there already.
    fn shared(&self, _layer: &Digest) {}
}

/// Nobody hears.
impl Progress for () {}

/// The store.
#[derive(Debug, Clone)]
pub struct Store {
    /// Its directory.
    directory: PathBuf,
    /// How far images are trusted.
    limits: Limits,
}

/// While it lives, nothing is removed from the store.
#[derive(Debug)]
pub struct Hold(#[expect(dead_code, reason = "the lock is held as long as the file is open")] File);

/// What a source was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// [`SCHEMA`].
    schema: u32,
    /// The source.
    pub source: Source,
    /// The image that it is.
    pub current: Version,
    /// Those that it was, the last first.
    pub former: Vec<Version>,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Of its manifest.
    pub digest: Digest,
    /// What it says.
    pub config: Config,
    /// Chain IDs of its layers, lowest first.
    pub layers: Vec<Digest>,
    /// When it was imported, RFC 3339, UTC.
    pub imported: String,
}

/// What is known of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerFacts {
    /// [`SCHEMA`].
    schema: u32,
    /// Of its tar.
    pub diff_id: Digest,
    /// Bytes that it takes on the disk.
    pub bytes: u64,
}

impl Store {
    /// The store of a host. Nothing is made or read yet.
    #[must_use]
    pub fn open(root: &Root) -> Self {
        Self { directory: root.images(), limits: Limits::default() }
    }

    /// With other limits.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The image that a source was when it was imported last, if all of it is here. Reads only.
    ///
    /// # Errors
    /// What is known of it cannot be read.
    pub fn find(&self, source: &Source) -> Result<Option<Image>, Error> {
        let tag = self.tag(source)?;
        Ok(tag.filter(|tag| self.is_whole(&tag.current)).map(|tag| self.image(source, &tag.current)))
    }

    /// A version of a source that is known here, by its digest.
    ///
    /// # Errors
    /// What is known of the source cannot be read.
    pub fn version(&self, source: &Source, digest: &Digest) -> Result<Option<Version>, Error> {
        let all = self.tag(source)?.into_iter().flat_map(|tag| std::iter::once(tag.current).chain(tag.former));
        Ok(all.into_iter().find(|version| version.digest == *digest))
    }

    /// The image of a version that somebody has kept, if all of it is here.
    #[must_use]
    pub fn image_of(&self, source: &Source, version: &Version) -> Option<Image> {
        self.is_whole(version).then(|| self.image(source, version))
    }

    /// All that is here, in the order of their sources, and what could not be read.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn tags(&self) -> Result<(Vec<Tag>, Vec<Error>), Error> {
        let (mut tags, mut errors) = (Vec::new(), Vec::new());
        for name in names(&self.tags_directory())?.iter().filter(|name| name.ends_with(".json")) {
            match self.read_tag(&self.tags_directory().join(name)) {
                Ok(tag) => tags.extend(tag),
                Err(error) => errors.push(error),
            }
        }
        tags.sort_by_key(|tag| tag.source.to_string());
        Ok((tags, errors))
    }

    /// What is known of a source.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn tag(&self, source: &Source) -> Result<Option<Tag>, Error> {
        self.read_tag(&self.tag_file(source))
    }

    /// What is known of a layer, if it is here.
    #[must_use]
    pub fn layer(&self, chain: &Digest) -> Option<LayerFacts> {
        serde_json::from_slice(&fs::read(self.layer_directory(chain).join("layer.json")).ok()?).ok()
    }

    /// Bytes that the layers of an image take on the disk.
    #[must_use]
    pub fn bytes(&self, version: &Version) -> u64 {
        version.layers.iter().filter_map(|chain| self.layer(chain)).map(|facts| facts.bytes).sum()
    }

    /// Keeps others from removing anything: for the time between [`Self::find`] and a record that names the image.
    ///
    /// # Errors
    /// The lock cannot be had.
    pub fn hold(&self) -> Result<Hold, Error> {
        self.prepare()?;
        durable::lock(&self.directory.join("locks/store"), durable::Kind::Shared).map(Hold)
    }

    /// Makes the directories.
    ///
    /// # Errors
    /// One cannot be made.
    pub fn prepare(&self) -> Result<(), Error> {
        for name in ["layers", "tags", "tmp", "locks", "used"] {
            let path = self.directory.join(name);
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.map_err(Error::io(format!("make {}", path.display())))?;
        }
        Ok(())
    }

    /// Whether all layers are here.
    fn is_whole(&self, version: &Version) -> bool {
        version.layers.iter().all(|chain| self.layer_directory(chain).join("fs").is_dir())
    }

    /// As others see it.
    fn image(&self, source: &Source, version: &Version) -> Image {
        let layers = version.layers.iter().map(|chain| self.layer_directory(chain).join("fs")).collect();
        Image { source: source.clone(), digest: version.digest.clone(), config: version.config.clone(), layers }
    }

    /// One file of a tag; none where there is no such file.
    fn read_tag(&self, path: &Path) -> Result<Option<Tag>, Error> {
        let text = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(Error::io(format!("read {}", path.display())))?,
        };
        let bad = |what: String| Error::bad(path.display(), format!("{what}; remove it and pull its image again"));
        let tag: Tag = serde_json::from_slice(&text).map_err(|error| bad(format!("cannot be read: {error}")))?;
        match tag.schema {
            SCHEMA if self.tag_file(&tag.source) == path => Ok(Some(tag)),
            SCHEMA => Err(bad(format!("is of {}, as its name is not", tag.source))),
            other => Err(bad(format!("has the form {other}, and this berth knows {SCHEMA}"))),
        }
    }

    /// Where tags lie: what changes in it is news of what sources are.
    #[must_use]
    pub fn tags_directory(&self) -> PathBuf {
        self.directory.join("tags")
    }

    /// Where the tag of a source lies. A source may be longer than a file's name.
    fn tag_file(&self, source: &Source) -> PathBuf {
        self.tags_directory().join(format!("{}.json", hash(source).hex()))
    }

    /// Where it is kept when a source was last in use.
    fn used_file(&self, source: &Source) -> PathBuf {
        self.directory.join("used").join(hash(source).hex())
    }

    /// Where a layer lies.
    fn layer_directory(&self, chain: &Digest) -> PathBuf {
        self.directory.join("layers").join(chain.hex())
    }
}

/// A source as the name of a file.
fn hash(source: &Source) -> Digest {
    Digest::of_hash(&Sha256::digest(source.to_string()).into())
}

/// Names in a directory; none where there is none.
fn names(path: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(Error::io(format!("read {}", path.display())))?,
    };
    Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}
