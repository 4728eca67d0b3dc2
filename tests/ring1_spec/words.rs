//! Lines of specs for the properties.

use proptest::prelude::*;

/// Keys and headers, sound and not.
#[rustfmt::skip]
const KEYS: &[&str] = &[
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
        "capabilities",
        "capabilities.effective",
        "capabilities.bounding",
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
];

/// Values, sound and not.
#[rustfmt::skip]
const VALUES: &[&str] = &[
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
            "[\"NET_RAW\", \"cap_kill\"]",
            "[\"ALL\"]",
            "[1, \"x\"]",
            "{ A = \"b\" }",
            "{ value = \"x\", shell = false }",
            "[{ container_path = \"/tmp\", host_path = \"t\" }]",
            "[{}, 1, { mode = \"RO\" }]",
            "[[[]]]",
            "",
];

/// Lines that are sound alone and together.
#[rustfmt::skip]
const SOUND: &[&str] = &[
            "description = \"a # b\"", "autostart = false", "on_change = \"manual\"", "user = \"a:b\"", "user = 5",
            "working_directory = \"/srv//x\"", "umask = \"0077\"", "umask = 0o7", "sandbox = \"persistent\"",
            "namespaces.pid = \"host\"", "namespaces.ipc = \"host\"", "namespaces.ipc = \"private\"",
            "volumes = [{ container_path = \"/tmp\", host_path = \"t\" }, { container_path = \"/b\", host_path = \"/c\", mode = \"RO\" }]",
            "service.restart = \"always\"", "service.restart_delay = \"1.5s\"", "service.start_limit.burst = 9",
            "service.start_limit.interval = \"9s\"", "service.stop_signal = \"INT\"", "service.after = [\"a.service\"]",
            "capabilities.effective = []", "capabilities.effective = [\"kill\", \"CAP_KILL\"]",
            "capabilities.bounding = [\"all\"]", "capabilities.bounding = [\"KILL\", \"BPF\"]",
            "service.init = false", "service.stop_timeout = \"infinity\"",
];

/// A line that may stand in a spec, sound or not.
pub fn line() -> impl Strategy<Value = String> {
    let key = prop::sample::select(KEYS);
    let value = prop_oneof![
        prop::sample::select(VALUES).prop_map(str::to_owned),
        "\\PC{0,8}".prop_map(|text| format!("{text:?}")),
    ];
    (key, value).prop_map(|(key, value)| if key.starts_with('[') { key.to_owned() } else { format!("{key} = {value}") })
}

/// A line that stands in a sound spec.
pub fn sound() -> impl Strategy<Value = String> {
    let texts = "[ -~éü\\n\\t\"'\\\\#]{0,12}".prop_map(|text| serde_json::to_string(&text).unwrap());
    prop_oneof![
        texts.clone().prop_map(|text| format!("command = [\"x\", {text}]")),
        texts.clone().prop_map(|text| format!("environment.A = {text}")),
        texts.prop_map(|text| format!("environment.B_{} = {text}", text.len())),
        prop::sample::select(SOUND).prop_map(str::to_owned),
    ]
}
