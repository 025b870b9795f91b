//! Signing on: the agent's own way, relayed; or the daemon's, of which the agent learns nothing.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context, Result};
use chaperone_host_tests::{Certificates, Finished, Host, Kind, Scene, wait_until};
use serde_json::Value;

fn server_account() -> Result<u32> {
    Ok(nix::unistd::User::from_name("postgres")?.context("no account postgres")?.uid.as_raw())
}

/// A server with TLS, whose certificate is for `db.test`.
fn encrypted(authority: &Certificates) -> Result<String> {
    let certificate = authority.issue("server", &["db.test"], Kind::Server, server_account()?)?;
    Ok(format!(
        "ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'",
        certificate.display(),
        certificate.with_extension("key").display()
    ))
}

/// One user for each way in which a server asks.
const HBA: &str = "host all postgres all trust\nhost all pw_user all password\n\
                   host all md5_user all md5\nhost all scram_user all scram-sha-256\n\
                   host all app_a all scram-sha-256\nhost all app_b all scram-sha-256\n";

fn make_users(host: &Host) -> Result<()> {
    let sql = host.postgres();
    sql.sql(
        "SET password_encryption = 'md5'; CREATE ROLE md5_user LOGIN PASSWORD 'secret of md5'",
    )?;
    sql.sql("CREATE ROLE pw_user LOGIN PASSWORD 'secret of pw'")?;
    sql.sql("CREATE ROLE scram_user LOGIN PASSWORD 'secret of scram'")?;
    sql.sql("CREATE ROLE app_a LOGIN PASSWORD 'secret of a'")?;
    sql.sql("CREATE ROLE app_b LOGIN PASSWORD 'secret of b'")?;
    Ok(())
}

/// Begins all of them.
const SECRET: &str = "secret of";

/// psql with a password in its environment: a command line is recorded, whatever stands in it.
fn with_password(host: &Host, conninfo: &str, password: &str) -> Result<Finished> {
    let run = "read -r PGPASSWORD && export PGPASSWORD && \
               exec psql -X -At -c 'SELECT current_user' \"$0\"";
    host.agent_with("bash", &["-c", run, conninfo], &format!("{password}\n"))
}

/// Nothing that the daemon wrote has a secret in it.
fn assert_secrets_are_kept(host: &Host) -> Result<()> {
    for file in host.log_files()?.into_iter().chain([host.folder().join("daemon.log")]) {
        let bytes = fs::read(&file)?;
        assert!(!bytes.is_empty(), "{} was looked at", file.display());
        let found = bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes());
        assert!(!found, "a secret is in {}", file.display());
    }
    Ok(())
}

#[test]
fn p4_every_sign_on_is_relayed_whoever_encrypts() -> Result<()> {
    let authority = Certificates::new("servers")?;
    let host = Scene::default()
        .target("tls = \"disable\"")
        .other_target("encrypted", "tls = \"require\"")
        .server(&encrypted(&authority)?)
        .hba(HBA)
        .environment("CHAPERONE_LOG", "trace")
        .start()?;
    make_users(&host)?;
    for target in ["prod", "encrypted"] {
        for mode in ["disable", "require"] {
            for user in ["pw", "md5", "scram"] {
                let conninfo =
                    format!("host={} sslmode={mode} user={user}_user", host.address_of(target));
                let what = format!("target {target}, sslmode {mode}, user {user}");
                let out = with_password(&host, &conninfo, &format!("{SECRET} {user}"))?;
                if target == "encrypted" && mode == "require" && user == "scram" {
                    // The client takes our connection for one that it could bind to.
                    assert_eq!(out.code, Some(2), "{what}");
                    assert!(out.err.contains("chaperone cannot relay this sign-on"), "{}", out.err);
                    assert!(out.err.contains("have the daemon hold the credential"), "{}", out.err);
                    let session = host.last_session()?;
                    assert_eq!(session["closed_by"], "daemon");
                    let detail = session["detail"].as_str().unwrap_or_default();
                    assert!(detail.contains("cannot relay this sign-on"), "{detail}");
                    // What the hint says helps.
                    let other = format!("{conninfo} channel_binding=disable");
                    let out = with_password(&host, &other, "secret of scram")?;
                    assert_eq!(out.ok()?, "scram_user");
                    // And so does libpq's default, which tries again without encryption.
                    let other = conninfo.replace("sslmode=require", "sslmode=prefer");
                    let out = with_password(&host, &other, "secret of scram")?;
                    assert_eq!(out.ok()?, "scram_user");
                    continue;
                }
                assert_eq!(out.ok().context(what.clone())?, format!("{user}_user"));
                let session = host.last_session()?;
                assert_eq!(session["sign_on"], "relayed", "{what}");
                assert_eq!(session["user"], format!("{user}_user"), "{what}");
                assert_eq!(session["agent_tls"].is_string(), mode == "require", "{what}");
                assert_eq!(session["target_tls"].is_string(), target == "encrypted", "{what}");
            }
        }
    }
    let out = with_password(&host, "user=scram_user sslmode=disable", "secret of nobody")?;
    assert!(out.err.contains("password authentication failed"), "{}", out.err);
    let detail = host.last_session()?["detail"].clone();
    assert!(detail.as_str().is_some_and(|d| d.contains("28P01")), "{detail}");
    assert_secrets_are_kept(&host)
}

