//! `berth-pull`, as berthd runs it: as a user of its own, with a request on its standard input.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::chown,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use berth::pull::{Cause, Credential, Endpoint, Event, Proxies, Request, Transport};
use tempfile::TempDir;

/// nobody and nogroup.
pub const USER: u32 = 65534;

/// A request for `name:tag`, to be sent to `host`.
pub fn request(host: &str, name: &str, tag: &str) -> Request {
    Request {
        repository: name.to_owned(),
        tag: Some(tag.to_owned()),
        digest: None,
        endpoints: vec![endpoint(host)],
        known: None,
        stall_ms: 2000,
        proxies: Proxies::default(),
    }
}

/// A server that speaks http.
pub fn endpoint(host: &str) -> Endpoint {
    Endpoint { host: host.to_owned(), transport: Transport::Http, authorities: None, credential: None }
}

/// A name and a password.
pub fn password(user: &str, password: &str) -> Option<Credential> {
    Some(Credential::Password { user: user.to_owned(), password: password.to_owned() })
}

/// A directory that pulls go to.
pub fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    chown(directory.path(), Some(USER), Some(USER)).unwrap();
    directory
}

/// A running pull.
pub struct Running {
    pub child: Child,
    pub input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Running {
    pub fn start(directory: &Path, request: &Request) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_berth-pull"))
            .args(["--user", &format!("{USER}:{USER}"), "--parent", &std::process::id().to_string()])
            .arg("--directory")
            .arg(directory)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let mut line = serde_json::to_vec(request).unwrap();
        line.push(b'\n');
        input.write_all(&line).unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input: Some(input), output }
    }

    /// The next event; none at the end.
    pub fn hear(&mut self) -> Option<Event> {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap())
    }

    /// Waits until something of a blob has come.
    pub fn hear_bytes(&mut self, least: u64) {
        loop {
            match self.hear() {
                Some(Event::Blob { done, .. }) if done >= least => return,
                Some(Event::Failed { message, .. }) => panic!("{message}"),
                Some(_) => {}
                None => panic!("it ended"),
            }
        }
    }

    /// All events up to the end.
    pub fn finish(mut self) -> Vec<Event> {
        let events: Vec<Event> = std::iter::from_fn(|| self.hear()).collect();
        let status = self.child.wait().unwrap();
        let failed = matches!(events.last(), Some(Event::Failed { .. }) | None);
        assert_eq!(status.success(), !failed, "{status} {events:?}");
        events
    }
}

/// Runs a pull to its end.
pub fn pull(directory: &Path, request: &Request) -> Vec<Event> {
    Running::start(directory, request).finish()
}

/// Runs a pull that must succeed, and gives the digest that the tag stands for.
pub fn digest(directory: &Path, request: &Request) -> String {
    let events = pull(directory, request);
    let Some(Event::Done { digest, .. }) = events.last() else { panic!("{events:?}") };
    digest.clone()
}

/// Runs a pull that must fail, and leave no layout.
pub fn refusal(request: &Request) -> (Cause, String) {
    let directory = directory();
    let events = pull(directory.path(), request);
    let Some(Event::Failed { cause, message }) = events.last() else { panic!("{events:?}") };
    assert!(!directory.path().join("index.json").exists(), "half a layout");
    (*cause, message.clone())
}

/// The blobs of a layout, each of which is what it is called.
pub fn blobs(layout: &Path) -> BTreeSet<String> {
    let names = fs::read_dir(layout.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().path());
    names
        .map(|path| {
            let out = Command::new("sha256sum").arg(&path).output().unwrap();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            assert!(String::from_utf8(out.stdout).unwrap().starts_with(&name), "{name} is something else");
            name
        })
        .collect()
}
