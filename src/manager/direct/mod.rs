//! berthd as the service manager, where there is no systemd.
//!
//! The same launcher, the same plan, the same words as under systemd; what systemd does in between is done here:
//!
//! - [`unit`]: one unit as a pure state machine, [`policy`]: restarts, delays, limits, stops as pure functions,
//!   [`graph`]: who starts with whom and after whom, [`jobs`]: what was asked and is not done;
//! - [`cgroup`], [`process`], [`watch`], [`kernel`]: the world;
//! - [`actor`]: the task that moves between the two.
//!
//! The container's PID 1 is a child of berthd (the launcher makes it with CLONE_PARENT), so its exit status is
//! exact. It stays when berthd goes; the next berthd adopts it by number and start time, and cannot ask how it ends.

mod actor;
mod cgroup;
mod graph;
mod jobs;
mod kernel;
mod policy;
mod process;
mod unit;
mod watch;

use std::{fs, path::PathBuf};

use tokio::sync::mpsc;

use self::{actor::Actor, cgroup::Cgroups};
use crate::{
    manager::{Events, Kind, Order, ServiceManager},
    root::Root,
    spec::Name,
};

/// Where the direct manager finds its world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// The host.
    pub root: Root,
    /// `berth-launch`.
    pub launcher: PathBuf,
    /// berthd's socket, on which the launcher asks for its plan.
    pub socket: PathBuf,
}

/// Handle of the direct manager. Its task ends with the handle; containers do not.
#[derive(Debug, Clone)]
pub struct DirectManager {
    /// To the task.
    orders: mpsc::UnboundedSender<Order>,
}

impl ServiceManager for DirectManager {
    fn kind(&self) -> Kind {
        Kind::Direct
    }

    fn order(&self, order: Order) {
        if self.orders.send(order).is_err() {
            tracing::error!("the direct manager has ended; an order is lost");
        }
    }
}

/// Starts the direct manager as a task of the current `LocalSet`.
///
/// [`Order::Adopt`]s that are given before the caller next awaits are part of the first snapshot.
pub fn spawn(setup: Setup, events: Events) -> DirectManager {
    let (orders, receiver) = mpsc::unbounded_channel();
    tokio::task::spawn_local(Actor::run(setup, receiver, events));
    DirectManager { orders }
}

/// What the direct manager can do on this host, and why not: for `berthctl doctor`.
#[must_use]
pub fn capabilities(root: &Root) -> Vec<(&'static str, Result<String, String>)> {
    vec![
        ("cgroups", cgroups(root)),
        ("pidfd", kernel::pidfd(std::process::id()).map(|_| "pidfd_open".into()).map_err(|e| e.to_string())),
        ("start time", own_start_time(root)),
        ("logs", logs(root)),
    ]
}

/// Whether a container can have a cgroup: by making one.
fn cgroups(root: &Root) -> Result<String, String> {
    let cgroups = Cgroups::of(root);
    let probe: Name = "doctor-probe".parse().map_err(|error| format!("{error}"))?;
    let home = cgroups.make(&probe)?;
    home.remove().map_err(|error| format!("{}: cannot be removed: {error}", home.path()))?;
    cgroups.remove_parent();
    Ok(cgroups.describe())
}

/// Whether a process can be told from a later one of its number.
fn own_start_time(root: &Root) -> Result<String, String> {
    let time = process::start_time(root, std::process::id());
    time.map(|_| "/proc/PID/stat".into())
        .ok_or_else(|| format!("{}: not readable", root.at("/proc/self/stat").display()))
}

/// Whether containers have somewhere to write.
fn logs(root: &Root) -> Result<String, String> {
    let directory = root.at("/var/log/berth");
    fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let writable = rustix::fs::access(&directory, rustix::fs::Access::WRITE_OK);
    writable.map_err(|error| format!("{}: {error}", directory.display()))?;
    Ok(directory.display().to_string())
}
