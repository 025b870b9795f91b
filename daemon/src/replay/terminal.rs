//! A session as lines and tables of a terminal.
//!
//! Does not belong here: how fast.

use std::io::{self, Write};

use chaperone_audit::SessionRow;

use super::{
    Stage,
    moment::{Command, Moment, What},
};
use crate::show::{clean, printable, table};

/// Rows that are shown of a response; `log show` has all that are kept.
const ROWS: usize = 20;
/// Longest value in a table.
const VALUE: usize = 60;
/// How far everything stands in that belongs to a moment.
const MARGIN: &str = "             ";

pub(super) struct Screen<W>(W);

impl<W: Write> Screen<W> {
    pub(super) fn new(out: W) -> Self {
        Self(out)
    }

    /// A text of several lines, all of them behind the margin.
    fn lines(&mut self, text: &str) -> io::Result<()> {
        // What breaks a line for a terminal breaks it here, and nothing else does.
        text.split('\n').try_for_each(|line| writeln!(self.0, "{MARGIN}{}", printable(line)))
    }

    fn command(&mut self, command: &Command) -> io::Result<()> {
        let text = command.laid_out.as_ref().or(command.statement.as_ref());
        self.lines(text.map_or("(text not known)", String::as_str))?;
        if let Some(parameters) = &command.parameters {
            self.lines(&format!("with {}", clean(parameters)))?;
        }
        for word in &command.words {
            self.lines(&clean(word))?;
        }
        self.lines(&format!("→ {}", clean(&command.outcome)))?;
        if let Some(error) = &command.error {
            self.lines(&clean(error))?;
        }
        if let Some(notices) = &command.notices {
            self.lines(&format!("notices {}", clean(notices)))?;
        }
        self.rows(command)
    }

    fn rows(&mut self, command: &Command) -> io::Result<()> {
        if !command.rows.is_empty() {
            let head: Vec<String> = command.columns.iter().map(|name| short(name)).collect();
            let head: Vec<&str> = head.iter().map(String::as_str).collect();
            let mut table = table(&head);
            for row in command.rows.iter().take(ROWS) {
                table.add_row(row.iter().map(|cell| match cell {
                    None => "∅".to_owned(),
                    Some(text) => short(text),
                }));
            }
            self.lines(&table.to_string())?;
        }
        let kept = command.rows.len();
        if kept > ROWS {
            self.lines(&format!("({kept} rows are kept: `chaperone log show` has them)"))?;
        }
        match command.more {
            Some(total) => self.lines(&format!("({total} rows came back)")),
            None => Ok(()),
        }
    }
}

impl<W: Write> Stage for Screen<W> {
    fn begin(&mut self, session: &SessionRow) -> io::Result<()> {
        let version = session.agent_version.as_ref().map(|v| format!("@{v}")).unwrap_or_default();
        let mut line = |name: &str, text: &str| {
            if text.is_empty() { Ok(()) } else { writeln!(self.0, "{name:<12} {}", clean(text)) }
        };
        let some = |text: &Option<String>| text.clone().unwrap_or_default();
        line("session", &session.id.to_string())?;
        line("agent", &format!("{}{version}", session.agent))?;
        line("run", &some(&session.run))?;
        line("lineage", &some(&session.lineage))?;
        line("process", &format!("{} (uid {})", session.pid, session.uid))?;
        line("target", &format!("{} at {}", session.target, session.server))?;
        line("user", &some(&session.user))?;
        line("database", &some(&session.database))?;
        line("doubts", &some(&session.doubts))?;
        line("opened", &session.opened)
    }

    fn moment(&mut self, moment: &Moment) -> io::Result<()> {
        writeln!(self.0)?;
        let offset = offset(moment.offset_us);
        match &moment.what {
            What::Event { kind, detail } => {
                writeln!(self.0, "{offset:>12} {}: {}", clean(kind), clean(detail))?;
            }
            What::Command(command) => {
                let class = command.class.as_ref().map(|class| format!("{class}, "));
                let head =
                    format!("{}{} ({})", class.unwrap_or_default(), command.verdict, command.rule);
                writeln!(self.0, "{offset:>12} {}  {}", command.id, clean(&head))?;
                self.command(command)?;
            }
        }
        self.0.flush()
    }

    fn end(&mut self, session: &SessionRow) -> io::Result<()> {
        writeln!(self.0, "\n{}", clean(&ending(session)))?;
        self.0.flush()
    }
}

/// How a session ended, in a sentence.
pub(super) fn ending(session: &SessionRow) -> String {
    let Some(by) = &session.closed_by else {
        return "the session is open, as far as the log knows".into();
    };
    let closed = session.closed.as_deref().unwrap_or_default();
    let why = session.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
    format!("closed by the {by} at {closed}{why}")
}

/// `+1:02:03.456`.
pub(super) fn offset(us: i64) -> String {
    let sign = if us < 0 { '-' } else { '+' };
    let ms = us.unsigned_abs() / 1000;
    let (hours, minutes) = (ms / 3_600_000, ms / 60_000 % 60);
    let (seconds, ms) = (ms / 1000 % 60, ms % 1000);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}.{ms:03}"),
        (0, _) => format!("{sign}{minutes}:{seconds:02}.{ms:03}"),
        _ => format!("{sign}{hours}:{minutes:02}:{seconds:02}.{ms:03}"),
    }
}

fn short(text: &str) -> String {
    let text = clean(text);
    let mut short: String = text.chars().take(VALUE).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::tests::{hostile, item};

    fn shown(item: &crate::export::Item) -> String {
        let session = item.session.clone().expect("a session");
        let mut screen = Screen::new(Vec::new());
        screen.begin(&session).expect("shown");
        let opened = super::super::moment::micros(&session.opened);
        screen.moment(&Moment::command(item, opened)).expect("shown");
        screen.end(&session).expect("shown");
        String::from_utf8(screen.0).expect("text")
    }

    #[test]
    fn a_session_is_a_timeline() {
        let text = shown(&item());
        for part in [
            "agent        cleaner@1.4.2\n",
            "   +1:00.250 40  destructive, hold (destructive statements need a person)\n",
            "approved by ada at 2026-05-01T12:00:09.000000Z: ticket 12\n",
            "→ ok, DELETE 1, 1.5 ms\n",
            " ∅",
            "the session is open",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
    }

    #[test]
    fn p8_a_session_cannot_write_on_the_auditors_terminal() {
        let text = shown(&hostile());
        assert!(
            !text.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'),
            "{text}"
        );
        let head = |line: &str| line.starts_with(' ') || line.is_empty();
        let forged = text.lines().skip_while(|line| !line.is_empty()).filter(|line| !head(line));
        assert_eq!(forged.count(), 1, "only the last line begins at the margin: {text}");
    }

    #[test]
    fn offsets_are_short() {
        assert_eq!(offset(1_500_000), "+1.500");
        assert_eq!(offset(3_723_004_000), "+1:02:03.004");
        assert_eq!(offset(-1000), "-0.001");
    }
}
