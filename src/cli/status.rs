//! `status`: how berthd is and what is not well, or everything of one container.

use std::io::Write;

use super::{
    CliError, Context, Exit, json,
    known::{self, Known, Truth},
    name, phrase,
    style::{self, Hue},
};
use crate::{
    manager::Kind,
    observe::{Container, Lifecycle},
    protocol::Failure,
    spec::Name,
};

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// The container; without one, berthd and whatever is not well
    #[arg(value_parser = name)]
    pub name: Option<Name>,
}

/// Runs the verb.
///
/// # Errors
/// The state file cannot be read, there is no such container, or the output cannot be written.
pub fn run(cx: &Context, args: &StatusArgs, out: &mut dyn Write) -> Result<Exit, CliError> {
    let known = known::read(&cx.root)?;
    known.caution(cx);
    match &args.name {
        None => summary(cx, &known, out),
        Some(name) => match known.container(name) {
            Some(container) => one(cx, &known, container, out),
            None => Err(known.no_such(name)),
        },
    }
}

/// Whether an operator should look at a container.
fn is_unwell(container: &Container) -> bool {
    matches!(container.state, Lifecycle::Failed | Lifecycle::Invalid | Lifecycle::Restarting)
        || !container.spec.errors.is_empty()
        || !container.spec.pending.is_empty()
        || container.image.as_ref().is_some_and(|image| image.pending.is_some())
        || container.isolators.iter().any(|isolator| isolator.error.is_some())
}

/// berthd, and what is not well.
fn summary(cx: &Context, known: &Known, out: &mut dyn Write) -> Result<Exit, CliError> {
    let state = &known.state;
    let unwell: Vec<&Container> = state.containers.iter().filter(|container| is_unwell(container)).collect();
    let well = unwell.is_empty() && state.problems.is_empty() && state.daemon.manager_away.is_none();
    if cx.json {
        json(out, state)?;
    } else {
        daemon(cx, known, out)?;
        for container in unwell {
            let dot = cx.style.paint(phrase::hue(container.state), "●");
            let detail = style::plain(&phrase::detail(container));
            writeln!(out, "{dot} {}: {}: {detail}", container.name, phrase::state(container.state))?;
        }
        for problem in &state.problems {
            writeln!(out, "{} {}", cx.style.paint(Hue::Bad, "●"), style::plain(problem))?;
        }
    }
    Ok(match known.truth {
        Truth::Current if well => Exit::Ok,
        Truth::Current => Exit::Failed,
        Truth::Left | Truth::Past => Exit::NotRunning,
    })
}

/// The lines of berthd itself.
fn daemon(cx: &Context, known: &Known, out: &mut dyn Write) -> Result<(), CliError> {
    let daemon = &known.state.daemon;
    let (hue, word) = match known.truth {
        Truth::Current => (Hue::Good, "running"),
        Truth::Left | Truth::Past => (Hue::Bad, "not running"),
    };
    writeln!(out, "{} berthd {}, {}", cx.style.paint(hue, "●"), daemon.version, cx.style.paint(hue, word))?;
    let mut sheet = Sheet { cx, out };
    let alive = known.truth == Truth::Current;
    sheet.field("Main PID", alive.then(|| daemon.pid.to_string()))?;
    let manager = match daemon.manager {
        Kind::Systemd => "systemd",
        Kind::Direct => "berthd itself (no systemd here)",
    };
    let away = daemon.manager_away.as_ref().map(|why| format!("; not reachable: {why}"));
    sheet.field("Manager", Some(format!("{manager}{}", away.unwrap_or_default())))?;
    sheet.field("Status", Some(daemon.status.clone()))?;
    sheet.field("Isolation", Some(daemon.isolation.join(" ")))?;
    sheet.field("Written", Some(format!("{}; {}", known.state.written, phrase::ago(&known.state.written, cx.now))))
}

/// Everything of one container.
fn one(cx: &Context, known: &Known, container: &Container, out: &mut dyn Write) -> Result<Exit, CliError> {
    if cx.json {
        json(out, container)?;
    } else {
        let dot = cx.style.paint(phrase::hue(container.state), "●");
        writeln!(out, "{dot} {}", container.name)?;
        let mut sheet = Sheet { cx, out };
        sheet.run(container)?;
        sheet.spec(container)?;
        sheet.image(container)?;
        sheet.outcome(container)?;
        sheet.field("Logs", Some(format!("berthctl logs {}", container.name)))?;
    }
    let runs = container.state == Lifecycle::Running && known.truth != Truth::Past;
    Ok(if runs { Exit::Ok } else { Exit::NotRunning })
}

/// Labelled lines, as `systemctl status` has them.
struct Sheet<'a> {
    /// How.
    cx: &'a Context,
    /// Where to.
    out: &'a mut dyn Write,
}

