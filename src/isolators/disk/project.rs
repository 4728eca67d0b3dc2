//! `disk/xfs` and `disk/ext4`: limits that the kernel keeps, by project quota.
//!
//! Mesos: `isolators/xfs/disk.cpp`. One code with two faces: the kernel has one form of project quota for both file
//! systems ([`crate::sys::quota`]). The sandbox is given to a project while it is empty, what is made in it inherits that,
//! and what a run changes of its image is counted with it. Usage is one number of the kernel's, limits change while the
//! container runs, and the project cannot be left from inside.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use super::{Taken, Used, describe, exceeded, label, pool::Pool, report, take, taken_by, wanted};
use crate::{
    config::{Config, XfsConfig},
    error::reason,
    host::Host,
    isolators::{Check, Container, Isolator, Recorded, Refusal, Support, Sweep, Wanted},
    observe::{ContainerStatus, Limitation, Usage},
    plan::{Action, DiskPlan, Phase, Plan, Step, Tracked},
    protocol::{Failure, Stage},
    root::Root,
    spec::{Capability, Enforce, Spec},
    state::sandbox,
    sys::quota::{self, Kind, Limits, Record, State},
};

/// How many inodes beyond its limit a container gets before the kernel stops it, where passing the limit ends it.
const INODE_HEADROOM: u64 = 1024;

/// One of the two isolators.
#[derive(Debug)]
pub struct ProjectQuota {
    /// Whose quota.
    kind: Kind,
}

/// `disk/xfs`.
pub static XFS: ProjectQuota = ProjectQuota { kind: Kind::Xfs };

/// `disk/ext4`.
pub static EXT4: ProjectQuota = ProjectQuota { kind: Kind::Ext4 };

impl Isolator for ProjectQuota {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Xfs => "disk/xfs",
            Kind::Ext4 => "disk/ext4",
        }
    }

    fn probe(&self, host: &Host) -> Support {
        self.look(&host.root).map_or_else(Support::No, |_| Support::Yes)
    }

    fn wanted_by(&self, _spec: &Spec) -> Option<&'static str> {
        None
    }

    fn check(&self, cx: &Check<'_>, plan: &mut Plan) -> Result<(), Refusal> {
        if plan.disk.is_some() {
            return Ok(());
        }
        let state = match self.look(&cx.host.root) {
            Ok(state) => state,
            Err(_) if self.has_alternative(cx.config) => return Ok(()),
            Err(why) => {
                let message =
                    format!("{} cannot be had here: {why}; or take it out of isolation in berthd.toml", self.name());
                return Err(Refusal::config(self.name(), "disk", message));
            }
        };
        take(self.name(), cx, best(state), plan);
        if let Some(disk) = &plan.disk {
            let refuse = |why| Refusal::config(self.name(), "disk.enforce", why);
            refuse_unenforced(disk, state).map_err(refuse)?;
        }
        self.hold(plan);
        Ok(())
    }

    fn prepare(&self, cx: &Container<'_>) -> Result<(), Failure> {
        let Some(disk) = taken_by(self.name(), cx.plan) else { return Ok(()) };
        apply(cx, disk)
    }

    fn is_outdated(&self, now: &Wanted<'_>, plan: &Plan) -> bool {
        let Some(disk) = taken_by(self.name(), plan) else { return false };
        // What is enforced now is by the best that there is.
        let best = if disk.enforce == Enforce::Account { Enforce::Hard } else { disk.enforce };
        *disk != wanted(self.name(), now, best)
    }

    fn update(&self, cx: &Container<'_>, now: &Wanted<'_>, plan: &mut Plan) -> Result<(), String> {
        let state = self.look(&cx.host.root)?;
        let disk = wanted(self.name(), now, best(state));
        refuse_unenforced(&disk, state)?;
        apply(cx, &disk).map_err(|failure| failure.message)?;
        plan.disk = Some(disk);
        Ok(())
    }

    fn status(&self, cx: &Recorded<'_>, _out: &mut ContainerStatus) -> Result<Option<String>, String> {
        let Some(disk) = taken_by(self.name(), &cx.run.plan) else { return Ok(None) };
        let id = cx.shared.projects.of(&cx.run.sandbox);
        let id = id.map_err(|error| format!("cannot read which projects there are: {}", reason(&error)))?;
        let project = id.map_or_else(|| "no project".to_owned(), |id| format!("project {id}"));
        Ok(Some(format!("{}, {project}", describe(disk))))
    }

    fn measures(&self, plan: &Plan) -> bool {
        taken_by(self.name(), plan).is_some()
    }

    fn usage(&self, cx: &Recorded<'_>, out: &mut Usage) -> Result<(), String> {
        let Some(disk) = taken_by(self.name(), &cx.run.plan) else { return Ok(()) };
        let taken = taken(cx, disk);
        report(disk, taken.as_ref().ok(), out);
        taken.map(drop).map_err(|error| format!("cannot ask for the quota: {}", reason(&error)))
    }

    fn watches(&self, plan: &Plan) -> bool {
        taken_by(self.name(), plan).is_some_and(|disk| disk.enforce == Enforce::Kill)
    }

    fn limitation(&self, cx: &Recorded<'_>) -> Option<Limitation> {
        let disk = taken_by(self.name(), &cx.run.plan).filter(|disk| disk.enforce == Enforce::Kill)?;
        exceeded(disk, &taken(cx, disk).ok()?)
    }

    fn sweep(&self, cx: &Sweep<'_>) -> Result<(), String> {
        if self.look(cx.root).is_err() {
            return Ok(());
        }
        let said = |error: io::Error| format!("cannot look through project IDs: {}", reason(&error));
        cx.shared.projects.adopt().map_err(said)?;
        cx.shared.projects.reclaim().map_err(said)
    }
}

