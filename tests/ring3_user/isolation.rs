//! Namespaces, /dev/shm, IPC objects and volumes: the acceptance cases of Mesos's isolators, and its bugs put right.

use serde_json::json;

use crate::support::berth::{Berth, SLEEP, options};
use crate::support::host::Suite;
use crate::support::ring::Test;

pub const TRIALS: &[Test] = &[
    ("the_program_is_pid_1_and_sees_its_own", the_program_is_pid_1_and_sees_its_own),
    ("namespaces_are_private_by_default", namespaces_are_private_by_default),
    ("namespaces_can_be_the_hosts", namespaces_can_be_the_hosts),
    ("shm_has_the_size_of_the_spec", shm_has_the_size_of_the_spec),
    ("ipc_objects_are_private_and_go", ipc_objects_are_private_and_go),
    ("kernel_settings_of_ipc_stay_inside", kernel_settings_of_ipc_stay_inside),
    ("policy_and_default_shm_are_the_administrators", policy_and_default_shm_are_the_administrators),
    ("a_relative_volume_is_private", a_relative_volume_is_private),
    ("an_absolute_volume_is_the_hosts", an_absolute_volume_is_the_hosts),
    ("a_private_directory_has_mode_and_owner_of_what_it_covers", a_private_directory_has_mode_and_owner),
    ("volumes_see_the_host_and_not_one_another", volumes_see_the_host_and_not_one_another),
    ("a_prefix_is_no_overlap", a_prefix_is_no_overlap),
    ("read_only_is_recursive_and_keeps_flags", read_only_is_recursive_and_keeps_flags),
    ("mounts_stay_inside", mounts_stay_inside),
    ("a_planted_symlink_is_refused", a_planted_symlink_is_refused),
    ("a_file_covers_a_file", a_file_covers_a_file),
];

const ONCE: &str = "[service]\nrestart = \"no\"\n";

fn volume(container_path: &str, host_path: &str, mode: &str) -> String {
    format!("[[volumes]]\ncontainer_path = \"{container_path}\"\nhost_path = \"{host_path}\"\nmode = \"{mode}\"\n")
}

fn the_program_is_pid_1_and_sees_its_own(suite: Suite) {
    let host = Berth::shared(suite);
    let toml = "command = \"echo $$; ps -e -o pid= -o comm=; ls -d /proc/[0-9]*; \
                grep ' /proc ' /proc/self/mountinfo | tail -1 | cut -d' ' -f6\"\n";
    let said = host.output_of("pid1", &format!("{toml}{ONCE}"));
    let lines: Vec<&str> = said.lines().map(str::trim).collect();
    assert_eq!(lines[0], "1");
    assert_eq!(lines[1], "1 sh");
    assert!(lines[2].ends_with(" ps") && lines[3] == "/proc/1", "{said}");
    for flag in ["nosuid", "nodev", "noexec"] {
        assert!(lines.last().unwrap().contains(flag), "{said}");
    }
    let pid = host.run("pid1-seen", SLEEP);
    assert_eq!(
        host.ok(&format!("nsenter --target {pid} --pid --mount ps -e -o pid= -o args= | grep -v ' ps '")).trim(),
        "1 /bin/sleep infinity"
    );
}

fn namespaces_are_private_by_default(suite: Suite) {
    let host = Berth::shared(suite);
    let (one, two) = (host.run("ns-one", SLEEP), host.run("ns-two", SLEEP));
    for kind in ["pid", "ipc", "mnt"] {
        let all = [host.ns(1, kind), host.ns(one, kind), host.ns(two, kind)];
        assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2], "{kind}: {all:?}");
    }
    for kind in ["net", "uts", "user", "cgroup"] {
        assert_eq!(host.ns(one, kind), host.ns(1, kind), "{kind}");
    }
    let state = host.container("ns-one").unwrap();
    let said = |name: &str| {
        let isolators = state["isolators"].as_array().unwrap();
        isolators.iter().find(|isolator| isolator["name"] == name).unwrap()["detail"].as_str().unwrap().to_owned()
    };
    assert_eq!(said("namespaces/pid"), format!("private, {}", host.ns(one, "pid")));
    assert_eq!(said("namespaces/ipc"), format!("private, {}", host.ns(one, "ipc")));
}

