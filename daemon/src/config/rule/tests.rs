use chaperone_model::{Rung, TargetName};
use chaperone_policy::Span;

use super::{
    super::{
        Config,
        tests::{GOOD, parse},
    },
    when::{days_of, span_of},
    *,
};

/// The good configuration with a rule of these lines; the first is line 19.
fn with_rule(lines: &str) -> Result<Config, String> {
    parse(&format!("{GOOD}[[rule]]\n{lines}\n"))
}

#[test]
fn every_mistake_in_a_rule_points_at_itself() {
    for (lines, place, why) in [
        ("name = ''\nthen = 'deny'", "19:8", "a rule's name is a short text"),
        ("name = 'a'", "19:8", "a rule says `then`"),
        ("name = 'a'\nthen = 'deny'\n[[rule]]\nname = 'a'", "22:8", "another rule named \"a\""),
        ("name = 'a'\nthen = 'drop'", "20:8", "\"drop\" is no verdict"),
        ("name = 'a'\nthne = 'deny'", "20:1", "did you mean `then`?"),
        ("name = 'a'\nthen = 'allow'\nmessage = 'x'", "21:11", "rules that say \"deny\" alone"),
        ("name = 'a'\nthen = 'deny'\nlimit = { rows = 1 }", "20:8", "either `then` or `limit`"),
        ("name = 'a'\nlimit = { }", "20:9", "say which"),
        ("name = 'a'\nlimit = { rows = 0 }", "20:9", "at least 1"),
        ("name = 'a'\nlimit = { session = 'long' }", "20:21", "no duration"),
        ("name = 'a'\nlimit = { rows = 1 }\nmessage = 'x'", "21:11", "has nothing of this"),
        (
            "name = 'a'\nwhen = { class = 'read' }\nlimit = { rows = 1 }",
            "21:9",
            "cannot speak of statements",
        ),
        ("name = 'a'\nthen = 'deny'\nquorum = 2", "21:10", "rules that say \"hold\" alone"),
        ("name = 'a'\nthen = 'hold'", "20:8", "who may approve it?"),
    ] {
        let error = with_rule(lines).expect_err(lines);
        assert!(error.starts_with(&format!("c.toml:{place}: ")), "{lines}: {error}");
        assert!(error.contains(why), "{lines}: {error}");
    }
}

#[test]
fn every_mistake_in_a_condition_points_at_itself() {
    for (when, column, why) in [
        ("agent = 'claener'", 18, "no agent named \"claener\""),
        ("agent = 'claener'", 18, "did you mean \"cleaner\"?"),
        ("agent = ['cleaner', 'x']", 18, "no agent named \"x\""),
        ("agent = []", 18, "an empty list matches nothing"),
        ("agent = 1", 18, "a text, or a list of texts"),
        ("agnet = 'cleaner'", 10, "did you mean `agent`?"),
        ("target = 'prd'", 19, "did you mean \"prod\"?"),
        ("class = 'reed'", 18, "\"reed\" is no class"),
        ("kind = ['DELETE', 'drop table']", 17, "server's tags: \"DROP TABLE\""),
        ("version = '>=one'", 20, "no range of versions"),
        ("doubt = 'exec'", 18, "\"exec\" is no doubt"),
        ("relation = 'a.b.c'", 21, "write \"name\" or \"schema.name\""),
        ("function = '.f'", 21, "is no name"),
        ("column = 'pan'", 19, "write \"relation.column\""),
        ("column = 'a.b.c.d'", 19, "is no column"),
        ("access = 'see'", 19, "use \"read\" or \"write\""),
        ("time = '9-17'", 17, "no time of the day"),
        ("time = ['09:00-17:00', '10:00-10:00']", 17, "\"10:00-10:00\" is no time"),
        ("days = 'mon-someday'", 17, "are no days"),
        ("program = 'rm -rf'", 20, "\"rm -rf\" is no program's name"),
        ("program = ['rm', '']", 20, "is no program's name"),
        ("argument = 1", 21, "a text, or a list of texts"),
        ("selective = 'yes'", 22, "invalid type"),
        ("rate = -1", 17, "invalid value"),
    ] {
        let error = with_rule(&format!("name = 'a'\nwhen = {{ {when} }}\nthen = 'deny'"));
        let error = error.expect_err(when);
        assert!(error.starts_with(&format!("c.toml:20:{column}: ")), "{when}: {error}");
        assert!(error.contains(why), "{when}: {error}");
    }
}

