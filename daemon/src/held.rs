//! A command that waits for a person, as it is recorded and shown, whatever protocol it came by.
//!
//! Does not belong here: who waits for the answer, and what an approval is for.

use chaperone_control::Hold;
use chaperone_model::{Command, Digest, HoldOpened, Ref, Seq, Timestamp};
use chaperone_policy::Terms;

use crate::{
    approvals::after,
    relay::{Account, lasts},
    session::Session,
};

/// What is known of it.
pub(crate) struct Held<'a> {
    pub(crate) session: &'a Session,
    pub(crate) account: &'a Account,
    pub(crate) terms: &'a Terms,
    pub(crate) command: &'a Command,
    /// Since when.
    pub(crate) at: Timestamp,
    pub(crate) in_transaction: bool,
    /// What it tells of masked columns.
    pub(crate) guesses: &'a [String],
}

impl Held<'_> {
    /// Until when it waits.
    pub(crate) fn deadline(&self) -> Timestamp {
        after(self.at, self.terms.deadline)
    }

    /// Its record, behind that of the command in the same batch.
    pub(crate) fn opened(&self, digest: [u8; 32]) -> HoldOpened {
        HoldOpened {
            at: self.at,
            hold: Ref::InBatch(0),
            approvers: self.terms.approver_lines().join(" and "),
            quorum: self.terms.quorum_of_all(),
            deadline: self.deadline(),
            wait: self.terms.wait.as_str(),
            digest: Digest(digest),
        }
    }

    /// As approvers see it.
    pub(crate) fn shown(&self, hold: Seq) -> Hold {
        let Self { session, account, terms, command, .. } = self;
        let identity = &session.identity;
        Hold {
            id: hold,
            since: self.at,
            deadline: self.deadline(),
            wait: terms.wait.as_str().into(),
            agent: identity.agent.to_string(),
            version: identity.version.as_ref().map(|version| version.text.clone()),
            run: identity.run.name.to_string(),
            lineage: identity.lineage_line(),
            doubts: identity.doubts.iter().map(ToString::to_string).collect(),
            session: session.id,
            in_transaction: self.in_transaction,
            target: session.target.to_string(),
            database: account.database.clone(),
            user: account.user.clone(),
            rule: terms.rule.to_string(),
            approvers: terms.approver_lines(),
            quorum: terms.quorum_of_all(),
            approved_by: Vec::new(),
            lasts: lasts(terms),
            statement: command.text.clone(),
            laid_out: None,
            parameters: command.parameters.clone(),
            reading: command.reading.as_deref().cloned(),
            guesses: self.guesses.to_vec(),
            inspection: None,
            before: Vec::new(),
        }
    }

    /// Accounts that it runs under, or was started from: none of them approves it.
    pub(crate) fn askers(&self) -> Vec<u32> {
        let lineage = self.session.identity.lineage.iter();
        lineage.flat_map(|process| [Some(process.uid), process.login_uid]).flatten().collect()
    }
}
