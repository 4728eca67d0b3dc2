//! What serde and figment say about a value, in an operator's words, with a cure.

use std::fmt;

use figment::{
    error::{Actual, Kind},
    value::{Dict, Value},
};
use serde::de::DeserializeOwned;

use super::nearest::nearest;

/// A mistake in one value: what is wrong and what to do.
///
/// serde carries errors as text, so the two parts travel through it with a separator that no text of ours holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

/// Stands between message and help (ASCII unit separator).
const SEPARATOR: char = '\u{1f}';

impl Complaint {
    /// A complaint without a cure.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into().replace(SEPARATOR, "?"), help: None }
    }

    /// With a cure.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// As it came out of serde.
    fn parse(text: &str) -> Self {
        match text.split_once(SEPARATOR) {
            Some((message, help)) => Self { message: message.to_owned(), help: Some(help.to_owned()) },
            None => Self { message: text.to_owned(), help: None },
        }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.help.as_ref().map_or(Ok(()), |help| write!(f, "{SEPARATOR}{help}"))
    }
}

/// A root type of a file, and the tables that it holds.
pub trait Shape: DeserializeOwned {
    /// Each table's dotted path and its keys; the root is the empty path.
    fn tables() -> Vec<(String, &'static [&'static str])>;
}

/// The keys of a table, as serde knows them: asked by an unknown one.
pub fn keys<T: DeserializeOwned>() -> &'static [&'static str] {
    match T::deserialize(&Value::from(Dict::from([(String::new(), Value::from(0))]))).map_err(|error| error.kind) {
        Err(Kind::UnknownField(_, keys)) => keys,
        _ => &[],
    }
}

/// What is wrong with the value (or, of an unknown key, the key) at `path`.
pub fn explain<T: Shape>(kind: &Kind, path: &[String]) -> Complaint {
    match kind {
        Kind::Message(text) => Complaint::parse(text),
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => mismatch(found, expected),
        Kind::UnknownVariant(found, known) => {
            let complaint = Complaint::new(format!("unknown value \"{found}\"; known are {}", listed(known)));
            match nearest(found, known.iter().copied()) {
                Some(near) => complaint.help(format!("did you mean \"{near}\"?")),
                None => complaint,
            }
        }
        Kind::UnknownField(key, known) => {
            Complaint { message: "unknown key".into(), help: home::<T>(key, known, path) }
        }
        other => Complaint::new(other.to_string()),
    }
}

/// Where an unknown key belongs: the nearest of its table, else the table that has it.
fn home<T: Shape>(key: &str, known: &[&str], path: &[String]) -> Option<String> {
    let tables = T::tables();
    let elsewhere = tables.iter().find(|(_, keys)| keys.contains(&key));
    match (elsewhere, nearest(key, known.iter().copied())) {
        (Some((table, _)), _) if table.is_empty() => {
            Some(format!("`{key}` belongs to the top of the file, above the first [table]"))
        }
        (Some((table, _)), None) => Some(format!("did you mean `{table}.{key}`?")),
        (_, Some(near)) => {
            let full = [&path[..path.len().saturating_sub(1)], &[near.to_owned()]].concat().join(".");
            Some(format!("did you mean `{full}`?"))
        }
        (None, None) => Some(format!("known keys here: {}", known.join(", "))),
    }
}

/// One thing written where another is taken.
fn mismatch(found: &Actual, expected: &str) -> Complaint {
    let expected = match expected {
        "u8" | "u16" | "u32" | "u64" | "i32" | "i64" => "a whole number that is not negative",
        "a sequence" => "a list",
        "a map" => "a table",
        other => other,
    };
    let (shown, quoted) = match found {
        Actual::Bool(value) => (format!("the boolean {value}"), Some(value.to_string())),
        Actual::Unsigned(value) => (format!("the number {value}"), Some(value.to_string())),
        Actual::Signed(value) => (format!("the number {value}"), Some(value.to_string())),
        Actual::Float(value) => (format!("the number {value}"), Some(value.to_string())),
        Actual::Str(value) => (format!("the text \"{}\"", value.chars().take(40).collect::<String>()), None),
        Actual::Seq => ("a list".to_owned(), None),
        Actual::Map => ("a table".to_owned(), None),
        other => (other.to_string(), None),
    };
    let complaint = Complaint::new(format!("expected {expected}, found {shown}"));
    match quoted {
        Some(value) if expected == "a string" => complaint.help(format!("write \"{value}\"")),
        None if expected == "a list" && matches!(found, Actual::Str(_)) => complaint.help("write it in brackets"),
        _ => complaint,
    }
}

/// `"a", "b" and "c"`.
fn listed(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}
