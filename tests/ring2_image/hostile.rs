//! Images that nobody should make: each refused or contained, and the world around as it was.

use std::{fs, io::Write as _, path::Path};

use berth::image::{Devices, Digest, Limits};
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

use super::{
    Case,
    world::{World, assert_same, tree},
};

pub const ALL: &[Case] = &[
    ("no_entry_leaves_its_layer", corpus),
    ("a_damaged_image_is_refused", damaged),
    ("a_bomb_is_bounded", bomb),
    ("devices_are_left_out_or_made", devices),
];

/// An entry: type, name, link, content.
type Item<'a> = (EntryType, &'a str, &'a str, &'a [u8]);

use EntryType::{Char, Directory, Link, Regular, Symlink};

/// A tar archive of entries, whatever they are.
fn archive(items: &[Item<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, name, link, content) in items {
        let mut header = Header::new_gnu();
        let put = |field: &mut [u8], text: &str| field[..text.len()].copy_from_slice(text.as_bytes());
        put(&mut header.as_gnu_mut().unwrap().name, name);
        put(&mut header.as_gnu_mut().unwrap().linkname, link);
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        if *kind == Char {
            let minor = name.strip_prefix("c").and_then(|n| n.parse().ok()).unwrap_or(0);
            header.set_device_major(u32::from(minor > 0)).unwrap();
            header.set_device_minor(minor).unwrap();
        }
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A docker-archive of layers.
fn image(path: &Path, layers: &[Vec<u8>]) {
    let hash = |data: &[u8]| Digest::of_hash(&Sha256::digest(data).into());
    let ids: Vec<String> = layers.iter().map(|layer| format!("\"{}\"", hash(layer))).collect();
    image_of(path, layers, &ids.join(","));
}

fn image_of(path: &Path, layers: &[Vec<u8>], ids: &str) {
    let config = format!("{{\"os\":\"linux\",\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[{ids}]}}}}");
    let names: Vec<String> = (0..layers.len()).map(|at| format!("\"{at}.tar\"")).collect();
    let manifest = format!("[{{\"Config\":\"c.json\",\"RepoTags\":null,\"Layers\":[{}]}}]", names.join(","));
    let mut items: Vec<(String, Vec<u8>)> =
        vec![("manifest.json".into(), manifest.into()), ("c.json".into(), config.into())];
    items.extend(layers.iter().enumerate().map(|(at, layer)| (format!("{at}.tar"), layer.clone())));
    let items: Vec<Item<'_>> = items.iter().map(|(name, data)| (Regular, name.as_str(), "", data.as_slice())).collect();
    fs::write(path, archive(&items)).unwrap();
}

/// Up, out of any store.
const OUT: &str = "../../../../../../../../../outside";

/// Name, entries, and what is said of it; none: it is contained.
const CASES: &[(&str, &[Item<'_>], Option<&str>)] = &[
    ("up", &[(Regular, "../evil", "", b"x")], Some("'..'")),
    ("up within", &[(Directory, "a", "", b""), (Regular, "a/../../evil", "", b"x")], Some("'..'")),
    ("absolute", &[(Regular, "/evil", "", b"x")], None),
    ("link parent", &[(Symlink, "a", OUT, b""), (Regular, "a/evil", "", b"x")], Some("symbolic link")),
    ("absolute link parent", &[(Symlink, "a", "/etc", b""), (Regular, "a/evil", "", b"x")], Some("symbolic link")),
    ("link parent of a directory", &[(Symlink, "a", OUT, b""), (Directory, "a/evil", "", b"")], Some("symbolic link")),
    ("link in the place of a file", &[(Symlink, "a", "../canary", b""), (Regular, "a", "", b"x")], None),
    ("link in the place of a directory", &[(Symlink, "a", OUT, b""), (Directory, "a", "", b"")], None),
    ("hard link up", &[(Link, "a", "../../../../canary", b"")], Some("'..'")),
    ("hard link to the host", &[(Link, "a", "/etc/passwd", b"")], Some("does not have")),
    ("hard link through a link", &[(Symlink, "d", "/etc", b""), (Link, "a", "d/passwd", b"")], Some("symbolic link")),
    (
        "hard link to a link",
        &[(Symlink, "l", "/etc/passwd", b""), (Link, "a", "l", b""), (Regular, "a", "", b"x")],
        None,
    ),
    ("write through a hard link", &[(Regular, "f", "", b"1"), (Link, "a", "f", b""), (Regular, "a", "", b"2")], None),
    ("whiteout up", &[(Regular, ".wh...", "", b"")], Some("whiteout")),
    ("whiteout of itself", &[(Regular, ".wh..", "", b"")], Some("whiteout")),
    ("whiteout through a link", &[(Symlink, "a", OUT, b""), (Regular, "a/.wh.canary", "", b"")], None),
    ("opaque through a link", &[(Symlink, "a", OUT, b""), (Regular, "a/.wh..wh..opq", "", b"")], None),
    ("magic link", &[(Symlink, "a", "/proc/self/root", b""), (Regular, "a/evil", "", b"x")], Some("symbolic link")),
    (
        "directory to link",
        &[(Directory, "a", "", b""), (Symlink, "a", OUT, b""), (Regular, "a/evil", "", b"x")],
        Some("symbolic link"),
    ),
    ("device 0:0", &[(Char, "a", "", b"")], None),
    ("root as a file", &[(Regular, "./", "", b"")], None),
    ("itself", &[(Link, "a", "a", b"")], None),
];

fn corpus() {
    for (name, items, said) in CASES {
        let world = World::new();
        fs::create_dir_all(world.at("host")).unwrap();
        fs::create_dir_all(world.at("outside")).unwrap();
        world.sh("echo canary >canary; echo canary >outside/canary; sha256sum /etc/passwd >sum; ls -A / /etc >ls");
        image(&world.at("i.tar"), &[archive(items)]);
        let list = || -> Vec<_> {
            tree(world.path())
                .into_iter()
                .filter(|(path, _)| !path.starts_with("host") && !path.as_os_str().is_empty())
                .collect()
        };
        let before = list();
        let output = world.output(&["pull", "docker-archive:i.tar"]);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        match said {
            Some(said) => {
                assert!(!output.status.success() && words.contains(said), "{name}: {words}");
                assert!(world.store().find(&world.source("docker-archive:i.tar")).unwrap().is_none(), "{name}");
            }
            None => assert!(output.status.success(), "{name}: {words}"),
        }
        assert_same(&list().into_iter().collect(), &before.into_iter().collect());
        assert!(world.leftovers().is_empty(), "{name}: {:?}", world.leftovers());
        world.sh("sha256sum -c --quiet sum; ls -A / /etc | diff - ls; test ! -e host/evil");
    }
}

fn damaged() {
    let world = World::new();
    let layer = archive(&[(Regular, "a", "", &[7; 5000])]);
    image_of(&world.at("wrong.tar"), std::slice::from_ref(&layer), &format!("\"sha256:{}\"", "0".repeat(64)));
    let error = world.fails(&["pull", "docker-archive:wrong.tar"]);
    assert!(error.contains("where the image's configuration says"), "{error}");
    image(&world.at("cut.tar"), &[layer[..3000].to_vec()]);
    let error = world.fails(&["pull", "docker-archive:cut.tar"]);
    assert!(error.contains("ends within a file"), "{error}");
    let mut torn = layer.clone();
    torn[148] ^= 1;
    image(&world.at("torn.tar"), &[torn]);
    let error = world.fails(&["pull", "docker-archive:torn.tar"]);
    assert!(error.contains("checksum"), "{error}");
    image_of(&world.at("more.tar"), std::slice::from_ref(&layer), "");
    let error = world.fails(&["pull", "docker-archive:more.tar"]);
    assert!(error.contains("has 1 layers where"), "{error}");
    world.sh(
        "umoci init --layout l; umoci new --image l:t; umoci unpack --image l:t b >/dev/null; seq 9999 >b/rootfs/f
        umoci repack --image l:t b >/dev/null; f=$(ls -S l/blobs/sha256/* | head -1)
        printf x | dd of=$f bs=1 seek=3000 conv=notrunc status=none",
    );
    world.fails(&["pull", "oci:l:t"]);
    world.sh("f=$(ls -S l/blobs/sha256/* | head -1); truncate -s -5 $f");
    let error = world.fails(&["pull", "oci:l:t"]);
    assert!(error.contains("copy the image again"), "{error}");
    assert!(world.leftovers().is_empty(), "{:?}", world.leftovers());
    assert!(world.store().tags().unwrap().0.is_empty());
}

fn bomb() {
    let world = World::new();
    let zeros = archive(&[(Regular, "a", "", &vec![0; 30 << 20])]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&zeros).unwrap();
    let id = Digest::of_hash(&Sha256::digest(&zeros).into());
    image_of(&world.at("bomb.tar"), &[gzip.finish().unwrap()], &format!("\"{id}\""));
    let many: Vec<String> = (0..500).map(|at| format!("f{at}")).collect();
    let many: Vec<Item<'_>> = many.iter().map(|name| (Regular, name.as_str(), "", &b""[..])).collect();
    image(&world.at("many.tar"), &[archive(&many)]);
    let limits = Limits { bytes: 10 << 20, entries: 400, ..Limits::default() };
    for (file, said) in [("bomb.tar", "more than 10485760 bytes"), ("many.tar", "more than 400 entries")] {
        let source = world.source(&format!("docker-archive:{file}"));
        let error = world.store().with_limits(limits).import(&source, &()).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
        assert!(world.leftovers().is_empty());
        world.store().import(&source, &()).unwrap();
        world.succeeds(&["rmi", &source.to_string()]);
    }
    // 30 MiB of zeros are some 30 KiB; one that is measured against what it is packed in is refused however much may be.
    let source = world.source("docker-archive:bomb.tar");
    let limits = Limits { ratio: Some(500), ..Limits::default() };
    let error = world.store().with_limits(limits).import(&source, &()).unwrap_err().to_string();
    assert!(error.contains("more than 500 times its size"), "{error}");
    let limits = Limits { ratio: Some(2000), ..Limits::default() };
    world.store().with_limits(limits).import(&source, &()).unwrap();
    // What many small layers take counts together.
    let layers: Vec<Vec<u8>> = (0_u8..5).map(|layer| archive(&[(Regular, "a", "", &vec![layer; 3 << 20])])).collect();
    image(&world.at("layers.tar"), &layers);
    let source = world.source("docker-archive:layers.tar");
    let limits = Limits { bytes: 10 << 20, ..Limits::default() };
    let error = world.store().with_limits(limits).import(&source, &()).unwrap_err().to_string();
    assert!(error.contains("more than 10485760 bytes"), "{error}");
    assert!(world.leftovers().is_empty());
    // The same by berthd.toml.
    let etc = world.at("host/etc/berth");
    fs::create_dir_all(&etc).unwrap();
    fs::write(etc.join("berthd.toml"), "[images.limits]\nsize = \"10MiB\"\n").unwrap();
    let error = world.fails(&["pull", "docker-archive:layers.tar"]);
    assert!(error.contains("images.limits.size"), "{error}");
    fs::remove_file(etc.join("berthd.toml")).unwrap();
    world.succeeds(&["pull", "docker-archive:layers.tar"]);
}

fn devices() {
    let world = World::new();
    image(&world.at("i.tar"), &[archive(&[(Char, "c3", "", b""), (Char, "c0", "", b"")])]);
    let image = world.pull("docker-archive:i.tar");
    assert_eq!(fs::read_dir(&image.layers[0]).unwrap().count(), 0);
    world.succeeds(&["rmi", "docker-archive:i.tar"]);
    let limits = Limits { devices: Devices::Make, ..Limits::default() };
    let image = world.store().with_limits(limits).import(&image.source, &()).unwrap();
    world.sh(&format!("cd {}; test $(stat -c %t:%T c3) = 1:3; test ! -e c0", image.layers[0].display()));
    world.succeeds(&["rmi", "docker-archive:i.tar"]);
    let limits = Limits { devices: Devices::Refuse, ..Limits::default() };
    let error = world.store().with_limits(limits).import(&image.source, &()).unwrap_err().to_string();
    assert!(error.contains("'c3'") && error.contains("images.devices"), "{error}");
    assert!(world.leftovers().is_empty());
}
