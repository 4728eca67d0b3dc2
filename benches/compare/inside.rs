//! What runs inside the host: the stopwatches, and a berthd that always gives the same plan.

use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    io::{self, BufRead, BufReader, Write},
    os::unix::net::{UnixDatagram, UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use berth::{
    plan::Plan,
    protocol::{Reply, Report, Request},
};
use nix::{
    errno::Errno,
    sys::wait::{WaitStatus, wait},
};
use serde::{Deserialize, Serialize};

/// What can go wrong, in words.
type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// After this long something that was to come up has not.
const PATIENCE: Duration = Duration::from_secs(90);

/// What is to be done inside.
#[derive(Debug, Serialize, Deserialize)]
pub enum Task {
    /// Commands against each other; answers with nanoseconds, a list for each contender.
    Race(Race),
    /// Many services at once; answers with nanoseconds.
    Crowd(Crowd),
    /// A berthd that gives every launcher this plan, for ever.
    Serve {
        /// Where it listens.
        socket: PathBuf,
        /// What it answers.
        plan: Box<Plan>,
    },
}

/// Commands against each other, in turns: A B C A B C…
#[derive(Debug, Serialize, Deserialize)]
pub struct Race {
    /// How often each runs, not counting a first time that is not measured.
    pub rounds: usize,
    /// Quiet before each.
    pub pause: Duration,
    /// Who.
    pub contenders: Vec<Contender>,
}

/// A command to be measured. Words, no shell.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Contender {
    /// Before each, not measured; may fail.
    pub before: Vec<String>,
    /// Added to its environment.
    pub environment: BTreeMap<String, String>,
    /// From its start until it and all that it left to this process have ended.
    pub run: Vec<String>,
    /// After each, not measured.
    pub after: Vec<String>,
}

/// Many services at once, each of which sends a datagram when it is up.
#[derive(Debug, Serialize, Deserialize)]
pub struct Crowd {
    /// Where they send it.
    pub socket: PathBuf,
    /// How many.
    pub count: usize,
    /// Files to write, one after the other.
    pub files: Vec<(PathBuf, String)>,
    /// A command to run after that, whose end is waited for too; none if empty.
    pub run: Vec<String>,
}

/// Does what the file says and prints the answer.
pub fn main(task: &Path) -> Result<()> {
    let answer = match serde_json::from_slice(&fs::read(task)?)? {
        Task::Race(race) => serde_json::to_string(&run_race(&race)?)?,
        Task::Crowd(crowd) => serde_json::to_string(&run_crowd(&crowd)?)?,
        Task::Serve { socket, plan } => return serve(&socket, *plan),
    };
    Ok(writeln!(io::stdout(), "{answer}")?)
}

/// Nanoseconds, a list for each contender.
fn run_race(race: &Race) -> Result<Vec<Vec<u64>>> {
    let mut times = vec![Vec::new(); race.contenders.len()];
    for round in 0..=race.rounds {
        for (contender, times) in race.contenders.iter().zip(&mut times) {
            if !contender.before.is_empty() {
                command(&contender.before)?.stderr(Stdio::null()).status()?;
            }
            thread::sleep(race.pause);
            let took = measure(contender)?;
            if round > 0 {
                times.push(took);
            }
            if !contender.after.is_empty() {
                check(&contender.after, command(&contender.after)?.status()?)?;
            }
        }
    }
    Ok(times)
}

/// Nanoseconds from the start of a command until there are no children left: a container is a child of whoever
/// started its launcher.
fn measure(contender: &Contender) -> Result<u64> {
    let mut command = command(&contender.run)?;
    command.envs(&contender.environment);
    let began = Instant::now();
    command.spawn()?;
    loop {
        match wait() {
            Ok(WaitStatus::Exited(_, 0)) | Err(Errno::EINTR) => {}
            Err(Errno::ECHILD) => return Ok(u64::try_from(began.elapsed().as_nanos())?),
            other => return Err(format!("{:?}: {other:?}", contender.run).into()),
        }
    }
}

/// Nanoseconds until all are up.
fn run_crowd(crowd: &Crowd) -> Result<u64> {
    let _ = fs::remove_file(&crowd.socket);
    let counter = UnixDatagram::bind(&crowd.socket)?;
    counter.set_read_timeout(Some(PATIENCE))?;
    let began = Instant::now();
    for (path, text) in &crowd.files {
        fs::write(path, text)?;
    }
    let child = if crowd.run.is_empty() { None } else { Some(command(&crowd.run)?.spawn()?) };
    for up in 0..crowd.count {
        while let Err(error) = counter.recv(&mut [0; 8]) {
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(format!("{up} of {} came up: {error}", crowd.count).into());
            }
        }
    }
    if let Some(mut child) = child {
        check(&crowd.run, child.wait()?)?;
    }
    Ok(u64::try_from(began.elapsed().as_nanos())?)
}

/// Serves launchers, one after the other.
fn serve(socket: &Path, plan: Plan) -> Result<()> {
    let listener = UnixListener::bind(socket)?;
    let mut plan = serde_json::to_vec(&Reply::Launch { plan: Box::new(plan) })?;
    let mut go = serde_json::to_vec(&Reply::Go)?;
    plan.push(b'\n');
    go.push(b'\n');
    for stream in listener.incoming() {
        if let Err(error) = serve_one(&stream?, &plan, &go) {
            writeln!(io::stderr(), "a launcher: {error}")?;
        }
    }
    Ok(())
}

/// Serves one launcher: its request and its report are read and believed.
fn serve_one(stream: &UnixStream, plan: &[u8], go: &[u8]) -> Result<()> {
    let mut input = BufReader::new(stream);
    let mut line = String::new();
    input.read_line(&mut line)?;
    serde_json::from_str::<Request>(&line)?;
    (&*stream).write_all(plan)?;
    line.clear();
    input.read_line(&mut line)?;
    match serde_json::from_str::<Report>(&line)? {
        Report::Armed { .. } => Ok((&*stream).write_all(go)?),
        Report::Failed { failure } => Err(failure.message.into()),
        Report::Joined => Err("a launcher does not enter".into()),
    }
}

/// A command of these words, that says nothing and is asked nothing.
fn command(words: &[String]) -> Result<Command> {
    let (program, arguments) = words.split_first().ok_or("an empty command")?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    Ok(command)
}

/// Whether it succeeded.
fn check(words: &[String], status: ExitStatus) -> Result<()> {
    if status.success() { Ok(()) } else { Err(format!("{words:?}: {status}").into()) }
}
