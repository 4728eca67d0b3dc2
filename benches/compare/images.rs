//! Images: unpacking them, against umoci and against skopeo with podman; starting them, against the empty unit and against
//! podman; many containers of one of them.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::{
    BERTHCTL, COUNTER, Contender, Crowd, Host, Race, Result, SPECS, Task, ask, podman, race,
    support::host::{BootOptions, Suite},
    table::Table,
    wait_until, words,
};

/// The image with a Debian base and servers, which the tests use too.
const TAG: &str = "servers";
/// Where a host sees the layout.
const IMAGES: &str = "/bench/images";
/// Where podman keeps its own in a host.
const PODMAN: &str = "/run/podman";
/// How many containers have one image.
const MANY: usize = 200;

/// The floor's program in a root of its own, from an image.
const SPEC: &str = "\
command = { shell = false, value = \"/bench/floor\", arguments = [\"floor\", \"/run/bench.sock\"] }
namespaces = { pid = \"private\", ipc = \"private\" }
image = { source = \"oci:/bench/images:base\" }

[[volumes]]
container_path = \"/bench/floor\"
host_path = \"/bench/floor\"
mode = \"RO\"
";
/// The same, which says to whoever counts that it is up.
const COUNTED: &str = "
[[volumes]]
container_path = \"/run/bench.sock\"
host_path = \"/run/bench.sock\"
";

/// What podman is told to do the same: with limits that every host can set, and without control groups, for which crun
/// wants `CAP_SYS_RESOURCE`.
const PODMAN_RUN: &str = "run --detach --name bench --network=host --cgroups=disabled --ulimit=nofile=1024:1024 \
                          --ulimit=nproc=4096:4096 --volume=/bench/floor:/bench/floor:ro";

/// A layout into an empty store, against the same into an empty bundle. berth also puts all of it on the disk for good
/// before it ends, which the others do not.
pub fn unpack(table: &mut Table, rounds: usize) -> Result<()> {
    eprintln!("bench: unpack");
    let image = format!("{}:{TAG}", layout()?.display());
    let with_podman = podman::is_here();
    let mut times: [Vec<u64>; 3] = Default::default();
    // Those before the first fill the kernel's caches.
    for round in 0..=rounds.clamp(1, 10) {
        let scratch = tempfile::tempdir()?;
        let at = |name: &str| scratch.path().join(name).display().to_string();
        let mut contenders = vec![
            format!("{BERTHCTL} --root {} --json pull oci:{image}", at("root")),
            format!("umoci unpack --image {image} {}", at("bundle")),
        ];
        if with_podman {
            let archive = at("archive");
            let load = podman::command(&at("podman"), &format!("load --quiet --input {archive}"));
            contenders.push(format!("skopeo copy --quiet oci:{image} docker-archive:{archive}:bench && {load}"));
        }
        for (contender, times) in contenders.iter().zip(&mut times) {
            let took = timed(contender)?;
            if round > 0 {
                times.push(took);
            }
        }
    }
    let [ours, umoci, podman] = times;
    table.compare("unpack a Debian image with servers, against umoci unpack", &ours, &umoci, "≤ 0.5");
    if with_podman {
        table.compare("  the same, against skopeo copy and podman load", &ours, &podman, "");
    }
    Ok(())
}

/// Shows a host the layout, and podman if the machine has it; whether it has.
pub fn show(options: BootOptions) -> Result<(BootOptions, bool)> {
    let options = options.bind(layout()?, IMAGES);
    if !podman::is_here() {
        return Ok((options, false));
    }
    Ok((podman::show(options, &Suite::Bookworm.rootfs()?)?, true))
}

/// `systemctl start` of a container from an image, against that of an empty unit and against `podman run`.
pub fn start(host: &Host, table: &mut Table, rounds: usize, with_podman: bool) -> Result<()> {
    eprintln!("bench: start from an image");
    host.write_atomic(format!("{SPECS}/x.toml"), SPEC);
    wait_until(host, "[ \"$(systemctl is-active berth@x)\" = active ]");
    host.ok("systemctl stop berth@x");
    let unit = |unit: &str| Contender {
        run: words(&format!("systemctl start {unit}")),
        after: words(&format!("systemctl stop {unit}")),
        ..Contender::default()
    };
    let mut contenders = vec![unit("berth@x.service"), unit("floor@x.service")];
    if with_podman {
        let id = host.ok(&podman::command(PODMAN, &format!("pull --quiet oci:{IMAGES}:base")));
        let run = format!("{PODMAN_RUN} {} /bench/floor", id.trim());
        contenders.push(Contender {
            run: words(&podman::command(PODMAN, &run)),
            after: words(&podman::command(PODMAN, "rm --force --time=0 bench")),
            ..Contender::default()
        });
    }
    let times = race(host, Race { rounds, pause: Duration::from_millis(150), contenders })?;
    table.compare("systemctl start from an image, against an empty Type=notify unit", &times[0], &times[1], "≤ 1.5");
    if let Some(podman) = times.get(2) {
        table.compare("  the same, against podman run --detach", &times[0], podman, "");
    }
    forget(host);
    Ok(())
}

/// Many containers of one image: how long until they are up, and what they have in common.
pub fn shared(host: &Host, table: &mut Table) -> Result<()> {
    eprintln!("bench: {MANY} containers of one image");
    let spec = format!("{SPEC}{COUNTED}");
    let files: Vec<_> =
        (1..=MANY).map(|number| (PathBuf::from(format!("{SPECS}/s{number}.toml")), spec.clone())).collect();
    let floors: Vec<String> = (1..=MANY).map(|number| format!("floor@s{number}.service")).collect();
    let floors = [words("systemctl start"), floors].concat();
    // The first import is not what is measured.
    host.ok(&format!("berthctl pull oci:{IMAGES}:base"));
    let store = disk(host, "images")?;
    let crowd = |files, run| ask::<u64>(host, &Task::Crowd(Crowd { socket: COUNTER.into(), count: MANY, files, run }));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        forget(host);
        theirs.push(crowd(Vec::new(), floors.clone())?);
        host.ok("systemctl stop 'floor@*.service'");
        ours.push(crowd(files.clone(), Vec::new())?);
    }
    let what = format!("{MANY} specs of one image dropped, against systemctl start of {MANY} empty units");
    table.compare(&what, &ours, &theirs, "≤ 1.5");
    let now = disk(host, "images")?;
    let own = disk(host, "sandboxes/s*/latest/ sandboxes/s*/*.root")?;
    table.fact(
        &format!("disk of the image with {MANY} containers of it, and before"),
        format!("{now} KiB, {store} KiB"),
        "the same",
    );
    table.fact(
        "  of each container's own (on tmpfs, where directories take none)",
        format!("{:.1} KiB", own as f64 / MANY as f64),
        "",
    );
    let (rss, pss) = file_pages(host)?;
    let each = |all: u64| all as f64 / MANY as f64;
    table.fact(&format!("pages of files in {MANY} programs, each (RSS)"), format!("{:.0} KiB", each(rss)), "");
    table.fact("  its share of them, which are in memory once (PSS)", format!("{:.0} KiB", each(pss)), "");
    forget(host);
    Ok(())
}

/// Removes all specs, and waits until nothing is left of them.
fn forget(host: &Host) {
    host.ok(&format!("rm -f {SPECS}/*.toml"));
    wait_until(host, "! ls /run/berth/records | grep -q .");
}

/// KiB in files of berth's, all together.
fn disk(host: &Host, files: &str) -> Result<u64> {
    Ok(host.ok(&format!("cd /var/lib/berth && du -skc {files} | tail -n 1 | cut -f 1")).trim().parse()?)
}

/// KiB of files' pages, also of files in memory, that all programs in containers have mapped; and their shares added.
fn file_pages(host: &Host) -> Result<(u64, u64)> {
    let script = "for pid in $(cat /sys/fs/cgroup/berth.slice/*/cgroup.procs); do cat /proc/$pid/smaps_rollup; done | \
                  awk '/^Rss:/ { rss += $2 } /^Anonymous:/ { rss -= $2 } /^Pss_(File|Shmem):/ { pss += $2 } END { print rss, pss }'";
    let text = host.ok(script);
    let (rss, pss) = text.trim().split_once(' ').ok_or("smaps_rollup is short")?;
    Ok((rss.parse()?, pss.parse()?))
}

/// The layout that the tests' own script makes.
fn layout() -> Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/host/build-images");
    let output = Command::new(script).arg("bookworm").stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err("tests/host/build-images has failed".into());
    }
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

/// Nanoseconds of a command line that succeeds. It has mounts of its own, since podman leaves some.
fn timed(command: &str) -> Result<u64> {
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "sh", "-c", command]).stdout(Stdio::null());
    let begin = Instant::now();
    let status = shell.status()?;
    let time = u64::try_from(begin.elapsed().as_nanos())?;
    if status.success() { Ok(time) } else { Err(format!("{command} has failed").into()) }
}
