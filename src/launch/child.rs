//! What a container's first process does before and after the gate.

use std::{
    ffi::{CString, NulError, OsString},
    io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
    process,
};

use super::{
    ListenFds,
    bind::Peers,
    environment,
    failure::{failure, refusal},
    init, limits, program, steps,
};
use crate::{
    plan::Plan,
    protocol::{Failure, Stage},
    spec::{Name, Rlimits},
    sys::process::{close_on_exec_from, reset_signals},
};

/// A program that is ready to run: found, executable, with all that execve(2) takes.
#[derive(Debug)]
pub(super) struct Armed {
    /// Whose it is.
    pub container: Name,
    /// Descriptors that it gets.
    pub listen: ListenFds,
    /// Its file.
    path: CString,
    /// argv.
    argv: Vec<CString>,
    /// The environment but for `LISTEN_*`.
    environment: Vec<(String, String)>,
    /// Resource limits.
    limits: Rlimits,
    /// Whether an init stands between.
    init: bool,
}

/// Does the plan's steps in their order and finds the program, as the program's user. `inherited` are variables that
/// the plan leaves to whoever starts it.
pub(super) fn arm(
    plan: &Plan,
    listen: &ListenFds,
    inherited: impl Fn(&str) -> Option<String>,
) -> Result<Armed, Failure> {
    let mut peers = Peers::open(plan)?;
    for step in &plan.steps {
        steps::apply(&step.action, plan, &mut peers)?;
    }
    let path = program::resolve(&plan.program)?;
    let environment = environment::compose(&plan.program.environment, inherited);
    strings(&environment).map_err(|_| has_nul("environment"))?;
    let argv = plan.program.argv.iter().map(|argument| CString::new(argument.as_str())).collect::<Result<_, _>>();
    Ok(Armed {
        container: plan.container.clone(),
        listen: listen.clone(),
        path: CString::new(path.into_os_string().into_vec()).map_err(|_| has_nul("command"))?,
        argv: argv.map_err(|_| has_nul("command"))?,
        environment,
        limits: plan.rlimits().cloned().unwrap_or_default(),
        init: plan.program.init,
    })
}

impl Armed {
    /// The same program with these arguments, which need not be text as those of a plan.
    pub fn with_arguments(self, argv: &[OsString]) -> Result<Self, Failure> {
        let argv = argv.iter().map(|argument| CString::new(argument.as_bytes())).collect::<Result<_, _>>();
        Ok(Self { argv: argv.map_err(|_| has_nul("command"))?, ..self })
    }

    /// Becomes the program. Returns its exit status where an init stands between, else only on failure.
    pub fn run(&self) -> Result<u8, Failure> {
        if self.init { init::run(self) } else { Err(self.execute()) }
    }

    /// execve(2), with nothing of the launcher's left. Returns only on failure.
    pub fn execute(&self) -> Failure {
        let environment = match self.clear() {
            Ok(environment) => environment,
            Err(error) => return self.not_run(&error),
        };
        if let Err(failure) = limits::set(&self.limits) {
            return failure;
        }
        let Err(errno) = nix::unistd::execve(&self.path, &self.argv, &environment);
        self.not_run(&errno.into())
    }

    /// Takes away what is the launcher's, and gives the environment.
    fn clear(&self) -> io::Result<Vec<CString>> {
        let mut environment = self.environment.clone();
        environment.extend(self.listen.variables(process::id()));
        let environment = strings(&environment).map_err(io::Error::other)?;
        close_on_exec_from(ListenFds::FIRST + self.listen.count)?;
        reset_signals()?;
        Ok(environment)
    }

    /// Why it does not run.
    fn not_run(&self, error: &io::Error) -> Failure {
        let cure = match error.raw_os_error() {
            Some(libc::ENOEXEC) => "it is neither a script that begins with #! nor a program for this machine",
            Some(libc::E2BIG) => "command and environment are too long together",
            _ => "it was there and executable before; does something change it?",
        };
        let path = PathBuf::from(self.path.to_string_lossy().into_owned());
        failure(Stage::Program, format_args!("run {}", path.display()), Some(&path), error, cure)
    }
}

/// `NAME=value` for each.
fn strings(environment: &[(String, String)]) -> Result<Vec<CString>, NulError> {
    environment.iter().map(|(name, value)| CString::new(format!("{name}={value}"))).collect()
}

/// A NUL byte cannot be passed to a program.
fn has_nul(key: &str) -> Failure {
    refusal(Stage::Config, None, format!("{key} holds a NUL byte, which no program can be given; remove it"))
}
