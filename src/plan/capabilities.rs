//! The capabilities of the program: granted by one isolator, forbidden by others, put together once.
//!
//! While a plan is made, isolators say what they want of capabilities in any order ([`Plan::grant_capabilities`],
//! [`Plan::forbid_capability`]). When all have spoken, one step comes of it, or none where nobody has.

use std::mem;

use serde::{Deserialize, Serialize};

use super::{Action, Phase, Plan, Step, build::CORE};
use crate::spec::{Capabilities, Capability, CapabilitySet};

/// What isolators have said so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CapabilityWishes {
    /// What the program shall have.
    granted: Option<Grant>,
    /// What it must not have.
    forbidden: Vec<Forbidden>,
}

/// What one isolator grants the program, before others forbid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Who grants.
    pub isolator: &'static str,
    /// What the program and all that it executes can have at most.
    pub bounding: CapabilitySet,
    /// What the program of an ordinary user has; root's has all of `bounding`.
    pub effective: CapabilitySet,
    /// What was asked for by name: not to have it is a failure.
    pub required: CapabilitySet,
}

/// A capability that the program must not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forbidden {
    /// Which.
    pub capability: Capability,
    /// Who forbids it.
    pub isolator: String,
    /// Why: what the program could do with it.
    pub reason: String,
}

/// The sets of capabilities(7) that the program begins with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CapabilitySets {
    /// What neither it nor anything that it executes can exceed.
    pub bounding: CapabilitySet,
    /// What it has: permitted and effective.
    pub effective: CapabilitySet,
    /// What files with an inheritable set of their own let through. Never more than is ambient: root with a stray
    /// inheritable set was CVE-2022-24769.
    pub inheritable: CapabilitySet,
    /// What the program of an ordinary user keeps over execve(2).
    pub ambient: CapabilitySet,
    /// What of `effective` the start fails without; the rest is had as far as the launcher has it.
    pub required: CapabilitySet,
    /// What was taken out of the others.
    pub without: Vec<Forbidden>,
}

impl Plan {
    /// Says what the program shall have. For one isolator alone; the last word counts.
    pub fn grant_capabilities(&mut self, grant: Grant) {
        self.capabilities.granted = Some(grant);
    }

    /// Says that the program must not have `capability`, and what it could do with it ("it could …"). It does not
    /// get it, be `linux/capabilities` enabled or not, unless the spec names it: then it stays, with a warning.
    pub fn forbid_capability(&mut self, isolator: &'static str, capability: Capability, reason: impl Into<String>) {
        let forbidden = Forbidden { capability, isolator: isolator.to_owned(), reason: reason.into() };
        self.capabilities.forbidden.push(forbidden);
    }

    /// The sets that the program begins with; none where nobody had anything to say.
    #[must_use]
    pub fn capability_sets(&self) -> Option<&CapabilitySets> {
        self.steps.iter().find_map(|step| match &step.action {
            Action::SetCapabilities(sets) => Some(sets),
            _ => None,
        })
    }

    /// Makes the step of what was said for a program of root or another user. `kernel` is all that there are.
    pub(super) fn compose_capabilities(&mut self, is_root: bool, spec: &Capabilities, kernel: CapabilitySet) {
        let CapabilityWishes { granted, forbidden } = mem::take(&mut self.capabilities);
        let is_granted = granted.is_some();
        let grant = granted.unwrap_or(Grant::of_nobody(kernel));
        if is_root && spec.effective.is_some() && grant.effective != grant.bounding {
            self.warnings.push(ROOT_HAS_ALL.to_owned());
        }
        let (kept, without): (Vec<_>, Vec<_>) = forbidden
            .into_iter()
            .filter(|forbidden| grant.bounding.contains(forbidden.capability))
            .partition(|forbidden| spec.named().contains(forbidden.capability));
        self.warnings.extend(kept.iter().map(warning));
        if is_granted || !without.is_empty() {
            let (isolator, action) = (grant.isolator, Action::SetCapabilities(grant.sets(is_root, without)));
            self.steps.push(Step { isolator: isolator.to_owned(), phase: Phase::Confine, action });
        }
    }
}

