//! Which isolators this host can do, and which are enabled.

use super::Finding;
use crate::{
    config::Config,
    host::Host,
    isolators::{Isolator, ORDER, Support},
};

/// The group of these findings.
const GROUP: &str = "Isolators";

/// Probes every isolator; `enabled` is none where the configuration is not known.
pub fn examine(host: &Host, enabled: Option<&[String]>) -> Vec<Finding> {
    let awaits = |isolator: &&dyn Isolator| isolator.awaits(&Config::default());
    let known = ORDER.iter().map(|isolator| finding(isolator.name(), isolator.probe(host), enabled, awaits(isolator)));
    let unknown = enabled.unwrap_or_default().iter().filter(|name| ORDER.iter().all(|i| i.name() != name.as_str()));
    let unknown = unknown.map(|name| {
        let cure = "take it out of 'isolation' in berthd.toml";
        Finding::missing(GROUP, name, "enabled, and this berth does not have it", cure)
    });
    known.chain(unknown).collect()
}

/// What one isolator's support means.
fn finding(name: &str, support: Support, enabled: Option<&[String]>, awaits: Option<&str>) -> Finding {
    let is_enabled = enabled.map(|names| names.iter().any(|enabled| enabled == name));
    let word = match (is_enabled, awaits) {
        (Some(true), _) => "enabled".to_owned(),
        (Some(false), Some(key)) => format!("not enabled; '{key}' or 'isolation' in berthd.toml enables it"),
        (Some(false), None) => "not enabled; 'isolation' in berthd.toml enables it".to_owned(),
        (None, _) => "whether it is enabled is not known: berthd has not run".to_owned(),
    };
    match (support, is_enabled) {
        (Support::Yes, _) => Finding::good(GROUP, name, word),
        (Support::No(why), Some(true)) => {
            let cure = "mend that, or take it out of 'isolation' in berthd.toml";
            Finding::missing(GROUP, name, format!("enabled, but {why}"), cure)
        }
        (Support::No(why), _) => Finding::note(GROUP, name, why, None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn what_support_means() {
        let no = || Support::No("the kernel has none".to_owned());
        let enabled = ["a/b".to_owned()];
        assert_eq!(finding("a/b", no(), Some(&enabled), None).verdict, Verdict::Missing);
        assert_eq!(finding("a/c", no(), Some(&enabled), None).verdict, Verdict::Note);
        assert_eq!(finding("a/b", no(), None, None).verdict, Verdict::Note);
        assert_eq!(finding("a/c", Support::Yes, Some(&enabled), None).verdict, Verdict::Good);
        assert!(finding("a/c", Support::Yes, Some(&enabled), Some("a.key")).detail.contains("'a.key' or"));
        let host = Host::read(&crate::root::Root::default());
        assert!(examine(&host, Some(&enabled)).iter().any(|f| f.name == "a/b" && f.verdict == Verdict::Missing));
    }
}
