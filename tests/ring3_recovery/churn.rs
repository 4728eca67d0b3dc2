//! berthd is killed a hundred times while people work.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::{
    support::{host::Suite, inside::Running},
    world::{PATIENCE, World, counted},
};

/// How often berthd is killed when `BERTH_TEST_ROUNDS` says nothing else.
const ROUNDS: u32 = 100;

/// The seed when `BERTH_TEST_SEED` names none.
const SEED: u64 = 20_260_131;

/// splitmix64.
struct Random(u64);

impl Random {
    fn new() -> (u64, Random) {
        let seed = std::env::var("BERTH_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
        (seed, Random(seed))
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit
    }
}

/// A hundred rounds.
struct Churn {
    world: World,
    random: Random,
    /// Containers whose files change: the version that is wanted, if any.
    edited: BTreeMap<String, Option<u64>>,
    /// Containers that an operator starts and stops: whether it is to run, how often it was to be started.
    operated: BTreeMap<String, (bool, usize)>,
    /// Containers with which everything is done at once: whether there is a file.
    mixed: BTreeMap<String, bool>,
    /// The operator's commands under way.
    commands: BTreeMap<String, (String, Running)>,
    version: u64,
}

pub fn churn(suite: Suite) {
    let (seed, random) = Random::new();
    let rounds = std::env::var("BERTH_TEST_ROUNDS").map_or(ROUNDS, |number| number.parse().unwrap());
    eprintln!("  {suite}: BERTH_TEST_SEED={seed}, {rounds} rounds");
    let world = World::new(suite);
    world.berthd_unit("[Unit]\nStartLimitBurst=0\n[Service]\nRestartSec=10ms\n");
    world.host.write("/run/systemd/system/berth@.service.d/test.conf", "[Unit]\nStartLimitIntervalSec=0\n");
    world.host.write("/etc/berth/berthd.toml", "[sandbox]\nkeep = 2\n");
    world.host.ok("systemctl daemon-reload; systemctl restart berthd");
    let names = |kind: &str, count: u32| (0..count).map(|n| format!("{kind}{n}")).collect::<Vec<_>>();
    let mut churn = Churn {
        world,
        random,
        edited: names("edited", 10).into_iter().map(|name| (name, None)).collect(),
        operated: names("operated", 6).into_iter().map(|name| (name, (true, 1))).collect(),
        mixed: names("mixed", 4).into_iter().map(|name| (name, false)).collect(),
        commands: BTreeMap::new(),
        version: 0,
    };
    for name in churn.operated.keys() {
        churn.world.drop_counted(name, "environment = { V = \"0\" }\n");
    }
    let operated: Vec<&str> = churn.operated.keys().map(String::as_str).collect();
    churn.world.wait_running(&operated);
    churn.world.settle();
    churn.world.phase("before");
    for _ in 0..rounds {
        churn.round();
    }
    churn.world.phase("rounds");
    churn.wait_for_commands();
    churn
        .world
        .host
        .wait_for("berthd", PATIENCE, || (churn.world.host.show("berthd", "ActiveState") == "active").then_some(()));
    churn.world.settle();
    churn.world.phase("quiet");
    churn.judge();
    churn.world.phase("judged");
}

impl Churn {
    /// Some deeds, then the end of berthd at a moment that nobody chose.
    fn round(&mut self) {
        if self.random.below(4) == 0 {
            self.world.host.wait_for("berthd to be ready", PATIENCE, || {
                (self.world.host.show("berthd", "ActiveState") == "active").then_some(())
            });
        }
        for _ in 0..=self.random.below(3) {
            match self.random.below(4) {
                0 | 1 => self.edit(),
                2 => self.operate(),
                _ => self.mix(),
            }
        }
        let moment = Instant::now() + Duration::from_millis(self.random.below(60));
        std::thread::sleep(moment.saturating_duration_since(Instant::now()));
        self.world.host.wait_for("a berthd to kill", PATIENCE, || self.world.kill().then_some(()));
    }

    /// One of several, by chance.
    fn pick(&mut self, names: Vec<String>) -> String {
        let index = self.random.below(names.len() as u64);
        names[usize::try_from(index).unwrap()].clone()
    }

    /// A spec of a version that no other spec ever has.
    fn write(&mut self, name: &str) -> u64 {
        self.version += 1;
        let settings = match self.random.below(3) {
            0 => format!("[service]\nstop_timeout = \"{}s\"\n", 20 + self.version),
            _ => String::new(),
        };
        let more = format!("environment = {{ V = \"{}\" }}\n{settings}", self.version);
        self.world.drop_counted(name, &more);
        self.version
    }

    fn edit(&mut self) {
        let name = self.pick(self.edited.keys().cloned().collect());
        let wanted = if self.edited[&name].is_some() && self.random.below(3) == 0 {
            self.world.delete(&name);
            None
        } else {
            Some(self.write(&name))
        };
        self.edited.insert(name, wanted);
    }

    /// An operator's command, one at a time for a container.
    fn operate(&mut self) {
        let name = self.pick(self.operated.keys().cloned().collect());
        self.wait_for(&name);
        let (runs, starts) = self.operated[&name];
        let (verb, now) = match (runs, self.random.below(3)) {
            (true, 0) => ("restart", (true, starts + 1)),
            (true, _) => ("stop", (false, starts)),
            (false, 0) => ("stop", (false, starts)),
            (false, _) => ("start", (true, starts + 1)),
        };
        self.operated.insert(name.clone(), now);
        self.command(&name, verb);
        if self.random.below(3) == 0 {
            let comment = format!("# {}\n{}", self.version, counted(&name, "environment = { V = \"0\" }\n"));
            self.world.drop_spec(&name, &comment);
        }
    }

