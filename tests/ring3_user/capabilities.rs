//! What of root's power a container has, read with the tools of libcap and by what a program can do.

use serde_json::json;

use crate::refusals::{Refusal, is_refused};
use crate::support::berth::{Berth, SLEEP, options};
use crate::support::host::Suite;
use crate::support::ring::Test;

pub const TRIALS: &[Test] = &[
    ("root_has_the_oci_default_and_a_user_nothing", root_has_the_oci_default_and_a_user_nothing),
    ("a_user_binds_port_80_only_with_the_capability", a_user_binds_port_80_only_with_the_capability),
    ("a_bounding_set_holds_for_set_user_id_programs", a_bounding_set_holds_for_set_user_id_programs),
    ("what_is_executed_gives_nothing_unless_asked", what_is_executed_gives_nothing_unless_asked),
    ("an_edit_of_capabilities_restarts", an_edit_of_capabilities_restarts),
    ("a_capability_that_the_unit_lacks_fails_the_start", a_capability_that_the_unit_lacks_fails_the_start),
    ("the_ceiling_is_the_administrators", the_ceiling_is_the_administrators),
    ("without_the_isolator_root_is_root", without_the_isolator_root_is_root),
];

const ONCE: &str = "[service]\nrestart = \"no\"\n";

/// docker's default, as getpcaps(8) orders it.
const OCI: &str = "cap_chown,cap_dac_override,cap_fowner,cap_fsetid,cap_kill,cap_setgid,cap_setuid,cap_setpcap,\
                   cap_net_bind_service,cap_net_raw,cap_sys_chroot,cap_mknod,cap_audit_write,cap_setfcap";

/// What getpcaps(8) says of a process.
#[track_caller]
fn getpcaps(host: &Berth, pid: u32) -> String {
    host.ok(&format!("getpcaps {pid} 2>&1")).trim_start_matches(&format!("{pid}: ")).to_owned()
}

/// A set of a process, by name, as capsh(1) decodes it.
#[track_caller]
fn decoded(host: &Berth, pid: u32, set: &str) -> String {
    let said = host.ok(&format!("capsh --decode=$(grep ^{set}: /proc/{pid}/status | cut -f2)"));
    said.split_once('=').unwrap().1.to_owned()
}

/// What the state file says of a container's capabilities.
#[track_caller]
fn detail(host: &Berth, name: &str) -> Option<String> {
    let state = host.container(name).unwrap();
    let isolators = state["isolators"].as_array().unwrap();
    let ours = isolators.iter().find(|isolator| isolator["name"] == "linux/capabilities")?;
    assert_eq!(ours["error"], json!(null), "{state:#}");
    Some(ours["detail"].as_str().unwrap().to_owned())
}

fn root_has_the_oci_default_and_a_user_nothing(suite: Suite) {
    let host = Berth::shared(suite);
    let root = host.run("caps-root", SLEEP);
    assert_eq!(getpcaps(&host, root), format!("{OCI}=ep"));
    assert_eq!(decoded(&host, root, "CapBnd"), OCI);
    let user = host.run("caps-user", &format!("{SLEEP}user = \"nobody\"\n"));
    assert_eq!(getpcaps(&host, user), "=");
    assert_eq!(decoded(&host, user, "CapBnd"), OCI);
    assert_eq!(detail(&host, "caps-root").unwrap(), "bounding: OCI default; effective: OCI default; ambient: none");
    assert_eq!(detail(&host, "caps-user").unwrap(), "bounding: OCI default; effective: none; ambient: none");
    let shown = host.berthctl("status caps-user").stdout;
    assert!(shown.contains("linux/capabilities  bounding: OCI default; effective: none; ambient: none"), "{shown}");
    let plan = host.berthctl("plan caps-user").stdout;
    for line in
        ["limits its capabilities  [linux/capabilities]", "bounding: OCI default (AUDIT_WRITE CHOWN", "effective: none"]
    {
        assert!(plan.contains(line), "{plan}");
    }
    // With an init, the init has no more.
    let init = host.run("caps-init", "command = \"sleep infinity & wait\"\n[service]\ninit = true\n");
    assert_eq!(getpcaps(&host, init), format!("{OCI}=ep"));
    // What was said to be too much for a container is too much.
    let said = host.output_of("caps-mount", &format!("command = \"mount -t tmpfs tmpfs /mnt 2>&1; true\"\n{ONCE}"));
    assert!(said.contains("permission denied") || said.contains("must be superuser"), "{said}");
}

/// Binds port 80 and says so, or why not.
const PORT_80: &str = "command = [\"perl\", \"-MSocket\", \"-e\", '''\n$| = 1; socket(my $s, PF_INET, SOCK_STREAM, 0) or die; \
                       setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1); \
                       bind($s, sockaddr_in(80, INADDR_LOOPBACK)) or do { print \"refused: $!\\n\"; exit 3 }; \
                       listen($s, 1); print \"bound as $<\\n\"; sleep''']\nuser = \"nobody\"\n[service]\nrestart = \"no\"\n";