/// Files that hold a secret each, as operations would make them.
struct Secrets(tempfile::TempDir);

impl Secrets {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let secrets = Self(folder);
        for user in ["pw", "md5", "scram", "a", "b"] {
            secrets.write(user, &format!("{SECRET} {user}\n"), 0o600)?;
        }
        secrets.write("wrong", "secret of nobody\n", 0o600)?;
        secrets.write(
            "env",
            "# Of the application.\nOTHER=x\nDB_PASSWORD=\"secret of md5\"\n",
            0o600,
        )?;
        Ok(secrets)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> Result<()> {
        fs::write(self.path(name), text)?;
        Ok(fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode))?)
    }

    fn file(&self, name: &str) -> String {
        format!("password = \"file:{}\"", self.path(name).display())
    }
}

#[test]
fn p6_the_daemon_signs_on_with_what_the_agent_never_has() -> Result<()> {
    let (authority, secrets) = (Certificates::new("servers")?, Secrets::new()?);
    let verified =
        format!("tls = {{ ca = \"{}\", name = \"db.test\" }}", authority.root().display());
    let held = |tls: &str, user: &str, more: &str| {
        format!("{tls}\ncredential = {{ user = \"{user}\", {more} }}")
    };
    let (plain, tls) = ("tls = \"disable\"", "tls = \"require\"");
    let env = format!("password = \"env:{}#DB_PASSWORD\"", secrets.path("env").display());
    let (scram, pw, wrong) = (secrets.file("scram"), secrets.file("pw"), secrets.file("wrong"));
    let host = Scene::default()
        .environment("CHAPERONE_LOG", "trace")
        // As a unit with LoadCredential= has it.
        .environment("CREDENTIALS_DIRECTORY", &secrets.0.path().display().to_string())
        .target(&held(plain, "scram_user", &scram))
        .other_target("bound", &held(tls, "scram_user", &scram))
        .other_target("md5", &held(plain, "md5_user", &format!("{env}, methods = [\"md5\"]")))
        .other_target("md5-verified", &held(&verified, "md5_user", &env))
        .other_target("md5-unproven", &held(tls, "md5_user", &env))
        .other_target("password", &held(&verified, "pw_user", "password = \"systemd:pw\""))
        .other_target("open", &held(plain, "pw_user", &format!("{pw}, methods = [\"password\"]")))
        .other_target("unproven", &held(tls, "pw_user", &pw))
        .other_target(
            "narrow",
            &held(plain, "md5_user", &format!("{env}, methods = [\"scram-sha-256\"]")),
        )
        .other_target("wrong", &held(tls, "scram_user", &wrong))
        .other_target("nobody", &held(tls, "nobody", &wrong))
        .other_target("no-password", &held(plain, "scram_user", "methods = [\"md5\"]"))
        .server(&encrypted(&authority)?)
        .hba(HBA)
        .start()?;
    make_users(&host)?;

    for (target, user, method) in [
        ("prod", "scram_user", "scram-sha-256"),
        ("bound", "scram_user", "scram-sha-256-plus"),
        ("md5", "md5_user", "md5"),
        ("md5-verified", "md5_user", "md5"),
        ("password", "pw_user", "password"),
        ("open", "pw_user", "password"),
    ] {
        // Whoever it says it is, with whatever password it sends, or none.
        for (name, mode, password) in
            [("postgres", "disable", ""), ("intern", "require", "secret of nobody")]
        {
            let at = host.address_of(target);
            let conninfo = format!("host={at} sslmode={mode} user={name} dbname=postgres");
            let out = with_password(&host, &conninfo, password)?;
            assert_eq!(out.ok().context(target)?, user, "{target}");
            let session = host.last_session()?;
            assert_eq!(session["sign_on"], method, "{target}");
            assert_eq!((&session["user"], &session["asked_user"]), (&user.into(), &name.into()));
            assert_eq!(session["database"], "postgres");
            assert_eq!(session["agent_tls"].is_string(), mode == "require");
            assert_eq!(session["closed_by"], "agent", "{session}");
        }
    }
    for (target, words) in [
        (
            "unproven",
            "the server asks for the method password, which `methods` does not allow here",
        ),
        ("md5-unproven", "the server asks for the method md5, which `methods` does not allow here"),
        ("narrow", "the server asks for the method md5, which `methods` does not allow here"),
        ("wrong", "the server said 28P01: password authentication failed for user \"scram_user\""),
        ("nobody", "the server said 28000: no pg_hba.conf entry"),
        ("no-password", "the server asks for a password, and the credential has none"),
    ] {
        let conninfo = format!("host={} sslmode=disable", host.address_of(target));
        let out = host.connect(&conninfo, &["SELECT 1"])?;
        let said = format!("FATAL:  chaperone could not sign on to target {target} as ");
        assert!(out.err.contains(&said), "{target}: {}", out.err);
        assert!(out.err.contains(words), "{target}: {}", out.err);
        assert!(!out.err.contains(SECRET), "{target}: {}", out.err);
        let session = host.last_session()?;
        assert!(session["detail"].as_str().is_some_and(|d| d.contains(words)), "{session}");
        assert_eq!(session["closed_by"], "target");
        let told = host.events()?.into_iter().rfind(|event| event["session"] == session["id"]);
        let told = told.with_context(|| format!("{target}: no event"))?;
        assert_eq!(told["kind"], "target-refused");
        assert!(told["detail"].as_str().is_some_and(|d| d.contains(words)), "{told}");
    }
    assert_eq!(host.counter("sign_ons_failed")?, 6);

    // What the daemon wrote, and what it shows.
    assert_secrets_are_kept(&host)?;
    for args in [
        &["status", "--json"][..],
        &["sessions"],
        &["log", "sessions", "--json"],
        &["log", "events", "--json"],
        &["log", "--json"],
    ] {
        let out = host.chaperone(args)?;
        assert!(!format!("{}{}", out.out, out.err).contains(SECRET), "{args:?}");
    }
    Ok(())
}

