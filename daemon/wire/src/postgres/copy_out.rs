//! Rows of COPY … TO STDOUT, taken apart and put together with other values.
//!
//! Follows `src/backend/commands/copyto.c` and the reference of COPY, "File Formats". The server puts
//! a row into a message, but nothing promises that: what has not ended waits for more. Rows in which
//! nothing changes are as they were, byte for byte. Does not belong here: what becomes of a value.

use chaperone_model::{CopyFormat, CopyLayout};

use super::masking::Became;

mod binary;
mod lines;

/// What becomes of the value of this column: it is given what the value is, not how it is written.
pub(crate) type Change<'a> = &'a mut dyn FnMut(usize, &[u8], &mut Vec<u8>) -> Became;

/// Why rows cannot be taken apart.
pub(crate) type Broken = &'static str;

/// The data of one COPY.
#[derive(Debug)]
pub(crate) struct CopyOut {
    layout: CopyLayout,
    columns: usize,
    /// What has not ended yet.
    held: Vec<u8>,
    /// How far it was looked for an end.
    seek: lines::Seek,
    at: At,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// What stands before the rows.
    Head,
    Rows,
    /// Nothing: the end has come.
    End,
}

impl CopyOut {
    pub(crate) fn new(layout: CopyLayout, columns: usize) -> Self {
        let has_head = layout.header || layout.format == CopyFormat::Binary;
        let at = if has_head { At::Head } else { At::Rows };
        Self { layout, columns, held: Vec::new(), seek: lines::Seek::default(), at }
    }

    /// Takes data, and appends the rows that have ended. `false`: they are what was given, and
    /// nothing was appended.
    pub(crate) fn push(
        &mut self,
        data: &[u8],
        out: &mut Vec<u8>,
        change: Change<'_>,
    ) -> Result<bool, Broken> {
        let waited = std::mem::take(&mut self.held);
        let (all, had) = if waited.is_empty() {
            (std::borrow::Cow::Borrowed(data), false)
        } else {
            let mut all = waited;
            all.extend_from_slice(data);
            (std::borrow::Cow::Owned(all), true)
        };
        let (begin, mut at, mut copied, mut changed) = (out.len(), 0, 0, false);
        while let Some(length) = self.length(&all[at..])? {
            let row = &all[at..at + length];
            let mark = out.len();
            if self.row(row, out, change)? {
                // What did not change before it goes first.
                let with = out.split_off(mark);
                out.extend_from_slice(&all[copied..at]);
                out.extend(with);
                copied = at + length;
                changed = true;
            }
            at += length;
        }
        let rest = &all[at..];
        if !changed && !had && rest.is_empty() {
            out.truncate(begin);
            return Ok(false);
        }
        out.extend_from_slice(&all[copied..at]);
        self.held = match all {
            std::borrow::Cow::Owned(all) if at == 0 => all,
            all => all[at..].to_vec(),
        };
        Ok(true)
    }

    /// How many bytes wait.
    pub(crate) fn waiting(&self) -> usize {
        self.held.len()
    }

    /// Whether the data may end here.
    pub(crate) fn may_end(&self) -> bool {
        let ended = self.layout.format != CopyFormat::Binary || self.at == At::End;
        self.held.is_empty() && ended
    }

    /// How long the next row is, or what stands before the first. `None`: it has not ended.
    fn length(&mut self, rest: &[u8]) -> Result<Option<usize>, Broken> {
        match (self.layout.format, self.at) {
            _ if rest.is_empty() => Ok(None),
            (_, At::End) => Err("data behind the end of COPY's data"),
            (CopyFormat::Binary, At::Head) => binary::head(rest),
            (CopyFormat::Binary, At::Rows) => binary::row(rest, self.columns),
            (format, _) => {
                Ok(self.seek.line(rest, (format == CopyFormat::Csv).then_some(&self.layout)))
            }
        }
    }

    /// Appends a row as it has become. `false`: as it was, and nothing counts that was appended.
    fn row(&mut self, row: &[u8], out: &mut Vec<u8>, change: Change<'_>) -> Result<bool, Broken> {
        if self.at == At::Head {
            self.at = At::Rows;
            return Ok(false);
        }
        let mark = out.len();
        let changed = match self.layout.format {
            CopyFormat::Binary if row == binary::TRAILER => {
                self.at = At::End;
                Ok(false)
            }
            CopyFormat::Binary => binary::change(row, out, change),
            CopyFormat::Text => lines::text(&self.layout, self.columns, row, out, change),
            CopyFormat::Csv => lines::csv(&self.layout, self.columns, row, out, change),
        }?;
        if !changed {
            out.truncate(mark);
        }
        Ok(changed)
    }
}

#[cfg(test)]
mod tests;
