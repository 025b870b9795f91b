//! P1–P6 over SSH: what an agent tells another machine is decided and recorded, with OpenSSH on both
//! sides.
//!
//! Belongs here: the scene with a server, and tests of what is decided. Real clients, each once directly
//! and once through the daemon, are in the modules below.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use chaperone_host_tests::{Finished, Host, Process, Running, Scene, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;

mod ending;
mod hostile;
mod inside;
mod keys;
mod libraries;
mod lines;
mod masked;
mod programs;
mod recorded;
mod terminal;
mod transfers;
mod tunnels;
mod x11;

/// An account that has no use here: ssh(1) asks that its user has one.
const UID: u32 = 5;
const ACCOUNT: &str = "games";
/// Another: what the agent's account has open to a target that the daemon did not open, it ends.
const DIRECT: u32 = 7;

/// A scene with a server, a key that only the daemon has, and an agent that has none.
struct Ssh {
    host: Host,
    server: Process,
    known_hosts: PathBuf,
}

/// Which way a client takes to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Past the daemon, as if there were none.
    Direct,
    /// As an agent.
    Through,
}

const WAYS: [Way; 2] = [Way::Direct, Way::Through];

fn words(line: &[String]) -> Vec<&str> {
    line.iter().map(String::as_str).collect()
}

/// What the server's account has.
const PASSWORD: &str = "correct horse";

