//! Unpacking an image, against umoci.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use super::{BERTHCTL, Result, table::Table};

/// The image with a Debian base and servers, which the tests use too.
const TAG: &str = "servers";

/// A layout into an empty store, against the same into an empty bundle. berth also puts all of it on the disk for good
/// before it ends, which umoci does not.
pub fn unpack(table: &mut Table, rounds: usize) -> Result<()> {
    eprintln!("bench: unpack");
    let layout = layout()?;
    let image = format!("{}:{TAG}", layout.display());
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    // Those before the first fill the kernel's caches.
    for round in 0..=rounds.clamp(1, 10) {
        let scratch = tempfile::tempdir()?;
        let root = scratch.path().join("root");
        let mut berth = Command::new(BERTHCTL);
        berth.arg("--root").arg(&root).args(["--json", "pull"]).arg(format!("oci:{image}"));
        let mut umoci = Command::new("umoci");
        umoci.args(["unpack", "--image", &image]).arg(scratch.path().join("bundle"));
        let times = (timed(&mut berth)?, timed(&mut umoci)?);
        if round > 0 {
            ours.push(times.0);
            theirs.push(times.1);
        }
    }
    table.compare("unpack a Debian image with servers, against umoci unpack", &ours, &theirs, "≤ 0.5");
    Ok(())
}

/// The layout that the tests' own script makes.
fn layout() -> Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/host/build-images");
    let output = Command::new(script).arg("bookworm").stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err("tests/host/build-images has failed".into());
    }
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

/// Nanoseconds of a command that succeeds.
fn timed(command: &mut Command) -> Result<u64> {
    let begin = Instant::now();
    let status = command.stdout(Stdio::null()).status()?;
    let time = u64::try_from(begin.elapsed().as_nanos())?;
    if status.success() { Ok(time) } else { Err(format!("{command:?} has failed").into()) }
}
