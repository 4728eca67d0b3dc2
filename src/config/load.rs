//! Reading the configuration.

use std::{path::PathBuf, time::Duration};

use figment::value::{Dict, Value};
use serde::Deserialize;

use super::{
    Config, ConfigFragment, LogConfig, NamespacesConfig, NetClsConfig, Overrides, SandboxConfig, StatisticsConfig,
    capabilities, disk,
    fragment::{LogFragment, NamespacesFragment, NetClsFragment, SandboxFragment, StatisticsFragment},
    images,
};
use crate::{
    root::{Layer, Root},
    source::{
        Complaint, Content, Diagnostic, Document, MOST, Part, Stack, dotted, drop_ins, extract, nearest, parse, read,
    },
    spec::{Defaults, check_defaults},
};

/// What names berthd's variables.
const PREFIX: &str = "BERTHD_";

impl Config {
    /// Reads `berthd.toml` and its drop-ins over the four layers, then `BERTHD_*` of `environment` (a table's key
    /// after `__`), then the flags. `isolators` are the names that `isolation` may hold.
    ///
    /// # Errors
    ///
    /// Every mistake of every source.
    pub fn load(
        root: &Root,
        overrides: &Overrides,
        environment: impl IntoIterator<Item = (String, String)>,
        isolators: &[&str],
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut errors = Vec::new();
        let mut stack = Stack::default();
        let files = files(root, &mut errors);
        for path in &files {
            stack.documents.extend(understand(parse(path), &mut errors));
        }
        let files = stack.documents.iter().map(|document| document.label.clone()).collect();
        let others = variables(environment).into_iter().chain(flags(overrides, &mut errors));
        for document in others {
            stack.documents.extend(understand((Some(document), Vec::new()), &mut errors));
        }
        Self::build(stack, files, isolators, errors)
    }

    /// `[defaults]` alone, without what is wrong in it: what `check` and `cat` go on with when [`Config::load`] fails.
    #[must_use]
    pub fn defaults(root: &Root) -> Defaults {
        let mut errors = Vec::new();
        let documents =
            files(root, &mut errors).iter().filter_map(|path| understand(parse(path), &mut errors)).collect();
        let mut stack = Stack { documents };
        let mut defaults = stack.take_defaults();
        let fragment = ConfigFragment::deserialize(&Value::from(stack.merged())).unwrap_or_default();
        defaults.primary_handle = fragment.net_cls.unwrap_or_default().primary_handle.map(|half| half.0);
        defaults
    }

    /// Reads one file that may lie anywhere, for `berthctl check`.
    ///
    /// # Errors
    ///
    /// Every mistake in it.
    pub fn load_file(path: &std::path::Path, isolators: &[&str]) -> Result<Self, Vec<Diagnostic>> {
        let mut errors = Vec::new();
        let mut stack = Stack::default();
        if matches!(read(path), Ok(Content::Absent)) {
            errors.push(Diagnostic::error(path, "there is no such file"));
        }
        stack.documents.extend(understand(parse(path), &mut errors));
        Self::build(stack, vec![path.to_owned()], isolators, errors)
    }

    /// The merged sources, checked.
    fn build(
        mut stack: Stack,
        files: Vec<PathBuf>,
        isolators: &[&str],
        mut errors: Vec<Diagnostic>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut defaults = stack.take_defaults();
        let merged = Value::from(stack.merged());
        let fragment = ConfigFragment::deserialize(&merged).unwrap_or_else(|error| {
            errors.extend(stack.error(&error.path, Part::Value, &error.kind.to_string(), 0));
            ConfigFragment::default()
        });
        capabilities::check(&fragment, &stack, &mut errors);
        let net_cls = net_cls(fragment.net_cls.unwrap_or_default(), &stack, &mut errors);
        defaults.primary_handle = net_cls.primary_handle;
        let images = images::check(fragment.images.unwrap_or_default(), &stack, &mut errors);
        let disk = disk::disk(fragment.disk.unwrap_or_default(), &stack, &mut errors);
        let xfs = disk::xfs(fragment.xfs.unwrap_or_default(), &stack, &mut errors);
        let statistics = statistics(fragment.statistics.unwrap_or_default(), &stack, &mut errors);
        errors.extend(check_defaults(&defaults));
        isolation(fragment.isolation.as_deref().unwrap_or_default(), isolators, &stack, &mut errors);
        let namespaces = fragment.namespaces.unwrap_or_default();
        if namespaces.shm_size.is_some_and(|size| size.0 == 0) {
            errors.extend(stack.error(&dotted("namespaces.shm_size"), Part::Value, "zero would mean no limit", 0));
        }
        if !errors.is_empty() {
            let rank = |error: &Diagnostic| stack.documents.iter().position(|document| document.label == error.file);
            errors.sort_by_key(|error| (rank(error), error.line, error.column));
            return Err(errors);
        }
        Ok(Self {
            manager: fragment.manager.unwrap_or_default(),
            isolation: fragment.isolation,
            defaults,
            namespaces: namespaces.into(),
            net_cls,
            capabilities: fragment.capabilities.unwrap_or_default().into(),
            images,
            disk,
            xfs,
            sandbox: fragment.sandbox.unwrap_or_default().into(),
            statistics,
            log: fragment.log.unwrap_or_default().into(),
            files,
        })
    }
}

impl Stack {
    /// Takes `[defaults]` out of every source.
    fn take_defaults(&mut self) -> Defaults {
        let documents = self.documents.iter_mut().filter_map(|document| document.take("defaults")).collect();
        Defaults { documents, primary_handle: None }
    }
}