impl Grant {
    /// Where nobody grants, all stays as it is.
    fn of_nobody(kernel: CapabilitySet) -> Self {
        let none = CapabilitySet::NONE;
        Self { isolator: CORE, bounding: kernel, effective: none, required: none }
    }

    /// The sets of a program of root or another user, less what is forbidden.
    fn sets(self, is_root: bool, without: Vec<Forbidden>) -> CapabilitySets {
        let taken = without.iter().map(|forbidden| forbidden.capability.into()).collect();
        let bounding = self.bounding - taken;
        // The kernel takes an ordinary user's program all that is not ambient, at execve(2).
        let (required, effective) = (self.required, self.effective - taken);
        let sets =
            CapabilitySets { bounding, effective, inheritable: effective, ambient: effective, required, without };
        let sets = if is_root { sets.for_root() } else { sets };
        CapabilitySets { required: sets.required & sets.effective, ..sets }
    }
}

impl CapabilitySets {
    /// The same for a program of root: the kernel gives it all of the bounding set at execve(2), whatever it had before.
    #[must_use]
    pub fn for_root(self) -> Self {
        Self { effective: self.bounding, inheritable: CapabilitySet::NONE, ambient: CapabilitySet::NONE, ..self }
    }
}

/// What there is to say of a smaller effective set for root.
const ROOT_HAS_ALL: &str = "capabilities.effective has no say here: the kernel gives a program of root all of the \
                            bounding set; make capabilities.bounding as small, or set user";

