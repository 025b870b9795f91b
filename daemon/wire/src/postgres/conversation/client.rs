//! The client's side of a conversation.

use super::{
    AHEAD, Arc, Bind, COLUMNS, Capture, ClientStep, Command, CommandKind, Conversation, CopyIn,
    Described, Expect, GLIMPSE, HEADER, HELD, Header, Named, Names, PORTALS, Parse, Pending, Phase,
    Portal, Prepared, Refusal, Rest, Running, STATEMENTS, TYPES, Tag, TextRules, Violation, cut,
    frontend, header,
};
use crate::postgres::{frame::Body, large_objects};

/// Longest answer of a client during sign-on: `PG_MAX_AUTH_TOKEN_LENGTH` (src/include/libpq/auth.h).
const SIGN_ON: usize = 65_535;

/// A command, and why it cannot be allowed, where it cannot.
type Read = Result<(Command, Option<Refusal>), Violation>;

impl Conversation {
    /// Looks at the client's bytes that have not been dealt with yet.
    ///
    /// # Errors
    /// A [`Violation`]: the session must end.
    pub fn client(&mut self, bytes: &[u8]) -> Result<ClientStep, Violation> {
        match &mut self.client_rest {
            Rest::Pass(0) | Rest::Discard(0) => {}
            Rest::Pass(rest) | Rest::Discard(rest) if bytes.is_empty() => {
                return Ok(ClientStep::Need((*rest).min(1)));
            }
            Rest::Pass(rest) => {
                let count = bytes.len().min(*rest);
                *rest -= count;
                return Ok(ClientStep::Pass(count));
            }
            Rest::Discard(rest) => {
                let count = bytes.len().min(*rest);
                *rest -= count;
                return Ok(ClientStep::Discard(count));
            }
        }
        if self.expect.len() >= AHEAD {
            return Ok(ClientStep::Wait);
        }
        let Some(header) = header(bytes)? else {
            return Ok(ClientStep::Need(HEADER));
        };
        match self.phase {
            Phase::SigningOn { withheld } => signing_on(header, bytes, withheld),
            // It was sent ahead: its turn comes when the server is ready.
            Phase::SignedOn if header.tag == b'p' => {
                Err(unexpected(header, "from a client that is signed on"))
            }
            Phase::SignedOn if header.tag == b'X' => terminate(header, bytes),
            Phase::SignedOn => Ok(ClientStep::Wait),
            Phase::Ready => self.ready(header, bytes),
        }
    }

    fn ready(&mut self, header: Header, bytes: &[u8]) -> Result<ClientStep, Violation> {
        if self.copy == CopyIn::Reading
            && matches!(header.tag, b'Q' | b'P' | b'B' | b'E' | b'D' | b'C' | b'F')
        {
            // The server takes such a message for the end of the data and does not run it; to
            // follow that is not worth the risk of losing step.
            return Err(unexpected(header, "while COPY data is being read"));
        }
        match header.tag {
            b'Q' => self.command(header, bytes, Self::query),
            b'P' => self.command(header, bytes, Self::parse),
            b'E' => self.command(header, bytes, Self::execute),
            b'B' => self.bind(header, bytes),
            b'F' => self.call(header, bytes),
            b'D' => self.describe(header, bytes),
            b'C' => self.close(header, bytes),
            b'S' => Ok(simple(header, bytes)?.unwrap_or_else(|| {
                // While data is read the server passes over it.
                self.expect.push_back(Expect::Sync { perhaps: self.copy == CopyIn::Reading });
                ClientStep::Pass(header.length)
            })),
            b'H' => Ok(simple(header, bytes)?.unwrap_or(ClientStep::Pass(header.length))),
            b'X' => terminate(header, bytes),
            // Outside a COPY the server passes over these (src/backend/tcop/postgres.c).
            b'd' => {
                if let Some(Expect::Query(running) | Expect::Execute(running)) =
                    self.expect.front_mut()
                {
                    running.count_in(header.length - HEADER);
                }
                let count = bytes.len().min(header.length);
                self.client_rest = Rest::Pass(header.length - count);
                Ok(ClientStep::Pass(count))
            }
            b'c' | b'f' if header.length > self.limits.message => Err(too_long(header)),
            b'c' | b'f' => Ok(whole(header, bytes).map_or_else(ClientStep::Need, |message| {
                match self.copy {
                    CopyIn::Reading => self.copy = CopyIn::Done,
                    CopyIn::No if !self.expect.is_empty() => {
                        self.expect.push_back(Expect::CopyEnd);
                    }
                    CopyIn::No | CopyIn::Done => {}
                }
                ClientStep::Pass(message.len())
            })),
            _ => Err(unexpected(header, "from a client")),
        }
    }