fn namespaces_can_be_the_hosts(suite: Suite) {
    let host = Berth::shared(suite);
    let pid = host.run("ns-host", &format!("{SLEEP}[namespaces]\npid = \"host\"\nipc = \"host\"\n"));
    assert_eq!(host.ns(pid, "pid"), host.ns(1, "pid"));
    assert_eq!(host.ns(pid, "ipc"), host.ns(1, "ipc"));
    assert_eq!(host.ok("cat /sys/fs/cgroup/berth.slice/berth@ns-host.service/cgroup.procs"), pid.to_string());
    host.ok("systemctl stop berth@ns-host");
    host.wait_state("ns-host", "stopped");
    assert_eq!(host.property("ns-host", "ActiveState"), "inactive");
    let pid = host.run("ns-ipc", &format!("{SLEEP}[namespaces]\nipc = \"host\"\n"));
    assert_eq!(host.ns(pid, "ipc"), host.ns(1, "ipc"));
    assert_ne!(host.ns(pid, "pid"), host.ns(1, "pid"));
    host.drop_spec("ns-ipc", SLEEP);
    host.wait_until("ns-ipc", "private", |container| container["main_pid"] != pid && container["state"] == "running");
    assert_ne!(host.ns(host.wait_program("ns-ipc"), "ipc"), host.ns(1, "ipc"));
}

/// Mesos: 2 to 4 GiB were negative, 4 GiB was no limit, 5 GiB was 1 GiB.
fn shm_has_the_size_of_the_spec(suite: Suite) {
    let host = Berth::shared(suite);
    for (number, (size, bytes)) in
        [("64M", 64 << 20), ("2G", 2_u64 << 30), ("4GiB", 4 << 30), ("5G", 5 << 30)].into_iter().enumerate()
    {
        let toml = format!(
            "command = \"df --output=size,target -B1 /dev/shm | tail -1; stat -c %a /dev/shm; \
             grep ' /dev/shm ' /proc/self/mountinfo | tail -1\"\n[namespaces]\nshm_size = \"{size}\"\n{ONCE}"
        );
        let said = host.output_of(&format!("shm-{number}"), &toml);
        let words: Vec<&str> = said.split_whitespace().collect();
        assert_eq!(words[..3], [&bytes.to_string(), "/dev/shm", "1777"], "{size}: {said}");
        assert!(said.contains("nosuid") && said.contains("nodev") && said.contains("tmpfs"), "{said}");
    }
    let full = "command = \"head -c 2000000 /dev/zero >/dev/shm/x; stat -c %s /dev/shm/x\"\n";
    let said = host.output_of("shm-full", &format!("{full}[namespaces]\nshm_size = \"1M\"\n{ONCE}"));
    assert!(said.contains("No space left on device") && said.ends_with("1048576"), "{said}");
}

fn ipc_objects_are_private_and_go(suite: Suite) {
    let host = Berth::shared(suite);
    let toml = "command = \"ipcmk -M 4096 -Q -S 3; touch /dev/mqueue/ours /dev/shm/ours; \
                ipcs -m -q -s | grep -c '^0x'; ls /dev/mqueue /dev/shm; exec sleep infinity\"\n";
    host.ok("ipcmk -Q; touch /dev/mqueue/theirs /dev/shm/theirs");
    let before = host.ok("ipcs -m -q -s");
    let pid = host.run("ipc", toml);
    host.wait_program("ipc");
    let said = host.wait_said("ipc", "/dev/shm");
    let said = host.wait_for("the listing", super::SOON, || {
        Some(host.said("ipc"))
            .filter(|s| s.matches("ours").count() == 2)
            .or_else(|| (said.len() > 100_000).then(String::new))
    });
    assert!(said.contains("\n3\n"), "{said}");
    assert!(!said.contains("theirs"), "{said}");
    assert_eq!(host.ok("ipcs -m -q -s"), before, "the host sees none of it");
    assert!(!host.files().exists("/dev/mqueue/ours") && !host.files().exists("/dev/shm/ours"));
    host.ok("systemctl restart berth@ipc");
    let again = host.wait_program("ipc");
    assert_ne!(host.ns(again, "ipc"), host.ns(1, "ipc"));
    assert_ne!(again, pid);
    assert_eq!(host.ok(&format!("nsenter --target {again} --ipc ipcs -q | grep -c '^0x'")), "1", "a fresh one");
    host.ok("rm /dev/mqueue/theirs /dev/shm/theirs");
}

