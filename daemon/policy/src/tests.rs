//! Tables of rules, statements and circumstances. What holds of all of them is in `properties`.

use std::time::Duration;

use chaperone_model::{
    Access, AgentName, Column, Doubt, QualifiedName, Relation, Run, Version, VersionSource,
};

use super::*;

mod programs;
mod properties;

fn identity() -> Identity {
    Identity {
        agent: AgentName("cleaner".into()),
        version: None,
        run: Run { name: "run-1".into(), unit: None, container: None, image: None },
        lineage: [].into(),
        comm: "psql".into(),
        doubts: Vec::new(),
    }
}

/// The circumstances of a command: Wednesday noon, on the target prod.
struct Around {
    target: TargetName,
    identity: Identity,
    database: Option<&'static str>,
    user: Option<&'static str>,
    kind: CommandKind,
    path: Option<Vec<String>>,
    moment: Moment,
    rate: u64,
    fallback: Fallback,
    mode: Mode,
}

impl Default for Around {
    fn default() -> Self {
        Self {
            target: TargetName("prod".into()),
            identity: identity(),
            database: None,
            user: None,
            kind: CommandKind::Query,
            path: None,
            moment: Moment { weekday: 3, minute: 12 * 60 },
            rate: 1,
            fallback: Fallback::Allow,
            mode: Mode::Enforce,
        }
    }
}

impl Around {
    fn policy(&self, rules: &[Rule]) -> Policy {
        let target = (TargetName("prod".into()), self.fallback, self.mode);
        Policy::new("hash".into(), [target], rules.to_vec())
    }

    fn decide(&self, rules: &[Rule], reading: Option<&Reading>) -> Decision {
        self.policy(rules).decide(&Asked {
            target: &self.target,
            identity: &self.identity,
            database: self.database,
            user: self.user,
            kind: self.kind,
            reading,
            search_path: self.path.as_deref(),
            moment: self.moment,
            rate: self.rate,
        })
    }

    /// The verdict, its rule, and the statement that it comes from.
    fn says(&self, rules: &[Rule], statements: &[Statement]) -> (&'static str, String, usize) {
        let decision = self.decide(rules, Some(&reading(statements)));
        let statement = decision.statement.unwrap_or(usize::MAX);
        (word(&decision.verdict), decision.rule.to_string(), statement)
    }

    /// How far conditions match: a rule that denies tells whether perhaps, one that allows whether
    /// surely.
    fn matches(self, when: &When, statement: &Statement) -> &'static str {
        let statements = std::slice::from_ref(statement);
        let may = self.says(&[rule("r", Then::Deny(None), when)], statements).1 == "r";
        let denied = Self { fallback: Fallback::Deny, ..self };
        let surely = denied.says(&[rule("r", Then::Allow, when)], statements).1 == "r";
        match (may, surely) {
            (false, false) => "no",
            (true, false) => "perhaps",
            (true, true) => "surely",
            (false, true) => "allows what it would not deny",
        }
    }
}

fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Allow(_) => "allow",
        Verdict::Deny(_) => "deny",
        Verdict::Hold(_) => "hold",
    }
}

fn rule(name: &str, then: Then, when: &When) -> Rule {
    Rule { name: name.into(), when: when.clone(), then }
}

fn hold() -> Then {
    Then::Hold(Arc::new(Terms {
        rule: "held".into(),
        approvers: vec![Approver::User("anna".into())],
        deadline: Duration::from_mins(1),
        quorum: 1,
        wait: Wait::Stay,
        lifetime: Duration::from_mins(1),
        uses: Some(1),
        bind: Bind::Run,
        also: Vec::new(),
    }))
}

fn limit(statements: Option<u64>, rows: Option<u64>, session: Option<u64>) -> Then {
    Then::Limit { statements, rows, session: session.map(Duration::from_secs) }
}

fn reading(statements: &[Statement]) -> Reading {
    Reading { statements: statements.to_vec(), disagreement: None }
}

