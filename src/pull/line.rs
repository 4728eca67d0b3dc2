//! The line to berth-pull: to a child of ours, or to a service that systemd starts for each connection.
//!
//! berthd's own unit has neither the network nor the power to become another user, so under systemd berth-pull is a
//! unit of its own (`berth-pull.socket`, `berth-pull@.service`) with a stricter sandbox. It sees no file of berth's but
//! the one directory, which comes to it as a descriptor.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead as _, BufReader, IoSlice, Read as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{fs::OpenOptionsExt as _, net::UnixStream},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

use super::{
    fetch::{FetchError, failed, local},
    words::{Event, MAX_LINE, Request},
};
use crate::error::reason;

/// How berth-pull is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Means {
    /// As a child, which becomes the user of pulls by itself.
    Child,
    /// As a service, by connecting to this socket.
    Service(PathBuf),
}

/// A berth-pull at work. It ends with this.
#[derive(Debug)]
pub struct Line {
    /// Both directions.
    stream: BufReader<UnixStream>,
    /// The process, where it is ours.
    child: Option<Child>,
}

impl Line {
    /// Starts a berth-pull that works in `directory`, as `user` where that is another.
    pub fn open(means: &Means, directory: &Path, user: Option<(u32, u32)>) -> Result<Self, FetchError> {
        match means {
            Means::Child => Self::spawn(directory, user),
            Means::Service(socket) => Self::connect(socket, directory),
        }
    }

    /// A child of ours.
    fn spawn(directory: &Path, user: Option<(u32, u32)>) -> Result<Self, FetchError> {
        let program = program();
        let ends = UnixStream::pair().and_then(|(ours, theirs)| Ok((ours, theirs.try_clone()?, theirs)));
        let (ours, input, output) = ends.map_err(|error| failed("make a line to", &program, &error))?;
        let mut command = Command::new(&program);
        command.arg("--directory").arg(directory).args(["--parent", &std::process::id().to_string()]);
        if let Some((uid, gid)) = user {
            command.args(["--user", &format!("{uid}:{gid}")]);
        }
        command.env_clear().stdin(OwnedFd::from(input)).stdout(OwnedFd::from(output)).stderr(Stdio::inherit());
        let child = command.spawn().map_err(|error| failed("run", &program, &error))?;
        Ok(Self { stream: BufReader::new(ours), child: Some(child) })
    }

    /// A service of systemd's, which gets the directory as a descriptor.
    fn connect(socket: &Path, directory: &Path) -> Result<Self, FetchError> {
        let cure = "systemctl start berth-pull.socket";
        let stream = UnixStream::connect(socket)
            .map_err(|error| local(format!("{}; {cure}", failed("reach berth-pull at", socket, &error))))?;
        let place = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(directory);
        let given = place.and_then(|place| give(&stream, &place));
        given.map_err(|error| failed("give berth-pull", directory, &error))?;
        Ok(Self { stream: BufReader::new(stream), child: None })
    }

    /// Another handle of the line, to hang it up with.
    pub fn handle(&self) -> Option<UnixStream> {
        self.stream.get_ref().try_clone().ok()
    }

    /// Tells berth-pull what to do.
    pub fn ask(&mut self, request: &Request) -> Result<(), FetchError> {
        let mut line = serde_json::to_vec(request).map_err(|error| local(error.to_string()))?;
        line.push(b'\n');
        // Where it has ended, it has said why, and that is read next.
        let _ = self.stream.get_mut().write_all(&line);
        Ok(())
    }

    /// Hears berth-pull to its end; its last event.
    pub fn listen(&mut self, heard: &mut dyn FnMut(&Event)) -> Result<Event, FetchError> {
        let strange =
            |what: &str| local(format!("berth-pull says {what}; are all of berth's programs of one version?"));
        let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
        let mut last = Event::Note { message: String::new() };
        loop {
            let mut line = Vec::new();
            match self.stream.by_ref().take(limit).read_until(b'\n', &mut line) {
                Ok(0) => return Ok(last),
                Ok(_) => {}
                // It ended before it had read all that it was told.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(last),
                Err(error) => return Err(strange(&reason(&error))),
            }
            last = serde_json::from_slice(&line).map_err(|_| strange("what is not understood"))?;
            heard(&last);
        }
    }

    /// Sees to it that a child is gone.
    pub fn close(mut self) -> Result<(), FetchError> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        // An error of ours must not leave it behind; if it has ended, nothing is killed.
        drop(child.kill());
        let ended = child.wait().map(drop);
        ended.map_err(|error| local(format!("cannot wait for berth-pull: {}", reason(&error))))
    }
}

/// berth-pull: of the build directory or the prefix that this program runs from, else of the distribution.
fn program() -> PathBuf {
    let exe = std::env::current_exe().unwrap_or_default();
    let prefix = exe.parent().and_then(Path::parent).unwrap_or(Path::new("/usr"));
    let places = [exe.with_file_name("berth-pull"), prefix.join("libexec/berth/berth-pull")];
    places.into_iter().find(|path| path.exists()).unwrap_or_else(|| "/usr/libexec/berth/berth-pull".into())
}

/// Sends a directory over a line, with one byte that says nothing.
fn give(stream: &UnixStream, directory: &File) -> io::Result<()> {
    let descriptors = [directory.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(stream, &[IoSlice::new(b"\n")], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The directory that the other side of a line sends first.
///
/// # Errors
/// `UnexpectedEof` where nothing comes, `InvalidData` where it is something else.
pub fn take(line: impl std::os::fd::AsFd) -> io::Result<OwnedFd> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let read = recvmsg(line, &mut [io::IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if read.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let given = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    given.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_directory_goes_over_a_line() {
        let directory = tempfile::tempdir().unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        give(&ours, &File::open(directory.path()).unwrap()).unwrap();
        (&ours).write_all(b"rest").unwrap();
        let taken = File::from(take(&theirs).unwrap());
        assert_eq!(taken.metadata().unwrap().ino(), directory.path().metadata().unwrap().ino());
        // The byte that came with it is gone, and no more.
        let mut rest = [0; 4];
        theirs.read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"rest");
    }

    #[test]
    fn a_line_without_a_directory_is_refused() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (&ours).write_all(b"x").unwrap();
        assert_eq!(take(&theirs).unwrap_err().kind(), io::ErrorKind::InvalidData);
        drop(ours);
        assert_eq!(take(&theirs).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
