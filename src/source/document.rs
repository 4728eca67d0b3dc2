//! One TOML file: its values, and where each of them stands.

use std::{collections::BTreeMap, ops::Range, path::PathBuf, sync::Arc};

use figment::value::{Dict, Tag, Value};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::diagnostic::Diagnostic;

/// The keys from the top of a file down to a value; an element of a list by its index.
pub type KeyPath = Vec<String>;

/// Where a key stands in its file.
#[derive(Debug, Clone)]
struct Place {
    /// The key itself.
    key: Range<usize>,
    /// Its value; of a table under a header, the header.
    value: Range<usize>,
    /// Base of an integer, 0 for all else.
    radix: u32,
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
    places: BTreeMap<KeyPath, Place>,
    /// Paths of `tree` from which something wrong was taken away.
    pub failed: Vec<KeyPath>,
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
        };
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut found: Vec<Diagnostic> = errors.iter().map(|error| document.syntax(error)).collect();
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
    pub fn radix(&self, path: &[&str]) -> Option<u32> {
        let path: KeyPath = path.iter().map(|part| (*part).to_owned()).collect();
        self.places.get(&path).map(|place| place.radix)
    }

    /// The line of the key at `path`, or of the nearest table around it.
    pub fn line(&self, path: &[String]) -> usize {
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

    /// A syntax error in our form.
    fn syntax(&self, error: &toml::de::Error) -> Diagnostic {
        let diagnostic = Diagnostic::error(&self.label, error.message());
        match error.span() {
            Some(span) => diagnostic.at(&self.text, &span),
            None => diagnostic,
        }
    }

    /// Converts a table, noting places.
    fn table(&mut self, table: &DeTable<'_>, path: &KeyPath, found: &mut Vec<Diagnostic>) -> Dict {
        let mut dict = Dict::new();
        for (key, value) in table {
            let path = [&path[..], &[key.get_ref().to_string()]].concat();
            if let Some(value) = self.value(value, &key.span(), &path, found) {
                dict.insert(key.get_ref().to_string(), value);
            }
        }
        dict
    }

    /// Converts a value, noting its place; what no key can mean is told and left out.
    fn value(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        key: &Range<usize>,
        path: &KeyPath,
        found: &mut Vec<Diagnostic>,
    ) -> Option<Value> {
        let radix = value.get_ref().as_integer().map_or(0, toml::de::DeInteger::radix);
        let span = if value.get_ref().is_table() { key.clone() } else { value.span() };
        self.places.insert(path.clone(), Place { key: key.clone(), value: span, radix });
        let converted = match value.get_ref() {
            DeValue::String(text) => Value::from(&**text),
            DeValue::Boolean(truth) => Value::from(*truth),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Value::from(number),
                Err(_) => return self.refuse(path, "this number does not fit in 64 bits", None, found),
            },
            DeValue::Float(number) => match number.as_str().parse::<f64>() {
                Ok(number) => Value::from(number),
                Err(_) => return self.refuse(path, "this number cannot be read", None, found),
            },
            DeValue::Datetime(date) => {
                let help = format!("write \"{date}\" if a text is meant");
                return self.refuse(path, "no key takes a date", Some(help), found);
            }
            DeValue::Array(array) => Value::Array(Tag::Default, self.array(array, path, found)),
            DeValue::Table(table) => Value::Dict(Tag::Default, self.table(table, path, found)),
        };
        Some(converted)
    }

    /// Converts a list, noting places. The place of an element's key is the element.
    fn array(&mut self, array: &toml::de::DeArray<'_>, path: &KeyPath, found: &mut Vec<Diagnostic>) -> Vec<Value> {
        let mut values = Vec::new();
        for (index, element) in array.iter().enumerate() {
            let path = [&path[..], &[index.to_string()]].concat();
            values.extend(self.value(element, &element.span(), &path, found));
        }
        values
    }

    /// Tells that the value at `path` cannot be.
    fn refuse(
        &mut self,
        path: &KeyPath,
        message: &str,
        help: Option<String>,
        found: &mut Vec<Diagnostic>,
    ) -> Option<Value> {
        found.push(self.error(path, Part::Value, message).with_help(help));
        let list = path.iter().position(|part| part.parse::<usize>().is_ok()).unwrap_or(path.len());
        self.failed.push(path[..list].to_vec());
        None
    }
}

/// What a table or a list holds at one key.
fn child<'a>(value: &'a Value, part: &str) -> Option<&'a Value> {
    match value {
        Value::Dict(_, dict) => dict.get(part),
        Value::Array(_, array) => array.get(part.parse::<usize>().ok()?),
        _ => None,
    }
}
