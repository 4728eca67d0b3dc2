//! A document into a typed fragment, with every error told and not the first alone.

use std::collections::BTreeMap;

use figment::{
    error::{Error, Kind},
    value::{Dict, Value},
};

use super::{
    diagnostic::Diagnostic,
    document::{Document, KeyPath, Part},
    explain::{Shape, explain},
};

/// More errors than this in one file are noise.
const MOST: usize = 100;

/// Elements taken out of lists so far, so that the next error's index can be told as the file counts.
type Removed = BTreeMap<KeyPath, Vec<usize>>;

/// Tells all that is wrong with a document as a `T`, and takes it out of the document's tree.
///
/// serde stops at its first error, so: note it, take the value at its place away, try again.
pub fn extract<T: Shape>(document: &mut Document) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut removed = Removed::new();
    loop {
        let Err(error) = T::deserialize(&Value::from(document.tree.clone())) else { return found };
        let path = original(&error.path, &removed);
        let complaint = explain::<T>(&error.kind, &path);
        let part = if matches!(error.kind, Kind::UnknownField(..)) { Part::Key } else { Part::Value };
        found.push(document.error(&path, part, &complaint.message).with_help(complaint.help));
        if found.len() == MOST {
            found.push(Diagnostic::error(&document.label, "too many errors; the rest is not shown"));
        }
        if found.len() > MOST || !take(document, &error, &mut removed) {
            document.tree = Dict::new();
            document.failed.push(KeyPath::new());
            return found;
        }
    }
}

/// Takes the value at an error's path away, so that the next error can be seen.
fn take(document: &mut Document, error: &Error, removed: &mut Removed) -> bool {
    let Some((last, parents)) = error.path.split_last() else { return false };
    let Some(parent) = descend(&mut document.tree, parents) else { return false };
    match parent {
        Parent::Dict(dict) => {
            document.failed.push(original(&error.path, removed));
            dict.remove(last).is_some()
        }
        Parent::Array(array) => {
            let Some(index) = last.parse::<usize>().ok().filter(|index| *index < array.len()) else { return false };
            array.remove(index);
            let list = original(parents, removed);
            let nth = counted(index, removed.get(&list));
            document.failed.push(list.clone());
            let indices = removed.entry(list).or_default();
            indices.push(nth);
            indices.sort_unstable();
            true
        }
    }
}

/// What holds a value.
enum Parent<'a> {
    /// A table.
    Dict(&'a mut Dict),
    /// A list.
    Array(&'a mut Vec<Value>),
}

/// The table or list at `path`.
fn descend<'a>(dict: &'a mut Dict, path: &[String]) -> Option<Parent<'a>> {
    let Some((first, rest)) = path.split_first() else { return Some(Parent::Dict(dict)) };
    let mut value = dict.get_mut(first)?;
    for part in rest {
        value = match value {
            Value::Dict(_, dict) => dict.get_mut(part)?,
            Value::Array(_, array) => array.get_mut(part.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    match value {
        Value::Dict(_, dict) => Some(Parent::Dict(dict)),
        Value::Array(_, array) => Some(Parent::Array(array)),
        _ => None,
    }
}

/// The path as the file counts its lists.
fn original(path: &[String], removed: &Removed) -> KeyPath {
    let mut original = KeyPath::new();
    for part in path {
        let part = match (removed.get(&original), part.parse::<usize>()) {
            (Some(indices), Ok(index)) => counted(index, Some(indices)).to_string(),
            _ => part.clone(),
        };
        original.push(part);
    }
    original
}

/// The index that the element at `index` had before others (sorted) were removed.
fn counted(index: usize, removed: Option<&Vec<usize>>) -> usize {
    removed.into_iter().flatten().fold(index, |index, gone| index + usize::from(*gone <= index))
}
