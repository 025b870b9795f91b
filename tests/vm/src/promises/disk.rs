//! The disk of the log is full.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{agents, lifecycle};
use crate::{
    guest::{Guest, LONG},
    scene::{self, Way},
};

/// The log on a disk of its own, which somebody fills.
pub(crate) fn full(guest: &mut Guest) -> Result<()> {
    let before = scene::came_past(guest)?;
    guest.ok_within(
        "systemctl stop chaperone.service && truncate -s 24M /var/tmp/small && \
         mkfs.ext4 -q -m 0 /var/tmp/small && mkdir /run/small && mount -o loop /var/tmp/small /run/small && \
         cp -a /var/lib/chaperone/. /run/small/ && chown --reference=/var/lib/chaperone /run/small && \
         chmod --reference=/var/lib/chaperone /run/small && umount /run/small && \
         mount -o loop /var/tmp/small /var/lib/chaperone && systemctl start chaperone.service",
        LONG,
    )?;
    let result = fill(guest);
    guest.ok_within(
        "systemctl stop chaperone.service && umount /var/lib/chaperone && rm /var/tmp/small && \
         systemctl start chaperone.service",
        LONG,
    )?;
    result?;
    ensure!(scene::came_past(guest)? == before, "somebody came past the daemon");
    Ok(())
}

fn fill(guest: &mut Guest) -> Result<()> {
    agents::check(guest, Way::Unit, "before-full")?;
    guest.sh("dd if=/dev/zero of=/var/lib/chaperone/filler bs=64k 2>/dev/null; \
              dd if=/dev/zero of=/var/lib/chaperone/filler2 bs=1k 2>/dev/null; sync")?;
    // What the log has room for already may still be taken.
    let mut said = String::new();
    for number in 0..60 {
        said = Way::Unit.run(guest, &format!("full-{number}"))?;
        if !said.starts_with("keeper") {
            break;
        }
    }
    ensure!(said.contains("could not record"), "no refusal that says why: {said}");
    ensure!(!said.starts_with("direct"), "{said}");
    let status = guest.sh("chaperone status")?;
    ensure!(status.code == Some(3), "{status:?}");
    guest.ok("rm /var/lib/chaperone/filler /var/lib/chaperone/filler2")?;
    guest.until("the log is written again", Duration::from_mins(1), "chaperone status")?;
    agents::check(guest, Way::Unit, "after-full")?;
    lifecycle::verified(guest)
}
