//! Documents stacked in rising precedence, and which of them a merged value comes from.

use figment::{
    Figment, Metadata, Profile, Provider,
    value::{Dict, Map},
};

use super::document::{Document, KeyPath, Part};
use crate::source::Diagnostic;

/// A dotted path as a list of keys.
pub fn dotted(path: &str) -> KeyPath {
    path.split('.').map(str::to_owned).collect()
}

/// A document as one layer of figment.
struct Layer<'a>(&'a Document);

impl Provider for Layer<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::from("TOML file", &*self.0.label)
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Map::from([(Profile::Default, self.0.tree.clone())]))
    }
}

/// Documents in rising precedence.
#[derive(Debug, Clone, Default)]
pub struct Stack {
    /// The lowest first.
    pub documents: Vec<Document>,
}

impl Stack {
    /// All documents as one table: tables merge, scalars and arrays replace.
    pub fn merged(&self) -> Dict {
        let figment = self.documents.iter().fold(Figment::new(), |figment, document| figment.merge(Layer(document)));
        let mut data = figment.data().unwrap_or_default();
        data.remove(&Profile::Default).unwrap_or_default()
    }

    /// Index of the document that the merged value at `path` comes from: the highest that says it.
    pub fn origin(&self, path: &[String]) -> Option<usize> {
        self.documents.iter().rposition(|document| document.contains(path))
    }

    /// Whether something in or around a path was wrong in any document, so that its absence means nothing.
    pub fn failed(&self, path: &[String]) -> bool {
        let original = self.highest(path).map_or_else(|| path.to_vec(), |document| document.original(path));
        let mut failed = self.documents.iter().flat_map(|document| &document.failed);
        failed.any(|wrong| wrong.iter().zip(&original).all(|(a, b)| a == b))
    }

    /// An error about the merged value at `path`, where it was written; an absent one where its table is, or at
    /// the beginning of the `main` document.
    pub fn error(&self, path: &[String], part: Part, message: &str, main: usize) -> Option<Diagnostic> {
        let document = self.highest(path).or_else(|| self.documents.get(main))?;
        Some(document.error(&document.original(path), part, message))
    }

    /// The document that says the value at `path`, or else what lies around it.
    fn highest(&self, path: &[String]) -> Option<&Document> {
        let origin = (1..=path.len()).rev().find_map(|length| self.origin(&path[..length]));
        self.documents.get(origin?)
    }
}