/// `berthd.toml` of the highest layer that has one, then the drop-ins of all layers by file name.
fn files(root: &Root, errors: &mut Vec<Diagnostic>) -> Vec<PathBuf> {
    let mains = Layer::ALL.map(|layer| root.config(layer).join("berthd.toml"));
    let main = mains.into_iter().find(|path| !matches!(read(path), Ok(Content::Absent)));
    let directories = Layer::ALL.map(|layer| root.config(layer).join("berthd.toml.d"));
    main.into_iter().chain(drop_ins(&directories, errors)).collect()
}

/// Takes what is wrong out of a source.
fn understand(
    (document, mut found): (Option<Document>, Vec<Diagnostic>),
    errors: &mut Vec<Diagnostic>,
) -> Option<Document> {
    errors.append(&mut found);
    let mut document = document?;
    errors.extend(extract::<ConfigFragment>(&mut document));
    Some(document)
}

/// One source a variable, so that a complaint can name it: `BERTHD_LOG__LEVEL` is `log.level`.
fn variables(environment: impl IntoIterator<Item = (String, String)>) -> Vec<Document> {
    let named = environment.into_iter().filter_map(|(name, value)| {
        let key = name.strip_prefix(PREFIX)?.to_ascii_lowercase();
        // figment's own reading of variables: numbers, booleans and [lists] are what they look like.
        let value: Value = value.parse().unwrap_or_else(|never: std::convert::Infallible| match never {});
        let mut parts = key.split("__").collect::<Vec<_>>().into_iter().rev();
        let last = parts.next()?.to_owned();
        let tree =
            parts.fold(Dict::from([(last, value)]), |inner, part| Dict::from([(part.to_owned(), Value::from(inner))]));
        Some(Document::textless(format!("${name}"), tree))
    });
    let mut documents: Vec<Document> = named.collect();
    documents.sort_by(|a, b| a.label.cmp(&b.label));
    documents
}

/// The flags as a source.
fn flags(overrides: &Overrides, errors: &mut Vec<Diagnostic>) -> Option<Document> {
    match Value::serialize(overrides) {
        Ok(Value::Dict(_, tree)) => Some(Document::textless("command line", tree)),
        Ok(_) => None,
        Err(error) => {
            errors.push(Diagnostic::error("command line", error.to_string()));
            None
        }
    }
}

/// Names of isolators: known, and once each.
fn isolation(names: &[String], known: &[&str], stack: &Stack, errors: &mut Vec<Diagnostic>) {
    for (index, name) in names.iter().enumerate().take(MOST) {
        let complaint = if !known.contains(&name.as_str()) {
            let complaint = Complaint::new(format!("unknown isolator \"{name}\""));
            match nearest(name, known.iter().copied()) {
                Some(near) => complaint.help(format!("did you mean \"{near}\"?")),
                None => complaint.help(format!("known are {}", known.join(", "))),
            }
        } else if names[..index].contains(name) {
            Complaint::new(format!("\"{name}\" is listed twice"))
        } else {
            continue;
        };
        let found = stack.error(&dotted(&format!("isolation.{index}")), Part::Value, &complaint.message, 0);
        errors.extend(found.map(|found| found.with_help(complaint.help)));
    }
}

/// `[net_cls]`, its numbers checked.
fn net_cls(fragment: NetClsFragment, stack: &Stack, errors: &mut Vec<Diagnostic>) -> NetClsConfig {
    let default = NetClsConfig::default();
    let mut secondary = Vec::new();
    for range in fragment.secondary_handles.iter().flat_map(|ranges| &ranges.0) {
        match (u16::try_from(*range.start()), u16::try_from(*range.end())) {
            (Ok(start @ 1..), Ok(end)) => secondary.push(start..=end),
            _ => {
                let message = "a secondary handle has 16 bits and is not zero: 0x0001 to 0xffff";
                errors.extend(stack.error(&dotted("net_cls.secondary_handles"), Part::Value, message, 0));
            }
        }
    }
    NetClsConfig {
        primary_handle: fragment.primary_handle.map(|half| half.0),
        secondary_handles: if secondary.is_empty() { default.secondary_handles } else { secondary },
        backend: fragment.backend.unwrap_or_default(),
        reuse_delay: fragment.reuse_delay.map_or(default.reuse_delay, |span| span.0),
        accept_v2_match_loss: fragment.accept_v2_match_loss.unwrap_or_default(),
    }
}

/// `[statistics]`. Without a pause it would do nothing else.
fn statistics(fragment: StatisticsFragment, stack: &Stack, errors: &mut Vec<Diagnostic>) -> StatisticsConfig {
    let Some(interval) = fragment.interval.map(|span| span.0) else { return StatisticsConfig::default() };
    if interval < Duration::from_secs(1) {
        let found = stack.error(&dotted("statistics.interval"), Part::Value, "this is too often", 0);
        errors.extend(found.map(|found| found.with_help(Some("write at least \"1s\"; \"infinity\" is never"))));
    }
    StatisticsConfig { interval }
}

impl From<NamespacesFragment> for NamespacesConfig {
    fn from(fragment: NamespacesFragment) -> Self {
        let default = Self::default();
        Self {
            allow_host_pid: fragment.allow_host_pid.unwrap_or(default.allow_host_pid),
            allow_host_ipc: fragment.allow_host_ipc.unwrap_or(default.allow_host_ipc),
            shm_size: fragment.shm_size,
        }
    }
}

impl From<SandboxFragment> for SandboxConfig {
    fn from(fragment: SandboxFragment) -> Self {
        let default = Self::default();
        Self {
            keep: fragment.keep.unwrap_or(default.keep),
            max_age: fragment.max_age.map_or(default.max_age, |span| span.0),
        }
    }
}

impl From<LogFragment> for LogConfig {
    fn from(fragment: LogFragment) -> Self {
        Self { level: fragment.level.unwrap_or_default() }
    }
}
