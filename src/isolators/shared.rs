//! What isolators share for as long as berthd lives: what all specs ask for, and what each keeps to itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use super::{cgroups_net_cls, disk};
use crate::{
    root::Root,
    spec::{Catalog, Handle, Name},
};

/// See the module. Locks are held for the time of a few system calls.
#[derive(Debug)]
pub struct Shared {
    /// What the specs ask for.
    specs: Mutex<Arc<Specs>>,
    /// Handles, and the hierarchy that carries them.
    pub(super) net_cls: cgroups_net_cls::State,
    /// What containers take of the disk.
    pub(super) disk: disk::State,
    /// Project IDs of directories.
    pub(super) projects: disk::Pool,
}

/// What all specs of a host ask for, as far as one start must know of others.
#[derive(Debug, Default)]
pub struct Specs {
    /// Containers that have files.
    pub names: BTreeSet<Name>,
    /// Handles that are asked for by number.
    pub handles: BTreeMap<Handle, Name>,
}

impl Shared {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(root: &Root) -> Self {
        let (net_cls, projects) = (cgroups_net_cls::State::new(root), disk::Pool::new(root));
        Self { specs: Mutex::default(), net_cls, disk: disk::State::default(), projects }
    }

    /// Takes in what the files say now.
    pub fn note_specs(&self, catalog: &Catalog) {
        let claims = catalog.containers.values().filter_map(|loaded| {
            let claim = loaded.claim.as_ref()?;
            Some((claim.handle, loaded.name.clone()))
        });
        let specs = Specs { names: catalog.containers.keys().cloned().collect(), handles: claims.collect() };
        *self.specs.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(specs);
    }

    /// What the files said when last looked at.
    pub(super) fn specs(&self) -> Arc<Specs> {
        Arc::clone(&self.specs.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
