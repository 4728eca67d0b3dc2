//! A plan's parts in words.

use std::{path::PathBuf, time::Duration};

use super::Deed;
use crate::{
    cli::phrase,
    clock,
    isolators::{ORDER, volume},
    plan::{
        Action, Bind, CapabilitySets, EtcFile, Forbidden, Namespace, Plan, Source, Tag, TagHandle, Top, UnitSettings,
    },
    spec::{CapabilitySet, Propagation},
};

/// What the service manager does.
pub fn manager(plan: &Plan) -> Vec<Deed> {
    let settings = settings(&plan.unit);
    let first = if settings.is_empty() {
        Deed::new("uses the template unit berth@.service as it is")
    } else {
        Deed::new("sets what differs from the template unit berth@.service").with(settings)
    };
    vec![first, Deed::new(format!("makes the control group and starts 'berth-launch {}' in it", plan.container))]
}

/// The settings as a unit file has them.
fn settings(unit: &UnitSettings) -> Vec<String> {
    let list = |list: &[String]| (!list.is_empty()).then(|| list.join(" "));
    let span = |span: Option<Duration>| span.map(clock::span);
    let word = |value: Option<serde_json::Value>| value.and_then(|value| value.as_str().map(str::to_owned));
    let limit = unit.start_limit;
    [
        ("Description", unit.description.clone()),
        ("After", list(&unit.after)),
        ("Before", list(&unit.before)),
        ("Requires", list(&unit.requires)),
        ("Wants", list(&unit.wants)),
        ("Restart", word(unit.restart.and_then(|restart| serde_json::to_value(restart).ok()))),
        ("RestartSec", span(unit.restart_delay)),
        ("StartLimitBurst", limit.map(|limit| limit.burst.to_string())),
        ("StartLimitIntervalSec", span(limit.map(|limit| limit.interval))),
        ("TimeoutStartSec", span(unit.start_timeout)),
        ("KillSignal", unit.stop_signal.map(|signal| phrase::signal(signal.0))),
        ("TimeoutStopSec", span(unit.stop_timeout)),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some(format!("{key}={}", value?)))
    .collect()
}

/// What berthd does before the child is born.
pub fn daemon(plan: &Plan) -> Vec<Deed> {
    let sandbox = plan.sandbox.as_ref().map_or_else(
        || format!("below /var/lib/berth/sandboxes/{}", plan.container),
        |path| path.display().to_string(),
    );
    let mut deeds = vec![Deed::new(format!("writes down the run, then makes its sandbox, {sandbox}"))];
    deeds.extend(plan.tag.as_ref().map(tag));
    let wanted = |name: &str| plan.steps.iter().any(|step| step.isolator == name);
    let isolators: Vec<&str> = ORDER.iter().map(|isolator| isolator.name()).filter(|name| wanted(name)).collect();
    if !isolators.is_empty() {
        let names = isolators.join(", ");
        deeds.push(Deed::new(format!("prepares and attaches {names}, while the launcher waits")));
    }
    deeds
}

/// The tag of the container's packets.
fn tag(tag: &Tag) -> Deed {
    let backends = tag.backends.iter().map(|backend| backend.as_str()).collect::<Vec<_>>().join(" and ");
    let text = match &tag.handle {
        TagHandle::Auto { .. } => {
            format!("tags its packets, by {backends}, with the lowest free handle of {}", tag.handle)
        }
        TagHandle::Fixed(handle) => format!("tags its packets, by {backends}, with the handle {handle}"),
        TagHandle::Unmanaged => "makes a net_cls cgroup for it, whose class the operator sets".to_owned(),
    };
    Deed { isolator: Some("cgroups/net_cls".to_owned()), ..Deed::new(text) }
}

/// What is done between the child's birth and the program.
pub fn child(plan: &Plan) -> Vec<Deed> {
    let spaces: Vec<&str> = plan.namespaces.iter().map(|space| namespace(*space)).collect();
    let birth = if plan.namespaces.contains(&Namespace::Pid) { "is born into" } else { "enters" };
    let mut deeds = vec![if spaces.is_empty() {
        Deed::new("goes on without a child, in the host's namespaces")
    } else {
        Deed::new(format!("{birth} new namespaces: {}", spaces.join(", ")))
    }];
    deeds.extend(plan.steps.iter().map(|step| {
        let isolator = Some(step.isolator.clone());
        Deed { isolator, ..action(&step.action) }
    }));
    let executable = &plan.program.executable;
    let found = if executable.contains('/') {
        format!("checks that '{executable}' is there and executable")
    } else {
        format!("finds '{executable}' in the environment's PATH")
    };
    deeds.push(Deed::new(format!("{found}, reports, and waits until the service manager has taken it over")));
    deeds
}

/// A namespace's name.
fn namespace(namespace: Namespace) -> &'static str {
    match namespace {
        Namespace::Mount => "mount",
        Namespace::Pid => "pid",
        Namespace::Ipc => "ipc",
        Namespace::Uts => "uts",
        Namespace::Cgroup => "cgroup",
    }
}

