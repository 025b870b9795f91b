//! What an interpreter runs: found in how it was called.
//!
//! Advisory: an interpreter can be told by other ways what to run, and a script can be changed
//! while it runs.

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::stat::Mode,
};

/// An interpreter: the beginning of its name; options that take a value of their own; options after
/// which no script comes, because the program is on the command line, or a module.
type Interpreter = (&'static str, &'static [&'static str], &'static [&'static str]);

const INTERPRETERS: [Interpreter; 14] = [
    ("python", &["-W", "-X", "--check-hash-based-pycs"], &["-c", "-m"]),
    ("pypy", &["-W", "-X"], &["-c", "-m"]),
    (
        "node",
        &["-r", "--require", "--import", "--loader", "-C", "--conditions", "--env-file"],
        &["-e", "-p", "-pe", "--eval", "--print"],
    ),
    ("deno", &[], &["eval", "-e"]),
    ("bun", &[], &["-e", "--eval"]),
    ("bash", &["-O", "+O", "-o", "+o", "--rcfile", "--init-file"], &["-c", "-s"]),
    ("dash", &["-o", "+o"], &["-c", "-s"]),
    ("sh", &["-o", "+o"], &["-c", "-s"]),
    ("zsh", &["-o", "+o"], &["-c", "-s"]),
    ("ruby", &["-r", "-I", "-E", "-C"], &["-e"]),
    ("perl", &["-I"], &["-e", "-E"]),
    ("php", &["-d", "-c"], &["-r"]),
    ("Rscript", &[], &["-e"]),
    ("java", &["-cp", "-classpath", "--class-path", "-p", "--module-path", "--add-modules"], &[]),
];

/// The script that a command line names, where the program is a known interpreter. `program` is
/// the file's path, `arguments` begin with the name by which it was called.
pub(crate) fn named<'a>(program: &str, arguments: &[&'a str]) -> Option<&'a str> {
    let name = program.rsplit('/').next()?;
    let (interpreter, with_value, inline) =
        INTERPRETERS.iter().find(|(prefix, ..)| is_interpreter(name, prefix))?;
    let mut rest = arguments.iter().skip(1).copied();
    while let Some(argument) = rest.next() {
        match argument {
            "--" => return rest.next(),
            "-jar" if *interpreter == "java" => return rest.next(),
            _ if with_value.contains(&argument) => {
                rest.next()?;
            }
            "run" if matches!(*interpreter, "deno" | "bun") => {}
            _ if inline.contains(&argument) => return None,
            "-" => return None,
            _ if argument.starts_with(['-', '+']) && argument.len() > 1 => {
                // Short options in one word, such as `-ec`: the last may be one of the above.
                let cluster = !argument.starts_with("--") && *interpreter != "java";
                if cluster && argument.ends_with('c') && interpreter.ends_with("sh") {
                    return None;
                }
            }
            // A class, which is found in the class path.
            _ if *interpreter == "java" && !is_source(argument) => return None,
            script => return Some(script),
        }
    }
    None
}

fn is_source(argument: &str) -> bool {
    Path::new(argument).extension().is_some_and(|kind| kind == "java")
}

/// The name, and behind it at most a version.
fn is_interpreter(name: &str, interpreter: &str) -> bool {
    name.strip_prefix(interpreter)
        .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
}

/// A path as the process sees it, from the folder that it works in.
pub(crate) fn absolute(path: &str, folder: Option<&str>) -> Option<PathBuf> {
    let path = Path::new(path);
    if path.is_absolute() { Some(path.into()) } else { folder.map(|f| Path::new(f).join(path)) }
}

/// Opens a file as the process sees it: below its root, whatever links say; and only to read it, so
/// that nothing happens by its being opened.
pub(crate) fn open_for(pid: u32, path: &Path) -> io::Result<File> {
    let root = open(
        Path::new(&format!("/proc/{pid}/root")),
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    open_below(&root, path)
}

/// As [`open_for`], as this process sees it: for one that is gone.
pub(crate) fn open_here(path: &Path) -> io::Result<File> {
    let root = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    open_below(&root, path)
}

fn open_below(root: &OwnedFd, path: &Path) -> io::Result<File> {
    // A fifo that nobody writes to must not be waited for.
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    Ok(File::from(openat2(root, path, how)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_found_behind_options() {
        for (program, line, script) in [
            ("/usr/bin/python3.11", "python3 agent.py --fast", Some("agent.py")),
            ("/usr/bin/python3", "python3 -u -W error /opt/a.py -c x", Some("/opt/a.py")),
            ("/usr/bin/python3", "python3 -c print(1) a.py", None),
            ("/usr/bin/python3", "python3 -m agent", None),
            ("/usr/bin/python3", "python3", None),
            ("/usr/bin/python3", "python3 -", None),
            ("/usr/bin/node", "node --require x.js --no-warnings y.js", Some("y.js")),
            ("/usr/bin/node", "node -e 1", None),
            ("/usr/bin/bash", "bash -eu -o pipefail run.sh one", Some("run.sh")),
            ("/usr/bin/bash", "bash -ec true run.sh", None),
            ("/usr/bin/bash", "bash -e run.sh", Some("run.sh")),
            ("/bin/sh", "sh -- -odd.sh", Some("-odd.sh")),
            ("/usr/bin/java", "java -Xmx1g -cp a:b -jar x.jar -c y", Some("x.jar")),
            ("/usr/bin/java", "java -cp a Main", None),
            ("/usr/bin/java", "java -cp a Agent.java", Some("Agent.java")),
            ("/usr/bin/perl", "perl -w a.pl", Some("a.pl")),
            ("/usr/bin/psql", "psql -f a.sql", None),
            ("/usr/bin/shuf", "shuf a.txt", None),
        ] {
            let arguments: Vec<_> = line.split(' ').collect();
            assert_eq!(named(program, &arguments), script, "{line}");
        }
    }

    #[test]
    fn p8_links_do_not_lead_out_of_the_process_root() {
        let folder = tempfile::tempdir().expect("a folder");
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).expect("made");
        let root = open(folder.path(), OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty());
        let root = root.expect("opened");
        assert!(open_below(&root, Path::new("/link")).is_err(), "there is no etc below it");
        assert!(open_here(Path::new("/etc/passwd")).is_ok());
    }
}
