//! The daemon is killed, upgraded, and started with the host: nobody gets past it meanwhile.

use std::{thread, time::Duration};

use anyhow::{Context, Result, ensure};

use super::{agents, package};
use crate::{
    guest::{Guest, LONG},
    scene::{self, KEEPER, Way},
};

const KILLS: usize = 3;

/// Killed again and again under agents that connect all the time.
pub(crate) fn killed(guest: &mut Guest) -> Result<()> {
    let before = scene::came_past(guest)?;
    let lines = under_load(guest, |guest| {
        for _ in 0..KILLS {
            let old = main_process(guest)?;
            guest.ok(&format!("kill -9 {old}"))?;
            // While it is down as well as when it is back.
            let said = Way::Container.run(guest, "killed")?;
            ensure!(!said.starts_with("direct"), "{said}");
            let script = format!(
                "systemctl is-active -q chaperone.service && \
                 test $(systemctl show -P MainPID chaperone.service) != {old}"
            );
            guest.until("the daemon is started again", Duration::from_mins(4), &script)?;
        }
        Ok(())
    })?;
    ensure!(lines.iter().all(|line| line.kind != Kind::Past), "{lines:?}");
    ensure!(scene::came_past(guest)? == before, "somebody came past the daemon");
    agents::check(guest, Way::Unit, "after-kills")?;
    verified(guest)
}

/// A newer package, under agents that connect all the time: none fails, and none gets past.
pub(crate) fn upgraded(guest: &mut Guest) -> Result<()> {
    let before = scene::came_past(guest)?;
    let (old, version) = (main_process(guest)?, installed(guest)?);
    let lines = under_load(guest, |guest| {
        package::install(guest, "/payload/newer.deb")?;
        ensure!(installed(guest)? != version, "it is still {version}");
        let ready = "systemctl is-active chaperone.service";
        guest.until("the new daemon is ready", Duration::from_mins(4), ready)?;
        ensure!(main_process(guest)? != old, "the old daemon still runs");
        Ok(())
    })?;
    let wrong: Vec<_> = lines.iter().filter(|line| line.kind != Kind::Kept).collect();
    ensure!(wrong.is_empty(), "of {} connections these failed: {wrong:?}", lines.len());
    ensure!(scene::came_past(guest)? == before, "somebody came past the daemon");
    agents::check(guest, Way::User, "after-upgrade")?;
    verified(guest)
}

/// An agent that starts before everything else and tries all the time, while the server is up long
/// before the daemon.
pub(crate) fn rebooted(guest: &mut Guest) -> Result<()> {
    let before = scene::came_past(guest)?;
    guest.write(
        "/etc/systemd/system/chaperone.service.d/late.conf",
        "[Service]\nExecStartPre=+/bin/sh -c 'until pg_isready -q -h 127.0.0.2; do sleep 1; done; sleep 10'\n\
         TimeoutStartSec=300\n",
    )?;
    guest.write(
        "/etc/systemd/system/early-agent.service",
        "[Unit]\nDefaultDependencies=no\nAfter=local-fs.target systemd-tmpfiles-setup.service\n\
         [Service]\nUser=svc-loop\nExecStart=/usr/local/bin/agent-loop /var/lib/early/lines\n\
         StateDirectory=early\n[Install]\nWantedBy=sysinit.target\n",
    )?;
    guest.ok("systemctl daemon-reload && systemctl enable early-agent.service && sync")?;
    guest.reboot()?;
    guest.settle()?;
    let load = Load { file: "/var/lib/early/lines", unit: "early-agent.service" };
    let passed = load.more_pass(guest);
    let lines = load.stop(guest)?;
    guest.ok("systemctl disable early-agent.service && \
         rm -r /etc/systemd/system/early-agent.service /var/lib/early \
         /etc/systemd/system/chaperone.service.d/late.conf && systemctl daemon-reload")?;
    passed?;
    ensure!(lines.iter().all(|line| line.kind != Kind::Past), "{lines:?}");
    ensure!(scene::came_past(guest)? == before, "somebody came past the daemon");
    // It tried while the server was there and the daemon was not.
    let up = |unit: &str| format!("systemctl show -P ActiveEnterTimestampMonotonic {unit}");
    let seconds = |text: String| -> Result<f64> { Ok(text.parse::<f64>()? / 1e6) };
    let server = seconds(guest.ok(&up("postgresql@15-main.service"))?)?;
    let daemon = seconds(guest.ok(&up("chaperone.service"))?)?;
    let between = lines.iter().filter(|line| line.at > server && line.at < daemon).count();
    ensure!(
        lines.first().is_some_and(|line| line.at < daemon) && server < daemon,
        "nobody tried before the daemon: server {server}, daemon {daemon}, {lines:?}"
    );
    agents::check_all(guest, "after-reboot")
        .with_context(|| format!("{between} attempts were refused before"))?;
    verified(guest)
}

