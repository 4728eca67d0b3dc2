//! Limits that the kernel sees passed: it tells at once, where others would be looked at on an interval only.

use std::{io, rc::Rc, sync::Arc, time::Duration};

use tokio::sync::Notify;

use super::{Supervisor, slot::Slot};
use crate::{isolators::ORDER, sys::dquot::Warnings};

/// The pause after a warning: a writer who goes on is warned of at every write.
const PAUSE: Duration = Duration::from_millis(100);

/// Listens for ever. Where the kernel does not tell, the interval remains.
pub(super) async fn serve(supervisor: Rc<Supervisor>) {
    let passed = Arc::new(Notify::new());
    if let Err(error) = listen(Arc::clone(&passed)) {
        tracing::debug!("the kernel does not tell of quotas: {}", crate::error::reason(&error));
        return;
    }
    loop {
        passed.notified().await;
        supervisor.enforce_watched_limits();
        tokio::time::sleep(PAUSE).await;
    }
}

/// Has a thread wait for the kernel.
fn listen(passed: Arc<Notify>) -> io::Result<()> {
    let warnings = Warnings::listen()?;
    let wait = move || {
        while warnings.wait().is_ok() {
            passed.notify_one();
        }
    };
    std::thread::Builder::new().name("berth-quotas".to_owned()).spawn(wait).map(drop)
}

impl Supervisor {
    /// Judges all that may be ended for a limit: to ask the kernel what they take costs next to nothing.
    fn enforce_watched_limits(&self) {
        let slots: Vec<Rc<Slot>> = self.slots.borrow().values().cloned().collect();
        for slot in slots {
            let is_watched = |isolator: &&dyn crate::isolators::Isolator| {
                slot.record.borrow().run.as_ref().is_some_and(|run| isolator.watches(&run.plan))
            };
            if ORDER.iter().any(is_watched) {
                self.enforce_limits(&slot);
            }
        }
    }
}
