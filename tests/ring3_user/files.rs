//! From files to services: drop, edit, delete, layers, masks.

use crate::support::berth::{Berth, SLEEP, spec, unit};
use crate::support::host::Suite;
use crate::support::ring::Test;

pub const TRIALS: &[Test] = &[
    ("a_dropped_file_starts_its_service", a_dropped_file_starts_its_service),
    ("an_edit_restarts_with_the_new_spec", an_edit_restarts_with_the_new_spec),
    ("a_comment_does_nothing", a_comment_does_nothing),
    ("a_deleted_file_stops_and_cleans_up", a_deleted_file_stops_and_cleans_up),
    ("service_settings_change_live", service_settings_change_live),
    ("a_manual_change_is_pending_until_a_restart", a_manual_change_is_pending_until_a_restart),
    ("many_files_are_one_reload", many_files_are_one_reload),
    ("files_without_unit_settings_are_no_reload", files_without_unit_settings_are_no_reload),
    ("higher_layers_win", higher_layers_win),
    ("drop_ins_of_all_layers_merge_by_name", drop_ins_of_all_layers_merge_by_name),
    ("an_empty_file_or_dev_null_masks", an_empty_file_or_dev_null_masks),
    ("refused_starts_do_not_hinder_the_start_of_a_spec", refused_starts_do_not_hinder_the_start_of_a_spec),
    ("what_editors_leave_behind_is_no_spec", what_editors_leave_behind_is_no_spec),
];

fn a_dropped_file_starts_its_service(suite: Suite) {
    let host = Berth::shared(suite);
    let pid = host.run("dropped", SLEEP);
    assert_eq!(host.property("dropped", "ActiveState"), "active");
    assert_eq!(host.property("dropped", "SubState"), "running");
    assert_eq!(host.read(format!("/proc/{pid}/comm")), "sleep\n");
    assert_eq!(host.property("dropped", "NeedDaemonReload"), "no");
    let state = host.container("dropped").unwrap();
    assert_eq!(state["main_pid"], pid);
    assert_eq!(state["spec"]["files"][0], spec("dropped").to_str().unwrap());
    let parent = host.ok(&format!("ps -o ppid= -p {pid}"));
    assert_eq!(parent.trim(), "1", "systemd is the parent");
}

fn an_edit_restarts_with_the_new_spec(suite: Suite) {
    let host = Berth::shared(suite);
    let old = host.run("edited", SLEEP);
    host.drop_spec("edited", "command = [\"/bin/sleep\", \"100000\"]\n");
    host.wait_until("edited", "restarted", |container| container["state"] == "running" && container["main_pid"] != old);
    assert_eq!(host.program("edited"), "/bin/sleep 100000");
    let state = host.container("edited").unwrap();
    assert_eq!(state["spec"]["digest"], state["spec"]["running"]);
    assert!(!host.files().exists(format!("/proc/{old}")));
}

fn a_comment_does_nothing(suite: Suite) {
    let host = Berth::shared(suite);
    let pid = host.run("comment", SLEEP);
    let invocation = host.property("comment", "InvocationID");
    host.drop_spec("comment", &format!("# a comment\n\n  {SLEEP}# another\n"));
    host.barrier();
    assert_eq!(host.main_pid("comment"), pid);
    assert_eq!(host.property("comment", "InvocationID"), invocation);
    assert_eq!(host.property("comment", "ActiveState"), "active");
    host.ok("touch /etc/berth/containers/comment.toml");
    host.barrier();
    assert_eq!(host.property("comment", "InvocationID"), invocation);
}

fn a_deleted_file_stops_and_cleans_up(suite: Suite) {
    let host = Berth::shared(suite);
    let pid = host.run("deleted", &format!("description = \"to be deleted\"\n{SLEEP}"));
    let drop_in = "/run/systemd/system/berth@deleted.service.d";
    assert!(host.files().exists(drop_in));
    assert_eq!(host.property("deleted", "Description"), "to be deleted");
    host.remove_spec("deleted");
    host.wait_gone("deleted");
    assert!(!host.files().exists(format!("/proc/{pid}")));
    assert_eq!(host.property("deleted", "ActiveState"), "inactive");
    host.wait_for("the drop-in to go", super::SOON, || (!host.files().exists(drop_in)).then_some(()));
    assert!(!host.files().exists("/run/berth/records/deleted.json"));
    assert!(!host.files().exists("/sys/fs/cgroup/berth.slice/berth@deleted.service"));
    assert_eq!(host.ok("systemctl list-units --failed --no-legend 'berth@deleted*'"), "");
}

