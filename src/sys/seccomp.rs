//! seccomp(2): system calls that a program is not given.
#![allow(unsafe_code)]

use std::io;

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW,
    SECCOMP_RET_ERRNO, sock_filter, sock_fprog,
};

/// How an architecture numbers the calls that matter here.
struct Numbers {
    /// `AUDIT_ARCH_*` (linux/audit.h).
    architecture: u32,
    /// unshare(2).
    unshare: u32,
    /// clone(2).
    clone: u32,
    /// ioctl(2).
    ioctl: u32,
}

/// clone3(2), on every architecture.
const CLONE3: u32 = 435;

/// ioctl(2) of x32, which has a number of its own. No other architecture here has so many calls.
const X32_IOCTL: u32 = 514;

/// Types a character into a terminal (ioctl_tty(2)).
const TIOCSTI: u32 = 0x5412;

/// Types a selection into a virtual console, among others (ioctl_console(2)).
const TIOCLINUX: u32 = 0x541c;

/// Sets the project of a file, and whether a directory's is inherited (ioctl_xfs_fsgetxattr(2)).
const FS_IOC_FSSETXATTR: u32 = 0x401c_5820;

/// Sets flags of a file, that one among them (ioctl_iflags(2)), for programs of 64 bits and of 32.
const FS_IOC_SETFLAGS: [u32; 2] = [0x4008_6602, 0x4004_6602];

/// file_setattr(2), on every architecture, since Linux 6.17: all of that without an ioctl(2).
const FILE_SETATTR: u32 = 469;

/// What tells the calls of x32 from those of x86-64, whose numbers they share here (`__X32_SYSCALL_BIT`).
const X32: u32 = 0x4000_0000;

/// The architectures whose programs a kernel of ours may run.
const ARCHITECTURES: [Numbers; 5] = [
    Numbers { architecture: 0xc000_003e, unshare: 272, clone: 56, ioctl: 16 }, // x86-64
    Numbers { architecture: 0x4000_0003, unshare: 310, clone: 120, ioctl: 54 }, // i386
    Numbers { architecture: 0xc000_00b7, unshare: 97, clone: 220, ioctl: 29 }, // aarch64
    Numbers { architecture: 0x4000_0028, unshare: 337, clone: 120, ioctl: 54 }, // arm
    Numbers { architecture: 0xc000_00f3, unshare: 97, clone: 220, ioctl: 29 }, // riscv64
];

/// Distances in `struct seccomp_data`, on machines of either byte order for the numbers below 2^32 that matter.
mod data {
    /// `nr`.
    pub const NUMBER: u32 = 0;
    /// `arch`.
    pub const ARCHITECTURE: u32 = 4;
    /// The lower half of `args[0]`.
    pub const FLAGS: u32 = if cfg!(target_endian = "little") { 16 } else { 20 };
    /// The lower half of `args[1]`.
    pub const REQUEST: u32 = if cfg!(target_endian = "little") { 24 } else { 28 };
}

/// Keeps this process, and all that come of it, from making user namespaces: unshare(2) and clone(2) say `EPERM`, and
/// clone3(2), whose flags a filter cannot see, is not there, so that C libraries take clone(2).
///
/// # Errors
/// seccomp(2); `EACCES` without `CAP_SYS_ADMIN` and `no_new_privs`.
pub fn deny_user_namespaces() -> io::Result<()> {
    install(without_user_namespaces())
}

/// Keeps this process, and all that come of it, from typing into a terminal what a shell then reads as if its user had
/// typed it (CVE-2017-5226): `TIOCSTI`, which Linux can switch off since 6.2, and `TIOCLINUX` on a virtual console.
///
/// # Errors
/// As [`deny_user_namespaces`].
pub fn deny_typing() -> io::Result<()> {
    install(without_typing())
}

/// Keeps this process, and all that come of it, from changing the project that a file is counted for, which otherwise
/// every owner of a file may.
///
/// # Errors
/// As [`deny_user_namespaces`].
pub fn deny_projects() -> io::Result<()> {
    install(without_projects())
}

/// Keeps this process from being more than itself: it may have threads, and neither children nor another program. What
/// it could be made to do by a stranger's bytes ends with it. On architectures that are not known here nothing is done.
///
/// # Errors
/// As [`deny_user_namespaces`].
pub fn deny_processes() -> io::Result<()> {
    native().map_or(Ok(()), |architecture| install(without_processes(architecture)))
}

/// The number of this program's own architecture.
fn native() -> Option<u32> {
    match std::env::consts::ARCH {
        "x86_64" => Some(0xc000_003e),
        "x86" => Some(0x4000_0003),
        "aarch64" => Some(0xc000_00b7),
        "arm" => Some(0x4000_0028),
        "riscv64" => Some(0xc000_00f3),
        _ => None,
    }
}

