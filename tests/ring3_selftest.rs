//! The test hosts, tested: what the other ring 3 tests take for granted.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::missing_docs_in_private_items,
    reason = "a test says what it expects"
)]

mod support;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::cgroup;
use support::host::{BootOptions, Host, Suite, ask_until, has_net_cls};
use support::inside;
use support::ring;

/// Set for a copy of this program that is to boot a host and be killed.
const VICTIM: &str = "BERTH_SELFTEST_VICTIM";

fn main() -> ExitCode {
    if let Ok(suite) = env::var(VICTIM) {
        return be_the_victim(&suite);
    }
    let mut trials = vec![
        ("boots", boots as fn(Suite)),
        ("commands", commands),
        ("commands_belong_to_the_host", commands_belong_to_the_host),
        ("files", files),
        ("links_stay_inside", links_stay_inside),
        ("a_dropped_unit_runs", a_dropped_unit_runs),
        ("no_line_is_lost", no_line_is_lost),
        ("file_systems", file_systems),
        ("background_commands", background_commands),
        ("boot_options", boot_options),
        ("a_full_disk", a_full_disk),
        ("a_bad_boot_says_why", a_bad_boot_says_why),
        ("net_cls_can_be_mounted", net_cls_can_be_mounted),
        ("overlay_on_var", overlay_on_var),
        ("two_side_by_side", two_side_by_side),
        ("reboot_keeps_the_disk", reboot_keeps_the_disk),
        ("power_cycle_keeps_the_disk", power_cycle_keeps_the_disk),
        ("reexec_keeps_the_host", reexec_keeps_the_host),
        ("power_off_ends_it", power_off_ends_it),
        ("the_machine_is_out_of_reach", the_machine_is_out_of_reach),
        ("nothing_is_left", nothing_is_left),
        ("a_killed_test_takes_its_host_along", a_killed_test_takes_its_host_along),
        ("waiting_gives_up", waiting_gives_up),
    ];
    let mut lacking = Vec::new();
    ring::not_here(&mut trials, &mut lacking, &NOT_HERE);
    ring::main_but(&trials, &lacking)
}

/// What is about the namespaces of a host, its disk or its power, where the host is the machine itself.
const NOT_HERE: [(&str, &str); 13] = [
    ("commands_belong_to_the_host", "the test itself belongs to it"),
    ("links_stay_inside", "nothing is outside"),
    ("boot_options", "the machine has booted before it gets what a test wants"),
    ("a_full_disk", "it reboots the host"),
    ("a_bad_boot_says_why", "it spoils the boot of the host"),
    ("net_cls_can_be_mounted", "it reboots the host"),
    ("two_side_by_side", "there is one machine"),
    ("reboot_keeps_the_disk", "it reboots the host"),
    ("power_cycle_keeps_the_disk", "it pulls the plug"),
    ("power_off_ends_it", "it switches the host off"),
    ("the_machine_is_out_of_reach", "the machine is the host"),
    ("nothing_is_left", "the machine is there after the test"),
    ("a_killed_test_takes_its_host_along", "the machine is there after the test"),
];

fn boot(suite: Suite) -> Host {
    Host::boot(suite).unwrap_or_else(|error| panic!("{error}"))
}

fn boot_with(suite: Suite, options: &BootOptions) -> Host {
    Host::boot_with(suite, options).unwrap_or_else(|error| panic!("{error}"))
}

fn boots(suite: Suite) {
    let host = boot(suite);
    eprintln!("{suite} boots in {:?}: {}", host.boot_time(), host.ok("systemctl --version"));
    assert_eq!(host.ok("systemctl is-system-running"), "running");
    assert_eq!(host.ok("systemctl --failed --no-legend"), "");
    host.ok("busctl --no-pager status org.freedesktop.systemd1");
    assert!(host.ok("ip -brief address show lo").contains("127.0.0.1/8"));
}

fn commands(suite: Suite) {
    let host = Host::shared(suite);
    let output = host.sh("echo out; echo err >&2; exit 7");
    assert_eq!(output.status.code(), Some(7));
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(host.ok("env | sort | cut -d= -f1 | grep -v -e _ -e PWD"), "HOME\nLANG\nPATH");

    let began = Instant::now();
    (0..50).for_each(|_| drop(host.ok("true")));
    eprintln!("{suite}: a command takes {:?}", began.elapsed() / 50);
}

