//! What volumes have in common, whichever isolator shows them.

pub mod host_path;
pub mod image;
pub mod sandbox_path;

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{Check, Container, Refusal};
use crate::{
    host::{Host, users},
    inside::Inside,
    plan::{Bind, Made, Plan, Source},
    protocol::{Failure, Stage},
    spec::{MountOption, Ownership, Propagation, Volume, VolumeMode, VolumeSource},
    state::sandbox::Beneath,
};

/// Mode of a private directory that covers nothing.
const PRIVATE_MODE: u32 = 0o755;

/// The volume as a plan has it.
pub(super) fn bind_of(cx: &Check<'_>, volume: &Volume) -> Result<Bind, Refusal> {
    let source = match &volume.source {
        VolumeSource::Path(path) if path.is_relative() => Source::Sandbox(path.clone()),
        VolumeSource::Path(path) => match &volume.create {
            None => Source::Host(path.clone()),
            Some(ownership) => {
                let ownership = made(cx, ownership, host_path::NAME)?;
                Source::Created { path: path.clone(), ownership }
            }
        },
        VolumeSource::Tmpfs(tmpfs) => {
            let ownership = made(cx, &tmpfs.ownership, super::filesystem_linux::NAME)?;
            Source::Tmpfs { size: tmpfs.size, ownership }
        }
        VolumeSource::Image(source) => image::found(cx, source, volume.pull)?,
    };
    Ok(Bind {
        subpath: volume.subpath.clone(),
        options: volume.options.clone(),
        propagation: volume.propagation(),
        ..Bind::new(source, volume.container_path.clone(), volume.mode == VolumeMode::RO)
    })
}

/// Mode and owner in numbers: names are the container's.
fn made(cx: &Check<'_>, ownership: &Ownership, isolator: &'static str) -> Result<Made, Refusal> {
    let refusal = |failure| Refusal { isolator, key: Some("volumes.owner"), failure };
    let Some(owner) = &ownership.owner else { return Ok(Made { mode: ownership.mode, owner: None }) };
    let identity = owner.clone().into();
    let account = match cx.found {
        None => users::resolve(&identity),
        Some(found) => {
            let top = found.layers.last().map_or(Path::new(""), PathBuf::as_path);
            let inside = Inside::of_layers(&found.layers);
            let inside = inside.map_err(|error| Failure::prepare("look into the image", top, &error));
            inside.and_then(|inside| inside.account(&identity))
        }
    };
    let account = account.map_err(|failure| {
        let message = format!("the owner of a volume: {}", failure.message);
        refusal(Failure { message, ..failure })
    })?;
    Ok(Made { mode: ownership.mode, owner: Some((account.uid, account.gid)) })
}

/// A refusal that carries the kernel's reason and is about a path.
pub(super) fn refusal(
    isolator: &'static str,
    key: &'static str,
    path: &Path,
    errno: Option<i32>,
    message: String,
) -> Refusal {
    let failure = Failure { stage: Stage::Mounts, errno, path: Some(path.to_owned()), message };
    Refusal { isolator, key: Some(key), failure }
}

/// Makes the private directories of a run, each with owner and mode of what it covers: in the image, or on the host.
/// Where it covers nothing, it is the container's user's.
pub(super) fn make_private(cx: &Container<'_>) -> Result<(), Failure> {
    let binds = cx.plan.binds();
    for bind in binds {
        let Source::Sandbox(relative) = &bind.source else { continue };
        let covers = if bind.within(binds).is_some() { None } else { model(cx, &bind.target)? };
        let (uid, gid) = cx.plan.owner();
        let (mode, uid, gid) = covers.unwrap_or((PRIVATE_MODE, uid, gid));
        let made = Beneath::open(cx.sandbox).and_then(|sandbox| sandbox.make_dir(relative, mode, uid, gid));
        made.map_err(|error| Failure::prepare("make the private directory", &cx.sandbox.join(relative), &error))?;
    }
    Ok(())
}

