//! ② ③ ⑤ ⑦ ⑧ The concerns of isolation, one file each behind one trait.
//!
//! Names and meaning are the Mesos containerizer's. What an isolator wants done inside the child is a typed step
//! in the plan, never code of its own.

use std::{collections::BTreeSet, fmt, path::Path, time::Duration};

use crate::{
    config::Config,
    host::Host,
    observe::{ContainerStatus, Limitation, Usage},
    plan::Plan,
    protocol::{Failure, Stage},
    root::Root,
    spec::{Name, Spec},
    state::Run,
};

/// `cgroups/net_cls`.
pub mod cgroups_net_cls;
/// `disk/du` and its kin: what containers take of the disk.
pub mod disk;
/// `docker/runtime`.
pub(crate) mod docker_runtime;
/// `filesystem/linux`.
pub(crate) mod filesystem_linux;
/// `filesystem/shared`.
mod filesystem_shared;
/// `linux/capabilities`.
mod linux_capabilities;
/// `linux/nnp`.
mod linux_nnp;
/// `namespaces/ipc`.
mod namespaces_ipc;
/// `namespaces/pid`.
mod namespaces_pid;
/// `posix/rlimits`.
mod posix_rlimits;
/// What is kept between calls.
mod shared;
/// `volume/host_path`, `volume/sandbox_path`, `volume/image`.
pub(crate) mod volume;

pub use shared::{Shared, Specs};

/// All isolators. Check, prepare and attach run down it, cleanup runs up it; nothing else in the program lists
/// them. The order is Mesos's (`containerizer.cpp`): the view of the filesystem first, then cgroups, then privileges, then
/// namespaces, then volumes, then the disk. (When the child does what they ask for is the business of its phases.)
pub const ORDER: &[&dyn Isolator] = &[
    &filesystem_shared::FilesystemShared,
    &filesystem_linux::FilesystemLinux,
    &docker_runtime::DockerRuntime,
    &cgroups_net_cls::CgroupsNetCls,
    &linux_capabilities::LinuxCapabilities,
    &linux_nnp::LinuxNnp,
    &posix_rlimits::PosixRlimits,
    &namespaces_ipc::NamespacesIpc,
    &namespaces_pid::NamespacesPid,
    &volume::sandbox_path::SandboxPath,
    &volume::host_path::HostPath,
    &volume::image::VolumeImage,
    &disk::XFS,
    &disk::EXT4,
    &disk::du::DiskDu,
];

/// Stands in `isolation = [...]` for the isolators of the disk that this host can do; the first of the order counts.
pub const DISK_AUTO: &str = "disk/auto";

/// The names that `isolation = [...]` may hold.
#[must_use]
pub fn names() -> Vec<&'static str> {
    ORDER.iter().map(|isolator| isolator.name()).chain([DISK_AUTO]).collect()
}

/// The isolators that `isolation = [...]` names; unset, all that this host can do and that need no decision of the
/// operator's, or have got it.
#[must_use]
pub fn enabled(config: &Config, host: &Host) -> Vec<&'static dyn Isolator> {
    let chosen = |isolator: &&'static dyn Isolator| match &config.isolation {
        Some(names) => names.iter().any(|name| {
            let is_meant = || isolator.name().starts_with("disk/") && isolator.probe(host) == Support::Yes;
            name == isolator.name() || (name == DISK_AUTO && is_meant())
        }),
        None => isolator.awaits(config).is_none() && isolator.probe(host) == Support::Yes,
    };
    ORDER.iter().copied().filter(chosen).collect()
}

/// One concern of isolation. Defaults are honest no-ops.
pub trait Isolator: fmt::Debug + Sync {
    /// Mesos's name for it, as `isolation = [...]` has it.
    fn name(&self) -> &'static str;

    /// Whether this host can do it at all, and why not (`berthctl doctor`).
    fn probe(&self, host: &Host) -> Support;

