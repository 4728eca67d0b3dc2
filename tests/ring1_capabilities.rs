//! Ring 1: from what a spec and `berthd.toml` say of capabilities to the step of a plan, on a pretended host.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails is to stop")]

use std::fs;

use berth::{
    config::{Config, Overrides},
    host::Host,
    isolators::{self, Isolator, ORDER},
    plan::{Build, CapabilitySets, Phase, Plan, build, needs_restart},
    protocol::{Failure, Stage},
    root::Root,
    spec::{Capability, CapabilitySet, Name, Outcome, Spec, load},
};
use proptest::prelude::*;

/// None.
const NONE: CapabilitySet = CapabilitySet::NONE;

/// A host whose kernel's last capability is `last`, with these files.
struct World {
    /// Goes away with it.
    _directory: tempfile::TempDir,
    /// Below it.
    root: Root,
}

impl World {
    /// A host with a configuration and the spec `web`.
    fn new(last: u8, berthd: &str, spec: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        for (path, text) in [
            ("/proc/sys/kernel/cap_last_cap", format!("{last}\n")),
            ("/etc/berth/berthd.toml", berthd.to_owned()),
            ("/etc/berth/containers/web.toml", format!("command = ['x']\n{spec}")),
        ] {
            fs::create_dir_all(root.at(path).parent().unwrap()).unwrap();
            fs::write(root.at(path), text).unwrap();
        }
        Self { _directory: directory, root }
    }

    /// Its configuration.
    fn config(&self) -> Config {
        let names: Vec<&str> = ORDER.iter().map(|isolator| isolator.name()).collect();
        Config::load(&self.root, &Overrides::default(), [], &names).unwrap_or_else(|errors| panic!("{errors:?}"))
    }

    /// Its spec.
    fn spec(&self) -> Spec {
        match load(&self.root, &self.config().defaults, &name()).unwrap().outcome {
            Outcome::Good(spec) => *spec,
            other => panic!("{other:?}"),
        }
    }

    /// The plan, with these isolators.
    fn plan_with(&self, enabled: &[&'static dyn Isolator]) -> Result<Plan, Failure> {
        let (host, config) = (Host::read(&self.root), self.config());
        build(Build { name: &name(), spec: &self.spec(), host: &host, enabled, config: &config })
    }

    /// The plan, with the isolators that are enabled.
    fn plan(&self) -> Result<Plan, Failure> {
        self.plan_with(&isolators::enabled(&self.config(), &Host::read(&self.root)))
    }

    /// The sets of the plan.
    fn sets(&self) -> CapabilitySets {
        self.plan().unwrap().capability_sets().unwrap().clone()
    }
}

/// The one container here.
fn name() -> Name {
    "web".parse().unwrap()
}

/// The sets without settings, of root and of a user.
#[test]
fn without_a_setting_it_is_the_oci_default() {
    let oci = CapabilitySet::OCI_DEFAULT;
    let root = World::new(40, "", "").sets();
    assert_eq!((root.bounding, root.effective, root.inheritable, root.ambient), (oci, oci, NONE, NONE));
    let user = World::new(40, "", "user = 12345").sets();
    assert_eq!((user.bounding, user.effective, user.inheritable, user.ambient), (oci, NONE, NONE, NONE));
    assert_eq!((root.required, user.required), (NONE, NONE));
    let plan = World::new(40, "", "").plan().unwrap();
    let last = plan.steps.last().unwrap();
    assert_eq!((last.isolator.as_str(), last.phase, plan.warnings.len()), ("linux/capabilities", Phase::Confine, 0));
}

#[test]
fn a_user_has_what_it_is_given_and_keeps_it() {
    let bind = CapabilitySet::of(&[Capability::NET_BIND_SERVICE]);
    let more = bind | CapabilitySet::of(&[Capability::KILL]);
    for (berthd, spec, bounding) in [
        ("", "capabilities.effective = ['CAP_NET_BIND_SERVICE']", bind),
        ("[capabilities]\neffective = ['net_bind_service']", "", bind),
        (
            "[capabilities]\nbounding = ['KILL', 'NET_BIND_SERVICE']",
            "capabilities.effective = ['NET_BIND_SERVICE']",
            more,
        ),
        (
            "[defaults.capabilities]\neffective = ['NET_BIND_SERVICE']",
            "capabilities.bounding = ['NET_BIND_SERVICE', 'KILL']",
            more,
        ),
    ] {
        let sets = World::new(40, berthd, &format!("user = 12345\n{spec}")).sets();
        assert_eq!((sets.bounding, sets.effective), (bounding, bind), "{berthd} {spec}");
        assert_eq!((sets.inheritable, sets.ambient, sets.required), (bind, bind, bind), "{berthd} {spec}");
    }
}

#[test]
fn a_ceiling_may_come_from_the_environment() {
    let world = World::new(40, "", "");
    let load = |value: &str| {
        let variable = ("BERTHD_CAPABILITIES__BOUNDING".to_owned(), value.to_owned());
        Config::load(&world.root, &Overrides::default(), [variable], &[])
    };
    let raw = CapabilitySet::of(&[Capability::NET_RAW, Capability::KILL]);
    assert_eq!(load("[CAP_NET_RAW, kill]").unwrap().capabilities.bounding, Some(raw));
    let errors = load("[NET_RWA]").unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "$BERTHD_CAPABILITIES__BOUNDING: capabilities.bounding.0: \"NET_RWA\" is no capability (did you mean \"NET_RAW\"?)"
    );
}

