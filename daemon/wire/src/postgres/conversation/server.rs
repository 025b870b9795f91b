//! The server's side of a conversation.

use super::{
    Capture, Columns, CommandStatus, Conversation, Counts, Described, Event, Expect, GLIMPSE,
    HEADER, Header, NOTICES, Now, Phase, Rc, Running, ServerStep, TYPES, Violation, WHOLE, header,
    said, too_long, unexpected,
};
use crate::postgres::{
    backend,
    expect::ServerError,
    frame::Body,
    reply,
    statements::{Description, Types},
};

/// SASL mechanisms that bind to a TLS connection end so (RFC 5802, section 4).
const BINDING: &str = "-PLUS";

impl Conversation {
    /// Looks at the server's bytes that have not been dealt with yet; what it learns goes to
    /// `events`.
    ///
    /// # Errors
    /// A [`Violation`]: the session must end.
    pub fn server(
        &mut self,
        bytes: &[u8],
        now: Now,
        events: &mut Vec<Event>,
    ) -> Result<ServerStep, Violation> {
        let mut pass = 0;
        let need = loop {
            let rest = bytes.get(pass..).unwrap_or_default();
            if self.server_rest > 0 {
                let count = rest.len().min(self.server_rest);
                self.server_rest -= count;
                pass += count;
                if self.server_rest > 0 {
                    break 1;
                }
                continue;
            }
            let Some(header) = header(rest)? else { break HEADER };
            match self.message(header, rest, now, events)? {
                Seen::Whole => pass += header.length,
                Seen::Head => {
                    let count = rest.len().min(header.length);
                    self.server_rest = header.length - count;
                    pass += count;
                }
                Seen::Need(count) => break count,
                Seen::Replace(with) => {
                    return Ok(ServerStep { pass, replace: Some((header.length, with)), need: 0 });
                }
            }
        };
        if self.expect.is_empty() && !self.skipping {
            events.extend(self.held.take().map(Event::Outcome));
        }
        Ok(ServerStep { pass, replace: None, need })
    }

    fn message(
        &mut self,
        header: Header,
        bytes: &[u8],
        now: Now,
        events: &mut Vec<Event>,
    ) -> Result<Seen, Violation> {
        // The messages that come in numbers first.
        if matches!(header.tag, b'D' | b'd') && self.phase == Phase::Ready {
            return self.data(header, bytes);
        }
        let message = match bytes.get(..header.length) {
            Some(message) => message,
            None if header.length <= WHOLE => return Ok(Seen::Need(header.length)),
            // What is looked for may be anywhere in it.
            None if self.screens.is_some()
                && matches!(header.tag, b'E' | b'N' | b'A' | b'S' | b'V') =>
            {
                return if header.length <= LONGEST_ROW {
                    Ok(Seen::Need(header.length))
                } else {
                    Err(too_long(header))
                };
            }
            // Long texts are read from their head.
            None if matches!(header.tag, b'E' | b'N' | b'A' | b'S') => match bytes.get(..GLIMPSE) {
                Some(_) => bytes,
                None => return Ok(Seen::Need(GLIMPSE)),
            },
            // A large object's data: nothing of it is looked at.
            None if header.tag == b'V' => bytes,
            None => return Err(too_long(header)),
        };
        let seen = if message.len() < header.length { Seen::Head } else { Seen::Whole };
        match header.tag {
            b'N' if self.hides => {
                let notice = self.said(message);
                if let Seen::Head = seen {
                    return Err(too_long(header));
                }
                Ok(Seen::Replace(reply::without_values(header.tag, &notice)))
            }
            b'N' => {
                let with = self.screened(message)?;
                if let Some(Expect::Query(running) | Expect::Execute(running)) =
                    self.expect.front_mut()
                {
                    let message = with.as_deref().unwrap_or(message);
                    running.notice(&backend::error(message), NOTICES);
                }
                Ok(with.map_or(seen, Seen::Replace))
            }
            b'A' => Ok(self.screened(message)?.map_or(seen, Seen::Replace)),
            b'S' => {
                self.learn_parameter(message)?;
                Ok(self.screened(message)?.map_or(seen, Seen::Replace))
            }
            b'E' => match self.screened(message)?.filter(|_| !self.hides) {
                None => self.error(header, message, seen, now, events),
                Some(with) => Ok(match self.error(header, &with, seen, now, events)? {
                    Seen::Whole => Seen::Replace(with),
                    seen => seen,
                }),
            },
            _ if self.phase != Phase::Ready => self.sign_on(header, message, events),
            _ => self.answer(header, message, seen, now, events),
        }
    }

