//! Capabilities: by name with or without `CAP_`, in any case; or all of them.

use std::str::FromStr;

use super::{
    super::{ALL_WORD, Capability, CapabilitySet},
    Word,
};
use crate::source::{Complaint, nearest};

/// One word of a list: a capability, or `ALL` (docker, podman and Kubernetes have it; systemd writes `~`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapabilityWord(pub CapabilitySet);

impl CapabilityWord {
    /// What a list of words says.
    pub fn set(words: &[Self]) -> CapabilitySet {
        words.iter().map(|word| word.0).collect()
    }
}

impl Word for CapabilityWord {
    const EXPECTING: &'static str = "a capability such as \"NET_BIND_SERVICE\"";

    fn from_number(number: i128) -> Result<Self, Complaint> {
        let found = usize::try_from(number).ok().and_then(|number| Capability::NAMED.get(number));
        let complaint = Complaint::new("capabilities are written by name");
        Err(match found {
            Some((_, name)) => complaint.help(format!("write \"{name}\"")),
            None => complaint.help("see capabilities(7)"),
        })
    }
}

impl FromStr for CapabilityWord {
    type Err = Complaint;

    fn from_str(text: &str) -> Result<Self, Complaint> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if name == ALL_WORD {
            return Ok(Self(CapabilitySet::ALL));
        }
        Capability::of_name(name).map(|capability| Self(capability.into())).ok_or_else(|| {
            let complaint = Complaint::new(format!("\"{text}\" is no capability"));
            match nearest(name, Capability::NAMED.iter().map(|(_, known)| *known)) {
                Some(near) => complaint.help(format!("did you mean \"{near}\"?")),
                None => complaint.help("see capabilities(7)"),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_a_prefix_or_none_and_any_case() {
        let raw = CapabilitySet::of(&[Capability::NET_RAW]);
        for (text, set) in [
            ("NET_RAW", raw),
            ("CAP_NET_RAW", raw),
            ("cap_net_raw", raw),
            ("Net_Raw", raw),
            ("ALL", CapabilitySet::ALL),
            ("all", CapabilitySet::ALL),
        ] {
            assert_eq!(text.parse(), Ok(CapabilityWord(set)), "{text}");
        }
        for (capability, name) in Capability::NAMED {
            assert_eq!(format!("CAP_{name}").parse(), Ok(CapabilityWord((*capability).into())), "{name}");
        }
        for (wrong, help) in [
            ("NET_RAWW", "did you mean \"NET_RAW\"?"),
            ("CAP_SYSADMIN", "did you mean \"SYS_ADMIN\"?"),
            ("net-raw", "did you mean \"NET_RAW\"?"),
            ("CAP_CAP_KILL", "see capabilities(7)"),
            ("", "see capabilities(7)"),
            ("~NET_RAW", "did you mean \"NET_RAW\"?"),
        ] {
            assert_eq!(wrong.parse::<CapabilityWord>().unwrap_err().help.unwrap(), help, "{wrong}");
        }
        assert_eq!(CapabilityWord::from_number(13).unwrap_err().help.unwrap(), "write \"NET_RAW\"");
        assert_eq!(CapabilityWord::from_number(-1).unwrap_err().help.unwrap(), "see capabilities(7)");
    }
}
