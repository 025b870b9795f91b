//! Options in front of what a program is given, as `getopt_long(3)` reads them.

use crate::words::Word;

/// The options that a program has, as far as they are harmless.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Options {
    /// Letters without a value.
    pub(super) flags: &'static str,
    /// Letters with one.
    pub(super) valued: &'static str,
    /// Names without a value, with their dashes.
    pub(super) long: &'static [&'static str],
    /// Names with one.
    pub(super) long_valued: &'static [&'static str],
}

impl Options {
    /// The index of the first word that is no option, nor the value of one. An option that is not
    /// known, or could be put in by the shell, is an error.
    pub(super) fn skip(self, words: &[Word]) -> Result<usize, String> {
        let mut at = 0;
        while let Some(word) = words.get(at) {
            if word.open || word.trouble.is_some() {
                return Err("a word that the shell puts in may be an option of it".into());
            }
            let text = word.text.as_str();
            if text == "--" {
                return Ok(at + 1);
            }
            if !text.starts_with('-') || text == "-" {
                return Ok(at);
            }
            let takes = if text.starts_with("--") { self.long(text)? } else { self.short(text)? };
            let value = words.get(at + 1).filter(|_| takes > 1);
            if value.is_some_and(|value| value.open || value.many || value.trouble.is_some()) {
                return Err(
                    "a word that the shell puts in may be more than the value of an option".into(),
                );
            }
            at += takes;
        }
        Ok(at)
    }

    /// How many words it takes.
    fn long(self, text: &str) -> Result<usize, String> {
        let name = text.split_once('=').map_or(text, |(name, _)| name);
        let valued = self.long_valued.contains(&name);
        match (name.len() < text.len(), valued) {
            (true, true) => Ok(1),
            (false, true) => Ok(2),
            (false, false) if self.long.contains(&name) => Ok(1),
            _ => Err(format!("its option `{}` is not known", name.escape_debug())),
        }
    }

    fn short(self, text: &str) -> Result<usize, String> {
        let mut letters = text.chars().skip(1);
        while let Some(letter) = letters.next() {
            if self.valued.contains(letter) {
                return Ok(if letters.next().is_some() { 1 } else { 2 });
            }
            if !self.flags.contains(letter) {
                return Err(format!("its option `-{}` is not known", letter.escape_debug()));
            }
        }
        Ok(1)
    }
}

/// Whether a word may be one of these options, wherever it stands: some letters in a word with one
/// dash, or a name, which may be cut short. `None` where none is.
pub(super) fn may_have(words: &[Word], letters: &str, names: &[&str]) -> Option<String> {
    for word in words {
        if word.open || word.trouble.is_some() {
            return Some("a word that the shell puts in may be an option of it".into());
        }
        let text = word.text.as_str();
        if text.starts_with("--") && text.len() > 2 {
            let name = text.split_once('=').map_or(text, |(name, _)| name);
            if let Some(found) = names.iter().find(|known| known.starts_with(name)) {
                return Some(format!("its option `{found}`"));
            }
        } else if let Some(cluster) = text.strip_prefix('-')
            && let Some(letter) = cluster.chars().find(|letter| letters.contains(*letter))
        {
            return Some(format!("its option `-{letter}`"));
        }
    }
    None
}

/// The words as text, where all are literal.
pub(super) fn literal(words: &[Word]) -> Option<Vec<&str>> {
    words.iter().map(Word::known).collect()
}
