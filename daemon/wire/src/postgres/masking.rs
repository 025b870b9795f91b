//! Values that do not reach the client as the server sent them.
//!
//! Which column is masked, and by what, the daemon says ([`Masks`]); here rows are taken apart and put
//! together again. What cannot be told is asked of it as such, and it decides for the worst. Does not
//! belong here: forms, detectors, and where a column comes from.

use std::{fmt::Debug, rc::Rc};

use super::{
    frame::{Body, HEADER, Violation},
    reply,
    response::{Columns, Formats},
    statements::Description,
};

/// A column of a result, as its description says it (`RowDescription`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The table that it is of; 0 where it is of none.
    pub table: u32,
    /// Its number there; 0 where it is of none.
    pub number: i16,
    /// The type of its values.
    pub type_oid: u32,
}

/// What is to be done with the values of a result, column by column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// They pass as they are.
    Pass,
    /// A value passes where there is nothing; it is masked by this way of [`Masks::value`]
    /// elsewhere.
    Each(Vec<Option<u16>>),
}

/// What becomes of the values of a command's results.
pub trait Masks: Debug {
    /// What to do with the result of the statement at this place of the command's text. `fields` is
    /// `None` where the result was never described; it has `count` columns.
    fn plan(&self, part: u32, fields: Option<&[Field]>, count: usize) -> Plan;

    /// Appends what stands in a value's place. `false`: NULL does, and nothing was appended.
    fn value(&self, way: u16, type_oid: u32, binary: bool, value: &[u8], out: &mut Vec<u8>)
    -> bool;

    /// Whether what is copied out by the statement at this place passes as it is. If not, the session
    /// ends.
    fn copies(&self, part: u32) -> bool;

    /// Whether messages of the server may hold values that the client must not see: from then on
    /// errors and notices keep their code alone.
    fn hides_messages(&self) -> bool;

    /// What becomes of the values that the client gets, where that is another thing than what is
    /// recorded. It masks no more than this does.
    fn shown(&self) -> Option<Rc<dyn Masks>> {
        None
    }

    /// What is recorded of it: how many values were masked by each way.
    fn report(&self, masked: &[u64]) -> String;
}

/// The masks of a command that runs, and where they stand.
#[derive(Debug)]
pub(crate) struct Masking {
    masks: Rc<dyn Masks>,
    /// As the statement is described, now or later.
    description: Option<Description>,
    /// The formats that were asked for by `Bind`.
    formats: Option<Formats>,
    /// As the current result was described.
    columns: Option<Rc<Columns>>,
    plan: Option<Plan>,
    /// Values masked by each way.
    masked: Vec<u64>,
    /// What the client gets, where that is another thing than what is recorded.
    shown: Option<Box<Self>>,
}

impl Masking {
    /// Of results that are described before they come.
    pub(crate) fn new(masks: Rc<dyn Masks>) -> Self {
        Self::with(masks, None, None)
    }

    /// Of the run of a portal.
    pub(crate) fn of(masks: Rc<dyn Masks>, description: Description, formats: Formats) -> Self {
        Self::with(masks, Some(description), Some(formats))
    }

    fn with(
        masks: Rc<dyn Masks>,
        description: Option<Description>,
        formats: Option<Formats>,
    ) -> Self {
        let shown = masks.shown().map(|shown| {
            Box::new(Self {
                masks: shown,
                description: description.clone(),
                formats: formats.clone(),
                columns: None,
                plan: None,
                masked: Vec::new(),
                shown: None,
            })
        });
        let (columns, plan, masked) = (None, None, Vec::new());
        Self { masks, description, formats, columns, plan, masked, shown }
    }

    /// Others count.
    pub(crate) fn replace(&mut self, masks: Rc<dyn Masks>) {
        let new = Self::with(masks, self.description.take(), self.formats.take());
        let columns = self.columns.take();
        *self = Self { masked: std::mem::take(&mut self.masked), ..new };
        if let Some(columns) = columns {
            self.set_columns(columns);
        }
    }

    pub(crate) fn set_columns(&mut self, columns: Rc<Columns>) {
        if let Some(shown) = &mut self.shown {
            shown.set_columns(columns.clone());
        }
        (self.columns, self.plan) = (Some(columns), None);
    }

    pub(crate) fn hides_messages(&self) -> bool {
        self.masks.hides_messages()
    }

    pub(crate) fn copies(&self, part: u32) -> bool {
        self.masks.copies(part)
    }

    /// The statement is done: what was masked in it, and the next one begins.
    pub(crate) fn finish(&mut self) -> Option<String> {
        // A portal's description stands for all of its runs.
        (self.columns, self.plan) = (None, None);
        if let Some(shown) = &mut self.shown {
            let _ = shown.finish();
        }
        let masked = std::mem::take(&mut self.masked);
        masked.iter().any(|count| *count > 0).then(|| self.masks.report(&masked))
    }

