//! The state of one session: what the client sent, what the server owes, what passed.
//!
//! Bytes of both sides are shown to it in order; it says how many may go on, which of them are a
//! command that must be decided and recorded first, and what came of each command.

use std::{collections::VecDeque, rc::Rc, sync::Arc, time::Duration};

use chaperone_model::{Command, CommandKind, CommandStatus, Outcome, Reading, Seq, Timestamp};

use super::{
    budget::Budget,
    expect::{Described, Event, Expect, Refused, Running},
    frame::{HEADER, Header, Tag, Violation, header},
    frontend::{self, Parse},
    masking::{Counts, Masking, Masks, Screens, said},
    reply::{Refusal, failing_parse, failing_query},
    response::{Capture, Columns},
    statements::{Asking, Names, Portal, Prepared},
};
use batch::{Batches, Ran};
use texts::TextRules;

mod batch;
mod client;
mod copy;
mod extended;
mod server;
mod settle;
mod texts;

/// Sizes, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of a client's message that must be seen whole.
    pub message: usize,
    /// Of a response that is kept.
    pub response: usize,
    /// Of a command's parameters that are kept.
    pub parameters: usize,
}

/// Who proves to the server who the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningOn {
    /// The client: what it and the server say to each other passes.
    Relayed,
    /// The daemon has done it: the server's next message is `AuthenticationOk`.
    Held,
}

/// What a session may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Who signs on.
    pub sign_on: SigningOn,
    /// Whether the connection may be one for replication.
    pub replication: bool,
}

/// The time, by both clocks: this crate reads none.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For the record.
    pub wall: Timestamp,
    /// Since any fixed moment; for durations.
    pub monotonic: Duration,
}

/// What to do with the client's bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum ClientStep {
    /// This many bytes are needed at the front before anything can be said.
    Need(usize),
    /// Nothing can be said before the server has answered more.
    Wait,
    /// This many bytes may go on, after all before them.
    Pass(usize),
    /// This many bytes are to be thrown away: they are the rest of a refused message.
    Discard(usize),
    /// This many bytes are a command. It must be decided: [`Conversation::allowed`] or
    /// [`Conversation::refused`] comes next. Where there is an objection it must be refused.
    Command {
        /// Bytes at the front.
        length: usize,
        /// What they ask for.
        command: Command,
        /// Why it cannot be allowed whatever policy says.
        objection: Option<Refusal>,
    },
    /// This many bytes may go on, and the client says good-bye with them.
    Terminate(usize),
    /// The sign-on cannot succeed: the session ends with this reason.
    Refuse(Refusal),
}

/// What to do with the server's bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct ServerStep {
    /// This many bytes may go on to the client.
    pub pass: usize,
    /// The message behind them is to be replaced: its length, and what by.
    pub replace: Option<(usize, Vec<u8>)>,
    /// Where nothing is to be replaced: so many bytes are needed behind those that pass.
    pub need: usize,
}

/// See the module's comment.
#[derive(Debug)]
pub struct Conversation {
    limits: Limits,
    rules: Rules,
    phase: Phase,
    text: TextRules,
    expect: VecDeque<Expect>,
    batches: Batches,
    /// The server reported an error and passes over everything up to the next `Sync`.
    skipping: bool,
    copy: CopyIn,
    /// The command that waits for a decision.
    pending: Option<Pending>,
    statements: Names<Prepared>,
    portals: Names<Portal>,
    /// Of the last prepared statement.
    number: u64,
    /// For the parameters that `portals` hold.
    parameters: Budget,
    /// For the types and columns that `statements` hold.
    descriptions: Budget,
    client_rest: Rest,
    server_rest: usize,
    /// The last row description as sent, and as read: the next is often the same.
    description: Option<(Vec<u8>, Rc<Columns>)>,
    /// An outcome that waits for the transaction's state.
    held: Option<Outcome>,
    /// What the server last said of it.
    in_transaction: bool,
    /// A message of the extended protocol was refused since the last `Sync`.
    doomed: bool,
    names: Named,
    /// A named statement was prepared of which each `Bind` must be decided.
    asked: bool,
    /// What masks the results of what is run by a name that is not known.
    blind: Option<Rc<dyn Masks>>,
    /// What is looked for in all that comes.
    screens: Option<Rc<dyn Screens>>,
    /// What the server says in its errors and notices may hold masked values.
    hides: bool,
}

/// Names that were ever taken by the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Of prepared statements.
    pub statements: bool,
    /// Of portals.
    pub portals: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The client proves who it is. `withheld`: the server offered a channel binding, which cannot
    /// reach through two connections, and the client was not told.
    SigningOn {
        withheld: bool,
    },
    /// The server is satisfied, and tells its parameters.
    SignedOn,
    Ready,
}

/// What is to happen with the rest of a client's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Pass(usize),
    Discard(usize),
}

/// COPY … FROM STDIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CopyIn {
    No,
    /// The server reads data.
    Reading,
    /// The client has said that it is done, and the server has not confirmed it yet.
    Done,
}

