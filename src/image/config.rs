//! What an image says of how to run it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Digest;

/// What berth uses of an image's configuration, as OCI and Docker write it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Config {
    /// `Entrypoint`.
    pub entrypoint: Vec<String>,
    /// `Cmd`.
    pub cmd: Vec<String>,
    /// `Env`, in its order.
    pub env: Vec<(String, String)>,
    /// `WorkingDir`.
    pub working_dir: Option<String>,
    /// `User`, as written: name or uid, `:` and group or gid.
    pub user: Option<String>,
    /// `StopSignal`, as written.
    pub stop_signal: Option<String>,
    /// `ExposedPorts`: `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// `Labels`.
    pub labels: BTreeMap<String, String>,
    /// `Volumes`: paths in the container.
    pub volumes: Vec<String>,
    /// `Healthcheck`, which berth does not run: its command as text.
    pub healthcheck: Option<String>,
    /// The machine it is for, in Go's words.
    pub architecture: String,
    /// The variant of that, such as `v8`.
    pub variant: Option<String>,
    /// The kernel it is for.
    pub os: String,
    /// Digests of its layers unpacked, lowest first.
    pub diff_ids: Vec<Digest>,
    /// What it says beyond that and berth does not do: keys, for the operator to know.
    pub not_understood: Vec<String>,
}

/// Keys of the whole that say nothing of how to run it.
const TOP: &[&str] = &[
    "architecture",
    "author",
    "comment",
    "config",
    "container",
    "container_config",
    "created",
    "docker_version",
    "history",
    "id",
    "moby.buildkit.buildinfo.v1",
    "moby.buildkit.cache.v0",
    "os",
    "parent",
    "rootfs",
    "throwaway",
    "variant",
];

/// Keys below `config` that are used, or that only tell how the image was built.
const INNER: &[&str] = &[
    "ArgsEscaped",
    "AttachStderr",
    "AttachStdin",
    "AttachStdout",
    "Cmd",
    "Domainname",
    "Entrypoint",
    "Env",
    "ExposedPorts",
    "Hostname",
    "Image",
    "Labels",
    "OpenStdin",
    "StdinOnce",
    "StopSignal",
    "Tty",
    "User",
    "Volumes",
    "WorkingDir",
];

/// The whole, as it is written.
#[derive(Debug, Deserialize)]
struct Written {
    /// See [`Config::architecture`].
    #[serde(default)]
    architecture: String,
    /// See [`Config::variant`].
    #[serde(default)]
    variant: Option<String>,
    /// See [`Config::os`].
    #[serde(default)]
    os: String,
    /// What is run; Docker writes null for nothing.
    #[serde(default)]
    config: Option<Inner>,
    /// The layers.
    rootfs: RootFs,
}

/// `rootfs`.
#[derive(Debug, Deserialize)]
struct RootFs {
    /// See [`Config::diff_ids`].
    #[serde(default)]
    diff_ids: Option<Vec<Digest>>,
}

/// `config`. Docker writes null for what is empty.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Inner {
    /// See [`Config::entrypoint`].
    entrypoint: Option<Vec<String>>,
    /// See [`Config::cmd`].
    cmd: Option<Vec<String>>,
    /// See [`Config::env`].
    env: Option<Vec<String>>,
    /// See [`Config::working_dir`].
    working_dir: Option<String>,
    /// See [`Config::user`].
    user: Option<String>,
    /// See [`Config::stop_signal`].
    stop_signal: Option<String>,
    /// See [`Config::exposed_ports`].
    exposed_ports: Option<BTreeMap<String, Value>>,
    /// See [`Config::labels`].
    labels: Option<BTreeMap<String, String>>,
    /// See [`Config::volumes`].
    volumes: Option<BTreeMap<String, Value>>,
    /// See [`Config::healthcheck`].
    healthcheck: Option<Healthcheck>,
}

