//! A root of the container's own, from a spec to the program and back.

use crate::support::berth::Berth;
use crate::support::host::Suite;
use crate::support::ring::Test;

pub const TRIALS: &[Test] = &[
    ("a_directory_is_a_root", a_directory_is_a_root),
    ("changes_of_a_root_end_with_the_run", changes_of_a_root_end_with_the_run),
    ("users_are_the_roots_own", users_are_the_roots_own),
    ("exec_in_a_root_knows_its_users", exec_in_a_root_knows_its_users),
    ("an_init_needs_nothing_in_a_root", an_init_needs_nothing_in_a_root),
    ("a_missing_root_is_said", a_missing_root_is_said),
    ("an_image_of_layers_runs_as_it_says", an_image_of_layers_runs_as_it_says),
    ("what_an_image_says_of_its_unit_holds", what_an_image_says_of_its_unit_holds),
    ("a_volume_of_an_image_lives_with_its_sandbox", a_volume_of_an_image_lives_with_its_sandbox),
    ("an_image_that_is_not_here_is_said", an_image_that_is_not_here_is_said),
    ("an_image_needs_both_isolators", an_image_needs_both_isolators),
];

pub const ONCE: &str = "[service]\nrestart = \"no\"\n";

/// Makes a root at `directory` of the host with a few programs of its.
pub fn tree(host: &Berth, directory: &str) {
    let script = "for program in sh cat ls sleep id touch stat mkdir; do path=$(readlink -f $(command -v $program)); \
                  mkdir -p $0/bin; cp $path $0/bin/$program; \
                  for lib in $(ldd $path | grep -o '/[^ )]*'); do mkdir -p $0${lib%/*}; cp -L $lib $0$lib; done; done; \
                  mkdir -p $0/etc; echo 'root:x:0:0::/root:/bin/sh\nweb:x:4321:4321::/srv:' > $0/etc/passwd; \
                  echo 'extra:x:77:web' > $0/etc/group";
    host.ok(&format!("sh -ec '{}' {directory}", script.replace('\'', "'\\''")));
}

pub fn image(directory: &str) -> String {
    format!("[image]\nsource = \"rootfs:{directory}\"\n")
}

fn a_directory_is_a_root(suite: Suite) {
    let host = Berth::shared(suite);
    tree(&host, "/srv/root-a");
    let before = host.ok("find /srv/root-a -printf '%p %m %s %T@\\n' | sort");
    let toml = "command = \"echo $$ $BERTH_SANDBOX; cat /etc/hostname /proc/sys/kernel/hostname /etc/machine-id; \
                cat /proc/self/mountinfo; touch /new; ls /made\"\nhostname = \"inner.example\"\nmachine_id = \"own\"\n\
                [[volumes]]\ncontainer_path = \"/made/here\"\nhost_path = \"/srv\"\nmode = \"RO\"\n";
    let said = host.output_of("root-a", &format!("{toml}{}{ONCE}", image("/srv/root-a")));
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..3], ["1 /mnt/berth/sandbox", "inner.example", "inner.example"], "{said}");
    assert!(lines[3].len() == 32 && lines[3] != host.read("/etc/machine-id").trim(), "{said}");
    assert_eq!(lines.last(), Some(&"here"));
    for line in &lines[4..lines.len() - 1] {
        let place = line.split(' ').nth(4).unwrap();
        let known = ["/", "/mnt/berth/sandbox", "/made/here"].contains(&place)
            || ["/proc", "/sys", "/dev", "/etc/"].iter().any(|above| place.starts_with(above));
        assert!(known, "{line}");
    }
    assert_eq!(host.ok("find /srv/root-a -printf '%p %m %s %T@\\n' | sort"), before);
}

fn changes_of_a_root_end_with_the_run(suite: Suite) {
    let host = Berth::shared(suite);
    tree(&host, "/srv/root-b");
    let pid = host.run("root-b", &format!("command = \"touch /new; exec sleep infinity\"\n{}", image("/srv/root-b")));
    host.wait_for("the change", crate::SOON, || {
        host.sh(&format!("test -e /proc/{pid}/root/new")).status.success().then_some(())
    });
    host.ok("test -e /var/lib/berth/sandboxes/root-b/*.root/upper/new");
    assert_eq!(host.container("root-b").unwrap()["image"]["source"], "rootfs:/srv/root-b");
    host.ok("systemctl stop berth@root-b");
    host.wait_for("the end of the root", crate::SOON, || {
        host.ok("ls -d /var/lib/berth/sandboxes/root-b/*.root 2>/dev/null; true").is_empty().then_some(())
    });
    assert!(host.sh("test -e /srv/root-b/new").status.code() == Some(1));
}

