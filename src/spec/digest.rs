//! A short name for what a spec says.

use super::Spec;

/// A digest of the merged, validated spec: 32 hex digits that a comment, an order of keys or a move between files
/// do not change. For telling edits apart, not for trust: FNV-1a with 128 bits is not cryptographic.
#[must_use]
pub fn digest(spec: &Spec) -> String {
    let canonical = serde_json::to_vec(spec).unwrap_or_else(|_| format!("{spec:?}").into_bytes());
    short_hash(&canonical)
}

/// 32 hex digits that tell `bytes` from others.
#[must_use]
pub fn short_hash(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
        (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    });
    format!("{hash:032x}")
}
