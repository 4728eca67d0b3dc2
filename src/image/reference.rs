//! `registry/repository:tag@digest`: where an image lies in a registry.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Digest, SourceError};

/// The registry of a name that has none.
const HUB: &str = "docker.io";

/// How to write one.
const CURE: &str = "write docker://REGISTRY[:PORT]/REPOSITORY[:TAG][@sha256:DIGEST], lower case but for the tag";

/// The most that a repository's name and a tag may have (distribution specification).
const MOST_NAME: usize = 255;

/// See [`MOST_NAME`].
const MOST_TAG: usize = 128;

/// An image in a registry, in full: Docker Hub's short names are spelled out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    /// Host, with `:PORT` where it has one.
    pub registry: String,
    /// What it is called there.
    pub repository: String,
    /// Which of it by name. Beside a digest it is for people.
    pub tag: Option<String>,
    /// Which of it by content.
    pub digest: Option<Digest>,
}

impl FromStr for Reference {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let wrong = |what: &str| SourceError::new(format!("\"{text}\" is no image in a registry: {what}"), CURE);
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse::<Digest>().map_err(|e| wrong(&e.to_string()))?)),
            None => (text, None),
        };
        let (registry, rest) = match name.split_once('/') {
            Some((host, rest)) if is_registry(host) => (host.to_owned(), rest),
            _ => (HUB.to_owned(), name),
        };
        // A colon after the last slash; one before it would be a port.
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag.to_owned())),
            _ => (rest, None),
        };
        if !host_is_sound(&registry) {
            return Err(wrong(&format!("\"{registry}\" is no host")));
        }
        if !repository_is_sound(repository) {
            return Err(wrong(&format!("\"{repository}\" is no repository")));
        }
        if let Some(tag) = tag.as_deref().filter(|tag| !tag_is_sound(tag)) {
            return Err(wrong(&format!("\"{tag}\" is no tag")));
        }
        let registry = if registry == "index.docker.io" { HUB.to_owned() } else { registry };
        let official = registry == HUB && !repository.contains('/');
        let repository = if official { format!("library/{repository}") } else { repository.to_owned() };
        let tag = tag.or_else(|| digest.is_none().then(|| "latest".to_owned()));
        Ok(Self { registry, repository, tag, digest })
    }
}

/// Whether the part before the first slash names a host: Docker's rule.
fn is_registry(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':']) || part.chars().any(|c| c.is_ascii_uppercase())
}

/// A name or an address, and a port.
fn host_is_sound(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port_is_sound = port.is_none_or(|port| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok());
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let label = |label: &str| {
        let clean = !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        clean && !label.starts_with('-') && !label.ends_with('-')
    };
    port_is_sound
        && address.map_or_else(|| host.split('.').all(label), |address| address.parse::<std::net::Ipv6Addr>().is_ok())
}

/// Lower-case parts between slashes, joined by `.`, `_`, `__` or dashes.
fn repository_is_sound(text: &str) -> bool {
    let part = |part: &str| {
        let edge = |byte: Option<u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let bytes = part.as_bytes();
        let clean = bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(b));
        clean && edge(bytes.first().copied()) && edge(bytes.last().copied()) && !part.contains("..")
    };
    text.len() <= MOST_NAME && text.split('/').all(part)
}

/// A word with dots and dashes inside.
fn tag_is_sound(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= MOST_TAG
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        self.tag.as_ref().map_or(Ok(()), |tag| write!(f, ":{tag}"))?;
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

impl TryFrom<String> for Reference {
    type Error = SourceError;

    fn try_from(text: String) -> Result<Self, SourceError> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_spelled_out_as_docker_does() {
        let digest = format!("sha256:{}", "1".repeat(64));
        for (text, full) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("a/b", "docker.io/a/b:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/a/b:c", "docker.io/a/b:c"),
            ("localhost/a", "localhost/a:latest"),
            ("localhost:5000/a:b", "localhost:5000/a:b"),
            ("host:5000/a", "host:5000/a:latest"),
            ("quay.io/a/b/c-d__e.f:X-1.y", "quay.io/a/b/c-d__e.f:X-1.y"),
            ("[::1]:5000/a", "[::1]:5000/a:latest"),
            (&format!("r.example/a@{digest}"), &format!("r.example/a@{digest}")),
            (&format!("a:b@{digest}"), &format!("docker.io/library/a:b@{digest}")),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), full, "{text}");
            assert_eq!(full.parse(), Ok(reference));
        }
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for wrong in [
            "",
            ":",
            "a:",
            "/a",
            "a/",
            "a//b",
            "A",
            "host.example/A",
            "../a",
            "a/../b",
            "a..b",
            "a:b:c",
            "a@sha256:1",
            "a:-b",
            "host:x/a",
            "host:99999/a",
            "-h.example/a",
            "a b",
            "a\nb",
            "host.example/",
        ] {
            assert!(wrong.parse::<Reference>().is_err(), "{wrong:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_answered(text in ".{0,40}") {
            if let Ok(reference) = text.parse::<Reference>() {
                proptest::prop_assert_eq!(reference.to_string().parse(), Ok(reference));
            }
        }
    }
}
