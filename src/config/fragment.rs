//! One source of berthd's configuration as it stands: every key optional.

use std::path::PathBuf;

use serde::Deserialize;

use super::{Insecure, Level, ManagerChoice, NetClsBackend};
use crate::{
    image::Devices,
    source::{Shape, keys},
    spec::{
        Bytes,
        fragment::{CapabilitiesFragment, Fragment},
        words::{Half, MarkWord, Ranges, Timespan, choice, optional},
    },
};

/// `berthd.toml`, a drop-in, the environment, the flags, or all of them merged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct ConfigFragment {
    /// Who runs containers. Defaults to `auto`.
    #[serde(default, deserialize_with = "choice")]
    pub manager: Option<ManagerChoice>,
    /// Which isolators. Defaults to all that this host can do.
    pub isolation: Option<Vec<String>>,
    /// A spec under every spec. Defaults to nothing.
    pub defaults: Option<Fragment>,
    /// What specs may ask of namespaces.
    pub namespaces: Option<NamespacesFragment>,
    /// Handles for containers' packets.
    pub net_cls: Option<NetClsFragment>,
    /// What specs get of capabilities that ask for none, and can ask for at most.
    pub capabilities: Option<CapabilitiesFragment>,
    /// Where images are fetched from, and as whom.
    pub images: Option<ImagesFragment>,
    /// How the disk is watched.
    pub disk: Option<DiskFragment>,
    /// Project quotas.
    pub xfs: Option<XfsFragment>,
    /// How long sandboxes are kept.
    pub sandbox: Option<SandboxFragment>,
    /// What is measured.
    pub statistics: Option<StatisticsFragment>,
    /// What berthd says.
    pub log: Option<LogFragment>,
}

/// `[namespaces]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct NamespacesFragment {
    /// Whether a spec may say `pid = "host"`. Defaults to true.
    pub allow_host_pid: Option<bool>,
    /// Whether a spec may say `ipc = "host"`. Defaults to true.
    pub allow_host_ipc: Option<bool>,
    /// Size of a private `/dev/shm` whose spec names none. Defaults to the kernel's.
    #[serde(default, deserialize_with = "optional")]
    pub shm_size: Option<Bytes>,
}

/// `[net_cls]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct NetClsFragment {
    /// The upper 16 bits of every handle. Defaults to none: the operator sets the handles.
    pub primary_handle: Option<Half>,
    /// What berthd chooses the lower 16 bits from. Defaults to `0x0001-0xffff`.
    pub secondary_handles: Option<Ranges>,
    /// What tags. Defaults to `auto`.
    #[serde(default, deserialize_with = "choice")]
    pub backend: Option<NetClsBackend>,
    /// How long a handle rests before another container gets it. Defaults to `1min`.
    pub reuse_delay: Option<Timespan>,
    /// Whether `net_cls` may be used though it ends matching by cgroup2 on this kernel. Defaults to false.
    pub accept_v2_match_loss: Option<bool>,
}

/// `[images]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct ImagesFragment {
    /// As whom images are fetched. Defaults to `berth-pull`.
    pub pull_user: Option<String>,
    /// How long a registry may send nothing. Defaults to `30s`.
    pub stall_timeout: Option<Timespan>,
    /// Files of credentials. Defaults to berth's own, docker's and podman's.
    pub auth_files: Option<Vec<PathBuf>>,
    /// The proxy to all registries. Defaults to what `HTTPS_PROXY` and `HTTP_PROXY` say.
    pub proxy: Option<String>,
    /// Who is reached without it. Defaults to what `NO_PROXY` says.
    pub no_proxy: Option<Vec<String>>,
    /// What becomes of device nodes. Defaults to `skip`.
    #[serde(default, deserialize_with = "choice")]
    pub devices: Option<Devices>,
    /// What an image may take. Defaults to much.
    pub limits: Option<LimitsFragment>,
    /// When images that nothing uses are removed. Defaults to never.
    pub gc: Option<GcFragment>,
    /// What is special about registries. Defaults to nothing.
    pub registry: Option<Vec<RegistryFragment>>,
}

/// `[images.limits]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct LimitsFragment {
    /// Bytes that its layers unpack to. Defaults to `64GiB`.
    #[serde(default, deserialize_with = "optional")]
    pub size: Option<Bytes>,
    /// Entries that they have. Defaults to 4,000,000.
    pub entries: Option<u64>,
    /// How many times as large as its blob a layer is. Defaults to any.
    pub ratio: Option<u64>,
}

/// `[images.gc]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct GcFragment {
    /// How long an image may be unused. Defaults to `infinity`.
    pub max_age: Option<Timespan>,
    /// How much there may be. Defaults to any.
    pub high_water: Option<MarkWord>,
    /// How much is left then. Defaults to nine tenths of `high_water`.
    pub low_water: Option<MarkWord>,
    /// How often it is looked. Defaults to `1h`.
    pub interval: Option<Timespan>,
}

