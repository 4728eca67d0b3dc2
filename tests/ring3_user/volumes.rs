//! Volumes from a spec to the program and back: Mesos's trials of `volume/host_path` and `volume/sandbox_path` that apply,
//! and what is berth's own.

use serde_json::Value;

use super::image::{image, layout, tree};
use crate::support::berth::{Berth, Share};
use crate::support::host::Suite;
use crate::support::ring::Test;

pub const TRIALS: &[Test] = &[
    ("a_volume_is_made_where_it_is_missing", a_volume_is_made_where_it_is_missing),
    ("a_volume_in_the_sandbox_is_the_users", a_volume_in_the_sandbox_is_the_users),
    ("a_read_only_volume_of_a_root_takes_nothing", a_read_only_volume_of_a_root_takes_nothing),
    ("a_volume_in_memory_ends_with_the_run", a_volume_in_memory_ends_with_the_run),
    ("an_image_is_a_volume_and_stays_while_in_use", an_image_is_a_volume_and_stays_while_in_use),
    ("mounts_of_a_volume_go_both_ways", mounts_of_a_volume_go_both_ways),
    ("a_volume_in_a_volume_needs_a_place", a_volume_in_a_volume_needs_a_place),
    ("a_part_of_a_volume_stays_in_it", a_part_of_a_volume_stays_in_it),
    ("volumes_of_a_root_need_their_isolators", volumes_of_a_root_need_their_isolators),
];

const ONCE: &str = "[service]\nrestart = \"no\"\n";

/// `[[volumes]]` with these keys.
fn volume(keys: &str) -> String {
    format!("[[volumes]]\n{}\n", keys.replace("; ", "\n"))
}

/// What the state file says of an isolator of a container.
fn detail(state: &Value, name: &str) -> String {
    let isolators = state["isolators"].as_array().unwrap();
    let isolator = isolators.iter().find(|isolator| isolator["name"] == name);
    isolator.and_then(|isolator| isolator["detail"].as_str()).unwrap_or_default().to_owned()
}

/// The start of such a spec fails, with these words, and `berthctl plan` says so before.
fn refused(host: &Share, name: &str, toml: &str, words: &[&str]) {
    host.drop_spec(name, &format!("command = [\"/bin/true\"]\n{toml}{ONCE}"));
    let state = host.wait_state(name, "failed");
    let message = state["error"]["message"].as_str().unwrap();
    let plan = host.berthctl(&format!("plan {name}"));
    for word in words {
        assert!(message.contains(word), "{word}: {message}");
        assert!(plan.stderr.contains(word), "{word}: {plan}");
    }
}

/// Mesos's `ROOT_VolumeFromHostForceCreation`, with mode and owner.
fn a_volume_is_made_where_it_is_missing(suite: Suite) {
    let host = Berth::shared(suite);
    tree(&host, "/srv/volumes-a");
    let made = volume(
        "container_path = \"/data\"; host_path = \"/srv/made/deep/er\"; create = true; directory_mode = \"2750\"; \
         owner = \"web:extra\"",
    );
    // TOML has tables behind all else.
    let toml = |command: &str| format!("command = \"{command}\"\n{}{made}{ONCE}", image("/srv/volumes-a"));
    let said = host.output_of("made-a", &toml("stat -c '%a %u %g' /data; touch /data/file"));
    assert_eq!(said, "2750 4321 77", "names are those of the container");
    assert_eq!(host.ok("stat -c '%a %u' /srv/made /srv/made/deep; ls /srv/made/deep/er"), "755 0\n755 0\nfile");
    // What is there stays as it is.
    host.ok("chmod 711 /srv/made/deep/er && chown 5 /srv/made/deep/er");
    assert_eq!(host.output_of("made-b", &toml("stat -c '%a %u' /data")), "2711 5");
    // On the host's own filesystem it belongs to the program's user.
    let own = volume("container_path = \"/mnt\"; host_path = \"/srv/made-own\"; create = true");
    let toml = format!("command = \"stat -c '%a %U' /mnt; touch /mnt/file\"\nuser = \"daemon\"\n{own}{ONCE}");
    assert_eq!(host.output_of("made-c", &toml), "755 daemon");
    let unknown = own.replace("create = true", "create = true\nowner = \"nobody-here\"");
    refused(&host, "made-d", &unknown, &["the owner of a volume: there is no user 'nobody-here'"]);
    let missing = own.replace("create = true", "").replace("made-own", "made-not");
    refused(&host, "made-e", &missing, &["/srv/made-not", "create = true"]);
    assert!(!host.sh("test -e /srv/made-not").status.success());
}

