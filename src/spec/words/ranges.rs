//! Ranges of numbers: `"0x0001-0xffff"`, or a list of such.

use std::{fmt, ops::RangeInclusive};

use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};

use super::handle::number;
use crate::source::Complaint;

/// One or more ranges, ascending, none touching another. Which numbers may be in them is the key's rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranges(pub Vec<RangeInclusive<u32>>);

impl<'de> Deserialize<'de> for Ranges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RangesVisitor)
    }
}

/// Sees one or a list.
struct RangesVisitor;

impl<'de> Visitor<'de> for RangesVisitor {
    type Value = Ranges;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a range such as \"0x0001-0xffff\", or a list of ranges")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Ranges, E> {
        range(text).map(|range| Ranges(vec![range])).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Ranges, A::Error> {
        let mut ranges = Vec::new();
        while let Some(text) = list.next_element::<String>()? {
            ranges.push(range(&text).map_err(A::Error::custom)?);
        }
        if ranges.is_empty() {
            return Err(A::Error::custom(Complaint::new("an empty list leaves no number to give")));
        }
        Ok(Ranges(united(ranges)))
    }
}

/// `LOWER-UPPER`, both in it, or one number.
fn range(text: &str) -> Result<RangeInclusive<u32>, Complaint> {
    let malformed = || {
        let complaint = Complaint::new(format!("\"{text}\" is no range"));
        match text.split_once(',') {
            Some((lower, upper)) => complaint.help(format!("write \"{}-{}\"", lower.trim(), upper.trim())),
            None => complaint.help("write \"LOWER-UPPER\", in decimal or hexadecimal"),
        }
    };
    let (lower, upper) = text.split_once('-').unwrap_or((text, text));
    let (lower, upper) = (number(lower.trim()).ok_or_else(malformed)?, number(upper.trim()).ok_or_else(malformed)?);
    if lower > upper {
        return Err(Complaint::new(format!("\"{text}\" is empty: its lower end is above its upper end")));
    }
    Ok(lower..=upper)
}

/// The same numbers in ascending ranges with gaps between them.
fn united(mut ranges: Vec<RangeInclusive<u32>>) -> Vec<RangeInclusive<u32>> {
    ranges.sort_by_key(|range| *range.start());
    let mut united: Vec<RangeInclusive<u32>> = Vec::new();
    for range in ranges {
        match united.last_mut() {
            Some(last) if *range.start() <= last.end().saturating_add(1) => {
                *last = *last.start()..=*last.end().max(range.end());
            }
            _ => united.push(range),
        }
    }
    united
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_have_two_ends() {
        for (text, expected) in [("1-5", 1..=5), ("0x10-0xff", 16..=255), ("7", 7..=7), (" 3 - 4 ", 3..=4)] {
            assert_eq!(range(text), Ok(expected), "{text}");
        }
        for wrong in ["", "-", "1-", "-5", "5-1", "a-b", "1-5-9", "1,5", "4294967296"] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
        assert_eq!(range("0x1,0xff").unwrap_err().help.unwrap(), "write \"0x1-0xff\"");
    }

    #[test]
    fn ranges_that_meet_are_one() {
        assert_eq!(united(vec![5..=9, 1..=3, 4..=4, 20..=30, 25..=26]), [1..=9, 20..=30]);
        assert_eq!(united(vec![0..=u32::MAX, 5..=6]), [0..=u32::MAX]);
    }
}
