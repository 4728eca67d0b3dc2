//! Records that cannot be used.

use std::collections::BTreeSet;

use crate::{
    support::host::Suite,
    world::{World, counted},
};

/// `RecordDamaged` of `src/journal.rs`: frozen.
const RECORD_DAMAGED: &str = "a6b23b5129344445afca5ff5cc6c197b";

pub fn damaged(suite: Suite) {
    let world = World::new(suite);
    let bad = ["truncated", "empty", "binary", "foreign", "future"];
    let good = ["good1", "good2", "good3", "ended", "removed", "stopped"];
    let all: Vec<&str> = bad.iter().chain(&good).copied().collect();
    all.iter().for_each(|name| world.drop_counted(name, ""));
    world.wait_running(&all);
    world.settle();
    let before = world.all_facts(&all);
    world.phase("eleven run");

    let record = |name: &str| format!("/run/berth/records/{name}.json");
    world.while_dead(|| {
        let text = world.host.read(record("truncated"));
        world.host.write(record("truncated"), &text[..text.len() / 2]);
        world.host.write(record("empty"), "");
        world.host.write(record("binary"), [0_u8, 255, 13, 10, 0, 127, 200]);
        world.host.write(record("foreign"), world.host.read(record("good1")));
        let future = world.host.read(record("future"));
        assert!(future.contains("\"schema\":1,"), "{future}");
        world.host.write(record("future"), future.replacen("\"schema\":1,", "\"schema\":99,\"more\":[],", 1));
        world.host.write("/run/berth/records/good2.tmp", "half a rec");
        world.host.write("/run/berth/records/no name at all.json", "{}");
        world.delete("removed");
        world.host.ok("systemctl stop berth@stopped");
    });
    world.be_true_within(std::time::Duration::from_secs(1));
    world.settle();
    world.phase("damaged and back");

    let after = world.all_facts(&all);
    for name in bad.iter().chain(&["good1", "good2", "good3", "ended"]) {
        assert_eq!(after[*name], before[*name], "{name}");
        assert_eq!((world.starts(name), world.word(name).as_str()), (1, "running"), "{name}");
    }
    assert_eq!((world.word("stopped").as_str(), world.word("removed").as_str()), ("stopped", ""));
    for name in bad.iter().copied().chain(["no name at all"]) {
        assert!(world.host.files().exists(format!("/run/berth/records/{name}.damaged")), "{name} is kept for people");
    }
    assert!(!world.host.files().exists("/run/berth/records/good2.tmp"));
    assert_eq!(world.events(RECORD_DAMAGED), bad.len() + 1);
    let told = world.host.ok(&format!("journalctl -q -b -o cat MESSAGE_ID={RECORD_DAMAGED} BERTH_CONTAINER=foreign"));
    assert!(told.contains("it is the record of 'good1'") && told.contains(".damaged"), "{told}");
    assert_eq!(world.sandboxes("truncated").len(), 1, "the sandbox of what runs stays");

    use_again(&world, &bad);
    world.phase("used again");
}

/// Containers whose records were lost are as good as any other.
fn use_again(world: &World, bad: &[&str]) {
    world.while_dead(|| ());
    world.settle();
    bad.iter().for_each(|name| assert_eq!(world.starts(name), 1, "{name}, after another death"));

    world.drop_spec("binary", &format!("# nothing\n{}", counted("binary", "")));
    world.drop_counted("empty", "environment = { V = \"2\" }\n");
    world.drop_counted("foreign", "[service]\nstop_timeout = \"33s\"\n");
    world.delete("truncated");
    world.host.ok("systemctl stop berth@future");
    world.host.wait_for("the edit of one whose record was lost", crate::world::PATIENCE, || {
        (world.starts("empty") == 2).then_some(())
    });
    world.settle();
    let states = bad.iter().map(|name| world.word(name)).collect::<Vec<_>>();
    assert_eq!(states, ["", "running", "running", "running", "stopped"]);
    assert_eq!(world.starts("binary"), 1);
    assert_eq!(world.host.show("berth@foreign", "TimeoutStopUSec"), "33s");

    bad[1..].iter().for_each(|name| world.delete(name));
    world.settle();
    let running = ["good1", "good2", "good3", "ended"].map(String::from).into();
    let left = world.leftovers(&running, &BTreeSet::from(["stopped".to_owned()]));
    let left: Vec<_> = left.into_iter().filter(|what| !what.ends_with(".damaged")).collect();
    assert_eq!(left, [] as [&str; 0]);
}
