//! Where an expansion ends: `$(…)`, `${…}`, backquotes.
//!
//! What could make a shell see another end than this does is an error: a comment, a here-document or
//! `case` inside of `$(…)`.

/// Why the end cannot be told.
pub(crate) type Trouble = &'static str;

const UNENDED: Trouble = "an expansion in it does not end";
const UNSURE: Trouble = "a comment, a here-document or `case` stands in a command substitution, whose end is not sure then";

/// The index of the `)` that ends `$(`, whose inside begins at `start`.
pub(crate) fn parenthesis(text: &[char], start: usize) -> Result<usize, Trouble> {
    let mut at = start;
    let mut depth = 0;
    // Whether a word may begin here.
    let mut fresh = true;
    while let Some(c) = text.get(at).copied() {
        let began = fresh;
        fresh = matches!(c, ' ' | '\t' | '\n' | ';' | '&' | '|' | '(' | ')' | '<' | '>');
        match c {
            '#' if began => return Err(UNSURE),
            '<' if text.get(at + 1) == Some(&'<') => return Err(UNSURE),
            'c' if began && word_at(text, at, "case") => return Err(UNSURE),
            ')' if depth == 0 => return Ok(at),
            ')' => depth -= 1,
            '(' => depth += 1,
            _ => at = skip(text, at, false)?,
        }
        at += 1;
    }
    Err(UNENDED)
}

/// The index of the `}` that ends `${`, whose inside begins at `start`. `quoted`: it stands in double
/// quotes, where single ones are ordinary characters.
pub(crate) fn brace(text: &[char], start: usize, quoted: bool) -> Result<usize, Trouble> {
    let mut at = start;
    while let Some(c) = text.get(at).copied() {
        match c {
            '}' => return Ok(at),
            // Shells do not agree on whether this opens a quote there.
            '\'' if quoted => return Err("a quote stands in an expansion in double quotes"),
            _ => at = skip(text, at, quoted)? + 1,
        }
    }
    Err(UNENDED)
}

/// The index of the backquote that ends the one before `start`.
pub(crate) fn backquote(text: &[char], start: usize) -> Result<usize, Trouble> {
    let mut at = start;
    while let Some(c) = text.get(at).copied() {
        match c {
            '`' => return Ok(at),
            '\\' => at += 2,
            _ => at += 1,
        }
    }
    Err(UNENDED)
}

/// The index of the last character of what begins at `at`: a quoted part or an expansion as a whole,
/// else one character.
fn skip(text: &[char], at: usize, quoted: bool) -> Result<usize, Trouble> {
    let next = text.get(at + 1).copied();
    match text.get(at).copied() {
        Some('\\') => Ok(at + 1),
        Some('\'') if !quoted => end_of(text, at + 1, '\''),
        Some('"') => double(text, at + 1),
        Some('`') => backquote(text, at + 1),
        Some('$') => match next {
            Some('\'') if !quoted => ansi(text, at + 2),
            Some('(') => parenthesis(text, at + 2),
            Some('{') => brace(text, at + 2, quoted),
            _ => Ok(at),
        },
        _ => Ok(at),
    }
}

/// The index of the `"` that ends the one before `start`.
pub(crate) fn double(text: &[char], start: usize) -> Result<usize, Trouble> {
    let mut at = start;
    while let Some(c) = text.get(at).copied() {
        match c {
            '"' => return Ok(at),
            _ => at = skip(text, at, true)? + 1,
        }
    }
    Err(UNENDED)
}

/// The index of the `'` that ends `$'`, whose inside begins at `start`.
pub(crate) fn ansi(text: &[char], start: usize) -> Result<usize, Trouble> {
    let mut at = start;
    while let Some(c) = text.get(at).copied() {
        match c {
            '\'' => return Ok(at),
            '\\' => at += 2,
            _ => at += 1,
        }
    }
    Err(UNENDED)
}

/// The index of the next such character.
pub(crate) fn end_of(text: &[char], start: usize, end: char) -> Result<usize, Trouble> {
    let rest = text.get(start..).unwrap_or_default();
    rest.iter().position(|c| *c == end).map(|found| start + found).ok_or(UNENDED)
}

fn word_at(text: &[char], at: usize, word: &str) -> bool {
    let rest = text.get(at..).unwrap_or_default();
    let behind = rest.get(word.len()).copied().unwrap_or(' ');
    rest.iter().copied().take(word.len()).eq(word.chars()) && !behind.is_ascii_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chars(text: &str) -> Vec<char> {
        text.chars().collect()
    }

    #[test]
    fn ends_are_found_past_quotes_and_what_is_nested() {
        let text = chars(r#"a ")" ')' \) $(b) `)` ${c:-)} (d)) e"#);
        let end = parenthesis(&text, 0).expect("it ends");
        assert_eq!(text[end..].iter().collect::<String>(), ") e");
        let text = chars(r#"x:-'}' "}" \} ${y} $(}) } e"#);
        let end = brace(&text, 0, false).expect("it ends");
        assert_eq!(text[end..].iter().collect::<String>(), "} e");
    }

    #[test]
    fn ends_that_are_not_sure_are_not_guessed() {
        for text in ["a # )\nb)", "#)", "cat <<E\n)\nE\n)", "case a in a) b;; esac)", "a", "'a)"] {
            assert!(parenthesis(&chars(text), 0).is_err(), "{text}");
        }
        assert_eq!(parenthesis(&chars("a#b)"), 0), Ok(3));
        assert!(brace(&chars("x:-'}'}"), 0, true).is_err());
    }
}
