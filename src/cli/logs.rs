//! `logs`: what a container has written: the journal's under systemd, a file elsewhere.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    CliError, Context, Exit, follow,
    known::{self, Known},
    name,
};
use crate::{manager::Kind, spec::Name};

/// Lines that `-f` begins with, as in journalctl(1).
const FOLLOW_LINES: u64 = 10;

/// Bytes that are read at once.
const BLOCK: u64 = 64 << 10;

/// Arguments of `logs`.
#[derive(Debug, clap::Args)]
pub struct LogsArgs {
    /// The container, by name or unit
    #[arg(value_parser = name)]
    pub name: Name,
    /// Go on as the container writes; begins with the last 10 lines
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last N lines
    #[arg(short = 'n', long, value_name = "N")]
    pub lines: Option<u64>,
    /// Only what is newer, as journalctl has it: "10min ago", "today" (with systemd only)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
}

/// Runs the verb.
///
/// # Errors
/// There is no such container, its log cannot be read, or the output cannot be written.
pub fn run(cx: &Context, args: &LogsArgs, out: &mut dyn Write) -> Result<Exit, CliError> {
    let known = known::read(&cx.root).ok();
    if let Some(known) = known.as_ref().filter(|known| known.is_unknown(&cx.root, &args.name)) {
        return Err(known.no_such(&args.name));
    }
    match known::manager(&cx.root, known.as_ref()) {
        Kind::Systemd => journal(cx, args, out),
        Kind::Direct if args.since.is_some() => Err(CliError::SinceWithoutJournal),
        Kind::Direct => file(&path(cx, known.as_ref(), &args.name), args, out),
    }
}

/// Becomes journalctl(1); returns only if that fails.
fn journal(cx: &Context, args: &LogsArgs, out: &mut dyn Write) -> Result<Exit, CliError> {
    out.flush()?;
    let mut journalctl = Command::new("journalctl");
    journalctl.arg("-u").arg(args.name.unit());
    if args.follow {
        journalctl.arg("-f");
    }
    if let Some(lines) = args.lines {
        journalctl.arg("-n").arg(lines.to_string());
    }
    if let Some(since) = &args.since {
        journalctl.arg(format!("--since={since}"));
    }
    if cx.json {
        journalctl.args(["-o", "json"]);
    }
    Err(CliError::Tool { program: "journalctl", error: journalctl.exec() })
}

/// Where the log lies.
fn path(cx: &Context, known: Option<&Known>, name: &Name) -> PathBuf {
    let told = known.and_then(|known| known.container(name)).and_then(|container| container.log.as_ref());
    told.map_or_else(|| cx.root.log(name), PathBuf::clone)
}

/// Shows a log file.
fn file(path: &Path, args: &LogsArgs, out: &mut dyn Write) -> Result<Exit, CliError> {
    let failed = |error| CliError::Log { path: path.display().to_string(), error };
    let mut log = File::open(path).map_err(failed)?;
    let lines = args.lines.or(args.follow.then_some(FOLLOW_LINES));
    if let Some(lines) = lines {
        let start = start_of_last(&mut log, lines).map_err(failed)?;
        log.seek(SeekFrom::Start(start)).map_err(failed)?;
    }
    io::copy(&mut log, out)?;
    if args.follow {
        follow::follow(path, log, out)?;
    }
    Ok(Exit::Ok)
}

/// Where the last `lines` lines begin. A last line without an end counts.
fn start_of_last(log: &mut File, lines: u64) -> io::Result<u64> {
    let length = log.metadata()?.len();
    if lines == 0 {
        return Ok(length);
    }
    let (mut end, mut left) = (length, lines);
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        let mut block = Vec::new();
        log.seek(SeekFrom::Start(start))?;
        log.take(end - start).read_to_end(&mut block)?;
        for (index, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let after = start + index as u64 + 1;
            if after == length {
                continue;
            }
            left -= 1;
            if left == 0 {
                return Ok(after);
            }
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `-n lines` shows of `text`.
    fn last(text: &str, lines: u64) -> String {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let start = usize::try_from(start_of_last(&mut file, lines).unwrap()).unwrap();
        text[start..].to_owned()
    }

    #[test]
    fn the_last_lines() {
        assert_eq!(last("a\nb\nc\n", 2), "b\nc\n");
        assert_eq!(last("a\nb\nc", 2), "b\nc");
        assert_eq!(last("a\nb\n", 5), "a\nb\n");
        assert_eq!(last("a\nb\n", 0), "");
        assert_eq!(last("", 3), "");
        assert_eq!(last("\n\n\n", 2), "\n\n");
        let long = "x".repeat(200_000);
        assert_eq!(last(&format!("a\n{long}\nb\n"), 2), format!("{long}\nb\n"));
    }
}
