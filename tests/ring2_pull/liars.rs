//! Servers that lie, and how each lie is found out.

use std::{
    io::Write as _,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use base64::Engine as _;
use berth::pull::{Cause, Credential};
use serde_json::json;

use crate::{
    pull::{blobs, digest, directory, password, refusal, request},
    registry::sha256,
    server::{Asked, Server, say},
};

/// All cases.
pub const ALL: &[(&str, fn())] = &[
    ("lies_about_manifests", manifests),
    ("lies_about_blobs", bodies),
    ("redirects_take_no_secret_along", redirects),
    ("tokens_are_fetched_and_used", tokens),
    ("an_identity_token_is_exchanged", identity),
    ("a_busy_server_is_asked_again", busy),
    ("a_server_that_says_nothing", silent),
];

const KIND: (&str, &str) = ("Content-Type", "application/vnd.oci.image.manifest.v1+json");
const CONFIG: &[u8] = b"{}";
const LAYER: &[u8] = b"a layer of an image";

fn manifest() -> Vec<u8> {
    json!({
        "schemaVersion": 2,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha256(CONFIG), "size": CONFIG.len()
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": sha256(LAYER), "size": LAYER.len()
        }]
    })
    .to_string()
    .into_bytes()
}

/// An honest answer, by path.
fn honest(asked: &Asked, stream: &mut TcpStream) {
    match asked.path.rsplit('/').next().unwrap() {
        "v1" => say(stream, "200 OK", &[KIND], &manifest()),
        name if name == sha256(CONFIG) => say(stream, "200 OK", &[], CONFIG),
        name if name == sha256(LAYER) => say(stream, "200 OK", &[], LAYER),
        _ => say(stream, "404 Not Found", &[], b""),
    }
}

fn is_layer(asked: &Asked) -> bool {
    asked.path.ends_with(&sha256(LAYER))
}

