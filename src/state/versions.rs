//! Which images a container has been started from: what it goes back to, and what it is kept from.
//!
//! One JSON file a container below `/var/lib/berth/versions`, on the disk before what it describes is done. It outlives
//! a reboot: a container that was taken back from a bad image does not start with it again because of one. What it names
//! is in use (`image::in_use`).

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    image::{self, Digest, Source, Store, Version, write_durably},
    root::Root,
    spec::Name,
};

/// Version of the file's form.
const SCHEMA: u32 = 1;

/// The images of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Whose.
    pub name: Name,
    /// As its spec named them. With another source the container begins anew.
    pub source: Source,
    /// What it was started from last, so that it ran.
    pub current: Version,
    /// What it was started from before.
    pub former: Option<Version>,
    /// As long as the source is this image, starts use `current`.
    pub held_back: Option<Digest>,
    /// The move that is under way.
    pub attempt: Option<Attempt>,
}

/// A move to another image that has not succeeded yet. Starts use what it moves to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// To which.
    pub to: Version,
    /// Why.
    pub deed: Deed,
    /// Whether the container is to run with `current` again, should it fail.
    pub resume: bool,
    /// The boot in which it began.
    pub boot_id: String,
}

/// What an operator has asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// Move to what the source is now.
    Update,
    /// Go back to what the container was started from before.
    Rollback,
}

impl Versions {
    /// A container was started from its first image, as far as is known.
    #[must_use]
    pub fn first(name: Name, source: Source, current: Version) -> Self {
        Self { schema: SCHEMA, name, source, current, former: None, held_back: None, attempt: None }
    }

    /// The image that a start must use, whatever `source` is; `present` is which that is, if it is here.
    #[must_use]
    pub fn prescribed(&self, source: &Source, present: Option<&Digest>) -> Option<&Version> {
        if self.source != *source {
            return None;
        }
        let kept = self.held_back.is_some() && (present.is_none() || present == self.held_back.as_ref());
        self.attempt.as_ref().map(|attempt| &attempt.to).or_else(|| kept.then_some(&self.current))
    }

    /// The image that starts of a container must use, whatever `source` is by now, where it has been moved to one or taken
    /// back to one. What is damaged was told when berthd came, and is as if it were not there.
    ///
    /// # Errors
    /// What `source` is cannot be read.
    pub fn kept(root: &Root, name: &Name, source: &Source) -> Result<Option<Version>, image::Error> {
        let Some(versions) = Self::read(root, name).unwrap_or_default() else { return Ok(None) };
        let present = Store::open(root).tag(source)?.map(|tag| tag.current.digest);
        Ok(versions.prescribed(source, present.as_ref()).cloned())
    }

    /// The container was started, by whomever, from an image of its source: where that is another one, the one before is
    /// the way back, and nothing is held back any more.
    #[must_use]
    pub fn started(self, version: Version) -> Self {
        if self.attempt.is_some() || self.current.digest == version.digest {
            return self;
        }
        Self { former: Some(self.current), current: version, held_back: None, ..self }
    }

    /// The move has succeeded. `present` is what the source is: a container that went back is kept from it.
    #[must_use]
    pub fn succeeded(mut self, present: Option<&Digest>) -> Self {
        let Some(Attempt { to, deed, .. }) = self.attempt.take() else { return self };
        self.held_back = match deed {
            Deed::Update => None,
            Deed::Rollback => present.filter(|present| **present != to.digest).cloned(),
        };
        if to.digest != self.current.digest {
            self.former = Some(std::mem::replace(&mut self.current, to));
        }
        self
    }

    /// The move has failed: the container stays with what it has, and is kept from what it does not start with.
    #[must_use]
    pub fn failed(mut self) -> Self {
        match self.attempt.take() {
            Some(Attempt { to, deed: Deed::Update, .. }) if to.digest != self.current.digest => {
                self.held_back = Some(to.digest);
            }
            _ => {}
        }
        self
    }

    /// What is known of a container.
    ///
    /// # Errors
    /// It cannot be read; one line for people.
    pub fn read(root: &Root, name: &Name) -> Result<Option<Self>, String> {
        let path = path(root, name);
        let bad = |why: String| format!("cannot read {}: {why}", path.display());
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| bad(crate::error::reason(&error)))?,
        };
        let versions: Self = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
        match (versions.schema, versions.name == *name) {
            (SCHEMA, true) => Ok(Some(versions)),
            (SCHEMA, false) => Err(bad(format!("it is of '{}'", versions.name))),
            (other, _) => Err(bad(format!("its form is version {other}, this berth knows {SCHEMA}"))),
        }
    }

    /// Puts it on the disk, in place of what was known.
    ///
    /// # Errors
    /// It cannot be written; what was known stands.
    pub fn save(&self, root: &Root) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(root.versions())?;
        let text = serde_json::to_vec(self).map_err(io::Error::other)?;
        write_durably(&path(root, &self.name), &text)
    }
}

/// What is known of all containers, and what cannot be read, a line each. A file that is damaged is moved aside, for people.
///
/// # Errors
/// The directory cannot be read.
pub fn load(root: &Root) -> io::Result<(Vec<Versions>, Vec<String>)> {
    let (mut all, mut damaged) = (Vec::new(), Vec::new());
    let entries = match fs::read_dir(root.versions()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((all, damaged)),
        other => other?,
    };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "json"))
    {
        let name = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<Name>().ok());
        match name.ok_or_else(|| format!("{} is no container's", path.display())).and_then(|n| Versions::read(root, &n))
        {
            Ok(versions) => all.extend(versions),
            Err(why) => damaged.push(format!("{why}; {}", set_aside(&path))),
        }
    }
    Ok((all, damaged))
}

