//! `WWW-Authenticate`: what a server wants to know of who asks (RFC 9110 §11, and the registries' token protocol).

/// One challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// A name and a password.
    Basic,
    /// A token, which another server gives.
    Bearer {
        /// Where to get it.
        realm: String,
        /// For whom.
        service: Option<String>,
        /// To do what.
        scope: Option<String>,
    },
}

impl Challenge {
    /// The first challenge in a header that is understood.
    pub fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let all = parameters(rest);
        let take = |name: &str| all.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        Some(Self::Bearer { realm: take("realm")?, service: take("service"), scope: take("scope") })
    }
}

/// `a="b", c=d` in pairs; names in lower case. What follows a mistake is left.
fn parameters(mut text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    while let Some((name, rest)) = text.split_once('=') {
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let Some((value, rest)) = quoted.split_once('"') else { break };
                (value, rest)
            }
            None => rest.find(',').map_or((rest, ""), |end| rest.split_at(end)),
        };
        pairs.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        text = rest.trim_start().trim_start_matches(',');
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_of_registries_are_understood() {
        let hub = r#"Bearer realm="https://auth.example/token",service="registry",scope="repository:a/b:pull,push""#;
        let bearer = |service: Option<&str>, scope: Option<&str>| Challenge::Bearer {
            realm: "https://auth.example/token".to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        };
        assert_eq!(Challenge::parse(hub), Some(bearer(Some("registry"), Some("repository:a/b:pull,push"))));
        let loose = "bearer Realm=https://auth.example/token , service = \"s\"";
        assert!(matches!(Challenge::parse(loose), Some(Challenge::Bearer { service: None | Some(_), .. })));
        assert_eq!(Challenge::parse("Bearer realm=\"https://auth.example/token\""), Some(bearer(None, None)));
        assert_eq!(Challenge::parse("Basic realm=\"x\""), Some(Challenge::Basic));
        assert_eq!(Challenge::parse("basic"), Some(Challenge::Basic));
        for none in ["", "Bearer", "Bearer realm=\"unclosed", "Negotiate", "Digest realm=\"x\""] {
            assert_eq!(Challenge::parse(none), None, "{none}");
        }
    }
}
