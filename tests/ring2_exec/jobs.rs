//! The terminal, and the jobs of an operator's shell.
#![allow(clippy::missing_docs_in_private_items, reason = "the name of a case is its sentence")]

use std::{thread, time::Duration};

use nix::sys::wait::WaitStatus;

use crate::{
    container::Container,
    shell::{CTRL_C, CTRL_D, CTRL_Z, Shell},
    world::{end_of, until},
};

/// All cases by name; a case that returns is good.
pub const ALL: &[(&str, fn())] = &[
    ("jobs/ctrl_c_comes_once", ctrl_c_comes_once),
    ("jobs/a_program_is_suspended_and_goes_on", a_program_is_suspended_and_goes_on),
    ("jobs/ctrl_z_at_any_moment", ctrl_z_at_any_moment),
    ("jobs/a_program_goes_on_in_the_background", a_program_goes_on_in_the_background),
    ("jobs/the_background_waits_for_the_terminal", the_background_waits_for_the_terminal),
    ("jobs/a_shell_inside_has_its_own", a_shell_inside_has_its_own),
    ("jobs/a_pipeline_keeps_the_terminal", a_pipeline_keeps_the_terminal),
    ("jobs/a_program_asks_for_the_terminal", a_program_asks_for_the_terminal),
    ("jobs/the_terminal_is_as_it_was", the_terminal_is_as_it_was),
    ("jobs/nobody_types_into_the_terminal", nobody_types_into_the_terminal),
    ("jobs/a_suspended_program_keeps_no_container", a_suspended_program_keeps_no_container),
];

/// Says which signals it gets, and is ended by Ctrl-\ alone.
const LISTENS: &str = "'$| = 1; $SIG{$_} = sub { print \"got $_[0]\\n\" } for qw(INT TERM CONT HUP); \
                       print \"rea\", \"dy\\n\"; sleep 1 while 1'";

fn ctrl_c_comes_once() {
    let container = Container::new();
    let mut shell = Shell::new(&container);
    shell.enter(&format!("e web perl -e {LISTENS}; echo sta\"\"tus $?"));
    shell.see("ready\n");
    shell.press(CTRL_C);
    shell.see("got INT\n");
    shell.press("\x1c");
    let shown = shell.see("status 131\n");
    assert!(!shown.contains("got"), "{shown}");
    // With output to a pipe it is berthctl that has the terminal, and passes on.
    shell.enter(&format!("e web perl -e {LISTENS} | cat"));
    shell.see("ready\n");
    shell.enter("");
    shell.press("\x1c");
    shell.ask("true");
    shell.enter(&format!("e web perl -e {LISTENS} 2>&1 | (trap '' INT QUIT; cat); echo sta\"\"tus ${{PIPESTATUS[0]}}"));
    shell.see("ready\n");
    shell.press(CTRL_C);
    shell.see("got INT\n");
    shell.press("\x1c");
    let shown = shell.see("status 131\n");
    assert!(!shown.contains("got"), "{shown}");
}

fn a_program_is_suspended_and_goes_on() {
    let container = Container::new();
    let mut shell = Shell::new(&container);
    for _ in 0..3 {
        shell.enter(&format!("e web perl -e {LISTENS}"));
        shell.see("ready\n");
        shell.press(CTRL_Z);
        shell.see("Stopped");
        assert!(shell.ask("jobs").contains("Stopped"));
        let inside = shell.ask("e web ps -C perl -o stat=");
        assert!(inside.starts_with("T\n"), "{inside}");
        shell.enter("fg; echo sta\"\"tus $?");
        shell.see("got CONT\n");
        shell.press(CTRL_C);
        shell.see("got INT\n");
        shell.press("\x1c");
        shell.see("status 131\n");
    }
}

fn ctrl_z_at_any_moment() {
    let container = Container::new();
    let mut shell = Shell::new(&container);
    for moment in 0..16 {
        shell.enter("e web sh -c 'echo rea\"\"dy; read line; echo got $line'");
        thread::sleep(Duration::from_micros(600 * moment));
        shell.press(CTRL_Z);
        // Too early, it was bash's own, and discards a line.
        if shell.sees("Stopped", Duration::from_millis(300)) {
            shell.enter("fg");
        }
        shell.enter("something");
        if !shell.sees("got something\n", Duration::from_secs(1)) {
            shell.enter("");
        }
        assert!(shell.ask("true").ends_with("status 0\n"));
        assert_eq!(shell.ask("jobs"), "status 0\n", "after {moment}");
    }
    assert_eq!(container.run(&["web", "ps", "-e", "-o", "comm="]).out, "sleep\nps\n");
}

fn a_program_goes_on_in_the_background() {
    let container = Container::new();
    let mut shell = Shell::new(&container);
    shell.enter(&format!("e web perl -e {LISTENS}"));
    shell.see("ready\n");
    shell.press(CTRL_Z);
    shell.see("Stopped");
    shell.enter("bg");
    shell.see("got CONT\n");
    // The terminal is the shell's.
    assert!(shell.ask("jobs").contains("Running"));
    shell.enter("kill -TERM %1");
    shell.see("got TERM\n");
    shell.enter("kill -QUIT %1; wait %1; echo sta\"\"tus $?");
    let shown = shell.see("status 131\n");
    assert!(!shown.contains("got"), "a job's group is berthctl alone: {shown}");
}

