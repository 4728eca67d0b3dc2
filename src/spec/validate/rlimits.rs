//! Rules for resource limits.

use std::collections::BTreeMap;

use super::report::Report;
use crate::{
    source::{Complaint, Part, nearest},
    spec::{Resource, Rlimits, words::RlimitWord},
};

/// The whole table.
pub fn rlimits(words: BTreeMap<String, RlimitWord>, report: &mut Report<'_>) -> Rlimits {
    let mut limits = Rlimits::new();
    for (key, word) in words {
        let path = ["rlimits".to_owned(), key.clone()];
        let Some(resource) = Resource::named(&key) else {
            let complaint = Complaint::new(format!("there is no resource limit '{key}'"));
            report.error_at(&path, Part::Key, complaint.help(help(&key)));
            continue;
        };
        match word.on(resource) {
            Ok(_) if limits.contains_key(&resource) => {
                let complaint = Complaint::new(format!("{resource} is given twice, by two of its names"));
                report.error_at(&path, Part::Key, complaint.help(format!("write `{resource}` alone")));
            }
            Ok(limit) => drop(limits.insert(resource, limit)),
            Err(complaint) => report.error_at(&path, Part::Value, complaint),
        }
    }
    limits
}

/// What may have been meant.
fn help(key: &str) -> String {
    match nearest(&Resource::bare(key), Resource::NAMES.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are {} (setrlimit(2))", Resource::NAMES.join(", ")),
    }
}
