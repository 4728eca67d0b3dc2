//! What can tag on a host, and what is taken of it.

use std::fs;

use serde::{Deserialize, Serialize};

use super::hierarchy::Hierarchy;
use crate::{
    config::{NetClsBackend, NetClsConfig},
    host::{Host, mounts::cgroup2},
};

/// What tags a container's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// The v1 controller.
    NetCls,
    /// Programs on the cgroup2 cgroup.
    Bpf,
}

impl Backend {
    /// As berthd.toml and the state file have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NetCls => "net_cls",
            Self::Bpf => "bpf",
        }
    }
}

/// What tags under a configuration on a host.
///
/// # Errors
/// Why it cannot be.
pub fn choose(config: &NetClsConfig, host: &Host) -> Result<Vec<Backend>, String> {
    let with = |backend| move |()| vec![backend];
    match config.backend {
        NetClsBackend::NetCls => net_cls(config, host).map(with(Backend::NetCls)),
        NetClsBackend::Bpf => bpf(host).map(with(Backend::Bpf)),
        NetClsBackend::Both => {
            net_cls(config, host).and_then(|()| bpf(host)).map(|()| vec![Backend::NetCls, Backend::Bpf])
        }
        NetClsBackend::Auto => net_cls(config, host).map(with(Backend::NetCls)).or_else(|first| {
            bpf(host).map(with(Backend::Bpf)).map_err(|second| format!("neither net_cls ({first}) nor bpf ({second})"))
        }),
    }
}

/// Whether the v1 controller can be used, and why not.
///
/// # Errors
/// The reason, and the cure.
pub fn net_cls(config: &NetClsConfig, host: &Host) -> Result<(), String> {
    if Hierarchy::find(&host.root).is_none() {
        mountable(host)?;
    }
    if cgroup2(&host.root).is_some() && !config.accept_v2_match_loss && !keeps_v2_matching(host) {
        return Err(format!(
            "on this kernel ({}) the first handle ends all matching of sockets by cgroup2 until the next boot; use \
             Linux 5.15 or newer, or 5.10.226, or backend = \"bpf\", or accept it: accept_v2_match_loss = true",
            host.kernel
        ));
    }
    Ok(())
}

/// Whether the hierarchy could be mounted.
fn mountable(host: &Host) -> Result<(), String> {
    let text = |path: &str| fs::read_to_string(host.root.at(path)).unwrap_or_default();
    let controllers = text("/proc/cgroups");
    let fields = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let known = controllers.lines().map(fields).find(|fields| fields.first().is_some_and(|name| name == "net_cls"));
    match known {
        None => return Err("the kernel has no net_cls; it needs CONFIG_CGROUP_NET_CLASSID".to_owned()),
        Some(fields) if fields.get(3).is_some_and(|enabled| enabled == "0") => {
            return Err("net_cls is disabled; remove cgroup_disable= from the kernel's command line".to_owned());
        }
        Some(_) => {}
    }
    let banned = |word: &str| {
        let list = word.strip_prefix("cgroup_no_v1=")?;
        list.split(',').any(|name| matches!(name, "all" | "net_cls")).then(|| word.to_owned())
    };
    if let Some(word) = text("/proc/cmdline").split_whitespace().find_map(banned) {
        return Err(format!("the kernel's command line has {word}; remove it"));
    }
    match fs::read_link(host.root.at("/proc/self/ns/cgroup")) {
        Ok(own) if own.to_str() != Some(FIRST_CGROUP_NAMESPACE) => {
            Err("only the first cgroup namespace can mount net_cls; mount it outside and show it here".to_owned())
        }
        _ => Ok(()),
    }
}

/// The namespace that was there first (`PROC_CGROUP_INIT_INO`).
const FIRST_CGROUP_NAMESPACE: &str = "cgroup:[4026531835]";

/// Whether programs can be put on cgroups, and why not. That bpf(2) lets us is found at the first start.
///
/// # Errors
/// The reason, and the cure.
pub fn bpf(host: &Host) -> Result<(), String> {
    match cgroup2(&host.root) {
        Some(_) => Ok(()),
        None => Err("cgroup2 is not mounted; mount -t cgroup2 cgroup2 /sys/fs/cgroup".to_owned()),
    }
}

/// Whether sockets keep their cgroup2 beside a class: since 5.15 ("bpf, cgroups: Fix cgroup v2 fallback on v1/v2 mixed
/// mode"), and in 5.10 since 5.10.226. Distributions keep the true number in `/proc/version`.
fn keeps_v2_matching(host: &Host) -> bool {
    let all = fs::read_to_string(host.root.at("/proc/version")).unwrap_or_default();
    let numbers = std::iter::once(host.kernel.as_str()).chain(all.split_whitespace()).filter_map(version);
    let mut numbers: Vec<[u32; 3]> = numbers.collect();
    let Some([major, minor, _]) = version(&host.kernel) else { return true };
    numbers.retain(|number| number[..2] == [major, minor]);
    let patch = numbers.iter().map(|number| number[2]).max().unwrap_or(0);
    (major, minor) >= (5, 15) || ((major, minor) == (5, 10) && patch >= 226)
}

