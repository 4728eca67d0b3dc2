//! A host with berth installed, and the questions that recovery is about: does the same process run, how often was
//! a program started, what is left behind.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::host::{BootOptions, Host, Suite, slowness};

/// Long enough for anything that comes at all, on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Notes its start in a file of its name, then sleeps. It has no handler for SIGTERM.
const COUNTED: &str = "#!/bin/sh\necho started $V >>/srv/starts/$1\nexec sleep infinity\n";

/// Logs ten lines a second.
const TICKER: &str = "#!/bin/sh\nn=0\nwhile :; do n=$((n+1)); echo tick $n; sleep 0.1; done\n";

/// What berthd's unit has while a test wants it to stay dead.
const STAYS_DEAD: &str = "[Unit]\nStartLimitBurst=0\n[Service]\nRestartSec=1h\n";

/// Where [`STAYS_DEAD`] and its like go.
const DROP_IN: &str = "/run/systemd/system/berthd.service.d/test.conf";

/// A booted host on which berthd runs.
pub struct World {
    /// The host.
    pub host: Host,
    /// When the world began, or the last phase ended.
    phase: std::cell::Cell<Instant>,
}

/// What systemd and the kernel say of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// `ActiveState`.
    pub active: String,
    /// `SubState`.
    pub sub: String,
    /// `MainPID`.
    pub pid: u32,
    /// `InvocationID`.
    pub invocation: String,
    /// When the main process was born, in ticks since the boot.
    pub born: Option<u64>,
}

impl World {
    /// A host of the suite, with berth.
    pub fn new(suite: Suite) -> World {
        World::with(suite, BootOptions::default())
    }

    /// The same with more.
    pub fn with(suite: Suite, options: BootOptions) -> World {
        let began = Instant::now();
        let host = Host::boot_with(suite, &install(options)).unwrap_or_else(|error| panic!("{error}"));
        let world = World::of(host);
        world.phase.set(began);
        world.host.ok("groupadd --system berth; mkdir -p /etc/berth/containers; \
                       systemctl -q enable berthd.socket berthd.service; systemctl start berthd.socket berthd.service");
        world.wait_until_true();
        world.phase("boot");
        world
    }

    /// A host that has booted with berth on it; it gets what the tests here want besides.
    pub fn of(host: Host) -> World {
        for (program, text) in [("counted", COUNTED), ("ticker", TICKER)] {
            let path = Path::new("/usr/local/bin").join(program);
            host.files().write_with_mode(path, text, 0o755).unwrap();
        }
        host.ok("mkdir -p /srv/starts");
        World { host, phase: std::cell::Cell::new(Instant::now()) }
    }

    /// Says how long the phase took that ends here.
    pub fn phase(&self, what: &str) {
        let now = Instant::now();
        let suite = self.host.suite();
        eprintln!("  {suite}: {what}: {} ms", now.duration_since(self.phase.replace(now)).as_millis());
    }

    // ------------------------------------------------------------ specs

    /// Where a spec lies.
    pub fn path(name: &str) -> String {
        format!("/etc/berth/containers/{name}.toml")
    }

    /// Drops a spec.
    pub fn drop_spec(&self, name: &str, text: &str) {
        self.host.write_atomic(World::path(name), text);
    }

    /// Drops a spec whose program counts its starts, with more lines.
    pub fn drop_counted(&self, name: &str, more: &str) {
        self.drop_spec(name, &counted(name, more));
    }

    /// Takes a spec away.
    pub fn delete(&self, name: &str) {
        self.host.remove(World::path(name));
    }

    /// How often the counted program of a container was started.
    pub fn starts(&self, name: &str) -> usize {
        self.host.find(format!("/srv/starts/{name}")).map_or(0, |text| text.lines().count())
    }

    // ------------------------------------------------------------ facts

    /// What is so of a container.
    pub fn facts(&self, name: &str) -> Facts {
        self.all_facts(&[name]).remove(name).unwrap()
    }

    /// What is so of some containers.
    pub fn all_facts(&self, names: &[&str]) -> BTreeMap<String, Facts> {
        let mut script = String::from("systemctl show -p Id,ActiveState,SubState,MainPID,InvocationID");
        names.iter().for_each(|name| write!(script, " berth@{name}.service").unwrap());
        let said = self.host.ok(&script);
        said.split("\n\n").map(|block| self.parse(block)).collect()
    }

