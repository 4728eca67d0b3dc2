//! Ledgers: which numbers containers hold, so that none is given twice.
//!
//! A ledger is a directory with a symbolic link for each number that was ever given in this boot:
//!
//! ```text
//! 00120011 -> web            web holds it
//! 00120012 -> db@81520       db let go of it 81520 s after boot
//! ```
//!
//! Making or replacing a link is one system call, done or not done: the link is the record, and it is there before the
//! number is used. Whatever instant a berthd dies at, the next one finds each number held once or not at all.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    ops::RangeInclusive,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::spec::Name;

/// Stands between an owner and the time of its leave. No name has it.
const LEFT: char = '@';

/// The name of a link that is about to replace another.
const NEXT: &str = ".next";

/// Numbers and who holds them.
#[derive(Debug)]
pub struct Ledger {
    /// Where the links are.
    directory: PathBuf,
    /// All numbers that were ever given.
    entries: BTreeMap<u32, Entry>,
    /// The same numbers as runs of neighbours, first to last: the lowest that was never given is found in one step.
    given: BTreeMap<u32, u32>,
    /// Those that nobody holds.
    released: BTreeSet<u32>,
    /// The number that each owner had last.
    last: BTreeMap<Name, u32>,
}

/// One number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Who holds it, or held it last.
    pub owner: Name,
    /// When it was let go, since boot; none while it is held.
    pub released: Option<Duration>,
}

/// What an allocation may choose from.
pub struct Choice<'a> {
    /// Ascending.
    pub ranges: &'a [RangeInclusive<u32>],
    /// How long a number rests before another owner gets it.
    pub rest: Duration,
    /// The time since boot.
    pub now: Duration,
    /// Whether a number is somebody else's for reasons that the ledger does not know.
    pub taken: &'a dyn Fn(u32) -> bool,
    /// Whether an owner that holds nothing may come back: its number is given to others last.
    pub remembered: &'a dyn Fn(&Name) -> bool,
}

impl Ledger {
    /// The ledger in `directory`, which is made if need be. What is no entry is left alone.
    ///
    /// # Errors
    /// The directory cannot be made or read.
    pub fn open(directory: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        let files = fs::read_dir(&directory)?;
        let mut ledger = Self {
            directory,
            entries: BTreeMap::new(),
            given: BTreeMap::new(),
            released: BTreeSet::new(),
            last: BTreeMap::new(),
        };
        for file in files.flatten() {
            let number = file.file_name().to_str().and_then(|name| u32::from_str_radix(name, 16).ok());
            let entry = fs::read_link(file.path()).ok().and_then(|target| Entry::parse(&target));
            if let Some((number, entry)) = number.zip(entry) {
                ledger.note(number, entry);
            }
        }
        Ok(ledger)
    }

    /// The number that `owner` holds.
    #[must_use]
    pub fn held_by(&self, owner: &Name) -> Option<u32> {
        self.last.get(owner).copied().filter(|number| self.holder(*number) == Some(owner))
    }

    /// Who holds a number.
    #[must_use]
    pub fn holder(&self, number: u32) -> Option<&Name> {
        self.entries.get(&number).filter(|entry| entry.released.is_none()).map(|entry| &entry.owner)
    }

    /// The numbers of a range that were ever given.
    pub fn entries(&self, range: RangeInclusive<u32>) -> impl Iterator<Item = (u32, &Entry)> {
        self.entries.range(range).map(|(number, entry)| (*number, entry))
    }

    /// Gives `owner` the number that it had last, else the lowest that was never given or that has rested; a number
    /// whose last owner may come back only where there is no other. None where there is none.
    ///
    /// # Errors
    /// The link cannot be made.
    pub fn allocate(&mut self, owner: &Name, choice: &Choice<'_>) -> io::Result<Option<u32>> {
        let own = self.last.get(owner).copied().filter(|number| choice.allows(*number));
        let own = own.filter(|number| self.entries.get(number).is_some_and(|entry| entry.owner == *owner));
        match own.or_else(|| self.lowest(choice)) {
            Some(number) => self.claim(number, owner).map(|()| Some(number)),
            None => Ok(None),
        }
    }

