//! Rules for texts and paths.

use std::path::{Component, Path, PathBuf};

use crate::source::Complaint;

/// Longest text that execve(2) takes as one argument or variable, its end included (MAX_ARG_STRLEN).
const MAX_TEXT: usize = 128 * 1024;

/// Longest path that the kernel takes, its end included (PATH_MAX).
const MAX_PATH: usize = 4096;

/// A text that a program can be given.
pub fn argument(text: &str) -> Result<(), Complaint> {
    if text.contains('\0') {
        return Err(Complaint::new("a NUL byte cannot be given to a program"));
    }
    if text.len() >= MAX_TEXT {
        return Err(Complaint::new("this is longer than 128 KiB, which the kernel does not take"));
    }
    Ok(())
}

/// One line of text.
pub fn line(text: &str) -> Result<(), Complaint> {
    match text.chars().find(|c| c.is_control()) {
        Some(_) => Err(Complaint::new("this must be one line without control characters")),
        None => Ok(()),
    }
}

/// A path without surprises: `.` and double slashes taken out, `..` refused.
pub fn path(text: &str) -> Result<PathBuf, Complaint> {
    if text.is_empty() {
        return Err(Complaint::new("this path is empty"));
    }
    if text.contains('\0') || text.len() >= MAX_PATH {
        return Err(Complaint::new("this is no path: it holds a NUL byte or is longer than 4095 bytes"));
    }
    if Path::new(text).components().any(|component| component == Component::ParentDir) {
        return Err(Complaint::new("`..` is not allowed in this path"));
    }
    Ok(Path::new(text).components().filter(|component| *component != Component::CurDir).collect())
}

/// An absolute path.
pub fn absolute(text: &str) -> Result<PathBuf, Complaint> {
    let path = path(text)?;
    if !path.is_absolute() {
        return Err(Complaint::new("this path must be absolute").help(format!("write \"/{text}\"")));
    }
    Ok(path)
}
