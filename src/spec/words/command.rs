//! The three ways to write a command: a list, a string, or Mesos's CommandInfo as a table.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

use super::super::Command;

/// A command as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandWord {
    /// What it means.
    pub command: Command,
    /// Whether it was written as a table.
    pub table: bool,
}

/// `[command]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct CommandTable {
    /// Whether `value` is a shell's command line. Defaults to true, as in Mesos.
    shell: Option<bool>,
    /// The program, or the shell's command line.
    value: Option<String>,
    /// With `value`: the whole argv. Defaults to none.
    arguments: Option<Vec<String>>,
}

impl<'de> Deserialize<'de> for CommandWord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CommandVisitor)
    }
}

/// Sees one of the three.
struct CommandVisitor;

impl<'de> Visitor<'de> for CommandVisitor {
    type Value = CommandWord;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list, a string or a table")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<CommandWord, E> {
        let command = Command { shell: true, value: Some(text.to_owned()), arguments: Vec::new() };
        Ok(CommandWord { command, table: false })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<CommandWord, A::Error> {
        let mut arguments = Vec::<String>::new();
        while let Some(argument) = list.next_element()? {
            arguments.push(argument);
        }
        let command = Command { shell: false, value: arguments.first().cloned(), arguments };
        Ok(CommandWord { command, table: false })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<CommandWord, A::Error> {
        let table = CommandTable::deserialize(MapAccessDeserializer::new(map))?;
        let command = Command {
            shell: table.shell.unwrap_or(true),
            value: table.value,
            arguments: table.arguments.unwrap_or_default(),
        };
        Ok(CommandWord { command, table: true })
    }
}
