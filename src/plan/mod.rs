//! ② Spec and host to [`Plan`]: everything that a start will do, as data.
//!
//! A plan is printed by `berthctl plan`, sent to `berth-launch`, kept in the record, and compared with the plan
//! of an edited spec. Nothing in here acts.

mod bind;
mod build;
mod capabilities;
mod disk;
mod step;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};

pub use bind::{Bind, Made, Source};
pub use build::{Build, DEFAULT_PATH, build, needs_restart};
pub use capabilities::{CapabilitySets, CapabilityWishes, Forbidden, Grant};
pub use disk::{DiskPlan, Tracked, TrackedVolume};
pub use step::{Action, EtcFile, Phase, Step, Top};

use crate::{
    image,
    isolators::cgroups_net_cls::Backend,
    spec::{Handle, Name, Restart, Service, Signal, Spec, StartLimit},
};

/// Everything that a start of one container does, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Whose.
    pub container: Name,
    /// What the service manager is told.
    pub unit: UnitSettings,
    /// Namespaces that the child is born into.
    pub namespaces: BTreeSet<Namespace>,
    /// The sandbox of the run; none until the run is prepared.
    pub sandbox: Option<PathBuf>,
    /// The tag of the container's packets.
    #[serde(default)]
    pub tag: Option<Tag>,
    /// The root of the container's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Base>,
    /// What is counted of the disk, and up to where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskPlan>,
    /// What the child does between its birth and the program, sorted by phase, then isolator.
    pub steps: Vec<Step>,
    /// What it becomes.
    pub program: Program,
    /// What the operator should know and what does not stop the start.
    pub warnings: Vec<String>,
    /// What isolators say of capabilities while the plan is made; at the end a step holds what came of it.
    #[serde(skip)]
    pub capabilities: CapabilityWishes,
}

/// What a root of a container's own is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// How the spec names it.
    pub source: image::Source,
    /// Which image it is; a directory is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<image::Digest>,
    /// Its directories, lowest first.
    pub layers: Vec<PathBuf>,
    /// The signal that ends its program, as it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<Signal>,
    /// The ports that its program listens on, as it says: `80/tcp`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exposed_ports: Vec<String>,
    /// What whoever made it wrote on it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// A namespace that a plan asks for (namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Namespace {
    /// CLONE_NEWNS.
    Mount,
    /// CLONE_NEWPID.
    Pid,
    /// CLONE_NEWIPC.
    Ipc,
    /// CLONE_NEWUTS.
    Uts,
    /// CLONE_NEWCGROUP.
    Cgroup,
}

/// How the container's packets are tagged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// With what.
    pub handle: TagHandle,
    /// By what.
    pub backends: Vec<Backend>,
}

/// Which handle a start will have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TagHandle {
    /// The lowest that is free.
    Auto {
        /// The upper half.
        primary: u16,
        /// What the lower half is chosen from, ascending.
        secondary: Vec<RangeInclusive<u16>>,
    },
    /// The spec's.
    Fixed(Handle),
    /// Whatever the operator sets.
    Unmanaged,
}

impl TagHandle {
    /// The handles that it may come to be, as ranges of their numbers.
    #[must_use]
    pub fn ranges(&self) -> Vec<RangeInclusive<u32>> {
        match self {
            Self::Auto { primary, secondary } => {
                let of = |half: u16| Handle::of(*primary, half).0;
                secondary.iter().map(|range| of(*range.start())..=of(*range.end())).collect()
            }
            Self::Fixed(handle) => vec![handle.0..=handle.0],
            Self::Unmanaged => Vec::new(),
        }
    }

    /// Whether it may come to be this one.
    #[must_use]
    pub fn contains(&self, handle: Handle) -> bool {
        self.ranges().iter().any(|range| range.contains(&handle.0))
    }
}

impl fmt::Display for TagHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = |range: &RangeInclusive<u32>| match (Handle(*range.start()), Handle(*range.end())) {
            (lower, upper) if lower == upper => lower.to_string(),
            (lower, upper) => format!("{lower} to {upper}"),
        };
        f.write_str(&self.ranges().iter().map(span).collect::<Vec<_>>().join(", "))
    }
}

/// The program, as execve(2) takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// A path if it holds a slash, else a name for PATH.
    pub executable: String,
    /// argv, `argv[0]` included.
    pub argv: Vec<String>,
    /// The whole environment; nothing is inherited but what the service manager hands to a service
    /// (`INVOCATION_ID`, `JOURNAL_STREAM`, `LISTEN_FDS`).
    pub environment: Vec<(String, String)>,
    /// Whether a minimal init stands between.
    pub init: bool,
}

/// What the service manager is told about one container. A value that equals the template unit's is `None`
/// or empty, so that a spec without such keys needs no drop-in and no reload.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UnitSettings {
    /// `Description=`.
    pub description: Option<String>,
    /// `After=`.
    pub after: Vec<String>,
    /// `Before=`.
    pub before: Vec<String>,
    /// `Requires=`.
    pub requires: Vec<String>,
    /// `Wants=`.
    pub wants: Vec<String>,
    /// `Restart=`.
    pub restart: Option<Restart>,
    /// `RestartSec=`.
    pub restart_delay: Option<Duration>,
    /// `StartLimitBurst=` and `StartLimitIntervalSec=`.
    pub start_limit: Option<StartLimit>,
    /// `TimeoutStartSec=`.
    pub start_timeout: Option<Duration>,
    /// `KillSignal=`.
    pub stop_signal: Option<Signal>,
    /// `TimeoutStopSec=`.
    pub stop_timeout: Option<Duration>,
}

impl UnitSettings {
    /// What `spec` wants beyond the template unit `units/berth@.service`; its image says which signal stops it, where
    /// it does not.
    #[must_use]
    pub fn of(spec: &Spec, stop_signal_of_image: Option<Signal>) -> Self {
        let standard = Service::default();
        let service = &spec.service;
        Self {
            description: spec.description.clone(),
            after: service.after.clone(),
            before: service.before.clone(),
            requires: service.requires.clone(),
            wants: service.wants.clone(),
            restart: beyond(service.restart, standard.restart),
            restart_delay: beyond(service.restart_delay, standard.restart_delay),
            start_limit: beyond(service.start_limit, standard.start_limit),
            start_timeout: beyond(service.start_timeout, standard.start_timeout),
            stop_signal: service.stop_signal.or(stop_signal_of_image).filter(|signal| *signal != Signal::TERM),
            stop_timeout: beyond(service.stop_timeout, standard.stop_timeout),
        }
    }

    /// `Restart=` in force.
    #[must_use]
    pub fn restart_policy(&self) -> Restart {
        self.restart.unwrap_or(Restart::OnFailure)
    }

    /// `KillSignal=` in force.
    #[must_use]
    pub fn kill_signal(&self) -> Signal {
        self.stop_signal.unwrap_or(Signal::TERM)
    }

    /// Whether the template unit says all of it already.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A value that differs from the template unit's.
fn beyond<T: PartialEq>(value: T, standard: T) -> Option<T> {
    (value != standard).then_some(value)
}
