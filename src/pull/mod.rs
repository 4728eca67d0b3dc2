//! Images from registries: `berth-pull`, and who starts it.
//!
//! TLS and what strangers send are kept away from root. `berth-pull` is a process of its own, of a user of its own,
//! without privileges. It gets one [`Request`] on its standard input, credentials included, fetches the image into an
//! OCI layout in its present directory, and tells on its standard output how far it is. What it leaves is not
//! believed: whoever started it reads the layout as it would read a stranger's.
//!
//! A pull that ends early leaves its parts in the directory, and the next one goes on from there.

mod blob;
mod challenge;
mod confine;
mod credentials;
mod digest;
mod error;
mod fetch;
mod layout;
mod line;
mod manifest;
mod obtain;
mod proxy;
mod server;
mod watch;
mod words;
mod work;

pub use confine::{Confinement, Place, confine};
pub use error::PullError;
pub use fetch::{Fetch, FetchError, Fetched, fetch};
pub use line::Means;
pub use obtain::{Obtain, Obtained, obtain, sweep};
pub use proxy::{Proxies, has_secret as proxy_has_secret, parse as parse_proxy};
pub use watch::{End, Watch};
pub use words::{Cause, Credential, Endpoint, Event, MAX_LINE, Request, Transport};
pub use work::work;
