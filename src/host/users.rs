//! Users and groups of the host, by its own user database (nsswitch.conf(5)).

use std::{ffi::CString, path::PathBuf};

use nix::unistd::{Gid, Group, User, getgrouplist};

use crate::{
    protocol::{Failure, Stage},
    spec::{Identity, UserName},
};

/// Whom a program runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// All supplementary groups, the group itself included, sorted.
    pub groups: Vec<u32>,
    /// Name, where the database has one.
    pub name: Option<String>,
    /// Home directory, where the database has one.
    pub home: Option<PathBuf>,
    /// Login shell, where the database has one.
    pub shell: Option<PathBuf>,
}

/// Resolves a spec's identity. A uid without an entry is allowed, and then its group must be given or is the
/// same number; a name without an entry is an error.
///
/// # Errors
/// Stage `user` or `group`, naming what is unknown.
pub fn resolve(identity: &Identity) -> Result<Account, Failure> {
    let wanted = identity.user.clone().unwrap_or(UserName::Id(0));
    let user = lookup_user(&wanted)?;
    let uid = match (&user, &wanted) {
        (Some(user), _) => user.uid.as_raw(),
        (None, UserName::Id(id)) => *id,
        (None, UserName::Name(name)) => return Err(unknown(Stage::User, "user", name)),
    };
    let gid = match (&identity.group, &user) {
        (Some(group), _) => lookup_group(group)?,
        (None, Some(user)) => user.gid.as_raw(),
        (None, None) => uid,
    };
    let mut groups = user.as_ref().map_or_else(|| Ok(vec![gid]), |user| groups_of(user, gid))?;
    for group in &identity.supplementary_groups {
        groups.push(lookup_group(group)?);
    }
    groups.sort_unstable();
    groups.dedup();
    Ok(Account {
        uid,
        gid,
        groups,
        name: user.as_ref().map(|user| user.name.clone()),
        home: user.as_ref().map(|user| user.dir.clone()),
        shell: user.map(|user| user.shell),
    })
}

/// The entry of a user; none if the database has none.
fn lookup_user(user: &UserName) -> Result<Option<User>, Failure> {
    match user {
        UserName::Id(id) => User::from_uid((*id).into()).map_err(|errno| database(Stage::User, &id.to_string(), errno)),
        UserName::Name(name) => User::from_name(name).map_err(|errno| database(Stage::User, name, errno)),
    }
}

/// The number of a group.
fn lookup_group(group: &UserName) -> Result<u32, Failure> {
    match group {
        UserName::Id(id) => Ok(*id),
        UserName::Name(name) => match Group::from_name(name) {
            Ok(Some(group)) => Ok(group.gid.as_raw()),
            Ok(None) => Err(unknown(Stage::Group, "group", name)),
            Err(errno) => Err(database(Stage::Group, name, errno)),
        },
    }
}

/// The supplementary groups that the database gives a user (initgroups(3)).
fn groups_of(user: &User, gid: u32) -> Result<Vec<u32>, Failure> {
    let name = CString::new(user.name.as_bytes()).map_err(|_| unknown(Stage::User, "user", &user.name))?;
    let groups = getgrouplist(&name, Gid::from_raw(gid)).map_err(|errno| database(Stage::Group, &user.name, errno))?;
    Ok(groups.into_iter().map(Gid::as_raw).collect())
}

/// Nobody of that name.
fn unknown(stage: Stage, kind: &str, name: &str) -> Failure {
    Failure {
        stage,
        errno: None,
        path: None,
        message: format!("there is no {kind} '{name}' on this host; create it (sysusers.d(5)) or use a number"),
    }
}

/// The database could not answer.
fn database(stage: Stage, name: &str, errno: nix::errno::Errno) -> Failure {
    Failure {
        stage,
        errno: Some(errno as i32),
        path: None,
        message: format!("cannot look up '{name}' in the user database: {}", errno.desc()),
    }
}
