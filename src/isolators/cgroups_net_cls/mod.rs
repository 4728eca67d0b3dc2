//! `cgroups/net_cls`: a handle of 32 bits that the kernel puts on every packet a container sends.
//!
//! Mesos: `isolators/cgroups/subsystems/net_cls.cpp`. Put right here: it works on hosts of cgroup2 ([`programs`]), zero
//! is refused, a handle rests before another container gets it, a change of the configuration or a double never stops
//! recovery, and the handle cannot be changed from inside.

/// What can tag here.
mod backends;
/// Giving handles.
mod handles;
/// The v1 hierarchy.
mod hierarchy;
/// Interfaces of other network namespaces.
pub mod interface;
/// eBPF.
mod programs;
/// What is kept.
mod state;

use std::{io, path::PathBuf};

pub use backends::{Backend, bpf, net_cls};
pub use state::State;

use super::{Check, Container, Isolator, Recorded, Refusal, Support};
use crate::{
    config::Config,
    host::Host,
    observe::{CgroupInfo, ContainerStatus, NetCls, Usage},
    plan::{Action, Namespace, Phase, Plan, Step, Tag, TagHandle},
    protocol::{Failure, Stage},
    spec::{Capability, Handle, HandleChoice, Spec},
};

/// See the module.
#[derive(Debug)]
pub struct CgroupsNetCls;

/// Its name.
const NAME: &str = "cgroups/net_cls";

/// The key by which a spec asks for it.
const KEY: &str = "network.handle";

