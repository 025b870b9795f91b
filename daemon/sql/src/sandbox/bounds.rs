//! Texts that are refused before the grammar sees them, because what it does with them grows faster
//! than they do. Others that take too long miss the deadline.

use super::frame::TEXT_MOST;

/// Comments that may begin in one run of marks.
const BEGINNINGS_MOST: usize = 64;

/// Why a text is refused.
pub(super) fn refused(text: &str) -> Option<String> {
    if text.len() > TEXT_MOST {
        return Some(format!("it is longer than {} KiB", TEXT_MOST >> 10));
    }
    if run_of_beginnings(text.as_bytes()) > BEGINNINGS_MOST {
        return Some(format!("more than {BEGINNINGS_MOST} comments begin in one run of marks"));
    }
    None
}

/// The most `/*` in one run of the marks that operators are made of. The lexer takes the whole rest of
/// the run with each, and gives all but two bytes back: `scan.l`, `xcstart`.
fn run_of_beginnings(text: &[u8]) -> usize {
    let (mut most, mut count, mut last) = (0, 0, 0);
    for byte in text {
        if b"~!@#^&|`?+-*/%<>=".contains(byte) {
            count += usize::from(last == b'/' && *byte == b'*');
            most = most.max(count);
        } else {
            count = 0;
        }
        last = *byte;
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p8_what_grows_too_fast_is_refused() {
        assert!(refused(&"/*".repeat(65)).is_some());
        assert!(refused(&format!("select {}", "+/*".repeat(20_000))).is_some());
        assert!(refused(&"x".repeat(TEXT_MOST + 1)).is_some());
    }

    #[test]
    fn what_people_write_is_not() {
        assert_eq!(refused(&"x".repeat(TEXT_MOST)), None);
        assert_eq!(refused(&format!("/{}/ select 1", "*".repeat(1000))), None);
        assert_eq!(refused(&"/* why */ select 1;\n".repeat(1000)), None);
        assert_eq!(refused(&"'/*', ".repeat(1000)), None);
    }
}