fn service_settings_change_live(suite: Suite) {
    let host = Berth::shared(suite);
    let pid = host.run("live", SLEEP);
    assert_eq!(host.property("live", "TimeoutStopUSec"), "10s");
    let service = "[service]\nstop_timeout = \"33s\"\nrestart = \"always\"\nrestart_delay = \"90s\"\n\
                   stop_signal = \"SIGQUIT\"\nafter = [\"network.target\"]\n";
    host.drop_spec("live", &format!("{SLEEP}{service}"));
    host.wait_for("the new settings", super::SOON, || {
        (host.property("live", "TimeoutStopUSec") == "33s").then_some(())
    });
    assert_eq!(host.property("live", "Restart"), "always");
    assert_eq!(host.property("live", "RestartUSec"), "1min 30s");
    assert_eq!(host.property("live", "KillSignal"), "3");
    assert!(host.property("live", "After").split(' ').any(|unit| unit == "network.target"));
    host.barrier();
    assert_eq!(host.main_pid("live"), pid);
    assert_eq!(host.property("live", "NeedDaemonReload"), "no");
    assert_eq!(host.container("live").unwrap()["spec"]["pending"], serde_json::json!([]));
}

fn a_manual_change_is_pending_until_a_restart(suite: Suite) {
    let host = Berth::shared(suite);
    let manual = |seconds: &str| format!("on_change = \"manual\"\ncommand = [\"/bin/sleep\", \"{seconds}\"]\n");
    let pid = host.run("manual", &manual("100001"));
    host.drop_spec("manual", &manual("100002"));
    let pending = host.wait_until("manual", "pending", |container| container["spec"]["pending"][0] == "command");
    assert_eq!(pending["main_pid"], pid);
    host.barrier();
    assert_eq!(host.main_pid("manual"), pid);
    let shown = host.berthctl("status manual").stdout;
    assert!(shown.contains("ending") && shown.contains("command"), "{shown}");
    host.ok("systemctl restart berth@manual");
    host.wait_until("manual", "up to date", |container| container["spec"]["pending"] == serde_json::json!([]));
    assert_eq!(host.program("manual"), "/bin/sleep 100002");
}

/// How often systemd has read all its units again.
fn reloads(host: &Berth) -> usize {
    let said = host.ok("journalctl --sync; journalctl -q -b -o cat _PID=1");
    said.lines().filter(|line| *line == "Reloading." || *line == "Reloading...").count()
}

fn drop_many(host: &Berth, toml: &str) {
    host.write("/etc/berth/staging/model", toml);
    host.ok("cd /etc/berth/staging && for i in $(seq 20); do cp model many-$i.toml; done && rm model && \
             mkdir -p ../containers && mv many-*.toml /etc/berth/containers/");
    for number in 1..=20 {
        host.wait_state(&format!("many-{number}"), "running");
    }
}

fn many_files_are_one_reload(suite: Suite) {
    let host = Berth::boot(suite);
    let before = reloads(&host);
    drop_many(&host, &format!("{SLEEP}[service]\nstop_timeout = \"5s\"\n"));
    assert_eq!(reloads(&host), before + 1);
    host.ok("rm /etc/berth/containers/many-*.toml");
    host.wait_for("all to be gone", super::SOON, || {
        host.state()["containers"].as_array().unwrap().is_empty().then_some(())
    });
    host.wait_for("the drop-ins to go", super::SOON, || {
        (host.ok("ls /run/systemd/system | grep -c ^berth@ || true") == "0").then_some(())
    });
    let more = reloads(&host) - before - 1;
    assert!(more <= 10, "deleting 20 specs took {more} reloads");
    assert_eq!(host.ok("systemctl list-units --no-legend 'berth@*'"), "");
}

fn files_without_unit_settings_are_no_reload(suite: Suite) {
    let host = Berth::boot(suite);
    let before = reloads(&host);
    drop_many(&host, SLEEP);
    host.drop_spec("many-1", "command = [\"/bin/sleep\", \"100000\"]\n");
    host.remove_spec("many-2");
    host.wait_gone("many-2");
    host.barrier();
    assert_eq!(reloads(&host), before);
}

fn echo(word: &str) -> String {
    format!("autostart = true\ncommand = [\"/bin/echo\", \"{word}\"]\n[service]\nrestart = \"no\"\n")
}

