//! Giving handles, taking them back, and finding them again.

use std::{collections::BTreeMap, io, path::PathBuf};

use super::{Backend, failed, own_cgroup2, programs, said};
use crate::{
    host::cgroups,
    isolators::{Container, Shared, Sweep},
    journal::Event,
    plan::{Tag, TagHandle},
    protocol::{Failure, Stage},
    root::Root,
    spec::{Handle, Name},
    state::ledger::{Choice, since_boot},
};

/// Gives a container its handle, the same one however often it is asked; none where the operator sets it.
///
/// # Errors
/// There is none left, another has it, or the ledger cannot be written.
pub fn give(cx: &Container<'_>, wanted: &TagHandle) -> Result<Option<Handle>, Failure> {
    let others = cx.shared.net_cls.hierarchy().map(|hierarchy| hierarchy.others()).unwrap_or_default();
    match wanted {
        TagHandle::Unmanaged => Ok(None),
        TagHandle::Fixed(handle) => fixed(cx, *handle, &others).map(Some),
        TagHandle::Auto { .. } => chosen(cx, wanted, &others).map(Some),
    }
}

/// The handle that the spec asks for.
fn fixed(cx: &Container<'_>, handle: Handle, others: &BTreeMap<Handle, PathBuf>) -> Result<Handle, Failure> {
    if let Some(cgroup) = others.get(&handle) {
        report(cx.shared, handle, cgroup);
        let message = format!(
            "the handle {handle} is in use by the cgroup {}, which is not berth's; remove that, or ask for another \
             handle",
            cgroup.display()
        );
        return Err(Failure { stage: Stage::Prepare, errno: None, path: Some(cgroup.clone()), message });
    }
    let claimed = cx.shared.net_cls.with_ledger(|ledger| {
        let before = ledger.held_by(cx.name).filter(|before| *before != handle.0);
        match ledger.claim(handle.0, cx.name) {
            Ok(()) => before.map_or(Ok(None), |before| ledger.release(before, since_boot()).map(|()| None)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(ledger.holder(handle.0).cloned()),
            Err(error) => Err(error),
        }
    });
    match claimed.map_err(|error| unwritten(cx, &error))? {
        None => Ok(handle),
        Some(holder) => {
            let message = format!(
                "the handle {handle} is held by '{holder}' until its cgroup is gone; stop that, or ask for another \
                 handle"
            );
            Err(Failure { stage: Stage::Prepare, errno: None, path: None, message })
        }
    }
}

/// The lowest handle that is free.
fn chosen(cx: &Container<'_>, wanted: &TagHandle, others: &BTreeMap<Handle, PathBuf>) -> Result<Handle, Failure> {
    let ranges = wanted.ranges();
    let specs = cx.shared.specs();
    for (handle, cgroup) in others.iter().filter(|(handle, _)| ranges.iter().any(|range| range.contains(&handle.0))) {
        report(cx.shared, *handle, cgroup);
    }
    let taken = |number: u32| {
        let handle = Handle(number);
        others.contains_key(&handle) || specs.handles.get(&handle).is_some_and(|owner| owner != cx.name)
    };
    let given = cx.shared.net_cls.with_ledger(|ledger| {
        let choice = Choice {
            ranges: &ranges,
            rest: cx.config.net_cls.reuse_delay,
            now: since_boot(),
            taken: &taken,
            remembered: &|owner| specs.names.contains(owner),
        };
        let before = ledger.held_by(cx.name);
        let given = ledger.allocate(cx.name, &choice)?;
        if let Some(before) = before.filter(|before| Some(*before) != given) {
            ledger.release(before, since_boot())?;
        }
        Ok(given)
    });
    let given = given.map_err(|error| unwritten(cx, &error))?;
    given.map(Handle).ok_or_else(|| exhausted(cx, wanted, others))
}

/// All handles are taken: which, and by whom.
fn exhausted(cx: &Container<'_>, wanted: &TagHandle, others: &BTreeMap<Handle, PathBuf>) -> Failure {
    let (mut holders, mut resting) = (Vec::new(), 0);
    let counted = cx.shared.net_cls.with_ledger(|ledger| {
        for (_, entry) in wanted.ranges().into_iter().flat_map(|range| ledger.entries(range).collect::<Vec<_>>()) {
            if entry.released.is_none() {
                holders.push(entry.owner.to_string());
            } else {
                resting += 1;
            }
        }
        Ok(())
    });
    drop(counted); // the same ledger has just said that there is none
    let specs = cx.shared.specs();
    holders
        .extend(specs.handles.iter().filter(|(handle, _)| wanted.contains(**handle)).map(|(_, name)| name.to_string()));
    holders.extend(
        others.iter().filter(|(handle, _)| wanted.contains(**handle)).map(|(_, path)| path.display().to_string()),
    );
    holders.sort();
    holders.dedup();
    let more = holders.len().saturating_sub(10);
    holders.truncate(10);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let rest = if resting > 0 {
        format!(", {resting} rest for {}", crate::clock::span(cx.config.net_cls.reuse_delay))
    } else {
        String::new()
    };
    let message = format!(
        "no handle is free in {wanted}: held by {}{more}{rest}; stop one of them, or widen net_cls.secondary_handles in \
         berthd.toml",
        holders.join(", ")
    );
    Failure { stage: Stage::Prepare, errno: Some(libc::ENOSPC), path: None, message }
}

/// The handle that a container holds.
pub fn held(shared: &Shared, name: &Name) -> Option<Handle> {
    shared.net_cls.with_ledger(|ledger| Ok(ledger.held_by(name))).ok().flatten().map(Handle)
}

/// Lets go of what a container holds; that it holds nothing is success.
///
/// # Errors
/// The ledger cannot be written.
pub fn release(shared: &Shared, name: &Name) -> Result<(), String> {
    let released = shared.net_cls.with_ledger(|ledger| match ledger.held_by(name) {
        Some(number) => ledger.release(number, since_boot()),
        None => Ok(()),
    });
    released.map_err(|error| format!("cannot write down that its handle is free: {}", crate::error::reason(&error)))
}

/// Finds the handle of a container that an earlier berthd started. What the kernel has is so, whatever the configuration
/// says by now; where another container has the same, this one gets a new one, aloud.
///
/// # Errors
/// The kernel cannot be asked, or the new handle cannot be given.
pub fn recover(cx: &Container<'_>, tag: &Tag) -> Result<(), String> {
    let Some(present) = present(cx, tag)? else { return Ok(()) };
    let holder = cx.shared.net_cls.with_ledger(|ledger| {
        let before = ledger.held_by(cx.name).filter(|before| *before != present.0);
        match ledger.claim(present.0, cx.name) {
            Ok(()) => before.map_or(Ok(None), |before| ledger.release(before, since_boot()).map(|()| None)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(ledger.holder(present.0).cloned()),
            Err(error) => Err(error),
        }
    });
    let holder = holder.map_err(|error| unwritten(cx, &error).message)?;
    let Some(holder) = holder.filter(|_| tag.handle != TagHandle::Unmanaged) else { return Ok(()) };
    let fresh = give(cx, &tag.handle).map_err(|failure| failure.message)?;
    let Some(fresh) = fresh else { return Ok(()) };
    retag(cx, tag, fresh)?;
    Event::HandleConflict.log_for(cx.name, &format!("had the handle {present} of '{holder}'; it has {fresh} now"));
    Ok(())
}

/// The handle that the kernel has for a container.
fn present(cx: &Container<'_>, tag: &Tag) -> Result<Option<Handle>, String> {
    if tag.backends.contains(&Backend::NetCls)
        && let Some(hierarchy) = cx.shared.net_cls.hierarchy()
    {
        return hierarchy.class(cx.name).map_err(|error| said("read the class of", &hierarchy.cgroup(cx.name), &error));
    }
    match own_cgroup2(cx.shared, cx.cgroup).filter(|_| tag.backends.contains(&Backend::Bpf)) {
        Some(cgroup) => programs::tagged(&cgroup).map_err(|error| said("read the programs of", &cgroup, &error)),
        None => Ok(None),
    }
}

/// Gives a running container another handle.
fn retag(cx: &Container<'_>, tag: &Tag, handle: Handle) -> Result<(), String> {
    if tag.backends.contains(&Backend::NetCls)
        && let Some(hierarchy) = cx.shared.net_cls.hierarchy()
    {
        let set = hierarchy.set_class(cx.name, handle);
        set.map_err(|error| said("set the class of", &hierarchy.cgroup(cx.name), &error))?;
    }
    match own_cgroup2(cx.shared, cx.cgroup).filter(|_| tag.backends.contains(&Backend::Bpf)) {
        Some(cgroup) => programs::tag(&cgroup, handle).map_err(|error| said("put programs on", &cgroup, &error)),
        None => Ok(()),
    }
}

/// What no record accounts for: an empty cgroup goes, one with processes keeps its handle, and a handle of nobody who
/// could send under it rests.
///
/// # Errors
/// What could not be taken back.
pub fn sweep(cx: &Sweep<'_>) -> Result<(), String> {
    if !cx.root.handles().is_dir() && cx.shared.net_cls.hierarchy().is_none() {
        return Ok(());
    }
    let mut left = Vec::new();
    let hierarchy = cx.shared.net_cls.hierarchy();
    for name in hierarchy.iter().flat_map(|hierarchy| hierarchy.containers()).filter(|name| !cx.running.contains(name))
    {
        let Some(hierarchy) = &hierarchy else { continue };
        let cgroup = hierarchy.cgroup(&name);
        let class = hierarchy.class(&name).ok().flatten();
        if cgroups::members(&cgroup).is_empty() {
            left.extend(hierarchy.remove(&name).err().map(|error| said("remove", &cgroup, &error)));
        } else if let Some(handle) = class {
            let claimed = cx.shared.net_cls.with_ledger(|ledger| ledger.claim(handle.0, &name));
            left.extend(claimed.err().map(|error| format!("the handle {handle} of '{name}': {error}")));
        }
    }
    let is_alive = |name: &Name| {
        let v1 = hierarchy.as_ref().is_some_and(|hierarchy| hierarchy.cgroup(name).exists());
        v1 || homes(cx.root, name).iter().filter_map(|home| cx.shared.net_cls.cgroup2(home)).any(|home| home.exists())
    };
    let released = cx.shared.net_cls.with_ledger(|ledger| {
        let held = ledger.entries(0..=u32::MAX).filter(|(_, entry)| entry.released.is_none());
        let idle = held.filter(|(_, entry)| !cx.running.contains(&entry.owner) && !is_alive(&entry.owner));
        let idle: Vec<u32> = idle.map(|(number, _)| number).collect();
        idle.into_iter().try_for_each(|number| ledger.release(number, since_boot()))
    });
    left.extend(released.err().map(|error| format!("cannot write down which handles are free: {error}")));
    if left.is_empty() { Ok(()) } else { Err(left.join("; ")) }
}

/// Where a container's cgroup2 cgroup may be, under systemd and without.
fn homes(root: &Root, name: &Name) -> [String; 2] {
    [format!("/berth.slice/{}", name.unit()), format!("/{}/{name}", root.cgroup())]
}

/// Tells of a handle that somebody else uses, once.
fn report(shared: &Shared, handle: Handle, cgroup: &std::path::Path) {
    if shared.net_cls.is_news(handle) {
        let cgroup = cgroup.display();
        Event::HandleConflict.log(&format!(
            "the handle {handle} is in use by the cgroup {cgroup}, which is not berth's; it is not given"
        ));
    }
}

/// The ledger could not be written.
fn unwritten(cx: &Container<'_>, error: &io::Error) -> Failure {
    failed("write down who has which handle, in", Some(cx.host.root.handles()), error)
}
