//! The walk over the grammar's tree: every part of it in which a command or a word can stand.

use brush_parser::ast::{
    AndOr, AssignmentName, AssignmentValue, BinaryPredicate, Command, CommandPrefixOrSuffixItem,
    CompoundCommand, CompoundList, CompoundListItem, ExtendedTestExpr, IoFileRedirectKind,
    IoFileRedirectTarget, IoRedirect, Pipeline, ProcessSubstitutionKind, Program, RedirectList,
    SeparatorOperator, SimpleCommand, SubshellCommand, UnaryPredicate,
};
use chaperone_model::{ShellRedirect, ShellRedirectKind, ShellWord};

use crate::{
    runs::{Input, Setting},
    trace::Trace,
    words::{self, Word},
};

const DIFFERENT: &str = "shells read a part of it differently";

impl Trace {
    pub(crate) fn program(&mut self, program: &Program, context: &[String]) {
        for list in &program.complete_commands {
            for item in &list.0 {
                self.certain = context.is_empty()
                    && matches!(item.1, SeparatorOperator::Sequence)
                    && item.0.additional.is_empty()
                    && matches!(item.0.first.seq.as_slice(), [Command::Function(_)]);
                self.and_or(item, context, &Input::Inherited);
                self.certain = false;
            }
        }
    }

    fn list(&mut self, list: &CompoundList, context: &[String], input: &Input) {
        for item in &list.0 {
            self.and_or(item, context, input);
        }
    }

    fn and_or(&mut self, item: &CompoundListItem, context: &[String], input: &Input) {
        self.pipeline(&item.0.first, context, input);
        for next in &item.0.additional {
            let (AndOr::And(pipeline) | AndOr::Or(pipeline)) = next;
            self.pipeline(pipeline, context, input);
        }
    }

    fn pipeline(&mut self, pipeline: &Pipeline, context: &[String], input: &Input) {
        for (number, command) in pipeline.seq.iter().enumerate() {
            let input = if number == 0 { input } else { &Input::Pipe };
            self.command(command, context, input);
        }
    }

    fn command(&mut self, command: &Command, context: &[String], input: &Input) {
        match command {
            Command::Simple(simple) => self.simple(simple, context, input),
            Command::Compound(compound, redirects) => {
                let input = self.redirected(redirects.as_ref(), context, input);
                // Each of its commands takes a part.
                let input = if matches!(input, Input::Text(_)) { Input::Pipe } else { input };
                self.compound(compound, context, &input);
            }
            Command::Function(function) => {
                self.compound = true;
                let name = function.fname.value.as_str();
                let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
                if !plain || name.starts_with(|c: char| c.is_ascii_digit()) {
                    self.raise("it defines a function whose name shells read differently");
                } else if crate::programs::is_known(name) {
                    self.raise("it defines a function by the name of a program");
                } else if std::mem::take(&mut self.certain) {
                    self.functions.insert(name.to_owned());
                }
                let input = self.redirected(function.body.1.as_ref(), context, &Input::Inherited);
                self.compound(&function.body.0, &inside(context, "function"), &input);
            }
            Command::ExtendedTest(test, redirects) => {
                self.compound = true;
                self.redirected(redirects.as_ref(), context, input);
                self.test(&test.expr, context);
            }
        }
    }

    fn compound(&mut self, compound: &CompoundCommand, context: &[String], input: &Input) {
        self.compound = true;
        match compound {
            CompoundCommand::BraceGroup(group) => self.list(&group.list, context, input),
            CompoundCommand::Subshell(shell) => self.list(&shell.list, context, input),
            CompoundCommand::ForClause(clause) => {
                self.variable(&clause.variable_name);
                for value in clause.values.iter().flatten() {
                    self.word(&value.value, context);
                }
                self.list(&clause.body.list, context, input);
            }
            CompoundCommand::CaseClause(clause) => {
                self.word(&clause.value.value, context);
                for case in &clause.cases {
                    for pattern in &case.patterns {
                        self.word(&pattern.value, context);
                    }
                    if let Some(list) = &case.cmd {
                        self.list(list, context, input);
                    }
                }
            }
            CompoundCommand::IfClause(clause) => {
                self.list(&clause.condition, context, input);
                self.list(&clause.then, context, input);
                for part in clause.elses.iter().flatten() {
                    if let Some(condition) = &part.condition {
                        self.list(condition, context, input);
                    }
                    self.list(&part.body, context, input);
                }
            }
            CompoundCommand::WhileClause(clause) | CompoundCommand::UntilClause(clause) => {
                self.list(&clause.0, context, input);
                self.list(&clause.1.list, context, input);
            }
            CompoundCommand::Coprocess(process) => {
                self.raise(DIFFERENT);
                self.command(&process.body, &inside(context, "coproc"), input);
            }
            CompoundCommand::Arithmetic(_) => self.raise(DIFFERENT),
            CompoundCommand::ArithmeticForClause(clause) => {
                self.raise(DIFFERENT);
                self.list(&clause.body.list, context, input);
            }
        }
    }