fn the_background_waits_for_the_terminal() {
    let container = Container::new();
    let mut shell = Shell::new(&container);
    shell.enter("e web sh -c 'read line; echo got $line' &");
    until("it to want the terminal", || shell.ask("jobs").contains("Stopped").then_some(()));
    shell.enter("fg");
    shell.enter("something");
    shell.see("got something\n");
    assert!(shell.ask("true").ends_with("status 0\n"));
}

fn a_shell_inside_has_its_own() {
    let container = Container::new();
    let mut shell = Shell::new(&container);
    shell.enter("e web bash --norc --noprofile --noediting -i");
    shell.enter("PS1=; stty -echo; echo in\"\"side $$");
    shell.see("inside ");
    shell.enter("sh -c 'echo rea\"\"dy; exec sleep 1000'");
    shell.see("ready\n");
    shell.press(CTRL_Z);
    shell.see("Stopped");
    shell.enter("jobs; echo en\"\"d");
    assert!(shell.see("end\n").contains("Stopped"));
    shell.enter("fg");
    shell.see("sleep 1000'\n");
    shell.press(CTRL_C);
    shell.enter("echo sta\"\"tus $?");
    shell.see("status 130\n");
    shell.enter("exit 7");
    assert!(shell.ask("(exit $?)").ends_with("status 7\n"), "and the terminal is back");
    assert!(shell.ask("e web cat </dev/null").ends_with("status 0\n"));
}

/// Others of a pipeline read the terminal while the program runs.
fn a_pipeline_keeps_the_terminal() {
    let container = Container::new();
    let mut shell = Shell::new(&container);
    shell.enter(
        "e web sh -c 'echo first; exec sleep 1000' | sh -c 'read a; echo rea\"\"dy; read b </dev/tty; echo $a-$b'",
    );
    shell.see("ready\n");
    shell.enter("second");
    shell.see("first-second\n");
    shell.press(CTRL_C);
    assert!(shell.ask("echo ${PIPESTATUS[0]}").contains("130\n"));
}

fn a_program_asks_for_the_terminal() {
    let container = Container::new();
    let mut shell = Shell::new(&container);
    shell.enter("echo piped | e web sh -c 'cat; echo rea\"\"dy; read line </dev/tty; echo got $line'");
    let shown = shell.see("ready\n");
    assert!(shown.contains("piped\n"), "{shown}");
    shell.enter("something");
    shell.see("got something\n");
    assert!(shell.ask("true").ends_with("status 0\n"));
}

fn the_terminal_is_as_it_was() {
    let container = Container::new();
    let mut shell = Shell::new(&container);
    let modes = "stty -a | tr ' ' '\\n' | grep -e icanon -e isig | paste -sd-";
    let before = shell.ask(modes);
    assert!(before.starts_with("isig-icanon\n"), "{before}");
    let after = shell.ask(&format!("e web sh -c 'stty raw; kill -9 $$'; {modes}"));
    assert_eq!(after, before, "a program that is killed has no time to");
    // What it changes on purpose stays, as with any program.
    assert!(shell.ask(&format!("e web stty -isig; {modes}")).starts_with("-isig-icanon\n"));
}

/// CVE-2017-5226. The third is harmless, and allowed.
fn nobody_types_into_the_terminal() {
    let container = Container::new();
    let mut shell = Shell::new(&container);
    let script = "$a = \"x\" x 8; for (0x5412, 0x541C, 0x5413) { print ioctl(STDIN, $_, $a) ? \"yes\\n\" : \"$!\\n\" }";
    let said = shell.ask(&format!("e web perl -e '{script}'"));
    assert_eq!(said, "Operation not permitted\nOperation not permitted\nyes\nstatus 0\n");
    let said = shell.ask(&format!("e web perl -e 'open STDIN, \"<\", \"/dev/tty\"; {script}' </dev/null | cat"));
    assert_eq!(said, "Operation not permitted\nOperation not permitted\nyes\nstatus 0\n");
    // A program without a terminal needs no such rule.
    assert_eq!(container.script("grep Seccomp: /proc/self/status"), "Seccomp:\t0\n");
}

/// A zombie with a parent outside would keep the pid namespace, and so a stop, for as long as the operator is away.
fn a_suspended_program_keeps_no_container() {
    let container = Container::new();
    let mut shell = Shell::new(&container);
    shell.enter(&format!("e web perl -e {LISTENS}"));
    shell.see("ready\n");
    shell.press(CTRL_Z);
    shell.see("Stopped");
    berth::sys::process::kill(container.main, libc::SIGKILL).unwrap();
    let end = end_of(container.main);
    assert!(matches!(end, WaitStatus::Signaled(..)), "{end:?}");
    shell.enter("fg; echo sta\"\"tus $?");
    let shown = shell.see("status 137\n");
    assert!(shown.contains("berthctl: 'web' has ended, and the program with it\n"), "{shown}");
    shell.press(CTRL_D);
}
