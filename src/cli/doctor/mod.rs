//! `doctor`