    /// `[[ … ]]`: to a shell that does not know it, it is the name of a program, and what joins its
    /// parts joins commands.
    fn test(&mut self, test: &ExtendedTestExpr, context: &[String]) {
        match test {
            ExtendedTestExpr::And(one, two) | ExtendedTestExpr::Or(one, two) => {
                self.raise(DIFFERENT);
                self.test(one, context);
                self.test(two, context);
            }
            ExtendedTestExpr::Not(one) => self.test(one, context),
            ExtendedTestExpr::Parenthesized(one) => {
                self.raise(DIFFERENT);
                self.test(one, context);
            }
            ExtendedTestExpr::UnaryTest(predicate, word) => {
                // The name of an element of an array is evaluated.
                if matches!(
                    predicate,
                    UnaryPredicate::ShellVariableIsSetAndAssigned
                        | UnaryPredicate::ShellVariableIsSetAndNameRef
                ) {
                    self.raise(DIFFERENT);
                }
                self.word(&word.value, context);
            }
            ExtendedTestExpr::BinaryTest(predicate, one, two) => {
                if !matches!(
                    predicate,
                    BinaryPredicate::StringExactlyMatchesPattern
                        | BinaryPredicate::StringDoesNotExactlyMatchPattern
                        | BinaryPredicate::StringExactlyMatchesString
                        | BinaryPredicate::StringDoesNotExactlyMatchString
                        | BinaryPredicate::FilesReferToSameDeviceAndInodeNumbers
                        | BinaryPredicate::LeftFileIsNewerOrExistsWhenRightDoesNot
                        | BinaryPredicate::LeftFileIsOlderOrDoesNotExistWhenRightDoes
                ) {
                    self.raise("a test in it evaluates arithmetic, or shells read it differently");
                }
                self.word(&one.value, context);
                self.word(&two.value, context);
            }
        }
    }

    fn simple(&mut self, simple: &SimpleCommand, context: &[String], input: &Input) {
        let mut found = Vec::new();
        let mut setting =
            Setting { context: context.to_vec(), input: input.clone(), ..Setting::default() };
        let prefix = simple.prefix.iter().flat_map(|prefix| &prefix.0);
        for item in prefix {
            match item {
                CommandPrefixOrSuffixItem::AssignmentWord(assignment, _) => {
                    self.assignment(assignment, &mut setting);
                }
                CommandPrefixOrSuffixItem::IoRedirect(redirect) => {
                    self.redirect(redirect, &mut setting);
                }
                CommandPrefixOrSuffixItem::Word(word) => {
                    found.push(self.word(&word.value, context));
                }
                CommandPrefixOrSuffixItem::ProcessSubstitution(kind, shell) => {
                    found.push(self.process(kind, shell, context));
                }
            }
        }
        if let Some(name) = &simple.word_or_name {
            found.push(self.word(&name.value, context));
        }
        for item in simple.suffix.iter().flat_map(|suffix| &suffix.0) {
            match item {
                CommandPrefixOrSuffixItem::AssignmentWord(assignment, word) => {
                    // Behind the program's name it is a word; an array is one to bash alone.
                    if matches!(assignment.value, AssignmentValue::Array(_)) {
                        self.raise(DIFFERENT);
                    }
                    let mut word = self.word(&word.value, context);
                    // A tilde behind `=` counts for some programs.
                    word.literal &= !word.text.contains('~');
                    found.push(word);
                }
                CommandPrefixOrSuffixItem::IoRedirect(redirect) => {
                    self.redirect(redirect, &mut setting);
                }
                CommandPrefixOrSuffixItem::Word(word) => {
                    found.push(self.word(&word.value, context));
                }
                CommandPrefixOrSuffixItem::ProcessSubstitution(kind, shell) => {
                    found.push(self.process(kind, shell, context));
                }
            }
        }
        setting.direct = true;
        self.run(&found, setting);
    }

    fn assignment(&mut self, assignment: &brush_parser::ast::Assignment, setting: &mut Setting) {
        let context = setting.context.clone();
        let (AssignmentName::VariableName(name), AssignmentValue::Scalar(value), false) =
            (&assignment.name, &assignment.value, assignment.append)
        else {
            // To other shells this is the name of a program.
            return self.raise(DIFFERENT);
        };
        let value = words::value(&value.value);
        self.set(name, &value);
        self.inner(&value, &context);
        setting.assignments.push((name.clone(), shown(&value)));
    }

    /// A variable is set.
    pub(crate) fn variable(&mut self, name: &str) {
        if !crate::programs::is_harmless_variable(name) {
            self.raise(format!("it sets the variable `{name}`, which may change what programs do"));
        }
    }

