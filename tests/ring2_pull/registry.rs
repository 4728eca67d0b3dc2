//! A real registry on the loopback, and images that skopeo pushes to it.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::json;
use tempfile::TempDir;

/// Bytes of the images' larger layer.
pub const LARGE: usize = 8 << 20;
/// Bytes of their smaller one.
pub const SMALL: usize = 100_000;

/// A running registry. It ends with this.
pub struct Registry {
    child: Child,
    directory: TempDir,
    pub host: String,
}

/// How a registry differs from the simplest one.
#[derive(Default, Clone, Copy)]
pub struct Options<'a> {
    pub password: Option<(&'a str, &'a str)>,
    pub tls: bool,
}

impl Registry {
    pub fn start(options: Options<'_>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        let port = free_port();
        let mut http = json!({ "addr": format!("127.0.0.1:{port}"), "secret": "of the test" });
        if options.tls {
            certify(directory.path());
            http["tls"] = json!({ "certificate": at("server.pem"), "key": at("server.key") });
        }
        let mut config = json!({
            "version": "0.1", "log": { "level": "warn" }, "http": http,
            "storage": { "filesystem": { "rootdirectory": at("data") } }
        });
        if let Some((user, password)) = options.password {
            run(Command::new("htpasswd").args(["-Bbc", &at("htpasswd"), user, password]));
            config["auth"] = json!({ "htpasswd": { "realm": "test", "path": at("htpasswd") } });
        }
        // JSON is YAML.
        fs::write(at("config.yml"), config.to_string()).unwrap();
        let log = fs::File::create(at("log")).unwrap();
        let child = Command::new("docker-registry")
            .args(["serve", &at("config.yml")])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let registry = Self { child, directory, host: format!("127.0.0.1:{port}") };
        for _ in 0..200 {
            if TcpStream::connect(&registry.host).is_ok() {
                return registry;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("{}", fs::read_to_string(registry.directory.path().join("log")).unwrap());
    }

    /// The authority that vouches for it, as PEM.
    pub fn authority(&self) -> String {
        fs::read_to_string(self.directory.path().join("ca.pem")).unwrap()
    }

    /// Has skopeo push an image that can be unpacked.
    pub fn push_real(&self, name: &str, word: &str) {
        let layout = tempfile::tempdir().unwrap();
        real_image(layout.path(), word);
        self.push_layout(layout.path(), name, &["--dest-compress=false"]);
    }

    /// Has skopeo push an image with a shell in it.
    pub fn push_program(&self, name: &str, word: &str) {
        let layout = tempfile::tempdir().unwrap();
        program_image(layout.path(), word);
        self.push_layout(layout.path(), name, &["--dest-compress=false"]);
    }

    /// Has skopeo push an image of two layers; `more` are further arguments.
    pub fn push(&self, name: &str, more: &[&str]) {
        let layout = tempfile::tempdir().unwrap();
        image(layout.path());
        self.push_layout(layout.path(), name, more);
    }

    fn push_layout(&self, layout: &Path, name: &str, more: &[&str]) {
        let (from, to) = (format!("oci:{}:v1", layout.display()), format!("docker://{}/{name}", self.host));
        run(Command::new("skopeo")
            .args(["copy", "--insecure-policy", "--dest-tls-verify=false"])
            .args(more)
            .args([from, to]));
    }

    /// Puts a manifest as it is.
    pub fn put_manifest(&self, name: &str, tag: &str, kind: &str, text: &str) {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        let head = format!(
            "PUT /v2/{name}/manifests/{tag} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: {kind}\r\n\
             Content-Length: {}\r\n\r\n{text}",
            self.host,
            text.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    }

    /// Ends it; what it has stored.
    #[allow(dead_code, reason = "ring 3 needs it")]
    pub fn stop(mut self) -> TempDir {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let kept = tempfile::tempdir().unwrap();
        fs::rename(self.directory.path().join("data"), kept.path().join("data")).unwrap();
        kept
    }

    /// Has skopeo copy an image out.
    pub fn copy_out(&self, name: &str) -> TempDir {
        let layout = tempfile::tempdir().unwrap();
        let (from, to) = (format!("docker://{}/{name}", self.host), format!("oci:{}:v1", layout.path().display()));
        run(Command::new("skopeo").args(["copy", "--insecure-policy", "--src-tls-verify=false"]).args([from, to]));
        layout
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn run(command: &mut Command) {
    let out = command.output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// An authority, and a certificate of it for 127.0.0.1.
fn certify(directory: &Path) {
    let openssl = |line: &str| {
        run(Command::new("openssl").args(line.split(' ')).current_dir(directory).stdin(Stdio::null()));
    };
    fs::write(directory.join("ext"), "subjectAltName=IP:127.0.0.1,DNS:registry.test\nextendedKeyUsage=serverAuth\n")
        .unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(&format!("req -x509 {key} -days 2 -subj /CN=authority -keyout ca.key -out ca.pem"));
    openssl(&format!("req {key} -subj /CN=registry -keyout server.key -out server.csr"));
    openssl("x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out server.pem");
}

/// A layout of an image with two layers that nothing can compress, and that are no archives.
pub fn image(layout: &Path) {
    write_layout(layout, [&noise(LARGE), &noise(SMALL)], "layer.v1.tar+gzip");
}

/// A layout of an image that can be unpacked: a file /noise, and a file /word with `word` in it.
pub fn real_image(layout: &Path, word: &str) {
    let tar = |name: &str, bytes: &[u8]| {
        let tree = tempfile::tempdir().unwrap();
        fs::write(tree.path().join(name), bytes).unwrap();
        let out = Command::new("tar").args(["-c", "-f", "-", name]).current_dir(tree.path()).output().unwrap();
        assert!(out.status.success());
        out.stdout
    };
    write_layout(layout, [&tar("noise", &noise(LARGE)), &tar("word", word.as_bytes())], "layer.v1.tar");
}

/// A layout of an image with noise, /bin/sh, and a file /word with `word` in it.
pub fn program_image(layout: &Path, word: &str) {
    let tree = tempfile::tempdir().unwrap();
    let archive = |tree: &Path| {
        let out = Command::new("tar").args(["-c", "-f", "-", "."]).current_dir(tree).output().unwrap();
        assert!(out.status.success());
        out.stdout
    };
    fs::write(tree.path().join("noise"), noise(LARGE)).unwrap();
    let large = archive(tree.path());
    let tree = tempfile::tempdir().unwrap();
    let script = "mkdir bin; for program in sh sleep; do path=$(readlink -f $(command -v $program)); \
                  cp $path bin/$program; for lib in $(ldd $path | grep -o '/[^ )]*'); do \
                  mkdir -p .${lib%/*}; cp -L $lib .$lib; done; done";
    run(Command::new("sh").args(["-ec", script]).current_dir(tree.path()));
    fs::write(tree.path().join("word"), format!("{word}\n")).unwrap();
    write_layout(layout, [&large, &archive(tree.path())], "layer.v1.tar");
}

/// A layout of an image of these layers.
fn write_layout(layout: &Path, layers: [&[u8]; 2], form: &str) {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let digest = sha256(bytes);
        fs::write(blobs.join(&digest["sha256:".len()..]), bytes).unwrap();
        json!({ "digest": digest, "size": bytes.len() })
    };
    let kinds = |kind: &str, mut blob: serde_json::Value| {
        blob["mediaType"] = json!(format!("application/vnd.oci.image.{kind}"));
        blob
    };
    let [large, small] = layers.map(put);
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [large["digest"], small["digest"]] }
    });
    let config = kinds("config.v1+json", put(config.to_string().as_bytes()));
    let layers = [large, small].map(|layer| kinds(form, layer));
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers });
    let mut entry = kinds("manifest.v1+json", put(manifest.to_string().as_bytes()));
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": "v1" });
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    fs::write(layout.join("index.json"), json!({ "schemaVersion": 2, "manifests": [entry] }).to_string()).unwrap();
}

/// Bytes without order.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes
}

/// The digest of bytes, by a judge that is not ours.
pub fn sha256(bytes: &[u8]) -> String {
    let mut child = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let out = child.wait_with_output().unwrap();
    format!("sha256:{}", String::from_utf8(out.stdout).unwrap().split(' ').next().unwrap())
}