    fn mix(&mut self) {
        let name = self.pick(self.mixed.keys().cloned().collect());
        match (self.mixed[&name], self.random.below(4)) {
            (true, 0) => {
                self.world.delete(&name);
                self.mixed.insert(name, false);
            }
            (true, 1) => {
                self.wait_for(&name);
                self.command(&name, "stop");
            }
            (true, 2) => {
                self.wait_for(&name);
                self.command(&name, "start");
            }
            _ => {
                self.write(&name);
                self.mixed.insert(name, true);
            }
        }
    }

    fn command(&mut self, name: &str, verb: &str) {
        let line = format!("systemctl {verb} berth@{name}");
        let running = self.world.host.spawn(&line);
        self.commands.insert(name.to_owned(), (line, running));
    }

    fn wait_for(&mut self, name: &str) {
        let Some((line, mut running)) = self.commands.remove(name) else { return };
        let output =
            running.wait(PATIENCE).unwrap_or_else(|| panic!("{line} hangs\n{}", self.world.host.journal_tail()));
        let output = output.unwrap();
        // Its spec may have been taken away, or replaced by another job, in the mixed group.
        let fair = output.status.success() || name.starts_with("mixed");
        assert!(fair, "{line}: {output}\n{}", self.world.host.journal_tail());
    }

    fn wait_for_commands(&mut self) {
        let names: Vec<String> = self.commands.keys().cloned().collect();
        names.iter().for_each(|name| self.wait_for(name));
    }

    /// Whether nothing is lost, doubled or left.
    fn judge(&self) {
        let world = &self.world;
        let all: Vec<&str> =
            self.edited.keys().chain(self.operated.keys()).chain(self.mixed.keys()).map(String::as_str).collect();
        let facts = world.all_facts(&all);
        let processes = world.all_processes();
        let mut wrong = Vec::new();
        let (mut running, mut stopped) = (BTreeSet::new(), BTreeSet::new());
        for (name, facts) in &facts {
            let runs = facts.sub == "running";
            let wanted = match (self.edited.get(name), self.operated.get(name), self.mixed.get(name)) {
                (Some(version), ..) => version.is_some(),
                (_, Some((runs, _)), _) => *runs,
                (.., file) => runs && file == Some(&true),
            };
            // Where an operator meddles too, he may have started what had no spec: that was refused, and says so.
            let refused = facts.active == "failed"
                && !wanted
                && self.mixed.contains_key(name)
                && world.host.journal(&format!("berth@{name}")).contains("there is no spec");
            if runs != wanted || (!runs && facts.active != "inactive" && !refused) {
                wrong.push(format!("{name} is {facts:?}, wanted: {wanted}"));
            }
            let count = processes.get(name).map_or(0, Vec::len);
            if count != usize::from(runs) {
                wrong.push(format!("{name} has {count} processes"));
            }
            let known = self.operated.contains_key(name) || self.mixed.get(name) == Some(&true);
            if runs {
                running.insert(name.clone());
            } else if known {
                stopped.insert(name.clone());
            }
        }
        wrong.extend(self.wrong_starts());
        wrong.extend(self.wrong_sandboxes(&running));
        wrong.extend(world.leftovers(&running, &stopped));
        let failed = world.host.ok("systemctl --failed --no-legend --plain");
        let meddled = |unit: &str| self.mixed.keys().any(|name| unit.starts_with(&format!("berth@{name}.service")));
        wrong.extend(failed.lines().filter(|unit| !meddled(unit)).map(|unit| format!("failed: {unit}")));
        let panics = world.host.ok("journalctl -q -b -u berthd -g panicked -o cat; true");
        wrong.extend(panics.lines().map(String::from));
        assert!(wrong.is_empty(), "{wrong:#?}\n{}", world.host.journal_tail());
    }

    /// Versions that were started twice or not at all.
    fn wrong_starts(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let starts = |name: &str| -> Vec<String> {
            let text = self.world.host.find(format!("/srv/starts/{name}")).unwrap_or_default();
            text.lines().map(|line| line.trim_start_matches("started ").to_owned()).collect()
        };
        for (name, version) in &self.edited {
            let starts = starts(name);
            let once: BTreeSet<&String> = starts.iter().collect();
            if once.len() != starts.len() {
                wrong.push(format!("{name} was started twice with one spec: {starts:?}"));
            }
            if let Some(version) = version
                && starts.last() != Some(&version.to_string())
            {
                wrong.push(format!("{name} runs another version than {version}: {starts:?}"));
            }
        }
        for (name, (_, wanted)) in &self.operated {
            let starts = starts(name).len();
            if starts != *wanted {
                wrong.push(format!("{name} was started {starts} times, not {wanted}"));
            }
        }
        wrong
    }

    /// More sandboxes than the retention of two past runs allows, and links to none.
    fn wrong_sandboxes(&self, running: &BTreeSet<String>) -> Vec<String> {
        let all = self.world.host.files().list("/var/lib/berth/sandboxes").unwrap();
        let counts = all.iter().map(|name| (name, self.world.sandboxes(name).len()));
        let too_many = counts.filter(|(name, count)| *count > 2 + usize::from(running.contains(*name)) || *count == 0);
        too_many.map(|(name, count)| format!("{name} has {count} sandboxes")).collect()
    }
}
