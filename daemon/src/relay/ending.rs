//! How a session ends: by its client, its server, the daemon's own end, or a limit; and what the client
//! is told last.

use std::{future::Future, pin::Pin, task::Context, time::Duration};

use chaperone_model::{Closing, EventKind};
use chaperone_wire::postgres::{Refusal, Severity, Violation, backend_error};
use tokio::{
    io::AsyncWrite,
    time::{Sleep, sleep_until},
};

use super::Relay;
use crate::{
    shared::{QUIET, Stage},
    tls::Stream,
};

/// How long the server may take to finish what it was sent, once the session must end.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Bytes that are read from a server for a client that is gone.
const UNREAD: usize = 64 << 10;

/// The daemon ends the session: what the server still owes is awaited, then the client is told.
pub(super) struct Ending {
    refusal: Refusal,
    detail: String,
    closing: Closing,
    deadline: Pin<Box<Sleep>>,
}

impl Relay<'_> {
    /// Whether the session is over, and how.
    pub(super) fn ended(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Stream,
    ) -> Option<(Closing, Option<String>)> {
        self.heed_stage(cx);
        self.heed_bounds(cx);
        if let Some(ending) = &mut self.ending {
            let late = ending.deadline.as_mut().poll(cx).is_ready();
            let said = self.conversation.is_idle() || self.server_done || late;
            // What is being recorded belongs to this session, and gets its outcome with it.
            let recording = self.recording.is_some() && !late;
            if !said || recording || (self.down.has_cleared() && !late) {
                return None;
            }
            let message = backend_error(Severity::Fatal, &ending.refusal);
            let closed = (ending.closing, Some(ending.detail.clone()));
            self.farewell(cx, client, &message);
            return Some(closed);
        }
        // A short answer is recorded though nobody reads it. A long one is given up, and with it the
        // connection: so the server ends what it is doing, as where its client is gone.
        let abandoned = self.client_gone && self.unread > UNREAD;
        if abandoned && self.recording.is_none() {
            return Some((Closing::Agent, self.client_done.take()));
        }
        if !self.server_done || self.down.has_cleared() || self.recording.is_some() {
            return None;
        }
        // The server is done, and all that it said has been handed on.
        if let Some(said) = self.server_said.take() {
            self.not_signed_on(&said);
            return Some((Closing::Target, Some(said)));
        }
        if let Some(why) = self.client_done.take() {
            return Some((Closing::Agent, Some(why).filter(|why| !why.is_empty())));
        }
        let detail = match &self.server_lost {
            Some(error) => format!("the connection to the server was lost: {error}"),
            None => "the server closed the connection".into(),
        };
        self.not_signed_on(&detail);
        let refusal = Refusal::new(
            "08006",
            format!("chaperone lost the connection to target {}", self.session.target),
        )
        .detail(detail.clone());
        self.farewell(cx, client, &backend_error(Severity::Fatal, &refusal));
        Some((Closing::Target, Some(detail)))
    }

    /// Where the session never came to its first command, operations are told why.
    fn not_signed_on(&self, why: &str) {
        if self.signed_on.is_some() {
            let detail = format!("target {}: {why}", self.session.target);
            self.shared.event(Some(self.session.id), EventKind::TargetRefused, detail);
        }
    }

    /// When the daemon ends, a session ends as soon as nothing of it has been under way for a moment.
    fn heed_stage(&mut self, cx: &mut Context<'_>) {
        if self.ending.is_some() || self.client_done.is_some() {
            return;
        }
        let ends = match self.session.stage() {
            Stage::Serving => false,
            Stage::Draining => {
                self.recording.is_none()
                    && self.up.rest().is_empty()
                    && self.conversation.is_at_rest()
                    && self.is_quiet(cx)
            }
            Stage::Ending | Stage::Over => true,
        };
        if ends {
            let refusal = Refusal::new("57P01", "chaperone ends this session: the daemon stops")
                .hint("Connect again in a moment.");
            self.end(Closing::Daemon, refusal, "the daemon stopped".into());
        }
    }

    fn is_quiet(&mut self, cx: &mut Context<'_>) -> bool {
        let end = self.active + QUIET;
        let quiet = self.quiet.get_or_insert_with(|| Box::pin(sleep_until(end)));
        if quiet.deadline() != end {
            quiet.as_mut().reset(end);
        }
        quiet.as_mut().poll(cx).is_ready()
    }

    /// Limits of the policy that lie on a session as a whole, or on what comes back.
    fn heed_bounds(&mut self, cx: &mut Context<'_>) {
        if self.ending.is_some() {
            return;
        }
        if let Some((over, rule)) = &mut self.over
            && over.as_mut().poll(cx).is_ready()
        {
            let refusal = Refusal::new(
                "57P05",
                "chaperone ends this session: it has lasted as long as one may",
            )
            .detail(format!("Rule: {rule}."))
            .hint("Connect again.");
            let detail = format!("the session lasted as long as rule {rule} allows");
            return self.end(Closing::Daemon, refusal, detail);
        }
        if let Some((most, rule)) = &self.rows
            && self.conversation.rows() > *most
        {
            let refusal = Refusal::new(
                "54000",
                format!("chaperone ends this session: a response has more than {most} rows"),
            )
            .detail(format!("Rule: {rule}."))
            .hint("Ask for fewer rows (LIMIT, or a narrower WHERE).");
            let detail = format!("a response had more rows than rule {rule} allows");
            // Nothing more of it is handed on.
            self.server_done = true;
            self.down.end();
            self.end(Closing::Daemon, refusal, detail);
        }
    }

    pub(super) fn violated(&mut self, violation: &Violation) {
        self.shared.counters.client_violations.up();
        let detail = format!("the client broke the protocol: {violation}");
        self.shared.event(Some(self.session.id), EventKind::Violation, detail.clone());
        let refusal = Refusal::new("08P01", format!("chaperone ends this session: {violation}"));
        self.end(Closing::Daemon, refusal, detail);
    }

    pub(super) fn end(&mut self, closing: Closing, refusal: Refusal, detail: String) {
        if self.ending.is_none() {
            if self.recording.is_none() {
                self.up.withdraw();
            }
            let deadline = Box::pin(tokio::time::sleep(LAST_WORDS));
            self.ending = Some(Ending { refusal, detail, closing, deadline });
        }
    }

    /// The last thing that the client is told: only between two messages, and without waiting.
    fn farewell(&self, cx: &mut Context<'_>, client: &mut Stream, message: &[u8]) {
        if self.client_gone || self.down.has_cleared() || !self.conversation.at_boundary() {
            return;
        }
        // A socket whose buffer is full has a client that does not read.
        let _ = Pin::new(&mut *client).poll_write(cx, message);
        let _ = Pin::new(client).poll_flush(cx);
    }
}
