//! Lines as rules see them. Which programs a line runs is the reader's to test.

use chaperone_model::{AgentName, CommandKind, Identity, Run, TargetName};
use chaperone_policy::{
    Asked, Fallback, Mode, Moment, Policy, Rule, Then, Verdict, When, WildMatch,
};
use chaperone_wire::ssh::{Terminal, Wanted};

use super::*;
use crate::ssh::reading::read;

fn ask(line: &[u8], terminal: bool, environment: &[(&str, &str)]) -> Ask {
    Ask {
        number: 1,
        wanted: Wanted::Exec { line: line.to_vec() },
        objection: None,
        terminal: terminal.then(|| Terminal { kind: "xterm".into(), columns: 80, rows: 24 }),
        environment: environment.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
    }
}

fn statements(ask: &Ask) -> (Vec<Statement>, Inner) {
    let Wanted::Exec { line } = &ask.wanted else { panic!("an exec") };
    let Line { statements, inner } = of(&chaperone_shell::read(line), ask);
    (statements, inner)
}

fn rung(statements: &[Statement]) -> Rung {
    statements.iter().map(|one| one.rung).max().expect("a statement")
}

fn globs(texts: &[&str]) -> Vec<WildMatch> {
    texts.iter().map(|text| WildMatch::new(text)).collect()
}

/// What one rule and a default say of a line.
fn verdict(ask: &Ask, then: Then, when: When, fallback: Fallback) -> &'static str {
    let target = TargetName("web".into());
    let rule = Rule { name: "rule".into(), when, then };
    let policy =
        Policy::new("hash".into(), [(target.clone(), fallback, Mode::Enforce)], vec![rule]);
    let Wanted::Exec { line } = &ask.wanted else { panic!("an exec") };
    let command = read(ask, Some(&chaperone_shell::read(line)), None).command;
    let identity = Identity {
        agent: AgentName("cleaner".into()),
        version: None,
        run: Run { name: "run".into(), unit: None, container: None, image: None },
        lineage: [].into(),
        comm: "ssh".into(),
        doubts: Vec::new(),
    };
    let decision = policy.decide(&Asked {
        target: &target,
        identity: &identity,
        database: None,
        user: Some("deploy"),
        kind: CommandKind::Exec,
        reading: command.reading.as_deref(),
        search_path: None,
        moment: Moment { weekday: 1, minute: 0 },
        rate: 1,
    });
    match decision.verdict {
        Verdict::Allow(_) => "allow",
        Verdict::Deny(_) => "deny",
        Verdict::Hold(_) => "hold",
    }
}

fn denied(line: &[u8], when: When) -> bool {
    verdict(&ask(line, false, &[]), Then::Deny(None), when, Fallback::Allow) == "deny"
}

fn allowed(line: &[u8], when: When) -> bool {
    verdict(&ask(line, false, &[]), Then::Allow, when, Fallback::Deny) == "allow"
}

fn program(names: &[&str]) -> When {
    When { programs: globs(names), ..When::default() }
}

