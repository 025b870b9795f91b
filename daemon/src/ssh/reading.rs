//! What a command of an SSH session is: its kind, what it names, and how much it can do.
//!
//! Does not belong here: how a command line becomes programs (`line`), and what is decided.

use std::{rc::Rc, sync::Arc};

use chaperone_model::{
    Access, Command, CommandKind, PathUse, Reading, Rung, Seq, ShellReading, Statement,
};
use chaperone_wire::ssh::{Ask, Inner, Wanted, scp, shown};
use serde_json::json;
use sha2::Digest as _;

use super::{files::is_plain, line, recording::Origin};

/// What a command is, for those who decide and record.
pub(crate) struct Read {
    pub(crate) command: Command,
    pub(super) inner: Inner,
    /// What an approval of it is for.
    pub(super) digest: [u8; 32],
}

impl Read {
    /// Somebody reads what goes through the tunnel that it opens.
    pub(super) fn leads_to(&mut self, why: &str) {
        if let Some(reading) = &mut self.command.reading {
            for statement in &mut Arc::make_mut(reading).statements {
                why.clone_into(&mut statement.reason);
            }
        }
    }
}

/// The command that started another, as far as the session knows it.
pub(crate) struct Parent {
    pub(super) seq: Seq,
    pub(super) origin: Rc<Origin>,
}

/// What a command is. `read` is what was read out of its line, where it has one.
pub(crate) fn read(ask: &Ask, read: Option<&ShellReading>, parent: Option<&Parent>) -> Read {
    let one = |kind: &str, rung, reason: &str| Statement::new(kind, rung, reason);
    let by_name = |kind: &str, reason: &str| one(kind, Rung::Forbidden, reason);
    let mut inner = Inner::Plain;
    let mut others = Vec::new();
    let (kind, line, statement) = match &ask.wanted {
        Wanted::Exec { line: bytes } => {
            let not_read = || ShellReading::unreadable("what the line does is not read");
            let found = line::of(read.unwrap_or(&not_read()), ask);
            inner = found.inner;
            others = found.statements;
            (CommandKind::Exec, text(bytes), others.remove(0))
        }
        Wanted::Shell => (
            CommandKind::Shell,
            "shell".into(),
            Statement { opaque: true, ..by_name("SHELL", "what is typed into it is not decided") },
        ),
        Wanted::Subsystem { name } if name == b"sftp" => {
            inner = Inner::Sftp;
            others.extend(line::odd_variable(ask));
            let statement = one("SFTP", Rung::Read, "its operations are decided one by one");
            (CommandKind::Subsystem, "sftp".into(), statement)
        }
        Wanted::Subsystem { name } => (
            CommandKind::Subsystem,
            text(name),
            Statement {
                opaque: true,
                ..one("SUBSYSTEM", Rung::Destructive, "what it does is not read")
            },
        ),
        Wanted::Sftp { operation, .. } => {
            let (rung, reason) = operation.rung();
            let kind = format!("SFTP {}", operation.name().to_uppercase());
            let mut statement = one(&kind, rung, reason);
            statement.paths = operation
                .paths()
                .into_iter()
                .map(|(path, access)| PathUse { path: text(path), access, below: false })
                .collect();
            // Another file than it seems to be.
            statement.opaque |= statement.paths.iter().any(|one| !is_plain(&one.path));
            (CommandKind::Sftp, operation.to_string(), statement)
        }
        Wanted::Copy { operation, .. } => {
            let puts = operation.direction == scp::Direction::ToTarget;
            let mut statement = if puts && operation.mode & 0o6000 != 0 {
                let why = "it lets a program run with its owner's rights";
                one("SCP PUT", Rung::Destructive, why)
            } else if puts {
                one("SCP PUT", Rung::Write, "it writes a file that it names")
            } else {
                one("SCP GET", Rung::Read, "it only reads")
            };
            let access = if puts { Access::Write } else { Access::Read };
            let path = text(&operation.path);
            statement.paths.push(PathUse { path, access, below: false });
            // Where it begins, the command line says.
            statement.opaque = true;
            (CommandKind::Copy, operation.to_string(), statement)
        }
        Wanted::Forward { host, port } => (
            CommandKind::Forward,
            format!("forward to {}:{port}", shown(host.as_bytes())),
            by_name("FORWARD", "what goes through a tunnel is not decided"),
        ),
        Wanted::ForwardSocket { path } => (
            CommandKind::Forward,
            format!("forward to socket {}", shown(path)),
            by_name("FORWARD SOCKET", "what goes through a tunnel is not decided"),
        ),
        Wanted::Listen { address, port } => (
            CommandKind::Forward,
            format!("listen on {}:{port}", shown(address.as_bytes())),
            by_name("LISTEN", "what goes through a tunnel is not decided"),
        ),
        Wanted::ListenSocket { path } => (
            CommandKind::Forward,
            format!("listen on socket {}", shown(path)),
            by_name("LISTEN SOCKET", "what goes through a tunnel is not decided"),
        ),
        Wanted::X11 => (
            CommandKind::Forward,
            "forward X11".into(),
            by_name("X11", "programs at the target could use the agent's display"),
        ),
        Wanted::AgentForward => (
            CommandKind::Forward,
            "forward the ssh-agent".into(),
            by_name("AGENT", "programs at the target could use the agent's keys"),
        ),
    };
    let mut about = serde_json::Map::new();
    if let Some(parent) = parent {
        about.insert("in".into(), parent.seq.0.into());
        // Its paths begin where that one says.
        if matches!(ask.wanted, Wanted::Copy { .. }) {
            about.insert("of".into(), parent.origin.line.clone().into());
        }
    }
    if let Some(terminal) = &ask.terminal {
        let shown =
            json!({ "kind": terminal.kind, "columns": terminal.columns, "rows": terminal.rows });
        about.insert("terminal".into(), shown);
    }
    if !ask.environment.is_empty() {
        about.insert("environment".into(), json!(ask.environment));
    }
    let mut command = Command::new(kind, Some(line));
    command.parameters = (!about.is_empty()).then(|| serde_json::Value::from(about).to_string());
    let statements = std::iter::once(statement).chain(others).collect();
    command.reading = Some(Arc::new(Reading { statements, disagreement: None }));
    Read { command, inner, digest: digest(ask, parent.map(|parent| &*parent.origin)) }
}

