//! Rules that speak of programs, their words and files: what holds of all of them. Tables of lines are
//! with the reader of lines' user.

use chaperone_model::{Hides, PathUse, ProgramUse, ShellWord};
use proptest::prelude::*;

use super::*;

fn any_word() -> impl Strategy<Value = ShellWord> {
    (prop::sample::select(vec!["-rf", "/srv/a", "x", "$x"]), any::<bool>())
        .prop_map(|(text, literal)| ShellWord { text: text.into(), literal })
}

fn any_program() -> impl Strategy<Value = ProgramUse> {
    (
        prop::sample::select(vec!["rm", "ls", "/opt/x", ""]),
        prop::collection::vec(any_word(), 0..3),
        prop::sample::select(vec![Hides::Nothing, Hides::Code, Hides::Programs]),
    )
        .prop_map(|(name, arguments, hides)| ProgramUse {
            name: name.into(),
            arguments,
            context: Vec::new(),
            hides,
        })
}

fn any_access() -> impl Strategy<Value = Access> {
    prop::sample::select(vec![Access::Read, Access::Write])
}

fn any_path() -> impl Strategy<Value = PathUse> {
    (prop::sample::select(vec!["/", "/srv", "/srv/a", "/etc/x"]), any_access(), any::<bool>())
        .prop_map(|(path, access, below)| PathUse { path: path.into(), access, below })
}

fn any_line() -> impl Strategy<Value = Statement> {
    (
        prop::option::of(any_program()),
        prop::collection::vec(any_path(), 0..3),
        prop::option::of(any_access()),
        any::<bool>(),
    )
        .prop_map(|(program, paths, other_files, opaque)| Statement {
            opaque: opaque || program.as_ref().is_some_and(|one| one.hides > Hides::Nothing),
            program: program.map(Box::new),
            paths,
            other_files,
            ..of("EXEC", Rung::Write)
        })
}

fn any_when() -> impl Strategy<Value = When> {
    let globs =
        |texts: Vec<&str>| -> Vec<WildMatch> { texts.into_iter().map(WildMatch::new).collect() };
    (
        prop::sample::subsequence(vec!["rm", "l*", "/opt/*", "*"], 0..3),
        prop::sample::subsequence(vec!["-*", "/srv/*", "x"], 0..3),
        prop::sample::subsequence(vec!["/srv/*", "/etc/?", "*/a", "/"], 0..3),
        prop::option::of(any_access()),
    )
        .prop_map(move |(programs, arguments, paths, access)| When {
            programs: globs(programs),
            arguments: globs(arguments),
            paths: globs(paths),
            access,
            ..When::default()
        })
}

fn matches(when: &When, statement: &Statement, then: Then, fallback: Fallback) -> &'static str {
    let around = Around { kind: CommandKind::Exec, fallback, ..Around::default() };
    let reading = Reading { statements: vec![statement.clone()], disagreement: None };
    word(&around.decide(&[rule("r", then, when)], Some(&reading)).verdict)
}

proptest! {
    #[test]
    fn what_a_rule_of_programs_allows_it_would_also_deny(when in any_when(), line in any_line()) {
        let allows = matches(&when, &line, Then::Allow, Fallback::Deny) == "allow";
        let denies = matches(&when, &line, Then::Deny(None), Fallback::Allow) == "deny";
        prop_assert!(denies || !allows, "{when:?} {line:?}");
    }

    #[test]
    fn what_is_hidden_may_be_anything_and_surely_is_nothing(when in any_when(), line in any_line()) {
        let hidden = Statement { opaque: true, ..line };
        prop_assert_eq!(matches(&when, &hidden, Then::Deny(None), Fallback::Allow), "deny");
        let speaks = !when.paths.is_empty() || when.access.is_some();
        if speaks {
            prop_assert_eq!(matches(&when, &hidden, Then::Allow, Fallback::Deny), "deny");
        }
    }

    /// Another program in a line makes no rule that allows match.
    #[test]
    fn a_longer_line_is_not_laxer(when in any_when(), line in any_line(), other in any_line()) {
        let around =
            Around { kind: CommandKind::Exec, fallback: Fallback::Deny, ..Around::default() };
        let rules = [rule("r", Then::Allow, &when)];
        let decide = |statements: Vec<Statement>| {
            let reading = Reading { statements, disagreement: None };
            word(&around.decide(&rules, Some(&reading)).verdict)
        };
        if decide(vec![line.clone(), other]) == "allow" {
            prop_assert_eq!(decide(vec![line]), "allow");
        }
    }
}

#[test]
fn rules_of_programs_are_of_command_lines_alone() {
    let when = When { programs: vec![WildMatch::new("*")], ..When::default() };
    let opaque = opaque(of("SELECT", Rung::Write));
    for (kind, denied) in [
        (CommandKind::Exec, true),
        (CommandKind::Shell, true),
        (CommandKind::Subsystem, true),
        (CommandKind::Query, false),
        (CommandKind::Sftp, false),
        (CommandKind::Copy, false),
        (CommandKind::Forward, false),
    ] {
        let around = Around { kind, ..Around::default() };
        let reading = Reading { statements: vec![opaque.clone()], disagreement: None };
        let rules = [rule("r", Then::Deny(None), &when)];
        let found = word(&around.decide(&rules, Some(&reading)).verdict);
        assert_eq!(found == "deny", denied, "{kind:?}");
    }
}