/// Forgets a container; that nothing is known is success.
///
/// # Errors
/// The file is there and cannot be removed.
pub fn remove(root: &Root, name: &Name) -> io::Result<()> {
    match fs::remove_file(path(root, name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Where it lies.
fn path(root: &Root, name: &Name) -> PathBuf {
    root.versions().join(format!("{name}.json"))
}

/// Moves a damaged file out of the way.
fn set_aside(path: &Path) -> String {
    let aside = path.with_extension("damaged");
    match fs::rename(path, &aside) {
        Ok(()) => format!("kept as {}; there is no way back to former images", aside.display()),
        Err(error) => format!("and it cannot be moved aside: {}", crate::error::reason(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Config;

    /// A version that is told from others by one digit.
    fn version(digit: char) -> Version {
        let digest = format!("sha256:{}", digit.to_string().repeat(64)).parse().unwrap();
        Version { digest, config: Config::default(), layers: Vec::new(), imported: String::new() }
    }

    /// What is known after a start from `current`.
    fn known(current: char, former: Option<char>, held_back: Option<char>) -> Versions {
        let first = Versions::first("web".parse().unwrap(), "oci:/l:t".parse().unwrap(), version(current));
        Versions { former: former.map(version), held_back: held_back.map(|digit| version(digit).digest), ..first }
    }

    /// With a move under way.
    fn moving(versions: Versions, deed: Deed, to: char) -> Versions {
        let attempt = Attempt { to: version(to), deed, resume: true, boot_id: String::new() };
        Versions { attempt: Some(attempt), ..versions }
    }

    #[test]
    fn a_start_takes_what_the_source_is_but_for_what_is_held_back() {
        let source = "oci:/l:t".parse().unwrap();
        let starts = |versions: &Versions, present: char| {
            let present = version(present).digest;
            versions.prescribed(&source, Some(&present)).map_or(present.clone(), |version| version.digest.clone())
        };
        for (versions, present, expected) in [
            (known('a', None, None), 'b', 'b'),
            (known('a', None, Some('b')), 'b', 'a'),
            (known('a', None, Some('b')), 'c', 'c'),
            (moving(known('a', None, None), Deed::Update, 'b'), 'c', 'b'),
            (moving(known('b', Some('a'), None), Deed::Rollback, 'a'), 'b', 'a'),
        ] {
            assert_eq!(starts(&versions, present), version(expected).digest, "{versions:?}");
        }
        assert_eq!(known('a', None, Some('b')).prescribed(&source, None), Some(&version('a')), "the tag was removed");
        let other = "oci:/l:u".parse().unwrap();
        assert_eq!(known('a', None, Some('b')).prescribed(&other, Some(&version('b').digest)), None);
    }

    #[test]
    fn moves_keep_the_way_back() {
        let present = version('b').digest;
        for (before, deed, to, succeeded, failed) in [
            (known('a', None, None), Deed::Update, 'b', known('b', Some('a'), None), known('a', None, Some('b'))),
            (
                known('a', Some('0'), Some('b')),
                Deed::Update,
                'b',
                known('b', Some('a'), None),
                known('a', Some('0'), Some('b')),
            ),
            (
                known('b', Some('a'), None),
                Deed::Rollback,
                'a',
                known('a', Some('b'), Some('b')),
                known('b', Some('a'), None),
            ),
            // There and back again.
            (
                known('a', Some('b'), Some('b')),
                Deed::Rollback,
                'b',
                known('b', Some('a'), None),
                known('a', Some('b'), Some('b')),
            ),
            // From one that never ran.
            (
                known('a', Some('0'), None),
                Deed::Rollback,
                'a',
                known('a', Some('0'), Some('b')),
                known('a', Some('0'), None),
            ),
        ] {
            let moving = moving(before, deed, to);
            assert_eq!(moving.clone().succeeded(Some(&present)), succeeded, "{moving:?}");
            assert_eq!(moving.clone().failed(), failed, "{moving:?}");
            assert_eq!(moving.clone().started(version('d')), moving, "a start within the move changes nothing");
        }
    }

    #[test]
    fn any_start_with_another_image_keeps_the_one_before() {
        assert_eq!(known('a', Some('0'), Some('b')).started(version('c')), known('c', Some('a'), None));
        assert_eq!(known('a', Some('0'), Some('b')).started(version('a')), known('a', Some('0'), Some('b')));
    }

    #[test]
    fn what_is_damaged_spoils_itself_alone() {
        let world = tempfile::tempdir().unwrap();
        let root = Root::new(world.path());
        assert_eq!(load(&root).unwrap(), (Vec::new(), Vec::new()));
        let good = moving(known('a', Some('b'), None), Deed::Update, 'c');
        good.save(&root).unwrap();
        fs::write(root.versions().join("db.json"), "{").unwrap();
        fs::copy(root.versions().join("web.json"), root.versions().join("other.json")).unwrap();
        let (all, damaged) = load(&root).unwrap();
        assert_eq!((all, damaged.len()), (vec![good], 2), "{damaged:?}");
        assert!(root.versions().join("db.damaged").exists() && root.versions().join("other.damaged").exists());
        remove(&root, &"web".parse().unwrap()).unwrap();
        remove(&root, &"web".parse().unwrap()).unwrap();
        assert_eq!(Versions::read(&root, &"web".parse().unwrap()), Ok(None));
    }
}
