//! The socket: who connects, what they ask, and one line at a time.

use std::{
    io,
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt as _, net::UnixListener as StdListener},
    },
    path::Path,
    rc::Rc,
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::Supervisor;
use crate::protocol::{MAX_LINE, Reply, Request};

/// The group whose members may give orders; membership is worth root.
const GROUP: &str = "berth";

/// A connection.
#[derive(Debug)]
pub struct Peer {
    /// What it says.
    input: BufReader<OwnedReadHalf>,
    /// What it hears.
    output: OwnedWriteHalf,
    /// Its user.
    pub uid: u32,
    /// Its process, as we number it.
    pub pid: Option<u32>,
    /// Whether it was seen to hang up.
    gone: bool,
}

impl Peer {
    /// A fresh connection.
    fn new(stream: UnixStream) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let (input, output) = stream.into_split();
        let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok());
        Ok(Self { input: BufReader::new(input), output, uid: credentials.uid(), pid, gone: false })
    }

    /// The next line; none at the end.
    ///
    /// # Errors
    /// The line is too long or is not what is expected here.
    pub async fn hear<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let mut line = Vec::new();
        let limit = MAX_LINE as u64;
        let length = (&mut self.input).take(limit).read_until(b'\n', &mut line).await?;
        if length == 0 {
            return Ok(None);
        }
        serde_json::from_slice(&line).map(Some).map_err(io::Error::other)
    }

    /// Waits until it hangs up, while it has nothing to say.
    pub async fn leave(&mut self) {
        match self.input.fill_buf().await {
            // Something was said; whoever expects it hears it.
            Ok(said) if !said.is_empty() => std::future::pending().await,
            _ => self.gone = true,
        }
    }

    /// Whether it was seen to hang up.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Says one line.
    ///
    /// # Errors
    /// Nobody listens any more.
    pub async fn say(&mut self, what: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(what).map_err(io::Error::other)?;
        line.push(b'\n');
        self.output.write_all(&line).await
    }
}

/// The socket that systemd made for us (sd_listen_fds(3)), or our own at `path`.
///
/// # Errors
/// It cannot be made; that somebody listens there already was ruled out by the lock.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    let listener = match inherited() {
        Some(fd) => StdListener::from(fd),
        None => bind_own(path)?,
    };
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// The first descriptor of a socket activation.
fn inherited() -> Option<OwnedFd> {
    crate::sys::activation::first_listen_fd()
}

/// Our own socket, for root and the group.
fn bind_own(path: &Path) -> io::Result<StdListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = StdListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    if let Ok(Some(group)) = nix::unistd::Group::from_name(GROUP) {
        std::os::unix::fs::chown(path, None, Some(group.gid.as_raw()))?;
    }
    Ok(listener)
}

/// Serves one connection to its end.
pub async fn serve(supervisor: Rc<Supervisor>, stream: UnixStream) {
    let outcome = async {
        let mut peer = Peer::new(stream)?;
        let Some(request) = peer.hear::<Request>().await? else { return Ok(()) };
        answer(supervisor, &mut peer, request).await
    };
    if let Err(error) = outcome.await {
        let error: io::Error = error;
        tracing::debug!("a connection ended early: {error}");
    }
}

/// Answers one request.
async fn answer(supervisor: Rc<Supervisor>, peer: &mut Peer, request: Request) -> io::Result<()> {
    match request {
        Request::Launch { container, invocation } if peer.uid == 0 => {
            supervisor.launch(peer, container, invocation).await
        }
        Request::LaunchFailed { container, invocation, failure } if peer.uid == 0 => {
            supervisor.launch_failed(&container, &invocation, failure).await;
            peer.say(&Reply::Done).await
        }
        Request::Enter { container } if peer.uid == 0 => supervisor.enter(peer, &container).await,
        Request::Launch { .. } | Request::LaunchFailed { .. } => {
            peer.say(&Reply::Error { message: "only root launches containers".to_owned() }).await
        }
        Request::Enter { .. } => peer.say(&Reply::Error { message: "only root enters containers".to_owned() }).await,
        Request::Control { verb, container } => {
            let reply = match supervisor.control(verb, &container).await {
                Ok(()) => Reply::Done,
                Err(message) => Reply::Error { message },
            };
            // Who hears of the deed and looks at the state file finds it there.
            super::publish::write(&supervisor);
            peer.say(&reply).await
        }
        Request::Switch { container, target, watch_ms } => {
            let reply = match supervisor.switch(&container, target, Duration::from_millis(watch_ms)).await {
                Ok(switched) => Reply::Switched { switched },
                Err(message) => Reply::Error { message },
            };
            super::publish::write(&supervisor);
            peer.say(&reply).await
        }
        Request::Reload => {
            let reply = match supervisor.reload() {
                Ok(()) => Reply::Done,
                Err(message) => Reply::Error { message },
            };
            peer.say(&reply).await
        }
    }
}
