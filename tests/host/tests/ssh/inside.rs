//! P1, P2, P5 and P6 inside of tunnels: what OpenSSH's forwards lead to a target is decided, masked and
//! recorded as a session of its own, by whatever name the target goes there.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use chaperone_host_tests::{Finished, Running, Scene, wait_until};
use serde_json::Value;

use super::{Ssh, UID, Way, words};

const HOST_KEYS: &str = "host_keys = [\"{folder}/ssh/known\"]\n\
    credential = { user = \"root\", key = \"file:{folder}/ssh/key\" }";
const ALLOWED: &str = "[[rule]]\nname = \"tunnels\"\nthen = \"allow\"\n\
    when = { target = \"web\", kind = [\"FORWARD\", \"FORWARD SOCKET\", \"LISTEN\"] }\n";
/// The database as the SSH server sees it, with a credential of the daemon's.
const BEHIND: &str = "[[target]]\nname = \"behind\"\nprotocol = \"postgres\"\nthrough = \"web\"\n\
    address = [\"SSH-ADDRESS:5432\"]\ntls = \"disable\"\ncredential = { user = \"postgres\" }\n";

fn with(rules: &str) -> Result<Ssh> {
    Ssh::of(Scene::default(), HOST_KEYS, &format!("{ALLOWED}{rules}"), "")
}

fn free(address: Ipv4Addr) -> Result<u16> {
    Ok(TcpListener::bind((address, 0))?.local_addr()?.port())
}

/// A start-up message of PostgreSQL's, which is text.
const STARTUP: &str = "\0\0\0\x17\0\x03\0\0user\0postgres\0\0";

impl Ssh {
    /// A client with this option, once this port answers.
    fn forwarding(&self, options: &[&str], local: u16) -> Result<Running> {
        let line = self.line(Way::Through, &[&["-N"], options].concat(), &[]);
        let client = self.begin(Way::Through, "ssh", &words(&line))?;
        let address = self.host.address();
        wait_until("the forward", || TcpStream::connect((address, local)).is_ok())?;
        Ok(client)
    }

    fn psql(&self, port: u16, more: &str, sql: &[&str]) -> Result<Finished> {
        let line = format!(
            "host={} port={port} user=postgres dbname=postgres connect_timeout=20 {more}",
            self.host.address()
        );
        let mut args = vec!["-X", "-q", "-At", "-d", line.as_str()];
        for statement in sql {
            args.extend(["-c", statement]);
        }
        let program = self.host.postgres().bin().join("psql");
        self.host.other(UID, program.to_str().context("a path")?, &args)
    }

    /// A file with a client's options: those of its line are not those of its jumps.
    fn client_config(&self) -> Result<String> {
        let config = self.host.folder().join("client");
        let text = format!(
            "Host *\nPort 2222\nUser root\nBatchMode yes\nUserKnownHostsFile none\nGlobalKnownHostsFile {}\n",
            self.known_hosts.display()
        );
        fs::write(&config, text)?;
        Ok(config.display().to_string())
    }

    /// Sessions that are over, of a target.
    fn sessions(&self, target: &str, count: usize) -> Result<Vec<Value>> {
        let mut found = Vec::new();
        wait_until("sessions in the log", || {
            let all = self.host.closed_sessions().unwrap_or_default();
            found = all.into_iter().filter(|one| one["target"] == target).collect();
            found.len() >= count
        })
        .with_context(|| format!("{found:?}\n{}", self.host.daemon_output()))?;
        Ok(found)
    }
}

