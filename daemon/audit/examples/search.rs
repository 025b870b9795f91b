//! How long a search takes in a large log: `cargo xtask bench --search`.
//!
//! Makes a log in a temporary folder (some 5 GB for ten million records), indexes it, asks, and
//! removes it.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use chaperone_audit::{
    AuditError, Filter, Log, Options, Reader,
    search::{Words, index},
};
use chaperone_model::{
    AgentAddr, AgentName, Command, CommandKind, CommandStatus, HoldVoted, Intent, OriginalAddr,
    Outcome, Process, ProcessSeen, Protocol, Record, Ref, Response, Run, RunSeen, Rung, Seq,
    SessionOpened, SessionStarted, TargetName, Timestamp, VerdictKind, Version, VersionSource,
};

const AGENTS: u64 = 20;
/// Commands of a session.
const COMMANDS: u64 = 500;
/// Sessions that are live at a time, and take turns.
const SESSIONS: u64 = 8;
/// Commands that are committed together.
const BATCH: u64 = 250;
/// Every so many commands one was held and approved.
const HELD: u64 = 5000;
const ROUNDS: usize = 5;

fn main() -> Result<(), AuditError> {
    let records = std::env::args().nth(1).and_then(|count| count.parse().ok());
    let commands = records.unwrap_or(10_000_000_u64) / 2;
    let folder = match tempfile::Builder::new().prefix("chaperone-search-").tempdir() {
        Ok(folder) => folder,
        Err(error) => return Err(AuditError::Io(error.to_string())),
    };
    let path = folder.path().join("log.sqlite");
    let begun = Instant::now();
    let middle = fill(&path, commands)?;
    println!("written  {:6.1} s  {}", begun.elapsed().as_secs_f64(), sizes(folder.path()));
    let begun = Instant::now();
    index(&path)?;
    println!("indexed  {:6.1} s  {}", begun.elapsed().as_secs_f64(), sizes(folder.path()));
    println!("\n{:<58} {:>8} {:>8} {:>8}", "", "found", "first", "median");
    for (what, words, filter) in searches(middle) {
        let words = words.map(Words::parse).transpose()?;
        let mut times = Vec::new();
        let mut found = 0;
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            // As the command line does: opened for each search.
            found = Reader::open(&path)?.search(words.as_ref(), &filter)?.rows.len();
            times.push(begun.elapsed());
            if begun.elapsed() > Duration::from_secs(10) {
                break;
            }
        }
        let first = times[0];
        times.sort_unstable();
        let median = times[times.len() / 2];
        let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
        println!("{what:<58} {found:>8} {:>8} {:>8}", ms(first), ms(median));
    }
    Ok(())
}