/// A command, and why it cannot be allowed, where it cannot; `None` where that cannot be said before
/// the server has answered more.
type Read = Result<Option<(Command, Option<Refusal>)>, Violation>;

#[derive(Debug)]
struct Pending {
    expect: Expect,
    /// The stand-in, should it be refused, is one of the extended protocol.
    extended: bool,
    runs: Ran,
    /// Of a `Parse`: what it prepares.
    prepared: Option<Prepared>,
    /// Of a `Bind` that must be decided: the portal that it makes.
    bound: Option<Portal>,
}

/// What is to be known of a prepared statement when it gets its parameters.
#[derive(Clone, Debug)]
pub struct Asks {
    /// Its text, for whoever decides.
    pub text: Arc<str>,
    /// Tells its text and its parameters' types from others.
    pub digest: [u8; 32],
}

/// What is to be remembered of a command that is allowed.
#[derive(Debug, Default)]
pub struct Allowed {
    /// What was read out of it.
    pub reading: Option<Arc<Reading>>,
    /// Of a `Prepare`: each `Bind` of it is a command of its own and must be decided.
    pub asks: Option<Asks>,
    /// Of a `Bind`: the hold whose approval covers what is run of it.
    pub approval: Option<Seq>,
    /// What masks its results. Of an `Execute`, `None` leaves it at what masks those of its
    /// statement.
    pub masks: Option<Rc<dyn Masks>>,
}

/// Answers that may be due at a time; beyond that the client waits.
const AHEAD: usize = 4096;
/// Prepared statements of a session.
const STATEMENTS: usize = 10_000;
/// Portals of a session.
const PORTALS: usize = 1000;
/// Bytes of parameters, and of descriptions, that a session keeps; what does not fit is not
/// recorded.
const HELD: usize = 2 << 20;
/// Types of parameters that are kept with a statement; binary values of others are recorded in
/// hexadecimal.
const TYPES: usize = 1024;
/// Columns of which it is kept in which format they were asked for: `MaxTupleAttributeNumber`
/// (`src/include/access/htup_details.h`).
const COLUMNS: usize = 1664;
/// Bytes of a long message that are looked at.
const GLIMPSE: usize = 8 << 10;
/// Longest server message that is looked at as a whole.
const WHOLE: usize = 1 << 20;
/// Bytes of notices that are kept with a command.
const NOTICES: usize = 8 << 10;

impl Conversation {
    /// A conversation in which the start-up message has been sent.
    pub fn new(limits: Limits, rules: Rules) -> Self {
        Self {
            limits,
            rules,
            phase: match rules.sign_on {
                SigningOn::Relayed => Phase::SigningOn { withheld: false },
                SigningOn::Held => Phase::SignedOn,
            },
            text: TextRules::default(),
            expect: VecDeque::new(),
            batches: Batches::default(),
            skipping: false,
            copy: CopyIn::No,
            pending: None,
            statements: Names::default(),
            portals: Names::default(),
            number: 0,
            parameters: Budget::new(HELD),
            descriptions: Budget::new(HELD),
            client_rest: Rest::Pass(0),
            server_rest: 0,
            description: None,
            held: None,
            in_transaction: false,
            doomed: false,
            names: Named::default(),
            asked: false,
            blind: None,
            screens: None,
            hides: false,
        }
    }

    /// What is looked for in all that comes from the server.
    pub fn set_screens(&mut self, screens: Option<Rc<dyn Screens>>) {
        self.screens = screens;
    }

    /// What masks the results of statements that were run by names that are not known.
    pub fn set_blind(&mut self, masks: Option<Rc<dyn Masks>>) {
        self.blind = masks;
    }

    /// Whether the server owes nothing and no message is half passed.
    pub fn is_idle(&self) -> bool {
        self.is_answered() && self.at_boundary()
    }

    /// Whether the server has answered all that it is going to, and passes over nothing.
    fn is_answered(&self) -> bool {
        !self.skipping && self.expect.iter().all(Expect::may_stay_unanswered)
    }

    /// Which names the client took by the protocol, which SQL could use as well.
    pub fn names(&self) -> Named {
        self.names
    }

    /// Whether the server passes over all that is sent up to the next `Sync`: a message before it in
    /// its batch was refused, and its stand-in fails.
    pub fn is_doomed(&self) -> bool {
        self.doomed
    }

    /// Whether a transaction is open, as far as the server has said.
    pub fn in_transaction(&self) -> bool {
        self.in_transaction
    }

    /// Rows that have come of the command that the server works at.
    pub fn rows(&self) -> u64 {
        match self.expect.front() {
            Some(Expect::Query(running) | Expect::Execute(running)) => running.rows(),
            _ => 0,
        }
    }

    /// Whether nothing would be lost if the session ended now.
    pub fn is_at_rest(&self) -> bool {
        self.is_idle() && !self.in_transaction
    }

    /// Whether the server has accepted the sign-on.
    pub fn is_signed_on(&self) -> bool {
        self.phase == Phase::Ready
    }

