//! berthd's own configuration.

use std::time::Duration;

use berth::{
    config::{Config, Level, ManagerChoice, Overrides},
    image::{Devices, Limits, Mark, Rule},
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

#[test]
fn images_are_trusted_and_kept_as_configured() {
    let config = |text: &str| {
        let (_directory, root) = host(&[("etc/berth/berthd.toml", text)]);
        Config::load(&root, &Overrides::default(), [], &ISOLATORS).map(|config| config.images)
    };
    let default = config("").unwrap();
    assert_eq!((default.gc.rule(), default.limits().devices), (None, Devices::Skip));
    let text = "images.devices = \"refuse\"\n[images.limits]\nsize = \"1GiB\"\nratio = 100\n";
    let limits = config(text).unwrap().limits();
    let expected = Limits { bytes: 1 << 30, ratio: Some(100), devices: Devices::Refuse, ..Limits::default() };
    assert_eq!(limits, expected);
    for (text, water) in [
        ("high_water = \"80%\"", (Mark::Share(80), Mark::Share(72))),
        ("high_water = \"80%\"\nlow_water = \"5%\"", (Mark::Share(80), Mark::Share(5))),
        ("high_water = \"20GiB\"", (Mark::Bytes(20 << 30), Mark::Bytes(18 << 30))),
    ] {
        let gc = config(&format!("[images.gc]\n{text}")).unwrap().gc;
        assert_eq!(gc.rule(), Some(Rule { max_age: Duration::MAX, water: Some(water) }), "{text}");
        let shown = serde_json::to_value(gc).unwrap();
        assert!(text.contains(shown["high_water"].as_str().unwrap()), "{shown}");
    }
    for (text, said) in [
        ("low_water = \"5%\"", "without high_water nothing is removed"),
        ("high_water = \"80%\"\nlow_water = \"80%\"", "this is not below high_water"),
        ("high_water = \"1GiB\"\nlow_water = \"2GiB\"", "this is not below high_water"),
        ("high_water = \"80%\"\nlow_water = \"1GiB\"", "high_water is of another kind"),
    ] {
        let errors = config(&format!("[images.gc]\n{text}")).unwrap_err();
        let keys: Vec<&str> = errors.iter().filter_map(|error| error.key.as_deref()).collect();
        assert_eq!(keys, ["images.gc.low_water"], "{text}");
        assert!(errors[0].to_string().contains(said), "{}", errors[0]);
    }
}
