//! Colours and widths: what a text looks like on a terminal, and that it cannot do anything else to it.

use std::{env, fmt::Write as _, io::IsTerminal as _};

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// `--color`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Also into files and pipes
    Always,
    /// Not at all
    Never,
}

/// Whether to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Whether.
    pub color: bool,
}

/// What a colour means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hue {
    /// Well.
    Good,
    /// Not well.
    Bad,
    /// On its way, or doubtful.
    Busy,
    /// Of less interest.
    Quiet,
    /// A heading.
    Strong,
}

impl Style {
    /// No colours.
    pub const PLAIN: Self = Self { color: false };

    /// As the operator, the environment and the terminal want it (no-color.org).
    #[must_use]
    pub fn of_stdout(choice: ColorChoice) -> Self {
        let set = |key| env::var_os(key).is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        let auto = || std::io::stdout().is_terminal() && !set("NO_COLOR") && !dumb;
        Self { color: choice == ColorChoice::Always || choice == ColorChoice::Auto && auto() }
    }

    /// The text in its colour.
    #[must_use]
    pub fn paint(self, hue: Hue, text: &str) -> String {
        let code = match hue {
            Hue::Good => "32",
            Hue::Bad => "1;31",
            Hue::Busy => "33",
            Hue::Quiet => "2",
            Hue::Strong => "1",
        };
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Columns of the terminal on stdout; none where stdout is something else, and nothing is to be cut.
#[must_use]
pub fn terminal_width() -> Option<usize> {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let told = env::var("COLUMNS").ok().and_then(|text| text.parse().ok()).filter(|&columns| columns > 0);
    told.or_else(|| rustix::termios::tcgetwinsize(&stdout).ok().map(|size| size.ws_col.into()).filter(|&c| c > 0))
}

/// The text without what would command a terminal or turn its direction; such characters are spelled out.
#[must_use]
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            // Writing to a String cannot fail.
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// The text, cut to `columns` with `…` where it was longer.
#[must_use]
pub fn fit(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let (mut out, mut left) = (String::new(), columns.saturating_sub(1));
    for c in text.chars() {
        let width = c.width().unwrap_or(0);
        if width > left {
            break;
        }
        left -= width;
        out.push(c);
    }
    if columns > 0 {
        out.push('…');
    }
    out
}

/// The text, filled with spaces up to `columns`.
#[must_use]
pub fn pad(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(text.width())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_by_columns() {
        assert_eq!(fit("short", 5), "short");
        assert_eq!(fit("longer", 5), "long…");
        assert_eq!(fit("貨物船", 5), "貨物…");
        assert_eq!(fit("貨物船", 4), "貨…");
        assert_eq!(fit("x", 0), "");
        assert_eq!(fit("xy", 1), "…");
    }

    #[test]
    fn texts_are_filled_by_columns() {
        assert_eq!(pad("ab", 4), "ab  ");
        assert_eq!(pad("貨物", 5), "貨物 ");
        assert_eq!(pad("abcde", 4), "abcde");
    }

    #[test]
    fn a_text_commands_no_terminal() {
        assert_eq!(plain("a\x1b[31m\nb\u{202e}"), "a\\u{1b}[31m\\nb\\u{202e}");
        assert_eq!(plain("ü…"), "ü…");
    }

    #[test]
    fn colours_only_where_wanted() {
        assert_eq!(Style::PLAIN.paint(Hue::Bad, "x"), "x");
        assert_eq!(Style { color: true }.paint(Hue::Good, "x"), "\x1b[32mx\x1b[0m");
    }
}
