//! Lines that are refused before the grammar sees them: what it does with them grows faster than they
//! do, or it would not fit on the stack. Quotes are not looked at: a line with too much of this in
//! quotes is refused, too.

/// Longest line, in bytes: the longest word that Linux hands to a program (`MAX_ARG_STRLEN`).
pub const LONGEST: usize = 128 << 10;

/// Marks and words that may begin something nested, in all.
const NESTED: usize = 100;
/// `case`, each of which the grammar may read twice.
const CASES: usize = 8;
/// Process substitutions, each of which the grammar may read twice.
const PROCESSES: usize = 4;

/// Why a line is refused.
pub(crate) fn refused(text: &str) -> Option<String> {
    if text.len() > LONGEST {
        return Some(format!("it is longer than {} KiB", LONGEST >> 10));
    }
    if opens_twice(text.as_bytes()) {
        return Some(
            "a parenthesis opens right behind another, which shells read differently".into(),
        );
    }
    let marks = text.bytes().filter(|byte| b"({`".contains(byte)).count();
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let nests = ["if", "elif", "while", "until", "for", "case", "coproc", "function", "select"];
    let (mut nested, mut cases) = (marks, 0);
    for word in words {
        nested += usize::from(nests.contains(&word));
        cases += usize::from(word == "case");
    }
    if nested > NESTED {
        return Some(format!("more than {NESTED} marks in it may begin something nested"));
    }
    if cases > CASES {
        return Some(format!("more than {CASES} words in it are `case`"));
    }
    if processes(text.as_bytes()) > PROCESSES {
        return Some(format!("more than {PROCESSES} process substitutions may be in it"));
    }
    None
}

/// Whether there is `((` that is not `$((`, with blanks or nothing between.
fn opens_twice(text: &[u8]) -> bool {
    let mut open = false;
    let mut before = 0;
    for byte in text {
        match byte {
            b'(' if open => return true,
            // `$((` is one word, and looked at as such.
            b'(' => open = before != b'$',
            b' ' | b'\t' | b'\n' | b'\\' => {}
            _ => open = false,
        }
        before = *byte;
    }
    false
}

fn processes(text: &[u8]) -> usize {
    let (mut count, mut redirect) = (0, false);
    for byte in text {
        match byte {
            b'<' | b'>' => redirect = true,
            b'(' if redirect => (count, redirect) = (count + 1, false),
            b' ' | b'\t' | b'\n' | b'\\' => {}
            _ => redirect = false,
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p8_what_grows_too_fast_is_refused() {
        assert_eq!(refused("ls $(pwd) $((1 + 2)); (cd /; ls)"), None);
        for line in ["((x))", "( (ls))", "(\\\n(ls))", "ls $( ls ) ( ( ls"] {
            assert!(refused(line).is_some(), "{line}");
        }
        let many = |part: &str, count: usize| part.repeat(count);
        assert!(refused(&many("(a;", 101)).is_some());
        assert!(refused(&many("if ", 101)).is_some());
        assert!(refused(&many("case a in b) ", 9)).is_some());
        assert!(refused(&many("cat <(", 5)).is_some());
        assert!(refused(&many("a", LONGEST + 1)).is_some());
        assert_eq!(refused(&many("a", LONGEST)), None);
    }
}
