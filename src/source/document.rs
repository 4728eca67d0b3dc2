//! One TOML file: its values, and where each of them stands.

use std::{collections::BTreeMap, ops::Range, path::PathBuf, sync::Arc};

use figment::value::{Dict, Value};
use toml::de::DeTable;

use super::{
    diagnostic::{Diagnostic, MOST},
    tree::{Parent, child, counted, descend},
};

/// The keys from the top of a file down to a value; an element of a list by its index.
pub type KeyPath = Vec<String>;

/// Where a key stands in its file.
#[derive(Debug, Clone)]
pub struct Place {
    /// The key itself.
    pub key: Range<usize>,
    /// Its value; of a table under a header, the header.
    pub value: Range<usize>,
    /// Base of an integer, 0 for all else.
    pub radix: u32,
}

/// Which part of `key = value` a complaint is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The key.
    Key,
    /// The value.
    Value,
}

/// One source of settings: a file, or a variable of the environment, or the command line.
#[derive(Debug, Clone)]
pub struct Document {
    /// The file, as diagnostics name it.
    pub label: PathBuf,
    /// Its text; empty for what is not a file.
    text: Arc<str>,
    /// Where `tree` hangs in the file: empty, or `["defaults"]`.
    prefix: KeyPath,
    /// What it says, without what is known to be wrong.
    pub tree: Dict,
    /// Where it says so.
    pub places: BTreeMap<KeyPath, Place>,
    /// What was wrong and so is not in `tree`.
    pub failed: Vec<KeyPath>,
    /// Indices of the elements taken out of lists, ascending, so that places are told as the file counts.
    pub removed: BTreeMap<KeyPath, Vec<usize>>,
}

impl Document {
    /// Reads TOML. Every syntax error is told, and then nothing of the file is used.
    pub fn parse(label: impl Into<PathBuf>, text: &str) -> (Self, Vec<Diagnostic>) {
        let mut document = Self {
            label: label.into(),
            text: text.into(),
            prefix: KeyPath::new(),
            tree: Dict::new(),
            places: BTreeMap::new(),
            failed: Vec::new(),
            removed: BTreeMap::new(),
        };
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut found: Vec<Diagnostic> = errors.iter().take(MOST).map(|error| document.syntax(error)).collect();
        // What follows an error on its line is mostly its echo.
        found.sort_by_key(|error| (error.line, error.column));
        found.dedup_by_key(|error| error.line);
        if found.is_empty() {
            document.tree = document.table(table.get_ref(), &KeyPath::new(), &mut found);
        }
        (document, found)
    }

    /// A source without a text, such as one variable of the environment.
    pub fn textless(label: impl Into<PathBuf>, tree: Dict) -> Self {
        Self {
            label: label.into(),
            text: "".into(),
            prefix: KeyPath::new(),
            tree,
            places: BTreeMap::new(),
            failed: Vec::new(),
            removed: BTreeMap::new(),
        }
    }

    /// Takes the table `key` out as a document of its own that remembers where it came from.
    pub fn take(&mut self, key: &str) -> Option<Self> {
        let Some(Value::Dict(_, tree)) = self.tree.remove(key) else { return None };
        let below = |path: &KeyPath| path.first().is_some_and(|first| first == key).then(|| path[1..].to_vec());
        Some(Self {
            label: self.label.clone(),
            text: Arc::clone(&self.text),
            prefix: [&self.prefix[..], &[key.to_owned()]].concat(),
            tree,
            places: self.places.iter().filter_map(|(path, place)| Some((below(path)?, place.clone()))).collect(),
            failed: self.failed.iter().filter_map(below).collect(),
            removed: self.removed.iter().filter_map(|(path, gone)| Some((below(path)?, gone.clone()))).collect(),
        })
    }

    /// Whether the document says something at `path`.
    pub fn contains<S: AsRef<str>>(&self, path: &[S]) -> bool {
        let Some((first, rest)) = path.split_first() else { return true };
        let mut value = self.tree.get(first.as_ref());
        for part in rest {
            value = value.and_then(|value| child(value, part.as_ref()));
        }
        value.is_some()
    }

    /// The base in which the integer at `path` is written.
    pub fn radix(&self, path: &[String]) -> Option<u32> {
        self.places.get(&self.original(path)).map(|place| place.radix)
    }

    /// The line of the key at `path`, or of the nearest table around it.
    pub fn line(&self, path: &[String]) -> u32 {
        self.error(path, Part::Key, "").line
    }

    /// An error at `path`, or, where the file does not go so far, at the nearest table around it.
    pub fn error(&self, path: &[String], part: Part, message: &str) -> Diagnostic {
        let key = [&self.prefix[..], path].concat().join(".");
        let diagnostic = Diagnostic::error(&self.label, message).with_key(&key);
        if self.text.is_empty() {
            return diagnostic;
        }
        let span = match (0..=path.len()).rev().find_map(|length| self.places.get(&path[..length])) {
            Some(place) if part == Part::Value && self.places.contains_key(path) => place.value.clone(),
            Some(place) => place.key.clone(),
            None => 0..0,
        };
        diagnostic.at(&self.text, &span)
    }

    /// The path as the file counts its lists, of a path of `tree`.
    pub fn original(&self, path: &[String]) -> KeyPath {
        let mut original = KeyPath::new();
        for part in path {
            let part = match (self.removed.get(&original), part.parse::<usize>()) {
                (Some(gone), Ok(index)) => counted(index, gone).to_string(),
                _ => part.clone(),
            };
            original.push(part);
        }
        original
    }

    /// Takes a wrong value out of `tree`. False if there is none at this path.
    pub fn remove(&mut self, path: &[String]) -> bool {
        let Some((last, parents)) = path.split_last() else { return false };
        let (original, list) = (self.original(path), self.original(parents));
        match descend(&mut self.tree, parents) {
            Some(Parent::Dict(dict)) => {
                if dict.remove(last).is_none() {
                    return false;
                }
            }
            Some(Parent::Array(array)) => {
                let Some(index) = last.parse::<usize>().ok().filter(|index| *index < array.len()) else { return false };
                array.remove(index);
                let gone = self.removed.entry(list).or_default();
                gone.push(counted(index, gone));
                gone.sort_unstable();
            }
            _ => return false,
        }
        self.failed.push(original);
        true
    }

    /// A syntax error in our form.
    fn syntax(&self, error: &toml::de::Error) -> Diagnostic {
        let diagnostic = Diagnostic::error(&self.label, error.message());
        match error.span() {
            Some(span) => diagnostic.at(&self.text, &span),
            None => diagnostic,
        }
    }
}
