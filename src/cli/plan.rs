//! `plan`