#[test]
fn p6_the_sign_on_is_bound_whatever_signed_the_certificate() -> Result<()> {
    let (authority, secrets) = (Certificates::new("servers")?, Secrets::new()?);
    let host = Scene::default()
        .target("tls = \"require\"")
        .target(&format!("credential = {{ user = \"scram_user\", {} }}", secrets.file("scram")))
        .server(&encrypted(&authority)?)
        .hba(HBA)
        .start()?;
    make_users(&host)?;
    let (certificate, key) =
        (authority.folder().join("server.pem"), authority.folder().join("server.key"));
    for (kind, hash, method) in [
        ("rsa", "-sha256", "scram-sha-256-plus"),
        ("rsa", "-sha512", "scram-sha-256-plus"),
        ("ec", "-sha384", "scram-sha-256-plus"),
        // No hash is its own (RFC 5929, section 4.1), and the server would not find one either.
        ("ed25519", "-sha256", "scram-sha-256"),
    ] {
        let name = format!("{}{hash}", kind.replace(':', "-"));
        let options: &[_] = match kind {
            "rsa" => &["-pkeyopt", "rsa_keygen_bits:2048"],
            "ec" => &["-pkeyopt", "ec_paramgen_curve:P-384"],
            _ => &[],
        };
        let made = std::process::Command::new("openssl")
            .args(["req", "-x509", "-nodes", "-days", "2", "-subj", &format!("/CN={name}")])
            .args(["-newkey", kind, hash])
            .args(options)
            .args([Path::new("-out"), &certificate, Path::new("-keyout"), &key])
            .output()?;
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        host.postgres().sql("SELECT pg_reload_conf()")?;
        wait_until("the server shows it", || {
            let shown = std::process::Command::new("openssl")
                .args(["s_client", "-starttls", "postgres", "-connect"])
                .arg(format!("{}:5432", host.address()))
                .stdin(std::process::Stdio::null())
                .output();
            shown.is_ok_and(|shown| {
                let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
                shown.contains(&format!("subject=CN = {name}\n"))
            })
        })?;
        let out = host.connect("sslmode=disable", &["SELECT current_user"])?;
        assert_eq!(out.ok().context(kind)?, "scram_user", "{kind} {hash}");
        assert_eq!(host.last_session()?["sign_on"], method, "{kind} {hash}");
    }
    Ok(())
}