fn of(kind: &str, rung: Rung) -> Statement {
    Statement::new(kind, rung, "it is so")
}

fn qualified(text: &str) -> QualifiedName {
    let (schema, name) = text.split_once('.').map_or((None, text), |(s, n)| (Some(s.into()), n));
    QualifiedName { schema, name: name.into() }
}

/// `read orders`, `write public.orders`.
fn touching(names: &[&str]) -> Statement {
    let relation = |text: &&str| match text.split_once(' ') {
        Some(("write", name)) => Relation { name: qualified(name), access: Access::Write },
        Some((_, name)) => Relation { name: qualified(name), access: Access::Read },
        None => panic!("{text}"),
    };
    Statement { relations: names.iter().map(relation).collect(), ..of("SELECT", Rung::Read) }
}

/// With columns: `orders.id`, `public.orders.id`, or `id` of whichever relation.
fn with_columns(statement: Statement, columns: &[&str]) -> Statement {
    let column = |text: &&str| {
        let (relation, name) =
            text.rsplit_once('.').map_or((None, *text), |(r, n)| (Some(qualified(r)), n));
        Column { relation, name: name.into(), access: Access::Read }
    };
    Statement { columns: columns.iter().map(column).collect(), ..statement }
}

fn calling(names: &[&str]) -> Statement {
    let functions = names.iter().map(|name| qualified(name)).collect();
    Statement { functions, ..of("SELECT", Rung::Read) }
}

fn opaque(statement: Statement) -> Statement {
    Statement { opaque: true, ..statement }
}

fn class(classes: &[Rung]) -> When {
    When { classes: classes.to_vec(), ..When::default() }
}

fn relation(globs: &[&str]) -> When {
    When { relations: globs.iter().map(|glob| NameGlob::new(glob)).collect(), ..When::default() }
}

fn column(glob: &str) -> When {
    When { columns: ColumnGlob::new(glob).into_iter().collect(), ..When::default() }
}

fn function(glob: &str) -> When {
    When { functions: vec![NameGlob::new(glob)], ..When::default() }
}

fn access(access: Access, when: When) -> When {
    When { access: Some(access), ..when }
}

const ANY: fn() -> When = When::default;

#[test]
fn the_strictest_rule_holds_whatever_the_order() {
    let (allow, deny) = (rule("a", Then::Allow, &ANY()), rule("d", Then::Deny(None), &ANY()));
    let held = rule("h", hold(), &ANY());
    let around = Around::default();
    for (rules, verdict, name) in [
        (vec![&allow, &held, &deny], "deny", "d"),
        (vec![&deny, &held, &allow], "deny", "d"),
        (vec![&held, &allow], "hold", "h"),
        (vec![&allow, &held], "hold", "h"),
        (vec![&allow], "allow", "a"),
        (vec![], "allow", "default of target prod"),
    ] {
        let rules: Vec<Rule> = rules.into_iter().cloned().collect();
        let says = around.says(&rules, &[of("SELECT", Rung::Read)]);
        assert_eq!(says, (verdict, name.into(), 0));
    }
}

#[test]
fn of_several_statements_the_strictest_decides() {
    let rules = [
        rule("h", hold(), &class(&[Rung::Write])),
        rule("d", Then::Deny(Some("no".into())), &class(&[Rung::Destructive])),
    ];
    let (read, write) = (of("SELECT", Rung::Read), of("INSERT", Rung::Write));
    let (drop, copy) = (of("DROP TABLE", Rung::Destructive), of("COPY", Rung::Forbidden));
    for (statements, expected) in [
        (vec![&read, &write, &drop, &read], ("deny", "d", 2)),
        (vec![&drop, &write], ("deny", "d", 0)),
        (vec![&read, &write, &write], ("hold", "h", 1)),
        (vec![&read, &read], ("allow", "default of target prod", 0)),
        (vec![&read, &copy, &drop], ("deny", "forbidden unless a rule allows it", 1)),
        (vec![], ("allow", "default of target prod", usize::MAX)),
    ] {
        let statements: Vec<Statement> = statements.into_iter().cloned().collect();
        let (verdict, name, index) = Around::default().says(&rules, &statements);
        assert_eq!((verdict, name.as_str(), index), expected);
    }
    let decision = Around::default().decide(&rules, Some(&reading(&[drop])));
    assert!(matches!(decision.verdict, Verdict::Deny(Some(words)) if &*words == "no"));
}

