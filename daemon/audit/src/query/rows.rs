//! The rows of the log's views as structs, as the command line shows them and gives them as JSON.
//!
//! Does not belong here: which rows are asked for.

use rusqlite::Row;
use serde::Serialize;

/// A row of the view `commands`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CommandRow {
    /// Number of the command's record.
    pub id: u64,
    /// Which statement of the command, from 0.
    pub part: u32,
    /// When, in UTC (RFC 3339).
    pub time: String,
    /// The session.
    pub session: u64,
    /// The agent.
    pub agent: Option<String>,
    /// Its version.
    pub agent_version: Option<String>,
    /// Which of its runs.
    pub run: Option<String>,
    /// The agent's first process and what came of it, down to the one that connected.
    pub lineage: Option<String>,
    /// The target.
    pub target: Option<String>,
    /// The account at the target.
    pub user: Option<String>,
    /// The database, as the agent said.
    pub database: Option<String>,
    /// `query`, `prepare`, `bind`, `execute`, `fetch`, `cancel`, `call`.
    pub kind: String,
    /// The statement.
    pub statement: Option<String>,
    /// Its parameters, as a JSON array.
    pub parameters: Option<String>,
    /// Whether some of them were not kept.
    pub parameters_cut: bool,
    /// `allow`, `deny`, `hold`, or, where the target is only observed, `would-deny`, `would-hold`.
    pub verdict: String,
    /// The rule that said so.
    pub rule: String,
    /// How much it can do: `read`, `write`, `destructive`, `forbidden`.
    pub class: Option<String>,
    /// What it is and touches, as a JSON object.
    pub summary: Option<String>,
    /// The hold whose approval let it through.
    pub approval: Option<u64>,
    /// The masks that are lifted for what it does, each with its exception, as a JSON object.
    pub unmasked: Option<String>,
    /// SHA-256 of the policy in force.
    pub policy: Option<String>,
    /// `ok`, `error`, `suspended`, `skipped`, `refused`, `unknown`, `pending`.
    pub status: String,
    /// The target's word for what was done.
    pub tag: Option<String>,
    /// Rows in the response.
    pub rows: Option<u64>,
    /// Bytes of the response.
    pub bytes: Option<u64>,
    /// Bytes of data that the agent sent along.
    pub bytes_in: Option<u64>,
    /// How long it took, in milliseconds.
    pub duration_ms: Option<f64>,
    /// The target's error code.
    pub error_code: Option<String>,
    /// The target's error message.
    pub error_message: Option<String>,
    /// The transaction afterwards: `idle`, `open`, `failed`.
    pub transaction_state: Option<String>,
    /// How many values each mask masked, as a JSON object.
    pub masked: Option<String>,
    /// User id of the process.
    pub uid: Option<u32>,
    /// The process.
    pub pid: Option<u32>,
    /// Its program.
    pub executable: Option<String>,
    /// The program's SHA-256.
    pub binary: Option<String>,
    /// What an interpreter ran.
    pub script: Option<String>,
    /// The script's SHA-256.
    pub script_digest: Option<String>,
    /// What was doubtful about who it was, as a JSON array.
    pub doubts: Option<String>,
    /// Number of the outcome's record.
    pub outcome: Option<u64>,
}

/// What came back from one statement of a command.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Part {
    /// The statement.
    #[serde(flatten)]
    pub command: CommandRow,
    /// The columns' names, as a JSON array.
    pub columns: Option<String>,
    /// The rows that were kept, as a JSON array.
    pub response: Option<String>,
    /// How many.
    pub kept: Option<u64>,
    /// Whether there were more.
    pub truncated: bool,
    /// The notices, as a JSON array.
    pub notices: Option<String>,
}

/// A command with all that is known of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CommandDetail {
    /// Its session.
    pub session: Option<SessionRow>,
    /// Its statements.
    pub parts: Vec<Part>,
}

