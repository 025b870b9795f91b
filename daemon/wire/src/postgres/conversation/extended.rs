//! The client's messages of the extended protocol that speak of names: Parse, Bind, Describe, Close,
//! Execute.
//!
//! A run is recorded with the statement that it runs. Which one that is must not depend on what the
//! server has not answered yet, but for what has the same fate as the run itself.

use super::{
    COLUMNS, Capture, ClientStep, CommandKind, Conversation, Described, Expect, GLIMPSE, Header,
    PORTALS, Parse, Pending, Ran, Read, Refusal, Running, STATEMENTS, TYPES, Violation,
    client::whole, command, frontend, too_long,
};
use crate::postgres::{
    frontend::{Bind, Named},
    masking::Masking,
    reach::Reach,
    statements::{Found, Parameters, Portal, Prepared, Types, objection},
};

impl Conversation {
    pub(super) fn parse(&mut self, message: &[u8]) -> Read {
        let mut parse = Parse::read(message)?;
        let Some((text, mut refusal)) = self.readable(parse.text) else { return Ok(None) };
        refusal = refusal.or_else(|| objection(parse.name));
        if self.statements.len() >= STATEMENTS && !self.statements.has(parse.name) {
            refusal = Some(
                Refusal::new("53400", format!("this session has {STATEMENTS} prepared statements"))
                    .hint("Close those that are no longer needed."),
            );
        }
        self.number += 1;
        let number = self.number;
        parse.types.truncate(TYPES);
        let prepared = Prepared {
            number,
            types: Types::new(parse.types, |bytes| self.descriptions.take(bytes)),
            description: <_>::default(),
            reach: Reach::of(&text),
            reading: None,
            asks: None,
            masks: None,
            renames: self.batches.renames(),
            perhaps_gone: false,
        };
        self.pending = Some(Pending {
            expect: Expect::Parse(Running::new(false, None), parse.name.into()),
            extended: true,
            runs: Ran::Nothing,
            prepared: Some(prepared),
            bound: None,
        });
        Ok(Some((command(CommandKind::Prepare, Some(text), Some(number)), refusal)))
    }

    pub(super) fn bind(&mut self, header: Header, bytes: &[u8]) -> Result<ClientStep, Violation> {
        if header.length > self.limits.message {
            return Ok(self.too_long(header, bytes));
        }
        let message = match whole(header, bytes) {
            Ok(message) => message,
            Err(need) => return Ok(ClientStep::Need(need)),
        };
        let bind = Bind::read(message)?;
        if let Some(refusal) = objection(bind.portal).or_else(|| objection(bind.statement)) {
            return Ok(self.unnameable(header, bytes, refusal));
        }
        if self.portals.len() >= PORTALS && !self.portals.has(bind.portal) {
            return Err(Violation::Portals(PORTALS));
        }
        let batch = self.batches.current();
        let mut prepared = match self.statements.find(bind.statement, batch) {
            Found::Sure(prepared) => prepared,
            Found::Depends(on) if self.batches.wait_for(on) => return Ok(ClientStep::Wait),
            Found::Depends(_) => None,
        };
        self.names.portals |= !bind.portal.is_empty();
        // SQL's PREPARE gives no statement the empty name.
        if let Some(known) = &prepared
            && !bind.statement.is_empty()
            && let Some(by) = self.batches.renaming(known.renames)
        {
            if self.batches.wait_for(by) {
                return Ok(ClientStep::Wait);
            }
            prepared = None;
        }
        let types = prepared.as_ref().map_or(&[][..], |prepared| prepared.types.get());
        let room = self.parameters.left().min(self.limits.parameters);
        let (text, cut) = bind.parameters(types, self.screens.as_deref(), room);
        let reach = prepared.as_ref().map_or(Reach::UNKNOWN, |prepared| prepared.reach);
        let share = self.parameters.take(text.len());
        // One that is no longer known may be one of those that must be asked about.
        let lost = prepared.is_none() && self.asked && !bind.statement.is_empty();
        let asks = prepared.as_ref().and_then(|prepared| prepared.asks.as_ref());
        let asks = asks.map(|asks| (asks.text.as_deref().map(str::to_owned), Some(asks.digest)));
        let portal = Portal {
            statement: prepared.as_ref().map(|prepared| prepared.number),
            reading: prepared.as_ref().and_then(|prepared| prepared.reading.clone()),
            approval: None,
            masks: match &prepared {
                Some(prepared) => prepared.masks.clone(),
                None => self.blind.clone(),
            },
            description: prepared.map(|p| p.description.clone()).unwrap_or_default(),
            results: bind.results.first(COLUMNS),
            parameters: Parameters::new(text, cut, share),
            reach,
            renames: self.batches.renames(),
            perhaps_gone: false,
            executed: false,
        };
        // To plan it the server may run functions already.
        let runs = if reach.reading { Ran::Anything } else { Ran::Plain };
        if let Some((text, origin)) = asks.or(lost.then_some((None, None))) {
            let mut command = command(CommandKind::Bind, text, portal.statement);
            command.parameters = Some(portal.parameters.text.clone());
            command.parameters_cut = portal.parameters.cut;
            command.reading.clone_from(&portal.reading);
            command.origin = origin;
            self.pending = Some(Pending {
                expect: Expect::Decided(Running::new(false, None), bind.portal.into()),
                extended: true,
                runs,
                prepared: None,
                bound: Some(portal),
            });
            return Ok(ClientStep::Command { length: header.length, command, objection: None });
        }
        self.bound(bind.portal, portal);
        self.batches.run(runs);
        Ok(self.extended(header, Expect::Bind(bind.portal.into())))
    }

