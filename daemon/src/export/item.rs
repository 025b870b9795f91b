//! What is handed on: one command with its outcome, who did it and who approved it.
//!
//! Does not belong here: the forms in which it is handed on.

use std::rc::Rc;

use chaperone_audit::{CommandRow, Finished, HoldRow, Reader, SessionRow};
use chaperone_model::{Digest, Seq};
use serde::{Deserialize, Serialize, Serializer};

/// Sessions that are kept in mind: commands of one come close together.
const SESSIONS: usize = 256;

/// One command, or one statement of it, that is over.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Item {
    /// The host. With `outcome` it tells the item from all others.
    pub(crate) host: Rc<str>,
    #[serde(flatten)]
    pub(crate) finished: Finished,
    /// The leaf hashes of the command's record and the outcome's.
    #[serde(serialize_with = "hashes")]
    pub(crate) leaves: [Option<[u8; 32]>; 2],
    /// Its session. Of one that is live it is not known yet how it ends.
    #[serde(rename = "connection")]
    pub(crate) session: Option<Rc<SessionRow>>,
    /// How it waited for a person, or what it was approved by.
    pub(crate) hold: Option<HoldRow>,
}

/// What was read out of the text, as `summary` has it.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Summary {
    #[serde(default)]
    pub(crate) statements: Vec<Statement>,
}

/// One statement of a text.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Statement {
    #[serde(default)]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) reads: Vec<String>,
    #[serde(default)]
    pub(crate) writes: Vec<String>,
}

/// What a person said of a command that waited.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Word {
    pub(crate) person: String,
    pub(crate) approves: bool,
    pub(crate) reason: Option<String>,
    pub(crate) time: String,
}

impl Item {
    pub(crate) fn command(&self) -> &CommandRow {
        &self.finished.part.command
    }

    /// When the command was decided, in microseconds since 1970.
    pub(crate) fn at_us(&self) -> i64 {
        let time = self.command().time.parse::<jiff::Timestamp>();
        time.map(jiff::Timestamp::as_microsecond).unwrap_or_default()
    }

    /// The statement that this item is, where the text was read; of several, by its place.
    pub(crate) fn statement(&self) -> Option<Statement> {
        let summary: Summary = serde_json::from_str(self.command().summary.as_deref()?).ok()?;
        let place = self.command().part as usize;
        summary.statements.into_iter().nth(place)
    }

    /// What people said.
    pub(crate) fn words(&self) -> Vec<Word> {
        let words = self.hold.as_ref().map(|hold| hold.words.as_str());
        words.and_then(|words| serde_json::from_str(words).ok()).unwrap_or_default()
    }

    /// Those who were for it.
    pub(crate) fn approved_by(&self) -> Vec<String> {
        self.words().into_iter().filter(|word| word.approves).map(|word| word.person).collect()
    }

    /// A leaf hash in hexadecimal.
    pub(crate) fn leaf(&self, which: usize) -> Option<String> {
        self.leaves.get(which).copied().flatten().map(|leaf| Digest(leaf).to_string())
    }
}

fn hashes<S: Serializer>(leaves: &[Option<[u8; 32]>; 2], to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Leaves {
        intent: Option<String>,
        outcome: Option<String>,
    }
    let [intent, outcome] = leaves.map(|leaf| leaf.map(|leaf| Digest(leaf).to_string()));
    Leaves { intent, outcome }.serialize(to)
}

/// Puts items together.
pub(crate) struct Items<'a> {
    reader: &'a Reader,
    host: Rc<str>,
    sessions: Vec<(u64, Option<Rc<SessionRow>>)>,
}

impl<'a> Items<'a> {
    pub(crate) fn new(reader: &'a Reader) -> Result<Self, chaperone_audit::AuditError> {
        let host = reader.host()?.unwrap_or_default().into();
        Ok(Self { reader, host, sessions: Vec::new() })
    }

    /// With all that belongs to it.
    pub(crate) fn item(&mut self, finished: Finished) -> Result<Item, chaperone_audit::AuditError> {
        let command = &finished.part.command;
        let session = self.session(command.session)?;
        let waited = command.approval.or_else(|| (command.verdict == "hold").then_some(command.id));
        let hold = match waited {
            Some(id) => self.reader.hold(Seq(id))?,
            None => None,
        };
        let leaves = [finished.intent_leaf, finished.outcome_leaf];
        Ok(Item { host: self.host.clone(), finished, leaves, session, hold })
    }

