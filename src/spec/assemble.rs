//! One container's files put together: spec, drop-ins, and the defaults below.

use std::path::{Path, PathBuf};

use super::{
    HandleChoice, Name, Spec,
    command::is_left_to_image,
    digest,
    fragment::Fragment,
    load::{Claim, Defaults, Loaded, Outcome},
    validate::{Draft, Report, validate},
};
use crate::{
    root::Layer,
    source::{Content, Diagnostic, Document, KeyPath, Part, Stack, dotted, drop_ins, extract, parse},
};

/// The files of one container, before they are understood.
#[derive(Debug)]
pub struct Parts {
    /// Whose.
    pub name: Name,
    /// Where the spec lies.
    pub layer: Layer,
    /// The spec.
    pub path: PathBuf,
    /// What it holds.
    pub content: Result<Content, Diagnostic>,
    /// Where drop-ins may lie, highest precedence first.
    pub directories: Vec<PathBuf>,
}

/// What the merged view of a container is made of.
#[derive(Debug)]
pub struct Merged {
    /// All documents.
    pub stack: Stack,
    /// Keys that were overruled by contradiction.
    pub dropped: Vec<KeyPath>,
}

/// Understands a container's files.
pub fn assemble(parts: Parts, defaults: &Defaults) -> (Loaded, Option<Merged>) {
    let Parts { name, layer, path, content, directories } = parts;
    let mut loaded = Loaded {
        name,
        layer,
        files: vec![path],
        outcome: Outcome::Masked,
        digest: String::new(),
        warnings: Vec::new(),
        claim: None,
        left_to_image: None,
    };
    let text = match content {
        Ok(Content::Text(text)) => text,
        Ok(Content::Mask | Content::Absent) => return (loaded, None),
        Err(error) => {
            loaded.outcome = Outcome::Bad(vec![error]);
            return (loaded, None);
        }
    };
    let mut errors = Vec::new();
    let mut stack = Stack { documents: defaults.documents.clone() };
    let main = stack.documents.len();
    stack.documents.push(understand(Document::parse(&loaded.files[0], &text), &mut errors));
    for path in drop_ins(&directories, &mut errors) {
        let (document, mut found) = parse(&path);
        if document.is_some() || !found.is_empty() {
            loaded.files.push(path);
        }
        match document {
            Some(document) => stack.documents.push(understand((document, found), &mut errors)),
            None => errors.append(&mut found),
        }
    }
    let primary_handle = defaults.primary_handle;
    let draft = Draft { name: &loaded.name, layer, stack: &stack, main, whole: true, primary_handle };
    let (spec, report) = validate(&draft);
    let Report { errors: invalid, warnings, dropped, .. } = report;
    errors.extend(invalid);
    sort(&mut errors, &loaded.files);
    loaded.warnings = warnings;
    loaded.claim = claim(&spec, &stack, main);
    loaded.left_to_image = left_to_image(&spec, &stack, main);
    if errors.is_empty() {
        loaded.digest = digest(&spec);
        loaded.outcome = Outcome::Good(Box::new(spec));
    } else {
        loaded.outcome = Outcome::Bad(errors);
    }
    (loaded, Some(Merged { stack, dropped }))
}

/// What is wrong with defaults as far as they go, before any spec lies above them.
pub fn check_defaults(defaults: &Defaults) -> Vec<Diagnostic> {
    let stack = Stack { documents: defaults.documents.clone() };
    let Ok(name) = "defaults".parse::<Name>() else { return Vec::new() };
    let primary_handle = defaults.primary_handle;
    let draft = Draft { name: &name, layer: Layer::Etc, stack: &stack, main: 0, whole: false, primary_handle };
    validate(&draft).1.errors
}

/// What the spec asks for that no other container may have.
fn claim(spec: &Spec, stack: &Stack, main: usize) -> Option<Claim> {
    let Some(HandleChoice::Fixed(handle)) = spec.network.handle else { return None };
    stack.error(&dotted("network.handle"), Part::Value, "", main).map(|place| Claim { handle, place })
}

/// Where the spec leaves to an image what is executed.
fn left_to_image(spec: &Spec, stack: &Stack, main: usize) -> Option<Diagnostic> {
    if spec.image.is_none() || !is_left_to_image(&spec.command) {
        return None;
    }
    stack.error(&dotted("image.source"), Part::Value, "", main)
}

/// Takes what is wrong out of a document. Of a file that is not even TOML, nothing more is told.
fn understand((mut document, mut found): (Document, Vec<Diagnostic>), errors: &mut Vec<Diagnostic>) -> Document {
    if document.tree.is_empty() && !found.is_empty() {
        document.failed.push(KeyPath::new());
    }
    found.extend(extract::<Fragment>(&mut document));
    errors.append(&mut found);
    document
}

/// In the order in which an operator reads: file by file, top to bottom.
fn sort(errors: &mut [Diagnostic], files: &[PathBuf]) {
    let rank = |file: &Path| files.iter().position(|known| known == file);
    errors.sort_by_key(|error| (rank(&error.file), error.line, error.column));
}
