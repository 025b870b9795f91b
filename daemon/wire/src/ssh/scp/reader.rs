//! The state of one channel that speaks scp.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    line::{Line, Violation, answer, line},
    operation::{Direction, Event, Found, Operation, Outcome, Refused, Step, Times, Word},
};
use crate::ssh::{Cover, Unhashed, content::Hashing, cover::Covering};

/// See the module's comment.
#[derive(Debug)]
pub struct Scp {
    direction: Direction,
    state: State,
    /// Names of the folders that were entered.
    folders: Vec<Vec<u8>>,
    /// For each, whether its times will be set when it ends.
    timed: Vec<bool>,
    times: Option<Times>,
    /// The target may report an error that nobody asked about any more.
    doubtful: bool,
    commands: u64,
    /// What the contents of files from the target are masked by.
    pub(super) by: Option<Arc<dyn Cover>>,
    covering: Covering,
    masked: BTreeMap<u16, u64>,
}

/// What comes next.
#[derive(Debug)]
enum State {
    /// The sink says that it is ready, or answers a line that is no command. `doubt`: behind that
    /// answer may come an error that nobody asked about.
    Answering { doubt: bool },
    /// The source sends a line.
    Line,
    /// A command waits for a decision.
    Deciding { number: u64, operation: Operation },
    /// The sink answers a file's or a folder's line.
    Announced { number: u64, operation: Operation },
    /// The source sends a file's content.
    Content { number: u64, left: u64, hash: Hashing },
    /// The source says whether that was all right.
    Confirming { number: u64, hash: Hashing },
    /// The sink says whether it was.
    Confirmed { number: u64, hash: Hashing, source: Word },
    /// One side gave up.
    Over,
}

/// Folders in folders.
const DEPTH: usize = 256;

impl Scp {
    /// A channel on which the target has begun to run `scp`.
    pub fn new(direction: Direction, by: Option<Arc<dyn Cover>>) -> Self {
        Self {
            direction,
            state: State::Answering { doubt: false },
            folders: Vec::new(),
            timed: Vec::new(),
            times: None,
            doubtful: false,
            commands: 0,
            by: by.filter(|_| direction == Direction::FromTarget),
            covering: Covering::new(),
            masked: BTreeMap::new(),
        }
    }

