//! `update`, `rollback`: containers to other versions of their images.
//!
//! What an image is now is fetched here, as `pull` does; that changes nothing that runs. The move itself is berthd's: it
//! goes on where this is killed.

use std::{collections::BTreeMap, io::Write, time::Duration};

use serde::Serialize;

use super::{
    CliError, Context, Exit,
    client::{Client, ClientError},
    files, images, json, known, name, style,
};
use crate::{
    image::Source,
    protocol::{How, Reply, Request, Switched, Target},
    spec::{Name, words::Timespan},
};

/// Arguments of `update`.
#[derive(Debug, clap::Args)]
pub struct UpdateArgs {
    /// The containers, by name or unit
    #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "NAME", value_parser = name)]
    pub names: Vec<Name>,
    /// All containers that run with an image
    #[arg(long)]
    pub all: bool,
    /// Take what is in the store, and look at no registry and no file
    #[arg(long)]
    pub no_pull: bool,
    /// How it is watched.
    #[command(flatten)]
    pub watch: WatchArgs,
}

/// Arguments of `rollback`.
#[derive(Debug, clap::Args)]
pub struct RollbackArgs {
    /// The containers, by name or unit
    #[arg(required = true, value_name = "NAME", value_parser = name)]
    pub names: Vec<Name>,
    /// How it is watched.
    #[command(flatten)]
    pub watch: WatchArgs,
}

/// How long a start is watched.
#[derive(Debug, clap::Args)]
pub struct WatchArgs {
    /// How long a container must run to count as started
    #[arg(long, value_name = "SPAN", default_value = "5s", value_parser = span)]
    pub watch: Duration,
}

/// One container with `--json`.
#[derive(Debug, Serialize)]
struct Row<'a> {
    /// Whose.
    name: &'a Name,
    /// What came of it.
    #[serde(flatten)]
    switched: Switched,
}

/// A span of time on the command line.
fn span(text: &str) -> Result<Duration, String> {
    let Timespan(span) = text.parse::<Timespan>().map_err(|complaint| match complaint.help {
        Some(help) => format!("{}; {help}", complaint.message),
        None => complaint.message,
    })?;
    if span > Duration::from_secs(24 * 60 * 60) {
        Err("nobody waits that long; write at most \"1d\"".to_owned())
    } else {
        Ok(span)
    }
}

/// Runs `update`; one that fails does not keep the others.
///
/// # Errors
/// What was not moved, each name with its reason.
pub fn update(cx: &Context, args: &UpdateArgs, out: &mut dyn Write) -> Result<Exit, CliError> {
    let names = if args.all { with_images(cx)? } else { args.names.clone() };
    let mut errors = Vec::new();
    let names = if args.no_pull { names } else { bring(cx, &names, &mut errors) };
    switch(cx, "update", Target::Present, &names, args.watch.watch, errors, out)
}

/// Runs `rollback`; one that fails does not keep the others.
///
/// # Errors
/// What was not taken back, each name with its reason.
pub fn rollback(cx: &Context, args: &RollbackArgs, out: &mut dyn Write) -> Result<Exit, CliError> {
    switch(cx, "rollback", Target::Former, &args.names, args.watch.watch, Vec::new(), out)
}

/// The containers that run with an image of the store.
fn with_images(cx: &Context) -> Result<Vec<Name>, CliError> {
    let known = known::read(&cx.root)?;
    let has =
        known.state.containers.into_iter().filter(|c| c.image.as_ref().is_some_and(|image| image.digest.is_some()));
    Ok(has.map(|container| container.name).collect())
}

/// Brings what the containers' images are now into the store, each source once. Returns those of which it is there.
fn bring(cx: &Context, names: &[Name], errors: &mut Vec<CliError>) -> Vec<Name> {
    let mut brought: BTreeMap<Source, bool> = BTreeMap::new();
    let mut here = Vec::new();
    for name in names {
        let source = match files::image_of(&cx.root, name) {
            Ok(source) => source,
            Err(error) => {
                errors.push(error);
                continue;
            }
        };
        // What has no image, or a directory, is berthd's to refuse.
        let Some(source) = source.filter(|source| !matches!(source, Source::Rootfs { .. })) else {
            here.push(name.clone());
            continue;
        };
        let is_here = *brought.entry(source.clone()).or_insert_with(|| {
            let image = images::bring(cx, &source);
            image.map_err(|error| errors.push(error)).is_ok()
        });
        if is_here {
            here.push(name.clone());
        }
    }
    here
}

/// Has berthd move containers.
fn switch(
    cx: &Context,
    verb: &'static str,
    target: Target,
    names: &[Name],
    watch: Duration,
    mut errors: Vec<CliError>,
    out: &mut dyn Write,
) -> Result<Exit, CliError> {
    let watch_ms = u64::try_from(watch.as_millis()).unwrap_or(u64::MAX);
    let known = known::read(&cx.root).ok();
    let mut rows = Vec::new();
    for name in names {
        if let Some(known) = known.as_ref().filter(|known| known.is_unknown(&cx.root, name)) {
            errors.push(known.no_such(name));
            continue;
        }
        let request = Request::Switch { container: name.clone(), target, watch_ms };
        let reply = Client::connect(&cx.root).and_then(|mut client| client.ask(&request, None));
        match reply {
            Ok(Reply::Switched { switched }) if cx.json => rows.push(Row { name, switched }),
            Ok(Reply::Switched { switched }) => writeln!(out, "{name}: {}", style::plain(&said(&switched)))?,
            Ok(Reply::Error { message }) => errors.push(CliError::Switch { verb, name: name.clone(), message }),
            Ok(other) => errors.push(ClientError::unexpected(&other).into()),
            // The others would hear the same.
            Err(error) => {
                errors.push(error.into());
                break;
            }
        }
    }
    if cx.json {
        json(out, &rows)?;
    }
    CliError::of_all(errors)
}

/// What came of it, for people.
fn said(Switched { from, to, how }: &Switched) -> String {
    let from = from.as_ref().filter(|from| *from != to).map(|from| format!("from image {} ", from.short()));
    let way = format!("{}to image {}", from.unwrap_or_default(), to.short());
    match how {
        How::Already => format!("has image {}; nothing to do", to.short()),
        How::NextStart => format!("does not run; starts with image {}", to.short()),
        How::Runs => format!("moved {way}"),
        How::Ended => format!("moved {way}, and has ended since"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_of_it_is_said() {
        let digest = |digit: &str| format!("sha256:{}", digit.repeat(64)).parse().unwrap();
        let switched = |from: Option<&str>, how| Switched { from: from.map(digest), to: digest("b"), how };
        let b = "b".repeat(12);
        for (switched, text) in [
            (switched(Some("a"), How::Runs), format!("moved from image {} to image {b}", "a".repeat(12))),
            (switched(None, How::Runs), format!("moved to image {b}")),
            (switched(Some("b"), How::Already), format!("has image {b}; nothing to do")),
            (switched(Some("a"), How::NextStart), format!("does not run; starts with image {b}")),
        ] {
            assert_eq!(said(&switched), text);
        }
    }

    #[test]
    fn spans_have_units_and_an_end() {
        assert_eq!(span("2min"), Ok(Duration::from_secs(120)));
        assert_eq!(span("0s"), Ok(Duration::ZERO));
        for wrong in ["", "5", "infinity", "2d", "soon"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }
}
