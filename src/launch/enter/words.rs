//! What the entrant, and after it the program until it runs, tell the one who waits outside; and his one word to the
//! program, without which it does not run.

use std::{
    io::{self, BufRead, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
};

use serde::{Deserialize, Serialize};

use crate::{
    manager::Process,
    protocol::{Failure, MAX_LINE},
};

/// A word, one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    /// The program is born, and waits.
    Born {
        /// It, as the host numbers it.
        pid: u32,
        /// The container's main process.
        main: Process,
    },
    /// It is not, or could not be executed.
    Failed(Failure),
}

/// Who tells. Closed at execve(2), which is the end of all words.
#[derive(Debug)]
pub(super) struct Teller(UnixStream);

/// Who hears: of an end first, and then what was told before it. So nothing is waited for; the program that waits
/// itself keeps the way open.
#[derive(Debug)]
pub(super) struct Hearer(BufReader<UnixStream>);

/// A way for words.
pub(super) fn channel() -> io::Result<(Hearer, Teller)> {
    let (hearer, teller) = UnixStream::pair()?;
    hearer.set_nonblocking(true)?;
    Ok((Hearer(BufReader::new(hearer)), Teller(teller)))
}

impl Teller {
    /// Tells a word. Whether anybody heard it does not matter to who tells.
    pub fn tell(&mut self, word: &Word) {
        let Ok(mut line) = serde_json::to_vec(word) else { return };
        line.push(b'\n');
        drop(self.0.write_all(&line));
    }

    /// Waits until the program may run; whether it may. Who hears no more does not attend it either.
    pub fn may_run(&mut self) -> bool {
        self.0.read_exact(&mut [0]).is_ok()
    }
}

impl Hearer {
    /// Lets the program run. One that has been killed does not heed it.
    pub fn let_run(&mut self) {
        drop(self.0.get_mut().write_all(b"\n"));
    }

    /// The next word that was told; none if there is none.
    pub fn hear(&mut self) -> io::Result<Option<Word>> {
        let limit = u64::try_from(MAX_LINE).map_err(io::Error::other)?;
        let mut line = Vec::new();
        match self.0.by_ref().take(limit).read_until(b'\n', &mut line) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ if line.is_empty() => Ok(None),
            _ => Ok(Some(serde_json::from_slice(&line)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Stage;

    #[test]
    fn words_come_in_order_and_end() {
        let (mut hearer, mut teller) = channel().unwrap();
        assert_eq!(hearer.hear().unwrap(), None, "nothing yet");
        let failure = Failure { stage: Stage::Program, errno: Some(8), path: None, message: "no".to_owned() };
        let words = [Word::Born { pid: 7, main: Process { pid: 1, start_time: 2 } }, Word::Failed(failure)];
        words.iter().for_each(|word| teller.tell(word));
        hearer.let_run();
        assert!(teller.may_run());
        drop(teller);
        for word in words {
            assert_eq!(hearer.hear().unwrap(), Some(word));
        }
        assert_eq!(hearer.hear().unwrap(), None);
        let (hearer, mut teller) = channel().unwrap();
        drop(hearer);
        assert!(!teller.may_run());
    }
}
