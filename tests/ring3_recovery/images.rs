//! berthd is killed with SIGKILL while it takes an image into the store for a start.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crate::{
    launcher::TREE,
    support::host::{Suite, slowness},
    world::{PATIENCE, World},
};

/// How often it is killed; under emulation less often, where each round takes ten times as long.
const ROUNDS: u32 = 12;

/// Makes the OCI layout `/srv/layout`: `/srv/tree`, and two layers of many files upon it.
const LAYOUT: &str = r#"
set -e; cd /srv; mkdir -p layout/blobs/sha256 one two
for n in $(seq 1500); do echo $n >one/$n; echo $n >two/$((n + 200)); done; head -c 4000000 /dev/urandom >one/large
blob() { sum=$(sha256sum $1 | cut -d' ' -f1); cp $1 layout/blobs/sha256/$sum; echo $sum; }
entry() { printf '{"mediaType":"application/vnd.oci.image.%s","digest":"sha256:%s","size":%s}' $1 $2 $(stat -c %s layout/blobs/sha256/$2); }
ids= layers=
for layer in tree one two; do
	tar -C $layer -cf $layer.tar .; sum=$(blob $layer.tar)
	ids="$ids,\"sha256:$sum\""; layers="$layers,$(entry layer.v1.tar $sum)"
done
printf '{"architecture":"%s","os":"linux","rootfs":{"type":"layers","diff_ids":[%s]}}' $(dpkg --print-architecture) ${ids#,} >config
printf '{"schemaVersion":2,"config":%s,"layers":[%s]}' "$(entry config.v1+json $(blob config))" "${layers#,}" >manifest
printf '{"schemaVersion":2,"manifests":[%s]}' "$(entry manifest.v1+json $(blob manifest))" >layout/index.json
printf '{"imageLayoutVersion":"1.0.0"}' >layout/oci-layout
"#;

/// The rest of a container's spec.
const SPEC: &str = "[image]\nsource = \"oci:/srv/layout\"\n\
                    [[volumes]]\ncontainer_path = \"/srv/starts\"\nhost_path = \"/srv/starts\"\n";

/// Starts a container that nobody disturbs; how long it takes until it runs.
fn start(world: &World, name: &str) -> Duration {
    let began = Instant::now();
    world.drop_counted(name, SPEC);
    world.wait_running(&[name]);
    began.elapsed()
}

/// Takes a container away, and its image, so that the next start imports that again.
fn forget(world: &World, name: &str) {
    world.delete(name);
    world.host.wait_for("the image to be free", PATIENCE, || {
        world.host.sh("berthctl rmi oci:/srv/layout && berthctl prune").status.success().then_some(())
    });
}

pub fn killed_while_it_imports(suite: Suite) {
    let world = World::new(suite);
    world.berthd_unit("[Unit]\nStartLimitBurst=0\n[Service]\nRestartSec=10ms\n");
    world.host.ok(TREE);
    world.host.ok(LAYOUT);
    let list = |directory: &str| world.host.files().list(format!("/var/lib/berth/images/{directory}")).unwrap();
    let took = start(&world, "undisturbed");
    world.phase("started undisturbed");
    forget(&world, "undisturbed");
    let mut halves = 0;
    let rounds = ROUNDS / slowness().div_ceil(2);
    for round in 0..rounds {
        assert_eq!((list("layers"), list("tmp")), (vec![], vec![]), "before round {round}");
        let name = format!("i{round}");
        world.drop_counted(&name, SPEC);
        std::thread::sleep(took * round / rounds);
        assert!(world.kill(), "there is a berthd to kill");
        halves += usize::from(!list("tmp").is_empty() || (1..3).contains(&list("layers").len()));
        world.wait_running(&[&name]);
        world.wait_word(&name, "running");
        assert_eq!((world.starts(&name), list("layers").len()), (1, 3), "round {round}");
        let read = world.host.ok(&format!("berthctl exec {name} /bin/sh -c 'read x </600; echo $x'"));
        // Its name is in both layers, and the upper one counts.
        assert_eq!(read, "400");
        forget(&world, &name);
    }
    world.phase(&format!("killed, {halves} times in the midst of the image"));
    assert!(halves > 0);
    world.settle();
    assert_eq!(world.leftovers(&BTreeSet::new(), &BTreeSet::new()), [] as [&str; 0]);
}
