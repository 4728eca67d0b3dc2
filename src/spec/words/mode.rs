//! The mode of a file: `"0755"`.

use std::str::FromStr;

use super::Word;
use crate::source::Complaint;

/// A mode, 0..=0o7777 (inode(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMode(pub u32);

/// How to write one.
const CURE: &str = "write three or four octal digits in quotes, such as \"0755\"";

impl Word for FileMode {
    const EXPECTING: &'static str = "a mode such as \"0755\"";

    /// 755 is no mode, and 0o755 looks the same once it is read.
    fn from_number(_number: i128) -> Result<Self, Complaint> {
        Err(Complaint::new("a mode is octal, and must be written as text").help(CURE))
    }
}

impl FromStr for FileMode {
    type Err = Complaint;

    fn from_str(text: &str) -> Result<Self, Complaint> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match u32::from_str_radix(text, 8) {
            Ok(mode @ 0..=0o7777) if digits => Ok(Self(mode)),
            _ => Err(Complaint::new(format!("\"{text}\" is no mode")).help(CURE)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal() {
        for (text, mode) in [("0755", 0o755), ("755", 0o755), ("1777", 0o1777), ("0", 0)] {
            assert_eq!(text.parse(), Ok(FileMode(mode)), "{text}");
        }
        for wrong in ["", "8", "17777", "+755", "-1", "u=rwx", "0o755"] {
            assert!(wrong.parse::<FileMode>().is_err(), "{wrong}");
        }
        assert!(FileMode::from_number(755).is_err());
    }
}