    fn session(&mut self, id: u64) -> Result<Option<Rc<SessionRow>>, chaperone_audit::AuditError> {
        if let Some((_, known)) = self.sessions.iter().find(|(known, _)| *known == id) {
            return Ok(known.clone());
        }
        let found = self.reader.session(Seq(id))?.map(Rc::new);
        if self.sessions.len() >= SESSIONS {
            self.sessions.remove(0);
        }
        self.sessions.push((id, found.clone()));
        Ok(found)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use chaperone_audit::Part;

    use super::*;

    /// What an agent would write to deceive whoever reads it.
    pub(crate) const HOSTILE: &str = "=cmd()|'/C calc'!A0\r\n\"q\" a|b c=d \\ \u{0}\u{1b}[2J </script><img src=x onerror=alert(1)>\u{202e}\u{2028}";

    /// An item with everything in it.
    pub(crate) fn item() -> Item {
        let command = CommandRow {
            id: 40,
            part: 0,
            time: "2026-05-01T12:00:00.250000Z".into(),
            session: 12,
            agent: Some("cleaner".into()),
            agent_version: Some("1.4.2".into()),
            run: Some("0f6c".into()),
            lineage: Some("agent.py → sh → psql".into()),
            target: Some("prod".into()),
            user: Some("app_rw".into()),
            database: Some("shop".into()),
            kind: "query".into(),
            statement: Some("DELETE FROM public.customers WHERE id = 7".into()),
            parameters: Some("[]".into()),
            parameters_cut: false,
            verdict: "hold".into(),
            rule: "destructive statements need a person".into(),
            class: Some("destructive".into()),
            summary: Some(
                r#"{"statements":[{"kind":"DELETE","class":"destructive","reason":"it deletes","writes":["public.customers"]}]}"#.into(),
            ),
            approval: None,
            policy: Some("ab".repeat(32)),
            status: "ok".into(),
            tag: Some("DELETE 1".into()),
            rows: Some(0),
            bytes: Some(24),
            bytes_in: Some(0),
            duration_ms: Some(1.5),
            error_code: None,
            error_message: None,
            transaction_state: Some("idle".into()),
            uid: Some(64_001),
            pid: Some(4242),
            executable: Some("/usr/bin/psql".into()),
            binary: Some("07".repeat(32)),
            script: None,
            script_digest: None,
            doubts: None,
            outcome: Some(44),
        };
        let session = SessionRow {
            id: 12,
            opened: "2026-05-01T11:59:00.000000Z".into(),
            closed: None,
            agent: "cleaner".into(),
            agent_version: Some("1.4.2".into()),
            run: Some("0f6c".into()),
            unit: Some("cleaner.service".into()),
            container: None,
            process: 11,
            lineage: Some("agent.py → sh → psql".into()),
            uid: 64_001,
            pid: 4242,
            executable: Some("/usr/bin/psql".into()),
            binary: Some("07".repeat(32)),
            script: None,
            script_digest: None,
            command_line: Some("psql -c x".into()),
            folder: Some("/srv".into()),
            cgroup: Some("/system.slice/cleaner.service".into()),
            login_uid: None,
            comm: "psql".into(),
            doubts: None,
            target: "prod".into(),
            protocol: "postgres".into(),
            server: "10.0.0.9:5432".into(),
            user: Some("app_rw".into()),
            database: Some("shop".into()),
            application: Some("psql".into()),
            asked_user: Some("postgres".into()),
            sign_on: Some("SCRAM-SHA-256".into()),
            agent_tls: None,
            target_tls: None,
            target_application: None,
            commands: 1,
            closed_by: None,
            detail: None,
            bytes_up: None,
            bytes_down: None,
        };
        let hold = HoldRow {
            id: 40,
            time: "2026-05-01T12:00:00.250000Z".into(),
            agent: Some("cleaner".into()),
            agent_version: Some("1.4.2".into()),
            run: Some("0f6c".into()),
            target: Some("prod".into()),
            statement: None,
            parameters: None,
            class: Some("destructive".into()),
            rule: "destructive statements need a person".into(),
            approvers: "group:dba".into(),
            quorum: 1,
            deadline: "2026-05-01T12:10:00.000000Z".into(),
            state: "approved".into(),
            ended: Some("2026-05-01T12:00:09.000000Z".into()),
            detail: None,
            words: r#"[{"person":"ada","uid":1000,"approves":true,"reason":"ticket 12","time":"2026-05-01T12:00:09.000000Z"}]"#.into(),
            uses: 0,
        };
        let part = Part {
            command,
            columns: Some(r#"["id"]"#.into()),
            response: Some(r#"[["7"],[null]]"#.into()),
            kept: Some(2),
            truncated: false,
            notices: None,
        };
        Item {
            host: "db1".into(),
            finished: Finished { part, intent_leaf: None, outcome_leaf: None },
            leaves: [Some([1; 32]), Some([2; 32])],
            session: Some(Rc::new(session)),
            hold: Some(hold),
        }
    }

    /// The same, with everything that agents choose being hostile.
    pub(crate) fn hostile() -> Item {
        let mut item = item();
        let text = || Some(HOSTILE.to_owned());
        let command = &mut item.finished.part.command;
        command.statement = text();
        command.error_message = text();
        command.lineage = text();
        command.database = text();
        command.executable = text();
        command.parameters = Some(serde_json::json!([HOSTILE]).to_string());
        item.finished.part.response = Some(serde_json::json!([[HOSTILE]]).to_string());
        item.finished.part.columns = Some(serde_json::json!([HOSTILE]).to_string());
        item
    }

    #[test]
    fn an_item_knows_its_statement_and_who_approved_it() {
        let item = item();
        assert_eq!(item.at_us(), 1_777_636_800_250_000);
        assert_eq!(item.statement().expect("a statement").writes, ["public.customers"]);
        assert_eq!(item.approved_by(), ["ada"]);
        assert_eq!(item.leaf(0), Some("01".repeat(32)));
    }
}
