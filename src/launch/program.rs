//! Finding the program, as the program's user, and saying why it is not one.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use rustix::fs::{Access, AtFlags, CWD, StatVfsMountFlags, accessat, statvfs};

use super::{
    failure::{failure, refusal},
    interpreter::{self, Interpreter},
};
use crate::{
    error::reason,
    plan::{DEFAULT_PATH, Program},
    protocol::{Failure, Stage},
};

/// How much of a program is read to find its interpreter.
const HEAD: u64 = 8192;

/// Why a file is not a program.
#[derive(Debug)]
enum Obstacle {
    /// It is not there.
    Missing(io::Error),
    /// It cannot be reached.
    Unreachable(io::Error),
    /// It is something else than a file.
    NotAFile(&'static str),
    /// It is a file that may not be executed.
    NotExecutable,
    /// It is on a filesystem mounted `noexec`.
    NoExec,
}

/// The path of the program: `executable` itself if it holds a slash, else the first of that name in PATH. Unlike
/// Mesos, the working directory is never searched (mesos.md §17.18).
pub(super) fn resolve(program: &Program) -> Result<PathBuf, Failure> {
    let name = &program.executable;
    let path = if name.contains('/') {
        let path = PathBuf::from(name);
        examine(&path).map_err(|obstacle| refuse(&path, obstacle))?;
        path
    } else {
        let variable = program.environment.iter().rev().find(|(name, _)| name == "PATH");
        search(name, variable.map_or(DEFAULT_PATH, |(_, value)| value))?
    };
    check_interpreter(&path)?;
    Ok(path)
}

/// The first program of that name in the directories of `variable`, of which only absolute ones count.
fn search(name: &str, variable: &str) -> Result<PathBuf, Failure> {
    let mut first = None;
    for directory in variable.split(':').filter(|directory| directory.starts_with('/')) {
        let path = Path::new(directory).join(name);
        match examine(&path) {
            Ok(()) if !name.is_empty() => return Ok(path),
            Ok(()) | Err(Obstacle::Missing(_)) => {}
            Err(obstacle) => first = first.or(Some((path, obstacle))),
        }
    }
    match first {
        Some((path, obstacle)) => Err(refuse(&path, obstacle)),
        None => {
            let cure = "install it, give its absolute path in the command, or set PATH in environment";
            let message = format!("cannot run '{name}': not found in PATH ({variable}); {cure}");
            Err(Failure { errno: Some(libc::ENOENT), ..refusal(Stage::Program, Some(Path::new(name)), message) })
        }
    }
}

/// Whether the effective user can execute what is at `path`.
fn examine(path: &Path) -> Result<(), Obstacle> {
    let metadata = fs::metadata(path).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => Obstacle::Missing(error),
        _ => Obstacle::Unreachable(error),
    })?;
    if metadata.is_dir() {
        return Err(Obstacle::NotAFile("a directory"));
    }
    if !metadata.is_file() {
        return Err(Obstacle::NotAFile("not a regular file"));
    }
    match accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        Ok(()) => Ok(()),
        Err(_) if statvfs(path).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::NOEXEC)) => Err(Obstacle::NoExec),
        Err(_) => Err(Obstacle::NotExecutable),
    }
}

/// The failure that an obstacle is.
fn refuse(path: &Path, obstacle: Obstacle) -> Failure {
    let user = nix::unistd::Uid::effective();
    let shown = path.display();
    let act = format_args!("run {shown}");
    let (errno, why) = match obstacle {
        Obstacle::Missing(error) => {
            return failure(Stage::Program, act, Some(path), &error, "install it, or correct the command");
        }
        Obstacle::Unreachable(error) => {
            let cure = format_args!("user {user} must be able to search every directory on the way to it");
            return failure(Stage::Program, act, Some(path), &error, cure);
        }
        Obstacle::NotAFile(kind) => (libc::EACCES, format!("it is {kind}; name a program in it")),
        Obstacle::NotExecutable => {
            (libc::EACCES, format!("it exists but is not executable by user {user}; chmod +x it, or change user"))
        }
        Obstacle::NoExec => {
            (libc::EACCES, "its filesystem is mounted noexec; mount it without, or move the program".to_owned())
        }
    };
    Failure { errno: Some(errno), ..refusal(Stage::Program, Some(path), format!("cannot run {shown}: {why}")) }
}

