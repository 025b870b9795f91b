//! P4 and P1 of tunnels: OpenSSH's forwards, where a rule allows them, carry what they carry without the
//! daemon, and each is in the log.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use chaperone_host_tests::wait_until;

use super::{Ssh, WAYS, Way, words, writable};

const ALLOWED: &str = "[[rule]]\nname = \"tunnels\"\nthen = \"allow\"\n\
    when = { kind = [\"FORWARD\", \"FORWARD SOCKET\", \"LISTEN\", \"LISTEN SOCKET\", \"AGENT\"] }";

/// Somebody who says backwards what is said to it, on an address and port of its own.
pub(super) fn echo(address: Ipv4Addr) -> Result<u16> {
    let listener = TcpListener::bind((address, 0))?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            thread::spawn(move || -> std::io::Result<()> {
                let mut said = Vec::new();
                stream.read_to_end(&mut said)?;
                said.reverse();
                stream.write_all(&said)
            });
        }
    });
    Ok(port)
}

/// What comes back of bytes that are said there.
fn says(stream: &mut TcpStream, bytes: &[u8]) -> Result<Vec<u8>> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut writer = stream.try_clone()?;
    let said = bytes.to_vec();
    let writing = thread::spawn(move || -> std::io::Result<()> {
        writer.write_all(&said)?;
        writer.shutdown(std::net::Shutdown::Write)
    });
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard)?;
    writing.join().ok().context("the writer")??;
    Ok(heard)
}

