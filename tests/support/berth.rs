//! A test host with berth installed as a distribution installs it: programs, units, group, journal catalog; and
//! what a user of it does and looks at.
//!
//! Whoever claims that nothing happens calls [`Berth::barrier`] first: when it returns, berthd has read and acted on
//! every file that was changed before.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::host::{BootOptions, Host, Suite};
use super::inside::Output;

/// Where an administrator's specs lie.
pub const SPECS: &str = "/etc/berth/containers";

/// After this long something that takes milliseconds has failed.
pub const SOON: Duration = Duration::from_secs(20);

/// A program that never ends by itself and catches no signal.
pub const SLEEP: &str = "command = [\"/bin/sleep\", \"infinity\"]\n";

/// Everything that the package brings, on the disk before the first boot. The programs are bound, so a boot sees the
/// last build.
pub fn options() -> BootOptions {
    let ours = |path: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let mut options = BootOptions::default()
        .bind(env!("CARGO_BIN_EXE_berthd"), "/usr/sbin/berthd")
        .bind(env!("CARGO_BIN_EXE_berthctl"), "/usr/bin/berthctl")
        .bind(env!("CARGO_BIN_EXE_berth-launch"), "/usr/libexec/berth/berth-launch")
        .bind(env!("CARGO_BIN_EXE_berth-pull"), "/usr/libexec/berth/berth-pull")
        .copy(ours("packaging/sysusers.d/berth.conf"), "/usr/lib/sysusers.d/berth.conf")
        .copy(ours("packaging/tmpfiles.d/berth.conf"), "/usr/lib/tmpfiles.d/berth.conf")
        .copy(ours("packaging/berth.catalog"), "/usr/lib/systemd/catalog/berth.catalog");
    for unit in
        ["berth.slice", "berth@.service", "berthd.service", "berthd.socket", "berth-pull.socket", "berth-pull@.service"]
    {
        options = options.copy(ours("units").join(unit), Path::new("/usr/lib/systemd/system").join(unit));
    }
    options
}

/// The unit of a container.
pub fn unit(name: &str) -> String {
    format!("berth@{name}.service")
}

/// A host with berthd enabled and running.
#[derive(Debug)]
pub struct Berth(Host);

impl Deref for Berth {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.0
    }
}

impl DerefMut for Berth {
    fn deref_mut(&mut self) -> &mut Host {
        &mut self.0
    }
}

/// A trial's share of a host. The specs that the trial has dropped go with it: a reload of systemd takes the longer the
/// more units there are.
#[derive(Debug)]
pub struct Share(Arc<Berth>);

impl Deref for Share {
    type Target = Berth;

    fn deref(&self) -> &Berth {
        &self.0
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        for spec in DROPPED.take() {
            // The trial may have removed it itself.
            let _ = self.files().remove(spec);
        }
    }
}

thread_local! {
    /// The specs that this thread's trial has dropped.
    static DROPPED: RefCell<BTreeSet<PathBuf>> = const { RefCell::new(BTreeSet::new()) };
}

impl Berth {
    /// Boots a host and installs berth, as `packaging/after-install` and the administrator after it do.
    #[track_caller]
    pub fn boot(suite: Suite) -> Berth {
        Berth::boot_with(suite, options())
    }

    /// [`Berth::boot`] with more on the disk than [`options`] has.
    #[track_caller]
    pub fn boot_with(suite: Suite, options: BootOptions) -> Berth {
        Berth::install(Host::boot_with(suite, &options).unwrap_or_else(|error| panic!("{error}")))
    }

    /// The machine itself, on which berth has been installed before its last boot.
    #[track_caller]
    pub fn as_it_is(suite: Suite) -> Berth {
        Berth(Host::as_it_is(suite, None).unwrap_or_else(|error| panic!("{error}")))
    }

    #[track_caller]
    fn install(host: Host) -> Berth {
        // systemd shares its mounts with everybody to come, but not where it thinks itself in a container.
        host.ok("mount --make-rshared / && systemd-sysusers berth.conf && systemd-tmpfiles --create berth.conf && \
                 journalctl --update-catalog && systemctl enable --quiet --now berthd");
        Berth(host)
    }

    /// The one host of this suite that trials share which leave berthd and the others' containers alone.
    #[track_caller]
    pub fn shared(suite: Suite) -> Share {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        DROPPED.take();
        if let Some(berth) = shared.get(&suite).filter(|berth| berth.is_up_to_date()) {
            return Share(Arc::clone(berth));
        }
        let host = Host::boot_to_share(suite, &options()).unwrap_or_else(|error| panic!("{error}"));
        let berth = Arc::new(Berth::install(host));
        shared.insert(suite, Arc::clone(&berth));
        Share(berth)
    }

    // ------------------------------------------------------------ specs

    /// Drops a spec, or edits it, as a careful editor does.
    #[track_caller]
    pub fn drop_spec(&self, name: &str, toml: &str) {
        DROPPED.with_borrow_mut(|dropped| dropped.insert(spec(name)));
        self.write_atomic(spec(name), toml);
    }

    /// Deletes a spec.
    #[track_caller]
    pub fn remove_spec(&self, name: &str) {
        self.remove(spec(name));
    }

    /// Drops a spec and waits until it runs; its main process.
    #[track_caller]
    pub fn run(&self, name: &str, toml: &str) -> u32 {
        self.drop_spec(name, toml);
        self.wait_state(name, "running");
        // A minimal init is the launcher's own program.
        if toml.contains("init = true") { self.main_pid(name) } else { self.wait_program(name) }
    }

