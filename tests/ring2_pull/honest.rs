//! What a real registry gives, and how it breaks off.

use std::{fs, process::Command, time::Duration};

use berth::pull::{Cause, Event, Request, Transport};

use crate::{
    proxy::Proxy,
    pull::{Running, USER, blobs, digest, directory, endpoint, password, pull, refusal, request},
    registry::{LARGE, Options, Registry, SMALL},
};

/// All cases.
pub const ALL: &[(&str, fn())] = &[
    ("a_pull_equals_what_skopeo_copies", equals_skopeo),
    ("passwords", passwords),
    ("certificates", certificates),
    ("a_missing_image", missing),
    ("mirrors_come_first_and_are_passed_over", mirrors),
    ("a_registry_that_breaks_off_is_resumed", resumed),
    ("a_pull_that_was_killed_is_resumed", killed),
    ("a_disk_that_is_too_small", full),
    ("it_ends_with_its_parent", orphaned),
    ("it_has_no_power_and_shows_no_secret", powerless),
];

/// Bytes of a pull beside its layers.
const REST: u64 = 64 << 10;

fn equals_skopeo() {
    let registry = Registry::start(Options::default());
    for (name, format) in [("a/oci", "oci"), ("a/docker", "v2s2")] {
        registry.push(&format!("{name}:v1"), &["--format", format]);
        let theirs = registry.copy_out(&format!("{name}:v1"));
        let ours = directory();
        let request = request(&registry.host, name, "v1");
        let found = digest(ours.path(), &request);
        if format == "oci" {
            // Of an image of Docker's, skopeo writes the manifest anew.
            assert_eq!(blobs(ours.path()), blobs(theirs.path()));
        }
        // The judge reads our layout, and finds the same image.
        let inspect = |what: String| {
            let out = Command::new("skopeo").args(["inspect", "--raw", "--tls-verify=false", &what]).output().unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            out.stdout
        };
        // It looks for tags among manifests of OCI only, but takes the only one of any kind.
        let tag = if format == "oci" { ":v1" } else { "" };
        let layout = format!("oci:{}{tag}", ours.path().display());
        assert_eq!(inspect(layout), inspect(format!("docker://{}/{name}:v1", registry.host)));
        // By its digest, and only if it is news.
        let by_digest = Request { tag: None, digest: Some(found.clone()), ..request.clone() };
        assert_eq!(digest(directory().path(), &by_digest), found);
        let known = Request { known: Some(found.clone()), ..request };
        let events = pull(directory().path(), &known);
        assert_eq!(events, [Event::Unchanged { manifest: found }]);
    }
}

fn passwords() {
    let registry = Registry::start(Options { password: Some(("me", "hush hush:x")), tls: false });
    registry.push("p:v1", &["--dest-creds", "me:hush hush:x"]);
    let with = |credential| {
        let mut request = request(&registry.host, "p", "v1");
        request.endpoints[0].credential = credential;
        request
    };
    digest(directory().path(), &with(password("me", "hush hush:x")));
    for (credential, words) in [
        (password("me", "wrong"), "refuses the name or password of me"),
        (password("you", "hush hush:x"), "refuses the name or password of you"),
        (None, "no credentials"),
    ] {
        let (cause, message) = refusal(&with(credential));
        assert_eq!(cause, Cause::Unauthorized);
        assert!(message.contains(words) && message.contains("podman login"), "{message}");
        assert!(!message.contains("hush") && !message.contains("wrong"), "{message}");
    }
}

fn certificates() {
    let registry = Registry::start(Options { tls: true, password: None });
    let other = Registry::start(Options { tls: true, password: None });
    registry.push("t:v1", &[]);
    let with = |transport, authorities| {
        let mut request = request(&registry.host, "t", "v1");
        (request.endpoints[0].transport, request.endpoints[0].authorities) = (transport, authorities);
        request
    };
    digest(directory().path(), &with(Transport::Https, Some(registry.authority())));
    digest(directory().path(), &with(Transport::UnverifiedTls, None));
    for stranger in [None, Some(other.authority())] {
        let (cause, message) = refusal(&with(Transport::Https, stranger));
        assert_eq!(cause, Cause::Untrusted, "{message}");
        assert!(message.contains("ca_file"), "{message}");
    }
    let (cause, message) = refusal(&with(Transport::Https, Some("no PEM".to_owned())));
    assert_eq!(cause, Cause::Local);
    assert!(message.contains("BEGIN CERTIFICATE"), "{message}");
}

fn missing() {
    let registry = Registry::start(Options::default());
    registry.push("m:v1", &[]);
    for (name, tag) in [("m", "v2"), ("n", "v1")] {
        let (cause, message) = refusal(&request(&registry.host, name, tag));
        assert_eq!(cause, Cause::Missing);
        assert!(message.contains(&format!("has no {name}")) && message.contains(tag), "{message}");
    }
}

fn mirrors() {
    let registry = Registry::start(Options::default());
    let empty = Registry::start(Options::default());
    registry.push("x:v1", &[]);
    let mut request = request(&registry.host, "x", "v1");
    request.endpoints.insert(0, endpoint(&empty.host));
    let target = directory();
    let events = pull(target.path(), &request);
    assert!(matches!(events.last(), Some(Event::Done { .. })), "{events:?}");
    let passed = |event: &Event| matches!(event, Event::Note { message } if message.contains("asking the next server"));
    assert!(events.iter().any(passed), "{events:?}");
}

