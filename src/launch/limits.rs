//! Resource limits: raised while there is the privilege, set at the last moment.
//!
//! So they bind the program and not the launcher, whose own work needs descriptors, memory and processes, nor the init
//! that may stand between (mesos.md §14).

use std::io;

use rustix::process::{Resource as Kernel, Rlimit as Pair, getrlimit, setrlimit};

use super::failure::failure;
use crate::{
    protocol::{Failure, Stage},
    spec::{Resource, Rlimit, Rlimits},
};

/// Raises what is to be higher than it can be raised later, and lowers nothing.
pub(super) fn raise(limits: &Rlimits) -> Result<(), Failure> {
    limits.iter().try_for_each(|(resource, limit)| {
        let present = getrlimit(kernel(*resource));
        if !is_above(limit.hard, present.maximum) {
            return Ok(());
        }
        let raised = Pair { current: present.current, maximum: limit.hard };
        setrlimit(kernel(*resource), raised).map_err(|errno| unset(*resource, *limit, &errno.into()))
    })
}

/// Sets all of them, for what is executed next.
pub(super) fn set(limits: &Rlimits) -> Result<(), Failure> {
    limits.iter().try_for_each(|(resource, limit)| {
        let pair = Pair { current: limit.soft, maximum: limit.hard };
        setrlimit(kernel(*resource), pair).map_err(|errno| unset(*resource, *limit, &errno.into()))
    })
}

/// Whether a limit allows more than another; none is unlimited.
fn is_above(limit: Option<u64>, other: Option<u64>) -> bool {
    limit.unwrap_or(u64::MAX) > other.unwrap_or(u64::MAX)
}

/// A limit that the kernel does not give.
fn unset(resource: Resource, limit: Rlimit, error: &io::Error) -> Failure {
    let cure = match (error.raw_os_error(), resource) {
        (Some(libc::EPERM), Resource::Nofile) => {
            "no more than /proc/sys/fs/nr_open can be had, and a higher hard limit than the launcher's needs \
             CAP_SYS_RESOURCE"
        }
        (Some(libc::EPERM), _) => "a higher hard limit than the launcher's needs CAP_SYS_RESOURCE; ask for less",
        _ => "correct rlimits",
    };
    failure(Stage::Limits, format_args!("set the limit of {resource} to {limit}"), None, error, cure)
}

/// The kernel's word.
fn kernel(resource: Resource) -> Kernel {
    match resource {
        Resource::As => Kernel::As,
        Resource::Core => Kernel::Core,
        Resource::Cpu => Kernel::Cpu,
        Resource::Data => Kernel::Data,
        Resource::Fsize => Kernel::Fsize,
        Resource::Locks => Kernel::Locks,
        Resource::Memlock => Kernel::Memlock,
        Resource::Msgqueue => Kernel::Msgqueue,
        Resource::Nice => Kernel::Nice,
        Resource::Nofile => Kernel::Nofile,
        Resource::Nproc => Kernel::Nproc,
        Resource::Rss => Kernel::Rss,
        Resource::Rtprio => Kernel::Rtprio,
        Resource::Rttime => Kernel::Rttime,
        Resource::Sigpending => Kernel::Sigpending,
        Resource::Stack => Kernel::Stack,
    }
}
