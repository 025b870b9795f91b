//! Words: what they are without quotes, and what a shell puts into them.

use crate::{
    heard::is_stand_in,
    scan::{self, Trouble},
};

/// A word as it was written, looked into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Word {
    /// Without quotes; what is put in stands there as it was written.
    pub(crate) text: String,
    /// Nothing is put in: this is what the program gets.
    pub(crate) literal: bool,
    /// It can come to be nothing, several words, or one that begins with a dash though its text does
    /// not.
    pub(crate) open: bool,
    /// It can come to be several words.
    pub(crate) many: bool,
    /// Commands whose output is put in.
    pub(crate) commands: Vec<String>,
    /// Why it is not understood, or not by all shells in the same way.
    pub(crate) trouble: Option<Trouble>,
}

impl Word {
    /// A word that is just that.
    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), literal: true, ..Self::default() }
    }

    /// A word of which nothing is known.
    pub(crate) fn unknown(text: impl Into<String>) -> Self {
        Self { text: text.into(), literal: false, open: true, many: true, ..Self::default() }
    }

    /// The text, where it is what the program gets.
    pub(crate) fn known(&self) -> Option<&str> {
        (self.literal && self.trouble.is_none()).then_some(self.text.as_str())
    }
}

const BASH_ONLY: Trouble = "shells read a quote in it differently";
const ARITHMETIC: Trouble = "arithmetic evaluates what is in variables, which can run commands";
const UNFOLLOWED: Trouble = "a variable is expanded in a way that is not followed";

/// A word of a command.
pub(crate) fn word(raw: &str) -> Word {
    let mut reader = Reader::new(raw);
    reader.is_word = true;
    reader.unquoted();
    reader.finish()
}

/// The value of an assignment: a tilde behind a colon counts as well.
pub(crate) fn value(raw: &str) -> Word {
    let mut read = word(raw);
    read.literal &= !raw.contains(":~");
    read
}

/// The body of a here-document in which the shell puts things.
pub(crate) fn document(raw: &str) -> Word {
    let mut reader = Reader::new(raw);
    let end = reader.text.len();
    reader.double(end, true);
    reader.finish()
}

struct Reader {
    text: Vec<char>,
    at: usize,
    word: Word,
    /// It is a word, and no part of an expansion: what ends a word is not in it.
    is_word: bool,
}

impl Reader {
    fn new(raw: &str) -> Self {
        let word = Word { literal: true, ..Word::default() };
        Self { text: raw.chars().collect(), at: 0, word, is_word: false }
    }

    fn finish(mut self) -> Word {
        if self.word.text.chars().any(is_stand_in) {
            self.word.literal = false;
        }
        // It may be an option, whatever else it says.
        self.word.open |= !self.word.literal && self.word.text.starts_with('-');
        self.word
    }

    fn unquoted(&mut self) {
        if self.text.first() == Some(&'~') {
            self.put_in(false);
        }
        if braces(&self.text) {
            self.put_in(true);
            self.word.many = true;
        }
        while let Some(c) = self.text.get(self.at).copied() {
            let first = self.at == 0;
            match c {
                '\\' => {
                    match self.text.get(self.at + 1) {
                        Some('\n') => {}
                        Some(c) => self.word.text.push(*c),
                        None => self.trouble("it ends with a backslash"),
                    }
                    self.at += 2;
                }
                '\'' => match scan::end_of(&self.text, self.at + 1, '\'') {
                    Ok(end) => {
                        self.word.text.extend(self.text.get(self.at + 1..end).unwrap_or_default());
                        self.at = end + 1;
                    }
                    Err(trouble) => return self.trouble(trouble),
                },
                '"' => match scan::double(&self.text, self.at + 1) {
                    Ok(end) => {
                        self.at += 1;
                        self.double(end, false);
                        self.at = end + 1;
                    }
                    Err(trouble) => return self.trouble(trouble),
                },
                '$' if self.text.get(self.at + 1) == Some(&'\'') => {
                    self.trouble(BASH_ONLY);
                    match scan::ansi(&self.text, self.at + 2) {
                        Ok(end) => {
                            let inner = self.text.get(self.at + 2..end).unwrap_or_default();
                            let decoded = ansi(inner);
                            self.word.text.push_str(&decoded);
                            self.at = end + 1;
                        }
                        Err(trouble) => return self.trouble(trouble),
                    }
                }
                // A text that is translated; the quote comes next.
                '$' if self.text.get(self.at + 1) == Some(&'"') => {
                    self.trouble(BASH_ONLY);
                    self.at += 1;
                }
                '$' | '`' => self.expansion(false),
                // It ends nothing, and is not a pattern.
                '[' if !self.text.get(self.at..).unwrap_or_default().contains(&']') => self.push(c),
                '*' | '?' | '[' => {
                    self.put_in(first);
                    self.word.many = true;
                    self.push(c);
                }
                ' ' | '\t' | '\n' | ';' | '&' | '|' | '<' | '>' if self.is_word => {
                    return self.trouble("where a word of it ends is not sure");
                }
                '(' | ')' => return self.trouble("a parenthesis stands in a word"),
                _ => self.push(c),
            }
        }
    }

