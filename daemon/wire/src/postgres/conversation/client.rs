//! The client's side of a conversation.

use super::{
    AHEAD, Capture, ClientStep, Command, CommandKind, Conversation, Expect, GLIMPSE, HEADER,
    Header, Masking, Pending, Phase, Ran, Read, Refusal, Rest, Running, Violation, command,
    frontend, header, too_long, unexpected,
};
use crate::postgres::{frame::Body, large_objects, reach::Reach};

/// Longest answer of a client during sign-on: `PG_MAX_AUTH_TOKEN_LENGTH` (src/include/libpq/auth.h).
const SIGN_ON: usize = 65_535;

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
        if matches!(header.tag, b'Q' | b'P' | b'B' | b'E' | b'D' | b'C' | b'F') {
            if let Some(step) = self.beside_copy(header)? {
                return Ok(step);
            }
            if self.batches.must_wait() {
                return Ok(ClientStep::Wait);
            }
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
                self.sync();
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
                self.data_ends();
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
        Ok(read(self, message)?.map_or(ClientStep::Wait, |(command, objection)| {
            ClientStep::Command { length: header.length, command, objection }
        }))
    }

    fn query(&mut self, message: &[u8]) -> Read {
        let Some((text, objection)) = self.readable(frontend::query(message)?) else {
            return Ok(None);
        };
        let capture = Capture::new(self.limits.response);
        let mut running = Running::new(Reach::block_renames(&text), Some(capture));
        running.masking = Masking::new(None, self.screens.clone());
        let expect = Expect::Query(running);
        self.pending = Some(Pending {
            expect,
            extended: false,
            runs: Ran::Anything,
            prepared: None,
            bound: None,
        });
        Ok(Some((command(CommandKind::Query, Some(text), None), objection)))
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
        let screens = self.screens.as_deref();
        let (parameters, cut) = call.parameters(function, screens, self.limits.parameters);
        command.parameters = Some(parameters);
        command.parameters_cut = cut;
        let mut running = Running::new(false, None);
        running.masking = Masking::new(None, self.screens.clone());
        let expect = Expect::Query(running);
        self.pending = Some(Pending {
            expect,
            extended: false,
            runs: Ran::Nothing,
            prepared: None,
            bound: None,
        });
        Ok(ClientStep::Command { length: header.length, command, objection: None })
    }

    pub(super) fn too_long(&mut self, header: Header, bytes: &[u8]) -> ClientStep {
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
    pub(super) fn object(
        &mut self,
        header: Header,
        bytes: &[u8],
        command: Command,
        extended: bool,
        objection: Refusal,
    ) -> ClientStep {
        let length = bytes.len().min(header.length);
        self.client_rest = Rest::Discard(header.length - length);
        let expect = Expect::Query(Running::new(false, None));
        self.pending =
            Some(Pending { expect, extended, runs: Ran::Nothing, prepared: None, bound: None });
        ClientStep::Command { length, command, objection: Some(objection) }
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

/// The message, or how many bytes it needs.
pub(super) fn whole(header: Header, bytes: &[u8]) -> Result<&[u8], usize> {
    bytes.get(..header.length).ok_or(header.length)
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
