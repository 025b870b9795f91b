//! Cancel requests: connections of their own, which belong to another session.

use std::time::Duration;

use chaperone_model::{
    Closing, Command, CommandKind, CommandStatus, Intent, Outcome, Record, Rung, VerdictKind,
};
use chaperone_policy::{Asked, Verdict};
use chaperone_wire::postgres::CancelKey;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::Session;
use crate::{clock, config::AgentTls, config::Safe, relay::Ended, tls::target::ConnectError};

/// How long a server may take to deal with it.
const PATIENCE: Duration = Duration::from_secs(15);

impl Session {
    /// A cancel request goes to the server of the session that it is for, and to no other.
    /// `encrypted`: the client's connection is.
    pub(super) async fn cancel(&self, packet: &[u8], key: CancelKey, encrypted: bool) -> Ended {
        let shared = &self.shared;
        let of =
            shared.cancellable(self.original.0, &key).filter(|of| of.agent == self.identity.agent);
        let text = of.as_ref().map_or_else(
            || format!("cancel server process {}", key.process),
            |of| format!("cancel the running command of session {}", of.session.0),
        );
        let command = Command::new(CommandKind::Cancel, Some(text));
        let decision = shared.config.policy.decide(&Asked {
            target: &self.target,
            identity: &self.identity,
            database: None,
            user: None,
            kind: command.kind,
            reading: None,
            search_path: None,
            moment: clock::moment(),
            rate: 0,
        });
        // What it asks for is that less is done: that needs nobody's word.
        let would = decision.would;
        let in_the_clear = !encrypted && self.target().agent_tls == AgentTls::Require;
        let (permit, rule) = match (&of, decision.verdict) {
            // Whoever listens has seen its key.
            _ if in_the_clear => (None, "the target takes only encrypted connections".into()),
            (Some(_), Verdict::Allow(permit)) => (Some(permit), decision.rule),
            (Some(_), Verdict::Deny(_) | Verdict::Hold(_)) => (None, decision.rule),
            (None, _) => (None, "cancel requests reach own sessions only".into()),
        };
        let verdict = match permit {
            Some(_) => would.unwrap_or(VerdictKind::Allow),
            None => VerdictKind::Deny,
        };
        let intent = Intent {
            at: clock::wall(),
            session: self.id,
            command,
            verdict,
            rule,
            rung: Some(Rung::Read),
            summary: None,
            approval: None,
            lifted: Vec::new(),
        };
        let records = vec![Record::Intent(intent)];
        let receipt = match self.local.committer.commit(records, Safe::FromCrash).await {
            Ok(Ok(mut receipts)) => receipts.pop(),
            Ok(Err(error)) => return self.unrecorded(&error),
            Err(_) => None,
        };
        let Some(receipt) = receipt else {
            return Ended::by(Closing::Daemon, "the log gave no receipt");
        };
        let seq = receipt.seq();
        let before = shared.clock.now();
        let status = if let Some(permit) = permit {
            shared.counters.forwarded.up();
            // Both are spent here: this is the command that they are for.
            drop((permit, receipt));
            // What waits for a person is not at the server yet.
            let waits = of.is_some_and(|of| {
                shared.approvals.withdraw_session(of.session, "the client cancelled it")
            });
            if waits || self.send_cancel(packet).await.is_ok() {
                CommandStatus::Ok
            } else {
                CommandStatus::Error
            }
        } else {
            shared.counters.cancels_refused.up();
            CommandStatus::Refused
        };
        let now = shared.clock.now();
        let took = now.monotonic.saturating_sub(before.monotonic).as_micros();
        shared.log.ride_along(Record::Outcome(Outcome {
            duration_us: u64::try_from(took).unwrap_or(u64::MAX),
            ..Outcome::new(seq, status, now.wall)
        }));
        Ended { closing: Closing::Agent, detail: None, up: packet.len() as u64, down: 0 }
    }

    async fn send_cancel(&self, packet: &[u8]) -> Result<(), ConnectError> {
        let Ok((connector, _)) = self.upstream() else { return Ok(()) };
        let mut server = connector.connect(self.original.0, self.route()).await?.stream;
        server.write_all(packet).await?;
        server.flush().await?;
        // The server closes when it has dealt with it; libpq waits for that, too.
        let _ = timeout(PATIENCE, server.read(&mut [0; 1])).await;
        Ok(())
    }
}