/// What is asked; `middle` is a session and a time in the middle of the log.
fn searches((session, time): (u64, i64)) -> Vec<(&'static str, Option<&'static str>, Filter)> {
    let all = || Filter { limit: Some(100), ..Filter::default() };
    let some = |text: &str| Some(text.to_owned());
    let hour = 3_600_000_000;
    vec![
        ("the newest", None, all()),
        ("a word that one command has", Some("needle"), all()),
        ("a word that no command has", Some("nowhere"), all()),
        ("a word that all commands have", Some("customers"), all()),
        ("two frequent words that never meet", Some("oddity evenness"), all()),
        ("two frequent words and a rare one", Some("customers select needle"), all()),
        ("the begin of a word", Some("customer*"), all()),
        ("the begin of many rare words", Some("ref12345*"), all()),
        ("a phrase", Some("\"where customers id\""), all()),
        ("a phrase that no command has, of rare words", Some("\"needle ref1\""), all()),
        ("an agent", None, Filter { agent: some("agent-7"), ..all() }),
        ("a version", None, Filter { version: some("1.3"), ..all() }),
        ("a run", None, Filter { run: some("run-40"), ..all() }),
        ("a target", None, Filter { target: some("target-1"), ..all() }),
        ("an account", None, Filter { user: some("app-2"), ..all() }),
        ("a session", None, Filter { session: Some(Seq(session)), ..all() }),
        ("a relation that few read", None, Filter { relation: some("secrets"), ..all() }),
        ("a relation that all read", None, Filter { relation: some("customers"), ..all() }),
        ("a class that few have", None, Filter { class: some("destructive"), ..all() }),
        ("a verdict that few have", None, Filter { verdict: some("hold"), ..all() }),
        ("a status that few have", None, Filter { status: some("error"), ..all() }),
        ("an approver", None, Filter { approver: some("grace"), ..all() }),
        ("an approver of one", None, Filter { approver: some("ada"), ..all() }),
        (
            "an hour in the middle",
            None,
            Filter { since: Some(Timestamp(time)), until: Some(Timestamp(time + hour)), ..all() },
        ),
        (
            "an hour in the middle, a frequent word, an agent",
            Some("oddity"),
            Filter {
                since: Some(Timestamp(time)),
                until: Some(Timestamp(time + hour)),
                agent: some("agent-7"),
                ..all()
            },
        ),
        (
            "an agent and a target that never meet",
            None,
            Filter { agent: some("agent-7"), target: some("target-0"), ..all() },
        ),
        (
            "an agent, a version, a class, a relation, a word",
            Some("oddity"),
            Filter {
                agent: some("agent-7"),
                version: some("1.3"),
                class: some("read"),
                relation: some("public.customers"),
                ..all()
            },
        ),
        ("the oldest agent's only run", None, Filter { agent: some("first"), ..all() }),
    ]
}

/// Writes the log; answers a session and a time in the middle.
fn fill(path: &Path, commands: u64) -> Result<(u64, i64), AuditError> {
    let log = Log::open(path, Options::default())?;
    let mut sessions: Vec<u64> = Vec::new();
    let mut opened = 0;
    let mut middle = (0, 0);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut done = 0;
    while done < commands {
        if done % (COMMANDS * SESSIONS) == 0 {
            sessions.clear();
            for _ in 0..SESSIONS {
                sessions.push(open(&log, opened)?);
                opened += 1;
            }
        }
        let numbers = done..commands.min(done + BATCH);
        let at = Timestamp(1_770_000_000_000_000 + done.cast_signed() * 100_000);
        let intents = numbers.clone().map(|number| {
            let session = sessions[usize::try_from(number % SESSIONS).unwrap_or(0)];
            intent(at, number, session, &mut random)
        });
        let seqs = log.commit(intents.collect())?.receipts();
        let mut outcomes: Vec<Record> = Vec::new();
        for (number, receipt) in numbers.zip(&seqs) {
            if number % HELD == 1 {
                outcomes.push(Record::HoldVoted(HoldVoted {
                    at,
                    hold: receipt.seq(),
                    approves: true,
                    uid: 1000,
                    person: if number == 1 { "ada" } else { "grace" }.into(),
                    reason: None,
                }));
            }
            outcomes.push(outcome(at, number, receipt.seq(), &mut random));
        }
        let _ = log.commit(outcomes)?;
        if done < commands / 2 {
            middle = (sessions[0], at.0);
        }
        done += BATCH;
    }
    log.close()?;
    Ok(middle)
}

