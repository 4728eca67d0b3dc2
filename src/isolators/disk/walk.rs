//! How much of the disk a tree takes: allocated blocks and inodes, as du(1) counts them with `-s -x`.
//!
//! Directories are opened one below the other and never by path, symlinks are not followed, mounts are not entered, and
//! times of access stay (O_NOATIME). What goes away meanwhile is nobody's mistake, and what cannot be read is told
//! ([`Sum::unread`]) beside what could. Memory does not grow with the files of a directory, nor descriptors with the depth.
//!
//! A worker goes down its part depth first. One that has nothing to do waits for a subtree, and the next directory that
//! another would enter is its. Helpers join when a tree turns out to be large, as many as a host-wide budget has.

use std::{
    collections::HashSet,
    ffi::{CStr, OsStr},
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Component, Path, PathBuf},
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering},
    },
    thread::{self, Scope},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Statx, StatxAttributes, StatxFlags, openat2, statx},
    io::Errno,
};

/// What getdents64(2) is given at a time: some thousand names, which are looked at in the order of their inodes.
const BUFFER: usize = 128 << 10;

/// How many names of directories are kept of one directory before they are entered.
const MOST_NAMES: usize = 4096;

/// How many directories above the present one are kept open; those above are found again through `..`.
const MOST_OPEN: usize = 128;

/// How many inodes a tree has before others help.
const LARGE: u64 = 10_000;

/// The most helpers of all walks together.
const MOST_HELPERS: usize = 3;

/// Helpers at work now.
static HELPERS: AtomicUsize = AtomicUsize::new(0);

/// What is counted.
#[derive(Debug)]
pub struct Tree {
    /// Its directory.
    pub directory: OwnedFd,
    /// What is not counted of it: relative paths, literally. Nothing of them is looked at.
    pub excluded: Vec<PathBuf>,
}

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sum {
    /// Allocated blocks, in bytes.
    pub bytes: u64,
    /// Inodes; one that has several names is one.
    pub inodes: u64,
    /// Directories and files that could not be looked at, and are not in the above.
    pub unread: u64,
}

impl Sum {
    /// Takes another in.
    fn add(&mut self, other: &Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.inodes = self.inodes.saturating_add(other.inodes);
        self.unread = self.unread.saturating_add(other.unread);
    }
}

/// Counts trees together: a file that has names in several is one. None if `stop` was set meanwhile.
#[must_use]
pub fn measure(trees: Vec<Tree>, stop: &AtomicBool) -> Option<Sum> {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let waiting = isize::try_from(trees.len()).unwrap_or(isize::MAX);
    let walk = Walk {
        stop,
        most_helpers: MOST_HELPERS.min(processors.saturating_sub(1)),
        links: Mutex::default(),
        queue: Mutex::new(Queue { jobs: trees, workers: 1, waiting: 0, sum: Sum::default() }),
        news: Condvar::new(),
        wanted: AtomicIsize::new(-waiting),
    };
    thread::scope(|scope| Worker::new(&walk).run(Some(scope)));
    let sum = walk.queue.into_inner().unwrap_or_else(PoisonError::into_inner).sum;
    (!stop.load(Ordering::Relaxed)).then_some(sum)
}

/// One measurement.
#[derive(Debug)]
struct Walk<'a> {
    /// Ends it early.
    stop: &'a AtomicBool,
    /// The most that help.
    most_helpers: usize,
    /// Files of several names that were met, by device and inode.
    links: Mutex<HashSet<(u32, u32, u64)>>,
    /// Subtrees that nobody has begun.
    queue: Mutex<Queue>,
    /// That there is one, or that all is done.
    news: Condvar,
    /// Workers that wait, less the subtrees that wait.
    wanted: AtomicIsize,
}

/// What workers share.
#[derive(Debug)]
struct Queue {
    /// Subtrees.
    jobs: Vec<Tree>,
    /// Workers.
    workers: usize,
    /// How many of them have nothing to do.
    waiting: usize,
    /// What those have counted that are done.
    sum: Sum,
}

