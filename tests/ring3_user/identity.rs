//! Who the program is, what it is handed, and the sandbox it stands in.

use crate::support::berth::{Berth, SLEEP, options};
use crate::support::host::Suite;
use crate::support::ring::Test;

pub const TRIALS: &[Test] = &[
    ("user_groups_umask_and_directory_are_exact", user_groups_umask_and_directory_are_exact),
    ("numbers_need_no_names", numbers_need_no_names),
    ("the_environment_is_exact", the_environment_is_exact),
    ("nothing_of_berth_leaks_into_the_program", nothing_of_berth_leaks_into_the_program),
    ("a_command_is_mesoss", a_command_is_mesoss),
    ("each_run_has_a_fresh_sandbox", each_run_has_a_fresh_sandbox),
    ("a_persistent_sandbox_stays", a_persistent_sandbox_stays),
    ("old_sandboxes_go_by_the_retention_rule", old_sandboxes_go_by_the_retention_rule),
];

const ONCE: &str = "[service]\nrestart = \"no\"\n";

fn user_groups_umask_and_directory_are_exact(suite: Suite) {
    let host = Berth::shared(suite);
    let toml = "command = \"id -un; id -gn; id -Gn; umask; pwd; grep -h -e ^Cap /proc/self/status\"\n\
                user = \"www-data:games\"\nsupplementary_groups = [\"audio\", \"video\"]\numask = \"0027\"\n\
                working_directory = \"/srv\"\n";
    let said = host.output_of("identity", &format!("{toml}{ONCE}"));
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..2], ["www-data", "games"]);
    let mut groups: Vec<&str> = lines[2].split(' ').collect();
    groups.sort_unstable();
    assert!(["audio", "games", "video"].iter().all(|group| groups.contains(group)), "{said}");
    assert!(!groups.contains(&"root"), "{said}");
    assert_eq!(lines[3..5], ["0027", "/srv"]);
    assert!(said.contains("CapEff:\t0000000000000000"), "{said}");
    let said = host.output_of("identity-root", &format!("command = \"id -u; id -g; id -G; umask; pwd\"\n{ONCE}"));
    let sandbox = host.container("identity-root").unwrap()["sandbox"].as_str().unwrap().to_owned();
    assert_eq!(said.lines().collect::<Vec<_>>(), ["0", "0", "0", "0022", &sandbox]);
}

fn numbers_need_no_names(suite: Suite) {
    let host = Berth::shared(suite);
    let toml = "command = \"id -u; id -g; touch mine; stat -c %u:%g mine\"\nuser = \"54321:54322\"\n";
    assert_eq!(host.output_of("numbers", &format!("{toml}{ONCE}")), "54321\n54322\n54321:54322");
}

fn the_environment_is_exact(suite: Suite) {
    let host = Berth::shared(suite);
    let toml = "command = [\"/usr/bin/env\"]\nuser = \"games\"\nenvironment = { FOO = \"a b\", PATH = \"/usr/bin\" }\n";
    let said = host.output_of("environ", &format!("{toml}{ONCE}"));
    let mut names: Vec<&str> = said.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    names.sort_unstable();
    let expected = [
        "BERTH_CONTAINER",
        "BERTH_SANDBOX",
        "FOO",
        "HOME",
        "INVOCATION_ID",
        "JOURNAL_STREAM",
        "LOGNAME",
        "MESOS_SANDBOX",
        "PATH",
        "SHELL",
        "USER",
    ];
    assert_eq!(names, expected, "{said}");
    for line in
        ["FOO=a b", "PATH=/usr/bin", "USER=games", "LOGNAME=games", "HOME=/usr/games", "BERTH_CONTAINER=environ"]
    {
        assert!(said.lines().any(|has| has == line), "{line}: {said}");
    }
    let sandbox = host.container("environ").unwrap()["sandbox"].as_str().unwrap().to_owned();
    assert!(
        said.contains(&format!("BERTH_SANDBOX={sandbox}\n")) || said.ends_with(&format!("BERTH_SANDBOX={sandbox}")),
        "{said}"
    );
}

