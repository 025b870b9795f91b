//! P7: the log's checkpoints reach places that the host's root cannot rewrite, and what root does to
//! the log afterwards shows there.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use chaperone_host_tests::{Host, Mount, Process, Scene, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Checkpoints come often, and so do anchors' turns.
const OFTEN: &str = "[log]\ncheckpoint = \"1s\"\nheartbeat = \"1s\"\n";
const WITNESS: &str = include_str!("../programs/witness.py");
const STORE: &str = include_str!("../programs/store.py");

fn anchored(name: &str, lines: &str) -> Scene {
    Scene::default().more(OFTEN).more(&anchor(name, lines))
}

fn anchor(name: &str, lines: &str) -> String {
    format!("[[anchor]]\nname = \"{name}\"\nevery = \"1s\"\n{lines}\n")
}

/// A program of the tests, and the first lines that it says.
fn program(source: &str, args: &[&str], lines: usize) -> Result<(Process, Vec<String>)> {
    let python = std::env::var_os("CHAPERONE_PYTHON").context("CHAPERONE_PYTHON is not set")?;
    let (read, write) = std::io::pipe()?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(python).args(["-c", source]).args(args);
    command.stdin(Stdio::null()).stdout(write);
    let process = Process::start("a program of the tests", &mut command, Signal::SIGKILL)?;
    drop(command);
    let said = BufReader::new(read).lines().take(lines).collect::<Result<Vec<_>, _>>()?;
    ensure!(said.len() == lines, "the program of the tests ended");
    Ok((process, said))
}

/// A witness of the log of a scene, in a folder of its own.
struct Witness {
    folder: tempfile::TempDir,
    process: Option<Process>,
    key: String,
    port: String,
}

impl Witness {
    fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut witness = Self { folder, process: None, key: String::new(), port: "0".into() };
        witness.resume()?;
        Ok(witness)
    }

    fn resume(&mut self) -> Result<()> {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let args = [&*self.port, &path("log.pub"), &path("state"), &path("journal")];
        let (process, said) = program(WITNESS, &args, 2)?;
        self.process = Some(process);
        self.key.clone_from(&said[0]);
        self.port.clone_from(&said[1]);
        Ok(())
    }

    fn scene(&self, lag: &str) -> Scene {
        let (port, key) = (&self.port, &self.key);
        anchored(
            "w1",
            &format!("to = \"http://127.0.0.1:{port}/prefix/\"\nvkey = \"{key}\"\nlag = \"{lag}\""),
        )
    }

    /// The log's key is enrolled with the witness.
    fn enrol(&self, host: &Host) -> Result<()> {
        fs::write(self.folder.path().join("log.pub"), host.chaperone(&["log", "key"])?.ok()?)?;
        Ok(())
    }

    fn state(&self) -> Option<Value> {
        serde_json::from_str(&fs::read_to_string(self.folder.path().join("state")).ok()?).ok()
    }

    fn size(&self) -> u64 {
        self.state().and_then(|state| state["size"].as_u64()).unwrap_or(0)
    }

    fn journal(&self) -> String {
        fs::read_to_string(self.folder.path().join("journal")).unwrap_or_default()
    }

    /// Waits until it has signed for more than so many records.
    fn beyond(&self, size: u64) -> Result<u64> {
        let mut signed = 0;
        wait_until("the witness signs", || {
            signed = self.size();
            // It writes its journal last.
            signed > size && self.journal().contains(&format!(" {signed} 200\n"))
        })?;
        Ok(signed)
    }
}

fn status(host: &Host) -> Result<(Option<i32>, Value)> {
    let out = host.chaperone(&["status", "--json"])?;
    let status: Value = serde_json::from_str(&out.out).context("no status")?;
    Ok((out.code, status["anchors"][0].clone()))
}

fn alarms(host: &Host) -> Result<Vec<String>> {
    let events = host.events()?;
    let alarms = events.iter().filter(|event| event["kind"] == "anchor-lags");
    Ok(alarms.map(|event| event["detail"].as_str().unwrap_or_default().to_owned()).collect())
}