#[test]
fn p1_p5_p6_postgres_in_a_tunnel_is_decided_masked_and_recorded() -> Result<()> {
    let ssh = with(&format!(
        "{BEHIND}[[rule]]\nname = \"nothing goes\"\nwhen = {{ target = \"behind\", class = \"destructive\" }}\n\
         then = \"deny\"\n[[mask]]\nname = \"mail\"\ncolumns = [\"public.people.mail\"]\nwith = \"null\"\n\
         when = {{ target = \"behind\" }}\n"
    ))?;
    ssh.host.postgres().sql(
        "CREATE TABLE people (id int, mail text); INSERT INTO people VALUES (1, 'ada@example.org'), (2, 'bob@example.org')",
    )?;
    let address = ssh.host.address();
    let local = free(address)?;
    let client = ssh.forwarding(&["-L", &format!("{address}:{local}:{address}:5432")], local)?;
    for tls in ["sslmode=disable", "sslmode=require"] {
        let done = ssh.psql(local, tls, &["SELECT id, mail FROM people ORDER BY id"])?;
        ensure!(done.out == "1|\n2|\n", "{tls}: {done:?}\n{}", ssh.host.daemon_output());
        // A long result, and much that goes up.
        let done =
            ssh.psql(local, tls, &["SELECT repeat('x', 1000) FROM generate_series(1, 20000)"])?;
        assert_eq!(done.out.len(), 20_020_000, "{}", done.err);
    }
    let done = ssh.psql(local, "", &["DELETE FROM people", "SELECT count(*) FROM people"])?;
    assert!(done.err.contains("nothing goes"), "{done:?}");
    assert_eq!(ssh.host.postgres().sql("SELECT count(*) FROM people")?, "2");
    drop(client);
    let inside = ssh.sessions("behind", 4)?;
    let outer = ssh.sessions("web", 1)?.remove(0);
    let worked = inside.iter().filter(|one| one["commands"] != 0).collect::<Vec<_>>();
    assert!(worked.len() >= 5, "{inside:?}");
    for session in &worked {
        assert_eq!(session["inside"], outer["id"], "{session}");
        assert_eq!(session["server"], format!("{address}:5432"), "{session}");
        assert_eq!(session["lineage"], outer["lineage"], "{session}");
        assert_eq!(session["sign_on"], "without a password", "{session}");
    }
    let encrypted = worked.iter().filter(|one| !one["agent_tls"].is_null()).count();
    assert!(encrypted >= 2, "{worked:?}");
    let text = ssh.host.commands()?.iter().map(ToString::to_string).collect::<String>();
    assert!(
        text.contains("SELECT id, mail FROM people") && text.contains("nothing goes"),
        "{text}"
    );
    // The tunnels say which sessions they carried, and how much.
    let forwards = ssh.commands("forward", 5)?;
    let of = |session: &Value| format!("session {}", session["id"]);
    for session in worked {
        let tag = Value::from(of(session));
        let found = forwards.iter().find(|one| one["tag"] == tag);
        let found = found.with_context(|| format!("{tag}: {forwards:?}"))?;
        assert!(found["bytes"].as_u64() > Some(100) && found["status"] == "ok", "{found}");
    }
    let log = fs::read(ssh.host.log())?;
    let leaked = log.windows(15).any(|part| part == b"ada@example.org");
    assert!(!leaked, "the log has what is masked");
    Ok(())
}

#[test]
fn p1_dynamic_forwards_lead_to_targets_as_well() -> Result<()> {
    let ssh = with("")?;
    let address = ssh.host.address();
    let socks = free(address)?;
    let client = ssh.forwarding(&["-D", &format!("{address}:{socks}")], socks)?;
    let mut stream = TcpStream::connect((address, socks))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(&[5, 1, 0])?;
    stream.read_exact(&mut [0; 2])?;
    // By a name, which the far end looks up (RFC 1928): it is the server itself.
    let name = address.to_string();
    stream.write_all(&[5, 1, 0, 3, u8::try_from(name.len())?])?;
    stream.write_all(name.as_bytes())?;
    stream.write_all(&5432_u16.to_be_bytes())?;
    let mut answer = [0; 10];
    stream.read_exact(&mut answer)?;
    assert_eq!(answer[1], 0);
    stream.write_all(STARTUP.as_bytes())?;
    let query = b"Q\0\0\0\x16SELECT 40 + 2 AS n\0";
    stream.write_all(&query[..1])?;
    stream.write_all(&u32::try_from(query.len() - 1)?.to_be_bytes())?;
    stream.write_all(&query[5..])?;
    stream.write_all(b"X\0\0\0\x04")?;
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard)?;
    assert!(heard.windows(2).any(|part| part == b"42"), "{heard:?}");
    drop(client);
    let inside = ssh.sessions("prod", 1)?;
    assert_eq!(
        (&inside[0]["commands"], inside[0]["inside"].is_u64()),
        (&1.into(), true),
        "{inside:?}"
    );
    assert!(ssh.host.commands()?.iter().any(|one| one["statement"] == "SELECT 40 + 2 AS n"));
    Ok(())
}

