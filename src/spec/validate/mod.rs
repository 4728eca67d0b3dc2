//! Draft to [`Spec`]: the rules that one value alone cannot break.

mod capabilities;
mod disk;
mod image;
mod report;
mod rlimits;
mod service;
mod text;
mod volumes;

use std::{collections::BTreeMap, path::PathBuf};

use figment::value::Value;
use serde::Deserialize;

use super::{
    Command, HandleChoice, Identity, Name, Namespaces, Network, Share, Spec,
    command::{is_left_to_image, resolve},
    fragment::{Fragment, NamespacesFragment, NetworkFragment},
    words::{CommandWord, UserWord},
};
use crate::{
    image::Source,
    root::Layer,
    source::{Complaint, KeyPath, Part, Stack, dotted},
};

pub use capabilities::beyond_bounding;
pub use report::Report;
pub use text::absolute;
pub use volumes::kernel_tree;

/// The default umask.
const UMASK: u32 = 0o022;

/// A draft: the documents of one container, `main` of which is the spec; defaults lie below it, drop-ins above.
#[derive(Debug)]
pub struct Draft<'a> {
    /// Whose.
    pub name: &'a Name,
    /// Where its spec lies.
    pub layer: Layer,
    /// What was written.
    pub stack: &'a Stack,
    /// Which of it is the spec.
    pub main: usize,
    /// Whether a command must be there: not in defaults alone.
    pub whole: bool,
    /// The primary of the host's net_cls handles.
    pub primary_handle: Option<u16>,
}

/// Checks a draft. The spec is whole only if the report has no errors.
pub fn validate<'a>(draft: &Draft<'a>) -> (Spec, Report<'a>) {
    let mut report = Report::new(draft.name, draft.stack, draft.main);
    let merged = Value::from(draft.stack.merged());
    let fragment = Fragment::deserialize(&merged).unwrap_or_else(|error| {
        report.error_at(&error.path, Part::Value, Complaint::new(error.kind.to_string()));
        Fragment::default()
    });
    let image = image::image(fragment.image, &mut report);
    let of_image = image.as_ref().is_some_and(|image| !matches!(image.source, Source::Rootfs { .. }));
    let checked = draft.whole && !draft.stack.failed(&dotted("command"));
    let command = command(fragment.command, checked, of_image, &mut report);
    let mut service = service::service(fragment.service.unwrap_or_default(), &mut report);
    let namespaces = namespaces(fragment.namespaces.unwrap_or_default(), &mut report);
    if service.init && namespaces.pid == Some(Share::Host) {
        let complaint =
            Complaint::new("an init is PID 1 of a pid namespace of its own, and `namespaces.pid` is \"host\"");
        report.conflict("service.init", "namespaces.pid", complaint);
        service.init = false;
    }
    let hostname = image::hostname(fragment.hostname, image.is_some(), &mut report);
    let machine_id = image::machine_id(fragment.machine_id, image.is_some(), &mut report);
    let root = image.as_ref().map(|image| image.read_only);
    let volumes = volumes::volumes(fragment.volumes.unwrap_or_default(), root, &mut report);
    let spec = Spec {
        description: description(fragment.description, &mut report),
        autostart: fragment.autostart.unwrap_or(draft.layer.autostarts()),
        on_change: fragment.on_change.unwrap_or_default(),
        command,
        identity: identity(fragment.user, fragment.supplementary_groups.unwrap_or_default()),
        working_directory: directory(fragment.working_directory, &mut report),
        environment: environment(fragment.environment.unwrap_or_default(), &mut report),
        umask: umask(&fragment.umask.map_or(UMASK, |umask| umask.0), draft.stack, &mut report),
        sandbox: fragment.sandbox.unwrap_or_default(),
        image,
        hostname,
        machine_id,
        disk: disk::disk(fragment.disk.unwrap_or_default(), &volumes, &mut report),
        volumes,
        namespaces,
        network: network(fragment.network.unwrap_or_default(), draft.primary_handle, &mut report),
        capabilities: capabilities::capabilities(fragment.capabilities.unwrap_or_default(), &mut report),
        no_new_privileges: fragment.no_new_privileges,
        rlimits: rlimits::rlimits(fragment.rlimits.unwrap_or_default(), &mut report),
        service,
    };
    (spec, report)
}

/// One line for people.
fn description(description: Option<String>, report: &mut Report<'_>) -> Option<String> {
    if let Some(Err(complaint)) = description.as_deref().map(text::line) {
        report.error("description", complaint);
    }
    description
}