fn hashed(password: &str) -> Result<String> {
    let output = Command::new("openssl").args(["passwd", "-6", password]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn call(program: &str, args: &[&str]) -> Result<()> {
    let output = Command::new(program).args(args).output()?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

impl Ssh {
    fn start(rules: &str) -> Result<Self> {
        Self::with("host_keys = [\"{folder}/ssh/known\"]", rules)
    }

    fn with(target: &str, rules: &str) -> Result<Self> {
        let credential = "{ user = \"root\", key = \"file:{folder}/ssh/key\" }";
        Self::set(&format!("{target}\ncredential = {credential}"), rules, "")
    }

    /// `sshd`: more lines of the server's configuration.
    fn set(target: &str, rules: &str, sshd: &str) -> Result<Self> {
        Self::of(Scene::default().without_postgres(), target, rules, sshd)
    }

    /// With more than a server for SSH.
    fn of(scene: Scene, target: &str, rules: &str, sshd: &str) -> Result<Self> {
        let more = format!(
            "[[target]]\nname = \"web\"\nprotocol = \"ssh\"\naddress = [\"SSH-ADDRESS:2222\"]\n\
             {target}\n{rules}"
        );
        let scene = scene.select(&format!("{{ user = \"{ACCOUNT}\" }}")).more(&more);
        let mut host = scene.prepare()?;
        let address = host.address();
        let text = fs::read_to_string(host.config())?.replace("SSH-ADDRESS", &address.to_string());
        fs::write(host.config(), text)?;
        let folder = host.folder().join("ssh");
        fs::create_dir(&folder)?;
        let path = |name: &str| folder.join(name).display().to_string();
        for name in ["key", "host", "authority"] {
            call("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &path(name)])?;
        }
        fs::copy(path("key.pub"), path("authorized"))?;
        // What somebody has who goes there directly.
        fs::copy(path("key"), path("own"))?;
        std::os::unix::fs::chown(path("own"), Some(DIRECT), Some(DIRECT))?;
        let key = fs::read_to_string(path("host.pub"))?;
        fs::write(path("known"), format!("[{address}]:2222 {key}"))?;
        let other = fs::read_to_string(path("key.pub"))?;
        fs::write(path("other"), format!("[{address}]:2222 {other}"))?;
        fs::write(
            path("config"),
            format!(
                "{}\nListenAddress {address}:2222\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
                 StrictModes no\nUsePAM no\nPermitRootLogin yes\nPasswordAuthentication no\n\
                 AcceptEnv TOLD\nMaxSessions 50\n\
                 Subsystem sftp /usr/lib/openssh/sftp-server\n",
                sshd.replace("{folder}", &host.folder().display().to_string())
                    .replace("SSH-ADDRESS", &address.to_string()),
                path("host"),
                path("authorized"),
            ),
        )?;
        fs::create_dir_all("/run/sshd")?;
        let password = host.folder().join("password");
        fs::write(&password, PASSWORD)?;
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600))?;
        fs::write(path("shadow"), format!("root:{}:20000:0:99999:7:::\n", hashed(PASSWORD)?))?;
        // With a password of its own, and nothing in its home that a shell would run, for its process
        // alone.
        let script = "mount --bind \"$1\" /etc/shadow && mount -t tmpfs tmpfs /root && exec /usr/sbin/sshd -D -e -f \"$2\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
        command.args([path("shadow"), path("config")]);
        command.stderr(fs::File::create(path("log"))?);
        let server = Process::start("sshd", &mut command, Signal::SIGTERM)?;
        wait_until("the SSH server", || std::net::TcpStream::connect((address, 2222)).is_ok())?;
        host.start_daemon()?;
        let shown: Value =
            serde_json::from_str(&host.chaperone(&["trust", "show", "--json"])?.ok()?)?;
        let known_hosts = host.folder().join("known_hosts");
        let line = shown["known_hosts"].as_str().context("a line for known_hosts")?;
        fs::write(&known_hosts, format!("{line}\n"))?;
        Ok(Self { host, server, known_hosts })
    }

    /// What a client is called with, beside what it is to do.
    fn options(&self) -> Vec<String> {
        let known = format!("GlobalKnownHostsFile={}", self.known_hosts.display());
        ["-F", "none", "-o", &known, "-o", "UserKnownHostsFile=none", "-o", "BatchMode=yes"]
            .map(str::to_owned)
            .to_vec()
    }

    fn place(&self) -> String {
        format!("deploy@{}", self.host.address())
    }

    /// The same of one who takes this way.
    fn options_of(&self, way: Way) -> Vec<String> {
        match way {
            Way::Through => self.options(),
            Way::Direct => {
                let path = |name: &str| self.host.folder().join("ssh").join(name);
                let known = format!("GlobalKnownHostsFile={}", path("known").display());
                let key = path("own").display().to_string();
                let words =
                    ["-F", "none", "-i", &key, "-o", &known, "-o", "UserKnownHostsFile=none"];
                words.iter().chain(&["-o", "BatchMode=yes"]).map(|&word| word.to_owned()).collect()
            }
        }
    }

    /// Runs a program as the agent, or as somebody who is none.
    fn run(&self, way: Way, program: &str, args: &[&str], input: &str) -> Result<Finished> {
        match way {
            Way::Through => self.host.other_with(UID, program, args, input),
            Way::Direct => self.host.outside_as(DIRECT, program, args, input),
        }
    }

    fn begin(&self, way: Way, program: &str, args: &[&str]) -> Result<Running> {
        match way {
            Way::Through => self.host.start_other(UID, program, args),
            Way::Direct => self.host.start_outside_as(DIRECT, program, args),
        }
    }

    /// `ssh` with its options, these words, the server's account and these.
    fn line(&self, way: Way, before: &[&str], behind: &[&str]) -> Vec<String> {
        let mut line = self.options_of(way);
        line.extend(["-p", "2222"].map(str::to_owned));
        line.extend(before.iter().map(|&word| word.to_owned()));
        line.push(format!("root@{}", self.host.address()));
        line.extend(behind.iter().map(|&word| word.to_owned()));
        line
    }

    fn client(&self, way: Way, before: &[&str], behind: &[&str], input: &str) -> Result<Finished> {
        self.run(way, "ssh", &words(&self.line(way, before, behind)), input)
    }

    /// Runs it both ways, and answers what came of it, which is the same.
    fn both(&self, before: &[&str], behind: &[&str], input: &str) -> Result<Finished> {
        let direct = self.client(Way::Direct, before, behind, input)?;
        let through = self.client(Way::Through, before, behind, input)?;
        let same =
            (direct.code, &direct.out, &direct.err) == (through.code, &through.out, &through.err);
        let short = |done: &Finished| {
            let text = format!("{done:?}");
            text.chars().take(2000).collect::<String>()
        };
        ensure!(
            same,
            "{before:?} {behind:?}\ndirectly: {}\nthrough: {}\n{}",
            short(&direct),
            short(&through),
            self.host.daemon_output()
        );
        Ok(through)
    }

    fn agent(&self, program: &str, args: &[&str]) -> Result<Finished> {
        let mut all = self.options();
        all.extend(args.iter().map(|&arg| arg.to_owned()));
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        self.host.other(UID, program, &all)
    }

    fn ssh(&self, args: &[&str]) -> Result<Finished> {
        let place = self.place();
        let mut all = vec!["-p", "2222"];
        let (options, command): (Vec<&str>, Vec<&str>) = {
            let split = args.iter().position(|arg| *arg == "--").unwrap_or(0);
            (args[..split].to_vec(), args[if split == 0 { 0 } else { split + 1 }..].to_vec())
        };
        all.extend(options);
        all.push(&place);
        all.extend(command);
        self.agent("ssh", &all)
    }

    /// The commands of one kind that are in the log, once there are so many that are done.
    fn commands(&self, kind: &str, count: usize) -> Result<Vec<Value>> {
        let mut found = Vec::new();
        let waited = wait_until("commands in the log", || {
            found = self.host.commands().unwrap_or_default();
            found.retain(|one| one["kind"] == kind && !one["status"].is_null());
            found.len() >= count
        });
        waited.with_context(|| format!("{found:?}\n{}", self.host.daemon_output()))?;
        Ok(found)
    }

    fn one(&self, kind: &str) -> Result<Value> {
        let found = self.commands(kind, 1)?;
        self.host.command(&found[0]["id"])
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        let _ = self.host.stop_daemon();
        let _ = self.server.stop(Duration::from_secs(5));
    }
}

fn writable(path: &Path) -> Result<()> {
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o777))?)
}