    /// Whether what was passed to the client so far ends with a whole message.
    pub fn at_boundary(&self) -> bool {
        self.server_rest == 0
    }

    /// The pending command was allowed; its bytes may go on once it is recorded.
    pub fn allowed(&mut self, allowed: Allowed) {
        let Some(Pending { mut expect, extended, runs, mut prepared, bound }) = self.pending.take()
        else {
            return;
        };
        let answered = self.is_answered();
        self.batches.run(runs);
        match &mut expect {
            Expect::Decided(_, name) => {
                if let Some(mut portal) = bound {
                    portal.approval = allowed.approval;
                    self.bound(name, portal);
                }
            }
            Expect::Parse(_, name) => {
                self.names.statements |= !name.is_empty();
                if let Some(prepared) = &mut prepared {
                    self.asked |= allowed.asks.is_some() && !name.is_empty();
                    prepared.reading = allowed.reading;
                    prepared.masks = allowed.masks;
                    prepared.asks = allowed.asks.map(|asks| {
                        let share = self.descriptions.take(asks.text.len());
                        let text = share.is_some().then_some(asks.text);
                        Asking { text, digest: asks.digest, _share: share }
                    });
                }
                self.statements.change(name, self.batches.current(), prepared);
            }
            Expect::Query(running) | Expect::Execute(running) => {
                match (&mut running.masking, allowed.masks) {
                    (Some(masking), Some(masks)) => masking.replace(masks),
                    (none @ None, masks @ Some(_)) => *none = Masking::new(masks, None),
                    (_, None) => {}
                }
                self.hides |= running.masking.as_ref().is_some_and(|m| m.hides_messages());
                if running.renames {
                    self.batches.rename();
                }
                if !extended {
                    running.assured = self.batches.query(answered);
                }
            }
            _ => {}
        }
        if extended {
            self.batches.extended();
        }
        self.expect.push_back(expect);
    }

    /// The pending command was refused. Answers what to send in its stead, so that the server
    /// fails at that point and its state moves as with any other error.
    pub fn refused(&mut self, refusal: Refusal) -> Vec<u8> {
        let Some(Pending { extended, .. }) = self.pending.take() else {
            return Vec::new();
        };
        let answered = self.is_answered();
        // An error takes back what its transaction has set, and hides the rest of its batch.
        self.batches.run(if extended { Ran::Plain } else { Ran::Anything });
        let mut refused = Refused { seq: None, refusal, told: false, assured: false };
        if extended {
            self.doomed = true;
            self.batches.extended();
            self.expect.push_back(Expect::RefusedExecute(refused));
            failing_parse()
        } else {
            refused.assured = self.batches.query(answered);
            self.expect.push_back(Expect::RefusedQuery(refused));
            failing_query()
        }
    }

    /// The commands decided since the last call have been recorded, in order.
    pub fn recorded<S>(&mut self, seqs: S, now: Now, events: &mut Vec<Event>)
    where
        S: IntoIterator<Item = Seq, IntoIter: DoubleEndedIterator>,
    {
        // They are the last.
        let unrecorded = self.expect.iter_mut().rev().filter(|expect| expect.is_unrecorded());
        for (seq, expect) in seqs.into_iter().rev().zip(unrecorded) {
            match expect {
                Expect::Query(running)
                | Expect::Parse(running, _)
                | Expect::Decided(running, _)
                | Expect::Execute(running) => running.recorded(seq, now),
                Expect::RefusedQuery(refused) | Expect::RefusedExecute(refused) => {
                    refused.seq = Some(seq);
                }
                _ => {}
            }
        }
        self.pass_over(now, events);
    }

    /// The session is over: what was forwarded and not answered may or may not have been done.
    pub fn finish(&mut self, now: Now) -> Vec<Outcome> {
        let mut outcomes: Vec<_> = self.held.take().into_iter().collect();
        for mut expect in self.expect.drain(..) {
            outcomes.extend(match &mut expect {
                Expect::Query(running)
                | Expect::Parse(running, _)
                | Expect::Decided(running, _)
                | Expect::Execute(running)
                    if !running.ended =>
                {
                    running.outcome(CommandStatus::Unknown, None, None, now)
                }
                Expect::RefusedQuery(refused) | Expect::RefusedExecute(refused)
                    if !refused.told =>
                {
                    refused.outcome(now)
                }
                _ => None,
            });
        }
        outcomes
    }
}

fn command(kind: CommandKind, text: Option<String>, statement: Option<u64>) -> Command {
    Command { statement, ..Command::new(kind, text) }
}

pub(super) fn too_long(header: Header) -> Violation {
    let length = i64::try_from(header.length).unwrap_or(i64::MAX);
    Violation::Length { tag: Tag(header.tag), length }
}

fn unexpected(header: Header, place: &'static str) -> Violation {
    Violation::Unexpected { tag: Tag(header.tag), place }
}

#[cfg(test)]
mod tests;