/// Mode and owner of what is at a path of the container's.
fn model(cx: &Container<'_>, target: &Path) -> Result<Option<(u32, u32, u32)>, Failure> {
    let failed = |error: &io::Error| Failure::prepare("look at", target, error);
    match &cx.plan.image {
        Some(base) => {
            let found = Inside::of_layers(&base.layers).and_then(|inside| inside.look(target));
            Ok(found.map_err(|e| failed(&e))?.map(|stat| (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid)))
        }
        None => {
            let found = fs::metadata(cx.host.path(target)).map_err(|e| failed(&e))?;
            Ok(Some((found.mode() & 0o7777, found.uid(), found.gid())))
        }
    }
}

/// Refuses volumes that lie in others and have no place there: where berth does not make one.
///
/// # Errors
/// Names both.
pub fn check_nesting(plan: &Plan, host: &Host) -> Result<(), Failure> {
    let binds = plan.binds();
    for bind in binds {
        let Some((_, above, rest)) = bind.within(binds) else { continue };
        let fail = |what: &str| {
            let (place, around) = (bind.target.display(), above.target.display());
            let message = format!("the volume at {place} lies in the volume at {around}, {what}");
            Err(Failure { stage: Stage::Mounts, errno: None, path: Some(bind.target.clone()), message })
        };
        if above.propagation == Propagation::Bidirectional {
            return fail("whose mounts the host sees too: it would be mounted there as well; move one of them");
        }
        let layers: Vec<PathBuf> = match &above.source {
            Source::Host(path) | Source::Created { path, .. } => vec![host.path(path)],
            Source::Image { layers, .. } => layers.clone(),
            Source::Tmpfs { .. } if above.read_only => return fail("which is empty and read-only; move one of them"),
            _ => continue,
        };
        let inside = above.subpath.iter().fold(PathBuf::from("/"), |path, part| path.join(part)).join(&rest);
        // What cannot be looked at yet, such as a directory that is made, the launch will tell.
        if let Ok(None) = Inside::of_layers(&layers).and_then(|source| source.look(&inside)) {
            let made = "where nothing is made for it; make";
            return fail(&format!("{made} {} in {}, or move one of them", rest.display(), above.source));
        }
    }
    Ok(())
}

/// A volume in a few words: `/data from /srv/data (read-only)`.
pub(super) fn words(bind: &Bind) -> String {
    let from = match &bind.source {
        Source::Sandbox(_) => "private".to_owned(),
        Source::Populated(_) => format!("from {}", bind.source),
        Source::Tmpfs { .. } => "in memory".to_owned(),
        Source::Image { digest: Some(digest), .. } => format!("from {}, {digest}", bind.source),
        _ => format!("from {}", bind.source),
    };
    let subpath = bind.subpath.iter().map(|path| format!(", {} of it", path.display()));
    let marks = bind.read_only.then_some("read-only").into_iter();
    let marks = marks.chain(bind.options.iter().map(|option| option_word(*option))).chain(match bind.propagation {
        Propagation::Bidirectional => Some("bidirectional"),
        _ => None,
    });
    let marks = marks.collect::<Vec<_>>().join(", ");
    let marks = if marks.is_empty() { String::new() } else { format!(" ({marks})") };
    format!("{} {from}{}{marks}", bind.target.display(), subpath.collect::<String>())
}

/// An option as mount(8) has it.
pub fn option_word(option: MountOption) -> &'static str {
    match option {
        MountOption::Nosuid => "nosuid",
        MountOption::Nodev => "nodev",
        MountOption::Noexec => "noexec",
    }
}

/// The volumes of a plan for which this holds, in a few words.
pub(super) fn status(plan: &Plan, of: impl Fn(&Source) -> bool) -> Option<String> {
    let all: Vec<String> = plan.binds().iter().filter(|bind| of(&bind.source)).map(words).collect();
    (!all.is_empty()).then(|| all.join(", "))
}
