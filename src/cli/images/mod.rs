//! `images`, `image`, `pull`, `rmi`, `prune`: what is in the image store.

pub(super) mod progress;

use std::{env, io::Write};

use serde::Serialize;

use super::{CliError, Context, Exit, json, phrase, style, style::Hue};
use crate::image::{self, Digest, Error, Image, Removed, Source, Store, Tag, Version};

/// The headings.
const HEAD: [&str; 4] = ["IMAGE", "DIGEST", "SIZE", "IMPORTED"];

/// One image.
#[derive(Debug, clap::Args)]
pub struct ImageArgs {
    /// The image, as [image] source has it; a path may be relative
    #[arg(value_name = "SOURCE")]
    pub source: String,
}

/// Some images.
#[derive(Debug, clap::Args)]
pub struct ImagesArgs {
    /// The images, as [image] source has them; a path may be relative
    #[arg(required = true, value_name = "SOURCE")]
    pub sources: Vec<String>,
}

/// An image with `--json`.
#[derive(Debug, Serialize)]
struct Row<'a> {
    /// The source.
    source: &'a Source,
    /// What it is now.
    digest: &'a Digest,
    /// Bytes that its layers take.
    bytes: u64,
    /// When it was imported.
    imported: &'a str,
    /// Digests that it was before and that are still here.
    former: Vec<&'a Digest>,
}

/// One image with `--json`, whole.
#[derive(Debug, Serialize)]
struct Sheet<'a> {
    /// The same.
    #[serde(flatten)]
    row: Row<'a>,
    /// What it says.
    config: &'a crate::image::Config,
    /// Its layers, lowest first.
    layers: Vec<LayerRow<'a>>,
}

/// A layer.
#[derive(Debug, Serialize)]
struct LayerRow<'a> {
    /// Its name in the store.
    chain_id: &'a Digest,
    /// Bytes that it takes; none: it is not here.
    bytes: Option<u64>,
}

/// What was removed, with `--json`.
#[derive(Debug, Serialize)]
struct Gone<'a> {
    /// Images.
    images: &'a [Source],
    /// How many layers.
    layers: usize,
    /// Bytes that those took.
    bytes: u64,
}

impl<'a> Row<'a> {
    /// Of a tag.
    fn of(store: &Store, tag: &'a Tag) -> Self {
        Self {
            source: &tag.source,
            digest: &tag.current.digest,
            bytes: store.bytes(&tag.current),
            imported: &tag.current.imported,
            former: tag.former.iter().map(|version| &version.digest).collect(),
        }
    }
}

/// Runs `images`.
///
/// # Errors
/// The store cannot be read, or the output cannot be written.
pub fn list(cx: &Context, out: &mut dyn Write) -> Result<Exit, CliError> {
    let store = Store::open(&cx.root);
    let (tags, errors) = store.tags()?;
    let rows: Vec<Row<'_>> = tags.iter().map(|tag| Row::of(&store, tag)).collect();
    if cx.json {
        json(out, &rows)?;
    } else {
        table(cx, &rows, out)?;
    }
    CliError::of_all(errors.into_iter().map(CliError::Image).collect())
}

/// Writes the table.
fn table(cx: &Context, rows: &[Row<'_>], out: &mut dyn Write) -> Result<(), CliError> {
    let cells = |row: &Row<'_>| {
        let since = style::plain(&phrase::ago(row.imported, cx.now));
        [style::plain(&row.source.to_string()), row.digest.short().to_owned(), phrase::bytes(row.bytes), since]
    };
    let cells: Vec<[String; 4]> = rows.iter().map(cells).collect();
    let width = |column: usize| cells.iter().map(|row| row[column].len()).max().unwrap_or(0).max(HEAD[column].len());
    let line = |row: [&str; 4]| {
        let padded: String = (0..3).map(|at| style::pad(row[at], width(at) + 2)).collect();
        format!("{padded}{}", row[3])
    };
    writeln!(out, "{}", cx.style.paint(Hue::Strong, &line(HEAD)))?;
    for row in &cells {
        writeln!(out, "{}", line([&row[0], &row[1], &row[2], &row[3]]))?;
    }
    Ok(())
}

/// Runs `image`.
///
/// # Errors
/// There is no such image, or the store cannot be read.
pub fn show(cx: &Context, args: &ImageArgs, out: &mut dyn Write) -> Result<Exit, CliError> {
    let store = Store::open(&cx.root);
    let source = source(&args.source)?;
    let tag = store.tag(&source)?.ok_or_else(|| absent(&store, &source))?;
    let layers: Vec<LayerRow<'_>> = tag
        .current
        .layers
        .iter()
        .map(|id| LayerRow { chain_id: id, bytes: store.layer(id).map(|l| l.bytes) })
        .collect();
    let sheet = Sheet { row: Row::of(&store, &tag), config: &tag.current.config, layers };
    if cx.json {
        json(out, &sheet)?
    } else {
        sheet.write(cx, &tag.current, out)?
    }
    Ok(Exit::Ok)
}