#[test]
fn what_is_forbidden_passes_only_by_a_rule_that_names_it() {
    let forbidden = class(&[Rung::Forbidden]);
    let of_copy = When { kinds: vec![WildMatch::new("COPY")], ..forbidden.clone() };
    let of_load = When { kinds: vec![WildMatch::new("LOAD")], ..forbidden.clone() };
    let built_in = "forbidden unless a rule allows it";
    for (rules, verdict, name) in [
        (vec![], "deny", built_in),
        (vec![rule("a", Then::Allow, &ANY())], "deny", built_in),
        (vec![rule("h", hold(), &ANY())], "deny", built_in),
        (vec![rule("d", Then::Deny(None), &ANY())], "deny", "d"),
        (vec![rule("f", Then::Allow, &forbidden)], "allow", "f"),
        (vec![rule("f", hold(), &of_copy)], "hold", "f"),
        (vec![rule("f", Then::Allow, &of_load)], "deny", built_in),
        (vec![rule("f", Then::Allow, &of_copy), rule("h", hold(), &ANY())], "hold", "h"),
        (vec![rule("f", Then::Allow, &of_copy), rule("d", Then::Deny(None), &ANY())], "deny", "d"),
    ] {
        let says = Around::default().says(&rules, &[of("COPY", Rung::Forbidden)]);
        assert_eq!(says, (verdict, name.into(), 0), "{rules:?}");
    }
}

#[test]
fn what_nobody_could_read_is_destructive_and_may_be_anything() {
    let kind = |kind: &str| When { kinds: vec![WildMatch::new(kind)], ..ANY() };
    for (when, denied, allowed) in [
        (class(&[Rung::Destructive]), "deny", "allow"),
        (class(&[Rung::Read]), "allow", "deny"),
        (relation(&["public.orders"]), "deny", "deny"),
        (column("orders.id"), "deny", "deny"),
        (function("f"), "deny", "deny"),
        (kind("DROP *"), "deny", "deny"),
        (kind("unreadable"), "deny", "allow"),
        (access(Access::Write, ANY()), "deny", "deny"),
        (When { selective: Some(false), ..ANY() }, "deny", "deny"),
        (When { selective: Some(true), ..ANY() }, "allow", "deny"),
        (When { cascade: Some(true), ..ANY() }, "deny", "deny"),
    ] {
        let strict = Around { fallback: Fallback::Deny, ..Around::default() };
        for reading in [None, Some(Reading::unreadable("it is garbled"))] {
            let deny = [rule("r", Then::Deny(None), &when)];
            let verdict = Around::default().decide(&deny, reading.as_ref()).verdict;
            assert_eq!(word(&verdict), denied, "{when:?}");
            let allow = [rule("r", Then::Allow, &when)];
            let verdict = strict.decide(&allow, reading.as_ref()).verdict;
            assert_eq!(word(&verdict), allowed, "{when:?}");
        }
    }
}

#[test]
fn cancelling_is_no_unreadable_statement() {
    let around = Around { kind: CommandKind::Cancel, ..Around::default() };
    let destructive = rule("d", Then::Deny(None), &class(&[Rung::Destructive]));
    assert_eq!(word(&around.decide(&[destructive], None).verdict), "allow");
    let all = rule("d", Then::Deny(None), &ANY());
    assert_eq!(word(&around.decide(&[all], None).verdict), "deny");
}

