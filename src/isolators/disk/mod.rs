//! What containers take of the disk: the part that all isolators of `disk/*` share.
//!
//! Mesos: `isolators/posix/disk.cpp` and `isolators/xfs/disk.cpp`, which report in two shapes; here is one. Tracked are
//! the sandbox, with what a run has changed of its image beside it, and each volume of the sandbox that has a limit of
//! its own. The first isolator of the order that takes a plan ([`take`]) counts for it.

/// `disk/du`.
pub(super) mod du;
/// Giving directories to projects.
mod label;
/// Project IDs.
mod pool;
/// `disk/xfs` and `disk/ext4`.
mod project;
/// What was found out.
mod state;
/// How much a tree takes.
pub mod walk;

pub use pool::Pool;
pub use project::{EXT4, ProjectQuota, XFS};
pub use state::{State, Taken, Used};

use super::{Check, ORDER, Wanted};
use crate::{
    config::Config,
    observe::{DiskInfo, DiskStatistics, LimitReason, Limitation, LimitedResource, Persistence, Scalar, Usage},
    plan::{DiskPlan, Plan, Tracked, TrackedVolume},
    spec::{Bytes, Enforce, Spec},
};

/// What Mesos counts a disk in.
const MEGABYTE: f64 = 1_048_576.0;

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

/// What an isolator counts for a plan, if it does.
#[must_use]
pub fn taken_by<'a>(isolator: &str, plan: &'a Plan) -> Option<&'a DiskPlan> {
    plan.disk.as_ref().filter(|disk| disk.isolator == isolator)
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
    let known = known.join(" or ");
    Err(format!(
        "{key} needs an isolator that counts, and none is enabled here; add {known} to isolation in berthd.toml, or \
         remove {key}"
    ))
}

/// Tells what is limited, and what of it is in use as far as that is known.
pub fn report(disk: &DiskPlan, taken: Option<&Taken>, out: &mut Usage) {
    for tracked in &disk.tracked {
        let used = taken.and_then(|taken| taken.of(tracked));
        let statistics = DiskStatistics {
            persistence: tracked.volume.as_ref().map(persistence),
            limit_bytes: tracked.limit.map(|limit| limit.0),
            used_bytes: used.map(|used| used.bytes),
            limit_inodes: tracked.inodes,
            used_inodes: used.map(|used| used.inodes),
        };
        if tracked.volume.is_none() {
            (out.disk_limit_bytes, out.disk_used_bytes) = (statistics.limit_bytes, statistics.used_bytes);
        }
        out.disk_statistics.push(statistics);
    }
}

/// The first limit that is passed.
#[must_use]
pub fn exceeded(disk: &DiskPlan, taken: &Taken) -> Option<Limitation> {
    disk.tracked.iter().find_map(|tracked| {
        let used = taken.of(tracked)?;
        let of = tracked
            .volume
            .as_ref()
            .map_or_else(String::new, |volume| format!(" of the volume {}", volume.container_path.display()));
        let (name, value, message) = match (tracked.limit, tracked.inodes) {
            (Some(Bytes(limit)), _) if used.bytes > limit => {
                let message = format!("Disk usage ({}) exceeds quota ({}){of}", Bytes(used.bytes), Bytes(limit));
                ("disk", float(limit) / MEGABYTE, message)
            }
            (_, Some(limit)) if used.inodes > limit => {
                let message = format!("Disk usage ({} inodes) exceeds quota ({limit} inodes){of}", used.inodes);
                ("inodes", float(limit), message)
            }
            _ => return None,
        };
        let resource = LimitedResource {
            name: name.to_owned(),
            kind: "SCALAR".to_owned(),
            scalar: Scalar { value },
            disk: tracked.volume.as_ref().map(|volume| DiskInfo { persistence: persistence(volume) }),
        };
        Some(Limitation { reason: LimitReason::Disk, message, limited_resources: vec![resource] })
    })
}

