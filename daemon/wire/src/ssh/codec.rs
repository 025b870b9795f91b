//! SSH's types on the wire (RFC 4251, section 5).

use super::Violation;

/// Reads a message from its front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Violation> {
        let Some((taken, rest)) = self.0.split_at_checked(count) else {
            return Err(Violation::Short);
        };
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Violation> {
        self.bytes(N)?.try_into().map_err(|_| Violation::Short)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Violation> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn bool(&mut self) -> Result<bool, Violation> {
        Ok(self.u8()? != 0)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Violation> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Violation> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn string(&mut self) -> Result<&'a [u8], Violation> {
        let length = self.u32()?;
        self.bytes(usize::try_from(length).map_err(|_| Violation::Short)?)
    }

    /// A string that must be text.
    pub(crate) fn text(&mut self) -> Result<&'a str, Violation> {
        std::str::from_utf8(self.string()?).map_err(|_| Violation::Text)
    }

    /// What is left.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn end(&self) -> Result<(), Violation> {
        if self.0.is_empty() { Ok(()) } else { Err(Violation::Long) }
    }
}

/// Writes them.
pub(crate) trait Put {
    fn put(&mut self, bytes: &[u8]);

    fn put_u32(&mut self, number: u32) {
        self.put(&number.to_be_bytes());
    }

    fn put_u64(&mut self, number: u64) {
        self.put(&number.to_be_bytes());
    }

    fn put_bool(&mut self, yes: bool) {
        self.put(&[u8::from(yes)]);
    }

    fn put_string(&mut self, bytes: &[u8]) {
        // What this side makes is never that long.
        self.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.put(bytes);
    }

    /// A number that is not negative, from its bytes in big-endian order.
    fn put_mpint(&mut self, bytes: &[u8]) {
        let begin = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
        let bytes = &bytes[begin..];
        let sign = bytes.first().is_some_and(|first| first & 0x80 != 0);
        self.put_u32(u32::try_from(bytes.len() + usize::from(sign)).unwrap_or(u32::MAX));
        if sign {
            self.put(&[0]);
        }
        self.put(bytes);
    }

    fn put_names(&mut self, names: &[&str]) {
        self.put_string(names.join(",").as_bytes());
    }
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// A message of this number.
pub(crate) fn message(number: u8) -> Vec<u8> {
    let mut message = Vec::with_capacity(64);
    message.push(number);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_the_standard_shows() {
        // RFC 4251, section 5.
        for (bytes, written) in [
            (&[][..], &[0, 0, 0, 0][..]),
            (&[0x09, 0xa3, 0x78], &[0, 0, 0, 3, 0x09, 0xa3, 0x78]),
            (&[0, 0x80], &[0, 0, 0, 2, 0, 0x80]),
        ] {
            let mut out = Vec::new();
            out.put_mpint(bytes);
            assert_eq!(out, written);
        }
    }

    #[test]
    fn a_length_that_lies_is_refused() {
        assert!(Reader::new(&[0, 0, 0, 5, b'a']).string().is_err());
        assert!(Reader::new(&[0xff; 4]).string().is_err());
        assert!(Reader::new(&[0, 0, 0, 1, 0xff]).text().is_err());
        let mut reader = Reader::new(&[0, 0, 0, 1, b'a', 1]);
        assert_eq!(reader.string(), Ok(&b"a"[..]));
        assert!(reader.end().is_err());
        assert_eq!((reader.bool(), reader.end()), (Ok(true), Ok(())));
    }
}
