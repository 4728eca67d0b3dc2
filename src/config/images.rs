//! `[images]`: where images are fetched from, and as whom.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    fragment::{ImagesFragment, RegistryFragment},
    span,
};
use crate::{
    image::Reference,
    pull::{parse_proxy, proxy_has_secret},
    source::{Diagnostic, Part, Stack, dotted},
};

/// Where images are fetched from, and as whom.
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
    /// What is special about registries.
    #[serde(rename = "registry")]
    pub registries: Vec<RegistryConfig>,
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
        registries,
    }
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