    /// A message that is a command: waits until it is whole, or refuses it where it is too long.
    fn command(
        &mut self,
        header: Header,
        bytes: &[u8],
        read: fn(&mut Self, &[u8]) -> Read,
    ) -> Result<ClientStep, Violation> {
        if header.length > self.limits.message {
            return Ok(self.too_long(header, bytes));
        }
        let message = match whole(header, bytes) {
            Ok(message) => message,
            Err(need) => return Ok(ClientStep::Need(need)),
        };
        let (command, objection) = read(self, message)?;
        Ok(ClientStep::Command { length: header.length, command, objection })
    }

    fn query(&mut self, message: &[u8]) -> Read {
        let (text, objection) = self.readable(frontend::query(message)?);
        let capture = Capture::new(self.limits.response, None, None);
        let expect = Expect::Query(Running::new(None, b"", Some(capture)));
        self.pending = Some(Pending { expect, extended: false });
        Ok((command(CommandKind::Query, Some(text), None), objection))
    }

    fn parse(&mut self, message: &[u8]) -> Read {
        let mut parse = Parse::read(message)?;
        parse.types.truncate(TYPES);
        let (text, mut objection) = self.readable(parse.text);
        if self.statements.len() >= STATEMENTS && self.statements.get(parse.name).is_none() {
            objection = Some(
                Refusal::new("53400", format!("this session has {STATEMENTS} prepared statements"))
                    .hint("Close those that are no longer needed."),
            );
        }
        self.number += 1;
        let number = self.number;
        let undo = self.statements.set(
            parse.name,
            Prepared { number, types: parse.types.into(), columns: None, perhaps_gone: false },
        );
        let expect = Expect::Parse(Running::new(Some(number), b"", None), undo);
        self.pending = Some(Pending { expect, extended: true });
        Ok((command(CommandKind::Prepare, Some(text), Some(number)), objection))
    }

    fn execute(&mut self, message: &[u8]) -> Read {
        let name = frontend::execute(message)?;
        let mut found = command(CommandKind::Execute, None, None);
        let mut capture = Capture::new(self.limits.response, None, None);
        if let Some(portal) = self.portals.get_mut(name) {
            found.statement = portal.statement;
            if portal.executed {
                found.kind = CommandKind::Fetch;
            } else {
                self.parameter_bytes = self.parameter_bytes.saturating_sub(portal.parameters.len());
                found.parameters = Some(std::mem::take(&mut portal.parameters));
                found.parameters_cut = portal.cut;
            }
            portal.executed = true;
            capture = Capture::new(
                self.limits.response,
                portal.columns.clone(),
                Some(portal.results.clone()),
            );
        }
        let expect = Expect::Execute(Running::new(found.statement, name, Some(capture)));
        self.pending = Some(Pending { expect, extended: true });
        Ok((found, None))
    }

    fn bind(&mut self, header: Header, bytes: &[u8]) -> Result<ClientStep, Violation> {
        if header.length > self.limits.message {
            return Ok(self.too_long(header, bytes));
        }
        let message = match whole(header, bytes) {
            Ok(message) => message,
            Err(need) => return Ok(ClientStep::Need(need)),
        };
        let bind = Bind::read(message)?;
        if self.portals.len() >= PORTALS && self.portals.get(bind.portal).is_none() {
            return Err(Violation::Portals(PORTALS));
        }
        let prepared = self.statements.get(bind.statement);
        let types: Arc<[u32]> = prepared.map_or_else(|| [].into(), |p| p.types.clone());
        let room = HELD.saturating_sub(self.parameter_bytes).min(self.limits.parameters);
        let (parameters, cut) = bind.parameters(&types, room);
        self.parameter_bytes += parameters.len();
        let portal = Portal {
            statement: prepared.map(|p| p.number),
            columns: prepared.and_then(|p| p.columns.clone()),
            results: bind.results.clone().first(COLUMNS),
            parameters,
            cut,
            executed: false,
        };
        let mut undo = self.portals.set(bind.portal, portal);
        if let Some(old) = undo.old_mut() {
            // Should it come back, it comes without them: they must not pile up in here.
            let parameters = std::mem::take(&mut old.parameters);
            self.parameter_bytes = self.parameter_bytes.saturating_sub(parameters.len());
            old.cut = true;
        }
        self.expect.push_back(Expect::Bind(undo));
        Ok(ClientStep::Pass(header.length))
    }

