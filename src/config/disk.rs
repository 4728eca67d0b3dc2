//! `[disk]` and `[xfs]`.

use std::{ops::RangeInclusive, time::Duration};

use serde::{Serialize, Serializer};

use super::{
    fragment::{DiskFragment, XfsFragment},
    span,
};
use crate::{
    source::{Complaint, Diagnostic, Part, Stack, dotted},
    spec::Bytes,
};

/// The least project ID that berth does not give: the kernel takes 32 bits, of which systemd hashes its own into the
/// upper half (PROJ_ID_MIN of its exec-invoke.c).
const PROJECTS_END: u32 = 1 << 31;

/// The shortest pause between two looks at a container.
const LEAST_INTERVAL: Duration = Duration::from_secs(1);

/// How the disk is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DiskConfig {
    /// Whether limits are enforced of specs that do not say how; in the best way that the isolator has.
    pub enforce_quota: bool,
    /// How often a container is looked at, where somebody must look.
    #[serde(serialize_with = "span")]
    pub watch_interval: Duration,
}

/// Project quotas, of XFS and of others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct XfsConfig {
    /// What project IDs are chosen from: ascending, 1 to 2^31 - 1.
    #[serde(serialize_with = "ranges")]
    pub project_range: Vec<RangeInclusive<u32>>,
    /// How far above a limit the kernel stops the writer, where passing the limit ends the container. Above 0.
    #[serde(serialize_with = "size")]
    pub quota_headroom: Bytes,
}

impl Default for DiskConfig {
    fn default() -> Self {
        Self { enforce_quota: false, watch_interval: Duration::from_secs(15) }
    }
}

impl Default for XfsConfig {
    fn default() -> Self {
        Self { project_range: vec![5000..=10_000], quota_headroom: Bytes(10 << 20) }
    }
}

/// `[disk]`.
pub fn disk(fragment: DiskFragment, stack: &Stack, errors: &mut Vec<Diagnostic>) -> DiskConfig {
    let default = DiskConfig::default();
    let watch_interval = fragment.watch_interval.map_or(default.watch_interval, |span| span.0);
    let complaint = if watch_interval < LEAST_INTERVAL {
        Some(Complaint::new("this is too often").help("write at least \"1s\""))
    } else if watch_interval == Duration::MAX {
        Some(Complaint::new("nobody would look").help("write a span, or leave disk/du out of isolation"))
    } else {
        None
    };
    tell("disk.watch_interval", complaint, stack, errors);
    DiskConfig { enforce_quota: fragment.enforce_quota.unwrap_or(default.enforce_quota), watch_interval }
}

/// `[xfs]`.
pub fn xfs(fragment: XfsFragment, stack: &Stack, errors: &mut Vec<Diagnostic>) -> XfsConfig {
    let default = XfsConfig::default();
    let project_range = fragment.project_range.map_or(default.project_range, |ranges| ranges.0);
    let is_ours = |range: &RangeInclusive<u32>| *range.start() > 0 && *range.end() < PROJECTS_END;
    let complaint = (!project_range.iter().all(is_ours)).then(|| {
        let complaint = Complaint::new("project IDs go from 1 to 2147483647: 0 has no limits, and above are systemd's");
        complaint.help("write such as \"5000-10000\"")
    });
    tell("xfs.project_range", complaint, stack, errors);
    let quota_headroom = fragment.quota_headroom.unwrap_or(default.quota_headroom);
    let complaint = (quota_headroom.0 == 0).then(|| {
        let complaint = Complaint::new("without headroom no limit is ever passed, and nothing is ended");
        complaint.help("write a size; for an error in place of an end, disk.enforce = \"hard\"")
    });
    tell("xfs.quota_headroom", complaint, stack, errors);
    XfsConfig { project_range, quota_headroom }
}

/// Puts a complaint in its place.
fn tell(path: &str, complaint: Option<Complaint>, stack: &Stack, errors: &mut Vec<Diagnostic>) {
    let Some(complaint) = complaint else { return };
    let found = stack.error(&dotted(path), Part::Value, &complaint.message, 0);
    errors.extend(found.map(|found| found.with_help(complaint.help)));
}

/// Ranges as they are written in TOML.
fn ranges<S: Serializer>(ranges: &[RangeInclusive<u32>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(ranges.iter().map(|range| format!("{}-{}", range.start(), range.end())))
}

/// A size as it is written in TOML.
fn size<S: Serializer>(size: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(size)
}