#[test]
fn every_mistake_in_the_terms_of_a_hold_points_at_itself() {
    let anna = "approvers = 'user:anna'";
    for (lines, place, why) in [
        ("approvers = ['dba']", "21:13", "\"dba\" names nobody"),
        ("approvers = []", "21:13", "nobody who could approve"),
        (&format!("{anna}\nquorum = 2"), "22:10", "a quorum is 1 to 1 different people"),
        (&format!("{anna}\nquorum = 0"), "22:10", "a quorum is 1 to 1 different people"),
        ("approvers = 'group:dba'\nquorum = 101", "22:10", "1 to 100"),
        (&format!("{anna}\ndeadline = '10'"), "22:12", "no duration"),
        (&format!("{anna}\ndeadline = '0s'"), "22:12", "out of range"),
        (&format!("{anna}\nlifetime = '169h'"), "22:12", "out of range"),
        (&format!("{anna}\nwait = 'go'"), "22:8", "use \"stay\" or \"retry\""),
        (&format!("{anna}\nbind = 'agent'"), "22:8", "use \"run\" or \"version\""),
        (&format!("{anna}\nuses = 0"), "22:8", "from 1 on, or \"any\""),
        (&format!("{anna}\nuses = 'many'"), "22:8", "from 1 on, or \"any\""),
    ] {
        let error = with_rule(&format!("name = 'a'\nthen = 'hold'\n{lines}"));
        let error = error.expect_err(lines);
        assert!(error.starts_with(&format!("c.toml:{place}: ")), "{lines}: {error}");
        assert!(error.contains(why), "{lines}: {error}");
    }
}

#[test]
fn terms_are_read_and_have_defaults() {
    let terms = |lines: &str| {
        let lines = format!("name = 'a'\nthen = 'hold'\napprovers = {lines}");
        let config = with_rule(&lines).expect(&lines);
        config.policy.rules()[0].terms().cloned().expect("it holds")
    };
    let (anna, dba) = (Approver::User("anna".into()), Approver::Group("dba".into()));
    let default = Terms {
        rule: "a".into(),
        approvers: vec![anna.clone()],
        deadline: DEADLINE,
        quorum: 1,
        wait: Wait::Stay,
        lifetime: LIFETIME,
        uses: Some(1),
        bind: Bind::Run,
        also: Vec::new(),
    };
    assert_eq!(*terms("'user:anna'"), default);
    let all = "['user:anna', 'group:dba', 'user:anna']\ndeadline = '1h'\nquorum = 2\nwait = 'retry'\nlifetime = '2m'\nuses = 'any'\nbind = 'version'";
    let expected = Terms {
        rule: "a".into(),
        approvers: vec![anna, dba],
        deadline: Duration::from_hours(1),
        quorum: 2,
        wait: Wait::Retry,
        lifetime: Duration::from_mins(2),
        uses: None,
        bind: Bind::Version,
        also: Vec::new(),
    };
    assert_eq!(*terms(all), expected);
}

#[test]
fn the_example_of_the_design_is_good() {
    let example = r#"
[daemon]
attach  = "auto"
listen  = 7400
control = "/run/chaperone/control.sock"
log     = "/var/lib/chaperone/log.sqlite"

[[agent]]
name     = "cleaner"
select   = { user = 64001 }
version  = { file = "/opt/cleaner/VERSION" }
binaries = "enrolled"

[[target]]
name       = "prod"
protocol   = "postgres"
address    = ["db.internal:5432", "10.0.0.0/24:5432"]
tls        = { mode = "verify-full", ca = "/etc/chaperone/prod-ca.pem" }
credential = { user = "app_rw", password = "systemd:prod-db" }
default    = "allow"

[[rule]]
name      = "destructive statements need a person"
when      = { target = "prod", class = "destructive" }
then      = "hold"
approvers = ["group:dba"]
deadline  = "10m"
"#;
    let config = parse(example).expect("good");
    let [rule] = config.policy.rules() else { panic!("{:?}", config.policy.rules()) };
    assert_eq!(&*rule.name, "destructive statements need a person");
    assert_eq!(rule.when.classes, [Rung::Destructive]);
    assert_eq!(rule.when.targets, [TargetName("prod".into())]);
    let terms = rule.terms().expect("it holds");
    assert_eq!(terms.deadline, Duration::from_mins(10));
    assert_eq!(terms.approvers, [Approver::Group("dba".into())]);
}

#[test]
fn days_and_times_are_read() {
    assert_eq!(days_of("mon-fri"), Some(vec![1, 2, 3, 4, 5]));
    assert_eq!(days_of("sat-mon"), Some(vec![6, 7, 1]));
    assert_eq!(days_of("sun"), Some(vec![7]));
    assert_eq!(days_of("someday"), None);
    assert_eq!(span_of("22:00-06:30"), Some(Span { from: 1320, until: 390 }));
    assert_eq!(span_of("00:00-24:00"), Some(Span { from: 0, until: 1440 }));
    for wrong in ["22-23", "25:00-26:00", "10:00", "10:00-10:00", "10:60-11:00"] {
        assert_eq!(span_of(wrong), None, "{wrong}");
    }
}
