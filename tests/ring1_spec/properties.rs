//! What holds for any input.

use std::fs;

use berth::{
    config::Config,
    root::Layer,
    spec::{Defaults, Name, Outcome, load, load_files, origins, origins_of_file},
};
use proptest::prelude::*;

use crate::{
    golden::everything,
    host, shown, web,
    words::{line, sound},
};

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
