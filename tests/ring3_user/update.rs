//! Moves between versions of an image where systemd runs the containers.

use std::process::Command;

use crate::SOON;
use crate::support::berth::{Berth, options};
use crate::support::host::Suite;
use crate::support::ring::Test;

pub const TRIALS: &[Test] =
    &[("a_container_moves_between_images_and_is_taken_back", a_container_moves_between_images_and_is_taken_back)];

/// Makes the layout `l` with images that umoci has configured: two that run, one without a program, one that ends.
const LAYOUT: &str = r#"
    umoci init --layout l; umoci new --image l:base; umoci unpack --image l:base b >/dev/null
    mkdir -p b/rootfs/bin
    for program in sh sleep; do
        path=$(readlink -f $(command -v $program)); cp $path b/rootfs/bin/$program
        for library in $(ldd $path | grep -o '/[^ )]*'); do
            mkdir -p b/rootfs${library%/*}; cp -L $library b/rootfs$library
        done
    done
    umoci repack --refresh-bundle --image l:base b >/dev/null
    says() { umoci config --image l:base --tag $1 --config.entrypoint /bin/sh --config.cmd -c --config.cmd "echo $1; $2"; }
    says v1 'exec sleep infinity'; says v2 'exec sleep infinity'; says v3 'exec sleep infinity'; says dies 'exit 3'
    umoci config --image l:base --tag gone --config.entrypoint /bin/nothing
    umoci tag --image l:v1 t"#;

/// A script of the machine, beside the layout.
fn sh(directory: &std::path::Path, script: &str) {
    let output = Command::new("bash").args(["-euc", script]).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn a_container_moves_between_images_and_is_taken_back(suite: Suite) {
    let directory = tempfile::tempdir().unwrap();
    sh(directory.path(), LAYOUT);
    let tag = |tag: &str| sh(directory.path(), &format!("umoci tag --image l:{tag} t"));
    let mut host = Berth::boot_with(suite, options().bind(directory.path().join("l"), "/srv/l"));
    let runs = |host: &Berth, tag: &str| {
        host.wait_until("web", format!("to run {tag}"), |state| state["state"] == "running");
        host.wait_for(&format!("the word of {tag}"), SOON, || host.said("web").ends_with(tag).then_some(()));
    };
    host.drop_spec("web", "[image]\nsource = \"oci:/srv/l:t\"\n");
    runs(&host, "v1");
    tag("v2");
    let moved = host.berthctl("update --watch 200ms web");
    assert!(moved.status.success() && moved.stdout.contains("web: moved from image"), "{moved}");
    runs(&host, "v2");
    assert!(host.berthctl("update --all").stdout.contains("nothing to do"));

    // Neither a start that fails nor a program that does: what ran before runs again, as systemd sees it too.
    let rolled_back = "MESSAGE_ID=".to_owned() + berth::journal::Event::ImageRolledBack.id();
    for (round, (bad, why)) in [("gone", "/bin/nothing"), ("dies", "status 3")].into_iter().enumerate() {
        tag(bad);
        let failed = host.berthctl("update --watch 3s web");
        assert!(failed.status.code() == Some(1) && failed.stderr.contains(why), "{failed}");
        assert!(failed.stderr.contains("it was taken back and runs with image"), "{failed}");
        runs(&host, "v2");
        assert_eq!(host.property("web", "ActiveState"), "active");
        assert_eq!(host.entries(&rolled_back).len(), round + 1);
        // So do all starts from now on.
        host.ok("systemctl restart berth@web");
        runs(&host, "v2");
    }
    assert!(host.ok(&format!("journalctl -x {rolled_back}")).contains("does not start with another image"));
    assert!(host.journal("berth@web.service").contains("it was taken back"));

    // A pull alone touches nothing; it is told once, and a restart takes it.
    tag("v3");
    host.ok("berthctl pull oci:/srv/l:t && berthctl pull oci:/srv/l:t");
    host.wait_until("web", "the news", |state| state["image"]["pending"].is_string());
    assert_eq!(host.property("web", "ActiveState"), "active");
    assert_eq!(host.entries(&("MESSAGE_ID=".to_owned() + berth::journal::Event::ImagePending.id())).len(), 1);
    host.ok("systemctl restart berth@web");
    runs(&host, "v3");

    // berthd is killed while it watches: the next one brings the rollback to its end.
    let client = host.spawn("berthctl rollback --watch 2s web");
    runs(&host, "v2");
    host.ok("systemctl kill --signal=KILL --kill-whom=main berthd");
    drop(client);
    host.wait_until("web", "the end of the rollback", |state| state["image"]["held_back"].is_string());
    runs(&host, "v2");

    // What nothing uses is removed by berthd, in the confinement of its unit; what can be gone back to is not.
    host.ok("berthctl pull oci:/srv/l:dies && touch -d @0 /var/lib/berth/images/tags/* /var/lib/berth/images/used/*");
    host.write("/etc/berth/berthd.toml", "[images.gc]\nmax_age = \"30d\"\n");
    host.ok("systemctl reload berthd");
    let removed = "MESSAGE_ID=".to_owned() + berth::journal::Event::ImagesRemoved.id();
    host.wait_for("the event", SOON, || (!host.entries(&removed).is_empty()).then_some(()));
    let images = host.ok("berthctl images");
    assert!(!images.contains("oci:/srv/l:dies") && images.contains("oci:/srv/l:t"), "{images}");

    // What is held back is held back from the start at boot.
    host.reboot().unwrap();
    host.wait_until("web", "its start at boot", |state| state["state"] == "running");
    let image = host.container("web").unwrap()["image"].clone();
    assert!(image["held_back"].is_string() && image["held_back"] == image["former"], "{image}");
    assert_ne!(image["digest"], image["held_back"], "{image}");
}