    /// A whole message that is no row, without what is found in it. `None`: it may pass.
    fn screened(&mut self, message: &[u8]) -> Result<Option<Vec<u8>>, Violation> {
        let Some(screens) = &self.screens else { return Ok(None) };
        let mut counts = Counts::default();
        let with = said::without(&**screens, message, &mut counts)?;
        if with.is_some() {
            self.running(|running| {
                if let Some(masking) = &mut running.masking {
                    masking.count(&counts);
                }
            });
        }
        Ok(with)
    }

    /// What an error or a notice says, as far as it may be told.
    pub(super) fn said(&self, message: &[u8]) -> ServerError {
        let mut said = backend::error(message);
        if self.hides {
            said.message = Some(reply::WITHHELD.into());
        }
        said
    }

    fn sign_on(
        &mut self,
        header: Header,
        message: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<Seen, Violation> {
        match (header.tag, self.phase) {
            (b'R', _) => return self.authentication(header, message),
            (b'K', Phase::SignedOn) => {
                events.push(Event::CancelKey(backend::cancel_key(message)?));
            }
            (b'v', _) => {}
            (b'Z', Phase::SignedOn) => {
                self.in_transaction = backend::ready(message)? != "idle";
                self.phase = Phase::Ready;
                events.push(Event::Ready);
            }
            _ => return Err(unexpected(header, "from a server during sign-on")),
        }
        Ok(Seen::Whole)
    }

    /// `Authentication…`: the conversation of client and server passes, but for a mechanism that
    /// binds it to a TLS connection which the two do not share.
    fn authentication(&mut self, header: Header, message: &[u8]) -> Result<Seen, Violation> {
        let mut body = Body::of(message);
        let request = body.u32()?;
        match (request, self.phase) {
            // Where the daemon signed on, this is what it left for the client.
            (0, _) => self.phase = Phase::SignedOn,
            (_, Phase::SignedOn | Phase::Ready) => {
                return Err(unexpected(header, "from a server that has accepted the sign-on"));
            }
            (10, Phase::SigningOn { .. }) => {
                let offered = backend::mechanisms(body)?;
                let kept = offered.iter().filter(|name| !name.ends_with(BINDING));
                let mut with = request.to_be_bytes().to_vec();
                for name in kept {
                    with.extend_from_slice(name.as_bytes());
                    with.push(0);
                }
                with.push(0);
                if with.len() + HEADER < header.length {
                    self.phase = Phase::SigningOn { withheld: true };
                    return Ok(Seen::Replace(reply::message(b'R', &with)));
                }
            }
            _ => {}
        }
        Ok(Seen::Whole)
    }

    /// `DataRow` and `CopyData`: looked into only while something is kept of them.
    fn data(&mut self, header: Header, bytes: &[u8]) -> Result<Seen, Violation> {
        if !matches!(self.expect.front(), Some(Expect::Query(_) | Expect::Execute(_))) {
            self.drop_unanswered();
        }
        let running = match self.expect.front_mut() {
            Some(Expect::Query(running) | Expect::Execute(running)) if running.seq.is_some() => {
                running
            }
            _ => return Err(unexpected(header, "from a server that was not asked for rows")),
        };
        if running.masking.as_ref().is_some_and(|masking| !masking.copy_passes())
            && header.tag == b'd'
        {
            return copied(running, header, bytes);
        }
        if running.masking.as_ref().is_some_and(|masking| masking.passes() != Some(true))
            && header.tag == b'D'
        {
            return masked(running, header, bytes);
        }
        let capture = running.capture.as_mut().filter(|capture| capture.wants(header.length));
        let seen = match (capture, bytes.get(..header.length)) {
            (Some(_), None) => return Ok(Seen::Need(header.length)),
            (Some(capture), Some(message)) if header.tag == b'D' => {
                capture.row(message)?;
                Seen::Whole
            }
            (Some(capture), Some(message)) => {
                capture.copy(message);
                Seen::Whole
            }
            (None, whole) => {
                if let Some(capture) = &mut running.capture {
                    capture.truncate();
                }
                if whole.is_some() { Seen::Whole } else { Seen::Head }
            }
        };
        running.count(header.length);
        if header.tag == b'D' {
            running.count_row();
        }
        Ok(seen)
    }

    fn answer(
        &mut self,
        header: Header,
        message: &[u8],
        seen: Seen,
        now: Now,
        events: &mut Vec<Event>,
    ) -> Result<Seen, Violation> {
        if header.tag == b'Z' {
            return self.ready_for_query(header, message, events);
        }
        self.drop_unanswered();
        if self.expect.front().is_some_and(Expect::is_unrecorded) {
            return Err(unexpected(header, "from a server that was not asked yet"));
        }
        match (header.tag, self.expect.front_mut()) {
            (b'T', Some(Expect::Query(running))) => {
                running.count(header.length);
                let columns = self.columns(message)?;
                self.running(|running| {
                    running.ended = false;
                    if let Some(masking) = &mut running.masking {
                        masking.set_columns(columns.clone());
                    }
                    if let Some(capture) = &mut running.capture {
                        capture.set_columns(columns);
                    }
                });
            }
            (b'T', Some(Expect::Describe(_))) => {
                let columns = self.columns(message)?;
                self.described(columns);
            }
            (b't', Some(Expect::Describe(Described::Statement(name)))) => {
                let types = backend::parameter_types(message)?;
                if let Some(prepared) = self.statements.standing(name) {
                    let few = types.get(..TYPES).unwrap_or(&types).to_vec();
                    prepared.types = Types::new(few, |bytes| self.descriptions.take(bytes));
                }
            }
            (b'C', Some(Expect::Query(running))) => {
                running.count(header.length);
                let (tag, renames) = (backend::tag(message)?, running.renames);
                self.renamed(&tag, renames);
                let limit = self.limits.response;
                self.end_copy();
                self.complete(CommandStatus::Ok, Some(tag), None, now, events);
                self.running(|running| running.capture = Some(Capture::new(limit)));
            }
            (b'I', Some(Expect::Query(_))) => {
                self.complete(CommandStatus::Ok, None, None, now, events);
            }
            (b'C', Some(Expect::Execute(running))) => {
                running.count(header.length);
                let (tag, renames) = (backend::tag(message)?, running.renames);
                self.renamed(&tag, renames);
                self.end_copy();
                self.complete(CommandStatus::Ok, Some(tag), None, now, events);
                self.answered();
            }
            (b's', Some(Expect::Execute(running))) => {
                running.count(header.length);
                self.complete(CommandStatus::Suspended, None, None, now, events);
                self.answered();
            }
            (b'1', Some(Expect::Parse(..)))
            | (b'2', Some(Expect::Decided(..)))
            | (b'I', Some(Expect::Execute(_))) => {
                self.complete(CommandStatus::Ok, None, None, now, events);
                self.answered();
            }
            (b'2', Some(Expect::Bind(_)))
            | (b'n', Some(Expect::Describe(_)))
            | (b'3', Some(Expect::CloseStatement(_) | Expect::ClosePortal(_))) => {
                self.answered();
            }
            (b'G', Some(Expect::Query(running) | Expect::Execute(running))) => {
                running.count(header.length);
                running.ended = false;
                self.begin_copy(header)?;
            }
            // START_REPLICATION: data goes both ways until both sides have said that they are done.
            (b'W', Some(Expect::Query(running))) if self.rules.replication => {
                if running.masking.is_some() {
                    return Err(Violation::Copy(
                        "it is a log of changes, which may hold what is masked",
                    ));
                }
                running.count(header.length);
                running.ended = false;
                self.begin_copy(header)?;
            }
            (b'V', Some(Expect::Query(running))) => {
                running.count(header.length);
                let with = self.screened(message)?;
                self.complete(CommandStatus::Ok, None, None, now, events);
                return Ok(with.map_or(seen, Seen::Replace));
            }
            (b'H' | b'c', Some(Expect::Query(running) | Expect::Execute(running))) => {
                running.count(header.length);
                running.ended = false;
                let part = running.part();
                match &mut running.masking {
                    Some(masking) if header.tag == b'c' => masking.end_copy()?,
                    Some(masking) => {
                        masking.begin_copy(part, message)?;
                        if !masking.copy_passes()
                            && let Some(name) = self.text.foreign()
                        {
                            return Err(Violation::Encoding(name.into()));
                        }
                    }
                    None => {}
                }
            }
            _ => return Err(unexpected(header, "from a server at this point")),
        }
        Ok(Seen::Whole)
    }

    fn columns(&mut self, message: &[u8]) -> Result<Rc<Columns>, Violation> {
        if let Some((bytes, columns)) = &self.description
            && bytes == message
        {
            return Ok(columns.clone());
        }
        let columns = Rc::new(Columns::read(message)?);
        if message.len() <= GLIMPSE {
            self.description = Some((message.to_vec(), columns.clone()));
        }
        Ok(columns)
    }

    /// A description belongs to its statement, and so to all runs of it, before and after.
    fn described(&mut self, columns: Rc<Columns>) {
        let Some(Expect::Describe(described)) = self.expect.pop_front() else { return };
        let description: Option<&Description> = match &described {
            Described::Statement(name) => self.statements.standing(name).map(|s| &s.description),
            Described::Portal(name) => self.portals.standing(name).map(|p| &p.description),
        };
        let bytes = columns.size();
        if let Some(description) = description
            && description.get().is_none()
            && let Some(share) = self.descriptions.take(bytes)
        {
            let _ = description.set((columns, share));
        }
    }
}

/// A `DataRow` of a result in which something may be masked.
fn masked(running: &mut Running, header: Header, bytes: &[u8]) -> Result<Seen, Violation> {
    let message = match bytes.get(..header.length) {
        Some(message) => message,
        None if header.length <= LONGEST_ROW => return Ok(Seen::Need(header.length)),
        None => return Err(too_long(header)),
    };
    let part = running.part();
    running.count(header.length);
    running.count_row();
    let Some(masking) = &mut running.masking else { return Ok(Seen::Whole) };
    let with = masking.row(part, message)?;
    if let Some(capture) = &mut running.capture {
        capture.row(with.as_deref().unwrap_or(message))?;
    }
    let with = masking.shown_row(part, message, with)?;
    Ok(with.map_or(Seen::Whole, Seen::Replace))
}

/// `CopyData` in which something may be masked.
fn copied(running: &mut Running, header: Header, bytes: &[u8]) -> Result<Seen, Violation> {
    let message = match bytes.get(..header.length) {
        Some(message) => message,
        None if header.length <= LONGEST_ROW => return Ok(Seen::Need(header.length)),
        None => return Err(too_long(header)),
    };
    running.count(header.length);
    let Some(masking) = &mut running.masking else { return Ok(Seen::Whole) };
    let with = masking.copied(message)?;
    if let Some(capture) = &mut running.capture {
        match with.as_deref() {
            Some([]) => {}
            with => capture.copy(with.unwrap_or(message)),
        }
    }
    let with = masking.shown_copy(message, with)?;
    Ok(with.map_or(Seen::Whole, Seen::Replace))
}

/// The longest row that is masked, in bytes: all of it is held.
const LONGEST_ROW: usize = 64 << 20;

/// What became of one message.
pub(super) enum Seen {
    /// It was seen whole and may pass.
    Whole,
    /// It may pass, though not all of it is here.
    Head,
    /// So many bytes are needed.
    Need(usize),
    /// It must not pass; this goes in its stead.
    Replace(Vec<u8>),
}
