//! berthd as a process: its lock, its signals, its watchdog, its readiness.

use std::{io, rc::Rc, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use super::{StartError, Supervisor};
use crate::root::Root;

/// How long files must be quiet before they are read: an editor's write is several events, and a thousand files
/// dropped at once are one batch.
const QUIET: Duration = Duration::from_millis(25);

/// How long a batch may gather at most.
const GATHER: Duration = Duration::from_millis(250);

/// How long berthd's readiness waits for a manager that is away.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long it waits for one that is slow: a bus that starts, a systemd that has a whole host to boot. Without the
/// settings that it is to get, enabled containers would start in any order. Less than the unit's `TimeoutStartSec=`.
const PATIENCE_AT_BOOT: Duration = Duration::from_secs(60);

/// How often it is looked whether a slow manager has gone away.
const LOOK: Duration = Duration::from_millis(250);

/// How often, and how far apart, the lock is tried.
const LOCK_ATTEMPTS: u32 = 20;

/// See [`LOCK_ATTEMPTS`].
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// Says something to systemd, if it is there to listen.
pub(super) fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("cannot notify systemd: {error}");
    }
}

/// Is ready without the manager, if that stays away: launches are served all the same.
pub(super) async fn be_ready_at_last(supervisor: Rc<Supervisor>) {
    let end = tokio::time::Instant::now() + PATIENCE_AT_BOOT;
    tokio::time::sleep(PATIENCE).await;
    while supervisor.away.borrow().is_none() && !supervisor.ready.get() && tokio::time::Instant::now() < end {
        tokio::time::sleep(LOOK).await;
    }
    supervisor.be_ready();
}

/// Lets more changes come in until they pause.
pub(super) async fn gather(touches: &mut mpsc::UnboundedReceiver<()>) {
    let end = tokio::time::Instant::now() + GATHER;
    while let Ok(Some(())) = tokio::time::timeout_at(end.min(tokio::time::Instant::now() + QUIET), touches.recv()).await
    {
    }
}

/// The signals that berthd heeds: reload, end, end.
pub(super) fn signals()
-> io::Result<(tokio::signal::unix::Signal, tokio::signal::unix::Signal, tokio::signal::unix::Signal)> {
    Ok((signal(SignalKind::hangup())?, signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
}

/// Ticks at half the time that systemd grants, or never.
pub(super) fn watchdog() -> tokio::time::Interval {
    let period = sd_notify::watchdog_enabled().map_or(Duration::from_secs(u32::MAX.into()), |limit| limit / 2);
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks
}

/// One berthd a set of directories. One that was just killed may hold them for a moment yet.
pub(super) fn lock(root: &Root) -> Result<nix::fcntl::Flock<std::fs::File>, StartError> {
    let path = root.runtime().join("berthd.lock");
    let io_error = |source| StartError::Io { act: "open", path: path.clone(), source };
    std::fs::create_dir_all(root.runtime()).map_err(io_error)?;
    let file = std::fs::File::options().write(true).create(true).truncate(false).open(&path).map_err(io_error)?;
    let mut attempt = (file, LOCK_ATTEMPTS);
    loop {
        match nix::fcntl::Flock::lock(attempt.0, nix::fcntl::FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err(_) if attempt.1 == 0 => return Err(StartError::Held(path)),
            Err((file, _)) => attempt = (file, attempt.1 - 1),
        }
        std::thread::sleep(LOCK_PAUSE);
    }
}
