//! Ring 3 as a test program: which hosts, whether it can run at all, what to say when not.
//!
//! A test file is a table and a `main`:
//!
//! ```ignore
//! fn main() -> ExitCode {
//!     ring::main(&[("starts", starts), ("stops", stops)])
//! }
//! fn starts(suite: Suite) { let host = Host::boot(suite).unwrap(); … }
//! ```

use std::process::ExitCode;
use std::time::Instant;

use libtest_mimic::{Arguments, Trial};

use super::here;
use super::host::{self, Suite};

/// A test's name and what it does on a host of the suite; it fails by panicking.
pub type Test = (&'static str, fn(Suite));

/// Runs every test on every suite of `BERTH_TEST_SUITES`, as `SUITE::NAME`.
///
/// Where the ring can not run, the tests are ignored and stderr says so, aloud; with
/// `BERTH_REQUIRE_RINGS=1` that is a failure.
pub fn main(tests: &[Test]) -> ExitCode {
    main_but(tests, &[])
}

/// [`main`] on a machine that lacks what some tests need: those are ignored too, and stderr says why.
pub fn main_but(tests: &[Test], lacking: &[(Test, String)]) -> ExitCode {
    run(Arguments::from_args(), tests, lacking)
}

fn run(mut arguments: Arguments, tests: &[Test], lacking: &[(Test, String)]) -> ExitCode {
    let suites = match Suite::from_env_list() {
        Ok(suites) => suites,
        Err(error) => {
            eprintln!("ring 3: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut all_run = true;
    let mut trials = Vec::new();
    for suite in suites {
        let obstacle = if arguments.list || tests.is_empty() { None } else { obstacle(suite) };
        if let Some(reason) = &obstacle {
            eprintln!("\n*** ring 3 NOT RUN on {suite}: {reason}\n");
            all_run = false;
        }
        trials.extend(tests.iter().map(|test| trial(suite, *test, obstacle.is_some())));
        for (test, reason) in lacking {
            if !arguments.list {
                eprintln!("\n*** {suite}::{} NOT RUN: {reason}\n", test.0);
            }
            trials.push(trial(suite, *test, true));
        }
    }
    if !all_run && required() {
        eprintln!("BERTH_REQUIRE_RINGS is set: a ring that does not run is a failure.");
        return ExitCode::FAILURE;
    }
    if here::is_the_host() {
        // Who has to wait for a turn must not keep others from theirs.
        arguments.test_threads.get_or_insert(trials.len().max(1));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    host::end_shared();
    conclusion.exit_code()
}

/// Where the machine itself is the host, moves trials that can not be had there to those that a machine lacks something
/// for; `but` has their names and reasons.
pub fn not_here(trials: &mut Vec<Test>, lacking: &mut Vec<(Test, String)>, but: &[(&str, &str)]) {
    if !here::is_the_host() {
        return;
    }
    for (name, reason) in but {
        let index =
            trials.iter().position(|test| test.0 == *name).unwrap_or_else(|| panic!("no trial is called {name}"));
        lacking.push((trials.remove(index), (*reason).into()));
    }
}

/// Why nothing of ring 4 is run here, if so: it wants a machine that is there for tests and for nothing else.
fn no_machine() -> Option<String> {
    let reason = "it wants a machine of its own, and tests/vm/run has one: make test-vm";
    (!here::is_the_host()).then(|| reason.to_owned())
}

/// Ring 4's own `main`, in a VM.
pub fn main_on_a_machine(tests: &[Test]) -> ExitCode {
    run_on_a_machine(Arguments::from_args(), tests)
}

fn run_on_a_machine(arguments: Arguments, tests: &[Test]) -> ExitCode {
    match no_machine() {
        None => run(arguments, tests, &[]),
        Some(reason) => {
            if required() && !arguments.list {
                eprintln!("\n*** ring 4 NOT RUN: {reason}\nBERTH_REQUIRE_RINGS is set: that is a failure.");
                return ExitCode::FAILURE;
            }
            let lacking: Vec<_> = tests.iter().map(|test| (*test, reason.clone())).collect();
            run(arguments, &[], &lacking)
        }
    }
}

/// A test that goes on over boots of the machine, and what it does in each of them.
pub type Boots = (&'static str, &'static [fn(Suite)]);

/// [`main_on_a_machine`] for tests that go on over boots: runs, one after another, what they do in this one. If that went
/// well, asks for the next one (see `tests/vm/inside`); `downs` are the ways there: `reboot` or `power-cycle`.
pub fn main_boots(tests: &[Boots], downs: &[&str]) -> ExitCode {
    let variable = |name| std::env::var(name).ok();
    let stage: usize = variable("BERTH_TEST_STAGE").and_then(|stage| stage.parse().ok()).unwrap_or_default();
    let now: Vec<Test> = tests.iter().filter_map(|(name, boots)| Some((*name, *boots.get(stage)?))).collect();
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let code = run_on_a_machine(arguments, &now);
    if let (true, Some(down), Some(again)) = (code == ExitCode::SUCCESS, downs.get(stage), variable("BERTH_TEST_AGAIN"))
    {
        std::fs::write(&again, down).unwrap_or_else(|error| panic!("{again}: {error}"));
    }
    code
}

fn trial(suite: Suite, (name, test): Test, ignored: bool) -> Trial {
    let run = move || {
        let began = Instant::now();
        if here::is_the_host() {
            here::take_turns(places(), || {
                if std::env::var_os("BERTH_TEST_TIMES").is_some() {
                    eprintln!("  begins  {suite}::{name}");
                }
                test(suite);
            });
        } else {
            test(suite);
        }
        if std::env::var_os("BERTH_TEST_TIMES").is_some() {
            eprintln!("{:6.2} s  {suite}::{name}", began.elapsed().as_secs_f64());
        }
        Ok(())
    };
    Trial::test(format!("{suite}::{name}"), run).with_ignored_flag(ignored)
}

/// Why no host of this suite can be booted here, if so. Makes the root filesystem, so that
/// no test has to wait for it.
fn obstacle(suite: Suite) -> Option<String> {
    let mut check = host::check_machine();
    if !here::is_the_host() {
        check = check.and_then(|()| suite.rootfs().map(drop));
    }
    check.err().map(|error| error.to_string())
}

/// How many trials share the machine at a time where it is the host.
fn places() -> usize {
    let named = std::env::var("BERTH_TEST_THREADS").ok().and_then(|number| number.parse().ok());
    named.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

fn required() -> bool {
    std::env::var_os("BERTH_REQUIRE_RINGS").is_some_and(|value| value == "1")
}
