//! P8 over SSH: a client that keeps to no rule costs its own connection, bounded memory, and nobody
//! else anything.

use std::time::Duration;

use anyhow::Result;
use chaperone_host_tests::wait_until;

use super::{Ssh, Way, words};

/// What the clients here have in common: asyncssh signs on, and says what it should not.
const BEGIN: &str = r#"
import asyncio, asyncssh, socket, struct, sys, time
from asyncssh.packet import Byte, String, UInt32, Boolean
address, known = sys.argv[1:3]
def connect():
    return asyncssh.connect(address, 2222, username="root", known_hosts=known, client_keys=None,
                            agent_path=None, config=None)
def raw(bytes, patience=20):
    s = socket.create_connection((address, 2222)); s.settimeout(patience)
    got = b""
    try:
        s.sendall(bytes)
        while True:
            part = s.recv(65536)
            if not part: break
            got += part
    except (BrokenPipeError, ConnectionResetError): pass
    except socket.timeout: got += b" TIMEOUT"
    return got
"#;

impl Ssh {
    fn hostile(&self, program: &str) -> Result<String> {
        let python = self.host.newer_python()?;
        let known = self.known_hosts.display().to_string();
        let program = format!("{BEGIN}\n{program}");
        let words = ["-c", &program, &self.host.address().to_string(), &known];
        let done = self.run(Way::Through, &python, &words, "")?;
        anyhow::ensure!(done.code == Some(0), "{done:?}\n{}", self.host.daemon_output());
        assert_eq!(self.ssh(&["echo still"])?.out, "still\n");
        let peak = self.host.daemon_peak_kib()?;
        assert!(peak < 300 * 1024, "{peak} KiB");
        Ok(done.out.trim().to_owned())
    }
}

#[test]
fn p8_first_lines_without_an_end_and_false_lengths_end_the_connection() -> Result<()> {
    let ssh = Ssh::start("")?;
    let program = r#"
line = b"SSH-2.0-x\r\n"
for bytes in [
    b"SSH-2.0-" + b"x" * 3000000,
    b"\r\n" * 100000,
    b"SSH-1.5-old\r\n",
    line + struct.pack(">I", 0xffffffff) + b"\x04" * 100,
    line + struct.pack(">I", 0) + b"\x04" * 100,
    line + struct.pack(">I", 262145) + b"\x04" * 100,
    # Padding that is longer than its packet.
    line + struct.pack(">IB", 12, 255) + b"\x14" * 11,
    line + struct.pack(">IB", 12, 11) + b"\x00" * 11,
    # An offer whose lists are longer than it is.
    line + struct.pack(">IB", 44, 4) + b"\x14" + b"r" * 16 + struct.pack(">I", 0x7fffffff) + b"a" * 22,
]:
    got = raw(bytes)
    assert got.startswith(b"SSH-2.0-") and not got.endswith(b"TIMEOUT"), (bytes[:40], got[-100:])
print("done")
"#;
    assert_eq!(ssh.hostile(program)?, "done");
    wait_until("the violations", || {
        ssh.host.counter("client_violations").is_ok_and(|count| count >= 9)
    })
}

