//! The scene in the guest: a server, its clients' accounts, the configuration, and the ways in which
//! an agent can come to run.
//!
//! Belongs here: what ops and the agents' owners would have set up. Not what is asserted of it.
//!
//! The server lets the account `direct` in without a password and the account `keeper` only with
//! one, which the daemon alone has. An agent asks for `direct`: whoever is let in as `direct` came
//! past the daemon, and whoever is let in as `keeper` came by it.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::guest::Guest;

/// What a way round the daemon would be let in as.
pub(crate) const DIRECT: &str = "direct";
/// What the daemon signs on as.
pub(crate) const KEEPER: &str = "keeper";

/// Where the server is, as agents know it.
const SERVER: &str = "127.0.0.2";

/// An agent's program. It says as whom the server let it in and what the server takes it for; a way
/// round is seen in the server's own log by the mark.
const PROGRAM: &str = "#!/bin/sh
# Usage: agent MARK
export PGCONNECT_TIMEOUT=90
# Debian's own psql is a script that looks for this.
exec /usr/lib/postgresql/*/bin/psql -X -q -At -h 127.0.0.2 -U direct -d work -v ON_ERROR_STOP=1 \\
  -c \"SELECT current_user || ' ' || current_setting('application_name') || ' ' || '$1'\" 2>&1
";

/// Connects again and again, and writes a line for each attempt.
const LOOP: &str = "#!/bin/sh
# Usage: agent-loop FILE
while :; do
  echo \"$(cut -d' ' -f1 /proc/uptime) $(/usr/local/bin/agent loop | tr '\\n' ' ')\" >> \"$1\"
  sleep 1
done
";

const SERVER_SETTINGS: &str = "port = 5432
listen_addresses = '127.0.0.1,127.0.0.2,10.77.0.1'
log_connections = on
log_line_prefix = '%t [%p] '
ssl = off
fsync = off
";

const SERVER_RULES: &str = "local all postgres peer
host  all keeper all scram-sha-256
host  all direct all trust
local all direct trust
";

/// How an agent comes to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// A unit with `User=`, which the configuration knows by its name.
    Unit,
    /// A unit in `agents.slice`, which the configuration knows by that.
    Slice,
    /// `systemd-run --user`, of an account that lingers.
    User,
    /// cron.
    Cron,
    /// `ssh` to the same host, by the account itself.
    Ssh,
    /// In user, mount and process namespaces of its own, as a container in the host's network is.
    Container,
}

impl Way {
    pub(crate) const ALL: [Self; 6] =
        [Self::Unit, Self::Slice, Self::User, Self::Cron, Self::Ssh, Self::Container];

    /// The agent's name in the configuration.
    pub(crate) fn agent(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Slice => "slice",
            Self::User => "user",
            Self::Cron => "cron",
            Self::Ssh => "ssh",
            Self::Container => "container",
        }
    }

    /// The account that it runs under.
    fn account(self) -> String {
        format!("svc-{}", self.agent())
    }

    /// As TOML.
    fn select(self) -> String {
        match self {
            Self::Unit => "{ unit = \"unit-agent.service\" }".into(),
            Self::Slice => "{ slice = \"agents.slice\" }".into(),
            _ => format!("{{ user = \"{}\" }}", self.account()),
        }
    }

    /// Runs the agent once, and answers what it said.
    pub(crate) fn run(self, guest: &mut Guest, mark: &str) -> Result<String> {
        let account = self.account();
        let agent = format!("/usr/local/bin/agent {mark}");
        let unit = |more: &str| {
            format!("systemd-run -q --wait --pipe --collect --uid={account} {more} {agent}")
        };
        let script = match self {
            Self::Unit => unit("--unit=unit-agent.service"),
            Self::Slice => unit("--slice=agents.slice"),
            Self::User => format!(
                "exec runuser -u {account} -- env XDG_RUNTIME_DIR=/run/user/$(id -u {account}) \
                 systemd-run --user -q --wait --pipe --collect {agent}"
            ),
            Self::Ssh => format!(
                "exec runuser -u {account} -- ssh -o BatchMode=yes -o StrictHostKeyChecking=no \
                 -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR {account}@localhost {agent}"
            ),
            Self::Container => format!(
                "exec runuser -u {account} -- unshare --user --map-root-user --mount --pid --fork \
                 {agent}"
            ),
            Self::Cron => {
                begin_cron(guest, &account, &agent)?;
                return end_cron(guest);
            }
        };
        let done = guest.sh(&script)?;
        Ok(format!("{}{}", done.out, done.err).trim_end().to_owned())
    }

    /// Runs an agent in each way, and answers what they said. The marks are of the agents' names.
    pub(crate) fn run_all(guest: &mut Guest, test: &str) -> Result<Vec<(Self, String)>> {
        let mark = |way: Self| format!("{test}-{}", way.agent());
        // It waits for the next minute, and that while the others run.
        let cron = format!("/usr/local/bin/agent {}", mark(Self::Cron));
        begin_cron(guest, &Self::Cron.account(), &cron)?;
        let mut all = Vec::new();
        for way in Self::ALL.into_iter().filter(|way| *way != Self::Cron) {
            all.push((way, way.run(guest, &mark(way))?));
        }
        all.push((Self::Cron, end_cron(guest)?));
        Ok(all)
    }
}

/// Where what cron runs says something.
const CRON_SAID: &str = "/tmp/cron-agent.out";

fn begin_cron(guest: &mut Guest, account: &str, agent: &str) -> Result<()> {
    guest.ok(&format!("rm -f {CRON_SAID}"))?;
    // A name with a dot would be passed over.
    let line =
        format!("* * * * * {account} {agent} > {CRON_SAID}.new; mv {CRON_SAID}.new {CRON_SAID}\n");
    guest.write("/etc/cron.d/agent", &line)?;
    guest.ok("chmod 644 /etc/cron.d/agent").map(drop)
}

fn end_cron(guest: &mut Guest) -> Result<String> {
    let said = guest.until("cron has run", Duration::from_secs(200), &format!("cat {CRON_SAID}"));
    guest.ok("rm /etc/cron.d/agent")?;
    said
}

/// Sets the scene up: everything but the package.
pub(crate) fn set(guest: &mut Guest) -> Result<()> {
    guest.write("/usr/local/bin/agent", PROGRAM)?;
    guest.write("/usr/local/bin/agent-loop", LOOP)?;
    for way in Way::ALL {
        guest.ok(&format!("useradd --system --create-home --shell /bin/sh {}", way.account()))?;
    }
    // An account that agents of no way use, for what runs for a while.
    guest.ok("useradd --system --shell /bin/sh svc-loop")?;
    guest.ok(&format!("loginctl enable-linger {}", Way::User.account()))?;
    let ssh = Way::Ssh.account();
    guest.ok(&format!(
        "runuser -u {ssh} -- sh -c 'umask 077; mkdir -p ~/.ssh && \
         ssh-keygen -q -t ed25519 -N \"\" -f ~/.ssh/id_ed25519 && \
         cp ~/.ssh/id_ed25519.pub ~/.ssh/authorized_keys'"
    ))?;
    guest.write(
        "/etc/systemd/system/container-network.service",
        "[Unit]\nDescription=A network namespace with a way to the host\n\
         Before=postgresql.service postgresql@15-main.service\n\
         [Service]\nType=oneshot\nRemainAfterExit=yes\n\
         ExecStart=/sbin/ip netns add box\n\
         ExecStart=/sbin/ip link add box0 type veth peer name eth0 netns box\n\
         ExecStart=/sbin/ip addr add 10.77.0.1/30 dev box0\n\
         ExecStart=/sbin/ip link set box0 up\n\
         ExecStart=/sbin/ip -n box addr add 10.77.0.2/30 dev eth0\n\
         ExecStart=/sbin/ip -n box link set eth0 up\n\
         ExecStart=/sbin/ip -n box link set lo up\n\
         [Install]\nWantedBy=multi-user.target\n",
    )?;
    guest.ok("systemctl daemon-reload && systemctl enable --now container-network.service")?;
    server(guest)
}

fn server(guest: &mut Guest) -> Result<()> {
    let folder = guest.ok("echo /etc/postgresql/*/main")?;
    let settings = format!("{folder}/conf.d/scene.conf");
    guest.write(&settings, SERVER_SETTINGS)?;
    guest.write(&format!("{folder}/pg_hba.conf"), SERVER_RULES)?;
    guest.ok(&format!(
        "chmod 644 {settings} {folder}/pg_hba.conf; systemctl restart 'postgresql@*-main.service'"
    ))?;
    let sql = "CREATE ROLE direct LOGIN; CREATE ROLE keeper LOGIN PASSWORD 'long-and-secret'; \
               CREATE DATABASE work";
    for statement in sql.split("; ") {
        postgres(guest, statement)?;
    }
    Ok(())
}

