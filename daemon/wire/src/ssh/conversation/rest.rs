//! What was read of a stream and has not gone on: one run of bytes, that grows without being copied anew
//! for each message, and is not copied at all where it goes on as it came.

use std::ops::Deref;

use bytes::{Buf, Bytes, BytesMut};

/// See the module's comment. One of the two is empty.
#[derive(Debug, Default)]
pub(super) struct Rest {
    one: Bytes,
    more: BytesMut,
}

impl Rest {
    pub(super) fn push(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        if self.is_empty() {
            (self.one, self.more) = (bytes, BytesMut::new());
            return;
        }
        if !self.one.is_empty() {
            self.more.extend_from_slice(&std::mem::take(&mut self.one));
        }
        self.more.extend_from_slice(&bytes);
    }

    /// Takes so many off its front, or all.
    pub(super) fn split_to(&mut self, length: usize) -> Bytes {
        let length = length.min(self.len());
        if self.one.is_empty() {
            self.more.split_to(length).freeze()
        } else {
            self.one.split_to(length)
        }
    }

    /// Throws so many away, or all.
    pub(super) fn advance(&mut self, length: usize) {
        let length = length.min(self.len());
        if self.one.is_empty() { self.more.advance(length) } else { self.one.advance(length) }
    }
}

impl Deref for Rest {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        if self.one.is_empty() { &self.more } else { &self.one }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_one_run_and_leave_it_at_its_front() {
        let mut rest = Rest::default();
        for piece in ["ab", "", "c", "def"] {
            rest.push(Bytes::from_static(piece.as_bytes()));
        }
        assert_eq!(&*rest, b"abcdef");
        assert_eq!(&rest.split_to(2)[..], b"ab");
        rest.advance(1);
        rest.push(Bytes::from_static(b"gh"));
        assert_eq!(&rest.split_to(9)[..], b"defgh");
        assert!(rest.is_empty());
        // What comes alone goes on as it came.
        let alone = Bytes::from(vec![1, 2, 3]);
        let at = alone.as_ptr();
        rest.push(alone);
        assert_eq!(rest.split_to(3).as_ptr(), at);
    }

    #[test]
    fn p8_a_run_that_grows_by_single_bytes_is_not_copied_for_each() {
        let mut rest = Rest::default();
        let (mut moves, mut at) = (0, rest.as_ptr());
        for _ in 0..300_000 {
            rest.push(Bytes::from_static(b"x"));
            moves += u32::from(rest.as_ptr() != at);
            at = rest.as_ptr();
        }
        assert!(moves < 100, "{moves}");
    }
}
