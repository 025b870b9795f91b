//! The corpus of statements (`tests/corpus/sql`): each is read as what it is, and no disguise makes
//! one harmless.

use chaperone_model::{NameUse, Rung, UNREADABLE};
use chaperone_sql::read::read;

struct Entry {
    head: String,
    notes: String,
    text: String,
}

fn entries(file: &str) -> Vec<Entry> {
    let mut found: Vec<Entry> = Vec::new();
    for line in file.split('\n') {
        if let Some(head) = line.strip_prefix("--- ") {
            found.push(Entry { head: head.into(), notes: String::new(), text: String::new() });
        } else if let Some(entry) = found.last_mut() {
            if let (Some(note), true) = (line.strip_prefix("--:"), entry.text.is_empty()) {
                entry.notes.push_str(note);
                entry.notes.push('\n');
            } else if !line.starts_with("--# ") {
                entry.text.push_str(line);
                entry.text.push('\n');
            }
        }
    }
    found
}

#[test]
fn p2_each_statement_of_the_corpus_is_on_its_rung() {
    let all = entries(include_str!("../../../tests/corpus/sql/statements.sql"));
    assert!(all.len() >= 450, "{}", all.len());
    let mut wrong = Vec::new();
    for entry in &all {
        let (rung, kind) = entry.head.split_once(' ').expect("a rung and a kind");
        let reading = read(&entry.text);
        let found = reading.rung().as_str();
        // What is run by name has its rung in its session: see the daemon's own tests.
        let by_name = reading
            .statements
            .iter()
            .any(|one| matches!(one.name, Some(NameUse::Executes(_) | NameUse::Fetches(_))));
        let has = match kind {
            "EMPTY" => reading.statements.is_empty(),
            "UNKNOWN" => reading.statements.iter().any(|one| one.kind == UNREADABLE),
            kind => reading.statements.iter().any(|one| one.kind == kind),
        };
        if found != rung && !by_name || !has {
            let kinds: Vec<_> = reading
                .statements
                .iter()
                .map(|s| format!("{} {}: {}", s.rung, s.kind, s.reason))
                .collect();
            wrong.push(format!(
                "{} | {}| {} | {:?} {:?}",
                entry.head,
                entry.notes.replace('\n', " "),
                entry.text.trim().replace('\n', " "),
                kinds,
                reading.disagreement
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), all.len(), wrong.join("\n"));
}

#[test]
fn p2_no_disguise_makes_what_is_destructive_harmless() {
    let all = entries(include_str!("../../../tests/corpus/sql/hidden.sql"));
    assert!(all.len() >= 120, "{}", all.len());
    let mut wrong = Vec::new();
    for entry in &all {
        // What only the catalog tells, and what is bounded as far as its text says.
        if entry.notes.contains("limit:") || entry.notes.contains("catalog:") {
            continue;
        }
        let reading = read(&entry.text);
        if reading.rung() < Rung::Destructive {
            wrong.push(format!(
                "{} | {}| {} -> {}",
                entry.head,
                entry.notes.replace('\n', " "),
                entry.text.trim(),
                reading.rung()
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), all.len(), wrong.join("\n"));
}
