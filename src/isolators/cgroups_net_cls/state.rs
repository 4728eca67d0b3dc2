//! What berthd keeps about handles while it lives.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
};

use super::hierarchy::Hierarchy;
use crate::{host::mounts::cgroup2, root::Root, spec::Handle, state::Ledger};

/// See the module.
#[derive(Debug)]
pub struct State {
    /// Where things lie.
    root: Root,
    /// Who holds which handle; opened when it is first needed, so that a host without handles has no such directory.
    ledger: Mutex<Option<Ledger>>,
    /// The v1 hierarchy, once it was found.
    hierarchy: Mutex<Option<Hierarchy>>,
    /// The mount of cgroup2, once it was looked for.
    cgroup2: OnceLock<Option<PathBuf>>,
    /// Handles of others that the journal has been told of.
    reported: Mutex<BTreeSet<Handle>>,
}

impl State {
    /// Knows nothing yet.
    pub fn new(root: &Root) -> Self {
        Self {
            root: root.clone(),
            ledger: Mutex::default(),
            hierarchy: Mutex::default(),
            cgroup2: OnceLock::new(),
            reported: Mutex::default(),
        }
    }

    /// Locks the ledger and works with it.
    ///
    /// # Errors
    /// It cannot be opened, or what `work` says.
    pub fn with_ledger<T>(&self, work: impl FnOnce(&mut Ledger) -> io::Result<T>) -> io::Result<T> {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let open = match ledger.take() {
            Some(open) => open,
            None => Ledger::open(self.root.handles())?,
        };
        work(ledger.insert(open))
    }

    /// The v1 hierarchy, if it is mounted.
    pub fn hierarchy(&self) -> Option<Hierarchy> {
        let mut known = self.hierarchy.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            *known = Hierarchy::find(&self.root);
        }
        known.clone()
    }

    /// The v1 hierarchy, mounted if need be: once, also where many containers start together, since to mount it where it
    /// is mounted already is EBUSY.
    ///
    /// # Errors
    /// mkdir(2) or mount(2).
    pub fn mounted_hierarchy(&self) -> io::Result<Hierarchy> {
        let mut known = self.hierarchy.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some(hierarchy) => Ok(hierarchy.clone()),
            None => Ok(known.insert(Hierarchy::find_or_mount(&self.root)?).clone()),
        }
    }

    /// The directory of a cgroup2 cgroup; none where there is no cgroup2.
    pub fn cgroup2(&self, path: &str) -> Option<PathBuf> {
        let mount = self.cgroup2.get_or_init(|| cgroup2(&self.root)).as_deref()?;
        Some(mount.join(Path::new(path).strip_prefix("/").unwrap_or(Path::new(path))))
    }

    /// Whether the journal is told of a stranger's handle for the first time.
    pub fn is_news(&self, handle: Handle) -> bool {
        self.reported.lock().unwrap_or_else(PoisonError::into_inner).insert(handle)
    }
}
