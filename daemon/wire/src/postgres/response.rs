//! A response as it is recorded: the first rows up to a size, and an honest mark where it was cut.

use std::rc::Rc;

use chaperone_model::Response;

use super::{
    frame::{Body, HEADER, Violation},
    masking::Field,
    statements::Description,
    value::{push_json, push_string},
};

/// The columns of a result (`RowDescription`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Columns {
    /// The names as a JSON array.
    pub(crate) names: String,
    pub(crate) types: Vec<u32>,
    /// The table of each, and its number there.
    pub(crate) origins: Vec<(u32, i16)>,
    pub(crate) formats: Formats,
}

impl Columns {
    /// The columns without their names.
    pub(crate) fn fields(&self) -> Vec<Field> {
        let columns = self.types.iter().zip(&self.origins);
        let field = |(type_oid, (table, number)): (&u32, &(u32, i16))| Field {
            table: *table,
            number: *number,
            type_oid: *type_oid,
        };
        columns.map(field).collect()
    }

    /// About how many bytes it takes.
    pub(crate) fn size(&self) -> usize {
        let column = size_of::<u32>() + size_of::<(u32, i16)>() + 1;
        self.names.len() + self.types.len() * column
    }

    pub(crate) fn read(message: &[u8]) -> Result<Self, Violation> {
        let mut body = Body::of(message);
        let count = body.count()?;
        let mut names = vec![b'['];
        let (mut types, mut origins, mut binary) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..count {
            let name = body.text()?;
            origins.push((body.u32()?, body.i16()?));
            types.push(body.u32()?);
            let (_size, _modifier) = (body.i16()?, body.i32()?);
            binary.push(body.i16()? != 0);
            if index > 0 {
                names.push(b',');
            }
            push_string(&mut names, &String::from_utf8_lossy(name));
        }
        body.end()?;
        names.push(b']');
        Ok(Self {
            names: String::from_utf8(names).unwrap_or_default(),
            types,
            origins,
            formats: Formats::Each(binary.into()),
        })
    }
}

/// Which values of a row are binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Formats {
    /// All of them, or none.
    All(bool),
    /// As listed.
    Each(Rc<[bool]>),
}

impl Default for Formats {
    fn default() -> Self {
        Self::All(false)
    }
}

impl Formats {
    /// The codes of a `Bind`: none means text, one counts for all.
    pub(crate) fn read(body: &mut Body<'_>) -> Result<Self, Violation> {
        let count = body.count()?;
        let mut code = || body.i16().map(|code| code != 0);
        Ok(match count {
            0 => Self::All(false),
            1 => Self::All(code()?),
            _ => Self::Each((0..count).map(|_| code()).collect::<Result<_, _>>()?),
        })
    }

    /// The first of them.
    pub(crate) fn first(self, count: usize) -> Self {
        match self {
            Self::Each(each) if each.len() > count => {
                Self::Each(each.get(..count).unwrap_or_default().into())
            }
            few => few,
        }
    }

    pub(crate) fn binary(&self, index: usize) -> bool {
        match self {
            Self::All(binary) => *binary,
            Self::Each(each) => each.get(index).copied().unwrap_or(false),
        }
    }
}

/// The part of a response that is kept.
#[derive(Debug)]
pub(crate) struct Capture {
    /// As they were described with the rows.
    columns: Option<Rc<Columns>>,
    /// As the statement is described, now or later.
    description: Option<Description>,
    /// The formats asked for by `Bind`, which a description of the statement does not know.
    formats: Option<Formats>,
    rows: Vec<u8>,
    kept: u64,
    limit: usize,
    truncated: bool,
}

