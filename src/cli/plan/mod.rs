//! `plan`: everything that a start will do, in its order, in plain words, grouped by who does it.

/// A plan's parts in words.
mod words;

use std::io::Write;

use super::{
    CliError, Context, Exit, json,
    style::{self, Hue, Style},
};
use crate::plan::Plan;

/// Shows a plan that was built from the spec.
///
/// # Errors
/// The output cannot be written.
pub fn run(cx: &Context, plan: &Plan, out: &mut dyn Write) -> Result<Exit, CliError> {
    if cx.json {
        json(out, plan)?;
    } else {
        render(plan, out, cx.style)?;
    }
    Ok(Exit::Ok)
}

/// Writes a plan for people, its deeds numbered from the first to the last.
///
/// # Errors
/// The output cannot be written.
pub fn render(plan: &Plan, out: &mut dyn Write, style: Style) -> Result<(), CliError> {
    writeln!(out, "{}", style.paint(Hue::Strong, &format!("{}: {}", plan.container, plan.container.unit())))?;
    let mut list = Numbered { out, style, last: 0 };
    list.group("The service manager", words::manager(plan))?;
    list.group("berthd", words::daemon(plan))?;
    list.group("berth-launch, in the child", words::child(plan))?;
    list.group("The program", words::program(plan))?;
    for warning in &plan.warnings {
        writeln!(out, "{} {}", style.paint(Hue::Busy, "warning:"), style::plain(warning))?;
    }
    Ok(())
}

/// Deeds, numbered through.
struct Numbered<'a> {
    /// Where to.
    out: &'a mut dyn Write,
    /// How.
    style: Style,
    /// The last number given.
    last: usize,
}

impl Numbered<'_> {
    /// What one party does.
    fn group(&mut self, who: &str, deeds: Vec<Deed>) -> Result<(), CliError> {
        writeln!(self.out, "{}", self.style.paint(Hue::Strong, who))?;
        for deed in deeds {
            self.last += 1;
            let by =
                deed.isolator.map_or_else(String::new, |name| self.style.paint(Hue::Quiet, &format!("  [{name}]")));
            writeln!(self.out, "{:>4}. {}{by}", self.last, style::plain(&deed.text))?;
            for detail in &deed.details {
                writeln!(self.out, "      {}", style::plain(detail))?;
            }
        }
        Ok(())
    }
}

/// One deed in words.
#[derive(Debug)]
struct Deed {
    /// What is done.
    text: String,
    /// Which isolator asks for it.
    isolator: Option<String>,
    /// Its particulars, one a line.
    details: Vec<String>,
}

