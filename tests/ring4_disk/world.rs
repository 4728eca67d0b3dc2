//! A host whose sandboxes lie on a file system of their own, and what it says of projects.

use std::ops::Deref;

use serde_json::Value;

use crate::support::berth::{Berth, SOON, options};
use crate::support::host::Suite;

/// A file system that has project quotas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    Xfs,
    Ext4,
}

/// Where sandboxes lie.
pub const PLACE: &str = "/var/lib/berth";

/// Half a KiB and a KiB, as people count.
pub const MIB: u64 = 1 << 20;

/// A berth on such a file system.
#[derive(Debug)]
pub struct World {
    berth: Berth,
    pub face: Face,
}

impl Deref for World {
    type Target = Berth;

    fn deref(&self) -> &Berth {
        &self.berth
    }
}

impl Face {
    /// What a writer is told who has had enough.
    pub fn refusal(self) -> &'static str {
        match self {
            Face::Xfs => "No space left on device",
            Face::Ext4 => "Disk quota exceeded",
        }
    }

    /// Makes one in a file.
    fn make(self) -> &'static str {
        match self {
            Face::Xfs => "mkfs.xfs -q /srv/disk.img",
            Face::Ext4 => "mke2fs -q -t ext4 -m 0 -O project,quota -E quotatype=prjquota /srv/disk.img",
        }
    }
}

impl World {
    /// A host with this `berthd.toml`, and quotas on.
    #[track_caller]
    pub fn new(suite: Suite, face: Face, config: &str) -> World {
        World::mounted(suite, face, "loop,prjquota", config)
    }

    /// The same, mounted with these options.
    #[track_caller]
    pub fn mounted(suite: Suite, face: Face, with: &str, config: &str) -> World {
        let mount = format!(
            "[Unit]\nBefore=berthd.service\n[Service]\nType=oneshot\nRemainAfterExit=yes\n\
             ExecStart=/bin/sh -c 'mkdir -p {PLACE}; test -e /srv/disk.img || {{ truncate -s 512M /srv/disk.img && {}; }}; \
             mount -o {with} /srv/disk.img {PLACE}'\n",
            face.make()
        );
        let needs = "[Unit]\nRequires=disk.service\nAfter=disk.service\n";
        let options = options()
            .file("/etc/systemd/system/disk.service", mount)
            .file("/etc/systemd/system/berthd.service.d/disk.conf", needs)
            .file("/etc/berth/berthd.toml", format!("[statistics]\ninterval = \"1s\"\n{config}"));
        World { berth: Berth::boot_with(suite, options), face }
    }

    /// A root directory with a few programs, at a place of the host.
    #[track_caller]
    pub fn tree(&self, directory: &str) {
        let script = "for program in sh dd df sleep ls cat stat chattr touch ln id; do \
                      path=$(readlink -f $(command -v $program)); mkdir -p $0/bin; cp $path $0/bin/$program; \
                      for lib in $(ldd $path | grep -o '/[^ )]*'); do mkdir -p $0${lib%/*}; cp -L $lib $0$lib; done; \
                      done; mkdir -p $0/etc; echo 'root:x:0:0::/root:/bin/sh' > $0/etc/passwd";
        self.ok(&format!("sh -ec '{}' {directory}", script.replace('\'', "'\\''")));
    }

    /// The sandbox of a container's newest run.
    #[track_caller]
    pub fn sandbox(&self, name: &str) -> String {
        self.ok(&format!("readlink -f {PLACE}/sandboxes/{name}/latest"))
    }

    /// The project of a directory or file, and whether what is made in it inherits that, as lsattr(1) has it.
    #[track_caller]
    pub fn project(&self, path: &str) -> (u32, bool) {
        let line = self.ok(&format!("lsattr -d -p {path}"));
        let mut words = line.split_whitespace();
        let id = words.next().unwrap().parse().unwrap_or_else(|_| panic!("{line}"));
        (id, words.next().unwrap().contains('P'))
    }

    /// What a project uses, its soft and its hard limit, in KiB, as the tools of each file system have it.
    #[track_caller]
    pub fn report(&self, id: u32) -> Option<[u64; 3]> {
        let report = match self.face {
            Face::Xfs => format!("xfs_quota -x -c 'report -p -n -N -b' {PLACE}"),
            Face::Ext4 => format!("repquota -P -n {PLACE}"),
        };
        let report = self.ok(&report);
        let line = report.lines().find(|line| line.split_whitespace().next() == Some(&format!("#{id}")))?;
        let numbers = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).take(3);
        numbers.collect::<Vec<u64>>().try_into().ok()
    }

    /// Sets a limit for somebody else's project.
    #[track_caller]
    pub fn set_foreign(&self, id: u32) {
        self.ok(&match self.face {
            Face::Xfs => format!("xfs_quota -x -c 'limit -p bhard=1g {id}' {PLACE}"),
            Face::Ext4 => format!("setquota -P {id} 0 1048576 0 0 {PLACE}"),
        });
    }

    /// Waits for the kernel to have these limits of a project, soft and hard, in KiB.
    #[track_caller]
    pub fn wait_limits(&self, id: u32, soft: u64, hard: u64) {
        self.wait_for(&format!("project {id} to have {soft} and {hard}"), SOON, || {
            self.report(id).filter(|[_, s, h]| (*s, *h) == (soft, hard))
        });
    }

    /// Waits for the statistics of a container to hold.
    #[track_caller]
    pub fn wait_statistics(&self, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        self.wait_for(&format!("statistics of {name}"), SOON, || {
            let text = self.find("/run/berth/statistics.json")?;
            let all: Value = serde_json::from_str(&text).ok()?;
            last = all["containers"].as_array()?.iter().find(|container| container["name"] == name)?.clone();
            holds(&last).then(|| last.clone())
        })
    }
}

/// `[disk]` with this limit.
pub fn disk(limit: &str, enforce: &str) -> String {
    format!("[disk]\nlimit = \"{limit}\"\nenforce = \"{enforce}\"\n")
}
