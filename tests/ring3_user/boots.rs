//! What a boot of the host does, and does not: a function for each boot, so that ring 4 can go through them too.

use crate::support::berth::{Berth, SLEEP, SOON, spec, unit};
use crate::support::host::Suite;

/// A vendor's spec is started at a boot if it was enabled, and only then.
pub const VENDOR: [fn(&Berth); 4] = [vendor_dropped, vendor_enabled, vendor_upgraded, vendor_disabled];

/// Containers start in the order that they ask for.
pub const ORDER: [fn(&Berth); 3] = [order_dropped, order_kept, order_kept];

/// [`VENDOR`] through boots of a host in namespaces.
pub fn vendor_specs_wait_for_enable(suite: Suite) {
    let mut host = Berth::boot(suite);
    for (boot, deed) in VENDOR.iter().enumerate() {
        if boot > 0 {
            host.reboot().unwrap();
        }
        deed(&host);
    }
}

/// [`ORDER`] through a reboot and a loss of power.
pub fn boot_keeps_the_order_of_containers(suite: Suite) {
    let mut host = Berth::boot(suite);
    ORDER[0](&host);
    host.reboot().unwrap();
    ORDER[1](&host);
    host.power_cycle().unwrap();
    ORDER[2](&host);
}

/// [`ORDER`] where the bus is there and takes longer to answer than berthd is patient with one that is not.
pub fn boot_keeps_the_order_where_the_bus_is_slow(suite: Suite) {
    let mut host = Berth::boot(suite);
    ORDER[0](&host);
    host.write("/etc/systemd/system/dbus.service.d/slow.conf", "[Service]\nExecStartPre=/bin/sleep 8\n");
    host.reboot().unwrap();
    ORDER[1](&host);
}

const FILE: &str = "/usr/lib/berth/containers/vendor.toml";

fn vendor_dropped(host: &Berth) {
    host.write(FILE, SLEEP);
    stays_down(host);
}

fn vendor_enabled(host: &Berth) {
    stays_down(host);
    host.ok("systemctl enable berth@vendor");
    host.barrier();
    assert_eq!(host.property("vendor", "ActiveState"), "inactive", "enabled, not started");
}

fn vendor_upgraded(host: &Berth) {
    host.wait_state("vendor", "running");
    assert_eq!(host.ok("systemctl is-enabled berth@vendor"), "enabled");
    host.write_atomic(FILE, "command = [\"/bin/sleep\", \"100000\"]\n");
    host.wait_for("the upgraded spec", SOON, || {
        let pid = host.main_pid("vendor");
        (host.find(format!("/proc/{pid}/cmdline"))? == "/bin/sleep\x00100000\0").then_some(())
    });
    host.ok("systemctl disable berth@vendor");
}

fn vendor_disabled(host: &Berth) {
    stays_down(host);
}

fn stays_down(host: &Berth) {
    host.wait_state("vendor", "inactive");
    host.barrier();
    assert_eq!(host.property("vendor", "ActiveState"), "inactive");
}

/// Who needs whom. Their names are in the order that is not asked for.
const PAIRS: [(&str, &str); 2] = [("z-db", "a-web"), ("y-db", "b-web")];

fn order_dropped(host: &Berth) {
    for ((db, web), more) in PAIRS.iter().zip(["", "autostart = false\n"]) {
        host.write(spec(db), format!("{more}{SLEEP}"));
        host.write(spec(web), format!("{more}{SLEEP}[service]\nafter = [\"{}\"]\n", unit(db)));
    }
    for name in ["y-db", "b-web"] {
        host.ok(&format!("systemctl enable {}", unit(name)));
    }
    in_order(host, &PAIRS[..1]);
}

fn order_kept(host: &Berth) {
    in_order(host, &PAIRS);
    assert_eq!(host.ok("systemctl --failed --no-legend"), "");
}

fn in_order(host: &Berth, pairs: &[(&str, &str)]) {
    for (db, web) in pairs {
        host.wait_state(db, "running");
        host.wait_state(web, "running");
        let (up, began) = (times(host, db).1, times(host, web).0);
        assert!(began >= up, "{web} began at {began}, {db} was up at {up}\n{}", host.journal_tail());
    }
}

/// When a unit left `inactive` and when it became `active`.
fn times(host: &Berth, name: &str) -> (u64, u64) {
    let time = |property| host.property(name, property).parse().unwrap();
    (time("InactiveExitTimestampMonotonic"), time("ActiveEnterTimestampMonotonic"))
}
