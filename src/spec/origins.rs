//! The merged view of a container: each key with its value and the file it comes from.

use std::path::PathBuf;

use figment::value::{Dict, Value};
use serde::Serialize;

use super::{
    Name,
    assemble::{Merged, Parts, assemble},
    load::{Defaults, Loaded, find, find_file},
};
use crate::{
    root::Root,
    source::{KeyPath, Stack, lossy},
};

/// A key of the merged spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// From the top down; elements of lists of tables by their index.
    pub path: Vec<String>,
    /// In TOML.
    pub value: String,
    /// Where it was written.
    #[serde(serialize_with = "lossy")]
    pub file: PathBuf,
    /// On which line; 0 where lines are unknown.
    pub line: u32,
}

impl Origin {
    /// The dotted key.
    #[must_use]
    pub fn key(&self) -> String {
        self.path.join(".")
    }
}

/// A container's files, and every key that is in force; none of a masked or unreadable spec.
#[must_use]
pub fn origins(root: &Root, defaults: &Defaults, name: &Name) -> Option<(Loaded, Vec<Origin>)> {
    find(root, name).map(|parts| of(parts, defaults))
}

/// The same of a spec that may lie anywhere.
#[must_use]
pub fn origins_of_file(path: &std::path::Path, defaults: &Defaults) -> Option<(Loaded, Vec<Origin>)> {
    find_file(path).ok().flatten().map(|parts| of(parts, defaults))
}

/// Walks the merged table.
fn of(parts: Parts, defaults: &Defaults) -> (Loaded, Vec<Origin>) {
    let (loaded, merged) = assemble(parts, defaults);
    let mut found = Vec::new();
    if let Some(Merged { stack, dropped }) = merged {
        walk(&stack.merged(), &KeyPath::new(), &stack, &mut found);
        found.retain(|origin| !dropped.contains(&origin.path));
    }
    (loaded, found)
}

/// Notes every leaf of a table.
fn walk(dict: &Dict, path: &KeyPath, stack: &Stack, found: &mut Vec<Origin>) {
    for (key, value) in dict {
        leaf(value, [&path[..], std::slice::from_ref(key)].concat(), stack, found);
    }
}

/// Notes a value, or what is below it.
fn leaf(value: &Value, path: KeyPath, stack: &Stack, found: &mut Vec<Origin>) {
    match value {
        Value::Dict(_, dict) => walk(dict, &path, stack, found),
        Value::Array(_, array) if matches!(array.first(), Some(Value::Dict(..))) => {
            for (index, element) in array.iter().enumerate() {
                leaf(element, [&path[..], &[index.to_string()]].concat(), stack, found);
            }
        }
        _ => {
            let Some(document) = stack.origin(&path).and_then(|index| stack.documents.get(index)) else { return };
            let value = match (value.to_i128(), document.radix(&path)) {
                (Some(number), Some(8)) => format!("{number:#o}"),
                (Some(number), Some(16)) => format!("{number:#x}"),
                _ => toml_value(value).to_string(),
            };
            found.push(Origin { line: document.line(&path), file: document.label.clone(), value, path });
        }
    }
}

/// A value as TOML has it.
fn toml_value(value: &Value) -> toml::Value {
    match value {
        Value::Array(_, array) => toml::Value::Array(array.iter().map(toml_value).collect()),
        Value::Bool(_, truth) => toml::Value::Boolean(*truth),
        Value::Num(_, number) => match number.to_i128().and_then(|number| i64::try_from(number).ok()) {
            Some(number) => toml::Value::Integer(number),
            None => toml::Value::Float(number.to_f64().unwrap_or(f64::NAN)),
        },
        other => toml::Value::String(other.as_str().unwrap_or_default().to_owned()),
    }
}
