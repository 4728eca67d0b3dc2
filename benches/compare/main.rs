//! What berth costs, as ratios: against its peers, and against the least that systemd itself needs.
//!
//! `make bench`, or `benches/run start launch image shared crowd traffic handles direct unpack disk size` for some of it.
//! Everything is measured in one run on one namespaced host (`tests/support`), in turns, and compared by medians: this
//! machine's seconds are nobody else's, its ratios are. Programs that are started are started alike, by one stopwatch
//! inside the host ([`inside`]).
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that reports to a terminal")]

mod disk;
mod images;
mod inside;
mod podman;
mod table;
mod traffic;

#[path = "../../tests/support/mod.rs"]
#[allow(unused, missing_debug_implementations, reason = "a test's code, judged where it is a test")]
mod support;

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use berth::plan::Plan;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use inside::{Contender, Crowd, Race, Task};
use support::{
    host::{self, BootOptions, Host, Suite},
    inside::Running,
};
use table::{Table, median};

/// What can go wrong, in words.
type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The programs as released.
const BERTHD: &str = env!("CARGO_BIN_EXE_berthd");
/// The launcher.
const LAUNCH: &str = env!("CARGO_BIN_EXE_berth-launch");
/// The operator's tool.
const BERTHCTL: &str = env!("CARGO_BIN_EXE_berthctl");

/// Where specs lie.
const SPECS: &str = "/etc/berth/containers";
/// Where those who come up say so.
const COUNTER: &str = "/run/bench.sock";
/// A whole crowd.
const CROWD: usize = 500;

/// The floor: a unit that does nothing but say that it is ready.
const FLOOR: &str = "[Service]\nType=notify\nExecStart=/bench/floor /run/bench.sock\n";
/// Starting again and again is what is done here.
const NO_LIMIT: &str = "[Unit]\nStartLimitIntervalSec=0\n";
/// Keeps both units loaded while they are stopped, so that neither is read from disk at its start.
const HOLD: &str = "[Unit]\nAfter=floor@x.service berth@x.service\n";