/// Whether a checkpoint that came by an anchor is one of the log.
fn is_of_the_log(host: &Host, note: &[u8]) -> Result<()> {
    let path = host.folder().join("arrived.note");
    fs::write(&path, note)?;
    let path = path.display().to_string();
    host.chaperone(&["log", "verify", "--since", &path])?.ok()?;
    Ok(())
}

fn decoded(base64: &str) -> Result<Vec<u8>> {
    let mut child = Command::new("base64")
        .arg("--decode")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("its input")?.write_all(base64.as_bytes())?;
    Ok(child.wait_with_output()?.stdout)
}

#[test]
fn p7_a_witness_signs_that_the_log_goes_on_and_its_word_can_be_demanded() -> Result<()> {
    let witness = Witness::start()?;
    let mut host = witness.scene("1m").start()?;
    wait_until("it is asked", || witness.journal().contains(" 404"))?;
    witness.enrol(&host)?;
    let first = witness.beyond(0)?;
    host.psql(&["SELECT 'witnessed'"])?.ok()?;
    let second = witness.beyond(first)?;
    witness.beyond(second)?;
    let journal = witness.journal();
    assert!(journal.contains("old 0 ") && journal.contains(&format!("old {first} ")), "{journal}");

    let note = host.chaperone(&["log", "checkpoint", "--cosigned"])?.ok()?;
    assert!(note.contains("\n— witness.test/w1 "), "{note}");
    assert!(!note.contains("witness.test/other"), "a stranger's word is not kept: {note}");
    let demand = ["log", "verify", "--witness", &witness.key];
    let said = host.chaperone(&demand)?.ok()?;
    assert!(said.contains("witness.test/w1 signed for the first "), "{said}");

    // A proof carries the witness's word, away from this host.
    let proof = host.folder().join("proof").display().to_string();
    host.chaperone(&["log", "proof", "2", "--cosigned", "--output", &proof])?.ok()?;
    let key = host.chaperone(&["log", "key"])?.ok()?;
    let prove = |file: &str| {
        let away = ["log", "verify", "--proof", file, "--key", key.trim()];
        host.chaperone(&[&away[..], &["--witness", &witness.key]].concat())
    };
    prove(&proof)?.ok()?;
    let text = fs::read_to_string(&proof)?;
    let alone = text.lines().filter(|line| !line.starts_with("— witness")).collect::<Vec<_>>();
    let without = host.folder().join("without").display().to_string();
    fs::write(&without, alone.join("\n") + "\n")?;
    let refused = prove(&without)?;
    assert_eq!(refused.code, Some(3), "{}", refused.err);
    assert!(refused.err.contains("not signed by witness.test/w1"), "{}", refused.err);

    let (code, anchor) = status(&host)?;
    assert_eq!((code, &anchor["lags"], &anchor["error"]), (Some(0), &false.into(), &Value::Null));
    assert!(anchor["size"].as_u64() > Some(second), "{anchor}");

    // Nothing but the log's own word: that is not enough.
    host.stop_daemon()?;
    let kept = PathBuf::from(format!("{}.anchors", host.log().display())).join("w1.note");
    fs::write(&kept, host.chaperone(&["log", "checkpoint"])?.ok()?)?;
    let refused = host.chaperone(&demand)?;
    assert_eq!(refused.code, Some(1), "{}", refused.out);
    assert!(refused.err.contains("no checkpoint that witness.test/w1 signed"), "{}", refused.err);
    Ok(())
}

