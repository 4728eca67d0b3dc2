//! What fetching images from registries needs.

use std::fs;

use nix::unistd::User;

use super::Finding;
use crate::{cli::files, config::ImagesConfig, host::Host, root::Root};

/// The group of these findings.
const GROUP: &str = "Images";

/// Where distributions have the authorities that they trust, in one file.
const AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
];

/// Looks at what a fetch needs. Who fetches nothing misses nothing.
pub fn examine(host: &Host) -> Vec<Finding> {
    let config = files::config(&host.root).map(|config| config.images).unwrap_or_default();
    vec![user(&host.root, &config), authorities(&host.root)]
}

/// Whether the user of fetches is there.
fn user(root: &Root, config: &ImagesConfig) -> Finding {
    let name = &config.pull_user;
    let passwd = fs::read_to_string(root.at("/etc/passwd")).unwrap_or_default();
    let listed = passwd.lines().any(|line| line.split(':').next() == Some(name));
    if listed || matches!(User::from_name(name), Ok(Some(_))) {
        return Finding::good(GROUP, "user", format!("{name} fetches images of registries"));
    }
    let cure = "systemd-sysusers, or useradd --system --no-create-home berth-pull";
    Finding::note(GROUP, "user", format!("there is no user {name}: nothing is fetched from registries"), Some(cure))
}

/// Whether any authority is trusted.
fn authorities(root: &Root) -> Finding {
    match AUTHORITIES.iter().find(|path| root.at(path).exists()) {
        Some(path) => Finding::good(GROUP, "authorities", *path),
        None => {
            let detail = "none of the system's: registries need a ca_file each";
            Finding::note(GROUP, "authorities", detail, Some("install ca-certificates"))
        }
    }
}
