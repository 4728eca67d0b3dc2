//! Ring 2: the host's end of a container's interface, between a guest and an uplink in network namespaces of their own.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test that cannot go on fails")]

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use berth::{isolators::cgroups_net_cls::interface, spec::Handle};
use nix::sched::{CloneFlags, unshare};

/// A network namespace, for as long as a process lives in it.
struct Elsewhere(Child);

impl Elsewhere {
    /// A fresh one, with its loopback up.
    fn new() -> Self {
        let script = "ip link set lo up && echo up && exec sleep 1000";
        let child = Command::new("unshare").args(["--net", "sh", "-c", script]).stdout(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        let mut said = [0; 3];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
        Self(child)
    }

    /// Connects it with this namespace: `near` here with this address, `eth0` there with that one.
    fn connect(&self, near: &str, here: &str, there: &str) {
        let pid = self.0.id();
        run(&format!(
            "ip link add {near} type veth peer name eth0 netns {pid} && ip address add {here}/24 dev {near} && \
             ip link set {near} up"
        ));
        self.run(&format!(
            "ip address add {there}/24 dev eth0 && ip link set eth0 up && ip route add default via {here} dev eth0"
        ));
    }

    /// Runs a script in it.
    fn run(&self, script: &str) -> String {
        run(&format!("nsenter --net --target {} sh -c '{script}'", self.0.id()))
    }

    /// Sends datagrams.
    fn send(&self, to: &str, count: u32) {
        let perl = "use Socket; socket(S, AF_INET, SOCK_DGRAM, 0); \
                    send(S, \"x\" x 100, 0, pack_sockaddr_in(7002, inet_aton($ARGV[0]))) for 1 .. $ARGV[1]";
        let script = format!("nsenter --net --target {} perl -e '{perl}' {to} {count}", self.0.id());
        run(&script);
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Runs a script here; what it says.
fn run(script: &str) -> String {
    let output = Command::new("sh").args(["-c", script]).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a test in a network namespace of its own, if this machine lets it.
fn ring2(test: fn()) {
    if !rustix::process::geteuid().is_root() {
        assert_ne!(std::env::var("BERTH_REQUIRE_RINGS").as_deref(), Ok("1"), "ring 2 NOT RUN: needs root");
        return println!("ring 2 NOT RUN: needs root");
    }
    unshare(CloneFlags::CLONE_NEWNET).unwrap(); // of this thread alone
    run("ip link set lo up");
    test();
}

/// The packets of a counter of nft, by its comment.
fn counted(comment: &str) -> u32 {
    let rules = run("nft list table inet t");
    let rule = rules.lines().find(|line| line.contains(&format!("comment \"{comment}\""))).unwrap();
    rule.split("packets ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
}

/// The packets of a class of HTB, once there are as many as wanted.
fn in_class(device: &str, class: &str, wanted: u32) -> u32 {
    let began = Instant::now();
    loop {
        let classes = run(&format!("tc -s class show dev {device}"));
        let ours = classes.split("class htb ").find(|text| text.starts_with(&format!("{class} "))).unwrap().to_owned();
        let sent = ours.split(" bytes ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        if sent >= wanted || began.elapsed() > Duration::from_secs(10) {
            return sent;
        }
    }
}

/// A guest and an uplink, and HTB on the way out.
fn between() -> (Elsewhere, Elsewhere) {
    let (guest, uplink) = (Elsewhere::new(), Elsewhere::new());
    guest.connect("veth-guest", "10.9.0.1", "10.9.0.2");
    uplink.connect("veth-uplink", "10.8.0.1", "10.8.0.2");
    run("tc qdisc add dev veth-uplink root handle 12: htb && \
         tc class add dev veth-uplink parent 12: classid 12:11 htb rate 1gbit && \
         tc class add dev veth-uplink parent 12: classid 12:22 htb rate 1gbit");
    (guest, uplink)
}

#[test]
fn a_guests_packets_have_its_handle_in_forward_and_on_the_uplink() {
    ring2(|| {
        let (guest, _uplink) = between();
        run("echo 1 >/proc/sys/net/ipv4/ip_forward");
        run("nft add table inet t; nft add chain inet t f '{ type filter hook forward priority 0; }'; \
             nft add chain inet t i '{ type filter hook input priority 0; }'; \
             nft add chain inet t p '{ type filter hook postrouting priority 0; }'; \
             nft add rule inet t f meta mark 0x00120011 udp dport 7002 counter comment '\"forward\"'; \
             nft add rule inet t i meta mark 0x00120011 udp dport 7002 counter comment '\"input\"'; \
             nft add rule inet t p meta mark 0x00120011 meta priority set 12:11; \
             nft add rule inet t p meta mark 0x00120022 meta priority set 12:22");
        guest.send("10.8.0.2", 3);
        assert_eq!(counted("forward"), 0, "not tagged yet");

        interface::tag("veth-guest", Handle(0x0012_0011)).unwrap();
        interface::tag("veth-guest", Handle(0x0012_0011)).unwrap();
        guest.send("10.8.0.2", 7);
        guest.send("10.9.0.1", 5);
        assert_eq!((counted("forward"), counted("input")), (7, 5));
        assert_eq!(in_class("veth-uplink", "12:11", 7), 7);
        let shown = run("tc filter show dev veth-guest ingress");
        assert_eq!(shown.matches("berth_00120011 direct-action").count(), 1, "{shown}");

        interface::tag("veth-guest", Handle(0x0012_0022)).unwrap();
        guest.send("10.8.0.2", 4);
        assert_eq!((counted("forward"), in_class("veth-uplink", "12:22", 4)), (7, 4));
        let shown = run("tc filter show dev veth-guest ingress");
        assert!(shown.contains("berth_00120022") && !shown.contains("berth_00120011"), "{shown}");

        interface::untag("veth-guest").unwrap();
        interface::untag("veth-guest").unwrap();
        assert_eq!(run("tc filter show dev veth-guest ingress"), "");
        guest.send("10.8.0.2", 2);
        assert_eq!((counted("forward"), in_class("veth-uplink", "12:22", 4)), (7, 4));
    });
}

#[test]
fn over_a_bridge_the_priority_holds_too() {
    ring2(|| {
        let (guest, uplink) = between();
        run("ip link add br0 type bridge && ip link set br0 up && ip link set veth-guest master br0 && \
             ip link set veth-uplink master br0");
        guest.run("ip address add 10.7.0.1/24 dev eth0");
        uplink.run("ip address add 10.7.0.2/24 dev eth0");
        interface::tag("veth-guest", Handle(0x0012_0011)).unwrap();
        guest.run(
            "until ip neigh show 10.7.0.2 | grep -q REACHABLE; do \
                   echo | timeout 1 bash -c \"cat >/dev/udp/10.7.0.2/9\"; done",
        );
        let before = in_class("veth-uplink", "12:11", 0);
        guest.send("10.7.0.2", 9);
        assert_eq!(in_class("veth-uplink", "12:11", before + 9), before + 9);
    });
}

#[test]
fn others_filters_and_missing_interfaces_do_no_harm() {
    ring2(|| {
        run("ip link add one type veth peer name two");
        // What the CNI plugin bandwidth makes: the older qdisc, with a filter of its own.
        run("tc qdisc add dev one handle ffff: ingress && \
             tc filter add dev one parent ffff: protocol all u32 match u32 0 0 action mirred egress redirect dev two");
        interface::tag("one", Handle(0x0012_0011)).unwrap();
        let shown = run("tc filter show dev one ingress");
        assert!(shown.contains("berth_00120011") && shown.contains("mirred"), "{shown}");
        interface::untag("one").unwrap();
        let shown = run("tc filter show dev one ingress");
        assert!(!shown.contains("berth_00120011") && shown.contains("mirred"), "{shown}");
        interface::untag("nowhere").unwrap();
        assert!(interface::tag("nowhere", Handle(0x0012_0011)).is_err());
    });
}
