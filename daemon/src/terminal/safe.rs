//! What of a recorded terminal may be written to another one: text, colours, and where it stands
//! (ECMA-48 and xterm's control sequences). Nothing that a terminal answers, that reaches its title,
//! clipboard, printer or keyboard, or that outlives the replay. Lists say what passes; the rest does
//! not.

/// Puts a terminal back as it was.
pub(super) const END: &str = "\u{1b}[?1049l\u{1b}[r\u{1b}[?7h\u{1b}[?25h\u{1b}(B\u{1b}[0m\r\n";

/// The longest sequence.
const LONGEST: usize = 64;

/// See the module's comment.
#[derive(Debug, Default)]
pub(super) struct Safe {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Text,
    Escape,
    /// One more character, which says the character set.
    Charset(char),
    Control(String),
    /// A string for the terminal; whether an escape was the last of it.
    Words(bool),
}

impl Safe {
    /// What may be written of it.
    pub(super) fn pass(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for character in text.chars() {
            self.state = match (std::mem::take(&mut self.state), character) {
                (State::Words(_), '\u{1b}') => State::Words(true),
                (State::Words(true), '\\') | (State::Words(_), '\u{7}' | '\u{18}' | '\u{1a}') => {
                    State::Text
                }
                (State::Words(_), _) | (State::Escape, ']' | 'P' | 'X' | '^' | '_' | 'k') => {
                    State::Words(false)
                }
                (_, '\u{1b}') => State::Escape,
                (State::Text, one) => {
                    if !one.is_control() || "\t\n\r\u{8}\u{b}\u{c}\u{e}\u{f}".contains(one) {
                        out.push(one);
                    }
                    State::Text
                }
                (State::Escape, '[') => State::Control(String::new()),
                (State::Escape, one @ ('(' | ')' | '*' | '+')) => State::Charset(one),
                (State::Escape, one) => {
                    if "78=>MDE".contains(one) {
                        out.extend(['\u{1b}', one]);
                    }
                    State::Text
                }
                (State::Charset(place), one) => {
                    if one.is_ascii_alphanumeric() {
                        out.extend(['\u{1b}', place, one]);
                    }
                    State::Text
                }
                (State::Control(mut words), ' '..='?') => {
                    if words.len() < LONGEST {
                        words.push(character);
                        State::Control(words)
                    } else {
                        State::Text
                    }
                }
                (State::Control(words), last) => {
                    if draws(&words, last) {
                        out.push_str("\u{1b}[");
                        out.push_str(&words);
                        out.push(last);
                    }
                    State::Text
                }
            };
        }
        out
    }
}

/// Whether a control sequence does no more than draw.
fn draws(words: &str, last: char) -> bool {
    let (private, numbers) = match words.strip_prefix('?') {
        Some(numbers) => (true, numbers),
        None => (false, words),
    };
    if !numbers.bytes().all(|byte| byte.is_ascii_digit() || byte == b';' || byte == b':') {
        return false;
    }
    let all = |allowed: &[&str]| numbers.split(';').all(|number| allowed.contains(&number));
    match (private, last) {
        (true, 'h' | 'l') => all(&["6", "7", "12", "25", "47", "1047", "1048", "1049"]),
        (false, 'h' | 'l') => all(&["4"]),
        (true, 'J' | 'K') => true,
        (false, last) => "@ABCDEFGHIJKLMPSTXZ`abdefgmrsu".contains(last),
        (true, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p8_a_recording_does_no_more_than_draw_on_the_terminal_that_it_is_played_on() {
        for (recorded, played) in [
            ("\u{1b}[1;31mred\u{1b}[0m\r\n", "\u{1b}[1;31mred\u{1b}[0m\r\n"),
            ("\u{1b}[?1049h\u{1b}[2J\u{1b}[H", "\u{1b}[?1049h\u{1b}[2J\u{1b}[H"),
            ("\u{1b}(0lqk\u{1b}(B", "\u{1b}(0lqk\u{1b}(B"),
            // Titles, the clipboard, and whatever else is told by strings.
            ("a\u{1b}]0;evil\u{7}b", "ab"),
            ("a\u{1b}]52;c;ZXZpbA==\u{1b}\\b", "ab"),
            ("a\u{1b}P+q544e\u{1b}\\b", "ab"),
            ("a\u{1b}_x\u{1b}]0;y\u{7}b", "ab"),
            // What a terminal answers, as if it were typed.
            ("\u{1b}[6n\u{1b}[c\u{1b}[>c\u{1b}[>q\u{1b}[?1$p\u{1b}[21t\u{5}", ""),
            // What it does to the keyboard, the mouse, the printer.
            ("\u{1b}[?1000h\u{1b}[?2004h\u{1b}[?1h\u{1b}[>1u\u{1b}[5i\u{1b}[4h", "\u{1b}[4h"),
            ("\u{9b}31m\u{90}x\u{7f}\u{0}", "31mx"),
            ("\u{1b}c", ""),
        ] {
            let mut safe = Safe::default();
            assert_eq!(safe.pass(recorded), played, "{recorded:?}");
            // Wherever it is cut.
            for (at, _) in recorded.char_indices() {
                let mut safe = Safe::default();
                let (a, b) = recorded.split_at(at);
                assert_eq!(safe.pass(a) + &safe.pass(b), played, "{recorded:?} at {at}");
            }
        }
    }
}