#[test]
fn relations_match_by_schema_and_name() {
    let path = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect());
    for (globs, statement, search, expected) in [
        (&["public.orders"][..], touching(&["read public.orders"]), None, "surely"),
        (&["public.orders"], touching(&["read app.orders"]), None, "no"),
        (&["public.orders"], touching(&["read orders"]), None, "perhaps"),
        (&["public.orders"], touching(&["read orders"]), path(&["public"]), "perhaps"),
        (&["public.orders"], touching(&["read orders"]), path(&["app"]), "no"),
        (&["pg_catalog.*"], touching(&["read pg_authid"]), path(&["public"]), "perhaps"),
        (&["pg_temp.t"], touching(&["read t"]), path(&["public"]), "perhaps"),
        (&["orders"], touching(&["read orders"]), None, "surely"),
        (&["orders"], touching(&["read app.orders"]), None, "surely"),
        (&["*.orders"], touching(&["read orders"]), None, "surely"),
        (&["public.*"], touching(&["read public.x"]), None, "surely"),
        (&["order*"], touching(&["read orders_2024"]), None, "surely"),
        (&["Orders"], touching(&["read orders"]), None, "no"),
        (&["orders"], touching(&["read orders", "read secrets"]), None, "perhaps"),
        (&["orders", "secrets"], touching(&["read orders", "read secrets"]), None, "surely"),
        (&["orders"], touching(&[]), None, "no"),
        (&["orders"], opaque(touching(&["read orders"])), None, "perhaps"),
        (&["orders"], opaque(touching(&["read x"])), None, "perhaps"),
        (&["orders"], opaque(touching(&[])), None, "perhaps"),
        (&["*"], opaque(touching(&["read x"])), None, "perhaps"),
    ] {
        let around = Around { path: search, ..Around::default() };
        assert_eq!(around.matches(&relation(globs), &statement), expected, "{globs:?}");
    }
    // A person is asked where a denial would apply.
    let held = [rule("h", hold(), &relation(&["public.orders"]))];
    assert_eq!(Around::default().says(&held, &[touching(&["read orders"])]).0, "hold");
}

#[test]
fn columns_match_by_their_relation() {
    let orders = || touching(&["read public.orders"]);
    let both = || touching(&["read public.orders", "read app.users"]);
    for (glob, statement, expected) in [
        ("orders.pan", with_columns(orders(), &["public.orders.pan"]), "surely"),
        ("public.orders.pan", with_columns(orders(), &["public.orders.pan"]), "surely"),
        ("public.orders.pan", with_columns(orders(), &["orders.pan"]), "perhaps"),
        ("orders.pan", with_columns(orders(), &["public.orders.id"]), "no"),
        ("orders.pan", with_columns(both(), &["users.pan"]), "no"),
        ("orders.pan", with_columns(both(), &["orders.pan", "users.id"]), "perhaps"),
        ("orders.pan", with_columns(orders(), &["orders.*"]), "perhaps"),
        ("orders.pan", with_columns(orders(), &["*"]), "perhaps"),
        ("orders.pan", with_columns(both(), &["users.*"]), "no"),
        ("orders.pan", with_columns(both(), &["pan"]), "perhaps"),
        ("orders.pan", with_columns(touching(&["read app.users"]), &["pan"]), "no"),
        ("orders.pan", with_columns(touching(&[]), &["pan"]), "perhaps"),
        ("orders.pan", orders(), "no"),
        ("orders.pan", opaque(orders()), "perhaps"),
        ("*.pan", with_columns(both(), &["users.pan"]), "surely"),
        ("*.cards.pan", with_columns(touching(&["read x.cards"]), &["x.cards.pan"]), "surely"),
    ] {
        assert_eq!(Around::default().matches(&column(glob), &statement), expected, "{glob}");
    }
    assert!(ColumnGlob::new("pan").is_none());
}

#[test]
fn p5_a_pattern_tells_in_which_schemas_it_means_columns() {
    let is_in = |glob: &str, schema: &str| ColumnGlob::new(glob).expect("one").is_in(schema);
    assert!(is_in("apart.people.*", "apart") && !is_in("apart.people.*", "other"));
    assert!(is_in("a*.people.name", "also") && !is_in("a*.people.name", "other"));
    assert!(is_in("*.people.*", "other") && is_in("people.name", "other"));
}