    /// Up to `end`, as in double quotes; in a document a double quote is a character.
    fn double(&mut self, end: usize, document: bool) {
        while let Some(c) = self.text.get(self.at).copied().filter(|_| self.at < end) {
            match c {
                '\\' => {
                    match self.text.get(self.at + 1) {
                        Some('\n') => {}
                        Some(c @ ('$' | '`' | '\\')) => self.word.text.push(*c),
                        Some('"') if !document => self.word.text.push('"'),
                        Some(c) => self.word.text.extend(['\\', *c]),
                        None => self.word.text.push('\\'),
                    }
                    self.at += 2;
                }
                '$' | '`' => {
                    if self.word.text.is_empty() {
                        self.word.open = true;
                    }
                    self.expansion(true);
                }
                _ => self.push(c),
            }
        }
    }

    fn expansion(&mut self, quoted: bool) {
        let start = self.at;
        let found = if self.text.get(start) == Some(&'`') {
            self.backquoted()
        } else {
            self.dollar(quoted)
        };
        match found {
            Ok(Some(end)) => {
                let put = self.text.get(start..end).unwrap_or_default();
                // Each of them is a word, also in quotes.
                let all = put.get(1) == Some(&'@') || put.get(1..3) == Some(&['{', '@']);
                // Numbers, without anything to cut them at.
                let number = matches!(put, ['$', '#' | '?' | '$' | '!']);
                self.put_in(!quoted || all);
                self.word.many |= all || !quoted && !number;
                self.word.text.extend(self.text.get(start..end).unwrap_or_default());
                self.at = end;
            }
            // A dollar sign that is just that.
            Ok(None) => self.push('$'),
            Err(trouble) => {
                self.trouble(trouble);
                self.word.text.extend(self.text.get(start..).unwrap_or_default());
                self.at = self.text.len();
            }
        }
    }

    fn backquoted(&mut self) -> Result<Option<usize>, Trouble> {
        let end = scan::backquote(&self.text, self.at + 1)?;
        let mut command = String::new();
        let mut inner = self.text.get(self.at + 1..end).unwrap_or_default().iter().peekable();
        while let Some(c) = inner.next() {
            // In double quotes shells differ on `\"`; what is left then does not parse or is
            // quoted more than it seems.
            match (c, inner.peek()) {
                ('\\', Some('"')) => return Err("shells read a backslash in it differently"),
                ('\\', Some('$' | '`' | '\\')) => command.extend(inner.next()),
                _ => command.push(*c),
            }
        }
        self.word.commands.push(command);
        Ok(Some(end + 1))
    }