#[test]
fn p1_ssh_in_ssh_is_decided_and_recorded() -> Result<()> {
    let ssh = with(
        "[[rule]]\nname = \"keep\"\nwhen = { target = \"web\", program = \"rm\" }\nthen = \"deny\"\n",
    )?;
    let address = ssh.host.address();
    let config = ssh.client_config()?;
    let place = address.to_string();
    let run = |more: &[&str]| {
        let args = [&["-F", &config, "-J", &place, &place], more].concat();
        ssh.run(Way::Through, "ssh", &args, "in")
    };
    let done = run(&["cat; echo out; exit 5"])?;
    ensure!(
        (done.code, done.out.as_str()) == (Some(5), "inout\n"),
        "{done:?}\n{}",
        ssh.host.daemon_output()
    );
    let done = run(&["rm -rf /nowhere/at/all"])?;
    assert_eq!(done.code, Some(126), "{done:?}");
    assert!(done.err.contains("keep"), "{done:?}");
    let large = run(&["head -c 20000000 /dev/zero"])?;
    assert_eq!(large.out.len(), 20_000_000, "{}", large.err);
    let sessions = ssh.sessions("web", 6)?;
    let inside: Vec<_> = sessions.iter().filter(|one| !one["inside"].is_null()).collect();
    assert_eq!(inside.len(), 3, "{sessions:?}");
    for session in &inside {
        let is_outer = |one: &&Value| one["id"] == session["inside"];
        let outer = sessions.iter().find(is_outer).context("the outer session")?;
        assert!(outer["inside"].is_null() && outer["commands"] == 1, "{outer}");
    }
    let execs = ssh.commands("exec", 3)?;
    assert_eq!(execs.iter().filter(|one| one["status"] == "refused").count(), 1, "{execs:?}");
    // One more, inside of that.
    let line = format!("ProxyCommand=ssh -F {config} -J {place} -W {place}:2222 {place}");
    let args = ["-F", &config, "-o", &line, &place, "echo deep"];
    let done = ssh.run(Way::Through, "ssh", &args, "")?;
    assert_eq!(done.out, "deep\n", "{done:?}\n{}", ssh.host.daemon_output());
    let sessions = ssh.sessions("web", 9)?;
    let outer = |one: &Value| sessions.iter().find(|other| other["id"] == one["inside"]).cloned();
    let last = sessions.iter().max_by_key(|one| one["id"].as_u64()).context("a session")?;
    let middle = outer(last).context("what it is in")?;
    assert!(outer(&middle).is_some_and(|first| first["inside"].is_null()), "{sessions:?}");
    Ok(())
}

#[test]
fn p2_a_target_is_found_by_every_spelling_or_the_tunnel_is_refused() -> Result<()> {
    let ssh = with("")?;
    let address = ssh.host.address();
    let [a, b, c, d] = address.octets();
    let number = u32::from(address);
    let (high, low) = (number >> 16, number & 0xffff);
    let own = [
        "localhost",
        "LOCALHOST",
        "localhost.",
        "a.localhost",
        "127.0.0.1",
        "127.9.9.9",
        "[::1]",
        "0.0.0.0",
    ];
    let mut ways: Vec<(String, bool)> =
        own.iter().map(|host| (format!("{host}:5432"), true)).collect();
    ways.extend([
        (format!("{address}:5432"), true),
        (format!("[::ffff:{address}]:5432"), true),
        (format!("[::ffff:{high:x}:{low:x}]:5432"), true),
        (format!("{number}:5432"), false),
        (format!("{number:#x}:5432"), false),
        (format!("{a}.{}:5432", (u32::from(b) << 16) | (u32::from(c) << 8) | u32::from(d)), false),
        (format!("0{a:o}.{b}.{c}.{d}:5432"), false),
        (format!("{a}.{b}.{c}.00{d:o}:5432"), false),
        ("0:5432".into(), false),
        ("0x7f.1:5432".into(), false),
        ("host.of.nobody:5432".into(), false),
    ]);
    for (place, is_told) in &ways {
        let line = ssh.line(Way::Through, &["-W", place], &[]);
        let done = ssh.run(Way::Through, "ssh", &words(&line), STARTUP)?;
        if *is_told {
            // The engine answers, or says that the far end has nobody there.
            assert!(!done.err.contains("cannot tell"), "{place}: {done:?}");
        } else {
            assert!(done.out.is_empty(), "{place}: {done:?}");
            assert!(done.err.contains("cannot tell where this tunnel leads"), "{place}: {done:?}");
        }
    }
    let forwards = ssh.commands("forward", ways.len())?;
    assert_eq!(forwards.len(), ways.len());
    for ((place, is_told), one) in ways.iter().zip(&forwards) {
        let tag = one["tag"].as_str().unwrap_or_default();
        let carried = tag.starts_with("session ");
        assert_eq!(carried, *is_told, "{place}: {one}");
        assert_eq!(one["status"] == "refused", !is_told, "{place}: {one}");
    }
    let inside = ssh.sessions("prod", ways.iter().filter(|(_, is_told)| *is_told).count())?;
    assert!(inside.iter().all(|one| !one["inside"].is_null()));
    assert!(ssh.host.events()?.iter().all(|one| one["kind"] != "passed-by"));
    Ok(())
}

