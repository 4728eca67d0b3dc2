//! The operator's tool; see `berth::cli`. The only printer of its errors.

use std::{
    io::{self, BufWriter, Write},
    process::ExitCode,
};

use berth::cli::{self, Cli, CliError, Context, Exit, style};
use clap::Parser as _;

/// Entry.
fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = BufWriter::new(io::stdout().lock());
    let cx = Context::new(&cli.global);
    let done = cli::run(&cx, &cli.verb, &mut out);
    // What was shown before an error is shown all the same.
    let flushed = out.flush().map_err(CliError::Output);
    match done.and_then(|exit| flushed.map(|()| exit)) {
        Ok(exit) => exit.into(),
        Err(error) => report(&error).into(),
    }
}

/// Says what went wrong, each error in a line.
fn report(error: &CliError) -> Exit {
    let mut err = io::stderr().lock();
    let lines = error.lines();
    for line in &lines {
        // Nobody is left to be told where stderr is gone.
        let _ = writeln!(err, "berthctl: {}", style::plain(line));
    }
    if lines.is_empty() { Exit::Ok } else { error.exit() }
}
