//! `[images]`: where images are fetched from, and as whom; how far they are trusted; how long they are kept.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    fragment::{GcFragment, ImagesFragment, LimitsFragment, RegistryFragment},
    span,
};
use crate::{
    image::{Devices, Limits, Mark, Reference, Rule},
    pull::{parse_proxy, proxy_has_secret},
    source::{Diagnostic, Part, Stack, dotted},
    spec::{Bytes, words::MarkWord},
};

/// Where images are fetched from, and as whom; how far they are trusted; how long they are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImagesConfig {
    /// As whom.
    pub pull_user: String,
    /// How long a registry may send nothing.
    #[serde(serialize_with = "span")]
    pub stall_timeout: Duration,
    /// Files of credentials, the first that has some for a registry counts.
    pub auth_files: Vec<PathBuf>,
    /// The proxy to all registries; none: the one that the environment names.
    pub proxy: Option<String>,
    /// Who is reached without it; none: whom the environment names.
    pub no_proxy: Option<Vec<String>>,
    /// What becomes of their device nodes.
    pub devices: Devices,
    /// What an image may take.
    pub limits: LimitsConfig,
    /// When images that nothing uses are removed.
    pub gc: GcConfig,
    /// What is special about registries.
    #[serde(rename = "registry")]
    pub registries: Vec<RegistryConfig>,
}

/// What an image may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LimitsConfig {
    /// Bytes that its layers unpack to.
    #[serde(serialize_with = "size")]
    pub size: u64,
    /// Entries that they have.
    pub entries: u64,
    /// How many times as large as its blob a layer is; none: any.
    pub ratio: Option<u64>,
}

/// When images that nothing uses are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct GcConfig {
    /// When they have not been used for longer; [`Duration::MAX`] is never.
    #[serde(serialize_with = "span")]
    pub max_age: Duration,
    /// When there is more than this.
    #[serde(serialize_with = "mark")]
    pub high_water: Option<Mark>,
    /// Until there is no more than this.
    #[serde(serialize_with = "mark")]
    pub low_water: Option<Mark>,
    /// How often it is looked.
    #[serde(serialize_with = "span")]
    pub interval: Duration,
}

impl ImagesConfig {
    /// How far images are trusted.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let LimitsConfig { size: bytes, entries, ratio } = self.limits;
        Limits { bytes, entries, ratio, devices: self.devices }
    }
}

impl GcConfig {
    /// What is removed; none: nothing is.
    #[must_use]
    pub fn rule(&self) -> Option<Rule> {
        let water = self.high_water.zip(self.low_water);
        (self.max_age != Duration::MAX || water.is_some()).then_some(Rule { max_age: self.max_age, water })
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let Limits { bytes: size, entries, ratio, .. } = Limits::default();
        Self { size, entries, ratio }
    }
}

impl Default for GcConfig {
    fn default() -> Self {
        Self { max_age: Duration::MAX, high_water: None, low_water: None, interval: Duration::from_secs(60 * 60) }
    }
}

/// What is special about a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RegistryConfig {
    /// Its name, as in references: `HOST` or `HOST:PORT`.
    pub host: String,
    /// Who is asked before it, in this order.
    pub mirrors: Vec<String>,
    /// Authorities that are trusted for it, beside the system's.
    pub ca_file: Option<PathBuf>,
    /// What it lacks.
    pub insecure: Option<Insecure>,
}

/// What an insecure registry lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Insecure {
    /// TLS: it speaks plain http.
    Http,
    /// A certificate that can be trusted: it speaks https, and whoever answers is believed.
    UnverifiedTls,
}

impl Default for ImagesConfig {
    fn default() -> Self {
        let files = ["/etc/berth/auth.json", "/root/.docker/config.json", "/run/containers/0/auth.json"];
        Self {
            pull_user: "berth-pull".to_owned(),
            stall_timeout: Duration::from_secs(30),
            auth_files: files.map(PathBuf::from).to_vec(),
            proxy: None,
            no_proxy: None,
            devices: Devices::default(),
            limits: LimitsConfig::default(),
            gc: GcConfig::default(),
            registries: Vec::new(),
        }
    }
}

/// `[images]`, checked.
pub fn check(fragment: ImagesFragment, stack: &Stack, errors: &mut Vec<Diagnostic>) -> ImagesConfig {
    let default = ImagesConfig::default();
    let mut wrong = |key: &str, message: &str, help: &str| {
        let found = stack.error(&dotted(&format!("images.{key}")), Part::Value, message, 0);
        errors.extend(found.map(|found| found.with_help(Some(help))));
    };
    let stall_timeout = fragment.stall_timeout.map_or(default.stall_timeout, |span| span.0);
    if stall_timeout < Duration::from_secs(1) {
        wrong("stall_timeout", "no registry is that fast", "write at least \"1s\"");
    }
    let auth_files = fragment.auth_files.unwrap_or(default.auth_files);
    for (index, _) in auth_files.iter().enumerate().filter(|(_, file)| !file.is_absolute()) {
        wrong(&format!("auth_files.{index}"), "this path is not absolute", "begin it with /");
    }
    let proxy = fragment.proxy.map(|proxy| match parse_proxy(&proxy) {
        Err(why) => {
            wrong("proxy", "this is no proxy", &why);
            proxy
        }
        Ok(proxy) if proxy_has_secret(&proxy) => {
            let help = "leave it out and set HTTPS_PROXY and HTTP_PROXY of berthd.service, by EnvironmentFile=";
            wrong("proxy", "a name and a password do not belong in a file that everybody may read", help);
            proxy
        }
        Ok(proxy) => proxy,
    });
    let limits = limits(fragment.limits.unwrap_or_default(), &mut wrong);
    let gc = gc(fragment.gc.unwrap_or_default(), &mut wrong);
    let mut registries: Vec<RegistryConfig> = Vec::new();
    for (index, fragment) in fragment.registry.unwrap_or_default().into_iter().enumerate() {
        let place = format!("registry.{index}");
        let registry = registry(fragment, &place, &mut wrong);
        if registries.iter().any(|other| other.host == registry.host) {
            wrong(&format!("{place}.host"), "this registry is described twice", "say all of it in one place");
        }
        registries.push(registry);
    }
    ImagesConfig {
        pull_user: fragment.pull_user.unwrap_or(default.pull_user),
        stall_timeout,
        auth_files,
        proxy,
        no_proxy: fragment.no_proxy,
        devices: fragment.devices.unwrap_or_default(),
        limits,
        gc,
        registries,
    }
}

