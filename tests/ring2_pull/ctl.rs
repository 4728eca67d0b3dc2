//! `berthctl fetch`, with the configuration and the credentials of a host.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::Path,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use base64::Engine as _;
use tempfile::TempDir;

use crate::{
    proxy::Proxy,
    pull::blobs,
    registry::{LARGE, Options, Registry, sha256},
};

/// All cases.
pub const ALL: &[(&str, fn())] = &[
    ("fetch_as_configured", configured),
    ("fetch_that_was_killed_leaves_no_process", killed),
    ("pull_into_the_store", into_the_store),
    ("an_index_gives_the_image_for_this_machine", index),
    ("pulls_of_one_image_at_a_time_fetch_once", at_a_time),
    ("fetch_leaves_strangers_alone", strangers),
    ("fetch_says_what_is_missing", words),
];

/// A host with this `[images]` and these credentials.
pub fn host(registry: &str, auth: Option<&str>) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let etc = root.path().join("etc/berth");
    fs::create_dir_all(&etc).unwrap();
    fs::write(etc.join("berthd.toml"), format!("[images]\npull_user = \"nobody\"\n{registry}")).unwrap();
    if let Some(auth) = auth {
        fs::write(etc.join("auth.json"), auth).unwrap();
        fs::set_permissions(etc.join("auth.json"), fs::Permissions::from_mode(0o600)).unwrap();
    }
    root
}

fn fetch(root: &Path, image: &str, directory: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_berthctl"))
        .arg("--root")
        .arg(root)
        .args(["fetch", image])
        .arg(directory)
        .output()
        .unwrap()
}

pub fn said(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

fn auth(host: &str, pair: &str) -> String {
    let pair = base64::engine::general_purpose::STANDARD.encode(pair);
    format!("{{\"auths\":{{\"{host}\":{{\"auth\":\"{pair}\"}}}}}}")
}

fn configured() {
    let registry = Registry::start(Options { password: Some(("me", "hush")), tls: true });
    registry.push("team/app:v1", &["--dest-creds", "me:hush"]);
    let address = &registry.host;
    let block = format!(
        "[[images.registry]]\nhost = \"origin.test:1\"\nmirrors = [\"{address}\"]\n\
         [[images.registry]]\nhost = \"{address}\"\nca_file = \"/etc/berth/ca.pem\"\n"
    );
    let root = host(&block, Some(&auth(&format!("{address}/team"), "me:hush")));
    fs::write(root.path().join("etc/berth/ca.pem"), registry.authority()).unwrap();
    // A way that is closed to the user of pulls.
    let private = root.path().join("private");
    fs::create_dir(&private).unwrap();
    fs::set_permissions(&private, fs::Permissions::from_mode(0o700)).unwrap();
    let target = private.join("layout");
    let out = fetch(root.path(), "docker://origin.test:1/team/app:v1", &target);
    assert!(out.status.success(), "{}", said(&out));
    assert!(said(&out).contains("is origin.test:1/team/app:v1, sha256:"), "{}", said(&out));
    assert_eq!(blobs(&target).len(), 4);
    for path in [target.clone(), target.join("index.json"), target.join("blobs/sha256")] {
        assert_eq!(path.metadata().unwrap().uid(), 0, "{}", path.display());
    }
    assert!(!target.join("parts").exists());
    // A wrong password, and none.
    for (auth, words) in [
        (Some(auth(address, "me:wrong")), "refuses the name or password of me"),
        (None, "no credentials"),
        (Some("{\"auths\":{".to_owned()), "no file of credentials"),
    ] {
        let root = host(&block.replace("/etc/berth/ca.pem", "/ca.pem"), auth.as_deref());
        fs::write(root.path().join("ca.pem"), registry.authority()).unwrap();
        let out = fetch(root.path(), &format!("docker://{address}/team/app:v1"), &root.path().join("layout"));
        assert!(!out.status.success() && said(&out).contains(words), "{}", said(&out));
    }
}

fn strangers() {
    let root = host("[[images.registry]]\nhost = \"127.0.0.1:1\"\ninsecure = \"http\"\n", None);
    let full = root.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("index.json"), "").unwrap();
    fs::write(full.join("precious"), "").unwrap();
    let linked = root.path().join("linked");
    fs::create_dir(&linked).unwrap();
    symlink(full.join("precious"), linked.join("index.json")).unwrap();
    let twice = root.path().join("twice");
    fs::create_dir(&twice).unwrap();
    fs::hard_link(full.join("precious"), twice.join("index.json")).unwrap();
    for (directory, words) in
        [(&full, "precious is in the way"), (&linked, "neither a file nor"), (&twice, "another name")]
    {
        let out = fetch(root.path(), "docker://127.0.0.1:1/a", directory);
        assert!(!out.status.success() && said(&out).contains(words), "{}", said(&out));
        assert_eq!(full.join("precious").metadata().unwrap().uid(), 0);
    }
}

