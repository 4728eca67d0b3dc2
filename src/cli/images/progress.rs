//! How an import goes on: bars on a terminal, a line a layer elsewhere.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _},
    sync::{Mutex, PoisonError},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::{
    cli::Context,
    image::{Digest, Progress},
};

/// A bar: name, how much, how fast.
const BAR: &str = "{prefix}  [{bar:30}] {binary_bytes:>10}/{binary_total_bytes:10} {binary_bytes_per_sec:>12}";

/// Lets `work` tell how it goes on, on stderr.
pub fn with<T>(cx: &Context, work: impl FnOnce(&dyn Progress) -> T) -> T {
    match (cx.json, io::stderr().is_terminal()) {
        (true, _) => work(&()),
        (false, true) => {
            let bars = Bars::default();
            let done = work(&bars);
            // What is left of bars after an error says nothing.
            drop(bars.all.clear());
            done
        }
        (false, false) => work(&Lines(cx)),
    }
}

/// One bar a layer.
#[derive(Debug, Default)]
struct Bars {
    /// Where they are drawn.
    all: MultiProgress,
    /// By layer.
    each: Mutex<BTreeMap<Digest, ProgressBar>>,
}

impl Progress for Bars {
    fn begin(&self, layer: &Digest, bytes: u64) {
        let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(bytes).with_style(style.progress_chars("=> ")).with_prefix(layer.short().to_owned());
        let bar = self.all.add(bar);
        self.each.lock().unwrap_or_else(PoisonError::into_inner).insert(layer.clone(), bar);
    }

    fn advance(&self, layer: &Digest, bytes: u64) {
        if let Some(bar) = self.each.lock().unwrap_or_else(PoisonError::into_inner).get(layer) {
            bar.inc(bytes);
        }
    }

    fn end(&self, layer: &Digest) {
        if let Some(bar) = self.each.lock().unwrap_or_else(PoisonError::into_inner).remove(layer) {
            bar.finish();
        }
    }
}

/// One line a layer.
#[derive(Debug)]
struct Lines<'a>(&'a Context);

impl Progress for Lines<'_> {
    fn end(&self, layer: &Digest) {
        self.0.note(&format!("layer {} unpacked", layer.short()));
    }

    fn shared(&self, layer: &Digest) {
        self.0.note(&format!("layer {} is here already", layer.short()));
    }
}
