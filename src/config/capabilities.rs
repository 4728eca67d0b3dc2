//! Rules for `[capabilities]`.

use super::ConfigFragment;
use crate::{
    source::{Complaint, Diagnostic, Part, Stack, dotted},
    spec::{Capabilities, beyond_bounding},
};

/// The isolator that heeds the table.
const ISOLATOR: &str = "linux/capabilities";

/// The default of all specs must lie below the ceiling of all, as in Mesos; and a ceiling that stands there and that
/// nobody keeps would be worse than none.
pub fn check(fragment: &ConfigFragment, stack: &Stack, errors: &mut Vec<Diagnostic>) {
    let Some(capabilities) = &fragment.capabilities else { return };
    let mut tell = |path: &str, part: Part, complaint: Complaint| {
        let found = stack.error(&dotted(path), part, &complaint.message, 0);
        errors.extend(found.map(|found| found.with_help(complaint.help)));
    };
    for (index, complaint) in beyond_bounding(capabilities) {
        tell(&format!("capabilities.effective.{index}"), Part::Value, complaint);
    }
    let is_listed = |names: &Vec<String>| names.iter().any(|name| name == ISOLATOR);
    let is_heeded = fragment.isolation.as_ref().is_none_or(is_listed);
    if !is_heeded && !Capabilities::from(capabilities.clone()).is_unset() {
        let complaint = Complaint::new(format!("nobody heeds this: `isolation` does not list \"{ISOLATOR}\""));
        tell("capabilities", Part::Key, complaint.help("list it there, or remove this table"));
    }
}