/// The three numbers at the beginning of a version.
fn version(text: &str) -> Option<[u32; 3]> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse::<u32>().ok());
    Some([numbers.next()??, numbers.next()??, numbers.next().flatten().unwrap_or(0)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::Root;

    /// A host of files.
    struct World(tempfile::TempDir);

    impl World {
        /// A kernel with everything.
        fn new() -> Self {
            let world = Self(tempfile::tempdir().unwrap());
            world.write("/proc/cgroups", "#subsys_name\thierarchy\tnum_cgroups\tenabled\nnet_cls\t0\t1\t1\n");
            world.write("/proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
            world.kernel("6.1.0-30-amd64", "Linux version 6.1.0-30-amd64 (Debian 6.1.124-1)")
        }

        /// Of this version.
        fn kernel(self, release: &str, version: &str) -> Self {
            self.write("/proc/sys/kernel/osrelease", release);
            self.write("/proc/version", version);
            self
        }

        /// Writes a file.
        fn write(&self, path: &str, text: &str) {
            let path = Root::new(self.0.path()).at(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        /// What is chosen.
        fn choose(&self, backend: NetClsBackend) -> Result<Vec<Backend>, String> {
            choose(&NetClsConfig { backend, ..NetClsConfig::default() }, &Host::read(&Root::new(self.0.path())))
        }
    }

    #[test]
    fn the_best_of_what_a_host_has_is_taken() {
        use Backend::{Bpf, NetCls};
        let world = World::new();
        assert_eq!(world.choose(NetClsBackend::Auto), Ok(vec![NetCls]));
        assert_eq!(world.choose(NetClsBackend::Bpf), Ok(vec![Bpf]));
        assert_eq!(world.choose(NetClsBackend::Both), Ok(vec![NetCls, Bpf]));
        world.write("/proc/cmdline", "quiet cgroup_no_v1=memory,net_cls ro");
        assert_eq!(world.choose(NetClsBackend::Auto), Ok(vec![Bpf]));
        assert!(world.choose(NetClsBackend::Both).unwrap_err().contains("cgroup_no_v1=memory,net_cls; remove it"));
        world.write("/proc/self/mountinfo", "31 23 0:27 / /x rw - cgroup cgroup rw,net_cls,net_prio\n");
        assert_eq!(world.choose(NetClsBackend::Auto), Ok(vec![NetCls]), "what is mounted can be used");
        world.write("/proc/self/mountinfo", "");
        let said = world.choose(NetClsBackend::Auto).unwrap_err();
        assert!(
            said.starts_with("neither net_cls (the kernel's") && said.contains("nor bpf (cgroup2 is not"),
            "{said}"
        );
        world.write("/proc/cmdline", "");
        world.write("/proc/cgroups", "net_cls\t0\t1\t0\n");
        assert!(world.choose(NetClsBackend::NetCls).unwrap_err().contains("cgroup_disable="));
        world.write("/proc/cgroups", "cpu\t0\t1\t1\n");
        assert!(world.choose(NetClsBackend::NetCls).unwrap_err().contains("CONFIG_CGROUP_NET_CLASSID"));
    }

    #[test]
    fn a_kernel_on_which_v2_matching_ends_is_refused_beside_cgroup2() {
        for (release, version, safe) in [
            ("4.19.0-27-amd64", "", false),
            ("5.4.280", "", false),
            ("5.10.0-33-amd64", "Linux version 5.10.0-33-amd64 (gcc-10.2.1) Debian 5.10.226-1 (2024-10-03)", true),
            ("5.10.0-32-amd64", "Linux version 5.10.0-32-amd64 (gcc-10.2.1) Debian 5.10.223-1 (2024-08-10)", false),
            ("5.10.226", "", true),
            ("5.14.0-427.el9", "", false),
            ("5.15.0", "", true),
            ("6.18.44", "", true),
            ("7.2", "", true),
        ] {
            let world = World::new().kernel(release, version);
            let chosen = world.choose(NetClsBackend::NetCls);
            assert_eq!(chosen.is_ok(), safe, "{release}: {chosen:?}");
            let host = Host::read(&Root::new(world.0.path()));
            let accepted = NetClsConfig { accept_v2_match_loss: true, ..NetClsConfig::default() };
            assert_eq!(net_cls(&accepted, &host), Ok(()), "{release}");
            world.write("/proc/self/mountinfo", "");
            assert!(world.choose(NetClsBackend::NetCls).is_ok(), "{release}: no cgroup2, nothing to lose");
        }
    }
}
