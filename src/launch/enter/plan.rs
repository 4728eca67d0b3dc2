//! What of a run's plan holds for one who enters: all that is a process's own.

use std::path::Path;

use super::Entry;
use crate::{
    host::users::Account,
    plan::{Action, Phase, Plan, Program, Step},
};

/// The plan of who enters. The phases before the limits made the namespaces, which are entered as they are; every step
/// from there on is a process's own and is done again, whoever asked for it.
pub(super) fn plan_of(entry: &Entry, run: &Plan) -> Plan {
    let own = run.steps.iter().filter(|step| step.phase >= Phase::Limits).cloned();
    let argv: Vec<String> = entry.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    Plan {
        steps: own.map(|step| Step { action: changed(entry, step.action), ..step }).collect(),
        program: Program {
            executable: argv.first().cloned().unwrap_or_default(),
            argv,
            environment: environment(entry, &run.program.environment),
            init: false,
        },
        ..run.clone()
    }
}

/// A step as the command line wants it.
fn changed(entry: &Entry, action: Action) -> Action {
    match (action, &entry.account, &entry.directory) {
        (Action::SetIdentity { .. }, Some(Account { uid, gid, groups, .. }), _) => {
            Action::SetIdentity { uid: *uid, gid: *gid, groups: groups.clone() }
        }
        (Action::SetCapabilities(sets), Some(Account { uid: 0, .. }), _) => Action::SetCapabilities(sets.for_root()),
        (Action::ChangeDirectory { .. }, _, Some(directory)) => {
            Action::ChangeDirectory { path: Some(directory.clone()) }
        }
        (action, _, _) => action,
    }
}

/// The container's variables, those that another user has otherwise, and those of the command line.
fn environment(entry: &Entry, planned: &[(String, String)]) -> Vec<(String, String)> {
    let mut variables = planned.to_vec();
    if let Some(account) = &entry.account {
        let path = |path: &Option<_>| path.as_deref().map(|path: &Path| path.to_string_lossy().into_owned());
        let its_own = [
            ("USER", account.name.clone()),
            ("LOGNAME", account.name.clone()),
            ("HOME", path(&account.home)),
            ("SHELL", path(&account.shell)),
        ];
        for (name, value) in its_own {
            variables.retain(|(present, _)| present != name);
            variables.extend(value.map(|value| (name.to_owned(), value)));
        }
    }
    for (name, value) in &entry.environment {
        variables.retain(|(present, _)| present != name);
        variables.push((name.clone(), value.clone()));
    }
    variables
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        plan::CapabilitySets,
        spec::{Capability, CapabilitySet},
    };

    /// A step as JSON.
    fn step(phase: &str, action: Value) -> Value {
        json!({ "isolator": "x", "phase": phase, "action": action })
    }

    /// A run of www-data's with a step of every phase.
    fn run() -> Plan {
        let unit = serde_json::to_value(crate::plan::UnitSettings::default()).unwrap();
        let identity = json!({ "do": "set_identity", "uid": 33, "gid": 33, "groups": [33] });
        serde_json::from_value(json!({
            "container": "web", "unit": unit, "namespaces": ["mount"], "sandbox": "/sandbox", "warnings": [],
            "steps": [
                step("namespaces", json!({ "do": "isolate_mounts" })),
                step("mounts", json!({ "do": "mount_proc" })),
                step("root", json!({ "do": "mount_mqueue" })),
                step("limits", json!({ "do": "set_umask", "mask": 1 })),
                step("identity", identity),
                step("identity", json!({ "do": "change_directory", "path": null })),
                step("confine", json!({ "do": "set_umask", "mask": 2 })),
            ],
            "program": {
                "executable": "nginx", "argv": ["nginx"], "init": true,
                "environment": [["PATH", "/bin"], ["USER", "www-data"], ["HOME", "/var/www"], ["A", "1"]],
            },
        }))
        .unwrap()
    }

    /// A wish without options.
    fn entry(command: &[&str]) -> Entry {
        Entry {
            container: "web".parse().unwrap(),
            socket: "/socket".into(),
            command: command.iter().map(Into::into).collect(),
            identity: None,
            account: None,
            directory: None,
            environment: vec![],
        }
    }

    /// Pairs of owned strings.
    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_is_a_processs_own_is_done_again_and_what_is_the_containers_is_not() {
        let plan = plan_of(&entry(&["ps", "ax"]), &run());
        let phases: Vec<_> = plan.steps.iter().map(|step| step.phase).collect();
        assert_eq!(phases, [Phase::Limits, Phase::Identity, Phase::Identity, Phase::Confine]);
        assert_eq!(plan.steps, run().steps[3..]);
        assert_eq!(
            (plan.program.executable.as_str(), plan.program.argv.as_slice()),
            ("ps", &["ps", "ax"].map(str::to_owned)[..])
        );
        assert_eq!((plan.program.environment, plan.program.init), (run().program.environment, false));
        assert_eq!(plan.sandbox, run().sandbox);
    }

    #[test]
    fn the_command_line_has_the_last_word() {
        let account = Account {
            uid: 7,
            gid: 8,
            groups: vec![8, 9],
            name: Some("lp".to_owned()),
            home: Some("/var/lp".into()),
            shell: None,
        };
        let environment = pairs(&[("TERM", "vt100"), ("A", "2"), ("B", "")]);
        let wish = Entry { account: Some(account), directory: Some("/srv".into()), environment, ..entry(&["id"]) };
        let plan = plan_of(&wish, &run());
        assert_eq!(plan.steps[1].action, Action::SetIdentity { uid: 7, gid: 8, groups: vec![8, 9] });
        assert_eq!(plan.steps[2].action, Action::ChangeDirectory { path: Some("/srv".into()) });
        let expected = [
            ("PATH", "/bin"),
            ("USER", "lp"),
            ("LOGNAME", "lp"),
            ("HOME", "/var/lp"),
            ("TERM", "vt100"),
            ("A", "2"),
            ("B", ""),
        ];
        assert_eq!(plan.program.environment, pairs(&expected));
    }

    #[test]
    fn root_inherits_no_capability_of_an_ordinary_users() {
        let (few, more) = (CapabilitySet::of(&[Capability::KILL]), CapabilitySet::OCI_DEFAULT);
        let users =
            CapabilitySets { bounding: more, effective: few, inheritable: few, ambient: few, ..Default::default() };
        let none = CapabilitySet::NONE;
        for (uid, expected) in [
            (7, users.clone()),
            (0, CapabilitySets { effective: more, inheritable: none, ambient: none, ..users.clone() }),
        ] {
            let account = Some(Account { uid, gid: 8, groups: vec![], name: None, home: None, shell: None });
            let action = changed(&Entry { account, ..entry(&["id"]) }, Action::SetCapabilities(users.clone()));
            assert_eq!(action, Action::SetCapabilities(expected), "{uid}");
        }
    }
}