#[test]
fn all_is_what_the_kernel_has_and_not_asked_for_by_name() {
    for (last, berthd, spec) in [
        (40, "", "capabilities.bounding = ['ALL']"),
        (37, "[capabilities]\nbounding = ['all']", ""),
        (63, "", "capabilities = { effective = ['ALL'], bounding = ['ALL', 'KILL'] }\nuser = 12345"),
    ] {
        let sets = World::new(last, berthd, spec).sets();
        let all = CapabilitySet::up_to(last);
        assert_eq!((sets.bounding, sets.effective, sets.required), (all, all, NONE), "{berthd} {spec}");
    }
}

#[test]
fn refusals_name_both_sets_and_the_cure() {
    let ceiling = "[capabilities]\nbounding = ['NET_RAW', 'KILL']";
    for (last, berthd, spec, message) in [
        (
            40,
            ceiling,
            "capabilities.bounding = ['KILL', 'SYS_ADMIN']",
            "capabilities.bounding asks for KILL SYS_ADMIN, but no more than KILL NET_RAW is allowed here (bounding under \
             [capabilities] in berthd.toml); ask for less, or have that widened",
        ),
        (
            40,
            ceiling,
            "capabilities.effective = ['ALL']",
            "capabilities.effective asks for all, but no more than KILL NET_RAW",
        ),
        (
            40,
            ceiling,
            "capabilities.bounding = ['all']",
            "capabilities.bounding asks for all, but no more than KILL NET_RAW",
        ),
        (
            40,
            "[capabilities]\neffective = ['KILL']",
            "capabilities.bounding = []",
            "capabilities.bounding is none, and a spec without capabilities.effective gets KILL (effective under \
             [capabilities] in berthd.toml), which is more; write capabilities.effective = [] or what the program needs",
        ),
        (
            37,
            "",
            "capabilities.effective = ['BPF', 'KILL']",
            "the kernel of this host does not have BPF (/proc/sys/kernel/cap_last_cap names its last capability); take it \
             out of [capabilities], or boot a newer kernel",
        ),
    ] {
        let failure = World::new(last, berthd, spec).plan().unwrap_err();
        assert!(failure.message.starts_with(message), "{}\n{message}", failure.message);
        assert_eq!((failure.stage, failure.errno, failure.path), (Stage::Config, None, None));
    }
    // A ceiling higher than this kernel is one all the same.
    assert_eq!(World::new(37, "[capabilities]\nbounding = ['BPF', 'KILL']", "").sets().bounding.to_string(), "KILL");
}

#[test]
fn a_set_is_refused_where_the_isolator_is_off_and_else_nothing_is_done() {
    for key in ["effective", "bounding"] {
        let world = World::new(40, "isolation = []", &format!("capabilities.{key} = []"));
        let message = world.plan().unwrap_err().message;
        assert!(message.starts_with(&format!("capabilities.{key} needs the isolator linux/capabilities")), "{message}");
    }
    let plan = World::new(40, "isolation = []", "").plan().unwrap();
    assert_eq!(plan.capability_sets(), None);
}

#[test]
fn only_a_restart_changes_them() {
    let spec = |text: &str| World::new(40, "", text).spec();
    let (none, both) = (spec(""), spec("capabilities = { effective = [], bounding = ['KILL'] }"));
    assert_eq!(needs_restart(&none, &both), ["capabilities.effective", "capabilities.bounding"]);
    assert_eq!(
        needs_restart(&both, &spec("capabilities = { effective = [], bounding = ['kill', 'CAP_KILL'] }")),
        [""; 0]
    );
    assert_eq!(needs_restart(&none, &spec("capabilities.effective = []")), ["capabilities.effective"]);
    // What said nothing of capabilities before there were any says the same now.
    assert!(!serde_json::to_string(&none).unwrap().contains("capabilities"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// However a spec and berthd.toml are put together: no set is beyond another, nor beyond the ceiling.
    #[test]
    fn no_set_exceeds_another(
        sets in prop::array::uniform4(prop::option::of(prop::collection::vec(0..6_usize, 0..4))),
        root: bool,
    ) {
        const NAMES: [&str; 6] = ["KILL", "net_raw", "CAP_BPF", "SYS_ADMIN", "CHOWN", "ALL"];
        let line = |key: &str, set: &Option<Vec<usize>>| set.as_ref().map_or_else(String::new, |set| {
            format!("{key} = {:?}\n", set.iter().map(|index| NAMES[*index]).collect::<Vec<_>>())
        });
        let table = |at: usize| format!("[capabilities]\n{}{}", line("effective", &sets[at]), line("bounding", &sets[at + 1]));
        let user = if root { "" } else { "user = 12345\n" };
        let world = World::new(39, &table(0), &format!("{user}{}", table(2)));
        let names: Vec<&str> = ORDER.iter().map(|isolator| isolator.name()).collect();
        let Ok(config) = Config::load(&world.root, &Overrides::default(), [], &names) else { return Ok(()) };
        let Outcome::Good(_) = load(&world.root, &config.defaults, &name()).unwrap().outcome else { return Ok(()) };
        let Ok(plan) = world.plan() else { return Ok(()) };
        let CapabilitySets { bounding, effective, inheritable, ambient, required, .. } = plan.capability_sets().unwrap();
        prop_assert!(bounding.is_subset(CapabilitySet::up_to(39) & config.capabilities.bounding.unwrap_or(CapabilitySet::ALL)));
        prop_assert!(effective.is_subset(*bounding) && ambient.is_subset(*effective) && required.is_subset(*effective));
        prop_assert_eq!(inheritable, ambient);
        prop_assert_eq!(if root { effective } else { ambient }, if root { bounding } else { effective });
    }
}
