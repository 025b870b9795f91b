//! P4 of clients that are no OpenSSH: paramiko, asyncssh and Ansible do the same as without the daemon,
//! and believe it by the keys that they can read.

use std::fs;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Ssh, WAYS, Way};

const PARAMIKO: &str = r#"
import hashlib, io, paramiko, sys, threading
address, known, key = sys.argv[1:4]
client = paramiko.SSHClient()
client.load_system_host_keys(known)
how = {"key_filename": key} if key else {"password": "any"}
client.connect(address, 2222, "root", allow_agent=False, look_for_keys=False, **how)
def run(line, given=b""):
    i, o, e = client.exec_command(line)
    i.write(given); i.channel.shutdown_write()
    out, err = o.read(), e.read()
    return o.channel.recv_exit_status(), hashlib.sha256(out).hexdigest()[:12], len(out), err
print(run("echo out; echo err >&2; exit 3"))
print(run("sha256sum", bytes(range(256)) * 20000), run("cat", bytes(range(256)) * 2000))
print(run("head -c 3000000 /dev/zero"))
found = [None] * 10
def one(n): found[n] = run(f"sleep 0.1; echo {n}; exit {n}")
threads = [threading.Thread(target=one, args=(n,)) for n in range(10)]
[t.start() for t in threads]; [t.join() for t in threads]
print(found)
sftp = client.open_sftp()
folder = sys.argv[4]
sftp.mkdir(folder + "/in")
sftp.putfo(io.BytesIO(bytes(range(256)) * 10000), folder + "/in/a")
print(sftp.stat(folder + "/in/a").st_size)
sftp.rename(folder + "/in/a", folder + "/in/b")
sftp.symlink(folder + "/in/b", folder + "/in/c")
sftp.chmod(folder + "/in/b", 0o600)
print(sorted(sftp.listdir(folder + "/in")), sftp.readlink(folder + "/in/c") == folder + "/in/b")
back = io.BytesIO(); sftp.getfo(folder + "/in/c", back)
print(hashlib.sha256(back.getvalue()).hexdigest())
with sftp.open(folder + "/in/b", "r+") as f:
    f.seek(1000); f.write("changed"); f.seek(998); print(f.read(11))
try: sftp.remove(folder + "/nothing")
except FileNotFoundError as e: print(e.errno)
sftp.remove(folder + "/in/b"); sftp.remove(folder + "/in/c"); sftp.rmdir(folder + "/in")
print(sftp.listdir(folder))
"#;

const ASYNCSSH: &str = r#"
import asyncio, asyncssh, hashlib, sys
address, known, key, folder = sys.argv[1:5]
async def main():
    how = {"client_keys": [key]} if key else {"client_keys": None}
    async with asyncssh.connect(address, 2222, username="root", known_hosts=known,
                                agent_path=None, config=None, **how) as c:
        r = await c.run("echo out; echo err >&2; exit 3")
        print(r.exit_status, r.stdout, r.stderr)
        r = await c.run("kill -KILL $$")
        print(r.exit_signal)
        r = await c.run("sha256sum", input="many words\n" * 200000)
        print(r.stdout)
        all = await asyncio.gather(*(c.run(f"sleep 0.1; echo {n}") for n in range(20)))
        print([r.stdout for r in all])
        p = await c.create_process("cat")
        for n in range(5):
            p.stdin.write(f"line {n}\n"); print(await p.stdout.readline())
        p.stdin.write_eof(); print((await p.wait()).exit_status)
        async with c.start_sftp_client() as s:
            async with s.open(folder + "/a", "wb") as f:
                await f.write(bytes(range(256)) * 20000)
            print((await s.stat(folder + "/a")).size)
            async with s.open(folder + "/a", "rb") as f:
                print(hashlib.sha256(await f.read()).hexdigest())
            await s.rename(folder + "/a", folder + "/b")
            print(sorted(n for n in await s.listdir(folder) if n[0] != "."))
            await s.remove(folder + "/b")
asyncio.run(main())
"#;

const PLAYBOOK: &str = r#"
- hosts: web
  gather_facts: true
  tasks:
    - file: { path: "{{ folder }}/made", state: directory, mode: "0750" }
    - copy: { content: "{{ 'of a playbook\n' * 5000 }}", dest: "{{ folder }}/made/copied" }
    - copy: { src: "{{ folder }}/source", dest: "{{ folder }}/made/source" }
    - lineinfile: { path: "{{ folder }}/made/copied", line: "one more" }
    - command: sha256sum {{ folder }}/made/copied
      register: sum
      changed_when: false
    - debug: { var: sum.stdout }
    - shell: "echo to stderr >&2; exit 4"
      register: failed
      failed_when: failed.rc != 4
    - debug: { msg: "{{ failed.rc }} {{ failed.stderr }} {{ ansible_facts.system }}" }
    - fetch: { src: "{{ folder }}/made/copied", dest: "{{ folder }}/fetched", flat: true }
    - command: cat
      args: { stdin: "given" }
      register: given
      changed_when: false
    - debug: { var: given.stdout }
    - file: { path: "{{ folder }}/made", state: absent }
"#;