    fn describe(&mut self, header: Header, bytes: &[u8]) -> Result<ClientStep, Violation> {
        let message = match whole_name(header, bytes)? {
            Ok(message) => message,
            Err(need) => return Ok(ClientStep::Need(need)),
        };
        self.expect.push_back(Expect::Describe(match Named::read(message)? {
            Named::Statement(name) => Described::Statement(cut(name).into()),
            Named::Portal(name) => Described::Portal(cut(name).into()),
        }));
        Ok(ClientStep::Pass(header.length))
    }

    fn close(&mut self, header: Header, bytes: &[u8]) -> Result<ClientStep, Violation> {
        let message = match whole_name(header, bytes)? {
            Ok(message) => message,
            Err(need) => return Ok(ClientStep::Need(need)),
        };
        self.expect.push_back(match Named::read(message)? {
            Named::Statement(name) => Expect::CloseStatement(self.statements.remove(name)),
            Named::Portal(name) => Expect::ClosePortal(self.portals.remove(name)),
        });
        Ok(ClientStep::Pass(header.length))
    }

    /// A function call runs code without SQL: but for large objects, which libpq and JDBC reach in
    /// no other way, nothing could be said about it.
    fn call(&mut self, header: Header, bytes: &[u8]) -> Result<ClientStep, Violation> {
        if header.length > self.limits.message {
            return Ok(self.too_long(header, bytes));
        }
        // The function's number tells whether the rest is worth waiting for.
        let Some(head) = bytes.get(..HEADER + 4) else {
            return Ok(ClientStep::Need(header.length.min(HEADER + 4)));
        };
        let known = Body::of(head).u32().ok().and_then(large_objects::function);
        let Some(function) = known.filter(|_| header.length >= HEADER + 4) else {
            let objection =
                Refusal::new("0A000", "chaperone does not let function call messages through")
                    .hint("Call the function in an SQL statement.");
            return Ok(self.object(
                header,
                bytes,
                command(CommandKind::Call, None, None),
                false,
                objection,
            ));
        };
        let message = match whole(header, bytes) {
            Ok(message) => message,
            Err(need) => return Ok(ClientStep::Need(need)),
        };
        let call = large_objects::Call::read(message)?;
        let mut command = command(CommandKind::Call, Some(function.text()), None);
        let (parameters, cut) = call.parameters(function, self.limits.parameters);
        command.parameters = Some(parameters);
        command.parameters_cut = cut;
        let expect = Expect::Query(Running::new(None, b"", None));
        self.pending = Some(Pending { expect, extended: false });
        Ok(ClientStep::Command { length: header.length, command, objection: None })
    }

    fn too_long(&mut self, header: Header, bytes: &[u8]) -> ClientStep {
        let (kind, extended) = match header.tag {
            b'Q' => (CommandKind::Query, false),
            b'P' => (CommandKind::Prepare, true),
            b'F' => (CommandKind::Call, false),
            _ => (CommandKind::Execute, true),
        };
        let has_text = matches!(kind, CommandKind::Query | CommandKind::Prepare);
        let glimpse = header.length.min(HEADER + GLIMPSE);
        if has_text && bytes.len() < glimpse {
            // How much of it is recorded must not depend on how the client cuts it.
            return ClientStep::Need(glimpse);
        }
        let objection = Refusal::new(
            "54000",
            format!(
                "this message is {} bytes long, and chaperone takes at most {}",
                header.length, self.limits.message
            ),
        )
        .hint("Send less at a time, or ask operations to raise max_message.");
        let text = bytes.get(HEADER..glimpse).filter(|_| has_text);
        let text = text.map(|text| String::from_utf8_lossy(text).replace('\0', " "));
        self.object(header, bytes, command(kind, text, None), extended, objection)
    }

    /// A message that is refused without being read: what of it is still to come is thrown away.
    fn object(
        &mut self,
        header: Header,
        bytes: &[u8],
        command: Command,
        extended: bool,
        objection: Refusal,
    ) -> ClientStep {
        let length = bytes.len().min(header.length);
        self.client_rest = Rest::Discard(header.length - length);
        let expect = Expect::Query(Running::new(None, b"", None));
        self.pending = Some(Pending { expect, extended });
        ClientStep::Command { length, command, objection: Some(objection) }
    }

