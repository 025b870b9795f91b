//! When a rule matches.
//!
//! Not everything is known of a statement: a name without a schema, a function that nobody read. A
//! rule that makes things stricter matches where it may apply, one that allows only where it surely
//! does.

use chaperone_model::{
    Access, AgentName, BY_NAME, Column, CommandKind, Doubt, QualifiedName, Relation, Rung,
    Statement, TargetName, UNREADABLE, VersionSource,
};
use semver::{Prerelease, Version, VersionReq};
use wildmatch::WildMatch;

use crate::{Asked, Moment};

mod program;

/// How far something matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Match {
    No,
    Perhaps,
    Surely,
}

impl From<bool> for Match {
    fn from(matches: bool) -> Self {
        if matches { Self::Surely } else { Self::No }
    }
}

/// Conditions, of which all must hold; of the values of one, any. An empty list is no condition.
#[derive(Clone, Debug, Default)]
pub struct When {
    /// The agent.
    pub agents: Vec<AgentName>,
    /// Its version.
    pub versions: Vec<Versions>,
    /// Its run.
    pub runs: Vec<WildMatch>,
    /// What is doubtful about who it is, by [`Doubt::kind`].
    pub doubts: Vec<&'static str>,
    /// Whether all its programs, and its container's image, are enrolled.
    pub enrolled: Option<bool>,
    /// The target.
    pub targets: Vec<TargetName>,
    /// The database.
    pub databases: Vec<WildMatch>,
    /// The account at the target.
    pub users: Vec<WildMatch>,
    /// The rung.
    pub classes: Vec<Rung>,
    /// The kind of statement.
    pub kinds: Vec<WildMatch>,
    /// A relation that it touches.
    pub relations: Vec<NameGlob>,
    /// A column that it touches.
    pub columns: Vec<ColumnGlob>,
    /// What relations and columns are touched for.
    pub access: Option<Access>,
    /// A file that it names.
    pub paths: Vec<WildMatch>,
    /// The program that it is.
    pub programs: Vec<WildMatch>,
    /// What that is given.
    pub arguments: Vec<WildMatch>,
    /// A function that it calls.
    pub functions: Vec<NameGlob>,
    /// Whether what it changes is bounded.
    pub selective: Option<bool>,
    /// Whether it takes along what depends on what it names.
    pub cascade: Option<bool>,
    /// Times of the day.
    pub times: Vec<Span>,
    /// Days of the week, 1 is Monday.
    pub days: Vec<u8>,
    /// More commands a minute than this.
    pub rate: Option<u64>,
}

/// Versions, as Cargo writes requirements; or one text exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Versions {
    /// Semantic versions.
    Range(VersionReq),
    /// Exactly this.
    Exactly(String),
}

/// A span of the day, in minutes; one that ends before it begins goes over midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first minute.
    pub from: u16,
    /// The first minute that no longer belongs to it.
    pub until: u16,
}

impl Span {
    fn has(self, minute: u16) -> bool {
        if self.from < self.until {
            (self.from..self.until).contains(&minute)
        } else {
            minute >= self.from || minute < self.until
        }
    }
}

/// A pattern for a relation or function, with or without a schema.
#[derive(Clone, Debug)]
pub struct NameGlob {
    schema: WildMatch,
    any_schema: bool,
    name: WildMatch,
}

impl NameGlob {
    /// `schema.name` or `name`; `*` stands for anything.
    pub fn new(text: &str) -> Self {
        let (schema, name) = text.rsplit_once('.').unwrap_or(("*", text));
        Self {
            schema: WildMatch::new(schema),
            any_schema: schema == "*",
            name: WildMatch::new(name),
        }
    }

    fn matches(&self, name: &QualifiedName, search_path: Option<&[String]>) -> Match {
        if !self.name.matches(&name.name) {
            return Match::No;
        }
        match (&name.schema, search_path) {
            _ if self.any_schema => Match::Surely,
            (Some(schema), _) => self.schema.matches(schema).into(),
            (None, None) => Match::Perhaps,
            (None, Some(path)) => {
                // The server looks there, too, where the path does not say so.
                let looked = path.iter().map(String::as_str).chain(["pg_temp", "pg_catalog"]);
                let matching = looked.filter(|schema| self.schema.matches(schema)).count();
                // Temporary relations come before all others.
                if matching == 0 { Match::No } else { Match::Perhaps }
            }
        }
    }
}

