//! `berthctl check`: every mistake in specs and configuration, offline and without privileges.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{
    config::{Config, Overrides},
    image::Store,
    root::Root,
    spec::{
        Diagnostic, Loaded, Outcome, Severity, Spec,
        command::{ImageCommand, resolve},
        load_all, load_files,
    },
};

/// Exit status where nothing is wrong.
pub const OK: u8 = 0;
/// Exit status where there are warnings, with `strict`.
pub const WARNINGS: u8 = 1;
/// Exit status where something is refused.
pub const ERRORS: u8 = 2;

/// What to check and how to tell.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// Files and directories; none is all of the host's specs and its configuration.
    pub paths: &'a [PathBuf],
    /// For programs.
    pub json: bool,
    /// Warnings count.
    pub strict: bool,
    /// With colours.
    pub color: bool,
    /// Names that `isolation` may hold.
    pub isolators: &'a [&'a str],
}

/// What was checked and found; with `json` it is the output.
#[derive(Debug, Default, Serialize)]
struct Findings {
    /// Version of this form.
    schema: u32,
    /// Containers that were looked at.
    specs: Vec<Checked>,
    /// Everything found.
    diagnostics: Vec<Diagnostic>,
}

/// One container that was looked at.
#[derive(Debug, Serialize)]
struct Checked {
    /// Its name.
    name: String,
    /// `good`, `bad` or `masked`.
    outcome: &'static str,
    /// Its files.
    files: Vec<String>,
}

/// Checks and tells.
///
/// # Errors
///
/// When `out` cannot be written to.
pub fn run(root: &Root, options: &Options<'_>, out: &mut dyn Write) -> io::Result<u8> {
    let mut findings = Findings { schema: 1, ..Findings::default() };
    if options.paths.is_empty() {
        host(root, options.isolators, &mut findings);
    } else {
        files(root, options, &mut findings);
    }
    findings.distinct();
    let count = |severity| findings.diagnostics.iter().filter(|found| found.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    if options.json {
        serde_json::to_writer_pretty(&mut *out, &findings)?;
        writeln!(out)?;
    } else {
        for diagnostic in &findings.diagnostics {
            writeln!(out, "{}\n", diagnostic.render(options.color))?;
        }
        writeln!(out, "{}", summary(findings.specs.len(), errors, warnings))?;
    }
    Ok(match (errors, warnings) {
        (1.., _) => ERRORS,
        (0, 1..) if options.strict => WARNINGS,
        _ => OK,
    })
}

/// One line at the end.
fn summary(specs: usize, errors: usize, warnings: usize) -> String {
    let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    format!("{}, {}, {}", counted(specs, "spec"), counted(errors, "error"), counted(warnings, "warning"))
}

/// The host's specs and its configuration. The variables of whoever checks are not the daemon's.
fn host(root: &Root, isolators: &[&str], findings: &mut Findings) {
    let config = Config::load(root, &Overrides::default(), [], isolators);
    findings.diagnostics.extend(config.err().into_iter().flatten());
    let catalog = load_all(root, &Config::defaults(root));
    findings.diagnostics.extend(catalog.strays);
    for loaded in catalog.containers.into_values() {
        findings.add(root, loaded);
    }
}

/// Files anywhere. Specs among them are merged over the host's own defaults.
fn files(root: &Root, options: &Options<'_>, findings: &mut Findings) {
    let mut specs = Vec::new();
    for path in options.paths {
        if is_config(path) {
            findings.diagnostics.extend(Config::load_file(path, options.isolators).err().into_iter().flatten());
        } else if path.join("containers").is_dir() {
            let config = path.join("berthd.toml");
            if config.exists() {
                findings.diagnostics.extend(Config::load_file(&config, options.isolators).err().into_iter().flatten());
            }
            specs.push(path.join("containers"));
        } else {
            specs.push(path.clone());
        }
    }
    let (loaded, strays) = load_files(&specs, &Config::defaults(root));
    findings.diagnostics.extend(strays);
    for loaded in loaded {
        findings.add(root, loaded);
    }
}

/// Whether a file is berthd's own configuration.
fn is_config(path: &Path) -> bool {
    let named = |path: Option<&Path>, name: &str| path.and_then(Path::file_name).is_some_and(|file| file == name);
    (named(Some(path), "berthd.toml") && !named(path.parent(), "containers"))
        || (named(path.parent(), "berthd.toml.d") && path.is_file())
}

impl Findings {
    /// Tells once what is wrong under every spec.
    fn distinct(&mut self) {
        let mut seen = BTreeSet::new();
        self.diagnostics.retain(|diagnostic| seen.insert(diagnostic.to_string()));
    }

    /// Adds one container.
    fn add(&mut self, root: &Root, loaded: Loaded) {
        let files = loaded.files.iter().map(|file| file.to_string_lossy().into_owned()).collect();
        let outcome = match loaded.outcome {
            Outcome::Good(spec) => {
                let of_image = loaded.left_to_image.and_then(|place| command_of_image(root, &spec, place));
                let bad = of_image.as_ref().is_some_and(|found| found.severity == Severity::Error);
                self.diagnostics.extend(of_image);
                if bad { "bad" } else { "good" }
            }
            Outcome::Masked => "masked",
            Outcome::Bad(errors) => {
                self.diagnostics.extend(errors);
                "bad"
            }
        };
        self.diagnostics.extend(loaded.warnings);
        self.specs.push(Checked { name: loaded.name.to_string(), outcome, files });
    }
}

/// What is wrong with a command that is left to an image; a note where that is not in the host's store.
fn command_of_image(root: &Root, spec: &Spec, place: Diagnostic) -> Option<Diagnostic> {
    let source = &spec.image.as_ref()?.source;
    let (why, cure) = match Store::open(root).find(source) {
        Ok(Some(image)) => {
            let error = resolve(&spec.command, Some(&ImageCommand::of(&image.config))).err()?;
            return Some(place.with_message(error.to_string()).with_help(Some(error.cure())));
        }
        Ok(None) => (format!("{source} is not in the store"), Some(format!("'berthctl pull {source}' brings it"))),
        Err(error) => (error.to_string(), None),
    };
    let message = format!("what runs is left to the image, whose Entrypoint and Cmd are not known here: {why}");
    Some(place.with_message(message).with_help(cure).as_note())
}