#[test]
fn p6_the_agents_start_up_cannot_change_whose_account_it_is() -> Result<()> {
    let secrets = Secrets::new()?;
    let host = Scene::default()
        .target(&format!("credential = {{ user = \"app_a\", {} }}", secrets.file("a")))
        .hba(HBA)
        .server("log_line_prefix = '%a|'\nlog_statement = 'all'")
        .start()?;
    make_users(&host)?;
    let out = host.python(
        r#"
import os, socket, struct
def everything(parameters, ahead=b""):
    s = socket.create_connection((os.environ["PGHOST"], 5432), timeout=20)
    body = struct.pack("!i", 196608) + b"".join(p + b"\0" for p in parameters) + b"\0"
    query = b"SELECT current_user || '/' || session_user || '/' || current_database()\0"
    s.sendall(struct.pack("!i", len(body) + 4) + body + ahead + b"Q" + struct.pack("!i", len(query) + 4) + query + b"X\0\0\0\4")
    got = b""
    try:
        while more := s.recv(65536): got += more
    except ConnectionResetError: pass
    return got
for parameters in (
    [b"user", b"postgres", b"database", b"postgres"],
    [b"user", b"app_a", b"user", b"postgres", b"database", b"postgres", b"user", b"app_b"],
    [b"database", b"postgres"],
    [b"user", b"postgres"],
    [b"user", b"postgres", b"options", b"-c application_name=forged", b"application_name", b"forged", b"application_name", b"again"],
):
    got = everything(parameters)
    print(b"app_a/app_a/postgres" in got, b"forged" in got)
for options in b"-c session_authorization=postgres", b"-c role=postgres":
    got = everything([b"user", b"postgres", b"options", options])
    print(b"FATAL" in got and b"app_a/" not in got)
# A password that nobody asked for is no message of one that is signed on.
print(b"08P01" in everything([b"user", b"postgres"], b"p\0\0\0\x0bsecret\0"))
"#,
    )?;
    assert_eq!(
        out.ok()?,
        "True False\nTrue False\nTrue False\nTrue False\nTrue False\nTrue\nTrue\nTrue"
    );
    let sessions = host.closed_sessions()?;
    let asked: Vec<_> = sessions.iter().map(|s| s["asked_user"].as_str()).take(4).collect();
    assert_eq!(asked, [Some("postgres"), Some("app_b"), None, Some("postgres")]);
    assert_eq!(sessions[4]["application"], "again", "what the agent said is kept");
    for session in &sessions[..5] {
        assert_eq!(session["user"], "app_a");
        let told = session["target_application"].as_str().unwrap_or_default();
        assert!(told.starts_with("cleaner/"), "{told}");
    }
    assert!(!host.postgres().log().lines().any(|line| line.starts_with("forged|")));
    Ok(())
}