    /// Waits until the launcher has become the program (it is ready a moment before) and has gone; the main process.
    #[track_caller]
    pub fn wait_program(&self, name: &str) -> u32 {
        self.wait_for(&format!("the program of {name}"), SOON, || {
            let shown = self.ok(&format!("systemctl show -p MainPID,ControlGroup {}", unit(name)));
            let of = |key: &str| shown.lines().find_map(|line| line.strip_prefix(key));
            let (pid, cgroup): (u32, &str) = (of("MainPID=")?.parse().ok()?, of("ControlGroup=")?);
            let program = self.find(format!("/proc/{pid}/cmdline"))?;
            let is_launcher = program == format!("/usr/libexec/berth/berth-launch\0{name}\0");
            let processes = self.find(format!("/sys/fs/cgroup{cgroup}/cgroup.procs"))?;
            let has_launcher = processes.lines().any(|process| {
                process != pid.to_string()
                    && self.find(format!("/proc/{process}/comm")) == Some("berth-launch\n".into())
            });
            (!program.is_empty() && !is_launcher && !has_launcher).then_some(pid)
        })
    }

    /// The command line of a container's program, with spaces.
    #[track_caller]
    pub fn program(&self, name: &str) -> String {
        let pid = self.wait_program(name);
        self.read(format!("/proc/{pid}/cmdline")).trim_end_matches('\0').replace('\0', " ")
    }

    /// Drops a spec whose program ends by itself; what that wrote.
    #[track_caller]
    pub fn output_of(&self, name: &str, toml: &str) -> String {
        self.drop_spec(name, toml);
        self.wait_state(name, "exited");
        self.said(name)
    }

    // ------------------------------------------------------------ state

    /// The state file.
    #[track_caller]
    pub fn state(&self) -> Value {
        let text = self.read("/run/berth/state.json");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("state.json: {error}: {text}"))
    }

    /// What the state file has of a container.
    #[track_caller]
    pub fn container(&self, name: &str) -> Option<Value> {
        let state = self.state();
        state["containers"].as_array()?.iter().find(|container| container["name"] == name).cloned()
    }

    /// Waits until the state file says so of a container.
    #[track_caller]
    pub fn wait_until(&self, name: &str, what: impl fmt::Display, holds: impl Fn(&Value) -> bool) -> Value {
        let mut last = None;
        let found = super::host::ask_until(SOON, || {
            last = self.container(name);
            last.clone().filter(|container| holds(container))
        });
        found.unwrap_or_else(|| panic!("waited for {name} to be {what}: {last:#?}\n{}", self.journal_tail()))
    }

    /// Waits for a container to be in a state.
    #[track_caller]
    pub fn wait_state(&self, name: &str, state: &str) -> Value {
        self.wait_until(name, state, |container| container["state"] == state)
    }

    /// Waits until berthd knows nothing of a container any more.
    #[track_caller]
    pub fn wait_gone(&self, name: &str) {
        self.wait_for("a container to be forgotten", SOON, || self.container(name).is_none().then_some(()));
    }

    /// Waits until berthd has read and acted on all that was changed until now.
    #[track_caller]
    pub fn barrier(&self) {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let name = format!("barrier-{}", SERIAL.fetch_add(1, Ordering::Relaxed));
        self.run(&name, SLEEP);
        self.remove_spec(&name);
        self.wait_gone(&name);
    }

    /// Restarts berthd and waits until the new one has told what is so.
    #[track_caller]
    pub fn restart_berthd(&self) {
        let before = self.state()["daemon"]["pid"].clone();
        self.ok("systemctl restart berthd.service");
        self.wait_for("the state file of the new berthd", SOON, || {
            (self.state()["daemon"]["pid"] != before).then_some(())
        });
    }

    // ------------------------------------------------------------ looking

    /// What the container's program wrote, and its launcher, from its standard output and error.
    #[track_caller]
    pub fn said(&self, name: &str) -> String {
        self.ok(&format!("journalctl --sync; journalctl -q -b -o cat -u {} -t {name}", unit(name)))
    }

    /// Waits until the container's program has written a line with this text.
    #[track_caller]
    pub fn wait_said(&self, name: &str, text: &str) -> String {
        self.wait_for(&format!("{name} to say {text:?}"), SOON, || {
            Some(self.said(name)).filter(|said| said.contains(text))
        })
    }

    /// The container's main process.
    #[track_caller]
    pub fn main_pid(&self, name: &str) -> u32 {
        self.property(name, "MainPID").parse().unwrap()
    }

    /// One property of a container's unit.
    #[track_caller]
    pub fn property(&self, name: &str, property: &str) -> String {
        self.show(&unit(name), property)
    }

    /// A namespace of a process of the host.
    #[track_caller]
    pub fn ns(&self, pid: u32, kind: &str) -> String {
        self.ok(&format!("readlink /proc/{pid}/ns/{kind}"))
    }

    /// Runs berthctl.
    #[track_caller]
    pub fn berthctl(&self, arguments: &str) -> Output {
        self.sh(&format!("berthctl {arguments}"))
    }

    /// The journal's entries that match, each a JSON object.
    #[track_caller]
    pub fn entries(&self, matches: &str) -> Vec<Value> {
        let lines = self.ok(&format!("journalctl --sync; journalctl -q -b -o json {matches}"));
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// The file of a container.
pub fn spec(name: &str) -> PathBuf {
    Path::new(SPECS).join(format!("{name}.toml"))
}

static SHARED: Mutex<BTreeMap<Suite, Arc<Berth>>> = Mutex::new(BTreeMap::new());

/// Ends the hosts of [`Berth::shared`]; a static would never be dropped.
pub fn end_shared() {
    SHARED.lock().unwrap_or_else(PoisonError::into_inner).clear();
}
