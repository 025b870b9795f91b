//! Root detaches the programs, or makes them useless: it is noticed, recorded and undone.

use std::fs;

use anyhow::{Context, Result};
use chaperone_host_tests::{Host, Scene, wait_until};

/// bpf(2) from a script: `detach PIN`, or `set MAP OLD NEW` for a number in the map's first entry.
const BPF: &str = "import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
number = {'x86_64': 321, 'aarch64': 280}[os.uname().machine]
def bpf(command, attr):
    buffer = ctypes.create_string_buffer(attr + bytes(128 - len(attr)))
    result = libc.syscall(number, command, buffer, len(buffer))
    if result < 0:
        sys.exit('bpf(%d): %s' % (command, os.strerror(ctypes.get_errno())))
    return result
name = ctypes.create_string_buffer(sys.argv[2].encode())
pin = bpf(7, struct.pack('=QII', ctypes.addressof(name), 0, 0))
if sys.argv[1] == 'detach':
    bpf(34, struct.pack('=I', pin))
else:
    key, value = ctypes.create_string_buffer(4), ctypes.create_string_buffer(4096)
    at = struct.pack('=IIQQQ', pin, 0, ctypes.addressof(key), ctypes.addressof(value), 0)
    bpf(1, at)
    old, new = (struct.pack('=I', int(n)) for n in sys.argv[3:5])
    place = value.raw.index(old)
    value[place:place + 4] = new
    bpf(2, at)
";

fn pins(host: &Host) -> Result<std::path::PathBuf> {
    let folder = host.folder().join("bpf/chaperone");
    let versions: Vec<_> = fs::read_dir(folder)?.collect::<std::io::Result<_>>()?;
    Ok(versions.first().context("nothing is pinned")?.path())
}

fn bpf(host: &Host, arguments: &[&str]) -> Result<()> {
    let mut all = vec!["-c", BPF];
    all.extend(arguments);
    host.outside("/usr/bin/python3", &all)?.ok()?;
    Ok(())
}

fn told(host: &Host, what: &str) -> bool {
    let is = |event: &serde_json::Value| {
        event["kind"] == "tampered" && event["detail"].as_str().is_some_and(|d| d.contains(what))
    };
    host.events().is_ok_and(|events| events.iter().any(is))
}

#[test]
fn p2_a_program_that_root_detaches_is_attached_again_and_recorded() -> Result<()> {
    let host = Scene::default().daemon("canary = \"1s\"").start()?;
    for name in ["chaperone_connect4", "chaperone_egress"] {
        bpf(&host, &["detach", &pins(&host)?.join(name).display().to_string()])?;
        wait_until("it is told", || told(&host, &format!("{name} was detached")))?;
    }
    assert!(told(&host, "the programs were attached again"));
    host.psql(&["SELECT 'taken'"])?.ok()?;
    assert_eq!(host.statements()?, ["SELECT 'taken'"]);
    host.chaperone(&["status"])?.ok()?;
    // The pins are what outlives the daemon.
    fs::remove_file(pins(&host)?.join("chaperone_connect4"))?;
    fs::remove_file(pins(&host)?.join("chaperone_exec"))?;
    wait_until("it is told", || told(&host, "the pin of chaperone_connect4 was removed"))?;
    wait_until("it is pinned", || {
        pins(&host).is_ok_and(|pins| {
            pins.join("chaperone_connect4").exists() && pins.join("chaperone_exec").exists()
        })
    })?;
    let mut host = host;
    host.kill_daemon()?;
    assert!(host.psql(&["SELECT 2"])?.err.contains("Connection refused"), "never direct");
    Ok(())
}

#[test]
fn p2_a_daemon_that_may_not_attach_ends_so_that_it_is_done_anew() -> Result<()> {
    let scene = Scene::default().daemon("canary = \"1s\"").loaded_apart();
    let mut host = scene.start()?;
    let connect = pins(&host)?.join("chaperone_connect4");
    bpf(&host, &["detach", &connect.display().to_string()])?;
    wait_until("it ends", || host.daemon_has_ended())?;
    assert!(host.daemon_output().contains("the programs have to be loaded anew"));
    assert_eq!(host.stop_daemon()?, Some(1), "the service manager starts it again");
    assert!(told(&host, "chaperone_connect4 was detached: the daemon ends"));
    host.start_daemon()?;
    host.psql(&["SELECT 'taken'"])?.ok()?;
    assert_eq!(host.statements()?, ["SELECT 'taken'"]);
    Ok(())
}

#[test]
fn p2_a_canary_that_does_not_arrive_is_an_alarm_until_it_does() -> Result<()> {
    let host = Scene::default().daemon("canary = \"1s\"").start()?;
    let looked = || -> Result<serde_json::Value> {
        let out = host.chaperone(&["status", "--json"])?;
        let status: serde_json::Value = serde_json::from_str(&out.out)?;
        Ok(status["interception"].clone())
    };
    wait_until("a canary came home", || looked().is_ok_and(|looked| !looked["checked"].is_null()))?;
    assert!(looked()?["problem"].is_null(), "{}", looked()?);
    // It is no session, and nobody's connection.
    assert_eq!(host.counter("accepted")?, 0);
    assert_eq!(host.statements()?, [""; 0]);
    // All links are as they were, and the programs no longer know where to send connections.
    let settings = pins(&host)?.join("SETTINGS").display().to_string();
    let port = host.port().to_string();
    bpf(&host, &["set", &settings, &port, "0"])?;
    wait_until("it is noticed", || looked().is_ok_and(|looked| !looked["problem"].is_null()))?;
    let out = host.chaperone(&["status"])?;
    assert_eq!(out.code, Some(3));
    assert!(out.out.contains("BROKEN: a canary's connection"), "{}", out.out);
    wait_until("it is recorded", || told(&host, "a canary's connection did not come"))?;
    let events = host.events()?;
    let count = events.iter().filter(|event| event["kind"] == "tampered").count();
    assert_eq!(count, 1, "an alarm is told once: {events:?}");
    Ok(())
}
