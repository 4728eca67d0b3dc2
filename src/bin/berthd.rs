//! berthd: the daemon. See berthd(8).

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use berth::{
    config::{Level, LogOverrides, Overrides},
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
    /// Who runs containers: auto, systemd or direct
    #[arg(long, value_name = "WHO")]
    manager: Option<String>,
    /// Isolators to enable, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    isolation: Option<Vec<String>>,
    /// Least important messages to log: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let root = Root::new(&arguments.root);
    let overrides = Overrides {
        manager: arguments.manager,
        isolation: arguments.isolation,
        log: LogOverrides { level: arguments.log_level },
    };
    let config = match supervisor::load_config(&root, &overrides) {
        Ok(config) => config,
        Err(problems) => return refuse(&problems),
    };
    journal::start(level(config.log.level));
    let launcher = arguments.launcher.unwrap_or_else(beside_us);
    let setup = Setup { root, overrides, launcher };
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

/// The level of the configuration, as the log has it.
fn level(level: Level) -> tracing::Level {
    match level {
        Level::Error => tracing::Level::ERROR,
        Level::Warn => tracing::Level::WARN,
        Level::Info => tracing::Level::INFO,
        Level::Debug => tracing::Level::DEBUG,
        Level::Trace => tracing::Level::TRACE,
    }
}

/// The launcher: of the build directory or the prefix that berthd itself runs from, else of the distribution.
fn beside_us() -> PathBuf {
    let exe = std::env::current_exe().unwrap_or_default();
    let built = exe.with_file_name("berth-launch");
    let prefix = exe.parent().and_then(Path::parent).unwrap_or(Path::new("/usr"));
    let installed = prefix.join("libexec/berth/berth-launch");
    [built, installed]
        .into_iter()
        .find(|path| path.exists())
        .unwrap_or_else(|| "/usr/libexec/berth/berth-launch".into())
}

/// Says why berthd does not run, to whoever started it, and ends as a mistake of configuration.
#[expect(clippy::print_stderr, reason = "the last words, before or after there is a journal")]
fn refuse(why: &str) -> ExitCode {
    eprintln!("berthd: {why}");
    let status = format!("does not run: {why}");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Status(&status)]);
    ExitCode::from(78)
}
