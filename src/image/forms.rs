//! The JSON of OCI and Docker images: indexes, manifests, and which of them is for this host.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Digest;

/// The tag in a layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// What points to a blob.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What kind of blob.
    #[serde(default)]
    pub media_type: String,
    /// Its name.
    pub digest: Digest,
    /// Its length.
    pub size: u64,
    /// What it is for, in an index.
    #[serde(default)]
    pub platform: Option<Platform>,
    /// More about it.
    #[serde(default)]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// A kind of host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Platform {
    /// The machine, in Go's words.
    #[serde(default)]
    pub architecture: String,
    /// The kernel.
    #[serde(default)]
    pub os: String,
    /// Which of the machines.
    #[serde(default)]
    pub variant: Option<String>,
}

/// `index.json`, an image index, or Docker's manifest list.
#[derive(Debug, Clone, Deserialize)]
pub struct Index {
    /// What it leads to.
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
}

/// One image.
#[derive(Debug, Clone, Deserialize)]
pub struct Manifest {
    /// Its configuration.
    pub config: Descriptor,
    /// Its layers, lowest first.
    #[serde(default)]
    pub layers: Vec<Descriptor>,
}

/// An element of `manifest.json` of docker-save(1).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Saved {
    /// The name of its configuration.
    pub config: String,
    /// What it is called.
    #[serde(default)]
    pub repo_tags: Option<Vec<String>>,
    /// The names of its layers, lowest first.
    #[serde(default)]
    pub layers: Vec<String>,
}

impl Descriptor {
    /// Its tag in a layout.
    pub fn tag(&self) -> Option<&str> {
        self.annotations.as_ref()?.get(REF_NAME).map(String::as_str)
    }

    /// Whether it leads to more descriptors.
    pub fn is_index(&self) -> bool {
        self.media_type.ends_with("image.index.v1+json") || self.media_type.ends_with("manifest.list.v2+json")
    }
}

impl Platform {
    /// This host's.
    pub fn here() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", None),
            "loongarch64" => ("loong64", None),
            same => (same, None),
        };
        Self { architecture: architecture.to_owned(), os: "linux".to_owned(), variant: variant.map(str::to_owned) }
    }

    /// How well this host runs what is for `other`: less is better, none not at all.
    pub fn fits(&self, other: &Self) -> Option<u32> {
        if (&self.os, &self.architecture) != (&other.os, &other.architecture) {
            return None;
        }
        let level = |variant: Option<&str>| variant.and_then(|text| text.strip_prefix('v')?.parse::<u32>().ok());
        match (level(self.variant.as_deref()), level(other.variant.as_deref())) {
            // amd64: the first level is every machine's.
            (None, None | Some(1)) => Some(0),
            (None, Some(_)) => None,
            (Some(_), None) => Some(1),
            (Some(own), Some(wanted)) => own.checked_sub(wanted).map(|less| 2 * less),
        }
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `linux/arm/v7`.
    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/').map(str::to_owned);
        let (os, architecture) = (parts.next().unwrap(), parts.next().unwrap());
        Platform { architecture, os, variant: parts.next() }
    }

    #[test]
    fn the_nearest_variant_that_runs_is_chosen() {
        for (host, images, best) in [
            ("linux/arm/v7", &["linux/arm/v6", "linux/arm/v7", "linux/arm64/v8", "linux/arm/v5"][..], Some(1)),
            ("linux/arm/v7", &["linux/arm/v5", "linux/arm/v6", "linux/arm/v8"], Some(1)),
            ("linux/arm64/v8", &["linux/amd64", "linux/arm64"], Some(1)),
            ("linux/amd64", &["linux/amd64/v3", "linux/amd64", "windows/amd64"], Some(1)),
            ("linux/amd64", &["unknown/unknown", "linux/amd64/v2"], None),
        ] {
            let fits = |(at, text): (usize, &&str)| Some((platform(host).fits(&platform(text))?, at));
            assert_eq!(images.iter().enumerate().filter_map(fits).min().map(|(_, at)| at), best, "{host}");
        }
    }
}
