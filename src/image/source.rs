//! `[image] source`: where an image comes from.

use std::{
    fmt,
    path::{Component, Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use super::Reference;

/// The schemes as they are written.
const SCHEMES: [&str; 5] = ["oci:", "oci-archive:", "docker-archive:", "docker://", "rootfs:"];

/// Where an image comes from. Its text is what skopeo(1) takes, and `rootfs:DIR`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Source {
    /// `oci:DIR[:TAG]`: a directory in the OCI image layout.
    Oci {
        /// The directory.
        dir: PathBuf,
        /// `org.opencontainers.image.ref.name`; none: the only image.
        tag: Option<String>,
    },
    /// `oci-archive:FILE[:TAG]`: such a directory in a tar archive.
    OciArchive {
        /// The archive.
        file: PathBuf,
        /// As of [`Source::Oci`].
        tag: Option<String>,
    },
    /// `docker-archive:FILE[:TAG]`: what docker-save(1) writes.
    DockerArchive {
        /// The archive.
        file: PathBuf,
        /// `NAME:TAG` as in its `RepoTags`; none: the only image.
        tag: Option<String>,
    },
    /// `docker://REFERENCE`: in a registry.
    Docker(Reference),
    /// `rootfs:DIR`: a directory of the host, as it is.
    Rootfs {
        /// The directory.
        dir: PathBuf,
    },
}

/// Why a text is no source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {help}")]
pub struct SourceError {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl SourceError {
    /// A message and its cure.
    pub(super) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }
}

impl Source {
    /// Reads a source whose path may be relative to `base`: what an operator types.
    ///
    /// # Errors
    /// The text is no source.
    pub fn parse_in(base: &Path, text: &str) -> Result<Self, SourceError> {
        let (scheme, rest) = scheme(text)?;
        let with_tag = |rest: &str| -> Result<(PathBuf, Option<String>), SourceError> {
            // As in skopeo: a path has no colon, a tag may have one.
            let (path, tag) = rest.split_once(':').map_or((rest, None), |(path, tag)| (path, Some(tag)));
            match tag {
                Some(tag) if !tag_is_sound(tag) => Err(SourceError::new(
                    format!("\"{tag}\" in \"{text}\" is no tag"),
                    format!("write {scheme}PATH or {scheme}PATH:TAG; no path of an image may have a colon"),
                )),
                tag => Ok((absolute(base, scheme, path)?, tag.map(str::to_owned))),
            }
        };
        match scheme {
            "oci:" => with_tag(rest).map(|(dir, tag)| Self::Oci { dir, tag }),
            "oci-archive:" => with_tag(rest).map(|(file, tag)| Self::OciArchive { file, tag }),
            "docker-archive:" => with_tag(rest).map(|(file, tag)| Self::DockerArchive { file, tag }),
            "docker://" => rest.parse().map(Self::Docker),
            _ => Ok(Self::Rootfs { dir: absolute(base, scheme, rest)? }),
        }
    }

    /// The path on this host, where it has one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Oci { dir: path, .. }
            | Self::OciArchive { file: path, .. }
            | Self::DockerArchive { file: path, .. }
            | Self::Rootfs { dir: path } => Some(path),
            Self::Docker(_) => None,
        }
    }
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        Self::parse_in(Path::new(""), text)
    }
}

/// The scheme of a text, and the rest.
fn scheme(text: &str) -> Result<(&'static str, &str), SourceError> {
    if let Some(found) = SCHEMES.iter().find_map(|scheme| Some((*scheme, text.strip_prefix(scheme)?))) {
        return Ok(found);
    }
    let known = format!("known are {}", SCHEMES.join(" "));
    let word = text.split(':').next().unwrap_or_default();
    if !text.contains(':') || word.contains(['/', '.']) {
        let message = format!("\"{text}\" does not say what kind of image it is");
        let meant = match text.starts_with(['/', '.']) {
            true => format!("an image begins with its kind; {known}; is \"rootfs:{text}\" meant?"),
            false => format!("an image begins with its kind; {known}; is \"docker://{text}\" meant?"),
        };
        return Err(SourceError::new(message, meant));
    }
    let message = format!("\"{word}:\" is no kind of image");
    let words = SCHEMES.iter().map(|scheme| scheme.trim_end_matches([':', '/']));
    Err(match crate::source::nearest(word, words) {
        Some("docker") => SourceError::new(message, "did you mean \"docker://\"?"),
        Some(near) => SourceError::new(message, format!("did you mean \"{near}:\"?")),
        None => SourceError::new(message, known),
    })
}

