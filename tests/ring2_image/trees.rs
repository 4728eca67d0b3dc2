//! Trees equal to umoci's, entry by entry, and all forms that skopeo writes.

use berth::sys::mount::knows_whiteout_attributes;

use super::{
    Case,
    world::{World, assert_same, set_xattr, tree},
};

pub const ALL: &[Case] = &[
    ("what_is_unpacked_is_what_umoci_unpacks", equals_umoci),
    ("whiteouts_mean_what_umoci_says", whiteouts),
    ("a_matrix_of_whiteouts_is_umocis", matrix),
    ("whiteouts_without_devices_are_umocis_too", matrix_without_devices),
    ("a_whiteout_hides_what_is_below_and_not_its_sibling", siblings),
    ("a_debian_image_is_what_umoci_unpacks", debian),
    ("every_form_that_skopeo_writes_is_one_image", forms),
    ("gnu_tars_own_forms_are_read", gnu_forms),
];

/// An image of two layers, of all that a file can be.
const BUILD: &str = r#"
    umoci init --layout l; umoci new --image l:t; umoci unpack --image l:t b >/dev/null
    cd b/rootfs
    mkdir -p usr/bin etc/deep/er var/empty; chmod 1777 var/empty; chmod 750 etc/deep; chown 12:34 etc/deep
    echo one >etc/one; chmod 4755 etc/one; chown 1000:1000 etc/one; ln etc/one usr/bin/same; ln etc/one etc/deep/again
    ln -s ../../etc/one usr/bin/link; ln -s /nowhere etc/dangling; chown -h 7:8 etc/dangling; mkfifo -m 620 var/pipe
    long=$(printf 'n%.0s' {1..200}); mkdir -p "$long/$long"; echo long >"$long/$long/$long"; ln -s "$long/$long" to
    truncate -s 9M var/sparse; printf x | dd of=var/sparse bs=1 seek=5000000 conv=notrunc status=none
    : >etc/empty; printf 'ü\n' >'etc/ü und mehr'; cp /bin/true usr/bin/ping; setcap cap_net_raw=ep usr/bin/ping
    touch -d '2001-02-03 04:05:06.789' etc/one; touch -d '1960-01-01' etc/empty; touch -hd '2010-10-10' usr/bin/link
    touch -d '1999-09-09' var etc/deep
"#;

/// The same image by berth and by umoci.
fn compare(world: &World, source: &str) {
    world.sh("rm -rf theirs; umoci unpack --image l:t theirs >/dev/null");
    let image = world.pull(source);
    assert_same(&world.shown(&image), &tree(&world.at("theirs/rootfs")));
}