    /// A variable is set to this.
    pub(crate) fn set(&mut self, name: &str, value: &Word) {
        self.variable(name);
        if crate::programs::is_locale(name)
            && !value.known().is_some_and(crate::programs::is_plain_locale)
        {
            self.raise(format!("it sets `{name}` to a locale in which texts may read differently"));
        }
    }

    /// Looks into a word, and reads the commands in it.
    pub(crate) fn word(&mut self, raw: &str, context: &[String]) -> Word {
        let word = words::word(raw);
        self.inner(&word, context);
        word
    }

    fn inner(&mut self, word: &Word, context: &[String]) {
        if let Some(trouble) = word.trouble {
            self.raise(trouble);
        }
        for command in &word.commands {
            self.compound = true;
            self.line(command, &inside(context, "$(…)"));
        }
    }

    fn process(
        &mut self,
        kind: &ProcessSubstitutionKind,
        shell: &SubshellCommand,
        context: &[String],
    ) -> Word {
        self.compound = true;
        let (name, input) = match kind {
            ProcessSubstitutionKind::Read => ("<(…)", Input::Inherited),
            ProcessSubstitutionKind::Write => (">(…)", Input::Pipe),
        };
        self.list(&shell.list, &inside(context, name), &input);
        Word { open: false, ..Word::unknown(name) }
    }

    /// What all commands in a compound one get.
    fn redirected(
        &mut self,
        redirects: Option<&RedirectList>,
        context: &[String],
        input: &Input,
    ) -> Input {
        let mut setting =
            Setting { context: context.to_vec(), input: input.clone(), ..Setting::default() };
        for redirect in redirects.iter().flat_map(|list| &list.0) {
            self.redirect(redirect, &mut setting);
        }
        if !setting.redirects.is_empty() {
            self.run(&[], Setting { input: Input::Inherited, ..setting.clone() });
        }
        setting.input
    }

    fn redirect(&mut self, redirect: &IoRedirect, setting: &mut Setting) {
        let context = setting.context.clone();
        let (kind, path) = match redirect {
            IoRedirect::HereDocument(number, document) => {
                let word = if document.requires_expansion {
                    words::document(&document.doc.value)
                } else {
                    Word::plain(document.doc.value.clone())
                };
                self.inner(&word, &context);
                if number.is_none_or(|number| number == 0) {
                    setting.input = Input::Text(word);
                }
                return;
            }
            IoRedirect::HereString(number, word) => {
                self.raise(DIFFERENT);
                let word = self.word(&word.value, &context);
                if number.is_none_or(|number| number == 0) {
                    setting.input = Input::Text(word);
                }
                return;
            }
            IoRedirect::OutputAndError(word, append) => {
                // Other shells run what is before it in the background.
                let kind =
                    if *append { ShellRedirectKind::Append } else { ShellRedirectKind::Write };
                (kind, self.word(&word.value, &context))
            }
            IoRedirect::File(number, kind, target) => {
                let of = match kind {
                    IoFileRedirectKind::Read | IoFileRedirectKind::DuplicateInput => {
                        ShellRedirectKind::Read
                    }
                    IoFileRedirectKind::Append | IoFileRedirectKind::ReadAndWrite => {
                        ShellRedirectKind::Append
                    }
                    IoFileRedirectKind::Write
                    | IoFileRedirectKind::Clobber
                    | IoFileRedirectKind::DuplicateOutput => ShellRedirectKind::Write,
                };
                let word = match target {
                    IoFileRedirectTarget::Filename(word) => self.word(&word.value, &context),
                    IoFileRedirectTarget::Fd(_) => return,
                    IoFileRedirectTarget::ProcessSubstitution(kind, shell) => {
                        self.process(kind, shell, &context);
                        if of == ShellRedirectKind::Read {
                            setting.input = Input::Pipe;
                        }
                        return;
                    }
                    IoFileRedirectTarget::Duplicate(word) => {
                        let word = self.word(&word.value, &context);
                        let stream = word.known().map(|text| text.trim_end_matches('-'));
                        if stream.is_some_and(|text| text.bytes().all(|b| b.is_ascii_digit())) {
                            if of == ShellRedirectKind::Read && number.is_none_or(|n| n == 0) {
                                setting.input = Input::Pipe;
                            }
                            return;
                        }
                        word
                    }
                };
                if of == ShellRedirectKind::Read && number.is_none_or(|number| number == 0) {
                    setting.input = Input::File;
                }
                (of, word)
            }
        };
        setting.redirects.push(ShellRedirect { path: shown(&path), kind });
    }
}

/// A word as it is told.
pub(crate) fn shown(word: &Word) -> ShellWord {
    ShellWord { text: word.text.clone(), literal: word.known().is_some() }
}

/// The context of what stands inside of it.
pub(crate) fn inside(context: &[String], name: &str) -> Vec<String> {
    let mut context = context.to_vec();
    context.push(name.to_owned());
    context
}
