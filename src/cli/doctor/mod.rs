//! `doctor`: what this host can do for containers, what it lacks, and what to do about it.
//!
//! Facts are read below the root and probed with calls that change nothing and need no privilege; what could only be
//! told by the kernel's version says so.

/// berth's own parts.
mod berth;
/// Control groups.
mod cgroups;
/// Fetching images.
mod images;
/// Isolators.
mod isolators;
/// The kernel.
mod kernel;
/// The service manager.
mod manager;
/// File systems.
mod storage;
/// Traffic classes.
mod traffic;

use std::io::Write;

use serde::Serialize;

use super::{
    CliError, Context, Exit, json,
    style::{self, Hue, Style},
};
use crate::host::Host;

/// One fact, and what it means for berth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    /// Of which part of the host.
    group: &'static str,
    /// What was looked at.
    name: String,
    /// What it means.
    verdict: Verdict,
    /// What was found.
    detail: String,
    /// What to do, where something can be done.
    cure: Option<String>,
}

/// What a fact means for berth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Good,
    /// Something that nobody has asked for does not work, or may not some day.
    Note,
    /// Something that berth needs is missing.
    Missing,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report<'a> {
    /// Whether nothing is missing.
    well: bool,
    /// The host's facts.
    host: &'a Host,
    /// What follows from them.
    findings: &'a [Finding],
}

impl Finding {
    /// As it should be.
    fn good(group: &'static str, name: &str, detail: impl Into<String>) -> Self {
        Self { group, name: name.to_owned(), verdict: Verdict::Good, detail: detail.into(), cure: None }
    }

    /// Worth knowing.
    fn note(group: &'static str, name: &str, detail: impl Into<String>, cure: Option<&str>) -> Self {
        let cure = cure.map(str::to_owned);
        Self { verdict: Verdict::Note, cure, ..Self::good(group, name, detail) }
    }

    /// berth needs it and it is not there.
    fn missing(group: &'static str, name: &str, detail: impl Into<String>, cure: &str) -> Self {
        Self { verdict: Verdict::Missing, cure: Some(cure.to_owned()), ..Self::good(group, name, detail) }
    }
}

/// Runs the verb; `enabled` are the isolators that the configuration enables, if that is known.
///
/// # Errors
/// The output cannot be written.
pub fn run(cx: &Context, enabled: Option<&[String]>, out: &mut dyn Write) -> Result<Exit, CliError> {
    let host = Host::read(&cx.root);
    let mut findings = manager::examine(&host);
    findings.extend(berth::examine(&host));
    findings.extend(kernel::examine(&host));
    findings.extend(cgroups::examine(&host));
    findings.extend(isolators::examine(&host, enabled));
    findings.extend(traffic::examine(&host));
    findings.extend(images::examine(&host));
    findings.extend(storage::examine(&host));
    let well = findings.iter().all(|finding| finding.verdict != Verdict::Missing);
    if cx.json {
        json(out, &Report { well, host: &host, findings: &findings })?;
    } else {
        show(&findings, cx.style, out)?;
    }
    Ok(if well { Exit::Ok } else { Exit::Failed })
}

/// Writes the findings under their groups.
fn show(findings: &[Finding], style: Style, out: &mut dyn Write) -> Result<(), CliError> {
    let width = findings.iter().map(|finding| finding.name.len()).max().unwrap_or(0) + 2;
    let mut group = "";
    for finding in findings {
        if finding.group != group {
            group = finding.group;
            writeln!(out, "{}", style.paint(Hue::Strong, group))?;
        }
        let (hue, word) = match finding.verdict {
            Verdict::Good => (Hue::Good, "yes "),
            Verdict::Note => (Hue::Busy, "note"),
            Verdict::Missing => (Hue::Bad, "NO  "),
        };
        let (name, detail) = (style::pad(&finding.name, width), style::plain(&finding.detail));
        writeln!(out, "  {} {name}{detail}", style.paint(hue, word))?;
        if let Some(cure) = &finding.cure {
            writeln!(out, "       {}→ {}", " ".repeat(width), style::plain(cure))?;
        }
    }
    let missing = findings.iter().filter(|finding| finding.verdict == Verdict::Missing).count();
    let (hue, verdict) = match missing {
        0 => (Hue::Good, "All that berth needs is there.".to_owned()),
        1 => (Hue::Bad, "One thing that berth needs is missing.".to_owned()),
        many => (Hue::Bad, format!("{many} things that berth needs are missing.")),
    };
    writeln!(out, "{}", style.paint(hue, &verdict))?;
    Ok(())
}