/// Runs SQL as the server's owner, which is no agent; answers the unaligned rows.
pub(crate) fn postgres(guest: &mut Guest, sql: &str) -> Result<String> {
    guest.ok(&format!(
        "cd / && runuser -u postgres -- psql -X -q -At -v ON_ERROR_STOP=1 -c \"{sql}\""
    ))
}

/// How often the server has let somebody in who came past the daemon.
pub(crate) fn came_past(guest: &mut Guest) -> Result<u64> {
    let count = guest.ok(&format!(
        "cat /var/log/postgresql/*.log | grep -c 'connection authorized: user={DIRECT} ' || true"
    ))?;
    count.parse().with_context(|| format!("no number: {count}"))
}

/// The configuration of ops, with the credential in the unit's.
pub(crate) fn configure(guest: &mut Guest) -> Result<()> {
    let mut text = String::new();
    for way in Way::ALL {
        let (name, select) = (way.agent(), way.select());
        let _ =
            writeln!(text, "[[agent]]\nname = \"{name}\"\nselect = {select}\nversion = \"1.0\"\n");
    }
    text += "[[agent]]\nname = \"loop\"\nselect = { user = \"svc-loop\" }\nversion = \"1.0\"\n\n";
    let _ = write!(
        text,
        "[[target]]\nname = \"prod\"\nprotocol = \"postgres\"\n\
         address = [\"{SERVER}:5432\", \"10.77.0.1:5432\"]\n\
         sockets = [\"/run/postgresql/.s.PGSQL.5432\"]\ntls = \"disable\"\n\
         credential = {{ user = \"{KEEPER}\", password = \"systemd:prod-db\" }}\n"
    );
    guest.write("/etc/chaperone/chaperone.toml", &text)?;
    guest.write("/etc/chaperone/prod-db", "long-and-secret")?;
    guest.ok("chmod 640 /etc/chaperone/chaperone.toml && chmod 600 /etc/chaperone/prod-db")?;
    guest.write(
        "/etc/systemd/system/chaperone.service.d/credential.conf",
        "[Service]\nLoadCredential=prod-db:/etc/chaperone/prod-db\n",
    )?;
    guest.ok("systemctl daemon-reload && chaperone check").map(drop)
}

/// The command of the log with this mark, once it has its outcome.
pub(crate) fn recorded(guest: &mut Guest, mark: &str) -> Result<Value> {
    for _ in 0..20 {
        let rows = guest.rows("log --limit 1000")?;
        let row = rows.into_iter().find(|row| {
            row["status"] != "pending"
                && row["statement"].as_str().is_some_and(|text| text.contains(&format!("'{mark}'")))
        });
        if let Some(row) = row {
            return Ok(row);
        }
    }
    bail!("the log has no command with the mark {mark}")
}