impl Walk<'_> {
    /// The queue.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody has nothing to do.
    fn wants(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) > 0
    }

    /// Gives away a subtree.
    fn give(&self, job: Tree) {
        self.queue().jobs.push(job);
        self.wanted.fetch_sub(1, Ordering::Relaxed);
        self.news.notify_one();
    }

    /// The next subtree; none when all is done. Waits while others work who may have one to give.
    fn take(&self) -> Option<Tree> {
        let mut queue = self.queue();
        queue.waiting += 1;
        self.wanted.fetch_add(1, Ordering::Relaxed);
        loop {
            if let Some(job) = queue.jobs.pop() {
                queue.waiting -= 1;
                return Some(job);
            }
            if queue.waiting == queue.workers {
                self.news.notify_all();
                return None;
            }
            queue = self.news.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether a file of several names is met for the first time.
    fn is_first(&self, found: &Statx) -> bool {
        let inode = (found.stx_dev_major, found.stx_dev_minor, found.stx_ino);
        self.links.lock().unwrap_or_else(PoisonError::into_inner).insert(inode)
    }
}

/// A directory on the way down.
#[derive(Debug)]
struct Frame {
    /// The directory; none while those below are so many that it is closed.
    directory: Option<OwnedFd>,
    /// What it is found again by.
    id: (u32, u32, u64),
    /// Where the names of its subdirectories that are left begin.
    names: usize,
    /// Whether there is more to read in it.
    more: bool,
    /// What is not counted of it.
    excluded: Vec<PathBuf>,
}

/// One thread's part.
struct Worker<'a> {
    /// Of which measurement.
    walk: &'a Walk<'a>,
    /// The way down to where it is.
    frames: Vec<Frame>,
    /// Names of directories that are left, each with its NUL: those of the last frame last.
    names: Vec<u8>,
    /// The directory that was left last.
    left: Option<OwnedFd>,
    /// Names of files of one reading, each with its NUL.
    files: Vec<u8>,
    /// Their inodes, and where their names begin.
    order: Vec<(u64, usize)>,
    /// For getdents64(2).
    buffer: Vec<MaybeUninit<u8>>,
    /// What was counted.
    sum: Sum,
}

impl<'a> Worker<'a> {
    /// Nothing yet.
    fn new(walk: &'a Walk<'a>) -> Self {
        let buffer = vec![MaybeUninit::uninit(); BUFFER];
        let (frames, names, files, order) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { walk, frames, names, left: None, files, order, buffer, sum: Sum::default() }
    }

