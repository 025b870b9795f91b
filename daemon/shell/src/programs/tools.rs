//! Programs whose words say what they do.

use chaperone_model::{Hides, Rung};

use super::{
    Judged, Then,
    options::{self, may_have},
};
use crate::words::Word;

/// Their names.
pub(super) const NAMES: &[&str] = &[
    "awk",
    "gawk",
    "mawk",
    "sed",
    "git",
    "curl",
    "wget",
    "tar",
    "systemctl",
    "service",
    "docker",
    "podman",
    "kubectl",
    "crontab",
    "hostname",
    "uniq",
    "ip",
    "rsync",
    "set",
    "printf",
    "export",
    "readonly",
    "local",
    "declare",
    "typeset",
    "read",
    "unset",
    "test",
    "[",
    "chmod",
    "getopts",
    "date",
    "hash",
    "jobs",
    "wait",
    "let",
    "shopt",
    "enable",
    "bind",
    "complete",
    "mapfile",
    "readarray",
];

/// `None` where it is none of them, or nothing is to be said of it here.
pub(super) fn judge(program: &str, words: &[Word]) -> Option<Judged> {
    let judged = by_words(program, words)?;
    // What they do beyond what is read is not to run the programs that they name.
    let most = match program {
        "date" | "hostname" | "ip" | "chmod" | "service" => Hides::Nothing,
        "curl" | "wget" | "systemctl" => Hides::Code,
        _ => Hides::Programs,
    };
    let hides = judged.hides.min(most);
    Some(judged.hiding(hides))
}

fn by_words(program: &str, words: &[Word]) -> Option<Judged> {
    Some(match program {
        "awk" | "gawk" | "mawk" => awk(words),
        "sed" => sed(words),
        "git" => super::git::judge(words),
        "curl" => unless(
            words,
            "XdFTKQx",
            &[
                "--request",
                "--data",
                "--data-raw",
                "--data-binary",
                "--data-ascii",
                "--data-urlencode",
                "--form",
                "--form-string",
                "--upload-file",
                "--config",
                "--quote",
                "--json",
                "--proxy",
                "--engine",
                "--unix-socket",
            ],
        ),
        "wget" => unless(
            words,
            "eiB",
            &[
                "--post-data",
                "--post-file",
                "--method",
                "--body-data",
                "--body-file",
                "--execute",
                "--use-askpass",
                "--delete-after",
                "--config",
                "--input-file",
            ],
        ),
        "tar" => tar(words),
        "rsync" => unless(
            words,
            "e",
            &[
                "--rsh",
                "--rsync-path",
                "--delete",
                "--delete-before",
                "--delete-during",
                "--delete-delay",
                "--delete-after",
                "--delete-excluded",
                "--delete-missing-args",
                "--remove-source-files",
                "--daemon",
                "--server",
                "--password-file",
                "--config",
                "--early-input",
                "--write-batch",
                "--del",
                "--remove-sent-files",
            ],
        ),
        "systemctl" => verb(
            words,
            "HM",
            &[
                "status",
                "show",
                "cat",
                "list-units",
                "list-unit-files",
                "list-timers",
                "list-sockets",
                "list-jobs",
                "list-dependencies",
                "is-active",
                "is-enabled",
                "is-failed",
                "is-system-running",
                "get-default",
                "help",
            ],
            &[
                "start",
                "restart",
                "reload",
                "try-restart",
                "reload-or-restart",
                "enable",
                "daemon-reload",
                "reset-failed",
                "unmask",
            ],
            "it stops or changes services",
        ),
        "service" => match options::literal(words).as_deref() {
            // With a path it runs what is there.
            Some([name, _])
                if name.starts_with('.')
                    || !name.chars().all(|c| c.is_ascii_alphanumeric() || "@_.-".contains(c)) =>
            {
                Judged::runs_code("it may run a file that is no service's")
            }
            Some([_, "status"] | ["--status-all"]) => Judged::reads(),
            Some([_, "start" | "restart" | "reload" | "force-reload"]) => Judged::writes(),
            _ => Judged::destroys("it stops or changes services"),
        },
        "docker" | "podman" => verb(
            words,
            "H",
            &["ps", "images", "logs", "inspect", "version", "info", "top", "stats", "port", "diff"],
            &[],
            "it changes containers, or runs programs in them",
        ),
        "kubectl" => verb(
            words,
            "s",
            &["get", "describe", "logs", "version", "explain", "top", "api-resources"],
            &[],
            "it changes a cluster, or runs programs in it",
        ),
        "ip" => ip(words),
        "date" => date(words),
        // With a path it says what a name is; with `-x` it runs a command; with `-p` it sets a variable.
        "hash" | "jobs" | "wait" => {
            if words.iter().any(|word| word.open || word.text.starts_with('-')) {
                Judged::destroys("it is given an option that is not known")
            } else {
                Judged::reads()
            }
        }
        "crontab" => match options::literal(words).as_deref() {
            Some(["-l"]) => Judged::reads(),
            _ => Judged::destroys("it changes what runs later"),
        },
        "hostname" => match options::literal(words).as_deref() {
            Some([] | ["-f" | "-s" | "-i" | "-I" | "-d" | "-A"]) => Judged::reads(),
            _ => Judged::destroys("it changes the host's name"),
        },
        "uniq" => {
            let open = words.iter().any(|word| word.open || word.many);
            let end = words.iter().position(|word| word.text == "--").unwrap_or(words.len());
            let is_name = |(at, word): &(usize, &Word)| {
                *at > end || !word.text.starts_with('-') || word.text == "-"
            };
            let names = words.iter().enumerate().filter(is_name).count();
            match open || names > 1 {
                true if words.iter().any(super::table::names_the_system) => {
                    Judged::destroys("it writes to a device or to what the system is made of")
                }
                true => Judged::writes(),
                false => Judged::reads(),
            }
        }
        "chmod" => {
            let special = |word: &Word| {
                let number = word.text.trim_start_matches(['+', '=', '-']);
                word.text.contains('s') && word.text.contains(['+', '='])
                    || number.trim_start_matches('0').len() > 3
                        && number.bytes().all(|b| b.is_ascii_digit())
            };
            // A mode may begin with a dash.
            let is_option = |text: &str| {
                text.starts_with("--")
                    || text.len() > 1
                        && text.strip_prefix('-').is_some_and(|letters| {
                            letters.chars().all(|letter| "cfvR".contains(letter))
                        })
            };
            let mode = words.iter().find(|word| !is_option(&word.text));
            match mode {
                Some(mode) if mode.known().is_some() && !special(mode) => return None,
                _ => Judged::destroys("it may let a program run with its owner's rights"),
            }
        }
        _ => return builtin(program, words),
    })
}