    /// Says what to do with the bytes at the front of what the agent's side sent, of which none has
    /// been passed yet. What a step says has been done when this is called again.
    pub fn client(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<Step, Violation> {
        match self.direction {
            Direction::ToTarget => self.source(bytes, events),
            Direction::FromTarget => self.sink(bytes, events),
        }
    }

    /// The same for what the target's side sent.
    pub fn server(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<Step, Violation> {
        match self.direction {
            Direction::ToTarget => self.sink(bytes, events),
            Direction::FromTarget => self.source(bytes, events),
        }
    }

    /// The command that waits was allowed: its bytes go on.
    pub fn allowed(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Over) {
            State::Deciding { number, operation } => State::Announced { number, operation },
            other => other,
        };
    }

    /// The command that waits was refused: its bytes do not go on.
    pub fn refused(&mut self, message: &str) -> Refused {
        if !matches!(self.state, State::Deciding { .. }) {
            return Refused::default();
        }
        self.state = State::Line;
        self.times = None;
        let words: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let mut end = words.len().min(1000);
        while !words.is_char_boundary(end) {
            end -= 1;
        }
        let line = [b"\x01", words.as_bytes().get(..end).unwrap_or_default(), b"\n"].concat();
        match self.direction {
            // The source takes it for the sink's answer.
            Direction::ToTarget => Refused { to_client: line, to_server: Vec::new() },
            // The sink shows what a source says so and waits for the next line; the source goes on
            // with that.
            Direction::FromTarget => Refused { to_client: line.clone(), to_server: line },
        }
    }

    /// The channel ended: what is known of the command that was not done.
    pub fn finish(&mut self) -> Option<Event> {
        let masked = self.take_masked();
        let (command, outcome) = match std::mem::replace(&mut self.state, State::Over) {
            State::Announced { number, .. } => (number, Outcome::Unanswered),
            State::Content { number, mut hash, .. } => {
                hash.spoil(Unhashed::Unfinished);
                (number, Outcome::Sent { content: hash.finish(), masked, source: None, sink: None })
            }
            State::Confirming { number, hash } => {
                (number, Outcome::Sent { content: hash.finish(), masked, source: None, sink: None })
            }
            State::Confirmed { number, hash, source } => {
                let content = hash.finish();
                (number, Outcome::Sent { content, masked, source: Some(source), sink: None })
            }
            _ => return None,
        };
        Some(Event::Done { command, outcome })
    }

    fn take_masked(&mut self) -> Vec<(u16, u64)> {
        std::mem::take(&mut self.masked).into_iter().collect()
    }

    /// Bytes of the side that sends files.
    fn source(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<Step, Violation> {
        if bytes.is_empty() {
            return Ok(Step::Need(1));
        }
        match &mut self.state {
            State::Line => self.line(bytes, events),
            State::Content { number, left, hash } => {
                let now = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                let content = bytes.get(..now).unwrap_or_default();
                *left -= now as u64;
                let last = *left == 0;
                let step = match &self.by {
                    None => {
                        hash.feed(content);
                        Step::Pass(now)
                    }
                    Some(by) => {
                        let (goes, found) = self.covering.push(by.as_ref(), content, last);
                        hash.feed(&goes);
                        for (way, count) in found {
                            *self.masked.entry(way).or_default() += count;
                        }
                        Step::Instead(now, goes)
                    }
                };
                if last {
                    self.covering = Covering::new();
                    self.state = State::Confirming { number: *number, hash: hash.clone() };
                }
                Ok(step)
            }
            State::Confirming { number, hash } => {
                let Some((word, length)) = answer(bytes)? else {
                    return Ok(Step::Need(bytes.len() + 1));
                };
                let (number, hash) = (*number, hash.clone());
                self.state = match Word::from(word) {
                    source @ Word::GaveUp(_) => {
                        let (content, source) = (hash.finish(), Some(source));
                        let masked = self.take_masked();
                        let outcome = Outcome::Sent { content, masked, source, sink: None };
                        events.push(Event::Done { command: number, outcome });
                        State::Over
                    }
                    source => State::Confirmed { number, hash, source },
                };
                Ok(Step::Pass(length))
            }
            State::Over => Err(Violation::Line("one side has given up before it")),
            State::Answering { .. }
            | State::Deciding { .. }
            | State::Announced { .. }
            | State::Confirmed { .. } => Ok(Step::Wait),
        }
    }

    fn line(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<Step, Violation> {
        let Some((line, length)) = line(bytes)? else {
            return Ok(Step::Need(bytes.len() + 1));
        };
        let (found, mode, name) = match line {
            Line::File { mode, size, name } => (Found::File(size), mode, name),
            Line::Folder { mode, name } => (Found::Folder, mode, name),
            Line::Times { modified, accessed } => {
                self.times = Some(Times { modified, accessed });
                self.state = State::Answering { doubt: false };
                return Ok(Step::Pass(length));
            }
            Line::End => {
                if self.folders.pop().is_none() {
                    return Err(Violation::Line("a folder ends that never began"));
                }
                // Setting the folder's times comes behind the answer, and may fail.
                self.state = State::Answering { doubt: self.timed.pop().unwrap_or(false) };
                return Ok(Step::Pass(length));
            }
            // These have no answer.
            Line::Warning(words) => {
                events.push(Event::Said(Word::Failed(words.to_vec())));
                return Ok(Step::Pass(length));
            }
            Line::Fatal(words) => {
                events.push(Event::Said(Word::GaveUp(words.to_vec())));
                self.state = State::Over;
                return Ok(Step::Pass(length));
            }
        };
        if found == Found::Folder && self.folders.len() >= DEPTH {
            return Err(Violation::Line("there are more than 256 folders in one another"));
        }
        let mut path = self.folders.join(&b'/');
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend(name);
        let (direction, times) = (self.direction, self.times.take());
        let operation = Operation { direction, path, found, mode, times };
        let number = self.commands;
        self.commands += 1;
        self.state = State::Deciding { number, operation: operation.clone() };
        Ok(Step::Command { number, length, operation })
    }

    /// Bytes of the side that takes files.
    fn sink(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<Step, Violation> {
        let due = matches!(
            self.state,
            State::Answering { .. } | State::Announced { .. } | State::Confirmed { .. }
        );
        if !due && self.direction == Direction::FromTarget {
            // The target takes it for the answer to what it says next, and so it is read then. What
            // came in the middle of a content waits for its end.
            return Ok(if bytes.is_empty() { Step::Need(1) } else { Step::Wait });
        }
        let Some((word, length)) = answer(bytes)? else {
            return Ok(Step::Need(bytes.len() + 1));
        };
        let word = Word::from(word);
        if !due {
            // The agent would take it for the answer to its next line; the target is past that.
            return match word {
                Word::GaveUp(_) => {
                    events.extend(self.finish());
                    Ok(Step::Pass(length))
                }
                Word::Failed(_) if matches!(self.state, State::Over) => Ok(Step::Pass(length)),
                _ => Err(Violation::Ambiguous),
            };
        }
        if self.ambiguous(&word) {
            return Err(Violation::Ambiguous);
        }
        self.state = match std::mem::replace(&mut self.state, State::Over) {
            State::Announced { number, operation } => {
                self.announced(number, &operation, word, events)
            }
            State::Confirmed { number, hash, source } => {
                let over = matches!(word, Word::GaveUp(_));
                self.doubtful |= word != Word::Fine;
                let (content, source, sink) = (hash.finish(), Some(source), Some(word));
                let masked = self.take_masked();
                let outcome = Outcome::Sent { content, masked, source, sink };
                events.push(Event::Done { command: number, outcome });
                if over { State::Over } else { State::Line }
            }
            _ if matches!(word, Word::GaveUp(_)) => State::Over,
            State::Answering { doubt } => {
                self.doubtful |= doubt;
                State::Line
            }
            _ => State::Line,
        };
        Ok(Step::Pass(length))
    }

    /// An error that comes where an answer is due may be one that was late: then the target's real
    /// answer comes behind it, and it goes on where the agent does not.
    fn ambiguous(&mut self, word: &Word) -> bool {
        if self.direction == Direction::FromTarget {
            return false;
        }
        match word {
            Word::Fine => {
                self.doubtful = false;
                false
            }
            Word::Failed(_) => self.doubtful,
            Word::GaveUp(_) => false,
        }
    }

    fn announced(
        &mut self,
        number: u64,
        operation: &Operation,
        word: Word,
        events: &mut Vec<Event>,
    ) -> State {
        match (word, operation.found) {
            (Word::Fine, Found::File(0)) => State::Confirming { number, hash: Hashing::new() },
            (Word::Fine, Found::File(left)) => {
                State::Content { number, left, hash: Hashing::new() }
            }
            (Word::Fine, Found::Folder) => {
                self.timed.push(operation.times.is_some());
                let name = operation.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
                self.folders.push(name.to_vec());
                events.push(Event::Done { command: number, outcome: Outcome::Entered });
                State::Line
            }
            (word, _) => {
                let over = matches!(word, Word::GaveUp(_));
                events.push(Event::Done { command: number, outcome: Outcome::Rejected(word) });
                if over { State::Over } else { State::Line }
            }
        }
    }
}
