//! Making a plan: the core's own steps, then each isolator's.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{Action, CapabilityWishes, Namespace, Phase, Plan, Program, Step, UnitSettings};
use crate::{
    config::Config,
    error::reason,
    host::{Host, users},
    image,
    inside::Inside,
    isolators::{
        Check, Isolator, ORDER, disk, docker_runtime,
        filesystem_linux::{Found, find},
        volume,
    },
    protocol::{Failure, Stage},
    spec::{Name, Rlimits, Spec, command, words::UserWord},
};

/// Where a program looks for others, if its spec does not say (systemd.exec(5), `$PATH`).
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Who asks for the steps that every container gets.
pub(super) const CORE: &str = "berth";

/// What a plan is made from.
#[derive(Debug, Clone, Copy)]
pub struct Build<'a> {
    /// Whose.
    pub name: &'a Name,
    /// From what.
    pub spec: &'a Spec,
    /// For which host.
    pub host: &'a Host,
    /// The isolators that are enabled.
    pub enabled: &'a [&'static dyn Isolator],
    /// With which configuration.
    pub config: &'a Config,
}

/// Plans a start. Reads the host and changes nothing.
///
/// # Errors
/// The first thing that the spec asks and that this host cannot give.
pub fn build(from: Build<'_>) -> Result<Plan, Failure> {
    let image = from.spec.image.as_ref();
    let found = image.map(|image| find(from.host, Some(from.name), &image.source, image.pull)).transpose()?;
    let account = account(from, found.as_ref())?;
    let nothing = image::Config::default();
    let says = found.as_ref().map_or(&nothing, |found| &found.config);
    let mut plan = Plan {
        container: from.name.clone(),
        unit: UnitSettings::of(from.spec, docker_runtime::stop_signal(says)),
        namespaces: BTreeSet::new(),
        sandbox: None,
        tag: None,
        image: None,
        disk: None,
        steps: Vec::new(),
        program: program(from.name, from.spec, &account, says)?,
        warnings: Vec::new(),
        capabilities: CapabilityWishes::default(),
    };
    isolate(from, found.as_ref(), &mut plan)?;
    volume::check_nesting(&plan, from.host)?;
    if plan.program.init && !plan.namespaces.contains(&Namespace::Pid) {
        return Err(config("init = true needs a pid namespace of the container's own (namespaces.pid = \"private\")"));
    }
    let core = |phase, action| Step { isolator: CORE.to_owned(), phase, action };
    if plan.namespaces.contains(&Namespace::Mount) {
        plan.steps.insert(0, core(Phase::Namespaces, Action::IsolateMounts));
    }
    let users::Account { uid, gid, groups, .. } = account;
    plan.steps.push(core(Phase::Identity, Action::SetIdentity { uid, gid, groups }));
    plan.steps.push(core(Phase::Identity, Action::SetUmask { mask: from.spec.umask }));
    let said = says.working_dir.as_deref().map(|path| Path::new("/").join(path));
    let path = from.spec.working_directory.clone().or(said).or_else(|| start_in(&plan));
    plan.steps.push(core(Phase::Identity, Action::ChangeDirectory { path }));
    plan.compose_capabilities(uid == 0, &from.spec.capabilities, from.host.capabilities());
    plan.steps.sort_by_key(|step| step.phase);
    Ok(plan)
}

/// Whom the program runs as: by the files of its own root, where it has one; the image says who, if the spec does not.
fn account(from: Build<'_>, found: Option<&Found>) -> Result<users::Account, Failure> {
    let Some(Found { config, layers, .. }) = found else { return users::resolve(&from.spec.identity) };
    let mut identity = from.spec.identity.clone();
    if let (None, Some(user)) = (&identity.user, &config.user) {
        let word = user
            .parse::<UserWord>()
            .map_err(|complaint| self::config(&format!("the image's User: {}; write user", complaint.message)))?;
        (identity.user, identity.group) = (Some(word.user), word.group);
    }
    let inside = Inside::of_layers(layers).map_err(|error| Failure {
        stage: Stage::Mounts,
        errno: error.raw_os_error(),
        path: layers.last().cloned(),
        message: format!("cannot look into the image: {}; was a layer removed by hand?", reason(&error)),
    })?;
    inside.account(&identity)
}

/// Asks each enabled isolator, and refuses what only a disabled one could give.
fn isolate(from: Build<'_>, found: Option<&Found>, plan: &mut Plan) -> Result<(), Failure> {
    let sandboxes = from.host.root.sandboxes(from.name);
    let check = Check { spec: from.spec, host: from.host, config: from.config, sandboxes: &sandboxes, found };
    for isolator in ORDER {
        let name = isolator.name();
        if from.enabled.iter().any(|enabled| enabled.name() == name) {
            isolator.check(&check, plan).map_err(|refusal| refusal.failure)?;
        } else if let Some(key) = isolator.wanted_by(from.spec) {
            return Err(config(&format!(
                "{key} needs the isolator {name}, which is not enabled here; add \"{name}\" to isolation in \
                 berthd.toml, or remove {key}"
            )));
        }
    }
    disk::check_served(from.spec, plan).map_err(|message| config(&message))
}

