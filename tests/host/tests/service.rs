//! The daemon as a service: what its manager is told, and what the daemon may do.

use std::{
    fs,
    io::Write,
    os::unix::net::UnixDatagram,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use chaperone_host_tests::{Host, Scene, wait_until};

/// Stops one thread of another process, until there is something to read.
const STOP_THREAD: &str = "import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
thread = int(sys.argv[1])
for request in (0x4206, 0x4207):
    if libc.ptrace(request, thread, None, None) != 0:
        sys.exit('ptrace: %d' % ctypes.get_errno())
print('stopped', flush=True)
sys.stdin.readline()
";

#[test]
fn the_service_manager_is_told_and_a_daemon_that_hangs_gives_no_sign_of_life() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let place = folder.path().join("notify");
    let manager = UnixDatagram::bind(&place)?;
    manager.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut host = Scene::default()
        .without_postgres()
        .environment("NOTIFY_SOCKET", &place.display().to_string())
        .environment("WATCHDOG_USEC", "4000000")
        .start()?;
    let next = |what: &str, within: Duration| {
        let end = Instant::now() + within;
        while Instant::now() < end {
            let mut bytes = [0; 512];
            if let Ok(length) = manager.recv(&mut bytes)
                && String::from_utf8_lossy(&bytes[..length]).starts_with(what)
            {
                return true;
            }
        }
        false
    };
    let patience = Duration::from_secs(20);
    assert!(next("READY=1", patience));
    assert!(next("STATUS=serving", patience));
    assert!(next("WATCHDOG=1", patience));
    assert!(next("WATCHDOG=1", patience));
    // The variables are not for what the daemon starts.
    let environment = fs::read(format!("/proc/{}/environ", host.daemon_id()))?;
    assert!(String::from_utf8_lossy(&environment).contains("NOTIFY_SOCKET"), "it was there");

    let thread = thread(&host, "sessions-0")?;
    let mut stopper = Command::new("/usr/bin/python3")
        .args(["-c", STOP_THREAD, &thread.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    wait_until("the thread stands still", || {
        let stat = fs::read_to_string(format!("/proc/{thread}/stat"));
        stat.is_ok_and(|stat| stat.contains(") t "))
    })?;
    wait_until("it is noticed", || host.daemon_output().contains("a thread hangs"))?;
    while next("", Duration::from_millis(1)) {}
    assert!(!next("WATCHDOG=1", Duration::from_secs(6)), "it gave a sign of life");
    stopper.stdin.take().context("its input")?.write_all(b"\n")?;
    stopper.wait()?;
    assert!(next("WATCHDOG=1", patience), "it lives again");
    assert_eq!(host.stop_daemon()?, Some(0));
    assert!(next("STOPPING=1", patience));
    Ok(())
}

/// The id of a thread of the daemon's.
fn thread(host: &Host, name: &str) -> Result<u32> {
    for task in fs::read_dir(format!("/proc/{}/task", host.daemon_id()))? {
        let task = task?;
        if fs::read_to_string(task.path().join("comm"))?.trim() == name {
            return Ok(task.file_name().to_string_lossy().parse()?);
        }
    }
    anyhow::bail!("there is no thread {name}")
}

// Bits of capabilities (include/uapi/linux/capability.h).
const DAC_OVERRIDE: u64 = 1 << 1;
const DAC_READ_SEARCH: u64 = 1 << 2;
const KILL: u64 = 1 << 5;
const SETGID: u64 = 1 << 6;
const SETUID: u64 = 1 << 7;
const NET_ADMIN: u64 = 1 << 12;
const SYS_PTRACE: u64 = 1 << 19;
const SYS_ADMIN: u64 = 1 << 21;
const SYS_RESOURCE: u64 = 1 << 24;
const PERFMON: u64 = 1 << 38;
const BPF: u64 = 1 << 39;

const SERVING: u64 = DAC_READ_SEARCH | KILL | SETGID | SETUID | SYS_PTRACE;
const LOADING: u64 = DAC_OVERRIDE | NET_ADMIN | SYS_ADMIN | SYS_RESOURCE | PERFMON | BPF;

#[test]
fn the_daemon_keeps_the_privileges_that_the_documents_name_and_no_others() -> Result<()> {
    // A machine may have fewer for everybody.
    let status = fs::read_to_string("/proc/self/status")?;
    let all = set(&status, "CapBnd:")?;
    for (scene, expected) in
        [(Scene::default().loaded_apart(), SERVING), (Scene::default(), SERVING | LOADING)]
    {
        let host = scene.start()?;
        // With these it does all that it does.
        host.psql(&["SELECT 1"])?.ok()?;
        assert_eq!(host.statements()?, ["SELECT 1"]);
        let session = host.last_session()?;
        assert_eq!(session["agent"], "cleaner");
        for task in fs::read_dir(format!("/proc/{}/task", host.daemon_id()))? {
            let status = fs::read_to_string(task?.path().join("status"))?;
            for set in ["CapEff:", "CapPrm:", "CapBnd:"] {
                let (found, expected) = (self::set(&status, set)?, expected & all);
                assert_eq!(found, expected, "{set} {found:x}, not {expected:x}");
            }
        }
    }
    Ok(())
}

fn set(status: &str, name: &str) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    Ok(u64::from_str_radix(line.context("no such line")?.trim(), 16)?)
}

#[test]
fn p2_loaded_programs_let_nobody_through_without_a_daemon() -> Result<()> {
    let mut host = Scene::default().server("log_connections = on").prepare()?;
    let reach = || host.psql(&["SELECT 1"]);
    reach()?.ok()?;
    let direct = || host.postgres().log().matches("connection authorized").count();
    let before = direct();
    host.chaperone(&["daemon", "--load"])?.ok()?;
    let out = reach()?;
    assert!(out.err.contains("Connection refused"), "{}", out.err);
    assert_eq!(direct(), before);
    // Once more swaps them, and changes nothing.
    host.chaperone(&["daemon", "--load"])?.ok()?;
    assert!(reach()?.err.contains("Connection refused"));
    assert_eq!(direct(), before);
    host.start_daemon()?;
    host.psql(&["SELECT 2"])?.ok()?;
    assert_eq!(host.statements()?, ["SELECT 2"]);
    Ok(())
}

#[test]
fn serving_without_loading_is_told() -> Result<()> {
    let host = Scene::default().without_postgres().prepare()?;
    let out = host.chaperone(&["daemon", "--serve"])?;
    assert_eq!(out.code, Some(1));
    assert!(out.err.contains("run `chaperone daemon --load` first"), "{}", out.err);
    Ok(())
}

#[test]
fn detaching_is_recorded_with_who_did_it_and_is_roots_alone() -> Result<()> {
    let mut host = Host::start()?;
    // While a daemon runs it would attach them again.
    let out = host.chaperone(&["daemon", "--detach"])?;
    assert_eq!(out.code, Some(1));
    assert!(out.err.contains("stop it first"), "{}", out.err);
    host.psql(&["SELECT 1"])?.ok()?;
    host.stop_daemon()?;
    let config = host.config().display().to_string();
    let binary = std::env::var("CHAPERONE_BIN")?;
    let out = host.other(64_003, &binary, &["daemon", "--detach", "--config", &config])?;
    assert_eq!(out.code, Some(1));
    assert!(host.psql(&["SELECT 2"])?.err.contains("Connection refused"), "{}", out.err);
    host.chaperone(&["daemon", "--detach"])?.ok()?;
    let events = host.events()?;
    let event = events.iter().find(|event| event["kind"] == "detached").context("no event")?;
    let detail = event["detail"].as_str().unwrap_or_default();
    assert!(detail.starts_with("root (user id 0),"), "{detail}");
    host.psql(&["SELECT 'direct'"])?.ok()?;
    assert_eq!(host.statements()?, ["SELECT 1"]);
    Ok(())
}

#[test]
fn p2_nothing_is_detached_that_the_log_cannot_be_told_of() -> Result<()> {
    let mut host = Host::start()?;
    host.stop_daemon()?;
    // The log's folder is a file.
    let text = fs::read_to_string(host.config())?;
    fs::write(host.config(), text.replace("/log/log.sqlite", "/chaperone.toml/log.sqlite"))?;
    let out = host.chaperone(&["daemon", "--detach"])?;
    assert_eq!(out.code, Some(1));
    assert!(out.err.contains("--unrecorded"), "{}", out.err);
    assert!(host.psql(&["SELECT 1"])?.err.contains("Connection refused"));
    host.chaperone(&["daemon", "--detach", "--unrecorded"])?.ok()?;
    host.psql(&["SELECT 1"])?.ok()?;
    Ok(())
}
