//! One blob: from where it stopped, through retries, to its digest.

use std::{
    io::{ErrorKind, Read, Write},
    thread,
    time::{Duration, Instant},
};

use ureq::{
    Body,
    http::{HeaderMap, Response, StatusCode, header},
};

use super::{
    PullError,
    layout::{self, Part},
    manifest::Descriptor,
    server::{Question, Server},
    words::Cause,
};

/// How often a server is asked in vain before it is given up.
const TRIES: u32 = 5;
/// The same, where another server can be asked instead.
const FEW_TRIES: u32 = 2;
/// The first pause between two tries; each one is twice the last.
const PAUSE: Duration = Duration::from_millis(500);
/// What counts as progress: a server that gives less than this for each try only holds us up.
const PROGRESS: u64 = 64 << 10;
/// The least that must come in each [`WINDOW`].
const LEAST: u64 = 4 << 10;
/// See [`LEAST`].
const WINDOW: Duration = Duration::from_secs(30);

/// Where a blob is looked for.
struct Source<'a> {
    /// At whom.
    server: &'a Server,
    /// In which repository.
    repository: &'a str,
    /// Whether nobody is left to ask.
    last: bool,
}

/// Says how far a blob is.
pub type Told<'a> = &'a (dyn Fn(u64) + Sync);
/// Says something to people.
pub type Noted<'a> = &'a (dyn Fn(String) + Sync);

/// Tries an act until it succeeds, fails for good, or has failed too often; `last` is whether nobody else can be asked.
///
/// # Errors
/// The last one.
pub fn persist<T>(noted: Noted<'_>, last: bool, mut act: impl FnMut() -> Result<T, PullError>) -> Result<T, PullError> {
    let mut pause = PAUSE;
    let mut left = if last { TRIES } else { FEW_TRIES };
    loop {
        left -= 1;
        match act() {
            Err(PullError { again: Some(wait), message, .. }) if left > 0 => {
                noted(format!("{message}; trying again"));
                thread::sleep(wait.max(pause));
                pause *= 2;
            }
            other => return other,
        }
    }
}

/// Fetches a blob into the layout; what is there of it is not fetched again.
///
/// # Errors
/// No server has it as it was described.
pub fn fetch(
    servers: &[&Server],
    repository: &str,
    blob: &Descriptor,
    told: Told<'_>,
    noted: Noted<'_>,
) -> Result<(), PullError> {
    let mut part = layout::open(blob)?;
    let mut resumed = part.length > 0;
    loop {
        told(part.length);
        fill_from_any(servers, repository, blob, &mut part, told, noted)?;
        if layout::finish(blob, part)? {
            return Ok(());
        }
        if !resumed {
            let message = format!("what came as {} has another digest; it was thrown away", blob.digest);
            return Err(PullError::lasting(Cause::Invalid, message));
        }
        // What was there from an earlier time may have been spoilt then.
        noted(format!("{} was spoilt on disk; fetching it anew", blob.digest));
        resumed = false;
        part = layout::open(blob)?;
    }
}

/// Fills a part from the first server that can.
fn fill_from_any(
    servers: &[&Server],
    repository: &str,
    blob: &Descriptor,
    part: &mut Part,
    told: Told<'_>,
    noted: Noted<'_>,
) -> Result<(), PullError> {
    let mut outcome = Ok(());
    for (index, server) in servers.iter().enumerate() {
        let last = index + 1 == servers.len();
        outcome = fill_patiently(&Source { server, repository, last }, blob, part, told, noted);
        match &outcome {
            Ok(()) => return outcome,
            // A full disk is as full for the next one.
            Err(error) if error.cause == Cause::Local => return outcome,
            Err(error) if index + 1 < servers.len() => noted(format!("{error}; asking the next server")),
            Err(_) => {}
        }
    }
    outcome
}

