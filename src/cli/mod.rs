//! The operator's tool, `berthctl`: one verb a file.
//!
//! Reading goes to the state file and needs no daemon; deeds go to systemd where it manages the containers, and to
//! berthd's socket elsewhere. A verb writes to the writer it is given and returns how the tool ends.

/// `cat`.
pub mod cat;
/// `check`.
pub mod check;
/// What is said on berthd's socket, from the asking side.
pub mod client;
/// `start`, `stop`, `restart`.
pub mod control;
/// `doctor`.
pub mod doctor;
/// What can go wrong.
pub mod error;
/// `exec`.
pub mod exec;
/// How it ends.
pub mod exit;
/// `fetch`.
pub mod fetch;
/// A container's files, as the offline verbs read them.
mod files;
/// Following a log file.
mod follow;
/// `images`, `image`, `pull`, `rmi`, `prune`.
pub mod images;
/// The state file, and how true it still is.
pub mod known;
/// `list`.
pub mod list;
/// `logs`.
pub mod logs;
/// `net`.
pub mod net;
/// Facts as a few words.
mod phrase;
/// `plan`.
pub mod plan;
/// `reload`.
pub mod reload;
/// `status`.
pub mod status;
/// Colours and widths.
pub mod style;
/// `update`, `rollback`.
pub mod update;

use std::{
    io::{self, Write},
    path::PathBuf,
    time::SystemTime,
};

use clap::{Args, CommandFactory as _, Parser, Subcommand};

pub use error::CliError;
pub use exit::Exit;

use crate::{protocol, root::Root, spec::Name};
use style::{ColorChoice, Style};

/// Shows and directs the containers that berth runs as systemd services.
///
/// A container is a file /etc/berth/containers/NAME.toml and a unit berth@NAME.service; systemctl and journalctl work
/// on that unit as on any other.
#[derive(Debug, Parser)]
#[command(name = "berthctl", version, after_long_help = exit::HELP)]
pub struct Cli {
    /// What holds for every verb.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What holds for every verb.
#[derive(Debug, Args)]
pub struct Global {
    /// Look at the host below this directory
    #[arg(long, global = true, hide = true, default_value = "/", value_name = "DIR")]
    pub root: PathBuf,
    /// Print JSON, for programs
    #[arg(long, global = true)]
    pub json: bool,
    /// When to use colours; NO_COLOR is honoured
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: ColorChoice,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List the containers, one a line
    List,
    /// Show how berthd is and what is not well, or everything of one container
    Status(status::StatusArgs),
    /// Find every mistake in specs and configuration, without berthd and without being root
    Check(files::CheckArgs),
    /// Show a container's spec as merged from its files, and the file that each key comes from
    Cat(files::NameArgs),
    /// Show everything that a start of a container would do, without doing it
    Plan(files::NameArgs),
    /// Show the handle of a container's packets, with lines for nft, iptables and tc
    Net(net::NetArgs),
    /// Start containers
    Start(control::Names),
    /// Stop containers
    Stop(control::Names),
    /// Stop containers and start them again, with their present specs
    Restart(control::Names),
    /// Move containers to what their images are now, and back at once where one does not start
    Update(update::UpdateArgs),
    /// Take containers back to the images that they had before
    Rollback(update::RollbackArgs),
    /// Run a program in a running container, as root
    Exec(exec::ExecArgs),
    /// Show what a container has written
    Logs(logs::LogsArgs),
    /// List the images in the store
    Images,
    /// Show what an image says, its layers and their sizes
    Image(images::ImageArgs),
    /// Bring an image into the store, or bring it up to date
    Pull(images::ImageArgs),
    /// Remove images that nothing uses
    Rmi(images::ImagesArgs),
    /// Remove all images and layers that nothing uses
    Prune,
    /// Fetch an image from a registry into a directory, which a spec can name as oci:DIR
    Fetch(fetch::FetchArgs),
    /// Make berthd read its configuration and all specs again
    Reload,
    /// Say what this host can do for containers, what it lacks, and what to do about it
    Doctor,
}

/// What every verb is given beside its own arguments.
#[derive(Debug)]
pub struct Context {
    /// Where things lie.
    pub root: Root,
    /// Whether a program reads.
    pub json: bool,
    /// Colours.
    pub style: Style,
    /// Columns of the terminal; none if it is none.
    pub width: Option<usize>,
    /// The time that "2min ago" counts from.
    pub now: SystemTime,
}

impl Context {
    /// The context of this process: its terminal, its environment, its clock.
    #[must_use]
    pub fn new(global: &Global) -> Self {
        Self {
            root: Root::new(&global.root),
            json: global.json,
            style: Style::of_stdout(global.color),
            width: style::terminal_width(),
            now: SystemTime::now(),
        }
    }

