//! What `berthctl` does: functions that write to what they are given and return an exit status.

pub mod cat;
pub mod check;
