//! A complaint with its place and its cure.

use std::{
    fmt,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};
use serde::{Deserialize, Serialize, Serializer};

/// More errors than this in one file are noise, and finding the line of each costs a walk through the file.
pub const MOST: usize = 100;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something could not be looked at.
    Note,
    /// It works, but likely not as meant.
    Warning,
    /// It is refused.
    Error,
}

/// What is wrong, where, and what to do.
///
/// Its [`Display`](fmt::Display) is one line for status and journal: `file:line:column: key: message (help)`;
/// [`Diagnostic::render`] shows the line of the file too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// How bad.
    pub severity: Severity,
    /// The file, or `$VARIABLE`, or `command line`.
    #[serde(serialize_with = "lossy")]
    pub file: PathBuf,
    /// From 1; 0 is the whole file.
    pub line: u32,
    /// In characters, from 1; 0 is the whole file.
    pub column: u32,
    /// Dotted path of the key in its file; elements of lists by their index from 0.
    pub key: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// What [`Diagnostic::render`] shows.
    #[serde(skip)]
    excerpt: Option<Box<Excerpt>>,
}

/// The part of a file that a diagnostic is about.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Excerpt {
    /// The whole file.
    text: Arc<str>,
    /// Which bytes of it.
    span: Range<usize>,
}

/// A path that is not UTF-8 must not stop a report.
pub fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

impl Diagnostic {
    /// An error about a file as a whole.
    pub fn error(file: impl Into<PathBuf>, message: impl AsRef<str>) -> Self {
        Self {
            severity: Severity::Error,
            file: file.into(),
            line: 0,
            column: 0,
            key: None,
            message: printable(message.as_ref()),
            help: None,
            excerpt: None,
        }
    }

    /// With a cure.
    #[must_use]
    pub fn with_help(mut self, help: Option<impl AsRef<str>>) -> Self {
        self.help = help.map(|help| printable(help.as_ref()));
        self
    }

    /// The same place, with something else to say of it.
    #[must_use]
    pub fn with_message(mut self, message: impl AsRef<str>) -> Self {
        self.message = printable(message.as_ref());
        self
    }

    /// Only a warning.
    #[must_use]
    pub fn as_warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// Only a note.
    #[must_use]
    pub fn as_note(mut self) -> Self {
        self.severity = Severity::Note;
        self
    }

    /// About a key.
    #[must_use]
    pub(crate) fn with_key(mut self, key: &str) -> Self {
        self.key = (!key.is_empty()).then(|| printable(key));
        self
    }

    /// At a place of the file's text. Only the first line of the place is kept.
    #[must_use]
    pub(crate) fn at(mut self, text: &Arc<str>, span: &Range<usize>) -> Self {
        let start = floor(text, span.start);
        let line = text[start..].find('\n').map_or(text.len(), |length| start + length);
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        self.line = ordinal(before.matches('\n').count());
        self.column = ordinal(before[line_start..].chars().count());
        let end = floor(text, span.end.min(line)).max(start);
        self.excerpt = Some(Box::new(Excerpt { text: Arc::clone(text), span: start..end }));
        self
    }

    /// The long form, as rustc prints its errors: with the line of the file where that is known.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Note => Level::NOTE,
        };
        let file = printable(&self.file.to_string_lossy());
        let title = level.primary_title(match &self.key {
            Some(key) => format!("{key}: {}", self.message),
            None => self.message.clone(),
        });
        let mut group = match self.excerpt.as_deref() {
            Some(Excerpt { text, span }) => title
                .element(Snippet::source(&**text).path(file).annotation(AnnotationKind::Primary.span(span.clone()))),
            None => title.element(Origin::path(file)),
        };
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        if color { Renderer::styled() } else { Renderer::plain() }.render(&[group])
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.file.to_string_lossy()))?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        f.write_str(match self.severity {
            Severity::Error => "",
            Severity::Warning => ": warning",
            Severity::Note => ": note",
        })?;
        if let Some(key) = &self.key {
            write!(f, ": {key}")?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(help) = &self.help {
            write!(f, " ({help})")?;
        }
        Ok(())
    }
}

/// An index from 0 as a number from 1.
pub fn ordinal(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1)
}

/// The text on one line, and unable to move a terminal's cursor.
fn printable(text: &str) -> String {
    let line = text.trim().replace('\n', "; ");
    line.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// The nearest character boundary at or below `index`.
fn floor(text: &str, index: usize) -> usize {
    (0..=index.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let text: Arc<str> = "a = 1\né = \"ü\" # x\n".into();
        for (span, place) in [(0..1, (1, 1)), (6..8, (2, 1)), (11..15, (2, 5)), (12..13, (2, 6)), (99..120, (3, 1))] {
            let diagnostic = Diagnostic::error("f", "m").at(&text, &span);
            assert_eq!((diagnostic.line, diagnostic.column), place, "{span:?}");
            assert!(!diagnostic.render(true).is_empty());
        }
    }

    #[test]
    fn one_line_stays_one_line() {
        let diagnostic = Diagnostic::error("a\n\u{1b}[2Jb", "x\ny\u{7}").with_key("k").with_help(Some("do"));
        assert_eq!(diagnostic.to_string(), "a; \\u{1b}[2Jb: k: x; y\\u{7} (do)");
    }
}
