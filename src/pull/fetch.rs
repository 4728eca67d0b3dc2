//! The other side: who starts `berth-pull`, tells it all that it needs, and takes over what it leaves.

use std::{
    env, fs,
    io::{self, Read as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown, lchown},
    path::Path,
};

use nix::unistd::{User, geteuid};

use super::{
    credentials::{Found, look_up},
    line::{Line, Means},
    proxy::Proxies,
    watch::Watch,
    words::{Cause, Endpoint, Event, Request, Transport},
};
use crate::{
    config::{ImagesConfig, Insecure},
    error::reason,
    image::{Digest, Reference},
    root::Root,
};

/// Largest index of a layout that is read, in bytes: berth-pull writes one entry.
const MAX_INDEX: u64 = 64 << 10;
/// Where Docker Hub's registry is.
const HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");
/// All that a layout, finished or not, has at its top.
const LAYOUT: [&str; 6] = ["blobs", "parts", "oci-layout", "oci-layout.new", "index.json", "index.new"];
/// The credential that systemd may have put down for us.
const CREDENTIAL: &str = "berth.auth";

/// What is to be fetched.
#[derive(Debug)]
pub struct Fetch<'a> {
    /// Where files of credentials and certificates are.
    pub root: &'a Root,
    /// What is special about registries.
    pub config: &'a ImagesConfig,
    /// The image.
    pub reference: &'a Reference,
    /// What is here of it already.
    pub known: Option<&'a Digest>,
    /// Where the layout is made. What an earlier pull has left there is used.
    pub directory: &'a Path,
    /// How berth-pull is started.
    pub means: &'a Means,
    /// Who may end it, and sees how far it is.
    pub watch: &'a Watch,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// A layout is in the directory.
    Image {
        /// What the name stands for: an index or a manifest.
        digest: Digest,
        /// The manifest for this platform.
        manifest: Digest,
    },
    /// The registry has what is here.
    Unchanged,
}

/// Why nothing came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FetchError {
    /// Of what kind.
    pub cause: Cause,
    /// Act, object, reason, cure.
    pub message: String,
}

/// Something on this machine is wrong.
pub(super) fn local(message: impl Into<String>) -> FetchError {
    FetchError { cause: Cause::Local, message: message.into() }
}

/// An act on a path failed.
pub(super) fn failed(act: &str, path: &Path, error: &io::Error) -> FetchError {
    local(format!("cannot {act} {}: {}", path.display(), reason(error)))
}

/// Fetches an image into a layout. `heard` gets every event on the way. Blocks until the end.
///
/// # Errors
/// The image cannot be had; what came of it stays in the directory for the next time.
pub fn fetch(order: &Fetch<'_>, heard: &mut dyn FnMut(&Event)) -> Result<Fetched, FetchError> {
    let endpoints = endpoints(order, heard)?;
    let request = Request {
        repository: order.reference.repository.clone(),
        tag: order.reference.tag.clone(),
        digest: order.reference.digest.as_ref().map(Digest::to_string),
        endpoints,
        known: order.known.map(Digest::to_string),
        stall_ms: u64::try_from(order.config.stall_timeout.as_millis()).unwrap_or(u64::MAX),
        proxies: proxies(order.config)?,
    };
    let user = user(&order.config.pull_user)?;
    prepare(order.directory, user)?;
    let mut line = Line::open(order.means, order.directory, user)?;
    order.watch.attach(line.handle());
    let last = line.ask(&request).and_then(|()| {
        line.listen(&mut |event| {
            order.watch.hear(event);
            heard(event);
        })
    });
    order.watch.attach(None);
    line.close()?;
    match last? {
        Event::Unchanged { .. } => Ok(Fetched::Unchanged),
        Event::Done { digest, manifest } => take_over(order, &digest, &manifest),
        Event::Failed { cause, message } => Err(FetchError { cause, message }),
        _ if order.watch.is_ended() => Err(local("it was ended")),
        _ => Err(local("berth-pull ended without a word; see the journal, it may have been killed")),
    }
}

/// What lies between: what the configuration says, and where it says nothing the environment.
fn proxies(config: &ImagesConfig) -> Result<Proxies, FetchError> {
    let given = |name: &str| env::var(name).ok();
    let own = match &config.proxy {
        Some(proxy) => Proxies { https: Some(proxy.clone()), http: Some(proxy.clone()), except: Vec::new() },
        None => Proxies::of_environment(given).map_err(local)?,
    };
    Ok(match &config.no_proxy {
        Some(except) => Proxies { except: except.clone(), ..own },
        None => own,
    })
}

/// Whom to ask: the mirrors, then the registry.
fn endpoints(order: &Fetch<'_>, heard: &mut dyn FnMut(&Event)) -> Result<Vec<Endpoint>, FetchError> {
    let registry = &order.reference.registry;
    let special = |host: &str| order.config.registries.iter().find(|special| special.host == host);
    let mirrors = special(registry).map(|special| special.mirrors.as_slice()).unwrap_or_default();
    let mut all = Vec::new();
    for host in mirrors.iter().chain([registry]) {
        let special = special(host);
        let transport = match special.and_then(|special| special.insecure) {
            None => Transport::Https,
            Some(Insecure::Http) => Transport::Http,
            Some(Insecure::UnverifiedTls) => Transport::UnverifiedTls,
        };
        let authorities = special.and_then(|special| special.ca_file.as_ref()).map(|file| {
            let path = order.root.at(&file.to_string_lossy());
            fs::read_to_string(&path).map_err(|error| failed(&format!("read the ca_file of {host},"), &path, &error))
        });
        let credential = credential(order, host, heard)?;
        let host = if host == HUB.0 { HUB.1.to_owned() } else { host.clone() };
        all.push(Endpoint { host, transport, authorities: authorities.transpose()?, credential });
    }
    Ok(all)
}

