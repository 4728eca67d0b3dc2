//! What can go wrong with an image. Every message says the act, the object and, where there is one, the cure.

use std::{fmt, io};

use crate::error::reason;

/// Why an image is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system would not.
    #[error("cannot {act}: {}{}", reason(.error), cure(.error))]
    Io {
        /// What was to be done, with its object.
        act: String,
        /// Why not.
        error: io::Error,
    },
    /// What was read is not what it should be.
    #[error("{object} {what}")]
    Bad {
        /// Which file, blob or entry.
        object: String,
        /// What is wrong, and what to do.
        what: String,
    },
    /// An image is in use.
    #[error("{0}")]
    InUse(String),
}

impl Error {
    /// What is wrong with an object.
    pub(super) fn bad(object: impl fmt::Display, what: impl Into<String>) -> Self {
        Self::Bad { object: object.to_string(), what: what.into() }
    }

    /// For `map_err`: what was to be done.
    pub(super) fn io<E: Into<io::Error>>(act: impl fmt::Display) -> impl FnOnce(E) -> Self {
        move |error| Self::Io { act: act.to_string(), error: error.into() }
    }
}

/// What to do about it.
fn cure(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; make room ('berthctl prune' removes images that nothing uses) and try again"
        }
        io::ErrorKind::PermissionDenied => "; you need to be root",
        _ => "",
    }
}