/// Mesos: shmmax set inside does not change the host's.
fn kernel_settings_of_ipc_stay_inside(suite: Suite) {
    let host = Berth::shared(suite);
    let pid = host.run("shmmax", SLEEP);
    let read = "cat /proc/sys/kernel/shmmax";
    let hosts = host.ok(read);
    // The host's own /proc/sys is read-only here; the container's /proc is its own.
    host.ok(&format!("nsenter --target {pid} --ipc --mount --pid sh -c 'echo 4096 >/proc/sys/kernel/shmmax'"));
    assert_eq!(host.ok(&format!("nsenter --target {pid} --ipc --mount --pid {read}")), "4096");
    assert_eq!(host.ok(read), hosts);
}

fn policy_and_default_shm_are_the_administrators(suite: Suite) {
    let config = "[namespaces]\nallow_host_pid = false\nallow_host_ipc = false\nshm_size = \"64M\"\n\
                  [defaults]\nenvironment = { FROM = \"defaults\", KEPT = \"yes\" }\numask = \"0027\"\n\
                  [[defaults.volumes]]\ncontainer_path = \"/mnt\"\nhost_path = \"mnt\"\n";
    let host = Berth::boot_with(suite, options().file("/etc/berth/berthd.toml", config));
    for (kind, key) in [("pid", "allow_host_pid"), ("ipc", "allow_host_ipc")] {
        let name = format!("host-{kind}");
        host.drop_spec(&name, &format!("{SLEEP}[namespaces]\n{kind} = \"host\"\n"));
        let state = host.wait_state(&name, "failed");
        assert_eq!(state["error"]["stage"], "config");
        assert!(state["error"]["message"].as_str().unwrap().contains(&format!("{key} = false")), "{state:#}");
    }
    let report = "command = \"df --output=size -B1 /dev/shm | tail -1; echo $FROM $KEPT; umask; \
                  grep -c ' /mnt ' /proc/self/mountinfo; true\"\n";
    let said = host.output_of("defaults", &format!("{report}{ONCE}"));
    assert_eq!(said.lines().map(str::trim).collect::<Vec<_>>(), ["67108864", "defaults yes", "0027", "1"]);
    // The spec wins, key by key; a list replaces, an empty one empties.
    let own = "volumes = []\numask = \"0077\"\n[namespaces]\nshm_size = \"128M\"\n[environment]\nFROM = \"spec\"\n";
    let said = host.output_of("own", &format!("{report}{own}{ONCE}"));
    assert_eq!(said.lines().map(str::trim).collect::<Vec<_>>(), ["134217728", "spec yes", "0077", "0"]);
    let shown = host.berthctl("cat own").stdout;
    assert!(shown.lines().any(|line| line.contains("KEPT") && line.contains("berthd.toml")), "{shown}");
    assert!(shown.lines().any(|line| line.contains("FROM") && line.contains("own.toml")), "{shown}");
}

