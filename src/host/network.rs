//! Facts about the host's network.

use std::fs;

use super::Host;
use crate::root::Root;

/// The interface of the default route (`/proc/net/route`, then `/proc/net/ipv6_route`); none where nothing leads out.
#[must_use]
pub fn default_interface(root: &Root) -> Option<String> {
    let text = |path: &str| fs::read_to_string(root.at(path)).unwrap_or_default();
    let (v4, v6) = (text("/proc/net/route"), text("/proc/net/ipv6_route"));
    let fields = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let v4 = v4.lines().skip(1).map(fields).find(|route| route.get(1).is_some_and(|to| to == "00000000"));
    let is_default = |route: &Vec<String>| {
        let everything = route.first().is_some_and(|to| to.bytes().all(|digit| digit == b'0')) && route.get(1)? == "00";
        // The kernel keeps an entry on `lo` for what has no route.
        (everything && route.last()? != "lo").then_some(())
    };
    let v6 = v6.lines().map(fields).find(|route| is_default(route).is_some());
    v4.and_then(|route| route.into_iter().next()).or_else(|| v6?.into_iter().next_back())
}

/// Whether the kernel has a module: built in, loaded, or on the disk to be loaded.
#[must_use]
pub fn has_module(host: &Host, module: &str) -> bool {
    let text = |path: &str| fs::read_to_string(host.root.at(path)).unwrap_or_default();
    let file = |line: &str| line.rsplit('/').next().is_some_and(|name| name.split('.').next() == Some(module));
    let of = |name: &str| text(&format!("/lib/modules/{}/{name}", host.kernel));
    text("/proc/modules").lines().any(|line| line.split(' ').next() == Some(module))
        || host.root.at(&format!("/sys/module/{module}")).is_dir()
        || of("modules.builtin").lines().any(file)
        || of("modules.dep").lines().any(|line| line.split(':').next().is_some_and(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host with these files.
    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let world = tempfile::tempdir().unwrap();
        let root = Root::new(world.path());
        for (path, text) in files {
            fs::create_dir_all(root.at(path).parent().unwrap()).unwrap();
            fs::write(root.at(path), text).unwrap();
        }
        let host = Host::read(&root);
        (world, host)
    }

    #[test]
    fn the_default_route_names_its_interface() {
        let v4 = "Iface\tDestination\tGateway\neth1\t0000A8C0\t00000000\neth0\t00000000\t0100A8C0\n";
        let v6 = "fe80000000000000000000000000000 40 0 00 0 0 0 0 00000001 eth2\n\
                  00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe80 400 1 0 0003 eth3\n\
                  00000000000000000000000000000000 00 00000000000000000000000000000000 00 0 ffffffff 1 0 200200 lo\n";
        let found = |files: &[(&str, &str)]| default_interface(&host(files).1.root);
        assert_eq!(found(&[("/proc/net/route", v4), ("/proc/net/ipv6_route", v6)]).as_deref(), Some("eth0"));
        assert_eq!(found(&[("/proc/net/ipv6_route", v6)]).as_deref(), Some("eth3"));
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn modules_are_found_wherever_they_are() {
        for (path, text) in [
            ("/proc/modules", "cls_cgroup 16384 0 - Live 0x0\n"),
            ("/sys/module/cls_cgroup/refcnt", "0"),
            ("/lib/modules/6.1/modules.builtin", "kernel/net/sched/cls_cgroup.ko\n"),
            ("/lib/modules/6.1/modules.dep", "kernel/net/sched/cls_cgroup.ko.xz: kernel/x.ko\n"),
        ] {
            let (_world, host) = host(&[("/proc/sys/kernel/osrelease", "6.1"), (path, text)]);
            assert!(has_module(&host, "cls_cgroup"), "{path}");
            assert!(!has_module(&host, "cls_c") && !has_module(&host, "x"), "{path}");
        }
    }
}
