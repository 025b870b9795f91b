//! Scripts for `sed` that only choose and change lines.

/// Whether a script has no more than addresses, `p`, `d`, `q`, `=` and `s` with the flags `g`, `p`, `i`
/// and a number: no `e`, `w`, `r`, no labels, no blocks.
pub(super) fn is_plain(script: &str) -> bool {
    let text: Vec<char> = script.chars().collect();
    let mut at = 0;
    loop {
        while text.get(at).is_some_and(|c| " \t\n;".contains(*c)) {
            at += 1;
        }
        if at >= text.len() {
            return true;
        }
        match command(&text, at) {
            Some(next) => at = next,
            None => return false,
        }
    }
}

/// The index behind a command that is plain.
fn command(text: &[char], at: usize) -> Option<usize> {
    let mut at = address(text, at)?;
    if text.get(at) == Some(&',') {
        at = address(text, at + 1)?;
    }
    while text.get(at).is_some_and(|c| " !".contains(*c)) {
        at += 1;
    }
    at = match text.get(at)? {
        'p' | 'd' | 'q' | '=' => at + 1,
        's' => {
            let mark = *text.get(at + 1).filter(|c| c.is_ascii_punctuation() && **c != '\\')?;
            let to = ending(text, at + 2, mark)?;
            let mut end = ending(text, to, mark)?;
            while text.get(end).is_some_and(|c| "gpiI0123456789".contains(*c)) {
                end += 1;
            }
            end
        }
        _ => return None,
    };
    let end = text.get(at).is_none_or(|c| ";\n".contains(*c) || *c == ' ');
    end.then_some(at)
}

/// The index behind an address, which need not be there.
fn address(text: &[char], at: usize) -> Option<usize> {
    match text.get(at)? {
        '$' => Some(at + 1),
        '/' => ending(text, at + 1, '/'),
        c if c.is_ascii_digit() => {
            let rest = text.get(at..)?;
            Some(at + rest.iter().take_while(|c| c.is_ascii_digit() || **c == '~').count())
        }
        _ => Some(at),
    }
}

/// The index behind the next such mark. In brackets a mark need not be one: sed and this could see
/// different ends, so that brackets which hold it are not plain.
fn ending(text: &[char], start: usize, mark: char) -> Option<usize> {
    let mut at = start;
    let mut bracket = false;
    while let Some(c) = text.get(at).copied() {
        match c {
            '\n' => return None,
            '\\' => at += 1,
            c if c == mark => return (!bracket).then_some(at + 1),
            '[' if bracket && matches!(text.get(at + 1), Some(':' | '.' | '=')) => return None,
            '[' if !bracket => {
                // One that begins with a bracket ends later than it seems.
                let first = if text.get(at + 1) == Some(&'^') { at + 2 } else { at + 1 };
                if text.get(first) == Some(&']') {
                    return None;
                }
                bracket = true;
            }
            ']' => bracket = false,
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_changes_lines_is_told_from_what_runs_or_writes() {
        for script in [
            "",
            "p",
            "1p",
            "$d",
            "1,5p",
            "/a\\/b/d",
            "/a/,/b/!d",
            "s/a/b/",
            "s|/a|/b|g",
            "s/a/b/2p;q",
            "s/[0-9]*//",
            "2q",
            "$=",
            "/x/ p",
        ] {
            assert!(is_plain(script), "{script}");
        }
        for script in [
            "e",
            "1e rm",
            "s/a/b/e",
            "s/a/b/w x",
            "w x",
            "r /etc/shadow",
            "{p}",
            ":a",
            "s/a/b",
            "ba",
            "s/[/]/e;s/x/b/",
            "s/[]/A]/p /e;#/p",
            "s/[^]/A]/p /w x/p",
            "s/[[:alpha:]/A]/p /e;#/p",
            "y/a/b/",
            "s/a/b\n/e",
            "p}e rm",
            "s\\a\\b\\e",
            "a hello",
        ] {
            assert!(!is_plain(script), "{script}");
        }
    }
}
