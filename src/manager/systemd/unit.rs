//! A unit's properties as berth's [`Unit`].

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use zbus::{
    Message,
    zvariant::{OwnedValue, Value},
};

use crate::{
    manager::{Active, Exit, Unit},
    spec::Name,
};

/// What `org.freedesktop.DBus.Properties.GetAll` answers.
pub type Properties = HashMap<String, OwnedValue>;

/// What the object path of every unit of berth's begins with, as the bus escapes `berth@`.
const PATH_PREFIX: &str = "/org/freedesktop/systemd1/unit/berth_40";

/// The container whose unit lies at an object path.
#[must_use]
pub fn name_of(path: &str) -> Option<Name> {
    let escaped = path.strip_prefix(PATH_PREFIX)?;
    unescape(escaped)?.strip_suffix(".service")?.parse().ok()
}

/// The object path of a container's unit (sd_bus_path_encode(3)).
#[must_use]
pub fn path_of(name: &Name) -> String {
    let mut path = PATH_PREFIX.to_owned();
    for byte in format!("{name}.service").bytes() {
        if byte.is_ascii_alphanumeric() {
            path.push(byte.into());
        } else {
            path.push_str(&format!("_{byte:02x}"));
        }
    }
    path
}

/// Undoes the bus's escaping.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'_' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// The unit that these properties describe.
#[must_use]
pub fn read(properties: &Properties) -> Unit {
    let text = |key: &str| properties.get(key).and_then(|value| <&str>::try_from(value).ok()).unwrap_or_default();
    let number = |key: &str| properties.get(key).and_then(|value| u32::try_from(value).ok());
    let filled = |key: &str| Some(text(key)).filter(|text| !text.is_empty()).map(str::to_owned);
    Unit {
        masked: text("LoadState") == "masked",
        active: active(text("ActiveState")),
        sub: text("SubState").to_owned(),
        queued: properties.get("Job").is_some_and(|job| has_job(job)),
        invocation: properties.get("InvocationID").and_then(hex),
        main_pid: number("MainPID").filter(|pid| *pid != 0),
        cgroup: filled("ControlGroup"),
        result: text("Result").to_owned(),
        exit: exit(properties),
        stopped: stopped(properties),
        since: properties.get("StateChangeTimestamp").and_then(|value| u64::try_from(value).ok()).and_then(time),
        status: filled("StatusText"),
        restarts: number("NRestarts").unwrap_or(0),
    }
}

/// Whether a `PropertiesChanged` says that its unit is not at rest.
#[must_use]
pub fn says_busy(signal: &Message) -> bool {
    let body = signal.body();
    let Ok((_, changed, _)) = body.deserialize::<(&str, HashMap<&str, Value<'_>>, Vec<&str>)>() else { return false };
    let word = changed.get("ActiveState").and_then(|value| <&str>::try_from(value).ok());
    word.is_some_and(|word| !active(word).is_at_rest())
}

/// Microseconds of CLOCK_REALTIME; 0 is never.
fn time(micros: u64) -> Option<String> {
    (micros != 0).then(|| crate::clock::rfc3339(SystemTime::UNIX_EPOCH + Duration::from_micros(micros)))
}

/// `ActiveState`; a word of a later systemd's reads as a transition.
fn active(word: &str) -> Active {
    match word {
        "active" => Active::Active,
        "reloading" | "refreshing" => Active::Reloading,
        "inactive" | "" => Active::Inactive,
        "failed" => Active::Failed,
        "deactivating" => Active::Deactivating,
        _ => Active::Activating,
    }
}

/// How the main process ended (`ExecMainCode` is `si_code` of SIGCHLD, sigaction(2)).
fn exit(properties: &Properties) -> Option<Exit> {
    let number = |key: &str| properties.get(key).and_then(|value| i32::try_from(value).ok());
    let status = number("ExecMainStatus")?;
    match number("ExecMainCode")? {
        libc::CLD_EXITED => Some(Exit::Exited(status)),
        libc::CLD_KILLED => Some(Exit::Killed(status)),
        libc::CLD_DUMPED => Some(Exit::Dumped(status)),
        _ => None,
    }
}

/// Whether the unit was being stopped when its main process ended: it left `active` before that. (After a program
/// that ended by itself it does so later.) systemd keeps these times over a reload and its own re-execution, those of
/// `ExecStop=` it does not.
fn stopped(properties: &Properties) -> bool {
    let time = |key: &str| properties.get(key).and_then(|value| u64::try_from(value).ok()).filter(|time| *time != 0);
    let times = ["ExecMainStartTimestampMonotonic", "ActiveExitTimestampMonotonic", "ExecMainExitTimestampMonotonic"];
    let [Some(began), Some(left), Some(ended)] = times.map(time) else { return false };
    began <= left && left <= ended
}

/// Whether a `Job` property, `(uo)`, names one: the number of none is 0.
fn has_job(value: &Value<'_>) -> bool {
    let Value::Structure(fields) = value else { return false };
    fields.fields().first().and_then(|id| u32::try_from(id).ok()).is_some_and(|id| id != 0)
}

/// A byte array as hex digits; none if it is empty.
fn hex(value: &OwnedValue) -> Option<String> {
    let Value::Array(bytes) = &**value else { return None };
    let digits: String = bytes.iter().filter_map(|byte| u8::try_from(byte).ok()).map(|b| format!("{b:02x}")).collect();
    (!digits.is_empty()).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_paths_are_names_escaped() {
        for (name, path) in [
            ("web", "/org/freedesktop/systemd1/unit/berth_40web_2eservice"),
            ("my-db_1", "/org/freedesktop/systemd1/unit/berth_40my_2ddb_5f1_2eservice"),
        ] {
            let name: Name = name.parse().unwrap();
            assert_eq!(path_of(&name), path);
            assert_eq!(name_of(path), Some(name));
        }
        for other in ["/org/freedesktop/systemd1/unit/ssh_2eservice", "/org/freedesktop/systemd1/unit/berth_40_zz"] {
            assert_eq!(name_of(other), None);
        }
    }
}
