//! Packets have their container's handle, and no other's, whatever tags.

use std::collections::BTreeMap;

use crate::support::berth::{SLEEP, SOON};
use crate::support::host::Suite;
use crate::support::ring::Test;
use crate::world::{HIERARCHY, Packets, TCP, UDP, World, with_handle};

pub const TRIALS: &[Test] = &[
    ("net_cls_tags_every_packet_of_a_container_and_no_other", by_net_cls),
    ("bpf_tags_every_packet_of_a_container_and_no_other", by_bpf),
    ("both_tag_at_once", by_both),
    ("a_class_of_htb_limits_a_container", htb_limits),
    ("children_of_every_kind_are_tagged", children),
    ("what_comes_in_later_is_tagged", entered),
    ("what_a_program_sets_on_its_sockets_does_not_help_it", hostile_options),
    ("matching_by_cgroup2_goes_on_beside_it", v2_matching),
    ("statistics_count_what_nft_counts", statistics),
    ("the_lines_of_berthctl_net_work", pasted_lines),
];

/// How the backends' tags are matched by nft.
const BY_CLASS: &str = "meta cgroup";
const BY_MARK: &str = "meta mark";

fn by_net_cls(suite: Suite) {
    tagged(suite, "net_cls", &[BY_CLASS]);
}

fn by_bpf(suite: Suite) {
    tagged(suite, "bpf", &[BY_MARK]);
}

fn by_both(suite: Suite) {
    tagged(suite, "both", &[BY_CLASS, BY_MARK]);
}

/// TCP and UDP over IPv4 and IPv6 of two containers, by all that can match.
fn tagged(suite: Suite, backend: &str, matches: &[&str]) {
    let world = World::new(suite, &format!("backend = \"{backend}\""));
    let handles = [("web", "0012:0011", "0x00120011"), ("db", "0012:0022", "0x00120022")];
    for matched in matches {
        for (name, _, hex) in handles {
            for (family, proto) in [("v4", "ipv4"), ("v6", "ipv6")] {
                let both = format!("{matched} {hex} meta nfproto {proto}");
                world.count(&format!("{name} {matched} udp {family}"), &format!("{both} udp dport {UDP}"));
                world.count(&format!("{name} {matched} tcp {family}"), &format!("{both} tcp dport {TCP}"));
            }
        }
    }
    let (class, priority) =
        if matches.contains(&BY_CLASS) { ("-m cgroup --cgroup", "cgroup") } else { ("-m mark --mark", "mark") };
    world.ok(&format!(
        "iptables -A OUTPUT {class} 0x00120011 -p udp -m comment --comment web; \
         ip6tables -A OUTPUT {class} 0x00120022 -p udp -m comment --comment db"
    ));
    let send = |name: &str, v4, v6, handle: &str| {
        assert_eq!(world.send(name, &Packets { v4, v6, tcp: true, spec: &with_handle(handle) }), "sent");
    };
    send("web", 7, 5, handles[0].1);
    send("db", 3, 2, handles[1].1);
    // Nobody's: the host's own, and that of a container without a handle.
    world.ok(&format!("perl /srv/send.pl {TCP} {UDP} 11 11"));
    send("none", 13, 13, "none");

    let counted = world.counted();
    for matched in matches {
        let udp = |name: &str, family: &str| counted[&format!("{name} {matched} udp {family}")];
        assert_eq!([udp("web", "v4"), udp("web", "v6")], [7, 5], "{counted:?}");
        assert_eq!([udp("db", "v4"), udp("db", "v6")], [3, 2], "{counted:?}");
        for (name, family) in [("web", "v4"), ("web", "v6"), ("db", "v4"), ("db", "v6")] {
            assert!(counted[&format!("{name} {matched} tcp {family}")] >= 3, "SYN, ACK, data: {counted:?}");
        }
    }
    for (tool, name, packets) in [("iptables", "web", "7"), ("ip6tables", "db", "2")] {
        let rule = world.ok(&format!("{tool} -vnxL OUTPUT | grep '/\\* {name} \\*/'"));
        assert_eq!(rule.split_whitespace().next(), Some(packets), "{priority}: {rule}");
    }
}

