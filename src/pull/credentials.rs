//! Who we are to a registry: docker's `config.json`, podman's `auth.json` (containers-auth.json(5)).

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::words::Credential;

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// What Docker Hub is called in such files.
const HUB: &str = "index.docker.io";

/// A file of credentials.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthFile {
    /// By registry, or by the beginning of a repository's path.
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    /// Programs that know more, by registry.
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
}

/// What a file says of a registry. `docker login` with a helper leaves it empty.
#[derive(Deserialize)]
struct Entry {
    /// `USER:PASSWORD` in base64.
    auth: Option<String>,
    /// A refresh token.
    identitytoken: Option<String>,
    /// A bearer token.
    registrytoken: Option<String>,
}

/// What a file says.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing about the registry.
    Nothing,
    /// This.
    Credential(Credential),
    /// Who knows is a program, which berth does not run.
    Helper(String),
}

/// Looks a repository up in a file; none there is as good as an empty one.
///
/// # Errors
/// The file cannot be read or understood. What is in it is not told.
pub fn look_up(file: &Path, registry: &str, repository: &str) -> io::Result<Found> {
    let mut text = Vec::new();
    match File::open(file).and_then(|file| file.take(MAX_FILE).read_to_end(&mut text)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        other => other?,
    };
    find(&text, registry, repository)
}

/// Looks a repository up in the text of a file.
fn find(text: &[u8], registry: &str, repository: &str) -> io::Result<Found> {
    let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let file: AuthFile = serde_json::from_slice(text).map_err(|error| {
        wrong(format!("it is no file of credentials: wrong in line {}, column {}", error.line(), error.column()))
    })?;
    let registry = if registry == "docker.io" { HUB } else { registry };
    let whole = format!("{registry}/{repository}");
    // The longest key that is the repository or a directory above it.
    let covers = |key: &str| whole == key || whole.strip_prefix(key).is_some_and(|rest| rest.starts_with('/'));
    let matching = file.auths.iter().map(|(key, entry)| (plain(key), entry)).filter(|(key, _)| covers(key));
    let best = matching.max_by_key(|(key, _)| key.len());
    if let Some((key, entry)) = best {
        if let Some(token) = entry.registrytoken.clone().filter(|token| !token.is_empty()) {
            return Ok(Found::Credential(Credential::Bearer { token }));
        }
        if let Some(token) = entry.identitytoken.clone().filter(|token| !token.is_empty()) {
            return Ok(Found::Credential(Credential::Identity { token }));
        }
        if let Some(auth) = entry.auth.as_deref().filter(|auth| !auth.is_empty()) {
            let decoded = STANDARD.decode(auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
            let (user, password) =
                pair.ok_or_else(|| wrong(format!("auth of \"{key}\" is not USER:PASSWORD in base64")))?;
            // Old versions of docker fill up with zeros.
            let password = password.trim_end_matches('\0').to_owned();
            return Ok(Found::Credential(Credential::Password { user: user.to_owned(), password }));
        }
    }
    let helper = file.cred_helpers.iter().find(|(key, _)| plain(key) == registry);
    Ok(helper.map_or(Found::Nothing, |(_, helper)| Found::Helper(helper.clone())))
}

/// A key without what docker writes around it: `https://HOST/v1/` is `HOST`.
fn plain(key: &str) -> &str {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let key = bare.map_or(key, |bare| bare.split('/').next().unwrap_or(bare));
    match key {
        "docker.io" | "registry-1.docker.io" => HUB,
        // A key of a repository of Docker Hub.
        _ => key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a file with `text` says of `registry/repository`.
    fn found(text: &str, registry: &str, repository: &str) -> Found {
        find(text.as_bytes(), registry, repository).unwrap()
    }

    /// An entry of a user and his password.
    fn entry(user: &str, password: &str) -> String {
        format!("{{\"auth\":\"{}\"}}", STANDARD.encode(format!("{user}:{password}")))
    }

    /// The user that a file gives.
    fn user(found: Found) -> String {
        match found {
            Found::Credential(Credential::Password { user, .. }) => user,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn the_longest_key_counts() {
        let text = format!(
            r#"{{"auths":{{"r.example:5000":{},"r.example:5000/team":{},"r.example:5000/team/app":{},"r.example":{}}}}}"#,
            entry("host", "a"),
            entry("team", "b"),
            entry("app", "c:d"),
            entry("other", "e")
        );
        let user = |repository| user(found(&text, "r.example:5000", repository));
        assert_eq!(user("x"), "host");
        assert_eq!(user("team/x"), "team");
        assert_eq!(user("teams/x"), "host");
        assert_eq!(user("team/app"), "app");
        assert_eq!(user("team/app/x"), "app");
        let password = Credential::Password { user: "app".to_owned(), password: "c:d".to_owned() };
        assert_eq!(found(&text, "r.example:5000", "team/app"), Found::Credential(password));
        assert_eq!(found(&text, "unknown.example", "x"), Found::Nothing);
    }

    #[test]
    fn docker_hub_has_many_names() {
        for key in ["docker.io", "index.docker.io", "https://index.docker.io/v1/", "registry-1.docker.io"] {
            let text = format!(r#"{{"auths":{{"{key}":{}}}}}"#, entry("me", "x"));
            assert_eq!(user(found(&text, "docker.io", "library/nginx")), "me", "{key}");
        }
    }

    #[test]
    fn tokens_come_before_passwords() {
        let with = |word: &str| format!(r#"{{"auths":{{"r.example":{{"auth":"eDp5","{word}":"t"}}}}}}"#);
        let token = "t".to_owned();
        assert_eq!(
            found(&with("identitytoken"), "r.example", "x"),
            Found::Credential(Credential::Identity { token: token.clone() })
        );
        assert_eq!(found(&with("registrytoken"), "r.example", "x"), Found::Credential(Credential::Bearer { token }));
    }

    #[test]
    fn helpers_are_named_and_nothing_secret_is_told() {
        let text = r#"{"auths":{"r.example":{}},"credHelpers":{"r.example":"pass"},"credsStore":"x"}"#;
        assert_eq!(found(text, "r.example", "x"), Found::Helper("pass".to_owned()));
        for bad in [r#"{"auths":{"r.example":{"auth":"aHVzaA=="}}}"#, r#"{"auths":"hush"}"#, "hush"] {
            let error = find(bad.as_bytes(), "r.example", "x").unwrap_err().to_string();
            assert!(!error.contains("hush") && !error.contains("aHVzaA"), "{error}");
        }
        assert_eq!(look_up(Path::new("/nonexistent/file"), "r.example", "x").unwrap(), Found::Nothing);
    }
}
