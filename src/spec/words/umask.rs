//! The file mode creation mask: `"0022"`, or `0o022`.

use std::str::FromStr;

use super::Word;
use crate::source::Complaint;

/// A umask, 0..=0o777. That an integer was written in base 8 is checked where the file is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Umask(pub u32);

/// How to write one.
const CURE: &str = "write three or four octal digits in quotes, such as \"0022\"";

impl Word for Umask {
    const EXPECTING: &'static str = "a umask such as \"0022\"";

    fn from_number(number: i128) -> Result<Self, Complaint> {
        match u32::try_from(number) {
            Ok(mask @ 0..=0o777) => Ok(Self(mask)),
            _ => Err(Complaint::new("a umask is at most 0o777").help(CURE)),
        }
    }
}

impl FromStr for Umask {
    type Err = Complaint;

    fn from_str(text: &str) -> Result<Self, Complaint> {
        let octal = text.strip_prefix("0o").unwrap_or(text);
        let digits = !octal.is_empty() && octal.bytes().all(|b| b.is_ascii_digit());
        match i128::from_str_radix(octal, 8) {
            Ok(mask) if digits => Self::from_number(mask),
            _ => Err(Complaint::new(format!("\"{text}\" is no umask")).help(CURE)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_octal() {
        for (text, mask) in [("0022", 0o22), ("022", 0o22), ("0o077", 0o77), ("0", 0), ("777", 0o777)] {
            assert_eq!(text.parse(), Ok(Umask(mask)), "{text}");
        }
        for wrong in ["", "8", "1000", "+22", "-1", "u=rwx", "0x22"] {
            assert!(wrong.parse::<Umask>().is_err(), "{wrong}");
        }
    }
}