    fn dollar(&mut self, quoted: bool) -> Result<Option<usize>, Trouble> {
        let at = self.at + 1;
        match self.text.get(at).copied() {
            Some('(') if self.text.get(at + 1) == Some(&'(') => {
                let end = scan::parenthesis(&self.text, at + 1)?;
                let inner = self.text.get(at + 2..end).unwrap_or_default();
                // Where the two do not end together it is a command.
                let Some((')', body)) = inner.split_last() else { return Err(ARITHMETIC) };
                let mut depth = 0_i32;
                let balanced = body.iter().all(|c| {
                    depth += i32::from(*c == '(') - i32::from(*c == ')');
                    depth >= 0
                });
                if !balanced || depth != 0 {
                    return Err(ARITHMETIC);
                }
                let plain = |c: &char| c.is_ascii_digit() || "+-*/% ()<>=!&|^~?:\n\t".contains(*c);
                if inner.iter().all(plain) { Ok(Some(end + 1)) } else { Err(ARITHMETIC) }
            }
            Some('(') => {
                let end = scan::parenthesis(&self.text, at + 1)?;
                let command = self.text.get(at + 1..end).unwrap_or_default().iter().collect();
                self.word.commands.push(command);
                Ok(Some(end + 1))
            }
            Some('{') => {
                let end = scan::brace(&self.text, at + 1, quoted)?;
                let inner: String = self.text.get(at + 1..end).unwrap_or_default().iter().collect();
                self.parameter(&inner, quoted)?;
                Ok(Some(end + 1))
            }
            Some('[') => Err(ARITHMETIC),
            Some(c) if c.is_ascii_digit() || "@*#?-$!".contains(c) => Ok(Some(at + 1)),
            Some(c) if is_name(c) => {
                let rest = self.text.get(at..).unwrap_or_default();
                let length = rest.iter().take_while(|c| is_name(**c)).count();
                Ok(Some(at + length))
            }
            _ => Ok(None),
        }
    }

    /// The inside of `${…}`.
    fn parameter(&mut self, inner: &str, quoted: bool) -> Result<(), Trouble> {
        let named = inner.strip_prefix('#').filter(|rest| !rest.is_empty()).unwrap_or(inner);
        let length = named.len() < inner.len();
        let name = named.chars().take_while(|c| is_name(*c)).count();
        let (name, rest) = match (name, named.chars().next()) {
            (0, Some(c)) if "@*?-$!#".contains(c) => named.split_at(1),
            (0, _) => return Err(UNFOLLOWED),
            (count, _) => named.split_at(count),
        };
        if rest.is_empty() {
            return Ok(());
        }
        // `!` before a name is another name that is in it.
        if length || name == "!" {
            return Err(UNFOLLOWED);
        }
        let ways = [":-", ":+", ":?", "-", "+", "?", "##", "#", "%%", "%", "//", "/", "^", ","];
        let word = ways.iter().find_map(|way| rest.strip_prefix(way)).ok_or(UNFOLLOWED)?;
        let mut reader = Reader::new(word);
        if quoted {
            let end = reader.text.len();
            reader.double(end, false);
        } else {
            reader.unquoted();
        }
        let inside = reader.finish();
        self.word.commands.extend(inside.commands);
        inside.trouble.map_or(Ok(()), Err)
    }

    fn push(&mut self, c: char) {
        self.word.text.push(c);
        self.at += 1;
    }

    /// Something is put in; `open` as in [`Word::open`].
    fn put_in(&mut self, open: bool) {
        self.word.literal = false;
        self.word.open |= open;
    }

