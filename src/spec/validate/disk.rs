//! Rules for `[disk]` and for limits of volumes.

use super::report::Report;
use crate::{
    source::Complaint,
    spec::{Bytes, Disk, Enforce, Volume, fragment::DiskFragment},
};

/// What the container may take of the disk.
pub fn disk(fragment: DiskFragment, volumes: &[Volume], report: &mut Report<'_>) -> Disk {
    let DiskFragment { limit, inodes, enforce } = fragment;
    if let Some(complaint) = limit.and_then(refused) {
        report.error("disk.limit", complaint);
    }
    if inodes == Some(0) {
        report.error(
            "disk.inodes",
            Complaint::new("its own directory is one already").help("write a number, or nothing"),
        );
    }
    let is_limited = limit.is_some() || inodes.is_some() || volumes.iter().any(|volume| volume.limit.is_some());
    if !is_limited && matches!(enforce, Some(Enforce::Hard | Enforce::Kill)) && report.is_of_spec("disk.enforce") {
        let complaint = Complaint::new("there is no limit that could be enforced");
        report.warning("disk.enforce", complaint.help("write disk.limit, disk.inodes, or a volume's limit"));
    }
    Disk { limit, inodes, enforce }
}

/// Why a limit is none.
pub fn refused(limit: Bytes) -> Option<Complaint> {
    let complaint = || Complaint::new("nothing could be written at all").help("write a size, or nothing");
    (limit.0 == 0).then(complaint)
}