/// Mesos's deleted test `ROOT_RelativeVolume`.
fn a_relative_volume_is_private(suite: Suite) {
    let host = Berth::shared(suite);
    let toml = format!(
        "command = \"echo inside >/var/tmp/rel-file; cat /var/tmp/rel-file\"\n{}{ONCE}",
        volume("/var/tmp", "tmp", "RW")
    );
    assert_eq!(host.output_of("relative", &toml), "inside");
    assert!(!host.files().exists("/var/tmp/rel-file"), "absent on the host");
    let sandbox = host.container("relative").unwrap()["sandbox"].as_str().unwrap().to_owned();
    assert_eq!(host.read(format!("{sandbox}/tmp/rel-file")), "inside\n");
    assert_eq!(host.read("/var/lib/berth/sandboxes/relative/latest/tmp/rel-file"), "inside\n");
}

/// Mesos's deleted test `ROOT_AbsoluteVolume`.
fn an_absolute_volume_is_the_hosts(suite: Suite) {
    let host = Berth::shared(suite);
    host.write("/srv/abs/file", "from the host\n");
    let toml = format!(
        "command = \"cat /var/tmp/file; echo back >/var/tmp/new\"\n{}{ONCE}",
        volume("/var/tmp", "/srv/abs", "RW")
    );
    assert_eq!(host.output_of("absolute", &toml), "from the host");
    assert_eq!(host.read("/srv/abs/new"), "back\n");
    assert!(!host.files().exists("/var/tmp/new"));
}

fn a_private_directory_has_mode_and_owner(suite: Suite) {
    let host = Berth::shared(suite);
    host.ok("mkdir -p /srv/model && chown www-data:games /srv/model && chmod 2751 /srv/model");
    let toml = format!(
        "command = \"stat -c '%a %U %G' /tmp /srv/model && touch /tmp/x\"\nuser = \"nobody\"\n{}{}{ONCE}",
        volume("/tmp", "a/b/tmp", "RW"),
        volume("/srv/model", "model", "RW")
    );
    assert_eq!(host.output_of("modes", &toml), "1777 root root\n2751 www-data games");
    let sandbox = "/var/lib/berth/sandboxes/modes/latest/";
    assert_eq!(host.ok(&format!("stat -c '%a %U' {sandbox} {sandbox}/a/b/tmp/x")), "750 nobody\n644 nobody");
}

/// All sources are those of the host, whatever order the volumes have.
fn volumes_see_the_host_and_not_one_another(suite: Suite) {
    let host = Berth::shared(suite);
    host.ok("mkdir -p /srv/va /srv/vb && echo a >/srv/va/name && echo b >/srv/vb/name");
    let toml = format!(
        "command = \"cat /srv/va/name /srv/vb/name\"\n{}{}{ONCE}",
        volume("/srv/va", "/srv/vb", "RW"),
        volume("/srv/vb", "/srv/va", "RW")
    );
    assert_eq!(host.output_of("swapped", &toml), "b\na");
}

/// Mesos compared strings: `/srv/pre` and `/srv/prefix` were in conflict.
fn a_prefix_is_no_overlap(suite: Suite) {
    let host = Berth::shared(suite);
    host.ok("mkdir -p /srv/pre /srv/prefix");
    let toml = format!(
        "command = \"touch /srv/pre/x /srv/prefix/y; echo done\"\n{}{}{ONCE}",
        volume("/srv/pre", "one", "RW"),
        volume("/srv/prefix", "two", "RW")
    );
    assert_eq!(host.output_of("prefix", &toml), "done");
}