fn words() {
    let root = host("[[images.registry]]\nhost = \"127.0.0.1:1\"\ninsecure = \"http\"\n", None);
    let target = root.path().join("layout");
    let out = fetch(root.path(), "docker://127.0.0.1:1/a", &target);
    assert!(said(&out).contains("cannot reach http://127.0.0.1:1: Connection refused"), "{}", said(&out));
    fs::write(root.path().join("etc/berth/berthd.toml"), "[images]\npull_user = \"nobody-at-all\"\n").unwrap();
    let out = fetch(root.path(), "docker://127.0.0.1:1/a", &target);
    assert!(said(&out).contains("there is no user nobody-at-all"), "{}", said(&out));
    fs::write(root.path().join("etc/berth/berthd.toml"), "[[images.registry]]\nhots = \"x.test\"\n").unwrap();
    let out = fetch(root.path(), "docker://127.0.0.1:1/a", &target);
    assert!(said(&out).contains("hots") && said(&out).contains("host"), "{}", said(&out));
}

/// The process that works in a directory.
fn worker(directory: &Path) -> Option<String> {
    find_worker(|cwd| cwd == directory)
}

/// The process that works somewhere below a directory.
pub fn worker_below(directory: &Path) -> Option<String> {
    find_worker(|cwd| cwd.starts_with(directory))
}

fn find_worker(is_its: impl Fn(&Path) -> bool) -> Option<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let mut named =
        processes.filter(|path| fs::read_to_string(path.join("comm")).is_ok_and(|name| name == "berth-pull\n"));
    let found = named.find(|path| fs::read_link(path.join("cwd")).is_ok_and(|cwd| is_its(&cwd)));
    found.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
}

pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn killed() {
    let registry = Registry::start(Options::default());
    registry.push("k:v1", &[]);
    let proxy = Proxy::start(&registry.host, u64::MAX, Duration::from_millis(10));
    let address = &proxy.host;
    let root = host(&format!("[[images.registry]]\nhost = \"{address}\"\ninsecure = \"http\"\n"), None);
    let (image, target) = (format!("docker://{address}/k:v1"), root.path().join("layout"));
    let mut ours = Command::new(env!("CARGO_BIN_EXE_berthctl"))
        .arg("--root")
        .arg(root.path())
        .args(["fetch", &image])
        .arg(&target)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("nothing comes", || proxy.sent() > 2 << 20);
    let worker = worker(&target).unwrap();
    // Root's words, and nothing else, are the process's own.
    let inherited = fs::read(format!("/proc/{worker}/environ")).unwrap();
    assert_eq!(inherited, b"");
    ours.kill().unwrap();
    ours.wait().unwrap();
    until("it goes on", || {
        let gone = fs::read_to_string(format!("/proc/{worker}/comm")).map_err(|error| error.kind());
        gone == Err(io::ErrorKind::NotFound) || gone.is_ok_and(|name| name != "berth-pull\n") || is_dead(&worker)
    });
    assert!(!target.join("index.json").exists());
    let before = proxy.sent();
    let out = fetch(root.path(), &image, &target);
    assert!(out.status.success(), "{}", said(&out));
    assert!(proxy.sent() - before < LARGE as u64 - (1 << 20), "it began anew");
    assert_eq!(blobs(&target), blobs(registry.copy_out("k:v1").path()));
}

/// Whether a process has ended and nobody has asked how.
fn is_dead(process: &str) -> bool {
    fs::read_to_string(format!("/proc/{process}/status")).is_ok_and(|status| status.contains("State:\tZ"))
}

/// `berthctl` with these words.
fn ctl(root: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_berthctl"));
    command.arg("--root").arg(root).args(words);
    command
}

