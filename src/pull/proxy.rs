//! Proxies: which one leads to a server, as docker, podman and curl understand it.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};
use ureq::http::Uri;

/// Proxies, and what is reached without them.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proxies {
    /// The way to servers that speak https.
    pub https: Option<String>,
    /// The way to servers that speak http.
    pub http: Option<String>,
    /// Who is reached without: `*`, `HOST`, `.DOMAIN`, an address or a network, each with a port where one counts.
    pub except: Vec<String>,
}

/// A proxy may have a password.
impl fmt::Debug for Proxies {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |proxy: &Option<String>| proxy.as_deref().map(shown);
        let (https, http) = (shown(&self.https), shown(&self.http));
        formatter
            .debug_struct("Proxies")
            .field("https", &https)
            .field("http", &http)
            .field("except", &self.except)
            .finish()
    }
}

impl Proxies {
    /// What `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` say, or their names in small letters.
    ///
    /// # Errors
    /// One line for people: a variable names no proxy.
    pub fn of_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let either = |name: &str| {
            let set = variable(name).or_else(|| variable(&name.to_ascii_lowercase()));
            set.filter(|value| !value.is_empty())
        };
        let proxy = |name: &str| {
            let parsed = either(name).map(|value| parse(&value).map_err(|why| format!("${name} is no proxy: {why}")));
            parsed.transpose()
        };
        let except = either("NO_PROXY").unwrap_or_default();
        Ok(Self { https: proxy("HTTPS_PROXY")?, http: proxy("HTTP_PROXY")?, except: list(&except) })
    }

    /// The proxy on the way to an address; none where there is none. This machine is never behind one.
    pub fn of(&self, url: &str) -> Option<&str> {
        let uri: Uri = url.parse().ok()?;
        let proxy = if uri.scheme_str() == Some("https") { &self.https } else { &self.http };
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let standard = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(standard);
        let address = host.parse::<IpAddr>().ok();
        let is_here = host == "localhost" || address.is_some_and(|address| address.is_loopback());
        let is_excepted = self.except.iter().any(|entry| matches(entry, &host, address, port));
        proxy.as_deref().filter(|_| !is_here && !is_excepted)
    }
}

/// Entries of a list with commas.
pub fn list(text: &str) -> Vec<String> {
    text.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()).map(str::to_owned).collect()
}

/// A proxy with its scheme, which is http where it has none.
///
/// # Errors
/// What is wrong with it. It may be a password that is wrong, so nothing of it is told.
pub fn parse(text: &str) -> Result<String, String> {
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let uri: Uri = full.parse().map_err(|_| "it is no address; write http://HOST:PORT".to_owned())?;
    match uri.scheme_str() {
        Some("http" | "https") if uri.host().is_some_and(|host| !host.is_empty()) => Ok(full),
        Some("http" | "https") => Err("it names no host; write http://HOST:PORT".to_owned()),
        _ => Err("berth speaks with proxies by http and https; write http://HOST:PORT".to_owned()),
    }
}

/// Whether a proxy has a name or a password in it.
pub fn has_secret(proxy: &str) -> bool {
    proxy.parse::<Uri>().ok().and_then(|uri| uri.authority().map(|authority| authority.as_str().contains('@')))
        == Some(true)
}

/// A proxy without its name and password.
pub fn shown(proxy: &str) -> String {
    let uri = proxy.parse::<Uri>().unwrap_or_default();
    let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{}://{host}", uri.scheme_str().unwrap_or("http"))
}

/// Whether an entry means a server.
fn matches(entry: &str, host: &str, address: Option<IpAddr>, port: u16) -> bool {
    let entry = entry.to_ascii_lowercase();
    if entry == "*" {
        return true;
    }
    if let (Some((network, bits)), Some(address)) = (entry.split_once('/'), address) {
        return network.parse().is_ok_and(|network| bits.parse().is_ok_and(|bits| is_within(address, network, bits)));
    }
    let (name, wanted) = split_port(&entry);
    if wanted.is_some_and(|wanted| wanted != port) {
        return false;
    }
    if let Some(address) = address {
        return name.parse::<IpAddr>() == Ok(address);
    }
    let name = name.strip_prefix('*').unwrap_or(name);
    match name.strip_prefix('.') {
        Some(_) => host.ends_with(name),
        None => host.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')) && !name.is_empty(),
    }
}