#[test]
fn p2_sockets_of_a_target_and_ports_that_are_none_are_refused() -> Result<()> {
    let ssh = with("")?;
    let address = ssh.host.address();
    let local = free(address)?;
    let folder = ssh.host.folder().display().to_string();
    let forward = format!("{address}:{local}:{folder}/.s.PGSQL.5432");
    let client = ssh.forwarding(&["-L", &forward], local)?;
    let mut stream = TcpStream::connect((address, local))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(STARTUP.as_bytes())?;
    let mut heard = Vec::new();
    let _ = stream.read_to_end(&mut heard);
    assert!(heard.is_empty());
    drop(client);
    let forwards = ssh.commands("forward", 2)?;
    assert!(
        forwards.iter().all(|one| one["status"] == "refused" && one["rule"] == "tunnel"),
        "{forwards:?}"
    );
    // What some cut: no client of OpenSSH's asks for such a port.
    let program = "import sys, paramiko, socket\n\
        c = paramiko.SSHClient(); c.set_missing_host_key_policy(paramiko.AutoAddPolicy())\n\
        c.connect(sys.argv[1], 2222, username='root', password='x', look_for_keys=False, allow_agent=False)\n\
        try:\n    c.get_transport().open_channel('direct-tcpip', (sys.argv[1], 65536 + 5432), ('127.0.0.1', 1), timeout=20)\n\
        except paramiko.ChannelException as error:\n    print('refused', error)\n";
    let python = std::env::var("CHAPERONE_PYTHON").unwrap_or_else(|_| "/usr/bin/python3".into());
    let done = ssh.host.other(UID, &python, &["-c", program, &address.to_string()])?;
    assert!(done.out.starts_with("refused"), "{done:?}");
    Ok(())
}

#[test]
fn p6_the_daemons_credential_is_not_used_where_the_far_end_could_be_anybody() -> Result<()> {
    let scene = Scene::default().target("credential = { user = \"postgres\" }");
    let ssh = Ssh::of(scene, HOST_KEYS, ALLOWED, "")?;
    let address = ssh.host.address();
    let local = free(address)?;
    let _client = ssh.forwarding(&["-L", &format!("{address}:{local}:{address}:5432")], local)?;
    let done = ssh.psql(local, "", &["SELECT 1"])?;
    assert!(
        done.err.contains("does not use its credential"),
        "{done:?}\n{}",
        ssh.host.daemon_output()
    );
    assert_eq!(done.out, "");
    // From this host it is.
    assert_eq!(ssh.psql(5432, "", &["SELECT 1"])?.out, "1\n");
    Ok(())
}