/// A step in words.
fn action(action: &Action) -> Deed {
    Deed::new(match action {
        Action::IsolateMounts => "makes / a recursive slave, so that no mount made here reaches the host".to_owned(),
        Action::Bind { binds } => {
            let text = "binds, all sources opened before the first target is covered";
            return Deed::new(text).with(binds.iter().map(bind).collect());
        }
        Action::EnterRoot { layers, top, sandbox, files, binds } => {
            return enter_root(layers, *top, sandbox, files, binds);
        }
        Action::SetHostname { name } => format!("calls itself {name}"),
        Action::MakeDirectory { path } => format!("makes {}, if it is not there", path.display()),
        Action::MaskPaths => {
            "hides parts of /proc and /sys that tell of the host, closes those that change it".to_owned()
        }
        Action::MountProc => "mounts a /proc that shows the container's processes only".to_owned(),
        Action::MountShm { size } => {
            let size = size.map_or_else(|| "half of RAM".to_owned(), |size| phrase::bytes(size.0));
            format!("mounts a /dev/shm of its own, {size}")
        }
        Action::MountMqueue => "mounts a /dev/mqueue of its own".to_owned(),
        Action::GuardCgroups => "makes control groups read-only, but for its own".to_owned(),
        Action::DenyUserNamespaces => "makes no user namespaces from here on (seccomp)".to_owned(),
        Action::DenyProjects => "changes the quota project of no file from here on (seccomp)".to_owned(),
        Action::SetRlimits { limits } => {
            let lines = limits.iter().map(|(resource, limit)| format!("{resource} {limit}")).collect();
            return Deed::new("limits its resources, once nothing else is left to do").with(lines);
        }
        Action::SetIdentity { uid, gid, groups } => {
            let groups = groups.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
            let groups = if groups.is_empty() { "none".to_owned() } else { groups };
            format!("becomes uid {uid}, gid {gid}, supplementary groups {groups}")
        }
        Action::SetUmask { mask } => format!("sets umask {mask:04o}"),
        Action::ChangeDirectory { path: Some(path) } => format!("changes to {}", path.display()),
        Action::ChangeDirectory { path: None } => "changes to the sandbox".to_owned(),
        Action::SetNoNewPrivileges => "gets no privileges from what it executes".to_owned(),
        Action::SetCapabilities(sets) => return Deed::new("limits its capabilities").with(capabilities(sets)),
    })
}

/// The root of the container's own in words.
fn enter_root(layers: &[PathBuf], top: Top, sandbox: &Option<PathBuf>, files: &[EtcFile], binds: &[Bind]) -> Deed {
    let mut details: Vec<String> = layers.iter().rev().map(|layer| format!("layer {}", layer.display())).collect();
    details.push(match top {
        Top::Upper => "changes go to a directory of the run's own".to_owned(),
        Top::ReadOnly => "read-only".to_owned(),
        Top::Writable => "changes go to the directory itself".to_owned(),
    });
    details.push("/proc, /sys read-only, its own control group read-only, /dev with the standard nodes".to_owned());
    details.extend(files.iter().map(|file| format!("/etc/{} of the run's own", file.name)));
    details.extend(sandbox.iter().map(|path| format!("the sandbox on {}", path.display())));
    details.extend(binds.iter().map(bind));
    Deed::new("makes a root of its own and goes there; nothing of the host's mounts is left").with(details)
}

/// The sets of capabilities in words, and what is not in them.
fn capabilities(sets: &CapabilitySets) -> Vec<String> {
    let words = |set: CapabilitySet| set.in_words(CapabilitySet::NAMED | set);
    let names =
        if sets.bounding == CapabilitySet::OCI_DEFAULT { format!(" ({})", sets.bounding) } else { String::new() };
    let mut lines = vec![
        format!("bounding: {}{names}", words(sets.bounding)),
        format!("effective: {}", words(sets.effective)),
        format!("ambient: {}", words(sets.ambient)),
    ];
    let without = |Forbidden { capability, isolator, reason }: &Forbidden| {
        format!("without {capability}, by which {reason} ({isolator})")
    };
    lines.extend(sets.without.iter().map(without));
    lines
}

/// A volume in words.
fn bind(bind: &Bind) -> String {
    let mut words = vec![match &bind.source {
        Source::Created { ownership, .. } => {
            format!("{} (made where it is not, mode {:04o})", bind.source, ownership.mode)
        }
        Source::Tmpfs { size, ownership } => {
            let size = size.map_or_else(|| "half of RAM".to_owned(), |size| phrase::bytes(size.0));
            format!("tmpfs, {size}, mode {:04o}", ownership.mode)
        }
        Source::Image { digest: Some(digest), layers, .. } => {
            format!("{}, {digest}, {} layers", bind.source, layers.len())
        }
        Source::Populated(_) => format!("{}, which first holds what the image has,", bind.source),
        _ => bind.source.to_string(),
    }];
    words.extend(bind.subpath.iter().map(|path| format!("of it {}", path.display())));
    let place = if bind.target.is_relative() { "sandbox:" } else { "" };
    words = vec![format!("{} on {place}{}", words.join(", "), bind.target.display())];
    words.extend(bind.read_only.then(|| "read-only with all below".to_owned()));
    words.extend(bind.options.iter().map(|option| volume::option_word(*option).to_owned()));
    words.extend(match bind.propagation {
        Propagation::Bidirectional => Some("mounts seen on both sides".to_owned()),
        Propagation::Private if !bind.read_only && bind.source.on_host().is_some() => {
            Some("no mount of the host's seen later".to_owned())
        }
        _ => None,
    });
    words.join(", ")
}

/// What the program is.
pub fn program(plan: &Plan) -> Vec<Deed> {
    let program = &plan.program;
    let mut deeds = Vec::new();
    if program.init {
        deeds.push(Deed::new("a minimal init becomes the first process, reaps and forwards signals"));
    }
    let argv = program.argv.iter().enumerate().map(|(index, value)| format!("argv[{index}] = {value:?}"));
    let environment = program.environment.iter().map(|(key, value)| format!("{key}={value:?}"));
    deeds.push(Deed::new(format!("execve of {}", program.executable)).with(argv.chain(environment).collect()));
    deeds
}