/// A pattern for a column: `schema.relation.column` or `relation.column`.
#[derive(Clone, Debug)]
pub struct ColumnGlob {
    relation: NameGlob,
    column: WildMatch,
}

impl ColumnGlob {
    /// `None` where no relation is named.
    pub fn new(text: &str) -> Option<Self> {
        let (relation, column) = text.rsplit_once('.')?;
        Some(Self { relation: NameGlob::new(relation), column: WildMatch::new(column) })
    }

    /// Whether it means a column of a relation whose schema is known.
    pub fn is_of(&self, relation: &QualifiedName, column: &str) -> bool {
        self.column.matches(column) && self.relation.matches(relation, None) == Match::Surely
    }

    /// Whether it may mean columns in this schema.
    pub fn is_in(&self, schema: &str) -> bool {
        self.relation.any_schema || self.relation.schema.matches(schema)
    }

    fn matches(
        &self,
        column: &Column,
        relations: &[Relation],
        search_path: Option<&[String]>,
    ) -> Match {
        let named = match column.name.as_str() {
            // All of them: which there are is not known here.
            "*" => Match::Perhaps,
            name => self.column.matches(name).into(),
        };
        let of = if let Some(relation) = &column.relation {
            self.relation.matches(relation, search_path)
        } else {
            // One of those that the statement names, or of none that it names.
            let may = |r: &Relation| self.relation.matches(&r.name, search_path) > Match::No;
            if relations.is_empty() || relations.iter().any(may) {
                Match::Perhaps
            } else {
                Match::No
            }
        };
        named.min(of)
    }

    fn may_be_of(&self, relation: &Relation, search_path: Option<&[String]>) -> bool {
        self.relation.matches(&relation.name, search_path) > Match::No
    }
}

/// Whether a statement does to a relation as a whole what it does, and names no columns: `COPY`,
/// `DELETE`, `TRUNCATE`, `INSERT` without a list.
fn is_whole(statement: &Statement, relation: &Relation) -> bool {
    (relation.access == Access::Write || statement.kind == "COPY")
        && !statement.columns.iter().any(|column| {
            let of = column.relation.as_ref();
            column.access == relation.access && of.is_none_or(|of| *of == relation.name)
        })
}

impl When {
    /// Whether it may apply.
    pub(crate) fn may_match(&self, asked: &Asked<'_>, statement: &Statement) -> bool {
        self.is_of(asked.kind)
            && self.of_session(asked) > Match::No
            && self.of_moment(asked.moment, asked.rate)
            && self.may_match_statement(statement, asked.search_path)
    }

    /// Whether it certainly applies.
    pub(crate) fn surely_matches(&self, asked: &Asked<'_>, statement: &Statement) -> bool {
        self.is_of(asked.kind)
            && self.of_session(asked) == Match::Surely
            && self.of_moment(asked.moment, asked.rate)
            && self.surely_matches_statement(statement, asked.search_path)
    }

    /// Whether it speaks of such commands at all.
    fn is_of(&self, kind: CommandKind) -> bool {
        let runs = matches!(kind, CommandKind::Exec | CommandKind::Shell | CommandKind::Subsystem);
        let speaks_of_programs = !self.programs.is_empty() || !self.arguments.is_empty();
        if speaks_of_programs && !runs {
            return false;
        }
        if kind.is_sql() {
            self.paths.is_empty()
        } else {
            self.databases.is_empty()
                && self.relations.is_empty()
                && self.columns.is_empty()
                && self.functions.is_empty()
                && self.selective.is_none()
                && self.cascade.is_none()
        }
    }

    /// Whether it may apply to a session as a whole.
    pub fn may_match_session(&self, asked: &Asked<'_>) -> bool {
        self.of_session(asked) > Match::No
    }

