//! `volume/host_path`: parts of the host in a root of the container's own.
//!
//! Mesos: `isolators/volume/host_path.cpp`. Put right here: read-only holds for all that is mounted below and keeps
//! nosuid, nodev and noexec, also where a path covers itself; `..` is refused; both directions of propagation work with a
//! root of the container's own; nothing is made through a symbolic link.

use std::{
    ffi::OsStr,
    fs, io,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown, mkdirat, openat};

use super::{bind_of, refusal, status};
use crate::{
    error::reason,
    host::{Host, mounts},
    inside::resolve_beneath,
    isolators::{Check, Container, Isolator, Recorded, Refusal, Support},
    observe::ContainerStatus,
    plan::{Bind, Made, Plan, Source},
    protocol::Failure,
    spec::{Propagation, Spec, Volume, VolumeSource},
};

/// See the module.
#[derive(Debug)]
pub struct HostPath;

/// Its name.
pub const NAME: &str = "volume/host_path";

/// Mode of a directory that is made on the way to another.
const ABOVE_MODE: u32 = 0o755;

impl Isolator for HostPath {
    fn name(&self) -> &'static str {
        NAME
    }

    fn probe(&self, _host: &Host) -> Support {
        Support::Yes
    }

    fn wanted_by(&self, spec: &Spec) -> Option<&'static str> {
        (spec.image.is_some() && spec.volumes.iter().any(is_ours)).then_some("volumes")
    }

    fn check(&self, cx: &Check<'_>, plan: &mut Plan) -> Result<(), Refusal> {
        if cx.spec.image.is_none() {
            // They are `filesystem/shared`'s.
            return Ok(());
        }
        for volume in cx.spec.volumes.iter().filter(|volume| is_ours(volume)) {
            let bind = bind_of(cx, volume)?;
            check_source(cx.host, &bind, NAME)?;
            plan.show(bind);
        }
        Ok(())
    }

    fn prepare(&self, cx: &Container<'_>) -> Result<(), Failure> {
        match cx.plan.image {
            Some(_) => create(cx),
            None => Ok(()),
        }
    }

    fn status(&self, cx: &Recorded<'_>, _out: &mut ContainerStatus) -> Result<Option<String>, String> {
        let plan = &cx.run.plan;
        Ok(plan.image.as_ref().and_then(|_| status(plan, |source| source.on_host().is_some())))
    }
}

/// Whether a volume shows a path of the host.
pub fn is_ours(volume: &Volume) -> bool {
    matches!(&volume.source, VolumeSource::Path(path) if path.is_absolute())
}