/// Fills a part from one server. A try that brought something on does not count.
fn fill_patiently(
    source: &Source<'_>,
    blob: &Descriptor,
    part: &mut Part,
    told: Told<'_>,
    noted: Noted<'_>,
) -> Result<(), PullError> {
    let Source { server, repository, last } = *source;
    loop {
        let start = part.length;
        let mut advanced = false;
        let outcome = persist(noted, last, || {
            let outcome = fill(server, repository, blob, part, told);
            advanced = part.length >= start.saturating_add(PROGRESS);
            // Ends this round of tries; the next one begins with all of them.
            if advanced && outcome.as_ref().is_err_and(|error| error.again.is_some()) {
                Ok(false)
            } else {
                outcome.map(|()| true)
            }
        });
        match outcome {
            Ok(true) => return Ok(()),
            Ok(false) => {
                noted(format!(
                    "{} broke off after {} bytes of {}; going on from there",
                    server.host(),
                    part.length,
                    blob.digest
                ));
                thread::sleep(PAUSE);
            }
            Err(error) => {
                let far = format!("{} of {} bytes of {} are here", part.length, blob.size, blob.digest);
                return Err(PullError { message: format!("{}; {far}", error.message), ..error });
            }
        }
    }
}

/// Asks once for what is missing of a blob.
fn fill(
    server: &Server,
    repository: &str,
    blob: &Descriptor,
    part: &mut Part,
    told: Told<'_>,
) -> Result<(), PullError> {
    if part.length == blob.size {
        return Ok(());
    }
    let what = format!("blobs/{}", blob.digest);
    let answer = server.ask(Question { repository, what: &what, accept: "*/*", from: part.length })?;
    check_start(server, &answer, blob, part)?;
    receive(server, answer, blob, part, told)
}

/// Whether the answer begins where the part ends; a server that cannot begin there begins at zero, and so does the part.
fn check_start(server: &Server, answer: &Response<Body>, blob: &Descriptor, part: &mut Part) -> Result<(), PullError> {
    let lies = |what: String| {
        PullError::lasting(Cause::Invalid, format!("{} lies about {}: {what}", server.host(), blob.digest))
    };
    if answer.status() == StatusCode::PARTIAL_CONTENT {
        let range = text(answer.headers(), header::CONTENT_RANGE).unwrap_or_default();
        if !range.starts_with(&format!("bytes {}-", part.length)) {
            return Err(lies(format!("asked for bytes from {} on, it sends {range:?}", part.length)));
        }
    } else if part.length > 0 {
        part.clear().map_err(|error| PullError::local("begin a blob anew", &error))?;
    }
    let missing = blob.size - part.length;
    match text(answer.headers(), header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok()) {
        Some(length) if length != missing => Err(lies(format!("{missing} bytes are due, it announces {length}"))),
        _ => Ok(()),
    }
}

/// A header as text.
fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Writes down what comes, up to the blob's size.
fn receive(
    server: &Server,
    answer: Response<Body>,
    blob: &Descriptor,
    part: &mut Part,
    told: Told<'_>,
) -> Result<(), PullError> {
    let mut body = answer.into_body().into_reader();
    let mut buffer = vec![0; 256 << 10];
    let (mut since, mut mark) = (Instant::now(), part.length);
    loop {
        let count = match body.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => {
                let message = format!("{} broke off: {}", server.host(), crate::error::reason(&error));
                return Err(PullError::passing(Cause::Unreachable, message));
            }
        };
        if count == 0 {
            break;
        }
        if part.length + count as u64 > blob.size {
            let message = format!("{} sends more than the {} bytes of {}", server.host(), blob.size, blob.digest);
            return Err(PullError::lasting(Cause::Invalid, message));
        }
        part.file.write_all(&buffer[..count]).map_err(|error| PullError::local("write a blob", &error))?;
        part.hasher.update(&buffer[..count]);
        part.length += count as u64;
        told(part.length);
        if since.elapsed() >= WINDOW {
            if part.length - mark < LEAST {
                let message = format!("{} sends less than {LEAST} bytes in {} s", server.host(), WINDOW.as_secs());
                return Err(PullError::passing(Cause::Unreachable, message));
            }
            (since, mark) = (Instant::now(), part.length);
        }
    }
    if part.length < blob.size {
        return Err(PullError::passing(Cause::Unreachable, format!("{} broke off", server.host())));
    }
    Ok(())
}
