//! Programs that are known by name, and files and variables that are.

use chaperone_model::{Hides, Rung};

use super::{Judged, options::may_have};
use crate::words::Word;

/// They only read, whatever they are given.
const READERS: &[&str] = &[
    ":",
    "[",
    "arch",
    "b2sum",
    "base32",
    "base64",
    "basename",
    "cal",
    "cat",
    "cd",
    "cksum",
    "cmp",
    "column",
    "comm",
    "cut",
    "df",
    "diff",
    "dir",
    "dirname",
    "du",
    "echo",
    "egrep",
    "exit",
    "expand",
    "factor",
    "false",
    "fgrep",
    "findmnt",
    "fmt",
    "fold",
    "free",
    "getconf",
    "getent",
    "getfacl",
    "grep",
    "groups",
    "head",
    "id",
    "iostat",
    "join",
    "jq",
    "locale",
    "logname",
    "ls",
    "lsattr",
    "lsblk",
    "lscpu",
    "lsmem",
    "lspci",
    "lsusb",
    "md5sum",
    "mountpoint",
    "mpstat",
    "namei",
    "netstat",
    "nl",
    "nproc",
    "numfmt",
    "od",
    "paste",
    "pgrep",
    "pidof",
    "printenv",
    "ps",
    "pstree",
    "pwd",
    "readlink",
    "realpath",
    "return",
    "seq",
    "sha1sum",
    "sha224sum",
    "sha256sum",
    "sha384sum",
    "sha512sum",
    "shift",
    "sleep",
    "stat",
    "strings",
    "sum",
    "tac",
    "tail",
    "tr",
    "true",
    "tsort",
    "tty",
    "type",
    "uname",
    "unexpand",
    "uptime",
    "users",
    "vdir",
    "vmstat",
    "wc",
    "which",
    "who",
    "whoami",
    "break",
    "continue",
    "test",
    "umask",
    "ulimit",
    "times",
];

/// They only read, unless they are given one of these options.
const READERS_UNLESS: &[(&str, &str, &[&str])] = &[
    (
        "dmesg",
        "cCDEn",
        &["--clear", "--read-clear", "--console-off", "--console-on", "--console-level"],
    ),
    ("file", "C", &["--compile"]),
    ("fuser", "k", &["--kill"]),
    (
        "journalctl",
        "",
        &[
            "--vacuum-size",
            "--vacuum-time",
            "--vacuum-files",
            "--rotate",
            "--flush",
            "--sync",
            "--setup-keys",
            "--cursor-file",
            "--update-catalog",
            "--relinquish-var",
            "--smart-relinquish-var",
        ],
    ),
    ("dpkg-query", "", &["--admindir"]),
    ("sort", "oT", &["--output", "--compress-program", "--temporary-directory"]),
    ("ss", "KD", &["--kill", "--diag"]),
    ("tree", "oR", &["--output"]),
    ("zcat", "", &[]),
    ("ping", "f", &[]),
    ("nslookup", "", &[]),
    ("dig", "f", &[]),
    ("host", "", &[]),
    ("lsof", "D", &[]),
    ("last", "", &[]),
];

/// They write what they name, unless they are given one of these options.
const WRITERS: &[(&str, &str, &[&str])] = &[
    ("cp", "", &[]),
    ("mkdir", "", &[]),
    ("touch", "", &[]),
    ("tee", "", &[]),
    ("ln", "", &[]),
    ("install", "om", &["--strip-program", "--owner", "--mode"]),
    ("mktemp", "", &[]),
    ("mkfifo", "", &[]),
    ("gzip", "", &[]),
    ("gunzip", "", &[]),
    ("bzip2", "", &[]),
    ("xz", "", &["--files", "--files0"]),
    ("zstd", "", &["--rm"]),
    ("unzip", "", &[]),
    ("split", "", &["--filter"]),
    ("chmod", "R", &["--recursive", "--reference"]),
    ("sync", "", &[]),
    ("logger", "", &[]),
    ("ssh-keyscan", "", &[]),
];