/// A row of the view `sessions`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SessionRow {
    /// Number of the session's first record.
    pub id: u64,
    /// When, in UTC.
    pub opened: String,
    /// When, in UTC; nothing while it is live.
    pub closed: Option<String>,
    /// The agent.
    pub agent: String,
    /// Its version.
    pub agent_version: Option<String>,
    /// Which of its runs.
    pub run: Option<String>,
    /// The systemd unit.
    pub unit: Option<String>,
    /// The container.
    pub container: Option<String>,
    /// The digest of the image that the container was started from.
    pub image: Option<String>,
    /// Number of the process's record.
    pub process: u64,
    /// The agent's first process and what came of it, down to this one.
    pub lineage: Option<String>,
    /// User id of the process.
    pub uid: u32,
    /// The process.
    pub pid: u32,
    /// Its program.
    pub executable: Option<String>,
    /// The program's SHA-256.
    pub binary: Option<String>,
    /// What an interpreter ran.
    pub script: Option<String>,
    /// The script's SHA-256.
    pub script_digest: Option<String>,
    /// Its command line.
    pub command_line: Option<String>,
    /// Its working folder.
    pub folder: Option<String>,
    /// Its cgroup.
    pub cgroup: Option<String>,
    /// The user who logged in.
    pub login_uid: Option<u32>,
    /// The thread's name, which the process can choose.
    pub comm: String,
    /// What was doubtful about who it was, as a JSON array.
    pub doubts: Option<String>,
    /// The target.
    pub target: String,
    /// What it speaks.
    pub protocol: String,
    /// The address that the agent asked for.
    pub server: String,
    /// The account at the target.
    pub user: Option<String>,
    /// The database, as the agent said.
    pub database: Option<String>,
    /// What the client calls itself.
    pub application: Option<String>,
    /// The account that the agent asked for.
    pub asked_user: Option<String>,
    /// How the target was convinced: `relayed`, or the daemon's own method.
    pub sign_on: Option<String>,
    /// Protocol and cipher suite of the agent's connection.
    pub agent_tls: Option<String>,
    /// Protocol and cipher suite of the connection to the target.
    pub target_tls: Option<String>,
    /// What the target was told as `application_name`.
    pub target_application: Option<String>,
    /// Commands, without those that only prepared.
    pub commands: u64,
    /// `agent`, `target` or `daemon`.
    pub closed_by: Option<String>,
    /// Why.
    pub detail: Option<String>,
    /// Bytes from the agent that were forwarded; nothing while it is live.
    pub bytes_up: Option<u64>,
    /// Bytes to the agent that were forwarded; nothing while it is live.
    pub bytes_down: Option<u64>,
    /// The session whose tunnel it is in.
    pub inside: Option<u64>,
}

/// A row of the view `exceptions`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ExceptionRow {
    /// Number of its first record.
    pub id: u64,
    /// When it was asked for, in UTC.
    pub time: String,
    /// The mask.
    pub mask: String,
    /// The agent.
    pub agent: String,
    /// Its run.
    pub run: String,
    /// On this target alone.
    pub target: Option<String>,
    /// Who asked for it.
    pub asked_by: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// Who had to be for it.
    pub approvers: Option<String>,
    /// `asked`, `granted`, `denied`, `revoked`, `expired`, `ended`.
    pub state: String,
    /// When it was granted.
    pub granted: Option<String>,
    /// Until when it was to hold then.
    pub until: Option<String>,
    /// When it was over.
    pub ended: Option<String>,
    /// Who ended it, where somebody did.
    pub ended_by: Option<String>,
    /// Why it was over.
    pub detail: Option<String>,
    /// Who said what, when and why, as a JSON array.
    pub words: Option<String>,
    /// Commands that were shown something by it.
    pub uses: u64,
}

/// A row of the view `holds`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HoldRow {
    /// Number of the command's record.
    pub id: u64,
    /// When it was held, in UTC.
    pub time: String,
    /// The agent.
    pub agent: Option<String>,
    /// Its version.
    pub agent_version: Option<String>,
    /// Which of its runs.
    pub run: Option<String>,
    /// The target.
    pub target: Option<String>,
    /// The statement.
    pub statement: Option<String>,
    /// Its parameters, as a JSON array.
    pub parameters: Option<String>,
    /// How much it can do.
    pub class: Option<String>,
    /// The rule that held it.
    pub rule: String,
    /// Who may approve it.
    pub approvers: String,
    /// How many of them it takes.
    pub quorum: u32,
    /// Until when, in UTC.
    pub deadline: String,
    /// `open`, `approved`, `denied`, `expired`, `withdrawn`.
    pub state: String,
    /// When it ended, in UTC.
    pub ended: Option<String>,
    /// A sentence on how.
    pub detail: Option<String>,
    /// What people said, as a JSON array.
    pub words: String,
    /// Commands that an approval let through later.
    pub uses: u64,
}

