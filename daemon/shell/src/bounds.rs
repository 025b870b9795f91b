//! Lines that are refused before the grammar sees them: what it does with them grows faster than they
//! do, or it would not fit on the stack. Quotes are not looked at: a line with too much of this in
//! quotes is refused, too.
//!
//! And here-documents that it reads wrongly: an expansion behind the mark that ends one is torn apart.

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
    // The grammar takes these for `$'`, which they are not.
    if text.contains("\\$'") || text.contains("$$'") {
        return Some("a quote stands behind a dollar sign that is one itself".into());
    }
    if opens_twice(text.as_bytes()) {
        return Some(
            "a parenthesis opens right behind another, which shells read differently".into(),
        );
    }
    if is_glued(text.as_bytes()) {
        return Some(
            "a process substitution stands in a word, which shells read differently".into(),
        );
    }
    if continues_oddly(text) {
        return Some("a mark goes on in the next line, where it may be another mark".into());
    }
    if !documents_are_plain(text) {
        return Some("more than plain words stand in one line with a here-document".into());
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

/// Whether a line goes on in the next behind anything but a blank or what words are made of: shells put
/// the two together before they look at either, as `$` and `(`, or `<` and `<`.
fn continues_oddly(text: &str) -> bool {
    text.match_indices("\\\n").any(|(at, _)| {
        let before = text.get(..at).and_then(|text| text.chars().next_back());
        let plain = |c: char| c.is_alphanumeric() || " \t\n_./:=,@%+'\"-".contains(c);
        !before.is_none_or(plain)
    })
}

/// Whether behind each `<<` there is a plain mark, and in the rest of its line nothing that is put in
/// by the shell, opens something, or goes on in the next.
fn documents_are_plain(text: &str) -> bool {
    let mut rest = text;
    let mut begins = 0;
    while let Some(at) = rest.find("<<") {
        begins += at;
        rest = rest.get(at + 2..).unwrap_or_default();
        if let Some(behind) = rest.strip_prefix('<') {
            (rest, begins) = (behind, begins + 3);
            continue;
        }
        // In `${…}` it is none; and lines of a document may be joined before its mark is looked for.
        if text.get(..begins).is_none_or(|before| before.contains("${")) || text.contains("\\\n") {
            return false;
        }
        begins += 2;
        let line = rest.split('\n').next().unwrap_or_default();
        let line = line.strip_prefix('-').unwrap_or(line).trim_start_matches([' ', '\t']);
        let (mark, behind) = match line.chars().next() {
            Some(quote @ ('\'' | '"')) => {
                let Some((mark, behind)) = line.get(1..).and_then(|line| line.split_once(quote))
                else {
                    return false;
                };
                (mark, behind)
            }
            _ => line.split_at(line.find(|c: char| !is_of_mark(c)).unwrap_or(line.len())),
        };
        let ends = behind.is_empty() || behind.starts_with([' ', '\t', ';', '|', '&', ')', '>']);
        let even = |quote| behind.matches(quote).count().is_multiple_of(2);
        let plain =
            !behind.contains(['$', '`', '\\', '(', '{', '<', '#']) && even('\'') && even('"');
        if mark.is_empty() || !mark.chars().all(is_of_mark) || !ends || !plain {
            return false;
        }
    }
    true
}

fn is_of_mark(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Whether `<(` or `>(` stands right behind a part of a word: the two are one word.
fn is_glued(text: &[u8]) -> bool {
    text.windows(3)
        .any(|part| matches!(part, [before, b'<' | b'>', b'('] if !b" \t\n;&|(<>".contains(before)))
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
        for line in
            ["cat <<E\nx\nE", "cat <<-'E F' ;ls", "sh <<E | ssh h 'a b'\nE", "echo $((1<<2))"]
        {
            assert_eq!(refused(line).is_none(), !line.contains("E F"), "{line}");
        }
        for line in [
            "cat <<E $(ls)\nE",
            "cat <<E<x\nE",
            "cat <<$x\n",
            "cat <<E'F'\n",
            "cat << \\E\n",
            "cat <<E 'a\nE\n'",
            "cat <<E <<F\n",
            "cat <<E \\\n",
            "cat <<",
            "cat <<E\na\\\nE\necho '\nE\ntouch p\n#'",
            "echo ${x:-<<E }\ntouch p\nE\n: }",
            "echo \\$'\\'; touch p",
            "echo $$'\\'; touch p",
        ] {
            assert!(refused(line).is_some(), "{line}");
        }
        for line in ["ls \\\n x", "l\\\ns", "ls 'a'\\\n"] {
            assert_eq!(refused(line), None, "{line}");
        }
        for line in ["$\\\n(ls)", "cat <\\\n<E", "ls $(\\\n(x))", "ls \\\\\n", "ls &\\\n& id"] {
            assert!(refused(line).is_some(), "{line}");
        }
        assert_eq!(refused("cat <(ls) > >(wc)"), None);
        for line in ["id $<(ls)", "sort --files0-from=<(ls)", "a>(ls)"] {
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
