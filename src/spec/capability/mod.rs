//! Capabilities (capabilities(7)): one, [sets](CapabilitySet) of them, and what a spec says of them.

mod set;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use set::CapabilitySet;

/// Stands for all capabilities where names stand, as docker, podman and Kubernetes have it.
pub const ALL_WORD: &str = "ALL";

/// What a spec or `berthd.toml` says of capabilities. Not to say anything and to say "none" are two things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Capabilities {
    /// What the program has.
    pub effective: Option<CapabilitySet>,
    /// What it and all that it executes can have at most.
    pub bounding: Option<CapabilitySet>,
}

impl Capabilities {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_unset(&self) -> bool {
        *self == Self::default()
    }

    /// Those that are called by their names, and not by [`ALL_WORD`].
    #[must_use]
    pub fn named(&self) -> CapabilitySet {
        [self.effective, self.bounding].into_iter().flatten().filter(|set| *set != CapabilitySet::ALL).collect()
    }
}

/// A capability, by the kernel's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(u8);

/// Gives each capability its constant and its name.
macro_rules! capabilities {
    ($($number:literal $name:ident,)+) => {
        impl Capability {
            $(
                #[doc = concat!("`CAP_", stringify!($name), "`.")]
                pub const $name: Self = Self($number);
            )+

            /// All that berth has a name for, by number (`linux/capability.h`).
            pub const NAMED: &[(Self, &str)] = &[$((Self::$name, stringify!($name)),)+];
        }
    };
}

#[rustfmt::skip]
capabilities! {
    0 CHOWN, 1 DAC_OVERRIDE, 2 DAC_READ_SEARCH, 3 FOWNER, 4 FSETID, 5 KILL, 6 SETGID, 7 SETUID, 8 SETPCAP,
    9 LINUX_IMMUTABLE, 10 NET_BIND_SERVICE, 11 NET_BROADCAST, 12 NET_ADMIN, 13 NET_RAW, 14 IPC_LOCK, 15 IPC_OWNER,
    16 SYS_MODULE, 17 SYS_RAWIO, 18 SYS_CHROOT, 19 SYS_PTRACE, 20 SYS_PACCT, 21 SYS_ADMIN, 22 SYS_BOOT, 23 SYS_NICE,
    24 SYS_RESOURCE, 25 SYS_TIME, 26 SYS_TTY_CONFIG, 27 MKNOD, 28 LEASE, 29 AUDIT_WRITE, 30 AUDIT_CONTROL, 31 SETFCAP,
    32 MAC_OVERRIDE, 33 MAC_ADMIN, 34 SYSLOG, 35 WAKE_ALARM, 36 BLOCK_SUSPEND, 37 AUDIT_READ, 38 PERFMON, 39 BPF,
    40 CHECKPOINT_RESTORE,
}

impl Capability {
    /// The capability of that name, as [`Self::NAMED`] has it.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::NAMED.iter().find(|(_, known)| *known == name).map(|(capability, _)| *capability)
    }

    /// The capability that is written so.
    fn read(text: &str) -> Option<Self> {
        Self::of_name(text).or_else(|| text.parse().ok().filter(|number| *number < 64).map(Self))
    }

    /// The one bit of a set that holds only it.
    const fn bit(self) -> u64 {
        1 << self.0
    }
}

/// Its name without `CAP_`, as Mesos has it; of one that is newer than this berth, its number, as capsh(1) has it.
impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMED.iter().find(|(known, _)| known == self) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Serialize for Capability {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Capability {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::read(&name).ok_or_else(|| unknown(&name))
    }
}

/// Not the name of one.
fn unknown<E: serde::de::Error>(name: &str) -> E {
    E::custom(format!("'{name}' is no capability"))
}