/// Tells a command, and all that what it does depends on.
fn digest(ask: &Ask, parent: Option<&Origin>) -> [u8; 32] {
    let mut hash = sha2::Sha256::new();
    // A program can do more where it has a terminal.
    let has_terminal = ask.terminal.is_some();
    match &ask.wanted {
        Wanted::Sftp { operation, .. } => hash.update(format!("{operation:?}")),
        Wanted::Copy { operation, .. } => hash.update(format!("{operation:?}")),
        wanted => hash.update(format!("{wanted:?}")),
    }
    hash.update(format!("\0{:?}\0{has_terminal}", ask.environment));
    // Where a file goes is said by what carries it.
    hash.update(parent.map_or([0; 32], |parent| parent.digest));
    hash.finalize().into()
}

/// What a command is, for those that it starts.
pub(super) fn origin(ask: &Ask) -> Origin {
    let line = match &ask.wanted {
        Wanted::Exec { line } => text(line),
        _ => String::new(),
    };
    Origin { line, digest: digest(ask, None) }
}

fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.escape_ascii().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p1_an_approval_of_a_file_is_for_where_it_is_written() {
        let ask = |wanted| Ask {
            number: 1,
            wanted,
            objection: None,
            terminal: None,
            environment: Vec::new(),
        };
        let put = |line: &str, mode| {
            let parent = ask(Wanted::Exec { line: line.into() });
            let parent = Parent { seq: Seq(3), origin: Rc::new(origin(&parent)) };
            let operation = scp::Operation {
                direction: scp::Direction::ToTarget,
                path: b"x".to_vec(),
                found: scp::Found::File(100),
                mode,
                times: None,
            };
            read(&ask(Wanted::Copy { parent: 1, operation }), None, Some(&parent))
        };
        let one = put("scp -t /tmp", 0o644);
        assert_eq!(one.digest, put("scp -t /tmp", 0o644).digest);
        assert_ne!(one.digest, put("scp -t /etc/cron.d", 0o644).digest);
        let shown = one.command.parameters.as_deref().unwrap_or_default();
        assert!(shown.contains("scp -t /tmp"), "{shown}");
        let rung = |read: Read| read.command.reading.map(|reading| reading.rung());
        assert_eq!(rung(one), Some(Rung::Write));
        assert_eq!(rung(put("scp -t /tmp", 0o4755)), Some(Rung::Destructive));
    }
}
