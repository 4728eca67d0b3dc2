//! The layout of control groups: v1, hybrid or v2, and with which controllers.

use std::fs;

use super::Finding;
use crate::{
    host::{
        Host,
        mounts::{Mount, mounts},
    },
    root::Root,
};

/// The group of these findings.
const GROUP: &str = "Control groups";

/// Controllers that containers' limits use.
const CONTROLLERS: [&str; 4] = ["cpu", "memory", "pids", "io"];

/// Looks at the control groups.
pub fn examine(host: &Host) -> Vec<Finding> {
    let mounts = mounts(&host.root);
    let unified = mounts.iter().find(|mount| mount.kind == "cgroup2");
    let legacy = legacy_controllers(&mounts);
    let shown = legacy.join(" ");
    let layout = match (unified, legacy.is_empty()) {
        (Some(unified), true) => Finding::good(GROUP, "layout", format!("v2 at {}", unified.target.display())),
        // Of v1, only net_cls: that is how berth itself uses it.
        (Some(unified), false) if legacy == ["net_cls"] => {
            Finding::good(GROUP, "layout", format!("v2 at {}, net_cls beside it", unified.target.display()))
        }
        (Some(unified), false) => {
            let detail = format!("hybrid: v2 at {}, v1 has {shown}", unified.target.display());
            Finding::note(
                GROUP,
                "layout",
                detail,
                Some("systemd.unified_cgroup_hierarchy=1 on the kernel's command line"),
            )
        }
        (None, false) => {
            let cure = "systemd.unified_cgroup_hierarchy=1 on the kernel's command line";
            Finding::note(GROUP, "layout", format!("v1: {shown}"), Some(cure))
        }
        (None, true) => {
            let cure = "mount -t cgroup2 cgroup2 /sys/fs/cgroup";
            return vec![Finding::note(GROUP, "layout", "none mounted: no limits, no statistics", Some(cure))];
        }
    };
    let mut all = legacy;
    all.extend(unified.map(|unified| controllers(&host.root, unified)).unwrap_or_default());
    vec![layout, limits(&all)]
}

/// The controllers that are mounted as v1; systemd's own named hierarchy is none.
fn legacy_controllers(mounts: &[Mount]) -> Vec<String> {
    let v1 = mounts.iter().filter(|mount| mount.kind == "cgroup");
    let options = v1.flat_map(|mount| mount.options.split(','));
    options.filter(|o| !matches!(*o, "rw" | "ro" | "xattr" | "none") && !o.contains('=')).map(str::to_owned).collect()
}

/// The controllers that v2 has.
fn controllers(root: &Root, unified: &Mount) -> Vec<String> {
    let text =
        fs::read_to_string(root.at(&unified.target.to_string_lossy()).join("cgroup.controllers")).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

/// Whether limits can be set.
fn limits(all: &[String]) -> Finding {
    let has = |wanted: &str| all.iter().any(|c| c == wanted || wanted == "io" && c == "blkio");
    let lacking: Vec<&str> = CONTROLLERS.into_iter().filter(|wanted| !has(wanted)).collect();
    if lacking.is_empty() {
        Finding::good(GROUP, "controllers", all.join(" "))
    } else {
        let detail = format!("no {}: limits on them are not kept", lacking.join(", "));
        Finding::note(GROUP, "controllers", detail, Some("boot a kernel with them, without cgroup_disable="))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The findings on a host with these mounts.
    fn details(mountinfo: &str) -> Vec<String> {
        let world = tempfile::tempdir().unwrap();
        let root = Root::new(world.path());
        for (path, text) in
            [("/proc/self/mountinfo", mountinfo), ("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n")]
        {
            fs::create_dir_all(root.at(path).parent().unwrap()).unwrap();
            fs::write(root.at(path), text).unwrap();
        }
        examine(&Host::read(&root)).into_iter().map(|finding| finding.detail).collect()
    }

    /// v2, as systemd mounts it.
    const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn layouts() {
        assert_eq!(details(V2), ["v2 at /sys/fs/cgroup", "cpuset cpu io memory pids"]);
        let net_cls = "31 30 0:29 / /run/berth/net_cls rw - cgroup net_cls rw,net_cls\n";
        assert_eq!(details(&format!("{V2}{net_cls}"))[0], "v2 at /sys/fs/cgroup, net_cls beside it");
        let v1 = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
                  40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n";
        assert_eq!(details(v1), ["v1: cpu cpuacct", "no memory, pids, io: limits on them are not kept"]);
        let unified = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        assert_eq!(details(&format!("{v1}{unified}"))[0], "hybrid: v2 at /sys/fs/cgroup/unified, v1 has cpu cpuacct");
        assert_eq!(details("broken\n"), ["none mounted: no limits, no statistics"]);
    }
}
