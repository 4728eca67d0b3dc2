//! The few methods of org.freedesktop.systemd1(5) that berth calls.

use zbus::zvariant::OwnedObjectPath;

/// A row of `ListUnitsByPatterns`: name, description, load, active and sub state, followed unit, path, job id,
/// job type, job path.
pub type UnitRow = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// PID 1.
#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1",
    gen_blocking = false
)]
pub trait Manager {
    /// Asks for signals.
    fn subscribe(&self) -> zbus::Result<()>;

    /// Reads unit files again; returns when that is done.
    fn reload(&self) -> zbus::Result<()>;

    /// Loaded units of these states (empty: any) and glob patterns.
    fn list_units_by_patterns(&self, states: &[&str], patterns: &[&str]) -> zbus::Result<Vec<UnitRow>>;

    /// Loads a unit and keeps it loaded for as long as this connection lives.
    fn ref_unit(&self, name: &str) -> zbus::Result<()>;

    /// Lets go of a unit.
    fn unref_unit(&self, name: &str) -> zbus::Result<()>;

    /// Enqueues a start job.
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;

    /// Enqueues a stop job.
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;

    /// Enqueues a restart job.
    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;

    /// Enqueues a restart job if the unit runs.
    fn try_restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;

    /// Sends a signal to processes of a unit: `main`, `control` or `all`.
    fn kill_unit(&self, name: &str, whom: &str, signal: i32) -> zbus::Result<()>;

    /// Forgets that a unit failed, and its start limit.
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
}
