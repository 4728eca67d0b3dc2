//! One container, as berthd holds it in memory.

use std::{
    cell::{Cell, RefCell},
    time::Instant,
};

use tokio::sync::{Mutex, Notify, oneshot};

use super::settings::Said;
use crate::{
    image::Digest,
    manager::{JobError, JobVerb, Unit},
    observe::Lifecycle,
    plan::UnitSettings,
    spec::Name,
    state::{Record, Versions},
};

/// Who waits for the end of a job.
pub type Waiter = oneshot::Sender<Result<(), JobError>>;

/// A container.
#[derive(Debug)]
pub struct Slot {
    /// Its name.
    pub name: Name,
    /// Held by whoever prepares or cleans up, so that the two never meet.
    pub turn: Mutex<()>,
    /// What was done. Its file is written before this changes.
    pub record: RefCell<Record>,
    /// What the service manager sees.
    pub unit: RefCell<Unit>,
    /// The settings last handed to the service manager; none if they must be handed over again.
    pub applied: RefCell<Option<UnitSettings>>,
    /// What its image says of its unit, when last looked at.
    pub said: RefCell<Option<Said>>,
    /// The job under way.
    pub job: RefCell<Option<PendingJob>>,
    /// Whether a launcher is being served.
    pub launching: Cell<bool>,
    /// The start of which a launcher has the plan and is about to tell of the child.
    pub expected: RefCell<Option<String>>,
    /// Whether it ever had a file while we looked: it is not a name that somebody mistyped.
    pub had_file: Cell<bool>,
    /// Whether its record could not be written, and is to be tried again.
    pub unsaved: Cell<bool>,
    /// When it is looked at.
    pub watch: RefCell<Watch>,
    /// Whether what an edit changed is being made true.
    pub updating: Cell<bool>,
    /// Why what an edit changed could not be made true, as last told.
    pub not_updated: RefCell<String>,
    /// Its state when last reported.
    pub reported: RefCell<Reported>,
    /// The images that it was started from. Their file is written before this changes.
    pub versions: RefCell<Option<Versions>>,
    /// Held by whoever moves it to another image, or notes which one it has.
    pub switching: Mutex<()>,
    /// The image that was last told to be pending.
    pub pending: RefCell<Option<Digest>>,
    /// Its unit, or a deed of ours on it, has changed; for the one that moves it.
    pub news: Notify,
}

/// The state that was last told to the journal.
#[derive(Debug, Clone, Default)]
pub struct Reported {
    /// None before the first look: what was so before berthd came is no news.
    pub state: Option<Lifecycle>,
    /// Since when, RFC 3339, UTC.
    pub since: Option<String>,
    /// In which start.
    pub invocation: Option<String>,
}

/// When a run is looked at.
#[derive(Debug, Default)]
pub struct Watch {
    /// Which run.
    pub invocation: String,
    /// When next; none while it is.
    pub due: Option<Instant>,
}

/// A job that the service manager has.
#[derive(Debug)]
pub struct PendingJob {
    /// Which.
    pub token: u64,
    /// What it does.
    pub verb: JobVerb,
    /// The digest of the spec that is acted on with it.
    pub digest: Option<String>,
    /// An operator who waits.
    pub waiter: Option<Waiter>,
}

impl Slot {
    /// A container with this record.
    #[must_use]
    pub fn new(record: Record) -> Self {
        Self {
            name: record.name.clone(),
            turn: Mutex::new(()),
            record: RefCell::new(record),
            unit: RefCell::default(),
            applied: RefCell::default(),
            said: RefCell::default(),
            job: RefCell::default(),
            launching: Cell::new(false),
            expected: RefCell::default(),
            had_file: Cell::new(false),
            unsaved: Cell::new(false),
            watch: RefCell::default(),
            updating: Cell::new(false),
            not_updated: RefCell::default(),
            reported: RefCell::default(),
            versions: RefCell::default(),
            switching: Mutex::new(()),
            pending: RefCell::default(),
            news: Notify::new(),
        }
    }

    /// Whether a deed of ours is under way.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.launching.get() || self.job.borrow().is_some()
    }
}
