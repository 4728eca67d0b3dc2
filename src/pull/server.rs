//! One server: requests, redirects, who we are. What is sent where is decided here alone.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use ureq::{
    Agent, Body, Proxy,
    http::{Response, StatusCode, header},
    tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem},
};

use super::{
    PullError,
    challenge::Challenge,
    proxy::{Proxies, shown},
    words::{Cause, Credential, Endpoint, Transport},
};

/// How long it may take to find a server and to get a connection to it.
const CONNECT: Duration = Duration::from_secs(15);
/// How long the answer to a small question may take in all.
const ANSWER: Duration = Duration::from_secs(60);
/// Most redirects in a row.
const REDIRECTS: usize = 5;
/// Most bytes of a token server's answer.
const MAX_TOKEN: u64 = 1 << 20;
/// How long a server may tell us to wait.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A server that images are fetched from.
#[derive(Debug)]
pub struct Server {
    /// Who it is.
    endpoint: Endpoint,
    /// Connections without a proxy.
    agent: Agent,
    /// What lies between.
    proxies: Proxies,
    /// Connections by the proxies of https and http.
    proxied: [Option<Agent>; 2],
    /// What it let us in with.
    authorization: Mutex<Option<Secret>>,
}

/// A header's value that is never shown.
#[derive(Clone)]
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("hidden")
    }
}

/// A question to a server.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The repository.
    pub repository: &'a str,
    /// `manifests/TAG` or `blobs/DIGEST`.
    pub what: &'a str,
    /// What forms are taken.
    pub accept: &'a str,
    /// From which byte on.
    pub from: u64,
}

/// What a token server says.
#[derive(Deserialize)]
struct TokenAnswer {
    /// The token.
    token: Option<String>,
    /// The token, as OAuth2 calls it.
    access_token: Option<String>,
}

impl Server {
    /// A server as it is described. Nothing is sent yet.
    ///
    /// # Errors
    /// Its certificates cannot be read.
    pub fn new(endpoint: Endpoint, stall: Duration, proxies: &Proxies) -> Result<Self, PullError> {
        let agent = agent(&endpoint, stall, None)?;
        let by = |proxy: &Option<String>| proxy.as_deref().map(|proxy| self::agent(&endpoint, stall, Some(proxy)));
        let proxied = [by(&proxies.https).transpose()?, by(&proxies.http).transpose()?];
        let authorization = match &endpoint.credential {
            Some(Credential::Bearer { token }) => Some(Secret(format!("Bearer {token}"))),
            _ => None,
        };
        Ok(Self { endpoint, agent, proxies: proxies.clone(), proxied, authorization: Mutex::new(authorization) })
    }

    /// The connections that lead to an address.
    fn agent(&self, url: &str) -> &Agent {
        let [https, http] = &self.proxied;
        let by = if url.starts_with("https:") { https } else { http };
        self.proxies.of(url).and(by.as_ref()).unwrap_or(&self.agent)
    }

    /// Its name.
    pub fn host(&self) -> &str {
        &self.endpoint.host
    }

