//! ⑦ What is so, for people and programs: the state file and those who read it.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    manager::{Exit, Kind},
    protocol::Failure,
    root::Layer,
    spec::{Handle, Name},
};

mod disk;
mod statistics;

pub use disk::{DiskInfo, DiskStatistics, LimitReason, Limitation, LimitedResource, Persistence, Scalar};
pub use statistics::{ContainerStatistics, STATISTICS_SCHEMA, Statistics, Usage};

/// Version of the state file's form; a reader refuses a greater one.
pub const SCHEMA: u32 = 1;

/// `/run/berth/state.json`: replaced atomically, readable by everybody, true as of `written`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// [`SCHEMA`].
    pub schema: u32,
    /// `/proc/sys/kernel/random/boot_id` when it was written: a reader can tell yesterday's truth.
    pub boot_id: String,
    /// When, in RFC 3339, UTC.
    pub written: String,
    /// The daemon.
    pub daemon: Daemon,
    /// All containers, by name.
    pub containers: Vec<Container>,
    /// Problems of files that belong to no container: misnamed specs, the configuration.
    pub problems: Vec<String>,
}

/// berthd itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Daemon {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Its service manager.
    pub manager: Kind,
    /// Why the service manager cannot be reached, if so.
    pub manager_away: Option<String>,
    /// The one line that `systemctl status berthd` shows.
    pub status: String,
    /// Enabled isolators, in order.
    pub isolation: Vec<String>,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// Its name.
    pub name: Name,
    /// In one word.
    pub state: Lifecycle,
    /// Its unit.
    pub unit: String,
    /// Its main process, as the host numbers it.
    pub main_pid: Option<u32>,
    /// Since when it is in this state, RFC 3339, UTC; none if unknown.
    pub since: Option<String>,
    /// How its program ended last.
    pub exit: Option<Exit>,
    /// systemd's `Result` of the last run, where it was not `success`.
    pub result: Option<String>,
    /// Why the last start failed before the program began.
    pub error: Option<Failure>,
    /// What berthd ended it for, or its last run: more of a resource than it may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limitation: Option<Limitation>,
    /// Automatic restarts since the last start by hand.
    pub restarts: u32,
    /// Its files.
    pub spec: SpecStatus,
    /// The sandbox of the present or last run.
    pub sandbox: Option<PathBuf>,
    /// Its log, where the journal does not have it.
    pub log: Option<PathBuf>,
    /// Its control group, below the cgroup mount.
    pub cgroup: Option<String>,
    /// What its root is made from, where it has one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageStatus>,
    /// What each isolator says.
    pub isolators: Vec<IsolatorStatus>,
    /// What Mesos's `/state` has of it, under the same names.
    #[serde(default)]
    pub container_status: ContainerStatus,
}

/// The root of a container's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageStatus {
    /// As the spec names it.
    pub source: String,
    /// Of its manifest: which one it is. A directory has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Which one the source is now, where that is another one that the next start takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<String>,
    /// Which one it can go back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former: Option<String>,
    /// Which one it was taken back from: starts do not take it, though the source is this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_back: Option<String>,
    /// What its program listens on, as whoever made it says: `80/tcp`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exposed_ports: Vec<String>,
    /// What whoever made it wrote on it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Mesos's `ContainerStatus` (mesos.proto). What is absent is not known or not so.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// What control groups do with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup_info: Option<CgroupInfo>,
}

/// Mesos's `CgroupInfo`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupInfo {
    /// The handle of its packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net_cls: Option<NetCls>,
}

/// Mesos's `CgroupInfo.NetCls`, and the same in the words of others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetCls {
    /// The handle as a number, as Mesos has it.
    pub classid: u32,
    /// The same in hexadecimal, as nft(8) and iptables(8) take it.
    pub hex: String,
    /// The same as major and minor of a class of tc(8).
    pub class: String,
    /// What tags: `net_cls`, `bpf`.
    pub backends: Vec<String>,
}

impl NetCls {
    /// A handle in everybody's words.
    #[must_use]
    pub fn of(handle: Handle, backends: Vec<String>) -> Self {
        Self { classid: handle.0, hex: format!("{:#010x}", handle.0), class: handle.tc(), backends }
    }
}

/// The state of a container in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lifecycle {
    /// Never started in this boot.
    Inactive,
    /// On its way up.
    Starting,
    /// Runs.
    Running,
    /// On its way down.
    Stopping,
    /// Ended, waits for its automatic restart.
    Restarting,
    /// Stopped by an operator or a dependency.
    Stopped,
    /// Ended by itself, cleanly.
    Exited,
    /// Could not start, or ended as it should not.
    Failed,
    /// Its spec has never been valid; it cannot start.
    Invalid,
    /// Its spec or its unit is masked.
    Masked,
}

