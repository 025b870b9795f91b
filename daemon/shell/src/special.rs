//! Command lines that speak a protocol of their own: rsync, git, scp, SFTP.

use chaperone_model::{Rung, Special};

use crate::{trace::Trace, words::Word};

/// What a line is, where it is nothing but that.
pub(crate) fn of(trace: &mut Trace) -> Option<Special> {
    let [command] = trace.commands.as_slice() else { return None };
    if trace.compound || !command.assignments.is_empty() || !command.redirects.is_empty() {
        return None;
    }
    let words: Vec<Word> = command
        .arguments
        .iter()
        .map(|word| if word.literal { Word::plain(&word.text) } else { Word::unknown(&word.text) })
        .collect();
    // What was not understood has the program's name, but no more.
    (command.rung != Rung::Destructive || command.reason == DELETES || command.reason == PUSHES)
        .then(|| find(&command.program, &words))
        .flatten()
        .map(|(special, _, _)| special)
}

const DELETES: &str = "it removes what the other side does not have";
const PUSHES: &str = "what is pushed may rewrite or remove what is there";

/// What a program with such words is, and how much it can do.
pub(crate) fn find(program: &str, words: &[Word]) -> Option<(Special, Rung, &'static str)> {
    let (first, rest) =
        words.split_first().map_or((None, words), |(first, rest)| (first.known(), rest));
    match (program, first) {
        ("rsync", Some("--server")) => rsync(rest),
        ("git", Some(name @ ("upload-pack" | "upload-archive" | "receive-pack"))) => {
            git(name, rest)
        }
        ("git-upload-pack", _) => git("upload-pack", words),
        ("git-upload-archive", _) => git("upload-archive", words),
        ("git-receive-pack", _) => git("receive-pack", words),
        ("scp", _) => scp(words),
        ("sftp-server" | "internal-sftp", None) if words.is_empty() => {
            Some((Special::SftpServer, Rung::Read, "each of its operations is decided"))
        }
        _ => None,
    }
}

/// `--server [--sender] -flags… [--more] . path…`, as rsync's client makes it (`server_options`,
/// `options.c`).
fn rsync(words: &[Word]) -> Option<(Special, Rung, &'static str)> {
    const HARMLESS: &[&str] = &[
        "--numeric-ids",
        "--inplace",
        "--partial",
        "--safe-links",
        "--copy-unsafe-links",
        "--size-only",
        "--existing",
        "--ignore-existing",
        "--append",
        "--append-verify",
        "--mkpath",
        "--from0",
        "--ignore-errors",
        "--one-file-system",
        "--specials",
        "--stats",
        "--fake-super",
        "--no-implied-dirs",
        "--no-relative",
        "--no-r",
        "--open-noatime",
        "--list-only",
        "--delay-updates",
        "--force",
        "--sparse",
        "--new-compress",
        "--old-compress",
    ];
    const VALUED: &[&str] = &[
        "--timeout=",
        "--bwlimit=",
        "--compress-level=",
        "--compress-choice=",
        "--checksum-choice=",
        "--checksum-seed=",
        "--modify-window=",
        "--block-size=",
        "--max-size=",
        "--min-size=",
        "--iconv=",
        "--log-format=",
        "--out-format=",
        "--skip-compress=",
        "--max-alloc=",
    ];
    let (mut sender, mut deletes, mut at) = (false, false, 0);
    loop {
        let word = words.get(at)?.known()?;
        at += 1;
        match word {
            "." => break,
            "--sender" => sender = true,
            "--remove-source-files" => deletes = true,
            _ if word.starts_with("--delete") || word.starts_with("--max-delete=") => {
                deletes = true;
            }
            // Letters of one word, of which `e.` brings versions.
            _ if word.starts_with('-') && !word.starts_with("--") && plain_letters(word) => {}
            _ if HARMLESS.contains(&word) => {}
            _ if VALUED.iter().any(|name| word.starts_with(name)) => {}
            _ => return None,
        }
    }
    let rest = words.get(at..)?;
    // It takes options behind its paths, too.
    let odd = |word: &Word| word.trouble.is_some() || word.open || word.text.starts_with('-');
    if rest.is_empty() || rest.iter().any(odd) {
        return None;
    }
    let paths = rest.iter().map(|word| word.text.clone()).collect();
    Some(match (sender, deletes) {
        (true, false) => (Special::RsyncSender { paths }, Rung::Read, "it reads files"),
        (true, true) => (Special::RsyncSender { paths }, Rung::Destructive, DELETES),
        (false, false) => (
            Special::RsyncReceiver { paths, deletes },
            Rung::Write,
            "it writes files below what it names",
        ),
        (false, true) => (Special::RsyncReceiver { paths, deletes }, Rung::Destructive, DELETES),
    })
}

/// Letters that say how files are carried, and neither whose options and paths count nor where else is
/// written to.
fn plain_letters(word: &str) -> bool {
    let letters = word.get(1..).unwrap_or_default();
    let (before, versions) = letters.split_once('e').unwrap_or((letters, "."));
    let known = "vqnlLkKWHogDtpErcSCuIxzRdOJbNUyAXmi8";
    before.chars().all(|letter| known.contains(letter)) && versions.starts_with('.')
}

fn git(name: &str, words: &[Word]) -> Option<(Special, Rung, &'static str)> {
    let [repository] = words else { return None };
    let repository = repository.known().filter(|text| !text.starts_with('-'))?.to_owned();
    Some(if name == "receive-pack" {
        (Special::GitWrite { repository }, Rung::Destructive, PUSHES)
    } else {
        (Special::GitRead { repository }, Rung::Read, "it reads a repository")
    })
}

/// `scp -t path`, `scp -f path…`: what the other side's `scp` starts.
fn scp(words: &[Word]) -> Option<(Special, Rung, &'static str)> {
    let (mut to, mut from, mut at) = (false, false, 0);
    while let Some(word) = words.get(at) {
        let text = word.text.as_str();
        if !text.starts_with('-') {
            break;
        }
        let text = word.known()?;
        at += 1;
        if text == "--" {
            break;
        }
        for letter in text.chars().skip(1) {
            match letter {
                't' => to = true,
                'f' => from = true,
                'r' | 'p' | 'd' | 'v' => {}
                _ => return None,
            }
        }
    }
    let rest = words.get(at..)?;
    // The shell may put an option where a path should be.
    if rest.iter().any(|word| word.trouble.is_some() || word.open) {
        return None;
    }
    let paths: Vec<String> = rest.iter().map(|word| word.text.clone()).collect();
    match (to, from, paths.as_slice()) {
        (true, false, [path]) => {
            let path = path.clone();
            Some((Special::ScpTo { path }, Rung::Write, "it writes files where it names"))
        }
        (false, true, [_, ..]) => Some((Special::ScpFrom { paths }, Rung::Read, "it reads files")),
        _ => None,
    }
}
