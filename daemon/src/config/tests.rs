use chaperone_model::Rung;

use super::*;

pub(crate) fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("c.toml")).map_err(|error| error.to_string())
}

pub(super) const GOOD: &str = r#"
[daemon]
attach = "/sys/fs/cgroup/x"
listen = 7401
response = "1 KiB"
drain = "2s"
[[agent]]
name = "cleaner"
select = { user = 64001 }
[[agent]]
name = "other"
select = { cgroup = "/agents.slice" }
version = "1.4.2"
[[target]]
name = "prod"
protocol = "postgres"
address = ["db:5432", "10.0.0.0/24:5432"]
"#;

#[test]
fn what_guards_the_ways_round_is_read_or_refused_with_a_reason() {
    let with = |agent: &str, target: &str, daemon: &str| {
        let text = GOOD.replace("user = 64001 }", &format!("user = 64001 }}\n{agent}"));
        let text = text.replace("drain = \"2s\"", &format!("drain = \"2s\"\n{daemon}"));
        parse(&format!("{text}{target}"))
    };
    let plain = with("", "", "").expect("good");
    assert_eq!(plain.daemon.deny_sockets & kinds::MPTCP, 0);
    assert_ne!(plain.daemon.deny_sockets & kinds::RAW, 0);
    assert_eq!((plain.daemon.existing, plain.agents[0].egress), (Existing::Destroy, None));
    let good = with(
        "egress = \"deny\"\nreach = [\"127.0.0.53:53\", \"api:443\"]",
        "sockets = [\"/run/postgresql/.s.PGSQL.5432\", \"@db\"]\n",
        "deny_sockets = [\"mptcp\"]\nexisting = \"record\"",
    );
    let good = good.expect("good");
    assert_eq!(good.agents[0].reach.len(), 2);
    assert_eq!(good.targets[0].sockets.len(), 2);
    assert_eq!(good.daemon.deny_sockets, kinds::MPTCP);
    assert_eq!(good.daemon.existing, Existing::Record);
    for (agent, target, daemon, why) in [
        ("reach = [\"a:1\"]", "", "", "has no use"),
        ("egress = \"allow\"", "", "", "unknown variant"),
        ("egress = \"deny\"\nreach = [\"a\"]", "", "", "has no port"),
        ("", "sockets = [\"db\"]\n", "", "a name that begins with @"),
        ("", "sockets = [\"@\"]\n", "", "a name that begins with @"),
        ("", "", "deny_sockets = [\"udp\"]", "a kind of socket is one of"),
        ("", "", "existing = \"keep\"", "unknown variant"),
        ("", "", "canary = \"500ms\"", "canary is from"),
    ] {
        let error = with(agent, target, daemon).expect_err(why);
        assert!(error.contains(why), "{error}");
    }
    let long = format!("sockets = [\"/{}\"]\n", "x".repeat(200));
    assert!(with("", &long, "").expect_err("too long").contains("at most 107 bytes"));
}

