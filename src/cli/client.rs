//! What is said on berthd's socket, from the asking side: one request, its replies, bounded in length and time.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::Duration,
};

use crate::{
    protocol::{MAX_LINE, Reply, Request},
    root::Root,
};

/// How long berthd may take to take a request.
const WRITE: Duration = Duration::from_secs(10);

/// A connection to berthd.
#[derive(Debug)]
pub struct Client {
    /// The connection.
    stream: BufReader<UnixStream>,
}

/// Why berthd did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("it is not running (nobody listens on {}); start it ('systemctl start berthd')", .0.display())]
    NotRunning(PathBuf),
    /// Not for everybody.
    #[error("no access to {}; you need to be root or in group berth", .0.display())]
    NotPermitted(PathBuf),
    /// Anything else of the kernel's.
    #[error("{act}: {}", crate::error::reason(.reason))]
    Io {
        /// What was tried.
        act: &'static str,
        /// Why not.
        reason: io::Error,
    },
    /// It went away.
    #[error("it ended before it answered; 'journalctl -u berthd' may say why")]
    Closed,
    /// It hangs.
    #[error("no answer in {}; 'journalctl -u berthd' may say why", crate::clock::span(*.0))]
    Late(Duration),
    /// It speaks otherwise.
    #[error("its answer is not understood ({0}); use the berthctl of the berthd that runs")]
    Garbled(String),
}

impl ClientError {
    /// An answer to another question.
    #[must_use]
    pub fn unexpected(reply: &Reply) -> Self {
        let value = serde_json::to_value(reply).unwrap_or_default();
        Self::Garbled(format!("unexpected reply {}", value.get("reply").unwrap_or(&serde_json::Value::Null)))
    }
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens, or not to us.
    pub fn connect(root: &Root) -> Result<Self, ClientError> {
        let socket = root.socket();
        let stream = UnixStream::connect(&socket).map_err(|reason| match reason.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning(socket.clone()),
            io::ErrorKind::PermissionDenied => ClientError::NotPermitted(socket.clone()),
            _ => ClientError::Io { act: "cannot connect", reason },
        })?;
        stream
            .set_write_timeout(Some(WRITE))
            .map_err(|reason| ClientError::Io { act: "cannot set a timeout", reason })?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Asks, and waits for the answer; `patience` is counted anew with each sign of life. Without one it waits as
    /// long as berthd lives, since a stop may take as long as its spec allows.
    ///
    /// # Errors
    /// There is no answer, or none that is understood.
    pub fn ask(&mut self, request: &Request, patience: Option<Duration>) -> Result<Reply, ClientError> {
        let failed = |act| move |reason| ClientError::Io { act, reason };
        self.stream.get_ref().set_read_timeout(patience).map_err(failed("cannot set a timeout"))?;
        let mut line = serde_json::to_vec(request).map_err(|error| ClientError::Garbled(error.to_string()))?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line).map_err(|reason| match reason.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => ClientError::Closed,
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::Late(WRITE),
            _ => ClientError::Io { act: "cannot ask", reason },
        })?;
        loop {
            match self.reply(patience)? {
                Reply::Working { .. } => {}
                reply => return Ok(reply),
            }
        }
    }

    /// One reply.
    fn reply(&mut self, patience: Option<Duration>) -> Result<Reply, ClientError> {
        let mut line = Vec::new();
        let limit = MAX_LINE as u64 + 1;
        let read = self.stream.by_ref().take(limit).read_until(b'\n', &mut line);
        match read {
            Err(reason) => match reason.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    Err(ClientError::Late(patience.unwrap_or_default()))
                }
                io::ErrorKind::ConnectionReset => Err(ClientError::Closed),
                _ => Err(ClientError::Io { act: "cannot read the answer", reason }),
            },
            Ok(_) if line.len() > MAX_LINE => Err(ClientError::Garbled("a line without end".to_owned())),
            Ok(_) if !line.ends_with(b"\n") => Err(ClientError::Closed),
            Ok(_) => serde_json::from_slice(&line).map_err(|error| ClientError::Garbled(error.to_string())),
        }
    }
}