    fn parse(&self, block: &str) -> (String, Facts) {
        let of = |key: &str| {
            block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default().to_owned()
        };
        let id = of("Id");
        let name =
            id.strip_prefix("berth@").and_then(|id| id.strip_suffix(".service")).unwrap_or_else(|| panic!("{block}"));
        let pid = of("MainPID").parse().unwrap();
        let facts = Facts {
            active: of("ActiveState"),
            sub: of("SubState"),
            pid,
            invocation: of("InvocationID"),
            born: self.born(pid),
        };
        (name.to_owned(), facts)
    }

    /// Field 22 of `/proc/PID/stat`.
    pub fn born(&self, pid: u32) -> Option<u64> {
        let stat = self.host.find(format!("/proc/{pid}/stat"))?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
    }

    /// The processes in a container's cgroup, as the host numbers them.
    pub fn processes(&self, name: &str) -> Vec<u32> {
        self.all_processes().remove(name).unwrap_or_default()
    }

    /// The processes of all cgroups below `berth.slice`, by container.
    pub fn all_processes(&self) -> BTreeMap<String, Vec<u32>> {
        let said = self.host.ok("cd /sys/fs/cgroup/berth.slice 2>/dev/null || exit 0; \
             for unit in berth@*; do for pid in $(cat $unit/cgroup.procs); do echo $unit $pid; done; done 2>/dev/null");
        let mut all: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for line in said.lines() {
            let (unit, pid) = line.split_once(' ').unwrap();
            let name = unit.trim_start_matches("berth@").trim_end_matches(".service");
            all.entry(name.to_owned()).or_default().push(pid.parse().unwrap());
        }
        all
    }

    /// Waits until systemd says that all of them run.
    pub fn wait_running(&self, names: &[&str]) {
        self.host.wait_for(&format!("{names:?} to run"), PATIENCE, || {
            self.all_facts(names).values().all(|facts| facts.sub == "running").then_some(())
        });
    }

    /// Waits until a container's unit is in a state.
    pub fn wait_active(&self, name: &str, state: &str) {
        self.host.wait_for(&format!("{name} to be {state}"), PATIENCE, || {
            (self.host.show(&format!("berth@{name}"), "ActiveState") == state).then_some(())
        });
    }

    // ------------------------------------------------------------ the state file

    /// The state file.
    pub fn state(&self) -> Option<Value> {
        serde_json::from_str(&self.host.find("/run/berth/state.json")?).ok()
    }

    /// One container of the state file.
    pub fn container(&self, name: &str) -> Option<Value> {
        let state = self.state()?;
        state["containers"].as_array()?.iter().find(|container| container["name"] == name).cloned()
    }

