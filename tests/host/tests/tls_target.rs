//! TLS to servers: every mode, and a clear word for each way in which it fails.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    thread,
};

use anyhow::{Context, Result};
use chaperone_host_tests::{Certificates, Host, Kind, Scene, wait_until};
use serde_json::Value;

fn server_account() -> Result<u32> {
    Ok(nix::unistd::User::from_name("postgres")?.context("no account postgres")?.uid.as_raw())
}

/// Settings of a server that shows this certificate.
fn ssl(certificate: &Path) -> String {
    format!(
        "ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'\n",
        certificate.display(),
        certificate.with_extension("key").display()
    )
}

/// A session through this target; answers what the server knows of its encryption.
fn reaches(host: &Host, target: &str) -> Result<String> {
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    host.connect(&format!("host={} sslmode=disable", host.address_of(target)), &[sql])?.ok()
}

/// A session through this target fails, with the same words everywhere: for the agent, and in the
/// log as an event and with the session.
fn fails(host: &Host, target: &str, words: &str) -> Result<()> {
    let conninfo = format!("host={} sslmode=disable", host.address_of(target));
    let out = host.connect(&conninfo, &["SELECT 1"])?;
    assert_eq!(out.code, Some(2), "{target}: {}", out.out);
    assert!(out.err.contains("FATAL:  ") && out.err.contains(words), "{target}: {}", out.err);
    let session = host.last_session()?;
    let detail = session["detail"].as_str().unwrap_or_default();
    assert!(detail.contains(words), "{target}: {detail}");
    assert_eq!(session["closed_by"], "target", "{target}");
    let events = host.events()?;
    let event = events.iter().rfind(|event| event["session"] == session["id"]);
    let event = event.with_context(|| format!("{target}: no event of this session"))?;
    assert_eq!(event["kind"], "target-refused", "{target}");
    assert!(event["detail"].as_str().is_some_and(|d| d.contains(words)), "{target}: {event}");
    Ok(())
}

#[test]
fn every_mode_believes_a_server_as_far_as_it_says() -> Result<()> {
    let (authority, stranger) = (Certificates::new("servers")?, Certificates::new("stranger")?);
    let (root, other) = (authority.root(), stranger.root());
    let (root, other) = (root.display(), other.display());
    let mut host = Scene::default()
        .without_postgres()
        .environment("SSL_CERT_FILE", &root.to_string())
        .target("tls = \"disable\"")
        .other_target("prefer", "tls = \"prefer\"")
        .other_target("require", "tls = \"require\"")
        .other_target("ca", &format!("tls = {{ mode = \"verify-ca\", ca = \"{root}\" }}"))
        .other_target("full", &format!("tls = {{ ca = \"{root}\", name = \"db.test\" }}"))
        .other_target("address", &format!("tls = {{ ca = \"{root}\" }}"))
        .other_target("named", &format!("tls = {{ ca = \"{root}\" }}"))
        .name_of("named", "db.test")
        .other_target("system", "tls = { name = \"db.test\" }")
        .other_target("system-address", "")
        .other_target("other-name", &format!("tls = {{ ca = \"{root}\", name = \"db2.test\" }}"))
        .other_target("other-address", &format!("tls = {{ ca = \"{root}\" }}"))
        .other_target("other-ca", &format!("tls = {{ mode = \"verify-ca\", ca = \"{other}\" }}"))
        .prepare()?;
    // The harness has no TLS where a scene does not ask for it; without the key verify-full is meant.
    let text = fs::read_to_string(host.config())?;
    let at = text.find("\"system-address\"").context("the target")?;
    let (before, after) = text.split_at(at);
    fs::write(host.config(), format!("{before}{}", after.replacen("tls = \"disable\"\n", "", 1)))?;

    let mut names = vec!["db.test".to_owned()];
    names.extend(["address", "system-address"].map(|name| host.address_of(name).to_string()));
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let certificate = authority.issue("server", &names, Kind::Server, server_account()?)?;
    host.start_postgres(&ssl(&certificate), "host all all all trust\n")?;
    host.start_daemon()?;

    assert_eq!(reaches(&host, "prod")?, "f");
    assert_eq!(host.last_session()?["target_tls"], Value::Null);
    for target in
        ["prefer", "require", "ca", "full", "address", "named", "system", "system-address"]
    {
        assert_eq!(reaches(&host, target)?, "t", "{target}");
        let session = host.last_session()?;
        let tls = session["target_tls"].as_str().unwrap_or_default();
        assert!(tls.starts_with("TLSv1.3 TLS"), "{target}: {tls}");
        assert_eq!(session["agent_tls"], Value::Null, "{target}");
    }
    fails(&host, "other-name", "its certificate is for db.test, 127.")?;
    fails(&host, "other-name", "not for db2.test")?;
    fails(&host, "other-address", "its certificate is for")?;
    fails(&host, "other-ca", "its certificate is from an unknown authority")?;

    // The server gets another certificate, and looks again.
    let replace = |host: &Host, file: &str, names: &[&str], kind| -> Result<()> {
        let new = authority.issue(file, names, kind, server_account()?)?;
        fs::copy(&new, &certificate)?;
        fs::copy(new.with_extension("key"), certificate.with_extension("key"))?;
        host.postgres().sql("SELECT pg_reload_conf()")?;
        // It looks when it comes to it.
        let shown = fs::read_to_string(&new)?;
        wait_until("the server shows it", || shows(host).is_some_and(|text| shown.contains(&text)))
    };
    replace(&host, "expired", &names, Kind::Expired)?;
    for target in ["ca", "full", "system"] {
        fails(&host, target, "its certificate has expired")?;
    }
    assert_eq!(reaches(&host, "require")?, "t", "this mode does not look");
    replace(&host, "self-signed", &["db.test"], Kind::SelfSigned)?;
    fails(&host, "ca", "its certificate")?;

    // Operations may name the server's own certificate, but its names are looked at all the same.
    fs::copy(authority.folder().join("self-signed.pem"), authority.root())?;
    host.stop_daemon()?;
    host.start_daemon()?;
    assert_eq!(reaches(&host, "ca")?, "t");
    fails(&host, "full", "its certificate has no names (subjectAltName)")?;
    assert_eq!(host.counter("unreachable")?, 1);
    // And so is their time.
    replace(&host, "late", &names, Kind::Expired)?;
    fs::copy(authority.folder().join("late.pem"), authority.root())?;
    host.stop_daemon()?;
    host.start_daemon()?;
    fails(&host, "ca", "its certificate has expired")?;
    Ok(())
}