/// Refuses a program whose `#!` or ELF interpreter is missing: execve(2) would say ENOENT, as of the program itself.
fn check_interpreter(path: &Path) -> Result<(), Failure> {
    let Some(interpreter) = head(path).ok().and_then(|head| interpreter::of(&head)) else {
        // A program that may be executed and not read is fine, and so is one of a kind not known here.
        return Ok(());
    };
    let Err(obstacle) = examine(interpreter.path()) else { return Ok(()) };
    let (shown, what) = (path.display(), interpreter.path().display());
    let why = match &obstacle {
        Obstacle::Missing(error) | Obstacle::Unreachable(error) => reason(error),
        Obstacle::NotAFile(kind) => format!("it is {kind}"),
        Obstacle::NotExecutable => "it is not executable".to_owned(),
        Obstacle::NoExec => "its filesystem is mounted noexec".to_owned(),
    };
    let message = match &interpreter {
        Interpreter::Script(name) if name.to_string_lossy().ends_with('\r') => {
            format!("cannot run {shown}: its first line ends in a carriage return; save it with Unix line ends")
        }
        Interpreter::Script(_) => {
            format!("cannot run {shown}: its #! interpreter {what} cannot run: {why}; install it, or correct the line")
        }
        Interpreter::Elf(_) => format!(
            "cannot run {shown}: its dynamic loader {what} cannot run: {why}; \
             was the program built for another distribution or machine?"
        ),
    };
    let errno = if matches!(obstacle, Obstacle::Missing(_)) { libc::ENOENT } else { libc::EACCES };
    Err(Failure { errno: Some(errno), ..refusal(Stage::Program, Some(path), message) })
}

/// The beginning of a file.
fn head(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD).read_to_end(&mut head)?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A program of that name, with PATH.
    fn program(executable: &str, path: &str) -> Program {
        let environment = vec![("PATH".to_owned(), path.to_owned())];
        Program { executable: executable.to_owned(), argv: vec![], environment, init: false }
    }

    /// A directory `a` with what is no program, and `b` with programs.
    fn world() -> (tempfile::TempDir, String) {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, mode: u32, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        write("a/plain", 0o644, "text");
        write("a/both", 0o644, "text");
        write("b/both", 0o755, "#!/bin/sh\n");
        write("b/lost", 0o755, "#! /no/such/shell -e\n");
        write("b/dos", 0o755, "#!/bin/sh\r\n");
        fs::create_dir(root.path().join("a/directory")).unwrap();
        let base = root.path().display().to_string();
        (root, base)
    }

    #[test]
    fn programs_are_found_in_path_and_never_in_the_working_directory() {
        let (_root, base) = world();
        let path = format!(":bin:{base}/a:{base}/b");
        assert_eq!(resolve(&program("both", &path)).unwrap(), Path::new(&format!("{base}/b/both")));
        assert_eq!(resolve(&program("sh", "/bin")).unwrap(), Path::new("/bin/sh"));
        // The working directory of this test holds src/.
        let failure = resolve(&program("src", ":.:")).unwrap_err();
        assert!(failure.message.contains("not found in PATH"), "{failure:?}");
        assert!(resolve(&program("", "/bin")).is_err());
        let bare = Program { environment: vec![], ..program("sh", "") };
        assert!(resolve(&bare).unwrap().ends_with("sh"));
    }

    #[test]
    fn each_obstacle_is_named() {
        let (_root, base) = world();
        let table = [
            (format!("{base}/a/nothing"), 2, "No such file"),
            (format!("{base}/a/plain/x"), 20, "Not a directory"),
            (format!("{base}/a/plain"), 13, "exists but is not executable by user"),
            ("plain".to_owned(), 13, "exists but is not executable by user"),
            (format!("{base}/a/directory"), 13, "it is a directory"),
            ("/dev/null".to_owned(), 13, "not a regular file"),
            (format!("{base}/b/lost"), 2, "#! interpreter /no/such/shell"),
            (format!("{base}/b/dos"), 2, "carriage return"),
        ];
        for (executable, errno, words) in table {
            let failure = resolve(&program(&executable, &format!("{base}/a"))).unwrap_err();
            assert_eq!((failure.stage, failure.errno), (Stage::Program, Some(errno)), "{failure:?}");
            assert!(failure.message.contains(words), "{failure:?}");
        }
    }
}
