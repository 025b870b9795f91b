//! The server's side: answers are matched to what was asked, and pass as they are.

use super::{
    Body, EOF, Event, HANDLE, HEADER, Header, Outcome, Owed, Phase, Reply, ServerRest, ServerStep,
    Sftp, Status, Then, Violation, answer::kind, header,
};

/// Longest status: it is read as a whole.
const STATUS: usize = 64 << 10;
/// Longest other answer but `DATA`, which is as long as what was asked for.
const ANSWER: usize = 1 << 20;
/// Bytes before the data of `DATA`, and before the names of `NAME`: the number, and a length or count.
const FRONT: usize = HEADER + 4 + 4;

/// What of a packet is looked at passes at once, what is left of it as it comes.
struct Opened {
    looked_at: usize,
    rest: ServerRest,
}

impl Sftp {
    /// Says what to do with the bytes at the front of what the server sent, of which none has been
    /// passed yet, and what is to be sent between. What a step says has been done when this is
    /// called again. Call it with nothing where there may be answers of our own to send.
    pub fn server(
        &mut self,
        bytes: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<ServerStep, Violation> {
        let mut pass = 0;
        loop {
            let rest = bytes.get(pass..).unwrap_or_default();
            let need = |need| Ok(ServerStep { pass, need, ..ServerStep::default() });
            match self.server_rest {
                ServerRest::None => {}
                _ if rest.is_empty() => return need(1),
                ServerRest::Plain(left) => {
                    let now = rest.len().min(left);
                    pass += now;
                    self.server_rest = plain(left - now);
                    continue;
                }
                ServerRest::Data { file, left } => {
                    let now = rest.len().min(left);
                    self.files.reading(file, rest.get(..now).unwrap_or_default());
                    pass += now;
                    self.server_rest = match left - now {
                        0 => {
                            self.files.was_read(file, events);
                            ServerRest::None
                        }
                        left => ServerRest::Data { file, left },
                    };
                    continue;
                }
            }
            if !self.insert.is_empty() {
                let insert = std::mem::take(&mut self.insert);
                return Ok(ServerStep { pass, insert, ..ServerStep::default() });
            }
            let Some(head) = header(rest)? else {
                return need(HEADER);
            };
            if let Some(covered) = self.of_covered(head, rest)? {
                // What passes goes first.
                return match covered {
                    _ if pass > 0 => need(0),
                    Err(more) => need(more),
                    Ok(id) => self.covered_answer(id, head, rest, events),
                };
            }
            match self.answer(head, rest, events)? {
                Ok(Opened { looked_at, rest }) => {
                    pass += looked_at;
                    self.server_rest = rest;
                }
                Err(more) => return need(more),
            }
        }
    }

    /// Whether a packet is an answer to a read whose data are masked: its number, where it is whole, and
    /// else how many bytes it takes to say so.
    fn of_covered(
        &self,
        head: Header,
        bytes: &[u8],
    ) -> Result<Option<Result<u32, usize>>, Violation> {
        if !self.covered.is_on() || !matches!(head.kind, kind::DATA | kind::STATUS) {
            return Ok(None);
        }
        if bytes.len() < HEADER + 4 {
            return Ok(Some(Err(HEADER + 4)));
        }
        let id = Body::of(bytes).u32()?;
        let Some(asked) = self.covered.asked(id) else { return Ok(None) };
        let most = match head.kind {
            kind::STATUS => STATUS,
            _ => FRONT.saturating_add(usize::try_from(asked).unwrap_or(usize::MAX)),
        };
        let whole = head.at_most(most)?.length;
        Ok(Some(if bytes.len() < whole { Err(whole) } else { Ok(id) }))
    }

    /// Such an answer is taken, and the server asked on or the client answered.
    fn covered_answer(
        &mut self,
        id: u32,
        head: Header,
        bytes: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<ServerStep, Violation> {
        let packet = bytes.get(..head.length).unwrap_or_default();
        let mut body = Body::of(packet);
        body.u32()?;
        let Some(Owed::Read { file, .. }) = self.owed.get(&id).copied() else {
            return Err(Violation::Unasked(id));
        };
        let then = if head.kind == kind::DATA {
            let data = body.string()?;
            body.end()?;
            self.covered.data(id, data)
        } else {
            match Status::read(body)?.code {
                EOF => self.covered.ended(id),
                _ => None,
            }
        };
        let mut step = ServerStep { discard: head.length, ..ServerStep::default() };
        match then {
            Some(Then::Ask(ask)) => step.ask = ask,
            Some(Then::Answer { packet, offset, data, found }) => {
                self.owed.remove(&id);
                if !data.is_empty() {
                    self.files.reads(file, offset);
                    self.files.reading(file, &data);
                    self.files.masked(file, &found);
                }
                self.files.was_read(file, events);
                step.insert = packet;
            }
            // It failed.
            None => {
                self.covered.failed(id);
                self.owed.remove(&id);
                self.files.was_read(file, events);
                step.insert = packet.to_vec();
            }
        }
        Ok(step)
    }

    /// Looks at a packet; the inner error says how many bytes it takes to do so.
    fn answer(
        &mut self,
        head: Header,
        bytes: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<Result<Opened, usize>, Violation> {
        if head.kind == kind::VERSION {
            return self.version(head, bytes);
        }
        if self.phase != Phase::Ready {
            return Err(Violation::Unexpected { kind: head.kind, place: "before VERSION" });
        }
        // Bytes that must be there to look at it.
        let front = match head.kind {
            kind::STATUS => head.at_most(STATUS)?.length,
            kind::HANDLE => head.at_most(FRONT + HANDLE)?.length,
            kind::DATA => head.at_least(FRONT)?.length.min(FRONT),
            kind::NAME => head.at_most(ANSWER)?.length.min(FRONT),
            kind::ATTRS | kind::EXTENDED_REPLY => {
                head.at_most(ANSWER)?.at_least(HEADER + 4)?;
                HEADER + 4
            }
            kind => return Err(Violation::Unexpected { kind, place: "in version 3" }),
        };
        let Some(front) = bytes.get(..front) else {
            return Ok(Err(front));
        };
        let mut body = Body::of(front);
        let id = body.u32()?;
        // It stays owed until all was found to be right: an error ends the channel, and what was
        // not answered is told then.
        let owed = *self.owed.get(&id).ok_or(Violation::Unasked(id))?;
        let unfit =
            Violation::Unexpected { kind: head.kind, place: "as the answer to that request" };
        let mut opened = Opened { looked_at: front.len(), rest: plain(head.length - front.len()) };
        match (head.kind, owed) {
            (kind::STATUS, owed) => {
                let status = Status::read(body)?;
                self.owed.remove(&id);
                self.status(owed, status, events);
            }
            (kind::HANDLE, Owed::Open(command)) => {
                let handle = body.string()?;
                body.end()?;
                self.files.opened(command, handle)?;
            }
            (kind::DATA, Owed::Read { file, offset, length }) => {
                let sent = body.u32()?;
                if sent > length {
                    return Err(body.malformed("it holds more than was asked for"));
                }
                let left = usize::try_from(sent).unwrap_or(usize::MAX);
                head.exactly(FRONT.saturating_add(left))?;
                self.files.reads(file, offset);
                if left == 0 {
                    self.files.was_read(file, events);
                    opened.rest = ServerRest::None;
                } else {
                    opened.rest = ServerRest::Data { file, left };
                }
            }
            (kind::NAME, Owed::List(file)) => {
                let entries = body.u32()?;
                self.files.was_listed(file, entries, events);
            }
            (kind::NAME, Owed::Command(command, Reply::Names | Reply::Any))
            | (kind::EXTENDED_REPLY | kind::ATTRS, Owed::Command(command, Reply::Any)) => {
                events.push(Event::Done { command, outcome: Outcome::Answered });
            }
            (kind::NAME, Owed::Look(Reply::Names))
            | (kind::ATTRS, Owed::Look(Reply::Attributes))
            | (kind::EXTENDED_REPLY, Owed::Look(Reply::Extended)) => {}
            _ => return Err(unfit),
        }
        self.owed.remove(&id);
        Ok(Ok(opened))
    }

    fn version(&mut self, head: Header, bytes: &[u8]) -> Result<Result<Opened, usize>, Violation> {
        if self.phase != Phase::Initialised {
            let place = if self.phase == Phase::Start { "before INIT" } else { "twice" };
            return Err(Violation::Unexpected { kind: head.kind, place });
        }
        let front = HEADER + 4;
        head.at_most(ANSWER)?.at_least(front)?;
        if bytes.len() < front {
            return Ok(Err(front));
        }
        match Body::of(bytes).u32()? {
            3 => self.phase = Phase::Ready,
            other => return Err(Violation::Version(other)),
        }
        Ok(Ok(Opened { looked_at: front, rest: plain(head.length - front) }))
    }

    fn status(&mut self, owed: Owed, status: Status, events: &mut Vec<Event>) {
        match owed {
            Owed::Open(command) => {
                self.files.failed(command);
                events.push(Event::Done { command, outcome: Outcome::Status(status) });
            }
            Owed::Command(command, _) => {
                events.push(Event::Done { command, outcome: Outcome::Status(status) });
            }
            Owed::Close(file) => self.files.closed(file, status, events),
            Owed::Read { file, .. } => self.files.was_read(file, events),
            Owed::Write { file, length } => self.files.was_written(file, length, status, events),
            Owed::List(file) => self.files.was_listed(file, 0, events),
            Owed::Look(_) => {}
        }
    }
}

fn plain(left: usize) -> ServerRest {
    if left == 0 { ServerRest::None } else { ServerRest::Plain(left) }
}
