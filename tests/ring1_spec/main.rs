//! Ring 1, stage ①: directories of specs against what is expected of them, compared whole, and properties that any
//! input has. `BERTH_UPDATE=1` rewrites what is expected.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails is to stop")]

mod config;
mod golden;
mod properties;
mod tables;
mod words;

use std::{fs, path::PathBuf};

use berth::{
    cli::{
        cat,
        check::{self, Options},
    },
    root::Root,
    spec::{Defaults, Name, Outcome, Spec, load},
};

/// Isolators that the tests know.
pub const ISOLATORS: [&str; 13] = [
    "cgroups/net_cls",
    "disk/du",
    "docker/runtime",
    "filesystem/linux",
    "filesystem/shared",
    "linux/capabilities",
    "linux/nnp",
    "posix/rlimits",
    "namespaces/pid",
    "namespaces/ipc",
    "volume/host_path",
    "volume/image",
    "volume/sandbox_path",
];

/// A host with these files.
pub fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
    let directory = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let root = Root::new(directory.path());
    (directory, root)
}

/// The outcome of the spec `web` with this text.
pub fn web(text: &str) -> Outcome {
    let (_directory, root) = host(&[("etc/berth/containers/web.toml", text)]);
    load(&root, &Defaults::default(), &"web".parse().unwrap()).unwrap().outcome
}

/// The spec `web` with this text.
pub fn good(text: &str) -> Spec {
    match web(text) {
        Outcome::Good(spec) => *spec,
        other => panic!("{text}\n{other:#?}"),
    }
}

/// The complaints about the spec `web` with this text, without the file's name.
pub fn bad(text: &str) -> Vec<String> {
    match web(text) {
        Outcome::Bad(errors) => {
            errors.iter().map(|error| error.to_string().split_once("web.toml").unwrap().1.to_owned()).collect()
        }
        other => panic!("{text}\n{other:#?}"),
    }
}

/// The output of `check`.
pub fn checked(root: &Root, paths: &[PathBuf], json: bool, strict: bool) -> (u8, String) {
    let mut out = Vec::new();
    let options = Options { paths, json, strict, color: false, isolators: &ISOLATORS };
    let status = check::run(root, &options, &mut out).unwrap();
    (status, String::from_utf8(out).unwrap())
}

/// The output of `cat`.
pub fn shown(root: &Root, name: &Name, json: bool) -> String {
    let mut out = Vec::new();
    cat::run(root, name, json, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}