    /// Whether rows of the current result pass as they are, without being looked at. `None`: that
    /// cannot be said before the first.
    pub(crate) fn passes(&self) -> Option<bool> {
        self.plan.as_ref().map(|plan| *plan == Plan::Pass)
    }

    /// What goes to the client in a whole `DataRow`'s stead, if anything does; `kept` is what is
    /// recorded in its stead.
    pub(crate) fn shown_row(
        &mut self,
        part: u32,
        message: &[u8],
        kept: Option<Vec<u8>>,
    ) -> Result<Option<Vec<u8>>, Violation> {
        match &mut self.shown {
            Some(shown) => shown.row(part, message),
            None => Ok(kept),
        }
    }

    /// A whole `DataRow` of the statement at this place; what goes in its stead, if anything does.
    pub(crate) fn row(&mut self, part: u32, message: &[u8]) -> Result<Option<Vec<u8>>, Violation> {
        let mut body = Body::of(message);
        let count = body.count()?;
        let described = || self.description.as_ref()?.get().map(|(columns, _)| columns.clone());
        let columns = self.columns.clone().or_else(described);
        let columns = columns.filter(|columns| columns.types.len() == count);
        if self.plan.is_none() {
            let fields = columns.as_ref().map(|columns| columns.fields());
            let plan = self.masks.plan(part, fields.as_deref(), count);
            self.plan = Some(plan);
        }
        let Some(Plan::Each(ways)) = &self.plan else { return Ok(None) };
        let formats = self.formats.as_ref().or(columns.as_ref().map(|columns| &columns.formats));
        let mut row = Vec::with_capacity(message.len());
        row.extend_from_slice(message.get(..HEADER + 2).unwrap_or_default());
        for index in 0..count {
            let value = body.value()?;
            // A row that has more than was planned for is not what it was said to be.
            let way = ways.get(index).copied().unwrap_or(Some(0));
            let mark = row.len();
            row.extend_from_slice(&NULL);
            let Some(value) = value else { continue };
            let begin = row.len();
            let is_there = match way {
                None => {
                    row.extend_from_slice(value);
                    true
                }
                Some(way) => {
                    let oid = columns.as_ref().and_then(|c| c.types.get(index)).copied();
                    let binary = formats.is_some_and(|formats| formats.binary(index));
                    let place = usize::from(way);
                    if self.masked.len() <= place {
                        self.masked.resize(place + 1, 0);
                    }
                    if let Some(count) = self.masked.get_mut(place) {
                        *count += 1;
                    }
                    self.masks.value(way, oid.unwrap_or(0), binary, value, &mut row)
                }
            };
            if is_there {
                let length = i32::try_from(row.len() - begin).unwrap_or(-1);
                if let Some(place) = row.get_mut(mark..begin) {
                    place.copy_from_slice(&length.to_be_bytes());
                }
            } else {
                row.truncate(begin);
            }
        }
        body.end()?;
        reply::set_length(&mut row);
        Ok(Some(row))
    }
}

/// A value's length that says NULL.
const NULL: [u8; 4] = (-1_i32).to_be_bytes();

#[cfg(test)]
mod tests {
    use super::*;

    /// Masks the second column: texts become `x`, all else NULL.
    #[derive(Debug)]
    struct Second;

    impl Masks for Second {
        fn plan(&self, _: u32, fields: Option<&[Field]>, count: usize) -> Plan {
            match fields {
                Some(fields) if fields.iter().all(|field| field.number != 2) => Plan::Pass,
                Some(fields) => {
                    Plan::Each(fields.iter().map(|f| (f.number == 2).then_some(1)).collect())
                }
                None => Plan::Each(vec![Some(0); count]),
            }
        }

        fn value(&self, way: u16, oid: u32, binary: bool, _: &[u8], out: &mut Vec<u8>) -> bool {
            let masks = way == 1 && oid == 25 && !binary;
            if masks {
                out.push(b'x');
            }
            masks
        }

        fn copies(&self, _: u32) -> bool {
            false
        }

        fn hides_messages(&self) -> bool {
            true
        }

        fn report(&self, masked: &[u64]) -> String {
            format!("{masked:?}")
        }
    }

    /// Records what [`Second`] leaves, and shows all.
    #[derive(Debug)]
    struct Lifted;

    impl Masks for Lifted {
        fn plan(&self, part: u32, fields: Option<&[Field]>, count: usize) -> Plan {
            Second.plan(part, fields, count)
        }

        fn value(&self, way: u16, oid: u32, binary: bool, value: &[u8], out: &mut Vec<u8>) -> bool {
            Second.value(way, oid, binary, value, out)
        }

