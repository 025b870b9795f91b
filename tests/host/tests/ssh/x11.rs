//! P1 and P4 of X11: programs at the target use the agent's display where a rule says so, with a real
//! display, a real program and OpenSSH's forwarding on both sides.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use chaperone_host_tests::{Finished, Process, wait_until};
use nix::sys::signal::Signal;

use super::{Ssh, WAYS, Way, call, words, writable};

const ALLOWED: &str = "[[rule]]\nname = \"displays\"\nthen = \"allow\"\nwhen = { kind = \"X11\" }";
/// The server's own displays are on TCP.
const SSHD: &str = "X11UseLocalhost yes\nX11DisplayOffset 40";

fn start(rules: &str) -> Result<Ssh> {
    let target = "host_keys = [\"{folder}/ssh/known\"]\n\
                  credential = { user = \"root\", key = \"file:{folder}/ssh/key\" }";
    Ssh::set(target, rules, &format!("X11Forwarding yes\n{SSHD}"))
}

/// A display, and the cookie that opens it.
struct Display {
    _server: Process,
    name: String,
    cookies: PathBuf,
}

impl Display {
    fn start(folder: &Path) -> Result<Self> {
        let folder = folder.join("display");
        fs::create_dir(&folder)?;
        writable(&folder)?;
        let [cookies, number] = ["cookies", "number"].map(|name| folder.join(name));
        let path = cookies.display().to_string();
        let key = "00112233445566778899aabbccddeeff";
        // The name does not count: who is asked for is told by the cookie.
        call("xauth", &["-q", "-f", &path, "add", ":0", "MIT-MAGIC-COOKIE-1", key])?;
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "exec Xvfb -displayfd 3 -noreset -nolisten tcp -auth \"$1\" 3>\"$2\" 2>\"$2.log\"",
            "sh",
        ]);
        command.args([&cookies, &number]);
        let server = Process::start("Xvfb", &mut command, Signal::SIGTERM)?;
        let mut name = String::new();
        wait_until("a display", || {
            name = fs::read_to_string(&number).unwrap_or_default();
            name.ends_with('\n')
        })
        .with_context(|| fs::read_to_string(number.with_extension("log")).unwrap_or_default())?;
        let name = format!(":{}", name.trim());
        call("xauth", &["-q", "-f", &path, "add", &name, "MIT-MAGIC-COOKIE-1", key])?;
        writable(&cookies)?;
        Ok(Self { _server: server, name, cookies })
    }

    /// Runs ssh as somebody who has this display.
    fn ssh(&self, ssh: &Ssh, way: Way, before: &[&str], behind: &str) -> Result<Finished> {
        let display = format!("DISPLAY={}", self.name);
        let cookies = format!("XAUTHORITY={}", self.cookies.display());
        let line = ssh.line(way, before, &[behind]);
        let mut all = vec![&*display, &*cookies, "ssh"];
        all.extend(words(&line));
        ssh.run(way, "env", &all, "")
    }
}

#[test]
fn p4_programs_at_the_target_use_the_agents_display_where_a_rule_says_so() -> Result<()> {
    let ssh = start(ALLOWED)?;
    let display = Display::start(ssh.host.folder())?;
    // Trusted by the display, and as it trusts strangers; one program, and several at once.
    for how in ["-Y", "-X"] {
        let program = "xdpyinfo | grep -v '^name of display'";
        let several = "for i in 1 2 3 4 5 6 7 8; do xdpyinfo >/tmp/chaperone-x11-$$-$i 2>&1 & done; wait; \
                       cat /tmp/chaperone-x11-$$-* | grep -c 'default screen number'; \
                       rm /tmp/chaperone-x11-$$-*";
        let mut said = Vec::new();
        for way in WAYS {
            // The first time the server's xauth tells that it makes a file.
            let done = display.ssh(&ssh, way, &[how], several)?;
            assert_eq!(done.ok()?.trim(), "8", "{how} {way:?}");
            let done = display.ssh(&ssh, way, &[how], program)?;
            assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{how} {way:?}: {done:?}");
            said.push(done.out);
        }
        assert!(said[0].contains("vendor string:"), "{said:?}");
        assert_eq!(said[0], said[1], "{how}");
    }
    let recorded = ssh.commands("forward", 4)?;
    assert_eq!(recorded.len(), 4, "{recorded:?}");
    for one in &recorded {
        assert_eq!(one["statement"], "forward X11", "{one}");
        assert_eq!((&one["status"], &one["rule"]), (&"ok".into(), &"displays".into()), "{one}");
        // What the display tells of itself and its screen alone.
        assert!(one["bytes_in"].as_u64().is_some_and(|bytes| bytes > 1000), "{one}");
    }
    Ok(())
}

#[test]
fn p1_no_display_is_forwarded_where_no_rule_says_so() -> Result<()> {
    let ssh = start("")?;
    let display = Display::start(ssh.host.folder())?;
    let seen = "echo \"[$DISPLAY]\"; xdpyinfo";
    let done = display.ssh(&ssh, Way::Direct, &["-Y"], seen)?;
    assert_eq!(done.code, Some(0), "{done:?}");
    let done = display.ssh(&ssh, Way::Through, &["-Y"], seen)?;
    assert_eq!((done.code, done.out.as_str()), (Some(1), "[]\n"), "{done:?}");
    assert!(done.err.contains("X11 forwarding request failed"), "{done:?}");
    let recorded = ssh.commands("forward", 1)?;
    assert_eq!(recorded[0]["statement"], "forward X11", "{recorded:?}");
    assert_eq!(recorded[0]["status"], "refused", "{recorded:?}");
    Ok(())
}
