//! How much a disk may hold: `"85%"` of it, or a size such as `"20GiB"`.

use std::{fmt, str::FromStr};

use super::{super::Bytes, Word};
use crate::{image::Mark, source::Complaint};

/// A mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkWord(pub Mark);

impl Word for MarkWord {
    const EXPECTING: &'static str = "a share such as \"85%\", or a size such as \"20GiB\"";

    fn from_number(number: i128) -> Result<Self, Complaint> {
        Err(Complaint::new(format!("{number} has no unit"))
            .help(format!("write \"{number}%\" for percent of the filesystem, \"{number}GiB\" for a size")))
    }
}

impl FromStr for MarkWord {
    type Err = Complaint;

    fn from_str(text: &str) -> Result<Self, Complaint> {
        let Some(number) = text.trim().strip_suffix('%') else {
            return match text.parse::<Bytes>() {
                Ok(Bytes(0)) => Err(Complaint::new("zero would leave room for no image")),
                Ok(Bytes(bytes)) => Ok(Self(Mark::Bytes(bytes))),
                // The number says which of the two units it lacks.
                Err(complaint) => Err(text.trim().parse().map_or(complaint, |number: i128| {
                    Self::from_number(number).err().unwrap_or_else(|| Complaint::new("this has no unit"))
                })),
            };
        };
        match number.trim_end().parse() {
            Ok(percent @ 1..=99) => Ok(Self(Mark::Share(percent))),
            _ => Err(Complaint::new(format!("\"{text}\" is no share of a filesystem")).help("write \"1%\" to \"99%\"")),
        }
    }
}

impl fmt::Display for MarkWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Mark::Share(percent) => write!(f, "{percent}%"),
            Mark::Bytes(bytes) => Bytes(bytes).fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_shares_or_sizes_and_write_themselves_back() {
        for (text, mark) in [
            ("85%", Mark::Share(85)),
            ("1 %", Mark::Share(1)),
            ("99%", Mark::Share(99)),
            ("20GiB", Mark::Bytes(20 << 30)),
            ("1.5G", Mark::Bytes(3 << 29)),
        ] {
            assert_eq!(text.parse(), Ok(MarkWord(mark)), "{text}");
            assert_eq!(MarkWord(mark).to_string().parse(), Ok(MarkWord(mark)), "{text}");
        }
        for wrong in ["", "%", "0%", "100%", "85.5%", "-1%", "0B", "20", "20X", "85 percent"] {
            assert!(wrong.parse::<MarkWord>().is_err(), "{wrong}");
        }
        assert!("20".parse::<MarkWord>().unwrap_err().help.unwrap().contains("20%"));
    }
}
