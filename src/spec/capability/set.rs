//! Sets of capabilities.

use std::{
    fmt,
    ops::{BitAnd, BitOr, Sub},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{ALL_WORD, Capability, unknown};

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
