//! Bytes of a terminal as text: they come in pieces that may end inside of a character, and need not be
//! text at all.

/// Makes text of pieces.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// The beginning of a character.
    rest: Vec<u8>,
}

impl Decoder {
    pub(super) fn push(&mut self, bytes: &[u8]) -> String {
        self.rest.extend_from_slice(bytes);
        let mut text = String::with_capacity(self.rest.len());
        let mut from = 0;
        loop {
            let left = self.rest.get(from..).unwrap_or_default();
            match std::str::from_utf8(left) {
                Ok(good) => {
                    text.push_str(good);
                    self.rest.clear();
                    return text;
                }
                Err(error) => {
                    let (good, bad) = left.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(good));
                    from += good.len();
                    let Some(length) = error.error_len() else {
                        self.rest = bad.to_vec();
                        return text;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    from += length;
                }
            }
        }
    }
}

/// The bytes that were written as in a program's source.
pub(super) fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        if first != b'\\' {
            bytes.push(first);
            continue;
        }
        let Some((&what, behind)) = rest.split_first() else { break };
        rest = behind;
        bytes.push(match what {
            b't' => b'\t',
            b'r' => b'\r',
            b'n' => b'\n',
            b'x' => {
                let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
                let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                rest = rest.get(2..).unwrap_or_default();
                byte.unwrap_or(b'?')
            }
            other => other,
        });
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_that_comes_in_two_pieces_is_one() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.push(b"a\xc3"), "a");
        assert_eq!(decoder.push(b"\xbc\xffb\xe2\x82"), "ü\u{fffd}b");
        assert_eq!(decoder.push(b"\xac"), "€");
        assert_eq!(decoder.push(b"\xe2x"), "\u{fffd}x");
    }

    #[test]
    fn what_was_escaped_is_found_again() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unescaped(&all.escape_ascii().to_string()), all);
        assert_eq!(unescaped("\\"), b"");
    }
}