/// The filter against processes: calls of another architecture are refused altogether, clone3(2) is not there.
fn without_processes(architecture: u32) -> Vec<sock_filter> {
    let mut program = vec![
        load(data::ARCHITECTURE),
        jump(BPF_JEQ, architecture, 1, 0),
        refused(libc::EPERM),
        load(data::NUMBER),
        jump(BPF_JEQ, CLONE3, 0, 1),
        refused(libc::ENOSYS),
    ];
    if cfg!(target_arch = "x86_64") {
        program.extend([jump(BPF_JSET, X32, 0, 1), refused(libc::EPERM)]);
    }
    let number = |call: libc::c_long| u32::try_from(call).unwrap_or(u32::MAX);
    let mut calls = vec![libc::SYS_execve, libc::SYS_execveat, libc::SYS_ptrace];
    #[cfg(any(target_arch = "x86_64", target_arch = "x86", target_arch = "arm"))]
    calls.extend([libc::SYS_fork, libc::SYS_vfork]);
    for call in calls {
        program.extend([jump(BPF_JEQ, number(call), 0, 1), refused(libc::EPERM)]);
    }
    program.extend([
        jump(BPF_JEQ, number(libc::SYS_clone), 0, 3),
        load(data::FLAGS),
        jump(BPF_JSET, libc::CLONE_THREAD.cast_unsigned(), 1, 0),
        refused(libc::EPERM),
        answer(SECCOMP_RET_ALLOW),
    ]);
    program
}

/// Has the kernel heed a filter from here on.
fn install(mut program: Vec<sock_filter>) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = sock_fprog { len: length, filter: program.as_mut_ptr() };
    // SAFETY: the program is live and of the length given; the kernel copies it.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The filter against user namespaces.
fn without_user_namespaces() -> Vec<sock_filter> {
    by_architecture(user_namespaces)
}

/// The filter against typing.
fn without_typing() -> Vec<sock_filter> {
    by_architecture(typing)
}

/// The filter against changes of projects.
fn without_projects() -> Vec<sock_filter> {
    by_architecture(projects)
}

/// A filter made of a part for each architecture.
fn by_architecture<const N: usize>(part: impl Fn(&Numbers) -> [sock_filter; N]) -> Vec<sock_filter> {
    let mut program = vec![load(data::ARCHITECTURE)];
    for numbers in &ARCHITECTURES {
        let block = part(numbers);
        let over = u8::try_from(block.len()).unwrap_or(u8::MAX);
        program.push(jump(BPF_JEQ, numbers.architecture, 0, over));
        program.extend(block);
    }
    program.push(answer(SECCOMP_RET_ALLOW));
    program
}

/// An error as the answer.
fn refused(errno: i32) -> sock_filter {
    answer(SECCOMP_RET_ERRNO | errno.cast_unsigned())
}

/// What types, of one architecture. Each way through it ends in an answer.
fn typing(numbers: &Numbers) -> [sock_filter; 9] {
    [
        load(data::NUMBER),
        statement(BPF_ALU | BPF_AND | BPF_K, !X32),
        jump(BPF_JEQ, numbers.ioctl, 1, 0),
        jump(BPF_JEQ, X32_IOCTL, 0, 3),
        load(data::REQUEST),
        jump(BPF_JEQ, TIOCSTI, 2, 0),
        jump(BPF_JEQ, TIOCLINUX, 1, 0),
        answer(SECCOMP_RET_ALLOW),
        refused(libc::EPERM),
    ]
}

/// What changes projects, of one architecture. Each way through it ends in an answer.
fn projects(numbers: &Numbers) -> [sock_filter; 11] {
    let [of_64, of_32] = FS_IOC_SETFLAGS;
    [
        load(data::NUMBER),
        statement(BPF_ALU | BPF_AND | BPF_K, !X32),
        jump(BPF_JEQ, FILE_SETATTR, 7, 0),
        jump(BPF_JEQ, numbers.ioctl, 1, 0),
        jump(BPF_JEQ, X32_IOCTL, 0, 4),
        load(data::REQUEST),
        jump(BPF_JEQ, FS_IOC_FSSETXATTR, 3, 0),
        jump(BPF_JEQ, of_64, 2, 0),
        jump(BPF_JEQ, of_32, 1, 0),
        answer(SECCOMP_RET_ALLOW),
        refused(libc::EPERM),
    ]
}