/// Who we are to a registry: what the first file says that says something.
fn credential(
    order: &Fetch<'_>,
    host: &str,
    heard: &mut dyn FnMut(&Event),
) -> Result<Option<super::Credential>, FetchError> {
    let given = env::var_os("CREDENTIALS_DIRECTORY").map(|directory| Path::new(&directory).join(CREDENTIAL));
    let configured = order.config.auth_files.iter().map(|file| order.root.at(&file.to_string_lossy()));
    for file in given.into_iter().chain(configured) {
        match look_up(&file, host, &order.reference.repository) {
            Ok(Found::Nothing) => {}
            Ok(Found::Credential(credential)) => return Ok(Some(credential)),
            Ok(Found::Helper(helper)) => heard(&Event::Note {
                message: format!(
                    "{} says that docker-credential-{helper} knows the credentials for {host}, and berth runs no such \
                     program; log in: podman login --authfile /etc/berth/auth.json {host}",
                    file.display()
                ),
            }),
            // Root's files are not an ordinary user's; he may pull what is public.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !geteuid().is_root() => {}
            Err(error) => return Err(failed("use the credentials in", &file, &error)),
        }
    }
    Ok(None)
}

/// As whom to fetch: root as the user of pulls, others as themselves.
fn user(name: &str) -> Result<Option<(u32, u32)>, FetchError> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let cure = "systemd-sysusers (or useradd --system) makes berth-pull, and pull_user in [images] names another (berthd.toml(5))";
    match User::from_name(name) {
        Ok(Some(user)) if user.uid.is_root() => {
            Err(local(format!("images are not fetched as {name}: it is root; {cure}")))
        }
        Ok(Some(user)) => Ok(Some((user.uid.as_raw(), user.gid.as_raw()))),
        Ok(None) => Err(local(format!("there is no user {name} to fetch images as; {cure}"))),
        Err(error) => Err(local(format!("cannot look the user {name} up: {}", error.desc()))),
    }
}

/// Makes the directory, and gives it to the user. One that holds anything but a layout is left alone.
fn prepare(directory: &Path, user: Option<(u32, u32)>) -> Result<(), FetchError> {
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(failed("make", directory, &error));
        }
        _ => {}
    }
    let names = fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>());
    let names = names.map_err(|error| failed("read", directory, &error))?;
    if let Some(strange) = names.iter().find(|name| !LAYOUT.iter().any(|known| *name == known)) {
        let place = directory.join(strange);
        return Err(local(format!("{} is in the way: name a new or empty directory", place.display())));
    }
    own(directory, user).map_err(|error| failed("give berth-pull", directory, &error))
}

/// Takes the layout over, and looks whether it is what was asked for.
fn take_over(order: &Fetch<'_>, digest: &str, manifest: &str) -> Result<Fetched, FetchError> {
    let here = geteuid().is_root().then_some((0, 0));
    own(order.directory, here).map_err(|error| failed("take over", order.directory, &error))?;
    let parse = |text: &str| text.parse::<Digest>().map_err(|error| local(error.to_string()));
    let (digest, manifest) = (parse(digest)?, parse(manifest)?);
    let named = index(order.directory)?;
    if named != digest || order.reference.digest.as_ref().is_some_and(|asked| *asked != named) {
        let message = format!("{} was asked for, and {named} came", order.reference);
        return Err(FetchError { cause: Cause::Invalid, message });
    }
    Ok(Fetched::Image { digest, manifest })
}

/// The one image that the layout's index names. From here on the index is a file of ours: one that berth-pull still has
/// open could be changed by it, and all else that is read is read by digest.
fn index(directory: &Path) -> Result<Digest, FetchError> {
    let path = directory.join("index.json");
    let mut text = Vec::new();
    let read = fs::File::open(&path).and_then(|file| file.take(MAX_INDEX).read_to_end(&mut text));
    read.map_err(|error| failed("read", &path, &error))?;
    let own = directory.join("index.new");
    let removed = fs::remove_file(&own).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    });
    let replaced = removed.and_then(|()| fs::write(&own, &text)).and_then(|()| fs::rename(&own, &path));
    replaced.map_err(|error| failed("replace", &path, &error))?;
    let index: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    let named = index["manifests"][0]["digest"].as_str().and_then(|digest| digest.parse().ok());
    named.ok_or_else(|| local(format!("{} names no image", path.display())))
}

/// Gives a directory and all in it to a user, from the top down: once a directory is his, nobody else can put a link in
/// the place of what is in it. Only files and directories are expected.
fn own(path: &Path, user: Option<(u32, u32)>) -> io::Result<()> {
    let data = fs::symlink_metadata(path)?;
    if !data.is_dir() && !data.is_file() {
        return Err(io::Error::other("it holds what is neither a file nor a directory"));
    }
    if data.is_file() && data.nlink() != 1 {
        return Err(io::Error::other("it holds a file that has another name elsewhere"));
    }
    if let Some((uid, gid)) = user {
        if data.is_dir() { chown(path, Some(uid), Some(gid))? } else { lchown(path, Some(uid), Some(gid))? }
    }
    if data.is_dir() {
        for entry in fs::read_dir(path)? {
            own(&entry?.path(), user)?;
        }
    }
    Ok(())
}
