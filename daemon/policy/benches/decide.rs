//! What it costs to decide a statement that has been read, with twenty rules.
//!
//! `cargo bench -p chaperone-policy`

use chaperone_model::{
    Access, AgentName, CommandKind, Identity, QualifiedName, Reading, Relation, Run, Rung,
    Statement, TargetName,
};
use chaperone_policy::{
    Asked, Fallback, Mode, Moment, NameGlob, Policy, Rule, Then, Verdict, When,
};
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

fn policy() -> Policy {
    let target = TargetName("prod".into());
    let rules = (0..20).map(|number| Rule {
        name: format!("rule {number}").into(),
        when: When {
            targets: vec![target.clone()],
            classes: if number % 2 == 0 { vec![Rung::Destructive] } else { Vec::new() },
            relations: vec![NameGlob::new(&format!("public.secret_{number}*"))],
            ..When::default()
        },
        then: Then::Deny(None),
    });
    Policy::new(String::new(), [(target.clone(), Fallback::Allow, Mode::Enforce)], rules.collect())
}

#[divan::bench]
fn twenty_rules_that_do_not_match(bencher: Bencher<'_, '_>) {
    let policy = policy();
    let target = TargetName("prod".into());
    let identity = Identity {
        agent: AgentName("cleaner".into()),
        version: None,
        run: Run { name: "r".into(), unit: None, container: None, image: None },
        lineage: [].into(),
        comm: String::new(),
        doubts: Vec::new(),
    };
    let relation = |name: &str| Relation {
        name: QualifiedName { schema: None, name: name.into() },
        access: Access::Read,
    };
    let statement = Statement {
        relations: vec![relation("orders"), relation("customers")],
        ..Statement::new("SELECT", Rung::Read, "it only reads")
    };
    let reading = Reading { statements: vec![statement], disagreement: None };
    bencher.bench(|| {
        let decision = policy.decide(black_box(&Asked {
            target: &target,
            identity: &identity,
            database: Some("shop"),
            user: Some("app"),
            kind: CommandKind::Query,
            reading: Some(&reading),
            search_path: None,
            moment: Moment { weekday: 1, minute: 600 },
            rate: 0,
        }));
        assert!(matches!(decision.verdict, Verdict::Allow(_)));
    });
}
