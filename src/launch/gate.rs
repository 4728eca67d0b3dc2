//! The gate between a container's first process and its program.
//!
//! The child says how its steps went, then waits. Only an opened gate lets it through: a launcher that dies closes
//! the socket, and that means exit.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
};

use crate::protocol::{Failure, MAX_LINE};

/// The launcher's side.
#[derive(Debug)]
pub(super) struct Keeper(UnixStream);

/// The child's side.
#[derive(Debug)]
pub(super) struct Waiter(UnixStream);

/// A gate, shut.
pub(super) fn gate() -> io::Result<(Keeper, Waiter)> {
    let (keeper, waiter) = UnixStream::pair()?;
    Ok((Keeper(keeper), Waiter(waiter)))
}

impl Keeper {
    /// Waits until the child is armed or has failed; none where it ended without a word.
    pub fn hear(&self) -> io::Result<Option<Result<(), Failure>>> {
        let limit = u64::try_from(MAX_LINE).map_err(io::Error::other)?;
        let mut line = Vec::new();
        BufReader::new((&self.0).take(limit)).read_until(b'\n', &mut line)?;
        if line.is_empty() { Ok(None) } else { Ok(Some(serde_json::from_slice(&line)?)) }
    }

    /// Lets the child through.
    pub fn open(mut self) -> io::Result<()> {
        self.0.write_all(b"\n")
    }
}

impl Waiter {
    /// Says how the steps went.
    pub fn report(&mut self, verdict: Result<(), &Failure>) -> io::Result<()> {
        let mut line = serde_json::to_vec(&verdict)?;
        line.push(b'\n');
        self.0.write_all(&line)
    }

    /// Waits; whether the gate was opened.
    pub fn pass(mut self) -> bool {
        self.0.read_exact(&mut [0]).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Stage;

    #[test]
    fn an_open_gate_lets_through_and_a_dead_keeper_does_not() {
        let (keeper, mut waiter) = gate().unwrap();
        waiter.report(Ok(())).unwrap();
        assert_eq!(keeper.hear().unwrap(), Some(Ok(())));
        keeper.open().unwrap();
        assert!(waiter.pass());

        let (keeper, waiter) = gate().unwrap();
        drop(keeper);
        assert!(!waiter.pass());
    }

    #[test]
    fn failures_and_silence_are_heard() {
        let failure = Failure { stage: Stage::Mounts, errno: Some(2), path: None, message: "no".to_owned() };
        let (keeper, mut waiter) = gate().unwrap();
        waiter.report(Err(&failure)).unwrap();
        assert_eq!(keeper.hear().unwrap(), Some(Err(failure)));

        let (keeper, waiter) = gate().unwrap();
        drop(waiter);
        assert_eq!(keeper.hear().unwrap(), None);
    }
}