    /// A statement's text; what we would not read as the server does is refused, and recorded as far
    /// as it can be read.
    fn readable(&self, bytes: &[u8]) -> (String, Option<Refusal>) {
        let Ok(text) = std::str::from_utf8(bytes) else {
            let refusal =
                Refusal::new("22021", "chaperone refuses a statement that is not valid UTF-8")
                    .hint("Set client_encoding to UTF8.");
            return (String::from_utf8_lossy(bytes).into_owned(), Some(refusal));
        };
        let refusal = match &self.text {
            // ASCII is itself in every encoding that a client can have.
            TextRules { encoding: Some(name), .. } if !text.is_ascii() => Some(
                Refusal::new(
                    "22021",
                    format!("chaperone reads statements in UTF8, and client_encoding is {name}"),
                )
                .hint("Set client_encoding to UTF8."),
            ),
            TextRules { backslashes: true, .. } if text.contains('\\') => Some(
                Refusal::new(
                    "0A000",
                    "chaperone does not read backslashes while standard_conforming_strings is off",
                )
                .hint("Set standard_conforming_strings to on, or send the text as a parameter."),
            ),
            _ => None,
        };
        (text.to_owned(), refusal)
    }

    /// Names that went: what was prepared under them is no longer known.
    pub(super) fn statement_tag(&mut self, tag: &str) {
        match tag {
            "DEALLOCATE" | "DEALLOCATE ALL" | "DISCARD ALL" => mark(&mut self.statements),
            // SQL's PREPARE may have taken a name that became free: what a client runs under it is
            // no longer what it sent to be parsed.
            "PREPARE" => self.statements.retain(|name, p| name.is_empty() || !p.perhaps_gone),
            _ => {}
        }
    }
}

fn signing_on(header: Header, bytes: &[u8], withheld: bool) -> Result<ClientStep, Violation> {
    match header.tag {
        b'p' if header.length > SIGN_ON => Err(too_long(header)),
        b'p' => {
            let message = match whole(header, bytes) {
                Ok(message) => message,
                Err(need) => return Ok(ClientStep::Need(need)),
            };
            if withheld && frontend::claims_no_binding(message) {
                return Ok(ClientStep::Refuse(
                    Refusal::new(
                        "28000",
                        "chaperone cannot relay this sign-on: client and server both use TLS and SCRAM, and the server takes chaperone's TLS for a downgrade attack",
                    )
                    .detail("The client can bind its sign-on to its TLS connection, which ends at chaperone; the server offers that, too, and must not find out that the two are not the same.")
                    .hint("Ask operations to have the daemon hold the credential of this target (`credential`), or connect with channel_binding=disable or sslmode=disable."),
                ));
            }
            Ok(ClientStep::Pass(message.len()))
        }
        b'X' => terminate(header, bytes),
        // Sent ahead: its turn comes when the server is ready.
        _ => Ok(ClientStep::Wait),
    }
}

fn mark(statements: &mut Names<Prepared>) {
    statements.retain(|_, prepared| {
        prepared.perhaps_gone = true;
        true
    });
}

fn command(kind: CommandKind, text: Option<String>, statement: Option<u64>) -> Command {
    Command { kind, text, statement, parameters: None, parameters_cut: false }
}

/// The message, or how many bytes it needs.
fn whole(header: Header, bytes: &[u8]) -> Result<&[u8], usize> {
    bytes.get(..header.length).ok_or(header.length)
}

/// As [`whole`], for messages that hold little more than a name.
fn whole_name(header: Header, bytes: &[u8]) -> Result<Result<&[u8], usize>, Violation> {
    if header.length > GLIMPSE { Err(too_long(header)) } else { Ok(whole(header, bytes)) }
}

/// A message without a body.
fn simple(header: Header, bytes: &[u8]) -> Result<Option<ClientStep>, Violation> {
    if header.length != HEADER {
        return Err(too_long(header));
    }
    Ok(whole(header, bytes).err().map(ClientStep::Need))
}

fn terminate(header: Header, bytes: &[u8]) -> Result<ClientStep, Violation> {
    Ok(simple(header, bytes)?.unwrap_or(ClientStep::Terminate(header.length)))
}

fn too_long(header: Header) -> Violation {
    let length = i64::try_from(header.length).unwrap_or(i64::MAX);
    Violation::Length { tag: Tag(header.tag), length }
}

fn unexpected(header: Header, place: &'static str) -> Violation {
    Violation::Unexpected { tag: Tag(header.tag), place }
}
