//! What becomes of a statement's results and why, for people.
//!
//! It says what [`Traced`] does, and decides nothing.

use chaperone_model::{ColumnRef, Origin, Outputs};
use chaperone_policy::mask::{Form, Keep};
use chaperone_wire::postgres::Field;
use serde::Serialize;

use super::{Traced, WHOLE};

/// A column of a result.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Explained {
    /// Its name, where the server could be asked.
    pub(crate) name: Option<String>,
    /// `as it is`, `masked`, `NULL`.
    pub(crate) shown: &'static str,
    /// The mask that says so.
    pub(crate) mask: Option<String>,
    /// Its form.
    pub(crate) form: Option<String>,
    /// The masked columns that it comes from.
    pub(crate) from: Vec<String>,
    /// Why, in words.
    pub(crate) why: String,
}

impl Traced {
    /// The columns of the result of one statement of the text; `described`: as the server describes
    /// them, where it could be asked. `None` where it has no result, or none that is known.
    pub(crate) fn explain(
        &self,
        part: usize,
        described: Option<&[(String, Field)]>,
    ) -> Option<Vec<Explained>> {
        match &self.lineage.get(part)?.outputs {
            Outputs::None | Outputs::Of(_) => None,
            Outputs::Unknown => Some(Self::all_unknown(described)),
            Outputs::Columns(origins) => {
                let fits = described.is_none_or(|described| described.len() == origins.len());
                if !fits {
                    return Some(Self::all_unknown(described));
                }
                let column = |(place, origin): (usize, &Origin)| {
                    let described = described.and_then(|described| described.get(place));
                    self.column(origin, described)
                };
                Some(origins.iter().enumerate().map(column).collect())
            }
        }
    }

    fn all_unknown(described: Option<&[(String, Field)]>) -> Vec<Explained> {
        let names = described.unwrap_or_default().iter().map(|(name, _)| Some(name.clone()));
        let names: Vec<_> = names.collect();
        let names = if names.is_empty() { vec![None] } else { names };
        let unknown = |name| Explained {
            name,
            shown: "NULL",
            mask: None,
            form: None,
            from: Vec::new(),
            why: "it cannot be told where the columns of this result come from".into(),
        };
        names.into_iter().map(unknown).collect()
    }

    fn column(&self, origin: &Origin, described: Option<&(String, Field)>) -> Explained {
        // Without the server's word the text's alone is told.
        let field = described.map_or(Field { table: 0, number: 0, type_oid: 0 }, |(_, f)| *f);
        let way = self.way(field, origin);
        let loaded = way.and_then(|way| self.masks.way(way));
        let from: Vec<String> = match origin {
            Origin::Column(column) => self.name_of(*column).into_iter().collect(),
            Origin::Made(columns) => {
                columns.iter().filter_map(|column| self.name_of(*column)).collect()
            }
            Origin::Clear | Origin::Unknown => Vec::new(),
        };
        let why = match (origin, way) {
            (Origin::Clear, None) => "it is of no masked column".to_owned(),
            (Origin::Clear, Some(WHOLE)) => {
                "the server says that it is of something else than its text names".into()
            }
            (Origin::Clear, Some(_)) => "the server says that it is of a masked column".into(),
            (Origin::Column(column), _) => {
                format!("it is {}{}", from.join(", "), self.behind(*column))
            }
            (Origin::Made(_), _) => format!("it is made of {}", from.join(", ")),
            (Origin::Unknown, _) => "it cannot be told where it comes from".into(),
        };
        let is_looked_into = loaded.is_some_and(|loaded| !loaded.mask.detect.is_empty());
        Explained {
            name: described.map(|(name, _)| name.clone()),
            shown: match (way, loaded.map(|loaded| &loaded.mask.form)) {
                (None, _) => "as it is",
                (Some(_), _) if is_looked_into => "what is found in it is masked",
                (Some(_), None | Some(Form::Null)) => "NULL",
                (Some(_), Some(_)) => "masked",
            },
            mask: loaded.map(|loaded| loaded.mask.name.to_string()),
            form: loaded.map(|loaded| form(&loaded.mask.form)),
            from,
            why,
        }
    }

    /// That a column is a view's, where it is: what is behind it is not followed.
    fn behind(&self, column: ColumnRef) -> &'static str {
        let table = usize::try_from(column.table).ok();
        let table = table.and_then(|table| self.columns.schema.tables.get(table));
        if table.is_some_and(|table| table.query.is_some()) { ", a column of a view" } else { "" }
    }

    /// The views among what it names or is behind that, by which it may come to masked columns.
    pub(crate) fn views(&self) -> Vec<String> {
        let views = self.columns.schema.tables.iter().filter(|table| table.query.is_some());
        views.map(|table| format!("{}.{}", table.schema, table.name)).collect()
    }
}

fn form(form: &Form) -> String {
    match form {
        Form::Null => "null".into(),
        Form::Constant(_) => "constant".into(),
        Form::Partial(Keep::First(count)) => format!("partial, first {count}"),
        Form::Partial(Keep::Last(count)) => format!("partial, last {count}"),
        Form::Pseudonym(_) => "pseudonym".into(),
        Form::Year => "year".into(),
    }
}
