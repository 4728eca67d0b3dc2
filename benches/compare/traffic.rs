//! What a handle costs: the packets of a container, and the giving of one.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use berth::state::{Ledger, ledger::Choice};
use serde_json::Value;

use super::{Result, SPECS, host::Host, table::Table, wait_until};

/// How often each backend sends.
const ROUNDS: usize = 9;

/// What tags, in turns; the first is nothing.
const BACKENDS: [&str; 4] = ["none", "net_cls", "bpf", "both"];

/// How many handles are taken of 65,535 on a very full host.
const MANY: u32 = 60_000;

/// iperf3 over the loopback with each backend against none.
pub fn throughput(host: &Host, table: &mut Table) -> Result<()> {
    eprintln!("bench: traffic");
    host.ok("ip link set lo up; mkdir -p /run/net_cls; mount -t cgroup -o net_cls net_cls /run/net_cls; \
             systemd-run --quiet --unit=iperf iperf3 --server");
    wait_until(host, "ss -Hltn sport = :5201 | grep -q .");
    let mut times = BACKENDS.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for (backend, times) in BACKENDS.iter().zip(&mut times) {
            times.push(transfer(host, backend)?);
        }
    }
    host.ok(&format!("rm {SPECS}/iperf.toml /etc/berth/berthd.toml; systemctl reload berthd; systemctl stop iperf"));
    wait_until(host, "! ls /run/berth/records | grep -q .");
    for (backend, ours) in BACKENDS.iter().zip(&times).skip(1) {
        let what = format!("4 GiB over the loopback, tagged by {backend}, against no tag");
        table.compare(&what, ours, &times[0], "≤ 1.02");
    }
    Ok(())
}

/// Nanoseconds that a container with this backend takes for a fixed amount.
fn transfer(host: &Host, backend: &str) -> Result<u64> {
    let (handle, backend) = if backend == "none" { ("none", "auto") } else { ("auto", backend) };
    host.write("/etc/berth/berthd.toml", format!("[net_cls]\nprimary_handle = 0x12\nbackend = \"{backend}\"\n"));
    let spec = format!(
        "command = \"exec iperf3 --client 127.0.0.1 --bytes 4G --json >report\"\nautostart = false\n\
         sandbox = \"persistent\"\n[network]\nhandle = \"{handle}\"\n[service]\nrestart = \"no\"\n"
    );
    host.write_atomic(format!("{SPECS}/iperf.toml"), spec);
    let report = Path::new("/var/lib/berth/sandboxes/iperf/persistent/report");
    host.ok(&format!("rm -f {}; systemctl reload berthd; systemctl start berth@iperf", report.display()));
    wait_until(host, "[ \"$(systemctl is-active berth@iperf)\" = inactive ]");
    let report: Value = serde_json::from_str(&host.read(report))?;
    let seconds = report["end"]["sum_received"]["seconds"].as_f64().ok_or("iperf3 did not report")?;
    Ok(Duration::from_secs_f64(seconds).as_nanos().try_into()?)
}

/// The giving of one more handle where one is taken, and where 60,000 are.
pub fn allocation(table: &mut Table) -> Result<()> {
    eprintln!("bench: handles");
    let memory = Path::new("/dev/shm");
    let scratch = if memory.is_dir() { tempfile::tempdir_in(memory)? } else { tempfile::tempdir()? };
    let few = allocations(&scratch.path().join("few"), 1)?;
    let many = allocations(&scratch.path().join("many"), MANY)?;
    table.compare("one more handle where 60,000 are taken, against where one is", &many, &few, "");
    Ok(())
}

/// Nanoseconds of each of some allocations, where so many are taken.
fn allocations(directory: &Path, taken: u32) -> Result<Vec<u64>> {
    let mut ledger = Ledger::open(directory.to_owned())?;
    let choice = Choice {
        ranges: &[1..=0xffff],
        rest: Duration::from_secs(60),
        now: Duration::from_secs(1),
        taken: &|_| false,
        remembered: &|_| false,
    };
    for number in 0..taken {
        ledger.allocate(&format!("c{number}").parse()?, &choice)?;
    }
    let mut times = Vec::new();
    for number in 0..200 {
        let name = format!("more{number}").parse()?;
        let began = Instant::now();
        ledger.allocate(&name, &choice)?.ok_or("there is no handle left")?;
        times.push(began.elapsed().as_nanos().try_into()?);
    }
    Ok(times)
}
