//! The machine: one QEMU process, its console, its power switch, and commands in the guest.
//!
//! Belongs here: how the machine is started, heard and ended, and noticing that it hangs or crashed.
//! The processor is emulated: that runs everywhere, and all times here are generous.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::channel::Channel;

/// Until the guest's agent answers. On an idle machine it takes half a minute.
const BOOT: Duration = Duration::from_mins(10);
/// Until the guest's agent answers a command that takes no time.
const ANSWER: Duration = Duration::from_mins(2);
const MEMORY: &str = "2048";

/// What a machine is made of.
pub(crate) struct Images {
    pub(crate) kernel: PathBuf,
    pub(crate) initrd: PathBuf,
    pub(crate) root: PathBuf,
    pub(crate) payload: PathBuf,
    pub(crate) keep: PathBuf,
}

/// A program that has ended in the guest.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i64>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Finished {
    /// Its output, where it ended well.
    pub(crate) fn ok(self) -> Result<String> {
        if self.code == Some(0) {
            return Ok(self.out.trim_end().to_owned());
        }
        let code = self.code.map_or("by a signal".to_owned(), |code| format!("with {code}"));
        bail!("it ended {code}: {}\n{}", self.out.trim_end(), self.err.trim_end())
    }
}

/// A running machine; it is ended when this is dropped.
pub(crate) struct Machine {
    qemu: Child,
    channel: Channel,
    folder: tempfile::TempDir,
    keep: PathBuf,
    /// When everything has to be over.
    end: Instant,
}

