//! What containers have used, in Mesos's names (`ResourceStatistics` of mesos.proto), as JSON and for Prometheus.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::DiskStatistics;
use crate::spec::Name;

/// Version of the form of `statistics.json`; a reader refuses a greater one.
pub const STATISTICS_SCHEMA: u32 = 1;

/// `/run/berth/statistics.json`: replaced atomically at every interval, readable by everybody. The running containers of
/// which something is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// [`STATISTICS_SCHEMA`].
    pub schema: u32,
    /// `/proc/sys/kernel/random/boot_id` when it was written.
    pub boot_id: String,
    /// When, in RFC 3339, UTC.
    pub written: String,
    /// By name.
    pub containers: Vec<ContainerStatistics>,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerStatistics {
    /// Its name.
    pub name: Name,
    /// When it was measured, in seconds since 1970, as Mesos has it.
    pub timestamp: f64,
    /// What it has used.
    #[serde(flatten)]
    pub usage: Usage,
}

/// What one container has used since its start, and has in use. What is absent is not known; it is never zero instead.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes received from the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net_rx_bytes: Option<u64>,
    /// Packets received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net_rx_packets: Option<u64>,
    /// Bytes sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net_tx_bytes: Option<u64>,
    /// Packets sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net_tx_packets: Option<u64>,
    /// What its sandbox may take of the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_limit_bytes: Option<u64>,
    /// What its sandbox takes, with what it has changed of its image, when last measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_used_bytes: Option<u64>,
    /// The same of the sandbox and of each volume that has a limit of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disk_statistics: Vec<DiskStatistics>,
}

/// A column of the table of measures: its name in Mesos, what it is, and how it is read.
type Measure = (&'static str, &'static str, fn(&Usage) -> Option<u64>);

/// All measures that only grow while a container runs.
const COUNTERS: [Measure; 4] = [
    ("net_rx_bytes", "Bytes received from the network.", |usage| usage.net_rx_bytes),
    ("net_rx_packets", "Packets received from the network.", |usage| usage.net_rx_packets),
    ("net_tx_bytes", "Bytes sent to the network.", |usage| usage.net_tx_bytes),
    ("net_tx_packets", "Packets sent to the network.", |usage| usage.net_tx_packets),
];

/// What is read of one part of the disk, as [`Measure`].
type DiskMeasure = (&'static str, &'static str, fn(&DiskStatistics) -> Option<u64>);

/// All measures of the disk, which go up and down; the sandbox is the volume without a name.
const DISK_GAUGES: [DiskMeasure; 4] = [
    ("disk_limit_bytes", "What may be taken of the disk.", |disk| disk.limit_bytes),
    ("disk_used_bytes", "What is taken of the disk, when last measured.", |disk| disk.used_bytes),
    ("disk_limit_inodes", "How many inodes there may be.", |disk| disk.limit_inodes),
    ("disk_used_inodes", "How many inodes there are, when last measured.", |disk| disk.used_inodes),
];

impl Statistics {
    /// The same for the textfile collector of Prometheus's node_exporter (its exposition format, version 0.0.4).
    #[must_use]
    pub fn exposition(&self) -> String {
        let mut text = String::new();
        for (name, help, read) in COUNTERS {
            let all = self.containers.iter();
            let samples = all.filter_map(|c| Some((format!("container=\"{}\"", c.name), read(&c.usage)?)));
            family(&mut text, &format!("berth_{name}_total"), help, "counter", samples);
        }
        for (name, help, read) in DISK_GAUGES {
            let all = self.containers.iter().flat_map(|c| c.usage.disk_statistics.iter().map(move |disk| (c, disk)));
            let samples = all.filter_map(|(c, disk)| {
                let volume = disk.persistence.as_ref().map_or("", |volume| &volume.id);
                Some((format!("container=\"{}\",volume=\"{}\"", c.name, escaped(volume)), read(disk)?))
            });
            family(&mut text, &format!("berth_{name}"), help, "gauge", samples);
        }
        text
    }
}