/// A name or an address, and the port after it.
fn split_port(entry: &str) -> (&str, Option<u16>) {
    if let Some((address, rest)) = entry.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (address, rest.strip_prefix(':').and_then(|port| port.parse().ok()));
    }
    match entry.split_once(':') {
        // More than one: an address of IPv6.
        Some((name, port)) if !port.contains(':') => (name, port.parse().ok()),
        _ => (entry, None),
    }
}

/// Whether an address is one of a network whose first `bits` are given.
fn is_within(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    let (address, network, all) = match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            (u128::from(address.to_bits()), u128::from(network.to_bits()), 32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => (address.to_bits(), network.to_bits(), 128),
        _ => return false,
    };
    let rest = all - bits.min(all);
    bits <= all && (rest == 128 || (address ^ network) >> rest == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_reached_without() {
        let table = [
            ("example.org", "https://example.org/v2/", true),
            ("example.org", "https://a.example.org/", true),
            ("example.org", "https://badexample.org/", false),
            (".example.org", "https://a.b.example.org/", true),
            (".example.org", "https://example.org/", false),
            ("*.example.org", "https://a.example.org/", true),
            ("EXAMPLE.org", "https://Example.ORG/", true),
            ("example.org:5000", "https://example.org:5000/", true),
            ("example.org:5000", "https://example.org/", false),
            ("example.org:443", "https://example.org/", true),
            ("*", "https://anything/", true),
            ("192.0.2.7", "http://192.0.2.7:5000/", true),
            ("192.0.2.7", "http://192.0.2.70/", false),
            ("192.0.2.0/24", "http://192.0.2.70/", true),
            ("192.0.2.0/24", "http://192.0.3.1/", false),
            ("192.0.2.0/33", "http://192.0.2.1/", false),
            ("0.0.0.0/0", "http://192.0.2.1/", true),
            ("2001:db8::/32", "http://[2001:db8::1]:5000/", true),
            ("::/0", "http://[2001:db8::1]/", true),
            ("[2001:db8::1]:5000", "http://[2001:db8::1]:5000/", true),
            ("[2001:db8::1]:5000", "http://[2001:db8::1]/", false),
            ("2001:db8::1", "http://[2001:db8::1]/", true),
            ("", "https://example.org/", false),
            (".", "https://example.org/", false),
        ];
        for (entry, url, without) in table {
            let proxies = Proxies {
                https: Some("http://p:1".to_owned()),
                http: Some("http://p:2".to_owned()),
                except: vec![entry.to_owned()],
            };
            assert_eq!(proxies.of(url).is_none(), without, "{entry} {url}");
        }
    }

    #[test]
    fn each_scheme_has_its_proxy_and_this_machine_none() {
        let proxies = Proxies { https: Some("http://s:1".to_owned()), http: None, except: Vec::new() };
        assert_eq!(proxies.of("https://example.org/"), Some("http://s:1"));
        for url in ["http://example.org/", "https://localhost:5000/", "https://127.0.0.2/", "https://[::1]:5000/"] {
            assert_eq!(proxies.of(url), None, "{url}");
        }
    }

    #[test]
    fn variables_have_two_spellings() {
        let read = |set: &'static [(&str, &str)]| {
            Proxies::of_environment(move |name| {
                set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let proxies = read(&[("https_proxy", "p.test:3128"), ("HTTP_PROXY", ""), ("no_proxy", "a, b c")]).unwrap();
        assert_eq!(proxies.https.as_deref(), Some("http://p.test:3128"));
        assert_eq!((proxies.http, proxies.except), (None, vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]));
        for (value, words) in [("socks5://p:1", "by http and https"), ("http://", "no address"), ("a b", "no address")]
        {
            let set = [("HTTPS_PROXY", value)];
            let error = Proxies::of_environment(|name| {
                set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            });
            let error = error.unwrap_err();
            assert!(error.contains("$HTTPS_PROXY") && error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let proxy = "http://me:hush@p.test:3128".to_owned();
        assert!(has_secret(&proxy) && !has_secret("http://p.test:3128"));
        assert_eq!(shown(&proxy), "http://p.test:3128");
        let proxies = Proxies { https: Some(proxy.clone()), http: Some(proxy), except: Vec::new() };
        assert!(!format!("{proxies:?}").contains("hush"));
    }
}