/// They change or remove without bounds, or what there is.
const DESTROYERS: &[(&str, &str)] = &[
    ("rm", "it removes files"),
    ("rmdir", "it removes folders"),
    ("unlink", "it removes a file"),
    ("shred", "it destroys files"),
    ("wipe", "it destroys files"),
    ("truncate", "it cuts files"),
    ("dd", "it writes to files or devices as they are"),
    ("mv", "it moves files, and replaces those in its way"),
    ("mkfs", "it makes a file system anew"),
    ("fdisk", "it changes the parts of a disk"),
    ("parted", "it changes the parts of a disk"),
    ("wipefs", "it removes a file system"),
    ("mount", "it changes file systems"),
    ("umount", "it changes file systems"),
    ("kill", "it ends processes"),
    ("pkill", "it ends processes"),
    ("killall", "it ends processes"),
    ("reboot", "it stops the host"),
    ("shutdown", "it stops the host"),
    ("poweroff", "it stops the host"),
    ("halt", "it stops the host"),
    ("init", "it stops the host"),
    ("telinit", "it stops the host"),
    ("chown", "it changes whose files are"),
    ("chgrp", "it changes whose files are"),
    ("useradd", "it changes accounts"),
    ("usermod", "it changes accounts"),
    ("userdel", "it changes accounts"),
    ("groupadd", "it changes accounts"),
    ("groupdel", "it changes accounts"),
    ("passwd", "it changes accounts"),
    ("chpasswd", "it changes accounts"),
    ("visudo", "it changes who may do what"),
    ("iptables", "it changes the packet filter"),
    ("ip6tables", "it changes the packet filter"),
    ("nft", "it changes the packet filter"),
    ("ufw", "it changes the packet filter"),
    ("firewall-cmd", "it changes the packet filter"),
    ("sysctl", "it changes settings of the kernel"),
    ("modprobe", "it changes the kernel"),
    ("insmod", "it changes the kernel"),
    ("rmmod", "it changes the kernel"),
    ("patch", "what it changes stands in what it reads"),
    ("at", "it runs something later"),
    ("batch", "it runs something later"),
    ("psql", "it speaks SQL, which is not read here"),
    ("mysql", "it speaks SQL, which is not read here"),
    ("sqlite3", "it speaks SQL, which is not read here"),
    ("redis-cli", "it speaks to a database, which is not read here"),
    ("mongosh", "it speaks to a database, which is not read here"),
    ("apt", "it changes what is installed"),
    ("apt-get", "it changes what is installed"),
    ("dpkg", "it changes what is installed"),
    ("rpm", "it changes what is installed"),
    ("yum", "it changes what is installed"),
    ("dnf", "it changes what is installed"),
    ("apk", "it changes what is installed"),
    ("pip", "it installs and runs code"),
    ("npm", "it installs and runs code"),
    ("scp", "it may run another program to connect with"),
    ("sftp", "it may run another program to connect with"),
    ("nc", "it may hand a connection to another program"),
    ("socat", "it may hand a connection to another program"),
    ("less", "it can start other programs"),
    ("more", "it can start other programs"),
    ("man", "it can start other programs"),
    ("vi", "it can start other programs"),
    ("vim", "it can start other programs"),
    ("nano", "it can start other programs"),
    ("emacs", "it can start other programs"),
    ("tmux", "it can start other programs"),
    ("screen", "it can start other programs"),
];

/// Those of them that run other programs by their words, or by what is typed.
const STARTERS: &[&str] = &[
    "at", "batch", "scp", "sftp", "nc", "socat", "less", "more", "man", "vi", "vim", "nano",
    "emacs", "tmux", "screen",
];

/// Why others run code that is not read.
const CODE: &[&str] = &[
    "what it changes stands in what it reads",
    "it speaks SQL, which is not read here",
    "it speaks to a database, which is not read here",
    "it changes what is installed",
    "it installs and runs code",
];