#[test]
fn what_is_done_to_a_whole_relation_is_done_to_its_columns() {
    use Access::{Read, Write};
    let changed = || touching(&["write public.orders"]);
    let kind = |kind: &str, statement| Statement { kind: kind.into(), ..statement };
    let writes = |name: &str, statement: Statement| {
        let relation = Some(qualified("public.orders"));
        let column = Column { relation, name: name.into(), access: Write };
        Statement { columns: [statement.columns, vec![column]].concat(), ..statement }
    };
    let pan = || column("public.orders.pan");
    for (when, statement, expected) in [
        (pan(), kind("COPY", touching(&["read public.orders"])), "perhaps"),
        (pan(), kind("COPY", touching(&["read orders"])), "perhaps"),
        (pan(), kind("COPY", touching(&["read app.users"])), "no"),
        (pan(), kind("COPY", with_columns(touching(&["read orders"]), &["orders.id"])), "no"),
        (pan(), kind("INSERT", changed()), "perhaps"),
        (pan(), kind("INSERT", writes("id", changed())), "no"),
        (pan(), kind("INSERT", writes("pan", changed())), "surely"),
        (pan(), kind("DELETE", with_columns(changed(), &["public.orders.id"])), "perhaps"),
        (pan(), kind("DELETE", with_columns(changed(), &["public.orders.pan"])), "perhaps"),
        (pan(), kind("UPDATE", writes("id", changed())), "no"),
        (access(Read, pan()), kind("DELETE", changed()), "no"),
        (access(Write, pan()), kind("TRUNCATE TABLE", changed()), "perhaps"),
        (access(Write, pan()), kind("COPY", touching(&["read public.orders"])), "no"),
    ] {
        assert_eq!(Around::default().matches(&when, &statement), expected, "{statement:?}");
    }
}

#[test]
fn access_goes_with_what_it_is_asked_of() {
    use Access::{Read, Write};
    let mixed = || touching(&["read public.orders", "write app.log"]);
    let id = |statement| with_columns(statement, &["orders.id"]);
    for (when, statement, expected) in [
        (access(Read, ANY()), touching(&["read a.b"]), "surely"),
        (access(Write, ANY()), touching(&["read a.b"]), "no"),
        (access(Read, ANY()), mixed(), "perhaps"),
        (access(Write, ANY()), mixed(), "perhaps"),
        (access(Write, ANY()), opaque(touching(&["read a.b"])), "perhaps"),
        (access(Read, ANY()), of("DROP DATABASE", Rung::Destructive), "no"),
        (access(Write, relation(&["orders"])), mixed(), "no"),
        (access(Read, relation(&["orders"])), mixed(), "perhaps"),
        (access(Read, relation(&["orders"])), touching(&["read public.orders"]), "surely"),
        (access(Read, column("orders.id")), id(touching(&["read orders"])), "surely"),
        (access(Write, column("orders.id")), id(touching(&["read orders"])), "no"),
    ] {
        assert_eq!(Around::default().matches(&when, &statement), expected, "{when:?}");
    }
}

