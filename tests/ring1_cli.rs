//! Ring 1: the real `berthctl` in worlds made by hand, with a berthd and a systemctl that only pretend.

#![cfg(test)]

/// `start`, `stop`, `restart`, `reload`.
#[path = "ring1_cli/deeds.rs"]
mod deeds;
/// `doctor`.
#[path = "ring1_cli/doctor.rs"]
mod doctor;
/// `exec`.
#[path = "ring1_cli/exec.rs"]
mod exec;
/// `check`, `cat`, `plan`.
#[path = "ring1_cli/files.rs"]
mod files;
/// `logs`.
#[path = "ring1_cli/logs.rs"]
mod logs;
/// `list` and `status`.
#[path = "ring1_cli/reading.rs"]
mod reading;
/// A world and the tool in it.
#[path = "ring1_cli/world.rs"]
mod world;

use serde_json::{Value, json};

use world::{container, since};

/// A container that failed to start, a running one with an edit that is wrong, and one that is masked.
fn fleet() -> Vec<Value> {
    let mut web = container("web", "running");
    web["main_pid"] = json!(1234);
    web["since"] = json!(since(125));
    web["cgroup"] = json!("/berth.slice/berth@web.service");
    web["sandbox"] = json!("/var/lib/berth/sandboxes/web/1");
    web["spec"]["digest"] = json!("aaaa");
    web["spec"]["running"] = json!("bbbb");
    web["spec"]["pending"] = json!(["command", "volumes"]);
    web["isolators"] = json!([
        { "name": "namespaces/pid", "detail": "private, pid:[4026532201]", "error": null },
        { "name": "disk/du", "detail": null, "error": "cannot read /x" },
    ]);
    let mut db = container("db", "failed");
    db["since"] = json!(since(7200));
    db["error"] = json!({
        "stage": "program", "errno": 2, "path": "/bin/db",
        "message": "cannot execute /bin/db: No such file or directory; install it or correct command.value",
    });
    db["exit"] = json!({ "exited": 203 });
    db["result"] = json!("exit-code");
    db["restarts"] = json!(2);
    let mut cache = container("cache", "invalid");
    cache["spec"]["errors"] = json!([
        "/etc/berth/containers/cache.toml:3:1: comand: unknown key; did you mean 'command'?",
        "/etc/berth/containers/cache.toml:7:5: namespaces.pid: \"own\" is not one of private, host",
    ]);
    vec![cache, db, container("old", "masked"), web]
}
