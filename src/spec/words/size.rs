//! Sizes: `"64M"`, `"64MiB"` and `"64MB"` are all 64·2^20 bytes, as in systemd (systemd.resource-control(5)).

use std::{fmt, str::FromStr};

use super::{super::Bytes, Word};
use crate::source::Complaint;

/// Units and their powers of two.
const UNITS: [(char, u32); 7] = [('B', 0), ('K', 10), ('M', 20), ('G', 30), ('T', 40), ('P', 50), ('E', 60)];

impl Word for Bytes {
    const EXPECTING: &'static str = "a size such as \"64M\"";

    fn from_number(number: i128) -> Result<Self, Complaint> {
        Err(Complaint::new(format!("{number} has no unit"))
            .help(format!("write \"{number}M\" for units of 2^20 bytes, \"{number}B\" for bytes")))
    }
}

impl FromStr for Bytes {
    type Err = Complaint;

    fn from_str(text: &str) -> Result<Self, Complaint> {
        let text = text.trim();
        let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = (&text[..split], text[split..].trim_start());
        let malformed = || {
            Complaint::new(format!("\"{text}\" is no size")).help("write a number and a unit: B, K, M, G, T (of 1024)")
        };
        if unit.is_empty() {
            return Err(number
                .parse()
                .map_or_else(|_| malformed(), |n| Self::from_number(n).err().unwrap_or_else(malformed)));
        }
        let (letter, power) = UNITS.into_iter().find(|(letter, _)| names(unit, *letter)).ok_or_else(|| {
            match unit.to_ascii_uppercase().replace("IB", "iB") {
                upper if UNITS.iter().any(|(letter, _)| names(&upper, *letter)) => {
                    Complaint::new(format!("unknown unit \"{unit}\""))
                        .help(format!("did you mean \"{number}{upper}\"?"))
                }
                _ => malformed(),
            }
        })?;
        let bytes = scaled(number, power).ok_or_else(malformed)?;
        let bytes = bytes.ok_or_else(|| Complaint::new(format!("\"{text}\" is more than 2^64 bytes")))?;
        if letter == 'B' && number.contains('.') {
            return Err(Complaint::new("a part of a byte is no size"));
        }
        Ok(Self(bytes))
    }
}

/// Whether `unit` is `M`, `MB` or `MiB` for the letter `M`.
fn names(unit: &str, letter: char) -> bool {
    let rest = unit.strip_prefix(letter);
    rest == Some("") || (letter != 'B' && matches!(rest, Some("B" | "iB")))
}

/// A decimal number times a power of two, rounded down; none if it is no number, and none inside if it is too large.
fn scaled(number: &str, power: u32) -> Option<Option<u64>> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty()
        || fraction.contains('.')
        || (number.contains('.') && fraction.is_empty())
        || fraction.len() > 15
    {
        return None;
    }
    let Ok(whole) = whole.parse::<u64>() else { return Some(None) };
    let parts: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let denominator = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let bytes = (u128::from(whole) << power).checked_add((parts << power) / denominator);
    Some(bytes.and_then(|bytes| u64::try_from(bytes).ok()))
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, power): &&(char, u32)| self.0 != 0 && self.0.trailing_zeros() >= *power;
        match UNITS.iter().rev().find(fits) {
            Some((letter, power)) if *power > 0 => write!(f, "{}{letter}iB", self.0 >> power),
            _ => write!(f, "{}B", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units_are_powers_of_1024_and_exact_past_4_gib() {
        for (text, bytes) in [
            ("64M", 64 << 20),
            ("64MiB", 64 << 20),
            ("64MB", 64 << 20),
            ("64 MiB", 64 << 20),
            ("0B", 0),
            ("1.5G", 3 << 29),
            ("2G", 1 << 31),
            ("4096M", 1 << 32),
            ("5G", 5 << 30),
            ("15E", 15 << 60),
            ("18446744073709551615B", u64::MAX),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for wrong in
            ["", "64", "M", "64X", "64m", "16E", "18446744073709551616B", "-1M", "1.M", "1..5M", "1.5B", "64MBB"]
        {
            assert!(wrong.parse::<Bytes>().is_err(), "{wrong}");
        }
        assert_eq!("64mb".parse::<Bytes>().unwrap_err().help.unwrap(), "did you mean \"64MB\"?");
    }

    proptest! {
        #[test]
        fn any_size_reads_back(bytes: u64) {
            prop_assert_eq!(Bytes(bytes).to_string().parse(), Ok(Bytes(bytes)));
        }

        #[test]
        fn any_text_is_answered(text in ".{0,12}") {
            let _answer = text.parse::<Bytes>();
        }
    }
}
