//! How much others come before a thread.

#![allow(unsafe_code)]

/// `IOPRIO_WHO_PROCESS` of ioprio_set(2).
const WHO_PROCESS: i32 = 1;

/// The lowest of the class best-effort: last of those that are served, where the class idle could starve.
const LAST: i32 = 2 << 13 | 7;

/// Nicer by so much.
const NICE: i32 = 10;

/// Lets others go first, on the processors and on the disks. Holds for the calling thread and those that it starts; a
/// kernel that cannot is no reason not to work.
pub fn lower() {
    let _ = rustix::process::nice(NICE);
    // SAFETY: three numbers; 0 is the calling thread.
    unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, LAST) };
}
