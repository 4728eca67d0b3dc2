//! podman, the peer that starts images too: what of the machine a host has to be shown for it to run there.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{Result, support::host::BootOptions};

/// Its programs.
const PROGRAMS: [&str; 2] = ["podman", "conmon"];
/// Its configuration.
const CONFIGURATION: [&str; 2] = ["/etc/containers", "/usr/share/containers"];

/// Whether the machine has it; says so aloud if not.
pub fn is_here() -> bool {
    let here = PROGRAMS.iter().all(|program| find(program).is_some());
    if !here {
        eprintln!("bench: *** NOT COMPARED with podman, which is not here (tests/install-needs bench)");
    }
    here
}

/// Shows a host of the machine's own Debian release the programs, what they are linked to that `rootfs` lacks, and their
/// configuration.
pub fn show(mut options: BootOptions, rootfs: &Path) -> Result<BootOptions> {
    let mut files = BTreeSet::new();
    for program in PROGRAMS {
        let program = find(program).ok_or("podman is gone")?;
        let linked = Command::new("ldd").arg(&program).output()?;
        let words = String::from_utf8(linked.stdout)?;
        let libraries = words.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
        files.extend(libraries.filter(|library| !rootfs.join(library.strip_prefix("/").unwrap_or(library)).exists()));
        files.insert(program);
    }
    files.extend(CONFIGURATION.iter().map(PathBuf::from).filter(|directory| directory.exists()));
    for file in files {
        options = options.bind(&file, &file);
    }
    Ok(options)
}

/// A command line of podman whose images, containers and all else lie below `directory`.
pub fn command(directory: &str, arguments: &str) -> String {
    format!("podman --root {directory}/root --runroot {directory}/run --tmpdir {directory}/tmp {arguments}")
}

/// Where a program of the machine is.
fn find(program: &str) -> Option<PathBuf> {
    let output =
        Command::new("sh").args(["-c", &format!("command -v {program}")]).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}
