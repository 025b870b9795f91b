//! `[[rule]]`: what agents may do, may not do, and may do once a person has said so.
//!
//! Does not belong here: what a rule means (`chaperone_policy`), and what is merely odd about one
//! (`lint`). What it speaks of is in `when`.

use std::{collections::BTreeMap, ops::Range, str::FromStr, sync::Arc, time::Duration};

use chaperone_policy::{Approver, Bind, Rule, Terms, Then, Wait, When};
use serde::Deserialize;
use toml::{Spanned, Value};

use super::{Agent, Misplaced, Target, duration};

#[cfg(test)]
mod tests;
mod when;

pub(super) use when::{RawWhen, column, when_of};

/// How long a person has, where the rule does not say.
const DEADLINE: Duration = Duration::from_mins(10);
/// How long an approval lasts, where the rule does not say.
const LIFETIME: Duration = Duration::from_mins(10);
/// The longest of both.
const LONGEST: Duration = Duration::from_hours(7 * 24);

/// A rule and what was written, for those who look for oddities.
pub(super) struct Checked {
    pub(super) rule: Rule,
    /// Its conditions as written, by key.
    pub(super) written: BTreeMap<&'static str, Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    name: Spanned<String>,
    when: Option<Spanned<RawWhen>>,
    then: Option<Spanned<String>>,
    limit: Option<Spanned<RawLimit>>,
    message: Option<Spanned<String>>,
    approvers: Option<Spanned<Value>>,
    deadline: Option<Spanned<String>>,
    quorum: Option<Spanned<u32>>,
    wait: Option<Spanned<String>>,
    lifetime: Option<Spanned<String>>,
    uses: Option<Spanned<Value>>,
    bind: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLimit {
    statements: Option<u64>,
    rows: Option<u64>,
    session: Option<Spanned<String>>,
}

/// Checks all rules, against what they may name.
pub(super) fn check(
    raw: Vec<Raw>,
    agents: &[Agent],
    targets: &[Target],
) -> Result<Vec<Checked>, Misplaced> {
    let mut rules: Vec<Checked> = Vec::new();
    for raw in raw {
        let name = raw.name.get_ref().trim();
        if name.is_empty() || name.len() > 200 || name.chars().any(char::is_control) {
            let message = "a rule's name is a short text: it is what agents and auditors are told";
            return Err((raw.name.span(), message.into()));
        }
        if rules.iter().any(|other| &*other.rule.name == name) {
            return Err((raw.name.span(), format!("there is another rule named {name:?}")));
        }
        let name: Arc<str> = name.into();
        let mut written = BTreeMap::new();
        let when = match &raw.when {
            None => When::default(),
            Some(when) => when_of(when.get_ref(), agents, targets, &mut written)?,
        };
        let then = then_of(&raw, &name, &when)?;
        rules.push(Checked { rule: Rule { name, when, then }, written });
    }
    Ok(rules)
}

fn then_of(raw: &Raw, name: &Arc<str>, when: &When) -> Result<Then, Misplaced> {
    let then = match (&raw.then, &raw.limit) {
        (Some(then), None) => then,
        (None, Some(limit)) => return limit_of(raw, limit, when),
        (None, None) => {
            let message = "a rule says `then` (\"allow\", \"deny\" or \"hold\") or sets a `limit`";
            return Err((raw.name.span(), message.into()));
        }
        (Some(then), Some(_)) => {
            return Err((then.span(), "a rule has either `then` or `limit`".into()));
        }
    };
    let holds = then.get_ref() == "hold";
    if !holds && let Some(span) = raw.written().any() {
        return Err((span, "this is for rules that say \"hold\" alone".into()));
    }
    if let (Some(message), true) = (&raw.message, then.get_ref() != "deny") {
        return Err((message.span(), "a message is for rules that say \"deny\" alone".into()));
    }
    match then.get_ref().as_str() {
        "allow" => Ok(Then::Allow),
        "deny" => Ok(Then::Deny(raw.message.as_ref().map(|text| text.get_ref().as_str().into()))),
        "hold" => Ok(Then::Hold(Arc::new(terms(&raw.written(), name, then.span())?))),
        other => Err((
            then.span(),
            format!("{other:?} is no verdict: use \"allow\", \"deny\" or \"hold\""),
        )),
    }
}

impl Raw {
    fn written(&self) -> Written<'_> {
        Written {
            approvers: self.approvers.as_ref(),
            deadline: self.deadline.as_ref(),
            quorum: self.quorum.as_ref(),
            wait: self.wait.as_ref(),
            lifetime: self.lifetime.as_ref(),
            uses: self.uses.as_ref(),
            bind: self.bind.as_ref(),
        }
    }
}

/// What is written of a hold's terms, of whatever asks for one.
#[derive(Clone, Copy, Default)]
pub(super) struct Written<'a> {
    pub(super) approvers: Option<&'a Spanned<Value>>,
    pub(super) deadline: Option<&'a Spanned<String>>,
    pub(super) quorum: Option<&'a Spanned<u32>>,
    pub(super) wait: Option<&'a Spanned<String>>,
    pub(super) lifetime: Option<&'a Spanned<String>>,
    pub(super) uses: Option<&'a Spanned<Value>>,
    pub(super) bind: Option<&'a Spanned<String>>,
}

