//! A terminal whose owner is not at the mercy of the programs that he lends it to.
#![allow(unsafe_code)]

use std::io;

use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter};

/// The numbers of ioctl(2) by the architectures that this kernel runs programs of (`AUDIT_ARCH_*`, linux/audit.h).
#[cfg(target_arch = "x86_64")]
const IOCTL: [(u32, u32); 3] = [(0xC000_003E, 16), (0xC000_003E, 0x4000_0000 | 514), (0x4000_0003, 54)];
/// See above.
#[cfg(target_arch = "aarch64")]
const IOCTL: [(u32, u32); 2] = [(0xC000_00B7, 29), (0x4000_0028, 54)];
/// See above.
#[cfg(target_arch = "riscv64")]
const IOCTL: [(u32, u32); 1] = [(0xC000_00F3, 29)];
/// An architecture that nobody has looked up.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
const IOCTL: [(u32, u32); 0] = [];

/// Where the filter finds the system call in `struct seccomp_data` (seccomp(2)).
const NUMBER: u32 = 0;
/// The architecture.
const ARCH: u32 = 4;
/// The half of the second argument that ioctl(2) looks at, on a machine of little endian as all above are.
const REQUEST: u32 = 24;

/// Types a character into a terminal (ioctl_tty(2)).
const TIOCSTI: u32 = 0x5412;
/// Types a selection into a virtual console, among others (ioctl_console(2)).
const TIOCLINUX: u32 = 0x541C;

/// Puts typing out of reach of this process and of all that it will execute: `TIOCSTI`, and `TIOCLINUX` on a virtual
/// console, write what a shell then reads as if its user had typed it (CVE-2017-5226; Linux 6.2 can switch the first
/// off). Needs CAP_SYS_ADMIN. A kernel without seccomp filters has nothing to forbid it with.
///
/// # Errors
/// seccomp(2).
pub fn forbid_typing() -> io::Result<()> {
    let mut filter = filter();
    let length = u16::try_from(filter.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: length, filter: filter.as_mut_ptr() };
    // SAFETY: program and filter are live, of the length given, and only read.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        _ if result == 0 => Ok(()),
        Some(libc::ENOSYS | libc::EINVAL) => Ok(()),
        _ => Err(error),
    }
}

/// Eight instructions for each way to call ioctl(2), each of which goes on behind them where it is not that.
fn filter() -> Vec<sock_filter> {
    let denied = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
    let block = |(arch, number): (u32, u32)| {
        [
            load(ARCH),
            compare(arch, 0, 6),
            load(NUMBER),
            compare(number, 0, 4),
            load(REQUEST),
            compare(TIOCSTI, 1, 0),
            compare(TIOCLINUX, 0, 1),
            answer(denied),
        ]
    };
    IOCTL.into_iter().flat_map(block).chain([answer(libc::SECCOMP_RET_ALLOW)]).collect()
}

/// Takes a word of the call.
fn load(offset: u32) -> sock_filter {
    instruction(BPF_LD | BPF_W | BPF_ABS, offset, 0, 0)
}

/// Skips so many instructions if the word is this value, and so many if not.
fn compare(value: u32, if_so: u8, if_not: u8) -> sock_filter {
    instruction(BPF_JMP | BPF_JEQ | BPF_K, value, if_so, if_not)
}

/// The verdict.
fn answer(verdict: u32) -> sock_filter {
    instruction(BPF_RET | BPF_K, verdict, 0, 0)
}

/// An instruction of classic BPF (linux/filter.h). All codes are of one byte.
fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: (code & 0xFF) as u16, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter says of a call.
    fn verdict(arch: u32, number: u32, request: u32) -> u32 {
        let (code, mut word, mut next) = (filter(), 0, 0);
        loop {
            let sock_filter { code: operation, jt, jf, k } = code[next];
            next += 1;
            match u32::from(operation) {
                op if op == BPF_LD | BPF_W | BPF_ABS => {
                    word =
                        [(NUMBER, number), (ARCH, arch), (REQUEST, request)].iter().find(|(at, _)| *at == k).unwrap().1;
                }
                op if op == BPF_JMP | BPF_JEQ | BPF_K => next += usize::from(if word == k { jt } else { jf }),
                _ => return k,
            }
        }
    }

    #[test]
    fn typing_is_forbidden_by_every_way_to_call_and_nothing_else_is() {
        let (allowed, denied) = (libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_ERRNO | 1);
        for (arch, number) in IOCTL {
            for (request, expected) in [(TIOCSTI, denied), (TIOCLINUX, denied), (0x5401, allowed), (0x5413, allowed)] {
                assert_eq!(verdict(arch, number, request), expected, "{arch:x} {number} {request:x}");
            }
            assert_eq!(verdict(arch, number + 1, TIOCSTI), allowed, "lseek(fd, 0x5412)");
            assert_eq!(verdict(arch ^ 0xFF, number, TIOCSTI), allowed);
        }
        assert!(IOCTL.iter().any(|(_, number)| i64::from(*number) == libc::SYS_ioctl), "this very architecture");
    }
}