fn equals_umoci() {
    let world = World::new();
    world.sh(BUILD);
    set_xattr(&world.at("b/rootfs/etc/one"), "user.note", b"a\nb\0c");
    world.sh("umoci repack --image l:t b >/dev/null");
    compare(&world, "oci:l:t");
    world
        .sh("rm -rf b; umoci unpack --image l:t b >/dev/null; echo two >b/rootfs/etc/two; echo more >>b/rootfs/etc/one
        rm b/rootfs/to; umoci repack --image l:t b >/dev/null");
    compare(&world, "oci:l:t");
    let second = world.pull("oci:l:t");
    assert_eq!(second.layers.len(), 2);
    assert!(world.leftovers().is_empty(), "{:?}", world.leftovers());
}

fn whiteouts() {
    let world = World::new();
    world.sh(
        r#"umoci init --layout l; umoci new --image l:t; umoci unpack --image l:t b >/dev/null; cd b/rootfs
        for d in gone emptied refilled to_file kept kept/in; do mkdir $d; echo 1 >$d/a; echo 2 >$d/b; done
        for f in f_gone f_to_dir f_to_link f_changed; do echo 1 >$f; done; ln -s kept l_gone; ln -s nowhere l_to_dir; chmod 700 kept
        cd ../..; umoci repack --image l:t b >/dev/null; rm -rf b; umoci unpack --image l:t b >/dev/null; cd b/rootfs
        rm -r gone to_file kept/in/a f_gone f_to_dir f_to_link l_gone l_to_dir emptied/*
        rm -r refilled; mkdir refilled; echo 3 >refilled/c; echo f >to_file
        mkdir f_to_dir l_to_dir; echo 4 >f_to_dir/x; ln -s kept f_to_link; echo 5 >f_changed
        cd ../..; umoci repack --image l:t b >/dev/null; rm -rf b; umoci unpack --image l:t b >/dev/null; cd b/rootfs
        mkdir gone; echo back >gone/a; echo back >f_gone; rm -r refilled/c kept/b
        cd ../..; umoci repack --image l:t b >/dev/null"#,
    );
    compare(&world, "oci:l:t");
}

/// Three layers in which everything becomes everything: nothing, a file, a directory, a link, a pipe, a hard link, each
/// of these names in each of the layers. `=` leaves a name alone.
const MATRIX: &str = r#"
    put() {
        case $2 in
        =) return 0 ;;
        *) [[ ! -e $1 && ! -L $1 ]] || rm -rf $1 ;;
        esac
        case $2 in
        f) echo $3 >$1 ;;
        d) mkdir $1 $1/sub; echo $3 >$1/same; echo $3 >$1/own$3; echo $3 >$1/sub/own$3 ;;
        l) ln -s $3 $1 ;;
        p) mkfifo $1 ;;
        h) ln shared $1 ;;
        esac
    }
    umoci init --layout l; umoci new --image l:t
    for layer in 1 2 3; do
        umoci unpack --image l:t b >/dev/null; cd b/rootfs; [[ -e shared ]] || echo shared >shared
        mkdir -p deep
        for first in n KINDS; do for second in n KINDS =; do for third in n KINDS =; do
            name=$first$second$third; kinds=($first $second $third)
            put $name ${kinds[layer - 1]} $layer
            [[ $third != [fd] ]] || put deep/$name ${kinds[layer - 1]/h/f} $layer
        done; done; done
        cd ../..; umoci repack --image l:t b >/dev/null; rm -rf b
    done
"#;

fn matrix() {
    let world = World::new();
    world.sh(&MATRIX.replace("KINDS", "f d l p h"));
    compare(&world, "oci:l:t");
}

/// Where not even the device of a whiteout can be made, an attribute stands for it, if the kernel knows that. A pipe is
/// made by the same call, so there are none.
fn matrix_without_devices() {
    let world = World::new();
    world.sh(&MATRIX.replace("KINDS", "f d l h"));
    let berthctl = format!("{} --root host pull oci:l:t", env!("CARGO_BIN_EXE_berthctl"));
    let pull = format!("strace -f -qq -o trace -e trace=mknodat -e inject=mknodat:error=EPERM {berthctl}");
    if !knows_whiteout_attributes() {
        world.sh(&format!("! {pull} 2>said; grep 'Operation not permitted' said"));
        return assert!(world.leftovers().is_empty(), "{:?}", world.leftovers());
    }
    world.sh(&pull);
    world.sh("grep -q INJECTED trace; test -z \"$(find host -type c)\"; umoci unpack --image l:t theirs >/dev/null");
    let image = world.store().find(&world.source("oci:l:t")).unwrap().unwrap();
    assert_same(&world.shown(&image), &tree(&world.at("theirs/rootfs")));
}

/// By hand, in orders that umoci does not write and some of which it cannot unpack: whiteouts before and after their
/// siblings, opaque directories, and parents that no entry names.
fn siblings() {
    for (name, script, shown) in [
        ("before", "mkdir -p n/x; echo new >n/x/z; : >n/.wh.x; tar -C n -cf n.tar .wh.x x", " f x x/z"),
        ("after", "mkdir -p n/x; echo new >n/x/z; : >n/.wh.x; tar -C n -cf n.tar x .wh.x", " f x x/z"),
        ("file", "mkdir n; echo new >n/f; : >n/.wh.f; tar -C n -cf n.tar f .wh.f", " f x x/a x/sub"),
        ("opaque", "mkdir -p n/x; : >n/x/z; : >n/x/.wh..wh..opq; tar -C n -cf n.tar x/z x/.wh..wh..opq x", " f x x/z"),
        ("implied", "mkdir -p n/x; echo new >n/x/z; tar -C n -cf n.tar x/z", " f x x/a x/sub x/z"),
        ("missing", "mkdir n; : >n/.wh.nothing; tar -C n -cf n.tar .wh.nothing", " f x x/a x/sub"),
        ("one", "mkdir -p n/x; : >n/x/.wh.a; tar -C n -cf n.tar x/.wh.a", " f x x/sub"),
    ] {
        let world = World::new();
        world.sh(
            "umoci init --layout l; umoci new --image l:t; umoci unpack --image l:t b >/dev/null; mkdir -p b/rootfs/x/sub
            echo a >b/rootfs/x/a; echo f >b/rootfs/f; chmod 2711 b/rootfs/x; chown 5:6 b/rootfs/x
            touch -d @978307200 b/rootfs/x; umoci repack --image l:t b >/dev/null",
        );
        world.sh(&format!("{script}; umoci raw add-layer --image l:t n.tar"));
        let image = world.pull("oci:l:t");
        let tree = world.shown(&image);
        let names: Vec<String> = tree.keys().map(|path| path.display().to_string()).collect();
        assert_eq!(names.join(" "), shown, "{name}");
        if ["implied", "missing", "one", "file"].contains(&name) {
            let facts = &tree[std::path::Path::new("x")];
            assert!(facts.is_directory(0o2711, (5, 6), 978_307_200), "{name}: {facts:?}");
        }
    }
}

/// Real files, many of them, from this machine's own tree.
fn debian() {
    let world = World::new();
    world.sh("umoci init --layout l; umoci new --image l:t; umoci unpack --image l:t b >/dev/null
        mkdir -p b/rootfs/usr/bin b/rootfs/usr/share; cp -a /etc b/rootfs/; cp -a /usr/share/doc b/rootfs/usr/share/
        cp -a /usr/bin/[a-d]* b/rootfs/usr/bin/; umoci repack --image l:t b >/dev/null");
    compare(&world, "oci:l:t");
}

fn forms() {
    let world = World::new();
    world.sh(BUILD);
    world.sh(
        "umoci repack --image l:t b >/dev/null; rm -rf b; umoci unpack --image l:t b >/dev/null; rm b/rootfs/etc/empty
        umoci repack --image l:t b >/dev/null
        skopeo copy -q oci:l:t oci-archive:a.tar:v1; skopeo copy -q oci:l:t docker-archive:d.tar:example.org/x:v1
        skopeo copy -q --dest-compress --dest-compress-format zstd --dest-compress-level 3 oci:l:t oci:z:t
        skopeo copy -q --format v2s2 oci:l:t dir:dir; skopeo copy -q dir:dir oci:back:t",
    );
    let image = world.pull("oci:l:t");
    for form in [
        "oci-archive:a.tar:v1",
        "oci-archive:a.tar",
        "docker-archive:d.tar",
        "docker-archive:d.tar:example.org/x:v1",
        "oci:z:t",
        "oci:z",
        "oci:back",
    ] {
        let other = world.pull(form);
        assert_eq!(other.layers, image.layers, "{form}: layers are shared");
        assert_eq!(other.config.diff_ids, image.config.diff_ids);
    }
    let error = world.fails(&["pull", "oci:l:u"]);
    assert!(error.contains("has no image with the tag u"), "{error}");
    let error = world.fails(&["pull", "docker-archive:d.tar:example.org/x:v2"]);
    assert!(error.contains("it has: example.org/x:v1"), "{error}");
    world.sh("gzip -k a.tar");
    let error = world.fails(&["pull", "oci-archive:a.tar.gz"]);
    assert!(error.contains("gunzip"), "{error}");
}

/// Sparse files in four forms and long names in two, as GNU tar writes them.
fn gnu_forms() {
    let world = World::new();
    world.sh(r#"mkdir n; cd n; truncate -s 40M s; for i in $(seq 1 30); do printf x$i | dd of=s bs=1 seek=$((i*1300000)) conv=notrunc status=none; done
        long=$(printf 'n%.0s' {1..120}); mkdir -p "$long/$long"; echo x >"$long/$long/$long"; ln -s "$long/$long/$long" l; ln "$long/$long/$long" h"#);
    for (format, options) in [
        ("gnu", "--format=gnu --sparse"),
        ("pax", "--format=pax --sparse --sparse-version=1.0"),
        ("pax01", "--format=pax --sparse --sparse-version=0.1"),
        ("pax00", "--format=pax --sparse --sparse-version=0.0"),
    ] {
        world.sh(&format!(
            "umoci init --layout {format}; umoci new --image {format}:t; tar -C n {options} --sort=name -cf {format}.tar .
            umoci raw add-layer --image {format}:t {format}.tar"
        ));
        let image = world.pull(&format!("oci:{format}:t"));
        let (ours, source) = (tree(&image.layers[0]), tree(&world.at("n")));
        if format == "gnu" {
            assert_eq!(ours.keys().collect::<Vec<_>>(), source.keys().collect::<Vec<_>>());
            world.sh(&format!("diff -r n {}", image.layers[0].display()));
        } else {
            assert_same(&ours, &source);
        }
        world.sh(&format!("test $(du -k {}/s | cut -f 1) -lt 4000", image.layers[0].display()));
    }
}