fn commands_belong_to_the_host(suite: Suite) {
    let host = Host::shared(suite);
    assert_eq!(host.ok("cat /proc/self/cgroup | grep ^0:"), "0::/init.scope");
    assert_eq!(host.ok("cat /proc/1/comm"), "systemd");
    for namespace in ["pid", "mnt", "cgroup", "ipc", "uts", "net"] {
        let link = format!("/proc/$$/ns/{namespace}");
        let ours = fs::read_link(format!("/proc/self/ns/{namespace}")).unwrap();
        let theirs = host.ok(&format!("readlink {link}"));
        assert_eq!(theirs, host.ok(&format!("readlink /proc/1/ns/{namespace}")));
        assert_ne!(Path::new(&theirs), ours);
    }
}

fn files(suite: Suite) {
    let host = Host::shared(suite);
    host.write("/etc/selftest/a/b", "one\n");
    assert_eq!(host.ok("cat /etc/selftest/a/b"), "one");
    host.write_atomic("/etc/selftest/a/b", "two\n");
    assert_eq!(host.read("/etc/selftest/a/b"), "two\n");
    assert_eq!(host.files().list("/etc/selftest/a").unwrap(), ["b"]);
    assert_eq!(host.find("/etc/selftest/c"), None);
    assert_eq!(fs::read_to_string(host.path("/etc/selftest/a/b")).unwrap(), "two\n");
    host.remove("/etc/selftest");
    assert!(!host.files().exists("/etc/selftest"));
}

/// An absolute link must lead to the host's file also when followed from outside.
fn links_stay_inside(suite: Suite) {
    let host = Host::shared(suite);
    host.ok("echo inside >/run/selftest-target; ln -s /run/selftest-target /run/selftest-link");
    assert_eq!(host.read("/run/selftest-link"), "inside\n");
    host.write("/run/selftest-link", "changed\n");
    assert_eq!(host.ok("cat /run/selftest-target"), "changed");
    assert!(!Path::new("/run/selftest-target").exists());
    host.ok("rm /run/selftest-*");
}

const ONESHOT: &str = "[Service]\nType=oneshot\nRemainAfterExit=yes\n\
                       ExecStart=/bin/sh -c 'echo hello from the unit; cat /proc/self/cgroup'\n";

fn a_dropped_unit_runs(suite: Suite) {
    let host = boot(suite);
    host.write("/etc/systemd/system/dropped.service", ONESHOT);
    host.ok("systemctl daemon-reload && systemctl start dropped");
    assert_eq!(host.show("dropped", "ActiveState"), "active");
    let journal = host.journal("dropped");
    assert!(journal.contains("hello from the unit"), "{journal}");
    assert!(journal.contains("0::/system.slice/dropped.service"), "{journal}");
}

/// journald drops lines of talkative services by default; a test would miss them.
fn no_line_is_lost(suite: Suite) {
    let host = Host::shared(suite);
    host.ok("systemd-run --quiet --wait --unit=talkative seq 20000");
    let numbers = "journalctl --sync; journalctl -b -u talkative -o cat | grep -c '^[0-9]*$'";
    assert_eq!(host.ok(numbers), "20000");
}

/// What isolators mount, and what the tests of disks need.
fn file_systems(suite: Suite) {
    let host = Host::shared(suite);
    host.ok("unshare --mount mount -t bpf bpf /sys/fs/bpf");
    host.ok("mount -t tmpfs none /mnt && truncate -s 64m /mnt/image && mkfs.ext4 -q /mnt/image && \
             mkdir /mnt/loop && mount -o loop /mnt/image /mnt/loop && \
             touch /mnt/loop/x && umount /mnt/loop");
    // The loop device lets go of its file a moment later, where udev looks at it once more.
    host.wait_for("the file system below", Duration::from_secs(5), || {
        host.sh("umount /mnt").status.success().then_some(())
    });
}