/// What runs. Without an image it must name a program, where it is `needed` and not wrong already.
fn command(word: Option<CommandWord>, needed: bool, of_image: bool, report: &mut Report<'_>) -> Command {
    let missing = Command { shell: false, value: None, arguments: Vec::new() };
    let written = word.is_some();
    let CommandWord { command, table } = word.unwrap_or(CommandWord { command: missing, table: false });
    if !needed {
        return command;
    }
    // What an image says is known when it is here.
    let unknown = of_image && is_left_to_image(&command);
    if let Some(error) = resolve(&command, None).err().filter(|_| !unknown) {
        let complaint = Complaint::new(error.to_string()).help(error.cure());
        if written { report.error("command", complaint) } else { report.missing("command", complaint) }
    }
    let value = if table || command.shell { "command.value" } else { "command.0" };
    let value = if command.shell && !table { "command" } else { value };
    match command.value.as_deref().map(text::argument) {
        _ if command.value.as_deref().is_some_and(|value| value.trim().is_empty()) => {
            let help = "write command = [\"/path/to/program\", \"argument\"]";
            report.error(value, Complaint::new("the command is empty").help(help));
        }
        Some(Err(complaint)) => report.error(value, complaint),
        _ => {}
    }
    let arguments = if table { "command.arguments" } else { "command" };
    for (index, argument) in command.arguments.iter().enumerate().skip(usize::from(!table)) {
        if let Err(complaint) = text::argument(argument) {
            report.error(&format!("{arguments}.{index}"), complaint);
        }
    }
    if command.shell && !command.arguments.is_empty() {
        let complaint = Complaint::new("with `shell`, which is the default, arguments are ignored, as in Mesos");
        report.warning("command.arguments", complaint.help("write shell = false"));
    }
    command
}

/// As whom it runs.
fn identity(user: Option<UserWord>, groups: Vec<super::words::GroupWord>) -> Identity {
    let (user, group) = user.map_or((None, None), |word| (Some(word.user), word.group));
    Identity { user, group, supplementary_groups: groups.into_iter().map(|group| group.0).collect() }
}

/// Where it starts.
fn directory(directory: Option<String>, report: &mut Report<'_>) -> Option<PathBuf> {
    absolute(&directory?).map_err(|complaint| report.error("working_directory", complaint)).ok()
}

/// Variables that the program can see.
fn environment(variables: BTreeMap<String, String>, report: &mut Report<'_>) -> BTreeMap<String, String> {
    for (name, value) in &variables {
        let path: KeyPath = vec!["environment".to_owned(), name.clone()];
        let letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(letter) {
            let complaint = Complaint::new("this is no name of a variable").help("use letters, digits and `_`");
            report.error_at(&path, Part::Key, complaint);
        } else if let Err(complaint) = text::argument(&format!("{name}={value}")) {
            report.error_at(&path, Part::Value, complaint);
        }
    }
    variables
}

/// A number that was meant to be octal must be written so.
fn umask(mask: &u32, stack: &Stack, report: &mut Report<'_>) -> u32 {
    let path = dotted("umask");
    let origin = stack.origin(&path).and_then(|index| stack.documents.get(index));
    let radix = origin.and_then(|document| document.radix(&path));
    if *mask != 0 && matches!(radix, Some(2 | 10 | 16)) {
        let complaint = Complaint::new("a umask is octal, and this number is not");
        report.error("umask", complaint.help("write it in quotes, \"0022\", or as 0o022"));
    }
    *mask
}

/// Whose namespaces.
fn namespaces(fragment: NamespacesFragment, report: &mut Report<'_>) -> Namespaces {
    let NamespacesFragment { pid, ipc, mut shm_size } = fragment;
    if shm_size.is_some() && ipc == Some(Share::Host) {
        let complaint = Complaint::new("only a private /dev/shm has a size, and `namespaces.ipc` is \"host\"");
        report.conflict("namespaces.shm_size", "namespaces.ipc", complaint);
        shm_size = None;
    }
    if shm_size.is_some_and(|size| size.0 == 0) {
        report
            .error("namespaces.shm_size", Complaint::new("zero would mean no limit").help("write a size, or nothing"));
    }
    Namespaces { pid, ipc, shm_size }
}

/// How the network is used. A handle of another primary would be taken for another host's, or another tool's.
fn network(fragment: NetworkFragment, primary: Option<u16>, report: &mut Report<'_>) -> Network {
    if let (Some(HandleChoice::Fixed(handle)), Some(primary)) = (fragment.handle, primary)
        && handle.primary() != primary
    {
        let message = format!("{handle} is outside this host's primary handle {primary:#06x}");
        let help = format!("write \"{primary:04x}:{:04x}\", or change net_cls.primary_handle", handle.secondary());
        report.error("network.handle", Complaint::new(message).help(help));
    }
    Network { handle: fragment.handle }
}
