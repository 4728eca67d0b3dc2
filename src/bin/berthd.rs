//! berthd

/// Entry.
fn main() {}