#[test]
fn p7_a_witness_that_is_away_raises_an_alarm_and_a_restart_goes_on_from_what_it_signed()
-> Result<()> {
    let mut witness = Witness::start()?;
    let mut host = witness.scene("3s").start()?;
    witness.enrol(&host)?;
    let size = witness.beyond(0)?;
    witness.process = None;
    host.psql(&["SELECT 'unwitnessed'"])?.ok()?;
    wait_until("an alarm", || alarms(&host).is_ok_and(|alarms| !alarms.is_empty()))?;
    let alarm = alarms(&host)?.remove(0);
    assert!(alarm.contains("w1 has not taken the log's checkpoints"), "{alarm}");
    let (code, anchor) = status(&host)?;
    assert_eq!((code, &anchor["lags"]), (Some(3), &true.into()));
    assert!(anchor["behind"].as_u64() > Some(0) && !anchor["error"].is_null(), "{anchor}");
    assert!(host.chaperone(&["status"])?.out.contains("LAGS: "));
    assert!(host.daemon_output().contains("WARN the anchor w1 has not taken"));

    // Killed while it waits, it goes on from what it remembers.
    let size = witness.size().max(size);
    host.kill_daemon()?;
    let kept = fs::read_to_string(format!("{}.anchors/w1.json", host.log().display()))?;
    let kept: Value = serde_json::from_str(&kept)?;
    witness.resume()?;
    let before = witness.journal();
    host.start_daemon()?;
    witness.beyond(size)?;
    let asked = witness.journal()[before.len()..].to_owned();
    assert!(asked.starts_with(&format!("old {} ", kept["taken"]["size"])), "{asked}");
    wait_until("it has caught up", || status(&host).is_ok_and(|(code, _)| code == Some(0)))?;

    // Where it remembers nothing, the witness tells it.
    host.stop_daemon()?;
    fs::remove_dir_all(format!("{}.anchors", host.log().display()))?;
    let (before, size) = (witness.journal(), witness.size());
    host.start_daemon()?;
    witness.beyond(size)?;
    let asked = witness.journal()[before.len()..].to_owned();
    let mut lines = asked.lines();
    let (told, taken) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    assert!(told.starts_with("old 0 ") && told.ends_with(" 409"), "{asked}");
    assert!(taken.starts_with(&format!("old {size} ")) && taken.ends_with(" 200"), "{asked}");
    Ok(())
}

#[test]
fn p7_a_log_that_was_set_back_and_went_another_way_is_refused_and_the_alarm_is_raised() -> Result<()>
{
    let witness = Witness::start()?;
    let mut host = witness.scene("2s").start()?;
    witness.enrol(&host)?;
    let size = witness.beyond(0)?;
    host.stop_daemon()?;
    let (place, copy) = (host.folder().join("log"), host.folder().join("copy"));
    let copied = |from: &Path, to: &Path| -> Result<()> {
        let done = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
        ensure!(done.success(), "it cannot be copied");
        Ok(())
    };
    copied(&place, &copy)?;
    host.start_daemon()?;
    host.psql(&["DELETE FROM pg_class WHERE false"; 20])?;
    let size = witness.beyond(size + 40)?;
    host.stop_daemon()?;
    let kept = witness.state().context("a checkpoint")?["note"].clone();
    let witnessed = host.folder().join("witnessed.note");
    fs::write(&witnessed, kept.as_str().context("a note")?)?;

    // The deed is undone in the log.
    fs::remove_dir_all(&place)?;
    copied(&copy, &place)?;
    host.start_daemon()?;
    wait_until("an alarm", || {
        alarms(&host).is_ok_and(|all| all.iter().any(|alarm| alarm.contains("was set back")))
    })?;
    // Longer than before, it hides it no better.
    for _ in 0..4 {
        host.psql(&["SELECT 'nothing happened here'"; 20])?.ok()?;
    }
    wait_until("the witness refuses", || witness.journal().contains(" 422"))?;
    wait_until("an alarm", || {
        alarms(&host).is_ok_and(|all| all.iter().any(|alarm| alarm.contains("(422)")))
    })?;
    let (code, anchor) = status(&host)?;
    assert_eq!((code, &anchor["lags"]), (Some(3), &true.into()), "{anchor}");
    assert_eq!(witness.size(), size, "the witness signs nothing of it");
    let since = witnessed.display().to_string();
    let found = host.chaperone(&["log", "verify", "--since", &since])?;
    assert_eq!(found.code, Some(3), "{}{}", found.out, found.err);
    Ok(())
}

