//! Times as text.

use std::time::{Duration, SystemTime};

/// RFC 3339, UTC, milliseconds: `2026-01-31T12:00:00.000Z`.
#[must_use]
pub fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// Now, as [`rfc3339`].
#[must_use]
pub fn now() -> String {
    rfc3339(SystemTime::now())
}

/// A time that sorts as text and suits a file name: `20260131T120000.000000Z`.
#[must_use]
pub fn compact(time: SystemTime) -> String {
    humantime::format_rfc3339_micros(time).to_string().replace(['-', ':'], "")
}

/// The time at the beginning of a file name made with [`compact`].
#[must_use]
pub fn from_compact(name: &str) -> Option<SystemTime> {
    let text = name.get(..23).filter(|text| text.ends_with('Z') && text.is_ascii())?;
    let part = |range: std::ops::Range<usize>| text.get(range);
    let spelled = format!("{}-{}-{}:{}:{}", part(0..4)?, part(4..6)?, part(6..11)?, part(11..13)?, part(13..23)?);
    humantime::parse_rfc3339(&spelled).ok()
}

/// A duration as systemd writes it in units: `1min 30s`, `infinity`.
#[must_use]
pub fn span(duration: Duration) -> String {
    if duration == Duration::MAX { "infinity".to_owned() } else { humantime::format_duration(duration).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_times_come_back() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456);
        assert_eq!(compact(time), "20231114T221320.123456Z");
        assert_eq!(from_compact("20231114T221320.123456Z-0123abcd"), Some(time));
        for bad in ["", "persistent", "20231114T221320.1234567890123", "ä0231114T221320.123456Z"] {
            assert_eq!(from_compact(bad), None, "{bad}");
        }
    }
}
