//! Rows of results.

use super::{Became, Look, Masking, Plan, Screens};
use crate::postgres::{
    frame::{Body, Violation},
    reply,
};

/// A value's length that says NULL.
const NULL: [u8; 4] = (-1_i32).to_be_bytes();
/// A longer value is looked into where it stands.
const SHORT: usize = 256;

/// What is done with the rows of a result.
#[derive(Debug)]
pub(super) struct Rows {
    each: Vec<Of>,
    /// Some value has to be looked at as such, or is masked.
    apart: bool,
}

/// What is done with the values of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Look(Look),
    Way(u16),
}

/// Buffers that are used again.
#[derive(Debug, Default)]
pub(super) struct Room {
    bytes: Vec<u8>,
    value: Vec<u8>,
}

impl Rows {
    fn new(plan: &Plan, count: usize, look: impl Fn(usize) -> Look) -> Self {
        let of = |index| match plan {
            Plan::Pass => Of::Look(look(index)),
            // A row that has more than was planned for is not what it was said to be.
            Plan::Each(ways) => match ways.get(index).copied().unwrap_or(Some(0)) {
                Some(way) => Of::Way(way),
                None => Of::Look(look(index)),
            },
        };
        let each: Vec<Of> = (0..count).map(of).collect();
        let apart = |of: &Of| matches!(of, Of::Way(_) | Of::Look(Look::Value));
        Self { apart: each.iter().any(apart), each }
    }

    /// Whether they pass without being looked at.
    pub(super) fn pass(&self) -> bool {
        self.each.iter().all(|of| *of == Of::Look(Look::Never))
    }

    /// Whether nothing is in a row, as far as its bytes say.
    fn is_clean(
        &self,
        screens: &dyn Screens,
        mut body: Body<'_>,
        bytes: &mut Vec<u8>,
    ) -> Result<bool, Violation> {
        bytes.clear();
        for of in &self.each {
            let Some(value) = body.value()? else { continue };
            match of {
                Of::Look(Look::Never) => continue,
                Of::Look(Look::Escaped) if value.contains(&b'\\') => return Ok(false),
                Of::Look(Look::Bytes | Look::Escaped) => {}
                Of::Look(Look::Value) | Of::Way(_) => return Ok(false),
            }
            if value.len() > SHORT {
                if screens.finds(value) {
                    return Ok(false);
                }
            } else {
                // Many short ones are looked into at once.
                bytes.extend_from_slice(value);
                bytes.push(0);
            }
        }
        body.end()?;
        Ok(bytes.is_empty() || !screens.finds(bytes))
    }
}

impl Masking {
    /// A whole `DataRow` of the statement at this place; what goes in its stead, if anything does.
    pub(crate) fn row(&mut self, part: u32, message: &[u8]) -> Result<Option<Vec<u8>>, Violation> {
        let mut body = Body::of(message);
        let count = body.count()?;
        let described = || self.description.as_ref()?.get().map(|(columns, _)| columns.clone());
        let columns = self.columns.clone().or_else(described);
        let columns = columns.filter(|columns| columns.types.len() == count);
        let formats = self.formats.as_ref().or(columns.as_ref().map(|columns| &columns.formats));
        let binary = |index| formats.is_some_and(|formats| formats.binary(index));
        let types = columns.as_ref().map_or(&[][..], |columns| &columns.types);
        let oid = |index: usize| types.get(index).copied().unwrap_or(0);
        if self.plan.as_ref().is_none_or(|rows| rows.each.len() < count) {
            let plan = match &self.masks {
                Some(masks) => {
                    let fields = columns.as_ref().map(|columns| columns.fields());
                    masks.plan(part, fields.as_deref(), count)
                }
                None => Plan::Pass,
            };
            let look = |index| match &self.screens {
                Some(screens) => screens.look(oid(index), binary(index)),
                None => Look::Never,
            };
            self.plan = Some(Rows::new(&plan, count, look));
        }
        let Some(rows) = &self.plan else { return Ok(None) };
        if rows.pass() {
            return Ok(None);
        }
        if let Some(screens) = &self.screens
            && !rows.apart
            && rows.each.len() == count
            && rows.is_clean(&**screens, body, &mut self.room.bytes)?
        {
            return Ok(None);
        }
        let mut row = Vec::new();
        for (index, of) in rows.each.iter().take(count).enumerate() {
            let begin = message.len() - body.rest().len();
            let Some(value) = body.value()? else {
                if !row.is_empty() {
                    row.extend(NULL);
                }
                continue;
            };
            let end = message.len() - body.rest().len();
            let with = &mut self.room.value;
            with.clear();
            let (counts, oid, binary) = (&mut self.counts, oid(index), binary(index));
            let became = match (of, &self.masks, &self.screens) {
                (Of::Way(way), Some(masks), _) => {
                    masks.value(*way, oid, binary, value, with, counts)
                }
                (Of::Look(Look::Never), ..) | (_, _, None) => Became::Same,
                (_, _, Some(screens)) => screens.value(oid, binary, value, with, counts),
            };
            if became != Became::Same && row.is_empty() {
                row.reserve(message.len());
                row.extend_from_slice(message.get(..begin).unwrap_or_default());
            }
            match became {
                Became::Same if row.is_empty() => {}
                Became::Same => row.extend_from_slice(message.get(begin..end).unwrap_or_default()),
                Became::Null => row.extend(NULL),
                Became::Value => {
                    let length = i32::try_from(with.len()).unwrap_or(-1);
                    row.extend(length.to_be_bytes());
                    if length >= 0 {
                        row.extend_from_slice(with);
                    }
                }
            }
        }
        body.end()?;
        if row.is_empty() {
            return Ok(None);
        }
        reply::set_length(&mut row);
        Ok(Some(row))
    }
}
