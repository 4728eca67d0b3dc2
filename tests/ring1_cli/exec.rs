//! `exec`, as far as it goes before anybody is asked. What it does is ring 2's.

use crate::world::World;

#[test]
fn a_wrong_command_line_is_refused_before_anything_is_done() {
    let world = World::with(&[]);
    for (args, says) in [
        (&["exec"][..], "required arguments were not provided"),
        (&["exec", "web"], "<COMMAND>..."),
        (&["exec", "-e", "A", "web", "true"], "a variable is NAME=VALUE"),
        (&["exec", "-w", "srv", "web", "true"], "must be absolute"),
        (&["exec", "--user", "a/b", "web", "true"], "is no user's name"),
        (&["exec", "../web", "true"], "invalid value '../web'"),
    ] {
        let run = world.run(args);
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{args:?}");
        assert!(run.err.contains(says), "{says} in {}", run.err);
    }
}

#[test]
fn json_is_for_what_is_ours_to_write() {
    let world = World::with(&[]);
    for args in
        [&["--json", "exec", "web", "true"][..], &["exec", "--json", "web", "true"], &["exec", "web", "--json", "true"]]
    {
        let run = world.run(args);
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{args:?}");
        assert!(run.err.starts_with("berthctl: exec writes nothing of its own"), "{}", run.err);
    }
}

#[test]
fn others_than_root_are_told_so() {
    if nix::unistd::geteuid().is_root() {
        return; // Ring 3 asks as somebody else.
    }
    let run = World::with(&[]).run(&["exec", "web", "true"]);
    assert_eq!((run.code, run.err.as_str()), (125, "berthctl: cannot enter 'web': only root can; use sudo\n"));
}

#[test]
fn help_has_the_statuses_and_options() {
    let help = World::with(&[]).run(&["--help"]).out;
    for part in ["exec", "125  the program was not run", "126", "127"] {
        assert!(help.contains(part), "{part} in {help}");
    }
    let help = World::with(&[]).run(&["exec", "--help"]).out;
    for part in ["--env <NAME=VALUE>", "--user <USER[:GROUP]>", "--workdir <DIR>"] {
        assert!(help.contains(part), "{part} in {help}");
    }
}
