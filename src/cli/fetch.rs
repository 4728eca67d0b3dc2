//! `fetch`: an image from a registry into a directory, as `oci:DIR` has it.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _, Write},
    path::PathBuf,
};

use clap::Args;
use serde_json::json;

use super::{CliError, Context, Exit, files, style};
use crate::{
    image::{Image, Reference, Source},
    pull::{self, Event, Fetch, Fetched, Means, Obtain, Obtained, Watch},
};

/// Columns of a bar.
const BAR: u64 = 30;

/// Arguments of `fetch`.
#[derive(Debug, Args)]
pub struct FetchArgs {
    /// The image: docker://REGISTRY/REPOSITORY[:TAG][@DIGEST]
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Where its OCI layout is made; what an interrupted fetch has left there is used
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Runs the verb.
///
/// # Errors
/// The image cannot be had.
pub fn run(cx: &Context, args: &FetchArgs, out: &mut dyn Write) -> Result<Exit, CliError> {
    let reference = reference(&args.image)?;
    let config = files::config(&cx.root)?.images;
    let order = Fetch {
        root: &cx.root,
        config: &config,
        reference: &reference,
        known: None,
        directory: &args.directory,
        means: &Means::Child,
        watch: &Watch::default(),
    };
    let mut progress = Progress::new(cx);
    let fetched = pull::fetch(&order, &mut |event| progress.show(cx, event));
    progress.end();
    let fetched = fetched.map_err(|error| CliError::Fetch { image: args.image.clone(), message: error.message })?;
    let directory = args.directory.display();
    match fetched {
        Fetched::Image { digest, manifest } if cx.json => {
            super::json(
                out,
                &json!({ "image": reference, "digest": digest, "manifest": manifest, "directory": args.directory }),
            )?;
        }
        Fetched::Image { digest, .. } => writeln!(out, "oci:{directory} is {reference}, {digest}")?,
        Fetched::Unchanged => writeln!(out, "{reference} is unchanged")?,
    }
    Ok(Exit::Ok)
}

/// Has what the registry has now in the store.
///
/// # Errors
/// The image cannot be had.
pub(super) fn into_store(cx: &Context, reference: &Reference) -> Result<Image, CliError> {
    let config = files::config(&cx.root)?.images;
    let (means, watch) = (Means::Child, Watch::default());
    let order = Obtain { root: &cx.root, config: &config, reference, missing: false, means: &means, watch: &watch };
    let mut bar = Progress::new(cx);
    let obtained =
        super::images::progress::with(cx, |progress| pull::obtain(&order, &mut |event| bar.show(cx, event), progress));
    bar.end();
    let image = format!("docker://{reference}");
    match obtained.map_err(|error| CliError::Fetch { image, message: error.message })? {
        Obtained::Fetched(image) | Obtained::Shared(image) => Ok(image),
        Obtained::Unchanged(image) => {
            cx.note("the registry has nothing newer");
            Ok(image)
        }
    }
}

/// The image that is meant, which must be in a registry.
fn reference(text: &str) -> Result<Reference, CliError> {
    let wrong = |message: String| CliError::Fetch { image: text.to_owned(), message };
    match text.parse::<Source>().map_err(|error| wrong(error.to_string()))? {
        Source::Docker(reference) => Ok(reference),
        _ => Err(wrong("only images in registries are fetched; this one is here already".to_owned())),
    }
}

/// How far it is: a bar on a terminal, else nothing but notes.
#[derive(Debug)]
struct Progress {
    /// Whether somebody looks.
    bar: bool,
    /// Bytes that are here, by blob.
    done: BTreeMap<String, u64>,
    /// Bytes of the image.
    all: u64,
}

impl Progress {
    /// Nothing yet.
    fn new(cx: &Context) -> Self {
        Self { bar: io::stderr().is_terminal() && !cx.json, done: BTreeMap::new(), all: 0 }
    }

    /// Shows what has come.
    fn show(&mut self, cx: &Context, event: &Event) {
        match event {
            Event::Resolved { bytes, .. } => self.all = *bytes,
            Event::Blob { digest, done, .. } => {
                self.done.insert(digest.clone(), *done);
                if self.bar {
                    // Nobody looks where stderr is gone.
                    let _ = write!(io::stderr().lock(), "\r{}", line(self.done.values().sum(), self.all));
                }
            }
            Event::Note { message } => {
                self.end();
                cx.note(&style::plain(message));
            }
            // Other bars may come.
            Event::Unchanged { .. } | Event::Done { .. } | Event::Failed { .. } => self.end(),
        }
    }

    /// Makes room for another line.
    fn end(&self) {
        if self.bar && !self.done.is_empty() {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}

/// `[#####     ]  17% of 80 MiB`.
fn line(done: u64, all: u64) -> String {
    let share = |of: u64| done.min(all).saturating_mul(of).checked_div(all).unwrap_or(of);
    let full = usize::try_from(share(BAR)).unwrap_or_default();
    let empty = usize::try_from(BAR).unwrap_or_default() - full;
    format!("[{}{}] {:3}% of {} MiB", "#".repeat(full), " ".repeat(empty), share(100), all.div_ceil(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_never_longer_than_itself() {
        for (done, all, percent) in [(0, 100, "  0%"), (50, 100, " 50%"), (200, 100, "100%"), (0, 0, "100%")] {
            let line = line(done, all);
            assert!(line.contains(percent) && line.find(']') == Some(31), "{line}");
        }
    }

    #[test]
    fn only_registries_are_asked() {
        assert_eq!(reference("docker://nginx").unwrap().to_string(), "docker.io/library/nginx:latest");
        for (text, words) in [("oci:/x", "here already"), ("nginx", "docker://nginx")] {
            let error = reference(text).unwrap_err().lines().join(" ");
            assert!(error.contains(words), "{error}");
        }
    }
}
