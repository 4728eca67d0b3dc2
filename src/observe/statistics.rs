//! What containers have used, in Mesos's names (`ResourceStatistics` of mesos.proto), as JSON and for Prometheus.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

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

/// What one container has used since its start. What is absent is not known; it is never zero instead.
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

impl Statistics {
    /// The same for the textfile collector of Prometheus's node_exporter (its exposition format, version 0.0.4).
    #[must_use]
    pub fn exposition(&self) -> String {
        let mut text = String::new();
        for (name, help, read) in COUNTERS {
            let mut heading = false;
            for container in &self.containers {
                let Some(value) = read(&container.usage) else { continue };
                // Writing to a String cannot fail.
                if !std::mem::replace(&mut heading, true) {
                    let _ = writeln!(text, "# HELP berth_{name}_total {help}\n# TYPE berth_{name}_total counter");
                }
                let _ = writeln!(text, "berth_{name}_total{{container=\"{}\"}} {value}", container.name);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Two containers, one of which is half known.
    fn statistics() -> Statistics {
        let whole = Usage {
            net_rx_bytes: Some(1),
            net_rx_packets: Some(2),
            net_tx_bytes: Some(3),
            net_tx_packets: Some(u64::MAX),
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
        assert_eq!(text.matches("# TYPE").count(), 4);
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
    }
}