/// What there is to say of a capability that the spec insists on.
fn warning(kept: &Forbidden) -> String {
    let Forbidden { capability, isolator, reason } = kept;
    format!("the program keeps {capability}, which [capabilities] names, though {isolator} forbids it: {reason}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::plan::{Program, UnitSettings};

    /// All of a present kernel.
    const KERNEL: CapabilitySet = CapabilitySet::NAMED;
    /// None.
    const NONE: CapabilitySet = CapabilitySet::NONE;
    /// What a spec asks for here.
    const ASKED: CapabilitySet = CapabilitySet::of(&[Capability::NET_ADMIN, Capability::NET_RAW]);
    /// Two of them, alone.
    const ADMIN: CapabilitySet = CapabilitySet::of(&[Capability::NET_ADMIN]);
    /// See [`ADMIN`].
    const RAW: CapabilitySet = CapabilitySet::of(&[Capability::NET_RAW]);

    /// A plan of nothing.
    fn plan() -> Plan {
        Plan {
            container: "web".parse().unwrap(),
            unit: UnitSettings::default(),
            namespaces: BTreeSet::new(),
            sandbox: None,
            tag: None,
            image: None,
            disk: None,
            steps: vec![],
            program: Program { executable: "x".to_owned(), argv: vec![], environment: vec![], init: false },
            warnings: vec![],
            capabilities: CapabilityWishes::default(),
        }
    }

    /// A grant of these, the effective ones by name.
    fn grant(bounding: CapabilitySet, effective: CapabilitySet) -> Option<Grant> {
        Some(Grant { isolator: "linux/capabilities", bounding, effective, required: effective })
    }

    /// What a spec says that names these.
    fn spec(named: CapabilitySet) -> Capabilities {
        Capabilities { effective: None, bounding: Some(named) }
    }

    #[test]
    fn a_step_comes_of_what_was_said() {
        // grant, forbidden, named by the spec, root? -> bounding, effective, ambient, required, warnings
        type Row = (Option<Grant>, CapabilitySet, CapabilitySet, bool, [CapabilitySet; 4], usize);
        let oci = CapabilitySet::OCI_DEFAULT;
        let table: [Row; 9] = [
            (grant(oci, NONE), NONE, NONE, true, [oci, oci, NONE, NONE], 0),
            (grant(oci, NONE), NONE, NONE, false, [oci, NONE, NONE, NONE], 0),
            (grant(ASKED, ASKED), NONE, ASKED, true, [ASKED, ASKED, NONE, ASKED], 0),
            (grant(ASKED, ADMIN), NONE, ASKED, false, [ASKED, ADMIN, ADMIN, ADMIN], 0),
            (grant(oci, NONE), ASKED, NONE, true, [oci - RAW, oci - RAW, NONE, NONE], 0),
            (grant(ASKED, ASKED), RAW, NONE, false, [ADMIN, ADMIN, ADMIN, ADMIN], 0),
            (grant(ASKED, ASKED), ASKED, ADMIN, false, [ADMIN, ADMIN, ADMIN, ADMIN], 1),
            (None, ASKED, NONE, true, [KERNEL - ASKED, KERNEL - ASKED, NONE, NONE], 0),
            (None, ADMIN, NONE, false, [KERNEL - ADMIN, NONE, NONE, NONE], 0),
        ];
        for (granted, forbidden, named, is_root, [bounding, effective, ambient, required], warnings) in table {
            let mut plan = plan();
            forbidden.iter().for_each(|capability| plan.forbid_capability("cgroups/net_cls", capability, "it could x"));
            let by = granted.as_ref().map_or("berth", |grant| grant.isolator);
            let case = format!("{granted:?} {forbidden} {named} {is_root}");
            granted.into_iter().for_each(|grant| plan.grant_capabilities(grant));
            plan.compose_capabilities(is_root, &spec(named), KERNEL);
            let sets = plan.capability_sets().unwrap();
            assert_eq!(
                [sets.bounding, sets.effective, sets.ambient, sets.required],
                [bounding, effective, ambient, required],
                "{case}"
            );
            assert_eq!(sets.inheritable, sets.ambient, "{case}");
            assert_eq!((plan.steps.len(), plan.steps[0].isolator.as_str()), (1, by), "{case}");
            assert_eq!(plan.warnings.len(), warnings, "{case}");
            assert_eq!(plan.capabilities, CapabilityWishes::default());
            let json = serde_json::to_string(&plan).unwrap();
            assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan, "{json}");
        }
    }

    #[test]
    fn nothing_said_is_no_step() {
        let mut plan = plan();
        plan.compose_capabilities(true, &spec(NONE), KERNEL);
        assert_eq!(plan.steps, []);
        // This kernel has no CAP_BPF that could be taken.
        plan.forbid_capability("x/y", Capability::BPF, "it could x");
        plan.compose_capabilities(true, &spec(NONE), CapabilitySet::up_to(38));
        assert_eq!(plan.steps, []);
    }

    #[test]
    fn root_is_told_that_it_has_all_of_the_bounding_set() {
        let own = Capabilities { effective: Some(ADMIN), bounding: None };
        for (is_root, bounding, spec, warnings) in
            [(true, ASKED, own, 1), (true, ADMIN, own, 0), (false, ASKED, own, 0), (true, ASKED, spec(NONE), 0)]
        {
            let mut plan = plan();
            plan.grant_capabilities(grant(bounding, ADMIN).unwrap());
            plan.compose_capabilities(is_root, &spec, KERNEL);
            assert_eq!(plan.warnings.len(), warnings, "{is_root} {bounding}");
        }
    }

    #[test]
    fn an_insisting_spec_is_warned_in_a_sentence() {
        let mut plan = plan();
        plan.forbid_capability("cgroups/net_cls", Capability::NET_ADMIN, "it could give its traffic another class");
        plan.grant_capabilities(grant(ADMIN, ADMIN).unwrap());
        plan.compose_capabilities(false, &spec(ADMIN), KERNEL);
        assert_eq!(
            plan.warnings,
            [
                "the program keeps NET_ADMIN, which [capabilities] names, though cgroups/net_cls forbids it: it could give \
              its traffic another class"
            ]
        );
        assert_eq!(plan.capability_sets().unwrap().without, []);
    }
}