    /// A container's state in one word, or `""`.
    pub fn word(&self, name: &str) -> String {
        let container = self.container(name).unwrap_or_default();
        container["state"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the state file calls a container so.
    pub fn wait_word(&self, name: &str, word: &str) {
        let what = format!("{name} to be called {word}");
        self.host.wait_for(&what, PATIENCE, || (self.word(name) == word).then_some(()));
    }

    /// In what the state file differs from systemd and the kernel.
    pub fn lies(&self) -> Vec<String> {
        let Some(state) = self.state() else { return vec!["there is no state file".to_owned()] };
        let berthd = self.host.show("berthd", "MainPID");
        let mut lies = Vec::new();
        if state["daemon"]["pid"].as_u64() != berthd.parse().ok() {
            lies.push(format!("berthd is {berthd}, not {}", state["daemon"]["pid"]));
        }
        let containers = state["containers"].as_array().unwrap();
        let names: Vec<&str> = containers.iter().map(|container| container["name"].as_str().unwrap()).collect();
        if names.is_empty() {
            return lies;
        }
        let facts = self.all_facts(&names);
        for container in containers {
            let name = container["name"].as_str().unwrap();
            let (facts, word) = (&facts[name], container["state"].as_str().unwrap());
            let pid = container["main_pid"].as_u64().unwrap_or(0);
            if pid != u64::from(facts.pid) {
                lies.push(format!("{name} has the PID {}, not {pid}", facts.pid));
            }
            let fits = match facts.active.as_str() {
                "active" => word == "running",
                "activating" => matches!(word, "starting" | "restarting"),
                "deactivating" => word == "stopping",
                "failed" => word == "failed",
                _ => matches!(word, "inactive" | "stopped" | "exited" | "failed" | "invalid" | "masked"),
            };
            if !fits {
                lies.push(format!("{name} is {}, not {word}", facts.active));
            }
        }
        lies
    }

    /// Waits until the state file is true.
    pub fn wait_until_true(&self) {
        self.be_true_within(PATIENCE);
    }

    /// The state file has to be true before the time is up.
    pub fn be_true_within(&self, patience: Duration) {
        let began = Instant::now();
        loop {
            let lies = self.lies();
            if lies.is_empty() {
                return;
            }
            let waited = began.elapsed();
            assert!(
                waited < patience * slowness(),
                "after {waited:?} the state file lies: {lies:?}\n{}",
                self.host.journal_tail()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    // ------------------------------------------------------------ berthd

    /// berthd's PID.
    pub fn berthd(&self) -> u32 {
        self.host.show("berthd", "MainPID").parse().unwrap()
    }

    /// Kills berthd with SIGKILL and does something before another one comes.
    pub fn while_dead<T>(&self, deed: impl FnOnce() -> T) -> T {
        self.host.write(DROP_IN, STAYS_DEAD);
        self.host.ok("systemctl daemon-reload && systemctl kill -s KILL --kill-whom=main berthd");
        self.host.wait_for("berthd to be dead", PATIENCE, || {
            (self.host.show("berthd", "SubState").starts_with("auto-restart")).then_some(())
        });
        let outcome = deed();
        self.host.remove(DROP_IN);
        self.host.ok("systemctl daemon-reload && systemctl start berthd");
        outcome
    }

    /// Kills berthd, if there is one: seen and hit from outside, at once.
    pub fn kill(&self) -> bool {
        let procs = self.host.find("/sys/fs/cgroup/system.slice/berthd.service/cgroup.procs");
        let pid = procs.and_then(|procs| procs.lines().next()?.parse().ok()).and_then(Pid::from_raw);
        pid.is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok())
    }

    /// Changes berthd's unit for the rest of the test.
    pub fn berthd_unit(&self, lines: &str) {
        self.host.write("/run/systemd/system/berthd.service.d/for-all.conf", lines);
        self.host.ok("systemctl daemon-reload");
    }

    /// How many journal entries berthd made with a message ID, in this boot.
    pub fn events(&self, id: &str) -> usize {
        let count = format!("journalctl --sync; journalctl -q -b -o cat MESSAGE_ID={id} | wc -l");
        self.host.ok(&count).trim().parse().unwrap()
    }

    /// Says one request on berthd's socket, as root and from outside, and hears the first reply.
    pub fn ask(&self, request: &Value) -> Value {
        let mut socket = UnixStream::connect(self.host.path("/run/berth/berthd.sock")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        writeln!(socket, "{request}").unwrap();
        let mut line = String::new();
        BufReader::new(&socket).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    // ------------------------------------------------------------ what is left

    /// Waits until nothing is under way: no job, no unit in transition, the state file true and no longer written.
    pub fn settle(&self) {
        let mut before = String::new();
        let mut quiet = 0;
        self.host.wait_for("quiet", PATIENCE, || {
            let units = self.host.ok("systemctl list-units --all --plain --no-legend 'berth@*' 'berthd.service'");
            let jobs = self.host.ok("systemctl list-jobs --no-legend");
            let now = format!("{units}{jobs}{:?}", self.state().map(|state| state["containers"].clone()));
            let idle = jobs.is_empty() && !units.contains("activating") && units.contains("berthd.service");
            quiet = if idle && now == before && self.lies().is_empty() { quiet + 1 } else { 0 };
            before = now;
            if quiet < 4 {
                std::thread::sleep(Duration::from_millis(80));
            }
            (quiet >= 4).then_some(())
        });
    }

    /// Everything that berth has on this host beyond what these containers, which run or were stopped, account for.
    pub fn leftovers(&self, running: &BTreeSet<String>, stopped: &BTreeSet<String>) -> Vec<String> {
        let mut left = Vec::new();
        let known: BTreeSet<String> = running.union(stopped).cloned().collect();
        let list = |path: &str| self.host.files().list(path).unwrap_or_default();
        for entry in list("/sys/fs/cgroup/berth.slice") {
            let name = entry.strip_prefix("berth@").and_then(|entry| entry.strip_suffix(".service"));
            left.extend(name.filter(|name| !running.contains(*name)).map(|name| format!("the cgroup of {name}")));
        }
        for entry in list("/run/berth/records") {
            let name = entry.strip_suffix(".json");
            if !name.is_some_and(|name| known.contains(name)) {
                left.push(format!("the record {entry}"));
            }
        }
        for name in stopped {
            let record = self.host.find(format!("/run/berth/records/{name}.json")).unwrap_or_default();
            let record: Value = serde_json::from_str(&record).unwrap_or_default();
            if !record["run"].is_null() {
                left.push(format!("an open record of {name}, which does not run"));
            }
        }
        for entry in list("/run/systemd/system") {
            let name = entry.strip_prefix("berth@").and_then(|entry| entry.strip_suffix(".service.d"));
            let name = name.filter(|name| !name.is_empty() && !known.contains(*name));
            left.extend(name.map(|name| format!("the drop-in of {name}")));
        }
        let temporary = list("/run/berth").into_iter().filter(|name| name.ends_with(".tmp"));
        left.extend(temporary.map(|name| format!("/run/berth/{name}")));
        for mount in self.host.read("/proc/1/mountinfo").lines() {
            let (root, point) = (mount.split(' ').nth(3).unwrap(), mount.split(' ').nth(4).unwrap());
            let ours = ["/var/lib/berth/", "/run/berth/"].iter().any(|place| point.starts_with(place));
            let ours = ours && point != "/run/berth/net_cls"; // it is for all containers
            left.extend((ours || root.contains("/sandboxes/")).then(|| format!("the mount {mount}")));
        }
        for name in list("/var/lib/berth/sandboxes") {
            let roots = list(&format!("/var/lib/berth/sandboxes/{name}")).into_iter();
            let roots = roots.filter(|entry| entry.ends_with(".root") && !running.contains(&name));
            left.extend(roots.map(|entry| format!("{name}'s root {entry}")));
        }
        left.extend(list("/var/lib/berth/images/tmp").into_iter().map(|entry| format!("a half image, {entry}")));
        left.extend(self.strays(running));
        left
    }

    /// Processes of containers that are not in the cgroup of a running container, and launchers.
    fn strays(&self, running: &BTreeSet<String>) -> Vec<String> {
        let mut all = self.all_processes();
        all.retain(|name, _| running.contains(name));
        let wanted: BTreeSet<u32> = all.into_values().flatten().collect();
        let table = self.host.ok("ps -e -o pid=,args=");
        let strays = table.lines().filter(|line| {
            let (pid, args) = line.trim_start().split_once(' ').unwrap_or_default();
            let ours = ["sleep infinity", "counted", "berth-launch"].iter().any(|word| args.contains(word));
            ours && !wanted.contains(&pid.parse().unwrap_or(0))
        });
        strays.map(|line| format!("the process {line}")).collect()
    }

    /// The sandboxes of a container's runs.
    pub fn sandboxes(&self, name: &str) -> Vec<String> {
        let mut all = self.host.files().list(format!("/var/lib/berth/sandboxes/{name}")).unwrap_or_default();
        all.retain(|run| run != "latest" && !run.ends_with(".root"));
        all
    }
}

/// A spec whose program counts its starts, with more lines before the tables.
pub fn counted(name: &str, more: &str) -> String {
    format!("command = [\"/usr/local/bin/counted\", \"{name}\"]\n{more}")
}

/// berth, as its package puts it.
fn install(mut options: BootOptions) -> BootOptions {
    for (built, installed) in [
        (env!("CARGO_BIN_EXE_berthd"), "/usr/sbin/berthd"),
        (env!("CARGO_BIN_EXE_berthctl"), "/usr/bin/berthctl"),
        (env!("CARGO_BIN_EXE_berth-launch"), "/usr/libexec/berth/berth-launch"),
    ] {
        options = options.bind(built, installed);
    }
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("units");
    for unit in ["berthd.service", "berthd.socket", "berth@.service", "berth.slice"] {
        options = options.copy(units.join(unit), Path::new("/usr/lib/systemd/system").join(unit));
    }
    options
}
