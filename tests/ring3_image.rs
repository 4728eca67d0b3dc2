//! Ring 3: real servers from an image that others have made, and their clients as the judges.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::missing_docs_in_private_items,
    clippy::too_many_lines,
    reason = "a test says what it expects; its name is its sentence"
)]

mod support;

#[path = "ring3_image/cells.rs"]
mod cells;

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use serde_json::Value;
use support::berth::{Berth, SOON, options};
use support::host::Suite;
use support::ring;

/// Where the host sees the layout with the images.
const IMAGES: &str = "/srv/images";

fn main() -> ExitCode {
    let mut trials = vec![
        ("servers_from_images_answer_their_clients", servers_from_images_answer_their_clients as fn(Suite)),
        ("all_32_cells_run_what_the_table_says", cells::all_32_cells_run_what_the_table_says),
        ("mesoss_own_images_run_their_defaults", cells::mesoss_own_images_run_their_defaults),
    ];
    let mut lacking = Vec::new();
    ring::not_here(&mut trials, &mut lacking, &NOT_HERE);
    ring::main_but(&trials, &lacking)
}

/// What a test does not survive that runs on the host itself.
const NOT_HERE: [(&str, &str); 3] = [
    ("servers_from_images_answer_their_clients", "the images are too large for an emulated machine"),
    ("all_32_cells_run_what_the_table_says", "umoci makes the images, and the machine has none"),
    ("mesoss_own_images_run_their_defaults", "umoci makes the images, and the machine has none"),
];

/// The layout, made at the first call on a machine.
fn layout() -> PathBuf {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/host/build-images");
    let output = Command::new(script).arg("bookworm").stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "tests/host/build-images: {}", output.status);
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end())
}

/// The digest of an image's manifest, as its layout has it.
fn digest(layout: &std::path::Path, tag: &str) -> String {
    let index: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    let manifests = index["manifests"].as_array().unwrap();
    let tagged = |entry: &&Value| entry["annotations"]["org.opencontainers.image.ref.name"] == tag;
    manifests.iter().find(tagged).unwrap()["digest"].as_str().unwrap().to_owned()
}

fn servers_from_images_answer_their_clients(suite: Suite) {
    let layout = layout();
    let host = Berth::boot_with(suite, options().bind(&layout, IMAGES));
    host.ok("ip link set lo up");
    for name in ["nginx", "redis", "postgres"] {
        host.drop_spec(name, &format!("[image]\nsource = \"oci:{IMAGES}:{name}\"\n"));
    }
    let minute = SOON * 6;
    for name in ["nginx", "redis", "postgres"] {
        host.wait_for(&format!("{name} to run"), minute, || {
            host.container(name).filter(|container| container["state"] == "running")
        });
    }
    let asks = |what: &str, command: &str, answer: &str| {
        host.wait_for(what, SOON, || Some(host.sh(command).stdout).filter(|said| said.contains(answer)));
    };
    let get = "exec 3<>/dev/tcp/127.0.0.1/80; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
    asks("nginx to answer", &format!("bash -c \"{get}\""), "Welcome to nginx");
    asks("redis to answer", "redis-cli ping", "PONG");
    asks("postgres to answer", "berthctl exec postgres psql -h /tmp -Atc 'select 6 * 7'", "42");
    // As their images say: who they are, and which one runs.
    for (name, user) in [("nginx", "root"), ("redis", "redis"), ("postgres", "postgres")] {
        let seen = host.ok(&format!("berthctl exec {name} stat -c %U /proc/1"));
        assert_eq!(seen.trim(), user, "{name}");
        assert_eq!(host.container(name).unwrap()["image"]["digest"], digest(&layout, name), "{name}");
    }
    // The volume of redis's is in its sandbox, as the image has it.
    let volume = "/var/lib/berth/sandboxes/redis/latest/volumes/var-lib-redis";
    let there = host.ok(&format!("stat -c %a {volume}; berthctl exec redis stat -c '%U %G %a' /var/lib/redis"));
    assert_eq!(there.lines().collect::<Vec<_>>(), ["750", "redis redis 750"]);
    // What ends it is the image's signal: another would be a smart shutdown, which waits for clients.
    assert_eq!(host.property("postgres", "KillSignal"), "2");
    host.ok("systemctl stop berth@postgres");
    host.wait_said("postgres", "received fast shutdown request");
    assert_eq!(host.property("postgres", "Result"), "success");
    // One copy of the layers serves them all.
    let copies = host.ok("find /var/lib/berth/images -path '*/usr/sbin/nginx' | wc -l");
    assert_eq!(copies.trim(), "1");
    for name in ["nginx", "redis", "postgres"] {
        host.remove_spec(name);
        host.wait_gone(name);
    }
}
