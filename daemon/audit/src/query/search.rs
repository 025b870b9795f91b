//! Searching the log: each file's index proposes commands, and what it does not know yet is walked
//! through; the log's own rows decide.
//!
//! Does not belong here: the index (`search.rs`).

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::Path,
};

use chaperone_model::Seq;

use super::{CommandRow, Filter, Reader, Rows, files::File};
use crate::{
    AuditError,
    search::{Index, Kind, Loader, Matcher, Token, Words, touched},
};

/// Commands that are looked at together: first a few, since the newest are often enough.
const FIRST: usize = 128;
const MOST: usize = 4096;

/// What a search found.
#[derive(Debug)]
pub struct Found {
    /// The commands, the newest first.
    pub rows: Vec<CommandRow>,
    /// Which files were searched without an index and why, each a sentence.
    pub plainly: Vec<String>,
}

impl Reader {
    /// The newest commands in which words stand, of those that a filter lets through.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn search(&self, words: Option<&Words>, filter: &Filter) -> Result<Found, AuditError> {
        let limit = filter.limit.map_or(usize::MAX, |limit| limit as usize);
        let holds = self.holds_of(filter)?;
        let mut found = Found { rows: Vec::new(), plainly: Vec::new() };
        let files = self.files()?;
        for file in files.newest_first() {
            if found.rows.len() >= limit || files.all_before(file, filter.since) {
                break;
            }
            let search = Search { words, filter, holds: holds.as_deref(), limit };
            let rows = match search.with_index(file)? {
                Ok(rows) => rows,
                Err(why) => {
                    found.plainly.push(why);
                    search.run(file, &Plan::without_index())?
                }
            };
            for row in rows {
                // A command that was carried over has its outcome in one of the files.
                let mut others = files.newest_first().filter(|other| other.path != file.path);
                let is_elsewhere = row.outcome.is_none()
                    && others.try_fold(false, |found, other| {
                        Ok::<_, AuditError>(found || has_outcome(other, row.id)?)
                    })?;
                if !is_elsewhere {
                    found.rows.push(row);
                }
            }
        }
        let mut seen = HashSet::new();
        found.rows.retain(|row| seen.insert((row.id, row.part)));
        found.rows.sort_by_key(|row| std::cmp::Reverse((row.id, row.part)));
        found.rows.truncate(limit);
        Ok(found)
    }

    /// The holds that the approver whom a filter names has approved, as a JSON array.
    pub(super) fn approved(&self, filter: &Filter) -> Result<Option<String>, AuditError> {
        Ok(self.holds_of(filter)?.map(|holds| json(&holds)))
    }

    fn holds_of(&self, filter: &Filter) -> Result<Option<Vec<i64>>, AuditError> {
        let Some(approver) = &filter.approver else { return Ok(None) };
        let mut holds = BTreeSet::new();
        for file in self.files()?.newest_first() {
            let sql = "SELECT hold FROM hold_voted WHERE approves AND person = ?";
            let mut statement = file.connection.prepare_cached(sql)?;
            for hold in statement.query_map([approver], |row| row.get(0))? {
                holds.insert(hold?);
            }
        }
        Ok(Some(holds.into_iter().collect()))
    }
}

struct Search<'a> {
    words: Option<&'a Words>,
    filter: &'a Filter,
    /// Approved by whom is asked for.
    holds: Option<&'a [i64]>,
    limit: usize,
}

/// Where commands are looked for in a file.
struct Plan {
    index: Option<Index>,
    matching: Matching,
    /// Numbers of commands that can be of the time, of those that the index knows.
    range: (i64, i64),
    indexed: Seq,
    /// Commands that are looked at in any case.
    others: BTreeSet<i64>,
}

/// What the index is asked.
enum Matching {
    /// Nothing: all commands of the range are looked at.
    All,
    /// Nothing: no command that it knows can be meant.
    None,
    /// This, in FTS5's language.
    Terms(String),
}

impl Plan {
    fn without_index() -> Self {
        Self {
            index: None,
            matching: Matching::All,
            range: (1, i64::MAX),
            indexed: Seq(0),
            others: BTreeSet::new(),
        }
    }

    /// The next commands to look at, the newest first, and where to go on, unless that was all.
    fn candidates(
        &self,
        file: &File,
        before: i64,
        count: usize,
    ) -> Result<(Vec<i64>, Option<i64>), AuditError> {
        let later = self.indexed.0.cast_signed().saturating_add(1);
        if later < before {
            let tail = self.others.range(later..before).rev().take(count);
            let tail: Vec<i64> = tail.copied().collect();
            if tail.len() >= count {
                let end = tail.last().copied();
                return Ok((tail, end));
            }
        }
        let (first, last) = (self.range.0, self.range.1.min(before - 1));
        let mut proposed = match (&self.index, &self.matching) {
            (_, Matching::None) => Vec::new(),
            _ if first > last => Vec::new(),
            (Some(index), Matching::Terms(terms)) => index.newest(terms, (first, last), count)?,
            _ => walked(file, (first, last), count)?,
        };
        let end = proposed.last().copied().filter(|_| proposed.len() >= count);
        let others = self.others.range(end.unwrap_or(0)..before);
        proposed.extend(others);
        proposed.sort_unstable_by_key(|seq| std::cmp::Reverse(*seq));
        proposed.dedup();
        Ok((proposed, end))
    }
}

