//! A whole pull, from the request to the sealed layout.

use std::{
    collections::HashSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ureq::http::header;

use super::{
    Event, PullError, Request, blob, digest, layout,
    manifest::{ACCEPT, Descriptor, MAX_MANIFEST, Manifest},
    server::{Question, Server},
    words::Cause,
};

/// How many blobs come at the same time.
const PARALLEL: usize = 3;
/// How often a blob's progress is told at most.
const TELL: Duration = Duration::from_millis(100);
/// How deep indexes may lie in indexes.
const DEPTH: usize = 3;

/// What the registry has for the name.
struct Resolved {
    /// What the name itself stands for.
    top: Descriptor,
    /// The digest of the manifest for this platform.
    manifest: String,
    /// Configuration and layers.
    blobs: Vec<Descriptor>,
    /// All documents on the way there, by digest.
    documents: Vec<(String, Vec<u8>)>,
}

/// Does what is asked, in the present directory. `told` hears all events but the last one, which is returned.
///
/// # Errors
/// The image cannot be had.
pub fn work(request: Request, told: &(dyn Fn(Event) + Sync)) -> Result<Event, PullError> {
    let stall = Duration::from_millis(request.stall_ms.max(1));
    check(&request)?;
    let servers = request.endpoints.iter().map(|endpoint| Server::new(endpoint.clone(), stall, &request.proxies));
    let servers: Vec<Server> = servers.collect::<Result<_, _>>()?;
    let noted = |message: String| told(Event::Note { message });
    let (first, resolved) = resolve_at_any(&servers, &request, &noted)?;
    if request.known.as_ref() == Some(&resolved.manifest) {
        return Ok(Event::Unchanged { manifest: resolved.manifest });
    }
    let mut seen = HashSet::new();
    let blobs: Vec<&Descriptor> = resolved.blobs.iter().filter(|blob| seen.insert(&blob.digest)).collect();
    let bytes = blobs.iter().try_fold(0_u64, |sum, blob| sum.checked_add(blob.size));
    let bytes = bytes.ok_or_else(|| PullError::lasting(Cause::Invalid, "the image is larger than any disk"))?;
    told(Event::Resolved {
        digest: resolved.top.digest.clone(),
        manifest: resolved.manifest.clone(),
        blobs: blobs.len(),
        bytes,
    });
    layout::prepare()?;
    layout::check_space(&blobs)?;
    // Who knew the manifest is asked first for what it names.
    let order: Vec<&Server> = servers[first..].iter().chain(&servers[..first]).collect();
    fetch_all(&order, &request.repository, &blobs, told)?;
    for (digest, bytes) in &resolved.documents {
        layout::put(digest, bytes)?;
    }
    layout::seal(&resolved.top, request.tag.as_deref())?;
    Ok(Event::Done { digest: resolved.top.digest, manifest: resolved.manifest })
}

/// Refuses a request that would ask for something else than it says.
fn check(request: &Request) -> Result<(), PullError> {
    let wrong = |what: &str, value: &str| {
        Err(PullError::lasting(Cause::Local, format!("the request has a {what} that is none: {value:?}")))
    };
    let path = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b'/');
    let word = |byte: u8| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    let repository = &request.repository;
    if repository.split('/').any(|part| part.is_empty() || part.starts_with('.')) || !repository.bytes().all(path) {
        return wrong("repository", repository);
    }
    match (&request.tag, &request.digest) {
        (_, Some(digest)) if digest::digits(digest).is_none() => return wrong("digest", digest),
        (Some(tag), _) if tag.is_empty() || tag.starts_with('.') || !tag.bytes().all(word) => return wrong("tag", tag),
        (None, None) => return wrong("tag", ""),
        _ => {}
    }
    let host = |byte: u8| word(byte) || matches!(byte, b':' | b'[' | b']');
    match request.endpoints.iter().find(|endpoint| endpoint.host.is_empty() || !endpoint.host.bytes().all(host)) {
        Some(endpoint) => wrong("host", &endpoint.host),
        None if request.endpoints.is_empty() => wrong("host", ""),
        None => Ok(()),
    }
}

/// Asks one server after the other for the image; which one knew it.
fn resolve_at_any(
    servers: &[Server],
    request: &Request,
    noted: blob::Noted<'_>,
) -> Result<(usize, Resolved), PullError> {
    let mut last = PullError::lasting(Cause::Local, "no server is named");
    for (index, server) in servers.iter().enumerate() {
        match resolve(server, request, index + 1 == servers.len(), noted) {
            Ok(resolved) => return Ok((index, resolved)),
            Err(error) => {
                if index + 1 < servers.len() {
                    noted(format!("{error}; asking the next server"));
                }
                last = error;
            }
        }
    }
    Err(last)
}

