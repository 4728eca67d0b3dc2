//! berthctl

/// Entry.
fn main() {}
