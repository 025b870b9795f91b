//! The daemon and the process that reads talk in frames: a length of four bytes, little-endian, and
//! that many bytes. A task is one byte and a text or a line; an answer is JSON, which both can change alone.
//! Does not belong here: reading and writing of sockets.

use chaperone_model::Reading;
use serde::{Deserialize, Serialize};

use super::Asked;
use crate::template::Slot;

/// The longest text that is read. Longer ones take the grammar too long and too much memory.
pub(crate) const TEXT_MOST: usize = 256 << 10;
/// The longest text with what is known of relations.
pub(crate) const SCHEMA_MOST: usize = TEXT_MOST + (512 << 10);
/// The longest task.
pub(super) const REQUEST_MOST: usize = SCHEMA_MOST + 1;
/// The longest answer, in bytes of JSON: a thread of the daemon takes some milliseconds for one, in
/// which its other sessions wait.
pub(crate) const ANSWER_MOST: usize = 512 << 10;

const LENGTH: usize = 4;

/// What is answered to [`Asked::Reading`]. To [`Asked::Layout`] and
/// [`Asked::WithoutValues`] it is `Option<String>`, to [`Asked::Lineage`] `Option<Vec<Lineage>>`, to
/// [`Asked::Line`] `ShellReading`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) reading: Reading,
    /// What a text may differ in that has the same reading.
    pub(crate) slots: Option<Vec<Slot>>,
}

/// What was received so far.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// More is to come.
    Part,
    /// The payload.
    Whole(&'a [u8]),
}

/// Bytes that are no frame of those that are expected.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoFrame;

/// Looks at what was received. Nobody sends before the other has answered, so that more than one
/// frame is none.
pub(crate) fn decode(received: &[u8], most: usize) -> Result<Frame<'_>, NoFrame> {
    let Some((length, payload)) = received.split_first_chunk::<LENGTH>() else {
        return Ok(Frame::Part);
    };
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| NoFrame)?;
    match payload.len() {
        _ if length > most => Err(NoFrame),
        had if had < length => Ok(Frame::Part),
        had if had == length => Ok(Frame::Whole(payload)),
        _ => Err(NoFrame),
    }
}

pub(crate) fn encode(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(LENGTH + payload.len());
    begin(payload.len(), &mut frame);
    frame.extend_from_slice(payload);
    frame
}

/// A task.
pub(crate) struct Task;

impl Task {
    /// Writes one to an empty buffer. The text has [`SCHEMA_MOST`] bytes at most.
    pub(crate) fn write(asked: Asked, text: &[u8], frame: &mut Vec<u8>) {
        begin(1 + text.len(), frame);
        frame.push(match asked {
            Asked::Reading => b'r',
            Asked::Layout => b'l',
            Asked::WithoutValues => b'w',
            Asked::Lineage => b'c',
            Asked::Line => b's',
        });
        frame.extend_from_slice(text);
    }

    pub(super) fn parse(payload: &[u8]) -> Option<(Asked, &[u8])> {
        let (asked, text) = payload.split_first()?;
        let asked = match asked {
            b'r' => Asked::Reading,
            b'l' => Asked::Layout,
            b'w' => Asked::WithoutValues,
            b'c' => Asked::Lineage,
            b's' => Asked::Line,
            _ => return None,
        };
        Some((asked, text))
    }
}

fn begin(length: usize, frame: &mut Vec<u8>) {
    // Lengths are bounded far below; a wrong one would be refused by the other side.
    frame.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p8_a_frame_is_whole_or_partial_or_none() {
        let mut frame = Vec::new();
        Task::write(Asked::Reading, b"select 1", &mut frame);
        for part in 0..frame.len() {
            assert_eq!(decode(&frame[..part], 100), Ok(Frame::Part));
        }
        let Ok(Frame::Whole(payload)) = decode(&frame, 100) else { panic!("it is whole") };
        assert_eq!(Task::parse(payload), Some((Asked::Reading, &b"select 1"[..])));
        assert_eq!(decode(&frame, 3), Err(NoFrame));
        frame.push(0);
        assert_eq!(decode(&frame, 100), Err(NoFrame));
        assert_eq!(decode(&[255; 8], ANSWER_MOST), Err(NoFrame));
        assert_eq!(Task::parse(b"x"), None);
        // A command line need not be text.
        assert_eq!(Task::parse(b"s\xff"), Some((Asked::Line, &b"\xff"[..])));
    }
}