/// What is limited, in a few words: `limit 2GiB, kill; volume /data 1GiB`.
#[must_use]
pub fn describe(disk: &DiskPlan) -> String {
    let limits = |tracked: &Tracked| {
        let inodes = tracked.inodes.map(|inodes| format!("{inodes} inodes"));
        tracked.limit.map(|limit| limit.to_string()).into_iter().chain(inodes).collect::<Vec<_>>().join(", ")
    };
    if !disk.is_limited() {
        return "no limit".to_owned();
    }
    let parts = disk.tracked.iter().filter(|tracked| tracked.limit.is_some() || tracked.inodes.is_some());
    let parts = parts.map(|tracked| match &tracked.volume {
        None => limits(tracked),
        Some(volume) => format!("volume {} {}", volume.container_path.display(), limits(tracked)),
    });
    format!("limit {} ({})", parts.collect::<Vec<_>>().join("; "), disk.enforce.as_str())
}

/// A volume in Mesos's words.
fn persistence(volume: &TrackedVolume) -> Persistence {
    Persistence { id: volume.path.to_string_lossy().into_owned(), container_path: volume.container_path.clone() }
}

/// A number as JSON has it.
#[allow(clippy::cast_precision_loss, reason = "as exact as the JSON that it is for")]
fn float(number: u64) -> f64 {
    number as f64
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

    #[test]
    fn the_message_is_mesoss_and_a_limit_is_not_passed_by_reaching_it() {
        let data = TrackedVolume { container_path: "/srv".into(), path: "data".into() };
        let sandbox = Tracked { volume: None, limit: Some(Bytes(2 << 20)), inodes: Some(10) };
        let volume = Tracked { volume: Some(data), limit: Some(Bytes(3 << 19)), inodes: None };
        let disk = DiskPlan {
            isolator: String::new(),
            enforce: Enforce::Kill,
            tracked: vec![sandbox.clone(), volume.clone()],
        };
        let taken = |bytes, inodes, of_volume: Option<u64>| {
            let mut taken = Taken::default();
            taken.used.insert(None, Used { bytes, inodes });
            taken.used.extend(of_volume.map(|bytes| (Some("data".into()), Used { bytes, inodes: 1 })));
            taken
        };
        assert_eq!(exceeded(&disk, &taken(2 << 20, 10, Some(3 << 19))), None);
        assert_eq!(exceeded(&disk, &taken(2 << 20, 10, None)), None, "unknown is not passed");
        assert_eq!(exceeded(&disk, &Taken::default()), None);
        let of = |taken| exceeded(&disk, &taken).unwrap();
        let first = of(taken(3 << 20, 10, None));
        assert_eq!(first.message, "Disk usage (3MiB) exceeds quota (2MiB)");
        let json = serde_json::to_value(&first).unwrap();
        let resource = serde_json::json!({"name": "disk", "type": "SCALAR", "scalar": {"value": 2.0}});
        assert_eq!(json["reason"], "disk");
        assert_eq!(json["limited_resources"], serde_json::json!([resource]));
        assert_eq!(of(taken(0, 11, None)).message, "Disk usage (11 inodes) exceeds quota (10 inodes)");
        let second = of(taken(0, 1, Some(2 << 20)));
        assert_eq!(second.message, "Disk usage (2MiB) exceeds quota (1536KiB) of the volume /srv");
        assert_eq!(second.limited_resources[0].disk.as_ref().unwrap().persistence.id, "data");
        assert_eq!(describe(&disk), "limit 2MiB, 10 inodes; volume /srv 1536KiB (kill)");

        let mut usage = Usage::default();
        report(&disk, Some(&taken(5, 1, None)), &mut usage);
        assert_eq!((usage.disk_limit_bytes, usage.disk_used_bytes), (Some(2 << 20), Some(5)));
        assert_eq!(usage.disk_statistics[1].used_bytes, None, "absent is unknown");
    }
}
