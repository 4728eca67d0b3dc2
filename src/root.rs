//! Where things lie. Every path of the program comes from here, so tests move the world and not the code.

use std::path::{Path, PathBuf};

use crate::spec::Name;

/// The places of a host, below one prefix (`/` in production, a scratch directory in tests).
///
/// DESIGN: configuration in four roots, `/var/lib/berth` survives a reboot, `/run/berth` does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// What every absolute path is put below.
    prefix: PathBuf,
}

/// The layer a file of configuration comes from, highest precedence first
/// (systemd.unit(5): `/etc` over `/run` over `/usr/local/lib` over `/usr/lib`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// `/etc/berth`: the administrator's.
    Etc,
    /// `/run/berth`: until the next boot.
    Run,
    /// `/usr/local/lib/berth`: locally installed software's.
    Local,
    /// `/usr/lib/berth`: the distribution's.
    Vendor,
}

impl Layer {
    /// All layers, highest precedence first.
    pub const ALL: [Self; 4] = [Self::Etc, Self::Run, Self::Local, Self::Vendor];

    /// Whether a spec of this layer starts without `systemctl enable`, unless it says otherwise.
    #[must_use]
    pub fn autostarts(self) -> bool {
        matches!(self, Self::Etc | Self::Run)
    }
}

impl Default for Root {
    fn default() -> Self {
        Self::new("/")
    }
}

impl Root {
    /// A world below `prefix`.
    pub fn new(prefix: impl Into<PathBuf>) -> Self {
        Self { prefix: prefix.into() }
    }

    /// The absolute path `path` as seen below the prefix.
    #[must_use]
    pub fn at(&self, path: &str) -> PathBuf {
        self.prefix.join(path.trim_start_matches('/'))
    }

    /// The prefix itself.
    #[must_use]
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// The directory of one layer of configuration.
    #[must_use]
    pub fn config(&self, layer: Layer) -> PathBuf {
        self.at(match layer {
            Layer::Etc => "/etc/berth",
            Layer::Run => "/run/berth",
            Layer::Local => "/usr/local/lib/berth",
            Layer::Vendor => "/usr/lib/berth",
        })
    }

    /// The directory of container specs in one layer.
    #[must_use]
    pub fn containers(&self, layer: Layer) -> PathBuf {
        self.config(layer).join("containers")
    }

    /// `/run/berth`: what a reboot ends.
    #[must_use]
    pub fn runtime(&self) -> PathBuf {
        self.at("/run/berth")
    }

    /// The socket on which berthd listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.runtime().join("berthd.sock")
    }

    /// The socket at which systemd starts a berth-pull for each connection.
    #[must_use]
    pub fn pull_socket(&self) -> PathBuf {
        self.runtime().join("pull.sock")
    }

    /// The state file, for people and programs (DESIGN §6).
    #[must_use]
    pub fn state_file(&self) -> PathBuf {
        self.runtime().join("state.json")
    }

    /// What containers have used, for programs (DESIGN §6).
    #[must_use]
    pub fn statistics_file(&self) -> PathBuf {
        self.runtime().join("statistics.json")
    }

    /// Records of what runs; they end with the boot.
    #[must_use]
    pub fn records(&self) -> PathBuf {
        self.runtime().join("records")
    }

    /// `/var/lib/berth`: what outlives a reboot.
    #[must_use]
    pub fn durable(&self) -> PathBuf {
        self.at("/var/lib/berth")
    }

    /// All sandboxes of a container, one directory a run.
    #[must_use]
    pub fn sandboxes(&self, name: &Name) -> PathBuf {
        self.durable().join("sandboxes").join(name.as_str())
    }

    /// Images: their layers and what is known of them.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.durable().join("images")
    }

    /// Which images containers have been started from: the ways back.
    #[must_use]
    pub fn versions(&self) -> PathBuf {
        self.durable().join("versions")
    }

    /// The log of a container under the direct manager.
    #[must_use]
    pub fn log(&self, name: &Name) -> PathBuf {
        self.at("/var/log/berth").join(format!("{name}.log"))
    }

    /// Where berthd puts the drop-in of a unit: transient, since it is derived from the spec.
    #[must_use]
    pub fn unit_drop_in(&self, unit: &str) -> PathBuf {
        self.at("/run/systemd/system").join(format!("{unit}.d")).join("50-berth.conf")
    }

    /// The control group above all that berthd itself makes, relative to a mount of a hierarchy. The kernel has one tree
    /// for all worlds: a world below another prefix has a parent of its own.
    #[must_use]
    pub fn cgroup(&self) -> String {
        let prefix: String = self.prefix.to_string_lossy().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        format!("berth{}", prefix.trim_end_matches('-'))
    }

    /// Numbers that containers hold as net_cls handles, one link a number.
    #[must_use]
    pub fn handles(&self) -> PathBuf {
        self.runtime().join("handles")
    }

    /// Where the v1 hierarchy net_cls is mounted if nobody has mounted it.
    #[must_use]
    pub fn net_cls(&self) -> PathBuf {
        self.runtime().join("net_cls")
    }

    /// Whether systemd is this host's service manager (sd_booted(3)).
    #[must_use]
    pub fn systemd_booted(&self) -> bool {
        self.at("/run/systemd/system").is_dir()
    }
}
