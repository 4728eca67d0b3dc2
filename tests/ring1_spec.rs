//! Ring 1, stage ①: directories of specs against what is expected of them, compared whole, and properties that any
//! input has. `BERTH_UPDATE=1` rewrites what is expected.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails is to stop")]

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use berth::{
    cli::{
        cat,
        check::{self, Options},
    },
    config::{Config, Level, ManagerChoice, Overrides},
    root::{Layer, Root},
    spec::{Defaults, Name, Outcome, Spec, digest, load, load_all, load_files, origins, origins_of_file},
};
use proptest::prelude::*;

/// Isolators that the tests know.
const ISOLATORS: [&str; 3] = ["filesystem/shared", "namespaces/pid", "namespaces/ipc"];

/// A host with these files.
fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
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
fn web(text: &str) -> Outcome {
    let (_directory, root) = host(&[("etc/berth/containers/web.toml", text)]);
    load(&root, &Defaults::default(), &"web".parse().unwrap()).unwrap().outcome
}

/// The spec `web` with this text.
fn good(text: &str) -> Spec {
    match web(text) {
        Outcome::Good(spec) => *spec,
        other => panic!("{text}\n{other:#?}"),
    }
}

/// The complaints about the spec `web` with this text, without the file's name.
fn bad(text: &str) -> Vec<String> {
    match web(text) {
        Outcome::Bad(errors) => {
            errors.iter().map(|error| error.to_string().split_once("web.toml").unwrap().1.to_owned()).collect()
        }
        other => panic!("{text}\n{other:#?}"),
    }
}

/// The output of `check`.
fn checked(root: &Root, paths: &[PathBuf], json: bool, strict: bool) -> (u8, String) {
    let mut out = Vec::new();
    let options = Options { paths, json, strict, color: false, isolators: &ISOLATORS };
    let status = check::run(root, &options, &mut out).unwrap();
    (status, String::from_utf8(out).unwrap())
}