impl Capture {
    /// Of a query whose rows are described before they come.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            columns: None,
            description: None,
            formats: None,
            rows: Vec::new(),
            kept: 0,
            limit,
            truncated: limit == 0,
        }
    }

    /// Of the run of a portal.
    pub(crate) fn of(limit: usize, description: Description, formats: Formats) -> Self {
        Self { description: Some(description), formats: Some(formats), ..Self::new(limit) }
    }

    pub(crate) fn set_columns(&mut self, columns: Rc<Columns>) {
        self.columns = Some(columns);
    }

    fn columns(&self) -> Option<Rc<Columns>> {
        let described = || self.description.as_ref()?.get().map(|(columns, _)| columns);
        self.columns.as_ref().or_else(described).cloned()
    }

    /// Whether a message of this length could still be kept.
    pub(crate) fn wants(&self, length: usize) -> bool {
        !self.truncated && self.rows.len() + length <= self.limit
    }

    pub(crate) fn truncate(&mut self) {
        self.truncated = true;
    }

    /// Keeps a whole `DataRow`.
    pub(crate) fn row(&mut self, message: &[u8]) -> Result<(), Violation> {
        if !self.wants(message.len()) {
            self.truncated = true;
            return Ok(());
        }
        let mut body = Body::of(message);
        let count = body.count()?;
        let mark = self.open_item();
        let columns = self.columns();
        let columns = columns.as_deref();
        let formats = self.formats.as_ref().or(columns.map(|c| &c.formats));
        self.rows.push(b'[');
        for index in 0..count {
            if index > 0 {
                self.rows.push(b',');
            }
            let oid = columns.and_then(|c| c.types.get(index)).copied().unwrap_or(0);
            let binary = formats.is_some_and(|f| f.binary(index));
            let value = body.value()?;
            // Values can grow when they are written as text; the row is dropped then.
            if self.rows.len() <= self.limit {
                push_json(&mut self.rows, oid, binary, value);
            }
        }
        body.end()?;
        self.rows.push(b']');
        self.close_item(mark);
        Ok(())
    }

    /// Keeps a whole `CopyData`.
    pub(crate) fn copy(&mut self, message: &[u8]) {
        if !self.wants(message.len()) {
            self.truncated = true;
            return;
        }
        let mark = self.open_item();
        push_json(&mut self.rows, 0, false, message.get(HEADER..));
        self.close_item(mark);
    }

    /// What was kept; `None` where there was nothing to keep.
    pub(crate) fn finish(self) -> Option<Response> {
        let columns = self.columns();
        if columns.is_none() && self.kept == 0 && !self.truncated {
            return None;
        }
        // A description can be long, and go with many runs: it is a part of the response.
        let fits = columns.as_ref().is_none_or(|columns| columns.names.len() <= self.limit);
        let names = columns.filter(|_| fits).map(|columns| columns.names.clone());
        let mut rows = self.rows;
        rows.push(if rows.is_empty() { b'[' } else { b']' });
        if self.kept == 0 {
            rows = b"[]".to_vec();
        }
        Some(Response {
            columns: names.unwrap_or_default(),
            rows: String::from_utf8(rows).unwrap_or_default(),
            kept: self.kept,
            truncated: self.truncated || !fits,
        })
    }

    fn open_item(&mut self) -> usize {
        let mark = self.rows.len();
        self.rows.push(if mark == 0 { b'[' } else { b',' });
        mark
    }

    /// Escaping can make an item longer than its message was: the limit holds all the same.
    fn close_item(&mut self, mark: usize) {
        if self.rows.len() > self.limit {
            self.rows.truncate(mark);
            self.rows.shrink_to_fit();
            self.truncated = true;
        } else {
            self.kept += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data_row(values: &[Option<&[u8]>]) -> Vec<u8> {
        let mut body = u16::try_from(values.len()).expect("few").to_be_bytes().to_vec();
        for value in values {
            match value {
                None => body.extend((-1_i32).to_be_bytes()),
                Some(v) => {
                    body.extend(i32::try_from(v.len()).expect("short").to_be_bytes());
                    body.extend_from_slice(v);
                }
            }
        }
        let mut message = vec![b'D'];
        message.extend(u32::try_from(body.len() + 4).expect("short").to_be_bytes());
        message.extend(body);
        message
    }

    #[test]
    fn rows_are_kept_until_the_limit_and_the_cut_is_marked() {
        let mut capture = Capture::new(64);
        for _ in 0..10 {
            capture.row(&data_row(&[Some(b"abc"), None])).expect("a row");
        }
        let response = capture.finish().expect("rows");
        assert!(response.truncated);
        assert!(response.rows.len() <= 65);
        let rows: Vec<Vec<Option<String>>> = serde_json::from_str(&response.rows).expect("JSON");
        assert_eq!(u64::try_from(rows.len()).expect("few"), response.kept);
        assert_eq!(rows[0], [Some("abc".to_owned()), None]);
    }

    #[test]
    fn escaping_does_not_break_the_limit() {
        let mut capture = Capture::new(40);
        capture.row(&data_row(&[Some(&[1; 20])])).expect("a row");
        let response = capture.finish().expect("a mark");
        assert_eq!((response.rows.as_str(), response.kept, response.truncated), ("[]", 0, true));
    }

    #[test]
    fn p8_a_row_that_grows_is_dropped_and_its_room_given_back() {
        // As many as the limit lets in; each becomes 311 bytes.
        let long = 1e308_f64.to_be_bytes();
        let row = data_row(&[Some(&long[..]); 80]);
        let mut capture = Capture::new(1000);
        capture.set_columns(Rc::new(Columns {
            types: vec![701; 80],
            formats: Formats::All(true),
            ..Columns::default()
        }));
        capture.row(&row).expect("a row");
        assert!(capture.rows.capacity() <= 1000, "{}", capture.rows.capacity());
        assert!(capture.finish().expect("a mark").truncated);
    }

    #[test]
    fn a_description_that_is_longer_than_a_response_may_be_is_left_out() {
        let mut capture = Capture::new(10);
        let columns = Columns { names: "[\"a long name\"]".into(), ..Columns::default() };
        capture.set_columns(Rc::new(columns));
        let response = capture.finish().expect("a mark");
        assert_eq!((response.columns.as_str(), response.truncated), ("", true));
    }

    #[test]
    fn a_limit_of_zero_keeps_nothing_and_says_so() {
        let mut capture = Capture::new(0);
        capture.row(&data_row(&[])).expect("a row");
        assert!(capture.finish().expect("a mark").truncated);
    }

    #[test]
    fn p8_a_row_with_a_lying_value_length_is_refused() {
        let mut message = data_row(&[Some(b"abc")]);
        message[10] = 200;
        assert!(Capture::new(1000).row(&message).is_err());
    }

    proptest::proptest! {
        #[test]
        fn p8_no_row_description_panics(bytes: Vec<u8>) {
            let _ = Columns::read(&bytes);
            let _ = Capture::new(1000).row(&bytes);
        }
    }
}
