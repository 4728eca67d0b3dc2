//! What berth-pull is asked and what it says: one JSON object a line, on its standard input and output.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::proxy::Proxies;

/// Longest line that either side accepts, in bytes; bundles of certificates are the longest thing in one.
pub const MAX_LINE: usize = 8 << 20;

/// The one line that berth-pull reads. The rest of its input is empty: its end means to stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Path of the image at the registry: `library/nginx`.
    pub repository: String,
    /// Its tag; without it and without a digest there is nothing to ask for.
    pub tag: Option<String>,
    /// Its digest, which counts where a tag is given too.
    pub digest: Option<String>,
    /// Whom to ask, in this order; all mirrors, then the registry itself.
    pub endpoints: Vec<Endpoint>,
    /// The digest of what the asker has: where the registry has the same, nothing is fetched.
    pub known: Option<String>,
    /// How long no byte may come, in milliseconds.
    pub stall_ms: u64,
    /// What lies between.
    pub proxies: Proxies,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// `HOST` or `HOST:PORT`.
    pub host: String,
    /// How it is spoken to.
    pub transport: Transport,
    /// Certificates of authorities that are trusted beside the system's, as PEM.
    pub authorities: Option<String>,
    /// What is said to it of who we are.
    pub credential: Option<Credential>,
}

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// https, with a certificate that an authority vouches for.
    Https,
    /// https, whoever answers.
    UnverifiedTls,
    /// http.
    Http,
}

/// What proves who we are. Never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Credential {
    /// A name and a password.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// An OAuth2 refresh token (`identitytoken`).
    Identity {
        /// The token.
        token: String,
    },
    /// A bearer token for the registry itself (`registrytoken`).
    Bearer {
        /// The token.
        token: String,
    },
}

impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Password { .. } => "Password(hidden)",
            Self::Identity { .. } => "Identity(hidden)",
            Self::Bearer { .. } => "Bearer(hidden)",
        })
    }
}

/// What berth-pull says. The last line is [`Event::Done`], [`Event::Unchanged`] or [`Event::Failed`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The image is known.
    Resolved {
        /// What the tag stands for: the digest of an index or of a manifest.
        digest: String,
        /// The digest of the manifest for this platform.
        manifest: String,
        /// How many blobs it has.
        blobs: usize,
        /// Their bytes.
        bytes: u64,
    },
    /// So far has a blob come.
    Blob {
        /// Which.
        digest: String,
        /// Bytes that are here.
        done: u64,
        /// Bytes that it has.
        size: u64,
    },
    /// Something that a person may want to know: a retry, a mirror that is passed over.
    Note {
        /// In words.
        message: String,
    },
    /// The registry has what the asker has.
    Unchanged {
        /// The digest of both.
        manifest: String,
    },
    /// The layout is complete.
    Done {
        /// As in [`Event::Resolved`].
        digest: String,
        /// As in [`Event::Resolved`].
        manifest: String,
    },
    /// It cannot be had.
    Failed {
        /// Of what kind the reason is.
        cause: Cause,
        /// Act, object, reason, cure.
        message: String,
    },
}

/// Why an image cannot be had, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The server does not answer, or stopped in the middle.
    Unreachable,
    /// The server's certificate is not trusted.
    Untrusted,
    /// The server wants to know who asks, or does not let him.
    Unauthorized,
    /// There is no such image.
    Missing,
    /// Too many requests.
    Limited,
    /// What came is not what was promised.
    Invalid,
    /// An image that berth cannot use, or not on this machine.
    Unsupported,
    /// A mistake on this side: no space, a request that makes no sense.
    Local,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_never_shown() {
        let password = Credential::Password { user: "u".to_owned(), password: "hush".to_owned() };
        let all = [
            password,
            Credential::Identity { token: "hush".to_owned() },
            Credential::Bearer { token: "hush".to_owned() },
        ];
        for one in all {
            assert!(!format!("{one:?}").contains("hush"));
        }
    }
}
