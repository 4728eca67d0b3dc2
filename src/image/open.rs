//! From a source to a manifest, a configuration and layers, in whichever form the image lies.

use std::path::Path;

use serde::de::DeserializeOwned;

use super::{
    Config, Digest, Error, Source,
    files::Files,
    forms::{Descriptor, Index, Manifest, Platform, Saved},
    unpack::Blob,
};

/// Indexes within indexes.
const MOST_DEEP: usize = 4;

/// Layers of an image; overlayfs has a limit too.
const MOST_LAYERS: usize = 500;

/// An image as it lies, not unpacked.
#[derive(Debug)]
pub struct Opened {
    /// Of its manifest; of a docker-archive, which has none, of its configuration.
    pub digest: Digest,
    /// What it says.
    pub config: Config,
    /// Where its layers are, lowest first.
    layers: Vec<Layer>,
    /// Its files.
    files: Files,
}

/// Where a layer is.
#[derive(Debug)]
enum Layer {
    /// A blob.
    Blob(Descriptor),
    /// A file of an archive of Docker's.
    File(String),
}

impl Opened {
    /// Opens an image of this host.
    ///
    /// # Errors
    /// There is no such image, none for this host, or it is damaged.
    pub fn open(source: &Source) -> Result<Self, Error> {
        match source {
            Source::Oci { dir, tag } => Self::layout(Files::directory(dir)?, tag.as_deref()),
            Source::OciArchive { file, tag } => Self::layout(Files::archive(file)?, tag.as_deref()),
            Source::DockerArchive { file, tag } => Self::saved(file, tag.as_deref()),
            Source::Docker(_) => {
                Err(Error::bad(source, "lies in a registry; berth-pull fetches it into a layout first"))
            }
            Source::Rootfs { .. } => {
                Err(Error::bad(source, "is a directory and used as it is; there is nothing to import"))
            }
        }
    }

    /// The blob of a layer.
    pub fn layer(&self, at: usize) -> Result<Blob, Error> {
        match self.layers.get(at) {
            Some(Layer::Blob(descriptor)) => self.files.blob(descriptor),
            Some(Layer::File(name)) => match self.files.open(name)? {
                Some((reader, size)) => Ok(Blob { reader, digest: None, size }),
                None => Err(Error::bad(self.files.name(), format!("lacks the layer {name}"))),
            },
            None => Err(Error::bad(self.files.name(), "lacks a layer")),
        }
    }

    /// Length of a layer's blob.
    pub fn size(&self, at: usize) -> u64 {
        match self.layers.get(at) {
            Some(Layer::Blob(descriptor)) => descriptor.size,
            Some(Layer::File(name)) => self.files.open(name).ok().flatten().map_or(0, |(_, size)| size),
            None => 0,
        }
    }

    /// Opens an image of a layout.
    fn layout(files: Files, tag: Option<&str>) -> Result<Self, Error> {
        let missing = || Error::bad(files.name(), "has no index.json, so it is no OCI layout");
        let (index, _) = files.small("index.json")?.ok_or_else(missing)?;
        let index: Index = parse(&files.name(), "index.json", &index)?;
        let chosen = by_tag(&files.name(), index.manifests, tag)?;
        let descriptor = by_platform(&files, chosen, 0)?;
        let manifest: Manifest = parse(&files.name(), "its manifest", &files.json(&descriptor)?)?;
        let config = files.json(&manifest.config)?;
        if let Some(layer) = manifest.layers.iter().find(|layer| layer.media_type.contains("encrypted")) {
            return Err(Error::bad(
                files.name(),
                format!("has an encrypted layer, {}, and berth has no keys", layer.digest),
            ));
        }
        let layers = manifest.layers.into_iter().map(Layer::Blob).collect();
        Self::checked(descriptor.digest, &config, layers, files)
    }

    /// Opens an image of an archive of docker-save(1).
    fn saved(file: &Path, tag: Option<&str>) -> Result<Self, Error> {
        let files = Files::archive(file)?;
        let missing = || Error::bad(files.name(), "has no manifest.json, so docker-save(1) has not written it");
        let (text, _) = files.small("manifest.json")?.ok_or_else(missing)?;
        let mut images: Vec<Saved> = parse(&files.name(), "manifest.json", &text)?;
        let names = |saved: &Saved| saved.repo_tags.clone().unwrap_or_default();
        let known = images.iter().flat_map(names).collect::<Vec<_>>().join(", ");
        let wanted = tag.map(|tag| if tag.contains(':') { tag.to_owned() } else { format!("{tag}:latest") });
        let short = |name: &str| {
            name.strip_prefix("docker.io/").map(|name| name.strip_prefix("library/").unwrap_or(name).to_owned())
        };
        let is_it = |name: &String| wanted.as_ref() == Some(name) || short(name).is_some() && short(name) == wanted;
        let at = match &wanted {
            None if images.len() == 1 => Some(0),
            None => return Err(Error::bad(files.name(), format!("has {} images; say which: {known}", images.len()))),
            Some(_) => images.iter().position(|saved| names(saved).iter().any(is_it)),
        };
        let at = at.ok_or_else(|| {
            Error::bad(files.name(), format!("has no image {}; it has: {known}", wanted.unwrap_or_default()))
        })?;
        let saved = images.swap_remove(at);
        let missing = || Error::bad(files.name(), format!("lacks the configuration {}", saved.config));
        let (config, digest) = files.small(&saved.config)?.ok_or_else(missing)?;
        let layers = saved.layers.into_iter().map(Layer::File).collect();
        Self::checked(digest, &config, layers, files)
    }