fn open(log: &Log, number: u64) -> Result<u64, AuditError> {
    let agent = number % AGENTS;
    let name = if number == 0 { "first".into() } else { format!("agent-{agent}") };
    let at = Timestamp(1);
    let process = Process {
        pid: 7,
        started_ns: number,
        exec_id: number,
        uid: 64001,
        gid: 64001,
        cgroup_id: 1,
        cgroup: None,
        executable: Some("/usr/bin/python3".into()),
        binary: None,
        script: None,
        command_line: None,
        folder: None,
        login_uid: None,
    };
    let version = Version { text: format!("1.{}", number / 500 % 5), source: VersionSource::File };
    let seqs = log
        .commit(vec![
            Record::RunSeen(RunSeen {
                at,
                agent: AgentName(name.as_str().into()),
                version: Some(version),
                run: Run {
                    name: format!("run-{number}").into(),
                    unit: None,
                    container: None,
                    image: None,
                },
            }),
            Record::ProcessSeen(ProcessSeen {
                at,
                run: Ref::InBatch(0),
                parent: None,
                process: Arc::new(process),
                lineage: "agent.py → python3".into(),
            }),
            Record::SessionOpened(SessionOpened {
                at,
                process: Ref::InBatch(1),
                comm: "python3".into(),
                doubts: None,
                // So that some agents and targets never meet.
                target: TargetName(format!("target-{}", agent % 2).into()),
                protocol: Protocol::Postgres,
                original: OriginalAddr(([127, 0, 0, 9], 5432).into()),
                agent_addr: AgentAddr(([127, 0, 0, 1], 9999).into()),
                inside: None,
            }),
        ])?
        .receipts();
    let session = seqs[2].seq();
    let _ = log.commit(vec![Record::SessionStarted(SessionStarted {
        at,
        session,
        user: Some(format!("app-{}", agent % 4)),
        database: Some("shop".into()),
        application: None,
        parameters: "{}".into(),
    })])?;
    Ok(session.0)
}

fn intent(at: Timestamp, number: u64, session: u64, random: &mut Random) -> Record {
    let kind = if number % 2 == 1 { "oddity" } else { "evenness" };
    let mut text = format!(
        "SELECT id, name, email, {kind} FROM customers JOIN orders USING (customer_id) WHERE customers.id = {} AND ref = 'ref{}'",
        random.below(1_000_000),
        random.below(100_000_000),
    );
    if number == 77 {
        text.push_str(" -- needle");
    }
    let mut summary = r#"{"statements":[{"kind":"SELECT","class":"read","reads":["public.customers","public.orders"]}]}"#;
    if number % 100_000 == 3 {
        summary = r#"{"statements":[{"kind":"SELECT","class":"read","reads":["public.secrets"]}]}"#;
    }
    let held = number % HELD == 1;
    Record::Intent(Intent {
        at,
        session: Seq(session),
        command: Command {
            parameters: Some(format!("[\"{}\"]", random.below(1000))),
            ..Command::new(CommandKind::Query, Some(text))
        },
        verdict: if held { VerdictKind::Hold } else { VerdictKind::Allow },
        rule: "rule".into(),
        rung: Some(if held { Rung::Destructive } else { Rung::Read }),
        summary: Some(summary.into()),
        approval: None,
        lifted: Vec::new(),
    })
}

fn outcome(at: Timestamp, number: u64, intent: Seq, random: &mut Random) -> Record {
    let failed = number % 20_000 == 5;
    let rows: Vec<String> = (0..random.below(4))
        .map(|_| {
            let person = random.below(200_000);
            format!("[\"{person}\",\"Person {person}\",\"person{person}@example.org\"]")
        })
        .collect();
    Record::Outcome(Outcome {
        at,
        intent,
        part: 0,
        status: if failed { CommandStatus::Error } else { CommandStatus::Ok },
        tag: Some(format!("SELECT {}", rows.len())),
        error_code: failed.then(|| "57014".into()),
        error_message: failed.then(|| "canceling statement due to statement timeout".into()),
        duration_us: 800,
        rows: rows.len() as u64,
        bytes: 200,
        bytes_in: 0,
        response: Some(Response {
            columns: "[\"id\",\"name\",\"email\"]".into(),
            kept: rows.len() as u64,
            rows: format!("[{}]", rows.join(",")),
            truncated: false,
        }),
        notices: None,
        transaction: Some("idle"),
        masked: None,
    })
}

/// Numbers that are the same in every run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// The files and their sizes.
fn sizes(folder: &Path) -> String {
    let mut sizes: Vec<String> = Vec::new();
    for entry in folder.read_dir().into_iter().flatten().flatten() {
        let size = entry.metadata().map_or(0, |about| about.len()) >> 20;
        if size > 0 {
            sizes.push(format!("{} {size} MiB", entry.file_name().to_string_lossy()));
        }
    }
    sizes.sort();
    sizes.join(", ")
}
