//! Following a log file as it grows, is cut, or is replaced: the directory is watched, nothing is polled.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Seek as _, Write},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::CliError;

/// Writes what comes after the present place of `log` until the output ends.
///
/// # Errors
/// The directory cannot be watched, or the output cannot be written.
pub fn follow(path: &Path, mut log: File, out: &mut dyn Write) -> Result<(), CliError> {
    let failed = |error| CliError::Log { path: path.display().to_string(), error };
    let watch = watch(path).map_err(failed)?;
    loop {
        // Once before the first event: it may have grown before the watch stood.
        drain(&mut log, out)?;
        while let Some(next) = replaced(path, &log) {
            log = next;
            drain(&mut log, out)?;
        }
        wait(&watch, path.file_name()).map_err(failed)?;
    }
}

/// A watch on the log's directory, which sees writes to the file and a new file in its place.
fn watch(path: &Path) -> io::Result<Inotify> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
    let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
    inotify.add_watch(path.parent().unwrap_or(Path::new("/")), flags)?;
    Ok(inotify)
}

/// Waits until something happens to the file of that name.
fn wait(watch: &Inotify, name: Option<&OsStr>) -> io::Result<()> {
    loop {
        match watch.read_events() {
            // An event without a name is one of the directory or an overflow: look.
            Ok(events) if events.iter().any(|event| event.name.is_none() || event.name.as_deref() == name) => {
                return Ok(());
            }
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writes what is there; from the beginning, if the file was cut.
fn drain(log: &mut File, out: &mut dyn Write) -> Result<(), CliError> {
    if log.metadata()?.len() < log.stream_position()? {
        log.rewind()?;
    }
    io::copy(log, out)?;
    Ok(out.flush()?)
}

/// The file that has taken the log's place.
fn replaced(path: &Path, log: &File) -> Option<File> {
    let identity = |file: &File| file.metadata().map(|data| (data.dev(), data.ino())).ok();
    let next = File::open(path).ok()?;
    (identity(&next) != identity(log)).then_some(next)
}