fn htb_limits(suite: Suite) {
    for backend in ["net_cls", "bpf"] {
        let world = World::new(suite, &format!("backend = \"{backend}\""));
        world.ok("systemd-run --quiet --unit=iperf iperf3 --server");
        world.wait_for("iperf3", SOON, || (!world.ok("ss -Hltn sport = :5201").is_empty()).then_some(()));
        let client = "command = \"exec iperf3 --client 127.0.0.1 --time 4 --omit 1 --json >report\"\n\
                      sandbox = \"persistent\"\nautostart = false\n[service]\nrestart = \"no\"\n";
        world.drop_spec("fast", client);
        world.drop_spec("holder", &format!("{}{SLEEP}", with_handle("0012:0001")));
        world.wait_state("holder", "running");
        world.paste("holder", "tc", "--rate 80mbit");
        world.remove_spec("holder");
        world.wait_gone("holder");
        world.drop_spec("fast", &format!("{}{client}", with_handle("0012:0001")));
        world.barrier();
        world.ok("systemctl start berth@fast");
        world.wait_state("fast", "exited");
        let report = world.read("/var/lib/berth/sandboxes/fast/persistent/report");
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        let rate = report["end"]["sum_received"]["bits_per_second"].as_f64().unwrap();
        assert!((72e6..88e6).contains(&rate), "{backend}: {rate} bit/s through a class of 80 Mbit/s");
        assert!(world.classes()["12:1"] > 100, "{backend}: {:?}", world.classes());
    }
}

fn children(suite: Suite) {
    for (backend, matched) in [("net_cls", BY_CLASS), ("bpf", BY_MARK)] {
        let world = World::new(suite, &format!("backend = \"{backend}\""));
        world.count("web", &format!("{matched} 0x00120011 udp dport {UDP}"));
        let send = format!("perl /srv/send.pl 0 {UDP} 1 0");
        // Forked; executed anew; of another user; in a session of its own; left behind by its parent.
        let script = format!(
            "({send}); sh -c 'exec {send}'; setpriv --reuid 33 --regid 33 --clear-groups {send}; setsid -w {send}; \
             (sh -c '{send}; echo orphan >>done' &); until [ -e done ]; do :; done; {send}"
        );
        let spec = format!("command = \"{script}\"\n{}[service]\nrestart = \"no\"\n", with_handle("0012:0011"));
        world.drop_spec("web", &spec);
        world.wait_state("web", "exited");
        assert_eq!(world.counted()["web"], 6, "{backend}: {}", world.said("web"));
    }
}

/// By `berthctl exec`, and by it alone: nsenter(1) leaves a process in its caller's control groups.
fn entered(suite: Suite) {
    for (backend, matched) in [("net_cls", BY_CLASS), ("bpf", BY_MARK), ("both", BY_CLASS), ("both", BY_MARK)] {
        let world = World::new(suite, &format!("backend = \"{backend}\""));
        world.count("web", &format!("{matched} 0x00120011 udp dport {UDP}"));
        let pid = world.run("web", &format!("{}{SLEEP}", with_handle("0012:0011")));
        let send = format!("perl /srv/send.pl 0 {UDP} 5 0");
        world.ok(&format!(
            "berthctl exec web -- {send}; berthctl exec --user nobody --workdir / web -- sh -c '{send} & wait'"
        ));
        assert_eq!(world.counted()["web"], 10, "{backend}");
        world.ok(&format!("{send}; nsenter --target {pid} --mount --pid --ipc {send}"));
        assert_eq!(world.counted()["web"], 10, "{backend}");
        let _later = world.spawn("exec berthctl exec web -- sleep 1000");
        world.ok("systemctl stop berth@web");
        world.wait_for("the cgroup to go", SOON, || world.cgroups().is_empty().then_some(()));
    }
}

fn hostile_options(suite: Suite) {
    let world = World::new(suite, "backend = \"bpf\"");
    world.ok("tc qdisc replace dev lo root handle 12: htb; \
              tc class replace dev lo parent 12: classid 12:11 htb rate 1gbit; \
              tc class replace dev lo parent 12: classid 12:6 htb rate 1gbit");
    world.count("own", &format!("meta mark 0x00120011 udp dport {UDP}"));
    world.count("stolen", &format!("meta mark 0x00120022 udp dport {UDP}"));
    let spec = format!("{}environment = {{ PRIORITY = \"6\", MARK = \"1179682\" }}\n", with_handle("0012:0011"));
    let said = world.send("web", &Packets { v4: 9, v6: 0, tcp: false, spec: &spec });
    assert_eq!(said, "PRIORITY: done\nMARK: Operation not permitted\nsent");
    assert_eq!(world.counted(), BTreeMap::from([("own".to_owned(), 9), ("stolen".to_owned(), 0)]));
    assert_eq!((world.classes()["12:11"], world.classes()["12:6"]), (9, 0));
}