#[test]
fn bounds_cascades_kinds_and_functions() {
    let delete = |selective| Statement { selective, ..of("DELETE", Rung::Write) };
    let drop = |cascade| Statement { cascade, ..of("DROP TABLE", Rung::Destructive) };
    let selective = |asked| When { selective: Some(asked), ..ANY() };
    let cascade = |asked| When { cascade: Some(asked), ..ANY() };
    let kind = |glob: &str| When { kinds: vec![WildMatch::new(glob)], ..ANY() };
    for (when, statement, expected) in vec![
        (selective(true), delete(Some(true)), "surely"),
        (selective(true), delete(Some(false)), "no"),
        (selective(false), delete(Some(false)), "surely"),
        (selective(false), of("SELECT", Rung::Read), "no"),
        (selective(true), of("SELECT", Rung::Read), "no"),
        (selective(false), opaque(of("CALL", Rung::Destructive)), "perhaps"),
        (selective(false), opaque(delete(Some(true))), "perhaps"),
        (selective(true), opaque(delete(Some(true))), "perhaps"),
        (cascade(true), drop(true), "surely"),
        (cascade(true), drop(false), "no"),
        (cascade(false), drop(false), "surely"),
        (cascade(false), drop(true), "no"),
        (cascade(true), opaque(drop(false)), "perhaps"),
        (cascade(false), opaque(drop(false)), "perhaps"),
        (kind("DROP *"), drop(false), "surely"),
        (kind("DROP *"), of("DROP", Rung::Destructive), "no"),
        (kind("*"), of("SELECT", Rung::Read), "surely"),
        (kind("DELETE"), of("SELECT", Rung::Read), "no"),
        (function("pg_sleep"), calling(&["pg_sleep"]), "surely"),
        (function("pg_*"), calling(&["pg_sleep", "lower"]), "perhaps"),
        (function("pg_catalog.pg_sleep"), calling(&["pg_sleep"]), "perhaps"),
        (function("pg_catalog.pg_sleep"), calling(&["app.pg_sleep"]), "no"),
        (function("pg_sleep"), calling(&[]), "no"),
        (function("pg_sleep"), opaque(calling(&[])), "perhaps"),
        (class(&[Rung::Read, Rung::Write]), delete(None), "surely"),
        (class(&[Rung::Read]), delete(None), "no"),
    ] {
        assert_eq!(Around::default().matches(&when, &statement), expected, "{when:?}");
    }
}

#[test]
fn versions_are_those_that_are_known() {
    use VersionSource::{Configuration, Package, Said};
    let range = |text: &str| Versions::Range(text.parse().expect("a range"));
    for (asked, version, expected) in [
        (range(">=1.4, <2"), Some(("1.4.2", Configuration)), "surely"),
        (range(">=1.4, <2"), Some(("1.4", Configuration)), "surely"),
        (range(">=1.4, <2"), Some(("1", Configuration)), "no"),
        (range(">=1.4, <2"), Some(("v1.4.2", Configuration)), "surely"),
        (range(">=1.4, <2"), Some(("2.0.0", Configuration)), "no"),
        (range(">=1.4, <2"), Some(("nightly", Configuration)), "perhaps"),
        (range(">=1.4, <2"), Some(("1.4.2-1", Package)), "perhaps"),
        (range(">=1.4, <2"), Some(("2.1.0-1", Package)), "no"),
        (range(">=1.4, <2"), Some(("1.4.2", Said)), "perhaps"),
        (range(">=1.4, <2"), Some(("2.0.0", Said)), "perhaps"),
        (range(">=1.4, <2"), None, "perhaps"),
        (Versions::Exactly("nightly".into()), Some(("nightly", Configuration)), "surely"),
        (Versions::Exactly("nightly".into()), Some(("nightly2", Configuration)), "no"),
        (Versions::Exactly("nightly".into()), Some(("nightly", Said)), "perhaps"),
    ] {
        let found = version.map(|(text, source)| Version { text: text.into(), source });
        let identity = Identity { version: found, ..identity() };
        let when = When { versions: vec![asked], ..ANY() };
        let around = Around { identity, ..Around::default() };
        let statement = of("SELECT", Rung::Read);
        assert_eq!(around.matches(&when, &statement), expected, "{version:?} {when:?}");
    }
}