    /// Asks, as whom the server wants to know. The answer is one of 200 and 206.
    ///
    /// # Errors
    /// There is no such answer; the error says why and what to do.
    pub fn ask(&self, question: Question<'_>) -> Result<Response<Body>, PullError> {
        let used = self.authorization();
        let answer = self.walk(question, used.as_ref())?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return self.judge(answer, question);
        }
        // Another thread may have been let in meanwhile; then its token serves.
        let now = self.authorization();
        let fresh = match (&used, &now) {
            (None, Some(_)) if self.endpoint.credential_is_exchanged() => now,
            _ => Some(self.identify(&answer, question)?),
        };
        drop(answer);
        let answer = self.walk(question, fresh.as_ref())?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            return Err(self.unauthorized(question));
        }
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        self.judge(answer, question)
    }

    /// What the server let us in with.
    fn authorization(&self) -> Option<Secret> {
        self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends a question and follows redirects. Who we are is said to the registry's own origin only.
    fn walk(&self, question: Question<'_>, authorization: Option<&Secret>) -> Result<Response<Body>, PullError> {
        let scheme = if self.endpoint.transport == Transport::Http { "http" } else { "https" };
        let own = format!("{scheme}://{}", self.endpoint.host);
        let mut url = format!("{own}/v2/{}/{}", question.repository, question.what);
        for _ in 0..=REDIRECTS {
            let mut request = self.agent(&url).get(&url).header(header::ACCEPT, question.accept);
            if question.from > 0 {
                request = request.header(header::RANGE, format!("bytes={}-", question.from));
            }
            if let Some(Secret(value)) = authorization.filter(|_| origin(&url) == Some(&own)) {
                request = request.header(header::AUTHORIZATION, value);
            }
            let answer = request.call().map_err(|error| self.transport_error(&url, &error))?;
            if !answer.status().is_redirection() {
                return Ok(answer);
            }
            let target = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            url = target.and_then(|target| follow(&url, target)).ok_or_else(|| {
                let where_to = target.unwrap_or("nowhere");
                let message = format!("{} redirects to {where_to:?}, where berth does not follow", self.host());
                PullError::lasting(Cause::Invalid, message)
            })?;
        }
        let message = format!("{} redirects more than {REDIRECTS} times in a row", self.host());
        Err(PullError::lasting(Cause::Invalid, message))
    }

    /// Answers a challenge.
    fn identify(&self, answer: &Response<Body>, question: Question<'_>) -> Result<Secret, PullError> {
        let headers = answer.headers().get_all(header::WWW_AUTHENTICATE).iter();
        let challenge = headers.filter_map(|value| value.to_str().ok()).find_map(Challenge::parse);
        match (challenge, &self.endpoint.credential) {
            (Some(Challenge::Bearer { realm, service, scope }), _) => {
                let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", question.repository));
                self.token(&realm, service.as_deref(), &scope, question)
            }
            (Some(Challenge::Basic), Some(Credential::Password { user, password })) => Ok(basic(user, password)),
            _ => Err(self.unauthorized(question)),
        }
    }

    /// Gets a token for pulling.
    fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: &str,
        question: Question<'_>,
    ) -> Result<Secret, PullError> {
        let plain = self.endpoint.transport == Transport::Http;
        if !(realm.starts_with("https://") || plain && realm.starts_with("http://")) {
            let message = format!("{} sends us for a token to {realm:?}, which is not https", self.host());
            return Err(PullError::lasting(Cause::Invalid, message));
        }
        let service = service.into_iter().map(|service| ("service", service));
        let sent = match &self.endpoint.credential {
            Some(Credential::Identity { token }) => {
                let own = [("grant_type", "refresh_token"), ("client_id", "berth"), ("refresh_token", token)];
                let form = own.into_iter().chain(service).chain([("scope", scope)]);
                self.agent(realm).post(realm).config().timeout_global(Some(ANSWER)).build().send_form(form)
            }
            other => {
                let mut request = self.agent(realm).get(realm).query_pairs(service.chain([("scope", scope)]));
                if let Some(Credential::Password { user, password }) = other {
                    request = request.header(header::AUTHORIZATION, basic(user, password).0);
                }
                request.config().timeout_global(Some(ANSWER)).build().call()
            }
        };
        let mut answer = sent.map_err(|error| self.transport_error(realm, &error))?;
        if matches!(answer.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST) {
            return Err(self.unauthorized(question));
        }
        let answer = match answer.status() {
            StatusCode::OK => answer.body_mut().with_config().limit(MAX_TOKEN).read_to_vec().ok(),
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                return Err(self.busy(&answer));
            }
            _ => None,
        };
        let token = answer.and_then(|bytes| serde_json::from_slice::<TokenAnswer>(&bytes).ok());
        let token = token.and_then(|answer| answer.token.or(answer.access_token)).filter(|token| is_token(token));
        token.map(|token| Secret(format!("Bearer {token}"))).ok_or_else(|| {
            PullError::lasting(Cause::Invalid, format!("the token server of {} gives no token", self.host()))
        })
    }

    /// Takes an answer, or says what it means.
    fn judge(&self, answer: Response<Body>, question: Question<'_>) -> Result<Response<Body>, PullError> {
        let (host, repository, what) = (self.host(), question.repository, question.what);
        match answer.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(answer),
            StatusCode::FORBIDDEN => Err(PullError::lasting(
                Cause::Unauthorized,
                format!(
                    "{host} does not let {} pull {repository}; ask its owner for that, or log in as another: \
                     podman login --authfile /etc/berth/auth.json {host}",
                    self.who()
                ),
            )),
            StatusCode::NOT_FOUND => Err(PullError::lasting(
                Cause::Missing,
                format!(
                    "{host} has no {repository} with {what}; look with: skopeo list-tags docker://{host}/{repository}"
                ),
            )),
            status if status.is_server_error() => Err(self.busy(&answer)),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Err(self.busy(&answer)),
            status => Err(PullError::lasting(
                Cause::Invalid,
                format!("{host} answers {status} when asked for {repository} {what}"),
            )),
        }
    }

    /// A server that cannot now.
    fn busy(&self, answer: &Response<Body>) -> PullError {
        let status = answer.status();
        let limited = status == StatusCode::TOO_MANY_REQUESTS;
        let wait = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let cure = match (limited, &self.endpoint.credential) {
            (true, None) => ": too many pulls; log in (berthd.toml(5), auth_files) or use a mirror",
            (true, Some(_)) => ": too many pulls; use a mirror, or try later",
            (false, _) => "; see the registry's own log",
        };
        let cause = if limited { Cause::Limited } else { Cause::Unreachable };
        let again = Some(Duration::from_secs(wait.unwrap_or_default()).min(LONGEST_WAIT));
        PullError { cause, message: format!("{} answers {status}{cure}", self.host()), again }
    }

    /// Who we are, for people.
    fn who(&self) -> String {
        match &self.endpoint.credential {
            Some(Credential::Password { user, .. }) => user.clone(),
            Some(_) => "the bearer of the configured token".to_owned(),
            None => "strangers".to_owned(),
        }
    }

    /// The server did not take who we are.
    fn unauthorized(&self, question: Question<'_>) -> PullError {
        let (host, repository) = (self.host(), question.repository);
        let what = match &self.endpoint.credential {
            Some(Credential::Password { user, .. }) => format!("{host} refuses the name or password of {user}"),
            Some(_) => format!("{host} refuses the configured token"),
            None => format!("{host} wants to know who asks for {repository}, and there are no credentials for it"),
        };
        let message = format!("{what}; log in: podman login --authfile /etc/berth/auth.json {host}");
        PullError::lasting(Cause::Unauthorized, message)
    }

    /// A conversation that did not come about, or broke off.
    fn transport_error(&self, url: &str, error: &ureq::Error) -> PullError {
        let proxy = self.proxies.of(url).map(shown);
        let by = proxy.as_ref().map(|proxy| format!(" by the proxy {proxy}")).unwrap_or_default();
        let name = format!("{}{by}", origin(url).unwrap_or(url));
        let lasting = |cause, message| PullError::lasting(cause, message);
        match error {
            ureq::Error::Rustls(rustls) => {
                let message = format!(
                    "cannot trust {name}: {rustls}; name its authority with ca_file in [[images.registry]] (berthd.toml(5))"
                );
                lasting(Cause::Untrusted, message)
            }
            ureq::Error::Io(io) if io.get_ref().is_some_and(|inner| inner.to_string().contains("certificate")) => {
                let message = format!(
                    "cannot trust {name}: {io}; name its authority with ca_file in [[images.registry]] (berthd.toml(5))"
                );
                lasting(Cause::Untrusted, message)
            }
            ureq::Error::ConnectProxyFailed(why) => {
                let cure = if why.contains("407") {
                    "; it wants to know who asks: HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT"
                } else {
                    "; whom to reach without it say NO_PROXY and no_proxy in [images] (berthd.toml(5))"
                };
                PullError::passing(Cause::Unreachable, format!("cannot reach {name}: {why}{cure}"))
            }
            ureq::Error::HostNotFound => {
                let message = format!("cannot find {name}: its name is not known; is the name right, does DNS work?");
                PullError::passing(Cause::Unreachable, message)
            }
            ureq::Error::Timeout(_) => {
                PullError::passing(Cause::Unreachable, format!("{name} does not answer in time"))
            }
            ureq::Error::Io(io) => {
                let message = format!("cannot reach {name}: {}", crate::error::reason(io));
                PullError::passing(Cause::Unreachable, message)
            }
            other => lasting(Cause::Invalid, format!("{name} is not understood: {other}")),
        }
    }
}