    /// A portal is made.
    pub(super) fn bound(&mut self, name: &[u8], portal: Portal) {
        if let Some(before) = self.portals.change(name, self.batches.current(), Some(portal)) {
            // Should it come back, it comes without them: they must not pile up in there.
            before.parameters = Parameters::forgotten();
        }
    }

    pub(super) fn execute(&mut self, message: &[u8]) -> Read {
        let name = frontend::execute(message)?;
        let mut found = command(CommandKind::Execute, None, None);
        let refusal = objection(name);
        let mut portal = match self.portals.find(name, self.batches.current()) {
            Found::Sure(portal) => portal,
            Found::Depends(on) if self.batches.wait_for(on) => return Ok(None),
            Found::Depends(_) => None,
        };
        // A cursor of SQL's never has the empty name.
        if let Some(known) = &portal
            && !name.is_empty()
            && let Some(by) = self.batches.renaming(known.renames)
        {
            if self.batches.wait_for(by) {
                return Ok(None);
            }
            portal = None;
        }
        let mut reach = Reach::UNKNOWN;
        let mut capture = Capture::new(self.limits.response);
        let screens = self.screens.clone();
        let mut masking = Masking::new(self.blind.clone(), screens.clone());
        if let Some(portal) = portal {
            found.statement = portal.statement;
            found.reading.clone_from(&portal.reading);
            found.approval = portal.approval;
            if portal.executed {
                found.kind = CommandKind::Fetch;
            } else {
                let parameters = std::mem::take(&mut portal.parameters);
                found.parameters = Some(parameters.text);
                found.parameters_cut = parameters.cut;
            }
            portal.executed = true;
            reach = portal.reach;
            capture = Capture::of(
                self.limits.response,
                portal.description.clone(),
                portal.results.clone(),
            );
            masking = Masking::new(portal.masks.clone(), screens)
                .map(|masking| masking.of(portal.description.clone(), portal.results.clone()));
        }
        let mut running = Running::new(reach.names, Some(capture));
        running.masking = masking;
        self.pending = Some(Pending {
            expect: Expect::Execute(running),
            extended: true,
            runs: if reach.reading { Ran::Anything } else { Ran::Plain },
            prepared: None,
            bound: None,
        });
        Ok(Some((found, refusal)))
    }

    pub(super) fn describe(
        &mut self,
        header: Header,
        bytes: &[u8],
    ) -> Result<ClientStep, Violation> {
        let message = match whole_name(header, bytes)? {
            Ok(message) => message,
            Err(need) => return Ok(ClientStep::Need(need)),
        };
        let named = Named::read(message)?;
        if let Some(refusal) = objection(named.name()) {
            return Ok(self.unnameable(header, bytes, refusal));
        }
        let described = match named {
            Named::Statement(name) => Described::Statement(name.into()),
            Named::Portal(name) => Described::Portal(name.into()),
        };
        Ok(self.extended(header, Expect::Describe(described)))
    }

    pub(super) fn close(&mut self, header: Header, bytes: &[u8]) -> Result<ClientStep, Violation> {
        let message = match whole_name(header, bytes)? {
            Ok(message) => message,
            Err(need) => return Ok(ClientStep::Need(need)),
        };
        let named = Named::read(message)?;
        if let Some(refusal) = objection(named.name()) {
            return Ok(self.unnameable(header, bytes, refusal));
        }
        let batch = self.batches.current();
        let expect = match named {
            Named::Statement(name) => {
                self.statements.change(name, batch, None);
                Expect::CloseStatement(name.into())
            }
            Named::Portal(name) => {
                self.portals.change(name, batch, None);
                Expect::ClosePortal(name.into())
            }
        };
        Ok(self.extended(header, expect))
    }

    fn extended(&mut self, header: Header, expect: Expect) -> ClientStep {
        self.batches.extended();
        self.expect.push_back(expect);
        ClientStep::Pass(header.length)
    }

    /// A message is refused for the name in it.
    fn unnameable(&mut self, header: Header, bytes: &[u8], refusal: Refusal) -> ClientStep {
        self.object(header, bytes, command(CommandKind::Execute, None, None), true, refusal)
    }

    /// A command completed that may have freed names, or given them to other statements and cursors.
    /// What a client runs under such a name is no longer what it sent to be parsed.
    pub(super) fn renamed(&mut self, tag: &str, renames: bool) {
        match tag {
            "DEALLOCATE" | "DEALLOCATE ALL" => self.statements.retain_named(|prepared| {
                prepared.perhaps_gone = true;
                true
            }),
            "PREPARE" => self.statements.retain_named(|prepared| !prepared.perhaps_gone),
            "DISCARD ALL" => {
                self.statements.retain_named(|prepared| {
                    prepared.perhaps_gone = true;
                    true
                });
                self.portals.retain_named(|_| false);
            }
            "CLOSE CURSOR" | "CLOSE CURSOR ALL" | "COMMIT" | "PREPARE TRANSACTION" => {
                self.portals.retain_named(|_| false);
            }
            "ROLLBACK" => self.portals.retain_named(|portal| {
                portal.perhaps_gone = true;
                true
            }),
            "DECLARE CURSOR" => self.portals.retain_named(|portal| !portal.perhaps_gone),
            // Its own tag is all that the server tells of what it did.
            "DO" if renames => {
                self.statements.retain_named(|_| false);
                self.portals.retain_named(|_| false);
            }
            _ => {}
        }
    }
}

/// As [`whole`], for messages that hold little more than a name.
fn whole_name(header: Header, bytes: &[u8]) -> Result<Result<&[u8], usize>, Violation> {
    if header.length > GLIMPSE { Err(too_long(header)) } else { Ok(whole(header, bytes)) }
}
