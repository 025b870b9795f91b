//! P4 of terminals: a shell and an editor under tmux look the same as without the daemon.

use std::fs;

use anyhow::{Context, Result};
use chaperone_host_tests::{Finished, wait_until};

use super::{Ssh, WAYS, Way, words, writable};

const ALLOWED: &str =
    "[[rule]]\nname = \"shells\"\nwhen = { kind = [\"SHELL\"] }\nthen = \"allow\"";

/// A terminal on which the agent's account works.
struct Screen<'a> {
    ssh: &'a Ssh,
    way: Way,
    socket: String,
    settings: String,
}

impl<'a> Screen<'a> {
    /// Runs `ssh` with these words on it.
    fn open(ssh: &'a Ssh, way: Way, before: &[&str], behind: &[&str]) -> Result<Self> {
        let folder = ssh.host.folder().join(format!("screen-{way:?}"));
        if !folder.exists() {
            fs::create_dir(&folder)?;
            writable(&folder)?;
        }
        // A program may end before it could be told that its screen stays.
        let settings = folder.join("settings");
        fs::write(&settings, "set-option -g remain-on-exit on\n")?;
        let path = |name: &str| folder.join(name).display().to_string();
        let screen = Self { ssh, way, socket: path("tmux"), settings: path("settings") };
        let script = "ssh \"$@\"; echo \"ended with $?.\"";
        let mut all = vec!["-x", "80", "-y", "24", "sh", "-c", script, "sh"];
        let line = ssh.line(way, before, behind);
        all.extend(words(&line));
        screen.tmux("new-session", &[&["-d"], &all[..]].concat())?.ok()?;
        Ok(screen)
    }

    fn tmux(&self, what: &str, words: &[&str]) -> Result<Finished> {
        let mut all = vec!["-S", &self.socket, "-f", &self.settings, what];
        all.extend(words);
        self.ssh.run(self.way, "tmux", &all, "")
    }

    fn shown(&self) -> Result<String> {
        // With what went off its upper edge.
        self.tmux("capture-pane", &["-p", "-S", "-"])?.ok()
    }

    /// The exit status, once it has ended.
    fn status(&self) -> Result<String> {
        let shown = self.until("its end", |shown| shown.contains("ended with "))?;
        let status = shown.rsplit("ended with ").next().and_then(|rest| rest.split('.').next());
        status.map(str::to_owned).context("a status")
    }

    fn until(&self, what: &str, holds: impl Fn(&str) -> bool) -> Result<String> {
        let mut shown = String::new();
        let waited = wait_until(what, || {
            shown = self.shown().unwrap_or_default();
            holds(&shown)
        });
        waited.with_context(|| {
            format!("{:?}:\n{shown}\n{}", self.way, self.ssh.host.daemon_output())
        })?;
        Ok(shown)
    }

    fn keys(&self, keys: &[&str]) -> Result<()> {
        self.tmux("send-keys", keys)?.ok().map(drop)
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        let _ = self.tmux("kill-server", &[]);
    }
}

#[test]
fn p4_an_editor_works_and_its_window_can_be_resized() -> Result<()> {
    let ssh = Ssh::start(ALLOWED)?;
    let mut looks = Vec::new();
    for way in WAYS {
        let file = ssh.host.folder().join("edited");
        fs::write(&file, "first line\nsecond line\n")?;
        let line = format!("vi -u NONE -i NONE -n {}", file.display());
        let screen = Screen::open(&ssh, way, &["-t"], &[&line])?;
        let opened = screen.until("the editor", |shown| shown.contains("second line"))?;
        screen.keys(&["ihello ü "])?;
        screen.keys(&["Escape"])?;
        screen.until("the text", |shown| shown.contains("hello ü first line"))?;
        let before = opened.lines().filter(|line| line.starts_with('~')).count();
        screen.tmux("resize-window", &["-x", "100", "-y", "40"])?.ok()?;
        let resized = screen.until("the new size", |shown| {
            shown.lines().filter(|line| line.starts_with('~')).count() > before
        })?;
        screen.keys(&[":wq", "Enter"])?;
        assert_eq!(screen.status()?, "0");
        assert_eq!(fs::read_to_string(&file)?, "hello ü first line\nsecond line\n");
        looks.push((opened, resized));
    }
    assert_eq!(looks[0], looks[1]);
    let commands = ssh.commands("exec", 1)?;
    let last = commands.last().context("a command")?;
    assert_eq!((&last["status"], &last["tag"]), (&"ok".into(), &"exit 0".into()));
    let text = ssh.one("exec")?.to_string();
    assert!(text.contains("\\\"columns\\\":80"), "{text}");
    assert!(text.contains("100x40"), "{text}");
    Ok(())
}