fn resumed() {
    let registry = Registry::start(Options::default());
    registry.push("r:v1", &[]);
    // The large layer needs at least three connections.
    let proxy = Proxy::start(&registry.host, (LARGE / 3) as u64, Duration::ZERO);
    let target = directory();
    digest(target.path(), &request(&proxy.host, "r", "v1"));
    assert_eq!(blobs(target.path()), blobs(registry.copy_out("r:v1").path()));
    let (sent, whole) = (proxy.sent(), (LARGE + SMALL) as u64);
    // What was under way when a connection broke is lost, no more.
    assert!(sent < whole + whole / 4, "{sent} bytes for an image of {whole}");
}

fn killed() {
    let registry = Registry::start(Options::default());
    registry.push("k:v1", &[]);
    let proxy = Proxy::start(&registry.host, u64::MAX, Duration::from_millis(5));
    let (target, request) = (directory(), request(&proxy.host, "k", "v1"));
    let mut first = Running::start(target.path(), &request);
    first.hear_bytes(3 << 20);
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    assert!(!target.path().join("index.json").exists());
    let before = proxy.sent();
    assert!(before > 3 << 20);
    digest(target.path(), &request);
    let rest = proxy.sent() - before;
    assert!(rest < LARGE as u64 - (2 << 20) + REST, "{rest} bytes came again");
    // A third time nothing comes but the manifest.
    let before = proxy.sent();
    digest(target.path(), &request);
    assert!(proxy.sent() - before < REST);
    // What was spoilt on disk is seen, and mended.
    let large = fs::read_dir(target.path().join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().path());
    let large = large.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = fs::read(&large).unwrap();
    bytes[1000] ^= 1;
    fs::write(&large, bytes).unwrap();
    digest(target.path(), &request);
    assert_eq!(blobs(target.path()), blobs(registry.copy_out("k:v1").path()));
}

fn orphaned() {
    let registry = Registry::start(Options::default());
    registry.push("o:v1", &[]);
    let proxy = Proxy::start(&registry.host, u64::MAX, Duration::from_millis(50));
    // Its input ends: nobody waits any more.
    let target = directory();
    let mut running = Running::start(target.path(), &request(&proxy.host, "o", "v1"));
    running.hear_bytes(1);
    drop(running.input.take());
    assert_eq!(running.child.wait().unwrap().code(), Some(1));
    // It was not started by whom it is told.
    let out =
        Command::new(env!("CARGO_BIN_EXE_berth-pull")).args(["--directory", "/", "--parent", "1"]).output().unwrap();
    assert!(String::from_utf8(out.stdout).unwrap().contains("is gone"));
}

fn powerless() {
    let registry = Registry::start(Options { password: Some(("me", "hush")), tls: false });
    registry.push("s:v1", &["--dest-creds", "me:hush"]);
    let proxy = Proxy::start(&registry.host, u64::MAX, Duration::from_millis(50));
    let mut request = request(&proxy.host, "s", "v1");
    request.endpoints[0].credential = password("me", "hush");
    let target = directory();
    let mut running = Running::start(target.path(), &request);
    running.hear_bytes(1);
    let process = |file: &str| fs::read(format!("/proc/{}/{file}", running.child.id())).unwrap();
    let status = String::from_utf8(process("status")).unwrap();
    for line in [
        "Uid:\t65534\t65534\t65534\t65534",
        "Gid:\t65534\t65534\t65534\t65534",
        "Groups:\t",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(status.lines().any(|has| has.trim_end() == line.trim_end()), "{line} in {status}");
    }
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert!(status.contains(&format!("{set}:\t0000000000000000")), "{set} in {status}");
    }
    assert_eq!(process("environ"), b"");
    assert!(!String::from_utf8_lossy(&process("cmdline")).contains("hush"));
    running.child.kill().unwrap();
    running.child.wait().unwrap();
}

fn full() {
    let registry = Registry::start(Options::default());
    registry.push("f:v1", &[]);
    let small = tempfile::tempdir().unwrap();
    let options = format!("size=4m,uid={USER},gid={USER}");
    let mount = |arguments: &[&str]| {
        assert!(Command::new("mount").args(arguments).arg(small.path()).status().unwrap().success())
    };
    mount(&["-t", "tmpfs", "-o", &options, "tmpfs"]);
    let events = pull(small.path(), &request(&registry.host, "f", "v1"));
    // Said before the first byte of a layer.
    let Some(Event::Failed { cause: Cause::Local, message }) = events.last() else { panic!("{events:?}") };
    assert!(message.contains("are free; make space"), "{message}");
    assert!(!events.iter().any(|event| matches!(event, Event::Blob { .. })), "{events:?}");
    // With room, what is there serves.
    mount(&["-o", "remount,size=64m"]);
    digest(small.path(), &request(&registry.host, "f", "v1"));
    assert!(Command::new("umount").arg(small.path()).status().unwrap().success());
}
