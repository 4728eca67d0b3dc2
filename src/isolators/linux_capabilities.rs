//! `linux/capabilities`: what of root's power the program has, and can have at most.
//!
//! Mesos: `isolators/linux/capabilities.cpp`, `launch.cpp`. What nobody says is filled in as there; but where nobody
//! says anything the program is held to what OCI engines give, and Mesos does nothing. Put right here: a set that is
//! asked for is refused where the isolator is off, the inheritable set is never more than the ambient one, and what is
//! in force can be seen.

use std::fs;

use super::{Check, Isolator, Recorded, Refusal, Support};
use crate::{
    error::reason,
    host::Host,
    observe::ContainerStatus,
    plan::{Grant, Plan},
    spec::{Capabilities, CapabilitySet, Spec},
    sys::proc::ProcCapabilities,
};

/// See the module.
#[derive(Debug)]
pub struct LinuxCapabilities;

/// Its name.
const NAME: &str = "linux/capabilities";
/// A key of the spec.
const EFFECTIVE: &str = "capabilities.effective";
/// A key of the spec.
const BOUNDING: &str = "capabilities.bounding";

impl Isolator for LinuxCapabilities {
    fn name(&self) -> &'static str {
        NAME
    }

    fn probe(&self, host: &Host) -> Support {
        if host.last_capability.is_some() {
            Support::Yes
        } else {
            Support::No("/proc/sys/kernel/cap_last_cap does not tell what capabilities there are".to_owned())
        }
    }

    fn wanted_by(&self, spec: &Spec) -> Option<&'static str> {
        let Capabilities { effective, bounding } = spec.capabilities;
        effective.map(|_| EFFECTIVE).or_else(|| bounding.map(|_| BOUNDING))
    }

    fn check(&self, cx: &Check<'_>, plan: &mut Plan) -> Result<(), Refusal> {
        let (spec, default) = (&cx.spec.capabilities, &cx.config.capabilities);
        let Filled { bounding, effective } = fill_in(spec, default)?;
        let kernel = cx.host.capabilities();
        // A ceiling is no wish, and who says "all" takes what there is.
        let required = spec.named() | Capabilities { bounding: None, ..*default }.named();
        if !required.is_subset(kernel) {
            return Err(unknown_to_kernel(required - kernel, spec));
        }
        plan.grant_capabilities(Grant {
            isolator: NAME,
            bounding: bounding & kernel,
            effective: effective & kernel,
            required,
        });
        Ok(())
    }

    fn needs_restart(&self, old: &Spec, new: &Spec) -> Vec<&'static str> {
        let (old, new) = (&old.capabilities, &new.capabilities);
        let differs = [(EFFECTIVE, old.effective != new.effective), (BOUNDING, old.bounding != new.bounding)];
        differs.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
    }

    fn status(&self, cx: &Recorded<'_>, _out: &mut ContainerStatus) -> Result<Option<String>, String> {
        let (Some(process), Some(_)) = (cx.run.process, cx.run.plan.capability_sets()) else { return Ok(None) };
        let unreadable = |what: String, error: &std::io::Error| format!("cannot read {what}: {}", reason(error));
        let sets = ProcCapabilities::read(&cx.root.at("/proc"), process.pid)
            .map_err(|error| unreadable(format!("/proc/{}/status", process.pid), &error))?;
        let last = fs::read_to_string(cx.root.at(LAST)).map_err(|error| unreadable(LAST.to_owned(), &error))?;
        let all = last.trim().parse().map_or(CapabilitySet::NAMED, CapabilitySet::up_to);
        let words = |bits| CapabilitySet::from_bits(bits).in_words(all);
        let [bounding, effective, ambient] = [sets.bounding, sets.effective, sets.ambient].map(words);
        Ok(Some(format!("bounding: {bounding}; effective: {effective}; ambient: {ambient}")))
    }
}

/// Sets without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Filled {
    /// At most.
    bounding: CapabilitySet,
    /// What a user's program has.
    effective: CapabilitySet,
}

/// Fills in what `spec` does not say, by Mesos's table (mesos.md §13). `default` is berthd.toml's: its effective set is
/// a default and its bounding set a default and the ceiling. Nothing is ever cut to fit.
fn fill_in(spec: &Capabilities, default: &Capabilities) -> Result<Filled, Refusal> {
    if let (Some(asked), Some(ceiling)) = (spec.bounding, default.bounding)
        && !asked.is_subset(ceiling)
    {
        return Err(above_ceiling(BOUNDING, asked, ceiling));
    }
    let effective = spec.effective.or(default.effective);
    let bounding = spec.bounding.or(default.bounding).or(effective).unwrap_or(CapabilitySet::OCI_DEFAULT);
    let filled = Filled { bounding, effective: effective.unwrap_or(CapabilitySet::NONE) };
    match (filled.effective.is_subset(bounding), spec.effective) {
        (true, _) => Ok(filled),
        (false, Some(asked)) => Err(above_ceiling(EFFECTIVE, asked, bounding)),
        (false, None) => Err(default_does_not_fit(filled)),
    }
}

