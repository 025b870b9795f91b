//! Shells and interpreters, and what else takes a line.

use super::{
    Judged, Then,
    options::{self, Options},
};
use crate::{runs::Input, words::Word};

/// `None` where it is none of them.
pub(super) fn judge(program: &str, words: &[Word], input: &Input) -> Option<Judged> {
    Some(match program {
        "sh" | "bash" | "dash" | "ash" | "rbash" => shell(program, words, input),
        "eval" => eval(words),
        "trap" => trap(words),
        "ssh" => ssh(words, input),
        "su" => su(words),
        "alias" => Judged { then: vec![Then::Defines("a name".into())], ..Judged::reads() },
        "parallel" => Judged::destroys("the line that it runs is put together from what it reads"),
        "source" | "." => Judged::runs_code("it runs a script whose content is not known"),
        "ksh" | "mksh" | "zsh" | "fish" | "csh" | "tcsh" | "pwsh" | "nu" | "elvish" => {
            Judged::destroys("it is a shell whose language is not read")
        }
        _ if is_interpreter(program) => interpreter(words),
        _ => return None,
    })
}

const STDIN: &str = "it runs what comes over its standard input, which is not known";

fn shell(program: &str, words: &[Word], input: &Input) -> Judged {
    let (mut at, mut line, mut from_input) = (0, false, false);
    while let Some(word) = words.get(at) {
        if word.open || word.trouble.is_some() {
            return Judged::destroys("a word that the shell puts in may be an option of it");
        }
        let text = word.text.as_str();
        match text {
            "--" | "-" => {
                at += 1;
                break;
            }
            "--login" | "--norc" | "--noprofile" | "--posix" | "--restricted" => {}
            _ if text.starts_with("--") => {
                return Judged::destroys("it is given an option that is not known");
            }
            _ if text.starts_with(['-', '+']) => {
                for letter in text.chars().skip(1) {
                    match letter {
                        'c' => line = true,
                        's' => from_input = true,
                        // What follows is the name of an option.
                        'o' => at += 1,
                        'e' | 'u' | 'x' | 'l' | 'f' | 'n' | 'v' | 'a' | 'p' | 'C' | 'h' | 'B'
                        | 'E' => {}
                        _ => return Judged::destroys("it is given an option that is not known"),
                    }
                }
            }
            _ => break,
        }
        at += 1;
    }
    let rest = words.get(at..).unwrap_or_default();
    match rest.first() {
        Some(word) if line => word.known().map_or_else(
            || Judged::destroys("the line that it runs is not literal"),
            |text| Judged::runs(Then::Line(text.to_owned()), format!("{program} -c")),
        ),
        None if line => Judged::destroys("the line that it runs is not there"),
        Some(_) if !from_input => Judged::runs_code("it runs a script whose content is not known"),
        _ => match input {
            Input::Text(word) => script(word, program),
            _ => Judged::destroys(STDIN),
        },
    }
}

/// What a shell gets over its standard input. Of several lines one could be taken by what one before runs,
/// as its own input.
fn script(word: &Word, label: impl Into<String>) -> Judged {
    match word.known() {
        None => Judged::destroys("what it runs is put together by the shell"),
        Some(text) if text.trim_end_matches('\n').contains('\n') => Judged::destroys(
            "what it runs has several lines, of which a program may take some for its input",
        ),
        Some(text) => Judged::runs(Then::Line(text.to_owned()), label),
    }
}

fn eval(words: &[Word]) -> Judged {
    let words = match words.split_first() {
        Some((first, rest)) if first.text == "--" => rest,
        _ => words,
    };
    match options::literal(words) {
        Some(words) => Judged::runs(Then::Line(words.join(" ")), "eval"),
        None => Judged::destroys("the line that it runs is not literal"),
    }
}

fn trap(words: &[Word]) -> Judged {
    match words {
        [] => Judged::reads(),
        [first, ..] => match first.known() {
            Some("-l" | "-p" | "-" | "") => Judged::reads(),
            Some(line) if !line.starts_with('-') => {
                Judged::runs(Then::Line(line.to_owned()), "trap")
            }
            _ => Judged::destroys("the line that it runs is not literal"),
        },
    }
}

