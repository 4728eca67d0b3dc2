//! The steps of a plan, done: the one `match` over [`Action`].

use std::{fs::OpenOptions, io, os::unix::fs::OpenOptionsExt, path::Path};

use nix::unistd::{Gid, Uid, chdir, setgroups, setresgid, setresuid};

use super::{
    bind, capabilities,
    failure::{failure, refusal},
    guard, limits,
    root::{self, Parts},
    view,
};
use crate::{
    plan::{Action, Namespace, Plan},
    protocol::{Failure, Stage},
    spec::Bytes,
    sys::{
        mount::{self, Denied},
        seccomp,
    },
};

/// Refuses a plan whose steps would not do what they say; nothing has been done yet.
pub(super) fn check(plan: &Plan) -> Result<(), Failure> {
    check_mounts(plan)?;
    let at = |is: fn(&Action) -> bool| plan.steps.iter().position(|step| is(&step.action));
    match (at(|a| matches!(a, Action::SetIdentity { .. })), at(|a| matches!(a, Action::SetCapabilities(_)))) {
        (Some(identity), Some(capabilities)) if identity < capabilities => Ok(()),
        (_, None) => Ok(()),
        _ => {
            let message = "the plan sets capabilities without becoming a user first; this is a bug of berthd, please \
                           report it";
            Err(refusal(Stage::Confine, None, message))
        }
    }
}

/// Refuses a plan whose mounts would reach the host.
fn check_mounts(plan: &Plan) -> Result<(), Failure> {
    let is_mount = |action: &Action| {
        matches!(
            action,
            Action::IsolateMounts
                | Action::Bind { .. }
                | Action::MountProc
                | Action::MountShm { .. }
                | Action::MountMqueue
                | Action::GuardCgroups
                | Action::EnterRoot { .. }
                | Action::MakeDirectory { .. }
                | Action::MaskPaths
        )
    };
    let private = plan.namespaces.contains(&Namespace::Mount);
    match plan.steps.iter().map(|step| &step.action).find(|action| is_mount(action)) {
        None => Ok(()),
        Some(Action::IsolateMounts) if private => Ok(()),
        Some(_) => {
            let message = "the plan mounts without a mount namespace of its own that is isolated first; \
                           this is a bug of berthd, please report it";
            Err(refusal(Stage::Mounts, None, message))
        }
    }
}

/// Does one step. `peers` were opened before the first.
pub(super) fn apply(action: &Action, plan: &Plan, peers: &mut bind::Peers) -> Result<(), Failure> {
    match action {
        Action::IsolateMounts => isolate_mounts(),
        Action::Bind { binds } => bind::bind_all(binds, plan, peers),
        Action::EnterRoot { layers, top, sandbox, files, binds } => {
            root::enter(&Parts { layers, top: *top, sandbox: sandbox.as_deref(), files, binds }, plan, peers)
        }
        Action::SetHostname { name } => set_hostname(name),
        Action::MakeDirectory { path } => root::make_directory(path),
        Action::MaskPaths => view::mask(),
        Action::MountProc => mount_at(Path::new("/proc"), c"proc", &[], Denied::Programs),
        Action::MountShm { size } => mount_shm(*size),
        Action::MountMqueue => mount_mqueue(),
        Action::GuardCgroups => guard::guard_cgroups(),
        Action::DenyUserNamespaces => deny_user_namespaces(),
        Action::DenyProjects => deny_projects(),
        Action::SetRlimits { limits } => limits::raise(limits),
        Action::SetIdentity { uid, gid, groups } => {
            // Part of that step, and the last moment at which it can be done.
            plan.capability_sets().map_or(Ok(()), capabilities::prepare)?;
            set_identity(*uid, *gid, groups)
        }
        Action::SetUmask { mask } => {
            nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(*mask));
            Ok(())
        }
        Action::ChangeDirectory { path } => change_directory(path.as_deref().or(plan.sandbox.as_deref())),
        Action::SetCapabilities(sets) => capabilities::set(sets),
        Action::SetNoNewPrivileges => set_no_new_privileges(),
    }
}

/// Nothing mounted from here on reaches the host.
fn isolate_mounts() -> Result<(), Failure> {
    mount::isolate().map_err(|error| {
        let root = Path::new("/");
        let cure = match error.raw_os_error() {
            Some(libc::EINVAL) => "it is no mount point, as in a chroot; bind it on itself",
            _ => "the launcher needs CAP_SYS_ADMIN",
        };
        failure(Stage::Mounts, "make / a slave of the host's", Some(root), &error, cure)
    })
}

/// sethostname(2).
fn set_hostname(name: &str) -> Result<(), Failure> {
    nix::unistd::sethostname(name).map_err(|errno| {
        let cure = "the launcher needs CAP_SYS_ADMIN";
        failure(Stage::Namespaces, format_args!("set the hostname {name}"), None, &errno.into(), cure)
    })
}

/// A new filesystem of `kind` over `target`.
fn mount_at(target: &Path, kind: &std::ffi::CStr, options: &[(&str, &str)], denied: Denied) -> Result<(), Failure> {
    let mounted = || -> io::Result<()> {
        let tree = mount::new_filesystem(kind, options, denied)?;
        let target = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(target)?;
        mount::attach(tree, target)
    };
    mounted().map_err(|error| {
        let act = format!("mount {} on {}", kind.to_string_lossy(), target.display());
        let cure = match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => "the directory must exist on the host",
            Some(libc::ENODEV) => "this kernel does not have that filesystem",
            _ => "the launcher needs CAP_SYS_ADMIN",
        };
        failure(Stage::Mounts, act, Some(target), &error, cure)
    })
}