/// The best that a file system does at a limit.
fn best(state: State) -> Enforce {
    if state.enforced { Enforce::Hard } else { Enforce::Kill }
}

/// That the kernel keeps the limits which it is to keep.
fn refuse_unenforced(disk: &DiskPlan, state: State) -> Result<(), String> {
    if state.enforced || disk.enforce != Enforce::Hard || !disk.is_limited() {
        return Ok(());
    }
    let message = "disk.enforce = \"hard\" cannot be had here: project quotas are counted and not enforced (pqnoenforce); \
                   mount with prjquota, or write disk.enforce = \"kill\"";
    Err(message.to_owned())
}

impl ProjectQuota {
    /// What the file system of sandboxes does with project quotas, or why it does nothing and what would change that.
    pub fn look(&self, root: &Root) -> Result<State, String> {
        let place = root.durable().join("sandboxes");
        let there = place.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let cannot = |error: io::Error| format!("cannot ask for quotas at {}: {}", there.display(), reason(&error));
        let directory = File::open(there).map_err(cannot)?;
        let name = self.file_system();
        if quota::kind(&directory).map_err(cannot)? != Some(self.kind) {
            return Err(format!("{} does not lie on {name}", there.display()));
        }
        let state = quota::state(&directory).map_err(cannot)?;
        if state.accounted {
            return Ok(state);
        }
        let cure = match self.kind {
            Kind::Xfs => {
                "unmount it and mount it with prjquota (a remount does not do; for the root file system write \
                 rootflags=prjquota on the kernel's command line)"
            }
            Kind::Ext4 => {
                "give it them while it is not mounted (tune2fs -O project,quota -Q prjquota), and mount it with prjquota"
            }
        };
        Err(format!("the {name} of {} has no project quotas; {cure}", there.display()))
    }

    /// As people write it.
    fn file_system(&self) -> &'static str {
        match self.kind {
            Kind::Xfs => "XFS",
            Kind::Ext4 => "ext4",
        }
    }

    /// Whether another isolator may count instead.
    fn has_alternative(&self, config: &Config) -> bool {
        let Some(names) = &config.isolation else { return true };
        names.iter().any(|name| name.starts_with("disk/") && name != self.name())
    }

    /// Keeps the program in its project.
    fn hold(&self, plan: &mut Plan) {
        let name = self.name();
        plan.steps.push(Step { isolator: name.to_owned(), phase: Phase::Limits, action: Action::DenyProjects });
        let reason = "it could set its own limits, and they are a guard and not a wall";
        plan.forbid_capability(name, Capability::SYS_ADMIN, reason);
        if self.kind == Kind::Ext4 {
            let reason = "ext4 heeds no limit for it, which is then a guard and not a wall";
            plan.forbid_capability(name, Capability::SYS_RESOURCE, reason);
        }
    }
}

/// A directory that is to be a project's.
struct Counted<'a> {
    /// What is counted.
    tracked: &'a Tracked,
    /// Where it lies.
    path: PathBuf,
    /// It itself.
    directory: OwnedFd,
}

/// Makes so what a plan says: projects, labels, then limits.
fn apply(cx: &Container<'_>, disk: &DiskPlan) -> Result<(), Failure> {
    let pool = &cx.shared.projects;
    let top = label::open_directory(cx.sandbox).map_err(|error| Failure::prepare("open", cx.sandbox, &error))?;
    let mut volumes = Vec::new();
    for tracked in &disk.tracked {
        let Some(volume) = &tracked.volume else { continue };
        let path = cx.sandbox.join(&volume.path);
        let directory =
            label::open_beneath(&top, &volume.path).map_err(|error| Failure::prepare("open", &path, &error))?;
        volumes.push(Counted { tracked, path, directory });
    }
    let ranges = &cx.config.xfs;
    let except: Vec<&OwnedFd> = volumes.iter().map(|volume| &volume.directory).collect();
    let id = given(pool, ranges, &top, cx.sandbox, &except)?;
    for name in ["upper", "work"] {
        let path = sandbox::root_of(cx.sandbox).join(name);
        match label::open_directory(&path) {
            Ok(directory) => {
                let labelled = label::is_of(&directory, id)
                    .and_then(|is_of| if is_of { Ok(()) } else { enlist(&directory, &path, id, &[]) });
                labelled.map_err(|error| Failure::prepare("label", &path, &error))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::prepare("open", &path, &error)),
        }
    }
    give_back(pool, &top, cx.sandbox, id, &volumes)?;
    let headroom = cx.config.xfs.quota_headroom.0;
    let limit = |directory: &OwnedFd, id, tracked: &Tracked, path: &Path| {
        quota::set_limits(directory, id, limits(disk.enforce, tracked, headroom))
            .map_err(|error| Failure::prepare("set the quota of", path, &error))
    };
    for volume in &volumes {
        let id = given(pool, ranges, &volume.directory, &volume.path, &[])?;
        limit(&volume.directory, id, volume.tracked, &volume.path)?;
    }
    let own = disk.tracked.iter().find(|tracked| tracked.volume.is_none());
    own.map_or(Ok(()), |own| limit(&top, id, own, cx.sandbox))
}