#[test]
fn what_goes_through_other_tunnels_is_counted_and_named() -> Result<()> {
    let ssh = with("")?;
    let address = ssh.host.address();
    let there = super::tunnels::echo(address)?;
    for (said, looks) in [
        (STARTUP, Some("PostgreSQL")),
        ("SSH-2.0-OpenSSH_9.9\r\n", Some("SSH")),
        ("GET / HTTP/1.1\r\n\r\n", Some("HTTP")),
        ("\x16\x03\x01\x00\x05hello", Some("TLS")),
        ("EHLO there\r\n", None),
    ] {
        let before = ssh.host.commands()?.len();
        let line = ssh.line(Way::Through, &["-W", &format!("{address}:{there}")], &[]);
        let done = ssh.run(Way::Through, "ssh", &words(&line), said)?;
        assert_eq!(done.out.len(), said.len(), "{done:?}");
        let one = ssh.commands("forward", before + 1)?.pop().context("the forward")?;
        assert_eq!(one["tag"].as_str(), looks, "{one}");
        assert_eq!((&one["bytes"], &one["bytes_in"]), (&said.len().into(), &said.len().into()));
    }
    let events = ssh.host.events()?;
    let passed: Vec<_> = events.iter().filter(|one| one["kind"] == "passed-by").collect();
    assert_eq!(passed.len(), 2, "{events:?}");
    assert!(passed[0]["detail"].as_str().is_some_and(|said| said.contains("leads to no target")));
    Ok(())
}

#[test]
fn p8_a_session_inside_that_is_not_read_stops_nobody_else() -> Result<()> {
    let ssh = with("")?;
    let address = ssh.host.address();
    let local = free(address)?;
    let _client = ssh.forwarding(&["-L", &format!("{address}:{local}:{address}:5432")], local)?;
    let mut stalled = TcpStream::connect((address, local))?;
    stalled.write_all(STARTUP.as_bytes())?;
    let text = b"SELECT repeat('x', 1000000) FROM generate_series(1, 2000)\0";
    let mut query = vec![b'Q'];
    query.extend(u32::try_from(text.len() + 4)?.to_be_bytes());
    query.extend(text);
    stalled.write_all(&query)?;
    std::thread::sleep(Duration::from_secs(1));
    for _ in 0..5 {
        let done = ssh.psql(local, "", &["SELECT 40 + 2"])?;
        assert_eq!(done.out, "42\n", "{done:?}");
    }
    let peak = ssh.host.daemon_peak_kib()?;
    assert!(peak < 400 * 1024, "{peak} KiB");
    Ok(())
}

#[test]
fn keys_are_renewed_by_time_on_both_sides() -> Result<()> {
    let scene = Scene::default().without_postgres().daemon("ssh_rekey = \"1s\"");
    let ssh = Ssh::of(scene, HOST_KEYS, "", "LogLevel DEBUG1")?;
    let command =
        "for i in 1 2 3 4 5; do echo $i; sleep 1; done; head -c 50000000 /dev/zero | tr '\\0' x";
    let line = ssh.line(Way::Through, &["-vv"], &[command]);
    let done = ssh.run(Way::Through, "ssh", &words(&line), "")?;
    ensure!(done.code == Some(0), "{:?} {}\n{}", done.code, done.err, ssh.host.daemon_output());
    assert_eq!(done.out.len(), 10 + 50_000_000);
    let renewed = done.err.matches("SSH2_MSG_KEXINIT received").count();
    assert!(renewed >= 4, "{renewed}: {}", done.err);
    let log = fs::read_to_string(ssh.host.folder().join("ssh/log"))?;
    let renewed = log.matches("SSH2_MSG_KEXINIT received").count();
    assert!(renewed >= 4, "{renewed}: {log}");
    Ok(())
}

