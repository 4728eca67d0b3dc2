//! A host in a directory, and `berthctl` in it.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixListener},
    path::PathBuf,
    process::{Command, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

/// A host in a directory.
#[derive(Debug)]
pub struct World {
    /// The directory.
    directory: tempfile::TempDir,
}

/// How the tool ended.
#[derive(Debug)]
pub struct Run {
    /// Its status.
    pub code: i32,
    /// Its stdout.
    pub out: String,
    /// Its stderr.
    pub err: String,
}

/// The process that pretends to be berthd.
const PID: u32 = 4711;

/// A container as the state file has it.
pub fn container(name: &str, state: &str) -> Value {
    json!({
        "name": name, "state": state, "unit": format!("berth@{name}.service"), "main_pid": null, "since": null,
        "exit": null, "result": null, "error": null, "restarts": 0,
        "spec": {
            "files": [format!("/etc/berth/containers/{name}.toml")], "layer": "etc", "autostart": true,
            "digest": null, "running": null, "pending": [], "errors": [], "warnings": [],
        },
        "sandbox": null, "log": null, "cgroup": null, "isolators": [], "container_status": {},
    })
}

/// The time so many seconds ago.
pub fn since(seconds: u64) -> String {
    berth::clock::rfc3339(SystemTime::now() - Duration::from_secs(seconds))
}

impl World {
    /// A host without systemd, whose berthd runs these containers.
    pub fn with(containers: &[Value]) -> Self {
        let world = Self { directory: tempfile::tempdir().unwrap() };
        world.write("/proc/sys/kernel/random/boot_id", "this-boot\n");
        world.write("/proc/1/comm", "init\n");
        world.write(&format!("/proc/{PID}/comm"), "berthd\n");
        let state = json!({
            "schema": 1, "boot_id": "this-boot", "written": berth::clock::now(),
            "daemon": {
                "version": "0.1.0", "pid": PID, "manager": "direct", "manager_away": null,
                "status": "1 running", "isolation": ["namespaces/pid"],
            },
            "containers": containers, "problems": [],
        });
        world.write("/run/berth/state.json", &state.to_string());
        world
    }

    /// A path of the host.
    pub fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path.trim_start_matches('/'))
    }

    /// Writes a file of the host.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Reads a file of the host.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    /// Changes the state file.
    pub fn edit(&self, change: impl FnOnce(&mut Value)) {
        let mut state = serde_json::from_str(&self.read("/run/berth/state.json")).unwrap();
        change(&mut state);
        self.write("/run/berth/state.json", &state.to_string());
    }

    /// Ends berthd; its state file stays.
    pub fn kill_daemon(&self) {
        fs::remove_dir_all(self.path(&format!("/proc/{PID}"))).unwrap();
    }

    /// Writes an executable shell script.
    pub fn program(&self, path: &str, script: &str) {
        self.write(path, &format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A tool that berthctl finds instead of the real one.
    pub fn tool(&self, name: &str, script: &str) {
        self.program(&format!("/tools/{name}"), script);
    }

    /// A berthd that takes one connection for each answer; what was asked.
    pub fn berthd(&self, answers: &[&str]) -> JoinHandle<Vec<String>> {
        let listener = UnixListener::bind(self.path("/run/berth/berthd.sock")).unwrap();
        let answers: Vec<String> = answers.iter().map(|&answer| answer.to_owned()).collect();
        thread::spawn(move || {
            let serve = |answer: String| {
                let mut stream = BufReader::new(listener.accept().unwrap().0);
                let mut request = String::new();
                stream.read_line(&mut request).unwrap();
                // The tool may have gone.
                let _ = stream.get_mut().write_all(answer.as_bytes());
                request
            };
            answers.into_iter().map(serve).collect()
        })
    }

    /// The tool in this world, not started yet.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_berthctl"));
        let path = format!("{}:/usr/bin:/bin", self.path("/tools").display());
        command.arg("--root").arg(self.directory.path()).args(args);
        command.env_clear().env("PATH", path).env("LOG", self.path("/log")).stdin(Stdio::null());
        command
    }

    /// Runs the tool.
    pub fn run(&self, args: &[&str]) -> Run {
        let done = self.command(args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Run { code: done.status.code().unwrap(), out: text(done.stdout), err: text(done.stderr) }
    }

    /// What the tool shows on a terminal of so many columns.
    pub fn on_terminal(&self, args: &[&str], columns: u16) -> String {
        let size = nix::pty::Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = nix::pty::openpty(Some(&size), None).unwrap();
        let mut child = self.command(args).stdout(Stdio::from(pty.slave)).spawn().unwrap();
        let mut shown = Vec::new();
        let mut terminal = fs::File::from(pty.master);
        let mut block = [0; 4096];
        // A terminal that nobody holds any more ends with EIO.
        while let Ok(length @ 1..) = terminal.read(&mut block) {
            shown.extend_from_slice(&block[..length]);
        }
        child.wait().unwrap();
        String::from_utf8(shown).unwrap()
    }
}