#[test]
fn p1_p4_p6_a_command_runs_as_it_would_directly_and_is_recorded() -> Result<()> {
    let ssh = Ssh::start("")?;
    let done = ssh.ssh(&["echo out; echo err >&2; cat; whoami; exit 7"])?;
    assert_eq!(done.code, Some(7), "{done:?}\n{}", ssh.host.daemon_output());
    assert_eq!((done.out.as_str(), done.err.as_str()), ("out\nroot\n", "err\n"));
    let command = ssh.commands("exec", 1)?.remove(0);
    assert_eq!(command["statement"], "echo out; echo err >&2; cat; whoami; exit 7");
    assert_eq!((&command["status"], &command["tag"]), (&"error".into(), &"exit 7".into()));
    assert_eq!((&command["bytes"], &command["verdict"]), (&13.into(), &"allow".into()));
    let text = ssh.one("exec")?.to_string();
    assert!(["out", "err", "root"].iter().all(|said| text.contains(said)), "{text}");
    let session = ssh.host.last_session()?;
    assert_eq!((&session["target"], &session["user"]), (&"web".into(), &"root".into()));
    // The agent has no key, and the server's is not what it believed.
    let log = fs::read_to_string(ssh.host.folder().join("ssh/log"))?;
    assert!(log.contains("Accepted publickey for root"), "{log}");
    Ok(())
}

