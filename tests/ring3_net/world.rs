//! A host with handles, and what sends and counts on it.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::Path;

use serde_json::Value;

use crate::support::berth::{Berth, SOON, options};
use crate::support::host::{BootOptions, Suite};

/// The primary of every host here.
pub const PRIMARY: u16 = 0x12;

/// Where the v1 hierarchy is shown to the host: a cgroup namespace other than the first can see it, and not mount it.
pub const HIERARCHY: &str = "/run/net_cls";

/// The port of the sink for TCP.
pub const TCP: u16 = 7001;

/// A port where nobody listens.
pub const UDP: u16 = 7002;

/// A berth whose containers have handles.
#[derive(Debug)]
pub struct World {
    berth: Berth,
    /// Where the v1 hierarchy is mounted.
    hierarchy: &'static str,
}

impl Deref for World {
    type Target = Berth;

    fn deref(&self) -> &Berth {
        &self.berth
    }
}

/// The configuration of a host here, beside its primary.
pub fn config(net_cls: &str) -> String {
    format!("[statistics]\ninterval = \"1s\"\n[net_cls]\nprimary_handle = {PRIMARY:#x}\n{net_cls}\n")
}

impl World {
    /// A host on which this is `[net_cls]` beside the primary.
    #[track_caller]
    pub fn new(suite: Suite, net_cls: &str) -> World {
        World::with(suite, &config(net_cls), options())
    }

    /// A host with this `berthd.toml`, and more on the disk.
    #[track_caller]
    pub fn with(suite: Suite, config: &str, options: BootOptions) -> World {
        let mount = format!(
            "[Unit]\nDefaultDependencies=no\nBefore=berthd.service\n[Service]\nType=oneshot\nRemainAfterExit=yes\n\
             ExecStart=/bin/sh -c 'mkdir -p {HIERARCHY}; mount -t cgroup -o net_cls net_cls {HIERARCHY}; ip link set lo up'\n"
        );
        let needs = "[Unit]\nRequires=net-cls.service\nAfter=net-cls.service\n";
        let options = options
            .net_cls()
            .file("/etc/systemd/system/net-cls.service", mount)
            .file("/etc/systemd/system/berthd.service.d/net-cls.conf", needs);
        World::boot(suite, config, HIERARCHY, options)
    }

    /// A host where the hierarchy is mounted, or comes to be, at some place.
    #[track_caller]
    pub fn boot(suite: Suite, config: &str, hierarchy: &'static str, options: BootOptions) -> World {
        let options = programs(options).file("/etc/berth/berthd.toml", config);
        World::of(Berth::boot_with(suite, options), hierarchy)
    }

    /// A host that has booted, with its [`programs`].
    #[track_caller]
    pub fn of(berth: Berth, hierarchy: &'static str) -> World {
        let world = World { berth, hierarchy };
        world.ok(&format!("systemd-run --quiet --unit=sink perl /srv/sink.pl {TCP}"));
        world.wait_for("the sink", SOON, || (!world.ok(&format!("ss -Hltn sport = :{TCP}")).is_empty()).then_some(()));
        world
    }

    /// Replaces `[net_cls]` and has berthd read it.
    #[track_caller]
    pub fn configure(&self, net_cls: &str) {
        self.write("/etc/berth/berthd.toml", config(net_cls));
        self.ok("systemctl reload berthd");
    }

    /// [`Berth::barrier`] where there may be no handle for one more.
    #[track_caller]
    pub fn barrier_without_handle(&self) {
        self.run("barrier-none", &format!("{}{}", with_handle("none"), crate::support::berth::SLEEP));
        self.remove_spec("barrier-none");
        self.wait_gone("barrier-none");
    }

    /// Drops a spec whose program sends once and ends; what it said.
    #[track_caller]
    pub fn send(&self, name: &str, packets: &Packets<'_>) -> String {
        self.drop_spec(name, &packets.spec());
        self.wait_state(name, "exited");
        self.said(name)
    }

    /// The handle that the state file has of a running container.
    #[track_caller]
    pub fn handle(&self, name: &str) -> Option<u32> {
        let container = self.container(name)?;
        u32::try_from(container["container_status"]["cgroup_info"]["net_cls"]["classid"].as_u64()?).ok()
    }

    /// The classid that the kernel has for a container.
    #[track_caller]
    pub fn class(&self, name: &str) -> Option<u32> {
        self.find(format!("{}/berth/{name}/net_cls.classid", self.hierarchy))?.trim().parse().ok()
    }