impl Ssh {
    /// A file with a line by which clients believe the server that they meet on this way.
    fn line_of(&self, way: Way, plain: bool) -> Result<String> {
        let folder = self.host.folder();
        let path = match (way, plain) {
            (Way::Direct, _) => folder.join("ssh/known"),
            (Way::Through, false) => self.known_hosts.clone(),
            (Way::Through, true) => {
                let out = self.host.chaperone(&["trust", "show", "--json"])?.ok()?;
                let shown: Value = serde_json::from_str(&out)?;
                let key = shown["ssh_host_key"].as_str().context("the key")?;
                let path = folder.join("plain");
                fs::write(&path, format!("[{}]:2222 {key}\n", self.host.address()))?;
                path
            }
        };
        Ok(path.display().to_string())
    }

    fn python(&self, program: &str, plain: bool) -> Result<()> {
        let python = self.host.newer_python()?;
        let own = self.host.folder().join("ssh/own").display().to_string();
        let mut said = Vec::new();
        for way in WAYS {
            let space = self.space(if plain { "plain" } else { "certified" })?;
            let known = self.line_of(way, plain)?;
            let key = if way == Way::Direct { own.as_str() } else { "" };
            let address = self.host.address().to_string();
            let folder = space.display().to_string();
            let words = ["-c", program, &address, &known, key, &folder];
            let done = self.run(way, &python, &words, "")?;
            assert_eq!(done.code, Some(0), "{way:?}: {done:?}\n{}", self.host.daemon_output());
            said.push(done.out);
        }
        assert_eq!(said[0], said[1]);
        Ok(())
    }
}

#[test]
fn p4_paramiko_does_the_same_and_verifies_the_plain_key() -> Result<()> {
    let mut ssh = Ssh::start("")?;
    ssh.python(PARAMIKO, true)?;
    assert!(ssh.commands("exec", 14)?.iter().all(|one| one["verdict"] == "allow"));
    assert!(ssh.commands("sftp", 10)?.len() >= 10);
    // The key is the same after the next start, so that what was installed stays right.
    let before = fs::read_to_string(ssh.host.folder().join("plain"))?;
    ssh.host.stop_daemon()?;
    ssh.host.start_daemon()?;
    ssh.line_of(Way::Through, true)?;
    assert_eq!(before, fs::read_to_string(ssh.host.folder().join("plain"))?);
    // A key that is not the daemon's is not believed.
    let python = ssh.host.newer_python()?;
    let known = ssh.host.folder().join("ssh/known").display().to_string();
    let words = ["-c", PARAMIKO, &ssh.host.address().to_string(), &known, "", "/nowhere"];
    let done = ssh.run(Way::Through, &python, &words, "")?;
    assert!(done.err.contains("BadHostKey"), "{done:?}");
    Ok(())
}

#[test]
fn p4_asyncssh_does_the_same_by_certificate_and_by_plain_key() -> Result<()> {
    let ssh = Ssh::start("")?;
    ssh.python(ASYNCSSH, false)?;
    ssh.python(ASYNCSSH, true)?;
    let killed = ssh.commands("exec", 48)?;
    assert!(killed.iter().any(|one| one["tag"] == "signal KILL"), "{killed:?}");
    Ok(())
}

#[test]
fn p4_a_playbook_with_pipelining_does_the_same() -> Result<()> {
    let ssh = Ssh::start("")?;
    let python = ssh.host.newer_python()?;
    let mut said = Vec::new();
    for way in WAYS {
        let space = ssh.space("ansible")?;
        let folder = space.display().to_string();
        fs::write(space.join("book.yml"), PLAYBOOK)?;
        fs::write(space.join("source"), "a file\n".repeat(100_000))?;
        let inventory = format!(
            "web ansible_host={} ansible_port=2222 ansible_user=root folder={folder} \
             ansible_python_interpreter=/usr/bin/python3 ansible_ssh_common_args='{}'\n",
            ssh.host.address(),
            ssh.options_of(way).join(" ")
        );
        fs::write(space.join("hosts"), inventory)?;
        let home = format!("HOME={folder}");
        let words = [
            &home,
            "ANSIBLE_PIPELINING=1",
            "ANSIBLE_NOCOLOR=1",
            "ANSIBLE_RETRY_FILES_ENABLED=0",
            "ANSIBLE_SSH_ARGS=-C -o ControlMaster=auto -o ControlPersist=3s",
            &format!("ANSIBLE_REMOTE_TMP={folder}/remote"),
            &python,
            "-m",
            "ansible",
            "playbook",
            "-i",
            &format!("{folder}/hosts"),
            &format!("{folder}/book.yml"),
        ];
        let done = ssh.run(way, "env", &words, "")?;
        assert_eq!(done.code, Some(0), "{way:?}: {done:?}\n{}", ssh.host.daemon_output());
        let fetched = fs::read_to_string(space.join("fetched"))?;
        assert!(fetched.ends_with("one more\n"), "{way:?}");
        said.push(done.out);
    }
    assert_eq!(said[0], said[1]);
    assert!(said[1].contains("4 to stderr Linux"), "{}", said[1]);
    let commands = ssh.commands("exec", 10)?;
    let python = |one: &&Value| {
        one["statement"].as_str().is_some_and(|line| line.contains("/usr/bin/python3"))
    };
    let of_python: Vec<_> = commands.iter().filter(python).collect();
    assert!(of_python.len() >= 8, "{commands:?}");
    // With pipelining the programs are in what they are given.
    assert!(of_python.iter().any(|one| one["bytes_in"].as_u64() > Some(50_000)));
    Ok(())
}
