//! Programs that run another which stands among their words.

use super::{
    Judged, Then,
    options::{self, Options},
};
use crate::words::Word;

/// `None` where it is none of them.
pub(super) fn judge(program: &str, words: &[Word]) -> Option<Judged> {
    Some(match program {
        "sudo" => sudo(words),
        "doas" => {
            plain(words, "doas", Options { flags: "n", valued: "u", ..Options::default() }, 0)
        }
        "env" => env(words),
        "nohup" | "setsid" => plain(
            words,
            program,
            Options { flags: "cfw", long: &["--ctty", "--fork", "--wait"], ..Options::default() },
            0,
        ),
        "timeout" => plain(
            words,
            program,
            Options {
                flags: "v",
                valued: "ks",
                long: &["--foreground", "--preserve-status", "--verbose"],
                long_valued: &["--kill-after", "--signal"],
            },
            1,
        ),
        "nice" => plain(
            words,
            program,
            Options {
                flags: "0123456789",
                valued: "n",
                long_valued: &["--adjustment"],
                ..Options::default()
            },
            0,
        ),
        "ionice" => {
            plain(words, program, Options { flags: "t", valued: "cn", ..Options::default() }, 0)
        }
        "stdbuf" => plain(
            words,
            program,
            Options {
                valued: "ioe",
                long_valued: &["--input", "--output", "--error"],
                ..Options::default()
            },
            0,
        ),
        "time" => plain(words, program, Options { flags: "pv", ..Options::default() }, 0),
        "command" => command(words),
        "builtin" | "busybox" | "toybox" => plain(words, program, Options::default(), 0),
        "exec" => {
            plain(words, program, Options { flags: "cl", valued: "a", ..Options::default() }, 0)
        }
        "xargs" => xargs(words),
        "flock" => flock(words),
        "watch" => watch(words),
        "find" => find(words),
        _ => return None,
    })
}

/// Options, so many words, and then a program with its own.
fn plain(words: &[Word], label: &str, options: Options, before: usize) -> Judged {
    let at = match options.skip(words) {
        Ok(at) => at + before,
        Err(why) => return Judged::destroys(why),
    };
    let (skipped, inner) = words.split_at(at.min(words.len()));
    if skipped.iter().any(|word| word.open || word.many) {
        return Judged::destroys(PUT_IN);
    }
    if inner.is_empty() {
        return Judged::reads();
    }
    Judged::runs(Then::Run(inner.to_vec()), label)
}

fn sudo(words: &[Word]) -> Judged {
    let options = Options {
        flags: "nEHSPkb",
        valued: "ugphCrtT",
        long: &["--non-interactive", "--preserve-env", "--set-home", "--stdin"],
        long_valued: &["--user", "--group", "--prompt", "--host"],
    };
    let at = match options.skip(words) {
        Ok(at) => at,
        Err(why) => return Judged::destroys(why),
    };
    let (skipped, inner) = words.split_at(at.min(words.len()));
    let Some((sets, inner)) = settings(inner) else { return Judged::destroys(PUT_IN) };
    if inner.is_empty() {
        return Judged::destroys("it runs no program that it names");
    }
    let user =
        options::literal(skipped).map(|words| words.join(" ")).filter(|text| !text.is_empty());
    let label = user.map_or_else(|| "sudo".into(), |text| format!("sudo {text}"));
    let mut judged = Judged::runs(Then::Run(inner.to_vec()), label);
    judged.then.extend(sets);
    judged
}

/// Assignments in front of a program that are words: `env A=b prog`.
fn settings(words: &[Word]) -> Option<(Vec<Then>, &[Word])> {
    let count = words
        .iter()
        .take_while(|word| !word.text.starts_with(['=', '-']) && word.text.contains('='))
        .count();
    let (sets, rest) = words.split_at(count);
    if sets.iter().any(|word| word.open || word.many || word.trouble.is_some()) {
        return None;
    }
    Some((sets.iter().map(Then::sets).collect(), rest))
}

const PUT_IN: &str = "a word that the shell puts in may be the program that it runs";

fn env(words: &[Word]) -> Judged {
    let options = Options {
        flags: "i0v",
        valued: "uC",
        long: &["--ignore-environment", "--null", "--debug"],
        long_valued: &["--unset", "--chdir"],
    };
    // `-S` cuts a text into words, by rules of its own.
    let at = match options.skip(words) {
        Ok(at) => at,
        Err(why) => return Judged::destroys(why),
    };
    let mut inner = words.get(at..).unwrap_or_default();
    // `-` is another way to write `-i`.
    if let Some((first, rest)) = inner.split_first()
        && first.text == "-"
    {
        inner = rest;
    }
    if inner.first().is_some_and(|word| word.open) {
        return Judged::destroys(PUT_IN);
    }
    let Some((sets, inner)) = settings(inner) else { return Judged::destroys(PUT_IN) };
    let mut judged = if inner.is_empty() {
        Judged::reads()
    } else {
        Judged::runs(Then::Run(inner.to_vec()), "env")
    };
    judged.then.extend(sets);
    judged
}

fn command(words: &[Word]) -> Judged {
    match words.first().and_then(Word::known) {
        // It tells what a name is.
        Some("-v" | "-V") => Judged::reads(),
        _ => plain(words, "command", Options { flags: "p", ..Options::default() }, 0),
    }
}

