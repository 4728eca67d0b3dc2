//! Writes the man pages and shell completions of `berthctl` below a directory: `man/*.1`, `completions/*`.
//!
//! They come from the same definition as `--help`, so none of the three can be wrong alone.

use std::{env, error::Error, fs, path::PathBuf};

use clap_complete::{Shell, generate_to};

/// Entry: `generate DIR`.
fn main() -> Result<(), Box<dyn Error>> {
    let directory = env::args_os().nth(1).map(PathBuf::from).ok_or("usage: generate DIR")?;
    let (man, completions) = (directory.join("man"), directory.join("completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    let command = berth::cli::command();
    clap_mangen::generate_to(command.clone().disable_help_subcommand(true), &man)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command.clone(), "berthctl", &completions)?;
    }
    Ok(())
}