impl Endpoint {
    /// Whether what lets us in is a token that was given for nothing but this.
    fn credential_is_exchanged(&self) -> bool {
        !matches!(self.credential, Some(Credential::Bearer { .. }))
    }
}

/// Connections, by a proxy or without.
fn agent(endpoint: &Endpoint, stall: Duration, proxy: Option<&str>) -> Result<Agent, PullError> {
    let proxy = proxy.map(|proxy| {
        Proxy::new(proxy).map_err(|error| PullError::lasting(Cause::Local, format!("{}: {error}", shown(proxy))))
    });
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("berth/", env!("CARGO_PKG_VERSION")))
        .https_only(endpoint.transport != Transport::Http)
        .tls_config(tls(endpoint)?)
        .proxy(proxy.transpose()?)
        .timeout_resolve(Some(CONNECT))
        .timeout_connect(Some(CONNECT.min(stall)))
        .timeout_recv_response(Some(stall))
        .timeout_per_read(Some(stall))
        .timeout_per_write(Some(stall))
        .max_response_header_size(64 << 10);
    Ok(config.build().new_agent())
}

/// Whom to trust.
fn tls(endpoint: &Endpoint) -> Result<TlsConfig, PullError> {
    let builder = TlsConfig::builder();
    match endpoint.transport {
        Transport::Http => return Ok(builder.build()),
        Transport::UnverifiedTls => return Ok(builder.disable_verification(true).build()),
        Transport::Https => {}
    }
    // A certificate of the system's that cannot be read leaves the others.
    let system = rustls_native_certs::load_native_certs().certs;
    let mut roots: Vec<Certificate<'static>> =
        system.iter().map(|certificate| Certificate::from_der(certificate.as_ref()).to_owned()).collect();
    let bad =
        |why: String| PullError::lasting(Cause::Local, format!("cannot use the ca_file of {}: {why}", endpoint.host));
    if let Some(pem) = &endpoint.authorities {
        let before = roots.len();
        for item in parse_pem(pem.as_bytes()) {
            if let PemItem::Certificate(certificate) = item.map_err(|error| bad(error.to_string()))? {
                roots.push(certificate);
            }
        }
        if roots.len() == before {
            return Err(bad("there is no certificate in it; it wants PEM, \"-----BEGIN CERTIFICATE-----\"".to_owned()));
        }
    }
    if roots.is_empty() {
        return Err(PullError::lasting(
            Cause::Untrusted,
            format!("no authority is trusted that could vouch for {}; install ca-certificates", endpoint.host),
        ));
    }
    Ok(builder.root_certs(RootCerts::new_with_certs(&roots)).build())
}

