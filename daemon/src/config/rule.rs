//! `[[rule]]`: what agents may do, may not do, and may do once a person has said so.
//!
//! Does not belong here: what a rule means (`chaperone_policy`), and what is merely odd about one
//! (`lint`).

use std::{collections::BTreeMap, ops::Range, str::FromStr, sync::Arc, time::Duration};

use chaperone_model::{Access, AgentName, Rung, TargetName};
use chaperone_policy::{
    Approver, Bind, ColumnGlob, NameGlob, Rule, Span, Terms, Then, Versions, Wait, When, WildMatch,
};
use semver::VersionReq;
use serde::Deserialize;
use toml::{Spanned, Value};

use super::{Agent, Misplaced, Target, diagnostic::nearest, duration};

/// How long a person has, where the rule does not say.
const DEADLINE: Duration = Duration::from_mins(10);
/// How long an approval lasts, where the rule does not say.
const LIFETIME: Duration = Duration::from_mins(10);
/// The longest of both.
const LONGEST: Duration = Duration::from_hours(7 * 24);

/// What can be doubtful when a session begins.
const DOUBTS: [&str; 6] = ["unenrolled", "version", "script", "inline", "disguise", "cut"];

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

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWhen {
    agent: Option<Spanned<Value>>,
    version: Option<Spanned<Value>>,
    run: Option<Spanned<Value>>,
    doubt: Option<Spanned<Value>>,
    enrolled: Option<bool>,
    target: Option<Spanned<Value>>,
    database: Option<Spanned<Value>>,
    user: Option<Spanned<Value>>,
    class: Option<Spanned<Value>>,
    kind: Option<Spanned<Value>>,
    relation: Option<Spanned<Value>>,
    column: Option<Spanned<Value>>,
    access: Option<Spanned<String>>,
    path: Option<Spanned<Value>>,
    program: Option<Spanned<Value>>,
    argument: Option<Spanned<Value>>,
    function: Option<Spanned<Value>>,
    selective: Option<bool>,
    cascade: Option<bool>,
    time: Option<Spanned<Value>>,
    days: Option<Spanned<Value>>,
    rate: Option<u64>,
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

pub(super) fn when_of(
    raw: &RawWhen,
    agents: &[Agent],
    targets: &[Target],
    written: &mut BTreeMap<&'static str, Vec<String>>,
) -> Result<When, Misplaced> {
    let mut list = |key: &'static str, value: Option<&Spanned<Value>>| {
        let Some(value) = value else { return Ok((0..0, Vec::new())) };
        let values = strings(value)?;
        if values.is_empty() {
            return Err((value.span(), "an empty list matches nothing: leave it out".to_owned()));
        }
        written.insert(key, values.clone());
        Ok((value.span(), values))
    };
    let globs = |(_, values): (Range<usize>, Vec<String>)| -> Vec<WildMatch> {
        values.iter().map(|value| WildMatch::new(value)).collect()
    };
    let mut when = When { runs: globs(list("run", raw.run.as_ref())?), ..When::default() };
    let (span, names) = list("agent", raw.agent.as_ref())?;
    let known: Vec<&str> = agents.iter().map(|agent| &*agent.name.0).collect();
    when.agents =
        existing("agent", &span, &names, &known)?.map(|name| AgentName(name.into())).collect();
    let (span, names) = list("target", raw.target.as_ref())?;
    let known: Vec<&str> = targets.iter().map(|target| &*target.name.0).collect();
    when.targets =
        existing("target", &span, &names, &known)?.map(|name| TargetName(name.into())).collect();
    let (span, versions) = list("version", raw.version.as_ref())?;
    for version in versions {
        when.versions.push(match VersionReq::parse(&version) {
            Ok(range) => Versions::Range(range),
            Err(_) if version.trim().starts_with(['<', '>', '=', '^', '~']) => {
                return Err((
                    span,
                    format!("{version:?} is no range of versions such as \">=1.4, <2\""),
                ));
            }
            Err(_) => Versions::Exactly(version),
        });
    }
    let (span, doubts) = list("doubt", raw.doubt.as_ref())?;
    for doubt in doubts {
        let known = DOUBTS.iter().find(|known| **known == doubt).ok_or_else(|| {
            let message = format!("{doubt:?} is no doubt: use one of {}", DOUBTS.join(", "));
            (span.clone(), message)
        })?;
        when.doubts.push(known);
    }
    when.databases = globs(list("database", raw.database.as_ref())?);
    when.users = globs(list("user", raw.user.as_ref())?);
    let (span, classes) = list("class", raw.class.as_ref())?;
    let rungs = [Rung::Read, Rung::Write, Rung::Destructive, Rung::Forbidden];
    for class in classes {
        let rung = rungs.iter().find(|rung| rung.as_str() == class).ok_or_else(|| {
            let message = format!(
                "{class:?} is no class: use \"read\", \"write\", \"destructive\" or \"forbidden\""
            );
            (span.clone(), message)
        })?;
        when.classes.push(*rung);
    }
    let (span, kinds) = list("kind", raw.kind.as_ref())?;
    for kind in &kinds {
        // Command tags are written in capitals (src/include/tcop/cmdtaglist.h).
        if kind != "unreadable" && kind.chars().any(char::is_lowercase) {
            let message =
                format!("kinds are written as the server's tags: {:?}", kind.to_uppercase());
            return Err((span, message));
        }
    }
    when.kinds = kinds.iter().map(|kind| WildMatch::new(kind)).collect();
    let names = |(span, values): (Range<usize>, Vec<String>)| {
        let glob = |text: &String| {
            if text.is_empty() || text.split('.').count() > 2 || text.split('.').any(str::is_empty)
            {
                let message = format!("{text:?} is no name: write \"name\" or \"schema.name\"");
                return Err((span.clone(), message));
            }
            Ok(NameGlob::new(text))
        };
        values.iter().map(glob).collect::<Result<Vec<_>, Misplaced>>()
    };
    when.relations = names(list("relation", raw.relation.as_ref())?)?;
    when.functions = names(list("function", raw.function.as_ref())?)?;
    let (span, columns) = list("column", raw.column.as_ref())?;
    for text in columns {
        when.columns.push(column(&text).map_err(|message| (span.clone(), message))?);
    }
    when.paths = globs(list("path", raw.path.as_ref())?);
    let (span, programs) = list("program", raw.program.as_ref())?;
    for text in &programs {
        if text.is_empty() || text.contains(char::is_whitespace) {
            let message = format!(
                "{text:?} is no program's name: write \"rm\"; `argument` speaks of its words"
            );
            return Err((span, message));
        }
    }
    when.programs = globs((span, programs));
    when.arguments = globs(list("argument", raw.argument.as_ref())?);
    when.access = word(raw.access.as_ref(), &[("read", Access::Read), ("write", Access::Write)])?;
    let (span, times) = list("time", raw.time.as_ref())?;
    for text in times {
        when.times.push(span_of(&text).ok_or_else(|| {
            (span.clone(), format!("{text:?} is no time of the day such as \"22:00-06:00\""))
        })?);
    }
    let (span, days) = list("days", raw.days.as_ref())?;
    for text in days {
        let found = days_of(&text).ok_or_else(|| {
            (span.clone(), format!("{text:?} are no days such as \"mon\" or \"mon-fri\""))
        })?;
        when.days.extend(found);
    }
    for (key, value) in
        [("enrolled", raw.enrolled), ("selective", raw.selective), ("cascade", raw.cascade)]
    {
        if let Some(value) = value {
            written.insert(key, vec![value.to_string()]);
        }
    }
    if let Some(access) = &raw.access {
        written.insert("access", vec![access.get_ref().clone()]);
    }
    if let Some(rate) = raw.rate {
        written.insert("rate", vec![rate.to_string()]);
    }
    (when.enrolled, when.selective, when.cascade, when.rate) =
        (raw.enrolled, raw.selective, raw.cascade, raw.rate);
    Ok(when)
}

