//! The launcher's side of berthd's socket.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use sd_notify::NotifyState;
use serde::Serialize;

use super::{failure::failure, session::Session};
use crate::{
    plan::Plan,
    protocol::{Failure, MAX_LINE, Reply, Request, Stage},
};

/// How long a berthd may be away (restarting, being upgraded) before a launch gives up.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait between two tries.
const PAUSE: Duration = Duration::from_millis(100);
/// What the service manager is asked for at least when things take long: longer than [`PATIENCE`].
const EXTENSION: Duration = Duration::from_secs(35);

/// A connection to berthd.
#[derive(Debug)]
pub(super) struct Berthd {
    /// Both directions; reading is by lines.
    stream: BufReader<UnixStream>,
}

impl Berthd {
    /// Connects.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        Ok(Self { stream: BufReader::new(UnixStream::connect(socket)?) })
    }

    /// Limits how long a message may take, either way.
    pub fn limit(&self, patience: Duration) -> io::Result<()> {
        self.stream.get_ref().set_read_timeout(Some(patience))?;
        self.stream.get_ref().set_write_timeout(Some(patience))
    }

    /// Sends one line.
    pub fn say(&mut self, message: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line)
    }

    /// Waits for one line; `UnexpectedEof` where berthd hung up.
    pub fn hear(&mut self) -> io::Result<Reply> {
        let mut line = Vec::new();
        let limit = u64::try_from(MAX_LINE).map_err(io::Error::other)?;
        self.stream.by_ref().take(limit).read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            let cut = line.len() >= MAX_LINE;
            return Err(if cut { io::ErrorKind::InvalidData } else { io::ErrorKind::UnexpectedEof }.into());
        }
        Ok(serde_json::from_slice(&line)?)
    }
}

/// Why one try to get a plan gave none.
enum Setback {
    /// berthd is away; it may come back.
    Away(io::Error),
    /// It will not be better next time.
    Final(Failure),
}

/// Gets the plan. While berthd is away it is asked again and again, for [`PATIENCE`] since it was last heard:
/// asking twice is the same start (`Request::Launch`).
pub(super) fn fetch_plan(session: &mut Session<'_>) -> Result<Plan, Failure> {
    let mut heard = Instant::now();
    let mut extended = false;
    loop {
        match ask(session, &mut heard) {
            Ok(plan) => return Ok(plan),
            Err(Setback::Final(failure)) => return Err(failure),
            Err(Setback::Away(error)) if heard.elapsed() > PATIENCE => return Err(unreachable(session, &error)),
            Err(Setback::Away(_)) => {
                if !extended {
                    extend(session, None, Some("Waiting for berthd"));
                    extended = true;
                }
                thread::sleep(PAUSE);
            }
        }
    }
}

/// Asks once, and waits as long as berthd works.
fn ask(session: &mut Session<'_>, heard: &mut Instant) -> Result<Plan, Setback> {
    let request =
        Request::Launch { container: session.launch.container.clone(), invocation: session.launch.invocation.clone() };
    let setback = |error: io::Error| sort_setback(session, error);
    let mut berthd = Berthd::connect(&session.launch.socket).map_err(setback)?;
    berthd.say(&request).map_err(setback)?;
    let mut shown = false;
    loop {
        match berthd.hear().map_err(setback)? {
            Reply::Working { extend_ms, status } => {
                extend(session, extend_ms, status.as_deref());
                shown |= status.is_some();
                *heard = Instant::now();
            }
            Reply::Launch { plan } => {
                if shown {
                    session.manager.hint(&[NotifyState::Status("")]);
                }
                session.berthd = Some(berthd);
                return Ok(*plan);
            }
            Reply::Refused { failure } => return Err(Setback::Final(failure)),
            Reply::Error { message } => return Err(setback(io::Error::other(message))),
            Reply::Go | Reply::Done | Reply::Enter { .. } | Reply::Switched { .. } => {
                return Err(setback(io::ErrorKind::InvalidData.into()));
            }
        }
    }
}

/// Asks the service manager for more time, by berthd's word or by ours, and tells it what is done meanwhile.
fn extend(session: &Session<'_>, wanted_ms: Option<u64>, status: Option<&str>) {
    let wanted = wanted_ms.map_or(EXTENSION, Duration::from_millis).max(EXTENSION);
    // An hour and more, where that is too much for the message; the next one comes long before.
    let micros = u32::try_from(wanted.as_micros()).unwrap_or(u32::MAX);
    let states = [NotifyState::ExtendTimeoutUsec(micros)];
    let states: Vec<_> = states.into_iter().chain(status.map(NotifyState::Status)).collect();
    session.manager.hint(&states);
}

/// Whether an error means that berthd is away, or that something is wrong.
fn sort_setback(session: &Session<'_>, error: io::Error) -> Setback {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound, UnexpectedEof};
    match error.kind() {
        NotFound | ConnectionRefused | ConnectionReset | BrokenPipe | UnexpectedEof => Setback::Away(error),
        _ => Setback::Final(unreachable(session, &error)),
    }
}

/// The failure to get an answer.
fn unreachable(session: &Session<'_>, error: &io::Error) -> Failure {
    let cure = match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::Other => {
            "see its log: journalctl -u berthd; are berthd and berth-launch of one version?"
        }
        _ => "is it running? systemctl start berthd",
    };
    failure(Stage::Connect, "get the plan from berthd", Some(&session.launch.socket), error, cure)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is heard when berthd says `bytes` and hangs up.
    fn heard(bytes: &[u8]) -> io::Result<Reply> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let bytes = bytes.to_vec();
        let writer = thread::spawn(move || drop(theirs.write_all(&bytes)));
        let reply = Berthd { stream: BufReader::new(ours) }.hear();
        writer.join().unwrap();
        reply
    }

    #[test]
    fn lines_are_bounded_and_whole() {
        let working = Reply::Working { extend_ms: None, status: None };
        assert_eq!(heard(b"{\"reply\":\"working\"}\n").unwrap(), working);
        assert_eq!(heard(b"").unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(heard(b"{\"reply\":\"wor").unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(heard(b"nonsense\n").unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(heard(&vec![b' '; MAX_LINE + 1]).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
