//! A document into a typed fragment, with every error told and not the first alone.

use figment::{
    error::Kind,
    value::{Dict, Value},
};

use super::{
    diagnostic::{Diagnostic, MOST},
    document::{Document, KeyPath, Part},
    explain::{Shape, explain},
};

/// Tells all that is wrong with a document as a `T`, and takes it out of the document's tree.
///
/// serde stops at its first error, so: note it, take the value at its place away, try again.
pub fn extract<T: Shape>(document: &mut Document) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    loop {
        let tree = Value::from(std::mem::take(&mut document.tree));
        let outcome = T::deserialize(&tree);
        document.tree = tree.into_dict().unwrap_or_default();
        let Err(error) = outcome else { return found };
        let path = document.original(&error.path);
        let complaint = explain::<T>(&error.kind, &path);
        let part = if matches!(error.kind, Kind::UnknownField(..)) { Part::Key } else { Part::Value };
        found.push(document.error(&path, part, &complaint.message).with_help(complaint.help));
        if found.len() == MOST {
            found.push(Diagnostic::error(&document.label, "too many errors; the rest is not shown"));
        }
        if found.len() > MOST || !document.remove(&error.path) {
            document.tree = Dict::new();
            document.failed.push(KeyPath::new());
            return found;
        }
    }
}
