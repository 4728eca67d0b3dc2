//! A running container, a pretended berthd that lets others in, and `berthctl exec`.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use berth::{
    manager::Process,
    plan::{Action, Namespace, Plan},
    protocol::{Entrance, Reply},
    sys::proc::start_time,
};

use crate::world::{INVOCATION, World, kill, until};

/// The tool under test.
pub const BERTHCTL: &str = env!("CARGO_BIN_EXE_berthctl");

/// What the pretended berthd does with who asks to enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Lets it.
    Admit,
    /// Answers this line, and no more.
    Answer(&'static str),
    /// Says where to enter, and hangs up.
    Die,
    /// Says where to enter, and then nothing.
    Hang,
    /// Says where to enter, kills the container's main process, and says go.
    Kill,
    /// Names a process that once had the main process's number.
    Mistake,
}

/// A container and who lets others in.
pub struct Container {
    /// The world.
    pub world: World,
    /// The container's main process; a child of this one.
    pub main: u32,
    /// What berthd has heard.
    pub heard: Arc<Mutex<Vec<String>>>,
}

/// How an `exec` ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Done {
    /// Its exit status.
    pub code: i32,
    /// Its stdout.
    pub out: String,
    /// Its stderr.
    pub err: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Container {
    /// One that sleeps, as root, with namespaces of its own.
    pub fn new() -> Self {
        Self::of(World::new(&["sleep", "1000"]), Act::Admit)
    }

    /// One that sleeps, changed before it starts.
    pub fn with(change: impl FnOnce(&mut World)) -> Self {
        let mut world = World::new(&["sleep", "1000"]);
        change(&mut world);
        Self::of(world, Act::Admit)
    }

    /// One without a pid namespace.
    pub fn in_place() -> Self {
        Self::with(|world| {
            world.plan.namespaces.remove(&Namespace::Pid);
            world.plan.steps.retain(|step| step.action != Action::MountProc);
        })
    }

    /// A world's container, started.
    pub fn of(world: World, act: Act) -> Self {
        let heard = Arc::default();
        let main = {
            let mut run = world.launch();
            if world.plan.namespaces.contains(&Namespace::Pid) {
                assert!(run.launched().success(), "{}", run.stderr());
                run.main_pid()
            } else {
                run.launcher()
            }
        };
        let program = world.plan.program.argv[0].clone() + "\0";
        until("the program", || {
            let line = fs::read(format!("/proc/{main}/cmdline")).unwrap();
            line.starts_with(program.as_bytes()).then_some(())
        });
        let container = Self { world, main, heard };
        container.open(act);
        container
    }

    /// Starts berthd, until the process ends.
    fn open(&self, act: Act) {
        let socket = self.world.at("run/berth/berthd.sock");
        fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(socket).unwrap();
        let (plan, heard, main) = (self.world.plan.clone(), Arc::clone(&self.heard), self.main);
        thread::spawn(move || {
            // One that was hung up on needs no attention, nor does its thread.
            for stream in listener.incoming() {
                let (plan, heard) = (plan.clone(), Arc::clone(&heard));
                thread::spawn(move || serve(act, BufReader::new(stream.unwrap()), &plan, &heard, main));
            }
        });
    }

    /// `berthctl exec` with these arguments, not started yet.
    pub fn exec(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BERTHCTL);
        command.arg("--root").arg(self.world.directory.path()).arg("exec").args(arguments);
        command.env_clear().env("TERM", "vt220").env("SECRET", "1").env("PATH", "/usr/bin:/bin");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it to its end.
    pub fn run(&self, arguments: &[&str]) -> Done {
        self.exec(arguments).output().unwrap().into()
    }

    /// Runs a shell script in the container, well; what it prints.
    pub fn script(&self, script: &str) -> String {
        let done = self.run(&["web", "sh", "-c", script]);
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{done:?}");
        done.out
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // A case may have ended it.
        if Path::new(&format!("/proc/{}", self.main)).exists() {
            kill(self.main);
        }
    }
}

/// Plays one act.
fn serve(act: Act, mut peer: BufReader<UnixStream>, plan: &Plan, heard: &Mutex<Vec<String>>, main: u32) {
    let say = |peer: &mut BufReader<UnixStream>, text: String| drop(peer.get_mut().write_all((text + "\n").as_bytes()));
    let hear = |peer: &mut BufReader<UnixStream>| {
        let mut line = String::new();
        let some = peer.read_line(&mut line).is_ok_and(|length| length > 0);
        heard.lock().unwrap().push(line.trim_end().to_owned());
        some
    };
    hear(&mut peer);
    if let Act::Answer(answer) = act {
        return say(&mut peer, answer.to_owned());
    }
    let born = start_time(Path::new("/proc"), main).unwrap_or_default();
    let start_time = if act == Act::Mistake { born + 1 } else { born };
    let main = Process { pid: main, start_time };
    let entrance = Box::new(Entrance { plan: plan.clone(), invocation: INVOCATION.to_owned(), main });
    say(&mut peer, serde_json::to_string(&Reply::Enter { entrance }).unwrap());
    if act == Act::Die || !hear(&mut peer) {
        return;
    }
    match act {
        Act::Hang => while hear(&mut peer) {},
        Act::Kill => kill(main.pid),
        _ => {}
    }
    say(&mut peer, serde_json::to_string(&Reply::Go).unwrap());
}