/// More than the administrator allows. Mesos: "Bounding capabilities '…', but only '…' are allowed".
fn above_ceiling(key: &'static str, asked: CapabilitySet, ceiling: CapabilitySet) -> Refusal {
    let message = format!(
        "{key} asks for {asked}, but no more than {ceiling} is allowed here (bounding under [capabilities] in \
         berthd.toml); ask for less, or have that widened"
    );
    Refusal::config(NAME, key, message)
}

/// The administrator's default for programs is more than the spec limits this one to.
fn default_does_not_fit(Filled { bounding, effective }: Filled) -> Refusal {
    let message = format!(
        "{BOUNDING} is {bounding}, and a spec without {EFFECTIVE} gets {effective} (effective under [capabilities] in \
         berthd.toml), which is more; write {EFFECTIVE} = [] or what the program needs"
    );
    Refusal::config(NAME, BOUNDING, message)
}

/// A capability of a kernel newer than this one.
fn unknown_to_kernel(missing: CapabilitySet, spec: &Capabilities) -> Refusal {
    let is_effective = spec.effective.is_some_and(|effective| !(effective & missing).is_empty());
    let message = format!(
        "the kernel of this host does not have {missing} ({LAST} names its last capability); take it out of \
         [capabilities], or boot a newer kernel"
    );
    Refusal::config(NAME, if is_effective { EFFECTIVE } else { BOUNDING }, message)
}

/// The number of the kernel's last capability.
const LAST: &str = "/proc/sys/kernel/cap_last_cap";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Capability;

    /// Mesos's table: what a spec and berthd.toml say, and what comes of it. `A` to `C` are capabilities, `-` none,
    /// and a blank is nothing said.
    const TABLE: &str = "
        spec eff | spec bnd | berthd eff | berthd bnd | eff | bnd
                 |          |            |            | -   | OCI
                 |          |            | A B        | -   | A B
                 |          | A          |            | A   | A
                 |          | A          | A B        | A   | A B
                 |          | -          |            | -   | -
                 | A        |            |            | -   | A
                 | -        |            |            | -   | -
                 | A        |            | A B        | -   | A
                 | A C      |            | A B        | refused
                 | A B      | A          |            | A   | A B
                 | A B      | A          | A B        | A   | A B
                 | B        | A          |            | refused
                 | B        | A          | A B        | refused
                 | A C      | A          | A B        | refused
        A        |          |            |            | A   | A
        -        |          |            |            | -   | -
        A        |          |            | A B        | A   | A B
        A C      |          |            | A B        | refused
        A        |          | B          |            | A   | A
        A        |          | B          | A B        | A   | A B
        C        |          | B          | A B        | refused
        A        | A B      |            |            | A   | A B
        -        | A B      |            |            | -   | A B
        A        | A        |            | A B        | A   | A
        A        | A C      |            | A B        | refused
        A        | A B      | B          |            | A   | A B
        -        | A        | B          | A B        | -   | A
        ALL      |          |            | A B        | refused
                 | ALL      |            | A B        | refused
        ALL      |          |            |            | ALL | ALL
        A        |          |            | ALL        | A   | ALL
                 | ALL      |            | ALL        | -   | ALL";

    /// A cell of the table.
    fn cell(text: &str) -> Option<CapabilitySet> {
        let set = |word: &str| match word {
            "A" => CapabilitySet::of(&[Capability::NET_RAW]),
            "B" => CapabilitySet::of(&[Capability::KILL]),
            "C" => CapabilitySet::of(&[Capability::SYS_ADMIN]),
            "OCI" => CapabilitySet::OCI_DEFAULT,
            "ALL" => CapabilitySet::ALL,
            _ => CapabilitySet::NONE,
        };
        (!text.trim().is_empty()).then(|| text.split_whitespace().map(set).collect())
    }

    #[test]
    fn gaps_are_filled_as_mesos_fills_them() {
        let rows: Vec<&str> = TABLE.lines().skip(2).collect();
        assert_eq!(rows.len(), 32);
        for row in rows {
            let cells: Vec<&str> = row.split('|').collect();
            let said = |at: usize| Capabilities { effective: cell(cells[at]), bounding: cell(cells[at + 1]) };
            let filled = fill_in(&said(0), &said(2));
            if cells[4].trim() == "refused" {
                assert_eq!(filled.unwrap_err().failure.stage.exit_status(), 78, "{row}");
            } else {
                let expected = Filled { effective: cell(cells[4]).unwrap(), bounding: cell(cells[5]).unwrap() };
                assert_eq!(filled, Ok(expected), "{row}");
            }
        }
    }
}