impl Machine {
    /// Starts it and waits for the guest's agent.
    pub(crate) fn boot(images: &Images, end: Instant) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("chaperone-vm-").tempdir()?;
        let qemu = qemu(images, folder.path())
            .spawn()
            .context("there is no qemu-system-x86_64: run `cargo xtask setup --for vm`")?;
        let mut starting = Starting(Some(qemu));
        let socket = folder.path().join("agent.sock");
        let channel = loop {
            match Channel::connect(&socket) {
                Ok(channel) => break channel,
                Err(error) => {
                    if let Some(status) = starting.ended() {
                        bail!("{}", ended(status, folder.path()));
                    }
                    if Instant::now() > end {
                        return Err(error);
                    }
                }
            }
            thread::sleep(Duration::from_millis(20));
        };
        let qemu = starting.0.take().context("QEMU is not there")?;
        let mut machine = Self { qemu, channel, folder, keep: images.keep.clone(), end };
        if let Err(error) = machine.wait_for_agent(BOOT) {
            let kept = machine.keep_console().map(|path| path.display().to_string());
            return Err(error.context(format!(
                "the guest did not come up, the whole console is in {}",
                kept.as_deref().unwrap_or("no place")
            )));
        }
        Ok(machine)
    }

    /// Runs a program in the guest as root.
    pub(crate) fn run(
        &mut self,
        program: &str,
        args: &[&str],
        input: &str,
        limit: Duration,
    ) -> Result<Finished> {
        let what = || format!("{program} {}", args.join(" "));
        let arguments = json!({
            "path": program, "arg": args, "capture-output": true,
            "input-data": BASE64_STANDARD.encode(input),
        });
        let started = self.call("guest-exec", &arguments)?;
        let id = &started["pid"];
        let end = Instant::now() + limit;
        let mut pause = Duration::from_millis(10);
        loop {
            let status = self.call("guest-exec-status", &json!({ "pid": id }))?;
            if status["exited"] == json!(true) {
                return Ok(Finished {
                    code: status["exitcode"].as_i64(),
                    out: text(&status["out-data"]),
                    err: text(&status["err-data"]),
                });
            }
            if Instant::now() > end.min(self.end) {
                let kill = json!({ "path": "/bin/kill", "arg": ["-9", id.to_string()] });
                let _ = self.call("guest-exec", &kill);
                bail!("in the guest `{}` did not end within {} s", what(), limit.as_secs());
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(250));
        }
    }

    /// Asks the guest to start anew, and waits for its agent.
    pub(crate) fn reboot(&mut self) -> Result<()> {
        let before = self.boot_id()?;
        let arguments = json!({ "path": "/bin/systemctl", "arg": ["reboot"] });
        self.call("guest-exec", &arguments)?;
        self.wait_for_boot(&before)
    }

    /// What a power cut does, with the power back at once. The disk keeps what it was told to flush.
    pub(crate) fn cut_power(&mut self) -> Result<()> {
        let before = self.boot_id()?;
        let mut monitor = Channel::connect(&self.folder.path().join("monitor.sock"))?;
        for name in ["qmp_capabilities", "system_reset"] {
            monitor.call(name, &json!({}), ANSWER)?;
        }
        self.wait_for_boot(&before)
    }

    /// Whether it still runs; else the sentence that says what happened to it.
    pub(crate) fn alive(&mut self) -> Result<()> {
        if let Some(status) = self.qemu.try_wait()? {
            bail!("{}", ended(status, self.folder.path()));
        }
        let console = self.console();
        if let Some(line) = console.lines().find(|line| line.contains("Kernel panic")) {
            bail!("the guest's kernel has crashed: {line}");
        }
        if Instant::now() > self.end {
            bail!("the time for this guest is over");
        }
        Ok(())
    }

    /// The last lines of its console.
    pub(crate) fn console_tail(&self) -> String {
        let console = self.console();
        // The service manager shows again and again for what it waits.
        let lines: Vec<_> = console.lines().filter(|line| !line.contains(" Job ")).collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }

    /// Keeps its console, and says where.
    pub(crate) fn keep_console(&self) -> Result<PathBuf> {
        fs::create_dir_all(&self.keep)?;
        let to = self.keep.join("console.log");
        fs::copy(self.folder.path().join("console.log"), &to)?;
        Ok(to)
    }

    fn call(&mut self, name: &str, arguments: &Value) -> Result<Value> {
        let answer = self.channel.call(name, arguments, ANSWER);
        if answer.is_err() {
            // The reason may be a better sentence than that nobody answered.
            self.alive()?;
        }
        answer.context("the guest's agent")
    }

    fn boot_id(&mut self) -> Result<String> {
        let limit = Duration::from_mins(1);
        self.run("/bin/cat", &["/proc/sys/kernel/random/boot_id"], "", limit)?.ok()
    }

    fn wait_for_boot(&mut self, before: &str) -> Result<()> {
        let end = Instant::now() + BOOT;
        loop {
            self.wait_for_agent(end.saturating_duration_since(Instant::now()))?;
            // It may be the old one, on its way down.
            if self.boot_id().is_ok_and(|now| now != before) {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("the guest was told to start anew and did not within {} s", BOOT.as_secs());
            }
            thread::sleep(Duration::from_millis(500));
        }
    }

    fn wait_for_agent(&mut self, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        loop {
            if self.channel.synchronise(Duration::from_secs(2))? {
                return Ok(());
            }
            self.alive()?;
            if Instant::now() > end {
                bail!(
                    "the guest does not answer within {} s; its console ends with:\n{}",
                    limit.as_secs(),
                    self.console_tail()
                );
            }
        }
    }

    fn console(&self) -> String {
        let bytes = fs::read(self.folder.path().join("console.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        end(&mut self.qemu);
    }
}

/// A QEMU that nobody can speak to yet: it is ended where the start fails.
struct Starting(Option<Child>);

impl Starting {
    fn ended(&mut self) -> Option<ExitStatus> {
        self.0.as_mut().and_then(|qemu| qemu.try_wait().ok().flatten())
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(qemu) = &mut self.0 {
            end(qemu);
        }
    }
}

fn end(qemu: &mut Child) {
    let _ = qemu.kill();
    let _ = qemu.wait();
}

/// The disks are copied on write: what the guest writes is gone with the machine.
fn qemu(images: &Images, folder: &Path) -> Command {
    let file = |name: &str| folder.join(name).display().to_string();
    let disk = |path: &Path, name: &str| {
        let options = "format=raw,if=none,snapshot=on,cache=unsafe";
        // A comma is doubled in what QEMU reads as a list.
        format!("file={},id={name},{options}", path.display().to_string().replace(',', ",,"))
    };
    let socket = |id: &str| {
        format!("socket,id={id},path={},server=on,wait=off", file(&format!("{id}.sock")))
    };
    let console = format!("file:{}", file("console.log"));
    let errors =
        fs::File::create(folder.join("qemu.log")).map_or_else(|_| Stdio::null(), Into::into);
    // It ends with this process, however that ends.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64", "-nodefaults", "-no-user-config"])
        .args(["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"])
        .args(["-m", MEMORY, "-display", "none", "-nic", "none", "-serial", &console])
        .arg("-kernel")
        .arg(&images.kernel)
        .arg("-initrd")
        .arg(&images.initrd)
        // The console is slow: only what is wrong is written to it.
        .args(["-append", "root=/dev/vda rw console=ttyS0 loglevel=4 mitigations=off panic=0"])
        .args(["-drive", &disk(&images.root, "root"), "-device", "virtio-blk-pci,drive=root"])
        .args(["-drive", &disk(&images.payload, "payload")])
        .args(["-device", "virtio-blk-pci,drive=payload", "-device", "virtio-rng-pci"])
        .args(["-device", "virtio-serial-pci", "-chardev", &socket("agent")])
        .args(["-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"])
        .args(["-chardev", &socket("monitor"), "-mon", "chardev=monitor,mode=control"])
        // Where what the guest writes is kept.
        .env("TMPDIR", folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors);
    command
}

fn ended(status: ExitStatus, folder: &Path) -> String {
    let said = fs::read_to_string(folder.join("qemu.log")).unwrap_or_default();
    let how =
        status.signal().map_or_else(|| status.to_string(), |signal| format!("signal {signal}"));
    format!("QEMU has ended ({how}): {}", said.trim())
}

fn text(base64: &Value) -> String {
    let bytes = BASE64_STANDARD.decode(base64.as_str().unwrap_or_default()).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
