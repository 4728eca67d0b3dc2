//! Who is started and stopped with whom, and who waits for whom (systemd.unit(5): `Requires=`, `Wants=`,
//! `After=`, `Before=`), among the containers of this host.

use std::collections::{BTreeMap, BTreeSet};

use crate::{plan::UnitSettings, spec::Name};

/// The settings of all containers.
pub type Graph<'a> = BTreeMap<&'a Name, &'a UnitSettings>;

/// The containers among some units.
fn containers(units: &[String]) -> impl Iterator<Item = Name> + '_ {
    units.iter().filter_map(|unit| Name::from_unit(unit))
}

/// The units that settings speak of and that only systemd could know.
pub fn strangers(settings: &UnitSettings) -> impl Iterator<Item = &String> {
    let units = settings.requires.iter().chain(&settings.wants).chain(&settings.after).chain(&settings.before);
    units.filter(|unit| Name::from_unit(unit).is_none())
}

/// All that a start of `name` starts too, by `Requires=` and `Wants=`, over any distance.
pub fn pulled_in(graph: &Graph<'_>, name: &Name) -> BTreeSet<Name> {
    reach(name, |at| {
        let settings = graph.get(at);
        settings.into_iter().flat_map(|s| containers(&s.requires).chain(containers(&s.wants))).collect()
    })
}

/// All that a stop of `name` stops too: those that require it, over any distance.
pub fn dependents(graph: &Graph<'_>, name: &Name) -> BTreeSet<Name> {
    reach(name, |at| graph.keys().filter(|other| requires(graph, other, at)).map(|&other| other.clone()).collect())
}

/// Whether `name` cannot be without `other`.
pub fn requires(graph: &Graph<'_>, name: &Name, other: &Name) -> bool {
    graph.get(name).is_some_and(|settings| containers(&settings.requires).any(|required| required == *other))
}

/// Those of `busy` whose start `name` waits for. In an ordering cycle nobody waits for each other.
pub fn starts_before(graph: &Graph<'_>, name: &Name, busy: &BTreeSet<Name>) -> BTreeSet<Name> {
    waits_for(name, busy, |at, other| follows(graph, at, other))
}

/// Those of `busy` whose stop `name` waits for: the reverse of the starts.
pub fn stops_before(graph: &Graph<'_>, name: &Name, busy: &BTreeSet<Name>) -> BTreeSet<Name> {
    waits_for(name, busy, |at, other| follows(graph, other, at))
}

/// Whether `name` is ordered after `other`, by either's word.
fn follows(graph: &Graph<'_>, name: &Name, other: &Name) -> bool {
    let says = |at: &Name, list: fn(&UnitSettings) -> &Vec<String>, wanted: &Name| {
        graph.get(at).is_some_and(|settings| containers(list(settings)).any(|unit| unit == *wanted))
    };
    says(name, |s| &s.after, other) || says(other, |s| &s.before, name)
}

/// Those of `busy` that come before `name` and do not, over others of `busy`, come after it as well.
fn waits_for(name: &Name, busy: &BTreeSet<Name>, before: impl Fn(&Name, &Name) -> bool) -> BTreeSet<Name> {
    let ahead = |at: &Name| busy.iter().filter(|&other| other != at && before(at, other)).cloned().collect::<Vec<_>>();
    let blocked_by_us = |other: &Name| reach(other, |at| ahead(at)).contains(name);
    ahead(name).into_iter().filter(|other| !blocked_by_us(other)).collect()
}

