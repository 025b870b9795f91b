//! What an interpreter runs: found in how it was called.
//!
//! Advisory: whoever can run a program of his own can give it an interpreter's name, and a script
//! can be changed while it runs. Where a command line has anything that is not known here, no script
//! is taken from it: a file that merely stands behind the true program must not pass for it.

use std::path::{Path, PathBuf};

/// What a command line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named<'a> {
    /// The program is no interpreter that is known.
    Nothing,
    /// It runs this file.
    Script(&'a str),
    /// It runs what stands on the command line, in a module, on its standard input, or what cannot
    /// be told.
    Inline,
}

struct Interpreter {
    /// The beginning of its name, behind which a version may come.
    name: &'static str,
    /// Options that change nothing of what is run.
    flags: &'static [&'static str],
    /// Letters of such options, which may stand together behind one `-`.
    letters: &'static str,
    /// Options with a value behind them that change nothing of what is run.
    with_value: &'static [&'static str],
}

const SHELL_OPTIONS: &[&str] = &["-o", "+o", "-O", "+O"];

const INTERPRETERS: [Interpreter; 12] = [
    Interpreter {
        name: "python",
        flags: &["-bb", "-OO"],
        letters: "bBdEIOqsSuvx",
        with_value: &["-W", "-X", "--check-hash-based-pycs"],
    },
    Interpreter { name: "pypy", flags: &[], letters: "BEOqsSu", with_value: &["-W", "-X"] },
    Interpreter {
        name: "node",
        flags: &[
            "--no-warnings",
            "--no-deprecation",
            "--trace-warnings",
            "--enable-source-maps",
            "--trace-uncaught",
            "--unhandled-rejections=strict",
        ],
        letters: "",
        with_value: &["-C", "--conditions", "--env-file"],
    },
    Interpreter {
        name: "deno",
        flags: &["run", "-A", "--allow-all", "--allow-net"],
        letters: "",
        with_value: &[],
    },
    Interpreter { name: "bun", flags: &["run"], letters: "", with_value: &[] },
    Interpreter {
        name: "bash",
        flags: &["--norc", "--noprofile", "--posix"],
        letters: "abefhkmnptuvxBCEHPT",
        with_value: SHELL_OPTIONS,
    },
    Interpreter { name: "dash", flags: &[], letters: "aefnuvxIimqVEb", with_value: &["-o", "+o"] },
    Interpreter { name: "sh", flags: &[], letters: "aefnuvx", with_value: &["-o", "+o"] },
    Interpreter { name: "zsh", flags: &["-f"], letters: "efuvx", with_value: &["-o", "+o"] },
    Interpreter { name: "ruby", flags: &["--disable-gems"], letters: "wv", with_value: &[] },
    Interpreter { name: "perl", flags: &["-w", "-T"], letters: "wWXtTu", with_value: &[] },
    Interpreter { name: "java", flags: &["-ea", "-server"], letters: "", with_value: &[] },
];

/// Reads a command line. `program` is the file's path, `arguments` begin with the name by which it
/// was called; `whole` says that they are all there.
pub(crate) fn named<'a>(program: &str, arguments: &[&'a str], whole: bool) -> Named<'a> {
    let Some(name) = program.rsplit('/').next() else { return Named::Nothing };
    // A dynamic loader runs what it is given, in ways of its own.
    if ["ld-linux", "ld-musl", "ld64", "ld.so", "ld-2."]
        .iter()
        .any(|loader| name.starts_with(loader))
    {
        return Named::Inline;
    }
    let Some(interpreter) = INTERPRETERS.iter().find(|known| is_called(name, known.name)) else {
        return Named::Nothing;
    };
    let mut rest = arguments.iter().skip(1).copied();
    let script = |found: Option<&'a str>, last: bool| match found {
        // What was cut may be the name's end.
        Some(script) if whole || !last => Named::Script(script),
        _ => Named::Inline,
    };
    let count = arguments.len();
    let mut at = 0;
    while let Some(argument) = rest.next() {
        at += 1;
        if interpreter.name == "java" {
            match argument {
                "-jar" => return script(rest.next(), at + 2 >= count),
                _ if interpreter.flags.contains(&argument) => {}
                _ if argument.starts_with("-Xm") || argument.starts_with("-Xs") => {}
                _ if is_source(argument) => return script(Some(argument), at + 1 >= count),
                // A class path, an agent, a module.
                _ => return Named::Inline,
            }
            continue;
        }
        match argument {
            "--" => return script(rest.next(), at + 2 >= count),
            "-" | "" => return Named::Inline,
            _ if interpreter.flags.contains(&argument) => {}
            _ if interpreter.with_value.contains(&argument) => {
                at += 1;
                if rest.next().is_none() {
                    return Named::Inline;
                }
            }
            _ if argument.starts_with(['-', '+']) => {
                let letters = argument.get(1..).unwrap_or_default();
                if letters.is_empty() || !letters.chars().all(|c| interpreter.letters.contains(c)) {
                    return Named::Inline;
                }
            }
            found => return script(Some(found), at + 1 >= count),
        }
    }
    Named::Inline
}

