//! What of a command is searched: its words, and the names that it goes by.
//!
//! Does not belong here: where that is kept.

use std::{borrow::Cow, collections::HashMap, rc::Rc};

use chaperone_model::Seq;
use rusqlite::{Connection, OptionalExtension as _};
use serde_json::Value;

use crate::AuditError;

/// Sessions and summaries that are remembered; more are read again.
const REMEMBERED: usize = 4096;

/// What a name is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Agent = 1,
    Version,
    Run,
    Target,
    User,
    Class,
    Verdict,
    Status,
    Relation,
    Program,
}

/// A command as it is searched.
#[derive(Default)]
pub(crate) struct Document {
    pub(crate) at: i64,
    pub(crate) session: Seq,
    /// The holds whose approval counts for it: its own, and an earlier one.
    pub(crate) approvals: Vec<Seq>,
    /// Whether it has an outcome.
    pub(crate) is_finished: bool,
    /// Whether it was only prepared, and that went well: the log shows it with what ran.
    pub(crate) is_silent: bool,
    /// Statement, parameters, and of each outcome columns, rows, error and notices.
    pub(crate) fields: Vec<String>,
    pub(crate) names: Vec<(Kind, Rc<str>)>,
    /// Other records whose content stands here.
    pub(crate) content_of: Vec<Seq>,
}

type Names = Rc<[(Kind, Rc<str>)]>;

/// Reads documents out of a file of the log.
#[derive(Default)]
pub(crate) struct Loader {
    sessions: HashMap<i64, Names>,
    summaries: HashMap<String, Names>,
}

impl Loader {
    /// The document of a command, where there is such a command.
    pub(crate) fn load(
        &mut self,
        log: &Connection,
        command: Seq,
    ) -> Result<Option<Document>, AuditError> {
        let id = command.0.cast_signed();
        let mut document = Document::default();
        let mut add = |field: Option<String>| document.fields.extend(field);
        let about = log
            .prepare_cached(
                "SELECT i.at, i.session, i.kind, i.approval, i.verdict, coalesce(i.rung, e.rung),
                        coalesce(i.text, e.text, x.text), i.parameters,
                        coalesce(i.summary, e.summary, y.summary), i.text_of, e.seq, e.text_of
                 FROM intent i
                 LEFT JOIN intent e ON e.session = i.session AND e.statement = i.statement
                     AND e.kind = 'prepare' AND i.kind <> 'prepare'
                 LEFT JOIN intent x ON x.seq = coalesce(i.text_of, e.text_of)
                 LEFT JOIN intent y ON y.seq = coalesce(i.summary_of, e.summary_of)
                 WHERE i.seq = ?",
            )?
            .query_row([id], |row| {
                let kind: String = row.get(2)?;
                let about = (row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, kind == "prepare");
                let approval: Option<u64> = row.get(3)?;
                let rung: Option<String> = row.get(5)?;
                let verdict: String = row.get(4)?;
                add(row.get(6)?);
                add(row.get::<_, Option<String>>(7)?.map(|json| plain(&json)));
                let others: [Option<u64>; 3] = [row.get(9)?, row.get(10)?, row.get(11)?];
                Ok((about, approval, verdict, rung, row.get::<_, Option<String>>(8)?, others))
            })
            .optional()?;
        let Some(((at, session, is_prepare), approval, verdict, rung, summary, others)) = about
        else {
            return Ok(None);
        };
        document.content_of.extend(others.into_iter().flatten().map(Seq));
        document.at = at;
        document.session = Seq(session.cast_unsigned());
        document.approvals.extend(approval.map(Seq));
        document.approvals.extend((verdict == "hold").then_some(command));
        document.names.push((Kind::Verdict, verdict.into()));
        document.names.extend(rung.map(|rung| (Kind::Class, rung.into())));
        document.names.extend(self.of_session(log, session)?.iter().cloned());
        if let Some(summary) = summary {
            document.names.extend(self.of_summary(summary).iter().cloned());
        }
        let mut outcomes = log.prepare_cached(
            "SELECT r.status, r.columns, coalesce(r.response, s.response), r.error_message, r.notices,
                    r.response_of, r.error_code, r.tag
             FROM outcome r LEFT JOIN outcome s ON s.seq = r.response_of WHERE r.intent = ? ORDER BY r.part",
        )?;
        let mut rows = outcomes.query([id])?;
        let mut is_silent = is_prepare;
        while let Some(row) = rows.next()? {
            document.is_finished = true;
            let status: String = row.get(0)?;
            is_silent &= !matches!(status.as_str(), "error" | "refused" | "unknown");
            document.names.push((Kind::Status, status.into()));
            for json in [1, 2, 4] {
                let field: Option<String> = row.get(json)?;
                document.fields.extend(field.map(|json| plain(&json)));
            }
            for text in [3, 6, 7] {
                document.fields.extend(row.get::<_, Option<String>>(text)?);
            }
            document.content_of.extend(row.get::<_, Option<u64>>(5)?.map(Seq));
        }
        if !document.is_finished {
            document.names.push((Kind::Status, "pending".into()));
        }
        document.is_silent = is_silent;
        Ok(Some(document))
    }