fn content() -> (Vec<u8>, Vec<u8>) {
    let content: Vec<u8> = (0..500_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut backwards = content.clone();
    backwards.reverse();
    (content, backwards)
}

/// A port that nobody has just now.
fn free(address: Ipv4Addr) -> Result<u16> {
    Ok(TcpListener::bind((address, 0))?.local_addr()?.port())
}

#[test]
fn p4_forwards_carry_what_they_carry_directly() -> Result<()> {
    let ssh = Ssh::start(ALLOWED)?;
    let address = ssh.host.address();
    let there = echo(address)?;
    let (content, backwards) = content();
    for way in WAYS {
        let (local, socks, remote) = (free(address)?, free(address)?, free(address)?);
        let folder = ssh.host.folder().join(format!("sockets-{way:?}"));
        fs::create_dir(&folder)?;
        writable(&folder)?;
        let sockets = folder.display().to_string();
        let line = ssh.line(
            way,
            &[
                "-N",
                "-o",
                "ExitOnForwardFailure=yes",
                "-L",
                &format!("{address}:{local}:{address}:{there}"),
                "-D",
                &format!("{address}:{socks}"),
                "-R",
                &format!("{remote}:{address}:{there}"),
                "-R",
                &format!("{sockets}/remote:{address}:{there}"),
                "-L",
                &format!("{sockets}/local:{sockets}/remote"),
            ],
            &[],
        );
        let client = ssh.begin(way, "ssh", &words(&line))?;
        let remote_at = (Ipv4Addr::LOCALHOST, remote);
        wait_until("the forwards", || {
            TcpStream::connect((address, local)).is_ok() && folder.join("remote").exists()
        })?;
        for _ in 0..3 {
            let mut stream = TcpStream::connect((address, local))?;
            let heard = says(&mut stream, &content).with_context(|| format!("{way:?} -L"))?;
            assert!(heard == backwards, "{way:?} -L");
            let mut stream = TcpStream::connect(remote_at)?;
            let heard = says(&mut stream, &content).with_context(|| {
                format!(
                    "{way:?} -R {:?} {:?}",
                    ssh.host.events(),
                    ssh.host.chaperone(&["log", "sessions", "--json"])
                )
            })?;
            assert!(heard == backwards, "{way:?} -R");
            // SOCKS, version 5, without sign-on (RFC 1928).
            let mut stream = TcpStream::connect((address, socks))?;
            stream.write_all(&[5, 1, 0])?;
            let mut answer = [0; 2];
            stream.read_exact(&mut answer)?;
            assert_eq!(answer, [5, 0]);
            stream.write_all(&[5, 1, 0, 1])?;
            stream.write_all(&address.octets())?;
            stream.write_all(&there.to_be_bytes())?;
            let mut answer = [0; 10];
            stream.read_exact(&mut answer)?;
            assert_eq!(answer[1], 0, "{way:?} -D");
            let heard = says(&mut stream, &content).with_context(|| format!("{way:?} -D"))?;
            assert!(heard == backwards, "{way:?} -D");
        }
        // One socket behind the other.
        let program = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n\
                       s.sendall(b'abc')\ns.shutdown(socket.SHUT_WR)\nprint(s.recv(9).decode())";
        let path = format!("{sockets}/local");
        let done = ssh.run(way, "/usr/bin/python3", &["-c", program, &path], "")?;
        assert_eq!(done.out, "cba\n", "{way:?}: {done:?}");
        drop(client);
    }
    let commands = ssh.commands("forward", 9)?;
    let of = |text: &str| {
        let has = |one: &&serde_json::Value| {
            one["statement"].as_str().is_some_and(|statement| statement.contains(text))
        };
        commands.iter().filter(has).collect::<Vec<_>>()
    };
    let through = of(&format!("forward to \"{address}\":{there}"));
    assert!(through.len() >= 6, "{commands:?}");
    for one in through.iter().filter(|one| one["bytes"] != 0) {
        assert_eq!((&one["status"], &one["bytes"]), (&"ok".into(), &2_000_000.into()), "{one}");
    }
    assert_eq!(of("listen on \"localhost\"").len(), 1, "{commands:?}");
    assert_eq!(of("listen on socket").len(), 1, "{commands:?}");
    Ok(())
}

#[test]
fn p4_a_port_that_the_server_chooses_is_told_and_one_that_fails_too() -> Result<()> {
    let ssh = Ssh::start(ALLOWED)?;
    let address = ssh.host.address();
    let there = echo(address)?;
    for way in WAYS {
        let line = ssh.line(way, &["-R", &format!("0:{address}:{there}")], &["cat; echo end"]);
        let mut client = ssh.begin(way, "ssh", &words(&line))?;
        client.say("begun")?;
        assert_eq!(client.hear()?, "begun");
        let done = client.finish()?;
        assert!(done.err.contains("Allocated port"), "{way:?}: {done:?}");
    }
    let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let taken = held.local_addr()?.port();
    let _held_too = TcpListener::bind((std::net::Ipv6Addr::LOCALHOST, taken));
    let wants = format!("{taken}:{address}:{there}");
    let done = ssh.both(&["-o", "ExitOnForwardFailure=yes", "-R", &wants], &["echo in"], "")?;
    assert_eq!(done.code, Some(255), "{done:?}");
    let failed = ssh.commands("forward", 2)?;
    assert_eq!(failed.last().map(|one| &one["status"]), Some(&"error".into()), "{failed:?}");
    // Nobody listens there.
    let nobody = free(address)?;
    let done = ssh.both(&["-W", &format!("{address}:{nobody}")], &[], "")?;
    assert!(done.err.contains("Connection refused"), "{done:?}");
    Ok(())
}

#[test]
fn p4_the_keys_of_an_agents_own_ssh_agent_are_forwarded_where_a_rule_says_so() -> Result<()> {
    let ssh = Ssh::start(ALLOWED)?;
    let script = "eval $(ssh-agent) >/dev/null; cat \"$0\" | ssh-add -q -; ssh \"$@\"; code=$?; \
                  kill $SSH_AGENT_PID; exit $code";
    let key = ssh.host.folder().join("ssh/of-both").display().to_string();
    fs::copy(ssh.host.folder().join("ssh/key"), &key)?;
    writable(key.as_ref())?;
    let mut said = Vec::new();
    for way in WAYS {
        let line = ssh.line(way, &["-A"], &["ssh-add -l"]);
        let mut all = vec!["-c", script, &key];
        all.extend(words(&line));
        said.push(ssh.run(way, "bash", &all, "")?.ok()?);
    }
    assert!(said[1].contains("SHA256:"), "{said:?}");
    assert_eq!(said[0], said[1]);
    let recorded = ssh.commands("forward", 1)?;
    assert_eq!(recorded[0]["statement"], "forward the ssh-agent", "{recorded:?}");

    let ssh = Ssh::start("")?;
    let line = ssh.line(Way::Through, &["-A"], &["ssh-add -l; echo \"[$SSH_AUTH_SOCK]\""]);
    let key = ssh.host.folder().join("ssh/of-both").display().to_string();
    fs::copy(ssh.host.folder().join("ssh/key"), &key)?;
    writable(key.as_ref())?;
    let mut all = vec!["-c", script, &key];
    all.extend(words(&line));
    let done = ssh.run(Way::Through, "bash", &all, "")?;
    assert_eq!(done.out, "[]\n", "{done:?}");
    assert_eq!(ssh.commands("forward", 1)?[0]["status"], "refused");
    Ok(())
}
