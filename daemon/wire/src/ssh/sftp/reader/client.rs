//! The client's side: what may pass, and what is a command.

use super::{
    Attributes, Body, ClientRest, ClientStep, HANDLE, HEADER, Header, INSERT, OWED, Operation,
    Owed, Pending, Phase, REQUEST, Request, Sftp, Status, Violation, header, kind, request, status,
};

impl Sftp {
    /// Says what to do with the bytes at the front of what the client sent, of which none has been
    /// passed yet. What a step says has been done when this is called again.
    pub fn client(&mut self, bytes: &[u8]) -> Result<ClientStep, Violation> {
        if self.pending.is_some() {
            return Ok(ClientStep::Wait);
        }
        match self.client_rest {
            ClientRest::None => {}
            _ if bytes.is_empty() => return Ok(ClientStep::Need(1)),
            ClientRest::Write { file, left } => {
                let now = bytes.len().min(left);
                self.files.writing(file, bytes.get(..now).unwrap_or_default());
                self.client_rest = match left - now {
                    0 => ClientRest::None,
                    left => ClientRest::Write { file, left },
                };
                return Ok(ClientStep::Pass(now));
            }
            ClientRest::Discard(left) => {
                let now = bytes.len().min(left);
                self.client_rest = match left - now {
                    0 => ClientRest::None,
                    left => ClientRest::Discard(left),
                };
                return Ok(ClientStep::Discard(now));
            }
        }
        if self.owed.len() >= OWED || self.insert.len() >= INSERT || self.covered.is_full() {
            return Ok(ClientStep::Wait);
        }
        let Some(head) = header(bytes)? else {
            return Ok(ClientStep::Need(HEADER));
        };
        match (self.phase, head.kind) {
            (Phase::Start, kind::INIT) => return self.init(bytes, head),
            (Phase::Start, kind) => {
                return Err(Violation::Unexpected { kind, place: "before INIT" });
            }
            (Phase::Initialised, _) => return Ok(ClientStep::Wait),
            (Phase::Ready, kind::INIT) => {
                return Err(Violation::Unexpected { kind: head.kind, place: "twice" });
            }
            (Phase::Ready, kind::WRITE) => return self.write(bytes, head),
            (Phase::Ready, _) => {}
        }
        let head = head.at_most(REQUEST)?;
        let Some(packet) = bytes.get(..head.length) else {
            return Ok(ClientStep::Need(head.length));
        };
        let mut body = Body::of(packet);
        let id = self.new_id(&mut body)?;
        let request = request::read(head.kind, body)?;
        Ok(self.request(id, head.length, request))
    }

    fn init(&mut self, bytes: &[u8], head: Header) -> Result<ClientStep, Violation> {
        let head = head.at_most(REQUEST)?;
        if bytes.len() < head.length {
            return Ok(ClientStep::Need(head.length));
        }
        self.phase = Phase::Initialised;
        Ok(ClientStep::Pass(head.length))
    }

    /// The data of a `WRITE` passes as it comes; what is before it is read first.
    fn write(&mut self, bytes: &[u8], head: Header) -> Result<ClientStep, Violation> {
        // Its number and the length of its handle.
        let front = HEADER + 4 + 4;
        if bytes.len() < front {
            return Ok(ClientStep::Need(front));
        }
        let mut body = Body::of(bytes);
        let id = self.new_id(&mut body)?;
        let handle = usize::try_from(body.u32()?).unwrap_or(usize::MAX);
        if handle > HANDLE {
            return Err(body.malformed("a handle is longer than 256 bytes"));
        }
        let front = front + handle + 8 + 4;
        if bytes.len() < front {
            return Ok(ClientStep::Need(front));
        }
        let mut body = Body::of(bytes);
        body.u32()?;
        let (handle, offset, length) = (body.string()?, body.u64()?, body.u32()?);
        head.exactly(front.saturating_add(usize::try_from(length).unwrap_or(usize::MAX)))?;
        let left = head.length - front;
        let Some(file) = self.files.of_handle(handle) else {
            self.no_such_handle(id);
            self.client_rest = if left > 0 { ClientRest::Discard(left) } else { ClientRest::None };
            return Ok(ClientStep::Discard(front));
        };
        self.counts.writes += 1;
        self.files.asked_to_write(file, offset);
        self.owed.insert(id, Owed::Write { file, length });
        self.client_rest =
            if left > 0 { ClientRest::Write { file, left } } else { ClientRest::None };
        Ok(ClientStep::Pass(front))
    }