fn a_user_binds_port_80_only_with_the_capability(suite: Suite) {
    let host = Berth::shared(suite);
    host.drop_spec("port-none", PORT_80);
    host.wait_said("port-none", "refused: Permission denied");
    let limited = format!("{PORT_80}[capabilities]\nbounding = [\"NET_BIND_SERVICE\"]\n");
    host.drop_spec("port-bounding", &limited);
    host.wait_said("port-bounding", "refused: Permission denied");
    let given = format!("{PORT_80}[capabilities]\neffective = [\"cap_net_bind_service\"]\n");
    let pid = host.run("port-given", &given);
    host.wait_said("port-given", "bound as 65534");
    assert_eq!(getpcaps(&host, pid), "cap_net_bind_service=eip");
    let ours = "NET_BIND_SERVICE";
    assert_eq!(detail(&host, "port-given").unwrap(), format!("bounding: {ours}; effective: {ours}; ambient: {ours}"));
    host.remove_spec("port-given");
    host.wait_gone("port-given");
    // Without a pid namespace the launcher becomes the program; with an init it does not.
    for (name, more) in [("port-host", "[namespaces]\npid = \"host\"\n"), ("port-init", "")] {
        let toml = if more.is_empty() { given.replace("[service]", "[service]\ninit = true") } else { given.clone() };
        host.drop_spec(name, &format!("{toml}{more}"));
        host.wait_said(name, "bound as 65534");
        host.remove_spec(name);
        host.wait_gone(name);
    }
}

fn a_bounding_set_holds_for_set_user_id_programs(suite: Suite) {
    let host = Berth::shared(suite);
    host.ok("cp /bin/cat /srv/root-cat && chmod 4755 /srv/root-cat");
    let toml = "command = [\"/srv/root-cat\", \"/proc/self/status\"]\nuser = \"nobody\"\n\
                no_new_privileges = false\n";
    for (name, more, mask) in [
        ("suid-default", "", "00000000a80425fb"),
        ("suid-none", "[capabilities]\nbounding = []\n", "0000000000000000"),
        ("suid-kill", "[capabilities]\nbounding = [\"KILL\"]\n", "0000000000000020"),
    ] {
        let said = host.output_of(name, &format!("{toml}{more}{ONCE}"));
        assert!(said.contains("Uid:\t65534\t0\t0\t0"), "{said}");
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            assert!(said.contains(&format!("{set}:\t{mask}")), "{name} {set}: {said}");
        }
    }
}

fn what_is_executed_gives_nothing_unless_asked(suite: Suite) {
    let host = Berth::shared(suite);
    host.ok("cp /bin/cat /srv/suid-cat && chmod 4755 /srv/suid-cat");
    let script = "command = \"/srv/suid-cat /proc/self/status; exec sleep infinity\"\nuser = \"nobody\"\n";
    host.run("nnp", script);
    let said = host.wait_said("nnp", "NoNewPrivs:");
    assert!(said.contains("Uid:\t65534\t65534\t65534\t65534") && said.contains("NoNewPrivs:\t1"), "{said}");
    let state = host.container("nnp").unwrap();
    let ours = state["isolators"].as_array().unwrap().iter().find(|isolator| isolator["name"] == "linux/nnp").unwrap();
    assert_eq!(ours["detail"], "no new privileges", "{state}");
    assert!(host.ok("berthctl exec nnp -- grep NoNewPrivs /proc/self/status").ends_with('1'));
    // An edit restarts it.
    host.drop_spec("nnp", &format!("no_new_privileges = false\n{script}"));
    host.wait_said("nnp", "Uid:\t65534\t0\t0\t0");
}

fn an_edit_of_capabilities_restarts(suite: Suite) {
    let host = Berth::shared(suite);
    let toml = |more: &str| format!("{SLEEP}{more}");
    let before = host.run("caps-edit", &toml(""));
    host.drop_spec("caps-edit", &toml("[capabilities]\nbounding = [\"KILL\", \"CHOWN\"]\n"));
    host.wait_until("caps-edit", "in its second run", |container| container["main_pid"] != before);
    let pid = host.wait_program("caps-edit");
    assert_eq!(getpcaps(&host, pid), "cap_chown,cap_kill=ep");
    host.drop_spec(
        "caps-edit",
        &toml("on_change = \"manual\"\n[capabilities]\neffective = []\nbounding = [\"CAP_KILL\"]\n"),
    );
    let pending = json!(["capabilities.effective", "capabilities.bounding"]);
    host.wait_until("caps-edit", "pending", |container| container["spec"]["pending"] == pending);
    assert_eq!(host.main_pid("caps-edit"), pid);
    // Root has all of the bounding set, and is told so.
    host.ok("systemctl restart berth@caps-edit");
    let state = host.wait_until("caps-edit", "warned", |container| container["spec"]["warnings"] != json!([]));
    assert!(
        state["spec"]["warnings"][0].as_str().unwrap().starts_with("capabilities.effective has no say"),
        "{state:#}"
    );
    assert_eq!(getpcaps(&host, host.wait_program("caps-edit")), "cap_kill=ep");
}