/// A pattern for a column.
pub(super) fn column(text: &str) -> Result<ColumnGlob, String> {
    let parts = text.split('.');
    let fits = (2..=3).contains(&parts.clone().count()) && !parts.clone().any(str::is_empty);
    ColumnGlob::new(text).filter(|_| fits).ok_or_else(|| {
        format!("{text:?} is no column: write \"relation.column\" or \"schema.relation.column\"")
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

/// Names of what there is.
fn existing<'a>(
    what: &str,
    span: &Range<usize>,
    names: &'a [String],
    known: &[&str],
) -> Result<impl Iterator<Item = &'a str>, Misplaced> {
    for name in names {
        if !known.contains(&name.as_str()) {
            let meant = nearest(name, known.iter().copied())
                .map_or_else(String::new, |near| format!("\ndid you mean {near:?}?"));
            return Err((span.clone(), format!("there is no {what} named {name:?}{meant}")));
        }
    }
    Ok(names.iter().map(String::as_str))
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

fn span_of(text: &str) -> Option<Span> {
    let minute = |text: &str| {
        let (hour, minute) = text.trim().split_once(':')?;
        let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
        (hour <= 24 && minute < 60 && hour * 60 + minute <= 24 * 60).then_some(hour * 60 + minute)
    };
    let (from, until) = text.split_once('-')?;
    let span = Span { from: minute(from)?, until: minute(until)? };
    (span.from != span.until && span.from < 24 * 60).then_some(span)
}

fn days_of(text: &str) -> Option<Vec<u8>> {
    const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let day = |text: &str| DAYS.iter().position(|day| *day == text.trim().to_lowercase());
    let (from, until) = text.split_once('-').unwrap_or((text, text));
    let (from, until) = (day(from)?, day(until)?);
    let count = (until + 7 - from) % 7;
    (0..=count).map(|step| u8::try_from((from + step) % 7 + 1).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Config,
            tests::{GOOD, parse},
        },
        *,
    };

    /// The good configuration with a rule of these lines; the first is line 19.
    fn with_rule(lines: &str) -> Result<Config, String> {
        parse(&format!("{GOOD}[[rule]]\n{lines}\n"))
    }

    #[test]
    fn every_mistake_in_a_rule_points_at_itself() {
        for (lines, place, why) in [
            ("name = ''\nthen = 'deny'", "19:8", "a rule's name is a short text"),
            ("name = 'a'", "19:8", "a rule says `then`"),
            ("name = 'a'\nthen = 'deny'\n[[rule]]\nname = 'a'", "22:8", "another rule named \"a\""),
            ("name = 'a'\nthen = 'drop'", "20:8", "\"drop\" is no verdict"),
            ("name = 'a'\nthne = 'deny'", "20:1", "did you mean `then`?"),
            ("name = 'a'\nthen = 'allow'\nmessage = 'x'", "21:11", "rules that say \"deny\" alone"),
            ("name = 'a'\nthen = 'deny'\nlimit = { rows = 1 }", "20:8", "either `then` or `limit`"),
            ("name = 'a'\nlimit = { }", "20:9", "say which"),
            ("name = 'a'\nlimit = { rows = 0 }", "20:9", "at least 1"),
            ("name = 'a'\nlimit = { session = 'long' }", "20:21", "no duration"),
            ("name = 'a'\nlimit = { rows = 1 }\nmessage = 'x'", "21:11", "has nothing of this"),
            (
                "name = 'a'\nwhen = { class = 'read' }\nlimit = { rows = 1 }",
                "21:9",
                "cannot speak of statements",
            ),
            ("name = 'a'\nthen = 'deny'\nquorum = 2", "21:10", "rules that say \"hold\" alone"),
            ("name = 'a'\nthen = 'hold'", "20:8", "who may approve it?"),
        ] {
            let error = with_rule(lines).expect_err(lines);
            assert!(error.starts_with(&format!("c.toml:{place}: ")), "{lines}: {error}");
            assert!(error.contains(why), "{lines}: {error}");
        }
    }

    #[test]
    fn every_mistake_in_a_condition_points_at_itself() {
        for (when, column, why) in [
            ("agent = 'claener'", 18, "no agent named \"claener\""),
            ("agent = 'claener'", 18, "did you mean \"cleaner\"?"),
            ("agent = ['cleaner', 'x']", 18, "no agent named \"x\""),
            ("agent = []", 18, "an empty list matches nothing"),
            ("agent = 1", 18, "a text, or a list of texts"),
            ("agnet = 'cleaner'", 10, "did you mean `agent`?"),
            ("target = 'prd'", 19, "did you mean \"prod\"?"),
            ("class = 'reed'", 18, "\"reed\" is no class"),
            ("kind = ['DELETE', 'drop table']", 17, "server's tags: \"DROP TABLE\""),
            ("version = '>=one'", 20, "no range of versions"),
            ("doubt = 'exec'", 18, "\"exec\" is no doubt"),
            ("relation = 'a.b.c'", 21, "write \"name\" or \"schema.name\""),
            ("function = '.f'", 21, "is no name"),
            ("column = 'pan'", 19, "write \"relation.column\""),
            ("column = 'a.b.c.d'", 19, "is no column"),
            ("access = 'see'", 19, "use \"read\" or \"write\""),
            ("time = '9-17'", 17, "no time of the day"),
            ("time = ['09:00-17:00', '10:00-10:00']", 17, "\"10:00-10:00\" is no time"),
            ("days = 'mon-someday'", 17, "are no days"),
            ("program = 'rm -rf'", 20, "\"rm -rf\" is no program's name"),
            ("program = ['rm', '']", 20, "is no program's name"),
            ("argument = 1", 21, "a text, or a list of texts"),
            ("selective = 'yes'", 22, "invalid type"),
            ("rate = -1", 17, "invalid value"),
        ] {
            let error = with_rule(&format!("name = 'a'\nwhen = {{ {when} }}\nthen = 'deny'"));
            let error = error.expect_err(when);
            assert!(error.starts_with(&format!("c.toml:20:{column}: ")), "{when}: {error}");
            assert!(error.contains(why), "{when}: {error}");
        }
    }

    #[test]
    fn every_mistake_in_the_terms_of_a_hold_points_at_itself() {
        let anna = "approvers = 'user:anna'";
        for (lines, place, why) in [
            ("approvers = ['dba']", "21:13", "\"dba\" names nobody"),
            ("approvers = []", "21:13", "nobody who could approve"),
            (&format!("{anna}\nquorum = 2"), "22:10", "a quorum is 1 to 1 different people"),
            (&format!("{anna}\nquorum = 0"), "22:10", "a quorum is 1 to 1 different people"),
            ("approvers = 'group:dba'\nquorum = 101", "22:10", "1 to 100"),
            (&format!("{anna}\ndeadline = '10'"), "22:12", "no duration"),
            (&format!("{anna}\ndeadline = '0s'"), "22:12", "out of range"),
            (&format!("{anna}\nlifetime = '169h'"), "22:12", "out of range"),
            (&format!("{anna}\nwait = 'go'"), "22:8", "use \"stay\" or \"retry\""),
            (&format!("{anna}\nbind = 'agent'"), "22:8", "use \"run\" or \"version\""),
            (&format!("{anna}\nuses = 0"), "22:8", "from 1 on, or \"any\""),
            (&format!("{anna}\nuses = 'many'"), "22:8", "from 1 on, or \"any\""),
        ] {
            let error = with_rule(&format!("name = 'a'\nthen = 'hold'\n{lines}"));
            let error = error.expect_err(lines);
            assert!(error.starts_with(&format!("c.toml:{place}: ")), "{lines}: {error}");
            assert!(error.contains(why), "{lines}: {error}");
        }
    }

    #[test]
    fn terms_are_read_and_have_defaults() {
        let terms = |lines: &str| {
            let lines = format!("name = 'a'\nthen = 'hold'\napprovers = {lines}");
            let config = with_rule(&lines).expect(&lines);
            config.policy.rules()[0].terms().cloned().expect("it holds")
        };
        let (anna, dba) = (Approver::User("anna".into()), Approver::Group("dba".into()));
        let default = Terms {
            rule: "a".into(),
            approvers: vec![anna.clone()],
            deadline: DEADLINE,
            quorum: 1,
            wait: Wait::Stay,
            lifetime: LIFETIME,
            uses: Some(1),
            bind: Bind::Run,
            also: Vec::new(),
        };
        assert_eq!(*terms("'user:anna'"), default);
        let all = "['user:anna', 'group:dba', 'user:anna']\ndeadline = '1h'\nquorum = 2\nwait = 'retry'\nlifetime = '2m'\nuses = 'any'\nbind = 'version'";
        let expected = Terms {
            rule: "a".into(),
            approvers: vec![anna, dba],
            deadline: Duration::from_hours(1),
            quorum: 2,
            wait: Wait::Retry,
            lifetime: Duration::from_mins(2),
            uses: None,
            bind: Bind::Version,
            also: Vec::new(),
        };
        assert_eq!(*terms(all), expected);
    }

    #[test]
    fn the_example_of_the_design_is_good() {
        let example = r#"
[daemon]
attach  = "auto"
listen  = 7400
control = "/run/chaperone/control.sock"
log     = "/var/lib/chaperone/log.sqlite"

[[agent]]
name     = "cleaner"
select   = { user = 64001 }
version  = { file = "/opt/cleaner/VERSION" }
binaries = "enrolled"

[[target]]
name       = "prod"
protocol   = "postgres"
address    = ["db.internal:5432", "10.0.0.0/24:5432"]
tls        = { mode = "verify-full", ca = "/etc/chaperone/prod-ca.pem" }
credential = { user = "app_rw", password = "systemd:prod-db" }
default    = "allow"

[[rule]]
name      = "destructive statements need a person"
when      = { target = "prod", class = "destructive" }
then      = "hold"
approvers = ["group:dba"]
deadline  = "10m"
"#;
        let config = parse(example).expect("good");
        let [rule] = config.policy.rules() else { panic!("{:?}", config.policy.rules()) };
        assert_eq!(&*rule.name, "destructive statements need a person");
        assert_eq!(rule.when.classes, [Rung::Destructive]);
        assert_eq!(rule.when.targets, [TargetName("prod".into())]);
        let terms = rule.terms().expect("it holds");
        assert_eq!(terms.deadline, Duration::from_mins(10));
        assert_eq!(terms.approvers, [Approver::Group("dba".into())]);
    }

    #[test]
    fn days_and_times_are_read() {
        assert_eq!(days_of("mon-fri"), Some(vec![1, 2, 3, 4, 5]));
        assert_eq!(days_of("sat-mon"), Some(vec![6, 7, 1]));
        assert_eq!(days_of("sun"), Some(vec![7]));
        assert_eq!(days_of("someday"), None);
        assert_eq!(span_of("22:00-06:30"), Some(Span { from: 1320, until: 390 }));
        assert_eq!(span_of("00:00-24:00"), Some(Span { from: 0, until: 1440 }));
        for wrong in ["22-23", "25:00-26:00", "10:00", "10:00-10:00", "10:60-11:00"] {
            assert_eq!(span_of(wrong), None, "{wrong}");
        }
    }
}