#[test]
fn p7_checkpoints_reach_journald_and_syslog_whole() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let bind = |name: &str| -> Result<(UnixDatagram, String)> {
        let path = folder.path().join(name);
        let socket = UnixDatagram::bind(&path)?;
        socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok((socket, path.display().to_string()))
    };
    let (journald, journald_path) = bind("journald")?;
    let (local, local_path) = bind("syslog")?;
    let udp = UdpSocket::bind("127.0.0.1:0")?;
    udp.set_read_timeout(Some(Duration::from_secs(20)))?;
    let tcp = TcpListener::bind("127.0.0.1:0")?;
    let (udp_port, tcp_port) = (udp.local_addr()?.port(), tcp.local_addr()?.port());
    let host = anchored("journal", &format!("to = \"journald:{journald_path}\""))
        .more(&anchor("local", &format!("to = \"syslog:{local_path}\"")))
        .more(&anchor("udp", &format!("to = \"udp://127.0.0.1:{udp_port}\"")))
        .more(&anchor("tcp", &format!("to = \"tcp://localhost:{tcp_port}\"")))
        .start()?;

    let mut buffer = vec![0; 1 << 16];
    let length = journald.recv(&mut buffer)?;
    let entry = &buffer[..length];
    let name = b"\nCHAPERONE_CHECKPOINT\n";
    let at = entry.windows(name.len()).position(|part| part == name).context("the field")?;
    let (fields, value) = (String::from_utf8_lossy(&entry[..at]), &entry[at + name.len()..]);
    for field in ["MESSAGE=the log ", "\nPRIORITY=5", "\nCHAPERONE_SIZE=", "\nCHAPERONE_ROOT="] {
        assert!(fields.contains(field), "{fields}");
    }
    let length = u64::from_le_bytes(value[..8].try_into()?);
    assert_eq!(usize::try_from(length)? + 9, value.len(), "the length, the note, a line feed");
    is_of_the_log(&host, &value[8..value.len() - 1])?;

    let whole = |message: &str| -> Result<()> {
        assert!(message.starts_with("<109>1 2") && message.contains(" chaperone "), "{message}");
        assert!(message.contains(" CHECKPOINT - ") && !message.contains('\n'), "{message}");
        is_of_the_log(&host, &decoded(message.rsplit(' ').next().unwrap_or_default())?)
    };
    let length = local.recv(&mut buffer)?;
    whole(str::from_utf8(&buffer[..length])?)?;
    let length = udp.recv(&mut buffer)?;
    whole(str::from_utf8(&buffer[..length])?)?;
    // Octet counting, and more than one on a connection; then on another, where that was closed.
    let framed = |stream: &mut TcpStream| -> Result<String> {
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let (mut digits, mut byte) = (String::new(), [0]);
        loop {
            stream.read_exact(&mut byte)?;
            if byte[0] == b' ' {
                break;
            }
            digits.push(char::from(byte[0]));
        }
        let mut message = vec![0; digits.parse()?];
        stream.read_exact(&mut message)?;
        Ok(String::from_utf8(message)?)
    };
    let (mut stream, _) = tcp.accept()?;
    let (first, second) = (framed(&mut stream)?, framed(&mut stream)?);
    whole(&first)?;
    whole(&second)?;
    assert_ne!(first, second);
    drop(stream);
    let (mut stream, _) = tcp.accept()?;
    whole(&framed(&mut stream)?)?;
    Ok(())
}

#[test]
fn p7_checkpoints_are_kept_on_another_mount_and_what_is_no_other_is_warned_of() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("other");
    let mount = Mount::make("tmpfs", path.clone(), Some("size=1m"))?;
    let mut host = anchored("other", &format!("to = \"file:{}\"", path.display())).start()?;
    let newest = path.join("newest.note");
    wait_until("a checkpoint is there", || newest.exists())?;
    let first = fs::read(&newest)?;
    is_of_the_log(&host, &first)?;
    wait_until("another is there", || fs::read(&newest).is_ok_and(|note| note != first))?;
    let files = fs::read_dir(&path)?.collect::<Result<Vec<_>, _>>()?;
    let day = files.iter().find(|e| e.path().extension().is_some_and(|x| x == "notes"));
    let all = fs::read(day.context("a file of the day")?.path())?;
    assert!(all.starts_with(&first), "{}", String::from_utf8_lossy(&all));
    let checked = host.chaperone(&["check"])?.ok()?;
    assert!(!checked.contains("file system"), "{checked}");

    // Without the mount nothing is written below it.
    host.stop_daemon()?;
    drop(mount);
    host.start_daemon()?;
    wait_until("it says so", || {
        status(&host).is_ok_and(|(_, anchor)| {
            anchor["error"].as_str().is_some_and(|error| error.contains("is its mount missing?"))
        })
    })?;
    assert_eq!(fs::read_dir(&path)?.count(), 0, "nothing is written there");
    let checked = host.chaperone(&["check"])?.ok()?;
    assert!(checked.contains("is on the log's own file system"), "{checked}");
    Ok(())
}

