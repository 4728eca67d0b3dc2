//! `namespaces/ipc`: System V objects, POSIX queues and `/dev/shm` of the container's own.
//!
//! Mesos: `isolators/namespaces/ipc.cpp`. Put right here: sizes are 64 bit, zero is refused, the tmpfs lives in
//! the container's mount namespace and goes with it.

use super::{Check, Isolator, Recorded, Refusal, Support, namespace_status};
use crate::{
    host::Host,
    observe::ContainerStatus,
    plan::{Action, Namespace, Phase, Plan, Step},
    protocol::{Failure, Stage},
    spec::{Share, Spec},
};

/// See the module.
#[derive(Debug)]
pub struct NamespacesIpc;

/// Its name.
const NAME: &str = "namespaces/ipc";

impl Isolator for NamespacesIpc {
    fn name(&self) -> &'static str {
        NAME
    }

    fn probe(&self, host: &Host) -> Support {
        if host.has_namespace("ipc") {
            Support::Yes
        } else {
            Support::No("the kernel has no ipc namespaces; it needs CONFIG_IPC_NS".to_owned())
        }
    }

    fn wanted_by(&self, spec: &Spec) -> Option<&'static str> {
        if spec.namespaces.ipc == Some(Share::Private) {
            return Some("namespaces.ipc");
        }
        spec.namespaces.shm_size.map(|_| "namespaces.shm_size")
    }

    fn check(&self, cx: &Check<'_>, plan: &mut Plan) -> Result<(), Refusal> {
        if cx.spec.namespaces.ipc == Some(Share::Host) {
            return if cx.config.namespaces.allow_host_ipc {
                Ok(())
            } else {
                let message = "sharing the host's ipc namespace is not allowed here (allow_host_ipc = false under \
                               [namespaces] in berthd.toml)";
                Err(Refusal::config(NAME, "namespaces.ipc", message.to_owned()))
            };
        }
        check_shm(cx.host)?;
        plan.namespaces.extend([Namespace::Ipc, Namespace::Mount]);
        let step = |action| Step { isolator: NAME.to_owned(), phase: Phase::Mounts, action };
        plan.steps.push(step(Action::MountShm { size: cx.spec.namespaces.shm_size.or(cx.config.namespaces.shm_size) }));
        if cx.host.root.at("/dev/mqueue").is_dir() {
            plan.steps.push(step(Action::MountMqueue));
        }
        Ok(())
    }

    fn needs_restart(&self, old: &Spec, new: &Spec) -> Vec<&'static str> {
        let (old, new) = (&old.namespaces, &new.namespaces);
        let mut keys = Vec::new();
        if old.ipc != new.ipc {
            keys.push("namespaces.ipc");
        }
        if old.shm_size != new.shm_size {
            keys.push("namespaces.shm_size");
        }
        keys
    }

    fn status(&self, cx: &Recorded<'_>, _out: &mut ContainerStatus) -> Result<Option<String>, String> {
        namespace_status(cx, "ipc")
    }
}

/// The container's `/dev/shm` needs a directory to stand on.
fn check_shm(host: &Host) -> Result<(), Refusal> {
    let path = std::path::PathBuf::from("/dev/shm");
    if host.path(&path).is_dir() {
        return Ok(());
    }
    Err(Refusal {
        isolator: NAME,
        key: Some("namespaces.ipc"),
        failure: Failure {
            stage: Stage::Mounts,
            errno: None,
            message: "the host has no directory /dev/shm to put the container's own in its place; make it, or set \
                      ipc = \"host\" under [namespaces]"
                .to_owned(),
            path: Some(path),
        },
    })
}