#[test]
fn who_asks_and_where() {
    let globs = |text: &str| vec![WildMatch::new(text)];
    let agent = |name: &str| When { agents: vec![AgentName(name.into())], ..ANY() };
    let target = |name: &str| When { targets: vec![TargetName(name.into())], ..ANY() };
    let database = |text: &str| When { databases: globs(text), ..ANY() };
    let user = |text: &str| When { users: globs(text), ..ANY() };
    let run = |text: &str| When { runs: globs(text), ..ANY() };
    let enrolled = |asked| When { enrolled: Some(asked), ..ANY() };
    let doubt = |kind| When { doubts: vec![kind], ..ANY() };
    let stray = Doubt::Unenrolled { path: "/x".into(), digest: None, script: false };
    for (when, doubts, expected) in [
        (agent("cleaner"), vec![], "surely"),
        (agent("other"), vec![], "no"),
        (target("prod"), vec![], "surely"),
        (target("test"), vec![], "no"),
        (database("app_*"), vec![], "surely"),
        (database("test"), vec![], "no"),
        (user("rw"), vec![], "perhaps"),
        (run("run-*"), vec![], "surely"),
        (run("run-2"), vec![], "no"),
        (enrolled(true), vec![], "surely"),
        (enrolled(false), vec![], "no"),
        (enrolled(true), vec![stray.clone()], "no"),
        (enrolled(false), vec![stray.clone()], "surely"),
        (enrolled(false), vec![Doubt::Cut], "no"),
        (doubt("unenrolled"), vec![Doubt::Cut, stray], "surely"),
        (doubt("unenrolled"), vec![Doubt::Cut], "no"),
        (doubt("cut"), vec![], "no"),
    ] {
        let identity = Identity { doubts, ..identity() };
        let around = Around { identity, database: Some("app_1"), ..Around::default() };
        assert_eq!(around.matches(&when, &of("SELECT", Rung::Read)), expected, "{when:?}");
    }
    let around = Around { target: TargetName("unknown".into()), ..Around::default() };
    let says = around.says(&[rule("a", Then::Allow, &ANY())], &[of("SELECT", Rung::Read)]);
    assert_eq!(says, ("deny", "unknown target".into(), usize::MAX));
}

#[test]
fn times_go_over_midnight_and_rates_are_exceeded() {
    let time = |from, until| When { times: vec![Span { from, until }], ..ANY() };
    let days = |days: &[u8]| When { days: days.to_vec(), ..ANY() };
    let rate = |most| When { rate: Some(most), ..ANY() };
    for (when, weekday, minute, expected) in [
        (time(1320, 360), 3, 1319, "no"),
        (time(1320, 360), 3, 1320, "surely"),
        (time(1320, 360), 3, 0, "surely"),
        (time(1320, 360), 3, 359, "surely"),
        (time(1320, 360), 3, 360, "no"),
        (time(540, 1020), 3, 540, "surely"),
        (time(540, 1020), 3, 1020, "no"),
        (time(0, 1440), 3, 1439, "surely"),
        (days(&[1, 2, 3, 4, 5]), 5, 0, "surely"),
        (days(&[1, 2, 3, 4, 5]), 6, 0, "no"),
        (rate(9), 3, 0, "surely"),
        (rate(10), 3, 0, "no"),
    ] {
        let moment = Moment { weekday, minute };
        let around = Around { moment, rate: 10, ..Around::default() };
        assert_eq!(around.matches(&when, &of("SELECT", Rung::Read)), expected, "{when:?}");
    }
}

#[test]
fn limits_count_and_the_strictest_holds() {
    let other = When { agents: vec![AgentName("other".into())], ..ANY() };
    let rules = [
        rule("wide", limit(Some(100), Some(1000), Some(60)), &ANY()),
        rule("rows", limit(None, Some(10), None), &ANY()),
        rule("long", limit(None, None, Some(3600)), &ANY()),
        rule("other", limit(Some(1), Some(1), Some(1)), &other),
        rule(
            "unknown user",
            limit(None, Some(500), Some(30)),
            &When { users: vec![WildMatch::new("rw")], ..ANY() },
        ),
    ];
    let limits = |mode, target: &str, user| {
        let around = Around { mode, ..Around::default() };
        around.policy(&rules).limits(&TargetName(target.into()), &identity(), None, user)
    };
    let of = |rows: (u64, &str), session: (u64, &str)| Limits {
        rows: Some((rows.0, rows.1.into())),
        session: Some((Duration::from_secs(session.0), session.1.into())),
    };
    let enforced = limits(Mode::Enforce, "prod", Some("ro"));
    assert_eq!(enforced, of((10, "rows"), (60, "wide")));
    let unknown = limits(Mode::Enforce, "prod", None);
    assert_eq!(unknown, of((10, "rows"), (30, "unknown user")), "it may apply");
    assert_eq!(limits(Mode::Observe, "prod", None), Limits::default());
    assert_eq!(limits(Mode::Enforce, "nowhere", None), Limits::default());

    let read = Statement::new("SELECT", Rung::Read, "it is so");
    for (rate, verdict) in [(100, "allow"), (101, "deny")] {
        let around = Around { rate, ..Around::default() };
        assert_eq!(around.says(&rules, std::slice::from_ref(&read)).0, verdict, "{rate}");
    }
}