    fn request(&mut self, id: u32, length: usize, request: Request<'_>) -> ClientStep {
        let owed = match request {
            Request::Command(operation) => return self.command(id, length, operation),
            Request::OfHandle(handle, attributes) => {
                return self.attributes(id, length, handle, attributes);
            }
            Request::Copy { from, from_offset, length: bytes, to, to_offset } => {
                let (Some(from), Some(to)) = (self.files.of_handle(from), self.files.of_handle(to))
                else {
                    return self.unknown(id, length);
                };
                let path = |file| self.files.path(file).unwrap_or_default().to_vec();
                let operation = Operation::CopyData {
                    from: path(from),
                    to: path(to),
                    from_offset,
                    to_offset,
                    length: bytes,
                };
                let pending = Pending {
                    id,
                    number: self.commands,
                    operation,
                    copies_to: Some(to),
                    changes: None,
                };
                return self.decide(pending, length);
            }
            Request::Close(handle) => {
                let Some(file) = self.files.of_handle(handle) else {
                    return self.unknown(id, length);
                };
                // The server would be asked on for another file that has got its handle.
                if self.covered.uses(handle) {
                    return ClientStep::Wait;
                }
                self.files.closing(file);
                Owed::Close(file)
            }
            Request::Read { handle, offset, length: asked } => {
                let Some(file) = self.files.of_handle(handle) else {
                    return self.unknown(id, length);
                };
                self.counts.reads += 1;
                self.files.asked_to_read(file);
                if self.covered.is_on() {
                    let instead = self.covered.read(id, handle, offset, asked);
                    self.owed.insert(id, Owed::Read { file, offset, length: asked });
                    return ClientStep::Instead(length, instead);
                }
                Owed::Read { file, offset, length: asked }
            }
            Request::ReadDirectory(handle) => {
                let Some(file) = self.files.of_handle(handle) else {
                    return self.unknown(id, length);
                };
                self.counts.lists += 1;
                self.files.asked_to_list(file);
                Owed::List(file)
            }
            Request::LookAtHandle(handle, reply) => {
                if self.files.of_handle(handle).is_none() {
                    return self.unknown(id, length);
                }
                self.counts.looks += 1;
                Owed::Look(reply)
            }
            Request::Look(reply) => {
                self.counts.looks += 1;
                Owed::Look(reply)
            }
        };
        self.owed.insert(id, owed);
        ClientStep::Pass(length)
    }

    fn attributes(
        &mut self,
        id: u32,
        length: usize,
        handle: &[u8],
        attributes: Attributes,
    ) -> ClientStep {
        let Some(file) = self.files.of_handle(handle) else {
            return self.unknown(id, length);
        };
        let path = self.files.path(file).unwrap_or_default().to_vec();
        let operation = Operation::SetAttributes { path, attributes, follows: true };
        let changes = attributes.size.map(|size| (file, size));
        let number = self.commands;
        self.decide(Pending { id, number, operation, copies_to: None, changes }, length)
    }

    fn command(&mut self, id: u32, length: usize, operation: Operation) -> ClientStep {
        let number = self.commands;
        self.decide(Pending { id, number, operation, copies_to: None, changes: None }, length)
    }

    fn decide(&mut self, pending: Pending, length: usize) -> ClientStep {
        let objection = match &pending.operation {
            Operation::Open { path, .. } | Operation::OpenDirectory { path }
                if !self.files.has_room(path.len()) =>
            {
                Some("too many files are open at a time through this channel: close some first")
            }
            // What is found whole would be read in parts.
            Operation::CopyData { .. } if self.covered.is_on() => {
                Some("what is read of files is masked here: they are not copied at the target")
            }
            Operation::SetAttributes { attributes, .. }
                if self.covered.is_on() && attributes.size.is_some_and(|size| size > 0) =>
            {
                Some("what is read of files is masked here: they are not cut")
            }
            _ => None,
        };
        let step = ClientStep::Command {
            number: pending.number,
            length,
            operation: pending.operation.clone(),
            objection,
        };
        self.commands += 1;
        self.pending = Some(pending);
        step
    }

    /// The request does not go on: a handle that the client guessed would be used for what nobody
    /// counts.
    fn unknown(&mut self, id: u32, length: usize) -> ClientStep {
        self.no_such_handle(id);
        ClientStep::Discard(length)
    }

    fn no_such_handle(&mut self, id: u32) {
        self.insert.extend(status(id, Status::FAILURE, "no such handle is open"));
    }

    fn new_id(&self, body: &mut Body<'_>) -> Result<u32, Violation> {
        let id = body.u32()?;
        if self.owed.contains_key(&id) { Err(Violation::Reused(id)) } else { Ok(id) }
    }
}