fn a_capability_that_the_unit_lacks_fails_the_start(suite: Suite) {
    let host = Berth::shared(suite);
    host.write(
        "/etc/systemd/system/berth@caps-lack.service.d/less.conf",
        "[Service]\nCapabilityBoundingSet=~CAP_SYS_TIME\n",
    );
    host.ok("systemctl daemon-reload");
    is_refused(
        &host,
        &Refusal {
            name: "caps-lack",
            toml: "command = [\"true\"]\n[capabilities]\nbounding = [\"SYS_TIME\", \"KILL\"]\n",
            stage: "confine",
            status: 218,
            errno: Some(libc::EPERM),
            path: None,
            text: "cannot give the program SYS_TIME: the launcher does not have it itself",
        },
    );
    // All that there is, is less here.
    let pid = host.run("caps-lack", &format!("{SLEEP}[capabilities]\nbounding = [\"ALL\"]\n"));
    assert!(!decoded(&host, pid, "CapEff").contains("cap_sys_time"));
    let detail = detail(&host, "caps-lack").unwrap();
    assert!(detail.starts_with("bounding: all but ") && detail.contains("SYS_TIME"), "{detail}");
}

fn the_ceiling_is_the_administrators(suite: Suite) {
    let config = "[capabilities]\neffective = [\"NET_BIND_SERVICE\"]\nbounding = [\"KILL\", \"net_bind_service\"]\n";
    let host = Berth::boot_with(suite, options().file("/etc/berth/berthd.toml", config));
    let refusal = Refusal {
        name: "greedy",
        toml: "command = [\"true\"]\n[capabilities]\nbounding = [\"SYS_ADMIN\", \"KILL\"]\n",
        stage: "config",
        status: 78,
        errno: None,
        path: None,
        text: "capabilities.bounding asks for KILL SYS_ADMIN, but no more than KILL NET_BIND_SERVICE is allowed here",
    };
    is_refused(&host, &refusal);
    let plan = host.berthctl("plan greedy");
    assert!(!plan.status.success() && plan.stderr.contains(refusal.text), "{plan}");
    let text = "capabilities.effective asks for all, but no more than KILL NET_BIND_SERVICE is allowed here";
    let toml = "command = [\"true\"]\nuser = \"nobody\"\n[capabilities]\neffective = [\"ALL\"]\n";
    is_refused(&host, &Refusal { name: "greedy-all", toml, text, ..refusal });
    let root = host.run("root", SLEEP);
    assert_eq!(getpcaps(&host, root), "cap_kill,cap_net_bind_service=ep");
    let user = host.run("user", &format!("{SLEEP}user = \"nobody\"\n"));
    assert_eq!(getpcaps(&host, user), "cap_net_bind_service=eip");
    assert_eq!(decoded(&host, user, "CapBnd"), "cap_kill,cap_net_bind_service");
    let less = host.run("less", &format!("{SLEEP}user = \"nobody\"\n[capabilities]\neffective = []\nbounding = []\n"));
    assert_eq!((getpcaps(&host, less).as_str(), decoded(&host, less, "CapBnd").as_str()), ("=", ""));
    // A ceiling that nobody would keep is no configuration.
    host.write("/etc/berth/berthd.toml", format!("isolation = [\"namespaces/pid\"]\n{config}"));
    let reload = host.berthctl("reload");
    assert!(!reload.status.success() && reload.stderr.contains("nobody heeds this"), "{reload}");
}

fn without_the_isolator_root_is_root(suite: Suite) {
    let config = "isolation = [\"namespaces/pid\"]\n";
    let host = Berth::boot_with(suite, options().file("/etc/berth/berthd.toml", config));
    let pid = host.run("whole", SLEEP);
    assert_eq!(decoded(&host, pid, "CapEff"), decoded(&host, 1, "CapEff"));
    assert_eq!(detail(&host, "whole"), None);
    is_refused(
        &host,
        &Refusal {
            name: "off-caps",
            toml: "command = [\"true\"]\n[capabilities]\nbounding = []\n",
            stage: "config",
            status: 78,
            errno: None,
            path: None,
            text: "capabilities.bounding needs the isolator linux/capabilities",
        },
    );
}
