//! Masking what is read of files, in place: as long as before, so that places in a file stay what they
//! are.
//!
//! What is found reaches so far and no further. So a part of a file is masked as in the whole file
//! where that much of the file is known on both sides of it. Does not belong here: what is found.

use std::{fmt, ops::Range};

/// Masks found by what they look for, in place.
pub trait Cover: fmt::Debug {
    /// How many bytes before and behind a byte can tell whether it is masked.
    fn reach(&self) -> usize;

    /// Overwrites what is found. Answers how much of it begins in this part, by the caller's names for
    /// masks.
    fn cover(&self, bytes: &mut [u8], counted: Range<usize>) -> Vec<(u16, u64)>;
}

/// A stream of bytes that is masked on its way.
#[derive(Debug)]
pub(crate) struct Covering {
    /// As they came: what has gone on and may be looked at, and what waits.
    held: Vec<u8>,
    gone: usize,
}

impl Covering {
    pub(crate) fn new() -> Self {
        Self { held: Vec::new(), gone: 0 }
    }

    /// Takes bytes; `last`: no more come. Answers what goes on, and what was found in it.
    pub(crate) fn push(
        &mut self,
        by: &dyn Cover,
        bytes: &[u8],
        last: bool,
    ) -> (Vec<u8>, Vec<(u16, u64)>) {
        self.held.extend_from_slice(bytes);
        let reach = by.reach();
        let until = if last { self.held.len() } else { self.held.len().saturating_sub(reach) };
        // It is worth while only for some bytes at a time.
        if until <= self.gone || !last && until - self.gone < reach / 4 {
            return (Vec::new(), Vec::new());
        }
        let mut covered = self.held.clone();
        let counts = by.cover(&mut covered, self.gone..until);
        let goes = covered.get(self.gone..until).unwrap_or_default().to_vec();
        let unneeded = until.saturating_sub(reach);
        self.held.drain(..unneeded);
        self.gone = until - unneeded;
        (goes, counts)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Finds `#…#` of at most eight bytes.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Hashes;

    impl Cover for Hashes {
        fn reach(&self) -> usize {
            8
        }

        fn cover(&self, bytes: &mut [u8], counted: Range<usize>) -> Vec<(u16, u64)> {
            let (mut at, mut count) = (0, 0);
            while at < bytes.len() {
                let end = bytes[at + 1..].iter().take(7).position(|byte| *byte == b'#');
                match end {
                    Some(end) if bytes[at] == b'#' => {
                        bytes[at..at + end + 2].fill(b'*');
                        count += u64::from(counted.contains(&at));
                        at += end + 2;
                    }
                    _ => at += 1,
                }
            }
            if count > 0 { vec![(1, count)] } else { Vec::new() }
        }
    }

    #[test]
    fn p5_a_stream_is_masked_as_the_whole_however_it_comes() {
        let text =
            b"a#secret#bcdefghijkl#a#mnopqrstuvwxyz and more of it #end# #not ended".repeat(3);
        let mut whole = text.clone();
        let count = Hashes.cover(&mut whole, 0..text.len());
        for size in 1..text.len() {
            let mut covering = Covering::new();
            let (mut out, mut found) = (Vec::new(), 0);
            let mut pieces = text.chunks(size).peekable();
            while let Some(piece) = pieces.next() {
                let (goes, counts) = covering.push(&Hashes, piece, pieces.peek().is_none());
                out.extend(goes);
                found += counts.iter().map(|(_, count)| count).sum::<u64>();
                assert!(covering.held.len() <= 2 * 8 + size + 2);
            }
            assert_eq!((&out, vec![(1, found)]), (&whole, count.clone()), "{size}");
        }
    }
}
