//! Signals: by name with or without `SIG`, or by number.

use std::{fmt, str::FromStr};

use super::{super::Signal, Word};
use crate::source::{Complaint, nearest};

/// The first and last real-time signal as the C library counts (signal(7)).
const REALTIME: (i32, i32) = (34, 64);

/// Names of signal(7), by number from 1.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

impl Word for Signal {
    const EXPECTING: &'static str = "a signal such as \"SIGTERM\"";

    fn from_number(number: i128) -> Result<Self, Complaint> {
        match i32::try_from(number) {
            Ok(number @ 1..=64) => Ok(Self(number)),
            _ => Err(Complaint::new(format!("{number} is no signal")).help("signals are 1 to 64")),
        }
    }
}

impl FromStr for Signal {
    type Err = Complaint;

    fn from_str(text: &str) -> Result<Self, Complaint> {
        if let Ok(number) = text.parse::<i128>() {
            return Self::from_number(number);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some(number) = (1..).zip(NAMES).find(|(_, known)| *known == name).map(|(number, _)| number) {
            return Ok(Self(number));
        }
        realtime(name).ok_or_else(|| {
            let complaint = Complaint::new(format!("\"{text}\" is no signal"));
            match nearest(name, NAMES) {
                Some(near) => complaint.help(format!("did you mean \"SIG{near}\"?")),
                None => complaint.help("see signal(7); real-time signals are RTMIN+0 to RTMIN+30"),
            }
        })
    }
}

/// `RTMIN`, `RTMIN+3`, `RTMAX-2`.
fn realtime(name: &str) -> Option<Signal> {
    let digits = |text: &str, sign: char| match text.strip_prefix(sign) {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse::<i32>().ok(),
        Some(_) => None,
        None => text.is_empty().then_some(0),
    };
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => REALTIME.0.checked_add(digits(rest, '+')?)?,
        (_, Some(rest)) => REALTIME.1.checked_sub(digits(rest, '-')?)?,
        _ => return None,
    };
    (REALTIME.0..=REALTIME.1).contains(&number).then_some(Signal(number))
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = usize::try_from(self.0 - 1).ok().and_then(|index| NAMES.get(index));
        match named {
            Some(name) => write!(f, "SIG{name}"),
            None if self.0 >= REALTIME.0 => write!(f, "SIGRTMIN+{}", self.0 - REALTIME.0),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_real_time() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("TERM", 15),
            ("sigterm", 15),
            ("15", 15),
            ("SIGRTMIN+3", 37),
            ("RTMIN", 34),
            ("RTMAX", 64),
            ("RTMAX-30", 34),
            ("SIGSYS", 31),
            ("64", 64),
        ] {
            assert_eq!(text.parse(), Ok(Signal(number)), "{text}");
        }
        for wrong in ["", "SIG", "0", "65", "-1", "RTMIN+31", "RTMAX-31", "RTMIN+", "RTMIN+-1", "RTMIN++1", "SIGFOO"] {
            assert!(wrong.parse::<Signal>().is_err(), "{wrong}");
        }
        assert_eq!("SIGTREM".parse::<Signal>().unwrap_err().help.unwrap(), "did you mean \"SIGTERM\"?");
        for number in 1..=64 {
            assert_eq!(Signal(number).to_string().parse(), Ok(Signal(number)));
        }
    }
}