/// Mesos's `ROOT_UNPRIVILEGED_USER_SelfTypeOwnership` and `ROOT_SelfTypeReadOnly`.
fn a_volume_in_the_sandbox_is_the_users(suite: Suite) {
    let host = Berth::shared(suite);
    tree(&host, "/srv/volumes-b");
    let (writable, closed) = (
        volume("container_path = \"/made/here\"; host_path = \"own\""),
        volume("container_path = \"/closed\"; host_path = \"closed\"; mode = \"RO\""),
    );
    let toml = format!(
        "command = \"echo yes > /made/here/file; (echo no > /closed/file) 2>/dev/null || cat /made/here/file\"\n\
         user = \"web\"\n{}{writable}{closed}{ONCE}",
        image("/srv/volumes-b")
    );
    assert_eq!(host.output_of("own-a", &toml), "yes");
    assert_eq!(host.read("/var/lib/berth/sandboxes/own-a/latest/own/file"), "yes\n");
    // Mesos's `ROOT_VolumeFromHostSandboxMountPoint`: a relative place is in the sandbox, and made there.
    let place = volume("container_path = \"deep/er\"; host_path = \"/srv\"; mode = \"RO\"");
    for (name, root) in [("own-b", image("/srv/volumes-b")), ("own-c", String::new())] {
        let toml = format!("command = \"ls $BERTH_SANDBOX/deep/er\"\n{root}{place}{ONCE}");
        assert!(host.output_of(name, &toml).lines().any(|line| line == "volumes-b"), "{}", host.said(name));
        host.ok(&format!("test -d /var/lib/berth/sandboxes/{name}/latest/deep/er"));
        assert_eq!(host.ok(&format!("ls /var/lib/berth/sandboxes/{name}/latest/deep/er")), "");
    }
}

/// Mesos's `ROOT_ReadOnlyVolumeFromHost` and `ROOT_FileVolumeFromHost`; what is mounted below is read-only too.
fn a_read_only_volume_of_a_root_takes_nothing(suite: Suite) {
    let host = Berth::shared(suite);
    tree(&host, "/srv/volumes-c");
    host.ok("mkdir -p /srv/closed/below && mount -t tmpfs -o nosuid,nodev,noexec below /srv/closed/below && \
             echo file > /srv/closed/file");
    let before = host.ok("find /srv/closed -printf '%p %m %s %T@\n' | sort");
    let closed = volume("container_path = \"/closed\"; host_path = \"/srv/closed\"; mode = \"RO\"");
    let file = volume("container_path = \"/made/file\"; host_path = \"/srv/closed/file\"; options = [\"noexec\"]");
    let toml = format!(
        "command = \"cat /made/file; touch /closed/x /closed/below/x 2>/dev/null && echo wrote; exec sleep infinity\"\n\
         {}{closed}{file}",
        image("/srv/volumes-c")
    );
    let pid = host.run("closed", &toml);
    host.wait_said("closed", "file");
    let options = |target: &str| host.ok(&format!("findmnt -N {pid} -no OPTIONS {target}"));
    assert!(options("/closed").starts_with("ro,"), "{}", options("/closed"));
    assert!(options("/closed/below").starts_with("ro,nosuid,nodev,noexec"), "{}", options("/closed/below"));
    assert!(options("/made/file").starts_with("rw,noexec"), "{}", options("/made/file"));
    let state = host.container("closed").unwrap();
    let said = detail(&state, "volume/host_path");
    assert_eq!(said, "/closed from /srv/closed (read-only), /made/file from /srv/closed/file (noexec)");
    let status = host.berthctl("status closed");
    assert!(status.stdout.contains("/closed from /srv/closed (read-only)"), "{status}");
    assert_eq!(host.ok("find /srv/closed -printf '%p %m %s %T@\n' | sort"), before);
    assert_eq!(host.said("closed"), "file", "nothing was written");
    host.ok("systemctl stop berth@closed && umount /srv/closed/below");
}

fn a_volume_in_memory_ends_with_the_run(suite: Suite) {
    let host = Berth::shared(suite);
    let memory = volume("container_path = \"/tmp\"; type = \"tmpfs\"; size = \"1M\"; options = [\"noexec\"]");
    let toml = format!(
        "command = \"stat -c %a /tmp; ls /tmp; findmnt -rno FSTYPE,OPTIONS /tmp | tail -n 1; head -c 2000000 /dev/zero > /tmp/full; \
         stat -c %s /tmp/full\"\nuser = \"daemon\"\n{memory}{ONCE}"
    );
    let said = host.output_of("memory", &toml);
    assert!(said.starts_with("1777\n") && said.contains("\ntmpfs rw,nosuid,nodev,noexec"), "{said}");
    assert!(said.contains("size=1024k") && said.ends_with("\n1048576"), "{said}");
    assert_eq!(host.ok("ls /tmp/full 2>/dev/null; true"), "");
    let plan = host.berthctl("plan memory");
    assert!(plan.stdout.contains("tmpfs, 1 MiB, mode 1777 on /tmp, noexec"), "{plan}");
}