impl Isolator for CgroupsNetCls {
    fn name(&self) -> &'static str {
        NAME
    }

    fn probe(&self, host: &Host) -> Support {
        match backends::choose(&crate::config::NetClsConfig::default(), host) {
            Ok(_) => Support::Yes,
            Err(reason) => Support::No(reason),
        }
    }

    fn awaits(&self, config: &Config) -> Option<&'static str> {
        config.net_cls.primary_handle.is_none().then_some("net_cls.primary_handle")
    }

    fn wanted_by(&self, spec: &Spec) -> Option<&'static str> {
        matches!(spec.network.handle, Some(HandleChoice::Auto | HandleChoice::Fixed(_))).then_some(KEY)
    }

    fn check(&self, cx: &Check<'_>, plan: &mut Plan) -> Result<(), Refusal> {
        let config = &cx.config.net_cls;
        let handle = match (cx.spec.network.handle, config.primary_handle) {
            (Some(HandleChoice::None), _) => return Ok(()),
            (Some(HandleChoice::Fixed(handle)), _) => TagHandle::Fixed(handle),
            (Some(HandleChoice::Auto) | None, Some(primary)) => {
                TagHandle::Auto { primary, secondary: config.secondary_handles.clone() }
            }
            (Some(HandleChoice::Auto) | None, None) => TagHandle::Unmanaged,
        };
        let refuse = |reason: String| Refusal::config(NAME, KEY, format!("packets cannot be tagged here: {reason}"));
        let mut backends = backends::choose(config, cx.host).map_err(refuse)?;
        if handle == TagHandle::Unmanaged {
            // There is no number that a program could be made of.
            backends.retain(|backend| *backend == Backend::NetCls);
            if backends.is_empty() {
                let message = "without net_cls.primary_handle in berthd.toml only the backend net_cls has a place for a \
                               handle of the operator's; set a primary_handle, or network.handle";
                return Err(Refusal::config(NAME, KEY, message.to_owned()));
            }
        }
        hold(cx, &backends, plan);
        plan.tag = Some(Tag { handle, backends });
        Ok(())
    }

    fn prepare(&self, cx: &Container<'_>) -> Result<(), Failure> {
        let Some(tag) = &cx.plan.tag else { return Ok(()) };
        let handle = handles::give(cx, &tag.handle)?;
        if tag.backends.contains(&Backend::NetCls) {
            let hierarchy = mounted(cx)?;
            let cgroup = hierarchy.cgroup(cx.name);
            hierarchy.make(cx.name).map_err(|error| failed("make the cgroup", Some(cgroup.clone()), &error))?;
            if let Some(handle) = handle {
                let set = hierarchy.set_class(cx.name, handle);
                set.map_err(|error| failed("set the class of", Some(cgroup.join("net_cls.classid")), &error))?;
            }
        }
        Ok(())
    }

    fn attach(&self, cx: &Container<'_>, pid: u32) -> Result<(), Failure> {
        let Some(tag) = &cx.plan.tag else { return Ok(()) };
        if tag.backends.contains(&Backend::NetCls) {
            let hierarchy = mounted(cx)?;
            let placed = hierarchy.place(cx.name, pid);
            let procs = hierarchy.cgroup(cx.name).join("cgroup.procs");
            placed.map_err(|error| failed("place the program's process by", Some(procs), &error))?;
        }
        if tag.backends.contains(&Backend::Bpf)
            && let Some(handle) = handles::held(cx.shared, cx.name)
        {
            let cgroup = own_cgroup2(cx.shared, cx.cgroup);
            let cgroup = cgroup.ok_or_else(|| {
                let error = io::ErrorKind::NotFound.into();
                failed("find the container's cgroup2 cgroup", None, &error)
            })?;
            let tagged = programs::tag(&cgroup, handle);
            tagged.map_err(|error| failed("put programs on the cgroup", Some(cgroup), &error))?;
        }
        Ok(())
    }

    fn recover(&self, cx: &Container<'_>) -> Result<(), String> {
        cx.plan.tag.as_ref().map_or(Ok(()), |tag| handles::recover(cx, tag))
    }

    fn sweep(&self, cx: &super::Sweep<'_>) -> Result<(), String> {
        handles::sweep(cx)
    }

    fn needs_restart(&self, old: &Spec, new: &Spec) -> Vec<&'static str> {
        if old.network.handle == new.network.handle { Vec::new() } else { vec![KEY] }
    }

    fn status(&self, cx: &Recorded<'_>, out: &mut ContainerStatus) -> Result<Option<String>, String> {
        let Some(tag) = &cx.run.plan.tag else { return Ok(None) };
        let found = in_force(cx, tag)?;
        let Some((_, handle)) = found.first().copied() else {
            let unset = tag.handle == TagHandle::Unmanaged;
            return Ok(unset.then(|| "no handle is set; the operator sets it (net_cls.classid)".to_owned()));
        };
        let backends: Vec<String> = found.iter().map(|(backend, _)| backend.as_str().to_owned()).collect();
        let detail = format!("{handle} by {}", backends.join(" and "));
        out.cgroup_info = Some(CgroupInfo { net_cls: Some(NetCls::of(handle, backends)) });
        match found.iter().find(|(_, other)| *other != handle) {
            Some((backend, other)) => Err(format!("{detail}, but {} has {other}", backend.as_str())),
            None => Ok(Some(detail)),
        }
    }

    fn measures(&self, plan: &Plan) -> bool {
        plan.tag.as_ref().is_some_and(|tag| tag.backends.contains(&Backend::Bpf))
    }

    fn usage(&self, cx: &Recorded<'_>, out: &mut Usage) -> Result<(), String> {
        if !self.measures(&cx.run.plan) {
            return Ok(());
        }
        let Some(cgroup) = own_cgroup2(cx.shared, cx.run.cgroup.as_deref()) else { return Ok(()) };
        let found = programs::traffic(&cgroup);
        if let Some(traffic) = found.map_err(|error| said("read the counters of", &cgroup, &error))? {
            out.net_tx_bytes = Some(traffic.tx_bytes);
            out.net_tx_packets = Some(traffic.tx_packets);
            out.net_rx_bytes = Some(traffic.rx_bytes);
            out.net_rx_packets = Some(traffic.rx_packets);
        }
        Ok(())
    }

    fn cleanup(&self, cx: &Recorded<'_>) -> Result<(), String> {
        let Some(tag) = &cx.run.plan.tag else { return Ok(()) };
        if tag.backends.contains(&Backend::NetCls)
            && let Some(hierarchy) = cx.shared.net_cls.hierarchy()
        {
            hierarchy.remove(cx.name).map_err(|error| said("remove", &hierarchy.cgroup(cx.name), &error))?;
        }
        // Only now: nobody is left who could send under it. The programs went with the unit's cgroup.
        handles::release(cx.shared, cx.name)
    }
}