    /// The key of berthd.toml whose value it cannot choose itself, and which the configuration does not have: it is not
    /// enabled unasked then.
    fn awaits(&self, _config: &Config) -> Option<&'static str> {
        None
    }

    /// The key by which a spec asks for it; a spec that does is refused where it is not enabled.
    fn wanted_by(&self, spec: &Spec) -> Option<&'static str>;

    /// Adds what it wants to the plan, or refuses. Reads only.
    ///
    /// # Errors
    /// A [`Refusal`] is the spec's fault or the host's, and says which key.
    fn check(&self, cx: &Check<'_>, plan: &mut Plan) -> Result<(), Refusal>;

    /// Makes ready on the host what the plan's steps will find: directories, IDs, quotas. Idempotent.
    ///
    /// # Errors
    /// The start fails with it; what was done is undone by [`Self::cleanup`].
    fn prepare(&self, _cx: &Container<'_>) -> Result<(), Failure> {
        Ok(())
    }

    /// Acts on a process that is about to become the program, or to enter the container, while it waits: the cgroup
    /// exists, the program does not.
    ///
    /// # Errors
    /// As for [`Self::prepare`].
    fn attach(&self, _cx: &Container<'_>, _pid: u32) -> Result<(), Failure> {
        Ok(())
    }

    /// Adopts a container that an earlier berthd started, before anything is launched.
    ///
    /// # Errors
    /// What could not be found out; the container goes on, and so do the others.
    fn recover(&self, _cx: &Container<'_>) -> Result<(), String> {
        Ok(())
    }

    /// Takes back what no record accounts for. Called once, after all that is recorded was adopted and before anything
    /// is launched.
    ///
    /// # Errors
    /// What is left.
    fn sweep(&self, _cx: &Sweep<'_>) -> Result<(), String> {
        Ok(())
    }

    /// The keys, of those that differ between two specs of one container, that only a restart can apply.
    fn needs_restart(&self, _old: &Spec, _new: &Spec) -> Vec<&'static str> {
        Vec::new()
    }

    /// Whether [`Self::update`] has something to do for a running container.
    fn is_outdated(&self, _wanted: &Wanted<'_>, _plan: &Plan) -> bool {
        false
    }

    /// Makes true for a running container what its spec or the configuration says now and what needs no restart: on the
    /// host, and in the plan that its record will hold. Idempotent.
    ///
    /// # Errors
    /// What could not be changed; the container goes on as it is.
    fn update(&self, _cx: &Container<'_>, _wanted: &Wanted<'_>, _plan: &mut Plan) -> Result<(), String> {
        Ok(())
    }

    /// What is in force for a running container, in a few words, and in Mesos's terms.
    ///
    /// # Errors
    /// What it could not find out; other isolators' status is shown all the same.
    fn status(&self, _cx: &Recorded<'_>, _out: &mut ContainerStatus) -> Result<Option<String>, String> {
        Ok(None)
    }

    /// Whether [`Self::usage`] has something to tell of a container with this plan.
    fn measures(&self, _plan: &Plan) -> bool {
        false
    }

    /// What a running container has used.
    ///
    /// # Errors
    /// What it could not find out; the rest is told all the same.
    fn usage(&self, _cx: &Recorded<'_>, _out: &mut Usage) -> Result<(), String> {
        Ok(())
    }

    /// Whether [`Self::watch`] has something to look at for a container with this plan.
    fn watches(&self, _plan: &Plan) -> bool {
        false
    }

    /// Looks at a running container, on an interval and from its start on; may take long, and is called on a thread of its
    /// own. The least pause before the next look.
    ///
    /// # Errors
    /// What it could not look at; the next look is tried as if nothing were.
    fn watch(&self, _cx: &Recorded<'_>) -> Result<Duration, String> {
        Ok(Duration::ZERO)
    }

    /// The limit that a running container has passed and is to be ended for, by what is known already.
    fn limitation(&self, _cx: &Recorded<'_>) -> Option<Limitation> {
        None
    }

    /// Takes back what `prepare` and `attach` did, with the record alone; what is gone already is success.
    ///
    /// # Errors
    /// What is left to do; it is tried again.
    fn cleanup(&self, _cx: &Recorded<'_>) -> Result<(), String> {
        Ok(())
    }
}

/// Whether a host can do what an isolator does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Support {
    /// It can.
    Yes,
    /// It cannot: the reason, and the cure.
    No(String),
}

/// What a check may look at.
#[derive(Debug)]
pub struct Check<'a> {
    /// The spec.
    pub spec: &'a Spec,
    /// The host.
    pub host: &'a Host,
    /// The configuration.
    pub config: &'a Config,
    /// Where the sandboxes of this container lie.
    pub sandboxes: &'a Path,
    /// The spec's image, if it has one: looked up once, since a tag may become another image meanwhile.
    pub found: Option<&'a filesystem_linux::Found>,
}

/// What a running container should be, by its files of now.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Its spec.
    pub spec: &'a Spec,
    /// The configuration.
    pub config: &'a Config,
}

/// A container about to start.
#[derive(Debug)]
pub struct Container<'a> {
    /// Its name.
    pub name: &'a Name,
    /// Its plan.
    pub plan: &'a Plan,
    /// Its sandbox, made and owned by its user.
    pub sandbox: &'a Path,
    /// The host.
    pub host: &'a Host,
    /// The configuration.
    pub config: &'a Config,
    /// What is kept between calls.
    pub shared: &'a Shared,
    /// The cgroup2 cgroup that it was started in, below the mount; none where there is no cgroup2.
    pub cgroup: Option<&'a str>,
}

/// A berthd that has adopted all that its records tell of.
#[derive(Debug)]
pub struct Sweep<'a> {
    /// Where things lie.
    pub root: &'a Root,
    /// What is kept between calls.
    pub shared: &'a Shared,
    /// The containers that have a run.
    pub running: &'a BTreeSet<Name>,
}

/// A run of a container, as its record has it.
#[derive(Debug, Clone, Copy)]
pub struct Recorded<'a> {
    /// Where things lie.
    pub root: &'a Root,
    /// What is kept between calls.
    pub shared: &'a Shared,
    /// Whose.
    pub name: &'a Name,
    /// Which.
    pub run: &'a Run,
}

/// A spec cannot run on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Who refuses.
    pub isolator: &'static str,
    /// The key that asks for it, if one does.
    pub key: Option<&'static str>,
    /// How it is reported when a start fails by it.
    pub failure: Failure,
}

impl Refusal {
    /// A refusal that only an edit of the spec or of the configuration mends.
    #[must_use]
    pub fn config(isolator: &'static str, key: &'static str, message: String) -> Self {
        Self { isolator, key: Some(key), failure: Failure { stage: Stage::Config, errno: None, path: None, message } }
    }
}

/// Whether the container's namespace of a kind is its own, as the kernel says (namespaces(7)).
fn namespace_status(cx: &Recorded<'_>, kind: &str) -> Result<Option<String>, String> {
    let Some(process) = cx.run.process else { return Ok(None) };
    let link = |who: &str| {
        let path = cx.root.at(&format!("/proc/{who}/ns/{kind}"));
        std::fs::read_link(&path).map_err(|e| format!("cannot read {}: {}", path.display(), crate::error::reason(&e)))
    };
    let (ours, theirs) = (link("self")?, link(&process.pid.to_string())?);
    Ok(Some(if ours == theirs { "the host's".to_owned() } else { format!("private, {}", theirs.display()) }))
}