    /// Whether it speaks of nothing but what stays the same while a session lasts.
    pub fn is_of_sessions(&self) -> bool {
        !self.is_of_statements()
            && self.times.is_empty()
            && self.days.is_empty()
            && self.rate.is_none()
    }

    /// Whether it says something of statements.
    pub fn is_of_statements(&self) -> bool {
        !self.classes.is_empty()
            || !self.kinds.is_empty()
            || !self.relations.is_empty()
            || !self.columns.is_empty()
            || !self.paths.is_empty()
            || !self.programs.is_empty()
            || !self.arguments.is_empty()
            || !self.functions.is_empty()
            || self.access.is_some()
            || self.selective.is_some()
            || self.cascade.is_some()
    }

    /// Whether it names the kind of a statement that is forbidden unless it is named.
    pub(crate) fn names(&self, statement: &Statement) -> bool {
        BY_NAME.contains(&statement.kind.as_str())
            && self.kinds.contains(&WildMatch::new(&statement.kind))
    }

    fn of_session(&self, asked: &Asked<'_>) -> Match {
        let identity = asked.identity;
        if !self.targets.is_empty() && !self.targets.contains(asked.target)
            || !self.agents.is_empty() && !self.agents.contains(&identity.agent)
            || !self.runs.is_empty() && !self.runs.iter().any(|run| run.matches(&identity.run.name))
        {
            return Match::No;
        }
        let unenrolled = || identity.doubts.iter().any(|doubt| doubt.kind() == "unenrolled");
        if self.enrolled.is_some_and(|enrolled| enrolled == unenrolled()) {
            return Match::No;
        }
        let doubtful = |doubt: &Doubt| self.doubts.contains(&doubt.kind());
        if !self.doubts.is_empty() && !identity.doubts.iter().any(doubtful) {
            return Match::No;
        }
        let versions = if self.versions.is_empty() {
            Match::Surely
        } else {
            match &identity.version {
                // What the agent says of itself decides nothing.
                Some(version) if version.source != VersionSource::Said => {
                    let matches = self.versions.iter().map(|v| v.matches(&version.text));
                    matches.max().unwrap_or(Match::No)
                }
                _ => Match::Perhaps,
            }
        };
        let name = |globs: &[WildMatch], name: Option<&str>| match name {
            _ if globs.is_empty() => Match::Surely,
            Some(name) => globs.iter().any(|glob| glob.matches(name)).into(),
            None => Match::Perhaps,
        };
        versions.min(name(&self.databases, asked.database)).min(name(&self.users, asked.user))
    }

    fn of_moment(&self, moment: Moment, rate: u64) -> bool {
        (self.days.is_empty() || self.days.contains(&moment.weekday))
            && (self.times.is_empty() || self.times.iter().any(|span| span.has(moment.minute)))
            && self.rate.is_none_or(|most| rate > most)
    }

    fn may_match_statement(&self, statement: &Statement, path: Option<&[String]>) -> bool {
        // It may do what its text does not show.
        let hidden = statement.opaque;
        let unknown = statement.kind == UNREADABLE;
        let touches = |access| self.access.is_none_or(|asked| asked == access);
        // Who may write files may read them.
        let other_files =
            statement.other_files.is_some_and(|most| self.access.is_none_or(|asked| asked <= most));
        let (relations, columns) = (&statement.relations, &statement.columns);
        (self.classes.is_empty() || self.classes.contains(&statement.rung))
            && (self.kinds.is_empty()
                || unknown
                || self.kinds.iter().any(|kind| kind.matches(&statement.kind)))
            && (self.relations.is_empty()
                || hidden
                || relations.iter().filter(|r| touches(r.access)).any(|relation| {
                    self.relations.iter().any(|g| g.matches(&relation.name, path) > Match::No)
                }))
            && (self.columns.is_empty()
                || hidden
                || columns.iter().filter(|c| touches(c.access)).any(|column| {
                    self.columns.iter().any(|g| g.matches(column, relations, path) > Match::No)
                })
                || relations.iter().any(|relation| {
                    touches(relation.access)
                        && is_whole(statement, relation)
                        && self.columns.iter().any(|glob| glob.may_be_of(relation, path))
                }))
            && (self.access.is_none()
                || hidden
                || other_files
                || !self.relations.is_empty()
                || !self.columns.is_empty()
                || statement.paths.iter().any(|one| touches(one.access))
                || relations.iter().any(|relation| touches(relation.access)))
            && (self.paths.is_empty()
                || hidden
                || other_files
                || statement
                    .paths
                    .iter()
                    .filter(|one| touches(one.access))
                    .any(|one| self.paths.iter().any(|glob| program::may_be(glob, one))))
            && program::may_match(&self.programs, &self.arguments, statement)
            && (self.functions.is_empty()
                || hidden
                || statement
                    .functions
                    .iter()
                    .any(|name| self.functions.iter().any(|g| g.matches(name, path) > Match::No)))
            && self
                .selective
                .is_none_or(|asked| statement.selective == Some(asked) || (hidden && !asked))
            && self.cascade.is_none_or(|asked| statement.cascade == asked || (hidden && asked))
    }

