//! A start that needs an image of a registry, under the direct manager.

use std::{
    fs,
    os::unix::{fs::symlink, net::UnixStream},
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    ctl::{said, until, worker_below},
    proxy::{Proxy, Stall},
    registry::{LARGE, Options, Registry},
};

/// All cases.
pub const ALL: &[(&str, fn())] = &[
    ("a_start_pulls_what_is_missing_and_asks_nobody_for_what_is_here", missing),
    ("always_newer_and_never_do_as_they_say", modes),
    ("a_digest_that_is_here_needs_no_network", pinned),
    ("starts_of_one_image_at_a_time_pull_once", once),
    ("starts_of_one_image_at_a_time_fail_once", fails_once),
    ("a_slow_pull_is_waited_for_while_bytes_flow", slow),
    ("a_pull_that_stalls_ends_the_start_and_says_how_far_it_came", stalled),
    ("a_stop_ends_the_pull_and_the_next_start_goes_on", stopped),
    ("a_berthd_that_is_killed_leaves_a_pull_that_goes_on", killed),
    ("local_images_are_imported_as_pull_says", local),
    ("an_update_asks_the_registry_and_what_it_took_back_does_not", update),
];

/// A host with a berthd of its own.
struct Host {
    root: TempDir,
    berthd: Option<Child>,
}

impl Host {
    /// One that speaks http to `registry`.
    fn new(registry: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("etc/berth/containers")).unwrap();
        // The kernel's files are the machine's; its control groups are not for tests.
        symlink("/proc", at("proc")).unwrap();
        let config = format!(
            "isolation = [\"filesystem/linux\", \"docker/runtime\", \"namespaces/pid\"]\n\
             [images]\npull_user = \"nobody\"\n\
             [[images.registry]]\nhost = \"{registry}\"\ninsecure = \"http\"\n"
        );
        fs::write(at("etc/berth/berthd.toml"), config).unwrap();
        let mut host = Self { root, berthd: None };
        host.start_berthd();
        host
    }

    fn start_berthd(&mut self) {
        let log = fs::OpenOptions::new().append(true).create(true).open(self.root.path().join("berthd.log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_berthd"));
        command.arg("--root").arg(self.root.path()).args(["--manager", "direct"]);
        command.env_remove("JOURNAL_STREAM").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.berthd = Some(command.spawn().unwrap());
        let socket = self.root.path().join("run/berth/berthd.sock");
        until("berthd does not come up", || UnixStream::connect(&socket).is_ok());
    }

    /// As nobody could prepare for.
    fn kill_berthd(&mut self) {
        let mut berthd = self.berthd.take().unwrap();
        berthd.kill().unwrap();
        berthd.wait().unwrap();
    }

    fn ctl(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_berthctl"));
        command.arg("--root").arg(self.root.path()).args(words);
        command
    }

    /// A spec that waits for an order, and tells the image's word.
    fn spec(&self, name: &str, source: &str, pull: &str, more: &str) {
        let text = format!(
            "autostart = false\ncommand = \"read word < /word; echo $word; exec /bin/sleep infinity\"\n\
             [image]\nsource = \"{source}\"\npull = \"{pull}\"\n[service]\nrestart = \"no\"\n{more}"
        );
        fs::write(self.root.path().join(format!("etc/berth/containers/{name}.toml")), text).unwrap();
        until("the spec is not seen", || said(&self.ctl(&["list"])).contains(name));
    }

    /// Starts a container; what it tells.
    fn word(&self, name: &str) -> String {
        let path = self.root.path().join(format!("var/log/berth/{name}.log"));
        // What an earlier start has said.
        let _ = fs::remove_file(&path);
        let out = self.ctl(&["start", name]);
        assert!(out.status.success(), "{}\n{}", said(&out), self.log());
        let mut told = String::new();
        until("it tells nothing", || {
            told = fs::read_to_string(&path).unwrap_or_default().lines().last().unwrap_or_default().to_owned();
            !told.is_empty()
        });
        assert!(self.ctl(&["stop", name]).status.success());
        told
    }

    /// Starts a container in vain; what is said of it.
    fn refusal(&self, name: &str) -> String {
        let out = self.ctl(&["start", name]);
        assert!(!out.status.success(), "{}", said(&out));
        said(&out)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.root.path().join("berthd.log")).unwrap()
    }

    fn pulls(&self) -> std::path::PathBuf {
        self.root.path().join("var/lib/berth/images/pulls")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Containers do not end with berthd.
        let list = fs::read_dir(self.root.path().join("etc/berth/containers")).unwrap();
        if self.berthd.is_some() {
            for spec in list.flatten() {
                let _ = self.ctl(&["stop", spec.path().file_stem().unwrap().to_str().unwrap()]);
            }
            self.kill_berthd();
        }
    }
}