/// A container with everything of its own that there is, running the floor's program.
const SPEC: &str = "\
command = { shell = false, value = \"/bench/floor\", arguments = [\"floor\", \"/run/bench.sock\"] }
namespaces = { pid = \"private\", ipc = \"private\" }

[[volumes]]
container_path = \"/tmp\"
host_path = \"tmp\"
";

/// The same isolation around a program that ends at once.
const SPEC_TRUE: &str = "\
command = { shell = false, value = \"/bin/true\" }
autostart = false
namespaces = { pid = \"private\", ipc = \"private\" }
service = { start_limit = { burst = 0 } }

[[volumes]]
container_path = \"/tmp\"
host_path = \"tmp\"
";

/// bubblewrap told to do what SPEC asks, without its own reaper.
const BWRAP: &str = "bwrap --unshare-pid --unshare-ipc --as-pid-1 --dev-bind / / --proc /proc --tmpfs /dev/shm \
                     --mqueue /dev/mqueue --bind /bench/tmp /tmp --chdir /bench/tmp /bin/true";
/// crun told so by [`crun_config`]. Its cgroups are left out, as nobody else here makes any.
const CRUN: &str = "crun --cgroup-manager=disabled run --bundle /bench/crun bench";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().collect();
    let outcome = match arguments.get(1).map(String::as_str) {
        Some("inside") => inside::main(Path::new(arguments.get(2).map_or("", String::as_str))),
        // cargo bench adds a flag of its own.
        _ => compare(&arguments.into_iter().skip(1).filter(|word| !word.starts_with('-')).collect::<Vec<_>>()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures and prints the table: everything, or the sections that are named.
fn compare(sections: &[String]) -> Result<()> {
    host::check_machine()?;
    let rounds = env::var("BERTH_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(40);
    let wanted = |name: &str| sections.is_empty() || sections.iter().any(|section| section == name);
    let (host, with_podman) = boot(wanted("image") || wanted("shared"))?;
    let mut table = Table::default();
    if wanted("start") {
        start(&host, &mut table, rounds)?;
    }
    if wanted("launch") {
        launch(&host, &mut table, rounds)?;
    }
    if wanted("image") {
        images::start(&host, &mut table, rounds, with_podman)?;
    }
    if wanted("shared") {
        images::shared(&host, &mut table)?;
    }
    if wanted("crowd") {
        crowds(&host, &mut table)?;
    }
    if wanted("traffic") {
        traffic::throughput(&host, &mut table)?;
    }
    if wanted("handles") {
        traffic::allocation(&mut table)?;
    }
    if wanted("direct") {
        direct(&host, &mut table, rounds)?;
    }
    if wanted("unpack") {
        images::unpack(&mut table, rounds)?;
    }
    if wanted("disk") {
        disk::count(&mut table, rounds)?;
    }
    if wanted("size") {
        sizes(&mut table)?;
    }
    println!("{table}");
    println!("Times are medians, with the middle half in brackets; each row's contenders ran in turns in one host.");
    Ok(())
}

/// A host with berth installed as a package would, and what the measurements need; and whether it has podman, which it
/// is shown only with images.
fn boot(with_images: bool) -> Result<(Host, bool)> {
    let floor = Path::new(BERTHD).with_file_name("examples").join("notify-floor");
    let mut options = BootOptions::default()
        .net_cls()
        .bind(BERTHD, "/usr/sbin/berthd")
        .bind(BERTHCTL, "/usr/bin/berthctl")
        .bind(LAUNCH, "/usr/libexec/berth/berth-launch")
        .bind(floor, "/bench/floor")
        .bind(env::current_exe()?, "/bench/bench")
        .file("/etc/systemd/system/floor@.service", FLOOR)
        .file("/etc/systemd/system/floor@.service.d/bench.conf", NO_LIMIT)
        .file("/etc/systemd/system/berth@.service.d/bench.conf", NO_LIMIT)
        .file("/etc/systemd/system/hold.target", HOLD)
        .file("/bench/tmp/nothing", "")
        .file("/bench/crun/config.json", crun_config().to_string())
        .file(format!("{SPECS}/README"), "");
    for unit in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("units"))? {
        let unit = unit?;
        options = options.copy(unit.path(), Path::new("/usr/lib/systemd/system").join(unit.file_name()));
    }
    let mut with_podman = false;
    if with_images {
        (options, with_podman) = images::show(options)?;
    }
    eprintln!("bench: boots a host");
    let host = Host::boot_with(Suite::Bookworm, &options)?;
    // crun cannot change its root to the one that it has.
    host.ok("mkdir /bench/root && mount --bind / /bench/root");
    host.ok("groupadd berth && systemctl start berthd hold.target");
    Ok((host, with_podman))
}

/// `systemctl start` of a container against that of an empty unit.
fn start(host: &Host, table: &mut Table, rounds: usize) -> Result<()> {
    eprintln!("bench: systemctl start");
    host.write_atomic(format!("{SPECS}/x.toml"), SPEC);
    wait_until(host, "[ \"$(systemctl is-active berth@x)\" = active ]");
    host.ok("systemctl stop berth@x");
    let unit = |unit: &str| Contender {
        run: words(&format!("systemctl start {unit}")),
        after: words(&format!("systemctl stop {unit}")),
        ..Contender::default()
    };
    let contenders = vec![unit("berth@x.service"), unit("floor@x.service")];
    let times = race(host, Race { rounds, pause: Duration::from_millis(150), contenders })?;
    table.compare("systemctl start, against an empty Type=notify unit", &times[0], &times[1], "≤ 1.3");
    Ok(())
}

/// The launcher alone, with a berthd that has its plan in hand, against bubblewrap and crun.
fn launch(host: &Host, table: &mut Table, rounds: usize) -> Result<()> {
    eprintln!("bench: berth-launch");
    host.write_atomic(format!("{SPECS}/x.toml"), SPEC);
    wait_until(host, "systemctl start berth@x");
    let plan = plan_of_true(host)?;
    let socket = PathBuf::from("/run/canned.sock");
    let _server = spawn(host, &Task::Serve { socket, plan: Box::new(plan) })?;
    wait_until(host, "test -S /run/canned.sock");
    let ours = Contender {
        run: words("/usr/libexec/berth/berth-launch x"),
        environment: BTreeMap::from(
            [("BERTH_SOCKET", "/run/canned.sock"), ("INVOCATION_ID", "0123456789abcdef0123456789abcdef")]
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        ),
        ..Contender::default()
    };
    let peer = |command: &str| Contender { run: words(command), ..Contender::default() };
    let contenders = vec![ours, peer(BWRAP), peer(CRUN), peer("/bin/true")];
    let times = race(host, Race { rounds: rounds * 5, pause: Duration::from_millis(5), contenders })?;
    host.ok("systemctl stop berth@x");
    table.compare("berth-launch of /bin/true (plan at hand), against bwrap", &times[0], &times[1], "≤ 1.0");
    table.compare("  the same, against crun run", &times[0], &times[2], "");
    table.compare("  the same, against plain fork and exec", &times[0], &times[3], "");
    Ok(())
}

/// The plan of the running container `x`, of `/bin/true` instead.
fn plan_of_true(host: &Host) -> Result<Plan> {
    let record: Value = serde_json::from_str(&host.read("/run/berth/records/x.json"))?;
    let mut plan = record["run"]["plan"].clone();
    plan["program"]["executable"] = json!("/bin/true");
    plan["program"]["argv"] = json!(["true"]);
    Ok(serde_json::from_value(plan)?)
}

/// Many specs at once against many units at once, and what they cost while they run.
fn crowds(host: &Host, table: &mut Table) -> Result<()> {
    eprintln!("bench: {CROWD} at once");
    host.ok(&format!("rm -f {SPECS}/x.toml; systemctl restart berthd"));
    wait_until(host, "! ls /run/berth/records | grep -q .");
    let empty = memory(host)?;
    idle(host, table, "idle berthd without containers")?;
    let names: Vec<String> = (1..=CROWD).map(|number| format!("c{number}")).collect();
    let files = names.iter().map(|name| (PathBuf::from(format!("{SPECS}/{name}.toml")), SPEC.to_owned()));
    let files: Vec<_> = files.collect();
    let floors = names.iter().map(|name| format!("floor@{name}.service"));
    let floors: Vec<String> = words("systemctl start").into_iter().chain(floors).collect();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut full = None;
    let mut busy = Vec::new();
    for _ in 0..3 {
        let before = cpu_time(host)?;
        ours.push(crowd(host, files.clone(), Vec::new())?);
        busy.push(cpu_time(host)? - before);
        if full.is_none() {
            std::thread::sleep(Duration::from_secs(2));
            let grown = memory(host)?;
            idle(host, table, &format!("idle berthd with {CROWD} containers"))?;
            host.ok("systemctl restart berthd");
            wait_until(host, &format!("jq --exit-status '.containers | length == {CROWD}' /run/berth/state.json"));
            full = Some((grown, memory(host)?, processes(host)?));
        }
        host.ok(&format!("rm {SPECS}/c*.toml"));
        wait_until(host, "! ls /run/berth/records | grep -q .");
        theirs.push(crowd(host, Vec::new(), floors.clone())?);
        host.ok("systemctl stop 'floor@*.service'");
    }
    let what = format!("{CROWD} specs dropped, against systemctl start of {CROWD} empty units");
    table.compare(&what, &ours, &theirs, "≤ 1.5");
    let each = median(&busy) / CROWD as f64;
    table.fact("  CPU time of berthd for each", format!("{each:.2} ms"), "");
    let (full, recovered, (resident, programs)) = full.ok_or("no crowd came up")?;
    let kib = |memory: &Memory| format!("PSS {} KiB, RSS {} KiB", memory.pss, memory.rss);
    table.fact("memory of berthd without containers", kib(&empty), "≤ 12288 KiB");
    let each = |memory: &Memory| format!("{:.1} KiB", (memory.pss as f64 - empty.pss as f64) / CROWD as f64);
    table.fact(&format!("memory of berthd after {CROWD} starts"), kib(&full), "");
    table.fact("  for each container (PSS)", each(&full), "≤ 20 KiB");
    table.fact("  for each container (PSS), in a berthd that found them running", each(&recovered), "≤ 20 KiB");
    table.fact(&format!("processes of berth beside {programs} programs"), resident.to_string(), "0");
    Ok(())
}

/// Nanoseconds until a crowd is up.
fn crowd(host: &Host, files: Vec<(PathBuf, String)>, run: Vec<String>) -> Result<u64> {
    ask(host, &Task::Crowd(Crowd { socket: COUNTER.into(), count: CROWD, files, run }))
}

/// One container through berthd itself, where berthd is the service manager.
fn direct(host: &Host, table: &mut Table, rounds: usize) -> Result<()> {
    eprintln!("bench: berthd --manager direct");
    host.ok("systemctl stop berthd.socket berthd.service");
    host.write_atomic(format!("{SPECS}/true.toml"), SPEC_TRUE);
    let _berthd = host.spawn("exec berthd --manager direct");
    // Until then the state file is the other one's, and berthctl asks systemd.
    wait_until(host, "jq --exit-status '.daemon.manager == \"direct\"' /run/berth/state.json");
    let contender = |command: &str| Contender { run: words(command), ..Contender::default() };
    let contenders = vec![contender("berthctl start true"), contender(BWRAP), contender(CRUN)];
    let times = race(host, Race { rounds, pause: Duration::from_millis(150), contenders })?;
    table.compare("berthctl start of /bin/true (direct manager), against bwrap", &times[0], &times[1], "");
    table.compare("  the same, against crun run", &times[0], &times[2], "");
    Ok(())
}

/// What the bundle of crun asks for: the same namespaces, the same mounts.
fn crun_config() -> Value {
    let mount = |kind: &str, target: &str, source: &str, options: &[&str]| json!({"destination": target, "type": kind, "source": source, "options": options});
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/true"],
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
        },
        "root": {"path": "/bench/root"},
        "mounts": [
            mount("proc", "/proc", "proc", &["nosuid", "nodev", "noexec"]),
            mount("tmpfs", "/dev/shm", "shm", &["nosuid", "nodev", "mode=1777"]),
            mount("mqueue", "/dev/mqueue", "mqueue", &["nosuid", "nodev", "noexec"]),
            mount("bind", "/tmp", "/bench/tmp", &["rbind", "rw"]),
        ],
        "linux": {"namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "mount"}], "rootfsPropagation": "rslave"},
    })
}

/// What berthd holds, in KiB.
#[derive(Debug, Clone, Copy)]
struct Memory {
    /// Its share, where pages are shared.
    pss: u64,
    /// All of it.
    rss: u64,
}

/// Of the berthd that systemd runs.
fn memory(host: &Host) -> Result<Memory> {
    let text = host.ok("cat /proc/$(systemctl show --property=MainPID --value berthd)/smaps_rollup");
    let field = |name: &str| -> Result<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or("smaps_rollup is short")?;
        Ok(line.trim_start_matches(':').trim_end_matches("kB").trim().parse()?)
    };
    Ok(Memory { pss: field("Pss:")?, rss: field("Rss:")? })
}

/// How long the berthd of systemd has computed, in milliseconds.
fn cpu_time(host: &Host) -> Result<u64> {
    let script =
        "set -- $(cat /proc/$(systemctl show --property=MainPID --value berthd)/stat); echo $((${14} + ${15}))";
    // Ticks of USER_HZ, which is 100 for all programs.
    Ok(host.ok(script).parse::<u64>()? * 10)
}

/// How often a berthd with nothing to do wakes up, once the threads that have worked for it are gone.
fn idle(host: &Host, table: &mut Table, what: &str) -> Result<()> {
    std::thread::sleep(Duration::from_secs(15));
    let before = switches(host)?;
    std::thread::sleep(Duration::from_secs(10));
    let after = switches(host)?;
    let wakeups: u64 = after.iter().map(|(thread, count)| count - before.get(thread).unwrap_or(&0)).sum();
    table.fact(&format!("{what}: wake-ups in 10 s"), wakeups.to_string(), "≤ 1");
    Ok(())
}

/// How often each thread of berthd has gone to sleep.
fn switches(host: &Host) -> Result<BTreeMap<u64, u64>> {
    let script = "cat /proc/$(systemctl show --property=MainPID --value berthd)/task/*/status | \
                  awk '/^Pid:/ { pid = $2 } /^voluntary_ctxt_switches/ { print pid, $2 }'";
    let text = host.ok(script);
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.map(|(thread, count)| Ok((thread.parse()?, count.parse()?))).collect()
}

/// The processes in the cgroups of all containers: those of berth, and the others.
fn processes(host: &Host) -> Result<(usize, usize)> {
    let programs =
        host.ok("for pid in $(cat /sys/fs/cgroup/berth.slice/*/cgroup.procs); do readlink /proc/$pid/exe; done");
    let (ours, others): (Vec<&str>, Vec<&str>) =
        programs.lines().partition(|path| path.rsplit('/').next().is_some_and(|name| name.starts_with("berth")));
    Ok((ours.len(), others.len()))
}

/// What is installed, and what the launcher is free of.
fn sizes(table: &mut Table) -> Result<()> {
    for program in [BERTHD, BERTHCTL, LAUNCH] {
        let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let content = fs::read(program)?;
        // Paths of source files, in the messages of panics, tell which crates are in a stripped program.
        let crates = ["tokio", "zbus", "cgroups-rs", "toml", "figment", "clap"];
        let inside = crates.into_iter().filter(|name| {
            let path = format!("/{name}-");
            content.windows(path.len()).any(|window| window == path.as_bytes())
        });
        let inside: Vec<&str> = inside.collect();
        let goal = if program == LAUNCH { "no tokio, zbus" } else { "" };
        let what =
            format!("size of {name} (with: {})", if inside.is_empty() { "none".into() } else { inside.join(" ") });
        table.fact(&what, format!("{} KiB", content.len().div_ceil(1024)), goal);
    }
    Ok(())
}

/// Has the stopwatch inside run a race.
fn race(host: &Host, race: Race) -> Result<Vec<Vec<u64>>> {
    ask(host, &Task::Race(race))
}

/// Has a task done inside the host.
fn ask<T: DeserializeOwned>(host: &Host, task: &Task) -> Result<T> {
    let mut running = spawn(host, task)?;
    let output = running.wait(Duration::from_secs(600)).ok_or("a measurement hangs")??;
    if !output.status.success() {
        return Err(format!("{output}\n{}", host.journal_tail()).into());
    }
    Ok(serde_json::from_str(&output.stdout)?)
}

/// Begins a task inside the host.
fn spawn(host: &Host, task: &Task) -> Result<Running> {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    let path = format!("/bench/task-{}.json", SERIAL.fetch_add(1, Ordering::Relaxed));
    host.write(&path, serde_json::to_string(task)?);
    Ok(host.spawn(&format!("exec /bench/bench inside {path}")))
}

/// Waits until a script succeeds.
fn wait_until(host: &Host, script: &str) {
    host.wait_for(script, Duration::from_secs(60), || host.sh(script).status.success().then_some(()));
}

/// A command's words.
fn words(command: &str) -> Vec<String> {
    command.split_whitespace().map(str::to_owned).collect()
}