#[test]
fn p6_no_host_key_is_pinned_in_a_tunnel() -> Result<()> {
    let first = "host_keys = \"first-use\"\n\
        credential = { user = \"root\", key = \"file:{folder}/ssh/key\" }";
    let ssh = Ssh::of(Scene::default().without_postgres(), first, ALLOWED, "")?;
    let address = ssh.host.address();
    let pins = ssh.host.folder().join("authority/ssh_first_use");
    // What is pinned already is believed there as well.
    assert_eq!(ssh.ssh(&["echo in"])?.out, "in\n", "{}", ssh.host.daemon_output());
    let kept = fs::read_to_string(&pins)?;
    let config = ssh.client_config()?;
    let place = address.to_string();
    let through = ["-F", &config, "-J", &place, &place, "echo deep"];
    let done = ssh.run(Way::Through, "ssh", &through, "")?;
    assert_eq!(done.out, "deep\n", "{done:?}\n{}", ssh.host.daemon_output());
    assert_eq!(fs::read_to_string(&pins)?, kept);
    drop(ssh);
    // A server of which nothing is known.
    let more = "[[target]]\nname = \"net\"\nprotocol = \"ssh\"\naddress = [\"SSH-ADDRESS:2223\"]\n\
        host_keys = \"first-use\"\ncredential = { user = \"root\", key = \"file:{folder}/ssh/key\" }\n";
    let scene = Scene::default().without_postgres();
    let also = "ListenAddress SSH-ADDRESS:2223";
    let ssh = Ssh::of(scene, HOST_KEYS, &format!("{ALLOWED}{more}"), also)?;
    let config = ssh.client_config()?;
    let place = ssh.host.address().to_string();
    let pins = ssh.host.folder().join("authority/ssh_first_use");
    let through = ["-F", &config, "-J", &place, "-p", "2223", &place, "echo deep"];
    let done = ssh.run(Way::Through, "ssh", &through, "")?;
    assert_eq!(done.out, "", "{done:?}");
    assert!(done.err.contains("host key"), "{done:?}");
    assert!(!pins.exists());
    // From this host it is.
    let done =
        ssh.run(Way::Through, "ssh", &["-F", &config, "-p", "2223", &place, "echo in"], "")?;
    assert_eq!(done.out, "in\n", "{done:?}\n{}", ssh.host.daemon_output());
    assert!(pins.exists());
    let done = ssh.run(Way::Through, "ssh", &through, "")?;
    assert_eq!(done.out, "deep\n", "{done:?}\n{}", ssh.host.daemon_output());
    Ok(())
}

#[test]
fn p4_who_waits_in_a_tunnel_can_cancel_and_is_told_where_nobody_answers() -> Result<()> {
    let nobody = "[[target]]\nname = \"nobody\"\nprotocol = \"postgres\"\nthrough = \"web\"\n\
        address = [\"localhost:5999\"]\ntls = \"disable\"\n";
    let ssh = with(&format!("{BEHIND}{nobody}"))?;
    let address = ssh.host.address();
    let (local, lost) = (free(address)?, free(address)?);
    let _client = ssh.forwarding(
        &[
            "-L",
            &format!("{address}:{local}:{address}:5432"),
            "-L",
            &format!("{address}:{lost}:127.0.0.1:5999"),
        ],
        local,
    )?;
    let program = ssh.host.postgres().bin().join("psql").display().to_string();
    let line = format!("host={address} port={local} user=postgres dbname=postgres");
    let script = format!(
        "timeout --foreground -s INT 3 '{program}' -X -At -d '{line}' -c 'SELECT pg_sleep(60)'; echo \"code $?\""
    );
    let done = ssh.host.other(UID, "bash", &["-c", &script])?;
    assert!(done.err.contains("canceling statement due to user request"), "{done:?}");
    let done = ssh.psql(lost, "", &["SELECT 1"])?;
    assert!(done.err.contains("could not connect to target nobody"), "{done:?}");
    assert!(done.err.contains("127.0.0.1:5999"), "{done:?}");
    let cancels = ssh.commands("cancel", 1)?;
    assert_eq!(cancels[0]["status"], "ok", "{cancels:?}");
    Ok(())
}

#[test]
fn what_is_in_a_tunnel_ends_with_the_daemon() -> Result<()> {
    let mut ssh = with(BEHIND)?;
    let address = ssh.host.address();
    let local = free(address)?;
    let client = ssh.forwarding(&["-L", &format!("{address}:{local}:{address}:5432")], local)?;
    let mut idle = TcpStream::connect((address, local))?;
    idle.set_read_timeout(Some(Duration::from_secs(30)))?;
    idle.write_all(STARTUP.as_bytes())?;
    idle.read_exact(&mut [0; 9])?;
    let before = std::time::Instant::now();
    assert_eq!(ssh.host.stop_daemon()?, Some(0));
    // A session at rest is told so, and the one that it is in need not wait for more.
    let mut last = Vec::new();
    let _ = idle.read_to_end(&mut last);
    assert!(last.windows(5).any(|part| part == b"57P01"), "{last:?}");
    assert!(before.elapsed() < Duration::from_secs(8), "{:?}", before.elapsed());
    drop(client);
    ssh.host.start_daemon()?;
    let inside = ssh.sessions("behind", 2)?;
    let has_begun = |one: &&Value| one["asked_user"] == "postgres";
    let ended = inside.iter().find(has_begun).context("the session")?;
    assert_eq!(ended["closed_by"], "daemon", "{ended}");
    Ok(())
}
