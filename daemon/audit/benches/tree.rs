//! What the tree adds to a record: its canonical form, its hashes, and their row.
//!
//! `cargo bench -p chaperone-audit --bench tree`

use chaperone_audit::cost::Tree;
use chaperone_model::{
    Command, CommandKind, CommandStatus, Intent, Outcome, Record, Response, Rung, Seq, Timestamp,
    VerdictKind,
};
use divan::{Bencher, counter::ItemsCount};

fn main() {
    divan::main();
}

/// Records that are appended in a round.
const ROUND: usize = 1000;

fn intent(text: &str) -> Record {
    Record::Intent(Intent {
        at: Timestamp(1_764_000_000_000_000),
        session: Seq(1000),
        command: Command::new(CommandKind::Query, Some(text.into())),
        verdict: VerdictKind::Allow,
        rule: "default".into(),
        rung: Some(Rung::Read),
        summary: None,
        approval: None,
        lifted: Vec::new(),
    })
}

fn outcome(rows: &str) -> Record {
    let mut outcome = Outcome::new(Seq(1001), CommandStatus::Ok, Timestamp(1_764_000_000_000_100));
    outcome.tag = Some("SELECT 1".into());
    (outcome.rows, outcome.bytes) = (1, 80);
    outcome.response = Some(Response {
        columns: "[\"abalance\"]".into(),
        rows: rows.into(),
        kept: 1,
        truncated: false,
    });
    Record::Outcome(outcome)
}

#[divan::bench(args = [60, 600])]
fn intents(bencher: Bencher<'_, '_>, bytes: usize) {
    appended(bencher, &intent(&"x".repeat(bytes)));
}

#[divan::bench(args = [60, 600])]
fn outcomes(bencher: Bencher<'_, '_>, bytes: usize) {
    appended(bencher, &outcome(&"x".repeat(bytes)));
}

fn appended(bencher: Bencher<'_, '_>, record: &Record) {
    let tree = || Tree::new().expect("a tree");
    bencher.counter(ItemsCount::new(ROUND)).with_inputs(tree).bench_refs(|tree| {
        for _ in 0..ROUND {
            tree.append(record).expect("appended");
        }
    });
}