impl Deed {
    /// A deed that no isolator asks for.
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), isolator: None, details: Vec::new() }
    }

    /// The deed with its particulars.
    fn with(self, details: Vec<String>) -> Self {
        Self { details, ..self }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use super::*;
    use crate::{
        plan::{
            Action, Bind, CapabilitySets, CapabilityWishes, Forbidden, Made, Namespace, Phase, Program, Source, Step,
            UnitSettings,
        },
        spec::{Bytes, Capability, CapabilitySet, MountOption, Propagation, Restart, Signal},
    };

    /// A volume of every kind.
    fn binds() -> Vec<Bind> {
        let bind = |source, target: &str, read_only| Bind::new(source, target, read_only);
        let made = Made { mode: 0o1770, owner: None };
        let image = Source::Image {
            source: "oci:/srv/layout".parse().unwrap(),
            digest: Some(format!("sha256:{}", "0a".repeat(32)).parse().unwrap()),
            layers: vec!["/a".into(), "/b".into()],
        };
        vec![
            bind(Source::Sandbox("tmp".into()), "/tmp", false),
            bind(Source::Host("/srv/data".into()), "/data", true),
            Bind {
                subpath: Some("a".into()),
                propagation: Propagation::Bidirectional,
                ..bind(Source::Host("/srv".into()), "in", false)
            },
            bind(Source::Created { path: "/srv/new".into(), ownership: made }, "/new", false),
            Bind {
                options: BTreeSet::from([MountOption::Nosuid, MountOption::Noexec]),
                ..bind(Source::Tmpfs { size: Some(Bytes(1 << 20)), ownership: made }, "/memory", false)
            },
            bind(image, "/image", true),
        ]
    }

    /// A plan with one of everything.
    fn plan() -> Plan {
        let step = |isolator: &str, phase, action| Step { isolator: isolator.to_owned(), phase, action };
        let binds = binds();
        let identity = Action::SetIdentity { uid: 33, gid: 33, groups: vec![4, 33] };
        let bind_service = CapabilitySet::of(&[Capability::NET_BIND_SERVICE]);
        let sets = CapabilitySets {
            bounding: CapabilitySet::OCI_DEFAULT - CapabilitySet::of(&[Capability::NET_RAW]),
            effective: bind_service,
            inheritable: bind_service,
            ambient: bind_service,
            required: bind_service,
            without: vec![Forbidden {
                capability: Capability::NET_RAW,
                isolator: "cgroups/net_cls".to_owned(),
                reason: "it could mark its packets".to_owned(),
            }],
        };
        Plan {
            container: "web".parse().unwrap(),
            unit: UnitSettings {
                description: Some("Static web server".to_owned()),
                after: vec!["network-online.target".to_owned(), "berth@db.service".to_owned()],
                restart: Some(Restart::Always),
                restart_delay: Some(Duration::from_millis(90_500)),
                stop_signal: Some(Signal(3)),
                stop_timeout: Some(Duration::MAX),
                ..UnitSettings::default()
            },
            namespaces: BTreeSet::from([Namespace::Mount, Namespace::Pid, Namespace::Ipc]),
            sandbox: None,
            tag: None,
            image: None,
            disk: None,
            steps: vec![
                step("berth", Phase::Namespaces, Action::IsolateMounts),
                step("filesystem/shared", Phase::Mounts, Action::Bind { binds }),
                step("namespaces/ipc", Phase::Mounts, Action::MountShm { size: Some(Bytes(64 << 20)) }),
                step("namespaces/ipc", Phase::Mounts, Action::MountMqueue),
                step("namespaces/pid", Phase::Mounts, Action::MountProc),
                step("berth", Phase::Identity, identity),
                step("berth", Phase::Identity, Action::SetUmask { mask: 0o22 }),
                step("berth", Phase::Identity, Action::ChangeDirectory { path: None }),
                step("linux/capabilities", Phase::Confine, Action::SetCapabilities(sets)),
            ],
            program: Program {
                executable: "nginx".to_owned(),
                argv: vec!["nginx".to_owned(), "-g".to_owned(), "daemon off;\x1b".to_owned()],
                environment: vec![("TZ".to_owned(), "UTC".to_owned()), ("EMPTY".to_owned(), String::new())],
                init: true,
            },
            warnings: vec!["the user 'www-data' has no home".to_owned()],
            capabilities: CapabilityWishes::default(),
        }
    }

    /// What is shown of it.
    const SHOWN: &str = r#"web: berth@web.service
The service manager
   1. sets what differs from the template unit berth@.service
      Description=Static web server
      After=network-online.target berth@db.service
      Restart=always
      RestartSec=1m 30s 500ms
      KillSignal=SIGQUIT
      TimeoutStopSec=infinity
   2. makes the control group and starts 'berth-launch web' in it
berthd
   3. writes down the run, then makes its sandbox, below /var/lib/berth/sandboxes/web
   4. prepares and attaches filesystem/shared, linux/capabilities, namespaces/ipc, namespaces/pid, while the launcher waits
berth-launch, in the child
   5. is born into new namespaces: mount, pid, ipc
   6. makes / a recursive slave, so that no mount made here reaches the host  [berth]
   7. binds, all sources opened before the first target is covered  [filesystem/shared]
      sandbox:tmp on /tmp
      /srv/data on /data, read-only with all below
      /srv, of it a on sandbox:in, mounts seen on both sides
      /srv/new (made where it is not, mode 1770) on /new
      tmpfs, 1 MiB, mode 1770 on /memory, nosuid, noexec
      oci:/srv/layout, sha256:0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a, 2 layers on /image, read-only with all below
   8. mounts a /dev/shm of its own, 64 MiB  [namespaces/ipc]
   9. mounts a /dev/mqueue of its own  [namespaces/ipc]
  10. mounts a /proc that shows the container's processes only  [namespaces/pid]
  11. becomes uid 33, gid 33, supplementary groups 4 33  [berth]
  12. sets umask 0022  [berth]
  13. changes to the sandbox  [berth]
  14. limits its capabilities  [linux/capabilities]
      bounding: OCI default but NET_RAW
      effective: NET_BIND_SERVICE
      ambient: NET_BIND_SERVICE
      without NET_RAW, by which it could mark its packets (cgroups/net_cls)
  15. finds 'nginx' in the environment's PATH, reports, and waits until the service manager has taken it over
The program
  16. a minimal init becomes the first process, reaps and forwards signals
  17. execve of nginx
      argv[0] = "nginx"
      argv[1] = "-g"
      argv[2] = "daemon off;\u{1b}"
      TZ="UTC"
      EMPTY=""
warning: the user 'www-data' has no home
"#;

    /// `plan` as text.
    fn text(plan: &Plan, style: Style) -> String {
        let mut out = Vec::new();
        render(plan, &mut out, style).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_plan_with_one_of_everything() {
        assert_eq!(text(&plan(), Style::PLAIN), SHOWN);
    }

    #[test]
    fn a_plan_with_nothing() {
        let bare = Plan {
            unit: UnitSettings::default(),
            namespaces: BTreeSet::new(),
            sandbox: Some("/sandbox".into()),
            steps: Vec::new(),
            program: Program { executable: "/bin/true".to_owned(), init: false, ..plan().program },
            warnings: Vec::new(),
            ..plan()
        };
        let text = text(&bare, Style::PLAIN);
        for line in [
            "   1. uses the template unit berth@.service as it is\n",
            "   3. writes down the run, then makes its sandbox, /sandbox\n",
            "   4. goes on without a child, in the host's namespaces\n",
            "   5. checks that '/bin/true' is there and executable, reports",
            "   6. execve of /bin/true\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    #[test]
    fn colours_change_no_words() {
        let coloured = text(&plan(), Style { color: true });
        let mut plain = String::new();
        let mut parts = coloured.split("\x1b[");
        plain.push_str(parts.next().unwrap());
        parts.for_each(|part| plain.push_str(part.split_once('m').unwrap().1));
        assert_eq!(plain, SHOWN);
    }
}