fn an_image_is_a_volume_and_stays_while_in_use(suite: Suite) {
    let host = Berth::shared(suite);
    layout(&host, "assets");
    let source = "oci:/srv/assets/layout";
    host.ok("mkdir -p /srv/assets-seen");
    let assets = |subpath: &str| {
        volume(&format!(
            "container_path = \"/srv/assets-seen\"; type = \"image\"; source = \"{source}\"; subpath = \"{subpath}\""
        ))
    };
    let command = "command = \"cat /srv/assets-seen/file; touch /srv/assets-seen/x 2>/dev/null && echo wrote; \
                   exec sleep infinity\"\n";
    host.run("assets", &format!("{command}{}", assets("data")));
    host.wait_said("assets", "image");
    let state = host.container("assets").unwrap();
    let said = detail(&state, "volume/image");
    let digest = said.split_once("sha256:").unwrap_or_else(|| panic!("{said}")).1.get(..64).unwrap();
    assert_eq!(said, format!("/srv/assets-seen from {source}, sha256:{digest}, data of it (read-only)"));
    assert!(host.berthctl("images --json").stdout.contains(digest));
    // A file names it, then only the run does: it stays.
    let kept = |why: &str| {
        let removed = host.berthctl(&format!("rmi {source}"));
        assert!(!removed.status.success() && removed.stderr.contains(why), "{removed}");
        host.ok("berthctl prune");
        assert!(host.berthctl("images --json").stdout.contains(digest));
    };
    kept("a container's file names it");
    host.drop_spec("assets", &format!("on_change = \"manual\"\n{command}"));
    host.wait_until("assets", "pending", |container| container["spec"]["pending"][0] == "volumes");
    kept("a container runs with it");
    assert!(host.said("assets").lines().all(|line| line == "image"), "{}", host.said("assets"));
    host.ok("systemctl stop berth@assets");
    host.wait_state("assets", "stopped");
    host.ok(&format!("berthctl rmi {source}"));
    refused(&host, "assets-never", &format!("{}pull = \"never\"\n", assets("data")), &["pull = \"never\"", source]);
    // With a root of its own as well, and taken into the store by the start.
    tree(&host, "/srv/volumes-d");
    let root = format!("command = \"cat /srv/assets-seen/file\"\n{}", image("/srv/volumes-d"));
    assert_eq!(host.output_of("assets-b", &format!("{root}{}{ONCE}", assets("data"))), "image");
    // What the source has become by now is seen where it is asked, and nowhere else.
    host.ok("cd /srv/assets && echo other > lower/data/file && rm -r layout && sh /srv/layout.sh /srv/assets");
    assert_eq!(host.output_of("assets-d", &format!("{root}{}{ONCE}", assets("data"))), "image");
    let always = format!("{}pull = \"always\"\n", assets("data"));
    assert_eq!(host.output_of("assets-e", &format!("{root}{always}{ONCE}")), "other");
    host.drop_spec("assets-c", &format!("{root}{}{ONCE}", assets("none")));
    let state = host.wait_state("assets-c", "failed");
    assert!(state["error"]["message"].as_str().unwrap().contains("see that the source has its subpath"), "{state}");
}

/// Mesos's `ROOT_MountPropagation`, here with a root of the container's own too.
fn mounts_of_a_volume_go_both_ways(suite: Suite) {
    let host = Berth::shared(suite);
    tree(&host, "/srv/volumes-e");
    host.ok("cp -L $(command -v mount) /srv/volumes-e/bin; for lib in $(ldd $(command -v mount) | grep -o '/[^ )]*'); do \
             mkdir -p /srv/volumes-e${lib%/*}; cp -L $lib /srv/volumes-e$lib; done; mkdir -p /srv/both/sub /srv/both-seen");
    let both = |target: &str| {
        volume(&format!("container_path = \"{target}\"; host_path = \"/srv/both\"; propagation = \"bidirectional\""))
    };
    for (name, target, root) in
        [("both-a", "/data", image("/srv/volumes-e")), ("both-b", "/srv/both-seen", String::new())]
    {
        let toml = format!(
            "command = \"mount -t tmpfs inner {target}/sub && echo hello > {target}/sub/file\"\n{root}\
             [capabilities]\neffective = [\"SYS_ADMIN\"]\nbounding = [\"SYS_ADMIN\"]\n{}{ONCE}",
            both(target)
        );
        assert_eq!(host.output_of(name, &toml), "");
        assert_eq!(host.read("/srv/both/sub/file"), "hello\n", "{name}");
        assert_eq!(host.ok("findmnt -no FSTYPE /srv/both/sub").trim(), "tmpfs");
        host.ok("umount /srv/both/sub");
    }
    // A mount that is the host's alone cannot show it anything.
    host.ok("mkdir -p /srv/alone && mount -t tmpfs alone /srv/alone && mount --make-private /srv/alone");
    let alone = both("/srv/both-seen").replace("/srv/both\"", "/srv/alone\"");
    refused(&host, "both-c", &alone, &["not shared", "mount --make-shared /srv/alone"]);
    host.ok("mount --make-shared /srv/alone");
    let toml = format!("command = \"true\"\n{alone}{ONCE}");
    assert_eq!(host.output_of("both-d", &toml), "");
    host.ok("umount /srv/alone");
}