impl Written<'_> {
    /// Where the first of them stands, where one does.
    pub(super) fn any(&self) -> Option<Range<usize>> {
        self.approvers
            .map(Spanned::span)
            .or(self.deadline.map(Spanned::span))
            .or(self.quorum.map(Spanned::span))
            .or(self.wait.map(Spanned::span))
            .or(self.lifetime.map(Spanned::span))
            .or(self.uses.map(Spanned::span))
            .or(self.bind.map(Spanned::span))
    }
}

fn limit_of(raw: &Raw, limit: &Spanned<RawLimit>, when: &When) -> Result<Then, Misplaced> {
    if let Some(span) = raw.written().any().or(raw.message.as_ref().map(Spanned::span)) {
        return Err((span, "a limit has nothing of this".into()));
    }
    let RawLimit { statements, rows, session } = limit.get_ref();
    if when.is_of_statements() && (rows.is_some() || session.is_some()) {
        let message = "a limit of rows or of a session's length is for all that a session does: its `when` cannot speak of statements";
        return Err((limit.span(), message.into()));
    }
    if [statements, rows].iter().any(|count| **count == Some(0)) {
        return Err((limit.span(), "a limit is at least 1: use then = \"deny\" for none".into()));
    }
    let session = session.as_ref().map(|text| duration(text, LONGEST)).transpose()?;
    if (statements, rows, session) == (&None, &None, None) {
        return Err((limit.span(), "say which: { statements = …, rows = …, session = … }".into()));
    }
    Ok(Then::Limit { statements: *statements, rows: *rows, session })
}

/// The terms of a hold, named after what asks for it; `span` is where it is said that it does.
pub(super) fn terms(
    raw: &Written<'_>,
    name: &Arc<str>,
    span: Range<usize>,
) -> Result<Terms, Misplaced> {
    let Some(written) = raw.approvers else {
        let message = "who may approve it? Say so by approvers = [\"group:dba\", \"user:anna\"]";
        return Err((span, message.into()));
    };
    let mut approvers: Vec<Approver> = Vec::new();
    for text in strings(written)? {
        let approver = Approver::from_str(&text).map_err(|()| {
            let message = format!("{text:?} names nobody: write \"group:name\" or \"user:name\"");
            (written.span(), message)
        })?;
        if !approvers.contains(&approver) {
            approvers.push(approver);
        }
    }
    if approvers.is_empty() {
        return Err((written.span(), "this names nobody who could approve it".into()));
    }
    let quorum = match raw.quorum {
        None => 1,
        Some(quorum) => {
            let users = approvers.iter().all(|approver| matches!(approver, Approver::User(_)));
            let most = if users { approvers.len() } else { 100 };
            if !(1..=most).contains(&(*quorum.get_ref() as usize)) {
                let message = format!("a quorum is 1 to {most} different people here");
                return Err((quorum.span(), message));
            }
            *quorum.get_ref()
        }
    };
    let wait = word(raw.wait, &[("stay", Wait::Stay), ("retry", Wait::Retry)])?;
    let bind = word(raw.bind, &[("run", Bind::Run), ("version", Bind::Version)])?;
    let uses = match raw.uses {
        None => Some(1),
        Some(uses) => match uses.get_ref() {
            Value::String(any) if any == "any" => None,
            Value::Integer(number @ 1..=1_000_000) => u32::try_from(*number).ok(),
            _ => {
                return Err((uses.span(), "uses is a number from 1 on, or \"any\"".into()));
            }
        },
    };
    let time = |text: Option<&Spanned<String>>, default| {
        text.map_or(Ok(default), |text| duration(text, LONGEST))
    };
    Ok(Terms {
        rule: name.clone(),
        approvers,
        deadline: time(raw.deadline, DEADLINE)?,
        quorum,
        wait: wait.unwrap_or_default(),
        lifetime: time(raw.lifetime, LIFETIME)?,
        uses,
        bind: bind.unwrap_or_default(),
        also: Vec::new(),
    })
}

/// One text or several.
pub(super) fn strings(value: &Spanned<Value>) -> Result<Vec<String>, Misplaced> {
    let wrong = || (value.span(), "this is a text, or a list of texts".to_owned());
    match value.get_ref() {
        Value::String(one) => Ok(vec![one.clone()]),
        Value::Array(all) => {
            all.iter().map(|one| one.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        _ => Err(wrong()),
    }
}

/// One of these words.
pub(super) fn word<T: Copy>(
    text: Option<&Spanned<String>>,
    words: &[(&str, T)],
) -> Result<Option<T>, Misplaced> {
    let Some(text) = text else { return Ok(None) };
    let found = words.iter().find(|(word, _)| word == text.get_ref());
    found.map(|(_, value)| Some(*value)).ok_or_else(|| {
        let all: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        (text.span(), format!("{:?} is not known: use {}", text.get_ref(), all.join(" or ")))
    })
}
