//! `disk/du`: what containers take of the disk, by looking at all of it.
//!
//! Mesos: `isolators/posix/disk.cpp`, which executes du(1) for one container after the other. Put right here: a tree that
//! changes is measured all the same, what is excluded is meant literally, no container waits for another's turn, and the
//! first look is at the start. Between two looks a container can take what it likes: `kill` is no wall, and there is no
//! `hard`.

use std::{
    io,
    path::Path,
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use super::{
    super::{Check, Isolator, Recorded, Refusal, Support, Wanted},
    describe, exceeded, report,
    state::{Seen, Taken, Used},
    take, taken_by,
    walk::{self, Tree},
    wanted,
};
use crate::{
    error::reason,
    host::{Host, cgroups},
    isolators::Container,
    observe::{ContainerStatus, Limitation, Usage},
    plan::{DiskPlan, Plan},
    spec::{Enforce, Spec},
    state::sandbox,
};

/// See the module.
#[derive(Debug)]
pub struct DiskDu;

/// Its name.
const NAME: &str = "disk/du";

/// Its best way of enforcing.
const BEST: Enforce = Enforce::Kill;

/// How much longer than a look the pause after it is: looking takes a container 5 % of one processor's time.
const PAUSE: u32 = 19;

/// The longest pause that a costly look brings about.
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);

/// How long a container in which no process has run counts as unchanged: others may write in its sandbox.
const LONGEST_QUIET: Duration = Duration::from_secs(10 * 60);

impl Isolator for DiskDu {
    fn name(&self) -> &'static str {
        NAME
    }

    fn probe(&self, _host: &Host) -> Support {
        Support::Yes
    }

    fn wanted_by(&self, _spec: &Spec) -> Option<&'static str> {
        // Any isolator of `disk/*` will do: see `check_served`.
        None
    }

    fn check(&self, cx: &Check<'_>, plan: &mut Plan) -> Result<(), Refusal> {
        if take(NAME, cx, BEST, plan) { plan.disk.as_ref().map_or(Ok(()), refuse_hard) } else { Ok(()) }
    }

    fn is_outdated(&self, wants: &Wanted<'_>, plan: &Plan) -> bool {
        taken_by(NAME, plan).is_some_and(|disk| *disk != wanted(NAME, wants, BEST))
    }

    fn update(&self, _cx: &Container<'_>, wants: &Wanted<'_>, plan: &mut Plan) -> Result<(), String> {
        if taken_by(NAME, plan).is_some() {
            let disk = wanted(NAME, wants, BEST);
            refuse_hard(&disk).map_err(|refusal| refusal.failure.message)?;
            plan.disk = Some(disk);
        }
        Ok(())
    }

    fn status(&self, cx: &Recorded<'_>, _out: &mut ContainerStatus) -> Result<Option<String>, String> {
        let Some(disk) = taken_by(NAME, &cx.run.plan) else { return Ok(None) };
        let taken = cx.shared.disk.taken(cx.name, &cx.run.invocation);
        let unread = taken.map_or(0, |taken| taken.unread);
        let but = if unread > 0 { format!("; {unread} files could not be looked at") } else { String::new() };
        Ok(Some(format!("{}{but}", describe(disk))))
    }

    fn measures(&self, plan: &Plan) -> bool {
        taken_by(NAME, plan).is_some()
    }

    fn usage(&self, cx: &Recorded<'_>, out: &mut Usage) -> Result<(), String> {
        if let Some(disk) = taken_by(NAME, &cx.run.plan) {
            report(disk, cx.shared.disk.taken(cx.name, &cx.run.invocation).as_ref(), out);
        }
        Ok(())
    }

    fn watches(&self, plan: &Plan) -> bool {
        taken_by(NAME, plan).is_some()
    }

    fn watch(&self, cx: &Recorded<'_>) -> Result<Duration, String> {
        let Some(disk) = taken_by(NAME, &cx.run.plan) else { return Ok(Duration::ZERO) };
        // Before the look: what runs during it is seen by the next.
        let ran = cx.run.cgroup.as_deref().and_then(|cgroup| cgroups::cpu_time(cx.root, cgroup).ok());
        let (name, invocation, began) = (cx.name, &cx.run.invocation, Instant::now());
        let known = cx.shared.disk.taken(name, invocation);
        if known.is_some_and(|known| disk.tracked.iter().all(|tracked| known.of(tracked).is_some()))
            && is_quiet(cx.shared.disk.seen(name, invocation), ran, began)
        {
            return Ok(Duration::ZERO);
        }
        let stop = cx.shared.disk.begin(name, invocation);
        let Some(taken) = look(&cx.run.sandbox, disk, &stop)? else { return Ok(Duration::ZERO) };
        cx.shared.disk.note(name, invocation, taken, ran.map(|ran| Seen { ran, at: began }));
        Ok((began.elapsed() * PAUSE).min(LONGEST_PAUSE))
    }

    fn limitation(&self, cx: &Recorded<'_>) -> Option<Limitation> {
        let disk = taken_by(NAME, &cx.run.plan).filter(|disk| disk.enforce == Enforce::Kill)?;
        exceeded(disk, &cx.shared.disk.taken(cx.name, &cx.run.invocation)?)
    }

    fn cleanup(&self, cx: &Recorded<'_>) -> Result<(), String> {
        cx.shared.disk.forget(cx.name, &cx.run.invocation);
        Ok(())
    }
}