fn nothing_of_berth_leaks_into_the_program(suite: Suite) {
    let host = Berth::shared(suite);
    // systemd's own service manager hands these to berthd and to the launcher.
    for (name, namespaces) in [("leak-private", ""), ("leak-host", "[namespaces]\npid = \"host\"\n")] {
        let pid = host.run(name, &format!("{SLEEP}{namespaces}"));
        let environment = host.read(format!("/proc/{pid}/environ"));
        for secret in
            ["NOTIFY_SOCKET", "WATCHDOG", "LISTEN_", "MAINPID", "RUNTIME_DIRECTORY", "BERTH_SOCKET", "SYSTEMD_EXEC_PID"]
        {
            assert!(!environment.contains(secret), "{name}: {environment}");
        }
        assert_eq!(host.ok(&format!("ls /proc/{pid}/fd | paste -sd' '")), "0 1 2", "{name}");
        assert_eq!(host.ok(&format!("readlink /proc/{pid}/fd/0")), "/dev/null", "{name}");
        let status = host.read(format!("/proc/{pid}/status"));
        for signals in ["SigBlk", "SigIgn"] {
            assert!(status.contains(&format!("{signals}:\t0000000000000000")), "{name}: {status}");
        }
    }
}

fn a_command_is_mesoss(suite: Suite) {
    let host = Berth::shared(suite);
    let table = [
        ("cmd-list", "command = [\"/bin/echo\", \"a  b\", \"$HOME\"]\n", "a  b $HOME"),
        ("cmd-string", "command = \"echo a  b $BERTH_CONTAINER\"\n", "a b cmd-string"),
        ("cmd-shell", "[command]\nvalue = \"echo $0 shell\"\n", "sh shell"),
        (
            "cmd-argv",
            "[command]\nshell = false\nvalue = \"/bin/sh\"\narguments = [\"zero\", \"-c\", \"echo $0\"]\n",
            "zero",
        ),
    ];
    for (name, toml, expected) in table {
        assert_eq!(host.output_of(name, &format!("{toml}{ONCE}")), expected, "{name}");
    }
}

fn each_run_has_a_fresh_sandbox(suite: Suite) {
    let host = Berth::shared(suite);
    let toml = "command = \"ls -A; touch left-behind; exec sleep infinity\"\nuser = \"nobody\"\n";
    host.run("fresh", toml);
    let first = host.container("fresh").unwrap()["sandbox"].as_str().unwrap().to_owned();
    host.wait_for("the file", super::SOON, || host.find(format!("{first}/left-behind")));
    assert_eq!(host.ok(&format!("stat -c '%a %U' {first}")), "750 nobody");
    host.ok("systemctl restart berth@fresh");
    let state = host.wait_until("fresh", "in its second run", |container| container["sandbox"] != first.as_str());
    let second = state["sandbox"].as_str().unwrap().to_owned();
    host.wait_for("the file", super::SOON, || host.find(format!("{second}/left-behind")));
    assert_eq!(host.said("fresh"), "", "each began empty");
    assert!(host.files().exists(format!("{first}/left-behind")), "the old one stays for a while");
    assert_eq!(host.ok("readlink -f /var/lib/berth/sandboxes/fresh/latest"), second);
}

fn a_persistent_sandbox_stays(suite: Suite) {
    let host = Berth::shared(suite);
    let toml = "command = \"echo run >>runs; cat runs\"\nsandbox = \"persistent\"\n";
    assert_eq!(host.output_of("persistent", &format!("{toml}{ONCE}")), "run");
    host.ok("systemctl start berth@persistent");
    host.wait_for("the second run", super::SOON, || (host.said("persistent") == "run\nrun\nrun").then_some(()));
    host.wait_state("persistent", "exited");
    host.remove_spec("persistent");
    host.wait_gone("persistent");
    host.barrier();
    assert_eq!(
        host.read("/var/lib/berth/sandboxes/persistent/persistent/runs"),
        "run\nrun\n",
        "the operator's to remove"
    );
}

fn old_sandboxes_go_by_the_retention_rule(suite: Suite) {
    let host = Berth::boot_with(suite, options().file("/etc/berth/berthd.toml", "[sandbox]\nkeep = 2\n"));
    let runs = |host: &Berth| {
        let listed = host.files().list("/var/lib/berth/sandboxes/kept").unwrap_or_default();
        listed.into_iter().filter(|name| name != "latest").collect::<Vec<_>>()
    };
    host.run("kept", SLEEP);
    for _ in 0..4 {
        host.ok("systemctl restart berth@kept");
        host.wait_program("kept");
    }
    host.wait_for("the present one and two past ones", super::SOON, || (runs(&host).len() == 3).then_some(()));
    host.wait_for("the newest to be the present one", super::SOON, || {
        let present = host.container("kept")?["sandbox"].as_str()?.to_owned();
        present.ends_with(&runs(&host).into_iter().max()?).then_some(())
    });
    host.write("/etc/berth/berthd.toml", "[sandbox]\nkeep = 0\n");
    host.ok("systemctl reload berthd");
    host.remove_spec("kept");
    host.wait_for("all to go", super::SOON, || (!host.files().exists("/var/lib/berth/sandboxes/kept")).then_some(()));
}
