//! What running a statement may change for the statements behind it, as far as its text tells.
//!
//! No parser: first words and forbidden words, and what is not known counts as the worse. A
//! function that the text calls can do anything; where that shows afterwards it is dealt with then.

/// See the module's comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    /// How the server reads texts: `client_encoding`, `standard_conforming_strings`.
    pub(crate) reading: bool,
    /// Which statement or cursor a name stands for.
    pub(crate) names: bool,
}

/// Leave both as they are. JDBC sets savepoints within its batches (`autosave`).
const PLAIN: [&str; 12] = [
    "select",
    "insert",
    "update",
    "delete",
    "with",
    "values",
    "table",
    "merge",
    "begin",
    "start",
    "savepoint",
    "release",
];

/// Leave names as they are, or free some and give them to nothing else.
const KEEP_NAMES: [&str; 36] = [
    "abort",
    "alter",
    "analyse",
    "analyze",
    "call",
    "checkpoint",
    "cluster",
    "comment",
    "commit",
    "copy",
    "create",
    "drop",
    "end",
    "explain",
    "fetch",
    "grant",
    "import",
    "listen",
    "load",
    "lock",
    "move",
    "notify",
    "reassign",
    "refresh",
    "reindex",
    "reset",
    "revoke",
    "rollback",
    "security",
    "set",
    "show",
    "truncate",
    "unlisten",
    "vacuum",
    // Nothing is run.
    "",
    // A query in parentheses.
    "(",
];

/// In a `DO` block: it runs a text of its own, or gives names itself.
const RENAMING: [&str; 7] =
    ["exec", "prepare", "deallocate", "discard", "declare", "close", "open"];

impl Reach {
    /// Of a statement whose text is not known.
    pub(crate) const UNKNOWN: Self = Self { reading: true, names: true };

    /// Of one statement.
    pub(crate) fn of(text: &str) -> Self {
        let word = first_word(text);
        let is = |known: &&str| known.eq_ignore_ascii_case(word);
        if PLAIN.iter().any(is) {
            return Self { reading: names_a_setting(text.as_bytes()), names: false };
        }
        Self { reading: !word.is_empty(), names: !KEEP_NAMES.iter().any(is) && renames(word, text) }
    }

    /// Whether a text of perhaps several statements, of which one is a `DO` block, may rename what
    /// the block's own tag does not tell.
    pub(crate) fn block_renames(text: &str) -> bool {
        renames(first_word(text), text)
    }
}

fn renames(word: &str, text: &str) -> bool {
    !word.eq_ignore_ascii_case("do") || RENAMING.iter().any(|word| contains(text.as_bytes(), word))
}

/// The first word behind white space and comments; "(" where a parenthesis comes first, and a text
/// that is no statement's word where something else does (src/backend/parser/scan.l).
fn first_word(text: &str) -> &str {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.find(['\n', '\r']).and_then(|end| comment.get(end..)).unwrap_or("");
        } else if let Some(comment) = rest.strip_prefix("/*") {
            match behind_comment(comment) {
                Some(behind) => rest = behind,
                None => return "/*",
            }
        } else {
            break;
        }
    }
    let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    match rest.chars().next() {
        None => "",
        Some(_) if end > 0 => rest.get(..end).unwrap_or(rest),
        Some('(') => "(",
        Some(_) => "?",
    }
}

/// Comments nest.
fn behind_comment(text: &str) -> Option<&str> {
    let (mut depth, mut rest) = (1_usize, text);
    while depth > 0 {
        let mark = rest.find(['*', '/'])?;
        rest = rest.get(mark..)?;
        if let Some(behind) = rest.strip_prefix("*/") {
            (depth, rest) = (depth - 1, behind);
        } else if let Some(behind) = rest.strip_prefix("/*") {
            (depth, rest) = (depth + 1, behind);
        } else {
            rest = rest.get(1..)?;
        }
    }
    Some(rest)
}

/// Whether a text speaks of what sets how texts are read, or could do so in disguise: an identifier
/// with Unicode escapes (`U&"…"`).
fn names_a_setting(text: &[u8]) -> bool {
    const NAMES: [(&[u8], &[u8]); 4] = [
        (b"set", b"_config"),
        (b"pg", b"_settings"),
        (b"client", b"_encoding"),
        (b"standard", b"_conforming_strings"),
    ];
    // Each of the names has an underscore: one look at the text finds where one may be.
    text.iter().enumerate().any(|(at, byte)| match byte {
        b'_' => {
            let (before, from) = text.split_at(at);
            NAMES.iter().any(|(head, tail)| {
                let head_at = before.len().checked_sub(head.len());
                head_at
                    .and_then(|at| before.get(at..))
                    .is_some_and(|b| b.eq_ignore_ascii_case(head))
                    && from.get(..tail.len()).is_some_and(|b| b.eq_ignore_ascii_case(tail))
            })
        }
        b'"' => at > 0 && text.get(at - 1) == Some(&b'&'),
        _ => false,
    })
}

fn contains(text: &[u8], word: &str) -> bool {
    text.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(text: &str) -> bool {
        Reach::of(text).reading
    }

    fn names(text: &str) -> bool {
        Reach::of(text).names
    }

    #[test]
    fn p2_a_text_that_may_change_how_texts_are_read_is_known() {
        for plain in [
            "SELECT 1",
            " \n\tinsert into settings_of values ('client')",
            "WITH x AS (SELECT 1) UPDATE t SET a = 1",
            "begin",
            "",
            "-- a comment\nselect 1",
            "/* insert /* nested */ x */ insert into t values (1)",
            "SELECT a & \"b\" FROM t",
        ] {
            assert!(!reading(plain), "{plain}");
        }
        for other in [
            "SET client_encoding = 'SJIS'",
            "SELECT set_config('x', 'y', false)",
            "select SET_Config('x', 'y', false)",
            "UPDATE pg_settings SET setting = 'off'",
            "WITH x AS (SELECT 'standard_conforming_strings') SELECT * FROM x",
            "SELECT U&\"set\\005fconfig\"('x', 'y', false)",
            "ROLLBACK",
            "COMMIT",
            "DO $$ $$",
            "CALL p()",
            "/* SELECT",
            "/* */ /**/ RESET ALL",
            "é",
            "(SELECT 1)",
            "selected",
        ] {
            assert!(reading(other), "{other}");
        }
    }

    #[test]
    fn p1_a_text_that_may_rename_is_known() {
        for keeps in [
            "SELECT 1",
            "(SELECT 1) UNION SELECT 2",
            "CREATE TABLE t (a int)",
            "/* orm */ COPY t FROM STDIN",
            "DO $$ BEGIN UPDATE t SET a = 1; END $$",
            "",
        ] {
            assert!(!names(keeps), "{keeps}");
        }
        for renames in [
            "DEALLOCATE s",
            "PREPARE s AS SELECT 1",
            "--\nDISCARD ALL",
            "DECLARE c CURSOR FOR SELECT 1",
            "CLOSE c",
            "EXECUTE s",
            "DO $$ BEGIN EXECUTE 'DEALLOCATE s'; END $$",
            "/* unended",
            "?",
        ] {
            assert!(names(renames), "{renames}");
        }
        assert!(!Reach::block_renames("DO $$ BEGIN NULL; END $$"));
        assert!(Reach::block_renames("SELECT 1; DO $$ BEGIN NULL; END $$"));
    }

    proptest::proptest! {
        #[test]
        fn p8_no_text_panics(text: String) {
            let _ = Reach::of(&text);
        }
    }
}