/// The output of `cat`.
fn shown(root: &Root, name: &Name, json: bool) -> String {
    let mut out = Vec::new();
    cat::run(root, name, json, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// Everything that is said about a host.
fn everything(root: &Root) -> String {
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
    for key in ["manager", "isolation", "allow_host_pid", "allow_host_ipc", "shm_size", "keep", "max_age", "level"] {
        assert!(text.contains(&format!("{key} = ")), "{key} is not explained");
    }
}

#[test]
fn a_full_spec_means_what_it_says() {
    let spec = good(
        r#"
        command = ["/usr/sbin/nginx", "-g", "daemon off;"]
        user = "www-data:4"
        supplementary_groups = ["adm", 20]
        umask = 0o027
        environment = { TZ = "UTC" }
        [[volumes]]
        container_path = "/var/./tmp/"
        host_path = "tmp//x/"
        [namespaces]
        shm_size = "4GiB"
        [service]
        restart_delay = "1min 30s"
        start_timeout = "infinity"
        stop_signal = "RTMIN+3"
        start_limit = { burst = 0 }
        "#,
    );
    let json = serde_json::to_value(&spec).unwrap();
    assert_eq!(json["command"]["arguments"][0], "/usr/sbin/nginx");
    assert_eq!(json["command"]["shell"], false);
    assert_eq!(json["identity"]["user"]["name"], "www-data");
    assert_eq!(json["identity"]["supplementary_groups"][1]["id"], 20);
    assert_eq!(json["umask"], 0o027);
    assert_eq!(json["volumes"][0]["container_path"], "/var/tmp");
    assert_eq!(json["volumes"][0]["host_path"], "tmp/x");
    assert_eq!(json["namespaces"]["shm_size"], 4_294_967_296_u64);
    assert_eq!(spec.service.restart_delay.as_secs(), 90);
    assert_eq!(spec.service.start_timeout, std::time::Duration::MAX);
    assert_eq!((spec.service.stop_signal.0, spec.service.start_limit.burst), (37, 0));
    assert!(spec.autostart);
    assert_eq!(serde_json::from_value::<Spec>(json).unwrap(), spec);
}

#[test]
fn every_kind_of_value_has_its_place_and_cure() {
    for (text, complaint) in [
        ("x = 1", ":1:1: x: unknown key"),
        ("command = \"x\"\n  umask = 22", ":2:11: umask: a umask is octal, and this number is not (write it in quotes"),
        ("command = \"x\"\nservice.restart = 1", ":2:19: service.restart: expected a string, found the number 1"),
        ("command = \"x\"\nservice.restart_delay = 5", "5 has no unit (write \"5s\" for seconds)"),
        (
            "command = \"x\"\nstop_timeout = \"1s\"",
            ":2:1: stop_timeout: unknown key (did you mean `service.stop_timeout`?)",
        ),
        (
            "command = \"x\"\n[service]\nuser = \"x\"",
            "(`user` belongs to the top of the file, above the first [table])",
        ),
        ("command = \"x\"\nservice = 3", ":2:11: service: expected a table, found the number 3"),
        ("command = \"x\"\nvolumes = [1]", ":2:12: volumes.0: expected a table"),
        ("command = \"x\"\nenvironment = { A = 1 }", "expected a string, found the number 1 (write \"1\")"),
        ("command = \"x\"\nautostart = \"yes\"", ":2:13: autostart: expected a boolean, found the text \"yes\""),
        ("command = \"x\"\non_change = \"Manual\"", "(did you mean \"manual\"?)"),
        ("command = \"x\"\numask = 99999999999999999999", "this number does not fit in 64 bits"),
        ("command = \"x\"\nnamespaces.shm_size = \"99999999999G\"", "is more than 2^64 bytes"),
    ] {
        let errors = bad(text);
        assert!(errors.iter().any(|error| error.contains(complaint)), "{complaint}\n{errors:#?}");
        assert_eq!(errors.iter().filter(|error| !error.contains("no executable")).count(), 1, "{errors:#?}");
    }
}

#[test]
fn a_hundred_errors_are_told_and_no_more() {
    let text: String = (0..1000).map(|n| format!("k{n} = 1\n")).collect();
    let errors = bad(&text);
    assert_eq!(errors.len(), 101);
    assert!(errors.iter().any(|error| error.contains("too many errors")));
}

#[test]
fn a_file_that_is_large_or_a_pipe_is_told_and_nothing_hangs() {
    let (directory, root) = host(&[("etc/berth/containers/large.toml", &"# x\n".repeat(300_000))]);
    let pipe = directory.path().join("etc/berth/containers/pipe.toml");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
    let text = everything(&root);
    assert!(text.contains("larger than 1 MiB"), "{text}");
    assert!(text.contains("not a regular file"), "{text}");
}

#[test]
fn one_bad_file_leaves_the_others_alone() {
    let (_directory, root) =
        host(&[("etc/berth/containers/a.toml", "="), ("run/berth/containers/b.toml", "command = \"x\"")]);
    let catalog = load_all(&root, &Defaults::default());
    assert!(matches!(catalog.containers[&"a".parse().unwrap()].outcome, Outcome::Bad(_)));
    let b = &catalog.containers[&"b".parse().unwrap()];
    assert!(matches!(b.outcome, Outcome::Good(_)));
    assert_eq!(b.layer, Layer::Run);
}

#[test]
fn digests_see_meaning_only() {
    let spec = digest(&good("command = \"x\"\nuser = \"a\"\n[service]\nrestart = \"always\""));
    assert_eq!(spec, digest(&good("# c\nservice.restart='always'\nuser = \"a\"\ncommand = { value = \"x\" }")));
    assert_ne!(spec, digest(&good("command = \"y\"\nuser = \"a\"\n[service]\nrestart = \"always\"")));
    assert_eq!(spec.len(), 32);
}

#[test]
fn check_takes_files_directories_drop_ins_and_speaks_json() {
    let (directory, root) = host(&[
        ("x/web.toml", "command = \"x\""),
        ("x/web.toml.d/1.toml", "usr = \"x\""),
        ("x/other.toml", "command = { value = \"x\", arguments = [\"a\"] }"),
    ]);
    let at = |path: &str| vec![directory.path().join(path)];
    assert_eq!(checked(&root, &at("x/web.toml"), false, false).0, 2);
    assert_eq!(checked(&root, &at("x/web.toml.d/1.toml"), false, false).0, 2);
    assert_eq!(checked(&root, &at("x/web.toml.d"), false, false).0, 2);
    assert_eq!(checked(&root, &at("x/other.toml"), false, false).0, 0);
    assert_eq!(checked(&root, &at("x/other.toml"), false, true).0, 1);
    assert_eq!(checked(&root, &at("x/nowhere.toml"), false, false).0, 2);
    let (_, json) = checked(&root, &at("x"), true, false);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["specs"].as_array().unwrap().len(), 2);
    let error = json["diagnostics"].as_array().unwrap().iter().find(|d| d["severity"] == "error").unwrap();
    assert_eq!((&error["line"], &error["column"]), (&1.into(), &1.into()));
    assert_eq!((&error["key"], &error["help"]), (&"usr".into(), &"did you mean `user`?".into()));
}

#[test]
fn configuration_comes_from_files_variables_and_flags_in_this_order() {
    let (_directory, root) = host(&[
        ("usr/lib/berth/berthd.toml", "manager = \"direct\"\n[sandbox]\nkeep = 1"),
        ("etc/berth/berthd.toml.d/1.toml", "sandbox.max_age = \"1d\"\nlog.level = \"warn\""),
        ("run/berth/berthd.toml.d/2.toml", "sandbox.keep = 2\n[defaults]\numask = \"0077\""),
    ]);
    let variables = [("BERTHD_SANDBOX__KEEP", "3"), ("BERTHD_MANAGER", "auto"), ("HOME", "/"), ("BERTH_X", "y")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let overrides = Overrides { manager: Some("systemd".into()), ..Overrides::default() };
    let config = Config::load(&root, &overrides, variables, &ISOLATORS).unwrap();
    assert_eq!(config.manager, ManagerChoice::Systemd);
    assert_eq!((config.sandbox.keep, config.sandbox.max_age.as_secs()), (3, 86_400));
    assert_eq!((config.log.level, config.isolation.clone()), (Level::Warn, None));
    assert_eq!(config.files.len(), 3);
    let (_other, specs) = host(&[("etc/berth/containers/web.toml", "command = \"x\"")]);
    match load(&specs, &config.defaults, &"web".parse().unwrap()).unwrap().outcome {
        Outcome::Good(spec) => assert_eq!(spec.umask, 0o077),
        other => panic!("{other:?}"),
    }
    assert_eq!(serde_json::to_value(&config).unwrap()["sandbox"]["max_age"], "1day");
}

#[test]
fn mistakes_in_variables_and_flags_name_them() {
    let (_directory, root) = host(&[]);
    let variables = [("BERTHD_LOG__LEVEL", "inof"), ("BERTHD_SANDBOX__MAX_AGE", "7"), ("BERTHD_X", "1")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let overrides = Overrides { isolation: Some(vec!["namespaces/pidd".into()]), ..Overrides::default() };
    let errors = Config::load(&root, &overrides, variables, &ISOLATORS).unwrap_err();
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert!(lines[0].starts_with("$BERTHD_LOG__LEVEL: log.level: unknown value \"inof\""), "{lines:#?}");
    assert!(lines[1].starts_with("$BERTHD_SANDBOX__MAX_AGE: sandbox.max_age: 7 has no unit"), "{lines:#?}");
    assert!(lines[2].starts_with("$BERTHD_X: x: unknown key"), "{lines:#?}");
    assert!(lines[3].starts_with("command line: isolation.0: unknown isolator"), "{lines:#?}");
}

/// Loads a spec's text, shows it, loads what was shown, and shows that again.
fn round_trip(text: &str) -> Result<(), TestCaseError> {
    let name: Name = "web".parse().unwrap();
    let (_directory, root) = host(&[
        ("usr/lib/berth/containers/web.toml", text),
        (
            "etc/berth/berthd.toml",
            "[defaults]\nnamespaces.shm_size = \"1G\"\nservice.init = true\nenvironment.D = \"1\"",
        ),
    ]);
    let defaults = Config::defaults(&root);
    let (loaded, _) = origins(&root, &defaults, &name).unwrap();
    let Outcome::Good(spec) = loaded.outcome else { return Ok(()) };
    let shown = shown(&root, &name, false);
    let (directory, _root) = host(&[("web.toml", &shown)]);
    let (again, _) = load_files(&[directory.path().join("web.toml")], &Defaults::default());
    match &again[0].outcome {
        Outcome::Good(again) => prop_assert_eq!(again, &spec, "{}", shown),
        other => prop_assert!(false, "{}\n{:?}", shown, other),
    }
    prop_assert!(origins_of_file(&directory.path().join("web.toml"), &Defaults::default()).is_some());
    Ok(())
}

#[test]
fn what_cat_shows_is_the_spec() {
    for text in [
        "command = \"a\\nb \\\"\\\"\\\" '''\\t\\u0001 é\"",
        "command = ['a', '', \"\\n\"]\nnamespaces.ipc = 'host'\nnamespaces.pid = 'host'",
        "umask = 0o027\ncommand = { shell = false, value = 'x', arguments = [] }\nvolumes = []",
        "command='x'\n[[volumes]]\ncontainer_path='/a'\nhost_path='b'\nmode='RO'\n[[volumes]]\ncontainer_path='/c'\nhost_path='/d'",
        "command='x'\n[service]\nafter=['a.service']\nstart_limit={burst=1,interval='5s'}\n[environment]\nA='\\'\nB='#'",
        "autostart = true\ncommand='x'\nenvironment.D='2'\nuser=7\nsupplementary_groups=[1,'b']",
    ] {
        assert!(matches!(web(text), Outcome::Good(_)), "{:?}", web(text));
        round_trip(text).unwrap();
    }
}

/// A line that may stand in a spec, sound or not.
fn line() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "description",
        "autostart",
        "on_change",
        "command",
        "user",
        "supplementary_groups",
        "working_directory",
        "environment",
        "environment.A",
        "umask",
        "sandbox",
        "volumes",
        "namespaces.pid",
        "namespaces.ipc",
        "namespaces.shm_size",
        "service.restart",
        "service.restart_delay",
        "service.start_limit.burst",
        "service.start_limit.interval",
        "service.stop_signal",
        "service.stop_timeout",
        "service.after",
        "service.init",
        "command.value",
        "command.shell",
        "command.arguments",
        "nonsense",
        "service",
        "[service]",
        "[[volumes]]",
    ]);
    let value = prop_oneof![
        prop::sample::select(vec![
            "true",
            "false",
            "0",
            "1",
            "-5",
            "0o22",
            "1.5",
            "nan",
            "2026-01-01",
            "[]",
            "{}",
            "\"x\"",
            "\"1s\"",
            "\"64M\"",
            "\"host\"",
            "\"private\"",
            "\"manual\"",
            "\"always\"",
            "\"/srv\"",
            "\"SIGINT\"",
            "\"fresh\"",
            "\"0077\"",
            "[\"/bin/true\"]",
            "[\"a.service\"]",
            "[1, \"x\"]",
            "{ A = \"b\" }",
            "{ value = \"x\", shell = false }",
            "[{ container_path = \"/tmp\", host_path = \"t\" }]",
            "[{}, 1, { mode = \"RO\" }]",
            "[[[]]]",
            "",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,8}".prop_map(|text| format!("{text:?}")),
    ];
    (key, value).prop_map(|(key, value)| if key.starts_with('[') { key.to_owned() } else { format!("{key} = {value}") })
}

/// A line that stands in a sound spec.
fn sound() -> impl Strategy<Value = String> {
    let texts = "[ -~éü\\n\\t\"'\\\\#]{0,12}".prop_map(|text| serde_json::to_string(&text).unwrap());
    prop_oneof![
        texts.clone().prop_map(|text| format!("command = [\"x\", {text}]")),
        texts.clone().prop_map(|text| format!("environment.A = {text}")),
        texts.prop_map(|text| format!("environment.B_{} = {text}", text.len())),
        prop::sample::select(vec![
            "description = \"a # b\"", "autostart = false", "on_change = \"manual\"", "user = \"a:b\"", "user = 5",
            "working_directory = \"/srv//x\"", "umask = \"0077\"", "umask = 0o7", "sandbox = \"persistent\"",
            "namespaces.pid = \"host\"", "namespaces.ipc = \"host\"", "namespaces.ipc = \"private\"",
            "volumes = [{ container_path = \"/tmp\", host_path = \"t\" }, { container_path = \"/b\", host_path = \"/c\", mode = \"RO\" }]",
            "service.restart = \"always\"", "service.restart_delay = \"1.5s\"", "service.start_limit.burst = 9",
            "service.start_limit.interval = \"9s\"", "service.stop_signal = \"INT\"", "service.after = [\"a.service\"]",
            "service.init = false", "service.stop_timeout = \"infinity\"",
        ])
        .prop_map(str::to_owned),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (directory, root) = host(&[("etc/berth/containers/x/keep", "")]);
        fs::write(directory.path().join("etc/berth/containers/web.toml"), &bytes).unwrap();
        fs::write(directory.path().join("etc/berth/berthd.toml"), &bytes).unwrap();
        prop_assert!(!everything(&root).is_empty());
    }

    #[test]
    fn any_toml_is_answered_and_what_is_accepted_round_trips(lines in prop::collection::vec(line(), 0..8)) {
        let text = lines.join("\n");
        let (_directory, root) = host(&[("etc/berth/containers/web.toml", &text), ("etc/berth/berthd.toml", &text)]);
        prop_assert!(!everything(&root).is_empty());
        round_trip(&text)?;
    }

    #[test]
    fn any_accepted_spec_round_trips(lines in prop::collection::vec(sound(), 0..10)) {
        let mut seen = std::collections::BTreeSet::new();
        let lines = lines.into_iter().chain(["command = 'x'".to_owned()]);
        let once = lines.filter(|line| seen.insert(line.split(" =").next().unwrap().to_owned()));
        let text = once.collect::<Vec<_>>().join("\n");
        prop_assert!(matches!(web(&text), Outcome::Good(_)), "{}\n{:?}", text, web(&text));
        round_trip(&text)?;
    }

    #[test]
    fn higher_layers_win(texts in prop::array::uniform4(prop::option::of("[a-z]{1,8}"))) {
        let (directory, root) = host(&[]);
        for (layer, text) in Layer::ALL.into_iter().zip(&texts) {
            let Some(text) = text else { continue };
            fs::create_dir_all(root.containers(layer)).unwrap();
            fs::write(root.containers(layer).join("web.toml"), format!("command = \"{text}\"")).unwrap();
        }
        let loaded = load(&root, &Defaults::default(), &"web".parse().unwrap());
        let first = Layer::ALL.into_iter().zip(&texts).find_map(|(layer, text)| Some((layer, text.clone()?)));
        prop_assert_eq!(loaded.is_some(), first.is_some());
        if let (Some(loaded), Some((layer, text))) = (loaded, first) {
            prop_assert_eq!(loaded.layer, layer);
            let Outcome::Good(spec) = loaded.outcome else { panic!("{directory:?}") };
            prop_assert_eq!((spec.command.value, spec.autostart), (Some(text), layer.autostarts()));
        }
    }
}
