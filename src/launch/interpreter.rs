//! What interprets a program: the `#!` line of a script, the dynamic loader of an ELF file.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// The program that the kernel runs in a program's stead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Interpreter {
    /// Of a script.
    Script(PathBuf),
    /// Of a dynamically linked program.
    Elf(PathBuf),
}

impl Interpreter {
    /// Its file.
    pub fn path(&self) -> &Path {
        let (Self::Script(path) | Self::Elf(path)) = self;
        path
    }
}

/// The longest `#!` line that the kernel reads (`BINPRM_BUF_SIZE`).
const LONGEST_LINE: usize = 256;
/// Program header type of the loader's path (elf(5)).
const PT_INTERP: u64 = 3;

/// The interpreter of the program that begins with `head`; none where there is none, or none can be told.
pub(super) fn of(head: &[u8]) -> Option<Interpreter> {
    if let Some(line) = head.strip_prefix(b"#!") {
        script(line).map(|path| Interpreter::Script(path.to_owned()))
    } else {
        elf(head).map(|path| Interpreter::Elf(path.to_owned()))
    }
}

/// The first word of a `#!` line.
fn script(line: &[u8]) -> Option<&Path> {
    let line = &line[..line.len().min(LONGEST_LINE - 2)];
    let line = line.split(|byte| matches!(byte, b'\n' | 0)).next()?;
    let word = line.split(|byte| matches!(byte, b' ' | b'\t')).find(|word| !word.is_empty())?;
    Some(Path::new(OsStr::from_bytes(word)))
}

/// The loader that an ELF file names (elf(5)). Bytes of strangers: every offset is checked by `get`.
fn elf(head: &[u8]) -> Option<&Path> {
    let wide = match head.get(..5)? {
        b"\x7fELF\x02" => true,
        b"\x7fELF\x01" => false,
        _ => return None,
    };
    let number = Numbers { head, big_endian: *head.get(5)? == 2 };
    // Where e_phoff, e_phentsize and e_phnum are; and in each header p_offset and p_filesz.
    let [table, entry_size, entries] = if wide { [(32, 8), (54, 2), (56, 2)] } else { [(28, 4), (42, 2), (44, 2)] };
    let [offset, size] = if wide { [(8, 8), (32, 8)] } else { [(4, 4), (16, 4)] };
    let table = number.at(0, table)?;
    let entry_size = number.at(0, entry_size)?;
    for index in 0..number.at(0, entries)? {
        let entry = table.checked_add(index.checked_mul(entry_size)?)?;
        if number.at(entry, (0, 4))? == PT_INTERP {
            let start = usize::try_from(number.at(entry, offset)?).ok()?;
            let end = start.checked_add(usize::try_from(number.at(entry, size)?).ok()?)?;
            let path = head.get(start..end)?.split(|byte| *byte == 0).next()?;
            return (!path.is_empty()).then(|| Path::new(OsStr::from_bytes(path)));
        }
    }
    None
}

/// The numbers in a file.
struct Numbers<'a> {
    /// Its beginning.
    head: &'a [u8],
    /// Their byte order.
    big_endian: bool,
}

impl Numbers<'_> {
    /// The one of `width` bytes, `offset` after `base`.
    fn at(&self, base: u64, (offset, width): (u64, usize)) -> Option<u64> {
        let start = usize::try_from(base.checked_add(offset)?).ok()?;
        let bytes = self.head.get(start..start.checked_add(width)?)?;
        let push = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Some(if self.big_endian { bytes.iter().fold(0, push) } else { bytes.iter().rev().fold(0, push) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn scripts_name_their_interpreter() {
        let long = format!("#!/{}", "x".repeat(300));
        let cut = format!("/{}", "x".repeat(253));
        let table: [(&[u8], Option<&str>); 8] = [
            (b"#!/bin/sh\n", Some("/bin/sh")),
            (b"#! \t/usr/bin/env python3 -u\n", Some("/usr/bin/env")),
            (b"#!/bin/sh", Some("/bin/sh")),
            (b"#!/bin/sh\r\n", Some("/bin/sh\r")),
            (b"#!\n/bin/sh", None),
            (b"#!", None),
            (b"echo hello\n", None),
            (long.as_bytes(), Some(&cut)),
        ];
        for (head, expected) in table {
            assert_eq!(of(head), expected.map(|path| Interpreter::Script(path.into())), "{head:?}");
        }
    }

    #[test]
    fn a_real_program_names_its_loader() {
        let head = std::fs::read("/bin/true").unwrap();
        let Some(Interpreter::Elf(loader)) = of(&head[..8192.min(head.len())]) else { panic!("no loader") };
        assert!(loader.exists() && loader.to_string_lossy().contains("ld"), "{loader:?}");
    }

    #[test]
    fn an_elf_file_of_the_other_width_and_order_is_read() {
        let mut head = vec![0; 128];
        head[..6].copy_from_slice(b"\x7fELF\x01\x02");
        head[28..32].copy_from_slice(&52_u32.to_be_bytes());
        head[42..44].copy_from_slice(&32_u16.to_be_bytes());
        head[44..46].copy_from_slice(&1_u16.to_be_bytes());
        head[52..56].copy_from_slice(&3_u32.to_be_bytes());
        head[56..60].copy_from_slice(&100_u32.to_be_bytes());
        head[68..72].copy_from_slice(&6_u32.to_be_bytes());
        head[100..106].copy_from_slice(b"/ld.1\0");
        assert_eq!(of(&head), Some(Interpreter::Elf("/ld.1".into())));
        head[68..72].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(of(&head), None);
    }

    proptest! {
        #[test]
        fn hostile_bytes_do_no_harm(tail in proptest::collection::vec(any::<u8>(), 0..512), class in 0..4_u8) {
            let mut head = b"\x7fELF".to_vec();
            head.push(class);
            head.extend(tail);
            let _ = of(&head);
        }

        #[test]
        fn hostile_offsets_do_no_harm(table: u64, size: u16, count: u16, seed in proptest::collection::vec(any::<u8>(), 256)) {
            let mut head = seed;
            head[..6].copy_from_slice(b"\x7fELF\x02\x01");
            head[32..40].copy_from_slice(&table.to_le_bytes());
            head[54..56].copy_from_slice(&size.to_le_bytes());
            head[56..58].copy_from_slice(&count.to_le_bytes());
            let _ = of(&head);
        }
    }
}