fn read_only_is_recursive_and_keeps_flags(suite: Suite) {
    let host = Berth::shared(suite);
    host.ok("mkdir -p /srv/ro/sub /srv/ro-seen && mount -t tmpfs -o nosuid,nodev,noexec tmpfs /srv/ro/sub && touch /srv/ro/sub/there");
    let toml = format!(
        "command = \"touch /srv/ro-seen/x; touch /srv/ro-seen/sub/x; ls /srv/ro-seen/sub; \
         grep ' /srv/ro-seen' /proc/self/mountinfo | cut -d' ' -f5,6\"\n{}{ONCE}",
        volume("/srv/ro-seen", "/srv/ro", "RO")
    );
    let said = host.output_of("readonly", &toml);
    assert_eq!(said.matches("Read-only file system").count(), 2, "{said}");
    assert!(said.contains("\nthere\n"), "{said}");
    let flags = |path: &str| said.lines().find_map(|line| line.strip_prefix(&format!("{path} "))).unwrap().to_owned();
    assert!(flags("/srv/ro-seen").starts_with("ro,"), "{said}");
    for flag in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(flags("/srv/ro-seen/sub").split(',').any(|has| has == flag), "{flag}: {said}");
    }
    host.ok("touch /srv/ro/sub/still-writable && umount /srv/ro/sub");
    let private =
        format!("command = \"touch /srv/ro-seen/x; echo tried\"\n{}{ONCE}", volume("/srv/ro-seen", "own", "RO"));
    let said = host.output_of("readonly-own", &private);
    assert!(said.contains("Read-only file system") && said.ends_with("tried"), "{said}");
}

/// What is mounted inside does not reach the host; what the host mounts later is seen inside.
fn mounts_stay_inside(suite: Suite) {
    let host = Berth::shared(suite);
    host.ok("mkdir -p /srv/late /srv/inner");
    let toml = format!(
        "command = \"mount -t tmpfs tmpfs /srv/inner && echo mounted; exec sleep infinity\"\n{}\
         [capabilities]\nbounding = [\"SYS_ADMIN\"]\n",
        volume("/tmp", "tmp", "RW")
    );
    let pid = host.run("mounts", &toml);
    host.wait_said("mounts", "mounted");
    assert!(host.read(format!("/proc/{pid}/mountinfo")).contains(" /srv/inner "));
    assert!(!host.read("/proc/1/mountinfo").contains(" /srv/inner "));
    host.ok("mount -t tmpfs tmpfs /srv/late");
    assert!(host.read(format!("/proc/{pid}/mountinfo")).contains(" /srv/late "), "a slave hears of the host");
    host.ok("umount /srv/late");
    assert!(!host.read(format!("/proc/{pid}/mountinfo")).contains(" /srv/late "));
}

fn a_planted_symlink_is_refused(suite: Suite) {
    let host = Berth::shared(suite);
    host.ok("mkdir -p /srv/victim /srv/planted && chmod 0711 /srv/victim");
    // What a program of an earlier run may do in a sandbox that is its own.
    let toml = |command: &str| {
        format!(
            "command = \"{command}\"\nsandbox = \"persistent\"\nuser = \"nobody\"\n{}{ONCE}",
            volume("/srv/planted", "data/deep", "RW")
        )
    };
    host.drop_spec("planted", &toml("echo first"));
    host.wait_state("planted", "exited");
    host.ok(
        "cd /var/lib/berth/sandboxes/planted/persistent && rmdir data/deep && setpriv --reuid nobody --clear-groups \
             ln -s /srv/victim data/deep || ln -s /srv/victim data/deep",
    );
    assert!(!host.sh("systemctl start berth@planted").status.success());
    let state = host.wait_state("planted", "failed");
    assert_eq!(state["error"]["stage"], "prepare", "{state:#}");
    assert_eq!(state["error"]["errno"], json!(libc::ELOOP), "{state:#}");
    assert_eq!(host.ok("stat -c '%a %U' /srv/victim"), "711 root", "untouched");
}

fn a_file_covers_a_file(suite: Suite) {
    let host = Berth::shared(suite);
    host.write("/srv/hosts.own", "127.0.0.9 own\n");
    let toml = format!("command = \"cat /etc/hosts\"\n{}{ONCE}", volume("/etc/hosts", "/srv/hosts.own", "RO"));
    assert_eq!(host.output_of("filecover", &toml), "127.0.0.9 own");
    let toml = format!("{SLEEP}{}{ONCE}", volume("/etc/hosts", "/srv", "RO"));
    host.drop_spec("kinds", &toml);
    let state = host.wait_state("kinds", "failed");
    assert!(state["error"]["message"].as_str().unwrap().contains("a directory covers a directory"), "{state:#}");
}
