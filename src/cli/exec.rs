//! `exec`: runs a program in a running container; the tool ends as the program does.

use std::{ffi::OsString, path::PathBuf};

use super::{CliError, Context, Exit, name};
use crate::{
    launch::enter::{self, End, Entry},
    protocol::{Failure, Stage},
    source::Complaint,
    spec::{Identity, Name, words::UserWord},
};

/// Exit status where nothing was run, as env(1) has it.
const NOT_RUN: u8 = 125;
/// Exit status where the program is there and cannot be executed, as shells and env(1) have it.
const NOT_EXECUTABLE: u8 = 126;
/// Exit status where there is no such program, as shells and env(1) have it.
const NOT_FOUND: u8 = 127;

/// Arguments of `exec`.
#[derive(Debug, clap::Args)]
pub struct ExecArgs {
    /// A variable beside the container's own, or in place of one of them; may be repeated
    #[arg(short, long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    pub environment: Vec<(String, String)>,
    /// Whom the program runs as, by name or number, with that user's groups; default: as the container's own
    #[arg(short, long, value_name = "USER[:GROUP]", value_parser = user)]
    pub user: Option<UserWord>,
    /// Where the program starts; default: where the container's own did
    #[arg(short, long, value_name = "DIR", value_parser = directory)]
    pub workdir: Option<PathBuf>,
    /// The container, by name or unit
    #[arg(value_parser = name)]
    pub name: Name,
    /// The program, a path or a name for the container's PATH, and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Runs the verb.
///
/// # Errors
/// The program was not run.
pub fn run(cx: &Context, args: &ExecArgs) -> Result<Exit, CliError> {
    if cx.json {
        return Err(CliError::ExecJson);
    }
    match enter(cx, args) {
        Ok(End { status, with_container }) => {
            if with_container {
                cx.note(&format!("'{}' has ended, and the program with it", args.name));
            }
            Ok(Exit::Program(status))
        }
        Err(failure) => Err(CliError::Exec { status: status(&failure), message: failure.message }),
    }
}

/// The program's whole life.
fn enter(cx: &Context, args: &ExecArgs) -> Result<End, Failure> {
    let refuse = |stage, message: String| Failure { stage, errno: None, path: None, message };
    if !nix::unistd::geteuid().is_root() {
        return Err(refuse(Stage::Confine, format!("cannot enter '{}': only root can; use sudo", args.name)));
    }
    if args.command.first().is_none_or(|program| program.to_str().is_none()) {
        return Err(refuse(Stage::Program, "the program's name is no UTF-8".to_owned()));
    }
    enter::withdraw()?;
    // The terminal is the caller's, and so is its kind.
    let term = std::env::var("TERM").ok().map(|term| ("TERM".to_owned(), term));
    enter::run(&Entry {
        container: args.name.clone(),
        socket: cx.root.socket(),
        command: args.command.clone(),
        identity: args.user.as_ref().map(identity),
        account: None,
        directory: args.workdir.clone(),
        environment: term.into_iter().chain(args.environment.iter().cloned()).collect(),
    })
}

/// Whom `--user` means, as a spec's `user` is meant.
fn identity(word: &UserWord) -> Identity {
    Identity { user: Some(word.user.clone()), group: word.group.clone(), supplementary_groups: Vec::new() }
}

/// How the tool ends where the program was not run.
fn status(failure: &Failure) -> u8 {
    match (failure.stage, failure.errno) {
        (Stage::Program, Some(libc::ENOENT)) => NOT_FOUND,
        (Stage::Program, Some(_)) => NOT_EXECUTABLE,
        _ => NOT_RUN,
    }
}

/// A variable on the command line.
fn variable(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a variable is NAME=VALUE"),
    }
}

/// A user on the command line.
fn user(text: &str) -> Result<UserWord, String> {
    text.parse().map_err(|complaint: Complaint| complaint.message)
}

/// A directory on the command line. One of this process's own is none of the container's.
fn directory(text: &str) -> Result<PathBuf, &'static str> {
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err("the directory is the container's, so its path must be absolute") }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Verb};

    /// The arguments of a command line, or clap's complaint.
    fn parse(words: &[&str]) -> Result<(ExecArgs, bool), String> {
        let all = ["berthctl", "exec"].iter().chain(words);
        let cli = Cli::try_parse_from(all).map_err(|error| error.to_string())?;
        match cli.verb {
            Verb::Exec(args) => Ok((args, cli.global.json)),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn options_end_where_the_command_begins() {
        for words in [
            &["web", "ls", "-l", "--json", "-u", "x"][..],
            &["web", "--", "ls", "-l", "--json", "-u", "x"],
            &["--", "berth@web.service", "ls", "-l", "--json", "-u", "x"],
        ] {
            let (args, json) = parse(words).unwrap();
            assert_eq!((args.name.as_str(), json), ("web", false), "{words:?}");
            assert_eq!(args.command, ["ls", "-l", "--json", "-u", "x"], "{words:?}");
            assert_eq!(args.user, None, "{words:?}");
        }
        let (args, json) =
            parse(&["-e", "A=1=2", "--env=B=", "web", "-u", "0:adm", "-w", "/srv", "--json", "ls"]).unwrap();
        assert_eq!((args.command, json), (vec![OsString::from("ls")], true));
        assert_eq!(args.environment, [("A".to_owned(), "1=2".to_owned()), ("B".to_owned(), String::new())]);
        assert_eq!((args.user, args.workdir), ("0:adm".parse().ok(), Some("/srv".into())));
        assert_eq!(parse(&["web", "--", "--", "-x"]).unwrap().0.command, ["--", "-x"]);
    }

    #[test]
    fn what_is_wrong_is_said_before_anything_is_done() {
        for (words, says) in [
            (&[][..], "required arguments"),
            (&["web"], "<COMMAND>..."),
            (&["../web", "ls"], "../web"),
            (&["-e", "A", "web", "ls"], "a variable is NAME=VALUE"),
            (&["-e", "=1", "web", "ls"], "a variable is NAME=VALUE"),
            (&["-w", "srv", "web", "ls"], "must be absolute"),
            (&["-u", "a:b:c", "web", "ls"], "is no group's name"),
            (&["-x", "web", "ls"], "unexpected argument '-x'"),
        ] {
            let said = parse(words).unwrap_err();
            assert!(said.contains(says), "{words:?}: {said}");
        }
    }

    #[test]
    fn failures_are_told_apart_by_the_status() {
        let failure = |stage, errno| Failure { stage, errno, path: None, message: String::new() };
        for (stage, errno, expected) in [
            (Stage::Program, Some(libc::ENOENT), 127),
            (Stage::Program, Some(libc::EACCES), 126),
            (Stage::Program, Some(libc::ENOEXEC), 126),
            (Stage::Program, None, 125),
            (Stage::Directory, Some(libc::ENOENT), 125),
            (Stage::Connect, None, 125),
        ] {
            assert_eq!(status(&failure(stage, errno)), expected, "{stage:?} {errno:?}");
        }
    }
}
