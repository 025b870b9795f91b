//! Where the columns of a statement's result come from, and what it does with masked columns.
//!
//! Words that the reader of SQL and the daemon share. Does not belong here: reading them out of a
//! text, which columns are masked for whom, and what follows from it.

use serde::{Deserialize, Serialize};

/// What is known of the relations that a text may name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Schema {
    /// Where a name without a schema is looked for, in order. `None` where that is not sure: any
    /// relation of the name may be meant, and others that are not listed as well.
    pub path: Option<Vec<String>>,
    /// Where names in the queries of views are looked for: as the account looks that they were asked
    /// by.
    pub view_path: Vec<String>,
    /// Schemas may have other names by now: a name with a schema, too, may mean another relation.
    pub moved: bool,
    /// What code that nobody reads gives counts as made of what it is given, and of nothing else.
    pub code_shows: bool,
    /// `text` without a schema is PostgreSQL's own type, and not one that the session made.
    pub text_is_own: bool,
    /// The relations, those behind views as well.
    pub tables: Vec<Table>,
}

/// A relation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Table {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its columns in order, without those that were dropped.
    pub columns: Vec<TableColumn>,
    /// Of a view or materialized view: its query.
    pub query: Option<String>,
    /// Its columns are not known: any of it may be masked.
    pub unknown: bool,
}

/// A column of a relation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TableColumn {
    /// Its name.
    pub name: String,
    /// Whether what stands in it is masked.
    pub masked: bool,
    /// It is computed of the others: COPY leaves it out where it is not named.
    pub generated: bool,
    /// What is written into it is compared with other values: whether that fails tells of them.
    pub checked: bool,
    /// The type of its values (`pg_type.oid`); of a domain, what it is a domain of.
    pub type_oid: u32,
}

/// What was found of one statement of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// The columns of its result.
    pub outputs: Outputs,
    /// What it does with masked columns, but for giving them out.
    pub uses: Vec<MaskedUse>,
    /// With how many values it compares them, where that is one of its uses.
    pub compared: u64,
    /// Whether it copies its result out (`COPY … TO`).
    pub copies: Copies,
}

/// Where a result is copied to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Copies {
    /// It is not copied.
    #[default]
    No,
    /// To the client, written so.
    Out(CopyLayout),
    /// To the client, and how it is written cannot be said, for this reason.
    Unclear(String),
    /// To a file or program of the server's.
    Elsewhere,
}

/// How COPY writes rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyLayout {
    /// In which format.
    pub format: CopyFormat,
    /// Between two values.
    pub delimiter: u8,
    /// What stands for NULL.
    pub null: String,
    /// Around a value, in CSV.
    pub quote: u8,
    /// Before a quote or itself within quotes, in CSV.
    pub escape: u8,
    /// Whether the first line has the columns' names.
    pub header: bool,
}

/// The formats of COPY.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CopyFormat {
    /// Lines, with backslashes.
    Text,
    /// Lines, with quotes.
    Csv,
    /// As binary results.
    Binary,
}

impl CopyLayout {
    /// As it is where nothing is said but the format.
    pub fn usual(format: CopyFormat) -> Self {
        let (delimiter, null) = match format {
            CopyFormat::Csv => (b',', ""),
            CopyFormat::Text | CopyFormat::Binary => (b'\t', "\\N"),
        };
        Self { format, delimiter, null: null.into(), quote: b'"', escape: b'"', header: false }
    }
}

/// The columns of a result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outputs {
    /// There is no result.
    #[default]
    None,
    /// These, in order.
    Columns(Vec<Origin>),
    /// It cannot be said which: all of it may be masked.
    Unknown,
    /// What was prepared or declared under this name decides (`EXECUTE`, `FETCH`).
    Of(String),
}

/// Where the values of a column come from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// From nothing that is masked.
    Clear,
    /// From that column alone, as it is.
    Column(ColumnRef),
    /// Made of these, and perhaps of others that are not masked.
    Made(Vec<ColumnRef>),
    /// It cannot be said.
    Unknown,
}

/// A column of a table: their places in [`Schema::tables`] and [`Table::columns`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ColumnRef {
    /// Which table.
    pub table: u32,
    /// Which of its columns.
    pub column: u32,
}

/// What is done with a masked column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MaskedUse {
    /// Which; `None` where it cannot be said.
    pub column: Option<ColumnRef>,
    /// What.
    pub how: How,
}

/// What can be done with a masked column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// A value is written into it: it tells nothing.
    Written,
    /// It is compared with constants or parameters by `=`, or with what is inserted.
    Equality,
    /// A condition depends on it in another way: what comes, or whether something comes, tells.
    Condition,
    /// Rows are put in its order.
    Order,
    /// Rows are put together by it (`GROUP BY`, `DISTINCT`, `UNION`).
    Group,
    /// Something is computed of it that can fail, or can give more or fewer rows, by its value.
    Computed,
    /// Its values are written elsewhere.
    Copied,
}
