//! What `/proc/PID` says of a process (proc_pid_status(5), proc_pid_stat(5), proc_pid_syscall(5)).
//!
//! The parsers take text and know no files; the readers take the root of proc, so that tests move the world.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

/// What decides how a process is stopped. A signal to a process is first judged by its main thread, so that is the
/// one looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProcStatus {
    /// Its PID in every pid namespace that it is in, outermost first.
    pub ns_pids: Vec<u32>,
    /// Signals with a handler, bit 0 is signal 1.
    pub caught: u64,
    /// Signals that its main thread blocks, perhaps to wait for them (signalfd(2)), perhaps for a moment.
    pub blocked: u64,
    /// Signals that its main thread waits for (sigwait(3)), which the kernel does not show as blocked meanwhile.
    pub awaited: u64,
}

impl ProcStatus {
    /// Reads it of `pid` below `proc`.
    ///
    /// # Errors
    /// As reading a file; `InvalidData` where fields are missing.
    pub fn read(proc: &Path, pid: u32) -> io::Result<Self> {
        let directory = proc.join(pid.to_string());
        let text = fs::read_to_string(directory.join("status"))?;
        let status = Self::parse(&text).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        // What cannot be looked at may be waited for: such a process is asked, and at worst times out.
        Ok(Self { awaited: awaited(&directory).unwrap_or(u64::MAX), ..status })
    }

    /// Reads it from the text of `/proc/PID/status`; none where a field is missing. Nothing is awaited.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let pids = field(text, "NSpid")?.split_whitespace();
        let ns_pids = pids.map(|pid| pid.parse().ok()).collect::<Option<Vec<_>>>()?;
        Some(Self { ns_pids, caught: mask(text, "SigCgt")?, blocked: mask(text, "SigBlk")?, awaited: 0 })
    }

    /// Whether it is the init of a pid namespace other than the reader's, for which the kernel drops every signal
    /// that has no handler.
    #[must_use]
    pub fn is_namespace_init(&self) -> bool {
        self.ns_pids.len() >= 2 && self.ns_pids.last() == Some(&1)
    }

    /// Whether it has a handler for `signal`.
    #[must_use]
    pub fn catches(&self, signal: i32) -> bool {
        self.caught & bit(signal) != 0
    }

    /// Whether it takes `signal` itself: by a handler, by waiting for it, or blocked in order to wait for it.
    #[must_use]
    pub fn takes(&self, signal: i32) -> bool {
        (self.caught | self.blocked | self.awaited) & bit(signal) != 0
    }
}

/// A field of `/proc/PID/status`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

/// A field that is a mask.
fn mask(text: &str, name: &str) -> Option<u64> {
    u64::from_str_radix(field(text, name)?.trim(), 16).ok()
}

/// Whether nothing that a process executes gives it privileges, by the text of its `/proc/PID/status`.
#[must_use]
pub fn no_new_privileges(text: &str) -> Option<bool> {
    Some(field(text, "NoNewPrivs")?.trim() == "1")
}

/// A limit in the text of `/proc/PID/limits` (proc_pid_limits(5)), by its title: `SOFT:HARD`, one word where both are the
/// same. The columns are of fixed width, since titles have spaces.
#[must_use]
pub fn limit(text: &str, title: &str) -> Option<String> {
    let title = format!("{title:<25} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&title))?;
    let mut words = line.split_whitespace();
    let (soft, hard) = (words.next()?, words.next()?);
    Some(if soft == hard { soft.to_owned() } else { format!("{soft}:{hard}") })
}

/// The capabilities of a process that matter to others, as masks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProcCapabilities {
    /// What neither it nor what it executes can exceed.
    pub bounding: u64,
    /// What it has.
    pub effective: u64,
    /// What it passes on over execve(2).
    pub ambient: u64,
}

impl ProcCapabilities {
    /// Reads them of `pid` below `proc`.
    ///
    /// # Errors
    /// As reading a file; `InvalidData` where fields are missing.
    pub fn read(proc: &Path, pid: u32) -> io::Result<Self> {
        let text = fs::read_to_string(proc.join(pid.to_string()).join("status"))?;
        Self::parse(&text).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Reads them from the text of `/proc/PID/status`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mask = |name| mask(text, name);
        Some(Self { bounding: mask("CapBnd")?, effective: mask("CapEff")?, ambient: mask("CapAmb")? })
    }
}

/// The bit of `signal` in a mask; none for what is no signal.
fn bit(signal: i32) -> u64 {
    u32::try_from(signal - 1).ok().and_then(|shift| 1_u64.checked_shl(shift)).unwrap_or(0)
}

/// The signals that the process of `directory` waits for now: the set that its main thread gave to
/// rt_sigtimedwait(2), looked up in its memory.
fn awaited(directory: &Path) -> io::Result<u64> {
    let text = fs::read_to_string(directory.join("syscall"))?;
    let Some((libc::SYS_rt_sigtimedwait, address)) = parse_syscall(&text) else { return Ok(0) };
    let mut set = [0; 8];
    File::open(directory.join("mem"))?.read_exact_at(&mut set, address)?;
    Ok(u64::from_ne_bytes(set))
}

/// The number and the first argument of the system call in `/proc/PID/syscall`; none while it is in none.
#[must_use]
pub fn parse_syscall(text: &str) -> Option<(i64, u64)> {
    let mut words = text.split_whitespace();
    let number = words.next()?.parse().ok()?;
    let argument = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
    (number >= 0).then_some((number, argument))
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
    fn limits_are_found_by_their_titles() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max processes             95000                unlimited            processes \n\
                    Max nice priority         0                    0                    \n";
        assert_eq!(limit(text, "Max processes").as_deref(), Some("95000:unlimited"));
        assert_eq!(limit(text, "Max nice priority").as_deref(), Some("0"));
        assert_eq!((limit(text, "Max nice"), limit(text, "Max open files")), (None, None));
        let own = fs::read_to_string("/proc/self/limits").unwrap();
        assert!(crate::spec::Resource::all().all(|resource| limit(&own, resource.title()).is_some()), "{own}");
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
    fn capabilities_are_read() {
        let text = "CapInh:\t0000000000000001\nCapEff:\t0000000000000400\nCapBnd:\t000001ffffffffff\nCapAmb:\t8\n";
        let read = ProcCapabilities { bounding: 0x1ff_ffff_ffff, effective: 0x400, ambient: 8 };
        assert_eq!(ProcCapabilities::parse(text), Some(read));
        assert_eq!(ProcCapabilities::parse("CapEff:\t0\nCapBnd:\t0\n"), None);
    }

    #[test]
    fn system_calls_are_read() {
        let table = [
            ("128 0x7ffd10 0x0 0x0 0x8 0x0 0x0 0x7ffc 0x7f1\n", Some((128, 0x007f_fd10))),
            ("-1 0x7ffc 0x7f1\n", None),
            ("running\n", None),
            ("7", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_syscall(text), expected, "{text:?}");
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