fn plain() -> Registry {
    Registry::start(Options::default())
}

fn missing() {
    let registry = plain();
    registry.push_program("s:v1", "first");
    let proxy = Proxy::start(&registry.host, u64::MAX, Duration::ZERO);
    let host = Host::new(&proxy.host);
    host.spec("web", &format!("docker://{}/s:v1", proxy.host), "missing", "");
    assert_eq!(host.word("web"), "first");
    assert!(host.log().contains("web: pulled docker://"), "{}", host.log());
    let before = proxy.sent();
    registry.push_program("s:v1", "second");
    assert_eq!(host.word("web"), "first");
    assert_eq!(proxy.sent(), before, "the registry was asked");
    drop(registry);
    assert_eq!(host.word("web"), "first");
}

fn modes() {
    let registry = plain();
    registry.push_program("s:v1", "first");
    let host = Host::new(&registry.host);
    let source = format!("docker://{}/s:v1", registry.host);
    for mode in ["never", "always", "newer"] {
        host.spec(mode, &source, mode, "");
    }
    let refusal = host.refusal("never");
    assert!(refusal.contains("pull = \"never\"; get it with 'berthctl pull docker://"), "{refusal}");
    assert_eq!(host.word("newer"), "first");
    assert_eq!(host.word("never"), "first");
    registry.push_program("s:v1", "second");
    assert_eq!(host.word("never"), "first");
    assert_eq!(host.word("newer"), "second");
    registry.push_program("s:v1", "third");
    assert_eq!(host.word("always"), "third");
    assert!(!host.log().contains("starting with the image that is here"), "{}", host.log());
    drop(registry);
    let refusal = host.refusal("always");
    assert!(refusal.contains("cannot pull") && refusal.contains("Connection refused"), "{refusal}");
    assert_eq!(host.word("newer"), "third");
    assert!(host.log().contains("newer: starting with the image that is here: cannot pull"), "{}", host.log());
    assert_eq!(host.word("never"), "third");
}

