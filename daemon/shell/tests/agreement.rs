//! What bash and dash really run is what was read: lines are given to them with a `PATH` in which every
//! program only notes how it was called.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use chaperone_model::{Rung, ShellReading};
use chaperone_shell::read;
use proptest::prelude::*;
use tempfile::TempDir;

const PROGRAMS: &[&str] = &["ls", "cat", "rm", "cp", "id"];

/// A folder with the programs, and one for the lines to run in.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        fs::create_dir(folder.path().join("bin")).expect("made");
        fs::create_dir(folder.path().join("work")).expect("made");
        for program in PROGRAMS {
            let path = folder.path().join("bin").join(program);
            // One write a call, so that several at a time stay apart.
            let script = "#!/bin/sh\nprintf '%s\\037' \"${0##*/}\" \"$@\" \"$END\" >> \"$NOTES\"\n";
            fs::write(&path, script).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
        }
        for program in ["sh", "env", "nohup", "nice", "timeout", "xargs", "find"] {
            let real = ["/bin", "/usr/bin"].map(|folder| Path::new(folder).join(program));
            let real = real.iter().find(|path| path.exists()).expect("it is there");
            std::os::unix::fs::symlink(real, folder.path().join("bin").join(program))
                .expect("made");
        }
        Self { folder }
    }

    /// What a shell runs for a line: names and words.
    fn run(&self, shell: &str, line: &str) -> Vec<Vec<String>> {
        let notes = self.folder.path().join("notes");
        let _ = fs::remove_file(&notes);
        // It ends when all that it started in the background has ended, too: they hold its output.
        Command::new(Path::new("/bin").join(shell))
            .args(["-c", line])
            .current_dir(self.folder.path().join("work"))
            .env_clear()
            .env("PATH", self.folder.path().join("bin"))
            .env("NOTES", &notes)
            .env("END", "\u{1e}")
            .stdin(std::process::Stdio::null())
            .output()
            .expect("it runs");
        let text = fs::read(&notes).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let calls = text.split("\u{1e}\u{1f}").filter(|call| !call.is_empty());
        calls.map(|call| call.split_terminator('\u{1f}').map(str::to_owned).collect()).collect()
    }
}

/// Whether a call is one of those that were read: where a word is not literal, any number of any words
/// will do behind it.
fn was_read(call: &[String], reading: &ShellReading) -> bool {
    reading.commands.iter().any(|command| {
        if command.program != call[0] {
            return false;
        }
        let literal = command.arguments.iter().take_while(|word| word.literal);
        let start: Vec<&str> = literal.map(|word| word.text.as_str()).collect();
        let rest = &call[1..];
        if start.len() == command.arguments.len() {
            rest.iter().map(String::as_str).eq(start)
        } else {
            rest.iter().map(String::as_str).take(start.len()).eq(start)
        }
    })
}

#[test]
fn p2_what_shells_run_was_read() {
    let place = Place::new();
    // Where the shells do the same, and how often they run something.
    let lines: &[(&str, usize)] = &[
        ("ls", 1),
        ("ls -la 'a b' \"c d\" e\\ f", 1),
        ("r''m x", 1),
        ("\\rm x", 1),
        ("r\\\nm \"a\\\nb\" 'a\\\nb'", 1),
        ("rm a\\b \"a\\b\" 'a\\b' \"\\$x\\\\\"", 1),
        ("ls;rm x&&cat y||cp z", 3),
        ("ls|rm x|cat", 3),
        ("ls&rm x", 2),
        ("! ls || rm x", 2),
        ("(ls; rm x) > out", 2),
        ("{ ls; rm x; } 2>&1", 2),
        ("ls $(rm x) `cat y`", 3),
        ("ls \"$(rm 'a b')\" ${x:-`cat y`}", 3),
        ("x=$(rm a); ls", 2),
        ("for f in a b; do rm $f; done", 2),
        ("if ls; then rm x; else cat; fi", 2),
        ("case a in a) rm x;; *) ls;; esac", 1),
        ("while ls; do rm x; break; done", 2),
        ("f() { rm x; }; f; f", 2),
        ("cat <<E\n$(rm x)\nE\nls", 3),
        ("cat <<'E'\n$(rm x)\nE\nls", 2),
        ("cat <<-E\n\tx\n\tE\nls", 2),
        ("sh -c 'rm \"a b\"; ls'", 2),
        ("sh -c \"sh -c 'rm x'\"", 1),
        ("sh <<E\nrm 'a b'\nE", 1),
        ("eval 'rm' \"'a b'\"", 1),
        ("env A=b nice timeout 5 rm x", 1),
        ("env -i PATH=\"$PATH\" NOTES=\"$NOTES\" END=\"$END\" rm x", 1),
        ("trap 'rm x' EXIT; ls", 2),
        ("exec rm x", 1),
        ("command rm x", 1),
        ("find . -maxdepth 0 -exec rm {} x \\; -exec ls {} +", 2),
        ("ls # rm x\ncat", 2),
        ("ls#x; cat a#b", 1),
        ("ls\t\ta\n\n rm x", 2),
        ("ls {} a{b c}d =x -- -", 1),
        ("ls \"a'b\" 'a\"b' \"\" ''", 1),
        ("ls $((1+2)) a~b", 1),
        ("ls &> out", 1),
    ];
    for (line, count) in lines {
        let reading = read(line.as_bytes());
        for shell in ["bash", "dash"] {
            let calls = place.run(shell, line);
            assert_eq!(calls.len(), *count, "{shell} {line:?}: {calls:?}");
            for call in calls {
                assert!(was_read(&call, &reading), "{shell} {line:?}: {call:?} {reading:#?}");
            }
        }
    }
    // What bash alone reads so.
    for line in ["$'\\x72\\155' $'a\\tb\\'c\\u0041'", "rm <(ls) >(cat)", "ls <<< \"$(rm x)\""] {
        let reading = read(line.as_bytes());
        assert_eq!(reading.rung, Rung::Destructive);
        let calls = place.run("bash", line);
        assert!(!calls.is_empty(), "{line:?}");
        for call in calls {
            let known = was_read(&call, &reading) || line.starts_with('$') && call[0] == "rm";
            assert!(known, "{line:?}: {call:?} {reading:#?}");
        }
    }
}