/// A path in its shortest absolute form, without touching the disk; what `..` would mean depends on links, so it is
/// kept as it is.
fn absolute(base: &Path, scheme: &str, text: &str) -> Result<PathBuf, SourceError> {
    let wrong = |what: &str| SourceError::new(format!("\"{scheme}{text}\" {what}"), format!("write {scheme}/PATH"));
    if text.is_empty() {
        return Err(wrong("has no path"));
    }
    if text.chars().any(char::is_control) {
        return Err(wrong("has a control character in its path"));
    }
    let path = base.join(text);
    if !path.is_absolute() {
        return Err(wrong("is no absolute path"));
    }
    Ok(path.components().filter(|component| *component != Component::CurDir).collect())
}

/// `[A-Za-z0-9]` and what the layout specification lets stand between.
fn tag_is_sound(tag: &str) -> bool {
    let inside = |b: u8| b.is_ascii_alphanumeric() || b"-._:@/+".contains(&b);
    tag.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        && tag.bytes().all(|b| inside(b) || b == b'_')
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, path, tag) = match self {
            Self::Oci { dir, tag } => ("oci", dir, tag.as_ref()),
            Self::OciArchive { file, tag } => ("oci-archive", file, tag.as_ref()),
            Self::DockerArchive { file, tag } => ("docker-archive", file, tag.as_ref()),
            Self::Docker(reference) => return write!(f, "docker://{reference}"),
            Self::Rootfs { dir } => ("rootfs", dir, None),
        };
        write!(f, "{scheme}:{}", path.display())?;
        tag.map_or(Ok(()), |tag| write!(f, ":{tag}"))
    }
}

impl TryFrom<String> for Source {
    type Error = SourceError;

    fn try_from(text: String) -> Result<Self, SourceError> {
        text.parse()
    }
}

impl From<Source> for String {
    fn from(source: Source) -> Self {
        source.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_as_skopeo_writes_them() {
        for (text, same) in [
            ("oci:/srv/layout", "oci:/srv/layout"),
            ("oci:/srv/layout:v1", "oci:/srv/layout:v1"),
            ("oci-archive:/a.tar:x:y", "oci-archive:/a.tar:x:y"),
            ("docker-archive:/a.tar:nginx:1.27", "docker-archive:/a.tar:nginx:1.27"),
            ("docker-archive:/a//./b.tar", "docker-archive:/a/b.tar"),
            ("docker://nginx", "docker://docker.io/library/nginx:latest"),
            ("rootfs:/srv/root/", "rootfs:/srv/root"),
            ("rootfs:/a:b", "rootfs:/a:b"),
        ] {
            let source: Source = text.parse().unwrap();
            assert_eq!(source.to_string(), same, "{text}");
            assert_eq!(same.parse(), Ok(source));
        }
        let typed = Source::parse_in(Path::new("/home"), "oci:./a:b").unwrap();
        assert_eq!(typed.to_string(), "oci:/home/a:b");
    }

    #[test]
    fn a_mistake_has_a_cure() {
        for (text, cure) in [
            ("ocl:/a", "did you mean \"oci:\"?"),
            ("docker-archve:/a", "did you mean \"docker-archive:\"?"),
            ("docker:nginx", "did you mean \"docker://\"?"),
            ("nginx", "is \"docker://nginx\" meant?"),
            ("registry.example/nginx:1", "is \"docker://registry.example/nginx:1\" meant?"),
            ("/srv/root", "is \"rootfs:/srv/root\" meant?"),
            ("containers-storage:x", "known are oci: oci-archive: docker-archive: docker:// rootfs:"),
            ("oci:a", "write oci:/PATH"),
            ("rootfs:", "write rootfs:/PATH"),
            ("oci:/a:", "no path of an image may have a colon"),
            ("oci:/a\n", "write oci:/PATH"),
            ("docker://A", "lower case but for the tag"),
        ] {
            let error = text.parse::<Source>().unwrap_err();
            assert!(error.help.contains(cure), "{text}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_answered(text in "(oci:|rootfs:|docker-archive:/|docker://)?.{0,30}") {
            if let Ok(source) = text.parse::<Source>() {
                proptest::prop_assert_eq!(source.to_string().parse(), Ok(source));
            }
        }
    }
}