#[test]
fn p6_several_agents_have_accounts_of_their_own() -> Result<()> {
    const REPORTER: u32 = 64_002;
    const GUEST: u32 = 64_003;
    let secrets = Secrets::new()?;
    let (a, b) = (secrets.file("a"), secrets.file("b"));
    let host = Scene::default()
        .other_agent("reporter", REPORTER)
        .other_agent("guest", GUEST)
        .target(&format!(
            "credential = [{{ agents = [\"cleaner\"], user = \"app_a\", {a} }}, \
             {{ agents = [\"reporter\"], user = \"app_b\", {b} }}]"
        ))
        .other_target(
            "shared",
            &format!(
                "credential = [{{ user = \"app_b\", {b} }}, \
                 {{ agents = [\"guest\"], user = \"app_a\", {a} }}]"
            ),
        )
        .server("log_connections = on")
        .hba(HBA)
        .start()?;
    make_users(&host)?;
    let (prod, shared) = (host.address(), host.address_of("shared"));
    for (uid, address, agent, user) in [
        (host.uid(), prod, "cleaner", "app_a"),
        (REPORTER, prod, "reporter", "app_b"),
        (host.uid(), shared, "cleaner", "app_b"),
        (GUEST, shared, "guest", "app_a"),
    ] {
        // None gets another's by asking for it.
        let conninfo = format!("host={address} user=app_b dbname=postgres sslmode=disable");
        let out = host.connect_as(uid, &conninfo, &["SELECT current_user"])?;
        assert_eq!(out.ok()?, user, "{agent}");
        let session = host.last_session()?;
        assert_eq!((&session["agent"], &session["user"]), (&agent.into(), &user.into()));
        assert_eq!(session["uid"], uid);
    }
    let mut running = host.start_agent("psql", &["-X", "sslmode=disable user=whoever"])?;
    running.say("SELECT 1;")?;
    wait_until("it is signed on", || {
        let live = host.chaperone(&["sessions", "--json"]).and_then(Finished::ok);
        let live = live.ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
        live.is_some_and(|live| live["user"] == "app_a" && live["agent"] == "cleaner")
    })?;
    running.finish()?.ok()?;

    let before = host.postgres().log().matches("connection received").count();
    let out = host.connect_as(GUEST, "sslmode=disable user=app_a", &["SELECT 1"])?;
    let said = "FATAL:  chaperone holds no credential of target prod for agent guest";
    assert!(out.err.contains(said), "{}", out.err);
    assert!(out.err.contains("Ask operations to name this agent"), "{}", out.err);
    let session = host.last_session()?;
    assert_eq!(session["closed_by"], "daemon");
    assert!(session["detail"].as_str().is_some_and(|d| d.contains("no credential")), "{session}");
    assert_eq!(host.postgres().log().matches("connection received").count(), before);
    Ok(())
}

#[test]
fn p6_a_server_cannot_make_the_daemon_tell_the_password() -> Result<()> {
    let secrets = Secrets::new()?;
    let host = Scene::default()
        .without_postgres()
        .target(&format!(
            "credential = {{ user = \"u\", {}, methods = [\"password\"] }}",
            secrets.file("pw")
        ))
        .start()?;
    let listener = TcpListener::bind((host.address(), 5432))?;
    let server = thread::spawn(move || -> Result<String> {
        let (mut stream, _) = listener.accept()?;
        let mut bytes = [0; 4096];
        let _ = stream.read(&mut bytes)?;
        stream.write_all(b"R\0\0\0\x08\0\0\0\x03")?;
        let length = stream.read(&mut bytes)?;
        let told = String::from_utf8_lossy(&bytes[5..length - 1]).into_owned();
        let body = format!("SFATAL\0VFATAL\0C28P01\0Mno to '{told}', sorry\0\0");
        stream.write_all(b"E")?;
        stream.write_all(&u32::try_from(body.len() + 4)?.to_be_bytes())?;
        stream.write_all(body.as_bytes())?;
        Ok(told)
    });
    let out = host.connect("sslmode=disable", &["SELECT 1"])?;
    assert_eq!(server.join().expect("no panic")?, "secret of pw");
    assert!(out.err.contains("the server said 28P01: no to '…', sorry"), "{}", out.err);
    host.last_session()?;
    assert_secrets_are_kept(&host)
}

