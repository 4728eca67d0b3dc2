//! How values are written in TOML: spans of time, sizes, signals, users, masks.
//!
//! Each word reads from text, or from a number where a number is clear, and writes itself back the same way.

mod capability;
mod command;
mod handle;
mod mark;
mod mode;
mod ranges;
mod rlimit;
mod signal;
mod size;
mod timespan;
mod umask;
mod user;

use std::{fmt, marker::PhantomData, str::FromStr};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IntoDeserializer, Visitor, value::StrDeserializer},
};

pub use capability::CapabilityWord;
pub use command::{CommandTable, CommandWord};
pub use handle::Half;
pub use mark::MarkWord;
pub use mode::FileMode;
pub use ranges::Ranges;
pub use rlimit::RlimitWord;
pub use timespan::Timespan;
pub use umask::Umask;
pub use user::{GroupWord, UserWord};

use crate::source::Complaint;

/// A value written as one word.
pub trait Word: FromStr<Err = Complaint> {
    /// What stands here, for "expected …".
    const EXPECTING: &'static str;

    /// A bare number.
    ///
    /// # Errors
    ///
    /// The complaint, where a number says too little.
    fn from_number(number: i128) -> Result<Self, Complaint>;
}

/// Reads a word.
pub(super) fn word<'de, D: Deserializer<'de>, W: Word>(deserializer: D) -> Result<W, D::Error> {
    deserializer.deserialize_any(WordVisitor(PhantomData))
}

/// Sees text or a number.
struct WordVisitor<W>(PhantomData<W>);

impl<W: Word> Visitor<'_> for WordVisitor<W> {
    type Value = W;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(W::EXPECTING)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<W, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<W, E> {
        W::from_number(number.into()).map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<W, E> {
        W::from_number(number.into()).map_err(E::custom)
    }

    fn visit_i128<E: Error>(self, number: i128) -> Result<W, E> {
        W::from_number(number).map_err(E::custom)
    }

    fn visit_u128<E: Error>(self, number: u128) -> Result<W, E> {
        W::from_number(i128::try_from(number).unwrap_or(i128::MAX)).map_err(E::custom)
    }
}

/// Lets a word be a field of a fragment.
macro_rules! words {
    ($($word:ty),+) => {$(
        impl<'de> Deserialize<'de> for $word {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                word(deserializer)
            }
        }
    )+};
}

words!(CapabilityWord, FileMode, Half, MarkWord, Timespan, Umask, UserWord, GroupWord);

/// For fields of types whose own serde form is for machines.
///
/// # Errors
///
/// What is wrong with the word.
pub fn optional<'de, D: Deserializer<'de>, W: Word>(deserializer: D) -> Result<Option<W>, D::Error> {
    word(deserializer).map(Some)
}

/// For fields that choose one of a few words: by name only, where figment would take a variant's number too.
///
/// # Errors
///
/// What is wrong with the choice.
pub fn choice<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    deserializer.deserialize_str(OneOf(PhantomData)).map(Some)
}

/// Takes a word and nothing else, and says which words there are.
struct OneOf<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOf<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A type tells its words when it is asked for one that it cannot have.
        let none: StrDeserializer<'_, figment::Error> = "".into_deserializer();
        let Err(figment::error::Kind::UnknownVariant(_, words)) = T::deserialize(none).map_err(|error| error.kind)
        else {
            return f.write_str("a string");
        };
        let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
        match words.split_last() {
            Some((last, rest)) if !rest.is_empty() => write!(f, "{} or {last}", rest.join(", ")),
            _ => f.write_str(&words.concat()),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::deserialize(text.into_deserializer())
    }
}

/// One of a few words, in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Choice<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(OneOf(PhantomData)).map(Self)
    }
}
