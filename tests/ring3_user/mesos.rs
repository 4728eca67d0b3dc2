//! What Mesos's own tests of `filesystem/linux` see, by their names.

use super::image::{ONCE, image, tree};
use crate::support::berth::Berth;
use crate::support::host::Suite;
use crate::support::ring::Test;

pub const TRIALS: &[Test] = &[
    ("masked_paths_are_empty_and_closed", masked_paths_are_empty_and_closed),
    ("pseudo_devices_of_a_root_work", pseudo_devices_of_a_root_work),
    ("two_roots_at_once_are_two_roots", two_roots_at_once_are_two_roots),
    ("a_root_knows_its_sandbox", a_root_knows_its_sandbox),
];

/// `ROOT_MaskedPathsWithRootFilesystem`.
fn masked_paths_are_empty_and_closed(suite: Suite) {
    let host = Berth::shared(suite);
    tree(&host, "/srv/root-m");
    let there = |path: &str| host.sh(&format!("test -e {path}")).status.success();
    let (mut script, mut expected) = (String::from("cat /proc/keys /proc/kcore 2>/dev/null; "), String::new());
    for path in ["/proc/keys", "/proc/kcore"].into_iter().filter(|path| there(path)) {
        script += &format!("stat -c %F {path}; ");
        expected += "character special file\n";
    }
    for path in ["/proc/scsi", "/proc/acpi", "/sys/firmware"].into_iter().filter(|path| there(path)) {
        script += &format!("echo {path} $(ls {path}); ");
        script += &format!("touch {path}/x 2>/dev/null && echo touched; mkdir {path}/x 2>/dev/null && echo made; ");
        expected += &format!("{path}\n");
    }
    assert!(expected.contains("character"), "{expected}");
    let toml = format!("command = \"{script}true\"\n{}{ONCE}", image("/srv/root-m"));
    assert_eq!(host.output_of("root-m", &toml), expected.trim_end());
}

/// `ROOT_PseudoDevicesWithRootFilesystem`.
fn pseudo_devices_of_a_root_work(suite: Suite) {
    let host = Berth::shared(suite);
    tree(&host, "/srv/root-n");
    host.ok("cp -L $(command -v head) $(command -v od) /srv/root-n/bin");
    let script = "set -e; echo gone > /dev/null; cat /dev/null; head -c 3 /dev/zero | od -An -tx1; \
                  head -c 9 /dev/random > /dev/null; head -c 9 /dev/urandom > /dev/null; \
                  echo x 2>/dev/null > /dev/full || echo full; \
                  echo out | cat /dev/stdin; echo again | cat /dev/fd/0; stat -c %F /dev/tty";
    let toml = format!("command = '{script}'\n{}{ONCE}", image("/srv/root-n"));
    let said = host.output_of("root-n", &toml);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines, [" 00 00 00", "full", "out", "again", "character special file"]);
}

/// `ROOT_MultipleContainers`.
fn two_roots_at_once_are_two_roots(suite: Suite) {
    let host = Berth::shared(suite);
    let names = ["root-o1", "root-o2"];
    let wait = "until [ -e /mnt/berth/sandbox/go ]; do sleep 0.02; done";
    for name in names {
        let root = format!("/srv/{name}");
        tree(&host, &root);
        host.write(format!("{root}/which"), format!("{name}\n"));
        host.drop_spec(name, &format!("command = 'cat /which; {wait}; cat /which'\n{}{ONCE}", image(&root)));
    }
    for name in names {
        host.wait_state(name, "running");
    }
    for name in names {
        let sandbox = host.container(name).unwrap()["sandbox"].as_str().unwrap().to_owned();
        host.ok(&format!("touch {sandbox}/go"));
        host.wait_state(name, "exited");
        assert_eq!(host.said(name), format!("{name}\n{name}"));
    }
}

/// `ROOT_SandboxEnvironmentVariable`.
fn a_root_knows_its_sandbox(suite: Suite) {
    let host = Berth::shared(suite);
    tree(&host, "/srv/root-p");
    let script = "echo it > mine; echo $BERTH_SANDBOX $MESOS_SANDBOX; cat $MESOS_SANDBOX/mine; ls $BERTH_SANDBOX";
    let toml = format!("command = '{script}'\n{}{ONCE}", image("/srv/root-p"));
    assert_eq!(host.output_of("root-p", &toml), "/mnt/berth/sandbox /mnt/berth/sandbox\nit\nmine");
}