#[test]
fn p6_a_server_that_asks_for_no_password_is_not_believed() -> Result<()> {
    let secrets = Secrets::new()?;
    let held =
        |more: &str| format!("credential = {{ user = \"postgres\", {}{more} }}", secrets.file("a"));
    let host = Scene::default()
        .target(&held(""))
        .other_target("said", &held(", methods = [\"scram-sha-256\", \"none\"]"))
        .other_target("no-secret", "credential = { user = \"postgres\" }")
        .start()?;
    let out = host.connect("sslmode=disable", &["SELECT 1"])?;
    let words = "the server asked for no password, so that it may be another than it seems to be";
    assert!(out.err.contains("FATAL:  chaperone could not sign on") && out.err.contains(words));
    assert!(out.err.contains("have `methods` contain \"none\""), "{}", out.err);
    let session = host.last_session()?;
    assert!(session["detail"].as_str().is_some_and(|d| d.contains(words)), "{session}");
    assert_eq!(host.statements()?, [""; 0]);
    for target in ["said", "no-secret"] {
        let conninfo = format!("host={} sslmode=disable", host.address_of(target));
        host.connect(&conninfo, &["SELECT 1"])?.ok().context(target)?;
        assert_eq!(host.last_session()?["sign_on"], "without a password", "{target}");
    }
    Ok(())
}

#[test]
fn p6_nobody_looks_into_the_daemons_memory() -> Result<()> {
    // Without the right to look into any process, the account's own processes are what is left.
    let host = Scene::default().without_capability("sys_ptrace").start()?;
    let look = |process: &str| -> Result<bool> {
        let script = format!("exec 3< /proc/{process}/mem");
        let output = std::process::Command::new("setpriv")
            .args(["--bounding-set=-sys_ptrace", "bash", "-c", &script])
            .output()?;
        Ok(output.status.success())
    };
    let mut other = std::process::Command::new("setpriv")
        .args(["--bounding-set=-sys_ptrace", "sleep", "60"])
        .spawn()?;
    let name = format!("/proc/{}/comm", other.id());
    wait_until("it sleeps", || fs::read_to_string(&name).is_ok_and(|name| name == "sleep\n"))?;
    let ordinary = look(&other.id().to_string());
    other.kill()?;
    other.wait()?;
    assert!(ordinary?, "an ordinary process of the account can be looked into");
    assert!(!look(&host.daemon_id().to_string())?);
    let limits = fs::read_to_string(format!("/proc/{}/limits", host.daemon_id()))?;
    let core = limits.lines().find(|line| line.starts_with("Max core file size"));
    let values: Vec<_> = core.context("the limit")?.split_whitespace().skip(4).collect();
    assert_eq!(values[..2], ["0", "0"], "no core dump, and no way to have one again");
    Ok(())
}