        fn copies(&self, part: u32) -> bool {
            Second.copies(part)
        }

        fn hides_messages(&self) -> bool {
            true
        }

        fn shown(&self) -> Option<Rc<dyn Masks>> {
            Some(Rc::new(All))
        }

        fn report(&self, masked: &[u64]) -> String {
            Second.report(masked)
        }
    }

    #[derive(Debug)]
    struct All;

    impl Masks for All {
        fn plan(&self, _: u32, _: Option<&[Field]>, _: usize) -> Plan {
            Plan::Pass
        }

        fn value(&self, _: u16, _: u32, _: bool, _: &[u8], _: &mut Vec<u8>) -> bool {
            false
        }

        fn copies(&self, _: u32) -> bool {
            true
        }

        fn hides_messages(&self) -> bool {
            true
        }

        fn report(&self, _: &[u64]) -> String {
            String::new()
        }
    }

    #[test]
    fn p5_what_is_lifted_is_shown_and_recorded_masked() {
        let mut masking = Masking::new(Rc::new(Lifted));
        masking.set_columns(described(&[1, 2], 25, false));
        let sent = row(&[Some(b"a"), Some(b"secret")]);
        let kept = masking.row(0, &sent).expect("a row");
        assert_eq!(kept, Some(row(&[Some(b"a"), Some(b"x")])));
        assert_eq!(masking.shown_row(0, &sent, kept).expect("a row"), None, "as it is");
        assert_eq!(masking.finish().as_deref(), Some("[0, 1]"));
        // From here on nothing is lifted.
        masking.replace(Rc::new(Second));
        masking.set_columns(described(&[1, 2], 25, false));
        let kept = masking.row(0, &sent).expect("a row");
        assert!(kept.is_some());
        assert_eq!(masking.shown_row(0, &sent, kept.clone()).expect("a row"), kept);
    }

    fn row(values: &[Option<&[u8]>]) -> Vec<u8> {
        let mut message = b"D\0\0\0\0".to_vec();
        message.extend(u16::try_from(values.len()).expect("few").to_be_bytes());
        for value in values {
            let Some(value) = value else {
                message.extend(NULL);
                continue;
            };
            message.extend(i32::try_from(value.len()).expect("short").to_be_bytes());
            message.extend_from_slice(value);
        }
        reply::set_length(&mut message);
        message
    }

    fn described(numbers: &[i16], oid: u32, binary: bool) -> Rc<Columns> {
        Rc::new(Columns {
            types: vec![oid; numbers.len()],
            origins: numbers.iter().map(|number| (7, *number)).collect(),
            formats: Formats::All(binary),
            ..Columns::default()
        })
    }

    #[test]
    fn p5_a_value_is_masked_and_the_others_are_as_they_were() {
        let mut masking = Masking::new(Rc::new(Second));
        masking.set_columns(described(&[1, 2, 3], 25, false));
        let sent = row(&[Some(b"a"), Some(b"secret"), None]);
        let with = masking.row(0, &sent).expect("a row");
        assert_eq!(with, Some(row(&[Some(b"a"), Some(b"x"), None])));
        assert_eq!(masking.finish().as_deref(), Some("[0, 1]"));
        assert_eq!(masking.finish(), None);
    }

    #[test]
    fn p5_what_cannot_be_masked_is_null() {
        for (oid, binary) in [(25, true), (23, false)] {
            let mut masking = Masking::new(Rc::new(Second));
            masking.set_columns(described(&[2], oid, binary));
            let with = masking.row(0, &row(&[Some(b"secret")])).expect("a row");
            assert_eq!(with, Some(row(&[None])));
        }
    }

    #[test]
    fn p5_a_result_that_was_not_described_as_it_comes_is_masked_whole() {
        let mut masking = Masking::new(Rc::new(Second));
        let sent = row(&[Some(b"a"), Some(b"b")]);
        let null = row(&[None, None]);
        assert_eq!(masking.row(0, &sent).expect("a row"), Some(null.clone()));
        masking.set_columns(described(&[1], 25, false));
        assert_eq!(masking.row(0, &sent).expect("a row"), Some(null));
    }

    #[test]
    fn a_result_that_no_mask_touches_passes() {
        let mut masking = Masking::new(Rc::new(Second));
        masking.set_columns(described(&[1, 3], 25, false));
        assert_eq!(masking.row(0, &row(&[Some(b"a"), None])).expect("a row"), None);
        assert_eq!(masking.passes(), Some(true));
    }

    proptest::proptest! {
        #[test]
        fn p8_no_row_panics(mut bytes: Vec<u8>) {
            bytes.splice(0..0, *b"D\0\0\0\0");
            reply::set_length(&mut bytes);
            let mut masking = Masking::new(Rc::new(Second));
            let _ = masking.row(0, &bytes);
        }
    }
}
