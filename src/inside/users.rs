//! Users and groups by the root's own `/etc/passwd` and `/etc/group` (passwd(5), group(5)); no other database counts.

use std::{io, path::Path};

use super::Inside;
use crate::{
    error::reason,
    host::users::Account,
    protocol::{Failure, Stage},
    spec::{Identity, UserName},
};

/// Where users are.
const PASSWD: &str = "/etc/passwd";
/// Where groups are.
const GROUP: &str = "/etc/group";

/// A line of passwd(5).
struct User<'a> {
    /// Its name.
    name: &'a str,
    /// Its number.
    uid: u32,
    /// Its group.
    gid: u32,
    /// Its directory.
    home: &'a str,
    /// Its shell.
    shell: &'a str,
}

/// A line of group(5).
struct Group<'a> {
    /// Its name.
    name: &'a str,
    /// Its number.
    gid: u32,
    /// Who is in it beside those whose own group it is.
    members: Vec<&'a str>,
}

impl Inside {
    /// Whom an identity means in this root. As the OCI has it, a number without a line has group 0 unless one is given.
    ///
    /// # Errors
    /// Stage `user` or `group`, naming what is unknown.
    pub fn account(&self, identity: &Identity) -> Result<Account, Failure> {
        let read = |file: &str, stage| match self.read(Path::new(file)) {
            Ok(text) => Ok(text.unwrap_or_default()),
            Err(error) => Err(unreadable(stage, file, &error)),
        };
        let (passwd, group) = (read(PASSWD, Stage::User)?, read(GROUP, Stage::Group)?);
        let groups: Vec<Group<'_>> = group.lines().filter_map(group_of).collect();
        let wanted = identity.user.clone().unwrap_or(UserName::Id(0));
        let user = passwd.lines().filter_map(user_of).find(|user| match &wanted {
            UserName::Id(id) => user.uid == *id,
            UserName::Name(name) => user.name == name,
        });
        let uid = match (&user, &wanted) {
            (Some(user), _) => user.uid,
            (None, UserName::Id(id)) => *id,
            (None, UserName::Name(name)) => return Err(unknown(Stage::User, "user", name, PASSWD)),
        };
        let gid = match (&identity.group, &user) {
            (Some(group), _) => number(group, &groups)?,
            (None, user) => user.as_ref().map_or(0, |user| user.gid),
        };
        let mut all = vec![gid];
        if let Some(user) = &user {
            all.extend(groups.iter().filter(|group| group.members.contains(&user.name)).map(|group| group.gid));
        }
        for group in &identity.supplementary_groups {
            all.push(number(group, &groups)?);
        }
        all.sort_unstable();
        all.dedup();
        let filled = |text: &str| (!text.is_empty()).then(|| text.into());
        Ok(Account {
            uid,
            gid,
            groups: all,
            name: user.as_ref().map(|user| user.name.to_owned()),
            home: user.as_ref().and_then(|user| filled(user.home)),
            shell: user.as_ref().and_then(|user| filled(user.shell)),
        })
    }
}

/// A line of passwd(5); what is none is skipped.
fn user_of(line: &str) -> Option<User<'_>> {
    let fields: Vec<&str> = line.split(':').collect();
    let &[name, _, uid, gid, _, home, shell] = fields.as_slice() else { return None };
    Some(User { name: filled(name)?, uid: uid.parse().ok()?, gid: gid.parse().ok()?, home, shell })
}

/// A line of group(5); what is none is skipped.
fn group_of(line: &str) -> Option<Group<'_>> {
    let fields: Vec<&str> = line.split(':').collect();
    let &[name, _, gid, members] = fields.as_slice() else { return None };
    Some(Group { name: filled(name)?, gid: gid.parse().ok()?, members: members.split(',').map(str::trim).collect() })
}

/// A name that is one.
fn filled(name: &str) -> Option<&str> {
    (!name.is_empty()).then_some(name)
}

/// The number of a group.
fn number(group: &UserName, groups: &[Group<'_>]) -> Result<u32, Failure> {
    match group {
        UserName::Id(id) => Ok(*id),
        UserName::Name(name) => {
            let found = groups.iter().find(|group| group.name == name).map(|group| group.gid);
            found.ok_or_else(|| unknown(Stage::Group, "group", name, GROUP))
        }
    }
}

/// Nobody of that name.
fn unknown(stage: Stage, kind: &str, name: &str, file: &str) -> Failure {
    let message = format!("there is no {kind} '{name}' in {file} of the image; add it there or use a number");
    Failure { stage, errno: None, path: None, message }
}

/// A database of the image's that is none.
fn unreadable(stage: Stage, file: &str, error: &io::Error) -> Failure {
    let message = format!("cannot read {file} of the image: {}; correct the image", reason(error));
    Failure { stage, errno: error.raw_os_error(), path: Some(file.into()), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root with users and groups, and lines that are none.
    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let etc = root.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        let passwd = "root:x:0:0:root:/root:/bin/sh\n+\nweb:x:33:34::/srv:\nbad:x:many:1::/:\n\nshort:x:1\n";
        std::fs::write(etc.join("passwd"), passwd).unwrap();
        std::fs::write(etc.join("group"), "root:x:0:\nwww:x:34:\nadm:x:4:web, root\nbad:x:x:web\nlog:x:5:\n").unwrap();
        root
    }

    #[test]
    fn the_images_own_files_say_who_is_who() {
        let root = root();
        let inside = Inside::open(root.path()).unwrap();
        let name = |name: &str| Some(UserName::Name(name.to_owned()));
        let id = |id| Some(UserName::Id(id));
        for (user, group, more, expected) in [
            (None, None, vec![], (0, 0, vec![0, 4])),
            (name("web"), None, vec![], (33, 34, vec![4, 34])),
            (id(33), None, vec![UserName::Id(7)], (33, 34, vec![4, 7, 34])),
            (name("web"), name("log"), vec![], (33, 5, vec![4, 5])),
            (id(99), None, vec![], (99, 0, vec![0])),
            (id(99), id(98), vec![], (99, 98, vec![98])),
        ] {
            let identity = Identity { user, group, supplementary_groups: more };
            let account = inside.account(&identity).unwrap();
            assert_eq!((account.uid, account.gid, account.groups), expected, "{identity:?}");
        }
        for (user, group, stage) in
            [(name("bad"), None, Stage::User), (name("daemon"), None, Stage::User), (None, name("bad"), Stage::Group)]
        {
            let identity = Identity { user, group, supplementary_groups: vec![] };
            assert_eq!(inside.account(&identity).unwrap_err().stage, stage, "{identity:?}");
        }
        let web = Identity { user: name("web"), ..Identity::default() };
        let account = inside.account(&web).unwrap();
        assert_eq!((account.home.as_deref(), account.shell), (Some(Path::new("/srv")), None));
    }
}
