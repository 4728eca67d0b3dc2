//! Where validation puts what it finds.

use crate::{
    source::{Complaint, Diagnostic, KeyPath, MOST, Part, Stack, dotted, nearest},
    spec::Name,
};

/// What was found so far, and what places are found by.
#[derive(Debug)]
pub struct Report<'a> {
    /// Whose spec.
    pub name: &'a Name,
    /// Where the values come from.
    stack: &'a Stack,
    /// Which of the stack's documents is the spec; those below it are defaults.
    main: usize,
    /// What refuses the spec.
    pub errors: Vec<Diagnostic>,
    /// What does not.
    pub warnings: Vec<Diagnostic>,
    /// Keys that a later file overruled by contradiction.
    pub dropped: Vec<KeyPath>,
}

impl<'a> Report<'a> {
    /// Nothing found yet.
    pub fn new(name: &'a Name, stack: &'a Stack, main: usize) -> Self {
        Self { name, stack, main, errors: Vec::new(), warnings: Vec::new(), dropped: Vec::new() }
    }

    /// Whether enough was found.
    pub fn is_full(&self) -> bool {
        self.errors.len() >= MOST
    }

    /// An error about the value at a dotted path.
    pub fn error(&mut self, path: &str, complaint: Complaint) {
        self.error_at(&dotted(path), Part::Value, complaint);
    }

    /// An error at a path, unless its value is known to be wrong already.
    pub fn error_at(&mut self, path: &[String], part: Part, complaint: Complaint) {
        if self.is_full() || self.stack.failed(path) {
            return;
        }
        let found = self.stack.error(path, part, &complaint.message, self.main);
        self.errors.extend(found.map(|found| found.with_help(complaint.help)));
    }

    /// A warning about the value at a dotted path.
    pub fn warning(&mut self, path: &str, complaint: Complaint) {
        let found = self.stack.error(&dotted(path), Part::Value, &complaint.message, self.main);
        self.warnings.extend(found.map(|found| found.with_help(complaint.help).as_warning()));
    }

    /// Whether a value was written for this container, and is no default of the host's.
    pub fn is_of_spec(&self, path: &str) -> bool {
        self.stack.origin(&dotted(path)) >= Some(self.main)
    }

    /// An error about a key of the spec that is not there, unless it is there misspelled.
    pub fn missing(&mut self, key: &str, complaint: Complaint) {
        let mut failed = self.stack.documents.iter().flat_map(|document| &document.failed);
        if !failed.any(|path| path.len() == 1 && nearest(&path[0], [key]).is_some()) {
            self.error(key, complaint);
        }
    }

    /// Two keys contradict each other. A later file overrules an earlier one (silently if that is a default, since
    /// TOML has no way to unset a key); in one file, or the other way round, `weak` is an error.
    pub fn conflict(&mut self, weak: &str, strong: &str, complaint: Complaint) {
        let (low, high) = (self.stack.origin(&dotted(weak)), self.stack.origin(&dotted(strong)));
        if low >= high {
            return self.error(weak, complaint);
        }
        if low >= Some(self.main) {
            let message = format!("{}; a later file wins, and this is ignored", complaint.message);
            self.warning(weak, Complaint { message, ..complaint });
        }
        self.dropped.push(dotted(weak));
    }
}
