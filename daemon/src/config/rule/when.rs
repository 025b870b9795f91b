//! `when` of a rule or a mask: what it speaks of.

use std::{collections::BTreeMap, ops::Range};

use chaperone_model::{Access, AgentName, Rung, TargetName};
use chaperone_policy::{ColumnGlob, NameGlob, Span, Versions, When, WildMatch};
use semver::VersionReq;
use serde::Deserialize;
use toml::{Spanned, Value};

use super::{
    super::{Agent, Misplaced, Target, diagnostic::nearest},
    strings, word,
};

/// What can be doubtful when a session begins.
const DOUBTS: [&str; 6] = ["unenrolled", "version", "script", "inline", "disguise", "cut"];

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawWhen {
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

pub(in crate::config) fn when_of(
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
pub(in crate::config) fn column(text: &str) -> Result<ColumnGlob, String> {
    let parts = text.split('.');
    let fits = (2..=3).contains(&parts.clone().count()) && !parts.clone().any(str::is_empty);
    ColumnGlob::new(text).filter(|_| fits).ok_or_else(|| {
        format!("{text:?} is no column: write \"relation.column\" or \"schema.relation.column\"")
    })
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

pub(super) fn span_of(text: &str) -> Option<Span> {
    let minute = |text: &str| {
        let (hour, minute) = text.trim().split_once(':')?;
        let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
        (hour <= 24 && minute < 60 && hour * 60 + minute <= 24 * 60).then_some(hour * 60 + minute)
    };
    let (from, until) = text.split_once('-')?;
    let span = Span { from: minute(from)?, until: minute(until)? };
    (span.from != span.until && span.from < 24 * 60).then_some(span)
}

pub(super) fn days_of(text: &str) -> Option<Vec<u8>> {
    const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let day = |text: &str| DAYS.iter().position(|day| *day == text.trim().to_lowercase());
    let (from, until) = text.split_once('-').unwrap_or((text, text));
    let (from, until) = (day(from)?, day(until)?);
    let count = (until + 7 - from) % 7;
    (0..=count).map(|step| u8::try_from((from + step) % 7 + 1).ok()).collect()
}
