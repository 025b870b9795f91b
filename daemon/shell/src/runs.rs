//! One program that is run, and what it runs in turn.

use chaperone_model::{Hides, Rung, ShellCommand, ShellRedirect, ShellRedirectKind, ShellWord};

use crate::{
    programs::{self, Then},
    trace::Trace,
    walk::{inside, shown},
    words::Word,
};

/// Where a program's standard input comes from.
#[derive(Clone, Debug, Default)]
pub(crate) enum Input {
    /// From where the line itself has it.
    #[default]
    Inherited,
    /// From another program, or from an open stream.
    Pipe,
    /// From a file.
    File,
    /// From the line.
    Text(Word),
}

/// What stands round a program's words.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setting {
    pub(crate) context: Vec<String>,
    pub(crate) input: Input,
    pub(crate) redirects: Vec<ShellRedirect>,
    pub(crate) assignments: Vec<(String, ShellWord)>,
    /// The shell runs it, and no other program: it may be a function.
    pub(crate) direct: bool,
}

impl Trace {
    /// A simple command. Without words it is one that only opens files and sets variables.
    pub(crate) fn run(&mut self, words: &[Word], setting: Setting) {
        let mut command = ShellCommand {
            program: String::new(),
            written: String::new(),
            arguments: Vec::new(),
            redirects: setting.redirects,
            assignments: setting.assignments,
            context: setting.context,
            hides: Hides::Nothing,
            rung: Rung::Read,
            reason: "it sets a variable of the shell".into(),
        };
        let Some((name, arguments)) = words.split_first() else {
            redirected(&mut command);
            return self.add(command);
        };
        command.written.clone_from(&name.text);
        command.arguments = arguments.iter().map(shown).collect();
        let Some(written) = name.known() else {
            command.rung = Rung::Destructive;
            command.reason = "the name of the program is not literal".into();
            command.hides = Hides::Programs;
            // What it is in bash is worth telling.
            if name.literal && name.trouble.is_some() {
                base(&name.text).clone_into(&mut command.program);
            }
            return self.add(command);
        };
        base(written).clone_into(&mut command.program);
        if setting.direct && self.functions.contains(written) {
            command.reason = "it is a function, whose commands count".into();
            redirected(&mut command);
            return self.add(command);
        }
        let judged = if is_standard(written) {
            programs::judge(&command.program, arguments, &setting.input)
        } else {
            // Another by that name stands somewhere else.
            written.clone_into(&mut command.program);
            programs::Judged::runs_code(programs::UNKNOWN)
        };
        command.rung = judged.rung;
        command.reason = judged.reason;
        command.hides = judged.hides;
        redirected(&mut command);
        let context = inside(&command.context, &judged.label.unwrap_or_else(|| written.to_owned()));
        let program = command.program.clone();
        if self.commands.len() >= 1000 {
            return self.add(command);
        }
        self.add(command);
        for then in judged.then {
            match then {
                Then::Run(words) if context.len() > 16 => {
                    drop(words);
                    self.raise("more than 16 programs run one another");
                }
                Then::Run(words) => {
                    let inner = Setting {
                        context: context.clone(),
                        input: setting.input.clone(),
                        ..Setting::default()
                    };
                    self.run(&words, inner);
                }
                Then::Line(text) => {
                    // Another shell has none of them.
                    let functions = std::mem::take(&mut self.functions);
                    self.line(&text, &context);
                    self.functions = functions;
                }
                Then::Sets(name, _) if self.functions.contains(&name) => {
                    self.raise(format!("`{program}` may take the function `{name}` away"));
                }
                Then::Sets(name, value) => match value {
                    Some(value) => self.set(&name, &value),
                    None => self.variable(&name),
                },
                Then::Defines(name) => self.raise(format!("`{program}` changes what `{name}` is")),
            }
        }
    }
}

/// The last part of a path.
fn base(written: &str) -> &str {
    written.rsplit('/').next().unwrap_or(written)
}

/// Whether a name is looked for where programs are, or names one there: another program by the same
/// name could be anything.
fn is_standard(written: &str) -> bool {
    let Some((folder, name)) = written.rsplit_once('/') else { return true };
    let folders = ["/bin", "/usr/bin", "/sbin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
    folders.contains(&folder) || programs::is_sftp_server(written) && name == "sftp-server"
}

/// Counts the files that it opens.
fn redirected(command: &mut ShellCommand) {
    for redirect in &command.redirects {
        let path = redirect.path.text.as_str();
        let (rung, reason) = if !redirect.path.literal {
            match redirect.kind {
                // It may name a connection: bash knows files for them.
                ShellRedirectKind::Read if path.starts_with(['$', '`']) => (
                    Rung::Destructive,
                    "the file that it reads may be a connection to another host",
                ),
                ShellRedirectKind::Read => continue,
                _ => (Rung::Destructive, "the file that it writes to is not literal"),
            }
        } else if programs::is_harmless_device(path) {
            continue;
        } else if path.starts_with("/dev/tcp/") || path.starts_with("/dev/udp/") {
            (Rung::Destructive, "it may connect to another host")
        } else if redirect.kind == ShellRedirectKind::Read {
            continue;
        } else if programs::is_of_the_system(path) {
            (Rung::Destructive, "it writes to a device or to what the system is made of")
        } else {
            (Rung::Write, "it writes to a file that it names")
        };
        if rung > command.rung {
            command.rung = rung;
            command.reason = reason.into();
        }
    }
}