/// Another host, and a line for its shell: the words with blanks between.
fn ssh(words: &[Word], input: &Input) -> Judged {
    const OPTIONS: Options =
        Options { flags: "46CnqTtxavN", valued: "pliobcm", long: &[], long_valued: &[] };
    const HARMLESS: &[&str] = &[
        "batchmode",
        "stricthostkeychecking",
        "connecttimeout",
        "userknownhostsfile",
        "serveraliveinterval",
        "serveralivecountmax",
        "loglevel",
        "port",
        "user",
        "identityfile",
        "connectionattempts",
        "passwordauthentication",
        "compression",
        "requesttty",
    ];
    let at = match OPTIONS.skip(words) {
        Ok(at) => at,
        Err(why) => return Judged::destroys(why),
    };
    let (skipped, rest) = words.split_at(at.min(words.len()));
    for (number, word) in skipped.iter().enumerate() {
        let Some(letters) = word.text.strip_prefix('-') else { continue };
        // The first letter that takes a value takes what is left, or the next word.
        let Some(at) = letters.find(|c| OPTIONS.valued.contains(c)) else { continue };
        if !letters.get(at..).unwrap_or_default().starts_with('o') {
            continue;
        }
        let setting = match letters.get(at + 1..).unwrap_or_default() {
            "" => skipped.get(number + 1).map_or("", |word| word.text.as_str()),
            glued => glued,
        };
        let name = setting.split(['=', ' ']).next().unwrap_or_default().to_ascii_lowercase();
        if !HARMLESS.contains(&name.as_str()) {
            return Judged::destroys("it is given a setting that is not known");
        }
    }
    let Some((host, line)) = rest.split_first() else {
        return Judged::destroys("it names no host");
    };
    // Options may follow the host.
    if host.open
        || host.many
        || line.first().is_some_and(|word| word.open || word.text.starts_with('-'))
    {
        return Judged::destroys("a word behind the host may be an option of it");
    }
    let label = format!("ssh {}", host.text);
    match (options::literal(line), input) {
        (None, _) => Judged::destroys("the line that it runs is not literal"),
        (Some(words), _) if !words.is_empty() => Judged::runs(Then::Line(words.join(" ")), label),
        (Some(_), Input::Text(word)) => script(word, label),
        _ => Judged::destroys("it opens a shell on another host"),
    }
}

/// `su [-] [user] -c line`.
fn su(words: &[Word]) -> Judged {
    let (mut line, mut at) = (None, 0);
    while let Some(word) = words.get(at) {
        let Some(text) = word.known() else {
            return Judged::destroys("a word that the shell puts in may be an option of it");
        };
        match text {
            "-" | "-l" | "--login" | "-m" | "-p" | "--preserve-environment" => {}
            "-c" | "--command" => {
                at += 1;
                line = words.get(at).and_then(Word::known);
            }
            "-s" | "--shell" => {
                at += 1;
                if !matches!(words.get(at).and_then(Word::known), Some("/bin/sh" | "/bin/bash")) {
                    return Judged::destroys("it runs a shell whose language is not read");
                }
            }
            _ if text.starts_with('-') => {
                return Judged::destroys("it is given an option that is not known");
            }
            _ => {}
        }
        at += 1;
    }
    line.map_or_else(
        || Judged::destroys("the line that it runs is not literal, or not there"),
        |line| Judged::runs(Then::Line(line.to_owned()), "su"),
    )
}

fn is_interpreter(program: &str) -> bool {
    const NAMES: &[&str] = &[
        "python",
        "pypy",
        "perl",
        "ruby",
        "node",
        "nodejs",
        "deno",
        "bun",
        "php",
        "lua",
        "luajit",
        "tclsh",
        "wish",
        "expect",
        "Rscript",
        "R",
        "java",
        "gdb",
        "lldb",
        "julia",
        "guile",
        "racket",
        "ocaml",
        "swipl",
        "ghci",
        "runghc",
        "irb",
        "jshell",
        "groovy",
        "scala",
        "osascript",
        "m4",
        "ipython",
        "make",
        "gmake",
        "ansible",
        "ansible-playbook",
    ];
    // `python3.11` is one, too.
    let name = program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    NAMES.contains(&program) || !name.is_empty() && NAMES.contains(&name)
}

fn interpreter(words: &[Word]) -> Judged {
    let first = words.first().map(|word| word.text.as_str());
    match (first, words.len()) {
        (Some("--version" | "-V" | "--help"), 1) => Judged::reads(),
        (None | Some("-"), _) => Judged::runs_code(STDIN),
        (Some(text), _) if text.starts_with('-') => {
            Judged::runs_code("it runs code among its words, which is not read")
        }
        _ => Judged::runs_code("it runs a script whose content is not known"),
    }
}
