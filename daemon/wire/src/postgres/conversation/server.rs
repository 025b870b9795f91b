//! The server's side of a conversation.

use super::{
    Arc, Capture, Columns, CommandStatus, Conversation, CopyIn, Described, Event, Expect, FEW,
    GLIMPSE, HEADER, HELD, Header, NOTICES, Now, Outcome, Phase, Running, ServerStep, TYPES, Tag,
    Violation, WHOLE, header,
};
use crate::postgres::{
    backend,
    expect::ServerError,
    frame::Body,
    reply::{self, Severity, backend_error},
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
        if self.expect.is_empty() {
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
            // Long texts are read from their head.
            None if matches!(header.tag, b'E' | b'N' | b'A' | b'S') => match bytes.get(..GLIMPSE) {
                Some(_) => bytes,
                None => return Ok(Seen::Need(GLIMPSE)),
            },
            None => return Err(too_long(header)),
        };
        let seen = if message.len() < header.length { Seen::Head } else { Seen::Whole };
        match header.tag {
            b'N' => {
                if let Some(Expect::Query(running) | Expect::Execute(running)) =
                    self.expect.front_mut()
                {
                    running.notice(&backend::error(message), NOTICES);
                }
                Ok(seen)
            }
            b'A' => Ok(seen),
            b'S' => {
                self.learn_parameter(message);
                Ok(seen)
            }
            b'E' => self.error(header, message, seen, now, events),
            _ if self.phase != Phase::Ready => self.sign_on(header, message, events),
            _ => self.answer(header, message, now, events),
        }
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

    /// What the server reports of how it reads texts.
    fn learn_parameter(&mut self, message: &[u8]) {
        let Ok((name, value)) = backend::parameter(message) else { return };
        match name {
            b"client_encoding" => {
                let known = [&b"UTF8"[..], b"UNICODE", b"SQL_ASCII"];
                self.text.encoding =
                    (!known.contains(&value)).then(|| String::from_utf8_lossy(value).into_owned());
            }
            b"standard_conforming_strings" => self.text.backslashes = value != b"on",
            _ => {}
        }
    }

    /// `DataRow` and `CopyData`: looked into only while something is kept of them.
    fn data(&mut self, header: Header, bytes: &[u8]) -> Result<Seen, Violation> {
        let Some(Expect::Query(running) | Expect::Execute(running)) = self.expect.front_mut()
        else {
            return Err(unexpected(header, "from a server that was not asked for rows"));
        };
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
        now: Now,
        events: &mut Vec<Event>,
    ) -> Result<Seen, Violation> {
        if header.tag == b'Z' {
            return self.ready_for_query(header, message, now, events);
        }
        // A Sync that the server passed over is answered by nothing.
        while matches!(self.expect.front(), Some(Expect::Sync { perhaps: true } | Expect::CopyEnd))
        {
            self.expect.pop_front();
        }
        match (header.tag, self.expect.front_mut()) {
            (b'T', Some(Expect::Query(running))) => {
                running.count(header.length);
                let columns = self.columns(message)?;
                self.running(|running| {
                    running.ended = false;
                    if let Some(capture) = &mut running.capture {
                        capture.set_columns(columns);
                    }
                });
            }
            (b'T', Some(Expect::Describe(_))) => {
                let columns = self.columns(message)?;
                self.described(&columns);
            }
            (b't', Some(Expect::Describe(Described::Statement(name)))) => {
                let types = backend::parameter_types(message)?;
                if let Some(prepared) = self.statements.get_mut(name) {
                    prepared.types = types.get(..TYPES).unwrap_or(&types).into();
                }
            }
            (b'C', Some(Expect::Query(running))) => {
                running.count(header.length);
                let tag = backend::tag(message)?;
                self.statement_tag(&tag);
                let limit = self.limits.response;
                self.end_copy();
                self.complete(CommandStatus::Ok, Some(tag), None, now, events);
                self.running(|running| running.capture = Some(Capture::new(limit, None, None)));
            }
            (b'I', Some(Expect::Query(_))) => {
                self.complete(CommandStatus::Ok, None, None, now, events);
            }
            (b'C', Some(Expect::Execute(running))) => {
                running.count(header.length);
                let tag = backend::tag(message)?;
                self.statement_tag(&tag);
                self.end_copy();
                self.complete(CommandStatus::Ok, Some(tag), None, now, events);
                self.expect.pop_front();
            }
            (b's', Some(Expect::Execute(running))) => {
                running.count(header.length);
                self.complete(CommandStatus::Suspended, None, None, now, events);
                self.expect.pop_front();
            }
            (b'1', Some(Expect::Parse(..))) | (b'I', Some(Expect::Execute(_))) => {
                self.complete(CommandStatus::Ok, None, None, now, events);
                self.expect.pop_front();
            }
            (b'2', Some(Expect::Bind(_)))
            | (b'n', Some(Expect::Describe(_)))
            | (b'3', Some(Expect::CloseStatement(_) | Expect::ClosePortal(_))) => {
                self.expect.pop_front();
            }
            (b'G', Some(Expect::Query(running) | Expect::Execute(running))) => {
                running.count(header.length);
                running.ended = false;
                self.begin_copy(header)?;
            }
            // START_REPLICATION: data goes both ways until both sides have said that they are done.
            (b'W', Some(Expect::Query(running))) if self.rules.replication => {
                running.count(header.length);
                running.ended = false;
                self.begin_copy(header)?;
            }
            (b'V', Some(Expect::Query(running))) => {
                running.count(header.length);
                self.complete(CommandStatus::Ok, None, None, now, events);
            }
            (b'H' | b'c', Some(Expect::Query(running) | Expect::Execute(running))) => {
                running.count(header.length);
                running.ended = false;
            }
            _ => return Err(unexpected(header, "from a server at this point")),
        }
        Ok(Seen::Whole)
    }

    /// From here on the server reads data, up to where the client says that it ends: it passes over
    /// a `Sync` on the way, and takes any other message for the end.
    fn begin_copy(&mut self, header: Header) -> Result<(), Violation> {
        self.copy = CopyIn::Reading;
        while let Some(next) = self.expect.get(1) {
            match next {
                Expect::Sync { .. } => {}
                Expect::CopyEnd => self.copy = CopyIn::Done,
                _ => return Err(unexpected(header, "behind which other commands were sent ahead")),
            }
            self.expect.remove(1);
            if self.copy == CopyIn::Done {
                break;
            }
        }
        Ok(())
    }

    /// All data was read, and with it every `Sync` that was sent meanwhile.
    fn end_copy(&mut self) {
        if std::mem::replace(&mut self.copy, CopyIn::No) != CopyIn::No {
            self.expect.retain(|expect| !matches!(expect, Expect::Sync { perhaps: true }));
        }
    }

    fn ready_for_query(
        &mut self,
        header: Header,
        message: &[u8],
        now: Now,
        events: &mut Vec<Event>,
    ) -> Result<Seen, Violation> {
        let transaction = backend::ready(message)?;
        self.in_transaction = transaction != "idle";
        let skipping = std::mem::take(&mut self.skipping);
        loop {
            let Some(mut expect) = self.expect.pop_front() else {
                return Err(unexpected(header, "from a server that was not asked"));
            };
            match &mut expect {
                Expect::CopyEnd => {}
                Expect::Sync { .. } => break,
                Expect::Query(running) if !skipping => {
                    // It should have been answered by now.
                    if !running.ended {
                        let outcome = running.outcome(CommandStatus::Unknown, None, None, now);
                        self.hold(outcome, events);
                    }
                    break;
                }
                Expect::RefusedQuery(refused) if !skipping && refused.told => break,
                _ if skipping => self.skip(expect, now, events),
                _ => {
                    // It is still to be told what came of it.
                    self.expect.push_front(expect);
                    return Err(unexpected(header, "from a server that owes another answer"));
                }
            }
        }
        self.copy = CopyIn::No;
        if let Some(mut outcome) = self.held.take() {
            outcome.transaction = Some(transaction);
            events.push(Event::Outcome(outcome));
        }
        if transaction == "idle" && self.expect.is_empty() {
            // Portals end with their transaction.
            self.portals.retain(|_, _| false);
            self.parameter_bytes = 0;
        }
        Ok(Seen::Whole)
    }

    /// The server passed over this: take back what it would have changed.
    fn skip(&mut self, expect: Expect, now: Now, events: &mut Vec<Event>) {
        match expect {
            Expect::Parse(mut running, undo) => {
                let later = self.expect.iter_mut().filter_map(|e| match e {
                    Expect::Parse(_, undo) | Expect::CloseStatement(undo) => Some(undo),
                    _ => None,
                });
                self.statements.undo(undo, later);
                self.skipped(&mut running, now, events);
            }
            Expect::CloseStatement(undo) => {
                let later = self.expect.iter_mut().filter_map(|e| match e {
                    Expect::Parse(_, undo) | Expect::CloseStatement(undo) => Some(undo),
                    _ => None,
                });
                self.statements.undo(undo, later);
            }
            Expect::Bind(undo) | Expect::ClosePortal(undo) => {
                let later = self.expect.iter_mut().filter_map(|e| match e {
                    Expect::Bind(undo) | Expect::ClosePortal(undo) => Some(undo),
                    _ => None,
                });
                self.portals.undo(undo, later);
            }
            Expect::Query(mut running) | Expect::Execute(mut running) => {
                self.skipped(&mut running, now, events);
            }
            Expect::RefusedQuery(refused) | Expect::RefusedExecute(refused) if !refused.told => {
                let outcome = refused.outcome(now);
                self.hold(outcome, events);
            }
            Expect::RefusedQuery(_)
            | Expect::RefusedExecute(_)
            | Expect::Describe(_)
            | Expect::CopyEnd
            | Expect::Sync { .. } => {}
        }
    }

    fn skipped(&mut self, running: &mut Running, now: Now, events: &mut Vec<Event>) {
        if !running.ended {
            running.capture = None;
            let outcome = running.outcome(CommandStatus::Skipped, None, None, now);
            self.hold(outcome, events);
        }
    }

    fn error(
        &mut self,
        header: Header,
        message: &[u8],
        seen: Seen,
        now: Now,
        events: &mut Vec<Event>,
    ) -> Result<Seen, Violation> {
        let error = backend::error(message);
        if self.phase != Phase::Ready || error.fatal {
            events.push(Event::ServerError(error.clone()));
        }
        // Whether a Sync that was sent while data was read counts stays open.
        self.copy = CopyIn::No;
        while matches!(self.expect.front(), Some(Expect::CopyEnd)) {
            self.expect.pop_front();
        }
        match self.expect.front_mut() {
            None if self.phase == Phase::Ready && !error.fatal => {
                events.push(Event::ServerError(error));
            }
            Some(Expect::RefusedQuery(refused) | Expect::RefusedExecute(refused))
                if !refused.told =>
            {
                // The stand-in failed, as it should: tell why.
                refused.told = true;
                let outcome = refused.outcome(now);
                let reply = backend_error(Severity::Error, &refused.refusal);
                if matches!(self.expect.front(), Some(Expect::RefusedExecute(_))) {
                    self.skipping = true;
                }
                self.hold(outcome, events);
                return match seen {
                    Seen::Whole => Ok(Seen::Replace(reply)),
                    _ => Err(too_long(header)),
                };
            }
            Some(Expect::Query(running)) => {
                running.count(header.length);
                self.complete(CommandStatus::Error, None, Some(error), now, events);
            }
            Some(Expect::Parse(running, _) | Expect::Execute(running)) => {
                running.count(header.length);
                self.complete(CommandStatus::Error, None, Some(error), now, events);
                self.skipping = true;
            }
            Some(
                Expect::Bind(_)
                | Expect::Describe(_)
                | Expect::CloseStatement(_)
                | Expect::ClosePortal(_),
            ) => {
                self.skipping = true;
                self.fail_next(error, now, events);
            }
            Some(Expect::Sync { .. }) => self.fail_sync(error, events),
            // Whatever the server has to say besides.
            Some(Expect::RefusedQuery(_) | Expect::RefusedExecute(_) | Expect::CopyEnd) | None => {}
        }
        Ok(seen)
    }

    /// A failed Bind has no record of its own: the error belongs to the run that it was for.
    fn fail_next(&mut self, error: ServerError, now: Now, events: &mut Vec<Event>) {
        let next = self
            .expect
            .iter_mut()
            .take_while(|expect| !matches!(expect, Expect::Sync { .. }))
            .find_map(|expect| match expect {
                Expect::Execute(running) if running.seq.is_some() => Some(running),
                _ => None,
            });
        if let Some(running) = next {
            running.ended = true;
            running.capture = None;
            let outcome = running.outcome(CommandStatus::Error, None, Some(error), now);
            self.hold(outcome, events);
        }
    }

    /// The commit at a `Sync` failed (a deferred constraint): the error belongs to what ran last.
    fn fail_sync(&mut self, error: ServerError, events: &mut Vec<Event>) {
        match &mut self.held {
            Some(outcome) => {
                outcome.status = CommandStatus::Error;
                outcome.error_code = error.code;
                outcome.error_message = error.message;
            }
            None => events.push(Event::ServerError(error)),
        }
    }

    /// The command at the front has an outcome.
    fn complete(
        &mut self,
        status: CommandStatus,
        tag: Option<String>,
        error: Option<ServerError>,
        now: Now,
        events: &mut Vec<Event>,
    ) {
        let mut outcome = None;
        self.running(|running| {
            outcome = running.outcome(status, tag, error, now);
            // A simple query ends with ReadyForQuery; what is not answered before it does not run.
            running.ended = true;
        });
        self.hold(outcome, events);
    }

    fn running(&mut self, change: impl FnOnce(&mut Running)) {
        if let Some(Expect::Query(running) | Expect::Execute(running) | Expect::Parse(running, _)) =
            self.expect.front_mut()
        {
            change(running);
        }
    }

    fn hold(&mut self, outcome: Option<Outcome>, events: &mut Vec<Event>) {
        if outcome.is_some() {
            events.extend(self.held.take().map(Event::Outcome));
            self.held = outcome;
        }
    }

    fn columns(&mut self, message: &[u8]) -> Result<Arc<Columns>, Violation> {
        if let Some((bytes, columns)) = &self.description
            && bytes == message
        {
            return Ok(columns.clone());
        }
        let columns = Arc::new(Columns::read(message)?);
        if message.len() <= GLIMPSE {
            self.description = Some((message.to_vec(), columns.clone()));
        }
        Ok(columns)
    }

    /// A description belongs to its statement or portal, and to the runs of it that were sent ahead.
    fn described(&mut self, columns: &Arc<Columns>) {
        let Some(Expect::Describe(described)) = self.expect.pop_front() else { return };
        let bytes = columns.names.len();
        match described {
            Described::Statement(name) => {
                let fits = self.has_room_for_columns(bytes);
                let Some(prepared) = self.statements.get_mut(&name) else { return };
                if fits && prepared.columns.is_none() {
                    self.column_bytes += bytes;
                    prepared.columns = Some(columns.clone());
                }
                let number = prepared.number;
                self.describe_ahead(columns, |running| running.statement == Some(number));
            }
            Described::Portal(name) => {
                if let Some(portal) = self.portals.get_mut(&name)
                    && bytes <= GLIMPSE
                {
                    portal.columns = Some(columns.clone());
                }
                self.describe_ahead(columns, |running| running.portal == name);
            }
        }
    }

    /// What was added up is counted anew where it seems too much: statements go, too.
    fn has_room_for_columns(&mut self, bytes: usize) -> bool {
        if self.column_bytes + bytes > HELD {
            let columns = self.statements.values().filter_map(|s| s.columns.as_ref());
            self.column_bytes = columns.map(|c| c.names.len()).sum();
        }
        self.column_bytes + bytes <= HELD
    }

    fn describe_ahead(&mut self, columns: &Arc<Columns>, of: impl Fn(&Running) -> bool) {
        if columns.names.len() > GLIMPSE && self.expect.len() > FEW {
            return;
        }
        for expect in &mut self.expect {
            match expect {
                Expect::Execute(running) if of(running) => {
                    if let Some(capture) = &mut running.capture {
                        capture.set_columns(columns.clone());
                    }
                }
                // What comes after is another portal of the same name.
                Expect::Sync { .. } => break,
                _ => {}
            }
        }
    }
}

/// What became of one message.
enum Seen {
    /// It was seen whole and may pass.
    Whole,
    /// It may pass, though not all of it is here.
    Head,
    /// So many bytes are needed.
    Need(usize),
    /// It must not pass; this goes in its stead.
    Replace(Vec<u8>),
}

fn too_long(header: Header) -> Violation {
    let length = i64::try_from(header.length).unwrap_or(i64::MAX);
    Violation::Length { tag: Tag(header.tag), length }
}

fn unexpected(header: Header, place: &'static str) -> Violation {
    Violation::Unexpected { tag: Tag(header.tag), place }
}