impl Sheet<'_> {
    /// One label and its value, if there is one.
    fn field(&mut self, label: &str, value: Option<String>) -> Result<(), CliError> {
        self.lines(label, value)
    }

    /// One label and the lines under it, if there are any.
    fn lines(&mut self, label: &str, lines: impl IntoIterator<Item = String>) -> Result<(), CliError> {
        let mut label = format!("{label}:");
        for line in lines.into_iter().filter(|line| !line.is_empty()) {
            writeln!(self.out, "{label:>11} {}", style::plain(&line))?;
            label.clear();
        }
        Ok(())
    }

    /// What runs.
    fn run(&mut self, container: &Container) -> Result<(), CliError> {
        let state = phrase::state(container.state);
        let since =
            container.since.as_ref().map(|since| format!(" since {since}; {}", phrase::ago(since, self.cx.now)));
        // The one coloured value: `lines` would spell its colour out.
        let painted = self.cx.style.paint(phrase::hue(container.state), state);
        writeln!(self.out, "{:>11} {painted}{}", "State:", style::plain(&since.unwrap_or_default()))?;
        self.field("Unit", Some(container.unit.clone()))?;
        self.field("Main PID", container.main_pid.map(|pid| pid.to_string()))?;
        self.field("CGroup", container.cgroup.clone())?;
        self.field("Sandbox", container.sandbox.as_ref().map(|path| path.display().to_string()))?;
        self.field("Log", container.log.as_ref().map(|path| path.display().to_string()))?;
        let width = container.isolators.iter().map(|isolator| isolator.name.len()).max().unwrap_or(0) + 2;
        let isolators = container.isolators.iter().map(|isolator| {
            let error = isolator.error.as_ref().map(|error| format!("error: {error}"));
            let said = error.or_else(|| isolator.detail.clone()).unwrap_or_else(|| "-".to_owned());
            format!("{}{said}", style::pad(&isolator.name, width))
        });
        self.lines("Isolators", isolators)
    }

    /// What it was made from.
    fn spec(&mut self, container: &Container) -> Result<(), CliError> {
        let spec = &container.spec;
        self.lines("Spec", spec.files.iter().map(|path| path.display().to_string()))?;
        let start = if spec.autostart { "by berthd" } else { "on demand ('systemctl enable' to start at boot)" };
        self.field("Started", spec.digest.as_ref().map(|_| start.to_owned()))?;
        let running = spec.running.as_ref().filter(|running| spec.digest.as_ref() != Some(running));
        let other = running.map_or_else(String::new, |running| format!(" (runs with {running})"));
        self.field("Digest", spec.digest.as_ref().map(|digest| format!("{digest}{other}")))?;
        let pending = (!spec.pending.is_empty())
            .then(|| format!("{}; 'berthctl restart {}' applies", spec.pending.join(", "), container.name));
        self.field("Pending", pending)?;
        self.lines("Errors", spec.errors.iter().flat_map(|error| error.lines().map(str::to_owned)))?;
        self.lines("Warnings", spec.warnings.iter().flat_map(|warning| warning.lines().map(str::to_owned)))
    }

    /// The root that it runs with, and what its image says of it.
    fn image(&mut self, container: &Container) -> Result<(), CliError> {
        let Some(image) = &container.image else { return Ok(()) };
        let name = &container.name;
        let mut lines = vec![image.source.clone()];
        lines.extend(image.digest.clone());
        let line = |digest: &Option<String>, text: &dyn Fn(&str) -> String| digest.as_deref().map(text);
        lines
            .extend(line(&image.pending, &|digest| format!("pending: {digest}; 'berthctl update {name}' moves to it")));
        let cure = format!("'berthctl update {name}' tries it again");
        lines.extend(line(&image.held_back, &|digest| format!("held back: {digest}; {cure}")));
        lines.extend(line(&image.former, &|digest| format!("former: {digest}; 'berthctl rollback {name}' goes back")));
        self.lines("Image", lines)?;
        self.field("Ports", Some(image.exposed_ports.join(" ")))?;
        self.lines("Labels", image.labels.iter().map(|(key, value)| format!("{key}={value}")))
    }

    /// How it ended, and why it did not start.
    fn outcome(&mut self, container: &Container) -> Result<(), CliError> {
        self.field("Restarts", (container.restarts > 0).then(|| container.restarts.to_string()))?;
        self.field("Last exit", phrase::ended(container))?;
        self.field("Limitation", container.limitation.as_ref().map(|limitation| limitation.message.clone()))?;
        self.lines("Failure", container.error.iter().flat_map(failure))
    }
}

/// A failed start in lines.
fn failure(failure: &Failure) -> Vec<String> {
    let mut lines: Vec<String> = phrase::failure(failure).lines().map(str::to_owned).collect();
    if let Some(errno) = failure.errno {
        let errno = nix::errno::Errno::from_raw(errno);
        lines.push(format!("errno {errno:?} ({})", errno.desc()));
    }
    lines.extend(failure.path.as_ref().map(|path| format!("path {}", path.display())));
    lines
}
