//! The file systems that berth writes to.

use std::path::Path;

use rustix::fs::{StatVfsMountFlags, statvfs};

use super::Finding;
use crate::{
    cli::phrase,
    host::{Host, mounts::mounts},
};

/// The group of these findings.
const GROUP: &str = "File systems";

/// A place, and how much must be free there: for records and state, or for a small sandbox.
const PLACES: [(&str, u64); 2] = [("/var/lib/berth", 64 << 20), ("/run", 1 << 20)];

/// Looks at every place.
pub fn examine(host: &Host) -> Vec<Finding> {
    PLACES.into_iter().map(|(place, least)| finding(host, place, least)).collect()
}

/// One place; what is not there yet is where its nearest ancestor is.
fn finding(host: &Host, place: &str, least: u64) -> Finding {
    let there = Path::new(place).ancestors().find(|path| host.path(path).exists()).unwrap_or(Path::new("/"));
    let stat = match statvfs(host.path(there)) {
        Ok(stat) => stat,
        Err(errno) => return Finding::note(GROUP, place, format!("cannot tell: {errno}"), None),
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let detail = format!("{}, {} free", kind(host, there), phrase::bytes(free));
    if stat.f_flag.contains(StatVfsMountFlags::RDONLY) {
        Finding::missing(GROUP, place, format!("{detail}, read-only"), "mount a writable file system there")
    } else if free < least {
        Finding::missing(GROUP, place, detail, &format!("free at least {} there", phrase::bytes(least)))
    } else {
        Finding::good(GROUP, place, detail)
    }
}

/// The type of the file system that holds a path: that of the longest mount point above it, the last one there.
fn kind(host: &Host, path: &Path) -> String {
    let above = mounts(&host.root).into_iter().filter(|mount| path.starts_with(&mount.target));
    above
        .max_by_key(|mount| mount.target.as_os_str().len())
        .map_or_else(|| "unknown type".to_owned(), |mount| mount.kind)
}
