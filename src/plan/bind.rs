//! Volumes in a plan: what is seen where, and which lies in which.

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Action, Plan};
use crate::{
    image,
    spec::{Bytes, MountOption, Propagation},
    state::sandbox,
};

/// One volume: a bind mount, or a filesystem of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// What is seen.
    pub source: Source,
    /// Where: absolute, or relative to the sandbox.
    pub target: PathBuf,
    /// Read-only, recursively; other attributes of the source's mounts are kept.
    pub read_only: bool,
    /// The part of the source that is seen, resolved beneath it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subpath: Option<PathBuf>,
    /// What is denied beyond what the source's mounts do.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub options: BTreeSet<MountOption>,
    /// Which mounts made later are seen where.
    #[serde(default)]
    pub propagation: Propagation,
}

/// Where a volume comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// An absolute path of the host.
    Host(PathBuf),
    /// The same, made as a directory where it is not.
    Created {
        /// The path.
        path: PathBuf,
        /// Of the directory.
        ownership: Made,
    },
    /// A path inside the sandbox; resolved beneath it, no symlink followed.
    Sandbox(PathBuf),
    /// The same, and at first it holds what the root has at the target.
    Populated(PathBuf),
    /// A filesystem in memory.
    Tmpfs {
        /// The kernel's default is half of RAM.
        size: Option<Bytes>,
        /// Of its directory.
        ownership: Made,
    },
    /// What is in an image.
    Image {
        /// How the spec names it.
        source: image::Source,
        /// Which image it is; a directory is none.
        digest: Option<image::Digest>,
        /// Its directories, lowest first.
        layers: Vec<PathBuf>,
    },
}

/// Mode and owner of a directory that is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// 0..=0o7777.
    pub mode: u32,
    /// User and group; none: the program's.
    pub owner: Option<(u32, u32)>,
}

impl Bind {
    /// A volume without further wishes.
    #[must_use]
    pub fn new(source: Source, target: impl Into<PathBuf>, read_only: bool) -> Self {
        let propagation = if read_only { Propagation::Private } else { Propagation::HostToContainer };
        Self { source, target: target.into(), read_only, subpath: None, options: BTreeSet::new(), propagation }
    }

    /// Where a container with a root of its own sees it.
    #[must_use]
    pub fn place(&self) -> PathBuf {
        Path::new(sandbox::INSIDE).join(&self.target)
    }

    /// How many components its place has: what lies in something is mounted after it.
    fn depth(&self) -> usize {
        self.place().components().count()
    }

    /// Those among volumes in their order that this one lies in, the nearest, and the path there.
    #[must_use]
    pub fn within<'a>(&self, binds: &'a [Self]) -> Option<(usize, &'a Self, PathBuf)> {
        let place = self.place();
        let above = |(index, other): (usize, &'a Self)| {
            let rest = place.strip_prefix(other.place()).ok()?.to_owned();
            (!rest.as_os_str().is_empty()).then_some((index, other, rest))
        };
        binds.iter().enumerate().filter_map(above).max_by_key(|(_, other, _)| other.depth())
    }
}

impl Source {
    /// The path of the host's that it is, if it is one.
    #[must_use]
    pub fn on_host(&self) -> Option<&Path> {
        match self {
            Self::Host(path) | Self::Created { path, .. } => Some(path),
            _ => None,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(path) | Self::Created { path, .. } => write!(f, "{}", path.display()),
            Self::Sandbox(path) | Self::Populated(path) => write!(f, "sandbox:{}", path.display()),
            Self::Tmpfs { .. } => f.write_str("tmpfs"),
            Self::Image { source, .. } => write!(f, "{source}"),
        }
    }
}

impl Plan {
    /// All volumes, those that others lie in first.
    #[must_use]
    pub fn binds(&self) -> &[Bind] {
        let found = self.steps.iter().find_map(|step| match &step.action {
            Action::EnterRoot { binds, .. } | Action::Bind { binds } => Some(binds.as_slice()),
            _ => None,
        });
        found.unwrap_or_default()
    }

    /// Adds a volume to the step of the filesystem's isolator, which has made it before.
    pub fn show(&mut self, bind: Bind) {
        for step in &mut self.steps {
            if let Action::EnterRoot { binds, .. } | Action::Bind { binds } = &mut step.action {
                let place = binds.partition_point(|other| other.depth() <= bind.depth());
                return binds.insert(place, bind);
            }
        }
    }
}
