//! How a resource limit is written: one value for both, `"SOFT:HARD"` as systemd has it, or a table.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{Timespan, Word, word};
use crate::{
    source::Complaint,
    spec::{Bytes, Resource, Rlimit, rlimit::Unit},
};

/// A limit as written. What it means depends on what it is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RlimitWord {
    /// What holds.
    soft: LimitWord,
    /// How far it can be raised.
    hard: LimitWord,
}

/// One of the two.
#[derive(Debug, Clone, PartialEq, Eq)]
enum LimitWord {
    /// A bare number.
    Number(i128),
    /// Text.
    Text(String),
}

/// The table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
struct RlimitTable {
    /// What holds.
    soft: Option<LimitWord>,
    /// How far it can be raised.
    hard: Option<LimitWord>,
}

impl RlimitWord {
    /// The limit that it is, on `resource`.
    ///
    /// # Errors
    /// It is none, or the soft one is above the hard one.
    pub fn on(&self, resource: Resource) -> Result<Rlimit, Complaint> {
        let limit = Rlimit { soft: self.soft.on(resource)?, hard: self.hard.on(resource)? };
        match (limit.soft, limit.hard) {
            (Some(soft), Some(hard)) if soft <= hard => Ok(limit),
            (_, None) => Ok(limit),
            _ => Err(Complaint::new(format!("the soft limit of {resource} is above the hard one: {limit}"))
                .help("the program raises the soft limit up to the hard one, and not further (setrlimit(2))")),
        }
    }
}

impl LimitWord {
    /// In the kernel's unit; none is unlimited.
    fn on(&self, resource: Resource) -> Result<Option<u64>, Complaint> {
        let unit = resource.unit();
        let number = match self {
            Self::Text(text) if text == "unlimited" || text == "infinity" => return Ok(None),
            // Nothing needs no unit.
            Self::Number(0) => 0,
            Self::Text(text) if text == "0" => 0,
            Self::Number(number) => match unit {
                Unit::Bytes => Bytes::from_number(*number)?.0.into(),
                Unit::Seconds | Unit::Microseconds => whole(Timespan::from_number(*number)?, unit),
                Unit::Nice | Unit::Count => *number,
            },
            Self::Text(text) => match unit {
                Unit::Bytes => text.parse::<Bytes>()?.0.into(),
                Unit::Seconds | Unit::Microseconds => whole(text.parse::<Timespan>()?, unit),
                Unit::Nice => nice(text)?,
                Unit::Count => text.trim().parse().map_err(|_| {
                    Complaint::new(format!("\"{text}\" is no limit of {resource}"))
                        .help("write a number, or \"unlimited\"")
                })?,
            },
        };
        let most = if unit == Unit::Nice { 40 } else { u64::MAX - 1 };
        match u64::try_from(number) {
            Ok(number) if number <= most => Ok(Some(number)),
            _ if unit == Unit::Nice => Err(Complaint::new(format!("{number} is no limit of nice"))
                .help("a number is 20 minus the nice value, 0 to 40; \"-5\", with its sign and in quotes, is one")),
            _ => Err(Complaint::new(format!("{number} is no limit of {resource}"))
                .help("write a number from 0, or \"unlimited\"")),
        }
    }
}

/// A span in the kernel's unit, rounded up.
fn whole(Timespan(span): Timespan, unit: Unit) -> i128 {
    let microseconds = i128::try_from(span.as_micros()).unwrap_or(i128::MAX);
    if unit == Unit::Seconds { microseconds.saturating_add(999_999) / 1_000_000 } else { microseconds }
}

/// A limit of nice as text: with a sign it is a nice value, as in systemd (systemd.exec(5), "LimitNICE=").
fn nice(text: &str) -> Result<i128, Complaint> {
    let value = text.trim().parse::<i128>().ok().filter(|value| {
        let is_signed = text.trim_start().starts_with(['+', '-']);
        !is_signed || (-20..20).contains(value)
    });
    let value = value.ok_or_else(|| {
        Complaint::new(format!("\"{text}\" is no limit of nice")).help("write a nice value from \"-20\" to \"+19\"")
    })?;
    Ok(if text.trim_start().starts_with(['+', '-']) { 20 - value } else { value })
}

impl Word for LimitWord {
    const EXPECTING: &'static str = "a limit, \"SOFT:HARD\", or a table of both";

    fn from_number(number: i128) -> Result<Self, Complaint> {
        Ok(Self::Number(number))
    }
}