/// That nobody relies on a wall that is none.
fn refuse_hard(disk: &DiskPlan) -> Result<(), Refusal> {
    if disk.enforce != Enforce::Hard || !disk.is_limited() {
        return Ok(());
    }
    let message = "disk.enforce = \"hard\" needs a project quota, and here disk/du counts, which can only look; write \
                   \"kill\" or \"account\"";
    Err(Refusal::config(NAME, "disk.enforce", message.to_owned()))
}

/// Whether no process of a container has run since its last look, by the kernel's count: none of it can have written
/// anything. The kernel has no better witness: fanotify(7) does not tell of mmap(2), nor of what is written through an
/// overlay, and times of directories do not tell that a file has grown.
fn is_quiet(last: Option<Seen>, ran: Option<u64>, now: Instant) -> bool {
    last.is_some_and(|last| Some(last.ran) == ran && now.duration_since(last.at) < LONGEST_QUIET)
}

/// Looks at all that is tracked. None if it was told to stop.
fn look(sandbox: &Path, disk: &DiskPlan, stop: &AtomicBool) -> Result<Option<Taken>, String> {
    let mut taken = Taken::default();
    for one in &disk.tracked {
        let path = one.volume.as_ref().map(|volume| volume.path.clone());
        let trees = match &path {
            None => trees_of_sandbox(sandbox, disk)
                .map_err(|error| format!("cannot look at {}: {}", sandbox.display(), reason(&error)))?,
            Some(path) => match walk::open_tree(sandbox, path) {
                Ok(directory) => vec![Tree { directory, excluded: Vec::new() }],
                // Its owner has put something else there.
                Err(_) => continue,
            },
        };
        let Some(sum) = walk::measure(trees, stop) else { return Ok(None) };
        taken.unread += sum.unread;
        taken.used.insert(path, Used { bytes: sum.bytes, inodes: sum.inodes });
    }
    Ok(Some(taken))
}

/// The sandbox without volumes that have limits of their own, and what the run has changed of its image.
fn trees_of_sandbox(sandbox: &Path, disk: &DiskPlan) -> io::Result<Vec<Tree>> {
    let excluded = disk.excluded().map(Path::to_owned).collect();
    let mut trees = vec![Tree { directory: walk::open_tree(sandbox, Path::new(""))?, excluded }];
    let root = sandbox::root_of(sandbox);
    for part in ["upper", "work"] {
        match walk::open_tree(&root, Path::new(part)) {
            Ok(directory) => trees.push(Tree { directory, excluded: Vec::new() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(trees)
}

#[cfg(test)]
mod tests {
    use super::{super::State, *};

    #[test]
    fn a_container_is_unchanged_while_none_of_it_has_run() {
        let (state, name, now) = (State::default(), "quiet".parse().unwrap(), Instant::now());
        let is_quiet = |run, ran, now| is_quiet(state.seen(&name, run), ran, now);
        state.begin(&name, "one");
        assert!(!is_quiet("one", Some(5), now), "never looked at");
        state.note(&name, "one", Taken::default(), Some(Seen { ran: 5, at: now }));
        assert!(is_quiet("one", Some(5), now + Duration::from_secs(60)));
        assert!(!is_quiet("one", Some(6), now + Duration::from_secs(60)), "something has run");
        assert!(!is_quiet("one", None, now), "unknown is not unchanged");
        assert!(!is_quiet("one", Some(5), now + LONGEST_QUIET), "others may have written");
        assert!(!is_quiet("another", Some(5), now), "another run");
        state.note(&name, "one", Taken::default(), None);
        assert!(!is_quiet("one", Some(5), now), "a look that does not know what has run");
    }
}