fn is_source(argument: &str) -> bool {
    Path::new(argument).extension().is_some_and(|kind| kind == "java")
}

/// The name, and behind it at most a version.
fn is_called(name: &str, interpreter: &str) -> bool {
    name.strip_prefix(interpreter)
        .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
}

/// A path as the process sees it, from the folder that it works in.
pub(crate) fn absolute(path: &str, folder: Option<&str>) -> Option<PathBuf> {
    let path = Path::new(path);
    if path.is_absolute() { Some(path.into()) } else { folder.map(|f| Path::new(f).join(path)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(program: &str, line: &'static str) -> Named<'static> {
        named(program, &line.split(' ').collect::<Vec<_>>(), true)
    }

    #[test]
    fn scripts_are_found_behind_options() {
        for (program, line, script) in [
            ("/usr/bin/python3.11", "python3 agent.py --fast", "agent.py"),
            ("/usr/bin/python3", "python3 -u -W error /opt/a.py -c x", "/opt/a.py"),
            ("/usr/bin/python3", "python3 -uB a.py", "a.py"),
            ("/usr/bin/node", "node --no-warnings y.js", "y.js"),
            ("/usr/bin/bash", "bash -eu -o pipefail run.sh one", "run.sh"),
            ("/usr/bin/bash", "bash -e run.sh", "run.sh"),
            ("/bin/sh", "sh -- -odd.sh", "-odd.sh"),
            ("/usr/bin/java", "java -Xmx1g -jar x.jar -c y", "x.jar"),
            ("/usr/bin/java", "java Agent.java", "Agent.java"),
            ("/usr/bin/perl", "perl -w a.pl", "a.pl"),
        ] {
            assert_eq!(read(program, line), Named::Script(script), "{line}");
        }
        for line in ["psql -f a.sql", "shuf a.txt", "shasum a"] {
            let program = format!("/usr/bin/{}", line.split(' ').next().expect("a name"));
            assert_eq!(read(&program, line), Named::Nothing, "{line}");
        }
    }

    #[test]
    fn p3_a_file_that_merely_stands_there_is_not_taken_for_the_script() {
        for (program, line) in [
            ("/usr/bin/python3", "python3 -c print(1) a.py"),
            ("/usr/bin/python3", "python3 -cprint(1) a.py"),
            ("/usr/bin/python3", "python3 -uc print(1) a.py"),
            ("/usr/bin/python3", "python3 -m agent a.py"),
            ("/usr/bin/python3", "python3 -magent a.py"),
            ("/usr/bin/python3", "python3"),
            ("/usr/bin/python3", "python3 - a.py"),
            ("/usr/bin/node", "node -e 1 a.js"),
            ("/usr/bin/node", "node --eval=1 a.js"),
            ("/usr/bin/node", "node --require x.js a.js"),
            ("/usr/bin/bash", "bash -ec true run.sh"),
            ("/usr/bin/bash", "bash -es run.sh"),
            ("/usr/bin/bash", "bash --rcfile x run.sh"),
            ("/usr/bin/perl", "perl -eprint a.pl"),
            ("/usr/bin/perl", "perl -MEvil a.pl"),
            ("/usr/bin/java", "java -cp a Main"),
            ("/usr/bin/java", "java -javaagent:e.jar -jar x.jar"),
            ("/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "ld.so /usr/bin/python3 a.py"),
        ] {
            assert_eq!(read(program, line), Named::Inline, "{line}");
        }
    }

    #[test]
    fn p3_a_name_that_was_cut_is_no_script() {
        let line = ["python3", "/opt/ag"];
        assert_eq!(named("/usr/bin/python3", &line, false), Named::Inline);
        let line = ["python3", "/opt/agent.py", "--fa"];
        assert_eq!(named("/usr/bin/python3", &line, false), Named::Script("/opt/agent.py"));
    }
}