/// The power goes when the server has just answered a command that changes something: it was sent when
/// its record was on the disk. (One that only reads is sent when it is committed, and a power cut may
/// lose it.)
pub(crate) fn power_cut(guest: &mut Guest) -> Result<()> {
    // What was set up is on the disk, as it is on a host that has run for a while.
    guest.ok("sync")?;
    let before = scene::came_past(guest)?;
    guest.ok("systemd-run -q --wait --pipe --collect --unit=unit-agent.service --uid=svc-unit \
         /bin/sh -c 'exec /usr/lib/postgresql/*/bin/psql -X -q -h 127.0.0.2 -U direct -d work \
         -v ON_ERROR_STOP=1' <<< \"CREATE TEMP TABLE kept AS SELECT 'before-power-cut'\"")?;
    guest.cut_power()?;
    guest.settle()?;
    ensure!(scene::came_past(guest)? == before, "somebody came past the daemon");
    let row = scene::recorded(guest, "before-power-cut")?;
    ensure!(row["agent"] == "unit" && row["class"] != "read", "{row}");
    agents::check(guest, Way::Slice, "after-power-cut")?;
    verified(guest)
}

/// The log proves that nothing of it was altered or lost.
pub(crate) fn verified(guest: &mut Guest) -> Result<()> {
    guest.ok_within("chaperone log verify", LONG).map(drop)
}

/// Does something while an agent connects all the time, and until it passes by the daemon again;
/// answers what it tried.
fn under_load(guest: &mut Guest, act: impl FnOnce(&mut Guest) -> Result<()>) -> Result<Vec<Line>> {
    let load = Load::start(guest)?;
    let result = act(guest).and_then(|()| load.more_pass(guest));
    let lines = load.stop(guest)?;
    result?;
    Ok(lines)
}

fn main_process(guest: &mut Guest) -> Result<u32> {
    let id = guest.ok("systemctl show -P MainPID chaperone.service")?.parse()?;
    ensure!(id != 0, "the daemon does not run");
    Ok(id)
}

fn installed(guest: &mut Guest) -> Result<String> {
    guest.ok("dpkg-query -W -f '${Version}' chaperone")
}

/// An agent that connects all the time.
struct Load {
    file: &'static str,
    unit: &'static str,
}

/// How one of its attempts went.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// By the daemon.
    Kept,
    /// Past it.
    Past,
    Failed,
}

#[derive(Debug)]
#[expect(dead_code, reason = "`said` is for people, who read it in a failure")]
struct Line {
    /// Seconds since the boot.
    at: f64,
    kind: Kind,
    said: String,
}

impl Load {
    fn start(guest: &mut Guest) -> Result<Self> {
        let load = Self { file: "/var/tmp/load/lines", unit: "load.service" };
        guest.ok(&format!(
            "rm -rf /var/tmp/load && install -d -o svc-loop /var/tmp/load && \
             systemd-run -q --unit={} --uid=svc-loop /usr/local/bin/agent-loop {}",
            load.unit, load.file
        ))?;
        guest.until(
            "the load has begun",
            Duration::from_mins(2),
            &format!("test -s {}", load.file),
        )?;
        Ok(load)
    }

    /// Waits until three more attempts have passed by the daemon.
    fn more_pass(&self, guest: &mut Guest) -> Result<()> {
        let passed = |lines: &[Line]| lines.iter().filter(|line| line.kind == Kind::Kept).count();
        let before = passed(&self.lines(guest)?);
        for _ in 0..60 {
            if passed(&self.lines(guest)?) >= before + 3 {
                return Ok(());
            }
            thread::sleep(Duration::from_secs(1));
        }
        anyhow::bail!("no more connections pass: {:?}", self.lines(guest)?.last())
    }

    fn stop(self, guest: &mut Guest) -> Result<Vec<Line>> {
        guest.ok(&format!("systemctl stop {}", self.unit))?;
        self.lines(guest)
    }

    fn lines(&self, guest: &mut Guest) -> Result<Vec<Line>> {
        let text = guest.ok(&format!("cat {}", self.file))?;
        text.lines().map(line).collect()
    }
}

fn line(text: &str) -> Result<Line> {
    let (at, said) = text.split_once(' ').with_context(|| format!("no time: {text}"))?;
    let kind = if said.starts_with(&format!("{KEEPER} loop@")) {
        Kind::Kept
    } else if said.contains("direct") && !said.contains("failed") {
        Kind::Past
    } else {
        Kind::Failed
    };
    Ok(Line { at: at.parse()?, kind, said: said.trim().into() })
}
