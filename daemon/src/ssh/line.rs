//! What a command line that was read is to those who decide: a statement for each program that it runs,
//! so that what is said of one of them counts for the line.
//!
//! Does not belong here: reading the line (`chaperone_shell`, in a process of its own), and what rules
//! say.

use chaperone_model::{
    Access, Hides, ProgramUse, Rung, ShellCommand, ShellReading, Special, Statement,
};
use chaperone_shell::is_plain_locale;
use chaperone_wire::ssh::{Ask, Inner, scp};

use super::files;

/// Programs that only read, and show what they read by another program that takes orders where there
/// is a terminal.
const PAGED: [&str; 3] = ["git", "systemctl", "journalctl"];

/// Variables that a client may set without changing what programs do.
const HARMLESS: [&str; 8] = [
    "LANGUAGE",
    "TZ",
    "TERM",
    "COLORTERM",
    "NO_COLOR",
    "COLUMNS",
    "LINES",
    // git's client sets it: which version of git's protocol it speaks.
    "GIT_PROTOCOL",
];

/// What a line is.
pub(super) struct Line {
    pub(super) statements: Vec<Statement>,
    /// What is spoken on its channel.
    pub(super) inner: Inner,
}

/// A line as it would be run for this request.
pub(super) fn of(reading: &ShellReading, ask: &Ask) -> Line {
    let odd = odd_variable(ask);
    let has_terminal = ask.terminal.is_some();
    if let (Some(special), [command]) = (&reading.special, reading.commands.as_slice())
        && reading.unread.is_none()
        && odd.is_none()
        // A terminal changes some of the bytes: what would be read is not what the program gets.
        && !has_terminal
    {
        let (inner, statement) = of_special(special, command);
        return Line { statements: vec![statement], inner };
    }
    let mut statements: Vec<Statement> = odd.into_iter().collect();
    if let Some(why) = &reading.unread {
        statements.push(unread(why));
    }
    let does = |command: &&ShellCommand| {
        !command.written.is_empty() || !command.redirects.is_empty() || command.rung > Rung::Read
    };
    statements
        .extend(reading.commands.iter().filter(does).map(|one| of_command(one, has_terminal)));
    if has_terminal
        && (reading.unread.is_some()
            || reading.commands.iter().any(|one| one.hides == Hides::Programs))
    {
        let why = "it may be a shell, and what is typed into its terminal is not decided";
        statements
            .push(Statement { opaque: true, ..Statement::new("SHELL", Rung::Forbidden, why) });
    }
    // What its parts do not explain.
    if statements.iter().map(|one| one.rung).max().unwrap_or(Rung::Read) < reading.rung {
        statements.push(unread(&reading.reason));
    }
    if statements.is_empty() {
        statements.push(Statement::new("EXEC", Rung::Read, "it runs nothing"));
    }
    Line { statements, inner: Inner::Plain }
}

/// What a variable that the client sets may do to a program.
pub(super) fn odd_variable(ask: &Ask) -> Option<Statement> {
    // In some locales shells read texts otherwise.
    let is_plain = |name: &str, value: &str| {
        HARMLESS.contains(&name)
            || (name == "LANG" || name.starts_with("LC_")) && is_plain_locale(value)
    };
    let is_odd = |(name, value): &&(String, String)| !is_plain(name, value);
    let (name, _) = ask.environment.iter().find(is_odd)?;
    let name = name.escape_debug();
    let why = format!("the variable `{name}` that the client sets may change what programs do");
    Some(unread(&why))
}

/// A part of a line that may be anything.
fn unread(why: &str) -> Statement {
    Statement { opaque: true, ..Statement::new("EXEC", Rung::Destructive, why) }
}

fn of_command(command: &ShellCommand, has_terminal: bool) -> Statement {
    let is_paged = has_terminal && PAGED.contains(&command.program.as_str());
    let carries = ["sftp-server", "internal-sftp", "scp"].contains(&command.program.as_str());
    let mut statement = Statement::new("EXEC", command.rung, command.reason.as_str());
    statement.opaque = command.hides > Hides::Nothing;
    if has_terminal && (statement.opaque || is_paged) {
        statement.opaque = true;
        statement.rung = statement.rung.max(Rung::Destructive);
        statement.reason = format!("{}, and it has a terminal", command.reason);
        if is_paged {
            statement.reason += " in which a pager takes orders";
        }
    } else if carries && statement.rung < Rung::Destructive {
        // What it carries is read where it stands alone.
        statement.opaque = true;
        statement.rung = Rung::Destructive;
        statement.reason = "what it is told over its channel is not read here".into();
    }
    statement.program = program(command);
    files::of(command, &mut statement);
    statement
}

fn program(command: &ShellCommand) -> Option<Box<ProgramUse>> {
    (!command.written.is_empty()).then(|| {
        Box::new(ProgramUse {
            name: command.program.clone(),
            arguments: command.arguments.clone(),
            context: command.context.clone(),
            hides: command.hides,
        })
    })
}

fn of_special(special: &Special, command: &ShellCommand) -> (Inner, Statement) {
    let carried = |kind: &str, why: &str| Statement::new(kind, Rung::Read, why);
    let plain = |kind: &str| Statement::new(kind, command.rung, command.reason.as_str());
    let (inner, mut statement, paths, access) = match special {
        Special::SftpServer => {
            let statement = carried("SFTP", "its operations are decided one by one");
            (Inner::Sftp, statement, None, Access::Read)
        }
        Special::ScpTo { .. } | Special::ScpFrom { .. } => {
            let direction = if matches!(special, Special::ScpTo { .. }) {
                scp::Direction::ToTarget
            } else {
                scp::Direction::FromTarget
            };
            let statement = carried("SCP", "the files that it carries are decided one by one");
            (Inner::Scp(direction), statement, None, Access::Read)
        }
        // With `--remove-source-files` the sender removes what it has sent.
        Special::RsyncSender { paths } if command.rung > Rung::Read => {
            (Inner::Plain, plain("RSYNC READ"), Some(paths.as_slice()), Access::Write)
        }
        Special::RsyncSender { paths } => {
            (Inner::Plain, plain("RSYNC READ"), Some(paths.as_slice()), Access::Read)
        }
        Special::RsyncReceiver { paths, .. } => {
            (Inner::Plain, plain("RSYNC WRITE"), Some(paths.as_slice()), Access::Write)
        }
        Special::GitRead { repository } => {
            let paths = std::slice::from_ref(repository);
            (Inner::Plain, plain("GIT READ"), Some(paths), Access::Read)
        }
        Special::GitWrite { repository } => {
            let paths = std::slice::from_ref(repository);
            (Inner::Plain, plain("GIT WRITE"), Some(paths), Access::Write)
        }
    };
    for path in paths.into_iter().flatten() {
        files::name(path, access, &mut statement);
    }
    statement.program = program(command);
    (inner, statement)
}

#[cfg(test)]
mod tests;