/// `[images.limits]`. With nothing allowed there were no images.
fn limits(fragment: LimitsFragment, wrong: &mut dyn FnMut(&str, &str, &str)) -> LimitsConfig {
    let default = LimitsConfig::default();
    let limits = LimitsConfig {
        size: fragment.size.map_or(default.size, |size| size.0),
        entries: fragment.entries.unwrap_or(default.entries),
        ratio: fragment.ratio,
    };
    let most = "write the most that an image of yours may take, or leave it out";
    for (key, zero) in
        [("size", limits.size == 0), ("entries", limits.entries == 0), ("ratio", limits.ratio == Some(0))]
    {
        if zero {
            wrong(&format!("limits.{key}"), "zero would refuse every image", most);
        }
    }
    limits
}

/// `[images.gc]`.
fn gc(fragment: GcFragment, wrong: &mut dyn FnMut(&str, &str, &str)) -> GcConfig {
    let default = GcConfig::default();
    let high_water = fragment.high_water.map(|word| word.0);
    let low_water = match (high_water, fragment.low_water.map(|word| word.0)) {
        (None, Some(low)) => {
            wrong("gc.low_water", "without high_water nothing is removed", "add high_water, or remove this");
            Some(low)
        }
        (Some(Mark::Share(high)), None) => Some(Mark::Share(high - high / 10)),
        (Some(Mark::Bytes(high)), None) => Some(Mark::Bytes(high - high / 10)),
        (high, Some(low)) => {
            let fits = match (high, low) {
                (Some(Mark::Share(high)), Mark::Share(low)) => low < high,
                (Some(Mark::Bytes(high)), Mark::Bytes(low)) => low < high,
                _ => {
                    let help = "write both as percent of the filesystem, or both as sizes of the store";
                    wrong("gc.low_water", "high_water is of another kind", help);
                    true
                }
            };
            if !fits {
                wrong("gc.low_water", "this is not below high_water", "leave it out: it is a tenth below then");
            }
            Some(low)
        }
        (None, None) => None,
    };
    let interval = fragment.interval.map_or(default.interval, |span| span.0);
    if interval < Duration::from_secs(1) {
        wrong("gc.interval", "this is too often", "write at least \"1s\"");
    }
    GcConfig { max_age: fragment.max_age.map_or(default.max_age, |span| span.0), high_water, low_water, interval }
}

/// A size as it is written in TOML.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives references")]
fn size<S: serde::Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Bytes(*bytes))
}

/// A mark as it is written in TOML.
#[allow(clippy::ref_option, reason = "serde gives references")]
fn mark<S: serde::Serializer>(mark: &Option<Mark>, serializer: S) -> Result<S::Ok, S::Error> {
    mark.map(|mark| MarkWord(mark).to_string()).serialize(serializer)
}

/// One `[[images.registry]]`.
fn registry(fragment: RegistryFragment, place: &str, wrong: &mut dyn FnMut(&str, &str, &str)) -> RegistryConfig {
    let cure = "write HOST or HOST:PORT, with a dot or a port in it, as in docker://HOST/NAME";
    let host = fragment.host.unwrap_or_default();
    if host.is_empty() {
        wrong(place, "this registry has no host", "add host = \"registry.example.org\"");
    } else if !is_registry(&host) {
        wrong(&format!("{place}.host"), &format!("\"{host}\" is not a registry"), cure);
    }
    let mirrors = fragment.mirrors.unwrap_or_default();
    for (index, mirror) in mirrors.iter().enumerate() {
        let place = format!("{place}.mirrors.{index}");
        if !is_registry(mirror) {
            wrong(&place, &format!("\"{mirror}\" is not a registry"), cure);
        } else if *mirror == host {
            wrong(&place, "a registry is not its own mirror", "leave it out: it is asked last in any case");
        }
    }
    if fragment.ca_file.as_ref().is_some_and(|file| !file.is_absolute()) {
        wrong(&format!("{place}.ca_file"), "this path is not absolute", "begin it with /");
    }
    if fragment.ca_file.is_some() && fragment.insecure.is_some() {
        let help = "remove one of the two: ca_file makes a private certificate trusted, and then nothing is insecure";
        wrong(&format!("{place}.ca_file"), "no certificate is looked at where insecure is set", help);
    }
    RegistryConfig { host, mirrors, ca_file: fragment.ca_file, insecure: fragment.insecure }
}

/// Whether a reference may have this as its registry.
fn is_registry(host: &str) -> bool {
    format!("{host}/name").parse::<Reference>().is_ok_and(|reference| reference.registry == host)
}
