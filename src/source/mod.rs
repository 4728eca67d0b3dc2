//! TOML files as operators leave them: found over four layers, parsed with the place of every key, merged, and
//! complained about with file, line, column, key and cure.
//!
//! Specs and berthd's own configuration share all of it. A *document* is one file; documents merge in rising
//! precedence through figment (tables merge, scalars and arrays replace).

mod convert;
mod diagnostic;
mod document;
mod explain;
mod extract;
mod layers;
mod merge;
mod nearest;
mod tree;

pub use diagnostic::{Diagnostic, Severity};
pub(crate) use diagnostic::{MOST, lossy};
pub(crate) use document::{Document, KeyPath, Part};
pub(crate) use explain::{Complaint, Shape, keys};
pub(crate) use extract::extract;
pub(crate) use layers::{Content, Entry, drop_ins, entries, parse, read, toml_name};
pub(crate) use merge::{Stack, dotted};
pub(crate) use nearest::nearest;
