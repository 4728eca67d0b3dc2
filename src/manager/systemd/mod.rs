//! systemd as the service manager, over the system bus. The only place that speaks D-Bus.
//!
//! A bus that is away is a state, not a failure: orders wait, [`Event::Away`] says why, and once it is back a
//! [`Event::Snapshot`] tells what became of everything.

/// Settings as files.
pub mod drop_in;
/// Methods of PID 1.
mod proxy;
/// One connection, from connect to loss.
mod session;
/// Properties of units.
mod unit;

use std::time::Duration;

use tokio::sync::mpsc;

use super::{Event, Events, Kind, Order, ServiceManager};
use crate::root::Root;

/// Longest pause between two attempts to reach the bus.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// systemd.
#[derive(Debug)]
pub struct Systemd {
    /// To the task.
    orders: mpsc::UnboundedSender<Order>,
}

impl ServiceManager for Systemd {
    fn kind(&self) -> Kind {
        Kind::Systemd
    }

    fn order(&self, order: Order) {
        // The task ends with the event loop alone; then there is nobody left to disappoint.
        let _ = self.orders.send(order);
    }
}

/// Begins to talk to systemd. Must be called within a `LocalSet`.
pub fn spawn(root: Root, events: Events) -> Systemd {
    let (orders, inbox) = mpsc::unbounded_channel();
    tokio::task::spawn_local(serve(root, events, inbox));
    Systemd { orders }
}

/// Connects again and again.
async fn serve(root: Root, events: Events, mut orders: mpsc::UnboundedReceiver<Order>) {
    let mut pause = Duration::from_millis(50);
    loop {
        let error = match session::Session::open(&root, &events).await {
            Ok(session) => {
                pause = Duration::from_millis(50);
                match session.run(&mut orders).await {
                    Ok(()) => return,
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        let _ = events.send(Event::Away(crate::error::chain(&error)));
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}