fn v2_matching(suite: Suite) {
    let world = World::new(suite, "backend = \"both\"");
    let spec = format!("{}environment = {{ HOLD = \"1\" }}\nautostart = false\n", with_handle("0012:0011"));
    // The rule names a cgroup that must be there: the unit's, from a first run on.
    world.drop_spec("web", &Packets { v4: 0, v6: 0, tcp: false, spec: &spec }.spec());
    world.barrier();
    world.ok("systemctl start berth@web");
    let pid = world.wait_program("web");
    world.count("v2", &format!("udp dport {UDP} socket cgroupv2 level 2 '\"berth.slice/berth@web.service\"'"));
    world.count("v1", &format!("meta cgroup 0x00120011 udp dport {UDP}"));
    world.ok(&format!(
        "echo $$ >/sys/fs/cgroup/berth.slice/berth@web.service/cgroup.procs; \
         echo $$ >{HIERARCHY}/berth/web/cgroup.procs; perl /srv/send.pl 0 {UDP} 4 0"
    ));
    assert_eq!(world.counted(), BTreeMap::from([("v1".to_owned(), 4), ("v2".to_owned(), 4)]), "{pid}");
}

fn statistics(suite: Suite) {
    let world = World::new(suite, "backend = \"bpf\"");
    world.ok("nft add table inet in; nft add chain inet in i '{ type filter hook input priority 0; }'");
    world.count("sent", "meta mark 0x00120011");
    let spec = format!("{}environment = {{ HOLD = \"1\" }}\n", with_handle("0012:0011"));
    world.drop_spec("web", &Packets { v4: 40, v6: 2, tcp: true, spec: &spec }.spec());
    world.wait_said("web", "sent");
    let file = "/run/berth/statistics.json";
    let web = world.wait_for("the statistics", SOON, || {
        let all: serde_json::Value = serde_json::from_str(&world.find(file)?).unwrap();
        let web = all["containers"].as_array()?.iter().find(|one| one["name"] == "web")?.clone();
        (web["net_tx_packets"].as_u64()? >= world.counted()["sent"]).then_some(web)
    });
    assert_eq!(web["net_tx_packets"], world.counted()["sent"], "{web}");
    assert!(web["net_tx_bytes"].as_u64().unwrap() > 40 * 128 + 2 * 148 + 20000, "{web}");
    assert!(web["net_rx_packets"].as_u64().unwrap() > 2 && web["net_rx_bytes"].as_u64().unwrap() > 100, "{web}");
    assert!(web["timestamp"].as_f64().unwrap() > 1.7e9);
    let metric = format!("berth_net_tx_packets_total{{container=\"web\"}} {}", web["net_tx_packets"]);
    assert!(world.read("/run/berth/statistics.prom").lines().any(|line| line == metric));
    // They are the cgroup's: a new berthd goes on with them.
    world.restart_berthd();
    let again: serde_json::Value = world.wait_for("statistics again", SOON, || {
        let all: serde_json::Value = serde_json::from_str(&world.find(file)?).ok()?;
        all["containers"].get(0).cloned()
    });
    assert!(again["net_tx_packets"].as_u64() >= web["net_tx_packets"].as_u64(), "{again}");
    world.remove_spec("web");
    world.wait_for("the statistics to go", SOON, || (!world.files().exists(file)).then_some(()));
}

fn pasted_lines(suite: Suite) {
    for backend in ["net_cls", "bpf"] {
        let world = World::new(suite, &format!("backend = \"{backend}\""));
        let hold = format!("{}environment = {{ HOLD = \"1\" }}\nautostart = false\n", with_handle("0012:0011"));
        let packets = Packets { v4: 5, v6: 0, tcp: false, spec: &hold };
        world.run("web", &format!("{}{SLEEP}", with_handle("0012:0011")));
        for tool in ["nft", "iptables", "tc"] {
            world.paste("web", tool, "--rate 1gbit");
        }
        world.drop_spec("web", &packets.spec());
        world.wait_said("web", "sent");
        let nft = world.ok("nft list chain inet containers output");
        assert!(nft.contains("counter packets 5 "), "{backend}: {nft}");
        let iptables = world.ok("iptables -vnxL OUTPUT | grep web");
        assert_eq!(iptables.split_whitespace().next(), Some("5"), "{backend}: {iptables}");
        assert_eq!(world.classes()["12:11"], 5, "{backend}");
        let shown = world.berthctl("net web").stdout;
        assert!(
            shown.starts_with(&format!("web: 0012:0011  classid 1179665  0x00120011  class 12:11  by {backend}\n")),
            "{shown}"
        );
        assert_eq!(world.berthctl("net nobody").status.code(), Some(4));
        let doctor = world.berthctl("doctor").stdout;
        assert!(doctor.contains("c, v2 with net_cls") && doctor.contains("takes our programs"), "{doctor}");
    }
}