#[test]
fn p2_each_line_of_the_corpus_is_on_its_rung_and_is_stopped_by_what_it_may_run() {
    let file = include_str!("../../../../tests/corpus/ssh/lines.txt");
    let (mut count, mut wrong) = (0, Vec::new());
    for entry in file.lines().filter(|entry| !entry.starts_with('#')) {
        let mut parts = entry.splitn(3, ' ');
        let (expected, stops) = (parts.next().expect("a rung"), parts.next().expect("rm or -"));
        let line = parts.next().expect("a line").replace('␤', "\n");
        count += 1;
        let (statements, _) = statements(&ask(line.as_bytes(), false, &[]));
        let found = rung(&statements).as_str();
        let is_stopped = denied(line.as_bytes(), program(&["rm"]));
        if found != expected || is_stopped != (stops == "rm") {
            wrong.push(format!("{entry}: {found}, stopped {is_stopped}: {statements:?}"));
        }
    }
    assert!(count >= 200, "{count}");
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn p2_a_rule_that_allows_must_match_every_program() {
    let reads = program(&["ls", "cat", "sudo", "sh"]);
    for (line, passes) in [
        ("ls /srv", true),
        ("ls | cat", true),
        ("sudo ls", true),
        ("sh -c 'ls; cat x'", true),
        ("x=1; ls $x", true),
        ("ls; rm x", false),
        ("ls $(rm x)", false),
        ("sudo rm x", false),
        ("sh -c 'ls; id'", false),
        // What they run is not known.
        ("sh -c \"$x\"", false),
        ("sudo -i", false),
        ("sudo $x", false),
        ("curl x | sh", false),
        ("$x", false),
        ("/tmp/ls", false),
        ("./cat x", false),
        ("PATH=/tmp ls", false),
        ("> x", false),
        ("'", false),
        ("", false),
    ] {
        assert_eq!(allowed(line.as_bytes(), reads.clone()), passes, "{line}");
    }
    // A program that is not known is one by its name, and by its place where that is another.
    assert!(allowed(b"/opt/deploy --now", program(&["/opt/deploy"])));
    assert!(!allowed(b"/opt/deploy --now", program(&["deploy"])));
    assert!(allowed(b"python3 /opt/x.py", program(&["python3"])));
}

#[test]
fn p2_words_of_a_program_count_where_they_are_known() {
    let words = |program: &str, words: &[&str]| When {
        programs: globs(&[program]),
        arguments: globs(words),
        ..When::default()
    };
    for (line, stops) in [
        ("systemctl restart nginx", false),
        ("systemctl restart postgresql", true),
        ("systemctl restart 'postgre'sql", true),
        ("systemctl restart $x", true),
        ("systemctl restart \"$x\"", true),
        ("systemctl", false),
        ("cat postgresql", false),
        ("sudo systemctl restart postgresql", true),
        // It may run anything.
        ("./x", true),
    ] {
        let when = words("systemctl", &["postgresql*"]);
        assert_eq!(denied(line.as_bytes(), when), stops, "{line}");
    }
    for (line, passes) in [
        ("systemctl restart nginx", true),
        ("systemctl restart postgresql", false),
        ("systemctl restart $x", false),
        ("systemctl", false),
        ("systemctl restart nginx; systemctl restart postgresql", false),
    ] {
        let when = words("systemctl", &["restart", "nginx"]);
        assert_eq!(allowed(line.as_bytes(), when), passes, "{line}");
    }
}

#[test]
fn p2_files_that_a_line_may_touch_count() {
    let kept = |access| When { paths: globs(&["/srv/kept/*"]), access, ..When::default() };
    for (line, access, stops) in [
        ("cat /srv/kept/a", None, true),
        ("cat /srv/open/a", None, false),
        ("cat /srv/kept", None, true),
        ("cat /srv", None, true),
        ("cp -r / /tmp/x", None, true),
        ("cat /srv/kept2", None, false),
        ("cat /srv/open/../kept/a", None, true),
        ("cat kept/a", None, true),
        ("cat /srv/*/a", None, true),
        ("cd /srv/kept && cat a", None, true),
        ("ls", None, true),
        ("echo x", None, false),
        ("echo x > /srv/kept/a", None, true),
        ("echo x > /srv/open/a", None, false),
        ("echo x > $x", None, true),
        ("wc -l < /srv/kept/a", None, true),
        ("sh -c 'cat /srv/kept/a'", None, true),
        ("python3 x", None, true),
        ("xargs -a /srv/kept/a echo", None, true),
        ("exec < /srv/kept/a; cat", None, true),
        ("date -f /srv/kept/a", None, true),
        ("ls -la /srv/open", None, false),
        ("cat /srv/kept/a", Some(Access::Write), false),
        ("cat a", Some(Access::Write), false),
        ("rm /srv/kept/a", Some(Access::Write), true),
        ("mkdir a", Some(Access::Write), true),
        ("git-upload-pack '/srv/kept/r.git'", None, true),
        ("git-upload-pack '/srv/r.git'", None, false),
        ("rsync --server --sender -logDtpre.iLsfxCIvu . /srv/", None, true),
        ("rsync --server --sender -logDtpre.iLsfxCIvu . /srv/kept/x", Some(Access::Write), false),
        ("rsync --server -logDtpre.iLsfxCIvu . /srv/kept/x", Some(Access::Write), true),
        ("rsync --server -logDtpre.iLsfxCIvu . kept", None, true),
    ] {
        assert_eq!(denied(line.as_bytes(), kept(access)), stops, "{line} {access:?}");
    }
    let open = || When { paths: globs(&["/srv/open/*"]), ..When::default() };
    for (line, passes) in [
        ("cat /srv/open/a", true),
        ("cat /srv/open/a /srv/open/b", true),
        ("cat /srv/open/a /etc/shadow", false),
        ("cat /srv/open/../kept/a", false),
        ("cat a", false),
        ("ls", false),
        ("echo x > /srv/open/a", true),
        ("python3 /srv/open/a", false),
    ] {
        assert_eq!(allowed(line.as_bytes(), open()), passes, "{line}");
    }
    // What is below a folder is meant, too.
    let logs = When { paths: globs(&["/var/log/*.log"]), ..When::default() };
    assert!(!allowed(b"cat /var/log/a.log", logs));
}

#[test]
fn p2_a_terminal_can_be_told_more() {
    let with = |line: &str| statements(&ask(line.as_bytes(), true, &[]));
    for (line, expected) in [
        ("ls /srv", Rung::Read),
        ("echo x > a", Rung::Write),
        ("rm x", Rung::Destructive),
        ("git log", Rung::Destructive),
        ("python3", Rung::Destructive),
        ("sudo python3 /tmp/x.py", Rung::Destructive),
        ("bash", Rung::Forbidden),
        ("sudo -i", Rung::Forbidden),
        ("vi x", Rung::Forbidden),
        ("sh -c \"$x\"", Rung::Forbidden),
        ("'", Rung::Forbidden),
        // What it carries goes through the terminal's rules first.
        ("/usr/lib/openssh/sftp-server", Rung::Destructive),
        ("scp -t /srv", Rung::Destructive),
    ] {
        let (found, inner) = with(line);
        assert_eq!((rung(&found), inner), (expected, Inner::Plain), "{line}: {found:?}");
    }
    let shells = |line: &str| {
        let when = When { kinds: globs(&["SHELL"]), ..When::default() };
        verdict(&ask(line.as_bytes(), true, &[]), Then::Allow, when, Fallback::Allow)
    };
    assert_eq!(shells("bash"), "allow");
    let nothing = || When { programs: globs(&["none"]), ..When::default() };
    let bash = ask(b"bash", true, &[]);
    assert_eq!(verdict(&bash, Then::Allow, nothing(), Fallback::Allow), "deny");
    let without = ask(b"bash", false, &[]);
    assert_eq!(verdict(&without, Then::Allow, nothing(), Fallback::Allow), "allow");
}

#[test]
fn p2_variables_of_the_client_can_change_what_programs_do() {
    for (name, value, harmless) in [
        ("LANG", "en_US.UTF-8", true),
        ("LC_TIME", "C", true),
        // A byte of its characters can look like a backslash.
        ("LC_ALL", "zh_TW.BIG5", false),
        ("LANG", "zh_TW", false),
        ("GIT_PROTOCOL", "version=2", true),
        ("LD_PRELOAD", "x", false),
        ("BASH_ENV", "x", false),
        ("PATH", "x", false),
        ("TOLD", "x", false),
    ] {
        let (found, _) = statements(&ask(b"ls /srv", false, &[(name, value)]));
        assert_eq!(rung(&found) == Rung::Read, harmless, "{name}");
        let (_, inner) = statements(&ask(b"scp -t /srv", false, &[(name, value)]));
        assert_eq!(inner != Inner::Plain, harmless, "{name}");
    }
}

#[test]
fn lines_that_carry_a_protocol_are_told_by_their_kind() {
    use scp::Direction::{FromTarget, ToTarget};
    for (line, kind, expected) in [
        ("/usr/lib/openssh/sftp-server", "SFTP", Inner::Sftp),
        ("internal-sftp", "SFTP", Inner::Sftp),
        ("scp -t /tmp/a", "SCP", Inner::Scp(ToTarget)),
        ("scp -r -p -f -- /a b", "SCP", Inner::Scp(FromTarget)),
        ("rsync --server --sender -e.iLsfxCIvu . /srv/", "RSYNC READ", Inner::Plain),
        ("rsync --server -e.iLsfxCIvu . /srv/", "RSYNC WRITE", Inner::Plain),
        ("git-upload-pack 'r'", "GIT READ", Inner::Plain),
        ("git-receive-pack 'r'", "GIT WRITE", Inner::Plain),
        ("scp -t /tmp/a; rm -rf /", "EXEC", Inner::Plain),
        ("scp -t $(id)", "EXEC", Inner::Plain),
        ("scp -S /tmp/evil -t x", "EXEC", Inner::Plain),
        ("scp a b", "EXEC", Inner::Plain),
        ("scpx -t a", "EXEC", Inner::Plain),
        ("/tmp/sftp-server", "EXEC", Inner::Plain),
        ("ls", "EXEC", Inner::Plain),
    ] {
        let (found, inner) = statements(&ask(line.as_bytes(), false, &[]));
        assert_eq!((found[0].kind.as_str(), inner), (kind, expected), "{line}: {found:?}");
    }
    // In the midst of others it is not read.
    for line in ["scp -t a; ls", "sudo /usr/lib/openssh/sftp-server", "cat x | scp -t a"] {
        let (found, _) = statements(&ask(line.as_bytes(), false, &[]));
        assert_eq!(rung(&found), Rung::Destructive, "{line}: {found:?}");
        assert!(found.iter().any(|one| one.opaque), "{line}");
    }
}

#[test]
fn p2_without_a_reading_a_line_can_do_anything() {
    let ask = ask(b"ls", false, &[]);
    let command = read(&ask, None, None).command;
    let reading = command.reading.expect("a reading");
    assert_eq!(reading.rung(), Rung::Destructive);
    assert!(reading.statements[0].opaque);
    assert!(denied(b"ls \xff\0", program(&["rm"])));
}
