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

use std::path::PathBuf;

use tokio::sync::mpsc;

use self::actor::Actor;
use crate::{
    manager::{Events, Kind, Order, ServiceManager},
    root::Root,
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
