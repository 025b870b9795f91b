//! Bytes that are not UTF-8.

/// Where the bytes 0x80 to 0xff stand in Unicode's private area while they are read.
const STAND_INS: u32 = 0xf_f700;

/// The line as text. Bytes that are not UTF-8 become characters that stand for them, so that what
/// differs stays different. `None` where a NUL byte is in it.
pub(crate) fn heard(line: &[u8]) -> Option<String> {
    if line.contains(&0) {
        return None;
    }
    let mut text = String::with_capacity(line.len());
    for chunk in line.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.extend(char::from_u32(STAND_INS + u32::from(*byte)));
        }
    }
    Some(text)
}

/// Whether a character stands for a byte, or could be taken for one that does.
pub(crate) fn is_stand_in(c: char) -> bool {
    (STAND_INS..STAND_INS + 0x100).contains(&u32::from(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_stays_different() {
        assert_eq!(heard(b"ls /a").as_deref(), Some("ls /a"));
        let (one, two) = (heard(b"ls \xfe"), heard(b"ls \xff"));
        assert_ne!(one, two);
        assert!(one.is_some_and(|text| text.chars().any(is_stand_in)));
        assert_eq!(heard(b"ls\0"), None);
    }
}