/// One family of samples, if there are any.
fn family(text: &mut String, name: &str, help: &str, kind: &str, samples: impl Iterator<Item = (String, u64)>) {
    // Writing to a String cannot fail.
    for (index, (labels, value)) in samples.enumerate() {
        if index == 0 {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        }
        let _ = writeln!(text, "{name}{{{labels}}} {value}");
    }
}

/// The value of a label.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::observe::Persistence;

    /// Two containers, one of which is half known.
    fn statistics() -> Statistics {
        let whole = Usage {
            net_rx_bytes: Some(1),
            net_rx_packets: Some(2),
            net_tx_bytes: Some(3),
            net_tx_packets: Some(u64::MAX),
            disk_limit_bytes: Some(4),
            disk_used_bytes: Some(5),
            disk_statistics: vec![
                DiskStatistics { limit_bytes: Some(4), used_bytes: Some(5), ..DiskStatistics::default() },
                DiskStatistics {
                    persistence: Some(Persistence { id: "a\\\"b".to_owned(), container_path: "/c".into() }),
                    limit_bytes: Some(6),
                    used_bytes: None,
                    limit_inodes: Some(7),
                    used_inodes: Some(8),
                },
            ],
        };
        let half = Usage { net_tx_bytes: Some(0), ..Usage::default() };
        let of = |name: &str, usage| ContainerStatistics { name: name.parse().unwrap(), timestamp: 1.5, usage };
        let containers = vec![of("db", half), of("web", whole)];
        Statistics { schema: STATISTICS_SCHEMA, boot_id: String::new(), written: String::new(), containers }
    }

    #[test]
    fn what_is_not_known_is_absent() {
        let json = serde_json::to_value(statistics()).unwrap();
        assert_eq!(json["containers"][0], json!({"name": "db", "timestamp": 1.5, "net_tx_bytes": 0}));
        assert_eq!(serde_json::from_value::<Statistics>(json).unwrap(), statistics());
    }

    #[test]
    fn prometheus_reads_one_family_a_measure() {
        let text = statistics().exposition();
        assert_eq!(text.matches("# TYPE").count(), 8);
        assert!(text.contains(
            "# TYPE berth_disk_limit_bytes gauge\nberth_disk_limit_bytes{container=\"web\",volume=\"\"} 4\n\
             berth_disk_limit_bytes{container=\"web\",volume=\"a\\\\\\\"b\"} 6\n"
        ));
        assert_eq!(text.matches("berth_disk_used_bytes{").count(), 1, "what is not known is not there");
        assert!(text.contains(
            "# HELP berth_net_tx_bytes_total Bytes sent to the network.\n# TYPE berth_net_tx_bytes_total counter\n\
             berth_net_tx_bytes_total{container=\"db\"} 0\nberth_net_tx_bytes_total{container=\"web\"} 3\n"
        ));
        assert!(text.contains("berth_net_tx_packets_total{container=\"web\"} 18446744073709551615\n"));
        assert_eq!(Statistics { containers: Vec::new(), ..statistics() }.exposition(), "");
    }

    #[test]
    fn the_schema_says_what_the_file_holds() {
        let text = include_str!("../../packaging/schema/berth.statistics.schema.json");
        let schema: Value = serde_json::from_str(text).unwrap();
        assert_eq!(schema["properties"]["schema"]["const"], STATISTICS_SCHEMA);
        let json = serde_json::to_value(statistics()).unwrap();
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let sorted = |mut keys: Vec<String>| {
            keys.sort();
            keys
        };
        assert_eq!(sorted(keys(&json)), sorted(keys(&schema["properties"])));
        let container = &schema["properties"]["containers"]["items"]["properties"];
        assert_eq!(sorted(keys(&json["containers"][1])), sorted(keys(container)));
        let disk = &container["disk_statistics"]["items"]["properties"];
        let volume = &json["containers"][1]["disk_statistics"][1];
        let mut known = keys(volume);
        known.push("used_bytes".to_owned());
        assert_eq!(sorted(known), sorted(keys(disk)));
        assert_eq!(sorted(keys(&volume["persistence"])), sorted(keys(&disk["persistence"]["properties"])));
    }
}
