//! berth-pull's first deed: to give up what it does not need. It is one thread then, and has read nothing.

use std::{
    fs::File,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use nix::{
    sys::{
        prctl,
        resource::{Resource, setrlimit},
        signal::Signal,
    },
    unistd::{Gid, Uid, chdir, fchdir, getegid, geteuid, getppid, setgid, setgroups, setuid},
};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

use super::line;
use crate::{
    error::reason,
    sys::{process::close_inherited, seccomp::deny_processes},
};

/// Most descriptors.
const FILES: u64 = 128;
/// Most memory, addresses counted.
const MEMORY: u64 = 2 << 30;

/// What berth-pull is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confinement {
    /// The user, if it is not the present one.
    pub user: Option<(u32, u32)>,
    /// Where it works.
    pub place: Place,
}

/// Where berth-pull works, and with whom it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a directory, until the process that started it ends.
    Child {
        /// The directory.
        directory: PathBuf,
        /// The process.
        parent: u32,
    },
    /// In the directory that comes first on its standard input, until that ends.
    Connection,
}

/// Gives everything up but what a pull needs.
///
/// # Errors
/// One line for people. Nothing must be done then.
pub fn confine(confinement: &Confinement) -> Result<(), String> {
    let failed = |act: &'static str| move |error: io::Error| format!("cannot {act}: {}", reason(&error));
    close_inherited(3, u32::MAX).map_err(failed("close descriptors"))?;
    // Before the user: the way there may be closed to it, as below /root.
    match &confinement.place {
        Place::Child { directory, .. } => enter(directory)?,
        Place::Connection => enter_given()?,
    }
    if let Some((uid, gid)) = confinement.user {
        become_user(uid, gid).map_err(failed("become the user of pulls"))?;
    }
    // Root of a world of its own, as in tests, keeps its user and loses its power all the same.
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).map_err(|error| failed("drop capabilities")(error.into()))?;
    limit().map_err(failed("limit resources"))?;
    // After the user: changing it takes both back.
    prctl::set_no_new_privs().map_err(|error| failed("give up new privileges")(error.into()))?;
    deny_processes().map_err(failed("give up other processes"))?;
    prctl::set_dumpable(false).map_err(|error| failed("hide the memory")(error.into()))?;
    let Place::Child { parent, .. } = confinement.place else { return Ok(()) };
    prctl::set_pdeathsig(Some(Signal::SIGKILL)).map_err(|error| failed("end with the parent")(error.into()))?;
    if u32::try_from(getppid().as_raw()) != Ok(parent) {
        return Err("whoever started this is gone".to_owned());
    }
    Ok(())
}

/// Enters a directory by its name.
fn enter(directory: &Path) -> Result<(), String> {
    chdir(directory).map_err(|error| format!("cannot enter {}: {}", directory.display(), error.desc()))
}

/// Enters the directory that root sends. It must be this user's: root has given it away before.
fn enter_given() -> Result<(), String> {
    let given = line::take(io::stdin()).map_err(|error| format!("was given no directory: {}", reason(&error)))?;
    let given = File::from(given);
    let data = given.metadata().map_err(|error| format!("cannot look at the directory: {}", reason(&error)))?;
    let own = (geteuid().as_raw(), getegid().as_raw());
    if !data.is_dir() || (data.uid(), data.gid()) != own {
        let (uid, gid) = own;
        return Err(format!(
            "the directory belongs to {}:{}, and this is {uid}:{gid}; pull_user in berthd.toml and User= of \
             berth-pull@.service must name one user",
            data.uid(),
            data.gid()
        ));
    }
    fchdir(&given).map_err(|error| format!("cannot enter the directory: {}", error.desc()))
}

/// Becomes a user without any group but its own.
fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    setgroups(&[])?;
    setgid(Gid::from_raw(gid))?;
    setuid(Uid::from_raw(uid))?;
    Ok(())
}

/// Limits what a server's bytes could use up. No core dump: credentials would be in it.
fn limit() -> io::Result<()> {
    for (resource, limit) in
        [(Resource::RLIMIT_CORE, 0), (Resource::RLIMIT_NOFILE, FILES), (Resource::RLIMIT_AS, MEMORY)]
    {
        setrlimit(resource, limit, limit)?;
    }
    Ok(())
}
