//! Counting what a tree of a million files takes: against du(1), with cold and with warm caches; and a tree in which
//! nobody can have written.

use std::{
    env,
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
    sync::atomic::AtomicBool,
    time::Instant,
};

use berth::{
    host::cgroups,
    isolators::disk::walk::{Tree, measure, open_tree},
    root::Root,
};

use super::{Result, table::Table};

/// Files of one directory.
const EACH: usize = 1000;

/// Both count the same tree, in turns. Where the kernel's caches cannot be emptied there is no cold row.
pub fn count(table: &mut Table, rounds: usize) -> Result<()> {
    let files = env::var("BERTH_BENCH_FILES").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    eprintln!("bench: disk, {files} files");
    let tree = tempfile::tempdir()?;
    for directory in 0..files / EACH {
        let path = tree.path().join(directory.to_string());
        fs::create_dir(&path)?;
        for file in 0..EACH {
            File::create(path.join(file.to_string()))?;
        }
    }
    for (what, cold) in [("warm", false), ("cold", true)] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        // The one before the first fills the caches.
        for round in 0..=rounds.clamp(1, if cold { 2 } else { 5 }) {
            if cold && !empty_caches() {
                eprintln!("bench:   the caches cannot be emptied here: no cold row");
                break;
            }
            let time = walk(tree.path())?;
            if cold {
                empty_caches();
            }
            let peer = du(tree.path())?;
            if round > 0 {
                ours.push(time);
                theirs.push(peer);
            }
        }
        if !ours.is_empty() {
            table.compare(&format!("disk: count {files} files, {what} caches / du -s"), &ours, &theirs, "≤ 0.33");
        }
    }
    quiet(table, tree.path())
}

/// The second look at a tree whose container has not run since: what is read then, against the first look.
fn quiet(table: &mut Table, tree: &Path) -> Result<()> {
    let root = Root::default();
    let Ok(cgroup) = cgroups::of_self(&root) else {
        eprintln!("bench:   no cgroup2 here: every look is a full one");
        return Ok(());
    };
    let (mut again, mut first) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        first.push(walk(tree)?);
        let began = Instant::now();
        cgroups::cpu_time(&root, &cgroup)?;
        again.push(nanoseconds(began));
    }
    table.compare("disk: look again, nothing has run / first look", &again, &first, "≤ 0.01");
    Ok(())
}

/// Our count, in nanoseconds.
fn walk(path: &Path) -> Result<u64> {
    let began = Instant::now();
    let tree = Tree { directory: open_tree(path, Path::new(""))?, excluded: Vec::new() };
    let sum = measure(vec![tree], &AtomicBool::new(false)).ok_or("it was ended")?;
    if sum.unread > 0 {
        return Err(format!("{} files could not be looked at", sum.unread).into());
    }
    Ok(nanoseconds(began))
}

/// du's.
fn du(path: &Path) -> Result<u64> {
    let began = Instant::now();
    let status = Command::new("du").args(["-k", "-s", "-x"]).arg(path).stdout(Stdio::null()).status()?;
    if !status.success() {
        return Err("du failed".into());
    }
    Ok(nanoseconds(began))
}

/// Writes what is dirty and empties the caches of inodes and directories; whether it could.
fn empty_caches() -> bool {
    let synced = Command::new("sync").status().is_ok_and(|status| status.success());
    synced && fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

/// The time since.
fn nanoseconds(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
