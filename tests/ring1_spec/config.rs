//! berthd's own configuration.

use berth::{
    config::{Config, Level, ManagerChoice, Overrides},
    spec::{Outcome, load},
};

use crate::{ISOLATORS, host};

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

#[test]
fn defaults_are_checked_without_a_spec() {
    let text =
        "[defaults]\nworking_directory = \"x\"\numask = 22\n[defaults.namespaces]\nipc = \"host\"\nshm_size = \"1M\"";
    let (_directory, root) = host(&[("run/berth/berthd.toml", text)]);
    let errors = Config::load(&root, &Overrides::default(), [], &ISOLATORS).unwrap_err();
    let keys: Vec<&str> = errors.iter().filter_map(|error| error.key.as_deref()).collect();
    assert_eq!(keys, ["defaults.working_directory", "defaults.umask", "defaults.namespaces.shm_size"]);
    assert_eq!((errors[0].line, errors[0].column), (2, 21));
}

#[test]
fn a_masked_file_is_no_file() {
    let (_directory, root) =
        host(&[("etc/berth/berthd.toml", ""), ("usr/lib/berth/berthd.toml", "manager = \"direct\"")]);
    let config = Config::load(&root, &Overrides::default(), [], &ISOLATORS).unwrap();
    assert_eq!((config.manager, config.files.len()), (ManagerChoice::Auto, 0));
}