/// Issues a certificate for `db.test` in the name of this host's authority, as the daemon does for
/// agents that ask for a name.
const AS_THE_DAEMON: &str = r#"
set -e; cd "$0"
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=db.test -keyout own.key -out own.csr
printf 'subjectAltName=DNS:db.test\nextendedKeyUsage=serverAuth\n' > own.ext
openssl x509 -req -in own.csr -days 2 -CA "$1/ca.pem" -CAkey "$1/ca.key" -CAcreateserial -extfile own.ext -out own.pem
cp own.pem chain.pem; cat "$1/ca.pem" >> chain.pem; cp own.key chain.key
"#;

#[test]
fn p2_this_hosts_own_authority_vouches_for_no_target() -> Result<()> {
    let authority = Certificates::new("servers")?;
    let folder = authority.folder();
    let (both, only) = (folder.join("both.pem"), folder.join("only.pem"));
    let (shown_both, shown_only) = (both.display(), only.display());
    let system = "tls = { name = \"db.test\" }";
    let mut host = Scene::default()
        .without_postgres()
        // As `chaperone trust install` leaves the system's store.
        .environment("SSL_CERT_FILE", &both.display().to_string())
        .target(system)
        .other_target("file", &format!("tls = {{ ca = \"{shown_both}\", name = \"db.test\" }}"))
        .other_target("ca", &format!("tls = {{ mode = \"verify-ca\", ca = \"{shown_both}\" }}"))
        .prepare()?;
    fs::copy(authority.root(), &both)?;
    host.chaperone(&["trust", "create"])?.ok()?;
    let own = host.authority();
    fs::copy(&own, &only)?;
    let roots = [fs::read(authority.root())?, fs::read(&own)?].concat();
    fs::write(&both, roots)?;
    let made = std::process::Command::new("bash")
        .args(["-c", AS_THE_DAEMON])
        .args([folder, own.parent().context("its folder")?])
        .output()?;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let proper = authority.issue("proper", &["db.test"], Kind::Server, server_account()?)?;
    let current = folder.join("current.pem");
    let show = |host: &Host, certificate: &Path| -> Result<()> {
        fs::copy(certificate, &current)?;
        let key = current.with_extension("key");
        fs::copy(certificate.with_extension("key"), &key)?;
        std::os::unix::fs::chown(&key, Some(server_account()?), None)?;
        fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        let shown = fs::read_to_string(certificate)?;
        if host.postgres().sql("SELECT pg_reload_conf()").is_ok() {
            wait_until("the server shows it", || {
                shows(host).is_some_and(|text| shown.contains(&text))
            })?;
        }
        Ok(())
    };
    fs::copy(&proper, &current)?;
    fs::copy(proper.with_extension("key"), current.with_extension("key"))?;
    std::os::unix::fs::chown(current.with_extension("key"), Some(server_account()?), None)?;
    host.start_postgres(&ssl(&current), "host all all all trust\n")?;
    host.start_daemon()?;
    for target in ["prod", "file", "ca"] {
        assert_eq!(reaches(&host, target)?, "t", "{target}: the other authority is believed");
    }
    show(&host, &folder.join("own.pem"))?;
    for target in ["prod", "file", "ca"] {
        fails(&host, target, "its certificate is from an unknown authority")?;
    }
    show(&host, &folder.join("chain.pem"))?;
    for target in ["prod", "file", "ca"] {
        fails(&host, target, "it is from this host's own authority")?;
    }

    // Where there is no other, the daemon does not begin.
    host.stop_daemon()?;
    let text = fs::read_to_string(host.config())?;
    fs::write(host.config(), text.replace(&shown_both.to_string(), &shown_only.to_string()))?;
    let out = host.chaperone(&["check"])?;
    assert!(out.err.contains("has no authority but this host's own"), "{}", out.err);
    let error = host.start_daemon().err().context("it started")?.to_string();
    assert!(error.contains("has no authority but this host's own"), "{error}");
    Ok(())
}