    fn trouble(&mut self, trouble: Trouble) {
        self.word.literal &= trouble == BASH_ONLY;
        self.word.trouble.get_or_insert(trouble);
        if trouble != BASH_ONLY {
            self.at = self.text.len();
        }
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Whether bash may make several words of it: `{a,b}`, `{1..3}`. Quotes are not looked at but for `{}`
/// and `${`, which are something else.
fn braces(text: &[char]) -> bool {
    let opens = text.iter().enumerate().filter(|(at, c)| **c == '{' && !expands(text, *at));
    opens.into_iter().any(|(at, _)| {
        let inside = text.get(at..).unwrap_or_default();
        let end = inside.iter().rposition(|c| *c == '}').unwrap_or(0);
        let inside = inside.get(..end).unwrap_or_default();
        inside.contains(&',') || inside.windows(2).any(|pair| pair == ['.', '.'])
    })
}

/// Whether a `{` belongs to a `$` before it: one that is neither quoted nor behind another.
fn expands(text: &[char], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).and_then(|at| text.get(at));
    before(1) == Some(&'$') && !matches!(before(2), Some('\\' | '$'))
}

/// What `$'…'` stands for in bash.
fn ansi(inner: &[char]) -> String {
    let mut out = String::new();
    let mut rest = inner.iter().copied().peekable();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let Some(kind) = rest.next() else { break };
        let mut number = |first: Option<char>, most: usize, base: u32| {
            let mut value = first.and_then(|c| c.to_digit(base)).unwrap_or(0);
            for _ in 0..most {
                let Some(digit) = rest.peek().and_then(|c| c.to_digit(base)) else { break };
                value = value.saturating_mul(base).saturating_add(digit);
                rest.next();
            }
            char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER)
        };
        let stands_for = match kind {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'e' | 'E' => '\u{1b}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            'x' => number(None, 2, 16),
            'u' => number(None, 4, 16),
            'U' => number(None, 8, 16),
            '0'..='7' => number(Some(kind), 2, 8),
            'c' => rest.next().and_then(|c| char::from_u32(u32::from(c) & 0x1f)).unwrap_or('c'),
            '\\' | '\'' | '"' | '?' => kind,
            other => {
                out.push('\\');
                other
            }
        };
        out.push(stands_for);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_go_and_what_is_put_in_is_marked() {
        let cases: &[(&str, &str, bool, bool)] = &[
            ("rm", "rm", true, false),
            ("r''m", "rm", true, false),
            ("\\rm", "rm", true, false),
            ("\"r\"m", "rm", true, false),
            ("r\\\nm", "rm", true, false),
            ("'a b'\"c d\"", "a bc d", true, false),
            ("\"a\\\"b\\c\\$\"", "a\"b\\c$", true, false),
            ("a$", "a$", true, false),
            ("{}", "{}", true, false),
            ("$x", "$x", false, true),
            ("\"$x\"", "$x", false, true),
            ("a\"$x\"", "a$x", false, false),
            ("a$x", "a$x", false, true),
            ("${x%.*}", "${x%.*}", false, true),
            ("*.txt", "*.txt", false, true),
            ("a*", "a*", false, false),
            ("~/x", "~/x", false, false),
            ("{rm,-rf}", "{rm,-rf}", false, true),
            ("a{1..3}", "a{1..3}", false, true),
            ("$((1 + 2))", "$((1 + 2))", false, true),
            ("-d*", "-d*", false, true),
            ("\"-$x\"", "-$x", false, true),
            ("\"v$@\"", "v$@", false, true),
            ("\\${a,b}", "${a,b}", false, true),
            ("[", "[", true, false),
            ("a]", "a]", true, false),
        ];
        for (raw, text, literal, open) in cases {
            let read = word(raw);
            assert_eq!(
                (read.text.as_str(), read.literal, read.open, read.trouble),
                (*text, *literal, *open, None),
                "{raw}"
            );
        }
    }

    #[test]
    fn commands_in_words_are_found() {
        let cases: &[(&str, &[&str])] = &[
            ("$(rm x)", &["rm x"]),
            ("\"a $(rm \"$(b)\") c\"", &["rm \"$(b)\""]),
            ("`rm \\`b\\``", &["rm `b`"]),
            ("${x:-$(rm)}", &["rm"]),
            ("\"${x:-`rm`}\"", &["rm"]),
            ("${x#$(a)}${y%$(b)}", &["a", "b"]),
            ("'$(rm)'\\$\\(rm\\)", &[]),
        ];
        for (raw, commands) in cases {
            let read = word(raw);
            assert_eq!(read.trouble, None, "{raw}");
            assert_eq!(read.commands, *commands, "{raw}");
        }
        assert_eq!(document("\"$(rm)\" '`ls`' \\$(no)").commands, ["rm", "ls"]);
    }

    #[test]
    fn what_is_not_followed_is_trouble() {
        for raw in [
            "$((x))",
            "$((:>2) )",
            "$((1)+(2) )",
            "a;b",
            "a b",
            "a>b",
            "$[x]",
            "${!x}",
            "${x@P}",
            "${a[0]}",
            "${x:1}",
            "${x:=y}",
            "$((`rm`))",
            "$(a # )",
            "${x:-$((y))}",
            "x@(a|b)",
            "\"${x:-'}\"",
            "$(",
            "'",
            "a\\",
        ] {
            let read = word(raw);
            assert!(read.trouble.is_some(), "{raw}: {read:?}");
            assert_eq!(read.known(), None, "{raw}");
        }
        let read = word("$'\\x72\\155\\u0041\\n\\\\'");
        assert_eq!((read.text.as_str(), read.trouble), ("rmA\n\\", Some(BASH_ONLY)));
    }
}
