//! SHA-256 of what comes.

use sha2::{Digest as _, Sha256};

use crate::image::Digest;

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
        Digest::of_hash(&self.0.finalize().into()).to_string()
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
    digest.parse::<Digest>().ok()?;
    digest.strip_prefix("sha256:")
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
