//! What can tag the packets of containers here, who sees the tag, and the probe that tells.

use super::Finding;
use crate::{
    config::NetClsConfig,
    host::{Host, mounts::mounts, network::has_module},
    isolators::cgroups_net_cls::{bpf, net_cls, try_program},
};

/// The group of these findings.
const GROUP: &str = "Traffic classes";

/// The tools that act on a handle.
const TOOLS: [&str; 3] = ["nft", "iptables", "tc"];

/// Looks at everything between a socket and the wire.
pub fn examine(host: &Host) -> Vec<Finding> {
    let mut findings = vec![layout(host), controller(host), programs(host), classifier(host)];
    findings.extend(tools(host));
    findings
}

/// The row of the matrix of docs/traffic.md that holds here.
fn layout(host: &Host) -> Finding {
    let mounts = mounts(&host.root);
    let v2 = mounts.iter().find(|mount| mount.kind == "cgroup2");
    let v1 = mounts.iter().any(|mount| mount.kind == "cgroup" && !mount.has_controller("net_cls"));
    let can = net_cls(&NetClsConfig::default(), host).is_ok();
    let seen = match (can, v2.is_some()) {
        (true, true) => "a handle can be the class and, by bpf, the mark and priority of what a container sends",
        (true, false) => "a handle is the class of what a container sends",
        (false, true) => "a handle is the mark and priority of what a container sends, by bpf",
        (false, false) => return Finding::note(GROUP, "row", "none: nothing here can tag packets", None),
    };
    let row = match (v1, v2.is_some(), can) {
        (true, false, _) => "a, v1",
        (true, true, _) => "b, hybrid",
        (false, _, true) => "c, v2 with net_cls",
        (false, _, false) => "d, v2 alone",
    };
    Finding::good(GROUP, "row", format!("{row}: {seen}; by mountinfo and /proc/cgroups"))
}

/// The v1 controller.
fn controller(host: &Host) -> Finding {
    let mounted = mounts(&host.root).into_iter().find(|mount| mount.has_controller("net_cls"));
    match (net_cls(&NetClsConfig::default(), host), mounted) {
        (Ok(()), Some(mount)) => {
            Finding::good(GROUP, "net_cls", format!("at {}; by mountinfo", mount.target.display()))
        }
        (Ok(()), None) => {
            let place = host.root.net_cls();
            Finding::good(GROUP, "net_cls", format!("would be mounted at {}; by /proc/cgroups", place.display()))
        }
        (Err(reason), _) => Finding::note(GROUP, "net_cls", reason, None),
    }
}

/// eBPF on cgroups: tried, where we may.
fn programs(host: &Host) -> Finding {
    match bpf(host) {
        Err(reason) => Finding::note(GROUP, "bpf", reason, None),
        Ok(()) if !host.privileged => {
            Finding::note(GROUP, "bpf", "not tried: only root may", Some("run 'berthctl doctor' as root"))
        }
        Ok(()) => match try_program() {
            Ok(()) => Finding::good(GROUP, "bpf", "takes our programs; one was loaded and let go"),
            Err(error) => {
                let cure =
                    "a kernel with CONFIG_CGROUP_BPF, not locked down, and a seccomp filter that lets bpf(2) pass";
                Finding::note(GROUP, "bpf", format!("bpf(2): {}", crate::error::reason(&error)), Some(cure))
            }
        },
    }
}

/// tc(8)'s classifier for classes of cgroups.
fn classifier(host: &Host) -> Finding {
    if has_module(host, "cls_cgroup") {
        Finding::good(
            GROUP,
            "tc filter cgroup",
            "one filter puts every container into its class of HTB; by the modules",
        )
    } else {
        let cure = "without it nft's 'meta priority set' or the backend bpf choose the class; 'berthctl net' shows how";
        Finding::note(GROUP, "tc filter cgroup", "the kernel has no module cls_cgroup", Some(cure))
    }
}

/// The tools, in the directories where administrators' tools are.
fn tools(host: &Host) -> Option<Finding> {
    let there = |tool: &&str| {
        let places = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
        places.iter().any(|place| host.root.at(&format!("{place}/{tool}")).exists())
    };
    let lacking: Vec<&str> = TOOLS.into_iter().filter(|tool| !there(tool)).collect();
    let found: Vec<&str> = TOOLS.into_iter().filter(there).collect();
    Some(if lacking.is_empty() {
        Finding::good(GROUP, "tools", found.join(" "))
    } else {
        let detail = format!("not installed: {}", lacking.join(", "));
        Finding::note(
            GROUP,
            "tools",
            detail,
            Some("packages nftables, iptables and iproute2; one that you use is enough"),
        )
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::root::Root;

    /// The row of a host with these mounts and controllers.
    fn row(mountinfo: &str, controllers: &str) -> String {
        let world = tempfile::tempdir().unwrap();
        let root = Root::new(world.path());
        for (path, text) in [
            ("/proc/self/mountinfo", mountinfo),
            ("/proc/cgroups", controllers),
            ("/proc/sys/kernel/osrelease", "6.1.0"),
        ] {
            fs::create_dir_all(root.at(path).parent().unwrap()).unwrap();
            fs::write(root.at(path), text).unwrap();
        }
        layout(&Host::read(&root)).detail
    }

    #[test]
    fn rows_of_the_matrix() {
        let v2 = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let unified = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let cpu = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        let net_cls = "33 31 0:30 / /sys/fs/cgroup/net_cls rw - cgroup cgroup rw,net_cls,net_prio\n";
        let has = "net_cls\t0\t1\t1\n";
        assert!(row(&format!("{cpu}{net_cls}"), has).starts_with("a, v1: a handle is the class"));
        assert!(row(&format!("{cpu}{net_cls}{unified}"), has).starts_with("b, hybrid: a handle can be"));
        assert!(row(v2, has).starts_with("c, v2 with net_cls: a handle can be"));
        assert!(row(v2, "").starts_with("d, v2 alone: a handle is the mark"));
        assert!(row("", "").starts_with("none"));
    }
}