/// A row of the view `runs`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunRow {
    /// Number of its record.
    pub id: u64,
    /// The agent.
    pub agent: String,
    /// Its version.
    pub agent_version: Option<String>,
    /// `configuration`, `digest`, `script`, `image`, `file`, `package`, or `said` by the agent.
    pub version_source: Option<String>,
    /// The run.
    pub run: String,
    /// The systemd unit.
    pub unit: Option<String>,
    /// The container.
    pub container: Option<String>,
    /// The digest of the image that the container was started from.
    pub image: Option<String>,
    /// When it was first seen, in UTC.
    pub first_seen: String,
    /// Its sessions.
    pub sessions: u64,
    /// The targets that it opened, with commas between.
    pub targets: Option<String>,
    /// When it last opened one, in UTC.
    pub last_session: Option<String>,
}

impl RunRow {
    /// The same run, as an earlier file has it.
    pub(super) fn began_as(&mut self, earlier: Self) {
        self.id = self.id.min(earlier.id);
        self.first_seen = self.first_seen.as_str().min(&earlier.first_seen).to_owned();
        self.sessions += earlier.sessions;
        self.last_session = self.last_session.take().max(earlier.last_session);
        let targets = [self.targets.take(), earlier.targets].into_iter().flatten();
        let targets: Vec<String> = targets.collect();
        let mut targets: Vec<&str> = targets.iter().flat_map(|some| some.split(',')).collect();
        targets.sort_unstable();
        targets.dedup();
        self.targets = (!targets.is_empty()).then(|| targets.join(","));
    }
}

/// A row of the view `binaries`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BinaryRow {
    /// `program` or `script`.
    pub kind: String,
    /// Its file.
    pub path: Option<String>,
    /// Its SHA-256.
    pub digest: Option<String>,
    /// The agent.
    pub agent: String,
    /// Its version.
    pub agent_version: Option<String>,
    /// What it opened, or what came of it did.
    pub target: String,
    /// How often.
    pub sessions: u64,
    /// When first, in UTC.
    pub first_session: String,
    /// When last, in UTC.
    pub last_session: String,
}

impl BinaryRow {
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let key = |row: &Self| {
            (
                row.kind.clone(),
                row.path.clone(),
                row.digest.clone(),
                row.agent.clone(),
                row.agent_version.clone(),
                row.target.clone(),
            )
        };
        key(self) == key(other)
    }

    /// The same, as an earlier file has it.
    pub(super) fn began_as(&mut self, earlier: Self) {
        self.sessions += earlier.sessions;
        self.first_session = earlier.first_session.min(self.first_session.clone());
        self.last_session = earlier.last_session.max(self.last_session.clone());
    }
}

/// A row of the view `events`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EventRow {
    /// Number of its record.
    pub id: u64,
    /// When, in UTC.
    pub time: String,
    /// The session, where it belongs to one.
    pub session: Option<u64>,
    /// Which kind.
    pub kind: String,
    /// A sentence.
    pub detail: String,
}

pub(super) fn command_row(row: &Row<'_>) -> rusqlite::Result<CommandRow> {
    Ok(CommandRow {
        id: row.get("id")?,
        part: row.get("part")?,
        time: row.get("time")?,
        session: row.get("session")?,
        agent: row.get("agent")?,
        agent_version: row.get("agent_version")?,
        run: row.get("run")?,
        lineage: row.get("lineage")?,
        target: row.get("target")?,
        user: row.get("user")?,
        database: row.get("database")?,
        kind: row.get("kind")?,
        statement: row.get("statement")?,
        parameters: row.get("parameters")?,
        parameters_cut: row.get("parameters_cut")?,
        verdict: row.get("verdict")?,
        rule: row.get("rule")?,
        class: row.get("class")?,
        summary: row.get("summary")?,
        approval: row.get("approval")?,
        unmasked: row.get("unmasked")?,
        policy: row.get("policy")?,
        status: row.get("status")?,
        tag: row.get("tag")?,
        rows: row.get("rows")?,
        bytes: row.get("bytes")?,
        bytes_in: row.get("bytes_in")?,
        duration_ms: row.get("duration_ms")?,
        error_code: row.get("error_code")?,
        error_message: row.get("error_message")?,
        transaction_state: row.get("transaction_state")?,
        masked: row.get("masked")?,
        uid: row.get("uid")?,
        pid: row.get("pid")?,
        executable: row.get("executable")?,
        binary: row.get("binary")?,
        script: row.get("script")?,
        script_digest: row.get("script_digest")?,
        doubts: row.get("doubts")?,
        outcome: row.get("outcome")?,
    })
}