impl std::str::FromStr for LimitWord {
    type Err = Complaint;

    fn from_str(text: &str) -> Result<Self, Complaint> {
        Ok(Self::Text(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for LimitWord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        word(deserializer)
    }
}

impl<'de> Deserialize<'de> for RlimitWord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RlimitVisitor)
    }
}

/// Sees one of the three.
struct RlimitVisitor;

impl<'de> Visitor<'de> for RlimitVisitor {
    type Value = RlimitWord;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(LimitWord::EXPECTING)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<RlimitWord, E> {
        let (soft, hard) = text.split_once(':').unwrap_or((text, text));
        let word = |text: &str| LimitWord::Text(text.to_owned());
        Ok(RlimitWord { soft: word(soft), hard: word(hard) })
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<RlimitWord, E> {
        let word = LimitWord::Number(number.into());
        Ok(RlimitWord { soft: word.clone(), hard: word })
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<RlimitWord, E> {
        let word = LimitWord::Number(number.into());
        Ok(RlimitWord { soft: word.clone(), hard: word })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RlimitWord, A::Error> {
        match RlimitTable::deserialize(MapAccessDeserializer::new(map))? {
            RlimitTable { soft: Some(soft), hard: Some(hard) } => Ok(RlimitWord { soft, hard }),
            // Mesos: "either both or none".
            RlimitTable { soft, .. } => {
                let missing = if soft.is_none() { "soft" } else { "hard" };
                let complaint = Complaint::new(format!("`{missing}` is missing"));
                Err(A::Error::custom(complaint.help("write both, or one value in place of the table for both")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a TOML value is on a resource.
    fn read(resource: Resource, value: &str) -> Result<String, String> {
        #[derive(Deserialize)]
        struct File {
            limit: RlimitWord,
        }
        let file: File = toml::from_str(&format!("limit = {value}")).map_err(|error| error.message().to_owned())?;
        file.limit.on(resource).map(|limit| limit.to_string()).map_err(|complaint| complaint.message)
    }

    #[test]
    fn limits_are_read_in_their_units() {
        for (resource, value, limit) in [
            (Resource::Nofile, "1024", "1024"),
            (Resource::Nofile, "\"1024:524288\"", "1024:524288"),
            (Resource::Nofile, "{ soft = 3, hard = \"unlimited\" }", "3:unlimited"),
            (Resource::Nproc, "\"infinity\"", "unlimited"),
            (Resource::Core, "0", "0"),
            (Resource::Core, "\"0:1G\"", "0:1073741824"),
            (Resource::Stack, "\"8MiB\"", "8388608"),
            (Resource::Cpu, "\"1min\"", "60"),
            (Resource::Cpu, "\"1500ms\"", "2"),
            (Resource::Rttime, "\"200ms\"", "200000"),
            (Resource::Nice, "\"-5\"", "25"),
            (Resource::Nice, "\"+19\"", "1"),
            (Resource::Nice, "40", "40"),
        ] {
            assert_eq!(read(resource, value).as_deref(), Ok(limit), "{resource} = {value}");
        }
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        for (resource, value, words) in [
            (Resource::Nofile, "\"10:5\"", "above the hard one: 10:5"),
            (Resource::Nofile, "{ soft = \"unlimited\", hard = 5 }", "above the hard one: unlimited:5"),
            (Resource::Nofile, "{ soft = 5 }", "`hard` is missing"),
            (Resource::Nofile, "{ hard = 5 }", "`soft` is missing"),
            (Resource::Nofile, "{ soft = 5, hard = 6, max = 7 }", "unknown field `max`"),
            (Resource::Nofile, "-1", "-1 is no limit of nofile"),
            (Resource::Nofile, "\"1K\"", "\"1K\" is no limit of nofile"),
            (Resource::Nofile, "true", "expected a limit"),
            (Resource::Stack, "8192", "8192 has no unit"),
            (Resource::Stack, "\"1:\"", "no unit"),
            (Resource::Cpu, "5", "5 has no unit"),
            (Resource::Nice, "-5", "-5 is no limit of nice"),
            (Resource::Nice, "\"-21\"", "is no limit of nice"),
            (Resource::Nice, "41", "41 is no limit of nice"),
        ] {
            let error = read(resource, value).unwrap_err();
            assert!(error.contains(words), "{resource} = {value}: {error}");
        }
    }
}