/// The first line of the certificate that the server shows, as PEM has it.
fn shows(host: &Host) -> Option<String> {
    let output = std::process::Command::new("openssl")
        .args(["s_client", "-starttls", "postgres", "-connect"])
        .arg(format!("{}:5432", host.address()))
        .stdin(std::process::Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (_, pem) = text.split_once("-----BEGIN CERTIFICATE-----\n")?;
    let (pem, _) = pem.split_once("\n-----END")?;
    // The beginning is the same for all of an authority.
    pem.lines().last().map(str::to_owned)
}

#[test]
fn a_server_without_tls_is_taken_where_the_mode_allows_it() -> Result<()> {
    let authority = Certificates::new("servers")?;
    let ca = format!("ca = \"{}\"", authority.root().display());
    let host = Scene::default()
        .target("tls = \"prefer\"")
        .other_target("require", "tls = \"require\"")
        .other_target("ca", &format!("tls = {{ mode = \"verify-ca\", {ca} }}"))
        .other_target("full", &format!("tls = {{ mode = \"verify-full\", {ca} }}"))
        .server("log_connections = on")
        .start()?;
    assert_eq!(reaches(&host, "prod")?, "f");
    assert_eq!(host.last_session()?["target_tls"], Value::Null);
    for (target, mode) in [("require", "require"), ("ca", "verify-ca"), ("full", "verify-full")] {
        let words = format!("the server does not speak TLS, and the target's mode is \"{mode}\"");
        fails(&host, target, &words)?;
    }
    assert_eq!(
        host.postgres()
            .log()
            .matches(
                "connection authorized: user=postgres database=postgres application_name=cleaner"
            )
            .count(),
        1
    );
    Ok(())
}

#[test]
fn p8_what_is_no_proper_answer_to_the_request_for_tls_is_refused() -> Result<()> {
    let host = Scene::default().without_postgres().target("tls = \"require\"").start()?;
    let listener = TcpListener::bind((host.address(), 5432))?;
    let hello = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
    for (answer, words) in [
        (&b"G"[..], "answered the request for TLS with something else"),
        // An error of a server that is too busy to fork.
        (b"E\0\0\0\x0bFATAL\0\0", "answered the request for TLS with something else"),
        // Words in the clear behind the answer are not taken for encrypted ones (CVE-2021-23222).
        (&[b"S", &hello[..]].concat(), "the TLS handshake failed: received corrupt message"),
        (b"S", "the TLS handshake failed"),
        (b"", "could not connect to target prod"),
    ] {
        thread::scope(|scope| -> Result<()> {
            let listener = &listener;
            let server = scope.spawn(move || -> Result<Vec<u8>> {
                let (mut stream, _) = listener.accept()?;
                let mut request = [0; 8];
                stream.read_exact(&mut request)?;
                stream.write_all(answer)?;
                // Who does not like the answer may be gone by then.
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let mut more = Vec::new();
                let _ = stream.read_to_end(&mut more);
                Ok(more)
            });
            fails(&host, "prod", words)?;
            let more = server.join().expect("no panic")?;
            let start = more.windows(4).any(|part| part == b"user");
            assert!(!start, "{answer:?}: the start-up went on in the clear");
            Ok(())
        })?;
    }
    assert_eq!(host.counter("unreachable")?, 5);
    assert_eq!(host.counter("panics")?, 0);
    Ok(())
}

#[test]
fn p6_the_daemons_client_certificate_opens_the_target() -> Result<()> {
    let (servers, clients) = (Certificates::new("servers")?, Certificates::new("clients")?);
    let stranger = Certificates::new("stranger")?;
    let server = servers.issue("server", &["db.test"], Kind::Server, server_account()?)?;
    let identity = |of: &Certificates, user: &str, kind| -> Result<String> {
        let certificate = of.issue(user, &[user], kind, 0)?;
        let key = certificate.with_extension("key");
        let (certificate, key) = (certificate.display(), key.display());
        Ok(format!("certificate = \"{certificate}\", key = \"file:{key}\""))
    };
    let app = identity(&clients, "app", Kind::Client)?;
    let expired = identity(&clients, "late", Kind::Expired)?;
    let unknown = identity(&stranger, "app", Kind::Client)?;
    let tls = |more: &str| format!("tls = {{ mode = \"require\", {more} }}\n");
    let secret = clients.folder().join("password");
    fs::write(&secret, "correct horse\n")?;
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let password = format!("password = \"file:{}\"", secret.display());
    let host = Scene::default()
        // The certificate is the target's, and agents say who they are.
        .target(&tls(&app))
        .other_target("none", "tls = \"require\"")
        .other_target("expired", &tls(&expired))
        .other_target("unknown", &tls(&unknown))
        // The certificate is the credential.
        .other_target(
            "held",
            &format!("tls = \"require\"\ncredential = {{ user = \"app\", {app} }}"),
        )
        .other_target("held-none", "tls = \"require\"\ncredential = { user = \"app\" }")
        .other_target(
            "held-unknown",
            &format!("tls = \"require\"\ncredential = {{ user = \"app\", {unknown} }}"),
        )
        // Both are asked for.
        .other_target(
            "both",
            &format!("{}credential = {{ user = \"twofold\", {password} }}", tls(&app)),
        )
        .other_target(
            "one",
            &format!("tls = \"require\"\ncredential = {{ user = \"twofold\", {password} }}"),
        )
        .server(&format!("{}ssl_ca_file = '{}'", ssl(&server), clients.root().display()))
        .hba(
            "host all postgres all trust\nhostssl all app all cert\n\
             hostssl all twofold all scram-sha-256 clientcert=verify-ca\n",
        )
        .start()?;
    host.postgres().sql("CREATE ROLE app LOGIN")?;
    host.postgres().sql("CREATE ROLE twofold LOGIN PASSWORD 'correct horse'")?;
    let at = |target: &str, user: &str| {
        host.connect(
            &format!("host={} sslmode=disable user={user}", host.address_of(target)),
            &["SELECT current_user"],
        )
    };
    assert_eq!(at("prod", "app")?.ok()?, "app");
    assert_eq!(host.last_session()?["sign_on"], "relayed");
    assert_eq!(at("held", "whoever")?.ok()?, "app");
    assert_eq!(host.last_session()?["sign_on"], "client certificate");
    assert_eq!(at("both", "whoever")?.ok()?, "twofold");
    assert_eq!(host.last_session()?["sign_on"], "scram-sha-256-plus");

    // In TLS 1.2 the server looks at the certificate before the handshake is over.
    for version in ["TLSv1.3", "TLSv1.2"] {
        let sql = host.postgres();
        sql.sql(&format!("ALTER SYSTEM SET ssl_max_protocol_version = '{version}'"))?;
        sql.sql("SELECT pg_reload_conf()")?;
        wait_until("the server speaks it", || {
            at("prod", "app").is_ok_and(|out| out.code == Some(0))
                && host.last_session().is_ok_and(|session| {
                    session["target_tls"].as_str().is_some_and(|tls| tls.starts_with(version))
                })
        })?;
        client_certificates_that_do_not_open(&host)?;
        let out = host.connect(
            &format!("host={} sslmode=disable", host.address_of("both")),
            &["SELECT current_user"],
        )?;
        assert_eq!(out.ok()?, "twofold");
        assert_eq!(host.last_session()?["sign_on"], "scram-sha-256-plus", "{version}");
    }
    Ok(())
}

fn client_certificates_that_do_not_open(host: &Host) -> Result<()> {
    let wanted = "connection requires a valid client certificate";
    for (target, user, words) in [
        ("none", "app", wanted),
        ("held-none", "whoever", wanted),
        ("one", "whoever", wanted),
        ("expired", "app", "it does not accept the client certificate"),
        ("unknown", "app", "it does not accept the client certificate"),
        ("held-unknown", "whoever", "it does not accept the client certificate"),
    ] {
        let conninfo = format!("host={} sslmode=disable user={user}", host.address_of(target));
        let out = host.connect(&conninfo, &["SELECT 1"])?;
        assert_eq!(out.code, Some(2), "{target}");
        assert!(out.err.contains("FATAL:  ") && out.err.contains(words), "{target}: {}", out.err);
        let session = host.last_session()?;
        assert!(session["detail"].as_str().is_some_and(|d| d.contains(words)), "{session}");
        let events = host.events()?;
        let told = events.iter().rfind(|event| event["session"] == session["id"]);
        let told = told.with_context(|| format!("{target}: no event"))?;
        assert!(told["detail"].as_str().is_some_and(|d| d.contains(words)), "{told}");
    }
    Ok(())
}

/// PostgreSQL's documentation (ssl-tcp, "Creating Certificates"), to the letter.
const AS_DOCUMENTED: &str = r#"
set -e; cd "$0"
openssl req -new -nodes -text -out root.csr -keyout root.key -subj "/CN=root.yourdomain.com"
openssl x509 -req -in root.csr -text -days 3650 -extfile /etc/ssl/openssl.cnf -extensions v3_ca -signkey root.key -out root.crt
openssl req -new -nodes -text -out server.csr -keyout server.key -subj "/CN=dbhost.yourdomain.com"
openssl x509 -req -in server.csr -text -days 365 -CA root.crt -CAkey root.key -CAcreateserial -out server.pem
chmod og-rwx root.key server.key
"#;

#[test]
fn a_certificate_as_postgresqls_documentation_makes_it_will_do() -> Result<()> {
    let certificates = Certificates::new("unused")?;
    let folder = certificates.folder();
    let made =
        std::process::Command::new("bash").args(["-c", AS_DOCUMENTED]).arg(folder).output()?;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let certificate = folder.join("server.pem");
    std::os::unix::fs::chown(certificate.with_extension("key"), Some(server_account()?), None)?;
    let secret = folder.join("secret");
    fs::write(&secret, "correct horse")?;
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let (root, own) = (folder.join("root.crt"), certificate.display());
    let credential = format!("password = \"file:{}\"", secret.display());
    for version in ["TLSv1.3", "TLSv1.2"] {
        let host = Scene::default()
            .target("tls = \"require\"")
            .target(&format!("credential = {{ user = \"app\", {credential} }}"))
            .other_target("prefer", "tls = \"prefer\"")
            .other_target("own", &format!("tls = {{ mode = \"verify-ca\", ca = \"{own}\" }}"))
            .other_target(
                "root",
                &format!("tls = {{ mode = \"verify-ca\", ca = \"{}\" }}", root.display()),
            )
            .server(&format!("{}ssl_max_protocol_version = '{version}'", ssl(&certificate)))
            .hba("host all postgres all trust\nhost all app all scram-sha-256\n")
            .start()?;
        host.postgres().sql("CREATE ROLE app LOGIN PASSWORD 'correct horse'")?;
        for target in ["prod", "prefer", "own"] {
            assert_eq!(reaches(&host, target).context(target)?, "t", "{target}");
        }
        let sessions = host.closed_sessions()?;
        assert_eq!(sessions[0]["sign_on"], "scram-sha-256-plus");
        assert!(sessions[0]["target_tls"].as_str().is_some_and(|tls| tls.starts_with(version)));
        fails(&host, "root", "it is of X.509 version 1")?;
    }
    Ok(())
}
