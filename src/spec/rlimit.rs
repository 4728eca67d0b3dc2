//! Resource limits (setrlimit(2)).

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// The limits of a container.
pub type Rlimits = BTreeMap<Resource, Rlimit>;

/// What a limit is on: all that Linux has, by its name in setrlimit(2) without `RLIMIT_`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    /// Address space.
    As,
    /// Core file.
    Core,
    /// Time of processors.
    Cpu,
    /// Data segment.
    Data,
    /// A file that is written.
    Fsize,
    /// Locks of files; no effect since Linux 2.4.
    Locks,
    /// Memory that is locked.
    Memlock,
    /// POSIX message queues of the user.
    Msgqueue,
    /// How nice it need not be: 20 minus the nice value.
    Nice,
    /// The highest file descriptor, plus one.
    Nofile,
    /// Threads of the user.
    Nproc,
    /// Resident set; no effect since Linux 2.4.
    Rss,
    /// Priority of real-time scheduling.
    Rtprio,
    /// Time of a processor at real-time priority without a blocking call.
    Rttime,
    /// Queued signals of the user.
    Sigpending,
    /// Stack.
    Stack,
}

/// What the number of a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// Microseconds.
    Microseconds,
    /// 20 minus a nice value.
    Nice,
    /// Things.
    Count,
}

/// The limits, their names, what they count, and how `/proc/PID/limits` calls them (fs/proc/base.c).
const RESOURCES: [(Resource, &str, Unit, &str); 16] = [
    (Resource::As, "as", Unit::Bytes, "Max address space"),
    (Resource::Core, "core", Unit::Bytes, "Max core file size"),
    (Resource::Cpu, "cpu", Unit::Seconds, "Max cpu time"),
    (Resource::Data, "data", Unit::Bytes, "Max data size"),
    (Resource::Fsize, "fsize", Unit::Bytes, "Max file size"),
    (Resource::Locks, "locks", Unit::Count, "Max file locks"),
    (Resource::Memlock, "memlock", Unit::Bytes, "Max locked memory"),
    (Resource::Msgqueue, "msgqueue", Unit::Bytes, "Max msgqueue size"),
    (Resource::Nice, "nice", Unit::Nice, "Max nice priority"),
    (Resource::Nofile, "nofile", Unit::Count, "Max open files"),
    (Resource::Nproc, "nproc", Unit::Count, "Max processes"),
    (Resource::Rss, "rss", Unit::Bytes, "Max resident set"),
    (Resource::Rtprio, "rtprio", Unit::Count, "Max realtime priority"),
    (Resource::Rttime, "rttime", Unit::Microseconds, "Max realtime timeout"),
    (Resource::Sigpending, "sigpending", Unit::Count, "Max pending signals"),
    (Resource::Stack, "stack", Unit::Bytes, "Max stack size"),
];

/// What may stand before a name: `RLIMIT_NOFILE` is the kernel's, `RLMT_NOFILE` Mesos's, `LimitNOFILE` systemd's.
const PREFIXES: [&str; 3] = ["rlimit_", "rlmt_", "limit"];

impl Resource {
    /// All names.
    pub const NAMES: &[&str] = &{
        let mut names = [""; RESOURCES.len()];
        let mut index = 0;
        while index < names.len() {
            names[index] = RESOURCES[index].1;
            index += 1;
        }
        names
    };

    /// The resource of a name: as here, the kernel's, Mesos's or systemd's, in any case of letters.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let name = Self::bare(name);
        RESOURCES.iter().find(|(_, known, ..)| *known == name).map(|(resource, ..)| *resource)
    }

    /// A name without what may stand before it, in small letters.
    #[must_use]
    pub fn bare(name: &str) -> String {
        let name = name.to_ascii_lowercase();
        PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(&name).to_owned()
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        RESOURCES.iter().map(|(resource, ..)| *resource)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        RESOURCES[self as usize].1
    }

    /// What it counts.
    #[must_use]
    pub fn unit(self) -> Unit {
        RESOURCES[self as usize].2
    }

    /// Its line in `/proc/PID/limits` (proc_pid_limits(5)).
    #[must_use]
    pub fn title(self) -> &'static str {
        RESOURCES[self as usize].3
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One limit, in the kernel's unit; none is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// What holds until the program raises it.
    pub soft: Option<u64>,
    /// How far it can.
    pub hard: Option<u64>,
}

impl fmt::Display for Rlimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
        match self.soft == self.hard {
            true => f.write_str(&word(self.soft)),
            false => write!(f, "{}:{}", word(self.soft), word(self.hard)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_resources() {
        for (index, (resource, name, ..)) in RESOURCES.into_iter().enumerate() {
            assert_eq!((resource as usize, resource.name(), Resource::named(name)), (index, name, Some(resource)));
            assert_eq!(serde_json::to_value(resource).unwrap(), name);
        }
    }

    #[test]
    fn everybodys_names_are_known() {
        for name in ["nofile", "NOFILE", "RLIMIT_NOFILE", "RLMT_NOFILE", "LimitNOFILE", "limitnofile"] {
            assert_eq!(Resource::named(name), Some(Resource::Nofile), "{name}");
        }
        assert_eq!((Resource::named("nofiles"), Resource::named("limit"), Resource::named("")), (None, None, None));
    }
}