/// Where a program in a root of its own starts, if its spec does not say: in the sandbox, where that is seen.
fn start_in(plan: &Plan) -> Option<PathBuf> {
    plan.steps.iter().find_map(|step| match &step.action {
        Action::EnterRoot { sandbox, .. } => Some(sandbox.clone().unwrap_or_else(|| PathBuf::from("/"))),
        _ => None,
    })
}

/// The program, with the environment that a service of this user would have (systemd.exec(5)).
fn program(name: &Name, spec: &Spec, account: &users::Account, image: &image::Config) -> Result<Program, Failure> {
    let of_image = spec.image.as_ref().map(|_| command::ImageCommand::of(image));
    let resolved = command::resolve(&spec.command, of_image.as_ref());
    let (executable, argv) = resolved.map_err(|error| config(&format!("{error}; {}", error.cure())))?;
    let mut environment = vec![("PATH".to_owned(), DEFAULT_PATH.to_owned())];
    let text = |path: &Path| path.to_string_lossy().into_owned();
    if let Some(user) = &account.name {
        environment.extend([("USER".to_owned(), user.clone()), ("LOGNAME".to_owned(), user.clone())]);
    }
    environment.extend(account.home.iter().map(|home| ("HOME".to_owned(), text(home))));
    environment.extend(account.shell.iter().map(|shell| ("SHELL".to_owned(), text(shell))));
    environment.push(("BERTH_CONTAINER".to_owned(), name.to_string()));
    for (key, value) in image.env.iter().map(|(key, value)| (key, value)).chain(&spec.environment) {
        set(&mut environment, key, value);
    }
    Ok(Program { executable, argv, environment, init: spec.service.init })
}

/// Sets a variable, in place of one of the same name.
fn set(environment: &mut Vec<(String, String)>, key: &str, value: &str) {
    match environment.iter_mut().find(|(name, _)| name == key) {
        Some((_, present)) => value.clone_into(present),
        None => environment.push((key.to_owned(), value.to_owned())),
    }
}

/// A failure that only an edit mends.
fn config(message: &str) -> Failure {
    Failure { stage: Stage::Config, errno: None, path: None, message: message.to_owned() }
}

impl Plan {
    /// Fills in the sandbox of a run: where the program starts, and `BERTH_SANDBOX` (as `MESOS_SANDBOX`, which
    /// programs written for Mesos read) unless the spec sets them.
    pub fn place(&mut self, sandbox: &Path) {
        self.sandbox = Some(sandbox.to_owned());
        let inside = self.steps.iter().find_map(|step| match &step.action {
            Action::EnterRoot { sandbox, .. } => Some(sandbox.clone()),
            _ => None,
        });
        let Some(sandbox) = inside.unwrap_or_else(|| Some(sandbox.to_owned())) else { return };
        for key in ["BERTH_SANDBOX", "MESOS_SANDBOX"] {
            if !self.program.environment.iter().any(|(name, _)| name == key) {
                self.program.environment.push((key.to_owned(), sandbox.to_string_lossy().into_owned()));
            }
        }
    }

    /// The resource limits that the program gets; none where the spec has none.
    #[must_use]
    pub fn rlimits(&self) -> Option<&Rlimits> {
        self.steps.iter().find_map(|step| match &step.action {
            Action::SetRlimits { limits } => Some(limits),
            _ => None,
        })
    }

    /// The user and group that the program gets.
    #[must_use]
    pub fn owner(&self) -> (u32, u32) {
        self.steps
            .iter()
            .find_map(|step| match step.action {
                Action::SetIdentity { uid, gid, .. } => Some((uid, gid)),
                _ => None,
            })
            .unwrap_or((0, 0))
    }
}

/// The keys, of those that differ between two specs, that only a restart applies; the rest is live or not about
/// what runs.
#[must_use]
pub fn needs_restart(old: &Spec, new: &Spec) -> Vec<&'static str> {
    let differs: [(&'static str, bool); 7] = [
        ("command", old.command != new.command),
        ("user", old.identity != new.identity),
        ("working_directory", old.working_directory != new.working_directory),
        ("environment", old.environment != new.environment),
        ("umask", old.umask != new.umask),
        ("sandbox", old.sandbox != new.sandbox),
        ("service.init", old.service.init != new.service.init),
    ];
    let core = differs.into_iter().filter_map(|(key, differs)| differs.then_some(key));
    core.chain(ORDER.iter().flat_map(|isolator| isolator.needs_restart(old, new))).collect()
}
