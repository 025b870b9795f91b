//! Detectors over a text that comes in pieces, in bounded memory.
//!
//! Some bytes end whatever can be found, but for a private key: what lies before the last of them is
//! decided and leaves, what lies behind waits. However a text is cut, the result is that of the whole
//! text; only [`Scanner::flush`] gives that up.

use super::{Detectors, Form, Found, Key, detect};

/// How long a stretch without such a byte may wait. All that can be found, but for private keys, is
/// at most half as long.
const WINDOW: usize = 32 * 1024;
/// What detectors look at before the first byte of what they find.
const CONTEXT: usize = 4;

/// Masks a text that comes in pieces.
#[derive(Clone, Debug)]
pub struct Scanner {
    detectors: Detectors,
    form: Form,
    key: Option<Key>,
    /// What has left already but can be looked at, and what waits.
    held: Vec<u8>,
    /// How much of it has left.
    left: usize,
    /// How much of it is known to hold no end: neither such a byte, nor one of an open key.
    seen: usize,
    /// Whether it begins with a private key that has not ended.
    open: bool,
    found: Vec<Found>,
    count: u64,
}

impl Detectors {
    /// Appends the text with everything that they find masked; how much that was.
    pub fn mask(self, form: &Form, key: Option<&Key>, text: &[u8], out: &mut Vec<u8>) -> usize {
        let found = self.find(text);
        let mut at = 0;
        for one in &found {
            out.extend_from_slice(&text[at..one.span.start]);
            form.apply_to_part(key, &text[one.span.clone()], out);
            at = one.span.end;
        }
        out.extend_from_slice(&text[at..]);
        found.len()
    }
}

impl Detectors {
    /// How many bytes before and behind a byte can tell whether it is in something that they find.
    pub fn reach(self) -> usize {
        let longest =
            if self.has(detect::Detector::PrivateKey) { detect::LONGEST_PEM } else { WINDOW / 2 };
        longest + detect::LONGEST_LABEL + CONTEXT
    }
}

impl Scanner {
    /// Nothing has come yet.
    pub fn new(detectors: Detectors, form: Form, key: Option<Key>) -> Self {
        Self {
            detectors,
            form,
            key,
            held: Vec::new(),
            left: 0,
            seen: 0,
            open: false,
            found: Vec::new(),
            count: 0,
        }
    }

    /// Takes a piece and appends what is decided by it.
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        self.held.extend_from_slice(piece);
        loop {
            let until = self.decided();
            let waited = self.waiting();
            if until > self.left {
                self.emit(until, false, out);
            }
            if self.waiting() == waited {
                return;
            }
        }
    }

    /// Appends what waits, as if the text ended here. After it the text may go on: for a program
    /// that waits for an answer to a question without an end of line. A secret of which one part came
    /// before and another comes after is not found.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        // A private key is not let go in parts.
        if !self.open {
            self.emit(self.held.len(), true, out);
        }
    }

    /// Appends what waits. The scanner is as new after it.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.emit(self.held.len(), true, out);
        self.held.clear();
        self.left = 0;
        self.seen = 0;
    }

    /// How much was masked so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How many bytes wait.
    pub fn waiting(&self) -> usize {
        self.held.len() - self.left
    }

    /// Up to where it is worth looking.
    fn decided(&mut self) -> usize {
        let fresh = self.seen.max(self.left);
        self.seen = self.held.len();
        let mut from = fresh;
        if self.open {
            // The line that ends it may have begun before.
            let line = fresh.saturating_sub(detect::LONGEST_LABEL).max(self.left);
            let ended = memchr::memmem::find(&self.held[line..], b"-----").is_some();
            if !ended && self.waiting() < detect::LONGEST_PEM {
                return self.left;
            }
            from = self.left;
        }
        if let Some(last) = (from..self.held.len()).rev().find(|at| ends(&self.held, *at)) {
            return last + 1;
        }
        if self.open {
            self.held.len()
        } else if self.waiting() >= WINDOW {
            self.left + WINDOW / 2
        } else {
            self.left
        }
    }

    /// Masks and lets go what lies before `until`, and what was found across it.
    fn emit(&mut self, until: usize, last: bool, out: &mut Vec<u8>) {
        let mut until = until;
        let keys = self.detectors.has(detect::Detector::PrivateKey);
        let open = if keys && !last { detect::open_pem(&self.held, self.left) } else { None };
        // At a byte that ends everything nothing is found across it, but private keys.
        self.detectors.find_into(&self.held, &mut self.found);
        if let Some(start) = open {
            until = until.min(start);
        }
        for one in &self.found {
            let whole = one.span.start >= self.left;
            if whole && one.span.start < until && one.span.end > until {
                until = one.span.end;
            }
        }
        let mut at = self.left;
        let mut border = 0;
        for one in &self.found {
            if one.span.start < at || one.span.start >= until {
                continue;
            }
            out.extend_from_slice(&self.held[at..one.span.start]);
            self.form.apply_to_part(self.key.as_ref(), &self.held[one.span.clone()], out);
            self.count += 1;
            at = one.span.end;
            if one.detector == detect::Detector::PrivateKey {
                border = at;
            }
        }
        out.extend_from_slice(&self.held[at..until]);
        self.open = open == Some(until);
        self.left = until;
        let unneeded = until.saturating_sub(CONTEXT).max(border);
        self.held.drain(..unneeded);
        self.left -= unneeded;
        self.seen = if self.open { self.held.len() } else { self.left };
    }
}

/// The scanners of several masks over one text: what one lets go comes to the next.
#[derive(Clone, Debug)]
pub struct Scanners(Vec<(u16, Scanner)>);

impl Scanners {
    /// `way` is the caller's name for a mask.
    pub(super) fn new(all: impl Iterator<Item = (u16, Scanner)>) -> Self {
        Self(all.collect())
    }

    /// As [`Scanner::push`].
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        self.through(piece, out, Scanner::push, |_, _| {});
    }

    /// As [`Scanner::flush`].
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        self.through(&[], out, Scanner::push, Scanner::flush);
    }

    /// As [`Scanner::finish`].
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.through(&[], out, Scanner::push, Scanner::finish);
    }

    fn through(
        &mut self,
        piece: &[u8],
        out: &mut Vec<u8>,
        push: impl Fn(&mut Scanner, &[u8], &mut Vec<u8>),
        then: impl Fn(&mut Scanner, &mut Vec<u8>),
    ) {
        let mut text = piece.to_vec();
        for (_, scanner) in &mut self.0 {
            let mut next = Vec::with_capacity(text.len());
            push(scanner, &text, &mut next);
            then(scanner, &mut next);
            text = next;
        }
        out.append(&mut text);
    }

    /// How much was masked so far, by ways.
    pub fn counts(&self) -> impl Iterator<Item = (u16, u64)> {
        self.0.iter().map(|(way, scanner)| (*way, scanner.count()))
    }

    /// How many bytes wait.
    pub fn waiting(&self) -> usize {
        self.0.iter().map(|(_, scanner)| scanner.waiting()).sum()
    }
}

/// Whether nothing that can be found goes across this byte.
fn ends(text: &[u8], at: usize) -> bool {
    match text[at] {
        b'"' | b'\'' | b'<' | b'>' | b',' | b';' | b'|' | b'{' | b'}' | b'[' | b']' | 0x7f => true,
        // Numbers are written in groups.
        b' ' => {
            at > 0
                && !matches!(text[at - 1], b'0'..=b'9' | b'A'..=b'Z' | b'(' | b')' | b'-' | b'.' | b'/' | b' ')
        }
        byte => byte < b' ',
    }
}