#[test]
fn a_good_configuration_is_read() {
    let config = parse(GOOD).expect("good");
    assert_eq!(config.agents[0].select.scope, Scope::User(64001));
    assert_eq!(config.agents[1].select.scope, Scope::Cgroup("/agents.slice".into()));
    let version = |config: Config| config.agents[1].version.clone();
    assert_eq!(version(config.clone()), Some(VersionRule::Literal("1.4.2".into())));
    let file = parse(&GOOD.replace("\"1.4.2\"", "{ file = \"/opt/a/VERSION\" }"));
    assert_eq!(version(file.expect("good")), Some(VersionRule::File("/opt/a/VERSION".into())));
    assert_eq!(config.targets[0].addresses.len(), 2);
    assert_eq!(config.daemon.response, 1024);
    assert_eq!(config.daemon.drain, Duration::from_secs(2));
    let durability = config.daemon.durability;
    assert_eq!(durability.of(Rung::Read), Safe::FromCrash);
    assert_eq!(durability.of(Rung::Write), Safe::FromPowerCut, "the safe way is the default");
    assert_eq!(config.policy.hash().len(), 64);
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_a_suggestion() {
    let error = parse("[daemon]\nlisten = 1\nlgo = \"/x\"\n").expect_err("unknown");
    assert!(error.starts_with("c.toml:3:1: unknown field `lgo`"), "{error}");
    assert!(error.contains("3 | lgo = \"/x\"\n  | ^^^"), "{error}");
    assert!(error.contains("did you mean `log`?"), "{error}");
}

#[test]
fn every_mistake_points_at_itself() {
    for (from, to, place, why) in [
        ("\"db:5432\"", "\"db\"", "c.toml:17:12", "no port"),
        ("\"postgres\"", "\"oracle\"", "c.toml:16:12", "not known"),
        ("{ user = 64001 }", "{ user = 0 }", "c.toml:9:10", "own"),
        ("{ user = 64001 }", "{ user = \"nobody-of-that-name\" }", "c.toml:9:10", "no user named"),
        ("{ user = 64001 }", "{ }", "c.toml:9:10", "exactly one"),
        ("\"/agents.slice\"", "\"agents.slice\"", "c.toml:12:10", "path from the root"),
        ("\"other\"", "\"cleaner\"", "c.toml:11:8", "another agent named"),
        ("\"1 KiB\"", "\"lots\"", "c.toml:5:12", "no size"),
        ("\"1 KiB\"", "\"1 GiB\"", "c.toml:5:12", "out of range"),
        ("\"2s\"", "\"soon\"", "c.toml:6:9", "no duration"),
        ("\"1.4.2\"", "\" \"", "c.toml:13:11", "not empty"),
        ("\"1.4.2\"", "{ file = \"VERSION\" }", "c.toml:13:11", "begins with '/'"),
        ("\"1.4.2\"", "{ flie = \"/VERSION\" }", "c.toml:13:11", "a version, or one of { file"),
        ("7401", "0", "c.toml:4:10", "port"),
        ("7401", "\"x\"", "c.toml:4:10", "invalid type"),
        ("10.0.0.0/24:5432", "db:5432", "c.toml:17:23", "watched twice"),
        ("\"/sys/fs/cgroup/x\"", "\"x\"", "c.toml:3:10", "attach is"),
    ] {
        let error = parse(&GOOD.replacen(from, to, 1)).expect_err(to);
        assert!(error.starts_with(place), "{to}: {error}");
        assert!(error.contains(why), "{to}: {error}");
    }
}

/// The good configuration with these lines for its target.
fn with_target(address: &str, lines: &str) -> Result<Config, String> {
    let addresses = "[\"db:5432\", \"10.0.0.0/24:5432\"]";
    parse(&format!("{}{lines}\n", GOOD.replace(addresses, address)))
}

#[test]
fn p6_a_credential_goes_to_servers_that_operations_mean() {
    let file = "ca = \"/x.pem\"";
    let (verified, named) = ("tls = \"verify-full\"", "tls = { name = \"db.test\" }");
    let verify_ca = format!("tls = {{ mode = \"verify-ca\", {file} }}");
    for (address, tls, why) in [
        ("[\"db:5432\"]", "tls = \"require\"", None),
        ("[\"10.0.0.7:5432\", \"[::1]:5432\"]", "tls = \"disable\"", None),
        ("[\"*:5432\"]", "tls = \"disable\"", Some("verifies none")),
        ("[\"10.0.0.7:1\", \"10.0.0.0/31:5432\"]", "tls = \"prefer\"", Some("10.0.0.0/31:5432")),
        ("[\"[fd00::/64]:5432\"]", "tls = \"require\"", Some("verifies none")),
        ("[\"*:5432\"]", verified, Some("for its address")),
        ("[\"*:5432\"]", named, None),
        ("[\"*:5432\", \"db:5432\"]", verified, None),
        ("[\"*:5432\"]", &verify_ca, None),
        ("[\"db:5432\"]", "tls = \"verify-ca\"", Some("the public can buy")),
    ] {
        let credential = "credential = { user = \"u\", password = \"file:/x\" }";
        let found = with_target(address, &format!("{tls}\n{credential}"));
        match why {
            None => drop(found.expect(tls)),
            Some(why) => {
                let error = found.expect_err(tls);
                assert!(error.starts_with("c.toml:17:11"), "{address} {tls}: {error}");
                assert!(error.contains(why), "{address} {tls}: {error}");
            }
        }
        // Where agents sign on themselves, it is theirs that they give away.
        with_target(address, tls).expect("no credential");
    }
}

#[test]
fn p6_what_a_server_gets_of_a_password_depends_on_what_is_known_of_it() {
    let methods = |tls: &str, credential: &str| -> Vec<&str> {
        let lines = format!("tls = {tls}\ncredential = {{ user = \"u\", {credential} }}");
        let config = with_target("[\"db:5432\"]", &lines).expect("good");
        config.targets[0].credentials[0].methods.iter().map(|method| method.as_str()).collect()
    };
    let password = "password = \"file:/x\"";
    for mode in ["\"disable\"", "\"prefer\"", "\"require\""] {
        assert_eq!(methods(mode, password), ["scram-sha-256"], "{mode}");
    }
    let verify_ca = "{ mode = \"verify-ca\", ca = \"/x.pem\" }";
    assert_eq!(methods(verify_ca, password), ["scram-sha-256", "md5"]);
    assert_eq!(methods("\"verify-full\"", password), ["scram-sha-256", "md5", "password"]);
    assert_eq!(methods("\"require\"", "agents = [\"cleaner\"]"), ["none"]);
    let said = format!("{password}, methods = [\"md5\", \"none\"]");
    assert_eq!(methods("\"disable\"", &said), ["md5", "none"]);
}

#[test]
fn operations_say_which_settings_a_session_may_start_with() {
    let config = with_target("[\"db:5432\"]", "parameters = [\"search_path\", \"app.id\"]");
    assert_eq!(config.expect("good").targets[0].parameters, ["search_path", "app.id"]);
    for name in ["options", "user", "_pq_.x", "*"] {
        let error = with_target("[\"db:5432\"]", &format!("parameters = [\"{name}\"]"));
        assert!(error.expect_err(name).contains("no setting"), "{name}");
    }
}

#[test]
fn an_agent_has_a_part_of_the_sessions() {
    let limits = |lines: &str| {
        parse(&GOOD.replacen("listen = 7401", lines, 1))
            .map(|config| (config.daemon.max_sessions, config.daemon.max_sessions_per_agent))
    };
    assert_eq!(limits(""), Ok((10_000, 2500)));
    assert_eq!(limits("max_sessions = 1"), Ok((1, 1)));
    assert_eq!(limits("max_sessions = 8\nmax_sessions_per_agent = 8"), Ok((8, 8)));
    for wrong in ["0", "9"] {
        let lines = format!("max_sessions = 8\nmax_sessions_per_agent = {wrong}");
        assert!(limits(&lines).expect_err(wrong).contains("1 to max_sessions, which is 8"));
    }
}

#[test]
fn ssh_keys_are_renewed_at_least_once_a_day() {
    let period = |lines: &str| {
        parse(&GOOD.replacen("listen = 7401", lines, 1)).map(|config| config.daemon.ssh_rekey)
    };
    assert_eq!(period(""), Ok(Duration::from_hours(1)));
    assert_eq!(period("ssh_rekey = \"10m\""), Ok(Duration::from_mins(10)));
    assert!(period("ssh_rekey = \"0s\"").is_err());
    assert!(period("ssh_rekey = \"25h\"").is_err());
}

#[test]
fn the_example_is_good() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd/chaperone.toml");
    let config = Config::read(&example).map_err(|error| error.to_string()).expect("good");
    assert_eq!((config.agents.len(), config.targets.len()), (1, 1));
}

#[test]
fn a_missing_file_is_told_with_its_path() {
    let error = Config::read(Path::new("/nowhere/c.toml")).expect_err("missing").to_string();
    assert!(error.contains("/nowhere/c.toml"), "{error}");
}