/// Commands of the shell itself that evaluate names that they are given.
fn builtin(program: &str, words: &[Word]) -> Option<Judged> {
    Some(match program {
        "test" | "[" | "printf" => {
            // The name of a variable can hold a subscript, which is evaluated.
            let evaluates = if program == "printf" { formats(words) } else { tests(words) };
            if evaluates {
                Judged::destroys("it evaluates the name of a variable")
            } else {
                Judged::reads()
            }
        }
        "set" => match options::literal(words) {
            Some(words) if words.iter().all(|word| SETTINGS.contains(word)) => Judged::reads(),
            _ => Judged::destroys("it changes how the shell reads"),
        },
        "export" | "readonly" | "local" => {
            let mut judged = Judged::reads();
            for word in words {
                if word.open || word.many {
                    return Some(Judged::destroys("it evaluates what the shell puts in"));
                }
                let name = word.text.split('=').next().unwrap_or_default();
                if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                    return Some(Judged::destroys("it evaluates the name of a variable"));
                }
                judged.then.push(Then::sets(word));
            }
            judged
        }
        "read" | "unset" => {
            let mut judged = Judged::reads();
            for word in words {
                match word.known() {
                    Some("-r" | "-s" | "-v") => {}
                    Some(name)
                        if !name.is_empty()
                            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') =>
                    {
                        judged.then.push(Then::Sets(name.to_owned(), None));
                    }
                    _ => return Some(Judged::destroys("it evaluates the name of a variable")),
                }
            }
            judged
        }
        "declare" | "typeset" | "getopts" | "let" | "shopt" | "enable" | "bind" | "complete"
        | "mapfile" | "readarray" => Judged::destroys("it evaluates what it is given"),
        _ => return None,
    })
}

/// Whether `printf` may set a variable: `-v`, `%n`, or a format that is not known.
fn formats(words: &[Word]) -> bool {
    let words = match words.split_first() {
        Some((first, rest)) if first.known() == Some("--") => rest,
        _ => words,
    };
    let Some(first) = words.first() else { return false };
    let Some(format) = first.known() else { return true };
    let sets = |part: &str| {
        let conversion =
            part.trim_start_matches(|c: char| !c.is_ascii_alphabetic() || "hljztL".contains(c));
        conversion.starts_with('n')
    };
    format.starts_with('-') && format.len() > 1 || format.split('%').skip(1).any(sets)
}