/// Asks a server for the image, and again for the manifest of this platform where it has an index.
fn resolve(server: &Server, request: &Request, last: bool, noted: blob::Noted<'_>) -> Result<Resolved, PullError> {
    let name = request.digest.as_ref().or(request.tag.as_ref()).map_or("latest", String::as_str);
    let top = document(server, &request.repository, name, last, noted)?;
    let descriptor = top.0.clone();
    let (mut now, mut documents) = (top, Vec::new());
    for _ in 0..DEPTH {
        let (Descriptor { digest, .. }, bytes) = now;
        let manifest = Manifest::parse(&bytes)?;
        documents.push((digest.clone(), bytes));
        match manifest {
            Manifest::Image(blobs) => return Ok(Resolved { top: descriptor, manifest: digest, blobs, documents }),
            Manifest::Index(entry) => now = document(server, &request.repository, &entry.digest, last, noted)?,
        }
    }
    Err(PullError::lasting(Cause::Invalid, format!("{} has indexes in indexes in indexes", server.host())))
}

/// A manifest or an index, which is what its name says if that is a digest.
fn document(
    server: &Server,
    repository: &str,
    name: &str,
    last: bool,
    noted: blob::Noted<'_>,
) -> Result<(Descriptor, Vec<u8>), PullError> {
    let what = format!("manifests/{name}");
    blob::persist(noted, last, || {
        let mut answer = server.ask(Question { repository, what: &what, accept: ACCEPT, from: 0 })?;
        let header = |name| answer.headers().get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
        let told = header(header::HeaderName::from_static("docker-content-digest")).map(str::to_owned);
        let media_type = header(header::CONTENT_TYPE).unwrap_or_default().to_owned();
        let bytes = match answer.body_mut().with_config().limit(MAX_MANIFEST).read_to_vec() {
            Ok(bytes) => bytes,
            Err(ureq::Error::BodyExceedsLimit(_)) => {
                let message = format!("{} sends a manifest of more than {MAX_MANIFEST} bytes", server.host());
                return Err(PullError::lasting(Cause::Invalid, message));
            }
            Err(error) => {
                let message = format!("{} broke off within a manifest: {error}", server.host());
                return Err(PullError::passing(Cause::Unreachable, message));
            }
        };
        let digest = digest::of(&bytes);
        let promised = digest::digits(name).map(|_| name.to_owned()).or(told);
        match promised {
            Some(promised) if digest::digits(&promised).is_some() && promised != digest => {
                let message = format!("{} was asked for {promised} and sends {digest}", server.host());
                return Err(PullError::lasting(Cause::Invalid, message));
            }
            _ => {}
        }
        let media_type = media_type.split(';').next().unwrap_or_default().trim().to_owned();
        let size = bytes.len() as u64;
        Ok((Descriptor { media_type, digest, size, platform: None }, bytes))
    })
}

/// Fetches all blobs, some at a time. The first failure ends the others at their next blob.
fn fetch_all(
    servers: &[&Server],
    repository: &str,
    blobs: &[&Descriptor],
    told: &(dyn Fn(Event) + Sync),
) -> Result<(), PullError> {
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let first = Mutex::new(None);
    let noted = |message: String| told(Event::Note { message });
    let one = |blob: &Descriptor| {
        let last = Mutex::new((None::<Instant>, None));
        let say = |done: u64| {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            let due = last.0.is_none_or(|at| at.elapsed() >= TELL) || done == blob.size;
            if due && last.1 != Some(done) {
                *last = (Some(Instant::now()), Some(done));
                told(Event::Blob { digest: blob.digest.clone(), done, size: blob.size });
            }
        };
        blob::fetch(servers, repository, blob, &say, &noted)
    };
    thread::scope(|scope| {
        for _ in 0..PARALLEL.min(blobs.len()) {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
                    if let Err(error) = one(blob) {
                        failed.store(true, Ordering::Relaxed);
                        first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    }
                }
            });
        }
    });
    first.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pull::{Endpoint, Proxies, Transport};

    /// A request that is in order.
    fn good() -> Request {
        let endpoint = Endpoint {
            host: "[::1]:5000".to_owned(),
            transport: Transport::Https,
            authorities: None,
            credential: None,
        };
        Request {
            repository: "a/b_c.d-e".to_owned(),
            tag: Some("v1.0_X-y".to_owned()),
            digest: None,
            endpoints: vec![endpoint],
            known: None,
            stall_ms: 1000,
            proxies: Proxies::default(),
        }
    }

    #[test]
    fn a_request_cannot_ask_for_another_address() {
        assert_eq!(check(&good()), Ok(()));
        for bad in ["", "/a", "a/", "a//b", "a/../b", "A", "a?x", "a#x", "a b", "a\r\nx"] {
            assert!(check(&Request { repository: bad.to_owned(), ..good() }).is_err(), "{bad:?}");
        }
        for bad in ["", ".", "..", "a/b", "a?b", "a\n"] {
            assert!(check(&Request { tag: Some(bad.to_owned()), ..good() }).is_err(), "{bad:?}");
        }
        for bad in ["", "a/b", "user@host", "a?b"] {
            let mut request = good();
            request.endpoints[0].host = bad.to_owned();
            assert!(check(&request).is_err(), "{bad:?}");
        }
        assert!(check(&Request { tag: None, ..good() }).is_err());
        assert!(check(&Request { digest: Some("sha256:1".to_owned()), ..good() }).is_err());
        assert!(check(&Request { endpoints: vec![], ..good() }).is_err());
    }
}
