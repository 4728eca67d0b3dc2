//! One container, as berthd holds it in memory.

use std::cell::{Cell, RefCell};

use tokio::sync::{Mutex, oneshot};

use crate::{
    manager::{JobError, JobVerb, Unit},
    observe::Lifecycle,
    plan::UnitSettings,
    spec::Name,
    state::Record,
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
    /// The job under way.
    pub job: RefCell<Option<PendingJob>>,
    /// Whether a launcher is being served.
    pub launching: Cell<bool>,
    /// Its state when last reported, and since when.
    pub reported: RefCell<(Lifecycle, Option<String>)>,
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
            job: RefCell::default(),
            launching: Cell::new(false),
            reported: RefCell::new((Lifecycle::Inactive, None)),
        }
    }

    /// Whether a deed of ours is under way.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.launching.get() || self.job.borrow().is_some()
    }
}