/// The limits that the kernel is given.
fn limits(enforce: Enforce, tracked: &Tracked, headroom: u64) -> Limits {
    let (bytes, inodes) = (tracked.limit.map_or(0, |limit| limit.0), tracked.inodes.unwrap_or(0));
    let above = |limit: u64, headroom: u64| if limit == 0 { 0 } else { limit.saturating_add(headroom) };
    match enforce {
        Enforce::Account => Limits::default(),
        Enforce::Hard => Limits { soft_bytes: bytes, hard_bytes: bytes, soft_inodes: inodes, hard_inodes: inodes },
        Enforce::Kill => Limits {
            soft_bytes: bytes,
            hard_bytes: above(bytes, headroom),
            soft_inodes: inodes,
            hard_inodes: above(inodes, INODE_HEADROOM),
        },
    }
}

/// The project of a directory, given to it with all that is in it if it was not.
fn given(
    pool: &Pool,
    config: &XfsConfig,
    directory: &OwnedFd,
    path: &Path,
    except: &[&OwnedFd],
) -> Result<u32, Failure> {
    let fail = |error: &io::Error| Failure::prepare("give a project to", path, error);
    let ranges = &config.project_range;
    let id = pool.give(directory.as_fd(), path, ranges).map_err(|error| fail(&error))?;
    let id = id.map_err(|exhausted| {
        let message = format!(
            "no project ID is free: {exhausted}; widen xfs.project_range in berthd.toml, or keep fewer \
                               sandboxes ([sandbox] keep)"
        );
        Failure { stage: Stage::Prepare, errno: Some(libc::ENOSPC), path: Some(path.to_owned()), message }
    })?;
    let whole = pool.with(|projects| Ok(projects.entry(id).is_some_and(|entry| entry.finished)));
    if whole.map_err(|error| fail(&error))? && label::is_of(directory, id).map_err(|error| fail(&error))? {
        return Ok(id);
    }
    let label = || {
        pool.with(|projects| projects.claim(id, path))?;
        // What was there before may be more than the limit, and is counted all the same.
        quota::set_limits(directory, id, Limits::default())?;
        enlist(directory, path, id, except)?;
        pool.with(|projects| projects.finish(id))
    };
    label().map_err(|error| fail(&error))?;
    Ok(id)
}

/// Gives volumes that have no limit of their own any more back to the sandbox.
fn give_back(pool: &Pool, top: &OwnedFd, sandbox: &Path, id: u32, volumes: &[Counted<'_>]) -> Result<(), Failure> {
    let is_over =
        |path: &Path| path != sandbox && path.starts_with(sandbox) && !volumes.iter().any(|volume| volume.path == path);
    let over = pool.with(|projects| {
        let over = projects.entries().filter(|(_, entry)| is_over(&entry.path));
        Ok(over.map(|(id, entry)| (id, entry.path.clone())).collect::<Vec<_>>())
    });
    for (former, path) in over.map_err(|error| Failure::prepare("look through the projects of", sandbox, &error))? {
        let give_back = || {
            let relative = path.strip_prefix(sandbox).unwrap_or(&path);
            match label::open_beneath(top, relative) {
                Ok(directory) => enlist(&directory, &path, id, &[])?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            quota::set_limits(top, former, Limits::default())?;
            pool.with(|projects| projects.forget(former))
        };
        give_back().map_err(|error| Failure::prepare("give back the project of", &path, &error))?;
    }
    Ok(())
}

/// Labels a directory.
fn enlist(directory: &OwnedFd, path: &Path, id: u32, except: &[&OwnedFd]) -> io::Result<()> {
    label::label(directory.try_clone()?, path, id, except)
}

/// What is in use of all that is tracked, as the kernel has it now.
fn taken(cx: &Recorded<'_>, disk: &DiskPlan) -> io::Result<Taken> {
    let top = label::open_directory(&cx.run.sandbox)?;
    let mut taken = Taken::default();
    for tracked in &disk.tracked {
        let volume = tracked.volume.as_ref().map(|volume| volume.path.clone());
        let path = volume.as_ref().map_or_else(|| cx.run.sandbox.clone(), |volume| cx.run.sandbox.join(volume));
        let Some(id) = cx.shared.projects.of(&path)? else { continue };
        if let Some(Record { bytes, inodes, .. }) = quota::record(&top, id)? {
            taken.used.insert(volume, Used { bytes, inodes });
        }
    }
    Ok(taken)
}