    /// Works until all is counted. The first worker has the scope that helpers live in.
    fn run<'scope>(mut self, mut scope: Option<&'scope Scope<'scope, '_>>)
    where
        'a: 'scope,
    {
        while let Some(job) = self.walk.take() {
            self.enter(job);
            while !self.frames.is_empty() {
                if self.walk.stop.load(Ordering::Relaxed) {
                    self.frames.clear();
                    self.names.clear();
                    break;
                }
                if let Some(scope) = scope.take_if(|_| self.sum.inodes > LARGE) {
                    self.call_helpers(scope);
                }
                self.step();
            }
            self.left = None;
        }
        self.walk.queue().sum.add(&self.sum);
    }

    /// Has others help, as far as the budget goes.
    fn call_helpers<'scope>(&self, scope: &'scope Scope<'scope, '_>)
    where
        'a: 'scope,
    {
        let walk = self.walk;
        for _ in 0..walk.most_helpers {
            let free = |busy| (busy < MOST_HELPERS).then_some(busy + 1);
            if HELPERS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).is_err() {
                return;
            }
            walk.queue().workers += 1;
            let help = move || {
                Worker::new(walk).run(None);
                HELPERS.fetch_sub(1, Ordering::Relaxed);
            };
            if thread::Builder::new().name("berth-disk".to_owned()).spawn_scoped(scope, help).is_err() {
                // As good as one that is done.
                HELPERS.fetch_sub(1, Ordering::Relaxed);
                walk.queue().workers -= 1;
                return;
            }
        }
    }

    /// Counts a directory, and is in it.
    fn enter(&mut self, Tree { directory, excluded }: Tree) {
        let Ok(found) = look(&directory, c"", AtFlags::EMPTY_PATH) else {
            self.sum.unread += 1;
            return;
        };
        self.count(&found);
        let id = (found.stx_dev_major, found.stx_dev_minor, found.stx_ino);
        let frame = Frame { directory: Some(directory), id, names: self.names.len(), more: true, excluded };
        self.frames.push(frame);
        let far = self.frames.len().checked_sub(MOST_OPEN + 1).and_then(|index| self.frames.get_mut(index));
        if let Some(far) = far.filter(|far| !far.more) {
            far.directory = None;
        }
    }

    /// Goes one directory on: down, through the present one, or up.
    fn step(&mut self) {
        let Some(top) = self.frames.last() else { return };
        let (more, first) = (top.more, top.names);
        if self.names.len() > first {
            self.descend();
        } else if more {
            self.read();
        } else {
            self.left = self.frames.pop().and_then(|done| done.directory);
        }
    }

    /// Enters the next subdirectory, or gives it away.
    fn descend(&mut self) {
        if !self.find_top() {
            let frame = self.frames.pop();
            self.names.truncate(frame.map_or(0, |frame| frame.names));
            self.sum.unread += 1;
            return;
        }
        let Some(top) = self.frames.last() else { return };
        let Some(directory) = &top.directory else { return };
        let end = self.names.len().saturating_sub(1);
        let begin = self.names[..end].iter().rposition(|&byte| byte == 0).map_or(0, |at| at + 1).max(top.names);
        let name = CStr::from_bytes_with_nul(&self.names[begin..]).unwrap_or_default();
        let opened = open(directory, name);
        let excluded = below(&top.excluded, name);
        self.names.truncate(begin);
        let is_last = begin == top.names && !top.more;
        match opened {
            Ok(directory) => {
                if is_last {
                    // It is not come back to: a long way down without branches takes no memory.
                    self.left = self.frames.pop().and_then(|done| done.directory);
                }
                let job = Tree { directory, excluded };
                if !self.names.is_empty() && self.walk.wants() { self.walk.give(job) } else { self.enter(job) }
            }
            Err(error) => self.sum.unread += u64::from(!is_change(error)),
        }
    }

    /// Opens the present directory again, where it was closed, from one that was below it. False if it is not to be
    /// found: somebody moved it meanwhile.
    fn find_top(&mut self) -> bool {
        let Some(top) = self.frames.last_mut() else { return false };
        if top.directory.is_some() {
            return true;
        }
        let Some(mut at) = self.left.take() else { return false };
        let mut last = None;
        loop {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let Ok(above) = rustix::fs::openat(&at, c"..", flags, Mode::empty()) else { return false };
            let Ok(found) = look(&above, c"", AtFlags::EMPTY_PATH) else { return false };
            let id = (found.stx_dev_major, found.stx_dev_minor, found.stx_ino);
            if id == top.id {
                top.directory = Some(above);
                return true;
            }
            // Above the root is the root.
            if last == Some(id) {
                return false;
            }
            (last, at) = (Some(id), above);
        }
    }

    /// Reads the present directory: files are counted, directories are noted. Ends early where they are many.
    fn read(&mut self) {
        let Some(top) = self.frames.last_mut() else { return };
        let Some(directory) = top.directory.take() else { return };
        let excluded = std::mem::take(&mut top.excluded);
        let first = top.names;
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut entries = RawDir::new(&directory, &mut buffer);
        let mut more = false;
        loop {
            match entries.next() {
                None => break,
                Some(Err(error)) => {
                    self.sum.unread += u64::from(!is_change(error));
                    break;
                }
                Some(Ok(entry)) => {
                    let name = entry.file_name();
                    if !matches!(name.to_bytes(), b"." | b"..") && !is_excluded(&excluded, name) {
                        self.note(&directory, entry.file_type(), entry.ino(), name);
                    }
                }
            }
            if entries.is_buffer_empty() {
                self.count_files(&directory);
                if self.names.len() - first > MOST_NAMES * 8 {
                    more = true;
                    break;
                }
            }
        }
        self.count_files(&directory);
        self.buffer = buffer;
        if let Some(top) = self.frames.last_mut() {
            (top.directory, top.excluded, top.more) = (Some(directory), excluded, more);
        }
    }

    /// Keeps the name of an entry for later.
    fn note(&mut self, directory: &OwnedFd, kind: FileType, inode: u64, name: &CStr) {
        let kind = match kind {
            // A file system that does not say (readdir(3)).
            FileType::Unknown => match look(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) => FileType::from_raw_mode(found.stx_mode.into()),
                Err(error) => return self.sum.unread += u64::from(!is_change(error)),
            },
            kind => kind,
        };
        if kind == FileType::Directory {
            self.names.extend_from_slice(name.to_bytes_with_nul());
        } else {
            self.order.push((inode, self.files.len()));
            self.files.extend_from_slice(name.to_bytes_with_nul());
        }
    }

    /// Counts the files that were noted, in the order in which they lie on the disk.
    fn count_files(&mut self, directory: &OwnedFd) {
        let (files, mut order) = (std::mem::take(&mut self.files), std::mem::take(&mut self.order));
        order.sort_unstable();
        for (_, begin) in order.drain(..) {
            let name = CStr::from_bytes_until_nul(&files[begin..]).unwrap_or_default();
            match look(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                // A directory is in its place now: the next time.
                Ok(found) if FileType::from_raw_mode(found.stx_mode.into()) == FileType::Directory => {}
                Ok(found) => self.count(&found),
                Err(error) => self.sum.unread += u64::from(!is_change(error)),
            }
        }
        (self.files, self.order) = (files, order);
        self.files.clear();
    }

    /// Counts an inode, once, unless something else is mounted there.
    fn count(&mut self, found: &Statx) {
        let is_directory = FileType::from_raw_mode(found.stx_mode.into()) == FileType::Directory;
        if !is_directory {
            let is_mount = found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
            if is_mount || (found.stx_nlink > 1 && !self.walk.is_first(found)) {
                return;
            }
        }
        self.sum.bytes = self.sum.bytes.saturating_add(found.stx_blocks.saturating_mul(512));
        self.sum.inodes += 1;
    }
}