fn pinned() {
    let registry = plain();
    registry.push_program("s:v1", "word");
    let host = Host::new(&registry.host);
    let source = format!("docker://{}/s:v1", registry.host);
    let out = Command::new("skopeo")
        .args(["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &source])
        .output()
        .unwrap();
    let digest = String::from_utf8(out.stdout).unwrap().trim().to_owned();
    for mode in ["missing", "always", "newer"] {
        host.spec(mode, &format!("docker://{}/s@{digest}", registry.host), mode, "");
    }
    assert_eq!(host.word("always"), "word");
    drop(registry);
    for mode in ["missing", "always", "newer"] {
        assert_eq!(host.word(mode), "word", "{mode}");
    }
    assert!(!host.log().contains("starting with the image that is here"), "{}", host.log());
}

fn once() {
    let registry = plain();
    registry.push_program("s:v1", "word");
    let proxy = Proxy::start(&registry.host, u64::MAX, Duration::from_millis(2));
    let host = Host::new(&proxy.host);
    let names = ["a", "b", "c"];
    for (name, pull) in names.into_iter().zip(["missing", "always", "newer"]) {
        host.spec(name, &format!("docker://{}/s:v1", proxy.host), pull, "");
    }
    let starts: Vec<Child> = names.map(|name| host.command(&["start", name]).spawn().unwrap()).into();
    for mut start in starts {
        assert!(start.wait().unwrap().success(), "{}", host.log());
    }
    let (sent, whole) = (proxy.sent(), LARGE as u64);
    assert!(sent < whole * 3 / 2, "{sent} bytes for an image of {whole}");
    assert_eq!(host.log().matches(": pulled docker://").count(), 1, "{}", host.log());
}

fn fails_once() {
    let host = Host::new("127.0.0.1:1");
    let names = ["a", "b", "c", "d", "e", "f"];
    for name in names {
        host.spec(name, "docker://127.0.0.1:1/s:v1", "missing", "");
    }
    let begun = Instant::now();
    let starts: Vec<Child> =
        names.map(|name| host.command(&["start", name]).stderr(Stdio::piped()).spawn().unwrap()).into();
    for start in starts {
        let out = start.wait_with_output().unwrap();
        assert!(said(&out).contains("Connection refused"), "{}", said(&out));
    }
    // One asks five times within 7.5 s; six would need 45 s one after the other.
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

fn slow() {
    let registry = plain();
    registry.push_program("s:v1", "word");
    let proxy = Proxy::start(&registry.host, u64::MAX, Duration::from_millis(40));
    let host = Host::new(&proxy.host);
    host.spec("web", &format!("docker://{}/s:v1", proxy.host), "missing", "start_timeout = \"3s\"\n");
    let begun = Instant::now();
    assert_eq!(host.word("web"), "word");
    assert!(begun.elapsed() > Duration::from_secs(4), "the proxy is too fast for this test");
}

fn stalled() {
    let registry = plain();
    registry.push_program("s:v1", "word");
    let proxy = Proxy::stalling(&registry.host, 4 << 20);
    let host = Host::new(&proxy.host);
    host.spec("web", &format!("docker://{}/s:v1", proxy.host), "missing", "start_timeout = \"4s\"\n");
    let refusal = host.refusal("web");
    assert!(refusal.contains(&format!("no byte came from {} for 4s", proxy.host)), "{refusal}");
    assert!(refusal.contains(" bytes are here, and the next start goes on from there"), "{refusal}");
    let (before, of) = refusal.split_once(" bytes are here").unwrap().0.rsplit_once(" of ").unwrap();
    let far: u64 = before.rsplit_once(' ').unwrap().1.parse().unwrap();
    assert!(far > 1 << 20 && far < of.parse().unwrap(), "{refusal}");
    assert!(worker_below(&host.pulls()).is_none());
    // The next start begins where this one ended.
    let before = proxy.sent();
    proxy.set(Stall::Never);
    assert_eq!(host.word("web"), "word");
    assert!(proxy.sent() - before < LARGE as u64, "it began anew");
    // What is here is taken where the registry only holds the line.
    proxy.set(Stall::After(0));
    host.spec("web", &format!("docker://{}/s:v1", proxy.host), "newer", "start_timeout = \"4s\"\n");
    assert_eq!(host.word("web"), "word");
    assert!(host.log().contains("web: starting with the image that is here"), "{}", host.log());
}

fn stopped() {
    let registry = plain();
    registry.push_program("s:v1", "word");
    let proxy = Proxy::start(&registry.host, u64::MAX, Duration::from_millis(30));
    let host = Host::new(&proxy.host);
    host.spec("web", &format!("docker://{}/s:v1", proxy.host), "missing", "");
    let mut start = host.command(&["start", "web"]).stderr(Stdio::null()).spawn().unwrap();
    until("nothing comes", || proxy.sent() > 2 << 20);
    assert!(worker_below(&host.pulls()).is_some());
    assert!(host.ctl(&["stop", "web"]).status.success());
    assert!(!start.wait().unwrap().success());
    until("berth-pull goes on", || worker_below(&host.pulls()).is_none());
    let state = said(&host.ctl(&["list"]));
    assert!(!state.contains("failed"), "{state}");
    let before = proxy.sent();
    assert_eq!(host.word("web"), "word");
    assert!(proxy.sent() - before < LARGE as u64, "it began anew");
}

fn killed() {
    let registry = plain();
    registry.push_program("s:v1", "word");
    let proxy = Proxy::start(&registry.host, u64::MAX, Duration::from_millis(30));
    let mut host = Host::new(&proxy.host);
    host.spec("web", &format!("docker://{}/s:v1", proxy.host), "missing", "");
    let mut start = host.command(&["start", "web"]).stderr(Stdio::null()).spawn().unwrap();
    until("nothing comes", || proxy.sent() > 2 << 20);
    host.kill_berthd();
    start.wait().unwrap();
    until("berth-pull goes on", || worker_below(&host.pulls()).is_none());
    let before = proxy.sent();
    host.start_berthd();
    assert_eq!(host.word("web"), "word");
    assert!(proxy.sent() - before < LARGE as u64, "it began anew");
    assert!(!Path::new(&host.pulls()).read_dir().unwrap().flatten().any(|entry| entry.path().is_dir()));
}

fn local() {
    let host = Host::new("127.0.0.1:1");
    let layout = host.root.path().join("layout");
    let write = |word: &str| {
        let _ = fs::remove_dir_all(&layout);
        crate::registry::program_image(&layout, word);
    };
    let source = format!("oci:{}:v1", layout.display());
    for mode in ["missing", "always", "newer", "never"] {
        host.spec(mode, &source, mode, "");
    }
    write("first");
    let refusal = host.refusal("never");
    assert!(refusal.contains("pull = \"never\""), "{refusal}");
    assert_eq!(host.word("missing"), "first");
    write("second");
    assert_eq!(host.word("missing"), "first");
    assert_eq!(host.word("newer"), "second");
    write("third");
    assert_eq!(host.word("always"), "third");
    fs::remove_dir_all(&layout).unwrap();
    assert_eq!(host.word("newer"), "third");
    assert!(host.log().contains("newer: starting with the image that is here"), "{}", host.log());
    assert!(host.refusal("always").contains("layout"));
    assert_eq!(host.word("never"), "third");
}

fn update() {
    let registry = plain();
    registry.push_program("s:v1", "first");
    let host = Host::new(&registry.host);
    let source = format!("docker://{}/s:v1", registry.host);
    let word = |expected: &str| {
        let path = host.root.path().join("var/log/berth/web.log");
        until("its word", || fs::read_to_string(&path).is_ok_and(|told| told.lines().last() == Some(expected)));
    };
    let does = |words: &[&str]| {
        let out = host.ctl(words);
        assert!(out.status.success(), "{}\n{}", said(&out), host.log());
        said(&out)
    };
    host.spec("web", &source, "always", "");
    does(&["start", "web"]);
    word("first");
    assert!(does(&["update", "web"]).contains("nothing to do"));
    registry.push_program("s:v1", "second");
    assert!(does(&["update", "--watch", "100ms", "web"]).contains("moved from image"));
    word("second");
    // What was taken back needs no registry, though the spec says that every start asks it.
    drop(registry);
    does(&["rollback", "--watch", "100ms", "web"]);
    word("first");
    does(&["restart", "web"]);
    word("first");
    // And where the registry cannot be asked, what runs goes on.
    let out = host.ctl(&["update", "web"]);
    assert!(!out.status.success() && said(&out).contains("Connection refused"), "{}", said(&out));
    does(&["update", "--no-pull", "--watch", "100ms", "web"]);
    word("second");
}
