//! The content of files, as far as it is known from what passed: how much, and its hash.

use std::fmt;

use sha2::{Digest, Sha256};

/// What passed of a file in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// Bytes that passed; of those that were written, the ones that the server confirmed.
    pub bytes: u64,
    /// SHA-256 of those bytes, which are the file's from its beginning on without a gap; else why
    /// there is none.
    pub sha256: Result<[u8; 32], Unhashed>,
}

/// Why there is no hash of a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unhashed {
    /// The bytes did not pass in order from the file's beginning on.
    OutOfOrder,
    /// The server did not take some of them.
    Failed,
    /// The channel ended before all was said.
    Unfinished,
    /// The file's length was set while it was open.
    Resized,
    /// The server copied bytes into the file that did not pass here.
    Copied,
    /// An extension of the protocol was used that is not read, and it may have changed the file.
    Extension,
}

impl fmt::Display for Unhashed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutOfOrder => "its bytes did not pass in order from the beginning on",
            Self::Failed => "the server did not take all of its bytes",
            Self::Unfinished => "the channel ended in the middle of it",
            Self::Resized => "its length was set meanwhile",
            Self::Copied => "the server copied bytes into it by itself",
            Self::Extension => "an extension that is not read may have changed it",
        })
    }
}

/// A path or a name for people: quoted, and without anything that a terminal would act on.
pub fn shown(name: &[u8]) -> String {
    match std::str::from_utf8(name) {
        Ok(text) => format!("{text:?}"),
        Err(_) => format!("\"{}\"", name.escape_ascii()),
    }
}

/// Hashes a content as it passes.
#[derive(Clone, Debug)]
pub(crate) struct Hashing {
    bytes: u64,
    /// Where in the file the next byte belongs.
    next: u64,
    hash: Result<Sha256, Unhashed>,
}

impl Hashing {
    pub(crate) fn new() -> Self {
        Self { bytes: 0, next: 0, hash: Ok(Sha256::new()) }
    }

    /// The bytes that come next belong here in the file.
    pub(crate) fn at(&mut self, offset: u64) {
        if offset != self.next {
            self.spoil(Unhashed::OutOfOrder);
        }
    }

    /// Where in the file the next byte would belong.
    pub(crate) fn reaches(&self) -> u64 {
        self.next
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        let count = bytes.len() as u64;
        self.bytes = self.bytes.saturating_add(count);
        self.next = self.next.saturating_add(count);
        if let Ok(hash) = &mut self.hash {
            hash.update(bytes);
        }
    }

    /// There is no hash any more. The first reason stays.
    pub(crate) fn spoil(&mut self, why: Unhashed) {
        if self.hash.is_ok() {
            self.hash = Err(why);
        }
    }

    pub(crate) fn finish(self) -> Content {
        Content { bytes: self.bytes, sha256: self.hash.map(|hash| hash.finalize().into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_of_all_from_the_beginning_or_there_is_none() {
        let mut whole = Hashing::new();
        whole.at(0);
        whole.feed(b"ab");
        whole.at(2);
        whole.feed(b"c");
        let expected: [u8; 32] = Sha256::digest(b"abc").into();
        assert_eq!(whole.finish(), Content { bytes: 3, sha256: Ok(expected) });

        for offset in [1, 3] {
            let mut gap = Hashing::new();
            gap.at(0);
            gap.feed(b"ab");
            gap.at(offset);
            gap.feed(b"c");
            gap.spoil(Unhashed::Failed);
            let content = gap.finish();
            assert_eq!(content, Content { bytes: 3, sha256: Err(Unhashed::OutOfOrder) });
        }
    }

    #[test]
    fn what_is_shown_holds_nothing_that_a_terminal_acts_on() {
        assert_eq!(shown("/srv/ü".as_bytes()), "\"/srv/ü\"");
        assert_eq!(shown(b"a\x1b[2J\n"), "\"a\\u{1b}[2J\\n\"");
        assert_eq!(shown(b"a\xff\x1b"), "\"a\\xff\\x1b\"");
    }
}