#[test]
fn p8_floods_of_channels_requests_and_sign_ons_are_bounded() -> Result<()> {
    let ssh = Ssh::start("")?;
    let program = r#"
async def channels():
    async with connect() as c:
        # Ten times as many channels as there may be, and none is confirmed to anybody.
        for n in range(10000):
            c.send_packet(90, String("session"), UInt32(100000 + n), UInt32(1 << 20), UInt32(1 << 15))
        await asyncio.sleep(2)
async def windows():
    async with connect() as c:
        # Nobody reads: the window is zero, and stays so.
        chan, s = await c.create_session(asyncssh.SSHClientSession, "yes", window=0x1000)
        chan.pause_reading()
        r = await c.run("echo flows")
        print(r.stdout.strip())
async def requests():
    async with connect() as c:
        for n in range(20000):
            c.send_packet(80, String("x%d@example.org" % n), Boolean(True))
        await asyncio.sleep(1)
async def ours(): 
    try: await channels()
    except Exception as e: print(type(e).__name__)
    await windows()
    try: await requests()
    except Exception as e: print(type(e).__name__)
asyncio.run(ours())
# Many that only begin.
held = []
for n in range(60):
    s = socket.create_connection((address, 2222)); s.sendall(b"SSH-2.0-x\r\n"); held.append(s)
async def once():
    async with connect() as c: print((await c.run("echo in")).stdout.strip())
asyncio.run(once())
print("done")
"#;
    let said = ssh.hostile(program)?;
    assert!(said.ends_with("in\ndone") && said.contains("flows"), "{said}");
    Ok(())
}

#[test]
fn p8_compression_is_not_spoken_and_a_client_that_insists_is_told() -> Result<()> {
    let ssh = Ssh::start("")?;
    let program = r#"
async def main():
    try:
        async with asyncssh.connect(address, 2222, username="root", known_hosts=known, config=None,
                                    client_keys=None, agent_path=None, compression_algs=["zlib"]) as c:
            print("in")
    except asyncssh.Error as e: print("refused")
asyncio.run(main())
"#;
    assert_eq!(ssh.hostile(program)?, "refused");
    Ok(())
}

#[test]
fn p8_packets_that_belong_nowhere_end_the_session_alone() -> Result<()> {
    let ssh = Ssh::start("")?;
    let program = r#"
async def one(number, *parts):
    try:
        async with connect() as c:
            c.send_packet(number, *parts)
            await asyncio.wait_for(c.wait_closed(), 20)
            return "ended"
    except (asyncssh.Error, OSError): return "ended"
async def main():
    for parts in [
        (94, UInt32(77), String(b"for nobody")),
        (93, UInt32(77), UInt32(5)),
        (91, UInt32(77), UInt32(1), UInt32(1), UInt32(1)),
        (97, UInt32(77)),
        (98, UInt32(77), String(b"exec"), Boolean(True), String(b"id")),
        (90, UInt32(0x7fffffff)),
        (80, String(b"tcpip-forward"), Boolean(True), UInt32(0xffffffff)),
        (7, UInt32(0xffffffff)),
        (21,),
        (31, String(b"x")),
        (200, String(b"x")),
    ]:
        print(parts[0], await one(*parts))
asyncio.run(main())
"#;
    let said = ssh.hostile(program)?;
    let ended = said.lines().filter(|line| line.ends_with("ended")).count();
    assert_eq!(ended, 11, "{said}");
    let commands = ssh.commands("exec", 1)?;
    assert!(commands.iter().all(|one| one["statement"] == "echo still"), "{commands:?}");
    Ok(())
}

#[test]
fn p8_a_client_that_does_not_read_costs_little_and_delays_nobody() -> Result<()> {
    let ssh = Ssh::start("")?;
    let mut stuck = Vec::new();
    for _ in 0..6 {
        let line = ssh.line(Way::Through, &[], &["yes"]);
        let mut all = vec!["-c", "ssh \"$@\" | sleep 60", "bash"];
        all.extend(words(&line));
        stuck.push(ssh.begin(Way::Through, "bash", &all)?);
    }
    std::thread::sleep(Duration::from_secs(3));
    let began = std::time::Instant::now();
    let line = ssh.line(Way::Through, &[], &["head -c 20000000 /dev/zero | wc -c"]);
    let done = ssh.run(Way::Through, "ssh", &words(&line), "")?;
    assert_eq!(done.out, "20000000\n");
    assert!(began.elapsed() < Duration::from_secs(20));
    let peak = ssh.host.daemon_peak_kib()?;
    assert!(peak < 256 * 1024, "{peak} KiB");
    Ok(())
}
