//! How sessions start: with which settings, and in which version of the protocol.

use std::{
    io::{Read, Write},
    net::TcpListener,
    process::Command,
    thread,
};

use anyhow::{Context, Result};
use chaperone_host_tests::{Finished, Host, Scene};
use serde_json::Value;

use crate::versions::RAW;

/// psql with options for the server.
fn with_options(host: &Host, target: &str, options: &str, show: &str) -> Result<Finished> {
    let options = format!("PGOPTIONS={options}");
    let conninfo = format!("host={} sslmode=disable", host.address_of(target));
    let statement = format!("SHOW {show}");
    host.agent("env", &[&options, "psql", "-X", "-At", "-c", &statement, &conninfo])
}

/// What was recorded of start-up parameters, in order.
fn recorded(host: &Host) -> Result<Vec<Value>> {
    let program = "import sqlite3, sys\n\
                   db = sqlite3.connect('file:' + sys.argv[1] + '?mode=ro', uri=True)\n\
                   for row in db.execute('SELECT parameters FROM session_started ORDER BY seq'): print(*row)";
    let out = Command::new("/usr/bin/python3").args(["-c", program]).arg(host.log()).output()?;
    String::from_utf8(out.stdout)?.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

#[test]
fn p1_a_session_does_not_start_with_settings_that_nobody_decided() -> Result<()> {
    let host = Scene::default()
        .target("attribution = false")
        .other_target("more", "parameters = [\"search_path\"]")
        .server("log_connections = on")
        .start()?;
    host.postgres().sql("CREATE ROLE other")?;
    let connections = || host.postgres().log().matches("connection received").count();
    let before = connections();
    for (options, name) in [
        ("-c role=other", "role"),
        ("--session-authorization=other", "session_authorization"),
        ("-c jit=off -clocal_preload_libraries=x", "local_preload_libraries"),
        ("-c search_path=other", "search_path"),
        (r"-c application_name=a\\ -c role=other", "role"),
    ] {
        let out = with_options(&host, "prod", options, "jit")?;
        assert_eq!(out.code, Some(2), "{options}: {}", out.out);
        let said =
            format!("FATAL:  chaperone does not let a session start with the parameter {name}\n");
        assert!(out.err.contains(&said), "{options}: {}", out.err);
        assert!(out.err.contains("HINT:  Set it by a statement after signing on"), "{}", out.err);
        let session = host.last_session()?;
        assert_eq!(session["closed_by"], "daemon");
        assert!(session["detail"].as_str().is_some_and(|d| d.ends_with(name)), "{session}");
    }
    let out = with_options(&host, "prod", "-e", "jit")?;
    assert!(out.err.contains("with these options: \"-e\" is no setting"), "{}", out.err);
    assert_eq!(connections(), before, "the server heard of none of them");
    let kept = recorded(&host)?;
    assert_eq!(kept[0]["options"], "-c role=other", "what was asked for is recorded");

    for (target, options, show, value) in [
        ("prod", "-c statement_timeout=5s --lock-timeout=1s", "lock_timeout", "1s"),
        ("prod", r"-c application_name=a\ -c\ role=other", "role", "none"),
        ("more", "-c search_path=other", "search_path", "other"),
    ] {
        assert_eq!(with_options(&host, target, options, show)?.ok()?, value, "{options}");
    }
    // After the sign-on it is a statement as others are.
    let set = host.connect("sslmode=disable", &["SET role = other", "SELECT current_user"])?;
    assert_eq!(set.ok()?, "other");
    assert!(host.statements()?.contains(&"SET role = other".to_owned()));
    Ok(())
}

#[test]
fn p7_a_parameter_that_comes_twice_is_recorded_twice() -> Result<()> {
    let host = Scene::default().target("attribution = false").start()?;
    let out = host.python(&format!(
        r#"{RAW}
s, seen = start((3, 0), ("options", "-c lock_timeout=1s"), ("application_name", "a"), ("options", "-c lock_timeout=2s"), ("Application_Name", "b"))
s.sendall(b"Q\0\0\0\x16SHOW lock_timeout\0" + b"Q\0\0\0\x1aSHOW application_name\0" + b"X\0\0\0\x04")
print(*[body[6:].decode() for tag, body in everything(s) if tag == b"D"])
"#
    ))?;
    assert_eq!(out.ok()?, "2s b", "the last one counts");
    assert_eq!(
        recorded(&host)?[0],
        serde_json::json!({
            "user": "postgres",
            "database": "postgres",
            "options": ["-c lock_timeout=1s", "-c lock_timeout=2s"],
            "application_name": "a",
            "Application_Name": "b",
        })
    );
    Ok(())
}

#[test]
fn p1_no_server_hears_of_what_is_not_known_here() -> Result<()> {
    let host = Scene::default()
        .without_postgres()
        .other_target("held", "credential = { user = \"app\" }")
        .start()?;
    let ready = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I".to_vec();
    let older = [b"v\0\0\0\x0c\0\x03\0\0\0\0\0\0", &ready[..]].concat();
    // Bound once: a program that another test starts holds on to what is open for a moment.
    let bind = |target| TcpListener::bind((host.address_of(target), 5432));
    let listeners = [("prod", bind("prod")?), ("held", bind("held")?)];
    // A server that knows 3.2, and one that is older.
    for (said, heard) in [
        (&ready, r"b'\x00\x03\x00\x02\x00\x00\x00\x01_pq_.news\x00'"),
        (&older, r"b'\x00\x03\x00\x00\x00\x00\x00\x01_pq_.news\x00'"),
    ] {
        // In pieces of so many bytes.
        for (target, size) in [("prod", 1), ("prod", 99), ("held", 99)] {
            let said = said.clone();
            let listener = listeners.iter().find(|(name, _)| *name == target);
            let listener = listener.context("a target")?.1.try_clone()?;
            let server = thread::spawn(move || -> Result<Vec<u8>> {
                let (mut stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                let mut bytes = vec![0; 4096];
                let length = stream.read(&mut bytes)?;
                for part in said.chunks(size) {
                    stream.write_all(part)?;
                    thread::yield_now();
                }
                let _ = stream.read(&mut [0; 64]);
                bytes.truncate(length);
                Ok(bytes)
            });
            let at = format!("PGHOST={}", host.address_of(target));
            let program = format!(
                "{RAW}\ns, seen = start((3, 77), ('_pq_.news', 'x'))\nprint(b''.join(t for t, _ in seen).decode(), *[b for t, b in seen if t == b'v'])\ns.close()"
            );
            let out = host.agent("env", &[&at, "/usr/bin/python3", "-c", &program])?.ok()?;
            assert_eq!(out, format!("vRZ {heard}"), "{target}");
            let asked = server.join().expect("no panic")?;
            assert_eq!(&asked[4..8], b"\0\x03\0\x02", "{target}: {asked:?}");
            assert!(!asked.windows(5).any(|part| part == b"_pq_."), "{target}: {asked:?}");
        }
    }
    let asked = recorded(&host)?;
    assert_eq!(asked.first().context("recorded")?["_pq_.news"], "x");
    Ok(())
}