/// All that can be reached from `from`; itself only by a cycle.
fn reach(from: &Name, next: impl Fn(&Name) -> Vec<Name>) -> BTreeSet<Name> {
    let mut seen = BTreeSet::new();
    let mut open = next(from);
    while let Some(name) = open.pop() {
        if seen.insert(name.clone()) {
            open.extend(next(&name));
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Settings from lines such as `web: requires db, after db`.
    fn graph(lines: &[&str]) -> BTreeMap<Name, UnitSettings> {
        lines.iter().map(|line| settings(line)).collect()
    }

    /// One of those lines.
    fn settings(line: &str) -> (Name, UnitSettings) {
        let (name, rest) = line.split_once(':').unwrap();
        let mut settings = UnitSettings::default();
        for (key, value) in rest.split(',').filter_map(|part| part.trim().split_once(' ')) {
            let list = match key {
                "requires" => &mut settings.requires,
                "wants" => &mut settings.wants,
                "after" => &mut settings.after,
                _ => &mut settings.before,
            };
            list.push(if value.contains('.') { value.into() } else { format!("berth@{value}.service") });
        }
        (name.parse().unwrap(), settings)
    }

    /// Calls one of the functions with names as text.
    fn ask(lines: &[&str], name: &str, question: impl Fn(&Graph<'_>, &Name) -> BTreeSet<Name>) -> Vec<String> {
        let graph = graph(lines);
        question(&graph.iter().collect(), &name.parse().unwrap()).into_iter().map(String::from).collect()
    }

    /// Names from text.
    fn names(text: &str) -> BTreeSet<Name> {
        text.split(' ').map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn a_start_pulls_in_what_is_required_and_wanted() {
        let lines = ["web: requires db, wants cache, after network.target", "db: requires disk", "cache:", "disk:"];
        assert_eq!(ask(&lines, "web", pulled_in), ["cache", "db", "disk"]);
        assert_eq!(ask(&lines, "cache", pulled_in), [""; 0]);
        assert_eq!(ask(&["a: requires b", "b: requires a"], "a", pulled_in), ["a", "b"], "a cycle ends");
        assert_eq!(ask(&["a: requires unknown"], "a", pulled_in), ["unknown"]);
    }

    #[test]
    fn a_stop_takes_dependents_but_not_admirers() {
        let lines = ["web: requires db", "log: wants db", "db: requires disk", "disk:"];
        assert_eq!(ask(&lines, "disk", dependents), ["db", "web"]);
        assert_eq!(ask(&lines, "web", dependents), [""; 0]);
    }

    #[test]
    fn starts_wait_in_order_and_stops_in_reverse() {
        let lines = ["web: after db", "db:", "early: before web", "other:"];
        let all = names("web db early other");
        assert_eq!(ask(&lines, "web", |g, n| starts_before(g, n, &all)), ["db", "early"]);
        assert_eq!(ask(&lines, "web", |g, n| starts_before(g, n, &names("db"))), ["db"], "only who is busy");
        assert_eq!(ask(&lines, "db", |g, n| starts_before(g, n, &all)), [""; 0]);
        assert_eq!(ask(&lines, "db", |g, n| stops_before(g, n, &all)), ["web"]);
        assert_eq!(ask(&lines, "web", |g, n| stops_before(g, n, &all)), [""; 0]);
    }

    #[test]
    fn a_cycle_waits_for_nobody_in_it() {
        let lines = ["a: after b", "b: after c", "c: after a, after d", "d:", "me: after me"];
        let all = names("a b c d me");
        assert_eq!(ask(&lines, "a", |g, n| starts_before(g, n, &all)), [""; 0]);
        assert_eq!(ask(&lines, "c", |g, n| starts_before(g, n, &all)), ["d"]);
        assert_eq!(ask(&lines, "me", |g, n| starts_before(g, n, &all)), [""; 0]);
        assert_eq!(ask(&lines, "a", |g, n| starts_before(g, n, &names("a b"))), ["b"], "no cycle among the busy");
    }

    #[test]
    fn strangers_are_named() {
        let (_, settings) = settings("web: requires a.mount, after network.target, wants db, before z.service");
        assert_eq!(strangers(&settings).collect::<Vec<_>>(), ["a.mount", "network.target", "z.service"]);
    }
}