/// `Healthcheck`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Healthcheck {
    /// `["CMD", …]`, `["CMD-SHELL", …]`, `["NONE"]`.
    test: Option<Vec<String>>,
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// It is no JSON, or not of this form.
    pub fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        let written: Written = serde_json::from_slice(text)?;
        let value: Value = serde_json::from_slice(text)?;
        let inner = written.config.unwrap_or_default();
        let mut not_understood = beyond(&value, "", TOP);
        not_understood.extend(value.get("config").map(|config| beyond(config, "config.", INNER)).unwrap_or_default());
        let mut env = Vec::new();
        for entry in inner.env.unwrap_or_default() {
            match entry.split_once('=') {
                Some((name, value)) if !name.is_empty() => env.push((name.to_owned(), value.to_owned())),
                _ => not_understood.push(format!("config.Env \"{entry}\"")),
            }
        }
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        Ok(Self {
            entrypoint: inner.entrypoint.unwrap_or_default(),
            cmd: inner.cmd.unwrap_or_default(),
            env,
            working_dir: filled(inner.working_dir),
            user: filled(inner.user),
            stop_signal: filled(inner.stop_signal),
            exposed_ports: inner.exposed_ports.unwrap_or_default().into_keys().collect(),
            labels: inner.labels.unwrap_or_default(),
            volumes: inner.volumes.unwrap_or_default().into_keys().collect(),
            healthcheck: inner.healthcheck.and_then(|check| check.command()),
            architecture: written.architecture,
            variant: filled(written.variant),
            os: written.os,
            diff_ids: written.rootfs.diff_ids.unwrap_or_default(),
            not_understood,
        })
    }
}

impl Healthcheck {
    /// The command, unless it switches checks off.
    fn command(&self) -> Option<String> {
        match self.test.as_deref()? {
            [] => None,
            [word] if word == "NONE" => None,
            [word, command @ ..] if word == "CMD" || word == "CMD-SHELL" => Some(command.join(" ")),
            all => Some(all.join(" ")),
        }
    }
}

/// Keys of an object that are not `known` and say something.
fn beyond(value: &Value, prefix: &str, known: &[&str]) -> Vec<String> {
    let object = value.as_object();
    let says = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) => true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(items) => !items.is_empty(),
    };
    object
        .into_iter()
        .flatten()
        .filter(|(key, value)| says(value) && !known.contains(&key.as_str()))
        .map(|(key, _)| format!("{prefix}{key}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_of_dockers_is_read_whole() {
        let id = format!("sha256:{}", "2".repeat(64));
        let text = format!(
            r#"{{"architecture":"arm64","variant":"v8","os":"linux","created":"2026-01-01T00:00:00Z","os.version":"x",
            "config":{{"Hostname":"","Entrypoint":["/e"],"Cmd":null,"Env":["A=b=c","D=","bad"],"WorkingDir":"/w",
            "User":"u:g","StopSignal":"SIGQUIT","ExposedPorts":{{"80/tcp":{{}}}},"Labels":{{"k":"v"}},
            "Volumes":{{"/data":{{}}}},"OnBuild":["RUN x"],"Shell":[],"NetworkDisabled":false,"StopTimeout":7,
            "Healthcheck":{{"Test":["CMD-SHELL","curl -f localhost"]}}}},
            "rootfs":{{"type":"layers","diff_ids":["{id}"]}}}}"#
        );
        let config = Config::parse(text.as_bytes()).unwrap();
        assert_eq!((config.entrypoint, config.cmd), (vec!["/e".to_owned()], Vec::new()));
        assert_eq!(config.env, [("A".to_owned(), "b=c".to_owned()), ("D".to_owned(), String::new())]);
        assert_eq!(config.exposed_ports, ["80/tcp"]);
        assert_eq!(config.volumes, ["/data"]);
        assert_eq!(config.healthcheck.as_deref(), Some("curl -f localhost"));
        assert_eq!((config.architecture.as_str(), config.variant.as_deref()), ("arm64", Some("v8")));
        assert_eq!(config.diff_ids, [id.parse().unwrap()]);
        assert_eq!(
            config.not_understood,
            ["os.version", "config.Healthcheck", "config.OnBuild", "config.StopTimeout", "config.Env \"bad\""]
        );
    }

    #[test]
    fn little_is_needed() {
        assert_eq!(Config::parse(br#"{"rootfs":{}}"#).unwrap(), Config::default());
        assert_eq!(Config::parse(br#"{"config":null,"rootfs":{"diff_ids":null}}"#).unwrap(), Config::default());
        for wrong in ["", "[]", "{}", r#"{"rootfs":{"diff_ids":["x"]}}"#, r#"{"rootfs":{},"config":{"Env":[1]}}"#] {
            assert!(Config::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_check_that_is_switched_off_is_none() {
        let check = |test: &str| {
            let text = format!(r#"{{"rootfs":{{}},"config":{{"Healthcheck":{{"Test":{test}}}}}}}"#);
            Config::parse(text.as_bytes()).unwrap().healthcheck
        };
        assert_eq!(check("[\"NONE\"]"), None);
        assert_eq!(check("[]"), None);
        assert_eq!(check("[\"CMD\",\"a\",\"b\"]").as_deref(), Some("a b"));
    }
}
