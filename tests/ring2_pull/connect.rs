//! Registries behind a proxy that is asked to CONNECT.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    path::Path,
    process::{Command, Output},
    sync::{Arc, Mutex},
    thread,
};

use crate::{
    ctl::{host, said},
    pull::blobs,
    registry::{Options, Registry},
};

/// All cases.
pub const ALL: &[(&str, fn())] = &[
    ("a_proxy_of_the_environment_leads_to_registries", environment),
    ("a_proxy_of_the_configuration_stands_before_it", configuration),
    ("what_a_proxy_refuses_is_said", refusals),
];

/// A proxy that knows one name. It asks for `me` and `hush` where it wants to.
struct Connect {
    host: String,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Connect {
    /// Leads all to `target`; another `answer` than 200 is the end.
    fn start(target: &str, answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (host, heard) = (listener.local_addr().unwrap().to_string(), Arc::<Mutex<Vec<String>>>::default());
        let (target, words) = (target.to_owned(), Arc::clone(&heard));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (target, words) = (target.clone(), Arc::clone(&words));
                thread::spawn(move || serve(client, &target, answer, &words));
            }
        });
        Self { host, heard }
    }

    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.heard.lock().unwrap())
    }
}

fn serve(mut client: TcpStream, target: &str, answer: &str, words: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(client.try_clone().unwrap());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        words.lock().unwrap().push(line);
    }
    write!(client, "HTTP/1.1 {answer}\r\n\r\n").unwrap();
    if !answer.starts_with("200") {
        return;
    }
    let Ok(mut server) = TcpStream::connect(target) else { return };
    let (mut back, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    thread::spawn(move || {
        let _ = std::io::copy(&mut back, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
    let _ = std::io::copy(&mut reader, &mut server);
    let _ = server.shutdown(Shutdown::Both);
}

fn fetch(root: &Path, image: &str, environment: &[(&str, &str)]) -> Output {
    let directory = root.join("layout");
    let _ = fs::remove_dir_all(&directory);
    let mut command = Command::new(env!("CARGO_BIN_EXE_berthctl"));
    command.arg("--root").arg(root).args(["fetch", image]).arg(directory).envs(environment.iter().copied());
    command.output().unwrap()
}

/// Whether nobody but the proxy was asked for the name, and did not know it.
fn is_unknown(said: &str) -> bool {
    let known = ["its name is not known", "name resolution"];
    known.iter().any(|words| said.contains(words)) && !said.contains("by the proxy")
}

fn environment() {
    let registry = Registry::start(Options { tls: true, ..Options::default() });
    registry.push("s:v1", &[]);
    let port = registry.host.rsplit_once(':').unwrap().1;
    let proxy = Connect::start(&registry.host, "200 OK");
    let name = format!("registry.test:{port}");
    let root = host(&format!("[[images.registry]]\nhost = \"{name}\"\nca_file = \"/ca.pem\"\n"), None);
    fs::write(root.path().join("ca.pem"), registry.authority()).unwrap();
    let image = format!("docker://{name}/s:v1");
    let address = format!("http://me:hush@{}", proxy.host);
    let out = fetch(root.path(), &image, &[("HTTPS_PROXY", &address)]);
    assert!(out.status.success(), "{}", said(&out));
    assert_eq!(blobs(&root.path().join("layout")).len(), 4);
    let heard = proxy.heard();
    assert_eq!(heard[0], format!("CONNECT {name} HTTP/1.1"));
    // me:hush
    assert!(heard.iter().any(|line| line == "Proxy-Authorization: Basic bWU6aHVzaA=="), "{heard:?}");
    // Only the proxy knows the name.
    let out = fetch(root.path(), &image, &[("HTTPS_PROXY", &address), ("NO_PROXY", ".example.org,registry.test")]);
    assert!(!out.status.success() && is_unknown(&said(&out)), "{}", said(&out));
    assert_eq!(proxy.heard(), [] as [&str; 0]);
    let out = fetch(root.path(), &image, &[("https_proxy", "socks5://p.test:1")]);
    assert!(!out.status.success() && said(&out).contains("$HTTPS_PROXY is no proxy"), "{}", said(&out));
}

fn configuration() {
    let registry = Registry::start(Options::default());
    registry.push("s:v1", &[]);
    let (here, port) = (&registry.host, registry.host.rsplit_once(':').unwrap().1);
    let proxy = Connect::start(here, "200 OK");
    let name = format!("registry.test:{port}");
    let blocks = format!(
        "[[images.registry]]\nhost = \"{name}\"\ninsecure = \"http\"\n\
         [[images.registry]]\nhost = \"{here}\"\ninsecure = \"http\"\n"
    );
    let root = host(&format!("proxy = \"{}\"\n{blocks}", proxy.host), None);
    let (image, local) = (format!("docker://{name}/s:v1"), format!("docker://{here}/s:v1"));
    let out = fetch(root.path(), &image, &[("HTTP_PROXY", "http://127.0.0.1:1"), ("NO_PROXY", "*")]);
    assert!(out.status.success(), "{}", said(&out));
    assert!(proxy.heard().len() > 1);
    // This machine is not behind it.
    let out = fetch(root.path(), &local, &[]);
    assert!(out.status.success(), "{}", said(&out));
    assert_eq!(proxy.heard(), [] as [&str; 0]);
    let root = host(&format!("proxy = \"{}\"\nno_proxy = [\"registry.test\"]\n{blocks}", proxy.host), None);
    let out = fetch(root.path(), &image, &[]);
    assert!(!out.status.success() && is_unknown(&said(&out)), "{}", said(&out));
}

fn refusals() {
    let block = "[[images.registry]]\nhost = \"registry.test:1\"\ninsecure = \"http\"\n";
    let root = host(block, None);
    for (answer, words) in [
        ("403 Forbidden", "403/403; whom to reach without it say NO_PROXY"),
        ("407 Proxy Authentication Required", "HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT"),
    ] {
        let proxy = Connect::start("127.0.0.1:1", answer);
        let address = format!("http://me:hush@{}", proxy.host);
        let out = fetch(root.path(), "docker://registry.test:1/s:v1", &[("HTTP_PROXY", &address)]);
        let said = said(&out);
        assert!(!out.status.success() && said.contains(words), "{said}");
        assert!(said.contains(&format!("by the proxy http://{}", proxy.host)) && !said.contains("hush"), "{said}");
    }
    let out = fetch(root.path(), "docker://registry.test:1/s:v1", &[("HTTP_PROXY", "http://127.0.0.1:1")]);
    assert!(said(&out).contains("by the proxy http://127.0.0.1:1: Connection refused"), "{}", said(&out));
}
