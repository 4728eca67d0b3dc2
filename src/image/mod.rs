//! Images: where they come from, what they say, how they lie on disk.
//!
//! An image is a [`Config`] and a stack of layers. A [`Source`] is how an operator names it; its [`Digest`] is which
//! one it is.

mod config;
mod digest;
mod error;
mod files;
mod forms;
mod open;
mod reference;
mod source;
mod store;
mod unpack;
mod uses;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use config::Config;
pub use digest::{Digest, DigestError};
pub use error::Error;
pub use reference::Reference;
pub use source::{Source, SourceError};
pub use store::{Hold, InUse, LayerFacts, Mark, Progress, Removed, Rule, Store, Tag, Version};
pub use unpack::{Devices, Limits};
pub use uses::in_use;

pub(crate) use store::write_durably;

/// An image that is here, ready to be a root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// How it was asked for.
    pub source: Source,
    /// Of its manifest: which one it is.
    pub digest: Digest,
    /// What it says.
    pub config: Config,
    /// Its layers unpacked, lowest first: directories with overlayfs's whiteouts.
    pub layers: Vec<PathBuf>,
}
