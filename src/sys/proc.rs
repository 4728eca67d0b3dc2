//! What `/proc/PID` says of a process (proc_pid_status(5), proc_pid_stat(5)).
//!
//! The parsers take text and know no files; the readers take the root of proc, so that tests move the world.

use std::{fs, io, path::Path};

/// The parts of `/proc/PID/status` that decide how a process is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProcStatus {
    /// Its PID in every pid namespace that it is in, outermost first.
    pub ns_pids: Vec<u32>,
    /// Signals with a handler, bit 0 is signal 1.
    pub caught: u64,
    /// Signals that its main thread blocks, to wait for them (sigwait(3), signalfd(2)).
    pub blocked: u64,
}

impl ProcStatus {
    /// Reads it of `pid` below `proc`.
    ///
    /// # Errors
    /// As reading a file; `InvalidData` where fields are missing.
    pub fn read(proc: &Path, pid: u32) -> io::Result<Self> {
        let text = fs::read_to_string(proc.join(pid.to_string()).join("status"))?;
        Self::parse(&text).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    }

    /// Reads it from the file's text; none where a field is missing.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let mask = |name: &str| u64::from_str_radix(field(name)?.trim(), 16).ok();
        let ns_pids = field("NSpid")?.split_whitespace().map(|pid| pid.parse().ok()).collect::<Option<Vec<_>>>()?;
        Some(Self { ns_pids, caught: mask("SigCgt")?, blocked: mask("SigBlk")? })
    }

    /// Whether it is the init of a pid namespace other than the reader's, for which the kernel drops every signal
    /// that has no handler.
    #[must_use]
    pub fn is_namespace_init(&self) -> bool {
        self.ns_pids.len() >= 2 && self.ns_pids.last() == Some(&1)
    }

    /// Whether it takes `signal` itself: by a handler, or blocked in order to wait for it.
    #[must_use]
    pub fn takes(&self, signal: i32) -> bool {
        u32::try_from(signal - 1)
            .ok()
            .and_then(|bit| 1_u64.checked_shl(bit))
            .is_some_and(|bit| (self.caught | self.blocked) & bit != 0)
    }
}

/// When `pid` started, in clock ticks since boot: with the boot ID, its name for ever.
///
/// # Errors
/// As reading a file; `InvalidData` where the field is missing.
pub fn start_time(proc: &Path, pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(proc.join(pid.to_string()).join("stat"))?;
    parse_start_time(&text).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Field 22 of `/proc/PID/stat`. The second, the command, may hold blanks and parentheses.
#[must_use]
pub fn parse_start_time(stat: &str) -> Option<u64> {
    let (_, after) = stat.rsplit_once(')')?;
    after.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A status with the fields that matter.
    fn status(ns_pid: &str, caught: &str, blocked: &str) -> String {
        format!("Name:\tx\nPid:\t7\nNSpid:\t{ns_pid}\nSigBlk:\t{blocked}\nSigIgn:\t0\nSigCgt:\t{caught}\nSeccomp:\t0\n")
    }

    #[test]
    fn status_is_read() {
        // (NSpid, SigCgt, SigBlk) → (init?, takes TERM?, takes RTMIN+3 = 37?)
        let table = [
            ("7\t1", "0000000000004000", "0", (true, true, false)),
            ("7\t1", "0000000000000000", "0", (true, false, false)),
            ("7\t1", "0", "0000000000004000", (true, true, false)),
            ("7\t1", "0000001000000000", "0", (true, false, true)),
            ("7\t12", "0", "0", (false, false, false)),
            ("7\t12\t1", "0", "0", (true, false, false)),
            ("1", "0", "0", (false, false, false)),
            ("7\t1", "ffffffffffffffff", "0", (true, true, true)),
        ];
        for (pids, caught, blocked, expected) in table {
            let read = ProcStatus::parse(&status(pids, caught, blocked)).unwrap();
            assert_eq!((read.is_namespace_init(), read.takes(15), read.takes(37)), expected, "{pids} {caught}");
            assert!(!read.takes(0) && !read.takes(-1) && !read.takes(65));
        }
    }

    #[test]
    fn broken_status_is_none() {
        for text in ["", "NSpid:\t1\n", "NSpid:\tx\nSigCgt:\t0\nSigBlk:\t0\n", "NSpid:\t1\nSigCgt:\tzz\nSigBlk:\t0\n"] {
            assert_eq!(ProcStatus::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn start_times_are_read() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20 21";
        let table = [
            (format!("7 (sh) {rest}"), Some(4242)),
            (format!("7 (a b) c)) {rest}"), Some(4242)),
            ("7 (sh) S 1".to_owned(), None),
            (String::new(), None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_start_time(&text), expected, "{text:?}");
        }
    }

    #[test]
    fn this_process_is_read() {
        let (proc, me) = (Path::new("/proc"), std::process::id());
        assert!(!ProcStatus::read(proc, me).unwrap().ns_pids.is_empty());
        assert!(start_time(proc, me).unwrap() > 0);
        assert_eq!(ProcStatus::read(proc, u32::MAX).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
