//! A process that enters a container (`berthctl exec`), seen from berthd: it is told the run, it joins the control
//! groups, every isolator attaches it as it did the launcher.
//!
//! The process joins the control groups itself. Who moves another process between cpusets needs CAP_SYS_NICE if that
//! one has more capabilities than he (cpuset_can_attach in the kernel; tried), and berthd has few; a process that
//! writes its own "0" needs nothing that root has not, and cannot be mistaken for a later one of its number. It joins
//! before the isolators act, since some act on the cgroup that they find a process in.

use std::{io, rc::Rc, sync::Arc};

use super::{Supervisor, listen::Peer, slot::Slot};
use crate::{
    host::cgroups,
    isolators::{Container, Isolator},
    manager::Process,
    observe::Lifecycle,
    protocol::{Entrance, Reply, Report},
    root::Root,
    spec::Name,
    state::Run,
};

impl Supervisor {
    /// Serves an entering process from its request until it may enter.
    pub(super) async fn enter(self: &Rc<Self>, peer: &mut Peer, name: &Name) -> io::Result<()> {
        let (slot, run, main) = match self.present_run(name) {
            Ok(present) => present,
            Err(message) => return peer.say(&Reply::Error { message }).await,
        };
        let entrance = Entrance { plan: run.plan.clone(), invocation: run.invocation.clone(), main };
        peer.say(&Reply::Enter { entrance: Box::new(entrance) }).await?;
        match peer.hear::<Report>().await? {
            Some(Report::Joined) => {}
            Some(_) => return Err(io::ErrorKind::InvalidData.into()),
            None => return Ok(()),
        }
        match self.attach(peer.pid, &slot, run, main).await {
            Ok(()) => peer.say(&Reply::Go).await,
            Err(message) => peer.say(&Reply::Error { message }).await,
        }
    }

    /// The run of a container that one can enter: its main process lives. That, and not what the service manager last
    /// said, decides: its news may be on the way, or its bus away.
    fn present_run(&self, name: &Name) -> Result<(Rc<Slot>, Run, Process), String> {
        let slot = self.container_of(name).ok_or_else(|| self.no_such_container(name))?;
        let run = slot.record.borrow().run.clone();
        let main = run.as_ref().and_then(|run| self.main_of(&slot, run)).filter(|main| self.lives(*main));
        match (run, main) {
            (Some(run), Some(main)) => Ok((slot, run, main)),
            (run, _) => Err(absence(name, self.lifecycle(&slot), run.is_some())),
        }
    }

    /// The main process of a run. Where no berthd heard of the armed child, the service manager knows it.
    fn main_of(&self, slot: &Slot, run: &Run) -> Option<Process> {
        let unit = slot.unit.borrow();
        let told = unit.main_pid.filter(|_| unit.invocation.as_ref() == Some(&run.invocation));
        run.process.or_else(|| self.process(told?).ok())
    }

    /// Has every isolator attach an entering process, under the container's turn: a cleanup waits until that is done.
    async fn attach(self: &Rc<Self>, pid: Option<u32>, slot: &Rc<Slot>, run: Run, main: Process) -> Result<(), String> {
        let _turn = slot.turn.lock().await;
        let present = slot.record.borrow().run.as_ref().map(|run| run.invocation.clone());
        if present.as_ref() != Some(&run.invocation) || !self.lives(main) {
            return Err(absence(&slot.name, Lifecycle::Running, true));
        }
        let pid = pid.filter(|pid| *pid != 0).ok_or("it comes from another pid namespace than berthd's")?;
        let (host, config, shared) = (self.host.clone(), self.config(), Arc::clone(&self.shared));
        let (enabled, name) = (self.enabled(), slot.name.clone());
        let work = tokio::task::spawn_blocking(move || {
            if !is_together(&host.root, pid, main.pid) {
                return Err("the entering process is not in its control group".to_owned());
            }
            let container = Container {
                name: &name,
                plan: &run.plan,
                sandbox: &run.sandbox,
                host: &host,
                config: &config,
                shared: &shared,
                cgroup: run.cgroup.as_deref(),
            };
            let attach = |isolator: &&dyn Isolator| isolator.attach(&container, pid);
            enabled.iter().try_for_each(attach).map_err(|failure| failure.message)
        });
        let attached = work.await.map_err(|error| format!("attaching broke off: {error}"));
        tracing::debug!(BERTH_CONTAINER = slot.name.as_str(), "{}: process {pid} enters: {attached:?}", slot.name);
        attached?
    }
}

/// Whether two processes are in one cgroup of cgroup2, on which isolators act; also where there is no cgroup2.
fn is_together(root: &Root, one: u32, other: u32) -> bool {
    let group = |pid| cgroups::of_process(root, pid).ok();
    group(one) == group(other)
}

/// Why a container cannot be entered, by its state, and what to do.
fn absence(name: &Name, state: Lifecycle, recorded: bool) -> String {
    match state {
        Lifecycle::Running if !recorded => {
            format!("the record of its run was lost; restart it ('berthctl restart {name}')")
        }
        Lifecycle::Running => "its program has just ended".to_owned(),
        Lifecycle::Starting => "it is starting; try again in a moment".to_owned(),
        Lifecycle::Stopping => "it is stopping".to_owned(),
        Lifecycle::Restarting => see(name, "restarting"),
        Lifecycle::Masked => see(name, "masked"),
        Lifecycle::Invalid => see(name, "invalid"),
        Lifecycle::Failed => see(name, "failed"),
        Lifecycle::Inactive => start(name, "inactive"),
        Lifecycle::Stopped => start(name, "stopped"),
        Lifecycle::Exited => start(name, "exited"),
    }
}

/// A state with a reason.
fn see(name: &Name, state: &str) -> String {
    format!("it is {state}; 'berthctl status {name}' says why")
}

/// A state that an operator ends.
fn start(name: &Name, state: &str) -> String {
    format!("it is {state}; start it first ('berthctl start {name}')")
}
