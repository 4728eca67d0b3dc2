//! The steps of a plan: what the child does before it becomes the program.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Bind, CapabilitySets};
use crate::spec::{Bytes, Rlimits};

/// When a step is done. The child sorts by phase; within a phase the order of the isolators holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Right after birth, in the new namespaces.
    Namespaces,
    /// The view of the filesystem.
    Mounts,
    /// What is closed in a root that is complete.
    Root,
    /// Resource limits, while still privileged.
    Limits,
    /// User, groups, umask, directory.
    Identity,
    /// What takes the last privileges away.
    Confine,
}

/// One step, and which isolator asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The isolator's name, or `berth` for what every container gets.
    pub isolator: String,
    /// When.
    pub phase: Phase,
    /// What.
    pub action: Action,
}

/// What a step does. Closed on purpose: `berth-launch` interprets it in one `match`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Action {
    /// Make `/` a recursive slave, so that nothing mounted here reaches the host (mount_namespaces(7)).
    IsolateMounts,
    /// Make a root of the container's own and go there: nothing of the host's mounts is left. Everything below is
    /// resolved and made inside it (openat2(2), `RESOLVE_IN_ROOT`).
    EnterRoot {
        /// Its directories, lowest first.
        layers: Vec<PathBuf>,
        /// What lies on top.
        top: Top,
        /// Where the sandbox is seen, if it is.
        sandbox: Option<PathBuf>,
        /// What the run has for files of the image, beside the sandbox.
        files: Vec<EtcFile>,
        /// Volumes, those above before those below.
        binds: Vec<Bind>,
    },
    /// sethostname(2).
    SetHostname {
        /// The name.
        name: String,
    },
    /// Make a directory of the container's root, and those above, if it is not there.
    MakeDirectory {
        /// Absolute.
        path: PathBuf,
    },
    /// Hide parts of `/proc` and `/sys` that tell of the host, and make those read-only that change it. What the kernel
    /// does not have is skipped.
    MaskPaths,
    /// Bind each source over its target. All sources are opened before the first target is covered, so no
    /// bind sees another; each is attached with its attributes complete.
    Bind {
        /// Volumes, those above before those below.
        binds: Vec<Bind>,
    },
    /// A `/proc` for the new pid namespace (nosuid, nodev, noexec).
    MountProc,
    /// A `/dev/shm` of its own (tmpfs, mode 1777, nosuid, nodev).
    MountShm {
        /// In bytes; the kernel's default is half of RAM.
        size: Option<Bytes>,
    },
    /// A `/dev/mqueue` for the new ipc namespace, where the host has one (mq_overview(7)).
    MountMqueue,
    /// Make every mount of control groups read-only, but for the container's own cgroup: whoever could write in others
    /// could leave its own, and with it its limits and its handle.
    GuardCgroups,
    /// Make no user namespaces from here on (seccomp(2)): in one of its own, root of the container could mount again what
    /// is closed to it here.
    DenyUserNamespaces,
    /// Change the project of no file from here on (seccomp(2)): what is counted for the container stays so.
    DenyProjects,
    /// setrlimit(2), of the program: hard limits are raised here, and all are set when nothing else is left to do.
    SetRlimits {
        /// Which.
        limits: Rlimits,
    },
    /// setgroups(2), setgid(2), setuid(2).
    SetIdentity {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
        /// All supplementary groups.
        groups: Vec<u32>,
    },
    /// umask(2).
    SetUmask {
        /// 0..=0o777.
        mask: u32,
    },
    /// chdir(2), as the program's user.
    ChangeDirectory {
        /// Absolute; none is the sandbox.
        path: Option<PathBuf>,
    },
    /// Whatever is executed from here on gives no privileges (prctl(2), `PR_SET_NO_NEW_PRIVS`).
    SetNoNewPrivileges,
    /// capset(2), after the bounding set was cut and before the ambient set is raised (capabilities(7)).
    SetCapabilities(CapabilitySets),
}

/// What lies on the layers of a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Top {
    /// A directory of the run's own, which takes all changes.
    Upper,
    /// Nothing: no file can be changed.
    ReadOnly,
    /// Nothing: changes go to the one layer itself.
    Writable,
}

/// A file that the run has in place of the image's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EtcFile {
    /// Its name in `/etc`.
    pub name: String,
    /// What it says.
    pub text: String,
}
