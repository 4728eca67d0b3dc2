//! SHA-256 of what comes.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// What stands before the digits.
const ALGORITHM: &str = "sha256:";

/// A digest in the making.
#[derive(Debug, Default, Clone)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Takes bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest as text: `sha256:HEX`.
    pub fn finish(self) -> String {
        let mut text = ALGORITHM.to_owned();
        for byte in self.0.finalize() {
            // A String takes everything.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

/// The digest of bytes.
pub fn of(bytes: &[u8]) -> String {
    let mut hasher = Hasher::default();
    hasher.update(bytes);
    hasher.finish()
}

/// The digits of a digest, which are a file's name in a layout; none where it is not one that berth takes.
pub fn digits(digest: &str) -> Option<&str> {
    let digits = digest.strip_prefix(ALGORITHM)?;
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (digits.len() == 64 && digits.bytes().all(is_digit)).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_names_of_files_or_nothing() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(of(b""), empty);
        assert_eq!(digits(empty), empty.strip_prefix("sha256:"));
        for bad in ["", "sha256:", "sha256:../../etc/passwd", "sha512:00", &empty[..70], &empty.to_uppercase()] {
            assert_eq!(digits(bad), None, "{bad}");
        }
    }
}