fn users_are_the_roots_own(suite: Suite) {
    let host = Berth::shared(suite);
    tree(&host, "/srv/root-c");
    let toml = "command = \"id -u; id -g; id -G; echo $HOME\"\nuser = \"web\"\n";
    let said = host.output_of("root-c", &format!("{toml}{}{ONCE}", image("/srv/root-c")));
    assert_eq!(said, "4321\n4321\n4321 77\n/srv");
    host.drop_spec("root-c2", &format!("command = \"id\"\nuser = \"daemon\"\n{}{ONCE}", image("/srv/root-c")));
    let state = host.wait_state("root-c2", "failed");
    assert!(
        state["error"]["message"].as_str().unwrap().contains("no user 'daemon' in /etc/passwd of the image"),
        "{state}"
    );
}

fn exec_in_a_root_knows_its_users(suite: Suite) {
    let host = Berth::shared(suite);
    tree(&host, "/srv/root-d");
    host.run("root-d", &format!("command = [\"/bin/sleep\", \"infinity\"]\n{}", image("/srv/root-d")));
    let output = host.berthctl("exec --user web --workdir / root-d -- /bin/sh -c 'id -u; ls /; ls /proc/1/exe'");
    assert!(output.stdout.starts_with("4321\n") && output.stdout.contains("\nproc\n"), "{output}");
    let output = host.berthctl("exec --user daemon root-d -- id");
    assert!(output.stderr.contains("of the image"), "{output}");
}

fn an_init_needs_nothing_in_a_root(suite: Suite) {
    let host = Berth::shared(suite);
    tree(&host, "/srv/root-e");
    let toml = "command = \"echo $$; cat /proc/1/comm\"\n";
    let said = host.output_of("root-e", &format!("{toml}{}{ONCE}init = true\n", image("/srv/root-e")));
    assert_eq!(said, "2\ninit");
}

fn a_missing_root_is_said(suite: Suite) {
    let host = Berth::shared(suite);
    host.drop_spec("root-f", &format!("command = \"true\"\n{}{ONCE}", image("/srv/nothing")));
    let state = host.wait_state("root-f", "failed");
    let message = state["error"]["message"].as_str().unwrap();
    assert!(message.contains("/srv/nothing") && message.contains("create it"), "{state}");
}

/// Makes the OCI layout `layout` of `lower` and `upper`, all in the directory given.
const LAYOUT: &str = r#"
set -e
cd $1; mkdir -p layout/blobs/sha256
blob() { sum=$(sha256sum $1 | cut -d' ' -f1); cp $1 layout/blobs/sha256/$sum; echo $sum; }
entry() { printf '{"mediaType":"application/vnd.oci.image.%s","digest":"sha256:%s","size":%s}' $1 $2 $(stat -c %s layout/blobs/sha256/$2); }
tar -C lower -cf lower.tar .; tar -C upper -cf upper.tar .
lower=$(blob lower.tar); upper=$(blob upper.tar)
printf '{"architecture":"%s","os":"linux","config":{"Entrypoint":["/bin/sh","-c"],"Cmd":["id -u; id -G; echo $A $B; readlink /proc/self/cwd; cat /which; ls /gone 2>&1; true"],"Env":["A=image","B=image"],"User":"web","WorkingDir":"/work/here","StopSignal":"SIGQUIT","ExposedPorts":{"80/tcp":{},"53/udp":{}},"Labels":{"org.example":"of the image"},"Volumes":{"/data":{},"/proc/x":{}},"Healthcheck":{"Test":["CMD","true"]}},"rootfs":{"type":"layers","diff_ids":["sha256:%s","sha256:%s"]}}' $(dpkg --print-architecture) $lower $upper > config
config=$(blob config)
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":%s,"layers":[%s,%s]}' "$(entry config.v1+json $config)" "$(entry layer.v1.tar $lower)" "$(entry layer.v1.tar $upper)" > manifest
printf '{"schemaVersion":2,"manifests":[%s]}' "$(entry manifest.v1+json $(blob manifest))" > layout/index.json
printf '{"imageLayoutVersion":"1.0.0"}' > layout/oci-layout
"#;

fn an_image_of_layers_runs_as_it_says(suite: Suite) {
    let host = Berth::shared(suite);
    tree(&host, "/srv/lower");
    host.ok("cp -L $(command -v readlink) /srv/lower/bin; touch /srv/lower/gone; echo lower > /srv/lower/which; \
             mkdir -p /srv/upper/etc; echo upper > /srv/upper/which; touch /srv/upper/.wh.gone; \
             echo 'web:x:5000:5001::/:' > /srv/upper/etc/passwd");
    host.write("/srv/layout.sh", LAYOUT);
    host.ok("sh /srv/layout.sh /srv");
    let toml = "environment = { B = \"spec\" }\n[image]\nsource = \"oci:/srv/layout\"\n";
    let said = host.output_of("layers", &format!("{toml}{ONCE}"));
    assert!(said.starts_with("5000\n5001 77\nimage spec\n/work/here\nupper\n"), "{said}");
    assert!(said.contains("/gone"), "{said}");
    let check = host.berthctl("plan layers");
    assert!(check.stdout.contains("Healthcheck is not run"), "{check}");
}

