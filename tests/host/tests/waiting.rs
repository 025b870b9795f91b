//! Listeners that outlive the daemon, as the service manager holds them: connections wait in them.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use chaperone_host_tests::{Host, Scene, wait_until};

const OTHER: u32 = 64_002;

#[test]
fn p2_p3_connections_wait_for_the_next_daemon_and_are_their_makers() -> Result<()> {
    let scene = Scene::default().server("log_connections = on").other_agent("second", OTHER);
    let mut host = scene.held().start()?;
    host.psql(&["SELECT 'before'"])?.ok()?;
    host.kill_daemon()?;
    let direct = || host.postgres().log().matches("connection authorized").count();
    let before = direct();
    let arguments = |text| ["-X", "-q", "-At", "-c", text];
    let first = host.start_agent("psql", &arguments("SELECT 'of the first'"))?;
    let second = host.start_other(OTHER, "psql", &arguments("SELECT 'of the second'"))?;
    wait_until("both wait", || waiting(&host).is_ok_and(|count| count == 2))?;
    assert_eq!(direct(), before, "the server saw nobody");
    // The place of their target is another's by the time that they are served.
    let text = fs::read_to_string(host.config())?;
    let more = "[[target]]\nname = \"another\"\nprotocol = \"postgres\"\naddress = [\"127.9.9.9:5432\"]\n\
                tls = \"disable\"\n[[target]]\nname = \"prod\"";
    let text = text.replace("[[target]]\nname = \"prod\"", more);
    fs::write(host.config(), &text)?;
    host.start_daemon()?;
    let out = first.finish()?.ok()?;
    assert!(out.contains("of the first"), "{out}");
    let out = second.finish()?.ok()?;
    assert!(out.contains("of the second"), "{out}");
    assert_eq!(host.counter("waited")?, 2);
    assert_eq!(host.counter("stale_note")?, 0);
    let rows = host.commands()?;
    for (text, agent) in
        [("SELECT 'of the first'", "cleaner"), ("SELECT 'of the second'", "second")]
    {
        let row = rows.iter().find(|row| row["statement"] == text).context("it is recorded")?;
        assert_eq!((&row["agent"], &row["target"]), (&agent.into(), &"prod".into()), "{row}");
    }
    // An orderly end leaves them waiting as well.
    assert_eq!(host.stop_daemon()?, Some(0));
    let third = host.start_agent("psql", &arguments("SELECT 'of the third'"))?;
    wait_until("it waits", || waiting(&host).is_ok_and(|count| count == 1))?;
    // The control socket is the service manager's, too, and stays.
    assert!(host.folder().join("run/control.sock").exists());
    host.start_daemon()?;
    assert!(third.finish()?.ok()?.contains("of the third"));
    host.chaperone(&["sessions"])?.ok()?;
    Ok(())
}

#[test]
fn p2_a_connection_that_waited_for_what_is_no_target_any_more_is_reset() -> Result<()> {
    let mut host = Scene::default().server("log_connections = on").held().start()?;
    host.kill_daemon()?;
    let direct = |host: &Host| host.postgres().log().matches("connection authorized").count();
    let before = direct(&host);
    let waits = host.start_agent("psql", &["-X", "-At", "-c", "SELECT 'too late'"])?;
    wait_until("it waits", || waiting(&host).is_ok_and(|count| count == 1))?;
    let address = host.address().to_string();
    let text = fs::read_to_string(host.config())?;
    fs::write(host.config(), text.replace(&format!("{address}:5432"), "192.0.2.9:5432"))?;
    host.start_daemon()?;
    let out = waits.finish()?;
    assert_ne!(out.code, Some(0), "{out:?}");
    assert_eq!(host.counter("stale_note")?, 1);
    assert_eq!(host.statements()?, [""; 0]);
    assert_eq!(direct(&host), before, "nobody got through");
    Ok(())
}

#[test]
fn sockets_that_are_not_those_of_the_configuration_are_told() -> Result<()> {
    for (key, why) in [
        ("listen", "holds a listener on 127.0.0.1:"),
        ("control", "make chaperone.socket and the configuration say the same"),
    ] {
        let mut host = Scene::default().without_postgres().held().prepare()?;
        let text = fs::read_to_string(host.config())?;
        let text = if key == "listen" {
            let port = |number: u16| format!("listen = {number}\n");
            text.replace(&port(host.port()), &port(host.port() + 1))
        } else {
            text.replace("control.sock", "other.sock")
        };
        fs::write(host.config(), text)?;
        let said = host.start_daemon().err().context("it started")?.to_string();
        assert!(said.contains(why), "{said}");
        assert!(said.contains("listen"), "{said}");
    }
    Ok(())
}

/// Connections in the queue of the daemon's port: of a socket that listens, the column of what was
/// received counts those (`proc_net_tcp`).
fn waiting(host: &Host) -> Result<u32> {
    let table = fs::read_to_string(Path::new("/proc/net/tcp"))?;
    let local = format!("0100007F:{:04X}", host.port());
    let line = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|fields| fields.get(1) == Some(&local.as_str()) && fields.get(3) == Some(&"0A"))
        .context("nobody listens")?;
    let queue = line.get(4).and_then(|queues| queues.split_once(':')).context("no queue")?.1;
    Ok(u32::from_str_radix(queue, 16)?)
}