#[test]
fn the_rate_is_counted_only_where_a_rule_asks() {
    for (then, when, expected) in [
        (Then::Allow, ANY(), false),
        (limit(None, Some(1), None), ANY(), false),
        (limit(Some(1), None, None), ANY(), true),
        (Then::Allow, When { rate: Some(1), ..ANY() }, true),
    ] {
        let policy = Around::default().policy(&[rule("r", then, &when)]);
        assert_eq!(policy.needs_rate(), expected, "{:?}", policy.rules());
    }
}

#[test]
fn an_observed_target_is_told_what_would_be() {
    let around = Around { mode: Mode::Observe, ..Around::default() };
    for (then, would) in [
        (Then::Allow, None),
        (Then::Deny(None), Some(VerdictKind::WouldDeny)),
        (hold(), Some(VerdictKind::WouldHold)),
    ] {
        let statements = reading(&[of("SELECT", Rung::Read)]);
        let decision = around.decide(&[rule("r", then, &ANY())], Some(&statements));
        assert_eq!((word(&decision.verdict), decision.would), ("allow", would));
        assert_eq!((&*decision.rule, decision.statement), ("r", Some(0)));
    }
}

#[test]
fn p2_what_is_denied_anyway_is_not_asked_about_where_a_rule_only_may_match() {
    let rules = [rule("ask", hold(), &relation(&["public.orders"]))];
    let denying = || Around { fallback: Fallback::Deny, ..Around::default() };
    let verdict = |around: Around, names: &str| around.says(&rules, &[touching(&[names])]).0;
    assert_eq!(verdict(Around::default(), "read orders"), "hold");
    assert_eq!(verdict(denying(), "read orders"), "deny");
    assert_eq!(verdict(denying(), "read public.orders"), "hold");
    let named = When { classes: vec![Rung::Forbidden], ..relation(&["public.orders"]) };
    let rules = [rule("ask", hold(), &named)];
    let forbidden = |names: &str| Statement { rung: Rung::Forbidden, ..touching(&[names]) };
    let verdict = |names: &str| Around::default().says(&rules, &[forbidden(names)]).0;
    assert_eq!((verdict("read orders"), verdict("read public.orders")), ("deny", "hold"));
}

#[test]
fn p1_all_who_are_asked_about_a_part_of_it_are_asked() {
    let when = |glob: &str| relation(&[glob]);
    let rules =
        [rule("a", hold(), &when("small")), rule("b", hold(), &class(&[Rung::Destructive]))];
    let panels = |statements: &[Statement]| match Around::default()
        .decide(&rules, Some(&reading(statements)))
        .verdict
    {
        Verdict::Hold(terms) => terms.panels().count(),
        other => panic!("{other:?}"),
    };
    let (small, big) = (touching(&["write small"]), of("DROP TABLE", Rung::Destructive));
    assert_eq!(panels(std::slice::from_ref(&small)), 1);
    assert_eq!(panels(&[small.clone(), big.clone()]), 2);
    assert_eq!(panels(&[big.clone(), small.clone(), big]), 2, "each once");
    let both = Statement { rung: Rung::Destructive, ..small };
    assert_eq!(panels(&[both]), 2);
}