/// What only the host can tell about a source: that it is there and of which kind, and that mounts can be shared with it.
/// None where it is yet to be made.
///
/// # Errors
/// It is not there, or cannot be used.
pub fn check_source(host: &Host, bind: &Bind, isolator: &'static str) -> Result<Option<fs::FileType>, Refusal> {
    let Some(source) = bind.source.on_host() else { return Ok(None) };
    let is_made = matches!(bind.source, Source::Created { .. });
    let refused = |error: &io::Error, path: &Path, key, cure| {
        let message = format!("the volume source {} cannot be used: {}; {cure}", path.display(), reason(error));
        refusal(isolator, key, path, error.raw_os_error(), message)
    };
    let found = match fs::metadata(host.path(source)) {
        Err(error) if is_made && error.kind() == io::ErrorKind::NotFound => None,
        found => Some(found.map_err(|error| {
            refused(&error, source, "volumes.host_path", "create it first, or write create = true")
        })?),
    };
    if bind.propagation == Propagation::Bidirectional {
        check_shared(host, source, isolator)?;
    }
    let Some(subpath) = &bind.subpath else { return Ok(found.map(|found| found.file_type())) };
    let part = || -> io::Result<fs::Metadata> {
        let whole = rustix::fs::open(host.path(source), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        fs::File::from(resolve_beneath(whole, subpath)?).metadata()
    };
    let part = part().map_err(|error| {
        let cure = match error.raw_os_error() {
            Some(libc::EXDEV) => "a symbolic link in it leads out of host_path; name a path inside",
            _ => "create it first, or correct subpath",
        };
        refused(&error, &source.join(subpath), "volumes.subpath", cure)
    })?;
    Ok(Some(part.file_type()))
}

/// That mounts below a path are shared with others, as far as the host is concerned.
fn check_shared(host: &Host, source: &Path, isolator: &'static str) -> Result<(), Refusal> {
    let there = source.ancestors().find_map(|path| fs::canonicalize(host.path(path)).ok());
    let mount = there.and_then(|path| mounts::mount_of(&host.root, &path));
    match mount {
        Some(mount) if !mount.shared => {
            let (path, around) = (source.display(), mount.target.display());
            let message = format!(
                "the host could not see what is mounted below {path}: it lies in the mount {around}, which is not \
                 shared; make it so with 'mount --make-shared {around}', or write propagation = \"host_to_container\""
            );
            Err(refusal(isolator, "volumes.propagation", source, None, message))
        }
        _ => Ok(()),
    }
}

/// Makes the sources that are to be made and are not there. What is there is left as it is.
///
/// # Errors
/// mkdir(2)'s, or something that is no directory is in the way.
pub fn create(cx: &Container<'_>) -> Result<(), Failure> {
    for bind in cx.plan.binds() {
        if let Source::Created { path, ownership } = &bind.source {
            let owner = ownership.owner.unwrap_or_else(|| cx.plan.owner());
            let there = cx.host.path(path);
            if !there.exists() {
                make(&there, *ownership, owner)
                    .map_err(|error| Failure::prepare("create the volume source", path, &error))?;
            }
        }
    }
    Ok(())
}

/// Makes a directory and those above it. What is there already leads where it leads; what is made is entered by its own
/// descriptor, so nobody puts a link in between.
fn make(path: &Path, ownership: Made, owner: (u32, u32)) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let start = path.ancestors().find(|above| above.is_dir()).unwrap_or(Path::new("/"));
    let mut at: OwnedFd = rustix::fs::open(start, flags, Mode::empty())?;
    let rest: PathBuf = path.strip_prefix(start).unwrap_or(path).to_owned();
    let names: Vec<&OsStr> = rest
        .components()
        .filter_map(|part| if let Component::Normal(name) = part { Some(name) } else { None })
        .collect();
    for (index, name) in names.iter().enumerate() {
        let is_last = index + 1 == names.len();
        match mkdirat(&at, *name, Mode::from_raw_mode(0o700)) {
            // Another start makes it too.
            Err(rustix::io::Errno::EXIST) => at = openat(&at, *name, flags | OFlags::NOFOLLOW, Mode::empty())?,
            made => {
                made?;
                at = openat(&at, *name, flags | OFlags::NOFOLLOW, Mode::empty())?;
                if is_last {
                    fchown(&at, Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)))?;
                }
                fchmod(&at, Mode::from_raw_mode(if is_last { ownership.mode } else { ABOVE_MODE }))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    #[test]
    fn what_is_made_has_its_mode_and_what_is_above_it_is_roots() {
        let at = tempfile::tempdir().unwrap();
        let me = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let made = Made { mode: 0o1750, owner: None };
        make(&at.path().join("a/b/c"), made, me).unwrap();
        let mode = |path: &str| fs::metadata(at.path().join(path)).unwrap().mode() & 0o7777;
        assert_eq!((mode("a"), mode("a/b"), mode("a/b/c")), (0o755, 0o755, 0o1750));
        make(&at.path().join("a/b"), Made { mode: 0o700, owner: None }, me).unwrap();
        assert_eq!(mode("a/b"), 0o755, "what is there stays as it is");
    }

    #[test]
    fn nothing_is_made_through_a_link_to_nowhere() {
        let at = tempfile::tempdir().unwrap();
        let me = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        symlink(at.path().join("elsewhere"), at.path().join("link")).unwrap();
        assert!(make(&at.path().join("link/c"), Made { mode: 0o755, owner: None }, me).is_err());
        assert!(!at.path().join("elsewhere").exists());
    }
}
