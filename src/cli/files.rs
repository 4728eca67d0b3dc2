//! `check`, `cat` and `plan` read the containers' files themselves: they work offline, before a file is dropped.

use std::{io::Write, path::PathBuf};

use super::{
    CliError, Context, Exit, cat, check,
    known::{self, Truth},
    name, nearest, phrase,
};
use crate::{
    config::{Config, Overrides},
    host::Host,
    image::Source,
    isolators,
    plan::{Build, Plan, build},
    root::Root,
    spec::{Loaded, Name, Outcome, Spec, load, load_all},
};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Specs, or directories of specs; without one, all of this host's and berthd's configuration
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// End with 1 where there are warnings
    #[arg(long)]
    pub strict: bool,
}

/// Arguments of `cat` and `plan`.
#[derive(Debug, clap::Args)]
pub struct NameArgs {
    /// The container, by name or unit
    #[arg(value_parser = name)]
    pub name: Name,
}

/// Runs `check`.
///
/// # Errors
/// The output cannot be written.
pub fn check(cx: &Context, args: &CheckArgs, out: &mut dyn Write) -> Result<Exit, CliError> {
    let names = isolator_names();
    let options = check::Options {
        paths: &args.paths,
        json: cx.json,
        strict: args.strict,
        color: cx.style.color,
        isolators: &names,
    };
    Ok(Exit::of_check(check::run(&cx.root, &options, out)?))
}

/// Runs `cat`.
///
/// # Errors
/// There is no such container, or the output cannot be written.
pub fn cat(cx: &Context, args: &NameArgs, out: &mut dyn Write) -> Result<Exit, CliError> {
    find(&cx.root, &args.name)?;
    Ok(Exit::of_check(cat::run(&cx.root, &args.name, cx.json, out)?))
}

/// The plan of a container's next start.
///
/// # Errors
/// There is no such container, its files or the configuration are wrong, or this host cannot give what it asks.
pub fn plan(cx: &Context, name: &Name) -> Result<Plan, CliError> {
    let config = config(&cx.root)?;
    let spec = good(find(&cx.root, name)?)?;
    let host = Host::read(&cx.root);
    let enabled = isolators::enabled(&config, &host);
    build(Build { name, spec: &spec, host: &host, enabled: &enabled, config: &config })
        .map_err(|failure| CliError::Plan { name: name.clone(), message: phrase::failure(&failure) })
}

/// The source of a container's image, if its spec names one.
///
/// # Errors
/// There is no such container, or its files are wrong.
pub fn image_of(root: &Root, name: &Name) -> Result<Option<Source>, CliError> {
    Ok(good(find(root, name)?)?.image.map(|image| image.source))
}

/// The isolators that are enabled: as berthd says, and where it does not run as it would find them.
#[must_use]
pub fn enabled(root: &Root) -> Option<Vec<String>> {
    if let Some(known) = known::read(root).ok().filter(|known| known.truth == Truth::Current) {
        return Some(known.state.daemon.isolation);
    }
    let config = config(root).ok()?;
    let enabled = isolators::enabled(&config, &Host::read(root));
    Some(enabled.iter().map(|isolator| isolator.name().to_owned()).collect())
}

/// berthd's configuration as its files have it.
///
/// # Errors
/// Every mistake in it.
pub fn config(root: &Root) -> Result<Config, CliError> {
    Config::load(root, &Overrides::default(), [], &isolator_names())
        .map_err(|errors| CliError::Files(errors.iter().map(ToString::to_string).collect()))
}

/// Names that `isolation` may hold.
fn isolator_names() -> Vec<&'static str> {
    isolators::names()
}

/// The files of a container.
fn find(root: &Root, name: &Name) -> Result<Loaded, CliError> {
    let defaults = Config::defaults(root);
    match load(root, &defaults, name) {
        // Whether it may have that is a question of all specs.
        Some(loaded) if loaded.claim.is_some() => {
            Ok(load_all(root, &defaults).containers.remove(name).unwrap_or(loaded))
        }
        Some(loaded) => Ok(loaded),
        None => {
            let catalog = load_all(root, &defaults);
            Err(CliError::NoSuch { name: name.clone(), nearest: nearest(name, catalog.containers.keys()) })
        }
    }
}

/// The spec of files that hold one.
fn good(loaded: Loaded) -> Result<Box<Spec>, CliError> {
    match loaded.outcome {
        Outcome::Good(spec) => Ok(spec),
        Outcome::Bad(errors) => Err(CliError::Files(errors.iter().map(ToString::to_string).collect())),
        Outcome::Masked => {
            let by = loaded.files.first().map(|file| format!(" by {}", file.display())).unwrap_or_default();
            Err(CliError::Files(vec![format!("'{}' is masked{by}; remove that to start it", loaded.name)]))
        }
    }
}
