//! net_cls handles: `"0012:0011"` as tc(8) writes a class, or `"0x00120011"` as one number.

use std::{fmt, str::FromStr};

use super::{
    super::{Handle, HandleChoice},
    Word,
};
use crate::source::Complaint;

/// How to write one.
const CURE: &str = "write \"auto\", \"none\", or primary and secondary in hexadecimal: \"0012:0011\", \"0x00120011\"";

/// Half a handle, 1..=0xffff: the primary of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Half(pub u16);

impl Word for Half {
    const EXPECTING: &'static str = "a 16-bit number such as 0x0012";

    fn from_number(number: i128) -> Result<Self, Complaint> {
        match u16::try_from(number) {
            Ok(0) => Err(Complaint::new("zero means \"no handle\" to the kernel").help("write 1 to 0xffff")),
            Ok(half) => Ok(Self(half)),
            Err(_) => Err(Complaint::new(format!("{number} is no 16-bit number")).help("write 1 to 0xffff")),
        }
    }
}

impl FromStr for Half {
    type Err = Complaint;

    fn from_str(text: &str) -> Result<Self, Complaint> {
        let malformed = || Complaint::new(format!("\"{text}\" is no number")).help("write 1 to 0xffff");
        Self::from_number(number(text.trim()).ok_or_else(malformed)?.into())
    }
}

/// A number in decimal or, after `0x`, in hexadecimal.
pub fn number(text: &str) -> Option<u32> {
    let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |digits| (digits, 16));
    let clean = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    clean.then(|| u32::from_str_radix(digits, radix).ok()).flatten()
}

impl Word for HandleChoice {
    const EXPECTING: &'static str = "a handle such as \"auto\" or \"0012:0011\"";

    fn from_number(number: i128) -> Result<Self, Complaint> {
        let handle =
            u32::try_from(number).map(Handle).map_err(|_| Complaint::new("a handle has 32 bits").help(CURE))?;
        match (handle.primary(), handle.secondary()) {
            (0, _) | (_, 0) => {
                let message = format!("{handle}: neither the primary nor the secondary of a handle is zero");
                Err(Complaint::new(message).help(CURE))
            }
            _ => Ok(Self::Fixed(handle)),
        }
    }
}

impl FromStr for HandleChoice {
    type Err = Complaint;

    fn from_str(text: &str) -> Result<Self, Complaint> {
        match text.trim() {
            "auto" => return Ok(Self::Auto),
            "none" => return Ok(Self::None),
            _ => {}
        }
        let malformed = || Complaint::new(format!("\"{text}\" is no handle")).help(CURE);
        let number = match text.trim().split_once(':') {
            Some((primary, secondary)) => {
                let (primary, secondary) = (half(primary), half(secondary));
                Handle::of(primary.ok_or_else(malformed)?, secondary.ok_or_else(malformed)?).0
            }
            None if text.trim().starts_with("0x") => number(text.trim()).ok_or_else(malformed)?,
            None => return Err(malformed()),
        };
        Self::from_number(number.into())
    }
}

/// One to four hexadecimal digits, with or without `0x`.
fn half(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let clean = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_hexdigit());
    clean.then(|| u16::from_str_radix(digits, 16).ok()).flatten()
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:04x}", self.primary(), self.secondary())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn handles_are_read_as_tc_and_mesos_write_them() {
        for (text, handle) in [
            ("0012:0011", 0x0012_0011),
            ("12:11", 0x0012_0011),
            ("0x12:0x11", 0x0012_0011),
            ("0x00120011", 0x0012_0011),
            ("ffff:ffff", 0xffff_ffff),
        ] {
            assert_eq!(text.parse(), Ok(HandleChoice::Fixed(Handle(handle))), "{text}");
        }
        assert_eq!("auto".parse(), Ok(HandleChoice::Auto));
        assert_eq!("none".parse(), Ok(HandleChoice::None));
        assert_eq!(HandleChoice::from_number(0x0012_0011), Ok(HandleChoice::Fixed(Handle(0x0012_0011))));
        for wrong in [
            "",
            ":",
            "12:",
            ":11",
            "12:0",
            "0:11",
            "0:0",
            "12:10000",
            "12345:1",
            "1179665",
            "0x",
            "0x12",
            "0x1200000000",
            "12:11:1",
            "Auto",
            "g:1",
            "+1:1",
        ] {
            assert!(wrong.parse::<HandleChoice>().is_err(), "{wrong}");
        }
        for wrong in [0, 1, 0x0012_0000, -1, 1 << 32] {
            assert!(HandleChoice::from_number(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn halves_have_sixteen_bits_and_are_not_zero() {
        for (text, half) in [("0x12", 0x12), ("18", 18), ("0xffff", 0xffff), ("65535", 0xffff)] {
            assert_eq!(text.parse(), Ok(Half(half)), "{text}");
        }
        for wrong in ["", "0", "0x0", "65536", "0x10000", "-1", "12h", "0x", "4294967297"] {
            assert!(wrong.parse::<Half>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_handle_reads_back(primary in 1..=u16::MAX, secondary in 1..=u16::MAX) {
            let handle = Handle::of(primary, secondary);
            prop_assert_eq!(handle.to_string().parse(), Ok(HandleChoice::Fixed(handle)));
        }

        #[test]
        fn any_text_is_answered(text in ".{0,12}") {
            let _answer = text.parse::<HandleChoice>();
        }
    }
}
