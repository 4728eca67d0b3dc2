//! What containers take of the disk: the part that all isolators of `disk/*` share.
//!
//! Mesos: `isolators/posix/disk.cpp` and `isolators/xfs/disk.cpp`, which report in two shapes; here is one. Tracked are
//! the sandbox, with what a run has changed of its image beside it, and each volume of the sandbox that has a limit of
//! its own. The first isolator of the order that takes a plan ([`take`]) counts for it.

use super::{Check, ORDER, Wanted};
use crate::{
    config::Config,
    plan::{DiskPlan, Plan, Tracked, TrackedVolume},
    spec::{Enforce, Spec},
};

/// What a spec wants to be counted, and up to where: the sandbox first, then volumes with a limit of their own.
#[must_use]
pub fn tracked(spec: &Spec) -> Vec<Tracked> {
    let sandbox = Tracked { volume: None, limit: spec.disk.limit, inodes: spec.disk.inodes };
    let volumes = spec.volumes.iter().filter(|volume| volume.limit.is_some()).filter_map(|volume| {
        let (container_path, path) = (volume.container_path.clone(), volume.in_sandbox()?.clone());
        Some(Tracked { volume: Some(TrackedVolume { container_path, path }), limit: volume.limit, inodes: None })
    });
    std::iter::once(sandbox).chain(volumes).collect()
}

/// What happens at a limit: what the spec says; else nothing, unless the configuration enforces quotas, by the `best`
/// that an isolator has.
#[must_use]
pub fn enforcement(spec: &Spec, config: &Config, best: Enforce) -> Enforce {
    let unsaid = if config.disk.enforce_quota { best } else { Enforce::Account };
    spec.disk.enforce.unwrap_or(unsaid)
}

/// What an isolator does for a spec whose best way of enforcing is `best`.
#[must_use]
pub fn wanted(isolator: &str, wanted: &Wanted<'_>, best: Enforce) -> DiskPlan {
    let enforce = enforcement(wanted.spec, wanted.config, best);
    DiskPlan { isolator: isolator.to_owned(), enforce, tracked: tracked(wanted.spec) }
}

/// Has an isolator count for a start, unless one before it does. True if it does.
pub fn take(isolator: &str, cx: &Check<'_>, best: Enforce, plan: &mut Plan) -> bool {
    if plan.disk.is_some() {
        return false;
    }
    plan.disk = Some(wanted(isolator, &Wanted { spec: cx.spec, config: cx.config }, best));
    if cx.spec.image.as_ref().is_some_and(|image| image.writable) {
        plan.warnings.push("what it writes to its root, which is writable, counts to no limit of the disk".to_owned());
    }
    true
}

/// Whether an isolator counts for a plan.
#[must_use]
pub fn takes(isolator: &str, plan: &Plan) -> bool {
    plan.disk.as_ref().is_some_and(|disk| disk.isolator == isolator)
}

/// That limits which a spec asks for are somebody's to keep.
///
/// # Errors
/// Nobody is enabled who could.
pub fn check_served(spec: &Spec, plan: &Plan) -> Result<(), String> {
    let volume = spec.volumes.iter().any(|volume| volume.limit.is_some());
    let key = match () {
        () if plan.disk.is_some() => return Ok(()),
        () if spec.disk.limit.is_some() => "disk.limit",
        () if spec.disk.inodes.is_some() => "disk.inodes",
        () if volume => "volumes.limit",
        () => return Ok(()),
    };
    let known: Vec<String> = ORDER
        .iter()
        .map(|one| one.name())
        .filter(|name| name.starts_with("disk/"))
        .map(|name| format!("\"{name}\""))
        .collect();
    let cure = if known.is_empty() {
        String::new()
    } else {
        format!("add {} to isolation in berthd.toml, or ", known.join(" or "))
    };
    Err(format!("{key} needs an isolator that counts, and none is enabled here; {cure}remove {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Bytes, Defaults, Outcome, load_files};

    /// A spec from its text.
    fn spec(text: &str) -> Spec {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.toml");
        std::fs::write(&path, format!("command = 'a'\n{text}")).unwrap();
        match load_files(&[path], &Defaults::default()).0.remove(0).outcome {
            Outcome::Good(spec) => *spec,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_volume_without_a_limit_counts_to_the_sandbox() {
        let volume =
            |path: &str, more: &str| format!("[[volumes]]\ncontainer_path = '/{path}'\nhost_path = '{path}'\n{more}");
        let text = [volume("tmp", ""), volume("data", "limit = '1M'\n"), "[disk]\nlimit = '2M'".to_owned()].concat();
        let tracked = tracked(&spec(&text));
        assert_eq!(
            tracked.iter().map(|tracked| tracked.limit).collect::<Vec<_>>(),
            [Some(Bytes(2 << 20)), Some(Bytes(1 << 20))]
        );
        assert_eq!(tracked[0].volume, None);
        assert_eq!(tracked[1].volume.as_ref().unwrap().path.to_str(), Some("data"));
    }

    #[test]
    fn a_spec_stands_before_the_configuration() {
        let enforcing = Config {
            disk: crate::config::DiskConfig { enforce_quota: true, ..Default::default() },
            ..Config::default()
        };
        for (text, config, expected) in [
            ("disk.limit = '1M'", Config::default(), Enforce::Account),
            ("disk.limit = '1M'", enforcing.clone(), Enforce::Hard),
            ("disk.enforce = 'account'", enforcing, Enforce::Account),
            ("disk = { limit = '1M', enforce = 'kill' }", Config::default(), Enforce::Kill),
        ] {
            assert_eq!(enforcement(&spec(text), &config, Enforce::Hard), expected, "{text}");
        }
    }
}
