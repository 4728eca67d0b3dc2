//! Whole directories.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use berth::{
    config::{Config, Overrides},
    root::Root,
    spec::{Outcome, load_all},
};

use crate::{ISOLATORS, checked, host, shown};

/// Everything that is said about a host.
pub fn everything(root: &Root) -> String {
    let mut text = String::new();
    let config = Config::load(root, &Overrides::default(), [], &ISOLATORS);
    for error in config.err().into_iter().flatten() {
        writeln!(text, "{error}").unwrap();
    }
    let catalog = load_all(root, &Config::defaults(root));
    for stray in &catalog.strays {
        writeln!(text, "{stray}").unwrap();
    }
    for (name, loaded) in &catalog.containers {
        writeln!(text, "\n## {name}").unwrap();
        match &loaded.outcome {
            Outcome::Good(_) | Outcome::Masked => text.push_str(&shown(root, name, false)),
            Outcome::Bad(errors) => errors.iter().for_each(|error| writeln!(text, "{error}").unwrap()),
        }
        loaded.warnings.iter().for_each(|warning| writeln!(text, "{warning}").unwrap());
    }
    let (status, long) = checked(root, &[], false, true);
    write!(text, "\n## check --strict: exit {status}\n{long}").unwrap();
    text.replace(&format!("{}/", root.prefix().display()), "/")
}

#[test]
fn golden() {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<PathBuf> = fs::read_dir(all).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    let mut wrong = Vec::new();
    for case in cases.iter().filter(|case| case.join("expected").exists() || case.join("etc/berth").exists()) {
        let text = everything(&Root::new(case));
        let expected = case.join("expected");
        if std::env::var_os("BERTH_UPDATE").is_some() {
            fs::write(expected, text).unwrap();
        } else if fs::read_to_string(expected).unwrap_or_default() != text {
            wrong.push(format!("{}:\n{text}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "BERTH_UPDATE=1 rewrites these:\n{}", wrong.join("\n"));
}

#[test]
fn shipped_files_pass() {
    let etc = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc");
    let empty = tempfile::tempdir().unwrap();
    let paths = [etc.join("berthd.toml"), etc.join("containers")];
    let (status, text) = checked(&Root::new(empty.path()), &paths, false, true);
    assert_eq!(status, 0, "{text}");
    assert!(!text.starts_with("0 specs"), "{text}");
}

/// What the comments of a shipped file say is true: uncommented, each key is valid.
#[test]
fn shipped_configuration_is_valid_uncommented() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/berthd.toml");
    let text = fs::read_to_string(file).unwrap();
    assert!(text.lines().all(|line| line.is_empty() || line.starts_with('#')), "a key is not commented out");
    let code = text.lines().filter_map(|line| line.strip_prefix('#')).filter(|line| !line.starts_with([' ', '#']));
    let text = code.collect::<Vec<_>>().join("\n");
    let (_directory, root) = host(&[("etc/berth/berthd.toml", &text)]);
    let config = Config::load(&root, &Overrides::default(), [], &ISOLATORS).unwrap();
    assert!(config.isolation.is_some());
    let namespaces = ["allow_host_pid", "allow_host_ipc", "shm_size"];
    let others = ["manager", "isolation", "effective", "bounding", "keep", "max_age", "level"];
    for key in namespaces.into_iter().chain(others) {
        assert!(text.contains(&format!("{key} = ")), "{key} is not explained");
    }
}
