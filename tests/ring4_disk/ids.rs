//! Project IDs: given once, not taken from others, free when all is gone.

use crate::support::berth::{SLEEP, SOON};
use crate::support::host::Suite;
use crate::world::{Face, PLACE, World, disk};

/// Mesos: `ProjectIdReclaiming`, `CheckpointRecovery`.
pub fn given_once(suite: Suite, face: Face) {
    let world = World::new(suite, face, "[xfs]\nproject_range = [\"6000-6001\", \"6003-6004\"]\n[sandbox]\nkeep = 0\n");
    let spec = format!("{SLEEP}{}", disk("10MiB", "hard"));
    // Others have a directory, and a limit without one.
    world.ok(&format!("mkdir {PLACE}/foreign && chattr -p 6000 {PLACE}/foreign"));
    world.set_foreign(6003);
    world.run("a", &spec);
    world.run("b", &spec);
    let of = |name: &str| world.project(&world.sandbox(name)).0;
    assert_eq!((of("a"), of("b")), (6001, 6004));
    world.drop_spec("c", &spec);
    let failed = world.wait_until("c", "without an ID", |c| c["error"]["message"].is_string());
    let message = failed["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("no project ID is free: 2 are those of directories under /var/lib/berth, and 2 are used by"),
        "{message}"
    );
    // The map is lost: what is on the disk is in use all the same.
    world.ok(&format!("rm -r {PLACE}/projects"));
    world.restart_berthd();
    world.ok("systemctl reset-failed berth@c; systemctl start berth@c || true");
    assert_eq!((of("a"), of("b")), (6001, 6004));
    assert!(world.container("c").unwrap()["error"]["message"].as_str().unwrap().contains("no project ID is free"));
    // It ends, and its sandbox with it.
    world.remove_spec("a");
    world.wait_for("the sandbox to go", SOON, || {
        world.sh(&format!("test -e {PLACE}/sandboxes/a")).status.success().then_some(()).is_none().then_some(())
    });
    world.ok("systemctl reset-failed berth@c; systemctl start berth@c");
    assert_eq!(of("c"), 6001);
    world.wait_limits(6001, 10240, 10240);
}