/// Words as people and programs write them; `inner` are lines.
fn word(inner: BoxedStrategy<String>) -> BoxedStrategy<String> {
    let plain = prop::sample::select(vec![
        "x",
        "a\\ b",
        "'a b'",
        "\"a b\"",
        "\"a'b\"",
        "'a\"b'",
        "-n",
        "a#b",
        "\"#\"",
        "a=b",
        "{}",
        "\"\"",
        "\\;",
        "';'",
        "\"a;b\"",
        "a\\\nb",
        "\"$x\"",
        "$x",
        "\\$x",
        "'$(rm)'",
        "\"\\$(rm)\"",
        "é",
        "a]",
        "!",
    ])
    .prop_map(str::to_owned);
    prop_oneof![
        8 => plain,
        1 => inner.clone().prop_map(|line| format!("$({line})")),
        1 => inner.clone().prop_map(|line| format!("\"a $({line}) b\"")),
        1 => inner.clone().prop_map(|line| format!("`{}`", line.replace('\\', "\\\\").replace('`', "\\`"))),
        1 => inner.prop_map(|line| format!("${{x:-$({line})}}")),
    ]
    .boxed()
}

fn quoted(line: &str) -> String {
    format!("'{}'", line.replace('\'', "'\\''"))
}

/// A line of simple commands and what joins and holds them.
fn line() -> impl Strategy<Value = String> {
    let program = || {
        prop_oneof![
            12 => prop::sample::select(vec!["ls", "cat", "id", "l's'", "\\ls", "\"cat\""]),
            1 => prop::sample::select(vec!["rm", "r''m", "\\rm"]),
        ]
    };
    let least = program().prop_map(str::to_owned);
    let whole = least.prop_recursive(4, 24, 4, move |inner| {
        let inner = inner.boxed();
        let words = proptest::collection::vec(word(inner.clone()), 0..4);
        let simple = (program(), words).prop_map(|(program, words)| {
            std::iter::once(program.to_owned()).chain(words).collect::<Vec<_>>().join(" ")
        });
        let joint = prop::sample::select(vec![
            ";", "; ", "\n", " && ", " || ", " | ", "&", "\n\n", ";\n#c\n",
        ]);
        let two = (inner.clone(), joint, inner.clone());
        prop_oneof![
            4 => simple,
            4 => two.prop_map(|(one, joint, two)| format!("{one}{joint}{two}")),
            1 => inner.clone().prop_map(|line| format!("({line})")),
            1 => inner.clone().prop_map(|line| format!("{{ {line}\n}}")),
            1 => inner.clone().prop_map(|line| format!("sh -c {}", quoted(&line))),
            1 => inner.clone().prop_map(|line| format!("eval {}", quoted(&line))),
            1 => inner.clone().prop_map(|line| format!("cat <<E\n$({line})\nE\n")),
            1 => inner.clone().prop_map(|line| format!("sh <<'E'\n{line}\nE\n")),
            1 => inner.clone().prop_map(|line| format!("if ls; then {line}\nfi")),
            1 => inner.clone().prop_map(|line| format!("for f in a b; do {line}\ndone")),
            1 => inner.clone().prop_map(|line| format!("case a in a) {line}\nesac")),
            1 => inner.prop_map(|line| format!("nice timeout 5 {line}")),
        ]
    });
    // Now and then a mark is put in or taken out: what was well formed is so in another way, or not.
    let mark = prop::sample::select(vec![
        "'", "\"", "\\", "`", "$(", ")", "(", "{", "}", ";", "\n", "|", "&", "#", " ", "<<E\n",
        "\nE\n", "$", "*", "~", "!", "<", "\r", "\t", "\\\n",
    ]);
    let change =
        proptest::option::weighted(0.5, (any::<prop::sample::Index>(), mark, any::<bool>()));
    (whole, change).prop_map(|(line, change)| {
        let Some((at, mark, takes)) = change else { return line };
        let places: Vec<usize> = line.char_indices().map(|(at, _)| at).collect();
        let at = *at.get(&places);
        let rest = &line[at..];
        let skipped = if takes { rest.chars().next().map_or(0, char::len_utf8) } else { 0 };
        // A function that calls itself would run for ever.
        let line = format!("{}{mark}{}", &line[..at], &rest[skipped..]);
        if line.contains("()") { String::new() } else { line }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the line: where it is said that it only reads, or only writes what it names, a shell runs
    /// nothing else than what was read, and nothing that removes.
    #[test]
    fn p2_no_line_does_more_than_was_read(lines in proptest::collection::vec(line(), 4)) {
        let place = Place::new();
        for line in lines {
            let reading = read(line.as_bytes());
            if reading.rung == Rung::Destructive {
                continue;
            }
            for shell in ["bash", "dash"] {
                for call in place.run(shell, &line) {
                    prop_assert!(call[0] != "rm", "{} {:?} {:#?}", shell, line, reading);
                    prop_assert!(was_read(&call, &reading), "{} {:?} {:?} {:#?}", shell, line, call, reading);
                }
            }
        }
    }
}