/// `None` where it is not known.
pub(super) fn judge(program: &str, words: &[Word]) -> Option<Judged> {
    if READERS.contains(&program) {
        return Some(Judged::reads());
    }
    if let Some((_, letters, names)) = READERS_UNLESS.iter().find(|(name, ..)| *name == program) {
        return Some(may_have(words, letters, names).map_or_else(Judged::reads, unless));
    }
    if let Some((_, letters, names)) = WRITERS.iter().find(|(name, ..)| *name == program) {
        if words.iter().any(names_the_system) {
            return Some(Judged::destroys(
                "it writes to a device or to what the system is made of",
            ));
        }
        let found = if names.is_empty() && letters.is_empty() {
            None
        } else {
            may_have(words, letters, names)
        };
        return Some(found.map_or_else(Judged::writes, unless));
    }
    let (_, reason) = DESTROYERS
        .iter()
        .find(|(name, _)| *name == program || *name == "mkfs" && program.starts_with("mkfs."))?;
    let hides = if STARTERS.contains(&program) {
        Hides::Programs
    } else if CODE.contains(reason) {
        Hides::Code
    } else {
        Hides::Nothing
    };
    Some(Judged::of(Rung::Destructive, *reason).hiding(hides))
}

/// Whether a word names something of the system, or what is in a folder of it.
pub(super) fn names_the_system(word: &Word) -> bool {
    let glued = word.text.starts_with('-').then(|| word.text.find('/')).flatten().unwrap_or(0);
    let path = word.text.get(glued..).unwrap_or_default();
    is_of_the_system(path) || !path.is_empty() && is_of_the_system(&format!("{path}/"))
}

fn unless(why: impl std::fmt::Display) -> Judged {
    Judged::destroys(format!("{why} makes it more than that"))
}

/// Whether it is the name of a program that this crate knows.
pub(crate) fn is_known(program: &str) -> bool {
    READERS.contains(&program)
        || program.starts_with("mkfs.")
        || READERS_UNLESS.iter().chain(WRITERS).any(|(name, ..)| *name == program)
        || DESTROYERS.iter().any(|(name, _)| *name == program)
        || super::tools::NAMES.contains(&program)
        || super::runners::judge(program, &[]).is_some()
        || super::shells::judge(program, &[], &crate::runs::Input::Inherited).is_some()
}

/// What is written there goes nowhere, or where it goes anyway.
pub(crate) fn is_harmless_device(path: &str) -> bool {
    ["/dev/null", "/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/tty", "/dev/zero"]
        .contains(&path)
}

/// Whether a path is one of a device, of the kernel's settings, or of what the system starts with.
pub(crate) fn is_of_the_system(path: &str) -> bool {
    let below = ["/dev/", "/proc/", "/sys/", "/boot/"];
    // What is written with dots or with more strokes than it takes could lead anywhere.
    let plain = !path.starts_with('/') || !path.contains("//") && !path.contains("/.");
    // From wherever it begins, up to the root and down again.
    let up =
        path.starts_with("../") && below.iter().any(|folder| path.contains(&format!("..{folder}")));
    up || !is_harmless_device(path)
        && (below.iter().any(|folder| path.starts_with(folder)) || !plain)
}

/// Whether setting a variable changes nothing but texts, times and what the line itself reads of it.
/// Variables of the system and of programs have names in capitals.
pub(crate) fn is_harmless_variable(name: &str) -> bool {
    // To zsh these are lists of folders, and what else is in variables of capitals.
    const TIED: &[&str] = &[
        "path",
        "fpath",
        "cdpath",
        "mailpath",
        "manpath",
        "module_path",
        "psvar",
        "fignore",
        "watch",
    ];
    const HARMLESS: &[&str] = &[
        "LANG",
        "LANGUAGE",
        "TZ",
        "TERM",
        "COLUMNS",
        "LINES",
        "NO_COLOR",
        "DEBIAN_FRONTEND",
        "CI",
        "SYSTEMD_COLORS",
        "PYTHONUNBUFFERED",
        "PYTHONIOENCODING",
    ];
    let plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    plain && !TIED.contains(&name) || HARMLESS.contains(&name) || name.starts_with("LC_")
}

/// Whether a variable says how texts are read.
pub(crate) fn is_locale(name: &str) -> bool {
    name == "LANG" || name.starts_with("LC_")
}

/// Whether in a locale each character that shells know is what it seems. In some a byte of another
/// character can look like a backslash.
pub fn is_plain_locale(value: &str) -> bool {
    let name = value.split('@').next().unwrap_or_default().to_ascii_lowercase();
    ["", "c", "posix"].contains(&name.as_str())
        || name.split_once('.').is_some_and(|(_, set)| ["utf-8", "utf8"].contains(&set))
}
