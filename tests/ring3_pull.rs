//! Ring 3: starts that pull their image, with systemd's timeouts and in the sandboxes of the real units, from a real
//! registry behind a slow line.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::missing_docs_in_private_items,
    reason = "a test says what it expects; its name is its sentence"
)]

#[path = "ring2_pull/registry.rs"]
#[allow(dead_code, reason = "ring 2 needs more of it")]
mod registry;
mod support;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use registry::{Options, Registry};
use support::berth::{Berth, SOON, options, unit};
use support::host::Suite;
use support::ring;

/// The image, by way of the slow line.
const IMAGE: &str = "docker://127.0.0.1:5001/s:v1";
/// The same, as the registry wants to know who asks.
const PRIVATE: &str = "docker://127.0.0.1:5002/s:v1";

fn main() -> ExitCode {
    let mut trials = vec![
        ("a_slow_pull_outlives_the_start_timeout", a_slow_pull_outlives_the_start_timeout as fn(Suite)),
        ("a_stalled_pull_fails_the_start_and_the_next_goes_on", a_stalled_pull_fails_the_start_and_the_next_goes_on),
        ("a_stop_ends_a_pull", a_stop_ends_a_pull),
        ("a_berthd_that_is_killed_pulls_on", a_berthd_that_is_killed_pulls_on),
        ("a_credential_of_systemds_serves_starts", a_credential_of_systemds_serves_starts),
        ("a_pull_without_its_socket_says_what_to_start", a_pull_without_its_socket_says_what_to_start),
    ];
    let mut lacking = Vec::new();
    let here = trials.clone();
    let but: Vec<(&str, &str)> = here.iter().map(|(name, _)| (*name, "there is no registry on the machine")).collect();
    ring::not_here(&mut trials, &mut lacking, &but);
    ring::main_but(&trials, &lacking)
}

/// A host with a registry that has the image.
fn host(suite: Suite) -> Berth {
    let made = Registry::start(Options::default());
    made.push_program("s:v1", "from the registry");
    let store = made.stop();
    let ours = |path: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let config = |port: u16, more: &str| {
        format!(
            "version: 0.1\nlog: {{ level: warn }}\nhttp: {{ addr: '127.0.0.1:{port}', secret: s }}\n\
             storage: {{ filesystem: {{ rootdirectory: /srv/registry/data }} }}\n{more}"
        )
    };
    let auth = "auth: { htpasswd: { realm: test, path: /srv/htpasswd } }\n";
    let passwords = Command::new("htpasswd").args(["-Bbn", "me", "hush"]).output().unwrap().stdout;
    let registries =
        [5001, 5002].map(|port| format!("[[images.registry]]\nhost = \"127.0.0.1:{port}\"\ninsecure = \"http\"\n"));
    let options = options()
        .bind("/usr/bin/docker-registry", "/usr/bin/docker-registry")
        .copy(ours("tests/ring3_pull/slow.pl"), "/srv/slow.pl")
        .file("/srv/open.yml", config(5000, ""))
        .file("/srv/private.yml", config(5002, auth))
        .file("/srv/htpasswd", passwords)
        .file("/etc/berth/berthd.toml", registries.concat())
        .bind_writable(store.path(), "/srv/registry");
    let host = Berth::boot_with(suite, options);
    host.ok("ip link set lo up; \
             systemd-run -q --unit=registry docker-registry serve /srv/open.yml; \
             systemd-run -q --unit=private docker-registry serve /srv/private.yml; \
             systemd-run -q --unit=slow perl /srv/slow.pl 5001 5000 /run/stall");
    for port in [5000, 5001, 5002] {
        host.wait_for("the registry", SOON, || {
            host.sh(&format!("bash -c ': </dev/tcp/127.0.0.1/{port}'")).status.success().then_some(())
        });
    }
    // It lies there as long as the host does.
    std::mem::forget(store);
    host
}

fn spec(host: &Berth, name: &str, source: &str, more: &str) {
    let toml = format!(
        "autostart = false\ncommand = \"read word < /word; echo $word; exec /bin/sleep infinity\"\n\
         [image]\nsource = \"{source}\"\n[service]\nrestart = \"no\"\n{more}"
    );
    host.drop_spec(name, &toml);
    host.wait_until(name, "known", |_| true);
}

/// The fetches that go on.
fn fetches(host: &Berth) -> String {
    host.ok("systemctl list-units --plain --no-legend --state active 'berth-pull@*'")
}

fn wait_for_bytes(host: &Berth) {
    host.wait_for("bytes to come", SOON, || {
        let sizes = host.ok("cat /var/lib/berth/images/pulls/*/parts/* 2>/dev/null | wc -c; true");
        (sizes.trim().parse::<u64>().unwrap_or_default() > 1 << 20).then_some(())
    });
}

