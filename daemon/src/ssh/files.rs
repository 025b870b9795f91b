//! The files that a program of a command line names, as far as its words say.
//!
//! Where a program takes a word for is not known for most of them. So a word that is a path from the
//! root on, by each step, is a file that it may touch, with what is below; and a word that could be
//! another path makes it touch files that it does not name.

use chaperone_model::{
    Access, PathUse, Rung, ShellCommand, ShellRedirectKind, ShellWord, Statement,
};
use chaperone_shell::{Opens, has_plain_letters, opens};

/// Adds what a program names to its statement.
pub(super) fn of(command: &ShellCommand, statement: &mut Statement) {
    for redirect in &command.redirects {
        let access = match redirect.kind {
            ShellRedirectKind::Read => Access::Read,
            ShellRedirectKind::Write | ShellRedirectKind::Append => Access::Write,
        };
        let path = redirect.path.text.as_str();
        if !redirect.path.literal || !is_plain(path) {
            others(access, statement);
        } else if path != "/dev/null" {
            statement.paths.push(PathUse { path: path.to_owned(), access, below: false });
        }
    }
    let program = command.program.as_str();
    let opens = opens(program);
    if command.written.is_empty() || opens == Opens::Nothing {
        return;
    }
    let most = if command.rung > Rung::Read { Access::Write } else { Access::Read };
    let mut is_named = false;
    for word in &command.arguments {
        match path_in(word, has_plain_letters(program)) {
            Found::Nothing => {}
            Found::Path(path) => {
                is_named = true;
                // Which of them it reads and which it writes is its own affair.
                name(path, Access::Read, statement);
                if most == Access::Write {
                    name(path, most, statement);
                }
            }
            Found::Other => {
                is_named = true;
                others(most, statement);
            }
        }
    }
    if !is_named && opens != Opens::OrStreams {
        others(most, statement);
    }
}

/// Adds a path and what is below it.
pub(super) fn name(path: &str, access: Access, statement: &mut Statement) {
    if is_plain(path) && !path.contains(['*', '?', '[', '$', '`']) {
        statement.paths.push(PathUse { path: path.to_owned(), access, below: true });
    } else {
        others(access, statement);
    }
}

fn others(access: Access, statement: &mut Statement) {
    statement.other_files = statement.other_files.max(Some(access));
}

enum Found<'a> {
    Nothing,
    Path(&'a str),
    Other,
}

/// The path in a word.
fn path_in(word: &ShellWord, plain_letters: bool) -> Found<'_> {
    let text = word.text.as_str();
    if !word.literal {
        return Found::Other;
    }
    let Some(option) = text.strip_prefix('-') else {
        return if is_plain(text) { Found::Path(text) } else { Found::Other };
    };
    // `-x/path`, `--option=/path`.
    if text.contains('/') {
        let glued = match option.strip_prefix('-') {
            Some(long) => long.split_once('=').map(|(_, value)| value),
            None => option.char_indices().nth(1).and_then(|(at, _)| option.get(at..)),
        };
        return glued.filter(|path| is_plain(path)).map_or(Found::Other, Found::Path);
    }
    let may_name = match option.strip_prefix('-') {
        Some(long) => long.contains('='),
        None => option.len() > 1 && !plain_letters,
    };
    if may_name { Found::Other } else { Found::Nothing }
}

/// Whether a path names its file from the root on, and by each step.
pub(super) fn is_plain(path: &str) -> bool {
    let steps = path.strip_prefix('/').map(|steps| steps.strip_suffix('/').unwrap_or(steps));
    // What is there can be a file of another name (proc(5): `root`, `cwd`, `fd`).
    let leads_on = ["/proc", "/dev/fd"].iter().any(|folder| {
        path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    steps.filter(|_| !leads_on).is_some_and(|steps| {
        path == "/" || steps.split('/').all(|step| !["", ".", ".."].contains(&step))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_plain_where_it_has_one_name_alone() {
        for (path, plain) in [
            ("/etc/passwd", true),
            ("/etc/", true),
            ("/", true),
            ("etc/passwd", false),
            ("/tmp/../etc/passwd", false),
            ("/etc//passwd", false),
            ("/./etc", false),
            ("/proc", false),
            ("/proc/self/root/etc/shadow", false),
            ("/dev/fd/3", false),
            ("/dev/null", true),
            ("/process", true),
            ("", false),
            ("..", false),
        ] {
            assert_eq!(is_plain(path), plain, "{path}");
        }
    }

    #[test]
    fn what_a_program_names_is_found_and_the_rest_is_told() {
        let read = |line: &str| {
            let reading = chaperone_shell::read(line.as_bytes());
            let command = reading.commands.last().expect(line).clone();
            let mut statement = Statement::new("EXEC", command.rung, "");
            of(&command, &mut statement);
            let paths: Vec<String> = statement
                .paths
                .iter()
                .map(|one| {
                    format!("{:?} {}{}", one.access, one.path, if one.below { "/*" } else { "" })
                })
                .collect();
            (paths.join(", "), statement.other_files)
        };
        let (reads, writes) = (Some(Access::Read), Some(Access::Write));
        for (line, paths, others) in [
            ("cat /etc/shadow", "Read /etc/shadow/*", None),
            ("cat /srv/a b", "Read /srv/a/*", reads),
            ("cat a", "", reads),
            ("cat /srv/../etc/shadow", "", reads),
            ("cat /srv/$x", "", reads),
            ("cat /srv/*", "", reads),
            ("cat ~/a", "", reads),
            ("wc -l", "", None),
            ("ls", "", reads),
            ("ls -la /srv", "Read /srv/*", None),
            ("echo a /b", "", None),
            ("echo a > /srv/b", "Write /srv/b", None),
            ("echo a >> b", "", writes),
            ("echo a > /dev/null", "", None),
            ("wc -l < /srv/b", "Read /srv/b", None),
            ("cp /a /b", "Read /a/*, Write /a/*, Read /b/*, Write /b/*", None),
            ("rm -rf /srv", "Read /srv/*, Write /srv/*", None),
            ("rm -rf srv", "", writes),
            ("grep -f/etc/shadow x", "Read /etc/shadow/*", reads),
            ("grep --file=/etc/shadow /x", "Read /etc/shadow/*, Read /x/*", None),
            ("grep --file=shadow /x", "Read /x/*", reads),
            ("grep -fshadow /x", "Read /x/*", reads),
            ("diff --from-file=.ssh/id /x", "Read /x/*", reads),
            ("grep -f.ssh/id /x", "Read /x/*", reads),
            ("wc -l < /proc/self/root/etc/shadow", "", reads),
            ("sudo -u web cat /srv/a", "Read /srv/a/*", None),
            ("env A=b cat /srv/a", "Read /srv/a/*", None),
            ("sh -c 'cat /srv/a'", "Read /srv/a/*", None),
            ("ls | xargs cat", "", reads),
            ("xargs -a /srv/a echo", "", None),
            ("wc --files0-from=-", "", reads),
            ("mv -tb /srv/a", "Read /srv/a/*, Write /srv/a/*", writes),
            ("sudo -n wc --files0-from=/srv/a", "Read /srv/a/*", None),
        ] {
            assert_eq!(read(line), (paths.to_owned(), others), "{line}");
        }
    }
}
