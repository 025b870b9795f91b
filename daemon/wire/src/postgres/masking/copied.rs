//! What COPY writes to the client.

use super::{Became, CopiedColumns, Copies, Masking};
use crate::postgres::{
    copy_out::CopyOut,
    frame::{Body, HEADER, Tag, Violation},
    reply,
};
use chaperone_model::CopyFormat;

/// What waits for the end of its row, in bytes.
const LONGEST: usize = 64 << 20;

/// The data of a COPY that is under way.
#[derive(Debug)]
pub(super) enum Copied {
    Pass,
    Rows { data: CopyOut, columns: Vec<(Option<u16>, u32)>, binary: bool },
}

impl Masking {
    /// `CopyOutResponse`: the statement at this place begins to copy.
    pub(crate) fn begin_copy(&mut self, part: u32, message: &[u8]) -> Result<(), Violation> {
        if let Some(shown) = &mut self.shown {
            shown.begin_copy(part, message)?;
        }
        let refused =
            Violation::Copy("it is not known how it is written, and it may hold what is masked");
        let copies = self.masks.as_ref().map_or(Copies::Pass, |masks| masks.copies(part));
        self.copy = Some(match copies {
            Copies::Pass | Copies::Rows(_, CopiedColumns::All(None)) if self.screens.is_none() => {
                Copied::Pass
            }
            Copies::Pass | Copies::Not => return Err(refused),
            Copies::Rows(layout, columns) => {
                let mut body = Body::of(message);
                let binary = body.u8()? != 0;
                let count = body.count()?;
                let columns = match columns {
                    CopiedColumns::All(way) => vec![(way, 0); count],
                    CopiedColumns::Each(columns) => columns,
                };
                if columns.len() != count || binary != (layout.format == CopyFormat::Binary) {
                    return Err(Violation::Copy("it has other columns than it was read to have"));
                }
                Copied::Rows { data: CopyOut::new(layout, count), columns, binary }
            }
        });
        Ok(())
    }

    /// Whether data passes as it is.
    pub(crate) fn copy_passes(&self) -> bool {
        matches!(self.copy, Some(Copied::Pass))
    }

    /// A whole `CopyData`; what goes in its stead, if anything does. It may be nothing yet.
    pub(crate) fn copied(&mut self, message: &[u8]) -> Result<Option<Vec<u8>>, Violation> {
        let Self { masks, screens, copy, counts, .. } = self;
        let Some(Copied::Rows { data, columns, binary }) = copy else {
            return Err(Violation::Unexpected { tag: Tag(b'd'), place: "before a COPY began" });
        };
        let mut out = vec![b'd', 0, 0, 0, 0];
        let mut change = |column: usize, value: &[u8], out: &mut Vec<u8>| {
            let (way, oid) = columns.get(column).copied().unwrap_or((Some(0), 0));
            match (way, &masks, &screens) {
                (Some(way), Some(masks), _) => masks.value(way, oid, *binary, value, out, counts),
                (Some(_), None, _) => Became::Null,
                (None, _, Some(screens)) => screens.value(oid, *binary, value, out, counts),
                (None, _, None) => Became::Same,
            }
        };
        let payload = message.get(HEADER..).unwrap_or_default();
        let changed = data.push(payload, &mut out, &mut change).map_err(Violation::Copy)?;
        if data.waiting() > LONGEST {
            return Err(Violation::Copy("a row of it is too long to be looked into"));
        }
        if !changed {
            return Ok(None);
        }
        if out.len() == HEADER {
            out.clear();
        } else {
            reply::set_length(&mut out);
        }
        Ok(Some(out))
    }

    /// `CopyDone`.
    pub(crate) fn end_copy(&mut self) -> Result<(), Violation> {
        if let Some(shown) = &mut self.shown {
            shown.end_copy()?;
        }
        match self.copy.take() {
            Some(Copied::Rows { data, .. }) if !data.may_end() => {
                Err(Violation::Copy("it ended within a row"))
            }
            _ => Ok(()),
        }
    }
}
