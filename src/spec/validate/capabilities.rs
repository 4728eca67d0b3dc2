//! Rules for capabilities, of a spec and of `berthd.toml`.

use super::report::Report;
use crate::{
    source::Complaint,
    spec::{Capabilities, fragment::CapabilitiesFragment, words::CapabilityWord},
};

/// The whole table.
pub fn capabilities(fragment: CapabilitiesFragment, report: &mut Report<'_>) -> Capabilities {
    for (index, complaint) in beyond_bounding(&fragment) {
        report.error(&format!("capabilities.effective.{index}"), complaint);
    }
    fragment.into()
}

/// What `effective` has and `bounding` has not, by its place in the list. Neither is cut to fit, as in Mesos.
pub fn beyond_bounding(fragment: &CapabilitiesFragment) -> Vec<(usize, Complaint)> {
    let CapabilitiesFragment { effective: Some(effective), bounding: Some(bounding) } = fragment else {
        return Vec::new();
    };
    let bounding = CapabilityWord::set(bounding);
    let outside = effective.iter().enumerate().filter(|(_, word)| !word.0.is_subset(bounding));
    outside
        .map(|(index, word)| {
            let complaint = Complaint::new(format!("{} is not in `bounding`, which is {bounding}", word.0));
            (index, complaint.help("add it there, or take it out here"))
        })
        .collect()
}
