//! What installing, starting and removing the package does, and what it does not.

use anyhow::{Result, ensure};

use crate::{
    guest::{Guest, LONG},
    scene::{self, DIRECT, Way},
};

/// The files and folders that the package must not leave behind.
const TRACES: &str = "/usr/bin/chaperone /etc/chaperone /run/chaperone /sys/fs/bpf/chaperone \
     /usr/lib/systemd/system/chaperone* /usr/lib/systemd/system/agents.slice \
     /etc/systemd/system/*.wants/chaperone* /var/lib/chaperone/authority";

/// With apt, as ops do; all that it depends on is in the image, and there is no network.
pub(crate) fn installs(guest: &mut Guest) -> Result<()> {
    install(guest, "/payload/chaperone.deb")?;
    let version = guest.ok("chaperone --version")?;
    ensure!(version.starts_with("chaperone "), "{version}");
    // Nothing that dpkg or apt would complain of later.
    let audit = guest.ok("dpkg --audit; apt-get -q check >/dev/null")?;
    ensure!(audit.is_empty(), "{audit}");
    Ok(())
}

/// As ops do it.
pub(crate) fn install(guest: &mut Guest, file: &str) -> Result<String> {
    let script = format!("DEBIAN_FRONTEND=noninteractive apt-get -q -y install {file} 2>&1");
    guest.ok_within(&script, LONG)
}

pub(crate) fn enables_nothing(guest: &mut Guest) -> Result<()> {
    let units = guest.ok(
        "dpkg -L chaperone | grep -E '/systemd/system/[^/]+\\.(service|socket|timer|path|slice|target)$' \
         | xargs -n1 basename",
    )?;
    ensure!(units.contains("chaperone.service"), "the package has no unit: {units}");
    for unit in units.lines() {
        let state =
            guest.sh(&format!("systemctl is-enabled {unit}; systemctl is-active {unit}"))?.out;
        let off = ["disabled\ninactive", "static\ninactive", "indirect\ninactive"];
        ensure!(off.contains(&state.trim()), "{unit}: {state}");
    }
    let listens =
        guest.ok("ss -Hltn 'sport = :7400'; ls -d /sys/fs/bpf/chaperone 2>/dev/null || true")?;
    ensure!(listens.is_empty(), "{listens}");
    Ok(())
}

pub(crate) fn example_passes(guest: &mut Guest) -> Result<()> {
    guest.ok("chaperone check").map(drop)
}

/// Enabled and started as the documents say, with a credential of systemd's.
pub(crate) fn starts(guest: &mut Guest) -> Result<()> {
    scene::configure(guest)?;
    guest.ok_within("systemctl enable --now chaperone.service", LONG)?;
    guest.ok("systemctl is-active chaperone.service chaperone.socket chaperone-load.service")?;
    let wanted = guest.ok("systemctl is-enabled chaperone.socket chaperone-load.service")?;
    ensure!(wanted == "enabled\nenabled", "{wanted}");
    Ok(())
}

/// What it has put there is gone but for the log, and agents run on and connect as they did before.
pub(crate) fn purged(guest: &mut Guest) -> Result<()> {
    guest.ok("systemd-run -q --unit=stays --slice=agents.slice --uid=svc-slice \
         -p Requires=chaperone-load.service -p After=chaperone-load.service sleep infinity")?;
    guest.ok("cp /etc/chaperone/chaperone.toml /var/tmp/ && \
         rm -r /etc/systemd/system/chaperone.service.d /etc/chaperone/prod-db")?;
    let script = "DEBIAN_FRONTEND=noninteractive apt-get -q -y purge chaperone 2>&1";
    guest.ok_within(script, LONG)?;
    let left = guest.sh(&format!("ls -d {TRACES} 2>/dev/null"))?.out;
    ensure!(left.is_empty(), "these are left: {left}");
    let running =
        guest.sh("systemctl list-units --no-legend 'chaperone*'; pgrep -x chaperone")?.out;
    ensure!(running.is_empty(), "{running}");
    guest.ok("systemctl is-active stays.service && systemctl stop stays.service")?;
    // It is evidence, and tells of the end.
    guest.ok("/payload/chaperone log events --json --config /var/tmp/chaperone.toml \
         | grep -q '\"kind\":\"detached\"'")?;
    let said = Way::Container.run(guest, "purged")?;
    ensure!(said.starts_with(&format!("{DIRECT} ")), "{said}");
    Ok(())
}
