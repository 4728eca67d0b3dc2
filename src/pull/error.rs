//! Why a pull fails, and whether to try again.

use std::{io, time::Duration};

use super::words::Cause;

/// A reason, in words for people and in one for programs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PullError {
    /// Of what kind.
    pub cause: Cause,
    /// Act, object, reason, cure.
    pub message: String,
    /// Whether it may be better soon, and then after how long at least.
    pub again: Option<Duration>,
}

impl PullError {
    /// A reason that stays.
    pub fn lasting(cause: Cause, message: impl Into<String>) -> Self {
        Self { cause, message: message.into(), again: None }
    }

    /// A reason that may pass.
    pub fn passing(cause: Cause, message: impl Into<String>) -> Self {
        Self { cause, message: message.into(), again: Some(Duration::ZERO) }
    }

    /// Something on this machine.
    pub fn local(act: &str, error: &io::Error) -> Self {
        let hint = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make space: berthctl prune",
            _ => "",
        };
        Self::lasting(Cause::Local, format!("cannot {act}: {}{hint}", crate::error::reason(error)))
    }
}
