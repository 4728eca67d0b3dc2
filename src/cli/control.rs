//! `start`, `stop`, `restart`: systemd's business where it manages the containers, berthd's elsewhere.

use std::{
    io::Write,
    process::Command,
    thread,
    time::{Duration, Instant, SystemTime},
};

use super::{
    CliError, Context, Exit,
    client::Client,
    error::word,
    known::{self, Known, PATIENCE, Truth},
    name, phrase,
};
use crate::{
    manager::Kind,
    observe::{Container, Lifecycle},
    protocol::{Reply, Request, Verb},
    spec::Name,
};

/// The containers to act on.
#[derive(Debug, clap::Args)]
pub struct Names {
    /// The containers, by name or unit
    #[arg(required = true, value_name = "NAME", value_parser = name)]
    pub names: Vec<Name>,
}

/// Runs the verb on all names; one that fails does not keep the others.
///
/// # Errors
/// What could not be done, each name with its reason.
pub fn run(cx: &Context, verb: Verb, args: &Names, out: &mut dyn Write) -> Result<Exit, CliError> {
    out.flush()?;
    let known = known::read(&cx.root).ok();
    let is_unknown = |name: &Name| known.as_ref().is_some_and(|known| known.is_unknown(&cx.root, name));
    let (unknown, names): (Vec<Name>, Vec<Name>) = args.names.iter().cloned().partition(is_unknown);
    let mut errors: Vec<CliError> =
        unknown.iter().filter_map(|name| known.as_ref().map(|known| known.no_such(name))).collect();
    if !names.is_empty() {
        errors.extend(match known::manager(&cx.root, known.as_ref()) {
            Kind::Systemd => by_systemd(cx, verb, &names),
            Kind::Direct => by_berthd(cx, verb, &names),
        });
    }
    CliError::of_all(errors)
}

/// One call of systemctl(1) for all, so that jobs run side by side and polkit asks once.
fn by_systemd(cx: &Context, verb: Verb, names: &[Name]) -> Vec<CliError> {
    let began = SystemTime::now();
    let ended = Command::new("systemctl").arg(word(verb)).args(names.iter().map(Name::unit)).status();
    match ended {
        Ok(status) if status.success() => {
            await_state(cx, verb, names);
            Vec::new()
        }
        Err(error) => vec![CliError::Tool { program: "systemctl", error }],
        Ok(status) => {
            let reasons = reasons(cx, verb, names, began);
            if reasons.is_empty() { vec![CliError::Systemctl(status.to_string())] } else { reasons }
        }
    }
}

/// Waits until berthd tells what systemd has done, so that who asks next hears of it. That is a moment, or never
/// where berthd does not run or another deed came in between.
fn await_state(cx: &Context, verb: Verb, names: &[Name]) {
    let deadline = Instant::now() + PATIENCE;
    while let Ok(known) = known::read(&cx.root) {
        let amiss = |name: &Name| known.container(name).is_some_and(|container| is_amiss(verb, container));
        if known.truth != Truth::Current || !names.iter().any(amiss) || Instant::now() > deadline {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// What berthd knows of a failure; the launcher has told it before systemctl returned.
fn reasons(cx: &Context, verb: Verb, names: &[Name], began: SystemTime) -> Vec<CliError> {
    let Ok(known) = known::read_after(&cx.root, began) else { return Vec::new() };
    known.caution(cx);
    names.iter().filter_map(|name| reason(&known, verb, name)).collect()
}

/// Why one container is not as it should be.
fn reason(known: &Known, verb: Verb, name: &Name) -> Option<CliError> {
    let container = known.container(name).filter(|container| is_amiss(verb, container))?;
    let spec = || container.spec.errors.first().cloned();
    let message = match (&container.error, container.state) {
        (Some(error), _) => phrase::failure(error),
        (None, Lifecycle::Masked) => phrase::detail(container),
        (None, Lifecycle::Invalid) => spec()?,
        (None, _) => phrase::ended(container).or_else(spec)?,
    };
    Some(CliError::Control { verb, name: name.clone(), message })
}

/// Whether a container is not what the verb should have made of it.
fn is_amiss(verb: Verb, container: &Container) -> bool {
    // Just after a start that failed, its unit may still be on the way down.
    let up = matches!(container.state, Lifecycle::Running | Lifecycle::Starting) && container.error.is_none();
    if verb == Verb::Stop { up } else { !up }
}

/// One request a name.
fn by_berthd(cx: &Context, verb: Verb, names: &[Name]) -> Vec<CliError> {
    let mut errors = Vec::new();
    for name in names {
        match ask(cx, verb, name) {
            Ok(()) => {}
            // The others would hear the same.
            Err(error @ CliError::Client(_)) => {
                errors.push(error);
                break;
            }
            Err(error) => errors.push(error),
        }
    }
    errors
}

/// Asks berthd for the deed and waits until it is done.
fn ask(cx: &Context, verb: Verb, name: &Name) -> Result<(), CliError> {
    let request = Request::Control { verb, container: name.clone() };
    let failed = |message| Err(CliError::Control { verb, name: name.clone(), message });
    match Client::connect(&cx.root)?.ask(&request, None)? {
        Reply::Done => Ok(()),
        Reply::Error { message } => failed(message),
        Reply::Refused { failure } => failed(phrase::failure(&failure)),
        other => Err(super::client::ClientError::unexpected(&other).into()),
    }
}