/// Keeps the program from changing its handle: from writing in control groups, from mounting them anew, and, where the
/// handle is a mark, from setting marks. Who names a capability in the spec keeps it, and is warned.
fn hold(cx: &Check<'_>, backends: &[Backend], plan: &mut Plan) {
    let step = |phase, action| Step { isolator: NAME.to_owned(), phase, action };
    plan.namespaces.insert(Namespace::Mount);
    plan.steps.push(step(Phase::Mounts, Action::GuardCgroups));
    let insists = cx.spec.capabilities.named().contains(Capability::SYS_ADMIN);
    plan.forbid_capability(NAME, Capability::SYS_ADMIN, "it could mount control groups anew and leave its own");
    // The class is a file of root's in whatever mount of the hierarchy, also in one that root of a user namespace makes;
    // and who is not root may execute what makes it so, or be entered by it.
    if backends.contains(&Backend::NetCls) && !insists {
        plan.steps.push(step(Phase::Limits, Action::DenyUserNamespaces));
    }
    if backends.contains(&Backend::Bpf) {
        plan.forbid_capability(NAME, Capability::NET_ADMIN, "it could give its packets another mark");
        plan.forbid_capability(NAME, Capability::NET_RAW, "it could give its packets another mark");
    }
}

/// Loads a program and lets it go: whether this process, on this kernel, could.
///
/// # Errors
/// bpf(2).
pub fn try_program() -> io::Result<()> {
    programs::classifier(Handle(1)).map(drop)
}

/// The handle that each backend has in force, read from the kernel.
fn in_force(cx: &Recorded<'_>, tag: &Tag) -> Result<Vec<(Backend, Handle)>, String> {
    let mut found = Vec::new();
    for backend in &tag.backends {
        let handle = match backend {
            Backend::NetCls => match cx.shared.net_cls.hierarchy() {
                Some(hierarchy) => {
                    let class = hierarchy.class(cx.name);
                    class.map_err(|error| said("read the class of", &hierarchy.cgroup(cx.name), &error))?
                }
                None => None,
            },
            Backend::Bpf => match own_cgroup2(cx.shared, cx.run.cgroup.as_deref()) {
                Some(cgroup) => {
                    programs::tagged(&cgroup).map_err(|error| said("read the programs of", &cgroup, &error))?
                }
                None => None,
            },
        };
        found.extend(handle.map(|handle| (*backend, handle)));
    }
    Ok(found)
}

/// The directory of the cgroup2 cgroup that a run was started in.
fn own_cgroup2(shared: &super::Shared, cgroup: Option<&str>) -> Option<PathBuf> {
    shared.net_cls.cgroup2(cgroup?)
}

/// The v1 hierarchy, mounted by now.
fn mounted(cx: &Container<'_>) -> Result<hierarchy::Hierarchy, Failure> {
    let place = cx.host.root.net_cls();
    cx.shared.net_cls.mounted_hierarchy().map_err(|error| failed("mount net_cls at", Some(place), &error))
}

/// A failure of the host's side.
fn failed(act: &str, path: Option<PathBuf>, error: &io::Error) -> Failure {
    let on = path.as_ref().map_or_else(String::new, |path| format!(" {}", path.display()));
    let cure = match error.raw_os_error() {
        Some(libc::EPERM) => "; berthd lacks a privilege here, or a security policy forbids it",
        Some(libc::EINVAL | libc::EBUSY) => "; another hierarchy may hold the controller: see /proc/cgroups",
        _ => "",
    };
    let message = format!("cannot {act}{on}: {}{cure}", crate::error::reason(error));
    Failure { stage: Stage::Prepare, errno: error.raw_os_error(), path, message }
}

/// The same for people alone.
fn said(act: &str, path: &std::path::Path, error: &io::Error) -> String {
    format!("cannot {act} {}: {}", path.display(), crate::error::reason(error))
}