#[test]
fn p7_checkpoints_are_objects_under_a_lock_and_requests_are_signed() -> Result<()> {
    let (access, secret) = ("AKIDTEST", "a/secret+key=");
    let (_store, said) = program(STORE, &[access, secret], 1)?;
    let port = &said[0];
    let lines = format!(
        "to = \"s3://evidence/host 1/log\"\nendpoint = \"http://127.0.0.1:{port}\"\n\
         region = \"us-east-1\"\naccess_key = \"file:{{folder}}/access\"\n\
         secret_key = \"file:{{folder}}/secret\"\nretain_days = 30\nlag = \"2s\""
    );
    let mut host = anchored("objects", &lines).prepare()?;
    let write = |name: &str, text: &str| -> Result<()> {
        let path = host.folder().join(name);
        fs::write(&path, text)?;
        Ok(fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?)
    };
    write("access", access)?;
    write("secret", "another")?;
    host.start_daemon()?;
    wait_until("it is refused", || {
        status(&host).is_ok_and(|(code, anchor)| {
            let error = anchor["error"].as_str().unwrap_or_default();
            code == Some(3) && error.contains("(403): SignatureDoesNotMatch")
        })
    })?;
    // A credential that was renewed is taken up.
    fs::write(host.folder().join("secret"), secret)?;
    let objects = || -> Result<Vec<Value>> {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{port}"))?;
        stream.write_all(b"GET /-/objects HTTP/1.0\r\nhost: x\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").context("an answer")?;
        Ok(serde_json::from_str(body)?)
    };
    wait_until("objects are there", || objects().is_ok_and(|all| all.len() >= 2))?;
    let all = objects()?;
    let names: Vec<_> = all.iter().map(|object| object["name"].as_str().unwrap_or("")).collect();
    assert!(names.is_sorted() && names[0].starts_with("host 1/log/0000000000"), "{names:?}");
    for object in &all {
        assert_eq!((&object["mode"], &object["removal"]), (&"COMPLIANCE".into(), &403.into()));
        let until = object["until"].as_str().context("a time")?;
        assert!(until.len() >= 20 && until.ends_with('Z'), "{until}");
        is_of_the_log(&host, object["note"].as_str().context("a note")?.as_bytes())?;
    }
    Ok(())
}

#[test]
fn p7_an_older_log_than_was_anchored_is_told_whatever_the_anchor_can_tell() -> Result<()> {
    let receiver = UdpSocket::bind("127.0.0.1:0")?;
    let to = format!("to = \"udp://127.0.0.1:{}\"", receiver.local_addr()?.port());
    let mut host = anchored("udp", &to).start()?;
    let size = |host: &Host| status(host).ok().and_then(|(_, anchor)| anchor["size"].as_u64());
    wait_until("it takes one", || size(&host).is_some())?;
    host.stop_daemon()?;
    let (place, copy) = (host.folder().join("log"), host.folder().join("copy"));
    let copied = |from: &Path, to: &Path| Command::new("cp").arg("-a").args([from, to]).status();
    ensure!(copied(&place, &copy)?.success(), "it cannot be copied");
    host.start_daemon()?;
    host.psql(&["SELECT 1"; 20])?.ok()?;
    let out = host.chaperone(&["status", "--json"])?.ok()?;
    let last = serde_json::from_str::<Value>(&out)?["log"]["last"].as_u64();
    wait_until("it takes more", || size(&host) > last)?;
    host.stop_daemon()?;
    // All but what is kept of the anchor.
    let anchors = format!("{}.anchors", host.log().display());
    fs::remove_dir_all(copy.join("log.sqlite.anchors"))?;
    fs::rename(&anchors, copy.join("log.sqlite.anchors"))?;
    fs::remove_dir_all(&place)?;
    fs::rename(&copy, &place)?;
    host.start_daemon()?;
    wait_until("an alarm", || {
        alarms(&host).is_ok_and(|all| all.iter().any(|alarm| alarm.contains("was set back")))
    })
}
