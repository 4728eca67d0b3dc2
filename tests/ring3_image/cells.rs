//! The table of launch commands, cell by cell, by what the kernel has executed: images are made by umoci, and the judge
//! is bash, which shows its own `/proc/PID/cmdline` before it does anything else.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::berth::{Berth, options};
use crate::support::host::Suite;

/// Where the host sees the layout.
const CELLS: &str = "/srv/cells";

/// An image of bash as each of the programs that a cell may choose, with a tag for each of Entrypoint and Cmd, there and
/// not there. A `sh` that is found before the right one shows itself.
const BUILD: &str = r#"
umoci init --layout l; umoci new --image l:E0C0; umoci unpack --image l:E0C0 b >/dev/null
cd b/rootfs; mkdir bin work
for program in bin/sh bin/bash entry cmd value; do cp "$(command -v bash)" $program; done
for lib in $(ldd bin/bash | grep -o '/[^ )]*'); do mkdir -p .${lib%/*}; cp -L $lib .$lib; done
cat >show <<'END'
mapfile -d '' -t words </proc/$$/cmdline
for program in /entry /cmd /value; do [[ ! /proc/$$/exe -ef $program ]] || printf '%s' "$program"; done
printf ' <%s>' "${words[@]}"; echo; exit
END
printf '#!/bin/bash\necho hijacked\n' >work/sh; chmod 755 work/sh
cd ../..; umoci repack --image l:E0C0 b >/dev/null
umoci config --image l:E0C0 --config.env BASH_ENV=/show --config.env PATH=/work:/bin --config.workingdir /work
umoci config --image l:E0C0 --tag E0C1 --config.cmd /cmd --config.cmd c1
umoci config --image l:E0C0 --tag E1C0 --config.entrypoint /entry --config.entrypoint e1
umoci config --image l:E1C0 --tag E1C1 --config.cmd /cmd --config.cmd c1
"#;

/// The seed's table: shell, value, arguments; then what runs where the image has nothing, Cmd, Entrypoint, both. An
/// error is what it says.
const TABLE: [(&str, [&str; 4]); 8] = [
    (
        "000",
        ["neither Entrypoint nor Cmd", "/cmd </cmd> <c1>", "/entry </entry> <e1>", "/entry </entry> <e1> </cmd> <c1>"],
    ),
    ("001", [ALONE, "/cmd </cmd> <a0> <a1>", "/entry </entry> <e1> <a0> <a1>", "/entry </entry> <e1> <a0> <a1>"]),
    ("010", ["/value </value>"; 4]),
    ("011", ["/value <a0> <a1>"; 4]),
    ("100", ["`command.value` is missing"; 4]),
    ("101", ["`command.arguments` are not the shell's"; 4]),
    ("110", [SHELL; 4]),
    ("111", [SHELL; 4]),
];

/// Arguments of nothing.
const ALONE: &str = "`command.arguments` alone name none";
/// Stands for the shell that is given [`LINE`].
const SHELL: &str = "/bin/sh <sh> <-c> <LINE>";
/// The shell's line: what `/show` does.
const LINE: &str = "mapfile -d \"\" -t words </proc/$$/cmdline; [[ ! /proc/$$/exe -ef /bin/sh ]] || printf /bin/sh; \
                    printf \" <%s>\" \"${words[@]}\"; echo";

/// A cell's spec.
fn spec(row: &str, image: &str) -> String {
    let [shell, value, arguments] = [0, 1, 2].map(|input| &row[input..=input] == "1");
    let mut toml = format!("[image]\nsource = \"oci:{CELLS}:{image}\"\n[service]\nrestart = \"no\"\n");
    if row != "000" {
        write!(toml, "[command]\nshell = {shell}\n").unwrap();
    }
    if value {
        writeln!(toml, "value = '{}'", if shell { LINE } else { "/value" }).unwrap();
    }
    if arguments {
        toml.push_str("arguments = [\"a0\", \"a1\"]\n");
    }
    toml
}

/// A directory in which umoci has made a layout `l`.
fn build(script: &str) -> tempfile::TempDir {
    let made = tempfile::tempdir().unwrap();
    let umoci =
        Command::new("bash").args(["-euo", "pipefail", "-c", script]).current_dir(made.path()).output().unwrap();
    assert!(umoci.status.success(), "{}", String::from_utf8_lossy(&umoci.stderr));
    made
}

pub fn all_32_cells_run_what_the_table_says(suite: Suite) {
    let made = build(BUILD);
    let host = Berth::boot_with(suite, options().bind(made.path().join("l"), CELLS));
    let mut cells = BTreeMap::new();
    for (row, expected) in TABLE {
        for (image, expected) in ["E0C0", "E0C1", "E1C0", "E1C1"].into_iter().zip(expected) {
            let name = format!("cell-{row}-{}", image.to_lowercase());
            host.drop_spec(&name, &spec(row, image));
            cells.insert(name, expected.replace("LINE", LINE));
        }
    }
    assert_eq!(cells.len(), 32);
    let errors = |name: &str| cells[name].contains('`') || cells[name].contains("neither");
    let (mut wrong, mut refused) = (Vec::new(), 0);
    for (name, expected) in &cells {
        let ended = host.wait_until(name, "at its end", |container| {
            ["exited", "failed", "invalid"].contains(&container["state"].as_str().unwrap())
        });
        let (good, got) = match ended["state"].as_str().unwrap() {
            "exited" => {
                let said = host.said(name);
                (said == *expected, said)
            }
            "failed" => (errors(name), ended["error"]["message"].to_string()),
            _ => (errors(name), ended["spec"]["errors"].to_string()),
        };
        refused += usize::from(ended["state"] != "exited");
        if !good || !got.contains(expected) {
            wrong.push(format!("{name}: {got}\n  instead of {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(refused, 10);
    // The check says the same of all ten, now that the images are here, with their places.
    let check = host.berthctl("--json check");
    assert_eq!(check.status.code(), Some(2), "{check}");
    let check: Value = serde_json::from_str(&check.stdout).unwrap();
    let found = check["diagnostics"].as_array().unwrap().iter().filter(|found| found["severity"] == "error");
    let found: BTreeMap<String, &Value> = found.map(|error| (container(error), error)).collect();
    assert_eq!(found.keys().collect::<Vec<_>>(), cells.keys().filter(|name| errors(name)).collect::<Vec<_>>());
    for (name, error) in found {
        assert!(error["message"].as_str().unwrap().contains(&cells[&name]), "{error}");
        assert!(error["line"].as_u64().unwrap() > 0, "{error}");
    }
}

/// Whose file an error is about.
fn container(error: &Value) -> String {
    Path::new(error["file"].as_str().unwrap()).file_stem().unwrap().to_str().unwrap().to_owned()
}

/// The images of Mesos's `ROOT_DockerDefaultCmd…` and `ROOT_DockerDefaultEntrypt…`, whose programs are names to be found.
const DEFAULTS: &str = r#"
umoci init --layout l; umoci new --image l:cmd; umoci unpack --image l:cmd b >/dev/null; cd b/rootfs; mkdir bin
for program in sh echo; do
    cp -L "$(type -P $program)" bin/$program
    for lib in $(ldd bin/$program | grep -o '/[^ )]*'); do mkdir -p .${lib%/*}; cp -L $lib .$lib; done
done
cd ../..; umoci repack --image l:cmd b >/dev/null
umoci config --image l:cmd --tag entrypoint --config.entrypoint echo
umoci config --image l:cmd --config.cmd sh
"#;

pub fn mesoss_own_images_run_their_defaults(suite: Suite) {
    let made = build(DEFAULTS);
    let host = Berth::boot_with(suite, options().bind(made.path().join("l"), CELLS));
    for (image, arguments, said) in [
        ("cmd", r#"["-c", "echo 'hello world'; echo $0"]"#, "hello world\nsh"),
        ("entrypoint", r#"["hello world"]"#, "hello world"),
    ] {
        let toml = format!(
            "command = {{ shell = false, arguments = {arguments} }}\n\
             [image]\nsource = \"oci:{CELLS}:{image}\"\n[service]\nrestart = \"no\"\n"
        );
        assert_eq!(host.output_of(image, &toml), said);
    }
}
