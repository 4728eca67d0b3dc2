//! A host with handles, and what sends and counts on it.

use std::ops::Deref;

use crate::support::berth::{Berth, options};
use crate::support::host::{BootOptions, Suite};

/// The primary of every host here.
pub const PRIMARY: u16 = 0x12;

/// Where the harness mounts the v1 hierarchy: a cgroup namespace other than the first cannot mount it, but can see it.
const HIERARCHY: &str = "/run/net_cls";

/// A berth whose containers have handles.
pub struct World(Berth);

impl Deref for World {
    type Target = Berth;

    fn deref(&self) -> &Berth {
        &self.0
    }
}

impl World {
    /// A host on which this is `[net_cls]` beside the primary.
    #[track_caller]
    pub fn new(suite: Suite, net_cls: &str) -> World {
        World::with(suite, net_cls, options())
    }

    /// The same with more on the disk.
    #[track_caller]
    pub fn with(suite: Suite, net_cls: &str, options: BootOptions) -> World {
        let config = format!("[net_cls]\nprimary_handle = {PRIMARY:#x}\n{net_cls}");
        let mount = format!(
            "[Unit]\nDefaultDependencies=no\nBefore=berthd.service\n[Service]\nType=oneshot\nRemainAfterExit=yes\n\
             ExecStart=/bin/sh -c 'mkdir -p {HIERARCHY}; mount -t cgroup -o net_cls net_cls {HIERARCHY}; ip link set lo up'\n\
             [Install]\nWantedBy=sysinit.target\n"
        );
        let options =
            options.net_cls().file("/etc/berth/berthd.toml", config).file("/etc/systemd/system/net-cls.service", mount);
        World(Berth::boot_with(
            suite,
            options.file(
                "/etc/systemd/system/berthd.service.d/net-cls.conf",
                "[Unit]\nRequires=net-cls.service\nAfter=net-cls.service\n",
            ),
        ))
    }
}