    /// Says something beside the output, which it does not spoil.
    pub fn note(&self, text: &str) {
        // Nobody is left to be told where stderr is gone.
        let _ = writeln!(io::stderr().lock(), "berthctl: {}", style::plain(text));
    }
}

/// Does what the command line says.
///
/// # Errors
/// What the verb could not do.
pub fn run(cx: &Context, verb: &Verb, out: &mut dyn Write) -> Result<Exit, CliError> {
    match verb {
        Verb::List => list::run(cx, out),
        Verb::Status(args) => status::run(cx, args, out),
        Verb::Check(args) => files::check(cx, args, out),
        Verb::Cat(args) => files::cat(cx, args, out),
        Verb::Plan(args) => plan::run(cx, &files::plan(cx, &args.name)?, out),
        Verb::Net(args) => net::run(cx, args, out),
        Verb::Start(names) => control::run(cx, protocol::Verb::Start, names, out),
        Verb::Stop(names) => control::run(cx, protocol::Verb::Stop, names, out),
        Verb::Restart(names) => control::run(cx, protocol::Verb::Restart, names, out),
        Verb::Update(args) => update::update(cx, args, out),
        Verb::Rollback(args) => update::rollback(cx, args, out),
        Verb::Exec(args) => exec::run(cx, args),
        Verb::Logs(args) => logs::run(cx, args, out),
        Verb::Images => images::list(cx, out),
        Verb::Image(args) => images::show(cx, args, out),
        Verb::Pull(args) => images::pull(cx, args, out),
        Verb::Rmi(args) => images::remove(cx, args, out),
        Verb::Prune => images::prune(cx, out),
        Verb::Fetch(args) => fetch::run(cx, args, out),
        Verb::Reload => reload::run(cx, out),
        Verb::Doctor => doctor::run(cx, files::enabled(&cx.root).as_deref(), out),
    }
}

/// The command line as clap sees it: help, completions and man pages come from here (`examples/generate.rs`).
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// A container's name on the command line; its unit's name is as good.
fn name(text: &str) -> Result<Name, crate::spec::NameError> {
    Name::from_unit(text).map_or_else(|| text.parse(), Ok)
}

/// The container that was probably meant.
fn nearest<'a>(asked: &Name, names: impl IntoIterator<Item = &'a Name>) -> Option<Name> {
    crate::source::nearest(asked.as_str(), names.into_iter().map(Name::as_str))?.parse().ok()
}

/// Writes a value as JSON for programs.
fn json(out: &mut dyn Write, value: &impl serde::Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
    Ok(writeln!(out, "{text}")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn a_unit_is_as_good_as_a_name() {
        assert_eq!(name("berth@web.service").unwrap().as_str(), "web");
        assert_eq!(name("web").unwrap().as_str(), "web");
        assert!(name("../web").is_err());
        assert!(Cli::try_parse_from(["berthctl", "start"]).is_err());
        assert!(Cli::try_parse_from(["berthctl", "start", "a", "b", "--json"]).unwrap().global.json);
    }
}