pub(super) fn hold_row(row: &Row<'_>) -> rusqlite::Result<HoldRow> {
    Ok(HoldRow {
        id: row.get("id")?,
        time: row.get("time")?,
        agent: row.get("agent")?,
        agent_version: row.get("agent_version")?,
        run: row.get("run")?,
        target: row.get("target")?,
        statement: row.get("statement")?,
        parameters: row.get("parameters")?,
        class: row.get("class")?,
        rule: row.get("rule")?,
        approvers: row.get("approvers")?,
        quorum: row.get("quorum")?,
        deadline: row.get("deadline")?,
        state: row.get("state")?,
        ended: row.get("ended")?,
        detail: row.get("detail")?,
        words: row.get("words")?,
        uses: row.get("uses")?,
    })
}

pub(super) fn exception_row(row: &Row<'_>) -> rusqlite::Result<ExceptionRow> {
    Ok(ExceptionRow {
        id: row.get("id")?,
        time: row.get("time")?,
        mask: row.get("mask")?,
        agent: row.get("agent")?,
        run: row.get("run")?,
        target: row.get("target")?,
        asked_by: row.get("asked_by")?,
        reason: row.get("reason")?,
        approvers: row.get("approvers")?,
        state: row.get("state")?,
        granted: row.get("granted")?,
        until: row.get("until")?,
        ended: row.get("ended")?,
        ended_by: row.get("ended_by")?,
        detail: row.get("detail")?,
        words: row.get("words")?,
        uses: row.get("uses")?,
    })
}

pub(super) fn session_row(row: &Row<'_>) -> rusqlite::Result<SessionRow> {
    Ok(SessionRow {
        id: row.get("id")?,
        opened: row.get("opened")?,
        closed: row.get("closed")?,
        agent: row.get("agent")?,
        agent_version: row.get("agent_version")?,
        run: row.get("run")?,
        unit: row.get("unit")?,
        container: row.get("container")?,
        image: row.get("image")?,
        process: row.get("process")?,
        lineage: row.get("lineage")?,
        uid: row.get("uid")?,
        pid: row.get("pid")?,
        executable: row.get("executable")?,
        binary: row.get("binary")?,
        script: row.get("script")?,
        script_digest: row.get("script_digest")?,
        command_line: row.get("command_line")?,
        folder: row.get("folder")?,
        cgroup: row.get("cgroup")?,
        login_uid: row.get("login_uid")?,
        comm: row.get("comm")?,
        doubts: row.get("doubts")?,
        target: row.get("target")?,
        protocol: row.get("protocol")?,
        server: row.get("server")?,
        user: row.get("user")?,
        database: row.get("database")?,
        application: row.get("application")?,
        asked_user: row.get("asked_user")?,
        sign_on: row.get("sign_on")?,
        agent_tls: row.get("agent_tls")?,
        target_tls: row.get("target_tls")?,
        target_application: row.get("target_application")?,
        commands: row.get("commands")?,
        closed_by: row.get("closed_by")?,
        detail: row.get("detail")?,
        bytes_up: row.get("bytes_up")?,
        bytes_down: row.get("bytes_down")?,
        inside: row.get("inside")?,
    })
}

pub(super) fn event_row(row: &Row<'_>) -> rusqlite::Result<EventRow> {
    Ok(EventRow {
        id: row.get("id")?,
        time: row.get("time")?,
        session: row.get("session")?,
        kind: row.get("kind")?,
        detail: row.get("detail")?,
    })
}

pub(super) fn run_row(row: &Row<'_>) -> rusqlite::Result<RunRow> {
    Ok(RunRow {
        id: row.get("id")?,
        agent: row.get("agent")?,
        agent_version: row.get("agent_version")?,
        version_source: row.get("version_source")?,
        run: row.get("run")?,
        unit: row.get("unit")?,
        container: row.get("container")?,
        image: row.get("image")?,
        first_seen: row.get("first_seen")?,
        sessions: row.get("sessions")?,
        targets: row.get("targets")?,
        last_session: row.get("last_session")?,
    })
}

pub(super) fn binary_row(row: &Row<'_>) -> rusqlite::Result<BinaryRow> {
    Ok(BinaryRow {
        kind: row.get("kind")?,
        path: row.get("path")?,
        digest: row.get("digest")?,
        agent: row.get("agent")?,
        agent_version: row.get("agent_version")?,
        target: row.get("target")?,
        sessions: row.get("sessions")?,
        first_session: row.get("first_session")?,
        last_session: row.get("last_session")?,
    })
}
