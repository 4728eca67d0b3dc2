//! All of a host's specs, or one, or files anywhere, each with what is wrong with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::{
    Handle, Name, Spec,
    assemble::{Parts, assemble},
};
use crate::{
    root::{Layer, Root},
    source::{Content, Diagnostic, Document, Entry, entries, read, toml_name},
};

/// What `berthd.toml` says to every spec.
#[derive(Debug, Clone, Default)]
pub struct Defaults {
    /// `[defaults]`, which lie under every spec, with their provenance: in rising precedence, each cleared of errors.
    pub(crate) documents: Vec<Document>,
    /// The primary that a fixed handle must have, if the host has one.
    pub(crate) primary_handle: Option<u16>,
}

/// One container as its files say.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Its name.
    pub name: Name,
    /// Where its spec lies.
    pub layer: Layer,
    /// The spec, then its drop-ins in rising precedence.
    pub files: Vec<PathBuf>,
    /// What came of it.
    pub outcome: Outcome,
    /// The digest of a good spec, which is asked for at every event; empty without one.
    pub digest: String,
    /// What does not stop it.
    pub warnings: Vec<Diagnostic>,
    /// What it asks for that no other container may have.
    pub claim: Option<Claim>,
    /// Where it leaves to an image what is executed, for a complaint; none if it says so itself.
    pub(crate) left_to_image: Option<Diagnostic>,
}

/// A handle that one container alone may have, and where its files ask for it.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Which.
    pub handle: Handle,
    /// Where, for a complaint.
    pub(crate) place: Diagnostic,
}

/// What came of a container's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A spec.
    Good(Box<Spec>),
    /// Every error of every file.
    Bad(Vec<Diagnostic>),
    /// The operator does not want it.
    Masked,
}

/// All containers of a host.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// By name.
    pub containers: BTreeMap<Name, Loaded>,
    /// About files that cannot be a container's, and directories that cannot be read.
    pub strays: Vec<Diagnostic>,
}

/// Reads all specs of all layers.
#[must_use]
pub fn load_all(root: &Root, defaults: &Defaults) -> Catalog {
    let mut catalog = Catalog::default();
    let (mut names, mut drop_ins) = (BTreeSet::new(), Vec::new());
    for layer in Layer::ALL {
        match entries(&root.containers(layer)) {
            Ok(entries) => sort(entries, &mut names, &mut drop_ins, &mut catalog.strays),
            Err(stray) => catalog.strays.push(stray),
        }
    }
    catalog.strays.extend(orphans(&names, drop_ins));
    for name in names {
        if let Some(loaded) = load(root, defaults, &name) {
            catalog.containers.insert(name, loaded);
        }
    }
    refuse_doubles(catalog.containers.values_mut());
    catalog
}

impl Catalog {
    /// Takes in what one container's files say by now, with what follows for others.
    pub fn insert(&mut self, loaded: Loaded) {
        self.containers.insert(loaded.name.clone(), loaded);
        refuse_doubles(self.containers.values_mut());
    }
}

/// Refuses every spec that asks for a handle that another one asks for too. None of them wins: which file is read
/// first is nothing that an operator thinks of.
fn refuse_doubles<'a>(all: impl Iterator<Item = &'a mut Loaded>) {
    let mut claims: BTreeMap<Handle, Vec<&mut Loaded>> = BTreeMap::new();
    for loaded in all {
        if let Some(handle) = loaded.claim.as_ref().map(|claim| claim.handle) {
            claims.entry(handle).or_default().push(loaded);
        }
    }
    for (handle, mut claimants) in claims.into_iter().filter(|(_, claimants)| claimants.len() > 1) {
        let names: Vec<Name> = claimants.iter().map(|loaded| loaded.name.clone()).collect();
        for loaded in &mut claimants {
            let others = names.iter().filter(|name| **name != loaded.name).map(Name::as_str);
            loaded.refuse_claim(handle, &others.collect::<Vec<_>>().join(", "));
        }
    }
}

impl Loaded {
    /// Adds to what is wrong that others claim its handle too.
    fn refuse_claim(&mut self, handle: Handle, others: &str) {
        let Some(claim) = &self.claim else { return };
        let message = format!("the handle {handle} is asked for by {others} too");
        let error =
            claim.place.clone().with_message(message).with_help(Some("give each a handle of its own, or \"auto\""));
        match &mut self.outcome {
            Outcome::Good(_) => self.outcome = Outcome::Bad(vec![error]),
            Outcome::Bad(errors) if !errors.contains(&error) => errors.push(error),
            Outcome::Bad(_) | Outcome::Masked => {}
        }
    }
}

