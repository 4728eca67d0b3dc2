//! A host of its own: berth's directories are empty filesystems that nobody else sees, its processes end with it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// Longer than anything takes, but for a test that fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes the filesystems, and lives as long as the world.
const KEEPER: &str = "set -e
    mount --make-rprivate /
    for directory in etc run var/lib var/log; do mkdir -p /$directory/berth; mount -t tmpfs berth /$directory/berth; done
    mount -t tmpfs none /sys/fs/cgroup
    mkdir -p /etc/berth/containers
    echo here
    exec sleep infinity";

/// Makes the layout `l` with the image `base`: a shell and what it needs.
const BASE: &str = r"
    umoci init --layout l; umoci new --image l:base; umoci unpack --image l:base b >/dev/null
    mkdir -p b/rootfs/bin
    for program in sh sleep; do
        path=$(readlink -f $(command -v $program)); cp $path b/rootfs/bin/$program
        for library in $(ldd $path | grep -o '/[^ )]*'); do
            mkdir -p b/rootfs${library%/*}; cp -L $library b/rootfs$library
        done
    done
    umoci repack --refresh-bundle --image l:base b >/dev/null";

/// A host.
pub struct World {
    directory: tempfile::TempDir,
    keeper: Child,
    berthd: Option<Child>,
}

impl World {
    /// A host with berthd, and an image layout `l` in the world's directory that has `base`.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let arguments = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", KEEPER];
        let mut keeper = Command::new("unshare").args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut here = [0; 5];
        std::io::Read::read_exact(keeper.stdout.as_mut().unwrap(), &mut here).unwrap();
        let mut world = Self { directory, keeper, berthd: None };
        world.sh(BASE);
        world.start();
        world
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The source of a tag of the layout.
    pub fn source(&self, tag: &str) -> String {
        format!("oci:{}:{tag}", self.at("l").display())
    }

    /// A shell script in the world's directory, outside of its namespaces.
    pub fn sh(&self, script: &str) {
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", script])
            .current_dir(self.directory.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Makes the image `tag` that runs this line of shell.
    pub fn image(&self, tag: &str, line: &str) {
        self.sh(&format!(
            "umoci config --image l:base --tag {tag} --clear=config.cmd --config.entrypoint /bin/sh \
             --config.cmd -c --config.cmd '{line}'"
        ));
    }

    /// Makes the image `tag`, which says its name and sleeps; it has a layer of its own, of some kilobytes.
    pub fn sleeper(&self, tag: &str, kilobytes: u32) {
        self.sh(&format!(
            "head -c {kilobytes}k /dev/urandom >b/rootfs/{tag}; umoci repack --image l:{tag}-layers b >/dev/null
             umoci config --image l:{tag}-layers --tag {tag} --config.entrypoint /bin/sh --config.cmd -c \
             --config.cmd 'echo {tag}; exec sleep infinity'; rm b/rootfs/{tag}"
        ));
    }

    /// Has `t` be what another tag is.
    pub fn tag(&self, tag: &str) {
        self.sh(&format!("umoci tag --image l:{tag} t"));
    }

    /// The digest of a tag of the layout.
    pub fn digest(&self, tag: &str) -> String {
        let index: Value = serde_json::from_slice(&fs::read(self.at("l/index.json")).unwrap()).unwrap();
        let mut all = index["manifests"].as_array().unwrap().iter();
        let found = all.find(|entry| entry["annotations"]["org.opencontainers.image.ref.name"] == tag);
        found.unwrap()["digest"].as_str().unwrap().to_owned()
    }

    /// A path of the host as this process can reach it.
    pub fn path(&self, path: &str) -> PathBuf {
        Path::new(&format!("/proc/{}/root", self.pid())).join(path.trim_start_matches('/'))
    }

    /// The first process of the host, as it is numbered outside.
    fn pid(&self) -> u32 {
        let keeper = self.keeper.id();
        let children = fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).unwrap();
        children.trim().parse().unwrap()
    }

    /// A command in the host.
    pub fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--pid", "--target", &self.pid().to_string(), "--", program]);
        command
    }

    /// `berthctl` with these words.
    pub fn berthctl(&self, words: &[&str]) -> Command {
        let mut command = self.inside(env!("CARGO_BIN_EXE_berthctl"));
        command.args(words);
        command
    }

    /// Status and words of a verb.
    pub fn ctl(&self, words: &[&str]) -> (i32, String) {
        let Output { status, stdout, stderr } = self.berthctl(words).output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        (status.code().unwrap(), text)
    }

    /// Words of a verb that succeeds.
    pub fn succeeds(&self, words: &[&str]) -> String {
        let (status, text) = self.ctl(words);
        assert_eq!(status, 0, "{words:?}: {text}\n{}", self.log());
        text
    }

    /// Words of a verb that fails.
    pub fn fails(&self, words: &[&str]) -> String {
        let (status, text) = self.ctl(words);
        assert_eq!(status, 1, "{words:?}: {text}\n{}", self.log());
        text
    }

    /// Starts berthd.
    pub fn start(&mut self) {
        let log = File::options().append(true).create(true).open(self.at("berthd.log")).unwrap();
        let mut command = self.inside(env!("CARGO_BIN_EXE_berthd"));
        let berthd = command.args(["--manager", "direct"]).stderr(log).stdin(Stdio::null()).spawn().unwrap();
        self.berthd = Some(berthd);
        self.until("berthd", |world| (world.ctl(&["reload"]).0 == 0).then_some(()));
    }

    /// berthd is killed.
    pub fn kill(&mut self) {
        let mut berthd = self.berthd.take().unwrap();
        // nsenter has forked for the sake of the process namespace.
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", berthd.id())).unwrap();
        let pid = children.trim().parse().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
        berthd.wait().unwrap();
    }

    /// What berthd has said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.at("berthd.log")).unwrap()
    }

    /// How often berthd has said something.
    pub fn said(&self, words: &str) -> usize {
        self.log().matches(words).count()
    }

    /// Drops a spec and waits until it runs.
    pub fn run(&self, name: &str, text: &str) {
        fs::write(self.path(&format!("/etc/berth/containers/{name}.toml")), text).unwrap();
        self.until(&format!("{name} to run"), |world| (world.state(name)["state"] == "running").then_some(()));
    }

    /// Runs `web` from the tag `t`, which is another tag.
    pub fn web(&self, tag: &str) {
        self.tag(tag);
        self.run("web", &format!("[image]\nsource = \"{}\"\n", self.source("t")));
        self.until("the note", |world| world.versions("web").is_some().then_some(()));
    }

    /// A container as the state file has it.
    pub fn state(&self, name: &str) -> Value {
        // There is none before berthd has written the first.
        let Ok(text) = fs::read(self.path("/run/berth/state.json")) else { return Value::Null };
        let state: Value = serde_json::from_slice(&text).unwrap();
        let mut all = state["containers"].as_array().unwrap().iter();
        all.find(|container| container["name"] == name).cloned().unwrap_or_default()
    }

    /// What is kept of a container's images.
    pub fn versions(&self, name: &str) -> Option<Value> {
        let text = fs::read(self.path(&format!("/var/lib/berth/versions/{name}.json"))).ok()?;
        Some(serde_json::from_slice(&text).unwrap())
    }

    /// The tag whose image a container runs with.
    pub fn runs(&self, tag: &str) {
        let (digest, state) = (self.digest(tag), self.state("web"));
        assert_eq!((&state["state"], &state["image"]["digest"]), (&"running".into(), &digest.into()), "{}", self.log());
        // The program itself says so too.
        self.until("its word", |world| world.words().ends_with(&format!("{tag}\n")).then_some(()));
    }

    /// What the containers of `web` have said.
    pub fn words(&self) -> String {
        fs::read_to_string(self.path("/var/log/berth/web.log")).unwrap()
    }

    /// Waits until `find` finds.
    pub fn until<T>(&self, what: &str, mut find: impl FnMut(&Self) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = find(self) {
                return found;
            }
            assert!(begun.elapsed() < PATIENCE, "{what} never came\n{}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // All processes of the host end with its first one.
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
        if let Some(mut berthd) = self.berthd.take() {
            let _ = berthd.wait();
        }
    }
}
