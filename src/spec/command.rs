//! The launch command: what runs, from the spec's command and the image's Entrypoint and Cmd.

use super::Command;
use crate::image;

/// What an image says about its program; without an image, both are empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageCommand {
    /// `Entrypoint` of the image's configuration.
    pub entrypoint: Vec<String>,
    /// `Cmd` of the image's configuration.
    pub cmd: Vec<String>,
}

impl ImageCommand {
    /// What a configuration says of it.
    #[must_use]
    pub fn of(config: &image::Config) -> Self {
        Self { entrypoint: config.entrypoint.clone(), cmd: config.cmd.clone() }
    }
}

/// Why there is nothing to run: which of value, arguments, Entrypoint and Cmd is missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Neither spec nor image name a program.
    #[error(
        "no executable is found: `command.value` is missing, and {}{}",
        if *image { "the image has neither Entrypoint nor Cmd" } else { "there is no image with an Entrypoint or Cmd" },
        if *arguments { "; `command.arguments` alone name none" } else { "" }
    )]
    NoExecutable {
        /// Whether there are arguments, for which there is no program.
        arguments: bool,
        /// Whether there is an image, which says nothing.
        image: bool,
    },
    /// `shell = true` without a command line.
    #[error(
        "no command line is found: `command.shell` is true, which is the default, and `command.value` is missing{}",
        if *arguments { "; `command.arguments` are not the shell's" } else { "" }
    )]
    NoShellValue {
        /// Whether there are arguments, which a shell is not given.
        arguments: bool,
    },
}

impl CommandError {
    /// What to do.
    #[must_use]
    pub fn cure(&self) -> &'static str {
        match self {
            Self::NoShellValue { arguments: true } => "write value, or, for the program of an image, shell = false",
            _ => "write command = [\"/path/to/program\", \"argument\"]",
        }
    }
}

/// Whether a command leaves it to an image what is executed.
#[must_use]
pub fn is_left_to_image(command: &Command) -> bool {
    !command.shell && command.value.is_none()
}

/// Mesos's table of 32 cells (mesos.md §9): `shell` × `value` × `arguments` × Entrypoint × Cmd.
///
/// Two cells are better than there: a value alone gets an `argv[0]`, and the shell is `/bin/sh`, not a search for an
/// `sh` that a file in the working directory could win.
///
/// # Errors
///
/// When neither the spec nor the image name anything to run.
pub fn resolve(command: &Command, image: Option<&ImageCommand>) -> Result<(String, Vec<String>), CommandError> {
    let Command { shell, value, arguments } = command;
    match (shell, value) {
        (true, None) => Err(CommandError::NoShellValue { arguments: !arguments.is_empty() }),
        (true, Some(value)) => Ok(("/bin/sh".into(), vec!["sh".into(), "-c".into(), value.clone()])),
        (false, Some(value)) if arguments.is_empty() => Ok((value.clone(), vec![value.clone()])),
        (false, Some(value)) => Ok((value.clone(), arguments.clone())),
        (false, None) => {
            let argv = image.map(|image| of_image(arguments, image)).unwrap_or_default();
            let nothing = CommandError::NoExecutable { arguments: !arguments.is_empty(), image: image.is_some() };
            let executable = argv.first().cloned().ok_or(nothing)?;
            Ok((executable, argv))
        }
    }
}

/// The image's program, none if it has none: `arguments` of the spec stand in for Cmd's.
fn of_image(arguments: &[String], image: &ImageCommand) -> Vec<String> {
    let (ImageCommand { entrypoint, cmd }, given) = (image, !arguments.is_empty());
    match (entrypoint.first(), cmd.first()) {
        (None, None) => Vec::new(),
        (Some(_), _) => [entrypoint.as_slice(), if given { arguments } else { cmd.as_slice() }].concat(),
        (None, Some(program)) if given => [std::slice::from_ref(program), arguments].concat(),
        (None, Some(_)) => cmd.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a cell gives: executable and argv, or an error.
    type Cell = Result<(&'static str, &'static [&'static str]), CommandError>;

    /// Rows: shell, value, arguments. Columns: E0 C0, E0 C1, E1 C0, E1 C1.
    fn table() -> [((bool, bool, bool), [Cell; 4]); 8] {
        let none = |arguments| Err(CommandError::NoExecutable { arguments, image: true });
        let shell = |arguments| Err(CommandError::NoShellValue { arguments });
        let value = || Ok(("V", ["V"].as_slice()));
        let argued = || Ok(("V", ["a0", "a1"].as_slice()));
        let sh = || Ok(("/bin/sh", ["sh", "-c", "V"].as_slice()));
        [
            (
                (false, false, false),
                [
                    none(false),
                    Ok(("c0", &["c0", "c1"])),
                    Ok(("e0", &["e0", "e1"])),
                    Ok(("e0", &["e0", "e1", "c0", "c1"])),
                ],
            ),
            (
                (false, false, true),
                [
                    none(true),
                    Ok(("c0", &["c0", "a0", "a1"])),
                    Ok(("e0", &["e0", "e1", "a0", "a1"])),
                    Ok(("e0", &["e0", "e1", "a0", "a1"])),
                ],
            ),
            ((false, true, false), [value(), value(), value(), value()]),
            ((false, true, true), [argued(), argued(), argued(), argued()]),
            ((true, false, false), [shell(false), shell(false), shell(false), shell(false)]),
            ((true, false, true), [shell(true), shell(true), shell(true), shell(true)]),
            ((true, true, false), [sh(), sh(), sh(), sh()]),
            ((true, true, true), [sh(), sh(), sh(), sh()]),
        ]
    }

    #[test]
    fn all_32_cells() {
        let words = |present: bool, words: [&str; 2]| if present { words.map(str::to_owned).to_vec() } else { vec![] };
        for ((shell, value, arguments), cells) in table() {
            let command =
                Command { shell, value: value.then(|| "V".into()), arguments: words(arguments, ["a0", "a1"]) };
            for (column, expected) in cells.into_iter().enumerate() {
                let image = ImageCommand {
                    entrypoint: words(column & 2 != 0, ["e0", "e1"]),
                    cmd: words(column & 1 != 0, ["c0", "c1"]),
                };
                let expected = expected.map(|(program, argv)| {
                    (program.to_owned(), argv.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
                });
                assert_eq!(resolve(&command, Some(&image)), expected, "{command:?} {image:?}");
            }
        }
    }

    #[test]
    fn errors_name_what_is_missing() {
        let error = |shell, arguments: &[&str], image: Option<&ImageCommand>| {
            let arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
            resolve(&Command { shell, value: None, arguments }, image).unwrap_err().to_string()
        };
        let silent = ImageCommand::default();
        for (said, words) in [
            (
                error(false, &[], Some(&silent)),
                ["`command.value` is missing", "the image has neither Entrypoint nor Cmd"],
            ),
            (
                error(false, &["a"], Some(&silent)),
                ["neither Entrypoint nor Cmd", "`command.arguments` alone name none"],
            ),
            (error(false, &[], None), ["`command.value` is missing", "there is no image"]),
            (error(true, &[], Some(&silent)), ["`command.shell` is true", "`command.value` is missing"]),
            (error(true, &["a"], None), ["`command.value` is missing", "`command.arguments` are not the shell's"]),
        ] {
            assert!(words.iter().all(|word| said.contains(word)), "{said}");
        }
    }
}
