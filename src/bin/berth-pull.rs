//! `berth-pull --directory DIR …`: fetches an image from a registry. See berth-pull(8) and `berth::pull`.

use std::{
    io::{self, BufRead as _, Read as _, Write as _},
    process::ExitCode,
    sync::{Mutex, PoisonError},
    thread,
};

use berth::pull::{self, Cause, Confinement, Event, MAX_LINE, Place, PullError, Request};
use clap::Parser;

/// Fetches an image from a registry into an OCI layout. Not for people: berthctl pull does it
///
/// One request in JSON is read from standard input; events in JSON go to standard output, one a line. When standard
/// input ends, so does it.
#[derive(Debug, Parser)]
#[command(name = "berth-pull", version)]
struct Arguments {
    /// Where the layout is made
    #[arg(long, value_name = "DIR", requires = "parent", required_unless_present = "connection")]
    directory: Option<std::path::PathBuf>,
    /// As whom to work, in numbers
    #[arg(long, value_name = "UID:GID", value_parser = user)]
    user: Option<(u32, u32)>,
    /// The process that started this, and with which this ends
    #[arg(long, value_name = "PID")]
    parent: Option<u32>,
    /// Standard input and output are a socket, whose other side sends the directory first: berth-pull@.service
    #[arg(long, conflicts_with_all = ["directory", "user", "parent"])]
    connection: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let place = match (arguments.directory, arguments.parent) {
        (Some(directory), Some(parent)) => Place::Child { directory, parent },
        _ => Place::Connection,
    };
    let confinement = Confinement { user: arguments.user, place };
    let outcome = pull::confine(&confinement)
        .and_then(|()| read())
        .map_err(|message| PullError { cause: Cause::Local, message, again: None })
        .and_then(|request| pull::work(request, &say));
    let (last, status) = match outcome {
        Ok(event) => (event, ExitCode::SUCCESS),
        Err(PullError { cause, message, .. }) => (Event::Failed { cause, message }, ExitCode::FAILURE),
    };
    say(last);
    status
}

/// `UID:GID`.
fn user(text: &str) -> Result<(u32, u32), String> {
    let numbers = text.split_once(':').and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
    numbers.ok_or_else(|| "it wants two numbers: UID:GID".to_owned())
}

/// Reads the request; from then on, the end of the input ends the process.
fn read() -> Result<Request, String> {
    let mut line = Vec::new();
    let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
    let read = io::stdin().lock().take(limit).read_until(b'\n', &mut line);
    read.map_err(|error| format!("cannot read the request: {error}"))?;
    // An error of serde_json's names the place, and of what is there no more than a word.
    let request = serde_json::from_slice(&line)
        .map_err(|error| format!("cannot understand the request: it is wrong at column {}", error.column()))?;
    thread::spawn(|| {
        // Whatever comes or fails: nobody waits for us any more.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        std::process::exit(1);
    });
    Ok(request)
}

/// Says one thing. Where nobody hears it, nobody waits.
fn say(event: Event) {
    /// One line at a time.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let Ok(mut line) = serde_json::to_vec(&event) else { return };
    line.push(b'\n');
    let mut out = io::stdout().lock();
    if out.write_all(&line).and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}
