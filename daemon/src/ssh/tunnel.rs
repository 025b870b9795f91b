//! Tunnels of a session: where they lead, and the sessions inside of those that end here.
//!
//! Does not belong here: carrying their bytes (`ends`), and telling places apart (`crate::tunnels`).

use chaperone_audit::Receipt;
use chaperone_model::{CommandStatus, EventKind, OriginalAddr, Outcome, Record, Seq};
use chaperone_policy::Permit;
use chaperone_wire::{
    sniff::Looks,
    ssh::{Said, Stream, Wanted},
};

use super::{
    ends::Moved,
    relay::{End, Relay},
};
use crate::{
    clock,
    session::NoSession,
    socket::Socket,
    tunnels::{Leads, Outer, To, leads},
};

/// The file's name of a PostgreSQL server's Unix socket, before its port.
const SOCKET_OF_POSTGRES: &[u8] = b".s.PGSQL.";

impl Relay<'_> {
    /// Where a tunnel leads; nothing where the command is none to a place that is named.
    pub(super) fn leads_to(&self, wanted: &Wanted) -> Option<Leads> {
        let shared = &self.session.shared;
        let outer = Outer { target: &self.session.target, address: self.session.original.0 };
        let at =
            |host: &str, port| leads(&shared.config.targets, &shared.watched(), outer, host, port);
        match wanted {
            Wanted::Forward { host, port } => Some(at(host, *port)),
            Wanted::ForwardSocket { path } => {
                let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
                let port = name.strip_prefix(SOCKET_OF_POSTGRES)?;
                let port = std::str::from_utf8(port).ok()?.parse().ok()?;
                // A server's socket and its port are two doors of one house.
                match at("localhost", port) {
                    Leads::Elsewhere => None,
                    Leads::To(to) => Some(Leads::Unclear(format!(
                        "such sockets are those of target {}: forward to its port, whose tunnels chaperone reads",
                        shared.config.targets[to.target].name
                    ))),
                    unclear @ Leads::Unclear(_) => Some(unclear),
                }
            }
            _ => None,
        }
    }

    /// The only way of a tunnel to a target: like [`Relay::release`] it takes both proofs. What is said
    /// in it is no more than asked for by that: the session inside decides and records each command.
    pub(super) fn release_inside(
        &mut self,
        ask: u64,
        permit: Permit,
        receipt: Receipt,
        to: To,
    ) -> Result<(), End> {
        // Both are spent here.
        drop((permit, receipt));
        let why = match self.begin_inside(ask, to) {
            Ok(()) => {
                self.session.shared.counters.forwarded.up();
                return Ok(());
            }
            Err(why) => why,
        };
        self.session.shared.counters.refused.up();
        if let Some(running) = self.running.remove(&ask) {
            let outcome = Outcome {
                error_message: Some(why.clone()),
                ..Outcome::new(running.seq, CommandStatus::Refused, clock::wall())
            };
            self.session.shared.log.ride_along(Record::Outcome(outcome));
        }
        let said = self.conversation.refused(ask, &why);
        said.map_err(|broken| self.client_violation(&broken))
    }

    fn begin_inside(&mut self, ask: u64, to: To) -> Result<(), String> {
        if !self.conversation.has_room_for_own() {
            return Err("chaperone reads no more tunnels of one connection".into());
        }
        let route = self.ends.route(to.host, to.port);
        let opened = self.session.open_inside(to.target, OriginalAddr(to.address), route);
        let opened = opened.map_err(|error| {
            let counters = &self.session.shared.counters;
            match &error {
                NoSession::Full(_) => counters.too_many_of_agent.up(),
                NoSession::Unrecorded(_) => counters.unrecorded.up(),
            }
            error.to_string()
        })?;
        if let Some(running) = self.running.get_mut(&ask) {
            running.carries(opened.id());
        }
        if let Some(number) = self.conversation.ends_here(ask) {
            self.tunnels.insert(number, ask);
            opened.serve(Socket::Channel(self.ends.open(number)));
        } else {
            // The client has left: the session inside hears nothing but that.
            opened.serve(Socket::Channel(crate::socket::channel().0));
        }
        Ok(())
    }

    /// Something came of a channel that ends here.
    pub(super) fn heard_inside(&mut self, number: u32, said: Said) {
        if let Said::Data(bytes) = &said
            && let Some(running) = self.carrier(number)
        {
            running.counted(Stream::In, bytes.len());
        }
        let closed = said == Said::Closed;
        let lost = self.ends.heard(number, said);
        if lost > 0 {
            self.conversation.own_took(number, lost);
        }
        if closed {
            self.tunnels.remove(&number);
        }
    }

    /// Something came of a session inside.
    pub(super) fn moved_inside(&mut self, moved: Moved) {
        match moved {
            Moved::Wish(wish) => {
                if let Some(number) = self.conversation.open_own(&wish.host, wish.port) {
                    self.ends.opening(number, wish.answer);
                } else {
                    let why = "chaperone opens no more channels on this connection";
                    let _ = wish.answer.send(Err(why.into()));
                }
            }
            Moved::Took { number, count } => self.conversation.own_took(number, count),
            Moved::Says { number, bytes } => {
                if let Some(running) = self.carrier(number) {
                    running.counted(Stream::Out, bytes.len());
                }
                self.conversation.own_say(number, bytes);
            }
            Moved::Silent { number } => self.conversation.own_eof(number),
            Moved::Gone { number } => self.conversation.own_close(number),
        }
    }

    /// The command of a tunnel that ends here.
    fn carrier(&mut self, number: u32) -> Option<&mut super::recording::Running> {
        self.running.get_mut(self.tunnels.get(&number)?)
    }

    /// A tunnel that nobody reads looks like something: who speaks a target's protocol is named.
    pub(super) fn looks_like(&self, command: Seq, looks: Looks) {
        if matches!(looks, Looks::Postgres | Looks::PostgresInTls | Looks::Ssh) {
            let detail = format!(
                "{} goes through the tunnel of command {}, which leads to no target",
                looks.as_str(),
                command.0
            );
            self.session.shared.event(Some(self.session.id), EventKind::PassedBy, detail);
        }
    }
}
