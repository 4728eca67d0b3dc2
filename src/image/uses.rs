//! What in the image store is in use: what records name and what containers' files name.
//!
//! Both are read widely. Any digest in a record counts, also in one that is damaged or of a newer berth, and any source in
//! a file of a container, also in one that berthd would refuse. Too much kept is a cure away; too much removed is not.

use std::{fs, io, path::Path};

use super::{Error, InUse, Source};
use crate::root::{Layer, Root};

/// Digits of a digest.
const DIGITS: usize = 64;

/// All of it.
///
/// # Errors
/// A directory or a file cannot be read: then nobody knows.
pub fn in_use(root: &Root) -> Result<InUse, Error> {
    let mut found = InUse::default();
    for path in files(&root.records())?.into_iter().chain(files(&root.versions())?) {
        digests(&read(&path)?, &mut found);
    }
    for layer in Layer::ALL {
        let mut directories = vec![root.containers(layer)];
        while let Some(directory) = directories.pop() {
            for path in files(&directory)? {
                match path.extension().and_then(|extension| extension.to_str()) {
                    Some("d") if path.is_dir() => directories.push(path),
                    Some("toml") => sources(&String::from_utf8_lossy(&read(&path)?), &mut found),
                    _ => {}
                }
            }
        }
        for path in files(&root.config(layer).join("berthd.toml.d"))?
            .into_iter()
            .chain([root.config(layer).join("berthd.toml")])
        {
            sources(&String::from_utf8_lossy(&read(&path)?), &mut found);
        }
    }
    Ok(found)
}

/// What lies in a directory; nothing where there is none.
fn files(directory: &Path) -> Result<Vec<std::path::PathBuf>, Error> {
    match fs::read_dir(directory) {
        Ok(entries) => Ok(entries.flatten().map(|entry| entry.path()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(cannot(directory, error)),
    }
}

/// A file; empty where it has just gone, or is no file.
fn read(path: &Path) -> Result<Vec<u8>, Error> {
    match fs::read(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory) => Ok(Vec::new()),
        other => other.map_err(|error| cannot(path, error)),
    }
}

/// Why nothing is removed.
fn cannot(path: &Path, error: io::Error) -> Error {
    Error::Io { act: format!("tell which images are in use: read {}", path.display()), error }
}

/// Runs of hexadecimal digits of the length of a digest.
fn digests(text: &[u8], found: &mut InUse) {
    let words = text.split(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let whole = words.filter(|word| word.len() == DIGITS);
    found.digests.extend(whole.map(|word| String::from_utf8_lossy(word).into_owned()));
}

/// Texts that are sources.
fn sources(text: &str, found: &mut InUse) {
    match text.parse::<toml::Table>() {
        Ok(table) => table.values().for_each(|value| sources_in(value, found)),
        // Mistaken at some other place, it may be mended at any time.
        Err(_) => found.sources.extend(text.split(['"', '\'']).filter_map(|word| word.parse().ok())),
    }
}

/// Texts in a value that are sources.
fn sources_in(value: &toml::Value, found: &mut InUse) {
    match value {
        toml::Value::String(text) => found.sources.extend(text.parse::<Source>().ok()),
        toml::Value::Array(items) => items.iter().for_each(|item| sources_in(item, found)),
        toml::Value::Table(table) => table.values().for_each(|value| sources_in(value, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_records_and_files_name_is_in_use() {
        let world = tempfile::tempdir().unwrap();
        let root = Root::new(world.path());
        let digest = "0a".repeat(32);
        let write = |path: &str, text: &str| {
            fs::create_dir_all(root.at(path).parent().unwrap()).unwrap();
            fs::write(root.at(path), text).unwrap();
        };
        write("/run/berth/records/a.json", &format!(r#"{{"lower":"/x/layers/{digest}/fs", no JSON"#));
        let former = "0b".repeat(32);
        write("/var/lib/berth/versions/a.json", &format!(r#"{{"former":"sha256:{former}""#));
        write("/etc/berth/containers/a.toml", "[image]\nsource = \"docker://nginx\"\n");
        write("/usr/lib/berth/containers/b.toml.d/x.toml", "image = { source = 'oci:/a:b' }");
        write("/run/berth/containers/c.toml", "[image\nsource = \"oci:/broken\"");
        write("/etc/berth/berthd.toml", "[defaults.image]\nsource = \"oci:/default\"");
        let found = in_use(&root).unwrap();
        assert_eq!(found.digests.into_iter().collect::<Vec<_>>(), [digest, former]);
        let sources: Vec<String> = found.sources.iter().map(ToString::to_string).collect();
        assert_eq!(sources, ["oci:/a:b", "oci:/broken", "oci:/default", "docker://docker.io/library/nginx:latest"]);
    }
}