#[test]
fn p4_a_shell_works_with_keys_that_stop_and_end() -> Result<()> {
    let ssh = Ssh::start(ALLOWED)?;
    for way in WAYS {
        let screen = Screen::open(&ssh, way, &[], &[])?;
        screen.until("a prompt", |shown| shown.contains('#'))?;
        screen.keys(&["PS1='ready> '; stty size", "Enter"])?;
        screen.until("the size", |shown| shown.contains("24 80"))?;
        screen.tmux("resize-window", &["-x", "90", "-y", "30"])?.ok()?;
        screen.keys(&["clear; stty size", "Enter"])?;
        screen.until("the new size", |shown| shown.contains("30 90"))?;
        screen.keys(&["cat", "Enter"])?;
        screen.keys(&["typed", "Enter"])?;
        screen.until("the echo", |shown| shown.matches("typed").count() == 2)?;
        screen.keys(&["C-c"])?;
        screen.until("the stop", |shown| shown.contains("^C"))?;
        screen.keys(&["echo code $?", "Enter"])?;
        screen.until("the code", |shown| shown.contains("code 130"))?;
        screen.keys(&["sleep 100", "Enter"])?;
        // A shell that is still starting it does not stop.
        std::thread::sleep(std::time::Duration::from_millis(700));
        screen.keys(&["C-z"])?;
        screen.until("the stop", |shown| shown.contains("Stopped"))?;
        // What it started stays stopped: one that is killed may be gone before the shell looks.
        screen.keys(&["exit 5", "Enter"])?;
        screen.until("a word", |shown| shown.contains("stopped jobs"))?;
        screen.keys(&["exit 5", "Enter"])?;
        assert_eq!(screen.status()?, "5");
    }
    let shells = ssh.commands("shell", 1)?;
    assert_eq!(shells.last().context("a shell")?["tag"], "exit 5", "{shells:?}");
    let text = ssh.one("shell")?.to_string();
    assert!(text.contains("90x30") && text.contains("typed"), "{text}");
    Ok(())
}

#[test]
fn p4_a_refusal_can_be_read_on_a_terminal() -> Result<()> {
    let ssh = Ssh::start("")?;
    let screen = Screen::open(&ssh, Way::Through, &[], &[])?;
    assert_eq!(screen.status()?, "126");
    let shown = screen.shown()?;
    assert!(shown.contains("chaperone does not allow this: SHELL"), "{shown}");
    Ok(())
}

#[test]
fn p1_sftp_is_not_spoken_through_a_terminal() -> Result<()> {
    // A terminal swallows and alters bytes: what came to the server would not be what was decided.
    let ssh = Ssh::start("")?;
    let through = ssh.line(Way::Through, &["-tt", "-s"], &["sftp"]);
    let done = ssh.run(Way::Through, "ssh", &words(&through), "")?;
    assert_eq!(done.code, Some(126), "{done:?}");
    let said = format!("{}{}", done.out, done.err);
    assert!(said.contains("does not let SFTP be spoken through a terminal"), "{said}");
    let recorded = ssh.commands("subsystem", 1)?;
    assert_eq!(recorded[0]["status"], "refused", "{recorded:?}");
    Ok(())
}