    /// Handles and their holders, those that rest left out, as the ledger on the disk has it.
    #[track_caller]
    pub fn held(&self) -> BTreeMap<String, String> {
        let list = self.ok("find /run/berth/handles -type l ! -lname '*@*' -printf '%f %l\\n' 2>/dev/null || true");
        list.lines().filter_map(|line| line.split_once(' ')).map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
    }

    /// The cgroups of containers in the v1 hierarchy.
    #[track_caller]
    pub fn cgroups(&self) -> Vec<String> {
        let list = format!(
            "find {}/berth -mindepth 1 -maxdepth 1 -type d -printf '%f\\n' 2>/dev/null || true",
            self.hierarchy
        );
        let mut cgroups: Vec<String> = self.ok(&list).lines().map(str::to_owned).collect();
        cgroups.sort();
        cgroups
    }

    /// Waits until no handle is held and no cgroup is left.
    #[track_caller]
    pub fn wait_free(&self) {
        self.wait_for("all handles to be free", SOON, || {
            (self.held().is_empty() && self.cgroups().is_empty()).then_some(())
        });
    }

    /// Counts, under a name, packets that match on their way out.
    #[track_caller]
    pub fn count(&self, name: &str, matching: &str) {
        self.ok(&format!(
            "nft add table inet t; nft add chain inet t o '{{ type filter hook output priority 0; }}'; \
             nft add rule inet t o {matching} counter comment '\"{name}\"'"
        ));
    }

    /// What was counted: packets by name.
    #[track_caller]
    pub fn counted(&self) -> BTreeMap<String, u64> {
        let list: Value = serde_json::from_str(&self.ok("nft -j list table inet t")).unwrap();
        let rules = list["nftables"].as_array().unwrap().iter().filter_map(|item| item.get("rule"));
        rules
            .filter_map(|rule| {
                let counter = rule["expr"].as_array()?.iter().find_map(|expression| expression.get("counter"))?;
                Some((rule["comment"].as_str()?.to_owned(), counter["packets"].as_u64()?))
            })
            .collect()
    }

    /// Packets that classes of the loopback's qdisc have sent.
    #[track_caller]
    pub fn classes(&self) -> BTreeMap<String, u64> {
        // "class htb 12:11 root prio 0 …" and, below it, "Sent 1280 bytes 9 pkt (dropped 0, …".
        let list = self.ok("tc -s class show dev lo");
        let classes = list.split("class htb ").filter_map(|class| {
            let packets = class.split(" bytes ").nth(1)?.split(' ').next()?;
            Some((class.split(' ').next()?.to_owned(), packets.parse().ok()?))
        });
        classes.collect()
    }

    /// Runs the lines that `berthctl net` prints for a tool.
    #[track_caller]
    pub fn paste(&self, container: &str, tool: &str, more: &str) {
        let sheet = self.ok(&format!("berthctl net --json --interface lo {more} {container}"));
        let sheet: Value = serde_json::from_str(&sheet).unwrap();
        let commands = sheet["commands"].as_array().unwrap().iter().find(|commands| commands["tool"] == tool).unwrap();
        for line in commands["lines"].as_array().unwrap() {
            self.ok(line.as_str().unwrap());
        }
    }
}

/// What a container sends.
#[derive(Debug, Clone, Copy)]
pub struct Packets<'a> {
    /// Datagrams over IPv4.
    pub v4: u32,
    /// Datagrams over IPv6.
    pub v6: u32,
    /// Whether it opens a connection over each too.
    pub tcp: bool,
    /// The rest of the spec.
    pub spec: &'a str,
}

impl Packets<'_> {
    /// The spec of a program that sends it.
    pub fn spec(&self) -> String {
        let Packets { v4, v6, tcp, spec } = self;
        let tcp = if *tcp { TCP } else { 0 };
        let command = format!("\"/usr/bin/perl\", \"/srv/send.pl\", \"{tcp}\", \"{UDP}\", \"{v4}\", \"{v6}\"");
        format!("command = [{command}]\nworking_directory = \"/\"\n{spec}\n[service]\nrestart = \"no\"\n")
    }
}

/// What sends and what listens.
pub fn programs(options: BootOptions) -> BootOptions {
    let ours = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ring3_net").join(name);
    options.copy(ours("send.pl"), "/srv/send.pl").copy(ours("sink.pl"), "/srv/sink.pl")
}

/// `[network]` with this handle.
pub fn with_handle(handle: &str) -> String {
    format!("network.handle = \"{handle}\"\n")
}
