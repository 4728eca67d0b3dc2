//! Ways out of a quota: each as it was measured without berth, now closed.

use std::path::Path;

use crate::support::host::Suite;
use crate::world::{Face, World, disk};

/// Tries to leave its project in every way that there is, then writes.
const LEAVE: &str = "mkdir mine; chattr -p 0 mine; chattr -P mine; xfs_io -r -c 'chproj 0' mine; perl /srv/leave.pl mine; \
                     dd if=/dev/zero of=mine/big bs=1M count=20 2>&1; echo status $?; ls -ld mine/big; lsattr -d -p mine";

pub fn closed(suite: Suite, face: Face) {
    let world = World::new(suite, face, "");
    world.write(
        "/srv/leave.pl",
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ring4_disk/leave.pl")).unwrap(),
    );
    world.ok("id payload || useradd --system payload");
    // The same without berth gets out.
    world.ok(&format!("mkdir {0}; chattr -p 77 +P {0}; chown payload {0}", "/var/lib/berth/open"));
    let open = world
        .ok("cd /var/lib/berth/open && setpriv --reuid payload --clear-groups perl /srv/leave.pl . && lsattr -d -p .");
    assert!(
        open.contains("FS_IOC_FSSETXATTR done")
            && open.trim_start().lines().last().unwrap().trim_start().starts_with("0 "),
        "{open}"
    );
    for (name, spec) in [
        ("root", String::new()),
        ("user", "user = \"payload\"\n".to_owned()),
        ("userns", "user = \"payload\"\nenvironment = { WITH = \"unshare --user --map-root-user\" }\n".to_owned()),
    ] {
        let said = world.output_of(name, &leaver(&spec));
        assert!(said.contains(face.refusal()) && said.contains("status 1"), "{name}: {said}");
        assert!(!said.contains(" done"), "{name}: {said}");
        let lines = said.lines().filter(|line| line.contains("not permitted")).count();
        assert!(lines >= 6, "{name}: {said}");
        let project: Vec<&str> = said.lines().last().unwrap().split_whitespace().collect();
        assert!(project[0].parse::<u32>().unwrap() >= 5000 && project[1].contains('P'), "{name}: {said}");
    }
}

/// A spec of a program that tries all of it and ends.
fn leaver(spec: &str) -> String {
    let command = LEAVE.replace('\\', "\\\\").replace('"', "\\\"");
    format!(
        "command = \"$WITH sh -c \\\"{}\\\"\"\n{spec}{}[service]\nrestart = \"no\"\n",
        command.replace('$', "\\\\$"),
        disk("10MiB", "hard")
    )
}
