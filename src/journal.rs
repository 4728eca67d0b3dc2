//! Events: every change of state is one, with a frozen ID that `journalctl -x` explains from the catalog
//! (`packaging/berth.catalog`) and `journalctl MESSAGE_ID=` finds.

use crate::spec::Name;

/// Something that happened, by its MESSAGE_ID (systemd.journal-fields(7)). An ID is never changed or reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A container runs.
    Started,
    /// An operator or a dependency stopped it.
    Stopped,
    /// Its program ended by itself, cleanly.
    Exited,
    /// It could not start.
    FailedToStart,
    /// It ended as it should not.
    Failed,
    /// It waits for its automatic restart.
    Restarting,
    /// A spec has mistakes.
    SpecInvalid,
    /// A spec was edited.
    SpecChanged,
    /// A spec is gone.
    SpecRemoved,
    /// berthd is back and knows what runs.
    Recovered,
    /// The service manager cannot be reached.
    ManagerAway,
    /// The service manager can be reached again.
    ManagerBack,
    /// A record cannot be read.
    RecordDamaged,
    /// A configuration was not accepted; the old one stays.
    ReloadRejected,
    /// Two have one handle, or somebody who is not berth has one of ours.
    HandleConflict,
    /// A container has more of the disk than it may, and is ended for it.
    DiskLimit,
    /// A source is another image than the one that a container runs with.
    ImagePending,
    /// A container moved to another image.
    ImageUpdated,
    /// A container was brought back to the image that it had, since another one failed.
    ImageRolledBack,
    /// Images that nothing uses were removed.
    ImagesRemoved,
    /// A start has brought an image from its registry.
    ImagePulled,
    /// A start has an image that could not be compared with what its source has now.
    ImageUnchecked,
}

impl Event {
    /// All of them, for the catalog's test.
    pub const ALL: [Self; 22] = [
        Self::Started,
        Self::Stopped,
        Self::Exited,
        Self::FailedToStart,
        Self::Failed,
        Self::Restarting,
        Self::SpecInvalid,
        Self::SpecChanged,
        Self::SpecRemoved,
        Self::Recovered,
        Self::ManagerAway,
        Self::ManagerBack,
        Self::RecordDamaged,
        Self::ReloadRejected,
        Self::HandleConflict,
        Self::DiskLimit,
        Self::ImagePending,
        Self::ImageUpdated,
        Self::ImageRolledBack,
        Self::ImagesRemoved,
        Self::ImagePulled,
        Self::ImageUnchecked,
    ];

