//! Command lines that one thread of the daemon has read. The processes are those that read SQL, and an
//! agent's share of them is one for both.
//!
//! Does not belong here: how a line is read, which is not this crate's.

use std::{mem::size_of, sync::Arc, time::Instant};

use chaperone_model::{ShellCommand, ShellReading, ShellRedirect, ShellWord};
use quick_cache::{Weighter, unsync};

use super::{Asked, Lost, Readers, count};
use crate::cache::STRUCK_FOR;

/// The longest line that is read: the longest word that Linux hands to a program (`MAX_ARG_STRLEN`).
const LINE_MOST: usize = 128 << 10;
/// Longer ones are seldom sent again.
const KEPT_MOST: usize = 16 << 10;
/// What an entry takes beside its line and its reading.
const OVERHEAD: usize = 128;
/// For the size of the table: what a line and its reading take, as a rule.
const USUAL: usize = 1 << 10;

/// Readings by lines. Bounded by bytes; a line is found by all of its bytes.
pub(super) struct Kept(unsync::Cache<Box<[u8]>, Entry, Weight>);

struct Entry {
    reading: Arc<ShellReading>,
    /// Of a line that took a process along: the machine may have been at fault.
    until: Option<Instant>,
    weight: u64,
}

#[derive(Clone)]
struct Weight;

impl Weighter<Box<[u8]>, Entry> for Weight {
    fn weight(&self, _: &Box<[u8]>, entry: &Entry) -> u64 {
        entry.weight
    }
}

impl Kept {
    pub(super) fn new(bytes: usize) -> Self {
        Self(unsync::Cache::with_weighter(bytes / USUAL, bytes as u64, Weight))
    }

    fn get(&self, line: &[u8]) -> Option<Arc<ShellReading>> {
        let entry = self.0.get(line)?;
        match entry.until {
            Some(until) if until <= Instant::now() => None,
            _ => Some(entry.reading.clone()),
        }
    }

    fn keep(&mut self, line: &[u8], reading: &Arc<ShellReading>, until: Option<Instant>) {
        if line.len() <= KEPT_MOST || until.is_some() {
            let weight = (OVERHEAD + line.len() + size(reading)) as u64;
            self.0.insert(line.into(), Entry { reading: reading.clone(), until, weight });
        }
    }
}

/// About how many bytes a reading takes.
fn size(reading: &ShellReading) -> usize {
    let word = |word: &ShellWord| size_of::<ShellWord>() + word.text.capacity();
    let command = |command: &ShellCommand| {
        size_of::<ShellCommand>()
            + command.program.capacity()
            + command.written.capacity()
            + command.reason.capacity()
            + command.arguments.iter().map(word).sum::<usize>()
            + command
                .redirects
                .iter()
                .map(|one| size_of::<ShellRedirect>() + one.path.text.capacity())
                .sum::<usize>()
            + command
                .assignments
                .iter()
                .map(|(name, value)| size_of::<String>() + name.capacity() + word(value))
                .sum::<usize>()
            + command.context.iter().map(|one| size_of::<String>() + one.capacity()).sum::<usize>()
    };
    size_of::<ShellReading>()
        + reading.reason.capacity()
        + reading.commands.iter().map(command).sum::<usize>()
}

impl Readers {
    /// Reads a command line for an agent. What cannot be read is a reading that says so.
    pub async fn line(&self, line: &[u8], whose: &str) -> Arc<ShellReading> {
        let known = |readers: &Self| {
            let found = readers.lines.borrow().get(line)?;
            count(&readers.stats.cache_hits);
            Some(found)
        };
        if let Some(reading) = known(self) {
            return reading;
        }
        if line.len() > LINE_MOST {
            let why = format!("it is longer than {} KiB", LINE_MOST >> 10);
            return Arc::new(ShellReading::unreadable(why));
        }
        let share = self.share(whose);
        let Some(_turn) = self.turn(&share).await else {
            return Arc::new(ShellReading::unreadable(
                "too many commands of its agent wait to be read",
            ));
        };
        // Others may have waited with the same line.
        if let Some(reading) = known(self) {
            return reading;
        }
        match self.ask::<ShellReading>(Asked::Line, line).await {
            Ok(reading) => {
                let reading = Arc::new(reading);
                self.lines.borrow_mut().keep(line, &reading, None);
                reading
            }
            Err(Lost::Struck(how)) => {
                let why = how.of_lines();
                tracing::warn!(agent = whose, bytes = line.len(), "a line is not read: {why}");
                let reading = Arc::new(ShellReading::unreadable(why));
                let until = Instant::now() + STRUCK_FOR;
                self.lines.borrow_mut().keep(line, &reading, Some(until));
                reading
            }
            Err(Lost::Unasked(why)) => Arc::new(ShellReading::unreadable(why)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p8_lines_take_no_more_than_their_bytes() {
        let mut kept = Kept::new(1 << 20);
        let reading = Arc::new(ShellReading::unreadable("x"));
        for number in 0..20_000 {
            kept.keep(format!("echo {number}").as_bytes(), &reading, None);
        }
        assert!(kept.0.weight() <= 1 << 20 && kept.0.len() > 1000, "{}", kept.0.len());
        kept.keep(b"ls", &reading, None);
        assert_eq!(kept.get(b"ls"), Some(reading.clone()));
        for other in [&b"ls "[..], b"l", b"", b"ls\xff"] {
            assert_eq!(kept.get(other), None);
        }
        // One that took a process along is known however long it is, for a while.
        let long = vec![b'x'; LINE_MOST];
        kept.keep(&long, &reading, None);
        assert_eq!(kept.get(&long), None);
        kept.keep(&long, &reading, Some(Instant::now() + STRUCK_FOR));
        assert_eq!(kept.get(&long), Some(reading.clone()));
        kept.keep(&long, &reading, Some(Instant::now()));
        assert_eq!(kept.get(&long), None);
    }
}
