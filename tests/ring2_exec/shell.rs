//! An operator's shell on a terminal of its own.

use std::{
    fs::File,
    io::{Read, Write},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use crate::{
    container::{BERTHCTL, Container},
    world::PATIENCE,
};

/// Ctrl-C.
pub const CTRL_C: &str = "\x03";
/// Ctrl-Z.
pub const CTRL_Z: &str = "\x1a";
/// Ctrl-D.
pub const CTRL_D: &str = "\x04";

/// An interactive shell.
#[derive(Debug)]
pub struct Shell {
    /// It.
    child: Child,
    /// Where one types.
    keyboard: File,
    /// What is shown, since the last question.
    screen: Arc<Mutex<String>>,
}

impl Shell {
    /// A shell in which `e ARGUMENT...` is `berthctl exec` for a container.
    pub fn new(container: &Container) -> Self {
        let pty = nix::pty::openpty(None, None).unwrap();
        let (keyboard, mut output) = (File::from(pty.master.try_clone().unwrap()), File::from(pty.master));
        let slave = || Stdio::from(pty.slave.try_clone().unwrap());
        let child = Command::new("setsid")
            .args(["--ctty", "bash", "--norc", "--noprofile", "--noediting", "-i"])
            .env_clear()
            .envs([("PATH", "/usr/bin:/bin"), ("TERM", "dumb"), ("PS1", ""), ("PS2", ""), ("LC_ALL", "C")])
            .stdin(slave())
            .stdout(slave())
            .stderr(slave())
            .spawn()
            .unwrap();
        let screen = Arc::new(Mutex::new(String::new()));
        let shown = Arc::clone(&screen);
        thread::spawn(move || {
            let mut block = [0; 4096];
            // A terminal that nobody holds any more ends with EIO.
            while let Ok(length @ 1..) = output.read(&mut block) {
                shown.lock().unwrap().push_str(&String::from_utf8_lossy(&block[..length]).replace('\r', ""));
            }
        });
        let mut shell = Self { child, keyboard, screen };
        let root = container.world.directory.path().display();
        shell.enter(&format!("stty -echo; e() {{ {BERTHCTL} --root {root} exec \"$@\"; }}; echo wel\"\"come"));
        shell.see("welcome\n");
        shell
    }

    /// Types.
    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Types a line.
    pub fn enter(&mut self, line: &str) {
        self.press(&format!("{line}\n"));
    }

    /// Waits until this text is shown; all that was shown up to its end.
    pub fn see(&mut self, text: &str) -> String {
        let began = Instant::now();
        loop {
            {
                let mut screen = self.screen.lock().unwrap();
                if let Some(at) = screen.find(text) {
                    let rest = screen.split_off(at + text.len());
                    return std::mem::replace(&mut screen, rest);
                }
                assert!(began.elapsed() < PATIENCE, "{text:?} is not shown, but {:?}", *screen);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether this text is shown soon.
    pub fn sees(&mut self, text: &str, patience: Duration) -> bool {
        let began = Instant::now();
        loop {
            if self.screen.lock().unwrap().contains(text) {
                self.see(text);
                return true;
            }
            if began.elapsed() > patience {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Types a line and waits for its answer, which ends with the status.
    pub fn ask(&mut self, line: &str) -> String {
        self.enter(&format!("{line}; echo \"sta\"tus $?"));
        let shown = self.see("status ");
        format!("{shown}{}", self.see("\n"))
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        drop(self.child.kill());
        self.child.wait().unwrap();
    }
}
