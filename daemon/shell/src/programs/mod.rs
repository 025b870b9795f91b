//! What programs do: those that run others, those that are known, and all the rest, which can do
//! anything.

mod files;
mod git;
mod options;
mod runners;
mod sed;
mod shells;
mod table;
mod tools;

use chaperone_model::{Hides, Rung};

use crate::{runs::Input, special, words::Word};

pub use files::{Opens, has_plain_letters, opens};
pub use table::is_plain_locale;
pub(crate) use table::{
    is_harmless_device, is_harmless_variable, is_known, is_locale, is_of_the_system,
};

/// What a program does with its words.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) rung: Rung,
    pub(crate) reason: String,
    /// What it may do that its words do not show.
    pub(crate) hides: Hides,
    /// What it does in turn, which counts as well.
    pub(crate) then: Vec<Then>,
    /// How it is called in the context of that.
    pub(crate) label: Option<String>,
}

/// What a program does in turn.
#[derive(Debug)]
pub(crate) enum Then {
    /// It runs a program.
    Run(Vec<Word>),
    /// It gives a line to a shell.
    Line(String),
    /// It sets a variable, to this where that is said.
    Sets(String, Option<Word>),
    /// It says what a name is.
    Defines(String),
}

impl Then {
    /// `NAME=value`, or a name alone.
    fn sets(word: &Word) -> Self {
        match word.text.split_once('=') {
            Some((name, value)) => {
                let value = Word { text: value.to_owned(), ..word.clone() };
                Self::Sets(name.to_owned(), Some(value))
            }
            None => Self::Sets(word.text.clone(), None),
        }
    }
}

impl Judged {
    pub(crate) fn of(rung: Rung, reason: impl Into<String>) -> Self {
        let hides = Hides::Nothing;
        Self { rung, reason: reason.into(), hides, then: Vec::new(), label: None }
    }

    /// The same, but that it may do this.
    fn hiding(self, hides: Hides) -> Self {
        Self { hides, ..self }
    }

    fn reads() -> Self {
        Self::of(Rung::Read, "it only reads")
    }

    fn writes() -> Self {
        Self::of(Rung::Write, "it changes what it names")
    }

    /// It is not understood what it does, which may be to run other programs.
    fn destroys(reason: impl Into<String>) -> Self {
        Self::of(Rung::Destructive, reason).hiding(Hides::Programs)
    }

    /// It runs code that is not read.
    pub(crate) fn runs_code(reason: impl Into<String>) -> Self {
        Self::of(Rung::Destructive, reason).hiding(Hides::Code)
    }

    fn runs(then: Then, label: impl Into<String>) -> Self {
        Self {
            then: vec![then],
            label: Some(label.into()),
            ..Self::of(Rung::Read, "what it runs counts")
        }
    }
}

/// Judges a program by its name and the words that it is given.
pub(crate) fn judge(program: &str, words: &[Word], input: &Input) -> Judged {
    if let Some((_, rung, reason)) = special::find(program, words) {
        return Judged::of(rung, reason);
    }
    if let [word] = words
        && matches!(word.known(), Some("--version" | "--help"))
        && is_known(program)
    {
        return Judged::reads();
    }
    runners::judge(program, words)
        .or_else(|| shells::judge(program, words, input))
        .or_else(|| tools::judge(program, words))
        .or_else(|| table::judge(program, words))
        .unwrap_or_else(|| Judged::runs_code(UNKNOWN))
}

/// Why a program is on the rung of those that are not known.
pub(crate) const UNKNOWN: &str = "it is a program that is not known";

/// OpenSSH's servers for SFTP stand elsewhere than programs.
pub(crate) fn is_sftp_server(path: &str) -> bool {
    [
        "/usr/lib/openssh/sftp-server",
        "/usr/libexec/openssh/sftp-server",
        "/usr/lib/ssh/sftp-server",
        "/usr/libexec/sftp-server",
    ]
    .contains(&path)
}