impl Search<'_> {
    /// Searches with the index, or says why that cannot be.
    fn with_index(&self, file: &File) -> Result<Result<Vec<CommandRow>, String>, AuditError> {
        let plan = match self.plan(file) {
            Ok(Ok(plan)) => plan,
            Ok(Err(why)) => return Ok(Err(sentence(&file.path, why))),
            Err(_) => return Ok(Err(sentence(&file.path, "cannot be read"))),
        };
        match self.run(file, &plan) {
            Err(AuditError::Corrupt(_)) if plan.index.is_some() => {
                Ok(Err(sentence(&file.path, "is damaged")))
            }
            result => result.map(Ok),
        }
    }

    fn plan(&self, file: &File) -> Result<Result<Plan, &'static str>, AuditError> {
        let Some(index) = Index::open_reading(&file.path)? else { return Ok(Err("is missing")) };
        // One view of the index throughout. The log is read later, and so knows all that it does.
        index.begin()?;
        if !index.belongs_to(&file.connection)? {
            return Ok(Err("is not of this log"));
        }
        let indexed = index.indexed()?;
        let range = index.range(self.filter.since, self.filter.until)?;
        let mut others = index.unfinished()?;
        let later = touched(&file.connection, indexed, Seq(i64::MAX.cast_unsigned()))?;
        others.extend(later.into_iter().map(|seq| seq.0.cast_signed()));
        let matching = self.matching(&index)?;
        Ok(Ok(Plan { index: Some(index), matching, range, indexed, others }))
    }

    /// The words and names that are asked for.
    fn matching(&self, index: &Index) -> Result<Matching, AuditError> {
        let filter = self.filter;
        let mut terms: Vec<String> = Vec::new();
        for (kind, name) in [
            (Kind::Agent, &filter.agent),
            (Kind::Version, &filter.version),
            (Kind::Run, &filter.run),
            (Kind::Target, &filter.target),
            (Kind::User, &filter.user),
            (Kind::Class, &filter.class),
            (Kind::Verdict, &filter.verdict),
            (Kind::Status, &filter.status),
            (Kind::Relation, &filter.relation),
            (Kind::Program, &filter.program),
        ] {
            let Some(name) = name else { continue };
            match index.look_up(kind, name)? {
                Some(number) => terms.push(quoted(Token::Name, number)),
                None => return Ok(Matching::None),
            }
        }
        terms.extend(filter.session.map(|session| quoted(Token::Session, session.0)));
        if let Some(holds) = self.holds {
            if holds.is_empty() {
                return Ok(Matching::None);
            }
            let holds = holds.iter().map(|hold| quoted(Token::Approval, hold.cast_unsigned()));
            terms.push(format!("({})", holds.collect::<Vec<_>>().join(" OR ")));
        }
        terms.extend(self.words.map(|words| words.roughly().to_owned()));
        Ok(if terms.is_empty() { Matching::All } else { Matching::Terms(terms.join(" AND ")) })
    }

    fn run(&self, file: &File, plan: &Plan) -> Result<Vec<CommandRow>, AuditError> {
        let mut found = Vec::new();
        let mut verifier = Verifier::new(self)?;
        let mut before = self.filter.before.map_or(i64::MAX, |before| before.0.cast_signed());
        let mut at_a_time = FIRST;
        while found.len() < self.limit {
            let (candidates, end) = plan.candidates(file, before, at_a_time)?;
            found.extend(verifier.keep(file, &candidates)?);
            let Some(end) = end else { break };
            before = end;
            at_a_time = (at_a_time * 4).min(MOST);
        }
        Ok(found)
    }
}

/// Commands without an index, the newest first.
fn walked(file: &File, range: (i64, i64), count: usize) -> Result<Vec<i64>, AuditError> {
    let mut statement = file.connection.prepare_cached(
        "SELECT seq FROM intent WHERE seq >= ? AND seq <= ? ORDER BY seq DESC LIMIT ?",
    )?;
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let rows = statement.query_map([range.0, range.1, count], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Looks at what was proposed.
struct Verifier<'a> {
    search: &'a Search<'a>,
    approved: Option<String>,
    words: Option<(&'a Words, Matcher)>,
    loader: Loader,
}

impl<'a> Verifier<'a> {
    fn new(search: &'a Search<'a>) -> Result<Self, AuditError> {
        let words = search.words.map(|words| Ok::<_, AuditError>((words, Matcher::new()?)));
        Ok(Self {
            search,
            approved: search.holds.map(json),
            words: words.transpose()?,
            loader: Loader::default(),
        })
    }

    fn keep(&mut self, file: &File, candidates: &[i64]) -> Result<Vec<CommandRow>, AuditError> {
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        let which = Rows::Of(json(candidates));
        let filter = self.search.filter;
        let mut rows = file.select(&which, filter, self.approved.as_deref(), usize::MAX)?;
        if let Some((words, matcher)) = &self.words {
            let mut documents = BTreeMap::new();
            for row in &rows {
                let id = row.id.cast_signed();
                if !documents.contains_key(&id)
                    && let Some(document) = self.loader.load(&file.connection, Seq(row.id))?
                {
                    documents.insert(id, document);
                }
            }
            let matching = matcher.matching(words, documents.iter().map(|(id, one)| (*id, one)))?;
            rows.retain(|row| matching.contains(&row.id.cast_signed()));
        }
        Ok(rows)
    }
}

fn has_outcome(file: &File, command: u64) -> Result<bool, AuditError> {
    let mut statement = file.connection.prepare_cached("SELECT 1 FROM outcome WHERE intent = ?")?;
    Ok(statement.exists([command.cast_signed()])?)
}

fn quoted(token: Token, number: u64) -> String {
    format!("\"{}\"", token.with(number))
}

fn json(numbers: &[i64]) -> String {
    let numbers: Vec<String> = numbers.iter().map(i64::to_string).collect();
    format!("[{}]", numbers.join(","))
}

fn sentence(file: &Path, what: &str) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    format!(
        "the search index of {name} {what}: the file was searched without it, which takes longer"
    )
}
