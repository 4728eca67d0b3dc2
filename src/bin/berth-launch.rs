//! berth-launch

/// Entry.
fn main() {}