fn xargs(words: &[Word]) -> Judged {
    let options = Options {
        flags: "0rtx",
        valued: "nPLdEsaI",
        long: &["--null", "--no-run-if-empty", "--verbose", "--exit"],
        long_valued: &["--max-args", "--max-procs", "--delimiter", "--arg-file", "--replace"],
    };
    let at = match options.skip(words) {
        Ok(at) => at,
        Err(why) => return Judged::destroys(why),
    };
    let (skipped, inner) = words.split_at(at.min(words.len()));
    if inner.is_empty() {
        return Judged::reads();
    }
    // The text that stands for what is read, which is `{}` as good as always.
    let (mut replaces, mut at) = (false, 0);
    while let Some(word) = skipped.get(at) {
        let text = word.text.as_str();
        at += 1;
        let stands = match (text.strip_prefix("-I"), text.strip_prefix("--replace")) {
            (Some(""), _) => {
                at += 1;
                skipped.get(at - 1).map_or("", |word| word.text.as_str())
            }
            (Some(glued), _) => glued,
            (_, Some("")) => "{}",
            (_, Some(value)) => value.strip_prefix('=').unwrap_or_default(),
            // Among other letters.
            _ if text.starts_with('-') && !text.starts_with("--") && text.contains('I') => "",
            _ => continue,
        };
        replaces = true;
        if stands != "{}" {
            return Judged::destroys("it puts what it reads in the place of a text of its own");
        }
    }
    let mut inner: Vec<Word> = inner
        .iter()
        .map(|word| {
            if replaces && word.text.contains("{}") {
                Word::unknown(&word.text)
            } else {
                word.clone()
            }
        })
        .collect();
    if !replaces {
        inner.push(Word::unknown("…"));
    }
    Judged::runs(Then::Run(inner), "xargs")
}

fn flock(words: &[Word]) -> Judged {
    let options = Options {
        flags: "sexnuoF",
        valued: "wE",
        long: &["--shared", "--exclusive", "--nonblock", "--nb", "--close", "--no-fork"],
        long_valued: &["--timeout", "--wait", "--conflict-exit-code"],
    };
    let at = match options.skip(words) {
        Ok(at) => at,
        Err(why) => return Judged::destroys(why),
    };
    match words.get(at..).unwrap_or_default() {
        [_, option, line] if matches!(option.known(), Some("-c" | "--command")) => {
            line.known().map_or_else(
                || Judged::destroys("the line that it runs is not literal"),
                |line| Judged::runs(Then::Line(line.to_owned()), "flock"),
            )
        }
        // It makes the file where it is not there.
        [file, inner @ ..] if !file.open && !file.many && !inner.is_empty() => Judged {
            rung: chaperone_model::Rung::Write,
            ..Judged::runs(Then::Run(inner.to_vec()), "flock")
        },
        _ => Judged::destroys("it runs no program that it names"),
    }
}

/// What it runs is one line for a shell, made of its words.
fn watch(words: &[Word]) -> Judged {
    let options = Options {
        flags: "bcdegtw",
        valued: "n",
        long: &["--beep", "--color", "--no-title", "--errexit", "--chgexit"],
        long_valued: &["--interval"],
    };
    let inner = match options.skip(words) {
        Ok(at) => words.get(at..).unwrap_or_default(),
        Err(why) => return Judged::destroys(why),
    };
    match options::literal(inner) {
        Some(words) if !words.is_empty() => Judged::runs(Then::Line(words.join(" ")), "watch"),
        _ => Judged::destroys("the line that it runs is not literal"),
    }
}

fn find(words: &[Word]) -> Judged {
    let mut judged = Judged::reads();
    let mut at = 0;
    while let Some(word) = words.get(at) {
        at += 1;
        // Behind a test's name the value is no expression, but nothing is lost by looking at it so.
        if word.open || word.trouble.is_some() {
            return Judged::destroys("a word that the shell puts in may be `-delete` or `-exec`");
        }
        match word.text.as_str() {
            "-delete" => {
                return Judged {
                    rung: chaperone_model::Rung::Destructive,
                    reason: "it removes what it finds".into(),
                    ..judged
                };
            }
            "-fprint" | "-fprint0" | "-fprintf" | "-fls" => {
                return Judged::destroys("it writes its result to a file");
            }
            "-exec" | "-execdir" | "-ok" | "-okdir" => {
                let rest = words.get(at..).unwrap_or_default();
                let is_end = |(at, word): (usize, &Word)| {
                    word.text == ";"
                        || word.text == "+"
                            && at > 0
                            && rest.get(at - 1).is_some_and(|word| word.text == "{}")
                };
                let Some(end) = rest.iter().enumerate().position(is_end) else {
                    return Judged::destroys("what it runs does not end");
                };
                let inner = rest.get(..end).unwrap_or_default();
                let inner = inner.iter().map(|word| {
                    // What is found begins with one of the places where it looks.
                    let found =
                        Word { open: word.text.starts_with("{}"), ..Word::unknown(&word.text) };
                    if word.text.contains("{}") { found } else { word.clone() }
                });
                judged.then.push(Then::Run(inner.collect()));
                judged.label = Some("find".into());
                judged.reason = "what it runs counts".into();
                at += end + 1;
            }
            _ => {}
        }
    }
    judged
}
