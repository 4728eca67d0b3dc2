//! Users and groups: a name, an ID, or `user:group`.

use std::str::FromStr;

use super::{super::UserName, Word};
use crate::source::Complaint;

/// `user` or `user:group`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserWord {
    /// Before the colon.
    pub user: UserName,
    /// After it.
    pub group: Option<UserName>,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupWord(pub UserName);

impl Word for UserWord {
    const EXPECTING: &'static str = "a user such as \"www-data\", 1000 or \"user:group\"";

    fn from_number(number: i128) -> Result<Self, Complaint> {
        Ok(Self { user: id(number)?, group: None })
    }
}

impl FromStr for UserWord {
    type Err = Complaint;

    fn from_str(text: &str) -> Result<Self, Complaint> {
        Ok(match text.split_once(':') {
            Some((user, group)) => Self { user: name(user, "user")?, group: Some(name(group, "group")?) },
            None => Self { user: name(text, "user")?, group: None },
        })
    }
}

impl Word for GroupWord {
    const EXPECTING: &'static str = "a group such as \"adm\" or 4";

    fn from_number(number: i128) -> Result<Self, Complaint> {
        id(number).map(Self)
    }
}

impl FromStr for GroupWord {
    type Err = Complaint;

    fn from_str(text: &str) -> Result<Self, Complaint> {
        name(text, "group").map(Self)
    }
}

/// A numeric ID. Those that mean "none" to the kernel are refused, as systemd does (uid_is_valid).
fn id(number: i128) -> Result<UserName, Complaint> {
    match u32::try_from(number) {
        Ok(id) if id != u32::MAX && id != 0xFFFF => Ok(UserName::Id(id)),
        _ => Err(Complaint::new(format!("{number} is no user or group ID"))),
    }
}

/// A name or digits, by systemd's relaxed rule (systemd.io, "User/Group Name Syntax").
fn name(text: &str, what: &str) -> Result<UserName, Complaint> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return id(text.parse().unwrap_or(i128::MAX));
    }
    let bad = |c: char| c.is_control() || c.is_whitespace() || matches!(c, ':' | '/' | ',');
    if text.is_empty() || text.len() > 256 || text.starts_with('-') || text.contains(bad) || matches!(text, "." | "..")
    {
        return Err(Complaint::new(format!("\"{text}\" is no {what}'s name")));
    }
    Ok(UserName::Name(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_ids_and_pairs() {
        let named = |text: &str| UserName::Name(text.to_owned());
        for (text, user, group) in [
            ("www-data", named("www-data"), None),
            ("1000", UserName::Id(1000), None),
            ("0:adm", UserName::Id(0), Some(named("adm"))),
            ("a:4", named("a"), Some(UserName::Id(4))),
        ] {
            assert_eq!(text.parse(), Ok(UserWord { user, group }), "{text}");
        }
        for wrong in ["", ":", "a:", ":a", "a:b:c", "4294967295", "65535", "-u", "a b", "../x", "99999999999"] {
            assert!(wrong.parse::<UserWord>().is_err(), "{wrong}");
        }
        assert!(UserWord::from_number(-1).is_err());
    }
}
