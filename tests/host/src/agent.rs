//! Programs that run as an agent: under its user id, inside the test's cgroup, told nothing.

use std::{
    io::{Read, Write},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use anyhow::{Context, Result, bail};

/// A program that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its exit code.
    pub code: Option<i32>,
    /// What it said.
    pub out: String,
    /// What it complained of.
    pub err: String,
}

impl Finished {
    /// Its output, where it ended well.
    ///
    /// # Errors
    /// Where it did not.
    pub fn ok(self) -> Result<String> {
        if self.code == Some(0) {
            return Ok(self.out.trim_end().to_owned());
        }
        bail!("it ended with {:?}: {}\n{}", self.code, self.out, self.err)
    }
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A program that runs; it is killed when this is dropped.
#[derive(Debug)]
pub struct Running(Option<Child>);

impl Running {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.as_ref().map_or(0, Child::id)
    }

    /// The next line that it says.
    ///
    /// # Errors
    /// Where it says no more.
    pub fn hear(&mut self) -> Result<String> {
        let out = self.0.as_mut().and_then(|child| child.stdout.as_mut()).context("its output")?;
        let mut line = Vec::new();
        let mut byte = [0];
        // What comes behind the line is for `finish`.
        while out.read(&mut byte)? == 1 && byte[0] != b'\n' {
            line.push(byte[0]);
        }
        Ok(String::from_utf8(line)?)
    }

    /// Writes to its standard input.
    ///
    /// # Errors
    /// Where it no longer reads.
    pub fn say(&mut self, line: &str) -> Result<()> {
        let stdin =
            self.0.as_mut().and_then(|child| child.stdin.as_mut()).context("it has no input")?;
        writeln!(stdin, "{line}")?;
        Ok(stdin.flush()?)
    }

    /// Closes its input and waits for its end.
    ///
    /// # Errors
    /// Where it cannot be waited for.
    pub fn finish(mut self) -> Result<Finished> {
        let child = self.0.take().context("it has ended")?;
        Ok(child.wait_with_output()?.into())
    }

    /// Kills it as `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A command that runs as an agent.
pub(crate) fn command(cgroup: &Path, uid: u32, program: &str, args: &[&str]) -> Command {
    // The shell enters the cgroup while it is still root, and then becomes the agent.
    let enter = "echo $$ > \"$0/cgroup.procs\" && exec setpriv --reuid=\"$1\" --regid=\"$1\" \
                 --clear-groups --pdeathsig KILL -- \"${@:2}\"";
    let mut command = Command::new("bash");
    command.args(["-c", enter]).arg(cgroup).arg(uid.to_string()).arg(program).args(args);
    like_an_agents(&mut command);
    command
}

/// A command of the same account that is no agent's: it runs where it was started, in no cgroup of a
/// test's.
pub(crate) fn outside(uid: u32, program: &str, args: &[&str]) -> Command {
    let enter =
        "exec setpriv --reuid=\"$0\" --regid=\"$0\" --clear-groups --pdeathsig KILL -- \"$@\"";
    let mut command = Command::new("bash");
    command.args(["-c", enter]).arg(uid.to_string()).arg(program).args(args);
    like_an_agents(&mut command);
    command
}

fn like_an_agents(command: &mut Command) {
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", "/nonexistent")
        .env("LC_ALL", "C.UTF-8")
        .current_dir("/");
}

pub(crate) fn run(mut command: Command, input: &str) -> Result<Finished> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("an agent's program cannot be started")?;
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_owned();
        std::thread::spawn(move || {
            let _ = stdin.write_all(input.as_bytes());
        });
    }
    Ok(child.wait_with_output()?.into())
}

pub(crate) fn start(mut command: Command) -> Result<Running> {
    let child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("an agent's program cannot be started")?;
    Ok(Running(Some(child)))
}