fn manifests() {
    type Answer = fn(&Asked, &mut TcpStream);
    let cases: [(Answer, Cause, &str); 8] = [
        (|_, stream| say(stream, "200 OK", &[KIND], b"<html>"), Cause::Invalid, "cannot be read"),
        (|_, stream| say(stream, "200 OK", &[KIND], br#"{"schemaVersion":1}"#), Cause::Unsupported, "schema 1"),
        (|_, stream| say(stream, "200 OK", &[KIND], &vec![b' '; 5 << 20]), Cause::Invalid, "more than 4194304 bytes"),
        (
            |_, stream| {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                while stream.write_all(b"10\r\n                \r\n").is_ok() {}
            },
            Cause::Invalid,
            "more than 4194304 bytes",
        ),
        (
            |_, stream| {
                let other = ("Docker-Content-Digest", format!("sha256:{:064}", 0));
                say(stream, "200 OK", &[KIND, (other.0, &other.1)], &manifest());
            },
            Cause::Invalid,
            "was asked for",
        ),
        (
            |_, stream| say(stream, "302 Found", &[("Location", "/v2/again")], b""),
            Cause::Invalid,
            "redirects more than",
        ),
        (|_, stream| say(stream, "302 Found", &[("Location", "file:///x")], b""), Cause::Invalid, "does not follow"),
        (
            |_, stream| {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
                while stream
                    .write_all(b"X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n")
                    .is_ok()
                {}
            },
            Cause::Invalid,
            "not understood",
        ),
    ];
    for (answer, cause, words) in cases {
        let server = Server::start(answer);
        let (found, message) = refusal(&request(&server.host, "a", "v1"));
        assert!(found == cause && message.contains(words), "{words}: {found:?} {message}");
    }
}

fn bodies() {
    type Answer = fn(&mut TcpStream);
    let cases: [(Answer, &str); 5] = [
        (|stream| say(stream, "200 OK", &[], &[b'x'; LAYER.len()]), "another digest"),
        (|stream| say(stream, "200 OK", &[], &[b'x'; LAYER.len() + 1]), "it announces 20"),
        (|stream| say(stream, "200 OK", &[], b"short"), "it announces 5"),
        (
            |stream| {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                while stream.write_all(b"10\r\nxxxxxxxxxxxxxxxx\r\n").is_ok() {}
            },
            "sends more than",
        ),
        (|stream| say(stream, "404 Not Found", &[], b""), "has no a with blobs/sha256:"),
    ];
    for (answer, words) in cases {
        let server =
            Server::start(move |asked, stream| if is_layer(asked) { answer(stream) } else { honest(asked, stream) });
        let (_, message) = refusal(&request(&server.host, "a", "v1"));
        assert!(message.contains(words), "{words}: {message}");
    }
}

fn redirects() {
    let storage = Server::start(|_, stream| say(stream, "200 OK", &[], LAYER));
    let target = format!("http://{}/somewhere", storage.host);
    let server = Server::start(move |asked, stream| match asked.headers.contains_key("authorization") {
        false => say(stream, "401 Unauthorized", &[("WWW-Authenticate", "Basic realm=x")], b""),
        true if is_layer(asked) => say(stream, "307 Temporary Redirect", &[("Location", &target)], b""),
        true => honest(asked, stream),
    });
    let mut request = request(&server.host, "a", "v1");
    request.endpoints[0].credential = password("me", "hush");
    let directory = directory();
    digest(directory.path(), &request);
    assert_eq!(blobs(directory.path()).len(), 3);
    let asked = storage.asked();
    assert_eq!(asked.len(), 1);
    assert!(!asked[0].headers.contains_key("authorization"), "{asked:?}");
}

/// A registry that wants `Bearer good`, and says that `realm` gives it.
fn token_registry(realm: String) -> Server {
    Server::start(move |asked, stream| {
        if asked.headers.get("authorization").is_some_and(|value| value == "Bearer good") {
            return honest(asked, stream);
        }
        let challenge = format!("Bearer realm=\"{realm}\",service=\"test\",scope=\"repository:a:pull\"");
        say(stream, "401 Unauthorized", &[("WWW-Authenticate", &challenge)], b"");
    })
}

fn tokens() {
    let basic = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode("me:hush"));
    let gate = Server::start(move |asked, stream| {
        let known = asked.headers.get("authorization") == Some(&basic);
        match known && asked.path.contains("service=test") && asked.path.contains("scope=repository") {
            true => say(stream, "200 OK", &[], br#"{"token":"good","expires_in":60}"#),
            false => say(stream, "401 Unauthorized", &[], b""),
        }
    });
    let server = token_registry(format!("http://{}/token", gate.host));
    let mut request = request(&server.host, "a", "v1");
    request.endpoints[0].credential = password("me", "hush");
    digest(directory().path(), &request);
    let (cause, _) = refusal(&crate::pull::request(&server.host, "a", "v1"));
    assert_eq!(cause, Cause::Unauthorized);
    // A token of the operator's own needs no gate.
    let before = gate.asked().len();
    request.endpoints[0].credential = Some(Credential::Bearer { token: "good".to_owned() });
    digest(directory().path(), &request);
    assert_eq!(gate.asked().len(), before);
}

fn identity() {
    let gate = Server::start(|asked, stream| match asked.headers.get("content-type").map(String::as_str) {
        Some("application/x-www-form-urlencoded") => say(stream, "200 OK", &[], br#"{"access_token":"good"}"#),
        _ => say(stream, "401 Unauthorized", &[], b""),
    });
    let server = token_registry(format!("http://{}/token", gate.host));
    let mut request = request(&server.host, "a", "v1");
    request.endpoints[0].credential = Some(Credential::Identity { token: "refresh".to_owned() });
    digest(directory().path(), &request);
    assert!(!gate.asked().iter().any(|asked| asked.path.contains("refresh")), "a secret in an address");
}

fn busy() {
    let times = std::sync::atomic::AtomicU32::new(0);
    let server = Server::start(move |asked, stream| match times.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        0 => say(stream, "503 Service Unavailable", &[], b""),
        1 => say(stream, "429 Too Many Requests", &[("Retry-After", "1")], b""),
        _ => honest(asked, stream),
    });
    digest(directory().path(), &request(&server.host, "a", "v1"));
}

fn silent() {
    let server = Server::start(|asked, stream| {
        if is_layer(asked) {
            let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\na", LAYER.len()).as_bytes());
            thread::sleep(Duration::from_secs(120));
        }
        honest(asked, stream);
    });
    let mut request = request(&server.host, "a", "v1");
    request.stall_ms = 300;
    let begun = Instant::now();
    let (cause, message) = refusal(&request);
    assert_eq!(cause, Cause::Unreachable, "{message}");
    assert!(message.contains("1 of 19 bytes"), "{message}");
    assert!(begun.elapsed() < Duration::from_secs(60));
}