    fn of_session(&mut self, log: &Connection, session: i64) -> Result<Names, AuditError> {
        if let Some(known) = self.sessions.get(&session) {
            return Ok(known.clone());
        }
        let names: Vec<(Kind, Rc<str>)> = log
            .prepare_cached(
                "SELECT u.agent, u.version, u.name, o.target, coalesce(t.user, s.user)
                 FROM session_opened o
                 LEFT JOIN process p ON p.seq = o.process
                 LEFT JOIN run u ON u.seq = p.run
                 LEFT JOIN session_started s ON s.session = o.seq
                 LEFT JOIN session_signed_on t ON t.session = o.seq
                 WHERE o.seq = ?",
            )?
            .query_row([session], |row| {
                let kinds = [Kind::Agent, Kind::Version, Kind::Run, Kind::Target, Kind::User];
                let mut names = Vec::new();
                for (place, kind) in kinds.into_iter().enumerate() {
                    names.extend(row.get::<_, Option<Rc<str>>>(place)?.map(|name| (kind, name)));
                }
                Ok(names)
            })
            .optional()?
            .unwrap_or_default();
        let names: Names = names.into();
        if self.sessions.len() >= REMEMBERED {
            self.sessions.clear();
        }
        self.sessions.insert(session, names.clone());
        Ok(names)
    }

    fn of_summary(&mut self, summary: String) -> Names {
        if let Some(known) = self.summaries.get(&summary) {
            return known.clone();
        }
        let (relations, programs) = named(&summary);
        let relations = relations.into_iter().map(|name| (Kind::Relation, name.into()));
        let programs = programs.into_iter().map(|name| (Kind::Program, name.into()));
        let names: Names = relations.chain(programs).collect();
        if self.summaries.len() >= REMEMBERED {
            self.summaries.clear();
        }
        self.summaries.insert(summary, names.clone());
        names
    }

    /// Sessions and summaries may say something else in another file, or later.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// The relations that a summary names, each also without what is before a dot: `public.customers`
/// is found as `customers` as well. And the programs.
fn named(summary: &str) -> (Vec<String>, Vec<String>) {
    let Ok(summary) = serde_json::from_str::<Value>(summary) else { return Default::default() };
    let (mut found, mut programs) = (Vec::new(), Vec::new());
    for statement in summary["statements"].as_array().into_iter().flatten() {
        programs.extend(statement["program"].as_str().map(str::to_owned));
        for list in [&statement["reads"], &statement["writes"]] {
            for name in list.as_array().into_iter().flatten().filter_map(Value::as_str) {
                found.push(name.to_owned());
                found.extend(name.match_indices('.').map(|(dot, _)| name[dot + 1..].to_owned()));
            }
        }
    }
    for names in [&mut found, &mut programs] {
        names.sort_unstable();
        names.dedup();
    }
    (found, programs)
}

/// JSON as words: what is escaped in its strings stands for itself, or for a gap.
fn plain(json: &str) -> String {
    let mut plain = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(place) = rest.find('\\') {
        plain.push_str(&rest[..place]);
        let escape = rest[place + 1..].chars().next();
        let code = rest.get(place + 2..place + 6).filter(|_| escape == Some('u'));
        let char =
            code.and_then(|code| u32::from_str_radix(code, 16).ok()).and_then(char::from_u32);
        plain.push(char.unwrap_or(' '));
        let length = match (code, escape) {
            (Some(_), _) => 6,
            (None, Some(char)) => 1 + char.len_utf8(),
            (None, None) => 1,
        };
        rest = &rest[place + length..];
    }
    plain.push_str(rest);
    plain
}

/// What a token stands for that is no word. Each is a character for private use, which `unicode61`
/// keeps as a letter, and with which no word of a text begins: see [`words_of`].
#[derive(Clone, Copy)]
pub(crate) enum Token {
    /// With the name's number.
    Name,
    /// With the session's number.
    Session,
    /// With the number of another record whose content stands in the document.
    ContentOf,
    /// With the number of the hold whose approval counts for it.
    Approval,
    /// Is in no command.
    Nothing,
}

impl Token {
    pub(crate) fn with(self, number: u64) -> String {
        let mark = match self {
            Self::Name => '\u{e000}',
            Self::Session => '\u{e001}',
            Self::ContentOf => '\u{e002}',
            Self::Approval => '\u{e003}',
            Self::Nothing => '\u{e004}',
        };
        format!("{mark}{number}")
    }
}

/// A text without characters that tokens begin with.
pub(crate) fn words_of(text: &str) -> Cow<'_, str> {
    let is_mark = |char: char| ('\u{e000}'..='\u{e0ff}').contains(&char);
    if text.contains(is_mark) { text.replace(is_mark, " ").into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_no_letters() {
        assert_eq!(plain(r#"["a\nb","\u00e4\ud83d\"","\\"#), "[\"a b\",\"ä  \",\" ");
    }

    #[test]
    fn relations_are_found_with_and_without_their_schema() {
        let summary = r#"{"statements":[{"reads":["public.a"],"calls":["now"]},{"writes":["b","public.a"]}]}"#;
        assert_eq!(named(summary).0, ["a", "b", "public.a"]);
        assert_eq!(named("{"), Default::default());
    }

    #[test]
    fn programs_of_a_command_line_are_found() {
        let summary = r#"{"statements":[{"program":"sudo"},{"program":"rm"},{"program":"rm"},{}]}"#;
        assert_eq!(named(summary), (Vec::new(), vec!["rm".to_owned(), "sudo".to_owned()]));
    }
}