    /// An image whose parts agree and which is for this host.
    fn checked(digest: Digest, config: &[u8], layers: Vec<Layer>, files: Files) -> Result<Self, Error> {
        let config = Config::parse(config)
            .map_err(|error| Error::bad(files.name(), format!("has a configuration that cannot be read: {error}")))?;
        let (diffs, count) = (config.diff_ids.len(), layers.len());
        if diffs != count {
            let what = format!("has {count} layers where its configuration names {diffs}; is it an image to run?");
            return Err(Error::bad(files.name(), what));
        }
        if count > MOST_LAYERS {
            return Err(Error::bad(
                files.name(),
                format!("has {count} layers; no more than {MOST_LAYERS} can be stacked"),
            ));
        }
        let platform = Platform {
            architecture: config.architecture.clone(),
            os: config.os.clone(),
            variant: config.variant.clone(),
        };
        let here = Platform::here();
        if !platform.architecture.is_empty() && here.fits(&platform).is_none() {
            return Err(Error::bad(files.name(), format!("is for {platform}, and this host is {here}")));
        }
        Ok(Self { digest, config, layers, files })
    }
}

/// What an index has under a tag; without one, all.
fn by_tag(name: &str, manifests: Vec<Descriptor>, tag: Option<&str>) -> Result<Vec<Descriptor>, Error> {
    let tags: Vec<String> = manifests.iter().filter_map(Descriptor::tag).map(str::to_owned).collect();
    let Some(tag) = tag else {
        let distinct: std::collections::BTreeSet<_> = manifests.iter().map(|manifest| &manifest.digest).collect();
        if tags.len() > 1 && distinct.len() > 1 {
            return Err(Error::bad(name, format!("has several images; say which: {}", tags.join(", "))));
        }
        return Ok(manifests);
    };
    let chosen: Vec<Descriptor> = manifests.into_iter().filter(|manifest| manifest.tag() == Some(tag)).collect();
    if !chosen.is_empty() {
        return Ok(chosen);
    }
    let near = crate::source::nearest(tag, tags.iter().map(String::as_str));
    let cure = match near {
        Some(near) => format!("did you mean {near}?"),
        None if tags.is_empty() => "its images have no tags".to_owned(),
        None => format!("it has: {}", tags.join(", ")),
    };
    Err(Error::bad(name, format!("has no image with the tag {tag}; {cure}")))
}

/// The manifest that fits this host best, through indexes within.
fn by_platform(files: &Files, mut manifests: Vec<Descriptor>, deep: usize) -> Result<Descriptor, Error> {
    let here = Platform::here();
    // One alone need not say what it is for: its configuration does.
    let fit =
        |descriptor: &Descriptor| descriptor.platform.as_ref().map_or(Some(u32::MAX), |platform| here.fits(platform));
    let best = manifests.iter().enumerate().filter_map(|(at, one)| Some((fit(one)?, at))).min();
    let Some((_, at)) = best else {
        let known: Vec<String> =
            manifests.iter().filter_map(|one| one.platform.as_ref()).map(Platform::to_string).collect();
        let what = format!(
            "has no image for {here}; it has: {}",
            if known.is_empty() { "none".to_owned() } else { known.join(", ") }
        );
        return Err(Error::bad(files.name(), what));
    };
    let descriptor = manifests.swap_remove(at);
    if !descriptor.is_index() {
        return Ok(descriptor);
    }
    if deep >= MOST_DEEP {
        return Err(Error::bad(files.name(), "has indexes within indexes, too deep"));
    }
    let index: Index = parse(&files.name(), "an index", &files.json(&descriptor)?)?;
    by_platform(files, index.manifests, deep + 1)
}

/// Reads JSON.
fn parse<T: DeserializeOwned>(name: &str, what: &str, text: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(text)
        .map_err(|error| Error::bad(name, format!("cannot be used: {what} cannot be read: {error}")))
}