fn a_slow_pull_outlives_the_start_timeout(suite: Suite) {
    let host = host(suite);
    spec(&host, "web", IMAGE, "start_timeout = \"4s\"\n");
    let begun = Instant::now();
    host.ok("systemctl start --no-block berth@web");
    wait_for_bytes(&host);
    // A unit of its own, of a user of its own, with no power.
    let fetch = fetches(&host);
    let name = fetch.split_whitespace().next().unwrap_or_else(|| panic!("no fetch: {}", host.journal_tail()));
    let pid = host.show(name, "MainPID");
    let status = host.read(format!("/proc/{pid}/status"));
    let user = host.ok("id -u berth-pull").trim().to_owned();
    assert!(status.contains(&format!("Uid:\t{user}\t{user}\t{user}\t{user}")), "{status}");
    assert!(status.contains("CapEff:\t0000000000000000") && status.contains("NoNewPrivs:\t1"), "{status}");
    host.wait_for("the status to say so", SOON, || {
        Some(host.property("web", "StatusText")).filter(|text| text.contains("Pulling docker://127.0.0.1:5001/s:v1: "))
    });
    host.ok("systemctl start berth@web");
    assert!(begun.elapsed() > Duration::from_secs(5), "the line is too fast for this test");
    host.wait_said("web", "from the registry");
    assert_eq!(host.property("web", "StatusText"), "");
    let entries = host.entries("MESSAGE_ID=54743a7c71ff4af7a626eabbab7848d5 BERTH_CONTAINER=web");
    assert_eq!(entries.len(), 1, "{}", host.journal_tail());
    // What is here needs nobody.
    host.ok("systemctl stop registry slow berth-pull.socket; systemctl restart berth@web");
    host.wait_state("web", "running");
}

fn a_stalled_pull_fails_the_start_and_the_next_goes_on(suite: Suite) {
    let host = host(suite);
    spec(&host, "web", IMAGE, "start_timeout = \"5s\"\n");
    host.ok("systemctl start --no-block berth@web");
    wait_for_bytes(&host);
    host.ok("touch /run/stall");
    let state = host.wait_state("web", "failed");
    let message = state["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("no byte came from 127.0.0.1:5001 for 5s") && message.contains(" bytes are here"),
        "{state}"
    );
    assert_eq!(host.property("web", "Result"), "exit-code");
    assert!(host.said("web").contains("no byte came"), "{}", host.journal_tail());
    host.wait_for("the end of the fetch", SOON, || fetches(&host).is_empty().then_some(()));
    let before: u64 = host.ok("cat /var/lib/berth/images/pulls/*/parts/* | wc -c").trim().parse().unwrap();
    assert!(before > 1 << 20);
    host.ok("rm /run/stall; systemctl start berth@web");
    host.wait_said("web", "from the registry");
}

fn a_stop_ends_a_pull(suite: Suite) {
    let host = host(suite);
    spec(&host, "web", IMAGE, "");
    host.ok("systemctl start --no-block berth@web");
    wait_for_bytes(&host);
    host.ok("systemctl stop berth@web");
    host.wait_for("the end of the fetch", SOON, || fetches(&host).is_empty().then_some(()));
    let state = host.wait_until("web", "at rest", |container| container["state"] != "starting");
    assert_ne!(state["state"], "failed", "{state}");
    assert!(host.find("/var/lib/berth/images/tags").is_none());
    host.ok("systemctl start berth@web");
    host.wait_said("web", "from the registry");
}

fn a_berthd_that_is_killed_pulls_on(suite: Suite) {
    let host = host(suite);
    spec(&host, "web", IMAGE, "");
    host.ok("systemctl start --no-block berth@web");
    wait_for_bytes(&host);
    let before = fetches(&host);
    host.ok("systemctl kill --signal=KILL berthd.service");
    // The launcher asks the next berthd, and that one goes on.
    host.ok("systemctl start berth@web");
    host.wait_said("web", "from the registry");
    host.wait_for("the end of the fetches", SOON, || fetches(&host).is_empty().then_some(()));
    assert!(!before.is_empty());
}

fn a_credential_of_systemds_serves_starts(suite: Suite) {
    let host = host(suite);
    spec(&host, "web", PRIVATE, "");
    let output = host.sh("systemctl start berth@web");
    assert!(!output.status.success());
    let state = host.wait_state("web", "failed");
    assert!(state["error"]["message"].as_str().unwrap().contains("there are no credentials for it"), "{state}");
    // me:hush
    host.write("/root/registries.json", r#"{"auths":{"127.0.0.1:5002":{"auth":"bWU6aHVzaA=="}}}"#);
    host.write(
        "/etc/systemd/system/berthd.service.d/auth.conf",
        "[Service]\nLoadCredential=berth.auth:/root/registries.json\n",
    );
    host.ok("systemctl daemon-reload");
    host.restart_berthd();
    host.ok("systemctl start berth@web");
    host.wait_said("web", "from the registry");
    assert!(!host.ok("journalctl -b -o json").contains("bWU6aHVzaA"), "a secret is in the journal");
}

fn a_pull_without_its_socket_says_what_to_start(suite: Suite) {
    let host = host(suite);
    host.ok("systemctl stop berth-pull.socket");
    spec(&host, "web", IMAGE, "");
    assert!(!host.sh("systemctl start berth@web").status.success());
    let state = host.wait_state("web", "failed");
    assert!(state["error"]["message"].as_str().unwrap().contains("systemctl start berth-pull.socket"), "{state}");
    assert!(host.said("web").contains("berth-pull.socket"), "{}", unit("web"));
}
