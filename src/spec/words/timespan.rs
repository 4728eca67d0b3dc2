//! Spans of time: `"1s"`, `"1min 30s"`, `"infinity"`.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Serialize, Serializer};

use super::Word;
use crate::source::Complaint;

/// A span of time; [`Duration::MAX`] is "infinity". systemd counts in microseconds, and so do we.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timespan(pub Duration);

impl Timespan {
    /// For ever.
    pub const INFINITY: Self = Self(Duration::MAX);
}

impl Word for Timespan {
    const EXPECTING: &'static str = "a span of time such as \"10s\"";

    fn from_number(number: i128) -> Result<Self, Complaint> {
        Err(Complaint::new(format!("{number} has no unit")).help(format!("write \"{number}s\" for seconds")))
    }
}

impl FromStr for Timespan {
    type Err = Complaint;

    fn from_str(text: &str) -> Result<Self, Complaint> {
        let text = text.trim();
        if text == "infinity" {
            return Ok(Self::INFINITY);
        }
        if let Ok(number) = text.parse::<i128>() {
            return Self::from_number(number);
        }
        let span = humantime::parse_duration(text).map_err(|_| {
            Complaint::new(format!("\"{text}\" is no span of time"))
                .help("write a number and a unit: us, ms, s, min, h, d, w; \"1min 30s\"")
        })?;
        if span.subsec_nanos() % 1000 != 0 {
            return Err(Complaint::new("systemd counts in microseconds; this span is finer"));
        }
        if span.as_micros() >= u128::from(u64::MAX) {
            return Err(Complaint::new("this span is too long").help("write \"infinity\""));
        }
        Ok(Self(span))
    }
}

impl fmt::Display for Timespan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::INFINITY {
            return f.write_str("infinity");
        }
        humantime::format_duration(self.0).fmt(f)
    }
}

impl Serialize for Timespan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_units_and_write_themselves_back() {
        for (text, span) in [
            ("1s", Duration::from_secs(1)),
            ("1min 30s", Duration::from_secs(90)),
            ("1.5s", Duration::from_millis(1500)),
            ("0s", Duration::ZERO),
            ("7d", Duration::from_secs(7 * 86_400)),
            ("infinity", Duration::MAX),
        ] {
            let read: Timespan = text.parse().unwrap();
            assert_eq!(read.0, span, "{text}");
            assert_eq!(read.to_string().parse::<Timespan>().unwrap(), read, "{text}");
        }
        for wrong in ["", "10", "0", "-1s", "1ns", "1 fortnight", "s", "99999999999999999999y", "forever", "590000y"] {
            assert!(wrong.parse::<Timespan>().is_err(), "{wrong}");
        }
    }
}