/// Makes the layout `NAME/layout` with a small volume in `/srv`, and gives the words of a spec for it.
pub fn layout(host: &Berth, name: &str) -> String {
    let at = format!("/srv/{name}");
    tree(host, &format!("{at}/lower"));
    host.ok(&format!(
        "mkdir -p {at}/lower/data {at}/upper; echo image > {at}/lower/data/file; chown -R 4321:77 {at}/lower/data"
    ));
    host.write("/srv/layout.sh", LAYOUT);
    host.ok(&format!("sh /srv/layout.sh {at}"));
    format!("[image]\nsource = \"oci:{at}/layout\"\n")
}

fn what_an_image_says_of_its_unit_holds(suite: Suite) {
    // Not with others: berthd is restarted here.
    let host = Berth::boot(suite);
    let image = layout(&host, "says");
    let traps = "command = \"trap 'echo quit; exit 0' QUIT; sleep infinity & wait\"\n";
    host.run("says", &format!("{traps}{image}"));
    // Before the program ran, so there is nothing to wait for.
    assert_eq!(host.property("says", "KillSignal"), "3");
    let state = host.container("says").unwrap();
    assert_eq!(state["image"]["exposed_ports"], serde_json::json!(["53/udp", "80/tcp"]), "{state}");
    assert_eq!(state["image"]["labels"]["org.example"], "of the image", "{state}");
    let warnings = state["spec"]["warnings"].to_string();
    assert!(warnings.contains("the image's volume /proc/x is no place for one"), "{warnings}");
    let status = host.berthctl("status says");
    assert!(status.stdout.contains("53/udp 80/tcp") && status.stdout.contains("org.example=of the image"), "{status}");
    // A berthd that is new, and one that has no run to ask, know it too.
    host.restart_berthd();
    assert_eq!(host.property("says", "KillSignal"), "3");
    host.ok("systemctl stop berth@says");
    host.wait_said("says", "quit");
    host.restart_berthd();
    assert_eq!(host.property("says", "KillSignal"), "3");
    // What the spec says goes before it, even where that is the default.
    host.drop_spec("says", &format!("{traps}{image}[service]\nstop_signal = \"SIGTERM\"\n"));
    host.barrier();
    assert_eq!(host.property("says", "KillSignal"), "15");
}

fn a_volume_of_an_image_lives_with_its_sandbox(suite: Suite) {
    let host = Berth::shared(suite);
    let image = layout(&host, "volume");
    let script = "command = \"cat /data/file; ls /data; id -u; touch /data/new\"\nuser = \"4321\"\n";
    let once = format!("{image}{ONCE}");
    let said = "image\nfile\n4321";
    assert_eq!(host.output_of("volume-a", &format!("{script}{once}")), said);
    host.ok("systemctl start --wait berth@volume-a");
    assert_eq!(host.said("volume-a"), format!("{said}\n{said}"), "another run has its own");
    let lasting = format!("sandbox = \"persistent\"\n{script}{once}");
    host.drop_spec("volume-b", &lasting);
    host.wait_state("volume-b", "exited");
    host.ok("systemctl start --wait berth@volume-b");
    assert!(host.said("volume-b").ends_with("image\nfile\nnew\n4321"), "{}", host.said("volume-b"));
    let kept = "/var/lib/berth/sandboxes/volume-b/persistent/volumes/data";
    assert_eq!(host.ok(&format!("stat -c '%u %g' {kept}/file")).trim(), "4321 77");
    // A volume of the spec takes the place.
    let spec = "[[volumes]]\ncontainer_path = \"/data\"\nhost_path = \"own\"\n";
    let toml = format!("command = \"ls -A /data; echo end\"\n{once}{spec}");
    assert_eq!(host.output_of("volume-c", &toml), "end");
}

fn an_image_that_is_not_here_is_said(suite: Suite) {
    let host = Berth::shared(suite);
    let toml = "[image]\nsource = \"docker://registry.example.org/none:1\"\npull = \"never\"\n";
    host.drop_spec("root-h", &format!("{toml}{ONCE}"));
    let state = host.wait_state("root-h", "failed");
    let message = state["error"]["message"].as_str().unwrap();
    assert!(message.contains("berthctl pull docker://registry.example.org/none:1"), "{state}");
}

fn an_image_needs_both_isolators(suite: Suite) {
    let host = Berth::boot(suite);
    host.write("/etc/berth/berthd.toml", "isolation = [\"filesystem/linux\", \"namespaces/pid\"]\n");
    host.restart_berthd();
    host.drop_spec("root-g", &format!("command = \"true\"\n{}{ONCE}", image("/srv")));
    let state = host.wait_state("root-g", "failed");
    let message = state["error"]["message"].as_str().unwrap();
    assert!(message.contains("image needs the isolator docker/runtime"), "{state}");
}
