//! berthd: the daemon. See berthd(8).

use std::{path::PathBuf, process::ExitCode};

use berth::{
    config::{Config, Overrides},
    error, journal,
    root::Root,
    supervisor::{self, Setup},
};
use clap::Parser;

/// Runs containers from TOML files; systemd starts it as berthd.service.
#[derive(Debug, Parser)]
#[command(name = "berthd", version, about)]
struct Arguments {
    /// Take every path below this directory
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    root: PathBuf,
    /// Launcher that the direct manager runs
    #[arg(long, value_name = "FILE", hide = true)]
    launcher: Option<PathBuf>,
    /// Overrides of the configuration files.
    #[command(flatten)]
    overrides: Overrides,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let root = Root::new(&arguments.root);
    let config = match Config::load(&root, &arguments.overrides) {
        Ok(config) => config,
        Err(problems) => return refuse(&problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    };
    journal::start(config.log_level());
    let launcher = arguments.launcher.unwrap_or_else(beside_us);
    let setup = Setup { root, overrides: arguments.overrides, launcher };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => tokio::task::LocalSet::new().block_on(&runtime, supervisor::run(setup, config)),
        Err(error) => return refuse(&format!("cannot start the event loop: {error}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&error::chain(&error)),
    }
}

/// The launcher: as installed, or from the build directory that berthd itself runs from.
fn beside_us() -> PathBuf {
    let installed = PathBuf::from("/usr/libexec/berth/berth-launch");
    let beside = std::env::current_exe().ok().map(|exe| exe.with_file_name("berth-launch"));
    match beside {
        Some(beside) if beside.exists() => beside,
        _ => installed,
    }
}

/// Says why berthd does not run, to whoever started it, and ends as a mistake of configuration.
#[expect(clippy::print_stderr, reason = "the last words, before or after there is a journal")]
fn refuse(why: &str) -> ExitCode {
    eprintln!("berthd: {why}");
    let status = format!("does not run: {why}");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Status(&status)]);
    ExitCode::from(78)
}
