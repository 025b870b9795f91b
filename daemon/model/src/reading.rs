//! What was read out of a command's text.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Hides, ShellWord};

/// How much a statement can do. Of several the higher counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rung {
    /// It changes nothing.
    Read,
    /// It changes data, within bounds that it names.
    Write,
    /// It changes or removes without bounds, changes what there is or who may do what, or cannot be
    /// told.
    Destructive,
    /// It reaches beyond the database, or round what guards it.
    Forbidden,
}

impl Rung {
    /// The name that the configuration and the log use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Destructive => "destructive",
            Self::Forbidden => "forbidden",
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What was read out of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// Its statements, in order. A text that holds none does nothing.
    pub statements: Vec<Statement>,
    /// Where two readers read it differently, in words: the stricter of both holds.
    pub disagreement: Option<String>,
}

impl Reading {
    /// Of a text that cannot be read, and why.
    pub fn unreadable(why: impl Into<String>) -> Self {
        let statement =
            Statement { opaque: true, ..Statement::new(UNREADABLE, Rung::Destructive, why) };
        Self { statements: vec![statement], disagreement: None }
    }

    /// The highest rung of its statements.
    pub fn rung(&self) -> Rung {
        self.statements.iter().map(|statement| statement.rung).max().unwrap_or(Rung::Read)
    }
}

/// The kind of what cannot be read.
pub const UNREADABLE: &str = "unreadable";

/// Kinds that are forbidden unless a rule names them: what goes through is not decided piece by piece.
pub const BY_NAME: [&str; 7] =
    ["SHELL", "FORWARD", "FORWARD SOCKET", "LISTEN", "LISTEN SOCKET", "X11", "AGENT"];

/// One statement of a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// What it is, as the server's completion tags name it (`src/include/tcop/cmdtaglist.h`):
    /// `DELETE`, `DROP TABLE`; or [`UNREADABLE`].
    pub kind: String,
    /// How much it can do.
    pub rung: Rung,
    /// Why it is on this rung: words that follow "because".
    pub reason: String,
    /// The relations that it names, but for those that it makes for itself (`WITH`).
    pub relations: Vec<Relation>,
    /// The columns that it names.
    pub columns: Vec<Column>,
    /// The files that it names.
    pub paths: Vec<PathUse>,
    /// For what it may touch files that it does not name, or not by each step of their paths.
    pub other_files: Option<Access>,
    /// The program that it is.
    pub program: Option<Box<ProgramUse>>,
    /// The functions that it calls by name.
    pub functions: Vec<QualifiedName>,
    /// The types that it names, where they may be others than PostgreSQL's own: a cast to one may call
    /// a function.
    pub types: Vec<QualifiedName>,
    /// Of what updates or deletes rows: whether each such part names which, by comparing a column
    /// with a value.
    pub selective: Option<bool>,
    /// It deletes rows, or merges: what refers to them may go with them.
    pub deletes: bool,
    /// It changes rows that are there.
    pub updates: bool,
    /// The operators that it uses by name, those that the language's own words stand for, too.
    pub operators: Vec<String>,
    /// It drops or empties what depends on what it names, too.
    pub cascade: bool,
    /// It runs code that its text does not show.
    pub opaque: bool,
    /// It makes or renames code that other statements may run without naming it: functions, casts,
    /// operators, triggers, rules.
    pub makes_code: bool,
    /// The prepared statement or cursor that it makes or uses.
    pub name: Option<NameUse>,
    /// The schema that it gives another name, and that name.
    pub renames: Option<(String, String)>,
    /// What the target's catalog says of it beyond its text, in sentences.
    pub catalog: Vec<String>,
}

impl Statement {
    /// A statement of which no more is known yet.
    pub fn new(kind: impl Into<String>, rung: Rung, reason: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            rung,
            reason: reason.into(),
            relations: Vec::new(),
            columns: Vec::new(),
            paths: Vec::new(),
            other_files: None,
            program: None,
            functions: Vec::new(),
            types: Vec::new(),
            selective: None,
            deletes: false,
            updates: false,
            operators: Vec::new(),
            cascade: false,
            opaque: false,
            makes_code: false,
            name: None,
            renames: None,
            catalog: Vec::new(),
        }
    }
}

/// A name as the server takes it: folded to lower case where it was not quoted, and cut to 63 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QualifiedName {
    /// The schema, where it was given.
    pub schema: Option<String>,
    /// The name in it.
    pub name: String,
}

impl fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// What is done with something that is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// It is read.
    Read,
    /// It is changed, made or dropped; perhaps read as well.
    Write,
}

/// A relation that a statement names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Relation {
    /// Which.
    pub name: QualifiedName,
    /// For what.
    pub access: Access,
}

/// A file that a command names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PathUse {
    /// As it was written; bytes that are no text stand escaped.
    pub path: String,
    /// For what.
    pub access: Access,
    /// It may be a folder, and what is below it is meant as well.
    pub below: bool,
}

/// A program that a command line runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramUse {
    /// Its name; with its path where it does not stand where programs are. Empty where it is not
    /// known.
    pub name: String,
    /// What it is given.
    pub arguments: Vec<ShellWord>,
    /// What runs it, from the outside in.
    pub context: Vec<String>,
    /// What it may do that the line does not show.
    pub hides: Hides,
}

/// A column that a statement names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Column {
    /// Of which relation, where the text tells: aliases are followed.
    pub relation: Option<QualifiedName>,
    /// Its name; `*` for all of them.
    pub name: String,
    /// For what.
    pub access: Access,
}

/// What a statement does with the name of a prepared statement or a cursor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NameUse {
    /// `PREPARE`: its statement's rung is that of what it prepares.
    Prepares(String),
    /// `EXECUTE`: its rung is that of what was prepared.
    Executes(String),
    /// `DECLARE`: its statement's rung is that of its query.
    Declares(String),
    /// `FETCH` and `MOVE`: its rung is that of the cursor's query.
    Fetches(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_higher_rung_counts() {
        let of = |rungs: &[Rung]| Reading {
            statements: rungs.iter().map(|rung| Statement::new("x", *rung, "")).collect(),
            disagreement: None,
        };
        assert_eq!(of(&[]).rung(), Rung::Read);
        assert_eq!(of(&[Rung::Write, Rung::Forbidden, Rung::Read]).rung(), Rung::Forbidden);
        assert_eq!(Reading::unreadable("x").rung(), Rung::Destructive);
    }
}