/// Mesos refuses the one and mounts the other over it; here the order of a file means nothing.
fn a_volume_in_a_volume_needs_a_place(suite: Suite) {
    let host = Berth::shared(suite);
    host.ok("mkdir -p /srv/outer/cache && echo outer > /srv/outer/file");
    tree(&host, "/srv/volumes-f");
    let before = host.ok("find /srv/outer -printf '%p %m %s %T@\n' | sort");
    let outer = volume("container_path = \"/mnt/outer\"; host_path = \"/srv/outer\"");
    let inner = |place: &str| volume(&format!("container_path = \"/mnt/outer/{place}\"; type = \"tmpfs\""));
    host.ok("mkdir -p /mnt/outer");
    for (name, root) in [("nested-a", image("/srv/volumes-f")), ("nested-b", String::new())] {
        let toml = format!(
            "command = \"cat /mnt/outer/file; touch /mnt/outer/cache/x; ls /mnt/outer/cache\"\n{root}{}{outer}{ONCE}",
            inner("cache")
        );
        assert_eq!(host.output_of(name, &toml), "outer\nx");
        let words = ["/mnt/outer/none lies in the volume at /mnt/outer", "make none in /srv/outer"];
        refused(&host, &format!("{name}-not"), &format!("{root}{}{outer}", inner("none")), &words);
    }
    assert_eq!(host.ok("find /srv/outer -printf '%p %m %s %T@\n' | sort"), before);
}

fn a_part_of_a_volume_stays_in_it(suite: Suite) {
    let host = Berth::shared(suite);
    host.ok("mkdir -p /srv/parts/deep && echo deep > /srv/parts/deep/file && ln -s deep /srv/parts/inner && \
             ln -s /etc /srv/parts/out");
    let part = |subpath: &str| {
        volume(&format!("container_path = \"/mnt\"; host_path = \"/srv/parts\"; subpath = \"{subpath}\""))
    };
    let toml = |subpath| format!("command = \"cat /mnt/file\"\n{}{ONCE}", part(subpath));
    assert_eq!(host.output_of("part-a", &toml("deep")), "deep");
    assert_eq!(host.output_of("part-b", &toml("inner")), "deep");
    refused(&host, "part-c", &part("out"), &["/srv/parts/out", "leads out of host_path"]);
    refused(&host, "part-d", &part("none"), &["/srv/parts/none", "correct subpath"]);
}

fn volumes_of_a_root_need_their_isolators(suite: Suite) {
    let host = Berth::boot(suite);
    let config = |names: &str| {
        let base = "\"filesystem/linux\", \"docker/runtime\", \"namespaces/pid\"";
        host.write("/etc/berth/berthd.toml", format!("isolation = [{base}{names}]\n"));
        host.restart_berthd();
    };
    config(", \"volume/sandbox_path\"");
    let refused = |name: &str, keys: &str, isolator: &str| {
        let toml = format!("command = [\"/bin/true\"]\n{}{}{ONCE}", image("/"), volume(keys));
        host.drop_spec(name, &toml);
        let state = host.wait_state(name, "failed");
        let message = state["error"]["message"].as_str().unwrap();
        assert!(message.contains(&format!("volumes needs the isolator {isolator}")), "{state}");
    };
    refused("off-host", "container_path = \"/opt\"; host_path = \"/srv\"", "volume/host_path");
    let image_keys = "container_path = \"/opt\"; type = \"image\"; source = \"rootfs:/srv\"";
    refused("off-image", image_keys, "volume/image");
    config(", \"volume/host_path\"");
    refused("off-sandbox", "container_path = \"/opt\"; host_path = \"own\"", "volume/sandbox_path");
}