fn higher_layers_win(suite: Suite) {
    let host = Berth::shared(suite);
    let layers = ["/usr/lib/berth", "/usr/local/lib/berth", "/run/berth", "/etc/berth"];
    let mut said = String::new();
    for layer in layers {
        host.write_atomic(format!("{layer}/containers/layered.toml"), echo(layer));
        said.push_str(layer);
        host.wait_for("the higher layer", super::SOON, || (host.said("layered") == said).then_some(()));
        said.push('\n');
    }
    // The layer below shows again.
    host.remove_spec("layered");
    said.push_str("/run/berth");
    host.wait_for("the layer below", super::SOON, || (host.said("layered") == said).then_some(()));
    host.wait_until("layered", "of the layer below", |container| container["spec"]["layer"] == "run");
    for layer in &layers[..3] {
        host.remove(format!("{layer}/containers/layered.toml"));
    }
    host.wait_gone("layered");
}

fn drop_ins_of_all_layers_merge_by_name(suite: Suite) {
    let host = Berth::shared(suite);
    let environment = |text: &str| format!("[environment]\n{text}");
    host.write("/usr/lib/berth/containers/merged.toml.d/10-a.toml", environment("A = \"vendor\"\nB = \"vendor\"\n"));
    host.write("/etc/berth/containers/merged.toml.d/20-b.toml", environment("B = \"etc\"\nC = \"etc\"\n"));
    host.write("/run/berth/containers/merged.toml.d/20-b.toml", environment("C = \"hidden by etc\"\n"));
    host.write("/run/berth/containers/merged.toml.d/30-c.toml", environment("D = \"run\"\n"));
    let toml = "command = \"echo A=$A B=$B C=$C D=$D E=$E\"\n[service]\nrestart = \"no\"\n[environment]\nE = \"spec\"\n\
                A = \"spec\"\n";
    assert_eq!(host.output_of("merged", toml), "A=vendor B=etc C=etc D=run E=spec");
    let shown = host.berthctl("cat merged").stdout;
    assert!(shown.contains("20-b.toml"), "{shown}");
    // A drop-in is watched as its spec is.
    host.write_atomic("/etc/berth/containers/merged.toml.d/40-d.toml", environment("A = \"edited\"\n"));
    host.wait_said("merged", "A=edited B=etc C=etc D=run E=spec");
}

fn an_empty_file_or_dev_null_masks(suite: Suite) {
    let host = Berth::shared(suite);
    host.ok("mkdir -p /etc/berth/containers"); // this may be the first trial of the host
    for (name, mask) in [("nullmask", "ln -sf /dev/null"), ("emptymask", "true >")] {
        let vendor = format!("/usr/lib/berth/containers/{name}.toml");
        host.write(&vendor, format!("autostart = true\n{SLEEP}"));
        host.wait_state(name, "running");
        host.ok(&format!("{mask} {}", spec(name).display()));
        host.wait_state(name, "masked");
        host.wait_for("the end", super::SOON, || (host.property(name, "ActiveState") == "inactive").then_some(()));
        let output = host.sh(&format!("systemctl start {}", unit(name)));
        assert!(!output.status.success());
        let shown = host.sh(&format!("systemctl status {}", unit(name))).stdout;
        assert!(shown.contains("masked"), "{shown}");
        host.remove_spec(name);
        host.wait_state(name, "running");
        host.remove(&vendor);
        host.wait_gone(name);
    }
}

fn refused_starts_do_not_hinder_the_start_of_a_spec(suite: Suite) {
    let host = Berth::shared(suite);
    let (name, vendor) = ("insisted", "/usr/lib/berth/containers/insisted.toml");
    host.write(vendor, format!("autostart = true\n{SLEEP}"));
    host.wait_state(name, "running");
    host.ok(&format!("mkdir -p /etc/berth/containers && ln -sf /dev/null {}", spec(name).display()));
    host.wait_state(name, "masked");
    // More than systemd's limit of starts takes.
    host.ok(&format!("for i in $(seq 60); do ! systemctl start {} 2>/dev/null || exit 1; done", unit(name)));
    host.remove_spec(name);
    host.wait_state(name, "running");
    host.remove(vendor);
    host.wait_gone(name);
}

fn what_editors_leave_behind_is_no_spec(suite: Suite) {
    let host = Berth::shared(suite);
    for name in [".left.toml.swp", "left.toml~", "left.toml.dpkg-old", ".#left.toml", "left.toml.bak", "left.txt"] {
        host.write(format!("/etc/berth/containers/{name}"), SLEEP);
    }
    host.barrier();
    assert!(host.container("left").is_none());
    // A slow writer: what is half written is read when it is whole.
    host.ok(
        "(printf 'command = [\"/bin/sleep\",'; sync; printf ' \"infinity\"]\\n') > /etc/berth/containers/slow.toml",
    );
    host.wait_state("slow", "running");
    host.ok("rm /etc/berth/containers/left.* /etc/berth/containers/.[!.]*");
}