/// The spec of a container, as berthd sees its files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpecStatus {
    /// The spec, then its drop-ins.
    pub files: Vec<PathBuf>,
    /// Where the spec lies.
    pub layer: Option<Layer>,
    /// Whether berthd starts it on its own.
    pub autostart: bool,
    /// Digest of the last good spec.
    pub digest: Option<String>,
    /// Digest of the spec that the present run was started with.
    pub running: Option<String>,
    /// Keys in which the two differ and that only a restart applies.
    pub pending: Vec<String>,
    /// Mistakes, `file:line:column: key: message`, one each.
    pub errors: Vec<String>,
    /// Doubts, in the same form; then those about the plan of the present run, a sentence each.
    pub warnings: Vec<String>,
}

/// What one isolator says of one container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IsolatorStatus {
    /// Which.
    pub name: String,
    /// In a few words; none if it could not tell.
    pub detail: Option<String>,
    /// Why it could not tell.
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::protocol::Stage;

    /// A limitation in which every key has a value.
    fn limitation() -> Limitation {
        Limitation {
            reason: LimitReason::Disk,
            message: String::new(),
            limited_resources: vec![LimitedResource {
                name: "disk".to_owned(),
                kind: "SCALAR".to_owned(),
                scalar: Scalar { value: 1.0 },
                disk: Some(DiskInfo { persistence: Persistence { id: String::new(), container_path: "/x".into() } }),
            }],
        }
    }

    /// A state in which every key has a value.
    fn full() -> State {
        let text = || Some("text".to_owned());
        let error = Failure { stage: Stage::HandOver, errno: Some(2), path: Some("/x".into()), message: String::new() };
        let spec = SpecStatus {
            files: vec!["/x".into()],
            layer: Some(Layer::Vendor),
            autostart: true,
            digest: text(),
            running: text(),
            pending: vec![String::new()],
            errors: vec![String::new()],
            warnings: vec![String::new()],
        };
        let container = Container {
            name: "web".parse().unwrap(),
            state: Lifecycle::Masked,
            unit: String::new(),
            main_pid: Some(1),
            since: text(),
            exit: Some(Exit::Dumped(11)),
            result: text(),
            error: Some(error),
            limitation: Some(limitation()),
            restarts: 0,
            spec,
            sandbox: Some("/x".into()),
            log: Some("/x".into()),
            cgroup: text(),
            image: Some(ImageStatus {
                source: String::new(),
                digest: text(),
                pending: text(),
                former: text(),
                held_back: text(),
                exposed_ports: vec![String::new()],
                labels: BTreeMap::from([(String::new(), String::new())]),
            }),
            isolators: vec![IsolatorStatus { name: String::new(), detail: text(), error: text() }],
            container_status: ContainerStatus {
                cgroup_info: Some(CgroupInfo { net_cls: Some(NetCls::of(Handle(1), vec!["bpf".to_owned()])) }),
            },
        };
        let daemon = Daemon {
            version: String::new(),
            pid: 1,
            manager: Kind::Direct,
            manager_away: text(),
            status: String::new(),
            isolation: vec![String::new()],
        };
        State {
            schema: SCHEMA,
            boot_id: String::new(),
            written: String::new(),
            daemon,
            containers: vec![container],
            problems: vec![String::new()],
        }
    }

    /// Every key of `value` stands in `schema`, and the other way round.
    fn compare(at: &str, value: &Value, schema: &Value) {
        match value {
            // A map, whose keys are anybody's.
            Value::Object(fields) if schema["additionalProperties"].is_object() => {
                fields.values().for_each(|value| compare(at, value, &schema["additionalProperties"]));
            }
            Value::Object(fields) => {
                let schema = match schema.get("oneOf") {
                    Some(Value::Array(all)) => {
                        let has = |one: &&Value| fields.keys().all(|key| one["properties"].get(key).is_some());
                        all.iter().find(has).unwrap_or_else(|| panic!("{at}: no alternative for {fields:?}"))
                    }
                    _ => schema,
                };
                let known: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
                let mut keys: Vec<&String> = fields.keys().collect();
                keys.sort();
                let mut sorted = known.clone();
                sorted.sort();
                assert_eq!(keys, sorted, "{at}");
                for (key, value) in fields {
                    compare(&format!("{at}.{key}"), value, &schema["properties"][key]);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| compare(at, item, &schema["items"])),
            Value::String(word) => {
                if let Some(words) = schema.get("enum").and_then(Value::as_array) {
                    assert!(words.iter().any(|known| known == word), "{at}: {word} is not in the schema");
                }
            }
            _ => {}
        }
    }

    #[test]
    fn the_schema_says_what_the_state_file_holds() {
        let schema: Value =
            serde_json::from_str(include_str!("../../packaging/schema/berth.state.schema.json")).unwrap();
        compare("state", &serde_json::to_value(full()).unwrap(), &schema);
        assert_eq!(schema["properties"]["schema"]["const"], SCHEMA);
    }
}
