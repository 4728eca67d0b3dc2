//! Packets have their container's handle, and no other's.

use crate::support::berth::SLEEP;
use crate::support::host::Suite;
use crate::support::ring::Test;
use crate::world::World;

pub const TRIALS: &[Test] = &[("try", try_it)];

fn try_it(suite: Suite) {
    let world = World::new(suite, "backend = \"both\"\n");
    let pid = world.run("web", SLEEP);
    eprintln!("{}", world.ok(&format!("cat /proc/{pid}/cgroup; cat /run/net_cls/berth/*/net_cls.classid; ls -la /run/berth/handles; grep cgroup /proc/{pid}/mountinfo")));
    eprintln!("{:#}", world.container("web").unwrap());
    eprintln!("{}", world.ok("berthctl plan web; berthctl status web"));
}