/// Whether `test` may be given the name of a variable to look at: by `-v`, by a word that may be that
/// and the next, or by one that may be several.
fn tests(words: &[Word]) -> bool {
    let names = |word: &Word| !word.literal || word.text.contains('[');
    words.iter().any(|word| word.text.starts_with("-v") || word.text == "-R" || word.many)
        || words.windows(2).any(|pair| match pair {
            [one, next] => !one.literal && names(next),
            _ => false,
        })
}

const SETTINGS: &[&str] = &[
    "-e", "-u", "-x", "-f", "-v", "-C", "-eu", "-ex", "-eux", "-ue", "-euo", "-euxo", "-o", "+e",
    "+u", "+x", "pipefail", "errexit", "nounset", "xtrace", "-n",
];

/// It writes what it names, or sends a request; with some options it does more.
fn unless(words: &[Word], letters: &str, names: &[&str]) -> Judged {
    match may_have(words, letters, names) {
        Some(why) => Judged::destroys(format!("{why} makes it more than that")),
        None if words.iter().any(super::table::names_the_system) => {
            Judged::destroys("it writes to a device or to what the system is made of")
        }
        None => Judged::writes(),
    }
}

/// Programs whose first word that is no option says what they do.
fn verb(words: &[Word], letters: &str, reads: &[&str], writes: &[&str], destroys: &str) -> Judged {
    let far = may_have(words, letters, FAR).is_some();
    let Some(words) = options::literal(words) else {
        return Judged::destroys("a word that the shell puts in may say what it does");
    };
    // An option before the verb may take a value: the verb would be another word.
    let before = words.iter().take_while(|word| word.starts_with('-'));
    let plain = ["--no-pager", "--user", "--system", "--quiet", "-q", "--all", "-a"];
    let known = before.clone().all(|word| plain.contains(word));
    let verb = words.get(before.count()).copied();
    // A unit of systemd can be the one that stops the host.
    let stops = |word: &str| {
        let names =
            ["reboot", "poweroff", "halt", "shutdown", "kexec", "exit", "rescue", "emergency"];
        word.ends_with(".target")
            || word.starts_with("--job-mode")
            || names.iter().any(|name| word.contains(name))
    };
    match verb {
        Some(verb) if known && reads.contains(&verb) && !far => Judged::reads(),
        Some(verb)
            if known && writes.contains(&verb) && !far && !words.iter().any(|word| stops(word)) =>
        {
            Judged::writes()
        }
        None if known => Judged::reads(),
        _ => Judged::destroys(destroys),
    }
}

/// They lead to another host, another root or another cluster, or write a file.
const FAR: &[&str] =
    &["--host", "--machine", "--root", "--image", "--kubeconfig", "--server", "--profile-output"];

/// A word that is neither an option nor a format sets the clock.
fn date(words: &[Word]) -> Judged {
    // Their values are glued to them, or not there.
    let is_format = |word: &Word| {
        word.known().is_some_and(|text| {
            let name = text.split('=').next().unwrap_or_default();
            ["--iso-8601", "--rfc-3339"].contains(&name)
        })
    };
    let rest: Vec<Word> = words.iter().filter(|word| !is_format(word)).cloned().collect();
    let words = rest.as_slice();
    let options = options::Options {
        flags: "uIR",
        valued: "dr",
        long: &["--utc", "--universal", "--rfc-email"],
        long_valued: &["--date", "--reference"],
    };
    match words {
        [option, ..] if option.known().is_some_and(|text| text.starts_with("-I")) => {
            date(words.get(1..).unwrap_or_default())
        }
        _ => match options.skip(words).map(|at| words.get(at..).unwrap_or_default()) {
            Ok([]) => Judged::reads(),
            Ok([format]) if format.text.starts_with('+') => Judged::reads(),
            _ => Judged::destroys("it may set the clock"),
        },
    }
}

fn ip(words: &[Word]) -> Judged {
    let Some(words) = options::literal(words) else {
        return Judged::destroys("a word that the shell puts in may say what it does");
    };
    let mut rest = words.into_iter().skip_while(|word| {
        ["-4", "-6", "-br", "-brief", "-j", "-json", "-o", "-s", "-d", "-details", "-c"]
            .contains(word)
    });
    let object = rest.next().unwrap_or_default();
    let known = ["a", "addr", "address", "l", "link", "r", "route", "n", "neigh", "rule"];
    let verb = rest.next().unwrap_or("show");
    if known.contains(&object) && ["show", "list", "ls", "get"].contains(&verb) {
        Judged::reads()
    } else {
        Judged::destroys("it changes the network")
    }
}