/// `Authorization: Basic`.
fn basic(user: &str, password: &str) -> Secret {
    Secret(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

/// Whether a token may stand in a header.
fn is_token(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())
}

/// `https://HOST:PORT` of an address.
fn origin(url: &str) -> Option<&str> {
    let start = url.find("://")? + 3;
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |end| start + end);
    Some(&url[..end])
}

/// Where a redirect leads; none where it leads from https to less, or is not understood.
fn follow(url: &str, target: &str) -> Option<String> {
    let target = match target.strip_prefix('/') {
        Some(rest) if rest.starts_with('/') => format!("{}:{target}", url.split_once(':')?.0),
        Some(_) => format!("{}{target}", origin(url)?),
        None => target.to_owned(),
    };
    let secure = target.starts_with("https://");
    let plain = target.starts_with("http://") && url.starts_with("http://");
    // user:password@ in an address would be sent as ours.
    let strange = origin(&target)?.contains('@');
    ((secure || plain) && !strange).then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_nowhere_less_safe() {
        let to = |url: &str, target: &str| follow(url, target);
        assert_eq!(to("https://a/v2/x", "https://b/y").as_deref(), Some("https://b/y"));
        assert_eq!(to("https://a:1/v2/x", "/y?z").as_deref(), Some("https://a:1/y?z"));
        assert_eq!(to("https://a/v2/x", "//b/y").as_deref(), Some("https://b/y"));
        assert_eq!(to("http://a/v2/x", "http://b/y").as_deref(), Some("http://b/y"));
        for bad in ["http://b/y", "file:///etc/passwd", "y", "", "https://user:pw@b/y"] {
            assert_eq!(to("https://a/v2/x", bad), None, "{bad}");
        }
    }

    #[test]
    fn an_origin_is_scheme_and_host() {
        assert_eq!(origin("https://a:5000/v2/"), Some("https://a:5000"));
        assert_eq!(origin("http://a?x"), Some("http://a"));
        assert_eq!(origin("a/b"), None);
    }

    #[test]
    fn what_a_token_server_gives_cannot_add_headers() {
        assert!(is_token("abc.def-_="));
        assert!(!is_token("abc\r\nHost: x") && !is_token(""));
    }
}
