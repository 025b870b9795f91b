//! What is gathered while a line is walked through.

use std::collections::BTreeSet;

use brush_parser::{Parser, ParserOptions};
use chaperone_model::{Rung, ShellCommand, ShellReading};

use crate::{bounds, special};

/// Lines in lines: `sh -c "sh -c …"`, `$(…)`.
const DEPTH: usize = 8;
/// Commands of a line.
const COMMANDS: usize = 1000;

/// Reads a whole line.
pub(crate) fn read(text: &str) -> ShellReading {
    let mut trace = Trace::default();
    trace.line(text, &[]);
    let special = special::of(&mut trace);
    let reason = match (trace.reason.take(), trace.commands.is_empty()) {
        (Some(reason), _) => reason,
        (None, true) => "it runs nothing".into(),
        (None, false) => "all that it runs only reads".into(),
    };
    let Trace { commands, rung, unread, .. } = trace;
    ShellReading { commands, rung, reason, special, unread }
}

/// See the module's comment.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) commands: Vec<ShellCommand>,
    pub(crate) rung: Rung,
    /// Of what is on that rung first.
    pub(crate) reason: Option<String>,
    /// Why it may run more than what is gathered.
    pub(crate) unread: Option<String>,
    /// Names of functions that the line defines.
    pub(crate) functions: BTreeSet<String>,
    depth: usize,
    /// Whether what is walked through is run once, whatever else happens, and by the line's own shell.
    pub(crate) certain: bool,
    /// Whether there is more than simple commands in a row: then the line is nothing special.
    pub(crate) compound: bool,
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            commands: Vec::new(),
            rung: Rung::Read,
            reason: None,
            unread: None,
            functions: BTreeSet::new(),
            depth: 0,
            certain: false,
            compound: false,
        }
    }
}

impl Trace {
    /// Reads a line, or one that another line runs.
    pub(crate) fn line(&mut self, text: &str, context: &[String]) {
        if self.depth >= DEPTH {
            return self.raise(format!("more than {DEPTH} lines stand in one another"));
        }
        if let Some(why) = bounds::refused(text) {
            return self.raise(why);
        }
        let options = ParserOptions::default();
        let parsed = Parser::new(text.as_bytes(), &options).parse_program();
        match parsed {
            Ok(program) => {
                self.depth += 1;
                let certain = std::mem::take(&mut self.certain);
                self.program(&program, context);
                self.certain = certain;
                self.depth -= 1;
            }
            Err(error) => {
                self.raise(format!("it is not a line that the shell's grammar takes: {error}"));
            }
        }
    }

    /// Something is not understood, or can do anything.
    pub(crate) fn raise(&mut self, why: impl Into<String>) {
        let why = why.into();
        self.unread.get_or_insert_with(|| why.clone());
        self.count(Rung::Destructive, why);
    }

    /// Something does this much.
    pub(crate) fn count(&mut self, rung: Rung, why: impl Into<String>) {
        if rung > self.rung {
            self.rung = rung;
            self.reason = Some(why.into());
        }
    }

    /// A command that the line can run.
    pub(crate) fn add(&mut self, command: ShellCommand) {
        let name = if command.program.is_empty() { &command.written } else { &command.program };
        self.count(command.rung, format!("`{}`: {}", name.escape_debug(), command.reason));
        if self.commands.len() < COMMANDS {
            self.commands.push(command);
        } else {
            self.raise(format!("it runs more than {COMMANDS} commands"));
        }
    }
}
