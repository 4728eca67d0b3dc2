//! `volume/image`: what is in an image, read-only, with a root of the container's own and without.
//!
//! Mesos: `isolators/volume/image.cpp`. Here too it is never written to: layers are shared by all containers.

use super::{bind_of, status};
use crate::{
    host::Host,
    image,
    isolators::{Check, Isolator, Recorded, Refusal, Support, filesystem_linux},
    observe::ContainerStatus,
    plan::{Plan, Source},
    spec::{Pull, Spec, Volume, VolumeSource},
};

/// See the module.
#[derive(Debug)]
pub struct VolumeImage;

/// Its name.
const NAME: &str = "volume/image";

impl Isolator for VolumeImage {
    fn name(&self) -> &'static str {
        NAME
    }

    fn probe(&self, host: &Host) -> Support {
        match host.has_namespace("mnt") {
            true => Support::Yes,
            false => Support::No("the kernel has no mount namespaces; it needs CONFIG_NAMESPACES".to_owned()),
        }
    }

    fn wanted_by(&self, spec: &Spec) -> Option<&'static str> {
        spec.volumes.iter().any(is_ours).then_some("volumes")
    }

    fn check(&self, cx: &Check<'_>, plan: &mut Plan) -> Result<(), Refusal> {
        for volume in cx.spec.volumes.iter().filter(|volume| is_ours(volume)) {
            plan.show(bind_of(cx, volume)?);
        }
        Ok(())
    }

    fn status(&self, cx: &Recorded<'_>, _out: &mut ContainerStatus) -> Result<Option<String>, String> {
        Ok(status(&cx.run.plan, |source| matches!(source, Source::Image { .. })))
    }
}

/// Whether a volume shows an image.
fn is_ours(volume: &Volume) -> bool {
    matches!(volume.source, VolumeSource::Image(_))
}

/// The image of a volume, found.
pub(super) fn found(cx: &Check<'_>, source: &image::Source, pull: Pull) -> Result<Source, Refusal> {
    let found = filesystem_linux::find_source(cx.host, source, pull);
    let found = found.map_err(|failure| Refusal { isolator: NAME, key: Some("volumes.source"), failure })?;
    Ok(Source::Image { source: source.clone(), digest: found.digest, layers: found.layers })
}