    /// Gives `owner` this number, unless another holds it.
    ///
    /// # Errors
    /// `AlreadyExists` where another does, or the link cannot be made.
    pub fn claim(&mut self, number: u32, owner: &Name) -> io::Result<()> {
        match self.holder(number) {
            Some(holder) if holder == owner => return Ok(()),
            Some(_) => return Err(io::ErrorKind::AlreadyExists.into()),
            None => {}
        }
        self.write(number, Entry { owner: owner.clone(), released: None })
    }

    /// Lets go of a number, which rests from `now` on. That nobody holds it is success.
    ///
    /// # Errors
    /// The link cannot be made.
    pub fn release(&mut self, number: u32, now: Duration) -> io::Result<()> {
        match self.holder(number).cloned() {
            Some(owner) => self.write(number, Entry { owner, released: Some(now) }),
            None => Ok(()),
        }
    }

    /// The lowest number that may be given.
    fn lowest(&self, choice: &Choice<'_>) -> Option<u32> {
        let unused = choice.ranges.iter().find_map(|range| self.unused(range, choice));
        let mut remembered = None;
        for number in choice.ranges.iter().flat_map(|range| self.released.range(range.clone())) {
            let Some(entry) = self.entries.get(number).filter(|entry| entry.has_rested(choice)) else { continue };
            if unused.is_some_and(|unused| unused < *number) {
                break;
            }
            if choice.allows(*number) && !(choice.remembered)(&entry.owner) {
                return Some(*number);
            }
            remembered = remembered.or(Some(*number).filter(|number| choice.allows(*number)));
        }
        unused.or(remembered)
    }

    /// The lowest number of a range that was never given and may be.
    fn unused(&self, range: &RangeInclusive<u32>, choice: &Choice<'_>) -> Option<u32> {
        let mut next = *range.start();
        loop {
            if let Some((_, last)) = self.given.range(..=next).next_back().filter(|(_, last)| **last >= next) {
                next = last.checked_add(1)?;
            }
            match next {
                next if next > *range.end() => return None,
                next if choice.allows(next) => return Some(next),
                _ => next = next.checked_add(1)?,
            }
        }
    }

    /// Writes an entry, in one step.
    fn write(&mut self, number: u32, entry: Entry) -> io::Result<()> {
        let path = self.directory.join(format!("{number:08x}"));
        if self.entries.contains_key(&number) {
            let next = self.directory.join(NEXT);
            let _ = fs::remove_file(&next);
            symlink(entry.text(), &next)?;
            fs::rename(&next, &path)?;
        } else {
            symlink(entry.text(), &path)?;
        }
        self.note(number, entry);
        Ok(())
    }

    /// Holds an entry in memory.
    fn note(&mut self, number: u32, entry: Entry) {
        if entry.released.is_some() {
            self.released.insert(number);
        } else {
            self.released.remove(&number);
        }
        // One who holds a number has that as its last.
        if entry.released.is_none() || !self.last.contains_key(&entry.owner) {
            self.last.insert(entry.owner.clone(), number);
        }
        if self.entries.insert(number, entry).is_none() {
            let before = number.checked_sub(1).and_then(|left| self.given.range(..=left).next_back());
            let first = before.filter(|(_, last)| **last + 1 == number).map_or(number, |(first, _)| *first);
            let last = number.checked_add(1).and_then(|right| self.given.remove(&right)).unwrap_or(number);
            self.given.insert(first, last);
        }
    }
}

impl Choice<'_> {
    /// Whether a number is in a range and nobody else's.
    fn allows(&self, number: u32) -> bool {
        self.ranges.iter().any(|range| range.contains(&number)) && !(self.taken)(number)
    }
}

impl std::fmt::Debug for Choice<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Choice").field("ranges", &self.ranges).field("rest", &self.rest).finish_non_exhaustive()
    }
}