    /// Its MESSAGE_ID.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Started => "806db91c2bd7467ba44e175d1f917c11",
            Self::Stopped => "692d260755cd4566bf9486dfe7a00b03",
            Self::Exited => "941cd0850b7f4705a4ddec45493636ac",
            Self::FailedToStart => "2355a4ef6a364d1385484e245c519300",
            Self::Failed => "c3a68fa452b7407c9912c99d70e82e86",
            Self::Restarting => "2c60243ab83f4bad8f7949389737c74b",
            Self::SpecInvalid => "02497ee0765c43f4aa53269f4fe0f6cc",
            Self::SpecChanged => "96ad4f85ac094763a6cb3bbd22acaaba",
            Self::SpecRemoved => "e73031b896d2437f891cfc3f435cd909",
            Self::Recovered => "78e63b5aa48f4898b2dbd754a58a7661",
            Self::ManagerAway => "d755003703b6490bbae2025abfb90277",
            Self::ManagerBack => "6932dc28732244ca889142d7ace7e5cb",
            Self::RecordDamaged => "a6b23b5129344445afca5ff5cc6c197b",
            Self::ReloadRejected => "98b4b152da744cddae3de7046700b69c",
            Self::HandleConflict => "e62b6c459f1b483db6fd70f85ac455fe",
            Self::DiskLimit => "8bc404bfb5d74eee950504d500c3cc96",
            Self::ImagePending => "17b1c01a51864b3187a5127f8db9e638",
            Self::ImageUpdated => "8fc8717038d240b3a77ef4419fe088da",
            Self::ImageRolledBack => "fb2a134a32694b4fb5c2d65b689f0f29",
            Self::ImagesRemoved => "d4f490c274244aa6a3a54e5d83797beb",
            Self::ImagePulled => "54743a7c71ff4af7a626eabbab7848d5",
            Self::ImageUnchecked => "16834127f749438cb7af79f19640f129",
        }
    }

    /// Whether it is bad news.
    #[must_use]
    fn severity(self) -> tracing::Level {
        match self {
            Self::FailedToStart
            | Self::Failed
            | Self::SpecInvalid
            | Self::RecordDamaged
            | Self::ReloadRejected
            | Self::DiskLimit => tracing::Level::ERROR,
            Self::ManagerAway
            | Self::Restarting
            | Self::HandleConflict
            | Self::ImageRolledBack
            | Self::ImageUnchecked => tracing::Level::WARN,
            _ => tracing::Level::INFO,
        }
    }

    /// Logs it.
    pub fn log(self, message: &str) {
        let id = self.id();
        match self.severity() {
            tracing::Level::ERROR => tracing::error!(MESSAGE_ID = id, "{message}"),
            tracing::Level::WARN => tracing::warn!(MESSAGE_ID = id, "{message}"),
            _ => tracing::info!(MESSAGE_ID = id, "{message}"),
        }
    }

    /// Logs it with the container it is about, and the unit, so that `systemctl status` and `journalctl -u` of the
    /// container show it too: they look for `OBJECT_SYSTEMD_UNIT=` of root's daemons (`UNIT=` is heeded from PID 1 only).
    pub fn log_for(self, name: &Name, message: &str) {
        /// One event of a level.
        macro_rules! tell {
            ($level:ident, $unit:expr) => {
                tracing::$level!(
                    MESSAGE_ID = self.id(),
                    BERTH_CONTAINER = name.as_str(),
                    OBJECT_SYSTEMD_UNIT = $unit,
                    UNIT = $unit,
                    "{name}: {message}"
                )
            };
        }
        let unit = name.unit();
        match self.severity() {
            tracing::Level::ERROR => tell!(error, unit.as_str()),
            tracing::Level::WARN => tell!(warn, unit.as_str()),
            _ => tell!(info, unit.as_str()),
        }
    }
}

/// Where events go: to the journal with their fields where there is one, else as plain lines to stderr, without
/// time and module since whoever reads stderr has them.
pub fn start(level: tracing::Level) {
    use tracing_subscriber::{Layer as _, filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _};

    let ours = Targets::new().with_target("berth", level).with_target("berthd", level);
    let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok()).map(|layer| {
        layer.with_field_prefix(None).with_syslog_identifier("berthd".to_owned()).with_filter(ours.clone())
    });
    let plain = journal.is_none().then(|| {
        tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .without_time()
            .with_target(false)
            .with_ansi(false)
            .fmt_fields(tracing_subscriber::fmt::format::debug_fn(|writer, field, value| {
                if field.name() == "message" { write!(writer, "{value:?}") } else { Ok(()) }
            }))
            .with_filter(ours)
    });
    // Another subscriber was set before: a test's.
    let _ = tracing_subscriber::registry().with(journal).with(plain).try_init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_128_bits_and_unique() {
        let mut ids: Vec<_> = Event::ALL.iter().map(|event| event.id()).collect();
        assert!(ids.iter().all(|id| id.len() == 32 && u128::from_str_radix(id, 16).is_ok()));
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), Event::ALL.len());
    }

    #[test]
    fn the_catalog_explains_every_event_and_no_other() {
        let catalog = include_str!("../packaging/berth.catalog");
        let mut explained: Vec<_> = catalog.lines().filter_map(|line| line.strip_prefix("-- ")).collect();
        let mut ids: Vec<_> = Event::ALL.iter().map(|event| event.id()).collect();
        explained.sort_unstable();
        ids.sort_unstable();
        assert_eq!(explained, ids);
        assert_eq!(catalog.matches("\nSubject: ").count(), ids.len());
    }
}