#[test]
fn a_check_tells_what_cannot_be_read() -> Result<()> {
    let (authority, secrets) = (Certificates::new("servers")?, Secrets::new()?);
    secrets.write("open", "secret of all\n", 0o644)?;
    secrets.write("empty", "\n", 0o600)?;
    let certificate = authority.issue("client", &["app"], Kind::Client, 0)?;
    let other = authority.issue("other", &["app"], Kind::Client, 0)?;
    let (certificate, other) = (certificate.display(), other.with_extension("key"));
    let path = |name: &str| secrets.path(name).display().to_string();
    let credential = |text: &str| format!("credential = {{ user = \"u\", {text} }}");
    let password = |source: &str| credential(&format!("password = \"{source}\""));
    for (lines, words) in [
        (password(&format!("file:{}", path("gone"))), "cannot read".to_owned()),
        (password(&format!("file:{}", path("open"))), "chmod 600 it".into()),
        (password(&format!("file:{}", path("empty"))), "is no secret: it is empty".into()),
        (password(&format!("env:{}#NO", path("env"))), "has no line NO=".into()),
        (password("hunter-secret of-2"), "say where the secret is, not what it is".into()),
        (password("file:relative"), "say where the secret is".into()),
        ("tls = { ca = \"/nowhere.pem\" }".into(), "cannot read /nowhere.pem".into()),
        (format!("tls = {{ ca = \"{}\" }}", path("a")), "holds no certificate".into()),
        (
            format!(
                "tls = {{ mode = \"require\", certificate = \"{certificate}\", key = \"file:{}\" }}",
                other.display()
            ),
            "does not fit".into(),
        ),
        (
            format!("tls = {{ mode = \"require\", certificate = \"{certificate}\" }}"),
            "a certificate needs its `key`".into(),
        ),
        ("credential = { user = \"u\", agents = [] }".into(), "this names no agent".into()),
        (
            "credential = { user = \"u\", agents = [\"stranger\"] }".into(),
            "there is no agent named \"stranger\"".into(),
        ),
    ] {
        let mut host = Scene::default().without_postgres().target(&lines).prepare()?;
        let out = host.chaperone(&["check"])?;
        assert_eq!(out.code, Some(1), "{lines}: {}", out.out);
        assert!(out.err.contains(&words), "{lines}: {}", out.err);
        assert!(
            out.err.contains("target prod: ") || out.err.contains("chaperone.toml:"),
            "{}",
            out.err
        );
        // The word itself is never repeated, but where the line that has it is shown.
        let shown = out.err.lines().filter(|line| !line.contains(" | "));
        assert!(!shown.collect::<String>().contains(SECRET), "{}", out.err);
        // The daemon says the same, and does not start.
        let error = host.start_daemon().err().context("it started")?.to_string();
        assert!(error.contains(&words), "{lines}: {error}");
    }

    // What only the unit has is no mistake, and is told.
    let lines = password("systemd:prod-db");
    let host = Scene::default().without_postgres().target(&lines).prepare()?;
    let out = host.chaperone(&["check"])?.ok()?;
    assert!(out.contains("is good: 1 agents, 1 targets"), "{out}");
    assert!(out.contains("not checked here: target prod: the systemd credential prod-db"), "{out}");
    let out: Value = serde_json::from_str(&host.chaperone(&["check", "--json"])?.ok()?)?;
    assert_eq!(out["elsewhere"].as_array().map(Vec::len), Some(1));
    Ok(())
}

#[test]
fn p3_the_servers_own_log_tells_runs_apart() -> Result<()> {
    let version = Path::new("VERSION");
    let host = Scene::default()
        .version("{ file = \"{folder}/VERSION\" }")
        .other_target("silent", "attribution = false")
        .server("log_line_prefix = '%a|'\nlog_statement = 'all'")
        .prepare()?;
    fs::write(host.folder().join(version), "1.4.2\n")?;
    let mut host = host;
    host.start_daemon()?;
    for statement in ["SELECT 'first run'", "SELECT 'second run'"] {
        host.connect("application_name=mine", &[statement])?.ok()?;
    }
    let sessions = host.closed_sessions()?;
    let log = host.postgres().log();
    let mut names = Vec::new();
    for (session, statement) in sessions.iter().zip(["'first run'", "'second run'"]) {
        assert_eq!(session["application"], "mine", "what the agent says of itself is kept");
        assert_eq!(session["agent_version"], "1.4.2");
        let run = session["run"].as_str().context("a run")?;
        let name = format!("cleaner@1.4.2/{run}");
        assert_eq!(session["target_application"], name);
        let line = log.lines().find(|line| line.contains(statement)).context("a line")?;
        assert!(line.starts_with(&format!("{name}|")), "{line}");
        names.push(name);
    }
    assert_ne!(names[0], names[1]);

    // The client is told what the server has.
    let out = host.python(&format!(
        r#"
import psycopg
def told(db): return db.pgconn.parameter_status(b"application_name").decode(), db.execute("SHOW application_name").fetchone()[0]
with psycopg.connect("application_name=mine") as db:
    a, b = told(db); assert a == b and a.startswith("cleaner@1.4.2/"), (a, b)
with psycopg.connect("application_name=mine host={}") as db: print(told(db))
with psycopg.connect("host={}") as db: print(told(db))
"#,
        host.address_of("silent"),
        host.address_of("silent")
    ))?;
    assert_eq!(out.ok()?, "('mine', 'mine')\n('', '')");
    Ok(())
}