/// `/dev/shm`. The size is a decimal u64 of bytes: neither 2 GiB nor 4 GiB is special (mesos.md §6).
fn mount_shm(size: Option<Bytes>) -> Result<(), Failure> {
    let size = size.map(|Bytes(bytes)| bytes.to_string());
    let mode = ("mode", "1777");
    let options = size.as_deref().map_or_else(|| vec![mode], |size| vec![mode, ("size", size)]);
    mount_at(Path::new("/dev/shm"), c"tmpfs", &options, Denied::Devices)
}

/// `/dev/mqueue`, where there is such a directory and such a filesystem; most hosts of containers have neither.
fn mount_mqueue() -> Result<(), Failure> {
    let target = Path::new("/dev/mqueue");
    if !target.is_dir() {
        return Ok(());
    }
    match mount_at(target, c"mqueue", &[], Denied::Programs) {
        Err(failure) if failure.errno == Some(libc::ENODEV) => Ok(()),
        other => other,
    }
}

/// A filter on the calls that make user namespaces.
fn deny_user_namespaces() -> Result<(), Failure> {
    seccomp::deny_user_namespaces().map_err(|error| {
        let cure = "the kernel needs CONFIG_SECCOMP_FILTER, and the launcher CAP_SYS_ADMIN";
        failure(Stage::Confine, "filter system calls that make user namespaces", None, &error, cure)
    })
}

/// A filter on the calls that change projects of files.
fn deny_projects() -> Result<(), Failure> {
    seccomp::deny_projects().map_err(|error| {
        let cure = "the kernel needs CONFIG_SECCOMP_FILTER, and the launcher CAP_SYS_ADMIN";
        failure(Stage::Confine, "filter system calls that change quota projects", None, &error, cure)
    })
}

/// No privileges by execve(2).
fn set_no_new_privileges() -> Result<(), Failure> {
    nix::sys::prctl::set_no_new_privs()
        .map_err(|errno| failure(Stage::Confine, "give up new privileges", None, &errno.into(), "please report it"))
}

/// Groups first and the user last: without root's uid nothing else can be set. Root's too are set, since what the
/// launcher was started with is not what the spec says (mesos.md §17.17).
fn set_identity(uid: u32, gid: u32, groups: &[u32]) -> Result<(), Failure> {
    let permission = "the launcher needs CAP_SETUID and CAP_SETGID";
    let all: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&all).map_err(|errno| {
        failure(Stage::Group, format_args!("set groups {groups:?}"), None, &errno.into(), permission)
    })?;
    let group = Gid::from_raw(gid);
    setresgid(group, group, group)
        .map_err(|errno| failure(Stage::Group, format_args!("set group {gid}"), None, &errno.into(), permission))?;
    let user = Uid::from_raw(uid);
    setresuid(user, user, user)
        .map_err(|errno| failure(Stage::User, format_args!("set user {uid}"), None, &errno.into(), permission))
}

/// chdir(2), as whoever the process is by now.
fn change_directory(path: Option<&Path>) -> Result<(), Failure> {
    let Some(path) = path else {
        let message = "the plan has no sandbox to start in; this is a bug of berthd, please report it";
        return Err(refusal(Stage::Directory, None, message));
    };
    chdir(path).map_err(|errno| {
        let user = Uid::effective();
        let cure = match errno {
            nix::errno::Errno::ENOENT => "create it, or change working_directory".to_owned(),
            nix::errno::Errno::ENOTDIR => "it is not a directory; change working_directory".to_owned(),
            nix::errno::Errno::EACCES => format!("user {user} needs search permission on it and all above it"),
            _ => "change working_directory".to_owned(),
        };
        failure(Stage::Directory, format_args!("change to {}", path.display()), Some(path), &errno.into(), cure)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::plan::{CapabilitySets, CapabilityWishes, Phase, Program, Step, UnitSettings};

    /// A plan of nothing but these.
    fn plan(namespaces: &[Namespace], actions: &[Action]) -> Plan {
        let steps = actions
            .iter()
            .map(|action| Step { isolator: "berth".to_owned(), phase: Phase::Mounts, action: action.clone() })
            .collect();
        let program = Program { executable: "x".to_owned(), argv: vec![], environment: vec![], init: false };
        Plan {
            container: "web".parse().unwrap(),
            unit: UnitSettings::default(),
            namespaces: namespaces.iter().copied().collect::<BTreeSet<_>>(),
            sandbox: None,
            tag: None,
            image: None,
            disk: None,
            steps,
            program,
            warnings: vec![],
            capabilities: CapabilityWishes::default(),
        }
    }

    #[test]
    fn no_plan_sets_capabilities_before_the_user() {
        let user = || Action::SetIdentity { uid: 0, gid: 0, groups: vec![] };
        let sets = || Action::SetCapabilities(CapabilitySets::default());
        for (actions, good) in
            [(vec![user(), sets()], true), (vec![user()], true), (vec![sets()], false), (vec![sets(), user()], false)]
        {
            assert_eq!(check(&plan(&[], &actions)).is_ok(), good, "{actions:?}");
        }
    }

    #[test]
    fn no_plan_mounts_on_the_host() {
        use Action::{IsolateMounts, MountProc, SetUmask};
        let table: [(&[Namespace], &[Action], bool); 5] = [
            (&[], &[SetUmask { mask: 0 }], true),
            (&[Namespace::Mount], &[SetUmask { mask: 0 }, IsolateMounts, MountProc], true),
            (&[Namespace::Mount], &[MountProc, IsolateMounts], false),
            (&[Namespace::Pid], &[IsolateMounts, MountProc], false),
            (&[], &[MountProc], false),
        ];
        for (namespaces, actions, good) in table {
            assert_eq!(check(&plan(namespaces, actions)).is_ok(), good, "{namespaces:?} {actions:?}");
        }
    }
}