#[test]
fn p2_a_shell_and_tunnels_need_a_rule_that_names_them() -> Result<()> {
    let ssh = Ssh::start("")?;
    let shell = ssh.ssh(&["-tt", "--"])?;
    assert_eq!(shell.code, Some(126), "{shell:?}");
    assert!(shell.err.contains("chaperone does not allow this: SHELL"), "{shell:?}");
    let through = format!("{}:2222", ssh.host.address());
    let tunnel = ssh.ssh(&["-W", &through, "--"])?;
    assert!(tunnel.err.contains("FORWARD is forbidden"), "{tunnel:?}");
    let commands = ssh.commands("forward", 1)?;
    assert_eq!(commands[0]["status"], "refused");
    assert_eq!(ssh.commands("shell", 1)?[0]["verdict"], "deny");

    let ssh = Ssh::start(
        "[[rule]]\nname = \"shells\"\nwhen = { kind = [\"SHELL\", \"FORWARD\"] }\nthen = \"allow\"",
    )?;
    let place = ssh.place();
    let mut args = ssh.options();
    args.extend(["-tt", "-p", "2222", &place].map(str::to_owned));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut shell = ssh.host.start_other(UID, "ssh", &args)?;
    shell.say("echo in the $((40 + 2)) shell; exit 3")?;
    let done = shell.finish()?;
    assert_eq!(done.code, Some(3), "{done:?}");
    assert!(done.out.contains("in the 42 shell"), "{done:?}");
    let through = format!("{}:2222", ssh.host.address());
    let tunnel = ssh.ssh(&["-W", &through, "--"])?;
    assert!(tunnel.out.starts_with("SSH-2.0-OpenSSH"), "{tunnel:?}");
    Ok(())
}

#[test]
fn p1_a_destructive_command_waits_for_a_person() -> Result<()> {
    let ssh = Ssh::start(
        "[[rule]]\nname = \"ask\"\nwhen = { class = \"destructive\" }\nthen = \"hold\"\napprovers = [\"user:root\"]",
    )?;
    let marker = ssh.host.folder().join("ssh/marker");
    let line = format!("echo done > {0}.new && mv {0}.new {0}", marker.display());
    for approve in [false, true] {
        let place = ssh.place();
        let mut args = ssh.options();
        args.extend(["-p", "2222", &place, &line].map(str::to_owned));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let agent = ssh.host.start_other(UID, "ssh", &args)?;
        let mut id = String::new();
        wait_until("the command to wait", || {
            let out = ssh.host.chaperone(&["holds", "--json"]).and_then(Finished::ok);
            let hold: Option<Value> =
                out.ok().and_then(|out| serde_json::from_str(out.lines().next()?).ok());
            id = hold.map_or_else(String::new, |hold| hold["id"].to_string());
            !id.is_empty()
        })?;
        assert!(!marker.exists());
        let word = if approve { "approve" } else { "deny" };
        ssh.host.chaperone(&[word, &id])?.ok()?;
        let done = agent.finish()?;
        assert!(done.err.contains("chaperone holds this until a person approves"), "{done:?}");
        assert_eq!(done.code, Some(if approve { 0 } else { 126 }), "{done:?}");
        assert_eq!(marker.exists(), approve);
    }
    let commands = ssh.commands("exec", 2)?;
    assert_eq!(commands[0]["status"], "refused");
    assert_eq!(commands[1]["status"], "ok");
    Ok(())
}