fn background_commands(suite: Suite) {
    let host = Host::shared(suite);
    let mut sleeper = host.spawn("exec sleep 1000");
    assert!(sleeper.wait(Duration::from_millis(20)).is_none());
    let inside = sleeper.pid_inside().unwrap();
    host.wait_for("sleep to be executed", Duration::from_secs(5), || {
        (host.read(format!("/proc/{inside}/comm")) == "sleep\n").then_some(())
    });
    sleeper.signal(Signal::TERM).unwrap();
    let output = sleeper.wait(Duration::from_secs(5)).unwrap().unwrap();
    assert_eq!(output.status.to_string(), "signal: 15 (SIGTERM)");

    let forgotten = host.spawn("exec sleep 1000");
    let inside = forgotten.pid_inside().unwrap();
    drop(forgotten);
    host.wait_for("the end of sleep", Duration::from_secs(5), || {
        (!host.files().exists(format!("/proc/{inside}"))).then_some(())
    });
}

fn boot_options(suite: Suite) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), "bound\n").unwrap();
    let script = "#!/bin/sh\necho script\n";
    let options = BootOptions::default()
        .bind(directory.path(), "/run/bound")
        .bind(directory.path().join("file"), "/usr/libexec/selftest/file")
        .bind_writable(directory.path(), "/srv/bound")
        .copy(directory.path().join("file"), "/opt/copy")
        .file_with_mode("/usr/local/bin/selftest", script, 0o755)
        .file("/etc/systemd/system/early.service", ONESHOT)
        .file("/etc/systemd/system/multi-user.target.d/early.conf", "[Unit]\nWants=early.service");
    let host = boot_with(suite, &options);
    assert_eq!(host.ok("cat /run/bound/file /usr/libexec/selftest/file /opt/copy").lines().count(), 3);
    assert_eq!(host.ok("selftest"), "script");
    assert_eq!(host.show("early", "ActiveState"), "active");
    assert!(!host.sh("echo x >/run/bound/new").status.success());
    host.ok("echo back >/srv/bound/new");
    assert_eq!(fs::read_to_string(directory.path().join("new")).unwrap(), "back\n");
}

fn a_full_disk(suite: Suite) {
    let options = BootOptions::default().tmpfs("/var/lib/berth", "4m");
    let mut host = boot_with(suite, &options);
    let output = host.sh("head -c 5m /dev/zero >/var/lib/berth/big");
    assert!(output.stderr.contains("No space left on device"), "{output}");
    assert_eq!(host.ok("stat -c %s /var/lib/berth/big"), (4 << 20).to_string());
    host.ok("echo room >/var/lib/other");
    host.reboot().unwrap();
    assert_eq!(host.ok("stat -c %s /var/lib/berth/big"), (4 << 20).to_string());
}

fn a_bad_boot_says_why(suite: Suite) {
    let failing = "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo my last words; exit 1'\n";
    let options = BootOptions::default()
        .file("/etc/systemd/system/failing.service", failing)
        .file("/etc/systemd/system/multi-user.target.d/failing.conf", "[Unit]\nWants=failing.service");
    let error = Host::boot_with(suite, &options).unwrap_err().to_string();
    for part in ["degraded", "failing.service", "my last words"] {
        assert!(error.contains(part), "{error}");
    }

    let options = BootOptions::default().bind("/nonexistent/source", "/srv");
    let error = Host::boot_with(suite, &options).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/source"), "{error}");

    let options = BootOptions::default().bind("/etc/passwd", "/usr"); // a file on a directory
    let error = Host::boot_with(suite, &options).unwrap_err().to_string();
    assert!(error.contains("mount"), "{error}");
}

fn net_cls_can_be_mounted(suite: Suite) {
    if !has_net_cls() {
        eprintln!("{suite}: net_cls NOT TESTED: this kernel has none");
        return;
    }
    let mut host = boot_with(suite, &BootOptions::default().net_cls());
    let mount = "mkdir -p /run/net_cls && mount -t cgroup -o net_cls net_cls /run/net_cls && \
                 grep ' /run/net_cls ' /proc/self/mountinfo | cut -d' ' -f4";
    assert_eq!(host.ok(mount), "/", "it is alone in its hierarchy");
    host.ok("mkdir /run/net_cls/a && echo 0x00100001 >/run/net_cls/a/net_cls.classid");
    let join = "echo 0 >/run/net_cls/a/cgroup.procs; grep net_cls /proc/self/cgroup | cut -d: -f3";
    assert_eq!(host.ok(join), "/a");
    assert_eq!(host.ok("cat /run/net_cls/a/net_cls.classid"), "1048577");
    assert_eq!(host.ok("grep net_cls /proc/1/cgroup | cut -d: -f3"), "/");
    host.reboot().unwrap();
    assert_eq!(host.ok(mount), "/");
    assert_eq!(host.ok("systemctl is-system-running"), "running");
}

