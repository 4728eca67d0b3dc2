//! Tables of inputs and what comes of them.

use berth::{
    root::Layer,
    spec::{Defaults, Outcome, Spec, digest, load_all},
};

use crate::{bad, checked, golden::everything, good, host};

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
    assert_eq!((spec.service.stop_signal.unwrap().0, spec.service.start_limit.burst), (37, 0));
    assert!(spec.autostart);
    assert_eq!(serde_json::from_value::<Spec>(json).unwrap(), spec);
}

#[test]
fn every_kind_of_value_has_its_place_and_cure() {
    for (text, complaint) in [
        ("x = 1", ":1:1: x: unknown key"),
        ("command = \"x\"\n  umask = 22", ":2:11: umask: a umask is octal, and this number is not (write it in quotes"),
        (
            "command = \"x\"\nservice.restart = 1",
            ":2:19: service.restart: expected \"no\", \"on-success\", \"on-failure\", \"on-abnormal\", \"on-abort\" or \"always\", found the number 1",
        ),
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
fn every_form_of_a_command_is_checked_inside() {
    for (text, complaint) in [
        ("command = { valu = \"x\" }", ":1:13: command.valu: unknown key (did you mean `command.value`?)"),
        ("command = { value = 1 }", ":1:21: command.value: expected a string"),
        ("command = [1, \"x\"]", ":1:12: command.0: expected a string"),
        ("command = 5", ":1:11: command: expected a list, a string or a table, found the number 5"),
        ("[command]\nvalue = \"x\"\nuser = \"y\"", ":3:1: command.user: unknown key (`user` belongs to the top"),
    ] {
        let errors = bad(text);
        assert!(errors.len() == 1 && errors[0].starts_with(complaint), "{complaint}\n{errors:#?}");
    }
}

#[test]
fn errors_in_lists_keep_their_places_when_several_are_wrong() {
    let errors = bad("command = \"x\"\nservice.after = [1, \"a\", 2020-01-01, 3, \"b.service\", \"c\"]");
    let places: Vec<&str> = errors.iter().map(|error| error.split(": ").nth(1).unwrap()).collect();
    assert_eq!(places, [0, 1, 2, 3, 5].map(|index| format!("service.after.{index}")));
}

/// No input of a legal size takes time that grows with its square.
#[test]
fn large_nonsense_is_answered() {
    let many = |piece: &str| piece.repeat(300_000 / piece.len());
    let texts = [
        format!("volumes = [{}]", many("{},")),
        format!("volumes = [{}]", many("{container_path='/a',host_path='b'},")),
        format!("volumes = [{}]", many("2020-01-01,")),
        format!("service.after = [{}]", many("1,")),
        format!("service.after = [{}]", many("'x',")),
        format!("service = {{ after = [{0}], before = [{0}] }}", &many("'x.service',")[..140_000]),
        many("= \n"),
        many("[a.\n"),
        (0..20_000).map(|n| format!("k{n}='x'\n")).collect(),
        format!("[environment]\n{}", (0..20_000).map(|n| format!("{n}='x'\n")).collect::<String>()),
        format!("{}a = 1", many("a.")),
        format!("a = {}", many("[")),
    ];
    for text in texts {
        assert!(text.len() <= 1 << 20 && !bad(&text).is_empty());
    }
}