    fn surely_matches_statement(&self, statement: &Statement, path: Option<&[String]>) -> bool {
        let shown = !statement.opaque;
        let touches = |access| self.access.is_none_or(|asked| asked == access);
        let (relations, columns) = (&statement.relations, &statement.columns);
        (self.classes.is_empty() || self.classes.contains(&statement.rung))
            && (self.kinds.is_empty()
                || self.kinds.iter().any(|kind| kind.matches(&statement.kind)))
            && (self.relations.is_empty()
                || shown
                    && !relations.is_empty()
                    && relations.iter().all(|relation| {
                        touches(relation.access)
                            && self
                                .relations
                                .iter()
                                .any(|g| g.matches(&relation.name, path) == Match::Surely)
                    }))
            && (self.columns.is_empty()
                || shown
                    && !columns.is_empty()
                    && columns.iter().all(|column| {
                        touches(column.access)
                            && self
                                .columns
                                .iter()
                                .any(|g| g.matches(column, relations, path) == Match::Surely)
                    })
                    && !relations.iter().any(|relation| is_whole(statement, relation)))
            && (self.access.is_none()
                // What touches none, as `DROP DATABASE`, is not therefore harmless.
                || shown
                    && statement.other_files.is_none()
                    && !(relations.is_empty() && statement.paths.is_empty())
                    && relations.iter().all(|relation| touches(relation.access))
                    && statement.paths.iter().all(|one| touches(one.access)))
            && (self.paths.is_empty()
                || shown
                    && statement.other_files.is_none()
                    && !statement.paths.is_empty()
                    && statement.paths.iter().all(|one| {
                        touches(one.access)
                            && self.paths.iter().any(|glob| program::surely_is(glob, one))
                    }))
            && program::surely_matches(&self.programs, &self.arguments, statement)
            && (self.functions.is_empty()
                || !statement.functions.is_empty()
                    && statement.functions.iter().all(|name| {
                        self.functions.iter().any(|g| g.matches(name, path) == Match::Surely)
                    }))
            && self.selective.is_none_or(|asked| shown && statement.selective == Some(asked))
            && self.cascade.is_none_or(|asked| shown && statement.cascade == asked)
    }
}

impl Versions {
    fn matches(&self, version: &str) -> Match {
        match self {
            Self::Exactly(exactly) => (exactly == version).into(),
            Self::Range(range) => match lenient(version) {
                Some(version) if range.matches(&version) => Match::Surely,
                // No range has what comes before a release, and a package's revision looks the same.
                Some(version) => {
                    let release = Version { pre: Prerelease::EMPTY, ..version };
                    if range.matches(&release) { Match::Perhaps } else { Match::No }
                }
                None => Match::Perhaps,
            },
        }
    }
}

/// `1.4` is `1.4.0`, and a `v` before it is passed over.
fn lenient(text: &str) -> Option<Version> {
    let text = text.strip_prefix('v').unwrap_or(text);
    Version::parse(text).ok().or_else(|| {
        let dots = text.bytes().filter(|byte| *byte == b'.').count();
        let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        (plain && dots < 2)
            .then(|| Version::parse(&format!("{text}{}", ".0".repeat(2 - dots))).ok())
            .flatten()
    })
}