/// What is at a name. What the file system knows already is enough (statx(2), AT_STATX_DONT_SYNC).
fn look(directory: impl AsFd, name: &CStr, flags: AtFlags) -> Result<Statx, Errno> {
    let wanted = StatxFlags::TYPE | StatxFlags::MODE | StatxFlags::NLINK | StatxFlags::INO | StatxFlags::BLOCKS;
    statx(directory, name, flags | AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT, wanted)
}

/// Opens a directory of the same mount.
fn open(directory: impl AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    let open = |flags| openat2(directory.as_fd(), name, flags, Mode::empty(), resolve);
    match open(flags | OFlags::NOATIME) {
        // Somebody else's, and we are not root.
        Err(Errno::PERM) => open(flags),
        other => other,
    }
}

/// Opens the directory of a tree: below `base`, no link followed.
///
/// # Errors
/// openat2(2).
pub fn open_tree(base: &Path, relative: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let base = rustix::fs::open(base, flags, Mode::empty())?;
    let mut at = open(&base, c".")?;
    for part in relative.components() {
        let Component::Normal(name) = part else { continue };
        let name = std::ffi::CString::new(name.as_bytes())?;
        at = open(&at, &name)?;
    }
    Ok(at)
}

/// Whether an error tells that a tree changed, or that a mount begins: nothing that is missing from the sum.
fn is_change(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::STALE | Errno::XDEV)
}

/// Whether a name is all that is left of an excluded path.
fn is_excluded(excluded: &[PathBuf], name: &CStr) -> bool {
    excluded.iter().any(|path| path.as_os_str().as_bytes() == name.to_bytes())
}

/// What is excluded below a directory.
fn below(excluded: &[PathBuf], name: &CStr) -> Vec<PathBuf> {
    let name = Path::new(OsStr::from_bytes(name.to_bytes()));
    excluded.iter().filter_map(|path| path.strip_prefix(name).ok().map(Path::to_owned)).collect()
}