/// What makes user namespaces, of one architecture. Each way through it ends in an answer.
fn user_namespaces(numbers: &Numbers) -> [sock_filter; 10] {
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

    /// What a filter answers to a call, interpreted as the kernel does.
    fn answer_of(program: &[sock_filter], architecture: u32, number: u32, arguments: [u32; 2]) -> u32 {
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
                        data::FLAGS => arguments[0],
                        data::REQUEST => arguments[1],
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

    /// What the filter against user namespaces answers.
    fn verdict(architecture: u32, number: u32, flags: u32) -> u32 {
        answer_of(&without_user_namespaces(), architecture, number, [flags, 0])
    }

    #[test]
    fn typing_alone_is_refused_on_every_architecture() {
        let verdict = |arch, number, request| answer_of(&without_typing(), arch, number, [0, request]);
        let refused = SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
        let (window_size, get_modes) = (0x5413, 0x5401);
        for Numbers { architecture, ioctl, .. } in ARCHITECTURES {
            for (request, expected) in [
                (TIOCSTI, refused),
                (TIOCLINUX, refused),
                (window_size, SECCOMP_RET_ALLOW),
                (get_modes, SECCOMP_RET_ALLOW),
            ] {
                assert_eq!(verdict(architecture, ioctl, request), expected, "{architecture:#x} {request:#x}");
            }
            assert_eq!(verdict(architecture, ioctl + 1, TIOCSTI), SECCOMP_RET_ALLOW, "lseek(fd, 0x5412)");
        }
        assert_eq!(verdict(0xc000_003e, X32 | X32_IOCTL, TIOCSTI), refused, "x32");
        assert_eq!(verdict(0, 16, TIOCSTI), SECCOMP_RET_ALLOW, "no kernel of ours runs that");
        assert!(ARCHITECTURES.iter().any(|numbers| i64::from(numbers.ioctl) == libc::SYS_ioctl), "this very one");
    }

    #[test]
    fn changes_of_projects_alone_are_refused_on_every_architecture() {
        let verdict = |arch, number, request| answer_of(&without_projects(), arch, number, [0, request]);
        let refused = SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
        let (get_attributes, get_flags, clone_file) = (0x801c_581f, 0x8008_6601, 0x4004_9409);
        for Numbers { architecture, ioctl, .. } in ARCHITECTURES {
            for request in [FS_IOC_FSSETXATTR].into_iter().chain(FS_IOC_SETFLAGS) {
                assert_eq!(verdict(architecture, ioctl, request), refused, "{architecture:#x} {request:#x}");
                assert_eq!(verdict(architecture, ioctl + 1, request), SECCOMP_RET_ALLOW, "{architecture:#x}");
            }
            for request in [get_attributes, get_flags, clone_file, TIOCSTI] {
                assert_eq!(verdict(architecture, ioctl, request), SECCOMP_RET_ALLOW, "{architecture:#x} {request:#x}");
            }
            assert_eq!(verdict(architecture, FILE_SETATTR, 0), refused);
            assert_eq!(verdict(architecture, FILE_SETATTR - 1, 0), SECCOMP_RET_ALLOW, "file_getattr(2)");
        }
        assert_eq!(verdict(0xc000_003e, X32 | X32_IOCTL, FS_IOC_FSSETXATTR), refused, "x32");
        assert_eq!(verdict(0xc000_003e, X32 | FILE_SETATTR, 0), refused, "x32");
    }

    #[test]
    fn user_namespaces_alone_are_refused_on_every_architecture() {
        let (user, mount) = (libc::CLONE_NEWUSER.cast_unsigned(), libc::CLONE_NEWNS.cast_unsigned());
        let errno = |errno: i32| SECCOMP_RET_ERRNO | errno.cast_unsigned();
        for Numbers { architecture, unshare, clone, .. } in ARCHITECTURES {
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

    #[test]
    fn threads_alone_are_made_where_processes_are_refused() {
        let here = native().unwrap();
        let errno = |errno: i32| SECCOMP_RET_ERRNO | errno.cast_unsigned();
        let number = |call: libc::c_long| u32::try_from(call).unwrap();
        let verdict = |arch, call, flags| answer_of(&without_processes(arch), here, call, [flags, 0]);
        let (thread, vm) = (libc::CLONE_THREAD.cast_unsigned(), libc::CLONE_VM.cast_unsigned());
        assert_eq!(verdict(here, number(libc::SYS_clone), thread | vm), SECCOMP_RET_ALLOW);
        assert_eq!(verdict(here, number(libc::SYS_clone), vm), errno(libc::EPERM));
        assert_eq!(verdict(here, CLONE3, thread), errno(libc::ENOSYS));
        for call in [libc::SYS_execve, libc::SYS_execveat, libc::SYS_ptrace] {
            assert_eq!(verdict(here, number(call), thread), errno(libc::EPERM));
        }
        for call in [libc::SYS_read, libc::SYS_socket, libc::SYS_connect, libc::SYS_renameat2] {
            assert_eq!(verdict(here, number(call), 0), SECCOMP_RET_ALLOW);
        }
        assert_eq!(verdict(here + 1, number(libc::SYS_read), 0), errno(libc::EPERM), "another architecture");
    }
}
