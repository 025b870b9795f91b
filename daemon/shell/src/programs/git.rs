//! What `git` does, by its first word.

use super::{
    Judged,
    options::{self, may_have},
};
use crate::words::Word;

const READS: &[&str] = &[
    "status",
    "log",
    "diff",
    "show",
    "rev-parse",
    "rev-list",
    "ls-files",
    "ls-tree",
    "describe",
    "blame",
    "cat-file",
    "shortlog",
    "name-rev",
    "merge-base",
    "version",
    "count-objects",
    "for-each-ref",
    "show-ref",
];

const WRITES: &[&str] = &[
    "add",
    "commit",
    "fetch",
    "pull",
    "clone",
    "merge",
    "init",
    "tag",
    "cherry-pick",
    "revert",
    "push",
    "switch",
];

/// With these it does more than it seems, or removes.
const MORE: &[&str] = &[
    "--force",
    "--force-with-lease",
    "--delete",
    "--mirror",
    "--prune",
    "--upload-pack",
    "--receive-pack",
    "--exec",
    "--ext-diff",
    "--textconv",
    "--output",
    "--config",
    "--template",
    "--discard-changes",
    "--open-files-in-pager",
    "--edit",
    "--force-create",
    "--rebase",
    "--hard",
    "--recurse-submodules",
    "--filters",
    "--set-upstream-to",
];

pub(super) fn judge(words: &[Word]) -> Judged {
    let options = options::Options {
        flags: "P",
        valued: "C",
        long: &["--no-pager", "--no-optional-locks"],
        long_valued: &["--git-dir", "--work-tree"],
    };
    let at = match options.skip(words) {
        Ok(at) => at,
        Err(why) => return Judged::destroys(why),
    };
    let Some((verb, rest)) = words.get(at..).unwrap_or_default().split_first() else {
        return Judged::reads();
    };
    let Some(verb) = verb.known() else {
        return Judged::destroys("a word that the shell puts in may say what it does");
    };
    let letters = match verb {
        "push" => "fdo",
        "clone" | "fetch" | "pull" => "uco",
        "tag" => "df",
        "switch" => "fC",
        "diff" | "log" | "show" => "O",
        _ => "",
    };
    if let Some(why) = may_have(rest, letters, MORE) {
        return Judged::destroys(format!("{why} makes it more than that"));
    }
    let texts = || rest.iter().map(|word| word.text.as_str());
    // A transport that runs a program; a ref that is forced, or removed.
    let odd = texts().any(|text| text.contains("::"))
        || verb == "push" && texts().any(|text| text.starts_with(['+', ':']));
    match verb {
        _ if odd => Judged::destroys("what it names makes it more than that"),
        _ if READS.contains(&verb) => Judged::reads(),
        "branch" | "remote"
            if texts().all(|text| ["-a", "-r", "-v", "-vv", "--list"].contains(&text)) =>
        {
            Judged::reads()
        }
        "stash" if texts().eq(["list"]) => Judged::reads(),
        _ if WRITES.contains(&verb) => Judged::writes(),
        _ => Judged::destroys("it may rewrite or remove what is there, or run other programs"),
    }
}