/// `awk [-F sep] [-v var=value] program [file…]`, where the program neither runs nor opens anything.
fn awk(words: &[Word]) -> Judged {
    let options = options::Options { valued: "Fv", ..options::Options::default() };
    let at = match options.skip(words) {
        Ok(at) => at,
        Err(why) => return Judged::destroys(why),
    };
    let Some(program) = words.get(at).and_then(Word::known) else {
        return Judged::destroys("its program is not literal");
    };
    let acts = ["system", "getline", "|", ">", "@", "close", "fflush", "ENVIRON", "PROCINFO"];
    if acts.iter().any(|act| program.contains(act)) {
        return Judged::destroys("its program may run others or write to files");
    }
    Judged::reads()
}

/// Scripts of `p`, `d`, `q`, `=` and `s` with plain flags; with `-i` it writes.
fn sed(words: &[Word]) -> Judged {
    let (mut scripts, mut places, mut at, mut files) = (Vec::new(), false, 0, 0);
    while let Some(word) = words.get(at) {
        at += 1;
        let text = word.text.as_str();
        if word.open || text.starts_with('-') && word.known().is_none() {
            return Judged::destroys("a word that the shell puts in may be an option of it");
        }
        match text {
            "-n" | "-E" | "-r" | "-s" | "-u" | "-z" | "-nE" | "-nr" | "--quiet" | "--silent"
            | "--regexp-extended" => {}
            "-i" | "--in-place" | "-Ei" | "-ri" => places = true,
            "-e" | "-ne" | "-Ee" | "-re" | "--expression" => {
                scripts.push(words.get(at).cloned());
                at += 1;
            }
            _ if text.starts_with("-i") && text.len() > 2 && !text.contains('e') => places = true,
            _ if text.starts_with('-') && text.len() > 1 => {
                return Judged::destroys("it is given an option that is not known");
            }
            _ if scripts.is_empty() && files == 0 => {
                scripts.push(Some(word.clone()));
                files += 1;
            }
            _ => files += 1,
        }
    }
    let plain = |script: &Option<Word>| {
        script.as_ref().and_then(Word::known).is_some_and(super::sed::is_plain)
    };
    if scripts.is_empty() || !scripts.iter().all(plain) {
        return Judged::destroys("its script may run others or write to files");
    }
    if places && words.iter().any(|word| super::is_of_the_system(&word.text)) {
        return Judged::destroys("it writes to a device or to what the system is made of");
    }
    if places { Judged::writes() } else { Judged::reads() }
}

fn tar(words: &[Word]) -> Judged {
    let more = [
        "--to-command",
        "--use-compress-program",
        "--checkpoint-action",
        "--info-script",
        "--new-volume-script",
        "--rsh-command",
        "--rmt-command",
        "--remove-files",
        "--delete",
        "--recursive-unlink",
        "--unlink-first",
        "--absolute-names",
        "--files-from",
        "--overwrite",
    ];
    if let Some(why) = may_have(words, "IFPTU", &more) {
        return Judged::destroys(format!("{why} makes it more than that"));
    }
    let Some(first) = words.first().and_then(Word::known) else {
        return Judged::destroys("what it does is not literal");
    };
    // Letters without a dash are options, too.
    let old = !first.starts_with('-');
    if old && first.contains(['I', 'F', 'P', 'T', 'U']) {
        return Judged::destroys("its options make it more than that");
    }
    // An archive's name may say on which host it is, which is reached by another program.
    let far = |word: &Word| !word.text.starts_with('-') && word.text.contains(':');
    if words.iter().any(|word| far(word) || super::table::names_the_system(word)) {
        return Judged::destroys("it may be on another host, or a device");
    }
    // The letter with a value comes last among the first, and its value is the next word.
    let letters = first.trim_start_matches('-');
    let plain = letters.chars().all(|letter| "tvfzjJaZ".contains(letter))
        && letters.find('f').is_none_or(|at| at + 1 == letters.len());
    let harmless = |word: &Word| {
        let text = word.text.as_str();
        !text.starts_with('-')
            || ["--verbose", "--gzip", "--bzip2", "--xz", "--wildcards"].contains(&text)
            || ["--exclude=", "--strip-components="].iter().any(|name| text.starts_with(name))
    };
    if letters.contains('t') && plain && words.iter().skip(1).all(harmless) {
        Judged::of(Rung::Read, "it only lists an archive")
    } else {
        Judged::writes()
    }
}
