//! `berth-launch NAME`: the `ExecStart=` of `berth@NAME.service`; with `--stop`, its `ExecStop=`.

use std::{
    env,
    io::{self, Write},
    process::ExitCode,
};

use berth::{
    launch::{self, Launch, ListenFds, stop},
    root::Root,
    spec::{Name, Signal},
};

/// What it is, on request.
const HELP: &str = "\
Starts a container that berthd has planned. Not for people: systemctl start berth@NAME does it.

Usage: berth-launch NAME
       berth-launch --stop NAME [SIGNAL]

With --stop, kills $MAINPID if it is a container's first process that SIGNAL would be lost on
(default: $BERTH_STOP_SIGNAL, else SIGTERM); one that takes it is left to the service manager.

Environment: INVOCATION_ID, NOTIFY_SOCKET, LISTEN_FDS as the service manager sets them;
BERTH_SOCKET and BERTH_ROOT for tests.
";

/// The exit status of a wrong command line.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let status = match words[..] {
        ["--help" | "-h"] => print(HELP),
        ["--version" | "-V"] => print(concat!("berth-launch ", env!("CARGO_PKG_VERSION"), "\n")),
        ["--stop", name] => stop(name, ""),
        ["--stop", name, signal] => stop(name, signal),
        [name] if !name.starts_with('-') => start(name),
        _ => refuse("usage: berth-launch NAME | --stop NAME [SIGNAL] | --help | --version"),
    };
    ExitCode::from(status)
}

/// `berth-launch NAME`.
fn start(name: &str) -> u8 {
    match name.parse::<Name>() {
        Err(error) => refuse(&error.to_string()),
        Ok(container) => launch::run(&Launch {
            container,
            invocation: env::var("INVOCATION_ID").unwrap_or_default(),
            socket: env::var_os("BERTH_SOCKET").map_or_else(|| root().socket(), Into::into),
            listen: ListenFds::from_environment(),
        }),
    }
}

/// `berth-launch --stop NAME [SIGNAL]`.
fn stop(name: &str, signal: &str) -> u8 {
    let default = env::var("BERTH_STOP_SIGNAL").unwrap_or_default();
    let signal = match [signal, &default].into_iter().find(|text| !text.is_empty()) {
        Some(text) => stop::parse_signal(text).ok_or_else(|| format!("'{text}' is not a signal")),
        None => Ok(Signal::TERM),
    };
    let signal = match (name.parse::<Name>(), signal) {
        (Ok(_), Ok(signal)) => signal,
        (Err(error), _) => return refuse(&error.to_string()),
        (_, Err(error)) => return refuse(&error),
    };
    let main_pid = env::var("MAINPID").ok().and_then(|pid| pid.parse().ok());
    match stop::run(main_pid, signal) {
        Ok(()) => 0,
        Err(error) => say(&format!("berth: {name}: stop: {error}"), 1),
    }
}

/// Where things lie.
fn root() -> Root {
    env::var_os("BERTH_ROOT").map_or_else(Root::default, Root::new)
}

/// Prints on stdout.
fn print(text: &str) -> u8 {
    u8::from(io::stdout().write_all(text.as_bytes()).is_err())
}

/// A wrong command line.
fn refuse(message: &str) -> u8 {
    say(&format!("berth-launch: {message}"), USAGE)
}

/// Says a line on stderr, and gives the exit status.
fn say(message: &str, status: u8) -> u8 {
    // Nobody is left to be told that stderr is closed.
    drop(writeln!(io::stderr(), "{message}"));
    status
}
