//! The launch command: what runs, from the spec's command and the image's Entrypoint and Cmd.

use super::Command;

/// What an image says about its program; without an image, both are empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageCommand {
    /// `Entrypoint` of the image's configuration.
    pub entrypoint: Vec<String>,
    /// `Cmd` of the image's configuration.
    pub cmd: Vec<String>,
}

/// Why there is nothing to run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Neither spec nor image name a program.
    #[error("no executable is found: `command` names none, and there is no image with an Entrypoint or Cmd")]
    NoExecutable,
    /// `shell = true` without a command line.
    #[error("the shell is asked for, but `command.value` is not there to be run")]
    NoShellValue,
}

/// Mesos's table of 32 cells (mesos.md §9): `shell` × `value` × `arguments` × Entrypoint × Cmd.
///
/// Two cells are better than there: a value alone gets an `argv[0]`, and the shell is `/bin/sh`, not a search for an
/// `sh` that a file in the working directory could win.
///
/// # Errors
///
/// When neither the spec nor the image name anything to run.
pub fn resolve(command: &Command, image: &ImageCommand) -> Result<(String, Vec<String>), CommandError> {
    let Command { shell, value, arguments } = command;
    match (shell, value) {
        (true, None) => Err(CommandError::NoShellValue),
        (true, Some(value)) => Ok(("/bin/sh".into(), vec!["sh".into(), "-c".into(), value.clone()])),
        (false, Some(value)) if arguments.is_empty() => Ok((value.clone(), vec![value.clone()])),
        (false, Some(value)) => Ok((value.clone(), arguments.clone())),
        (false, None) => of_image(arguments, image),
    }
}

/// The image's program: `arguments` of the spec stand in for Cmd's.
fn of_image(arguments: &[String], image: &ImageCommand) -> Result<(String, Vec<String>), CommandError> {
    let (ImageCommand { entrypoint, cmd }, given) = (image, !arguments.is_empty());
    let argv = match (entrypoint.first(), cmd.first()) {
        (None, None) => return Err(CommandError::NoExecutable),
        (Some(_), _) => [entrypoint.as_slice(), if given { arguments } else { cmd.as_slice() }].concat(),
        (None, Some(program)) if given => [std::slice::from_ref(program), arguments].concat(),
        (None, Some(_)) => cmd.clone(),
    };
    let executable = argv.first().cloned().ok_or(CommandError::NoExecutable)?;
    Ok((executable, argv))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a cell gives: executable and argv, or an error.
    type Cell = Result<(&'static str, &'static [&'static str]), CommandError>;

    /// Rows: shell, value, arguments. Columns: E0 C0, E0 C1, E1 C0, E1 C1.
    fn table() -> [((bool, bool, bool), [Cell; 4]); 8] {
        let none = || Err(CommandError::NoExecutable);
        let shell = || Err(CommandError::NoShellValue);
        let value = || Ok(("V", ["V"].as_slice()));
        let argued = || Ok(("V", ["a0", "a1"].as_slice()));
        let sh = || Ok(("/bin/sh", ["sh", "-c", "V"].as_slice()));
        [
            (
                (false, false, false),
                [none(), Ok(("c0", &["c0", "c1"])), Ok(("e0", &["e0", "e1"])), Ok(("e0", &["e0", "e1", "c0", "c1"]))],
            ),
            (
                (false, false, true),
                [
                    none(),
                    Ok(("c0", &["c0", "a0", "a1"])),
                    Ok(("e0", &["e0", "e1", "a0", "a1"])),
                    Ok(("e0", &["e0", "e1", "a0", "a1"])),
                ],
            ),
            ((false, true, false), [value(), value(), value(), value()]),
            ((false, true, true), [argued(), argued(), argued(), argued()]),
            ((true, false, false), [shell(), shell(), shell(), shell()]),
            ((true, false, true), [shell(), shell(), shell(), shell()]),
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
                assert_eq!(resolve(&command, &image), expected, "{command:?} {image:?}");
            }
        }
    }
}
