//! What was found out of what containers take, for as long as berthd lives.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use crate::{plan::Tracked, spec::Name};

/// See the module. The lock is held for no longer than a look.
#[derive(Debug, Default)]
pub struct State {
    /// By container.
    runs: Mutex<BTreeMap<Name, Known>>,
}

/// What is known of a run.
#[derive(Debug)]
struct Known {
    /// Which.
    invocation: String,
    /// What it takes; none before the first look.
    taken: Option<Taken>,
    /// How it was at its last look, as far as that could be found out.
    seen: Option<Seen>,
    /// Ends a look that is under way.
    stop: Arc<AtomicBool>,
}

/// A run at its last look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// What its processes had run by then, in microseconds.
    pub(super) ran: u64,
    /// When.
    pub(super) at: Instant,
}

/// What a run takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// By volume, the sandbox under none; what could not be found out is not in it.
    pub used: BTreeMap<Option<PathBuf>, Used>,
    /// Files and directories that could not be looked at.
    pub unread: u64,
}

/// What is in use of a limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Allocated blocks, in bytes.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

impl Taken {
    /// What of it is in use.
    #[must_use]
    pub fn of(&self, tracked: &Tracked) -> Option<Used> {
        self.used.get(&tracked.volume.as_ref().map(|volume| volume.path.clone())).copied()
    }
}

impl State {
    /// All that is known.
    fn runs(&self) -> MutexGuard<'_, BTreeMap<Name, Known>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A look at a run begins. What ends it early.
    pub fn begin(&self, name: &Name, invocation: &str) -> Arc<AtomicBool> {
        let mut runs = self.runs();
        if let Some(known) = runs.get(name).filter(|known| known.invocation == invocation) {
            return Arc::clone(&known.stop);
        }
        let known = Known { invocation: invocation.to_owned(), taken: None, seen: None, stop: Arc::default() };
        let stop = Arc::clone(&known.stop);
        if let Some(earlier) = runs.insert(name.clone(), known) {
            earlier.stop.store(true, Ordering::Relaxed);
        }
        stop
    }

    /// What a look has found, and how the run was when it began. Of a run that has ended meanwhile nothing is kept.
    pub(super) fn note(&self, name: &Name, invocation: &str, taken: Taken, seen: Option<Seen>) {
        if let Some(known) = self.runs().get_mut(name).filter(|known| known.invocation == invocation) {
            (known.taken, known.seen) = (Some(taken), seen);
        }
    }

    /// How a run was at its last look.
    pub(super) fn seen(&self, name: &Name, invocation: &str) -> Option<Seen> {
        self.runs().get(name).filter(|known| known.invocation == invocation)?.seen
    }

    /// What a run takes, as far as it was looked at.
    #[must_use]
    pub fn taken(&self, name: &Name, invocation: &str) -> Option<Taken> {
        self.runs().get(name).filter(|known| known.invocation == invocation)?.taken.clone()
    }

    /// A run has ended.
    pub fn forget(&self, name: &Name, invocation: &str) {
        let mut runs = self.runs();
        if runs.get(name).is_some_and(|known| known.invocation == invocation)
            && let Some(known) = runs.remove(name)
        {
            known.stop.store(true, Ordering::Relaxed);
        }
    }
}