/// What the file /word of the image in the store says.
fn word(root: &Path, image: &str) -> String {
    let out = ctl(root, &["--json", "image", image]).output().unwrap();
    assert!(out.status.success(), "{}", said(&out));
    let sheet: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let layers = sheet["layers"].as_array().unwrap();
    let top = layers.last().unwrap()["chain_id"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
    fs::read_to_string(root.join("var/lib/berth/images/layers").join(top).join("fs/word")).unwrap()
}

/// What fetches have left in the store.
fn left(root: &Path) -> usize {
    let entries = fs::read_dir(root.join("var/lib/berth/images/pulls")).unwrap().flatten();
    entries.filter(|entry| entry.file_type().unwrap().is_dir()).count()
}

fn into_the_store() {
    let registry = Registry::start(Options::default());
    registry.push_real("s:v1", "first");
    let proxy = Proxy::start(&registry.host, u64::MAX, Duration::from_millis(1));
    let address = proxy.host.clone();
    let root = host(&format!("[[images.registry]]\nhost = \"{address}\"\ninsecure = \"http\"\n"), None);
    let (root, image) = (root.path(), format!("docker://{address}/s:v1"));
    let pull = || ctl(root, &["pull", &image]).output().unwrap();
    // One that is killed leaves its parts, and no image.
    let mut killed = ctl(root, &["pull", &image]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    until("nothing comes", || proxy.sent() > 2 << 20);
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(left(root), 1);
    assert!(!said(&ctl(root, &["images"]).output().unwrap()).contains(&address));
    let before = proxy.sent();
    let out = pull();
    assert!(out.status.success(), "{}", said(&out));
    assert!(proxy.sent() - before < LARGE as u64 - (1 << 20), "it began anew");
    assert_eq!((word(root, &image), left(root)), ("first".to_owned(), 0));
    // Nothing newer: the manifest is all that comes.
    let before = proxy.sent();
    let out = pull();
    assert!(out.status.success() && said(&out).contains("nothing newer"), "{}", said(&out));
    assert!(proxy.sent() - before < 64 << 10);
    // The tag moves on.
    registry.push_real("s:v1", "second");
    assert!(pull().status.success());
    assert_eq!(word(root, &image), "second");
    // The registry is gone; what is here stays.
    drop(registry);
    let out = pull();
    assert!(!out.status.success(), "{}", said(&out));
    assert_eq!(word(root, &image), "second");
    // What was left goes with prune.
    fs::create_dir_all(root.join("var/lib/berth/images/pulls/0/parts")).unwrap();
    assert!(ctl(root, &["prune"]).output().unwrap().status.success());
    assert_eq!(left(root), 0);
}

fn at_a_time() {
    let registry = Registry::start(Options::default());
    registry.push_real("c:v1", "word");
    let proxy = Proxy::start(&registry.host, u64::MAX, Duration::from_millis(1));
    let address = proxy.host.clone();
    let root = host(&format!("[[images.registry]]\nhost = \"{address}\"\ninsecure = \"http\"\n"), None);
    let image = format!("docker://{address}/c:v1");
    let start = |_| ctl(root.path(), &["pull", &image]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let all: Vec<_> = (0..4).map(start).collect();
    for one in all {
        let out = one.wait_with_output().unwrap();
        assert!(out.status.success(), "{}", said(&out));
    }
    let (sent, whole) = (proxy.sent(), LARGE as u64);
    assert!(sent < whole + whole / 4, "{sent} bytes for an image of {whole}");
    assert_eq!(word(root.path(), &image), "word");
}

fn index() {
    let registry = Registry::start(Options::default());
    let address = registry.host.clone();
    let kind = |kind: &str| format!("application/vnd.oci.image.{kind}.v1+json");
    let entry = |tag: &str, word: &str, architecture: &str| {
        registry.push_real(&format!("m:{tag}"), word);
        let name = format!("docker://{address}/m:{tag}");
        let out = Command::new("skopeo").args(["inspect", "--raw", "--tls-verify=false", &name]).output().unwrap();
        serde_json::json!({
            "mediaType": kind("manifest"), "digest": sha256(&out.stdout), "size": out.stdout.len(),
            "platform": { "os": "linux", "architecture": architecture }
        })
    };
    let ours = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let entries = [entry("other", "theirs", "s390x"), entry("own", "ours", ours)];
    let both = serde_json::json!({ "schemaVersion": 2, "mediaType": kind("index"), "manifests": entries }).to_string();
    registry.put_manifest("m", "v1", &kind("index"), &both);
    let root = host(&format!("[[images.registry]]\nhost = \"{address}\"\ninsecure = \"http\"\n"), None);
    let pinned = format!("docker://{address}/m@{}", sha256(both.as_bytes()));
    for image in [format!("docker://{address}/m:v1"), pinned] {
        let out = ctl(root.path(), &["pull", &image]).output().unwrap();
        assert!(out.status.success(), "{}", said(&out));
        assert_eq!(word(root.path(), &image), "ours");
        let out = ctl(root.path(), &["pull", &image]).output().unwrap();
        assert!(said(&out).contains("nothing newer"), "{}", said(&out));
    }
    let without = serde_json::json!({ "schemaVersion": 2, "mediaType": kind("index"), "manifests": entries[..1] });
    registry.put_manifest("m", "v2", &kind("index"), &without.to_string());
    let out = ctl(root.path(), &["pull", &format!("docker://{address}/m:v2")]).output().unwrap();
    assert!(said(&out).contains("not made for this machine") && said(&out).contains("linux/s390x"), "{}", said(&out));
}