/// `[[images.registry]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct RegistryFragment {
    /// Its name, as in references.
    pub host: Option<String>,
    /// Who is asked before it. Defaults to nobody.
    pub mirrors: Option<Vec<String>>,
    /// Authorities that are trusted for it, beside the system's. Defaults to none.
    pub ca_file: Option<PathBuf>,
    /// What it lacks. Defaults to nothing.
    #[serde(default, deserialize_with = "choice")]
    pub insecure: Option<Insecure>,
}

/// `[disk]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct DiskFragment {
    /// Whether limits of specs are enforced that do not say how. Defaults to false.
    pub enforce_quota: Option<bool>,
    /// How often it is looked at, where somebody must look. Defaults to `15s`.
    pub watch_interval: Option<Timespan>,
}

/// `[xfs]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct XfsFragment {
    /// What berthd chooses project IDs from. Defaults to `5000-10000`.
    pub project_range: Option<Ranges>,
    /// How far a container gets above a limit before it is ended. Defaults to `10MiB`.
    #[serde(default, deserialize_with = "optional")]
    pub quota_headroom: Option<Bytes>,
}

/// `[sandbox]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct SandboxFragment {
    /// How many past runs of a container are kept. Defaults to 5.
    pub keep: Option<u32>,
    /// How long. Defaults to `7d`.
    pub max_age: Option<Timespan>,
}

/// `[statistics]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct StatisticsFragment {
    /// How often. Defaults to `15s`.
    pub interval: Option<Timespan>,
}

/// `[log]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct LogFragment {
    /// Defaults to `info`.
    #[serde(default, deserialize_with = "choice")]
    pub level: Option<Level>,
}

impl Shape for ConfigFragment {
    fn tables() -> Vec<(String, &'static [&'static str])> {
        let own = [
            ("", keys::<Self>()),
            ("namespaces", keys::<NamespacesFragment>()),
            ("net_cls", keys::<NetClsFragment>()),
            ("capabilities", keys::<CapabilitiesFragment>()),
            ("images", keys::<ImagesFragment>()),
            ("images.limits", keys::<LimitsFragment>()),
            ("images.gc", keys::<GcFragment>()),
            ("images.registry", keys::<RegistryFragment>()),
            ("disk", keys::<DiskFragment>()),
            ("xfs", keys::<XfsFragment>()),
            ("sandbox", keys::<SandboxFragment>()),
            ("statistics", keys::<StatisticsFragment>()),
            ("log", keys::<LogFragment>()),
        ];
        let defaults = Fragment::tables().into_iter().map(|(table, keys)| {
            (if table.is_empty() { "defaults".to_owned() } else { format!("defaults.{table}") }, keys)
        });
        own.map(|(table, keys)| (table.to_owned(), keys)).into_iter().chain(defaults).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::spec::{ALL_WORD, Capability};

    /// The schema of a spec.
    const CONTAINER: &str = include_str!("../../packaging/schema/berth.container.schema.json");
    /// The schema of `berthd.toml`.
    const BERTHD: &str = include_str!("../../packaging/schema/berthd.schema.json");

    /// The keys that a schema has for a table.
    fn properties<'a>(schema: &'a Value, table: &str) -> BTreeSet<&'a str> {
        let mut node = schema;
        for part in table.split('.').filter(|part| !part.is_empty()) {
            node = &node["properties"][part];
            node = node.get("items").filter(|items| items["type"] == "object").unwrap_or(node);
            node = node["oneOf"].as_array().into_iter().flatten().find(|one| one["type"] == "object").unwrap_or(node);
        }
        assert_eq!(node["additionalProperties"], false, "{table}");
        node["properties"].as_object().unwrap().keys().map(String::as_str).collect()
    }

    #[test]
    fn schemas_have_every_capability() {
        let names: Vec<&str> = [ALL_WORD].into_iter().chain(Capability::NAMED.iter().map(|(_, name)| *name)).collect();
        for text in [CONTAINER, BERTHD] {
            let schema: Value = serde_json::from_str(text).unwrap();
            assert_eq!(schema["$defs"]["capability"]["anyOf"][0]["enum"], serde_json::json!(names));
        }
    }

    #[test]
    fn schemas_have_the_keys_that_are_read() {
        for (text, tables) in [(CONTAINER, Fragment::tables()), (BERTHD, ConfigFragment::tables())] {
            let schema: Value = serde_json::from_str(text).unwrap();
            for (table, keys) in tables {
                assert!(!keys.is_empty(), "{table}");
                assert_eq!(properties(&schema, &table), keys.iter().copied().collect(), "{table}");
            }
        }
    }
}
