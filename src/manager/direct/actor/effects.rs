//! What the state machines want done: launchers, signals, kills, cgroups.

use std::{collections::BTreeSet, time::Instant};

use super::{
    super::{
        cgroup::Home,
        kernel,
        process::{self, Handle},
        unit::{Effect, Input},
    },
    Actor, FIRST_RETRY, LOOKS, REMOVALS, Role, Watched,
};
use crate::{
    launch::stop::{self, StopAction},
    spec::Name,
};

impl Actor {
    /// Does one effect; what follows at once is the next input.
    pub(super) fn perform(&mut self, name: &Name, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Spawn => return Some(self.launch(name)),
            Effect::Signal => return self.signal(name),
            Effect::Kill => return self.kill(name).then_some(Input::Empty),
            Effect::Clean => self.clean(name),
            Effect::Show(unit) => self.show_as(name, *unit),
            Effect::Done(id, result) => self.job_done(id, result),
        }
        None
    }

    /// Starts the launcher in the cgroup of its container.
    pub(super) fn launch(&mut self, name: &Name) -> Input {
        for old in self.watched.values_mut().filter(|old| old.name == *name) {
            old.role = Role::Left; // of a run that not even SIGKILL has ended
        }
        let home = self.make_home(name);
        let started = process::invocation(&self.setup.root).and_then(|invocation| {
            let handle = process::spawn(&self.setup, name, &invocation)?;
            Ok((invocation, handle))
        });
        let (invocation, handle) = match started {
            Ok(started) => started,
            Err(error) => {
                self.keep(name, home);
                return Input::SpawnFailed(format!("{}: {error}", self.setup.launcher.display()));
            }
        };
        if let Some(Err(reason)) = home.as_ref().map(|home| home.add(handle.pid)) {
            tracing::warn!("{name}: its processes are not all in its cgroup: {reason}");
        }
        let cgroup = home.as_ref().map(|home| home.path().to_owned());
        self.keep(name, home);
        if self.watch(name, Role::Launcher, handle) {
            Input::Spawned { invocation, cgroup }
        } else {
            Input::SpawnFailed("its processes cannot be watched".into())
        }
    }

    /// Makes the cgroup, or says once why not. Whoever is in it from a run that nobody knows is killed.
    pub(super) fn make_home(&mut self, name: &Name) -> Option<Home> {
        match self.cgroups.make(name) {
            Ok(home) => {
                let left = home.members();
                if !left.is_empty() {
                    tracing::warn!("{name}: {} processes of an earlier run are killed", left.len());
                    home.kill();
                }
                Some(home)
            }
            Err(reason) => {
                if !std::mem::replace(&mut self.homeless, true) {
                    tracing::warn!("containers run without cgroups of their own here: {reason}");
                }
                None
            }
        }
    }

    /// Keeps the cgroup with its unit.
    pub(super) fn keep(&mut self, name: &Name, home: Option<Home>) {
        if let Some(entry) = self.units.get_mut(name) {
            entry.home = home;
            entry.removal = None;
            (entry.look, entry.looks) = (None, 0);
        }
    }

    /// Sends the stop signal, if the main process notices it.
    pub(super) fn signal(&mut self, name: &Name) -> Option<Input> {
        let signal = self.units.get(name)?.machine.settings.kill_signal();
        let main = &self.watched.get(&self.find(name, Role::Main)?)?.handle;
        match stop::observe(main.pid, signal) {
            Ok(StopAction::Kill) => return Some(Input::Deaf),
            Ok(StopAction::Signal) => {}
            Err(_) => return None, // it has just ended
        }
        match kernel::send(&main.fd, signal.0) {
            Ok(()) => None,
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => None,
            Err(error) => {
                tracing::warn!("{name}: signal {} cannot be sent, it is killed: {error}", signal.0);
                Some(Input::Deaf)
            }
        }
    }

    /// Kills all that is left of a unit, and waits for it; whether there is nothing to wait for.
    pub(super) fn kill(&mut self, name: &Name) -> bool {
        for watched in self.watched.values().filter(|watched| watched.name == *name) {
            kernel::send(&watched.handle.fd, crate::spec::Signal::KILL.0).ok(); // has ended, and is about to say so
        }
        let Some(entry) = self.units.get(name) else { return true };
        let (left, unsure) = match (&entry.home, &entry.machine.view.invocation) {
            (Some(home), _) => (home.members(), false),
            (None, Some(invocation)) => process::by_invocation(&self.setup.root, invocation),
            (None, None) => (Vec::new(), false),
        };
        let known: BTreeSet<u32> = self.watched.values().map(|watched| watched.handle.pid).collect();
        let handles: Vec<_> =
            left.iter().filter(|pid| !known.contains(pid)).filter_map(|&pid| Handle::open(pid).ok()).collect();
        match &entry.home {
            Some(home) if !left.is_empty() => home.kill(),
            _ => process::kill_all(&left),
        }
        for handle in handles {
            self.watch(name, Role::Left, handle);
        }
        !(self.is_watched(name) || unsure && self.look_later(name))
    }

    /// Looks again in a moment for who is left, a few times; whether it does.
    pub(super) fn look_later(&mut self, name: &Name) -> bool {
        let Some(entry) = self.units.get_mut(name).filter(|entry| entry.looks < LOOKS) else { return false };
        entry.looks += 1;
        entry.look = Some(Instant::now() + FIRST_RETRY);
        true
    }

    /// Removes a unit's cgroup; later, if somebody is still dying in it.
    pub(super) fn clean(&mut self, name: &Name) {
        let Some(entry) = self.units.get_mut(name) else { return };
        let tries = entry.removal.take().map_or(0, |(_, tries)| tries) + 1;
        let Some(Err(error)) = entry.home.as_ref().map(Home::remove) else {
            entry.home = None;
            return;
        };
        if tries < REMOVALS {
            entry.removal = Some((Instant::now() + FIRST_RETRY * 2u32.pow(tries - 1), tries));
        } else {
            tracing::warn!("{name}: its cgroup stays: {error}");
        }
    }

    /// Waits for the end of a process that we started; what cannot be watched does not run.
    pub(super) fn watch(&mut self, name: &Name, role: Role, handle: Handle) -> bool {
        let unwatched = self.try_watch(name, role, handle).err();
        if let Some(handle) = &unwatched {
            kernel::send(&handle.fd, crate::spec::Signal::KILL.0).ok(); // has ended already
        }
        unwatched.is_none()
    }

    /// Waits for the end of a process, or gives it back.
    pub(super) fn try_watch(&mut self, name: &Name, role: Role, handle: Handle) -> Result<(), Handle> {
        self.last += 1;
        if let Err(error) = self.watcher.add(&handle.fd, self.last) {
            tracing::error!("{name}: process {} cannot be watched: {error}", handle.pid);
            return Err(handle);
        }
        self.watched.insert(self.last, Watched { name: name.clone(), role, handle });
        Ok(())
    }
}
