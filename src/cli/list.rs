//! `list`: the containers, one a line.

use std::io::Write;

use super::{CliError, Context, Exit, json, known, phrase, style};
use crate::observe::Container;

/// The headings.
const HEAD: [&str; 5] = ["NAME", "STATE", "PID", "SINCE", "DETAIL"];

/// Narrowest DETAIL: a terminal that has not even this shows what it can.
const LEAST_DETAIL: usize = 8;

/// Runs the verb.
///
/// # Errors
/// The state file cannot be read, or the output cannot be written.
pub fn run(cx: &Context, out: &mut dyn Write) -> Result<Exit, CliError> {
    let known = known::read(&cx.root)?;
    known.caution(cx);
    if cx.json {
        json(out, &known.state.containers)?;
    } else {
        table(cx, &known.state.containers, out)?;
    }
    Ok(Exit::Ok)
}

/// Writes the table.
fn table(cx: &Context, containers: &[Container], out: &mut dyn Write) -> Result<(), CliError> {
    let rows: Vec<[String; 5]> = containers.iter().map(|container| row(cx, container)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0).max(HEAD[column].len());
    let widths = [0, 1, 2, 3].map(width);
    let used: usize = widths.iter().map(|width| width + 2).sum();
    let detail = cx.width.map_or(usize::MAX, |columns| columns.saturating_sub(used).max(LEAST_DETAIL));
    let line = |cells: [&str; 5], paint: &dyn Fn(usize, String) -> String| {
        let padded = (0..4).map(|i| paint(i, style::pad(cells[i], widths[i] + 2))).collect::<String>();
        format!("{padded}{}", style::fit(cells[4], detail)).trim_end().to_owned()
    };
    writeln!(out, "{}", line(HEAD, &|_, cell| cx.style.paint(style::Hue::Strong, &cell)))?;
    for (row, container) in rows.iter().zip(containers) {
        let hue = phrase::hue(container.state);
        let paint = |column, cell: String| if column == 1 { cx.style.paint(hue, &cell) } else { cell };
        writeln!(out, "{}", line([&row[0], &row[1], &row[2], &row[3], &row[4]], &paint))?;
    }
    Ok(())
}

/// The cells of one container.
fn row(cx: &Context, container: &Container) -> [String; 5] {
    let dash = || "-".to_owned();
    [
        container.name.to_string(),
        phrase::state(container.state).to_owned(),
        container.main_pid.map_or_else(dash, |pid| pid.to_string()),
        container.since.as_deref().map_or_else(dash, |since| style::plain(&phrase::ago(since, cx.now))),
        style::plain(&phrase::detail(container)),
    ]
}
