//! Manifests and indexes, OCI's and Docker's: what is read of them, and what is refused.

use std::env::consts;

use serde::{Deserialize, Serialize};

use super::{PullError, digest, words::Cause};

/// What is asked for, most wanted first.
pub const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";
/// Most bytes of a manifest (the limit of registries themselves).
pub const MAX_MANIFEST: u64 = 4 << 20;
/// Most bytes of a configuration.
const MAX_CONFIG: u64 = 8 << 20;
/// Most layers; overlayfs takes 500.
const MAX_LAYERS: usize = 500;
/// What configurations of containers are called.
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
/// What layers are called that can be unpacked.
const LAYERS: [&str; 5] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
];

/// What a manifest says of a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: String,
    /// Its bytes.
    pub size: u64,
    /// Of an entry of an index: for what machines it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

/// A kind of machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// As Go calls it: `amd64`.
    #[serde(default)]
    pub architecture: String,
    /// As Go calls it: `linux`.
    #[serde(default)]
    pub os: String,
    /// `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// What a registry has for a tag.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    /// 2, or 1 for what is long obsolete.
    #[serde(default)]
    schema_version: u64,
    /// Of an index: manifests for several platforms.
    manifests: Option<Vec<Descriptor>>,
    /// Of a manifest.
    config: Option<Descriptor>,
    /// Of a manifest, lowest first.
    layers: Option<Vec<Descriptor>>,
}

/// A document that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manifest {
    /// Go on with this one, which is for machines like this.
    Index(Descriptor),
    /// An image: its configuration, then its layers, lowest first.
    Image(Vec<Descriptor>),
}

impl Manifest {
    /// Understands what a registry gave.
    ///
    /// # Errors
    /// It is none, or of no use here.
    pub fn parse(bytes: &[u8]) -> Result<Self, PullError> {
        let document: Document = serde_json::from_slice(bytes)
            .map_err(|error| invalid(format!("the registry's manifest cannot be read: {error}")))?;
        match document {
            Document { schema_version: 1, .. } => Err(unsupported(
                "the image has a manifest of schema 1, which was given up in 2017; push it anew with a current tool",
            )),
            Document { manifests: Some(manifests), .. } => choose(manifests, &host()).map(Self::Index),
            Document { config: Some(config), layers: Some(layers), .. } => image(config, layers).map(Self::Image),
            _ => Err(invalid("the registry's manifest names neither layers nor other manifests".to_owned())),
        }
    }
}

/// The blobs of an image.
fn image(config: Descriptor, layers: Vec<Descriptor>) -> Result<Vec<Descriptor>, PullError> {
    if !CONFIGS.contains(&config.media_type.as_str()) {
        let what = if config.media_type.is_empty() { "something unnamed" } else { &config.media_type };
        return Err(unsupported(format!("this is no image of a container: its configuration is {what}")));
    }
    if let Some(strange) = layers.iter().find(|layer| !LAYERS.contains(&layer.media_type.as_str())) {
        return Err(unsupported(format!("the image has a layer that cannot be unpacked: {}", strange.media_type)));
    }
    if layers.len() > MAX_LAYERS {
        return Err(unsupported(format!("the image has {} layers; {MAX_LAYERS} can be stacked", layers.len())));
    }
    if config.size > MAX_CONFIG {
        return Err(invalid(format!("the image's configuration has {} bytes; {MAX_CONFIG} is the most", config.size)));
    }
    let all: Vec<Descriptor> = [config].into_iter().chain(layers).collect();
    match all.iter().find(|blob| digest::digits(&blob.digest).is_none()) {
        Some(blob) => Err(unsupported(format!("the image names a blob {:?}; berth takes sha256 only", blob.digest))),
        None => Ok(all),
    }
}

/// The entry of an index for a machine.
fn choose(manifests: Vec<Descriptor>, machine: &[Platform]) -> Result<Descriptor, PullError> {
    let fits = |wanted: &Platform, has: &Platform| {
        has.os == wanted.os
            && has.architecture == wanted.architecture
            && has.variant.as_deref().unwrap_or_default() == wanted.variant.as_deref().unwrap_or_default()
    };
    let found = machine
        .iter()
        .find_map(|wanted| manifests.iter().find(|entry| entry.platform.as_ref().is_some_and(|has| fits(wanted, has))));
    if let Some(found) = found {
        return match digest::digits(&found.digest) {
            Some(_) if found.size <= MAX_MANIFEST => Ok(found.clone()),
            _ => Err(invalid(format!("the index names a manifest {:?} of {} bytes", found.digest, found.size))),
        };
    }
    let mut there: Vec<String> = manifests.iter().filter_map(|entry| entry.platform.as_ref()).map(name).collect();
    there.dedup();
    there.truncate(20);
    let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
    let wanted = machine.first().map(name).unwrap_or_default();
    Err(unsupported(format!("the image is not made for this machine ({wanted}); it is there for: {there}")))
}

