//! Limits: kept, seen from inside, counted, changed.

use crate::support::berth::SOON;
use crate::support::host::{Suite, slowness};
use crate::world::{Face, MIB, PLACE, World, disk};

/// Mesos: `DiskUsageExceedsQuota`, `VolumeUsageExceedsQuota`, `ResourceStatistics`, `QuotaLimit`.
pub fn hard(suite: Suite, face: Face) {
    let world = World::new(suite, face, "");
    let pid = world.run("full", &writer(20, &disk("10MiB", "hard")));
    let said = world.wait_said("full", "status 1");
    assert!(said.contains(face.refusal()) && said.contains("10485760"), "{said}");
    let sandbox = world.sandbox("full");
    assert_eq!((world.project(&sandbox), world.project(&format!("{sandbox}/big")).0), ((5000, true), 5000));
    let [used, soft, hard] = world.report(5000).unwrap();
    assert!(used > 9 * 1024 && used <= 10 * 1024 && (soft, hard) == (10240, 10240), "{used} {soft} {hard}");
    if face == Face::Xfs {
        let stat = world.ok(&format!("xfs_io -r -c stat {sandbox}"));
        assert!(stat.contains("fsxattr.projid = 5000"), "{stat}");
    }
    let statistics = world.wait_statistics("full", |of| of["disk_used_bytes"].as_u64() == Some(used * 1024));
    assert_eq!(statistics["disk_limit_bytes"], 10 * MIB);
    let du: u64 = world.ok(&format!("du -s -B1 {sandbox} | cut -f1")).parse().unwrap();
    assert!(du.abs_diff(used * 1024) <= 64 * 1024, "du says {du}, the kernel {}", used * 1024);
    volume(&world);
    overlay(&world);
    change(&world, pid);
}

/// A program that writes so many MiB, says with what status, and what df says, and goes on.
fn writer(mib: u64, spec: &str) -> String {
    format!(
        "command = \"dd if=/dev/zero of=big bs=1M count={mib}; echo status $?; df -B1 --output=size .; \
         exec sleep infinity\"\n{spec}"
    )
}

/// Limits change while the container runs.
fn change(world: &World, pid: u32) {
    let write =
        |mib: u64| world.berthctl(&format!("exec full -- dd if=/dev/zero of=big bs=1M count={mib}")).status.success();
    let set = |limit: &str, kib: u64| {
        world.drop_spec("full", &writer(20, &disk(limit, "hard")));
        world.wait_limits(5000, kib, kib);
    };
    assert!(!write(20));
    set("30MiB", 30 * 1024);
    assert!(write(20) && !write(40));
    set("5MiB", 5 * 1024);
    assert!(!write(6));
    world.drop_spec("full", &writer(20, &disk("5MiB", "account")));
    world.wait_limits(5000, 0, 0);
    assert!(write(40));
    let statistics = world.wait_statistics("full", |of| of["disk_used_bytes"].as_u64() >= Some(40 * MIB));
    assert_eq!(statistics["disk_limit_bytes"], 5 * MIB, "what was asked for is told all the same");
    assert_eq!(world.main_pid("full"), pid, "nothing was restarted");
    world.remove_spec("full");
}

/// A volume with a limit of its own has a project of its own.
fn volume(world: &World) {
    let volume = "[[volumes]]\ncontainer_path = \"/opt\"\nhost_path = \"opt\"\nlimit = \"4MiB\"\n";
    let command = "command = \"dd if=/dev/zero of=/opt/big bs=1M count=8; echo volume $?; df -B1 --output=size /opt; \
                   dd if=/dev/zero of=big bs=1M count=8; echo sandbox $?; ln /opt/big here; exec sleep infinity\"\n";
    world.run("two", &format!("{command}{}{volume}", disk("10MiB", "hard")));
    let said = world.wait_said("two", "Invalid cross-device link");
    assert!(said.contains("volume 1\n") && said.contains("4194304") && said.contains("sandbox 0\n"), "{said}");
    let sandbox = world.sandbox("two");
    let (own, of_volume) = (world.project(&sandbox).0, world.project(&format!("{sandbox}/opt")).0);
    assert!(own != of_volume, "{own} {of_volume}");
    assert_eq!(world.report(of_volume).map(|[_, soft, hard]| (soft, hard)), Some((4096, 4096)));
    let [used, ..] = world.report(own).unwrap();
    let statistics = world.wait_statistics("two", |of| of["disk_used_bytes"].as_u64() == Some(used * 1024));
    let parts = statistics["disk_statistics"].as_array().unwrap();
    assert_eq!((parts.len(), &parts[1]["persistence"]["id"]), (2, &"opt".into()), "{statistics}");
    assert!(parts[1]["used_bytes"].as_u64() <= Some(4 * MIB) && parts[1]["limit_bytes"] == 4 * MIB, "{statistics}");
    world.remove_spec("two");
}

