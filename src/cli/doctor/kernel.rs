//! What the kernel offers: by probing where an unprivileged call that changes nothing tells, by its version elsewhere.

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags},
    io::Errno,
    process::PidfdFlags,
};

use super::Finding;
use crate::{host::Host, spec::CapabilitySet, sys::proc::ProcCapabilities};

/// The group of these findings.
const GROUP: &str = "Kernel";

/// Namespaces that berth makes, as `/proc/self/ns` names them, and the option that a kernel without them lacks.
const NAMESPACES: [(&str, &str); 4] =
    [("mnt", "CONFIG_NAMESPACES"), ("pid", "CONFIG_PID_NS"), ("ipc", "CONFIG_IPC_NS"), ("net", "CONFIG_NET_NS")];

/// Looks at the kernel.
pub fn examine(host: &Host) -> Vec<Finding> {
    let version = version(&host.kernel);
    let mut findings = vec![match version {
        Some(_) => Finding::good(GROUP, "version", &host.kernel),
        None => Finding::note(GROUP, "version", format!("'{}' is not understood", host.kernel), None),
    }];
    findings.push(namespaces(host));
    findings.push(capabilities(host));
    findings.push(probed("openat2", "resolves paths inside a container's root", &openat2()));
    findings.push(probed("pidfd", "names processes that cannot be mistaken", &pidfd()));
    findings.push(by_version("clone3", "gives the container's first process to systemd", version, (5, 3)));
    findings.push(by_version("mount_setattr", "makes mounts read-only with all below them", version, (5, 12)));
    findings
}

/// Major and minor of `uname -r`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The namespaces that berth makes. No container does without mounts of its own; the others are their isolators'.
fn namespaces(host: &Host) -> Finding {
    let lacking: Vec<_> = NAMESPACES.iter().filter(|(kind, _)| !host.has_namespace(kind)).collect();
    let shown = lacking.iter().map(|(kind, option)| format!("{kind} ({option})")).collect::<Vec<_>>().join(", ");
    let cure = "boot a kernel that is built with them, or mount /proc";
    match lacking.first() {
        None => Finding::good(GROUP, "namespaces", host.namespaces.join(" ")),
        Some(("mnt", _)) => Finding::missing(GROUP, "namespaces", format!("not offered: {shown}"), cure),
        Some(_) => Finding::note(GROUP, "namespaces", format!("not offered: {shown}"), Some(cure)),
    }
}

/// The capabilities that a container can have: those of the first process, from which all others come.
fn capabilities(host: &Host) -> Finding {
    let (name, all) = ("capabilities", host.capabilities());
    match ProcCapabilities::read(&host.root.at("/proc"), 1) {
        Err(error) => {
            Finding::note(GROUP, name, format!("cannot read /proc/1/status: {}", crate::error::reason(&error)), None)
        }
        Ok(sets) => match CapabilitySet::from_bits(sets.bounding) {
            bounding if all.is_subset(bounding) => Finding::good(GROUP, name, format!("all {}", all.iter().count())),
            bounding => {
                let detail = format!("of the host itself: {}; no container can have more", bounding.in_words(all));
                Finding::note(GROUP, name, detail, None)
            }
        },
    }
}

/// A call that was tried.
fn probed(name: &str, use_: &str, outcome: &Result<(), Errno>) -> Finding {
    match outcome {
        Ok(()) => Finding::good(GROUP, name, format!("{use_}; probed")),
        Err(Errno::NOSYS) => Finding::missing(GROUP, name, "the kernel does not have it", "boot Linux 5.12 or later"),
        Err(Errno::PERM) => {
            let cure = "let the seccomp filter of the outer container or service pass it";
            Finding::missing(GROUP, name, "it is forbidden here", cure)
        }
        Err(errno) => Finding::note(GROUP, name, format!("probed: {errno}"), None),
    }
}

/// A call that only the version tells of.
fn by_version(name: &str, use_: &str, version: Option<(u32, u32)>, since: (u32, u32)) -> Finding {
    let (major, minor) = since;
    match version {
        Some(version) if version >= since => {
            Finding::good(GROUP, name, format!("{use_}; by version, since {major}.{minor}"))
        }
        Some(_) => {
            let cure = format!("boot Linux {major}.{minor} or later");
            Finding::missing(GROUP, name, format!("Linux has it since {major}.{minor}"), &cure)
        }
        None => Finding::note(GROUP, name, "not known: the kernel's version is not understood", None),
    }
}

/// Whether openat2(2) works.
fn openat2() -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::openat2(CWD, "/", flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS).map(drop)
}

/// Whether pidfd_open(2) works.
fn pidfd() -> Result<(), Errno> {
    rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("5.10.226"), Some((5, 10)));
        assert_eq!(version("next"), None);
        assert_eq!(by_version("x", "y", Some((5, 12)), (5, 12)).verdict, Verdict::Good);
        assert_eq!(by_version("x", "y", Some((5, 4)), (5, 12)).verdict, Verdict::Missing);
        assert_eq!(by_version("x", "y", None, (5, 12)).verdict, Verdict::Note);
    }

    #[test]
    fn what_the_host_itself_lacks_is_noted() {
        let directory = tempfile::tempdir().unwrap();
        let status = directory.path().join("proc/1/status");
        std::fs::create_dir_all(status.parent().unwrap()).unwrap();
        let root = crate::root::Root::new(directory.path());
        assert_eq!(capabilities(&Host::read(&root)).verdict, Verdict::Note);
        for (mask, verdict, detail) in [
            ("1ffffffffff", Verdict::Good, "all 41"),
            ("1fffeffffff", Verdict::Note, "of the host itself: all but SYS_RESOURCE; no container can have more"),
        ] {
            std::fs::write(&status, format!("CapEff:\t0\nCapBnd:\t{mask}\nCapAmb:\t0\n")).unwrap();
            let finding = capabilities(&Host::read(&root));
            assert_eq!((finding.verdict, finding.detail.as_str()), (verdict, detail));
        }
    }

    #[test]
    fn probes() {
        assert_eq!(probed("x", "y", &Err(Errno::NOSYS)).verdict, Verdict::Missing);
        assert_eq!(probed("x", "y", &Err(Errno::PERM)).verdict, Verdict::Missing);
        assert_eq!(probed("x", "y", &Err(Errno::MFILE)).verdict, Verdict::Note);
        assert_eq!(probed("x", "y", &Ok(())).verdict, Verdict::Good);
    }
}
