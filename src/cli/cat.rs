//! `berthctl cat`: a container's merged spec, each key with the file that it comes from.

use std::{
    io::{self, Write},
    path::Path,
};

use serde::Serialize;

use super::check::{ERRORS, OK};
use crate::{
    config::Config,
    root::Root,
    source::Shape,
    spec::{Loaded, Name, Origin, Outcome, fragment::Fragment, origins},
};

/// The output with `json`.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    /// Version of this form.
    schema: u32,
    /// Whose.
    name: &'a Name,
    /// The merged, validated spec; none if it is bad or masked.
    spec: Option<&'a crate::spec::Spec>,
    /// Where each key comes from.
    origins: &'a [Origin],
    /// What is wrong.
    errors: &'a [crate::spec::Diagnostic],
}

/// Writes the merged spec of a container as TOML that is itself a spec, or as JSON.
///
/// # Errors
///
/// When `out` cannot be written to.
pub fn run(root: &Root, name: &Name, json: bool, out: &mut dyn Write) -> io::Result<u8> {
    let Some((loaded, origins)) = origins(root, &Config::defaults(root), name) else {
        writeln!(out, "# there is no {name}.toml in any layer")?;
        return Ok(ERRORS);
    };
    show(&loaded, &origins, json, out)
}

/// Writes one container.
///
/// # Errors
///
/// When `out` cannot be written to.
pub fn show(loaded: &Loaded, origins: &[Origin], json: bool, out: &mut dyn Write) -> io::Result<u8> {
    let (spec, errors) = match &loaded.outcome {
        Outcome::Good(spec) => (Some(&**spec), &[][..]),
        Outcome::Bad(errors) => (None, &errors[..]),
        Outcome::Masked => (None, &[][..]),
    };
    if json {
        let shown = Shown { schema: 1, name: &loaded.name, spec, origins, errors };
        serde_json::to_writer_pretty(&mut *out, &shown)?;
        writeln!(out)?;
    } else {
        toml(loaded, origins, out)?;
    }
    Ok(if errors.is_empty() { OK } else { ERRORS })
}

/// As TOML.
fn toml(loaded: &Loaded, origins: &[Origin], out: &mut dyn Write) -> io::Result<()> {
    for file in &loaded.files {
        writeln!(out, "# {}", comment(file))?;
    }
    match &loaded.outcome {
        Outcome::Masked => writeln!(out, "# masked")?,
        Outcome::Bad(errors) => errors.iter().try_for_each(|error| writeln!(out, "# {error}"))?,
        Outcome::Good(spec) if !origins.iter().any(|origin| origin.path == ["autostart"]) => {
            writeln!(out, "autostart = {}  # the default of this layer", spec.autostart)?;
        }
        Outcome::Good(_) => {}
    }
    let mut above = (String::new(), None);
    for origin in ordered(origins) {
        let (header, index, rest) = split(&origin.path);
        if (&header, index) != (&above.0, above.1) {
            writeln!(out, "\n{header}")?;
            above = (header, index);
        }
        writeln!(out, "{} = {}  # {}", key(rest), origin.value, place(origin))?;
    }
    Ok(())
}

/// Keys of the top first, then table by table, as the fragments list them; TOML would put a key that follows a
/// header into its table.
fn ordered(origins: &[Origin]) -> Vec<&Origin> {
    let tables = Fragment::tables();
    let rank = |table: &str, key: &str| {
        let keys = tables.iter().find(|(name, _)| name == table).map_or(&[][..], |(_, keys)| *keys);
        keys.iter().position(|known| *known == key).unwrap_or(usize::MAX)
    };
    let mut ordered: Vec<&Origin> = origins.iter().collect();
    ordered.sort_by_key(|origin| {
        let index = origin.path.get(1).and_then(|part| part.parse::<usize>().ok());
        let top = &origin.path[0];
        let last = origin.path.get(1 + usize::from(index.is_some())).map_or(0, |key| rank(top, key));
        (origin.path.len() > 1, rank("", top), index, last)
    });
    ordered
}

/// The header that a key stands under, which element of a list of tables it is in, and the rest of its path.
fn split(path: &[String]) -> (String, Option<usize>, &[String]) {
    match path {
        [table, index, rest @ ..] if !rest.is_empty() && index.parse::<usize>().is_ok() => {
            (format!("[[{}]]", key(std::slice::from_ref(table))), index.parse().ok(), rest)
        }
        [table, rest @ ..] if !rest.is_empty() => (format!("[{}]", key(std::slice::from_ref(table))), None, rest),
        _ => (String::new(), None, path),
    }
}

/// A dotted key, each part in quotes if it needs them.
fn key(path: &[String]) -> String {
    let bare =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let quoted = |part: &String| if bare(part) { part.clone() } else { format!("\"{}\"", escaped(part)) };
    path.iter().map(quoted).collect::<Vec<_>>().join(".")
}

/// A key that is not bare, each character by its number.
fn escaped(part: &str) -> String {
    part.chars().map(|c| format!("\\U{:08X}", u32::from(c))).collect()
}

/// Where a key comes from.
fn place(origin: &Origin) -> String {
    match origin.line {
        0 => comment(&origin.file),
        line => format!("{}:{line}", comment(&origin.file)),
    }
}

/// A path that cannot end a comment.
fn comment(path: &Path) -> String {
    path.to_string_lossy().chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
