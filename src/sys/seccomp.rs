//! seccomp(2): system calls that a program is not given.
#![allow(unsafe_code)]

use std::io;

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW,
    SECCOMP_RET_ERRNO, sock_filter, sock_fprog,
};

/// How an architecture numbers the calls that make user namespaces.
struct Numbers {
    /// `AUDIT_ARCH_*` (linux/audit.h).
    architecture: u32,
    /// unshare(2).
    unshare: u32,
    /// clone(2).
    clone: u32,
}

/// clone3(2), on every architecture.
const CLONE3: u32 = 435;

/// What tells the calls of x32 from those of x86-64, whose numbers they share here (`__X32_SYSCALL_BIT`).
const X32: u32 = 0x4000_0000;

/// The architectures whose programs a kernel of ours may run.
const ARCHITECTURES: [Numbers; 5] = [
    Numbers { architecture: 0xc000_003e, unshare: 272, clone: 56 }, // x86-64
    Numbers { architecture: 0x4000_0003, unshare: 310, clone: 120 }, // i386
    Numbers { architecture: 0xc000_00b7, unshare: 97, clone: 220 }, // aarch64
    Numbers { architecture: 0x4000_0028, unshare: 337, clone: 120 }, // arm
    Numbers { architecture: 0xc000_00f3, unshare: 97, clone: 220 }, // riscv64
];

/// Distances in `struct seccomp_data`, on machines of either byte order for the numbers below 2^32 that matter.
mod data {
    /// `nr`.
    pub const NUMBER: u32 = 0;
    /// `arch`.
    pub const ARCHITECTURE: u32 = 4;
    /// The lower half of `args[0]`.
    pub const FLAGS: u32 = if cfg!(target_endian = "little") { 16 } else { 20 };
}

/// Keeps this process, and all that come of it, from making user namespaces: unshare(2) and clone(2) say `EPERM`, and
/// clone3(2), whose flags a filter cannot see, is not there, so that C libraries take clone(2).
///
/// # Errors
/// seccomp(2); `EACCES` without `CAP_SYS_ADMIN` and `no_new_privs`.
pub fn deny_user_namespaces() -> io::Result<()> {
    let mut program = without_user_namespaces();
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = sock_fprog { len: length, filter: program.as_mut_ptr() };
    // SAFETY: the program is live and of the length given; the kernel copies it.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The filter.
fn without_user_namespaces() -> Vec<sock_filter> {
    let mut program = vec![load(data::ARCHITECTURE)];
    for numbers in &ARCHITECTURES {
        let block = of_architecture(numbers);
        let over = u8::try_from(block.len()).unwrap_or(u8::MAX);
        program.push(jump(BPF_JEQ, numbers.architecture, 0, over));
        program.extend(block);
    }
    program.push(answer(SECCOMP_RET_ALLOW));
    program
}

/// The part for one architecture. Each way through it ends in an answer.
fn of_architecture(numbers: &Numbers) -> [sock_filter; 10] {
    let refused = |errno: i32| answer(SECCOMP_RET_ERRNO | errno.cast_unsigned());
    [
        load(data::NUMBER),
        statement(BPF_ALU | BPF_AND | BPF_K, !X32),
        jump(BPF_JEQ, CLONE3, 6, 0),
        jump(BPF_JEQ, numbers.unshare, 1, 0),
        jump(BPF_JEQ, numbers.clone, 0, 2),
        load(data::FLAGS),
        jump(BPF_JSET, libc::CLONE_NEWUSER.cast_unsigned(), 1, 0),
        answer(SECCOMP_RET_ALLOW),
        refused(libc::EPERM),
        refused(libc::ENOSYS),
    ]
}

/// Loads a word of the data.
const fn load(offset: u32) -> sock_filter {
    statement(BPF_LD | BPF_W | BPF_ABS, offset)
}

/// Ends the program.
const fn answer(what: u32) -> sock_filter {
    statement(BPF_RET | BPF_K, what)
}

/// An instruction that goes on to the next.
const fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

/// A comparison, and how many instructions each outcome skips.
const fn jump(comparison: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: (BPF_JMP | comparison | BPF_K) as u16, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter answers to a call, interpreted as the kernel does.
    fn verdict(architecture: u32, number: u32, flags: u32) -> u32 {
        let program = without_user_namespaces();
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let instruction = program[at];
            at += 1;
            let compared = |holds: bool| usize::from(if holds { instruction.jt } else { instruction.jf });
            match u32::from(instruction.code) {
                code if code == BPF_LD | BPF_W | BPF_ABS => {
                    accumulator = match instruction.k {
                        data::NUMBER => number,
                        data::ARCHITECTURE => architecture,
                        data::FLAGS => flags,
                        other => panic!("{other}"),
                    };
                }
                code if code == BPF_ALU | BPF_AND | BPF_K => accumulator &= instruction.k,
                code if code == BPF_JMP | BPF_JEQ | BPF_K => at += compared(accumulator == instruction.k),
                code if code == BPF_JMP | BPF_JSET | BPF_K => at += compared(accumulator & instruction.k != 0),
                code if code == BPF_RET | BPF_K => return instruction.k,
                other => panic!("{other}"),
            }
        }
    }

    #[test]
    fn user_namespaces_alone_are_refused_on_every_architecture() {
        let (user, mount) = (libc::CLONE_NEWUSER.cast_unsigned(), libc::CLONE_NEWNS.cast_unsigned());
        let errno = |errno: i32| SECCOMP_RET_ERRNO | errno.cast_unsigned();
        for Numbers { architecture, unshare, clone } in ARCHITECTURES {
            for number in [unshare, clone] {
                assert_eq!(
                    verdict(architecture, number, user | mount),
                    errno(libc::EPERM),
                    "{architecture:#x} {number}"
                );
                assert_eq!(verdict(architecture, number, mount), SECCOMP_RET_ALLOW, "{architecture:#x} {number}");
            }
            assert_eq!(verdict(architecture, CLONE3, 0), errno(libc::ENOSYS));
            for number in [0, 1, 57, 1000] {
                assert_eq!(verdict(architecture, number, user), SECCOMP_RET_ALLOW, "{architecture:#x} {number}");
            }
        }
        assert_eq!(verdict(0xc000_003e, X32 | 272, user), errno(libc::EPERM), "x32");
        assert_eq!(verdict(0, 272, user), SECCOMP_RET_ALLOW, "no kernel of ours runs that");
    }
}