/// `linux/arm/v7`.
fn name(platform: &Platform) -> String {
    let variant = platform.variant.iter().flat_map(|variant| ["/", variant]).collect::<String>();
    format!("{}/{}{variant}", platform.os, platform.architecture)
}

/// What this machine can run, best first.
fn host() -> Vec<Platform> {
    let (architecture, variants): (&str, &[Option<&str>]) = match consts::ARCH {
        "x86_64" => ("amd64", &[None, Some("v1")]),
        "x86" => ("386", &[None]),
        "aarch64" => ("arm64", &[Some("v8"), None]),
        "arm" => ("arm", &[Some("v7"), Some("v6"), Some("v5"), None]),
        "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", &[None]),
        "loongarch64" => ("loong64", &[None]),
        other => (other, &[None]),
    };
    let platform = |variant: &Option<&str>| Platform {
        architecture: architecture.to_owned(),
        os: "linux".to_owned(),
        variant: variant.map(str::to_owned),
    };
    variants.iter().map(platform).collect()
}

/// Not what was promised.
fn invalid(message: String) -> PullError {
    PullError::lasting(Cause::Invalid, message)
}

/// Of no use here.
fn unsupported(message: impl Into<String>) -> PullError {
    PullError::lasting(Cause::Unsupported, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A digest that only its last digit tells from others.
    fn sha(last: u8) -> String {
        format!("sha256:{:063}{last}", 0)
    }

    /// A manifest with a layer of `kind`.
    fn with_layer(kind: &str) -> String {
        let config = CONFIGS[0];
        format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"{config}","digest":"{}","size":2}},
                "layers":[{{"mediaType":"{kind}","digest":"{}","size":3}}]}}"#,
            sha(1),
            sha(2)
        )
    }

    #[test]
    fn an_image_is_its_config_and_its_layers() {
        for kind in LAYERS {
            let Manifest::Image(blobs) = Manifest::parse(with_layer(kind).as_bytes()).unwrap() else { unreachable!() };
            assert_eq!(blobs.iter().map(|blob| blob.size).collect::<Vec<_>>(), [2, 3]);
        }
    }

    #[test]
    fn what_is_of_no_use_is_refused_in_words() {
        for (text, words) in [
            ("{", "cannot be read"),
            ("[]", "cannot be read"),
            ("{}", "neither layers"),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#, "schema 1"),
            (r#"{"schemaVersion":2,"manifests":[]}"#, "it is there for: none"),
            (&with_layer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"), "cannot be unpacked"),
            (&with_layer(LAYERS[1]).replace(CONFIGS[0], "application/vnd.cncf.helm.config.v1+json"), "no image"),
            (&with_layer(LAYERS[1]).replace(&sha(2), "sha256:../x"), "sha256 only"),
            (&with_layer(LAYERS[1]).replace("\"size\":2", "\"size\":999999999"), "configuration has"),
            (&with_layer(LAYERS[1]).replace("\"size\":3", "\"size\":-1"), "cannot be read"),
        ] {
            let error = Manifest::parse(text.as_bytes()).unwrap_err();
            assert!(error.message.contains(words), "{text}: {error}");
            assert_eq!(error.again, None);
        }
    }

    #[test]
    fn the_platform_is_this_machines() {
        let entry = |os: &str, architecture: &str, variant: Option<&str>, last| Descriptor {
            media_type: String::new(),
            digest: sha(last),
            size: 1,
            platform: Some(Platform {
                architecture: architecture.to_owned(),
                os: os.to_owned(),
                variant: variant.map(str::to_owned),
            }),
        };
        let all = vec![
            entry("windows", "arm", Some("v7"), 0),
            entry("linux", "arm", Some("v6"), 1),
            entry("linux", "arm", Some("v7"), 2),
            entry("linux", "s390x", None, 3),
        ];
        let wanted = |architecture: &str, variants: &[Option<&str>]| -> Vec<Platform> {
            variants.iter().map(|variant| entry("linux", architecture, *variant, 0).platform.unwrap()).collect()
        };
        let arm = wanted("arm", &[Some("v7"), Some("v6"), None]);
        assert_eq!(choose(all.clone(), &arm).unwrap().digest, sha(2));
        assert_eq!(choose(all[..2].to_vec(), &arm).unwrap().digest, sha(1));
        let error = choose(all, &wanted("amd64", &[None])).unwrap_err();
        assert!(error.message.contains("(linux/amd64)") && error.message.contains("linux/arm/v7"), "{error}");
    }
}