/// What containers with an image do below /var/lib.
fn overlay_on_var(suite: Suite) {
    let host = Host::shared(suite);
    host.ok("cd /var/lib && mkdir -p selftest/u selftest/w selftest/m && \
             unshare --mount sh -ec 'mount -t overlay overlay \
               -o lowerdir=/usr,upperdir=selftest/u,workdir=selftest/w selftest/m; \
               echo x >selftest/m/x; rm selftest/m/bin/jq; test -e /usr/bin/jq'; \
             test -c selftest/u/bin/jq && rm -r selftest");
}

fn two_side_by_side(suite: Suite) {
    let (one, two) = thread::scope(|scope| {
        let one = scope.spawn(|| boot(suite));
        let two = scope.spawn(|| boot(suite));
        (one.join().unwrap(), two.join().unwrap())
    });
    one.write("/etc/here", "one");
    one.ok("systemd-run --unit=same --quiet sleep 1000");
    assert!(!two.files().exists("/etc/here"));
    assert_eq!(two.show("same", "LoadState"), "not-found");
    assert_ne!(one.read("/etc/machine-id"), two.read("/etc/machine-id"));
    drop(one);
    assert_eq!(two.ok("systemctl is-system-running"), "running");
}

/// What is new after a boot: the boot ID, /run and /tmp, and nothing else.
fn assert_booted_anew(suite: Suite, again: fn(&mut Host)) {
    let mut host = boot(suite);
    let boot_id = host.read("/proc/sys/kernel/random/boot_id");
    let machine_id = host.read("/etc/machine-id");
    for directory in ["/etc", "/var/lib", "/run", "/tmp"] {
        host.write(format!("{directory}/selftest"), "x");
    }
    host.write("/etc/systemd/system/later.service", ONESHOT);
    host.ok("mkdir /etc/systemd/system/multi-user.target.wants -p && systemctl -q add-wants multi-user.target later");

    again(&mut host);

    let kept = host.ok("ls -d /etc/selftest /var/lib/selftest /run/selftest /tmp/selftest; true");
    assert_eq!(kept, "/etc/selftest\n/var/lib/selftest");
    assert_eq!(host.show("later", "ActiveState"), "active");
    assert_ne!(host.read("/proc/sys/kernel/random/boot_id"), boot_id);
    assert_eq!(host.read("/etc/machine-id"), machine_id);
    let boots = host.ok("journalctl --list-boots --no-pager | grep -cv IDX");
    assert_eq!(boots, "1", "the journal is volatile");
}

fn reboot_keeps_the_disk(suite: Suite) {
    assert_booted_anew(suite, |host| {
        host.write(
            "/etc/systemd/system/last.service",
            "[Service]\nType=oneshot\nRemainAfterExit=yes\n\
            ExecStart=/bin/true\nExecStop=/bin/sh -c 'echo stopped >/etc/last'\n",
        );
        host.ok("systemctl daemon-reload && systemctl start last");
        host.reboot().unwrap();
        assert_eq!(host.read("/etc/last"), "stopped\n", "units are stopped in order");
        eprintln!("{} reboots in {:?}", host.suite(), host.boot_time());
    });
}

fn power_cycle_keeps_the_disk(suite: Suite) {
    assert_booted_anew(suite, |host| host.power_cycle().unwrap());
}

/// An upgrade of systemd's package does this to a running host.
fn reexec_keeps_the_host(suite: Suite) {
    let host = boot(suite);
    host.ok("systemd-run --unit=lasting --quiet sleep 1000");
    let pid = host.show("lasting", "MainPID");
    host.ok("systemctl daemon-reexec");
    assert_eq!(host.show("lasting", "MainPID"), pid);
    assert_eq!(host.ok("systemctl is-system-running"), "running");
}

fn power_off_ends_it(suite: Suite) {
    let host = boot(suite);
    let (pid, cgroup) = (host.pid(), host.cgroup().to_path_buf());
    host.power_off().unwrap();
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    assert!(!cgroup.exists());
}

