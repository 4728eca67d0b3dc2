//! The program file of one who enters, where nobody can write it.
//!
//! Root in a container needs no namespace of the host's to overwrite a program that enters: its `/proc/PID/exe`, or a
//! script that begins with `#!/proc/self/exe`, is the host's file (CVE-2019-5736). So this program runs again, from a
//! mount of that one file which is read-only and attached nowhere, so that nobody can make it writable either.

use std::{
    env,
    ffi::{CString, OsString},
    fs::OpenOptions,
    io,
    os::unix::{ffi::OsStringExt, fs::OpenOptionsExt},
    process,
};

use nix::{fcntl::AtFlags, unistd::execveat};
use rustix::fs::{StatVfsMountFlags, statvfs};

use super::super::failure::{failure, refusal};
use crate::{
    protocol::{Failure, Stage},
    sys::mount::{Depth, clone_tree, set_read_only},
};

/// This process's program file.
const SELF: &str = "/proc/self/exe";

/// Says in the environment which process has been here already; execve(2) keeps the number.
const MARK: &str = "BERTHCTL_SEALED";

/// Becomes the same program on a read-only mount of its own; returns where it is.
pub(super) fn seal() -> Result<(), Failure> {
    let been_here = env::var(MARK).is_ok_and(|pid| pid == process::id().to_string());
    let sealed = statvfs(SELF).is_ok_and(|file| file.f_flag.contains(StatVfsMountFlags::RDONLY));
    match (been_here, sealed) {
        // Else ps(1) would show the number of a descriptor.
        (true, true) => rustix::thread::set_name(c"berthctl").map_err(|errno| cannot(&errno.into())),
        (true, false) => Err(refusal(Stage::Confine, None, "the kernel does not make berthctl's own file read-only")),
        (false, _) => run_again().map_err(|error| cannot(&error)),
    }
}

/// The same once more; returns only on failure.
fn run_again() -> io::Result<()> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(SELF)?;
    let tree = clone_tree(file)?;
    set_read_only(&tree, Depth::One)?;
    let argv = env::args_os().map(string).collect::<io::Result<Vec<_>>>()?;
    let variables =
        env::vars_os().filter(|(name, _)| name != MARK).chain([(MARK.into(), process::id().to_string().into())]);
    let environment = variables.map(variable).collect::<io::Result<Vec<_>>>()?;
    Err(execveat(tree, c"", &argv, &environment, AtFlags::AT_EMPTY_PATH)
        .map_or_else(io::Error::from, |never| match never {}))
}

/// `NAME=value`.
fn variable((mut name, value): (OsString, OsString)) -> io::Result<CString> {
    name.push("=");
    name.push(value);
    string(name)
}

/// A text as the kernel takes it.
fn string(text: OsString) -> io::Result<CString> {
    CString::new(text.into_vec()).map_err(io::Error::other)
}

/// The failure to do so.
fn cannot(error: &io::Error) -> Failure {
    let cure = match error.raw_os_error() {
        Some(libc::EPERM) => "berthctl needs CAP_SYS_ADMIN",
        _ => "berth needs Linux 5.12",
    };
    failure(Stage::Confine, "put berthctl's own file out of the container's reach", None, error, cure)
}
