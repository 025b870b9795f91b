//! Which files programs open by their words, of those of which that is known.
//!
//! Beside the other tables of programs, so that one that is added to those is added here. Does not belong
//! here: which files a command names (the daemon's `ssh::files`).

/// What a program opens by its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opens {
    /// No file: it takes its words for something else, or runs what stands among them, which counts by
    /// itself.
    Nothing,
    /// Files that its words name; where none does, its streams alone.
    OrStreams,
    /// Files that its words name, and where none does, others.
    Files,
}

/// They touch no files by their words.
const WITHOUT_FILES: &[&str] = &[
    ":", "arch", "break", "cal", "continue", "echo", "exit", "false", "free", "groups", "id",
    "kill", "killall", "logname", "nproc", "pkill", "printenv", "printf", "ps", "pwd", "return",
    "seq", "set", "sleep", "tr", "true", "tty", "ulimit", "umask", "uname", "uptime", "whoami",
    "reboot", "shutdown", "poweroff", "halt",
];

/// They work on their standard input where no word names a file.
const FILTERS: &[&str] = &[
    "base32",
    "base64",
    "b2sum",
    "cat",
    "cksum",
    "column",
    "cut",
    "egrep",
    "expand",
    "fgrep",
    "fold",
    "fmt",
    "grep",
    "head",
    "jq",
    "md5sum",
    "nl",
    "numfmt",
    "od",
    "paste",
    "sha1sum",
    "sha224sum",
    "sha256sum",
    "sha384sum",
    "sha512sum",
    "sort",
    "sum",
    "tac",
    "tail",
    "tee",
    "tsort",
    "unexpand",
    "uniq",
    "wc",
    "df",
    "date",
    "hostname",
    "lscpu",
    "systemctl",
    "journalctl",
    "pgrep",
    "users",
    "who",
];

/// No letter of theirs has a file's name glued to it.
const PLAIN_LETTERS: &[&str] =
    &["cat", "chgrp", "chmod", "chown", "df", "head", "ls", "mkdir", "rm", "rmdir", "stat", "tail"];

/// They run what stands among their words, which counts by itself, and open none of the files.
const RUNNERS: &[&str] = &[
    "ash", "bash", "builtin", "busybox", "command", "dash", "doas", "env", "eval", "exec",
    "ionice", "ksh", "mksh", "nice", "nohup", "rbash", "setsid", "sh", "ssh", "stdbuf", "su",
    "sudo", "time", "timeout", "toybox", "trap", "watch",
];

/// What a program opens by its words.
pub fn opens(program: &str) -> Opens {
    if WITHOUT_FILES.contains(&program) || RUNNERS.contains(&program) {
        Opens::Nothing
    } else if FILTERS.contains(&program) {
        Opens::OrStreams
    } else {
        Opens::Files
    }
}

/// Whether no letter of a program's options has a file's name glued to it.
pub fn has_plain_letters(program: &str) -> bool {
    PLAIN_LETTERS.contains(&program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::programs::is_known;

    #[test]
    fn what_is_said_of_files_is_of_programs_that_are_known() {
        let all = [WITHOUT_FILES, FILTERS, PLAIN_LETTERS, RUNNERS].concat();
        let unknown: Vec<_> = all.into_iter().filter(|program| !is_known(program)).collect();
        assert_eq!(unknown, Vec::<&str>::new());
    }

    #[test]
    fn a_program_has_one_place_among_them() {
        for program in FILTERS {
            assert!(!WITHOUT_FILES.contains(program) && !RUNNERS.contains(program), "{program}");
        }
    }
}
