//! What holds of all rules and statements.

use proptest::prelude::*;

use super::*;

fn strictness(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Allow(_) => 0,
        Verdict::Hold(_) => 1,
        Verdict::Deny(_) => 2,
    }
}

fn any_rung() -> impl Strategy<Value = Rung> {
    prop::sample::select(vec![Rung::Read, Rung::Write, Rung::Destructive, Rung::Forbidden])
}

fn any_access() -> impl Strategy<Value = Access> {
    prop::sample::select(vec![Access::Read, Access::Write])
}

fn any_then() -> impl Strategy<Value = Then> {
    (0..4_u8).prop_map(|number| match number {
        0 => Then::Allow,
        1 => Then::Deny(None),
        2 => hold(),
        _ => limit(Some(0), None, None),
    })
}

fn any_when() -> impl Strategy<Value = When> {
    let names = ["orders", "public.orders", "app.*", "*"];
    (
        prop::collection::vec(any_rung(), 0..3),
        prop::sample::subsequence(vec!["SELECT", "D*", "unreadable"], 0..2),
        prop::sample::subsequence(names.to_vec(), 0..2),
        prop::sample::subsequence(names.to_vec(), 0..2),
        prop::sample::subsequence(vec!["orders.id", "public.*.id", "*.*"], 0..2),
        prop::option::of(any_access()),
        prop::option::of(any::<bool>()),
        prop::option::of(any::<bool>()),
    )
        .prop_map(
            |(classes, kinds, relations, functions, columns, access, selective, cascade)| When {
                classes,
                kinds: kinds.into_iter().map(WildMatch::new).collect(),
                relations: relations.into_iter().map(NameGlob::new).collect(),
                functions: functions.into_iter().map(NameGlob::new).collect(),
                columns: columns.into_iter().filter_map(ColumnGlob::new).collect(),
                access,
                selective,
                cascade,
                ..When::default()
            },
        )
}

fn any_rules() -> impl Strategy<Value = Vec<Rule>> {
    let one = (any_then(), any_when()).prop_map(|(then, when)| rule("r", then, &when));
    prop::collection::vec(one, 0..6)
}

fn any_statement() -> impl Strategy<Value = Statement> {
    let relations = vec!["read orders", "write public.orders", "read app.users"];
    (
        any_rung(),
        prop::sample::select(vec!["SELECT", "DELETE", "unreadable"]),
        prop::sample::subsequence(relations, 0..3),
        prop::sample::subsequence(vec!["orders.id", "id", "*", "app.users.name"], 0..3),
        prop::sample::subsequence(vec!["app.f", "orders"], 0..2),
        prop::option::of(any::<bool>()),
        any::<(bool, bool)>(),
    )
        .prop_map(
            |(rung, kind, relations, columns, functions, selective, (cascade, opaque))| Statement {
                rung,
                kind: kind.into(),
                functions: calling(&functions).functions,
                selective,
                cascade,
                opaque,
                ..with_columns(touching(&relations), &columns)
            },
        )
}

proptest! {
    #[test]
    fn the_order_of_rules_changes_no_verdict(
        (rules, shuffled) in any_rules().prop_flat_map(|rules| {
            (Just(rules.clone()), Just(rules).prop_shuffle())
        }),
        statements in prop::collection::vec(any_statement(), 0..4),
        deny in any::<bool>(),
    ) {
        let fallback = if deny { Fallback::Deny } else { Fallback::Allow };
        let around = Around { fallback, ..Around::default() };
        let reading = reading(&statements);
        let one = around.decide(&rules, Some(&reading));
        let other = around.decide(&shuffled, Some(&reading));
        prop_assert_eq!(word(&one.verdict), word(&other.verdict));
        prop_assert_eq!(one.statement, other.statement);
    }

    /// A hold may lift what is denied where no rule matches, or where none names the class
    /// forbidden: that is what such rules are for.
    #[test]
    fn a_further_strict_rule_makes_nothing_laxer(
        rules in any_rules(),
        when in any_when(),
        statements in prop::collection::vec(any_statement(), 0..4),
        at in any::<prop::sample::Index>(),
        (deny, fallback) in any::<(bool, bool)>(),
    ) {
        let mut when = when;
        if !deny {
            when.classes.retain(|class| *class != Rung::Forbidden);
        }
        let fallback = if deny && fallback { Fallback::Deny } else { Fallback::Allow };
        let around = Around { fallback, ..Around::default() };
        let reading = reading(&statements);
        let before = around.decide(&rules, Some(&reading)).verdict;
        let mut more = rules;
        let then = if deny { Then::Deny(None) } else { hold() };
        more.insert(at.index(more.len() + 1), rule("more", then, &when));
        let after = around.decide(&more, Some(&reading)).verdict;
        prop_assert!(strictness(&after) >= strictness(&before), "{before:?} {after:?}");
    }

    #[test]
    fn what_a_rule_allows_it_would_also_deny(when in any_when(), statement in any_statement()) {
        let found = Around::default().matches(&when, &statement);
        prop_assert!(["no", "perhaps", "surely"].contains(&found), "{found}");
    }
}
