//! Capabilities (capabilities(7)): one, sets of them, and what a spec says of them.

use std::{
    fmt,
    ops::{BitAnd, BitOr, Sub},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

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

/// Capabilities, as the kernel's mask. Serialized as names in alphabetical order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// None.
    pub const NONE: Self = Self(0);

    /// All that there are, however many the kernel has.
    pub const ALL: Self = Self(u64::MAX);

    /// All that berth has a name for.
    pub const NAMED: Self = Self((1 << Capability::NAMED.len()) - 1);

    /// What root has in a container by default (runc, containerd, docker).
    pub const OCI_DEFAULT: Self = Self::of(&[
        Capability::AUDIT_WRITE,
        Capability::CHOWN,
        Capability::DAC_OVERRIDE,
        Capability::FOWNER,
        Capability::FSETID,
        Capability::KILL,
        Capability::MKNOD,
        Capability::NET_BIND_SERVICE,
        Capability::NET_RAW,
        Capability::SETFCAP,
        Capability::SETGID,
        Capability::SETPCAP,
        Capability::SETUID,
        Capability::SYS_CHROOT,
    ]);

    /// How many exceptions a phrase may have.
    const FEW: u32 = 5;

    /// These.
    #[must_use]
    pub const fn of(capabilities: &[Capability]) -> Self {
        let (mut bits, mut index) = (0, 0);
        while index < capabilities.len() {
            bits |= capabilities[index].bit();
            index += 1;
        }
        Self(bits)
    }

    /// All of a kernel whose last one is `last` (`/proc/sys/kernel/cap_last_cap`).
    #[must_use]
    pub fn up_to(last: u8) -> Self {
        Self(u64::MAX >> (63 - last.min(63)))
    }

    /// A mask, as `/proc/PID/status` and capget(2) have it.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// As a mask.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    /// Whether `capability` is in it.
    #[must_use]
    pub fn contains(self, capability: Capability) -> bool {
        self.0 & capability.bit() != 0
    }

    /// Whether all of it is in `other`.
    #[must_use]
    pub fn is_subset(self, other: Self) -> bool {
        (self - other).is_empty()
    }

    /// Its capabilities by number.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        (0..64).map(Capability).filter(move |capability| self.contains(*capability))
    }

    /// Its capabilities by name.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        let mut names: Vec<String> = self.iter().map(|capability| capability.to_string()).collect();
        names.sort();
        names
    }

    /// It in as few words as say it, to people on a host whose kernel has `all`.
    #[must_use]
    pub fn in_words(self, all: Self) -> String {
        let but = |whole: &str, rest: Self| format!("{whole} but {rest}");
        let few = |rest: Self| rest.0.count_ones() <= Self::FEW;
        match self {
            Self::NONE => "none".to_owned(),
            Self::OCI_DEFAULT => "OCI default".to_owned(),
            _ if all.is_subset(self) => "all".to_owned(),
            _ if few(all - self) => but("all", all - self),
            _ if self.is_subset(Self::OCI_DEFAULT) && few(Self::OCI_DEFAULT - self) => {
                but("OCI default", Self::OCI_DEFAULT - self)
            }
            _ => self.to_string(),
        }
    }
}

impl BitOr for CapabilitySet {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for CapabilitySet {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Sub for CapabilitySet {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl From<Capability> for CapabilitySet {
    fn from(capability: Capability) -> Self {
        Self(capability.bit())
    }
}

impl FromIterator<Self> for CapabilitySet {
    fn from_iter<I: IntoIterator<Item = Self>>(sets: I) -> Self {
        sets.into_iter().fold(Self::NONE, BitOr::bitor)
    }
}

/// `KILL NET_RAW`, `all`, `none`.
impl fmt::Display for CapabilitySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NONE => f.write_str("none"),
            Self::ALL => f.write_str("all"),
            some => f.write_str(&some.names().join(" ")),
        }
    }
}

impl Serialize for CapabilitySet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let names = if *self == Self::ALL { vec![ALL_WORD.to_owned()] } else { self.names() };
        names.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for CapabilitySet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        let set =
            |name: &String| if name == ALL_WORD { Some(Self::ALL) } else { Capability::read(name).map(Self::from) };
        names.iter().map(|name| set(name).ok_or_else(|| unknown(name))).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// All of a present kernel.
    const KERNEL: CapabilitySet = CapabilitySet(0x1ff_ffff_ffff);

    #[test]
    fn names_are_the_kernels_in_its_order() {
        for (number, (capability, _)) in Capability::NAMED.iter().enumerate() {
            assert_eq!(usize::from(capability.0), number);
        }
        assert_eq!(CapabilitySet::up_to(40), KERNEL);
        assert_eq!(KERNEL.iter().count(), Capability::NAMED.len());
        assert_eq!((CapabilitySet::up_to(0).bits(), CapabilitySet::up_to(63)), (1, CapabilitySet::ALL));
        // As docker's containers have in /proc/PID/status.
        assert_eq!(CapabilitySet::OCI_DEFAULT.bits(), 0xa804_25fb);
    }

    #[test]
    fn sets_are_few_words() {
        let but = |whole: CapabilitySet, rest: &[Capability]| whole - CapabilitySet::of(rest);
        use Capability as C;
        for (set, words) in [
            (CapabilitySet::NONE, "none"),
            (KERNEL, "all"),
            (CapabilitySet::ALL, "all"),
            (CapabilitySet::OCI_DEFAULT, "OCI default"),
            (but(KERNEL, &[C::SYS_RESOURCE]), "all but SYS_RESOURCE"),
            (but(CapabilitySet::OCI_DEFAULT, &[C::NET_RAW, C::MKNOD]), "OCI default but MKNOD NET_RAW"),
            (CapabilitySet::of(&[C::NET_RAW, C::KILL]), "KILL NET_RAW"),
        ] {
            assert_eq!(set.in_words(KERNEL), words);
        }
        assert_eq!(KERNEL.in_words(CapabilitySet::up_to(41)), "all but 41");
    }

    #[test]
    fn sets_are_written_as_sorted_names() {
        use Capability as C;
        for (set, json) in [
            (CapabilitySet::NONE, "[]"),
            (CapabilitySet::ALL, r#"["ALL"]"#),
            (CapabilitySet::of(&[C::SYS_ADMIN, C::CHOWN, C::BPF]), r#"["BPF","CHOWN","SYS_ADMIN"]"#),
            (CapabilitySet::from_bits(1 << 63 | 1), r#"["63","CHOWN"]"#),
        ] {
            assert_eq!(serde_json::to_string(&set).unwrap(), json);
            assert_eq!(serde_json::from_str::<CapabilitySet>(json).unwrap(), set);
        }
        for wrong in [r#"["64"]"#, r#"["NO"]"#, r#"["CAP_KILL"]"#, r#""KILL""#] {
            assert!(serde_json::from_str::<CapabilitySet>(wrong).is_err(), "{wrong}");
        }
    }
}