impl Sheet<'_> {
    /// Writes it for people; what says nothing is left out.
    fn write(&self, cx: &Context, version: &Version, out: &mut dyn Write) -> Result<(), CliError> {
        let config = &version.config;
        let quoted = |words: &[String]| words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" ");
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let variant = config.variant.as_ref().map_or_else(String::new, |variant| format!("/{variant}"));
        let former: Vec<String> = self.row.former.iter().map(ToString::to_string).collect();
        let mut lines = vec![
            ("Image", self.row.source.to_string()),
            ("Digest", self.row.digest.to_string()),
            ("Former", former.join(" ")),
            ("Imported", phrase::ago(self.row.imported, cx.now)),
            ("Size", phrase::bytes(self.row.bytes)),
            ("Platform", format!("{}/{}{variant}", config.os, config.architecture)),
            ("Entrypoint", quoted(&config.entrypoint)),
            ("Cmd", quoted(&config.cmd)),
            ("User", text(&config.user)),
            ("Directory", text(&config.working_dir)),
            ("Stop signal", text(&config.stop_signal)),
            ("Ports", config.exposed_ports.join(" ")),
            ("Volumes", config.volumes.join(" ")),
        ];
        lines.extend(config.env.iter().map(|(name, value)| ("Env", format!("{name}={value}"))));
        lines.extend(config.labels.iter().map(|(name, value)| ("Label", format!("{name}={value}"))));
        lines.extend(self.layers.iter().map(|layer| {
            let size = layer.bytes.map_or_else(|| "not here".to_owned(), phrase::bytes);
            ("Layer", format!("{}  {size}", layer.chain_id))
        }));
        lines.push(("Not done", config.not_understood.join(" ")));
        for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
            let name = cx.style.paint(Hue::Quiet, &format!("{name:>11}"));
            writeln!(out, "{name}  {}", style::plain(value))?;
        }
        Ok(())
    }
}

/// Runs `pull`.
///
/// # Errors
/// The image is not to be had.
pub fn pull(cx: &Context, args: &ImageArgs, out: &mut dyn Write) -> Result<Exit, CliError> {
    let source = source(&args.source)?;
    let image = bring(cx, &source)?;
    let store = Store::open(&cx.root);
    match store.tag(&source)? {
        Some(tag) if cx.json => json(out, &Row::of(&store, &tag))?,
        _ => writeln!(out, "{}", image.digest)?,
    }
    Ok(Exit::Ok)
}

/// Has what a source is now in the store.
///
/// # Errors
/// The image is not to be had.
pub(super) fn bring(cx: &Context, source: &Source) -> Result<Image, CliError> {
    match source {
        Source::Docker(reference) => super::fetch::into_store(cx, reference),
        _ => {
            let store = Store::open(&cx.root).with_limits(super::files::config(&cx.root)?.images.limits());
            Ok(progress::with(cx, |progress| store.import(source, progress))?)
        }
    }
}

/// Runs `rmi`; one that stays does not keep the others.
///
/// # Errors
/// What could not be removed.
pub fn remove(cx: &Context, args: &ImagesArgs, out: &mut dyn Write) -> Result<Exit, CliError> {
    let store = Store::open(&cx.root);
    let in_use = || image::in_use(&cx.root);
    let (mut gone, mut errors) = (Removed::default(), Vec::new());
    for text in &args.sources {
        let removed =
            source(text).and_then(|source| store.remove(&source, &in_use)?.ok_or_else(|| absent(&store, &source)));
        match removed {
            Ok(removed) => {
                gone.images.extend(removed.images);
                gone.layers += removed.layers;
                gone.bytes += removed.bytes;
            }
            Err(error) => errors.push(error),
        }
    }
    say(cx, &gone, out)?;
    CliError::of_all(errors)
}

/// Runs `prune`.
///
/// # Errors
/// What could not be removed.
pub fn prune(cx: &Context, out: &mut dyn Write) -> Result<Exit, CliError> {
    crate::pull::sweep(&cx.root).map_err(|error| CliError::Sweep(error.message))?;
    let removed = Store::open(&cx.root).prune(&|| image::in_use(&cx.root))?;
    say(cx, &removed, out)?;
    Ok(Exit::Ok)
}

/// Says what was removed.
fn say(cx: &Context, removed: &Removed, out: &mut dyn Write) -> Result<(), CliError> {
    let Removed { images, layers, bytes, .. } = removed;
    if cx.json {
        return json(out, &Gone { images, layers: *layers, bytes: *bytes });
    }
    for source in images {
        writeln!(out, "removed {}", style::plain(&source.to_string()))?;
    }
    Ok(writeln!(out, "{} removed, {} freed", phrase::count(*layers as u64, "layer"), phrase::bytes(*bytes))?)
}

/// What an operator has typed.
fn source(text: &str) -> Result<Source, CliError> {
    Ok(Source::parse_in(&env::current_dir().unwrap_or_default(), text)?)
}

/// There is no such image.
fn absent(store: &Store, source: &Source) -> CliError {
    let names: Vec<String> =
        store.tags().map(|(tags, _)| tags.iter().map(|tag| tag.source.to_string()).collect()).unwrap_or_default();
    let wanted = source.to_string();
    let near = crate::source::nearest(&wanted, names.iter().map(String::as_str));
    CliError::NoImage { name: wanted.clone(), nearest: near.map(str::to_owned) }
}

impl From<Error> for CliError {
    fn from(error: Error) -> Self {
        Self::Image(error)
    }
}