/// Tells specs from drop-ins and from files that can be neither.
fn sort(
    entries: Vec<Entry>,
    names: &mut BTreeSet<Name>,
    drop_ins: &mut Vec<(String, PathBuf)>,
    strays: &mut Vec<Diagnostic>,
) {
    for Entry { name, path } in entries {
        if let Some(spec) = name.strip_suffix(".toml.d") {
            drop_ins.push((spec.to_owned(), path));
        } else if let Some(stem) = name.strip_suffix(".toml") {
            match stem.parse::<Name>() {
                Ok(name) => drop(names.insert(name)),
                Err(error) => {
                    strays.push(Diagnostic::error(path, error.to_string()).with_help(Some("rename the file")))
                }
            }
        }
    }
}

/// Drop-ins to specs that are nowhere.
fn orphans(names: &BTreeSet<Name>, drop_ins: Vec<(String, PathBuf)>) -> Vec<Diagnostic> {
    let lonely = drop_ins.into_iter().filter(|(spec, _)| !names.iter().any(|name| name.as_str() == spec));
    lonely
        .map(|(spec, path)| {
            Diagnostic::error(path, format!("these drop-ins change nothing: there is no {spec}.toml")).as_warning()
        })
        .collect()
}

/// Reads one container's files, if it has any.
#[must_use]
pub fn load(root: &Root, defaults: &Defaults, name: &Name) -> Option<Loaded> {
    find(root, name).map(|parts| assemble(parts, defaults).0)
}

/// Finds one container's files over the layers.
pub(super) fn find(root: &Root, name: &Name) -> Option<Parts> {
    let file = format!("{name}.toml");
    let found = Layer::ALL.into_iter().find_map(|layer| {
        let path = root.containers(layer).join(&file);
        match read(&path) {
            Ok(Content::Absent) => None,
            content => Some((layer, path, content)),
        }
    });
    let (layer, path, content) = found?;
    let directories = Layer::ALL.map(|layer| root.containers(layer).join(format!("{file}.d")));
    Some(Parts { name: name.clone(), layer, path, content, directories: directories.into() })
}

/// Reads a spec that may lie anywhere, with the drop-ins beside it. It counts as the administrator's.
pub(super) fn find_file(path: &Path) -> Result<Option<Parts>, Diagnostic> {
    let name = toml_name(path).ok_or_else(|| Diagnostic::error(path, "a spec's file name ends in .toml"))?;
    let name: Name = name.parse().map_err(|error: super::NameError| Diagnostic::error(path, error.to_string()))?;
    let content = read(path);
    if matches!(content, Ok(Content::Absent)) {
        return Err(Diagnostic::error(path, "there is no such file"));
    }
    let directory = path.with_extension("toml.d");
    Ok(Some(Parts { name, layer: Layer::Etc, path: path.to_owned(), content, directories: vec![directory] }))
}

/// Reads specs that may lie anywhere, for `berthctl check PATH…`: files, and directories of files. A drop-in stands
/// for the spec that it belongs to.
#[must_use]
pub fn load_files(paths: &[PathBuf], defaults: &Defaults) -> (Vec<Loaded>, Vec<Diagnostic>) {
    let (mut loaded, mut strays) = (Vec::new(), Vec::new());
    let mut files = BTreeSet::new();
    for path in paths {
        match if path.is_dir() { specs_in(path) } else { Ok(vec![spec_of(path)]) } {
            Ok(specs) => files.extend(specs),
            Err(stray) => strays.push(stray),
        }
    }
    for path in files {
        match find_file(&path) {
            Ok(parts) => loaded.extend(parts.map(|parts| assemble(parts, defaults).0)),
            Err(stray) => strays.push(stray),
        }
    }
    refuse_doubles(loaded.iter_mut());
    (loaded, strays)
}

/// The specs of a directory; of a directory of drop-ins, the spec they belong to.
fn specs_in(directory: &Path) -> Result<Vec<PathBuf>, Diagnostic> {
    if let Some(spec) = directory.to_str().and_then(|text| text.trim_end_matches('/').strip_suffix(".toml.d")) {
        return Ok(vec![PathBuf::from(format!("{spec}.toml"))]);
    }
    let entries = entries(directory)?;
    Ok(entries.into_iter().filter(|entry| entry.name.ends_with(".toml")).map(|entry| entry.path).collect())
}

/// The spec that a file is, or belongs to.
fn spec_of(path: &Path) -> PathBuf {
    let directory = path.parent().and_then(Path::to_str).and_then(|parent| parent.strip_suffix(".toml.d"));
    directory.map_or_else(|| path.to_owned(), |spec| PathBuf::from(format!("{spec}.toml")))
}
