//! What berthd keeps of the images that containers were started from.

use std::{io, rc::Rc};

use super::{Supervisor, slot::Slot, tags::running_image};
use crate::{
    image::{Error, Source, Store, Version},
    journal,
    state::{Versions, versions},
};

impl Supervisor {
    /// Takes up what is known. A move that a reboot broke off has failed: whether the host went down because of it nobody
    /// knows.
    pub(super) fn remember_versions(&self) {
        let (all, damaged) = versions::load(self.root()).unwrap_or_else(|error| {
            let path = self.root().versions();
            (Vec::new(), vec![format!("cannot read {}: {}", path.display(), crate::error::reason(&error))])
        });
        damaged.iter().for_each(|line| journal::Event::RecordDamaged.log(line));
        for mut known in all {
            if known.attempt.as_ref().is_some_and(|attempt| attempt.boot_id != self.host.boot_id) {
                known = known.failed();
                let what = "was about to move to another image when the host went down; it keeps the one it had";
                journal::Event::ImageRolledBack.log_for(&known.name, what);
                if let Err(error) = known.save(self.root()) {
                    tracing::error!("cannot write the images of {}: {}", known.name, crate::error::reason(&error));
                }
            }
            let slot = self.slot(&known.name);
            *slot.versions.borrow_mut() = Some(known);
        }
    }

    /// Carries on with what an earlier berthd was about.
    pub(super) fn resume_versions(self: &Rc<Self>) {
        let slots: Vec<Rc<Slot>> = self.slots.borrow().values().cloned().collect();
        for slot in slots {
            let moving = slot.versions.borrow().as_ref().is_some_and(|versions| versions.attempt.is_some());
            if moving {
                let this = Rc::clone(self);
                tokio::task::spawn_local(async move { this.resume_switch(&slot).await });
            } else if slot.record.borrow().run.as_ref().is_some_and(|run| run.process.is_some()) {
                self.note_version_later(&slot);
            }
        }
    }

    /// Notes which image a container runs with, where that is news, without keeping its launcher waiting.
    pub(super) fn note_version_later(self: &Rc<Self>, slot: &Rc<Slot>) {
        self.tell_pending(slot);
        let Some((source, digest)) = running_image(slot) else { return };
        let known = |versions: &Versions| versions.source == source && versions.current.digest == digest;
        if slot.versions.borrow().as_ref().is_some_and(known) {
            return;
        }
        let (this, slot) = (Rc::clone(self), Rc::clone(slot));
        tokio::task::spawn_local(async move {
            let _turn = slot.switching.lock().await;
            this.note_version(&slot).await;
        });
    }

    /// Notes which image a container runs with. The caller has the turn of its moves.
    pub(super) async fn note_version(&self, slot: &Rc<Slot>) {
        let Some((source, digest)) = running_image(slot) else { return };
        let store = Store::open(self.root());
        let wanted = (source.clone(), digest.clone());
        let work = tokio::task::spawn_blocking(move || {
            let version = store.version(&wanted.0, &wanted.1)?;
            store.touch(&wanted.0)?;
            Ok::<_, Error>(version)
        });
        let version = match work.await {
            Ok(Ok(Some(version))) => version,
            // The source has moved on twice meanwhile.
            Ok(Ok(None)) => return tracing::debug!("{}: {digest} is no version of {source} any more", slot.name),
            Ok(Err(error)) => return tracing::warn!("{}: {error}", slot.name),
            Err(error) => return tracing::warn!("{}: noting its image broke off: {error}", slot.name),
        };
        let before = slot.versions.borrow().clone().filter(|known| known.source == source);
        let after = match before.clone() {
            Some(known) => known.started(version),
            None => Versions::first(slot.name.clone(), source, version),
        };
        if before.as_ref() != Some(&after)
            && let Err(error) = self.keep_versions(slot, after).await
        {
            tracing::error!("cannot write the images of {}: {}", slot.name, crate::error::reason(&error));
        }
    }

    /// Puts on the disk what is known of a container's images, and only then holds it.
    pub(super) async fn keep_versions(&self, slot: &Rc<Slot>, versions: Versions) -> io::Result<()> {
        // It was forgotten meanwhile.
        if !self.is_registered(slot) {
            return Ok(());
        }
        let (root, written) = (self.root().clone(), versions.clone());
        tokio::task::spawn_blocking(move || written.save(&root)).await.map_err(io::Error::other)??;
        *slot.versions.borrow_mut() = Some(versions);
        self.tell_pending(slot);
        self.changed.notify_one();
        Ok(())
    }

    /// Whether a container has not been forgotten meanwhile.
    pub(super) fn is_registered(&self, slot: &Rc<Slot>) -> bool {
        self.slots.borrow().get(&slot.name).is_some_and(|present| Rc::ptr_eq(present, slot))
    }

    /// Forgets the images of a container that is gone, or that never ran.
    pub(super) fn forget_versions(&self, slot: &Slot) {
        *slot.versions.borrow_mut() = None;
        if let Err(error) = versions::remove(self.root(), &slot.name) {
            tracing::error!("cannot forget the images of {}: {}", slot.name, crate::error::reason(&error));
        }
        // What nothing uses any more may be removed.
        self.imported.notify_one();
    }

    /// What a source is in the store, if all of it is there.
    pub(super) async fn present_version(&self, source: &Source) -> Result<Option<Version>, String> {
        let (store, wanted) = (Store::open(self.root()), source.clone());
        let work = tokio::task::spawn_blocking(move || {
            let tag = store.tag(&wanted)?;
            Ok::<_, Error>(tag.map(|tag| tag.current).filter(|version| store.image_of(&wanted, version).is_some()))
        });
        let found = work.await.map_err(|error| format!("reading the store broke off: {error}"))?;
        let version = found.map_err(|error| error.to_string())?;
        // The news of it may be on its way yet.
        if let Some(version) = &version {
            self.tags.borrow_mut().insert(source.clone(), version.digest.clone());
        }
        Ok(version)
    }
}