impl Entry {
    /// Whether it was let go long enough ago.
    fn has_rested(&self, choice: &Choice<'_>) -> bool {
        self.released.is_some_and(|released| choice.now.saturating_sub(released) >= choice.rest)
    }

    /// Where its link leads.
    fn text(&self) -> String {
        match self.released {
            Some(released) => format!("{}{LEFT}{}", self.owner, released.as_secs()),
            None => self.owner.to_string(),
        }
    }

    /// What a link says.
    fn parse(target: &Path) -> Option<Self> {
        let text = target.to_str()?;
        let Some((owner, released)) = text.split_once(LEFT) else {
            return Some(Self { owner: text.parse().ok()?, released: None });
        };
        Some(Self { owner: owner.parse().ok()?, released: Some(Duration::from_secs(released.parse().ok()?)) })
    }
}

/// The time since boot, sleep included: the clock of entries (clock_gettime(2), `CLOCK_BOOTTIME`).
#[must_use]
pub fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let whole = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(whole, u32::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ledger in a directory of its own, and the time on its clock.
    struct Book {
        /// Where it lies.
        directory: tempfile::TempDir,
        /// The ledger.
        ledger: Ledger,
        /// Seconds.
        now: u64,
    }

    impl Book {
        /// An empty one.
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let ledger = Ledger::open(directory.path().join("ledger")).unwrap();
            Self { directory, ledger, now: 1000 }
        }

        /// Allocates in a range, with a rest of a minute; owners that begin with `r` are remembered.
        fn allocate(&mut self, owner: &str, range: RangeInclusive<u32>) -> Option<u32> {
            let now = Duration::from_secs(self.now);
            let choice = Choice {
                ranges: &[range],
                rest: Duration::from_secs(60),
                now,
                taken: &|number| number % 100 == 99,
                remembered: &|owner| owner.as_str().starts_with('r'),
            };
            self.ledger.allocate(&name(owner), &choice).unwrap()
        }

        /// Lets go of what an owner holds.
        fn release(&mut self, owner: &str) {
            let number = self.ledger.held_by(&name(owner)).unwrap();
            self.ledger.release(number, Duration::from_secs(self.now)).unwrap();
        }

        /// The same ledger, as the next berthd reads it.
        fn again(self) -> Self {
            let ledger = Ledger::open(self.directory.path().join("ledger")).unwrap();
            assert_eq!(ledger.entries, self.ledger.entries);
            Self { ledger, ..self }
        }
    }

    /// A container's name.
    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    /// Mesos: `NetClsHandleManagerTest.AllocateFreeHandles`, `.SecondaryHandleRange`.
    #[test]
    fn the_lowest_free_number_is_given_until_there_is_none() {
        let mut book = Book::new();
        assert_eq!([book.allocate("a", 1..=3), book.allocate("b", 1..=3)], [Some(1), Some(2)]);
        assert_eq!(book.allocate("a", 1..=3), Some(1), "asking twice is one number");
        assert_eq!([book.allocate("c", 1..=3), book.allocate("d", 1..=3)], [Some(3), None]);
        assert_eq!(book.allocate("d", 98..=101), Some(98));
        assert_eq!(book.allocate("e", 98..=101), Some(100), "99 is somebody else's");
        assert_eq!(book.ledger.holder(2), Some(&name("b")));
        let mut book = book.again();
        assert_eq!([book.allocate("b", 1..=3), book.allocate("d", 1..=3)], [Some(2), None]);
    }

    #[test]
    fn a_number_rests_before_another_gets_it_and_its_owner_gets_it_at_once() {
        let mut book = Book::new();
        book.allocate("a", 1..=9);
        book.release("a");
        assert_eq!(book.ledger.held_by(&name("a")), None);
        assert_eq!(book.allocate("b", 1..=9), Some(2), "1 rests");
        assert_eq!(book.allocate("a", 1..=9), Some(1), "it is the same after a restart");
        book.release("a");
        book.now += 59;
        let mut book = book.again();
        assert_eq!(book.allocate("c", 1..=9), Some(3));
        book.now += 1;
        assert_eq!(book.allocate("d", 1..=9), Some(1), "it has rested");
        assert_eq!(book.allocate("a", 1..=9), Some(4), "another has it now");
    }

    #[test]
    fn the_number_of_one_who_may_come_back_is_given_last() {
        let mut book = Book::new();
        book.allocate("remembered", 1..=3);
        book.allocate("a", 1..=3);
        book.release("remembered");
        book.now += 600;
        assert_eq!([book.allocate("b", 1..=3), book.allocate("c", 1..=3)], [Some(3), Some(1)]);
    }

    /// Mesos: `NetClsHandleManagerTest.ReserveHandles`.
    #[test]
    fn a_number_can_be_asked_for_and_nobody_takes_it_from_another() {
        let mut book = Book::new();
        book.ledger.claim(0xffff, &name("a")).unwrap();
        assert_eq!(book.ledger.claim(0xffff, &name("b")).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(book.allocate("b", 0xffff..=0xffff), None);
        book.release("a");
        book.ledger.claim(0xffff, &name("b")).unwrap();
        let book = book.again();
        assert_eq!(book.ledger.held_by(&name("b")), Some(0xffff));
    }

    #[test]
    fn an_owner_whose_number_is_out_of_range_gets_another() {
        let mut book = Book::new();
        assert_eq!(book.allocate("a", 1..=9), Some(1));
        book.release("a");
        assert_eq!(book.allocate("a", 5..=9), Some(5));
        assert_eq!(book.again().ledger.held_by(&name("a")), Some(5));
    }

    #[test]
    fn strange_files_are_no_entries() {
        let mut book = Book::new();
        book.allocate("a", 1..=9);
        let directory = book.directory.path().join("ledger");
        for (file, target) in
            [("x", "a"), ("00000002", "no name"), ("00000003", "a@b"), (NEXT, "a"), ("00000004", "@1")]
        {
            symlink(target, directory.join(file)).unwrap();
        }
        fs::write(directory.join("00000005"), "a").unwrap();
        let mut book = book.again();
        assert_eq!(
            book.ledger.release(1, Duration::ZERO).map_err(|e| e.to_string()),
            Ok(()),
            "over what was left behind"
        );
    }

    #[test]
    fn all_65535_are_given_and_then_none() {
        let mut book = Book::new();
        let choice = |taken: &'static dyn Fn(u32) -> bool| Choice {
            ranges: const { &[1..=0xffff] },
            rest: Duration::from_secs(60),
            now: Duration::from_secs(1),
            taken,
            remembered: &|_| false,
        };
        for number in 1..=0xffff_u32 {
            // The file system's part is tried elsewhere; a hundred thousand links are not.
            let free = book.ledger.lowest(&choice(&|_| false));
            assert_eq!(free, Some(number));
            book.ledger.note(number, Entry { owner: name(&format!("c{number}")), released: None });
        }
        assert_eq!(book.ledger.allocate(&name("next"), &choice(&|_| false)).unwrap(), None);
        assert_eq!(book.ledger.given, BTreeMap::from([(1, 0xffff)]));
    }

    proptest::proptest! {
        #[test]
        fn runs_are_the_entries(numbers in proptest::collection::vec(0..40_u32, 0..60)) {
            let mut book = Book::new();
            for number in &numbers {
                book.ledger.note(*number, Entry { owner: name("a"), released: None });
            }
            let runs: Vec<u32> = book.ledger.given.iter().flat_map(|(first, last)| *first..=*last).collect();
            proptest::prop_assert_eq!(&runs, &book.ledger.entries.keys().copied().collect::<Vec<_>>());
            let touching = book.ledger.given.values().any(|last| book.ledger.given.contains_key(&(last + 1)));
            proptest::prop_assert!(!touching);
        }
    }
}