/// Whatever systemd does at boot, it does not do it to the machine's kernel.
fn the_machine_is_out_of_reach(suite: Suite) {
    let host = Host::shared(suite);
    assert!(!host.sh("echo 1 >/proc/sys/kernel/printk").status.success());
    host.ok("grep -q '^sysfs /sys sysfs ro,' /proc/mounts");
    assert!(!host.sh("echo h >/proc/sysrq-trigger").status.success());
    host.ok("echo 1 >/proc/sys/net/ipv4/ip_forward");
    assert!(!host.files().exists("/run/machine"));
    assert_eq!(host.ok("cat /proc/sys/kernel/hostname"), "berth-test");
}

/// Mounts, processes and cgroups of the machine that have to do with test hosts of this
/// process.
fn traces() -> BTreeSet<String> {
    let mine = format!("berth-test-{}-", std::process::id());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = mounts.lines().filter(|line| line.contains("berth-test")).map(String::from);
    let cgroups = fs::read_dir(cgroup::mount_point().unwrap()).unwrap();
    let cgroups = cgroups.map(|entry| entry.unwrap().path().display().to_string());
    mounts.chain(cgroups.filter(|path| path.contains(&mine))).collect()
}

/// Runs beside other trials, hence the look at its own host only.
fn nothing_is_left(suite: Suite) {
    let host = boot_with(suite, &BootOptions::default().tmpfs("/mnt/small", "1m"));
    let mut sleeper = host.spawn("sleep 1000 & sleep 1000");
    host.ok("systemd-run --unit=lasting --quiet --property=Delegate=yes \
             sh -c 'mkdir /sys/fs/cgroup/system.slice/lasting.service/deep; exec sleep 1000'");
    let pid = host.pid();
    let cgroup = host.cgroup().to_path_buf();
    let namespace = fs::read_link(format!("/proc/{pid}/ns/pid")).unwrap();
    assert!(traces().contains(&cgroup.display().to_string()));
    assert!(processes_in(&namespace).len() >= 5);

    drop(host);

    assert!(!cgroup.exists());
    assert_eq!(processes_in(&namespace), [] as [u32; 0]);
    assert!(!traces().iter().any(|trace| trace.contains(" - ")), "mounts: {:?}", traces());
    assert!(sleeper.wait(Duration::from_secs(5)).is_some(), "its commands die with it");
}

fn processes_in(namespace: &Path) -> Vec<u32> {
    let pids = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    let is_in = |pid: &u32| fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|link| link == namespace);
    pids.filter(is_in).collect()
}

/// What a copy of this program does for [`a_killed_test_takes_its_host_along`].
fn be_the_victim(suite: &str) -> ExitCode {
    let host = boot(suite.parse().unwrap_or_else(|error| panic!("{error}")));
    host.ok("systemctl daemon-reexec"); // the parent-death signal has to outlive it
    println!("{} {}", host.pid(), host.cgroup().display());
    loop {
        thread::park();
    }
}

fn a_killed_test_takes_its_host_along(suite: Suite) {
    let mut victim = Command::new(env::current_exe().unwrap())
        .env(VICTIM, suite.name())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(victim.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let (pid, cgroup) = line.trim_end().split_once(' ').unwrap();
    let (systemd, cgroup) = (inside::pidfd(pid.parse().unwrap()).unwrap(), PathBuf::from(cgroup));

    victim.kill().unwrap();
    victim.wait().unwrap();

    let mut end = [rustix::event::PollFd::new(&systemd, rustix::event::PollFlags::IN)];
    let timeout = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut end, Some(&timeout)).unwrap(), 1, "systemd lives on");
    let host = boot(suite); // the next boot sweeps
    host.wait_for("the cgroup to be swept", Duration::from_secs(5), || {
        cgroup::sweep().unwrap();
        (!cgroup.exists()).then_some(())
    });
}

fn waiting_gives_up(suite: Suite) {
    let host = boot(suite); // others would fill the end of its journal
    host.ok("echo a line of the journal | systemd-cat");
    let mut asked = 0;
    let ask = || -> Option<()> {
        asked += 1;
        None
    };
    assert_eq!(ask_until(Duration::from_millis(30), ask), None);
    assert!((2..10).contains(&asked), "asked {asked} times");
    assert!(host.journal_tail().contains("a line of the journal"));
}