/// What a run changes of its image is counted with its sandbox.
fn overlay(world: &World) {
    world.tree("/srv/root");
    world.ok("dd if=/dev/zero of=/srv/root/large bs=1M count=20 status=none");
    let command = "command = \"df -B1 --output=size /; dd if=/dev/zero of=/more bs=1M count=6; echo root $?; \
                   dd if=/dev/zero of=/mnt/berth/sandbox/more bs=1M count=6; echo sandbox $?; \
                   touch /large; echo copy $?; exec sleep infinity\"\n";
    let image = "[image]\nsource = \"rootfs:/srv/root\"\n";
    world.run("image", &format!("{command}{}{image}", disk("10MiB", "hard")));
    let said = world.wait_said("image", "copy ");
    for line in ["10485760", "root 0", "sandbox 1", "copy 1"] {
        assert!(said.lines().any(|said| said.trim() == line), "{line}: {said}");
    }
    let sandbox = world.sandbox("image");
    let id = world.project(&sandbox).0;
    for part in ["upper", "work"] {
        assert_eq!(world.project(&format!("{sandbox}.root/{part}")), (id, true));
    }
    world.remove_spec("image");
    world.wait_for("the root to go", SOON, || {
        world.ok(&format!("ls -d {PLACE}/sandboxes/image/*.root 2>/dev/null; true")).is_empty().then_some(())
    });
}

/// Mesos: `DiskUsageExceedsQuotaSoftKillViolation`, `DiskUsageExceedsQuotaWithKill`; its bug that a container without a limit
/// is ended by its first byte. Nobody looks on an interval here: the kernel tells.
pub fn kill(suite: Suite, face: Face) {
    let world = World::new(
        suite,
        face,
        "[disk]\nwatch_interval = \"1h\"\nenforce_quota = true\n[xfs]\nquota_headroom = \"20MiB\"\n",
    );
    let write = |mib: u64| {
        format!(
            "command = \"dd if=/dev/zero of=big bs=1M count={mib}; while :; do cat /proc/uptime; sleep 0.1; done\"\n"
        )
    };
    world.run("free", &format!("{}[disk]\nenforce = \"kill\"\n", write(5)));
    world.run("under", &format!("{}{}", write(5), disk("10MiB", "kill")));
    world.drop_spec("over", &format!("{}{}[service]\nrestart = \"no\"\n", write(12), disk("10MiB", "kill")));
    let ended = world
        .wait_until("over", "ended for the disk", |c| c["limitation"]["reason"] == "disk" && c["state"] == "failed");
    let message = ended["limitation"]["message"].as_str().unwrap();
    assert!(message.starts_with("Disk usage (") && message.ends_with(") exceeds quota (10MiB)"), "{message}");
    assert_eq!(ended["limitation"]["limited_resources"][0]["scalar"]["value"], 10.0);
    let said = world.said("over");
    assert!(!said.contains(face.refusal()), "the headroom holds 12 MiB: {said}");
    let times: Vec<f64> =
        said.lines().filter_map(|line| line.split(' ').next()?.parse().ok()).filter(|time| *time > 2.0).collect();
    let lived = times.last().unwrap_or(&0.0) - times.first().unwrap_or(&0.0);
    assert!(lived <= f64::from(slowness()), "it went on for {lived} s");
    for name in ["free", "under"] {
        assert_eq!(world.container(name).unwrap()["state"], "running");
    }
}