#[test]
fn p1_each_operation_of_sftp_is_a_command() -> Result<()> {
    let ssh = Ssh::start(
        "[[rule]]\nname = \"nothing goes\"\nwhen = { kind = \"SFTP REMOVE\" }\nthen = \"deny\"",
    )?;
    let folder = ssh.host.folder().join("files");
    fs::create_dir(&folder)?;
    writable(&folder)?;
    let content = (0..300_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>();
    fs::write(folder.join("here"), &content)?;
    let path = |name: &str| folder.join(name).display().to_string();
    fs::write(
        folder.join("batch"),
        format!(
            "put {} {}\n-rm {}\nget {} {}\nls {}\n",
            path("here"),
            path("there"),
            path("there"),
            path("there"),
            path("back"),
            folder.display()
        ),
    )?;
    let place = ssh.place();
    let done = ssh.agent("sftp", &["-P", "2222", "-b", &path("batch"), &place])?;
    assert_eq!(done.code, Some(0), "{done:?}\n{}", ssh.host.daemon_output());
    assert_eq!(fs::read(folder.join("there"))?, content);
    assert_eq!(fs::read(folder.join("back"))?, content);
    let commands = ssh.commands("sftp", 4)?;
    let sum = chaperone_host_tests::sha256(&folder.join("here"))?;
    let with = |text: &str| -> Result<Value> {
        let has = |one: &&Value| one["statement"].as_str().is_some_and(|s| s.contains(text));
        let found = commands.iter().find(has).with_context(|| format!("{text}: {commands:?}"))?;
        ssh.host.command(&found["id"])
    };
    let written = with("write")?;
    assert!(written.to_string().contains(&sum), "{written}");
    let has = |one: &&Value| one["statement"].as_str().is_some_and(|s| s.contains("remove"));
    let removed = commands.iter().find(has).context("the removal")?;
    assert_eq!((&removed["status"], &removed["rule"]), (&"refused".into(), &"nothing goes".into()));
    Ok(())
}

#[test]
fn p4_files_are_carried_by_scp_and_rsync() -> Result<()> {
    let ssh = Ssh::start("")?;
    let folder = ssh.host.folder().join("files");
    fs::create_dir(&folder)?;
    writable(&folder)?;
    fs::write(folder.join("a"), "of scp\n".repeat(50_000))?;
    let path = |name: &str| folder.join(name).display().to_string();
    for (way, to) in [("-s", "sftp"), ("-O", "legacy")] {
        let place = format!("{}:{}", ssh.place(), path(to));
        let done = ssh.agent("scp", &[way, "-P", "2222", &path("a"), &place])?;
        assert_eq!(done.code, Some(0), "{way}: {done:?}\n{}", ssh.host.daemon_output());
        assert_eq!(fs::read(folder.join(to))?, fs::read(folder.join("a"))?);
        let back = format!("{to}.back");
        let place = format!("{}:{}", ssh.place(), path(to));
        let done = ssh.agent("scp", &[way, "-P", "2222", &place, &path(&back)])?;
        assert_eq!(done.code, Some(0), "{way}: {done:?}");
        assert_eq!(fs::read(folder.join(&back))?, fs::read(folder.join("a"))?);
    }
    assert_eq!(ssh.commands("copy", 2)?.len(), 2);
    let tree = folder.join("tree");
    fs::create_dir(&tree)?;
    for number in 0..500 {
        fs::write(tree.join(number.to_string()), number.to_string())?;
    }
    let shell = format!("ssh {} -p 2222", ssh.options().join(" "));
    let place = format!("{}:{}", ssh.place(), path("copy"));
    let source = format!("{}/", tree.display());
    let done = ssh.host.other(UID, "rsync", &["-a", "-e", &shell, &source, &place])?;
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(fs::read_dir(folder.join("copy"))?.count(), 500);
    Ok(())
}

#[test]
fn p2_a_server_that_is_not_known_is_not_believed() -> Result<()> {
    let ssh = Ssh::with("host_keys = [\"{folder}/ssh/authorized-not\"]", "");
    // The file is not there: the daemon says so and does not start.
    assert!(ssh.is_err());
    let ssh = Ssh::with("host_keys = [\"{folder}/ssh/other\"]", "")?;
    let done = ssh.ssh(&["true"])?;
    assert_eq!(done.code, Some(255));
    assert!(done.err.contains("host key"), "{done:?}");
    assert!(ssh.host.commands()?.is_empty());
    Ok(())
}

#[test]
fn p8_a_channel_that_is_not_read_stops_nobody_else() -> Result<()> {
    let ssh = Ssh::start("")?;
    let control = ssh.host.folder().join("control");
    fs::create_dir(&control)?;
    writable(&control)?;
    let socket = format!("ControlPath={}/%C", control.display());
    let place = ssh.place();
    let mut args = ssh.options();
    args.extend(
        ["-o", &socket, "-o", "ControlMaster=yes", "-p", "2222", "-N", &place].map(str::to_owned),
    );
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let _master = ssh.host.start_other(UID, "ssh", &words)?;
    wait_until("the master", || fs::read_dir(&control).is_ok_and(|all| all.count() > 0))?;
    let through = ["-o", &socket, "-p", "2222", &place];
    let mut stalled: Vec<String> = ssh.options();
    stalled.extend(through.iter().map(|&word| word.to_owned()));
    // Far more than any window takes, and nobody reads it.
    stalled.push("head -c 200000000 /dev/zero".into());
    let words: Vec<&str> = stalled.iter().map(String::as_str).collect();
    let _stalled = ssh.host.start_other(UID, "ssh", &words)?;
    std::thread::sleep(Duration::from_secs(1));
    for number in 0..19 {
        let echo = format!("echo {number}");
        let mut all = ssh.options();
        all.extend(through.iter().map(|&word| word.to_owned()));
        all.push(echo);
        let words: Vec<&str> = all.iter().map(String::as_str).collect();
        let done = ssh.host.other(UID, "ssh", &words)?;
        assert_eq!(done.out, format!("{number}\n"), "{done:?}");
    }
    let peak = ssh.host.daemon_peak_kib()?;
    assert!(peak < 256 * 1024, "{peak} KiB");
    Ok(())
}

#[test]
fn p6_the_target_is_opened_with_a_certificate_for_this_session_or_with_a_password() -> Result<()> {
    let known = "host_keys = [\"{folder}/ssh/known\"]\n";
    let authority = "credential = { user = \"*\", authority = \"file:{folder}/ssh/authority\" }";
    let trusts = "TrustedUserCAKeys {folder}/ssh/authority.pub";
    let ssh = Ssh::set(&format!("{known}{authority}"), "", trusts)?;
    let place = format!("root@{}", ssh.host.address());
    let done = ssh.agent("ssh", &["-p", "2222", &place, "whoami"])?;
    assert_eq!(done.out, "root\n", "{done:?}\n{}", ssh.host.daemon_output());
    let log = fs::read_to_string(ssh.host.folder().join("ssh/log"))?;
    assert!(log.contains("ID cleaner@"), "{log}");
    // The account is the one that was asked for.
    let done = ssh.ssh(&["true"])?;
    assert!(done.err.contains("does not let deploy in"), "{done:?}");

    let password = "credential = { user = \"root\", password = \"file:{folder}/password\" }";
    let ssh = Ssh::set(&format!("{known}{password}"), "", "PasswordAuthentication yes")?;
    assert_eq!(ssh.ssh(&["whoami"])?.out, "root\n", "{}", ssh.host.daemon_output());
    let log = fs::read_to_string(ssh.host.folder().join("ssh/log"))?;
    assert!(log.contains("Accepted password for root"), "{log}");
    Ok(())
}

#[test]
fn p4_where_the_daemon_has_no_credential_the_agents_password_is_passed_on() -> Result<()> {
    let ssh = Ssh::set("host_keys = [\"{folder}/ssh/known\"]", "", "PasswordAuthentication yes")?;
    let ask = ssh.host.folder().join("ask");
    for (password, works) in [(PASSWORD, true), ("wrong", false)] {
        fs::write(&ask, format!("#!/bin/sh\necho '{password}'\n"))?;
        fs::set_permissions(&ask, fs::Permissions::from_mode(0o755))?;
        let mut args = vec![
            "SSH_ASKPASS_REQUIRE=force".to_owned(),
            format!("SSH_ASKPASS={}", ask.display()),
            "ssh".to_owned(),
        ];
        args.extend(ssh.options().into_iter().map(|option| option.replace("=yes", "=no")));
        args.extend(["-p".into(), "2222".into(), format!("root@{}", ssh.host.address())]);
        args.push("echo in".into());
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let done = ssh.host.other(UID, "env", &args)?;
        assert_eq!(done.out == "in\n", works, "{done:?}\n{}", ssh.host.daemon_output());
    }
    let sessions = ssh.host.closed_sessions()?;
    assert!(sessions.iter().any(|session| session.to_string().contains("relayed")), "{sessions:?}");
    Ok(())
}

#[test]
fn p2_rules_speak_of_paths_and_another_name_of_a_file_does_not_get_round_them() -> Result<()> {
    let ssh =
        Ssh::start("[[rule]]\nname = \"kept\"\nwhen = { path = \"*/kept/*\" }\nthen = \"deny\"")?;
    let folder = ssh.host.folder().join("files");
    for name in ["", "kept", "open"] {
        fs::create_dir(folder.join(name))?;
        writable(&folder.join(name))?;
        fs::write(folder.join(name).join("a"), "secret")?;
    }
    let place = |path: &str| format!("{}:{}", ssh.place(), folder.join(path).display());
    for (way, from, passes) in [
        ("-s", "open/a", true),
        ("-s", "kept/a", false),
        // What is behind these only the server knows.
        ("-s", "open/../open/a", false),
        ("-O", "kept/a", false),
    ] {
        let back = folder.join("back");
        let _ = fs::remove_file(&back);
        let to = back.display().to_string();
        let done = ssh.agent("scp", &[way, "-P", "2222", &place(from), &to])?;
        assert_eq!(back.exists(), passes, "{way} {from}: {done:?}");
        assert_eq!(done.code == Some(0), passes, "{way} {from}: {done:?}");
    }
    // Rules of databases are not of this.
    let ssh =
        Ssh::start("[[rule]]\nname = \"tables\"\nwhen = { relation = \"*\" }\nthen = \"deny\"")?;
    let done = ssh.ssh(&["echo in"])?;
    assert_eq!(done.out, "in\n", "{done:?}");
    Ok(())
}

#[test]
fn p4_keys_are_exchanged_anew_in_the_middle_of_a_transfer() -> Result<()> {
    // The server asks for it as often as the client, so that both exchange keys at the same time.
    let known = "host_keys = [\"{folder}/ssh/known\"]";
    let key = "credential = { user = \"root\", key = \"file:{folder}/ssh/key\" }";
    let ssh = Ssh::set(&format!("{known}\n{key}"), "", "RekeyLimit 1M")?;
    let line = "head -c 60000000 /dev/zero | tr '\\0' 'x'; cat | wc -c";
    let input = "y".repeat(20_000_000);
    let place = ssh.place();
    let mut args = ssh.options();
    args.extend(["-o", "RekeyLimit=1M", "-C", "-p", "2222", &place, line].map(str::to_owned));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = ssh.host.other_with(UID, "ssh", &args, &input)?;
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert_eq!(done.out.len(), 60_000_000 + "20000000\n".len());
    assert!(done.out.ends_with("x20000000\n"));
    Ok(())
}

#[test]
fn p8_a_peer_that_is_no_ssh_client_costs_its_connection_alone() -> Result<()> {
    let ssh = Ssh::start("")?;
    let program = r#"
import socket, sys
def say(bytes):
    s = socket.create_connection((sys.argv[1], 2222)); s.settimeout(20)
    try:
        s.sendall(bytes)
        while s.recv(65536): pass
    except (BrokenPipeError, ConnectionResetError): pass
say(b"GET / HTTP/1.1\r\n\r\n")
say(b"x" * 100000)
say(b"SSH-2.0-x\r\n" + b"\xff" * 1000)
say(b"SSH-2.0-x\r\n" + b"\x00\x00\x00\x0c\x0a\x15" + b"\x00" * 10)
print("done")
"#;
    let address = ssh.host.address().to_string();
    let done = ssh.host.other(UID, "/usr/bin/python3", &["-c", program, &address])?;
    assert_eq!(done.out, "done\n", "{done:?}");
    assert_eq!(ssh.ssh(&["echo still"])?.out, "still\n");
    wait_until("the violations", || {
        ssh.host.counter("client_violations").is_ok_and(|count| count == 4)
    })
}
